//! Stages that score, judge and measure.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use posttrain::error::{Kind, kind_of};
use posttrain::eval::verdict::Verdict;
use serde_json::{Value, json};

use super::training::optimiser;
use super::{Case, Others, plain, with};
use crate::judges::fake::{Fake, Fault};
use crate::stages::bench::{Made, Work, make};
use crate::stages::fixture::{fixture, jsonl, write};
use crate::stages::sheets::{filled, items};

pub fn score(others: &Others) -> Case {
    let base = json!({"dataset": fixture().at("dataset"), "splits": ["sft"],
        "by": {"reward_model": {"model": fixture().at("reward")}}});
    others.words("words", ["entailment", "neutral", "contradiction"]);
    others.words("permuted", ["neutral", "entailment", "contradiction"]);
    let classified = || {
        json!({"by": {"classifier": {"path": others.at("words/bert_classifier"),
            "label": "entailment", "text": "prompt"}}})
    };
    let pairs = vec![
        plain("dataset", others.at("dataset")),
        plain("splits.0", json!("notes")),
        plain("by.reward_model.model", others.at("reward")),
        plain("by.reward_model.max_prompt_tokens", json!(5)),
        ("by.classifier.path", others.at("permuted/bert_classifier"), classified()),
        ("by.classifier.label", json!("neutral"), classified()),
        ("by.classifier.text", json!("completion"), classified()),
    ];
    Case::new(base, pairs)
}

/// A classifier of inference, trained with this seed.
fn trained_classifier(others: &Others, seed: u64) -> Value {
    let pairs = others.at("inference.jsonl");
    others.keep(make(
        "classifier",
        json!({"encoder": fixture().at("policy"), "train": pairs, "test": pairs, "hidden": 8,
            "epochs": 1, "batch_size": 4, "seed": seed, "optimiser": {"learning_rate": 0.01}}),
    ))
}

/// A classifier of the same answer, trained on pairs that are all of one label.
pub fn of_one_label(others: &Others, label: &str) -> Value {
    let other = ["same", "different"].into_iter().find(|other| *other != label).unwrap();
    let pair = |at: usize| {
        let label = if at == 0 { other } else { label };
        json!({"premise": format!("{at} my boss"), "hypothesis": format!("a {at}"), "label": label})
    };
    let (name, rows) = (format!("all-{label}.jsonl"), jsonl((0..40).map(pair)));
    write(&others.path(&name), &rows);
    let pairs = others.at(&name);
    others.keep(make(
        "classifier",
        json!({"encoder": fixture().at("policy"), "train": pairs, "test": pairs, "hidden": 8,
            "epochs": 5, "batch_size": 4, "optimiser": {"learning_rate": 0.05}}),
    ))
}

