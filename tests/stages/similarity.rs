//! `similarity` of `evaluate`, against cosines that are computed here pair by pair.

use posttrain::artefacts::comparisons::{Between, Comparisons};
use posttrain::artefacts::table::{Row, Table};
use posttrain::eval::interval::{Interval, Kind};
use serde_json::{Value, json};

use super::bench::{Made, make, problems};
use super::fixture::{example, fixture, jsonl, write};
use super::optimum::cosine;

/// Rows of the test set, from 70 on.
const ROWS: usize = 9;

/// What a method says of an input.
type Says = fn(usize) -> Vec<&'static str>;

/// Two things, three times and once.
fn few(_: usize) -> Vec<&'static str> {
    vec!["my boss lost it .", "my boss lost it .", "my boss lost it .", "sue him ?"]
}

/// Another thing of every other input.
fn many(at: usize) -> Vec<&'static str> {
    match at % 3 {
        0 => vec!["should i sue ?", "my boss lost a badge .", "no"],
        1 => vec!["a badge , a laptop and a boss", "wait"],
        _ => vec!["my boss lost it .", "my boss lost it now ."],
    }
}

/// One sample, and none of the last row.
fn one(at: usize) -> Vec<&'static str> {
    if at + 1 == ROWS { Vec::new() } else { vec!["my boss sold it ."] }
}

const METHODS: [(&str, Says); 3] = [("few", few), ("many", many), ("one", one)];

fn evaluated(similarity: Value, more: Value) -> (tempfile::TempDir, Value) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| json!({"$path": folder.path().join(name)});
    write(&folder.path().join("dataset/test/id.jsonl"), &jsonl((70..70 + ROWS).map(example)));
    for (name, says) in METHODS {
        let row = |place: usize| {
            let output = |text: &&str| json!({"text": text, "tokens": [5, 1], "logprob": -1.0, "ended": true});
            json!({"split": "test/id", "id": format!("row-{}", 70 + place),
                "prompt": example(70 + place)["prompt"], "temperature": 1.0,
                "outputs": says(place).iter().map(output).collect::<Vec<Value>>()})
        };
        let rows = (0..ROWS).filter(|place| !says(*place).is_empty()).map(row);
        write(&folder.path().join(name).join("samples.jsonl"), &jsonl(rows));
    }
    let methods = METHODS.map(|(name, _)| json!({"name": name, "samples": at(name)}));
    let mut config =
        json!({"dataset": at("dataset"), "methods": methods, "similarity": similarity});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    (folder, config)
}

