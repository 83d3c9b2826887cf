//! Verdicts of the stage `judge` in the tables of `evaluate`: what they become there, and what may
//! not be beside each other.

use posttrain::artefacts::table::{Row, Table};
use posttrain::eval::interval::Interval;
use serde_json::{Value, json};

use super::fake::{Fake, longer};
use crate::cli::place::Place;
use crate::stages::bench::{Made, make, problems, refusal};
use crate::stages::fixture::{example, fixture, jsonl, write};

/// Verdicts of a judge on outputs, beside the fixture's references.
fn judged(outputs: &Value, judge: Value, more: Value) -> Made {
    let mut config = json!({"dataset": fixture().at("dataset"), "a": outputs, "judge": judge});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    make("judge", config)
}

/// An evaluation of two methods, the fixture's outputs and these, with further judges.
fn evaluation(others: &Value, judges: Value) -> Value {
    json!({"dataset": fixture().at("dataset"), "reward_model": fixture().at("reward"),
        "reference_policy": fixture().at("policy"),
        "judge": "gold", "judges": judges,
        "methods": [{"name": "policy", "outputs": fixture().at("outputs"),
            "samples": fixture().at("samples")},
        {"name": "short", "outputs": others, "samples": others}]})
}

/// Outputs that say little.
fn short() -> (tempfile::TempDir, Value) {
    let folder = tempfile::tempdir().unwrap();
    let rows = [(70, "test/id"), (80, "test/ood")]
        .into_iter()
        .flat_map(|(first, split)| (first..first + 5).map(move |at| (split, example(at))));
    let row = |(split, example): (&str, Value)| {
        let output = json!({"text": " what ?", "tokens": [5, 1], "logprob": -1.0, "ended": true});
        json!({"split": split, "id": example["id"], "prompt": example["prompt"], "temperature": 1.0,
            "outputs": [output]})
    };
    write(&folder.path().join("samples.jsonl"), &jsonl(rows.map(row)));
    let reference = json!({"$path": folder.path()});
    (folder, reference)
}

fn read(made: &Made, file: &str) -> Value {
    serde_json::from_str(&made.text(file)).unwrap()
}

fn row(made: &Made, method: &str, test_set: &str, metric: &str) -> Option<Row> {
    let table: Table = serde_json::from_str(&made.text("table.json")).unwrap();
    table
        .rows
        .into_iter()
        .find(|row| row.method == method && row.test_set == test_set && row.metric == metric)
}

fn llm(fake: &Fake) -> Value {
    json!({"llm": {"endpoint": fake.endpoint(), "model": "m"}})
}