pub fn evaluate(others: &Others) -> Case {
    let at = |name| fixture().at(name);
    let base = json!({"dataset": at("dataset"), "reward_model": at("reward"),
        "reference_policy": at("policy"), "judge": "gold", "test_sets": ["id"],
        "methods": [{"name": "key", "outputs": at("outputs"), "samples": at("samples")}]});
    let verdicts = |judge: Value| {
        others.keep(make(
            "judge",
            json!({"dataset": at("dataset"), "a": at("outputs"), "splits": ["test/id"],
                "judge": judge}),
        ))
    };
    let (one, other) = (trained_classifier(others, 1), trained_classifier(others, 2));
    others.copy("dataset/sft.jsonl", "notes/notes.jsonl");
    others.copy("dataset/notes.jsonl", "notes/sft.jsonl");
    let diversity = |metric: &str, field: &str, model: &Value| {
        let config = json!({"metrics": [metric], field: model});
        json!({"diversity": config})
    };
    let chained = || {
        let method =
            |name: &str| json!({"name": name, "outputs": at("outputs"), "samples": at("samples")});
        let mut methods = ["first", "second", "third"].map(method);
        methods[0]["after"] = json!("second");
        json!({"methods": methods})
    };
    let graded = || json!({"quality": {"by": "gold", "good": -0.5, "utility_thresholds": [0.9]}});
    let (alike_all, unlike_all) = (of_one_label(others, "same"), of_one_label(others, "different"));
    let classed = |threshold: f64| {
        let classes = json!({"same_answer": {"classifier": alike_all, "threshold": threshold}});
        json!({"quality": {"by": "gold", "good": -0.5, "classes": classes}})
    };
    let pool = |seed: u64, rule: Value| {
        others.keep(make(
            "best_of_n",
            json!({"policy": at("policy"), "reward_model": at("reward"), "dataset": at("dataset"),
                "splits": ["test/id", "test/ood"], "n": 4, "seed": seed,
                "missing_eos": rule,
                "sampling": {"max_new_tokens": 4}}),
        ))
    };
    let of_pool = |candidates: &Value, rule: Value| {
        json!({"optimum": {"candidates": candidates, "missing_eos": rule, "betas": [1.0],
            "min_ess": 1.0}})
    };
    let candidates = pool(1, json!("keep"));
    let optimum = || of_pool(&candidates, json!("keep"));
    let ruled = |rule: Value| of_pool(&pool(1, rule.clone()), rule);
    let another = "`optimum.missing_eos` is not that of `optimum.candidates`";
    let own = || {
        json!({"distributions": {}, "methods": [{"name": "key", "outputs": at("outputs"),
            "samples": at("samples"), "model": at("policy")}]})
    };
    let kept = || {
        let retention = json!([{"name": "key", "dataset": at("dataset"), "split": "notes"}]);
        with(&own(), &json!({"distributions": {"retention": retention}}))
    };
    let alike = || {
        json!({"similarity": {"threshold": -1.0},
            "diversity": {"metrics": ["embedding"], "encoder": at("policy")}})
    };
    let measured = |samples: &Value| others.keep(make("metric", lengths(samples)));
    let outputs = measured(&at("outputs"));
    let of_program = || json!({"metrics": {"key": {"of": "outputs", "methods": {"key": outputs}}}});
    // Three methods of the same answers, and what people say of two of them.
    let asked = |sheet: &str| {
        others.keep(make(
            "judge",
            json!({"dataset": at("dataset"), "a": at("outputs"), "b": at("outputs"),
                "splits": ["test/id"], "judge": {"people": {"sheets": [others.at(sheet)]}}}),
        ))
    };
    let compared = || {
        let methods = ["first", "second", "third"]
            .map(|name| json!({"name": name, "outputs": at("outputs")}));
        json!({"methods": methods, "reference_policy": null, "people": {"key": {"a": "first",
            "b": "second", "judgements": asked("same-ann.csv")}}})
    };
    let refused = vec![
        ("optimum.missing_eos", json!({"replace": -3.0}), optimum(), another),
        ("optimum.missing_eos.replace", json!(-2.0), ruled(json!({"replace": -3.0})), another),
        ("optimum.missing_eos.subtract", json!(2.0), ruled(json!({"subtract": 1.0})), another),
        (
            "metrics.key.of",
            json!("samples"),
            of_program(),
            "`metrics.key.methods.key` has not measured the 3 `samples` of row",
        ),
    ];
    let pairs = vec![
        plain("dataset", others.at("dataset")),
        plain("test_sets.0", json!("ood")),
        plain("methods.0.name", json!("another")),
        plain("methods.0.outputs", others.at("answers")),
        plain("methods.0.samples", others.at("answers")),
        plain("methods.0.policy", others.at("rolled")),
        ("methods.0.after", json!("third"), chained()),
        ("methods.0.model", at("other"), own()),
        ("distributions.reference_samples", at("samples"), own()),
        ("distributions.retention.0.name", json!("another"), kept()),
        ("distributions.retention.0.dataset", others.at("notes"), kept()),
        ("distributions.retention.0.split", json!("sft"), kept()),
        ("similarity.by", json!("embeddings"), alike()),
        ("similarity.threshold", json!(0.9), alike()),
        plain("reward_model", others.at("reward")),
        plain("reference_policy", at("other")),
        plain("preferences", at("preferences")),
        plain("judge", json!("reward_model")),
        (
            "judges.key.key",
            verdicts(json!({"reward_model": at("reward")})),
            json!({"judges": {"key": {"key": verdicts(json!("gold"))}}}),
        ),
        ("metrics.key.methods.key", measured(&others.at("answers")), of_program()),
        ("people.key.a", json!("third"), compared()),
        ("people.key.b", json!("third"), compared()),
        ("people.key.judgements", asked("same-bob.csv"), compared()),
        plain("max_prompt_tokens", json!(5)),
        plain("diversity.metrics.0", json!("distinct")),
        ("optimum.candidates", pool(2, json!("keep")), optimum()),
        ("optimum.betas.0", json!(2.0), optimum()),
        ("optimum.min_ess", json!(1e6), optimum()),
        ("diversity.encoder", at("other"), diversity("embedding", "encoder", &at("policy"))),
        ("diversity.nli", other.clone(), diversity("nli", "nli", &one)),
        ("diversity.classifier", other, diversity("nli", "classifier", &one)),
        ("seed", json!(1), diversity("nli_released_sampled", "nli", &one)),
        ("quality.by", json!("reward_model"), graded()),
        ("quality.good", json!(0.5), graded()),
        ("quality.classes", json!("gold"), graded()),
        ("quality.classes.same_answer.classifier", unlike_all, classed(0.5)),
        ("quality.classes.same_answer.threshold", json!(0.999_999), classed(1e-6)),
        ("quality.k", json!(2), graded()),
        ("quality.wins", json!(true), graded()),
        ("quality.patience", json!(0.5), graded()),
        ("quality.utility_thresholds.0", json!(-0.9), graded()),
    ];
    let elsewhere = vec![(
        "on_leak",
        "stages/lineage.rs",
        "an_evaluation_holds_its_test_sets_against_every_models_training",
    )];
    Case { elsewhere, refused, ..Case::new(base, pairs) }
}

