//! Measures of samples: `posttrain diversity` against independent programs (independent.py), and
//! what it refuses.

#![expect(clippy::unwrap_used)]

mod coverage;
mod seeds;

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::place::Place;
use crate::stages::fixture::{jsonl, write};

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
    let cat =
        format!(r#"{{"outputs": [{}]}}"#, [r#""the cat sat on the mat today""#; 16].join(", "));
    let letters = r#"{"outputs": ["a b", "a b c"]}"#;
    for (row, expected) in [(fruit, 0.637821), (&cat, 0.060761), (letters, 0.453341)] {
        place.write("rows.jsonl", row);
        let found = measured(&place, &["--metrics", "ead"]);
        assert!(
            (found["ead"]["per_input"]["mean"].as_f64().unwrap() - expected).abs() < 1e-6,
            "{found}"
        );
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

/// A copy of a model of `tests/model/golden` in a folder, with a tokenizer of a few words, and
/// names for its labels.
pub fn model_with_words(folder: &Path, name: &str) {
    let folder = folder.join(name);
    std::fs::create_dir(&folder).unwrap();
    for file in ["config.json", "model.safetensors"] {
        let bytes = std::fs::read(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/model/golden").join(name).join(file),
        )
        .unwrap();
        std::fs::write(folder.join(file), bytes).unwrap();
    }
    let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["id2label"] = json!({"0": "NEUTRAL", "1": "contradiction", "2": "entailment"});
    write(&folder.join("config.json"), &config.to_string());
    let letters = [
        "[PAD]", "[CLS]", "[SEP]", "[UNK]", ".", "a", "cat", "dog", "runs", "sleeps", "o", "t",
        "d", "g", "r", "u", "n", "s", "c",
    ];
    let more = [
        "the", "on", "mat", "ran", "fast", "slow", "big", "small", "red", "blue", "up", "down",
        "in", "out", "eats", "jumps", "sings", "naps",
    ];
    let words = letters.iter().chain(&more);
    let vocabulary: serde_json::Map<String, Value> =
        words.enumerate().map(|(id, word)| (word.to_string(), id.into())).collect();
    let special = |id: u32, word: &str| json!({"id": id, "content": word, "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false});
    let piece = |word: &str, kind: u32| json!({"SpecialToken": {"id": word, "type_id": kind}});
    let text = |id: &str, kind: u32| json!({"Sequence": {"id": id, "type_id": kind}});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "decoder": null,
        "added_tokens": [special(0, "[PAD]"), special(1, "[CLS]"), special(2, "[SEP]"),
            special(3, "[UNK]")],
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [piece("[CLS]", 0), text("A", 0), piece("[SEP]", 0)],
            "pair": [piece("[CLS]", 0), text("A", 0), piece("[SEP]", 0), text("B", 1),
                piece("[SEP]", 1)],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]},
                "[SEP]": {"id": "[SEP]", "ids": [2], "tokens": ["[SEP]"]}}}
    });
    write(&folder.join("tokenizer.json"), &tokenizer.to_string());
    write(
        &folder.join("tokenizer_config.json"),
        "{\"eos_token\": \"[SEP]\", \"pad_token\": \"[PAD]\"}",
    );
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
    model_with_words(&place.path(""), "bert");
    let rows: Vec<Value> = SENTENCES.iter().map(|text| json!({"text": text})).collect();
    let vectors: Vec<Vec<f64>> = answers(&place, "embed", "bert", &rows)
        .iter()
        .map(|answer| numbers(&answer["embedding"]))
        .collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let distance = |i: usize, j: usize| {
        let (a, b) = (&vectors[i], &vectors[j]);
        1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    // The second input's outputs are equal.
    place.write(
        "rows.jsonl",
        &format!(
            "{}\n{}\n",
            json!({"outputs": SENTENCES}),
            json!({"outputs": [SENTENCES[1], SENTENCES[1]]})
        ),
    );
    let found = measured(&place, &["--encoder", "bert", "--metrics", "embedding,embedding_vendi"]);
    let expected = (distance(0, 1) + distance(0, 2) + distance(1, 2)) / 3.0 / 2.0;
    let (each, across) = (&found["embedding"]["per_input"], &found["embedding"]["across_inputs"]);
    assert!((each["mean"].as_f64().unwrap() - expected).abs() < 1e-5, "{found}");
    assert!((across["first"].as_f64().unwrap() - distance(0, 1)).abs() < 1e-5, "{found}");
    assert!(found["embedding_vendi"]["per_input"]["mean"].as_f64().unwrap() > 1.0, "{found}");
}