#[test]
fn win_rates_of_judges_stand_in_the_table_and_in_comparisons_under_their_names() {
    let (fake, (_folder, others)) = (Fake::start(longer), short());
    let held_out = json!({"reward_model": fixture().at("reward")});
    let outputs = fixture().at("outputs");
    let verdicts = [
        ("held_out", "policy", judged(&outputs, held_out.clone(), json!({}))),
        ("held_out", "short", judged(&others, held_out, json!({}))),
        ("asked", "policy", judged(&outputs, llm(&fake), json!({}))),
        ("asked", "short", judged(&others, llm(&fake), json!({}))),
        ("exact", "policy", judged(&outputs, json!("gold"), json!({}))),
    ];
    let mut judges = json!({});
    verdicts.iter().for_each(|(judge, method, made)| judges[*judge][*method] = made.reference());
    let made = make("evaluate", evaluation(&others, judges));
    for (judge, method, verdicts) in &verdicts {
        let summary = read(verdicts, "summary.json");
        for test_set in ["id", "ood"] {
            let row = row(&made, method, test_set, &format!("win_rate_{judge}"))
                .unwrap_or_else(|| panic!("{judge}, {method}"));
            assert_eq!(
                (json!(row.figure.mean), row.figure.n),
                (summary["splits"][format!("test/{test_set}")]["win_rate"]["mean"].clone(), 5)
            );
            assert!(
                row.figure.low <= row.figure.mean && row.figure.mean <= row.figure.high,
                "{row:?}"
            );
        }
    }
    assert_eq!(row(&made, "short", "id", "win_rate_exact"), None, "it has not judged that");
    // Gold elsewhere is gold here.
    let [own, exact] =
        ["win_rate", "win_rate_exact"].map(|metric| row(&made, "policy", "ood", metric).unwrap());
    assert_eq!(
        (own.figure.mean, own.figure.low, own.figure.high),
        (exact.figure.mean, exact.figure.low, exact.figure.high)
    );

    let differences = read(&made, "comparisons.json")["differences"].as_array().unwrap().clone();
    let found = |metric: &str| -> Vec<Value> {
        differences.iter().filter(|one| one["metric"] == metric).cloned().collect()
    };
    let asked = found("win_rate_asked");
    assert_eq!((asked.len(), found("win_rate_exact").len()), (2, 0));
    let means = ["short", "policy"]
        .map(|method| row(&made, method, "id", "win_rate_asked").unwrap().figure.mean);
    assert!((asked[0]["mean"].as_f64().unwrap() - (means[0] - means[1])).abs() < 1e-12);
    // The longer text wins, and ` what ?` never is longer.
    assert_eq!(
        (means[0], asked[0]["method"].as_str(), asked[0]["with"].as_str()),
        (0.0, Some("short"), Some("policy"))
    );
    // Two test sets are a family of two claims.
    let [p, corrected] =
        ["p", "p_holm"].map(|name| [&asked[0], &asked[1]].map(|one| one[name].as_f64().unwrap()));
    let (less, more) = if p[0] <= p[1] { (0, 1) } else { (1, 0) };
    assert_eq!((corrected[less], corrected[more]), (2.0 * p[less], p[more].max(2.0 * p[less])));
    // Of five inputs none is below 2 in 32.
    assert_eq!((p[less], p[more] < 0.5), (2.0 / 32.0, true), "{p:?}");
    assert!(
        read(&made, "comparisons.json")["gaps"]
            .as_array()
            .unwrap()
            .iter()
            .any(|gap| gap["metric"] == "win_rate_held_out")
    );

    let said = read(&made, "judges.json");
    let of = |name: &str| {
        said.as_array().unwrap().iter().find(|judge| judge["name"] == name).unwrap().clone()
    };
    let held_out = of("held_out");
    assert_eq!(
        (&held_out["judge"], &held_out["held_out"], &held_out["against"]),
        (&json!("reward_model"), &json!(true), &json!("reference"))
    );
    assert_eq!(
        (&of("asked")["judge"], &of("asked")["held_out"], &of("asked")["metric"]),
        (&json!("llm"), &Value::Null, &json!("win_rate_asked"))
    );
    assert_eq!(
        of("asked")["methods"]["short"],
        read(&verdicts[3].2, "summary.json"),
        "all that the judge's artefact says"
    );
    for file in ["table.txt", "table.md"] {
        let text = flowing(&made.text(file));
        assert!(
            text.contains(
                "win_rate_held_out: share of inputs won against the references, as judged by a \
                 held-out reward model"
            ),
            "{text}"
        );
        assert!(text.contains("win_rate_asked_difference"), "{text}");
    }
    let first: Value = made.rows::<Value>("inputs.jsonl")[0].clone();
    let lines: Vec<Value> = verdicts[2].2.rows("judgements.jsonl");
    assert_eq!(
        (&lines[0]["id"], &lines[0]["verdict"]),
        (
            &first["id"],
            &json!(if first["answers"][0]["scores"]["win_rate_asked"] == 1.0 {
                "a"
            } else {
                "tie"
            })
        )
    );
    assert!(!first["answers"][1]["scores"].as_object().unwrap().contains_key("win_rate_exact"));
}

