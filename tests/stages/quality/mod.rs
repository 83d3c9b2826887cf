//! Quality beside diversity against independent figures (make.py, golden.json): rows, intervals,
//! paired differences, curves over k, scores and classes; and what is refused.

use std::collections::{BTreeMap, BTreeSet};

use posttrain::artefacts::inputs::Input;
use posttrain::artefacts::quality::{AtK, Graded};
use posttrain::artefacts::table::{Row, Table};
use posttrain::backend::cpu::Cpu;
use posttrain::device::Precision;
use posttrain::eval::compare::Difference;
use posttrain::eval::interval::Interval;
use posttrain::inference::Reader;
use posttrain::inference::pairs::PairModel;
use serde::Deserialize;
use serde_json::{Value, json};

use super::bench::{Made, make, problems, refusal};
use super::fixture::{example, fixture, jsonl, write};

const GOLDEN: &str = include_str!("golden.json");

#[derive(Deserialize)]
struct Golden {
    /// By method and number of the row.
    samples: BTreeMap<String, BTreeMap<usize, Vec<String>>>,
    cases: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    quality: Value,
    rows: Vec<Figure>,
    differences: Vec<Figure>,
    curves: Vec<Curve>,
    inputs: Vec<Scored>,
}

#[derive(Deserialize)]
struct Figure {
    method: String,
    #[serde(default)]
    with: String,
    metric: String,
    #[serde(flatten)]
    figure: Interval,
}

#[derive(Deserialize)]
struct Curve {
    method: String,
    metric: String,
    by_k: Vec<Interval>,
}

#[derive(Deserialize)]
struct Scored {
    method: String,
    id: String,
    scores: Vec<f64>,
    classes: Vec<usize>,
}

fn golden() -> Golden {
    serde_json::from_str(GOLDEN).unwrap()
}

/// The dataset, and the samples of the golden methods in the order of the stages of training.
fn inputs() -> (tempfile::TempDir, Value, Vec<Value>) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| json!({"$path": folder.path().join(name)});
    let rows = (70..84).map(example);
    write(&folder.path().join("dataset/test/id.jsonl"), &jsonl(rows));
    let golden = golden();
    let sampled = |row: usize, texts: &Vec<String>| {
        let output =
            |text: &String| json!({"text": text, "tokens": [5, 1], "logprob": -1.0, "ended": true});
        json!({"split": "test/id", "id": format!("row-{row}"), "prompt": example(row)["prompt"],
            "temperature": 1.0, "outputs": texts.iter().map(output).collect::<Vec<Value>>()})
    };
    for (method, rows) in &golden.samples {
        let rows = rows.iter().map(|(row, texts)| sampled(*row, texts));
        write(&folder.path().join(method).join("samples.jsonl"), &jsonl(rows));
    }
    let methods = ["base", "sft", "ppo"].map(|name| json!({"name": name, "samples": at(name)}));
    let dataset = at("dataset");
    (folder, dataset, methods.to_vec())
}

fn config(dataset: &Value, methods: &[Value], quality: &Value) -> Value {
    json!({"dataset": dataset, "methods": methods, "quality": quality})
}

fn close(found: &Interval, expected: &Interval, place: &str) {
    let near = |found: f64, expected: f64, most: f64| {
        (found.is_nan() && expected.is_nan()) || (found - expected).abs() < most
    };
    assert!(
        near(found.mean, expected.mean, 1e-10)
            && near(found.low, expected.low, 1e-8)
            && near(found.high, expected.high, 1e-8)
            && (found.n, found.kind) == (expected.n, expected.kind),
        "{place}: {found:?} for {expected:?}"
    );
}

fn of_json<T: serde::de::DeserializeOwned>(made: &Made, file: &str) -> T {
    serde_json::from_str(&made.text(file)).unwrap()
}