/// A sentence encoder's files name its pooling by a truth value each or, since
/// sentence-transformers 5.4, by text.
#[test]
fn a_pooling_that_is_named_by_text_is_the_one_that_a_flag_names() {
    let place = Place::new("");
    model_with_words(&place.path(""), "bert");
    let rows: Vec<Value> = SENTENCES.iter().map(|text| json!({"text": text})).collect();
    let modules = json!([
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling",
            "type": "sentence_transformers.models.Pooling"}]);
    place.write("bert/modules.json", &modules.to_string());
    std::fs::create_dir(place.path("bert/1_Pooling")).unwrap();
    let pooled = |config: Value| {
        place.write("bert/1_Pooling/config.json", &config.to_string());
        answers(&place, "embed", "bert", &rows)
    };
    let mean = pooled(json!({"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": false}));
    let cls = pooled(json!({"pooling_mode_cls_token": true}));
    assert_ne!(mean, cls);
    for (config, expected) in [
        (json!({"pooling_mode": "mean", "include_prompt": true}), &mean),
        (json!({"pooling_mode": ["mean"]}), &mean),
        (json!({"pooling_mode": "cls"}), &cls),
    ] {
        assert_eq!(pooled(config.clone()), *expected, "{config}");
    }
    for (config, named) in [
        (json!({"pooling_mode": "lasttoken"}), "names the pooling \"lasttoken\""),
        (json!({"pooling_mode": ["mean", "max"]}), "names the pooling \"mean, max\""),
        (json!({"pooling_mode": [null]}), "names the pooling \"null\""),
        (json!({"pooling_mode_max_tokens": true}), "names the pooling \"pooling_mode_max_tokens\""),
        (json!({"word_embedding_dimension": 16}), "names no pooling"),
    ] {
        place.write("bert/1_Pooling/config.json", &config.to_string());
        let said = place.say(&["embed", "--model", "bert", "--input", "asked.jsonl"]);
        assert!(said.code == 2 && said.err.contains(named), "{config}: {}", said.err);
        assert!(said.err.contains("1_Pooling/config.json"), "{}", said.err);
    }
}

#[test]
fn inference_adds_both_orders_of_a_pair_by_the_likeliest_label() {
    let place = Place::new("");
    model_with_words(&place.path(""), "bert_classifier");
    let pairs: Vec<(usize, usize)> = vec![(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)];
    let rows: Vec<Value> = pairs
        .iter()
        .map(|(a, b)| {
            json!({"text": format!("{}.", SENTENCES[*a]),
                "text_pair": format!("{}.", SENTENCES[*b])})
        })
        .collect();
    let signed = |answer: &Value| {
        let logits = numbers(&answer["logits"]);
        let probability = answer["label"].as_str().map(|label| {
            ["NEUTRAL", "contradiction", "entailment"]
                .iter()
                .position(|name| name == &label)
                .unwrap()
        });
        let best = probability.unwrap();
        [0.0, 1.0, -1.0][best]
            / logits.iter().map(|logit| (logit - logits[best]).exp()).sum::<f64>()
    };
    let sums: f64 = answers(&place, "classify", "bert_classifier", &rows).iter().map(signed).sum();
    place.write("rows.jsonl", &format!("{}\n", json!({"outputs": SENTENCES})));
    let found = measured(
        &place,
        &["--nli", "bert_classifier", "--metrics", "nli,nli_released,nli_released_sampled"],
    );
    let mean = |metric: &str| found[metric]["per_input"]["mean"].as_f64().unwrap();
    assert!((mean("nli") - sums / 3.0).abs() < 1e-5 && sums.abs() > 0.01, "{found}");
    assert!((mean("nli_released") - (1.0 - sums / 3.0)).abs() < 1e-5, "{found}");
    assert!(
        (0.6..=1.4).contains(&mean("nli_released_sampled")) && mean("nli_released_sampled") != 1.0,
        "{found}"
    );
}