#[test]
fn a_judge_may_see_the_first_inputs_alone_but_the_same_for_every_method() {
    let (_folder, others) = short();
    let [all, some, fewer] = [json!({}), json!({"limit": 3}), json!({"limit": 2})]
        .map(|more| judged(&fixture().at("outputs"), json!("gold"), more));
    let other = judged(&others, json!("gold"), json!({"limit": 3}));
    let judges = |policy: &Made| {
        json!({"exact": {"policy": policy.reference(),
        "short": other.reference()}})
    };
    let made = make("evaluate", evaluation(&others, judges(&some)));
    assert_eq!(row(&made, "policy", "ood", "win_rate_exact").unwrap().figure.n, 3);
    let difference = read(&made, "comparisons.json")["differences"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["metric"] == "win_rate_exact")
        .unwrap()
        .clone();
    assert_eq!(difference["n"], 3);
    let scores = |at: usize| {
        made.rows::<Value>("inputs.jsonl")[at]["answers"][0]["scores"]
            .as_object()
            .unwrap()
            .contains_key("win_rate_exact")
    };
    assert!(scores(2) && !scores(3));
    for (policy, said) in [
        (&all, "5 rows of split `test/id` for method `policy`, and 3 for `short`"),
        (&fewer, "2 rows of split `test/id`"),
    ] {
        let message = refusal("evaluate", evaluation(&others, judges(policy)));
        assert!(message.contains(said) && message.contains("differences are paired"), "{message}");
    }
}

#[test]
fn verdicts_on_something_else_are_refused() {
    let (_folder, others) = short();
    let judge = |made: &Made| json!({"j": {"policy": made.reference()}});
    let one_set = judged(&fixture().at("outputs"), json!("gold"), json!({"splits": ["test/id"]}));
    let message = refusal("evaluate", evaluation(&others, judge(&one_set)));
    assert!(
        message.contains("the judge `j` has no verdict on method `policy` in test set `ood`"),
        "{message}"
    );
    let pairs = make(
        "judge",
        json!({"dataset": fixture().at("preferences"),
            "judge": {"reward_model": fixture().at("reward")}}),
    );
    let message = refusal("evaluate", evaluation(&others, judge(&pairs)));
    assert!(message.contains("`judges.j.policy` has judged preference pairs"), "{message}");
    let whole = judged(&fixture().at("outputs"), json!("gold"), json!({}));
    let strange = whole.text("judgements.jsonl").replace("row-72", "row-7");
    write(&whole.path("judgements.jsonl"), &strange);
    let message = refusal("evaluate", evaluation(&others, judge(&whole)));
    assert!(
        message.contains(
            "has a verdict on row `row-7` of split `test/id`, which the evaluation does not have"
        ),
        "{message}"
    );
    let [gold, scored] = [json!("gold"), json!({"reward_model": fixture().at("reward")})]
        .map(|judge| judged(&others, judge, json!({})));
    let message = refusal(
        "evaluate",
        evaluation(
            &others,
            json!({"j": {"policy": gold.reference(), "short": scored.reference()}}),
        ),
    );
    assert!(
        message.contains("`judges.j.short` is of the judge `reward_model`")
            && message.contains("that of `policy` of `gold`"),
        "{message}"
    );
    for (judges, field, said) in [
        (json!({"j": {"nobody": gold.reference()}}), "judges.j", "there is no method `nobody`"),
        (json!({"j": {}}), "judges.j", "expected at least one method"),
        (json!({"a judge": {"short": gold.reference()}}), "judges", "found `a judge`"),
    ] {
        let found = problems("evaluate", evaluation(&others, judges));
        assert!(found[0].field == field && found[0].message.contains(said), "{found:?}");
    }
}

