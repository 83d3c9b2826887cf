//! The stage `judge`: what verdicts become, what endpoints may do to it, what is asked twice
//! (nothing), what people say.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use posttrain::error::{Kind, kind_of};
use serde_json::{Value, json};

use super::fake::{Fake, Fault, longer, shown};
use super::server::Server;
use crate::cli::place::{Place, wait_until};
use crate::stages::bench::{Made, Work, make, refusal};
use crate::stages::fixture::{fixture, jsonl, summary, write};

/// A judge at an endpoint.
fn asking(fake: &Fake, more: Value) -> Value {
    let mut model = json!({"endpoint": fake.endpoint(), "model": "m"});
    model.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"llm": model})
}

/// The fixture's outputs beside its references: five rows in each of two test sets.
fn config(judge: Value) -> Value {
    json!({"dataset": fixture().at("dataset"), "a": fixture().at("outputs"), "judge": judge})
}

fn summary_of(made: &Made) -> Value {
    serde_json::from_str(&made.text("summary.json")).unwrap()
}

fn mean(made: &Made, split: &str) -> f64 {
    summary_of(made)["splits"][split]["win_rate"]["mean"].as_f64().unwrap()
}

/// The first outputs of the fixture with the references of their rows, by split.
fn texts() -> Vec<(String, String, String)> {
    let samples = std::fs::read_to_string(fixture().path("outputs/samples.jsonl")).unwrap();
    let row = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        let at = row["id"].as_str().unwrap().strip_prefix("row-").unwrap().parse().unwrap();
        (
            row["split"].as_str().unwrap().to_owned(),
            row["outputs"][0]["text"].as_str().unwrap().to_owned(),
            summary(at),
        )
    };
    samples.lines().map(row).collect()
}

/// Questions about the fixture's outputs: one where the two texts are the same, for both orders
/// read alike, else two.
fn questions() -> usize {
    texts().iter().map(|(_, a, b)| if a.trim() == b.trim() { 1 } else { 2 }).sum()
}

#[test]
fn a_win_rate_is_what_the_verdicts_come_to() {
    let fake = Fake::start(longer);
    let made =
        make("judge", config(asking(&fake, json!({"price": {"prompt": 10, "completion": 30}}))));
    for split in ["test/id", "test/ood"] {
        let own: Vec<f64> = texts()
            .into_iter()
            .filter(|(own, ..)| own == split)
            .map(|(_, a, b)| match a.trim().len().cmp(&b.trim().len()) {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Less => 0.0,
            })
            .collect();
        assert_eq!(mean(&made, split), own.iter().sum::<f64>() / 5.0);
        let summary = &summary_of(&made)["splits"][split];
        assert_eq!(summary["ties"], own.iter().filter(|score| **score == 0.5).count());
        assert_eq!(
            (&summary["order_agreement"]["mean"], &summary["unclear"]),
            (&json!(1.0), &json!(0))
        );
    }
    let usage = &summary_of(&made)["usage"];
    let n = questions();
    let cost = (n * 100 * 10 + n * 7 * 30) as f64 / 1e6;
    assert_eq!(
        *usage,
        json!({"questions": n, "prompt_tokens": n * 100, "completion_tokens": n * 7, "cost": cost})
    );
    let questions = fake.questions();
    assert_eq!(questions.len(), n);
    assert!(
        questions
            .iter()
            .all(|question| question.body["temperature"] == 0 && question.key.is_none())
    );
    let rows: Vec<Value> = made.rows("judgements.jsonl");
    // Both orders of each pair are side by side; which is first is by chance.
    let orders: Vec<[&str; 2]> = rows
        .chunks(2)
        .map(|two| [two[0]["order"].as_str().unwrap(), two[1]["order"].as_str().unwrap()])
        .collect();
    assert!(
        orders.contains(&["ab", "ba"])
            && orders.contains(&["ba", "ab"])
            && orders.iter().all(|two| two[0] != two[1])
    );
}

