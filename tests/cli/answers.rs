//! What `score`, `generate`, `embed` and `classify` answer where a model is odd: special tokens
//! within a text, numbers that are none; and where answers go: links, pipes and devices.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use serde_json::{Value, json};

use super::chained::Chained;
use super::place::{Place, Said};

const PLAIN: Chained<'static> = Chained {
    tokens: &[],
    specials: &["<|turn|>", "<|pad|>", "<eos>"],
    written: &["i", "<|turn|>", "j", "<|pad|>", "k", "<eos>"],
    config: Value::Null,
};

/// A place with this model in `model` and `h` in `rows.jsonl`.
fn place(config: Value, change: impl Fn(&str, &mut [f32])) -> Place {
    let place = Place::new("");
    Chained { config, ..PLAIN }.save(&place.path("model"), change);
    place.write("rows.jsonl", "{\"text\": \"h\", \"note\": 1}\n{\"text\": \"hi\", \"note\": 2}\n");
    place.write("prompts.jsonl", "{\"prompt\": \"h\"}\n");
    place
}

fn generate(place: &Place, more: &[&str]) -> Value {
    let said = place.good(
        &[
            &["generate", "--model", "model", "--input", "prompts.jsonl", "--temperature", "0"],
            more,
        ]
        .concat(),
    );
    serde_json::from_str(said.out.trim()).unwrap()
}

#[test]
fn a_generated_text_is_without_special_tokens_and_keeps_them_as_tokens() {
    let place = place(json!({}), |_, _| {});
    let answer = generate(&place, &["--max-new-tokens", "10"]);
    let ids: Vec<usize> = PLAIN.written.iter().map(|token| PLAIN.id(token)).collect();
    assert_eq!(
        (&answer["text"], &answer["tokens"], &answer["finish"]),
        (&json!("ijk"), &json!(ids), &json!("eos"))
    );
    assert_eq!(answer["logprobs"].as_array().unwrap().len(), 6);
    // A stop text is looked for in what is shown, and may be the name of a special token.
    let stopped = generate(&place, &["--max-new-tokens", "10", "--stop", "ij"]);
    assert_eq!(
        (&stopped["text"], stopped["tokens"].as_array().unwrap().len(), &stopped["finish"]),
        (&json!(""), 3, &json!("stop"))
    );
    let named = generate(&place, &["--max-new-tokens", "10", "--stop", "<|pad|>"]);
    assert_eq!(
        (&named["text"], named["tokens"].as_array().unwrap().len(), &named["finish"]),
        (&json!("ij"), 4, &json!("stop"))
    );
}

#[track_caller]
fn refused(said: &Said, words: &[&str]) {
    assert_eq!((said.code, said.out.as_str()), (2, ""), "{}", said.err);
    assert!(words.iter().all(|word| said.err.contains(word)), "{words:?}: {}", said.err);
    assert!(!said.err.contains("panicked"), "{}", said.err);
}

#[test]
fn a_weight_that_is_not_finite_ends_the_load_with_its_tensor() {
    for (number, shown) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")]
    {
        let place = place(json!({}), |name, numbers| {
            if name.ends_with("q_proj.weight") {
                numbers[19] = number;
            }
        });
        for (command, rows) in
            [("score", "rows.jsonl"), ("generate", "prompts.jsonl"), ("embed", "rows.jsonl")]
        {
            let said = place.say(&[command, "--model", "model", "--input", rows]);
            refused(
                &said,
                &[
                    "`model.layers.0.self_attn.q_proj.weight`",
                    &format!("has {shown} at [2, 3]"),
                    "hint",
                ],
            );
        }
        refused(&place.say(&["serve", "model", "--port", "0"]), &["q_proj", shown]);
    }
}

#[test]
fn a_result_that_is_not_finite_is_an_error_that_names_the_row() {
    // Finite weights whose products are not.
    let large = |name: &str, numbers: &mut [f32]| {
        if ["model.norm.weight", "score.weight"].contains(&name) {
            numbers.fill(3e38);
        }
    };
    let language = place(json!({}), large);
    let score = ["score", "--model", "model", "--input", "rows.jsonl"];
    refused(&language.say(&score), &["row 2", "log-probability", "not finite"]);
    refused(
        &language.say(&["generate", "--model", "model", "--input", "prompts.jsonl"]),
        &["row 1", "new token 1", "not finite"],
    );
    refused(
        &language.say(&["embed", "--model", "model", "--input", "rows.jsonl"]),
        &["row 1", "embedding", "not finite"],
    );
    let reward =
        place(json!({"architectures": ["LlamaForSequenceClassification"], "num_labels": 1}), large);
    refused(
        &reward.say(&["classify", "--model", "model", "--input", "rows.jsonl"]),
        &["row 1", "logit", "not finite"],
    );
}

#[test]
fn an_output_that_is_no_plain_file_is_written_to_and_stays_what_it_is() {
    let place = place(json!({}), |_, _| {});
    let score = |output: &str| {
        place.say(&["score", "--model", "model", "--input", "rows.jsonl", "--output", output])
    };
    let expected = place.good(&["score", "--model", "model", "--input", "rows.jsonl"]).out;
    place.write("real.jsonl", "old");
    std::os::unix::fs::symlink("real.jsonl", place.path("link.jsonl")).unwrap();
    assert_eq!((score("link.jsonl").code, place.read("real.jsonl")), (0, expected.clone()));
    assert!(place.path("link.jsonl").is_symlink());
    let pipe = place.path("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
        .unwrap();
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::read_to_string(pipe).unwrap()
    });
    assert_eq!((score("pipe").code, reader.join().unwrap()), (0, expected.clone()));
    assert!(std::fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
    assert_eq!(score("/dev/stdout").out, expected);
    assert_eq!(score("/dev/null").code, 0);
    assert!(std::fs::metadata(Path::new("/dev/null")).unwrap().file_type().is_char_device());
    let folder = score("model");
    assert!(folder.code == 2 && folder.err.contains("is a folder"), "{}", folder.err);
}