/// The table of three methods on two test sets by two metrics, with this seed.
fn of_three_methods(others: &Others, seed: usize) -> Value {
    let mut rows = Vec::new();
    for (at, method) in ["a", "b", "c"].iter().enumerate() {
        for (of, test_set) in ["id", "ood"].iter().enumerate() {
            for (by, metric) in ["gold", "rm"].iter().enumerate() {
                let mean = (at * 7 + of * 3 + by * 5 + seed * (at + 2) * (by + 1) % 4) as f64 / 8.0;
                rows.push(json!({"method": method, "test_set": test_set, "metric": metric,
                    "mean": mean, "low": mean, "high": mean, "n": 5}));
            }
        }
    }
    let name = format!("grown/{seed}");
    write(&others.path(&format!("{name}/table.json")), &json!({"rows": rows}).to_string());
    others.at(&name)
}

/// Prints for each row the number `key` that the shell makes of `count`.
fn counted(count: &str) -> Value {
    let script = r#"n=COUNT
        sed -E "s/(\"split\":\"[^\"]*\",\"id\":\"[^\"]*\").*/\1,\"values\":{\"key\":$n}}/""#;
    json!(["sh", "-c", script.replace("COUNT", count)])
}

/// The stage `metric` with a program that prints the length of each row.
fn lengths(samples: &Value) -> Value {
    let awk = r#"{printf "{\"split\":\"%s\",\"id\":\"%s\",\"values\":{\"key\":%d}}\n", $4, $8,
        length($0)}"#;
    json!({"samples": samples, "run": ["awk", "-F\"", awk],
        "values": {"key": {"description": "one"}}})
}

pub fn metric(others: &Others) -> Case {
    let at = |name| fixture().at(name);
    write(&others.path("short.txt"), "short");
    write(&others.path("longer.txt"), "longer");
    others.copy("dataset/notes.jsonl", "fewer/sft.jsonl");
    let pairs = vec![
        plain("samples", others.at("answers")),
        plain("dataset", at("dataset")),
        (
            "inputs.key",
            others.at("fewer"),
            json!({"run": counted("$(wc -c < $key/sft.jsonl)"), "inputs": {"key": at("dataset")}}),
        ),
        (
            "files.key",
            others.at("longer.txt"),
            json!({"run": counted("$(wc -c < {key})"), "files": {"key": others.at("short.txt")}}),
        ),
        ("env.key", json!("2"), json!({"run": counted("$key"), "env": {"key": "1"}})),
        plain("values.key.description", json!("other")),
        plain("values.key.unit", json!("words")),
        plain("values.key.better", json!("lower")),
    ];
    let refused = vec![
        ("run.0", json!("false"), json!({}), "`false` failed"),
        ("per", json!("sample"), json!({}), "`key` is a number, expected a list of 1 numbers"),
    ];
    Case { refused, ..Case::new(lengths(&at("outputs")), pairs) }
}