#[test]
fn a_judge_that_only_sees_the_order_says_nothing_and_is_found_out() {
    let fake = Fake::start(|_| "{\"better\": 1}".into());
    let made = make("judge", config(asking(&fake, json!({}))));
    let split = &summary_of(&made)["splits"]["test/id"];
    assert_eq!(
        (&split["win_rate"]["mean"], &split["first_share"], &split["order_agreement"]["mean"]),
        (&json!(0.5), &json!(1.0), &json!(0.0))
    );
}

#[test]
fn what_nobody_can_read_is_a_tie_and_is_told() {
    let fake = Fake::start(|message| {
        if longer(message).contains('1') { "I prefer summary 1.".into() } else { longer(message) }
    });
    let made = make("judge", config(asking(&fake, json!({}))));
    let summary = summary_of(&made);
    let unclear: u64 = ["test/id", "test/ood"]
        .iter()
        .map(|split| summary["splits"][split]["unclear"].as_u64().unwrap())
        .sum();
    let rows: Vec<Value> = made.rows("judgements.jsonl");
    assert_eq!(
        rows.iter()
            .filter(|row| row["verdict"] == "unclear" && row["raw"] == "I prefer summary 1.")
            .count() as u64,
        unclear
    );
    assert!(
        unclear > 0 && made.warnings()[0].starts_with(&format!("{unclear} of 20 verdicts")),
        "{:?}",
        made.warnings()
    );
}

#[test]
fn an_endpoint_in_trouble_is_asked_again_and_changes_nothing() {
    let quiet = Fake::start(longer);
    let expected = make("judge", config(asking(&quiet, json!({}))));
    let fake = Fake::start(longer);
    fake.fail(&[
        Fault::Status(429),
        Fault::Cut,
        Fault::Status(500),
        Fault::Silence(1500),
        Fault::Status(503),
        Fault::Status(429),
    ]);
    let begun = Instant::now();
    let made = make("judge", config(asking(&fake, json!({"timeout": 1.0, "concurrency": 2}))));
    assert_eq!(
        (made.text("judgements.jsonl"), made.text("summary.json")),
        (expected.text("judgements.jsonl"), expected.text("summary.json"))
    );
    assert_eq!(fake.asked(), questions() + 6);
    assert!(begun.elapsed() >= Duration::from_secs(1), "it waits before it asks again");
}

#[test]
fn an_endpoint_that_stays_in_trouble_ends_the_stage_and_loses_nothing() {
    let fake = Fake::start(longer);
    fake.fail(&[Fault::Status(500); 2]);
    let work = Work::new();
    let judge =
        |retries: u32| config(asking(&fake, json!({"max_retries": retries, "concurrency": 1})));
    let error = work.attempt("judge", judge(1), None).expect_err("it has failed twice");
    assert_eq!(kind_of(&error), Kind::Environment);
    assert!(
        format!("{error:#}").contains("failed 2 times")
            && format!("{error:#}").contains("only the rest is asked"),
        "{error:#}"
    );
    // Stopped after its first answer, it goes on from there.
    fake.questions();
    let stopped = work.attempt("judge", judge(0), Some(1));
    let before = fake.asked();
    assert!(stopped.is_err() && (1..questions()).contains(&before), "{before}");
    work.attempt("judge", judge(0), None).unwrap();
    assert_eq!(fake.asked(), questions());
    work.attempt("judge", judge(0), None).unwrap();
    assert_eq!(fake.asked(), questions(), "a rerun asks nothing");
}

