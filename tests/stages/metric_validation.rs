//! `metric_validation`: metrics by populations that are known, and samples counted by hand.

use posttrain::world::posts::World;
use serde_json::{Value, json};

use super::bench::{Made, make, problems, refusal};
use super::fixture::{fixture, jsonl, prompt, write};

fn config(more: Value) -> Value {
    let mut config = json!({"dataset": fixture().at("dataset"), "test_sets": ["id"]});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

fn found(made: &Made) -> Value {
    serde_json::from_slice(&made.bytes("validation.json")).unwrap()
}

/// The finding of a metric at a k.
fn finding<'a>(found: &'a Value, metric: &str, k: usize) -> &'a Value {
    let all = found["findings"].as_array().unwrap();
    all.iter().find(|one| one["metric"] == metric && one["k"] == k).unwrap()
}

fn mean(finding: &Value, path: &str) -> f64 {
    finding.pointer(path).unwrap_or_else(|| panic!("{path} of {finding}"))["mean"].as_f64().unwrap()
}

/// What reads contents exactly follows them, and neither wording nor length nor errors; what counts
/// words follows length alone.
#[test]
fn the_gold_reader_follows_content_alone() {
    let folder = tempfile::tempdir().unwrap();
    let rows = World::new(9).test("id", 12);
    write(&folder.path().join("test/id.jsonl"), &jsonl(rows.iter().map(|row| json!(row))));
    let config = json!({"dataset": {"$path": folder.path()}, "k": [8, 64]});
    let found = found(&make("metric_validation", config));
    for metric in ["gold_distinct", "gold_entropy", "gold_chao_shen", "gold_simpson"] {
        let one = finding(&found, metric, 64);
        assert!(mean(one, "/agreement/class_entropy/tau_b") > 0.75, "{metric}: {one}");
        assert!(mean(one, "/agreement/wording_entropy/tau_b").abs() < 0.3, "{metric}");
        for axis in ["wording", "wrong", "length", "facts"] {
            let response =
                one["responses"].get(axis).map_or(0.0, |of| of["mean"].as_f64().unwrap());
            assert!(response.abs() < 0.1, "{metric}: {axis} {response}");
        }
        let few = finding(&found, metric, 8);
        let agreement = |one| mean(one, "/agreement/class_entropy/tau_b");
        assert!(agreement(few) <= agreement(one), "{metric}");
    }
    // All of 16 classes are seen by 64 samples, nearly; by 8 samples at most 8.
    let bias = |metric, k| mean(finding(&found, metric, k), "/errors/bias");
    assert!(bias("gold_distinct", 64).abs() < 0.3 && bias("gold_distinct", 8) < -0.3);
    assert!(bias("gold_entropy", 8) < bias("gold_miller_madow", 8));
    // Full stops are no words to it, so that content may change a mean by a fraction of a word.
    let length = finding(&found, "length", 64);
    assert!(mean(length, "/agreement/class_entropy/tau_b").abs() < 0.3, "{length}");
    assert!(mean(length, "/responses/content").abs() < 1.0, "{length}");
    // N-grams see every wording.
    let words = finding(&found, "distinct", 64);
    assert!(mean(words, "/responses/wording") > 0.2, "{words}");
    assert!(mean(words, "/agreement/wording_entropy/tau_b") > 0.2, "{words}");
}

/// Populations in the order of the grid, with their truths.
#[test]
fn populations_are_described() {
    let found = found(&make("metric_validation", config(json!({"k": [2], "inputs": 1}))));
    let populations = found["populations"].as_array().unwrap();
    let names: Vec<&str> = populations.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "classes_1",
            "classes_2",
            "classes_4",
            "classes_8",
            "classes_16",
            "zipf_2",
            "zipf_4",
            "zipf_8",
            "zipf_16",
            "wordings_1",
            "wordings_16",
            "short",
            "long",
            "few_facts",
            "many_facts",
            "invented_0.25",
            "invented_0.5",
            "repeated_0.25",
            "repeated_0.5"
        ]
    );
    let truth = &populations[4]["truth"];
    assert_eq!(truth["classes"], 16.0);
    assert!((truth["class_entropy"].as_f64().unwrap() - 16f64.ln()).abs() < 1e-12);
    assert!((truth["simpson"].as_f64().unwrap() - 15.0 / 16.0).abs() < 1e-12);
}

