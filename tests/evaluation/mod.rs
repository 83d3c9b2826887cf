//! Measures of samples: `posttrain diversity` against independent programs (independent.py), and what it refuses.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::place::Place;

const ROWS: &str = include_str!("golden.jsonl");
const GOLDEN: &str = include_str!("golden.json");

fn measured(place: &Place, options: &[&str]) -> Value {
    let arguments = [&["diversity", "--input", "rows.jsonl", "--json"], options].concat();
    serde_json::from_str(&place.good(&arguments).out).unwrap()
}

#[test]
fn measures_of_words_are_those_of_independent_programs() {
    let place = Place::new("");
    place.write("rows.jsonl", ROWS);
    let (found, golden) = (measured(&place, &[]), serde_json::from_str::<Value>(GOLDEN).unwrap());
    for (metric, expected) in golden.as_object().unwrap() {
        // Another compressor than Python's.
        let tolerance = if metric == "compression" { 0.01 } else { 1e-9 };
        let close = |found: &Value, expected: &Value| {
            let (found, expected) = (found.as_f64().unwrap(), expected.as_f64().unwrap());
            assert!((found / expected - 1.0).abs() < tolerance, "{metric}: {found} for {expected}");
        };
        close(&found[metric]["per_input"]["mean"], &expected["per_input"]);
        close(&found[metric]["across_inputs"]["first"], &expected["across_inputs"]);
    }
    assert_eq!((&found["inputs"], &found["outputs"]), (&12.into(), &72.into()));
}

#[test]
fn the_paper_s_golden_values_come_out() {
    let place = Place::new("");
    let fruit = r#"{"outputs": ["I like to eat apples.", "I like to eat bananas.", "I like to eat oranges."]}"#;
    let cat = format!(r#"{{"outputs": [{}]}}"#, [r#""the cat sat on the mat today""#; 16].join(", "));
    let letters = r#"{"outputs": ["a b", "a b c"]}"#;
    for (row, expected) in [(fruit, 0.637821), (&cat, 0.060761), (letters, 0.453341)] {
        place.write("rows.jsonl", row);
        let found = measured(&place, &["--metrics", "ead"]);
        assert!((found["ead"]["per_input"]["mean"].as_f64().unwrap() - expected).abs() < 1e-6, "{found}");
    }
}

#[test]
fn token_ids_are_words_and_a_tokenizer_gives_its_own_v() {
    let place = Place::new("");
    place.write("rows.jsonl", "{\"outputs\": [[5, 6], [5, 6, 7]]}\n");
    let ids = measured(&place, &["--metrics", "ead,length"]);
    assert!((ids["ead"]["per_input"]["mean"].as_f64().unwrap() - 0.453341).abs() < 1e-6);
    assert_eq!(ids["length"]["per_input"]["mean"], 2.5);
    let said = place.say(&["diversity", "--input", "rows.jsonl", "--metrics", "ead_tokenizer"]);
    assert_eq!((said.code, said.err.as_str()), (2, "error: `ead_tokenizer` needs --tokenizer\n"));
}

/// A copy of a model of `tests/model/golden` with a tokenizer of a few words, and names for its labels.
fn model_with_words(place: &Place, name: &str) {
    std::fs::create_dir(place.path(name)).unwrap();
    for file in ["config.json", "model.safetensors"] {
        let bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/model/golden").join(name).join(file)).unwrap();
        std::fs::write(place.path(&format!("{name}/{file}")), bytes).unwrap();
    }
    let mut config: Value = serde_json::from_str(&place.read(&format!("{name}/config.json"))).unwrap();
    config["id2label"] = json!({"0": "NEUTRAL", "1": "contradiction", "2": "entailment"});
    place.write(&format!("{name}/config.json"), &config.to_string());
    let words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", ".", "a", "cat", "dog", "runs", "sleeps", "o", "t", "d", "g", "r", "u", "n", "s", "c"];
    let vocabulary: serde_json::Map<String, Value> = words.iter().enumerate().map(|(id, word)| (word.to_string(), id.into())).collect();
    let special = |id: u32, word: &str| json!({"id": id, "content": word, "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false});
    let piece = |word: &str, kind: u32| json!({"SpecialToken": {"id": word, "type_id": kind}});
    let text = |id: &str, kind: u32| json!({"Sequence": {"id": id, "type_id": kind}});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "decoder": null,
        "added_tokens": [special(0, "[PAD]"), special(1, "[CLS]"), special(2, "[SEP]"), special(3, "[UNK]")],
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [piece("[CLS]", 0), text("A", 0), piece("[SEP]", 0)],
            "pair": [piece("[CLS]", 0), text("A", 0), piece("[SEP]", 0), text("B", 1), piece("[SEP]", 1)],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]}, "[SEP]": {"id": "[SEP]", "ids": [2], "tokens": ["[SEP]"]}}}
    });
    place.write(&format!("{name}/tokenizer.json"), &tokenizer.to_string());
}