#[test]
fn a_refusal_is_the_users_and_never_shows_the_key() {
    // A variable that is there; the endpoint repeats what it was sent.
    let key = std::env::var("PATH").unwrap();
    let fake = Fake::start(longer);
    for (status, said) in
        [(401, "`api_key_env`"), (404, "`endpoint`"), (400, "refuses the question")]
    {
        fake.fail(&[Fault::Status(status); 4]);
        let message = refusal(
            "judge",
            config(asking(&fake, json!({"api_key_env": "PATH", "concurrency": 1}))),
        );
        assert!(message.contains(said) && !message.contains(&key), "{message}");
        fake.faults_done();
    }
    assert!(
        refusal("judge", config(asking(&fake, json!({"api_key_env": "JUDGES_NO_SUCH_KEY"}))))
            .contains("JUDGES_NO_SUCH_KEY holds no key")
    );
}

#[test]
fn questions_keep_to_the_pace() {
    let fake = Fake::start(longer);
    make("judge", config(asking(&fake, json!({"rpm": 1200, "concurrency": 4}))));
    let asked = fake.questions();
    let took = asked[asked.len() - 1].at.duration_since(asked[0].at);
    // The first may come late; the others cannot come early.
    let least = Duration::from_millis(50) * (asked.len() as u32 - 2);
    assert!(took >= least, "{} questions at twenty a second took {took:?}", asked.len());
}

#[test]
fn a_prompt_file_replaces_the_question() {
    let fake = Fake::start(|message| {
        assert!(message.starts_with("Q no "), "{message}");
        "{\"better\": 0}".into()
    });
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("q"), "Q {prompt} 1 {first} 2 {second}");
    let made =
        make("judge", config(asking(&fake, json!({"prompt": {"$path": folder.path().join("q")}}))));
    assert_eq!(mean(&made, "test/id"), 0.5);
    write(&folder.path().join("q"), "Q {prompt} {first}");
    assert!(
        refusal(
            "judge",
            config(asking(&fake, json!({"prompt": {"$path": folder.path().join("q")}})))
        )
        .contains("{second}")
    );
    let fake = Fake::start(|message| {
        shown(message, "response");
        "{\"better\": 2}".into()
    });
    assert_eq!(
        mean(&make("judge", config(asking(&fake, json!({"task": "instructions"})))), "test/id"),
        0.5
    );
}

#[test]
fn posttrain_serve_is_such_an_endpoint() {
    let server = Server::start(&["--api-key-env", "JUDGES_KEY"]);
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("q"), "{prompt} {first} {second}");
    let model = json!({"endpoint": server.endpoint(), "model": "small", "max_tokens": 8,
        "prompt": {"$path": folder.path().join("q")}});
    assert!(refusal("judge", config(json!({"llm": model}))).contains("401"));
    let server = Server::start(&[]);
    let model = json!({"endpoint": server.endpoint(), "model": "small", "max_tokens": 8,
        "prompt": {"$path": folder.path().join("q")}});
    let mut one = config(json!({"llm": model}));
    one["limit"] = 1.into();
    let made = make("judge", one);
    let summary = summary_of(&made);
    assert_eq!(
        summary["splits"]["test/id"]["order_agreement"]["mean"], 0.0,
        "two answers that cannot be read agree on nothing"
    );
    assert_eq!(
        (mean(&made, "test/id"), &summary["splits"]["test/id"]["unclear"]),
        (0.5, &json!(2))
    );
    assert!(
        summary["usage"]["prompt_tokens"].as_u64().unwrap() > 4 * 60
            && summary["usage"]["completion_tokens"].as_u64().unwrap() >= 4
    );
}

#[test]
fn gold_and_a_reward_model_decide_as_in_evaluate() {
    for judge in ["gold", "reward_model"] {
        let evaluate = json!({"dataset": fixture().at("dataset"),
            "reward_model": fixture().at("reward"), "reference_policy": fixture().at("policy"),
            "judge": judge, "methods": [{"name": "m", "outputs": fixture().at("outputs"),
                "samples": fixture().at("samples")}]});
        let table: Value =
            serde_json::from_str(&make("evaluate", evaluate).text("table.json")).unwrap();
        let who = if judge == "gold" {
            json!("gold")
        } else {
            json!({"reward_model": fixture().at("reward")})
        };
        let made = make("judge", config(who));
        for (split, test_set) in [("test/id", "id"), ("test/ood", "ood")] {
            let row = |row: &&Value| {
                row["method"] == "m" && row["test_set"] == test_set && row["metric"] == "win_rate"
            };
            assert_eq!(
                table["rows"].as_array().unwrap().iter().find(row).unwrap()["mean"],
                mean(&made, split),
                "{judge}"
            );
        }
        let low = &summary_of(&made)["splits"]["test/id"]["by_confidence"]["low"];
        assert_eq!(low["n"], 1, "a third of five pairs");
    }
}