pub fn over_seeds(others: &Others) -> Case {
    let base =
        json!({"evaluations": [fixture().at("evaluations/a"), fixture().at("evaluations/b")]});
    let of = |statistics: &str| {
        let all = ["c", "d", "e"].map(|name| fixture().at(&format!("evaluations/{name}")));
        json!({"evaluations": all, "statistics": statistics})
    };
    let margin = || with(&of("full"), &json!({"equivalence": {"key": 0.125}}));
    let grown: Vec<Value> = (0..6).map(|seed| of_three_methods(others, seed)).collect();
    let sequential = || {
        let compare = json!([{"method": "b", "with": "c"}]);
        let decided = json!({"metric": "gold", "compare": compare, "test_sets": ["id"],
            "margin": 0.5});
        json!({"evaluations": grown, "sequential": decided})
    };
    let pairs = vec![
        plain("evaluations.0", others.at("evaluation")),
        ("statistics", json!("full"), of("basic")),
        ("correction", json!("benjamini_hochberg"), of("full")),
        ("equivalence.key", json!(0.5), margin()),
        ("sequential.metric", json!("rm"), sequential()),
        ("sequential.compare.0.method", json!("a"), sequential()),
        ("sequential.compare.0.with", json!("a"), sequential()),
        ("sequential.test_sets.0", json!("ood"), sequential()),
        ("sequential.margin", json!(10.0), sequential()),
    ];
    Case::new(base, pairs)
}

pub fn metric_validation(others: &Others) -> Case {
    let at = |name| fixture().at(name);
    let base = json!({"dataset": at("dataset"), "test_sets": ["id"], "inputs": 2, "k": [2, 4],
        "classes": [1, 3, 4], "wordings": [1, 3, 4], "wrong": [0.25, 0.5],
        "diversity": {"metrics": ["distinct"]},
        "methods": [{"name": "key", "samples": at("samples")}]});
    let (one, other) = (trained_classifier(others, 1), trained_classifier(others, 2));
    let diversity = |metric: &str, field: &str, model: &Value| {
        let config = json!({"metrics": [metric], field: model});
        json!({"diversity": config})
    };
    let pairs = vec![
        plain("dataset", others.at("dataset")),
        plain("test_sets.0", json!("ood")),
        plain("inputs", json!(3)),
        plain("k.0", json!(3)),
        plain("classes.0", json!(2)),
        plain("wordings.0", json!(2)),
        plain("wrong.0", json!(0.125)),
        plain("diversity.metrics.0", json!("ead")),
        ("diversity.encoder", at("other"), diversity("embedding", "encoder", &at("policy"))),
        ("diversity.nli", other.clone(), diversity("nli", "nli", &one)),
        ("diversity.classifier", other, diversity("nli_released", "classifier", &one)),
        plain("methods.0.name", json!("another")),
        plain("methods.0.samples", others.at("two")),
        plain("seed", json!(1)),
    ];
    let rows = others.read(&fixture().path("samples/samples.jsonl")).into_iter().map(|mut row| {
        let text = row["outputs"][0]["text"].clone();
        row["outputs"][1]["text"] = text;
        row["outputs"].as_array_mut().unwrap().truncate(2);
        row
    });
    write(&others.path("two/samples.jsonl"), &jsonl(rows));
    Case::new(base, pairs)
}

pub fn classifier(others: &Others) -> Case {
    let at = |name| fixture().at(name);
    let base = json!({"encoder": at("policy"), "train": at("pairs.jsonl"),
        "test": at("pairs.jsonl"), "hidden": 8, "epochs": 1, "batch_size": 4,
        "optimiser": {"learning_rate": 0.01}});
    let mut pairs = vec![
        plain("encoder", at("other")),
        plain("frozen", json!(0.6)),
        plain("train", others.at("pairs.jsonl")),
        plain("test", others.at("pairs.jsonl")),
        plain("hidden", json!(4)),
        plain("epochs", json!(2)),
        plain("batch_size", json!(5)),
        plain("seed", json!(1)),
    ];
    optimiser(&mut pairs, json!({}));
    Case::new(base, pairs)
}