fn is_graded(metric: &str) -> bool {
    let names = ["good_share", "distinct_k", "utility_k", "pass_at_k", "best_at_k"];
    let more = ["effective_semantic_diversity", "class_entropy"];
    let endings = ["_per_input_total", "_per_input_good", "_per_input_quality_control"];
    names.contains(&metric)
        || more.contains(&metric)
        || endings.iter().any(|ending| metric.ends_with(ending))
}

#[test]
fn every_figure_is_that_of_the_independent_script() {
    let (_folder, dataset, methods) = inputs();
    for expected in golden().cases {
        let made = make("evaluate", config(&dataset, &methods, &expected.quality));
        let warning = "quality: of the 5 samples of method `sft` the first 4 of each input count, as \
            many as every method has";
        assert_eq!(made.warnings(), [warning]);
        let table: Table = of_json(&made, "table.json");
        let rows: Vec<&Row> = table.rows.iter().filter(|row| is_graded(&row.metric)).collect();
        assert_eq!(rows.len(), expected.rows.len());
        for one in &expected.rows {
            let same = |row: &&&Row| (&row.method, &row.metric) == (&one.method, &one.metric);
            let found = rows.iter().find(same).unwrap_or_else(|| panic!("{}", one.metric));
            close(&found.figure, &one.figure, &format!("{} of {}", one.metric, one.method));
        }
        let compared: Value = of_json(&made, "comparisons.json");
        let all: Vec<Difference> = serde_json::from_value(compared["differences"].clone()).unwrap();
        let all: Vec<&Difference> = all.iter().filter(|one| is_graded(&one.metric)).collect();
        assert_eq!(all.len(), expected.differences.len());
        for one in &expected.differences {
            let place = format!("{} of {} - {}", one.metric, one.method, one.with);
            let same = |found: &&&Difference| {
                (&found.method, &found.with, &found.metric) == (&one.method, &one.with, &one.metric)
            };
            close(&all.iter().find(same).expect(&place).interval, &one.figure, &place);
        }
        let curves: Vec<AtK> = of_json(&made, "quality.json");
        assert_eq!(curves.len(), expected.curves.len());
        for (found, one) in curves.iter().zip(&expected.curves) {
            assert_eq!((&found.method, &found.metric), (&one.method, &one.metric));
            assert_eq!((found.by_k.len(), one.by_k.len()), (4, 4), "the fewest of a method");
            for (k, (found, one)) in found.by_k.iter().zip(&one.by_k).enumerate() {
                close(found, one, &format!("k = {}", k + 1));
            }
        }
        inputs_are_those(&made, &expected, &table);
    }
}

/// Scores and classes of each sample; figures whose means are those of the table.
fn inputs_are_those(made: &Made, expected: &Expected, table: &Table) {
    let graded: Vec<Graded> = made.rows("quality.jsonl");
    assert_eq!(graded.len(), expected.inputs.len());
    for (found, one) in graded.iter().zip(&expected.inputs) {
        assert_eq!((&found.method, &found.id), (&one.method, &one.id));
        assert_eq!(found.classes, one.classes, "{} of {}", one.id, one.method);
        let near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-12;
        assert!(found.scores.iter().zip(&one.scores).all(near) && found.scores.len() == 4);
    }
    for row in table.rows.iter().filter(|row| is_graded(&row.metric)) {
        let own = graded.iter().filter(|one| one.method == row.method);
        let values: Vec<f64> =
            own.filter_map(|one| one.figures.get(&row.metric).copied()).collect();
        assert_eq!(values.len(), row.figure.n);
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        assert!((mean - row.figure.mean).abs() < 1e-12, "{row:?}");
    }
}