#[test]
fn on_preference_pairs_a_win_is_agreement_with_the_label() {
    let pairs = json!({"dataset": fixture().at("preferences"),
        "judge": asking(&Fake::start(longer), json!({}))});
    let made = make("judge", pairs);
    let summary = summary_of(&made);
    assert_eq!((&summary["a"], &summary["b"]), (&json!("chosen"), &json!("rejected")));
    // The chosen text of every held-out pair is longer.
    assert_eq!(
        (
            mean(&made, "test/id"),
            &summary["splits"]["test/id"]["by_confidence"]["orders_agree"]["n"]
        ),
        (1.0, &json!(3))
    );
    let mistaken = crate::stages::bench::problems(
        "judge",
        json!({"dataset": fixture().at("preferences"), "judge": "gold"}),
    );
    assert_eq!(mistaken[0].field, "judge");
}

#[test]
fn people_are_read_from_their_sheets_with_their_agreement() {
    let folder = tempfile::tempdir().unwrap();
    let sheet = |name: &str, choices: &[(&str, &str, u8)]| {
        let rows: String = choices
            .iter()
            .map(|(id, order, choice)| format!("{name},test/id,{id},{order},{choice}\r\n"))
            .collect();
        write(&folder.path().join(name), &format!("annotator,split,id,order,choice\r\n{rows}"));
        json!({"$path": folder.path().join(name)})
    };
    // In words of a and b: ann says a, b, a; bob says a, b, b.
    let ann = sheet("ann", &[("row-70", "ab", 1), ("row-71", "ba", 1), ("row-72", "ba", 2)]);
    let bob = sheet("bob", &[("row-70", "ba", 2), ("row-71", "ab", 2), ("row-72", "ab", 2)]);
    let made = make("judge", config(json!({"human": {"judgements": [ann, bob]}})));
    let summary = summary_of(&made);
    assert_eq!(mean(&made, "test/id"), (1.0 + 0.0 + 0.5) / 3.0);
    // Observed 2/3; expected (2/3)(1/3) + (1/3)(2/3) = 4/9.
    assert!(
        (summary["agreement"]["cohen_kappa"].as_f64().unwrap()
            - (2.0 / 3.0 - 4.0 / 9.0) / (5.0 / 9.0))
            .abs()
            < 1e-12
    );
    assert_eq!(summary["agreement"]["annotators"], 2);
    let stranger = sheet("eve", &[("row-1", "ab", 1)]);
    assert!(
        refusal("judge", config(json!({"human": {"judgements": [stranger]}})))
            .contains("row `row-1`")
    );
}