/// Two methods of which the second was chosen by `rm`, judged by a reward model; `REPLACE` by what
/// a test wants.
fn pipeline(changes: &[(&str, &str)]) -> String {
    let mut text = String::from(
        "stages:
  posts: {uses: dataset, source: {files: {
    test/x: {path: rows.jsonl, prompt: \"{p}\", completion: \" {c}\", id: i},
    one: {path: one.jsonl, prompt: \"{p}\", completion: \" {c}\", id: i},
    other: {path: other.jsonl, prompt: \"{p}\", completion: \" {c}\", id: i}}}}
  copies: {uses: dataset, source: {files: {test/x: {path: rows.jsonl, prompt: \"{p}\", completion: \" {i}\", id: i}}}}
  pairs: {uses: dataset, source: {contrast: {dataset: posts, splits: {preferences: one}, kinds: [cut]}}}
  other_pairs: {uses: dataset, source: {contrast: {dataset: posts, splits: {preferences: other}, kinds: [cut]}}}
  base: {uses: model, path: MODEL}
  rm: {uses: reward_model, policy: base, dataset: pairs, batch_size: 2, optimiser: {learning_rate: 0.01}, seed: 1}
  other_rm: {uses: reward_model, policy: base, dataset: other_pairs, batch_size: 2, optimiser: {learning_rate: 0.01}, seed: 2}
  plain: {uses: generate, policy: base, dataset: posts, sampling: {max_new_tokens: 4}}
  best: {uses: best_of_n, policy: base, reward_model: rm, dataset: posts, n: 2, sampling: {max_new_tokens: 4}}
  plain_judged: {uses: judge, dataset: posts, a: plain, judge: {reward_model: other_rm}}
  best_judged: {uses: judge, dataset: posts, a: best, judge: {reward_model: other_rm}}
  evaluation:
    uses: evaluate
    dataset: posts
    reward_model: rm
    reference_policy: base
    judge: reward_model
    judges: {held_out: {plain: plain_judged, best: best_judged}}
    methods: [{name: plain, outputs: plain, samples: plain}, {name: best, outputs: best, samples: best}]
",
    );
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    text.replace("MODEL", &fixture().path("policy").display().to_string())
}

/// Rows to test on, and two sets to make pairs of.
fn write_rows(place: &Place) {
    for (name, first) in [("rows", 0), ("one", 10), ("other", 20)] {
        let row = |at| {
            json!({"i": format!("{at}"), "p": format!("post {at}"),
            "c": format!("one two {at} four")})
        };
        place.write(&format!("{name}.jsonl"), &jsonl((first..first + 4).map(row)));
    }
}

/// Who the held-out judge is.
/// A text without its line ends.
fn flowing(text: &str) -> String {
    text.split_whitespace().collect::<Vec<&str>>().join(" ")
}

const WHO: &str = "win_rate_held_out: `other_rm`, trained on `preferences` of `other_pairs`; `rm` \
    was on `preferences` of `pairs`.";

#[test]
fn a_judge_that_shares_its_pairs_is_refused_when_it_runs_and_told_of_where_it_is_allowed() {
    let same = [(
        "  other_rm: {uses: reward_model, policy: base, dataset: other_pairs,",
        "  other_rm: {uses: reward_model, policy: base, dataset: pairs,",
    )];
    let place = Place::new(&pipeline(&same));
    write_rows(&place);
    let said = place.say(&["run", "p.yaml"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(
        said.err.contains("the judge is not held out: 4 of the 4 pairs that it was trained on"),
        "{}",
        said.err
    );
    let allow =
        ("judge: {reward_model: other_rm}}", "judge: {reward_model: other_rm}, on_leak: allow}");
    place.pipeline(&pipeline(&[
        same[0],
        allow,
        ("    judge: reward_model\n", "    judge: reward_model\n    on_leak: allow\n"),
    ]));
    let said = flowing(&place.good(&["run", "p.yaml"]).out);
    assert!(
        said.contains(
            "as judged by a reward model that is not held out (`judges.held_out` is not held out: \
             4 of the 4 pairs"
        ),
        "{said}"
    );
    assert!(
        said.contains(
            "win_rate_held_out: `other_rm`, trained on `preferences` of `pairs`, as `rm` was."
        ),
        "{said}"
    );
    let judges: Value = serde_json::from_str(&place.made("evaluation", "judges.json")).unwrap();
    assert_eq!(judges[0]["held_out"], json!(false));
}

#[test]
fn a_pipeline_shows_its_held_out_judge() {
    let place = Place::new(&pipeline(&[]));
    write_rows(&place);
    let said = flowing(&place.good(&["run", "p.yaml"]).out);
    assert!(
        said.contains("win_rate_held_out: share of inputs won against the references"),
        "{said}"
    );
    // They learned from other pairs, and it says so.
    assert!(said.contains(WHO), "{said}");
    // So do the page and the tables.
    for format in ["html", "markdown", "json"] {
        place.good(&["report", "--format", format, "--output", "report"]);
        let report = std::fs::read_to_string(place.path("report")).unwrap();
        assert!(report.contains(WHO), "{format}");
        assert!(
            report.contains(
                "best_judged: best against reference, by `other_rm`, trained on `preferences` of \
                 `other_pairs`."
            ),
            "{format}"
        );
    }
    let table: Table = serde_json::from_str(&place.made("evaluation", "table.json")).unwrap();
    let judged: Value = serde_json::from_str(&place.made("best_judged", "summary.json")).unwrap();
    let row = table
        .rows
        .iter()
        .find(|row| row.metric == "win_rate_held_out" && row.method == "best")
        .unwrap();
    assert_eq!(json!(row.figure.mean), judged["splits"]["test/x"]["win_rate"]["mean"]);
    // What each stage found is in every format.
    let interval = &judged["splits"]["test/x"]["win_rate"];
    let Interval { mean, low, high, .. } = serde_json::from_value(interval.clone()).unwrap();
    let ties = &judged["splits"]["test/x"]["ties"];
    for (format, line) in [
        (
            "csv",
            format!(
                "best_judged,best,test/x,win_rate,{mean},{low},{high},{},judgement,reference,,,,,,",
                interval["n"]
            ),
        ),
        ("markdown", format!("| best_judged | x | {mean:.3} [{low:.3}, {high:.3}] | {ties} | 0 |")),
        ("latex", format!("    best\\_judged & ${mean:.3}$ ")),
        ("html", "<section id=judges".into()),
    ] {
        place.good(&["report", "--format", format, "--output", "report"]);
        let report = std::fs::read_to_string(place.path("report")).unwrap();
        assert!(report.contains(&line), "{format}: {line}\n{report}");
    }
    // A field that is not given is in no key.
    let without =
        pipeline(&[("    judges: {held_out: {plain: plain_judged, best: best_judged}}\n", "")]);
    place.pipeline(&without);
    assert_eq!(place.counts(&[]).0, 1);
    assert!(!place.artefact("evaluation").join("judges.json").exists());
}

#[test]
fn a_judge_of_something_else_is_found_when_the_pipeline_is_planned() {
    let place = Place::new("");
    write_rows(&place);
    for (changes, said) in [
        // It may not judge `best` itself, nor anything that is beside `best`.
        (
            vec![
                (
                    "a: plain, judge: {reward_model: other_rm}",
                    "a: plain, judge: {reward_model: rm}",
                ),
                ("best: best_judged}}", "}}"),
            ],
            "`judges.held_out.plain` of `evaluation`: `best` was made with the help of `rm`, by \
             which `plain_judged` judges",
        ),
        (
            vec![("dataset: other_pairs", "dataset: pairs"), ("seed: 2", "seed: 1")],
            "which is to judge it",
        ),
        (
            vec![("best: best_judged}}", "best: plain_judged}}")],
            "`judges.held_out.best` of `evaluation`: `a` of `plain_judged` is `plain`, not `best`",
        ),
        (
            vec![("judge, dataset: posts, a: best", "judge, dataset: copies, a: best")],
            "`dataset` of `best_judged` is `copies`, not `posts`",
        ),
        (
            vec![("a: best, judge", "a: best, b: plain, judge")],
            "`b` of `plain_judged` is not that of `best_judged`",
        ),
        (
            vec![(
                "best_judged: \
                 {uses: judge, dataset: posts, a: best, judge: {reward_model: other_rm}}",
                "best_judged: {uses: judge, dataset: posts, a: best, judge: gold}",
            )],
            "`judge.reward_model` of `plain_judged` is not that of `best_judged`",
        ),
        (
            vec![(
                "a: best, judge: {reward_model: other_rm}",
                "a: best, max_prompt_tokens: 9, judge: {reward_model: other_rm}",
            )],
            "`max_prompt_tokens` of `plain_judged` is not that of `best_judged`",
        ),
        (vec![("best: best_judged}}", "best: best}}")], "judgements"),
    ] {
        place.pipeline(&pipeline(&changes));
        let plan = place.say(&["plan", "p.yaml"]);
        assert!(plan.code == 2 && plan.err.contains(said), "{said}: {}", plan.err);
    }
    // Another name for the same is the same.
    place.pipeline(&pipeline(&[
        ("a: plain, judge", "a: again, judge"),
        (
            "  best: {uses",
            "  again: \
             {uses: generate, policy: base, dataset: posts, sampling: {max_new_tokens: 4}}\n  \
             best: {uses",
        ),
    ]));
    place.good(&["plan", "p.yaml"]);
}