/// Rows of the table are in the order of agreement, and say what `validation.json` says.
#[test]
fn the_table_ranks_metrics_by_their_agreement_with_content() {
    let made = make("metric_validation", config(json!({"k": [4, 16]})));
    let table: Value = serde_json::from_slice(&made.bytes("table.json")).unwrap();
    let of = |column: &str| -> Vec<(String, f64)> {
        let rows = table["rows"].as_array().unwrap().iter();
        let rows = rows.filter(|row| row["metric"] == "content_tau" && row["test_set"] == column);
        let figure = |row: &Value| {
            (row["method"].as_str().unwrap().to_owned(), row["mean"].as_f64().unwrap())
        };
        rows.map(figure).collect()
    };
    let ranked = of("id@16");
    assert_eq!(ranked.len(), 7 + 3 + 6);
    assert!(ranked.windows(2).all(|two| two[0].1 >= two[1].1), "{ranked:?}");
    let found = found(&made);
    for (k, column) in [(4, "id@4"), (16, "id@16")] {
        for (metric, tau) in of(column) {
            assert_eq!(mean(finding(&found, &metric, k), "/agreement/class_entropy/tau_b"), tau);
        }
    }
    let text = made.text("table.txt");
    assert!(text.starts_with("content_tau") && text.contains("Inputs of id: 5; 0 rows"), "{text}");
    assert!(made.text("table.md").contains("### content_tau"));
}

/// Samples of two methods on rows 70 to 74, whose facts are those of `fixture.rs`.
fn sampled(texts: impl Fn(usize) -> Vec<(String, bool)>) -> String {
    jsonl((70..75).map(|at| {
        let output = |(text, ended): (String, bool)| {
            json!({"text": text, "tokens": [3], "logprob": -1.0, "ended": ended})
        };
        json!({"split": "test/id", "id": format!("row-{at}"), "prompt": prompt(at),
            "outputs": texts(at).into_iter().map(output).collect::<Vec<Value>>()})
    }))
}