/// Answers of a command on rows of a model.
fn answers(place: &Place, command: &str, model: &str, rows: &[Value]) -> Vec<Value> {
    place.write("asked.jsonl", &rows.iter().map(|row| format!("{row}\n")).collect::<String>());
    let said = place.good(&[command, "--model", model, "--input", "asked.jsonl", "--dtype", "f64"]);
    said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

const SENTENCES: [&str; 3] = ["a cat sleeps", "a dog runs", "a dog sleeps"];

#[test]
fn distances_of_embeddings_are_those_of_the_vectors_that_embed_prints() {
    let place = Place::new("");
    model_with_words(&place, "bert");
    let rows: Vec<Value> = SENTENCES.iter().map(|text| json!({"text": text})).collect();
    let vectors: Vec<Vec<f64>> = answers(&place, "embed", "bert", &rows).iter().map(|answer| numbers(&answer["embedding"])).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let distance = |i: usize, j: usize| {
        let (a, b) = (&vectors[i], &vectors[j]);
        1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    // The second input's outputs are equal.
    place.write("rows.jsonl", &format!("{}\n{}\n", json!({"outputs": SENTENCES}), json!({"outputs": [SENTENCES[1], SENTENCES[1]]})));
    let found = measured(&place, &["--encoder", "bert", "--metrics", "embedding,embedding_vendi"]);
    let expected = (distance(0, 1) + distance(0, 2) + distance(1, 2)) / 3.0 / 2.0;
    let (each, across) = (&found["embedding"]["per_input"], &found["embedding"]["across_inputs"]);
    assert!((each["mean"].as_f64().unwrap() - expected).abs() < 1e-5, "{found}");
    assert!((across["first"].as_f64().unwrap() - distance(0, 1)).abs() < 1e-5, "{found}");
    assert!(found["embedding_vendi"]["per_input"]["mean"].as_f64().unwrap() > 1.0, "{found}");
}

#[test]
fn inference_adds_both_orders_of_a_pair_by_the_likeliest_label() {
    let place = Place::new("");
    model_with_words(&place, "bert_classifier");
    let pairs: Vec<(usize, usize)> = vec![(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)];
    let rows: Vec<Value> =
        pairs.iter().map(|(a, b)| json!({"text": format!("{}.", SENTENCES[*a]), "text_pair": format!("{}.", SENTENCES[*b])})).collect();
    let signed = |answer: &Value| {
        let logits = numbers(&answer["logits"]);
        let probability = answer["label"]
            .as_str()
            .map(|label| ["NEUTRAL", "contradiction", "entailment"].iter().position(|name| name == &label).unwrap());
        let best = probability.unwrap();
        [0.0, 1.0, -1.0][best] / logits.iter().map(|logit| (logit - logits[best]).exp()).sum::<f64>()
    };
    let sums: f64 = answers(&place, "classify", "bert_classifier", &rows).iter().map(signed).sum();
    place.write("rows.jsonl", &format!("{}\n", json!({"outputs": SENTENCES})));
    let found = measured(&place, &["--nli", "bert_classifier", "--metrics", "nli,nli_released,nli_released_sampled"]);
    let mean = |metric: &str| found[metric]["per_input"]["mean"].as_f64().unwrap();
    assert!((mean("nli") - sums / 3.0).abs() < 1e-5 && sums.abs() > 0.01, "{found}");
    assert!((mean("nli_released") - (1.0 - sums / 3.0)).abs() < 1e-5, "{found}");
    assert!((0.6..=1.4).contains(&mean("nli_released_sampled")) && mean("nli_released_sampled") != 1.0, "{found}");
}

#[test]
fn mistakes_name_the_row() {
    let place = Place::new("");
    for (rows, words) in [("{\"outputs\": []}", "row 1: `outputs` is empty"), ("{\"output\": [\"a\"]}", "row 1"), ("", "has no rows")] {
        place.write("rows.jsonl", rows);
        let said = place.say(&["diversity", "--input", "rows.jsonl"]);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{}", said.err);
        assert!(said.err.contains(words), "{}", said.err);
    }
}