#[test]
fn a_page_and_a_sheet_are_exported_for_people() {
    let place = Place::new("");
    let [dataset, outputs] =
        ["dataset", "outputs"].map(|name| fixture().path(name).display().to_string());
    let export = [
        "annotate",
        "export",
        "--dataset",
        &dataset,
        "--a",
        &outputs,
        "--out",
        "page.html",
        "--csv",
        "sheet.csv",
        "--seed",
        "3",
    ];
    assert!(place.good(&export).out.starts_with("10 pairs"));
    let page = place.read("page.html");
    assert!(!page.contains("://") && !page.contains("src="), "it needs nothing from elsewhere");
    let head: Vec<&str> = page.split("const items = ").nth(1).unwrap().split(";\n").collect();
    let items: Vec<Value> = serde_json::from_str(head[0]).unwrap();
    assert!(
        items.iter().any(|item| item["order"] == "ab")
            && items.iter().any(|item| item["order"] == "ba")
    );
    for (item, (_, a, b)) in items.iter().zip(texts()) {
        let [first, second] = if item["order"] == "ab" { [a, b] } else { [b, a] };
        assert_eq!([&item["first"][0], &item["second"][0]], [first.trim(), second.trim()]);
    }
    // The sheet, filled in where no one sees which is which: always the first.
    let sheet = place.read("sheet.csv").replace(",ab,,", ",ab,1,").replace(",ba,,", ",ba,1,");
    place.write("sheet.csv", &sheet);
    let made = make(
        "judge",
        config(json!({"human": {"judgements": [{"$path": place.path("sheet.csv")}]}})),
    );
    assert_eq!(summary_of(&made)["splits"]["test/id"]["first_share"], 1.0);
}