/// Total = narrowing + quality control, over the inputs that both methods are good on.
#[test]
fn the_parts_of_a_difference_add_up_and_are_of_shared_inputs() {
    let (_folder, dataset, methods) = inputs();
    let quality = json!({"by": "gold", "good": 0.3, "classes": "gold"});
    let made = make("evaluate", config(&dataset, &methods, &quality));
    let compared: Value = of_json(&made, "comparisons.json");
    let all: Vec<Difference> = serde_json::from_value(compared["differences"].clone()).unwrap();
    for measure in ["simpson", "ead"] {
        let [total, narrowing, control] = ["total", "good", "quality_control"].map(|part| {
            let metric = format!("{measure}_per_input_{part}");
            let same = |one: &&Difference| {
                (one.metric == metric) && (one.method.as_str(), one.with.as_str()) == ("ppo", "sft")
            };
            all.iter().find(same).unwrap().interval
        });
        assert!((total.mean - narrowing.mean - control.mean).abs() < 1e-12);
        assert_eq!((total.n, narrowing.n), (control.n, control.n));
        assert!(total.n < 13, "fewer than both have samples of");
    }
    let text = made.text("table.txt");
    for words in [
        "simpson_per_input_good_difference",
        "Left out: `diversity_of_good` of `base`: no input has two good samples.",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

/// Where all samples are good, the diversity of good ones is that of all, by every measure, and the
/// same as without quality.
#[test]
fn where_all_are_good_every_measure_is_that_of_all_samples() {
    let metrics = ["ead", "distinct", "entropy", "self_bleu", "vendi", "embedding"];
    let measures = [&metrics[..], &["embedding_vendi", "compression"]].concat();
    let methods = [json!({"name": "policy", "samples": fixture().at("samples")})];
    let mut config =
        config(&fixture().at("dataset"), &methods, &json!({"by": "gold", "good": -1.0}));
    config["diversity"] = json!({"metrics": measures, "encoder": fixture().at("policy")});
    let table: Table = of_json(&make("evaluate", config), "table.json");
    let of = |test_set: &str, metric: &str| {
        let same = |row: &&Row| (row.test_set.as_str(), row.metric.as_str()) == (test_set, metric);
        table.rows.iter().find(same).unwrap_or_else(|| panic!("{metric}")).figure
    };
    for test_set in ["id", "ood"] {
        for measure in &measures {
            let [all, total, good, control] = ["", "_total", "_good", "_quality_control"]
                .map(|part| of(test_set, &format!("{measure}_per_input{part}")));
            let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
            assert!(near(total.mean, all.mean) && near(good.mean, all.mean), "{measure}");
            assert_eq!((control.mean, total.n, good.n), (0.0, all.n, all.n), "{measure}");
        }
        let [pairs, effective] = ["simpson_per_input_good", "effective_semantic_diversity"]
            .map(|metric| of(test_set, metric));
        assert_eq!(pairs.mean, effective.mean);
    }
}

/// With outputs, the figures are beside the scores of each answer. Without `quality` there is none
/// of its files.
#[test]
fn answers_have_the_figures_and_an_evaluation_without_quality_has_no_file() {
    let methods = json!([{"name": "policy", "outputs": fixture().at("outputs"),
        "samples": fixture().at("samples")}]);
    let base = json!({"dataset": fixture().at("dataset"), "methods": methods,
        "reward_model": fixture().at("reward")});
    let made = make("evaluate", base.clone());
    assert!(!made.path("quality.json").exists() && !made.path("quality.jsonl").exists());
    let mut graded = base;
    graded["quality"] = json!({"by": "reward_model", "good": 0.0, "k": 2});
    let made = make("evaluate", graded);
    let inputs: Vec<Input> = made.rows("inputs.jsonl");
    let graded: Vec<Graded> = made.rows("quality.jsonl");
    assert_eq!((inputs.len(), graded.len()), (10, 10));
    assert!(made.text("table.txt").contains("KL, diversity and quality beside it are of samples"));
    for (input, one) in inputs.iter().zip(&graded) {
        let answer = input.answer("policy").unwrap();
        assert_eq!((&input.test_set, &input.id), (&one.test_set, &one.id));
        assert_eq!(answer.scores["distinct_k"], Some(one.figures["distinct_k"]));
        assert!(!answer.scores.contains_key("simpson_per_input_good"), "not every input has it");
        assert_eq!(input.answer("reference").unwrap().scores.get("distinct_k"), None);
    }
}

#[test]
fn what_cannot_be_graded_is_refused() {
    let (folder, dataset, methods) = inputs();
    let quality = |more: Value| {
        let mut quality = json!({"by": "gold", "good": 0.3});
        quality.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        quality
    };
    let message = refusal("evaluate", config(&dataset, &methods, &quality(json!({"k": 5}))));
    let words =
        "`quality.k` is 5, but method `base` has 4 samples of row `row-70` of test set `id`";
    assert!(message.contains(words), "{message}");
    let plain = (70..84).map(|at| {
        let mut row = example(at);
        row.as_object_mut().unwrap().remove("facts");
        row
    });
    write(&folder.path().join("plain/test/id.jsonl"), &jsonl(plain));
    let plain = json!({"$path": folder.path().join("plain")});
    let message = refusal("evaluate", config(&plain, &methods, &quality(json!({}))));
    assert!(
        message.contains("row `row-70` of test set `id` is of no synthetic world"),
        "{message}"
    );
    for (more, field) in [
        (json!({"k": 0}), "quality.k"),
        (json!({"patience": 0.0}), "quality.patience"),
        (json!({"patience": 1.5}), "quality.patience"),
        (json!({"utility_thresholds": []}), "quality.utility_thresholds"),
        (json!({"utility_thresholds": [1.0, 1.0]}), "quality.utility_thresholds"),
        (json!({"by": "reward_model"}), "quality.by"),
    ] {
        let found = problems("evaluate", config(&dataset, &methods, &quality(more.clone())));
        let fields: Vec<&str> = found.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(fields, [field], "{more}");
    }
}

/// Over seeds a figure that one seed lacks is left out, with a warning; one of good samples has no
/// difference between methods, which have it of other inputs.
#[test]
fn over_seeds_leaves_out_what_a_seed_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let of = |seed: &str, rows: &[(&str, &str, f64)]| {
        let row = |(method, metric, mean): &(&str, &str, f64)| {
            json!({"method": method, "test_set": "id", "metric": metric, "mean": mean, "low": null,
                "high": null, "n": 3})
        };
        let rows: Vec<Value> = rows.iter().map(row).collect();
        write(&folder.path().join(seed).join("table.json"), &json!({"rows": rows}).to_string());
        json!({"$path": folder.path().join(seed)})
    };
    let (good, distinct) = ("simpson_per_input_good", "distinct_k");
    let one = [("sft", distinct, 3.0), ("ppo", distinct, 2.0), ("sft", good, 0.5)];
    let lacking = of("a", &one);
    let whole = of("b", &[&one[..], &[("ppo", good, 0.25)]].concat());
    let made = make("over_seeds", json!({"evaluations": [lacking, whole]}));
    let warning = "not over seeds, since with one of them no input has two good samples: \
        `simpson_per_input_good` of `ppo` on `id`";
    assert_eq!(made.warnings(), [warning]);
    let seeds: Vec<Value> = of_json(&made, "seeds.json");
    let found: Vec<(&str, bool, f64)> = seeds
        .iter()
        .map(|one| {
            let metric = one["metric"].as_str().unwrap();
            (metric, one["with"].is_string(), one["mean"].as_f64().unwrap())
        })
        .collect();
    let expected = [
        (distinct, false, 3.0),
        (distinct, false, 2.0),
        (good, false, 0.5),
        (distinct, true, -1.0),
    ];
    assert_eq!(found, expected);
}

/// A classifier of the golden answers, which calls two the same if both end alike.
fn same_answer(labels: [&str; 2]) -> Made {
    let golden = golden();
    let texts: BTreeSet<&str> = golden
        .samples
        .values()
        .flat_map(BTreeMap::values)
        .flatten()
        .map(|text| text.trim())
        .take(24)
        .collect();
    let texts: Vec<&str> = texts.into_iter().collect();
    let end = |text: &str| text.split(' ').rev().nth(1).map(str::to_owned);
    let pair = |at: usize| {
        let (a, b) = (texts[at % texts.len()], texts[(at * 7 + 3) % texts.len()]);
        let label = if end(a) == end(b) { labels[0] } else { labels[1] };
        json!({"premise": a, "hypothesis": b, "label": label})
    };
    let folder = tempfile::tempdir().unwrap();
    let pairs = folder.path().join("pairs.jsonl");
    write(&pairs, &jsonl((0..60).map(pair)));
    make(
        "classifier",
        json!({"encoder": fixture().at("policy"), "train": {"$path": pairs},
            "test": {"$path": pairs}, "hidden": 16, "epochs": 30, "batch_size": 10,
            "optimiser": {"learning_rate": 0.02}}),
    )
}

/// Classes by a classifier are those that its own logits give, one pair at a time: the mean of both
/// orders, against the first member of each class.
#[test]
fn classes_of_the_same_answer_are_what_the_classifier_says_of_each_pair() {
    let (_folder, dataset, methods) = inputs();
    let classifier = same_answer(["same", "different"]);
    let reader = Reader::open(&classifier.path("")).unwrap();
    let model = PairModel::load(Cpu::<f32>::new(), Precision::Single, reader).unwrap();
    let same = model.labels().iter().position(|label| label == "same").unwrap();
    let one_order = |a: &str, b: &str| {
        let logits = model.logits(&[(a, b)], 1, &mut |_, _| Ok(())).unwrap().remove(0);
        logits[same].exp() / logits.iter().map(|logit| logit.exp()).sum::<f64>()
    };
    let mut numbers = BTreeSet::new();
    for threshold in [0.2, 0.5, 0.8] {
        let classes = json!({"same_answer": {"classifier": classifier.reference(),
            "threshold": threshold}});
        let quality = json!({"by": "gold", "good": -0.5, "classes": classes});
        let made = make("evaluate", config(&dataset, &methods, &quality));
        let graded: Vec<Graded> = made.rows("quality.jsonl");
        for one in graded.iter().filter(|one| one.method != "ppo") {
            let row: usize = one.id.trim_start_matches("row-").parse().unwrap();
            let texts: Vec<String> = golden().samples[&one.method][&row][..one.classes.len()]
                .iter()
                .map(|text| text.trim().to_owned())
                .collect();
            let mut first: Vec<&String> = Vec::new();
            let mut expected = Vec::new();
            for text in &texts {
                let count = |text: &str| text.split(' ').count();
                let is_same = |member: &&String| {
                    if *member == text {
                        return true;
                    }
                    if count(member).max(count(text)) <= 5 {
                        let other: Vec<&str> = text.split(' ').collect();
                        let words: BTreeSet<&str> = member.split(' ').collect();
                        let shared = words.iter().filter(|word| other.contains(word)).count();
                        return 2 * shared >= count(member).max(count(text));
                    }
                    (one_order(member, text) + one_order(text, member)) / 2.0 > threshold
                };
                let class = first.iter().position(is_same);
                expected.push(class.unwrap_or(first.len()));
                if class.is_none() {
                    first.push(text);
                }
            }
            assert_eq!(one.classes, expected, "{} of {}, above {threshold}", one.id, one.method);
        }
        numbers
            .insert(graded.iter().map(|one| one.classes.iter().max().unwrap() + 1).sum::<usize>());
    }
    assert!(numbers.len() > 1, "the threshold changes classes: {numbers:?}");
}

#[test]
fn a_classifier_of_other_labels_and_a_threshold_out_of_range_are_refused() {
    let (_folder, dataset, methods) = inputs();
    let classifier = same_answer(["alike", "different"]);
    let quality = |threshold: f64| {
        json!({"by": "gold", "good": -0.5, "classes": {"same_answer":
            {"classifier": classifier.reference(), "threshold": threshold}}})
    };
    let message = refusal("evaluate", config(&dataset, &methods, &quality(0.5)));
    assert!(message.contains("has the labels alike, different"), "{message}");
    assert!(message.contains("two, `same` and `different`"), "{message}");
    let found = problems("evaluate", config(&dataset, &methods, &quality(1.0)));
    assert_eq!(found[0].field, "quality.classes.same_answer.threshold");
}