/// An endpoint whose verdicts depend on the length of what it is asked.
fn endpoint(odd: usize) -> Fake {
    Fake::start(move |message| json!({"better": 1 + (message.len() + odd) % 2}).to_string())
}

/// The first row of a test set, judged at an endpoint.
fn asking(fake: &Fake, more: Value) -> Value {
    let model = with(&json!({"endpoint": fake.endpoint(), "model": "m"}), &more);
    json!({"dataset": fixture().at("dataset"), "a": fixture().at("outputs"),
        "splits": ["test/id"], "judge": {"llm": model}})
}

pub fn judge(others: &Others) -> Case {
    let at = |name| fixture().at(name);
    let base = json!({"dataset": at("dataset"), "a": at("outputs"),
        "judge": {"reward_model": at("reward")}});
    let (fake, opposite) = (endpoint(0), endpoint(1));
    let asked = || asking(&fake, json!({}));
    let pairs = vec![
        plain("dataset", others.at("dataset")),
        plain("a", others.at("answers")),
        plain("b", others.at("answers")),
        plain("splits.0", json!("test/ood")),
        plain("limit", json!(2)),
        plain("judge", json!("gold")),
        plain("judge.reward_model", others.at("reward")),
        plain("max_prompt_tokens", json!(5)),
        (
            "judge.human.judgements.0",
            others.at("second.csv"),
            json!({"judge": {"human": {"judgements": [others.at("first.csv")]}}}),
        ),
        (
            "judge.people.sheets.0",
            at("sheets/pairs-bob.csv"),
            json!({"judge": {"people": {"sheets": [at("sheets/pairs-ann.csv")]}}}),
        ),
        ("judge.llm.endpoint", json!(opposite.endpoint()), asked()),
        ("judge.llm.model", json!("n"), asked()),
        ("judge.llm.task", json!("instructions"), asked()),
        ("judge.llm.prompt", others.at("question.txt"), asked()),
        ("judge.llm.max_tokens", json!(7), asked()),
        ("judge.llm.api_key_env", json!("PATH"), asked()),
        ("judge.llm.price.prompt", json!(2), asking(&fake, price())),
        ("judge.llm.price.completion", json!(2), asking(&fake, price())),
        ("seed", json!(1), asked()),
    ];
    let pace = "questions_go_out_as_fast_and_as_often_as_the_config_says";
    let held_out = "a_judge_of_the_same_bytes_or_pairs_as_what_it_judges_is_not_held_out_\
        whatever_its_config";
    let elsewhere = vec![
        ("on_leak", "stages/lineage.rs", held_out),
        ("judge.llm.rpm", "judges/judge.rs", "questions_keep_to_the_pace"),
        ("judge.llm.concurrency", "stages/effects/measuring.rs", pace),
        ("judge.llm.max_retries", "stages/effects/measuring.rs", pace),
        ("judge.llm.timeout", "stages/effects/measuring.rs", pace),
    ];
    let heard = move || heard_of(&fake, &opposite);
    let of_sets = json!({"a": at("samples"), "b": at("pool"), "splits": ["test/id"],
        "judge": {"people": {"sheets": [at("sheets/sets-ann.csv")], "set": 2}}});
    let refused = vec![("judge.people.set", json!(null), of_sets, "the question is `more_varied`")];
    Case { elsewhere, refused, heard: Some(Box::new(heard)), ..Case::new(base, pairs) }
}

/// What two endpoints were asked, in any order, since this was last called.
pub fn heard_of(one: &Fake, other: &Fake) -> String {
    let asked = |fake: &Fake| -> Vec<String> {
        let questions = fake.questions().into_iter();
        questions.map(|asked| format!("{} {}", asked.key.is_some(), asked.body)).collect()
    };
    let mut all = [asked(one), asked(other)].concat();
    all.sort();
    all.concat()
}

fn price() -> Value {
    json!({"price": {"prompt": 1, "completion": 1}})
}