fn alike(a: &str, b: &str) -> f64 {
    (cosine(a, b, 1) + cosine(a, b, 2)) / 2.0
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn within(texts: &[&str]) -> Option<f64> {
    let mut pairs = Vec::new();
    for (at, a) in texts.iter().enumerate() {
        pairs.extend(texts[at + 1..].iter().map(|b| alike(a, b)));
    }
    (!pairs.is_empty()).then(|| mean(&pairs))
}

fn between(a: &[&str], b: &[&str]) -> Option<f64> {
    let pairs: Vec<f64> = a.iter().flat_map(|a| b.iter().map(|b| alike(a, b))).collect();
    (!pairs.is_empty()).then(|| mean(&pairs))
}

fn figure(made: &Made, method: &str, metric: &str) -> Interval {
    let table: Table = serde_json::from_str(&made.text("table.json")).unwrap();
    let found = |row: &&Row| row.method == method && row.metric == metric;
    table.rows.iter().find(found).unwrap_or_else(|| panic!("{metric} of {method}")).figure
}

fn is(found: Interval, expected: &[f64]) {
    assert!((found.mean - mean(expected)).abs() < 1e-12, "{found:?} for {expected:?}");
    assert_eq!(found.n, expected.len());
}

#[test]
fn similarities_are_means_over_pairs_within_and_between_methods() {
    let threshold = 0.4;
    let (_folder, config) = evaluated(json!({"threshold": threshold}), json!({}));
    let made = make("evaluate", config);
    let compared: Comparisons = serde_json::from_str(&made.text("comparisons.json")).unwrap();
    let above = |values: &[f64]| -> Vec<f64> {
        values.iter().map(|value| f64::from(u8::from(*value > threshold))).collect()
    };
    for (name, says) in &METHODS[..2] {
        let values: Vec<f64> = (0..ROWS).filter_map(|at| within(&says(at))).collect();
        is(figure(&made, name, "ngram_similarity"), &values);
        let high = figure(&made, name, "ngram_similarity_high");
        is(high, &above(&values));
        assert_eq!(high.kind, Kind::Wilson);
    }
    let pairs: Vec<(&str, &str)> =
        compared.between.iter().map(|of| (of.method.as_str(), of.with.as_str())).collect();
    assert_eq!(pairs, [("many", "few"), ("one", "few"), ("one", "many")]);
    for of in &compared.between {
        let says = |name: &str| METHODS.iter().find(|method| method.0 == name).unwrap().1;
        let (a, b) = (says(&of.method), says(&of.with));
        let values: Vec<f64> = (0..ROWS).filter_map(|at| between(&a(at), &b(at))).collect();
        is(of.similarity, &values);
        is(of.high, &above(&values));
        let distance = |at: usize| {
            let inside = (within(&a(at))? + within(&b(at))?) / 2.0;
            Some(inside - between(&a(at), &b(at))?)
        };
        let distances: Vec<f64> = (0..ROWS).filter_map(distance).collect();
        match of.apart {
            Some(apart) => is(apart, &distances),
            None => assert!(distances.is_empty() && of.method == "one"),
        }
    }
    let note = "Left out: `ngram_similarity`, `ngram_similarity_high` of `one`: no input has two of \
        its samples.";
    assert!(made.text("left_out.json").contains(note), "{}", made.text("left_out.json"));
    // No input has two samples of every method, so methods are not compared by it.
    assert!(compared.differences.iter().all(|of| of.metric != "ngram_similarity"));
    let text = made.text("table.md");
    for words in ["ngram_similarity_between", "many with few", "ngram_similarity_apart"] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

/// Methods are compared over the inputs of which all have two samples; embeddings give what
/// `embedding_per_input` is the complement of.
#[test]
fn similarity_by_embeddings_is_the_complement_of_their_distance() {
    let diversity = json!({"metrics": ["embedding"], "encoder": fixture().at("policy")});
    let by = json!({"by": "embeddings"});
    let (_folder, mut config) = evaluated(by, json!({"diversity": diversity}));
    config["methods"].as_array_mut().unwrap().pop();
    let made = make("evaluate", config);
    for method in ["few", "many"] {
        let distance = figure(&made, method, "embedding_per_input").mean;
        let found = figure(&made, method, "embedding_similarity").mean;
        assert!((found - (1.0 - distance)).abs() < 1e-9, "{found} and {distance}");
    }
    let compared: Comparisons = serde_json::from_str(&made.text("comparisons.json")).unwrap();
    let of = |metric: &str| compared.differences.iter().find(|of| of.metric == metric).unwrap();
    let found = of("embedding_similarity");
    let [few, many] =
        ["few", "many"].map(|method| figure(&made, method, "embedding_similarity").mean);
    assert!((found.interval.mean - (many - few)).abs() < 1e-12 && found.interval.n == ROWS);
    let Between { metric, similarity, .. } = &compared.between[0];
    assert!(metric == "embedding_similarity" && similarity.mean < 1.0, "{similarity:?}");
}

#[test]
fn fields_that_do_not_fit_are_refused() {
    let refused = |similarity: Value, field: &str| {
        let (_folder, config) = evaluated(similarity, json!({}));
        let found = problems("evaluate", config);
        assert!(found.iter().any(|problem| problem.field == field), "{field}: {found:?}");
    };
    refused(json!({"by": "embeddings"}), "similarity.by");
    refused(json!({"threshold": 1.5}), "similarity.threshold");
    let (_folder, mut config) = evaluated(json!({}), json!({}));
    config["methods"] = json!([{"name": "m", "outputs": fixture().at("outputs")}]);
    assert!(problems("evaluate", config).iter().any(|problem| problem.field == "similarity"));
}