/// Row 70: boss, sold, laptop. One class of four samples, or three of the first four.
#[test]
fn coverage_of_samples_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let who = ["boss", "manager", "client", "intern", "director"];
    let right = |at: usize| who[at % 5];
    let narrow = sampled(|at| {
        let texts = [" problem with my WHO .", " my WHO is a problem .", " angry at my WHO ."];
        let all = texts.iter().chain(&texts[..1]);
        all.map(|text| (text.replace("WHO", right(at)), true)).collect()
    });
    let wide = sampled(|at| {
        let verb = ["lost", "broke", "sold", "hid"][at % 4];
        let obj = ["laptop", "badge", "invoice", "printer", "contract"][at / 5 % 5];
        vec![
            (format!(" problem with my {} .", right(at)), true),
            (format!(" someone {verb} my {obj} ."), true),
            (format!(" my {} {verb} my {obj} .", right(at)), true),
            // Another person; the fifth is not among the first four.
            (format!(" problem with my {} .", right(at + 1)), true),
            (format!(" someone {verb} my {obj} ."), true),
        ]
    });
    let cut = sampled(|at| vec![(format!(" problem with my {} .", right(at)), false); 4]);
    for (name, rows) in [("narrow", narrow), ("wide", wide), ("cut", cut)] {
        write(&folder.path().join(name).join("samples.jsonl"), &rows);
    }
    let method = |name: &str| json!({"name": name, "samples": {"$path": folder.path().join(name)}});
    let methods: Vec<Value> = ["narrow", "wide", "cut"].iter().map(|name| method(name)).collect();
    let made = make("metric_validation", config(json!({"k": [2], "methods": methods})));
    let found = found(&made);
    let figures = |at: usize| {
        let figures = &found["methods"][at]["figures"];
        ["right_coverage", "right_classes", "right_share", "right_class_entropy"]
            .map(|name| figures[name]["mean"].as_f64().unwrap())
    };
    assert_eq!(found["methods"][0]["k"], 4);
    let close = |found: [f64; 4], expected: [f64; 4]| {
        found.iter().zip(expected).for_each(|(a, b)| assert!((a - b).abs() < 1e-12, "{a} for {b}"));
    };
    close(figures(0), [1.0 / 31.0, 1.0, 1.0, 0.0]);
    // Three samples of three classes: f1 counts as 2 of 3, so each share is 1/9.
    let entropy = 9f64.ln() / 3.0 / (1.0 - (8.0 / 9.0f64).powi(3));
    close(figures(1), [3.0 / 31.0, 3.0, 0.75, entropy]);
    close(figures(2), [0.0; 4]);
    // Coverage is 1, 3, 0 of 31 in each row, and so is the number of classes that gold counts.
    let ordered = found["methods_ordered"].as_array().unwrap();
    let of = |metric: &str| ordered.iter().find(|one| one["metric"] == metric).unwrap();
    assert_eq!(mean(of("gold_distinct"), "/coverage"), 1.0);
    assert_eq!(mean(of("gold_distinct"), "/coverage_within"), 1.0);
    // Equal texts have the least of distinct n-grams, too.
    assert_eq!(mean(of("distinct"), "/coverage_within"), 1.0);
    assert!(made.text("table.txt").contains("right_coverage"));
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let plain = json!({"id": "a", "prompt": "p", "completion": " c"});
    write(&folder.path().join("test/id.jsonl"), &jsonl([plain]));
    let elsewhere = json!({"$path": folder.path()});
    let message = refusal("metric_validation", config(json!({"dataset": elsewhere})));
    assert!(message.contains("row `a` of test set `id` is of no synthetic world"), "{message}");
    let message = refusal("metric_validation", config(json!({"classes": [1, 2, 32]})));
    assert!(message.contains("no row of test set `id` has the right answers"), "{message}");
    let lone = json!([{"name": "lone", "samples": fixture().at("outputs")}]);
    let message = refusal("metric_validation", config(json!({"k": [2], "methods": lone})));
    assert!(message.contains("has 1 samples of a method"), "{message}");
    let row = json!({"split": "test/ood", "id": "row-70", "prompt": "p", "outputs": []});
    write(&folder.path().join("none/samples.jsonl"), &jsonl([row]));
    let none = json!([{"name": "none", "samples": {"$path": folder.path().join("none")}}]);
    let message = refusal("metric_validation", config(json!({"k": [2], "methods": none})));
    assert!(message.contains("no row of test set `id` has samples of every method"), "{message}");
}

#[test]
fn values_out_of_range_are_found() {
    let model = fixture().at("policy");
    for (more, field) in [
        (json!({"inputs": 0}), "inputs"),
        (json!({"k": []}), "k"),
        (json!({"k": [1, 2]}), "k"),
        (json!({"k": [4, 2]}), "k"),
        (json!({"classes": [4]}), "classes"),
        (json!({"classes": [0, 4]}), "classes"),
        (json!({"wordings": [4, 4]}), "wordings"),
        (json!({"wrong": []}), "wrong"),
        (json!({"wrong": [0.5, 1.0]}), "wrong"),
        (json!({"diversity": {"metrics": []}}), "diversity.metrics"),
        (json!({"diversity": {"metrics": ["ead", "ead"]}}), "diversity.metrics"),
        (json!({"diversity": {"metrics": ["ead_tokenizer"]}}), "diversity.metrics"),
        (json!({"diversity": {"metrics": ["embedding"]}}), "diversity.metrics"),
        (
            json!({"diversity": {"metrics": ["nli_released_sampled"], "nli": model}}),
            "diversity.metrics",
        ),
        (json!({"diversity": {"encoder": model}}), "diversity.encoder"),
        (
            json!({"diversity": {"metrics": ["nli"], "nli": model, "classifier": model}}),
            "diversity.classifier",
        ),
        (
            json!({"methods": [{"name": "a", "samples": model}, {"name": "a", "samples": model}]}),
            "methods",
        ),
    ] {
        let found = problems("metric_validation", config(more.clone()));
        let fields: Vec<&str> = found.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(fields, [field], "{more}");
    }
    assert_eq!(problems("metric_validation", config(json!({}))), []);
}