/// An evaluation of what a small model of words says, with sentence embeddings and inference, and a
/// classifier of pairs that is fine-tuned.
const PIPELINE: &str = "stages:
  posts: {uses: dataset, source: {files: {test/x: {path: posts.jsonl, prompt: \"{p}\", completion: \" {c}\", id: i}}}}
  pairs: {uses: dataset, source: {contrast: {dataset: posts, splits: {preferences: test/x}, kinds: [cut]}}}
  base: {uses: model, path: llama}
  rm: {uses: reward_model, policy: base, dataset: pairs, batch_size: 2, optimiser: {learning_rate: 0.01}}
  samples: {uses: generate, policy: base, dataset: posts, samples: 3, sampling: {max_new_tokens: 6}}
  inference: {uses: classifier, encoder: bert, frozen: 0, train: nli.jsonl, test: nli.jsonl, hidden: 8, epochs: 4, batch_size: 4, optimiser: {learning_rate: 0.01}}
  evaluation:
    uses: evaluate
    dataset: posts
    reward_model: rm
    reference_policy: base
    judge: reward_model
    on_leak: allow
    diversity: {metrics: [ead, embedding, embedding_vendi, nli, nli_released, nli_released_sampled], encoder: bert, INFERENCE}
    methods: [{name: base, outputs: samples, samples: samples}]
    seed: 3
";

fn tiny(inference: &str) -> Place {
    let place = Place::new(&PIPELINE.replace("INFERENCE", inference));
    ["llama", "bert", "bert_classifier"]
        .iter()
        .for_each(|name| model_with_words(&place.path(""), name));
    let subjects = ["cat", "dog", "mat"];
    place.write(
        "posts.jsonl",
        &jsonl((0..3).map(|at| {
            json!({"i": format!("{at}"),
            "p": format!("the {} runs", subjects[at]),
            "c": format!("a {} sleeps on the mat", subjects[at])})
        })),
    );
    let labels = ["entailment", "neutral", "contradiction"];
    let pair = |at: usize| {
        json!({"premise": format!("a {} runs", subjects[at % 3]),
        "hypothesis": format!("the {} naps", subjects[at / 3 % 3]),
        "label": labels[(at + at / 3) % 3]})
    };
    place.write("nli.jsonl", &jsonl((0..9).map(pair)));
    place
}

#[test]
fn an_evaluation_measures_embeddings_and_inference_as_diversity_does() {
    for (inference, stage) in
        [("nli: bert_classifier", None), ("classifier: inference", Some("inference"))]
    {
        let place = tiny(inference);
        place.good(&["run", "p.yaml"]);
        let found: Value =
            serde_json::from_str(&place.made("evaluation", "diversity.json")).unwrap();
        let found = &found[0];
        assert_eq!((&found["method"], &found["test_set"]), (&json!("base"), &json!("x")));
        let samples: Vec<Value> = place
            .made("samples", "samples.jsonl")
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let texts = |row: &Value| {
            row["outputs"]
                .as_array()
                .unwrap()
                .iter()
                .map(|output| output["text"].clone())
                .collect::<Vec<Value>>()
        };
        place.write("rows.jsonl", &jsonl(samples.iter().map(|row| json!({"outputs": texts(row)}))));
        let nli = stage.map_or("bert_classifier".to_owned(), |stage| {
            place.artefact(stage).display().to_string()
        });
        let metrics = "ead,embedding,embedding_vendi,nli,nli_released,nli_released_sampled";
        let length = found["matched_length"].to_string();
        let measured = measured(
            &place,
            &[
                "--encoder",
                "bert",
                "--nli",
                &nli,
                "--metrics",
                metrics,
                "--length",
                &length,
                "--seed",
                "3",
            ],
        );
        for metric in
            metrics.split(',').flat_map(|metric| [metric.to_owned(), format!("{metric}_matched")])
        {
            assert_eq!(
                found["metrics"][&metric]["per_input"], measured[&metric]["per_input"],
                "{metric}"
            );
            assert_eq!(
                found["metrics"][&metric]["across_inputs"], measured[&metric]["across_inputs"],
                "{metric}"
            );
        }
        assert!(
            measured["embedding"]["per_input"]["mean"].as_f64().unwrap() > 1e-3
                && measured["nli"]["per_input"]["mean"] != 0.0,
            "{measured}"
        );
        let table: Value = serde_json::from_str(&place.made("evaluation", "table.json")).unwrap();
        let row = |metric: &str| {
            table["rows"]
                .as_array()
                .unwrap()
                .iter()
                .find(|row| row["metric"] == metric && row["method"] == "base")
                .unwrap()
                .clone()
        };
        assert_eq!(row("embedding_per_input")["mean"], measured["embedding"]["per_input"]["mean"]);
        assert_eq!(row("nli_across_inputs")["mean"], measured["nli"]["across_inputs"]["mean"]);
    }
}

#[test]
fn a_metric_without_its_model_is_found_when_the_pipeline_is_planned() {
    for (inference, said) in [
        ("classifier: inference, nli: bert_classifier", "expected `nli` or `classifier`, not both"),
        ("nli: null", "`nli` needs `nli`"),
    ] {
        let plan = tiny(inference).say(&["plan", "p.yaml"]);
        assert!(plan.code == 2 && plan.err.contains(said), "{}", plan.err);
    }
}

#[test]
fn a_tuned_classifier_is_a_model_that_classify_reads() {
    let place = tiny("classifier: inference");
    place.good(&["run", "p.yaml", "inference"]);
    let folder = place.artefact("inference");
    let pairs: Vec<Value> =
        place.read("nli.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let rows: Vec<Value> = pairs
        .iter()
        .map(|pair| {
            json!({"text": pair["premise"], "text_pair": pair["hypothesis"],
            "gold": pair["label"]})
        })
        .collect();
    let answers = answers(&place, "classify", &folder.display().to_string(), &rows);
    let right =
        answers.iter().filter(|answer| answer["label"] == answer["gold"]).count() as f64 / 9.0;
    let accuracy: Value = serde_json::from_str(&place.made("inference", "accuracy.json")).unwrap();
    assert!((accuracy["accuracy"]["mean"].as_f64().unwrap() - right).abs() < 1e-12, "{right}");
    assert_ne!(
        std::fs::read(folder.join("model.safetensors")).unwrap(),
        std::fs::read(place.path("bert/model.safetensors")).unwrap()
    );
    place.write("asked.jsonl", "{\"text\": \"a cat runs\"}\n");
    let said = place.say(&[
        "classify",
        "--model",
        &folder.display().to_string(),
        "--input",
        "asked.jsonl",
    ]);
    assert!(
        said.code == 2 && said.err.contains("row 1: expected `text` and `text_pair`"),
        "{}",
        said.err
    );
}

#[test]
fn mistakes_name_the_row() {
    let place = Place::new("");
    for (rows, words) in [
        ("{\"outputs\": []}", "row 1: `outputs` is empty"),
        ("{\"output\": [\"a\"]}", "row 1"),
        ("", "has no rows"),
    ] {
        place.write("rows.jsonl", rows);
        let said = place.say(&["diversity", "--input", "rows.jsonl"]);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{}", said.err);
        assert!(said.err.contains(words), "{}", said.err);
    }
}