/// What happens to the first row at an endpoint: whether it is judged.
fn is_judged(fake: &Fake, more: Value) -> bool {
    let config = with(&asking(fake, more), &json!({"limit": 1}));
    match Work::new().attempt("judge", config, None) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(kind_of(&error), Kind::Environment, "{error:#}");
            false
        }
    }
}

/// These change no byte, but whether there are any, and when.
#[test]
fn questions_go_out_as_fast_and_as_often_as_the_config_says() {
    let fake = endpoint(0);
    for max_retries in [0, 1] {
        fake.fail(&[Fault::Status(429)]);
        let judged = is_judged(&fake, json!({"max_retries": max_retries, "concurrency": 1}));
        assert_eq!(judged, max_retries == 1);
    }
    let slow = Fake::start(|_| {
        std::thread::sleep(Duration::from_millis(400));
        json!({"better": 1}).to_string()
    });
    for timeout in [0.1, 60.0] {
        let judged = is_judged(&slow, json!({"max_retries": 0, "timeout": timeout}));
        assert_eq!(judged, timeout == 60.0);
    }
    for concurrency in [1, 3] {
        assert_eq!(most_at_once(concurrency), concurrency);
    }
}

/// The most questions that are on their way at a time. Each waits for the third, or half a second.
fn most_at_once(concurrency: usize) -> usize {
    static MOST: AtomicUsize = AtomicUsize::new(0);
    MOST.store(0, Ordering::SeqCst);
    let (here, came) = (Mutex::new(0usize), Condvar::new());
    let fake = Fake::start(move |_| {
        let mut count = here.lock().unwrap();
        *count += 1;
        MOST.fetch_max(*count, Ordering::SeqCst);
        came.notify_all();
        let until_three = |_: &mut usize| MOST.load(Ordering::SeqCst) < 3;
        let wait = Duration::from_millis(if concurrency < 3 { 20 } else { 5000 });
        let (mut count, _) = came.wait_timeout_while(count, wait, until_three).unwrap();
        *count -= 1;
        json!({"better": 1}).to_string()
    });
    make("judge", asking(&fake, json!({"concurrency": concurrency})));
    MOST.load(Ordering::SeqCst)
}

/// Sheets of two people who think otherwise.
pub fn sheets(others: &Others) {
    for (name, choice) in [("first", 1), ("second", 2)] {
        let rows: String =
            (70..75).map(|at| format!("ann,test/id,row-{at},ab,{choice}\r\n")).collect();
        write(
            &others.path(&format!("{name}.csv")),
            &format!("annotator,split,id,order,choice\r\n{rows}"),
        );
    }
    let outputs = fixture().path("outputs");
    let same = items(&fixture().path("dataset"), &outputs, Some(&outputs), None);
    for (name, verdict) in [("ann", Verdict::A), ("bob", Verdict::Tie)] {
        let says = |at: usize| if at < 2 { Verdict::B } else { verdict };
        write(&others.path(&format!("same-{name}.csv")), &filled(&same, name, says));
    }
    write(&others.path("grading.txt"), "{prompt} {response} {\"grade\": 1}?");
    write(&others.path("question.txt"), "{prompt} {first} {second} {\"better\": 1}?");
}

/// Labelled pairs for inference, few of them neutral.
pub fn inference(others: &Others) {
    let labels = ["entailment", "contradiction", "entailment", "contradiction", "neutral"];
    let pair = |at: usize| {
        json!({"premise": format!("no {at} my boss"), "hypothesis": format!("a {}", at % 4),
            "label": labels[at % 5]})
    };
    write(&others.path("inference.jsonl"), &jsonl((0..10).map(pair)));
}

/// A policy with the rollouts of one step.
pub fn rolled(others: &Others) {
    let row = |at: usize| {
        json!({"id": format!("row-{at}"), "prompt": "p", "response": " r", "ended": true,
            "score": at % 3, "raw_score": at % 3, "kl": 0.5})
    };
    write(&others.path("rolled/rollouts/step-00001.jsonl"), &jsonl((50..59).map(row)));
}

impl Others {
    /// An artefact that is kept as long as these.
    pub fn keep(&self, made: Made) -> Value {
        let reference = made.reference();
        self.kept.borrow_mut().push(made);
        reference
    }
}