/// Preference pairs from a file, judged at an endpoint.
fn pipeline(fake: &Fake, more: &str) -> String {
    format!(
        "stages:
  posts: {{uses: dataset, source: {{files: {{test/x: {{path: rows.jsonl, prompt: \"{{p}}\", completion: \" {{c}}\", id: i}}}}}}}}
  pairs: {{uses: dataset, source: {{contrast: {{dataset: posts, splits: {{test/x: test/x}}, kinds: [cut]}}}}}}
  judged: {{uses: judge, dataset: pairs, judge: {{llm: {{endpoint: \"{}\", model: m, concurrency: 1{more}}}}}}}
",
        fake.endpoint()
    )
}

fn rows(place: &Place, count: usize) {
    place.write(
        "rows.jsonl",
        &jsonl((0..count).map(|at| {
            json!({"i": format!("{at}"), "p": format!("post {at}"),
            "c": format!("one two {at} four")})
        })),
    );
}

/// The node's own process, which was told to work below this folder.
fn node_process(place: &Place) -> Option<i32> {
    let mark = place.path("cache").display().to_string();
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = String::from_utf8(std::fs::read(entry.path().join("cmdline")).ok()?).ok()?;
        (line.contains("\0exec\0") && line.contains(&mark)).then_some(pid)
    })
}

#[test]
fn killed_in_the_middle_it_asks_only_the_rest_and_a_rerun_asks_nothing() {
    // Answers 14 questions, and the others once the gate is open.
    let gate = Arc::new((Mutex::new((0, false)), Condvar::new()));
    let held = gate.clone();
    let fake = Fake::start(move |message| {
        let (state, opened) = &*held;
        let mut state = state.lock().unwrap();
        state.0 += 1;
        drop(opened.wait_while(state, |(asked, open)| *asked >= 15 && !*open).unwrap());
        longer(message)
    });
    let place = Place::new("");
    rows(&place, 30);
    place.pipeline(&pipeline(&fake, ""));
    let child = place.start(&[]);
    wait_until("some questions were answered", || fake.asked() >= 15);
    let node =
        rustix::process::Pid::from_raw(node_process(&place).expect("the node runs")).unwrap();
    rustix::process::kill_process(node, rustix::process::Signal::KILL).unwrap();
    crate::cli::place::finish(child);
    let before = fake.asked();
    assert!((15..60).contains(&before));
    gate.0.lock().unwrap().1 = true;
    gate.1.notify_all();
    assert_eq!(place.run(&[])["ok"], true);
    // What was on its way when it was killed is asked twice, at most.
    assert!((60..=61).contains(&fake.asked()), "{before}, then {}", fake.asked());
    let (summary, asked) = (place.made("judged", "summary.json"), fake.asked());
    assert_eq!(place.counts(&[]).0, 0);
    // Another key, the same questions; then more rows, of which only the new ones are asked.
    place.pipeline(&pipeline(&fake, ", max_retries: 9"));
    assert_eq!((place.counts(&[]).0, fake.asked()), (1, asked));
    assert_eq!(place.made("judged", "summary.json"), summary);
    rows(&place, 32);
    place.run(&[]);
    assert_eq!(fake.asked(), asked + 4);
    // `gc` takes no answer away.
    place.good(&["gc"]);
    place.pipeline(&pipeline(&fake, ", max_retries: 8"));
    place.run(&[]);
    assert_eq!(fake.asked(), asked + 4);
}

fn holds(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().flatten().any(|entry| match entry.path() {
        path if path.is_dir() => holds(&path, text),
        path => String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()).contains(text),
    })
}

#[test]
fn the_key_is_sent_and_stands_nowhere() {
    let fake = Fake::start(longer);
    let place = Place::new("");
    rows(&place, 3);
    place.pipeline(&pipeline(&fake, ", api_key_env: JUDGES_KEY, max_retries: 0"));
    let run = || {
        let mut command = place.command(&["run", "p.yaml", "--log", "json"]);
        crate::cli::place::said(
            command
                .env("JUDGES_KEY", "sk-very-secret")
                .env("POSTTRAIN_LOG", "trace")
                .output()
                .unwrap(),
        )
    };
    fake.fail(&[Fault::Status(401)]);
    let said = run();
    assert!(
        said.code == 1 && !said.err.contains("sk-very") && !said.out.contains("sk-very"),
        "{}{}",
        said.out,
        said.err
    );
    assert!(!holds(&place.path("cache"), "sk-very"), "not even of a failed node");
    let said = run();
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(
        fake.questions()
            .iter()
            .all(|question| question.key.as_deref() == Some("Bearer sk-very-secret"))
    );
    assert!(!said.err.contains("sk-very") && !holds(&place.path("cache"), "sk-very"));
    // Who has the answers needs no key.
    place.pipeline(&pipeline(&fake, ", api_key_env: JUDGES_NO_SUCH_KEY, max_retries: 0"));
    assert_eq!(place.run(&[])["ok"], true);
}

#[test]
fn a_reward_model_may_not_judge_what_it_had_a_part_in() {
    let place = Place::new("");
    rows(&place, 3);
    let model = fixture().path("policy").display().to_string();
    let pipeline = |judge: &str, twin: &str| {
        format!(
            "stages:
  posts: {{uses: dataset, source: {{files: {{test/x: {{path: rows.jsonl, prompt: \"{{p}}\", completion: \" {{c}}\", id: i}}}}}}}}
  pairs: {{uses: dataset, source: {{contrast: {{dataset: posts, splits: {{preferences: test/x}}, kinds: [cut]}}}}}}
  base: {{uses: model, path: {model}}}
  rm: {{uses: reward_model, policy: base, dataset: pairs, batch_size: 2, optimiser: {{learning_rate: 0.01}}, seed: 1}}
  twin: {{uses: reward_model, policy: base, dataset: pairs, batch_size: 2, optimiser: {{learning_rate: 0.01}}, seed: {twin}}}
  best: {{uses: best_of_n, policy: base, reward_model: rm, dataset: posts, n: 2, sampling: {{max_new_tokens: 4}}}}
  judged: {{uses: judge, dataset: posts, a: best, judge: {{reward_model: {judge}}}}}
"
        )
    };
    place.pipeline(&pipeline("rm", "2"));
    let said = place.say(&["plan", "p.yaml"]);
    assert!(
        said.code == 2
            && said.err.contains("`best` was made with the help of `rm`, which is to judge it"),
        "{}",
        said.err
    );
    place.pipeline(&pipeline("twin", "1"));
    let said = place.say(&["plan", "p.yaml"]);
    assert!(
        said.code == 2 && said.err.contains("`twin`, which is to judge it"),
        "the same under another name: {}",
        said.err
    );
    place.pipeline(&pipeline("twin", "2"));
    place.good(&["plan", "p.yaml"]);
}
