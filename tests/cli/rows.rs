//! `score`, `generate`, `embed` and `classify`: rows in, rows out, on the tiny models whose numbers
//! PyTorch gave.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::place::{Place, said};

const DECODERS: &[&str] =
    &["opt", "opt_350m", "gpt2", "gpt_neox", "llama", "llama_llama3", "mistral", "qwen2", "qwen3"];

fn golden(variant: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/model/golden").join(variant)
}

fn expected(variant: &str) -> Value {
    serde_json::from_slice(&std::fs::read(golden(variant).join("golden.json")).unwrap()).unwrap()
}

/// A tensor of the golden numbers.
fn numbers(variant: &str, name: &str) -> Vec<f64> {
    let bytes = std::fs::read(golden(variant).join("golden.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let data = tensors.tensor(name).unwrap().data().to_vec();
    data.chunks_exact(8).map(|word| f64::from_le_bytes(word.try_into().unwrap())).collect()
}

/// A place with rows in `rows.jsonl`.
fn place(rows: &[Value]) -> Place {
    let place = Place::new("");
    place.write("rows.jsonl", &rows.iter().map(|row| format!("{row}\n")).collect::<String>());
    place
}

fn token_rows(variant: &str) -> Vec<Value> {
    expected(variant)["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tokens| json!({"tokens": tokens}))
        .collect()
}

/// What a command prints about the rows.
fn ask(place: &Place, command: &str, variant: &str, more: &[&str]) -> String {
    let folder = golden(variant);
    let arguments =
        [&[command, "--model", folder.to_str().unwrap(), "--input", "rows.jsonl"], more].concat();
    place.good(&arguments).out
}

fn rows(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn list(row: &Value, field: &str) -> Vec<f64> {
    row[field].as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

#[track_caller]
fn close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    let scale = expected.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
    assert_eq!(found.len(), expected.len(), "{what}");
    let worst = found
        .iter()
        .zip(expected)
        .map(|(found, expected)| (found - expected).abs() / scale)
        .fold(0.0, f64::max);
    assert!(worst <= tolerance, "{what}: off by {worst}");
}

#[test]
fn score_gives_the_log_probabilities_of_an_independent_program() {
    for variant in DECODERS {
        let place = place(&token_rows(variant));
        for (dtype, tolerance) in [("f64", 1e-9), ("f32", 2e-5)] {
            let answers = rows(&ask(&place, "score", variant, &["--dtype", dtype]));
            let found: Vec<f64> =
                answers.iter().flat_map(|answer| list(answer, "logprobs")).collect();
            close(&found, &numbers(variant, "logprobs"), tolerance, &format!("{variant} {dtype}"));
            assert!(
                answers
                    .iter()
                    .all(|row| list(row, "tokens").len() == list(row, "logprobs").len() + 1)
            );
        }
    }
}

#[test]
fn generate_continues_greedily_as_an_independent_program_does() {
    for variant in DECODERS {
        let greedy = &expected(variant)["greedy"];
        let count = greedy["tokens"].as_array().unwrap().len().to_string();
        let place = place(&[json!({"tokens": greedy["prompt"]})]);
        // The golden program stops at no token.
        let out =
            ask(&place, "generate", variant, &["--temperature", "0", "--max-new-tokens", &count]);
        let answer = &rows(&out)[0];
        let tokens = answer["tokens"].as_array().unwrap();
        assert_eq!(
            tokens.as_slice(),
            &greedy["tokens"].as_array().unwrap()[..tokens.len()],
            "{variant}"
        );
        assert!(
            tokens.len().to_string() == count || answer["finish"] == "eos",
            "{variant}: {answer}"
        );
    }
}

/// A text ends at the first of all tokens that the model's own files name, with a tokenizer or
/// without.
#[test]
fn generate_ends_at_every_end_of_the_generation_configuration() {
    let greedy = &expected("llama")["greedy"];
    let tokens = greedy["tokens"].as_array().unwrap();
    let place = place(&[json!({"tokens": greedy["prompt"]})]);
    std::fs::create_dir(place.path("model")).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(golden("llama").join(file), place.path("model").join(file)).unwrap();
    }
    let last = tokens.iter().position(|token| *token == tokens[2]).unwrap();
    place.write(
        "model/generation_config.json",
        &json!({"eos_token_id": [tokens[tokens.len() - 1], tokens[2]]}).to_string(),
    );
    let count = tokens.len().to_string();
    let arguments = [
        "generate",
        "--model",
        "model",
        "--input",
        "rows.jsonl",
        "--temperature",
        "0",
        "--max-new-tokens",
        &count,
    ];
    let answer = &rows(&place.good(&arguments).out)[0];
    let first =
        tokens.iter().position(|token| *token == tokens[tokens.len() - 1]).unwrap().min(last);
    assert_eq!(
        (answer["tokens"].as_array().unwrap().as_slice(), &answer["finish"]),
        (&tokens[..=first], &json!("eos"))
    );
}

#[test]
fn what_generate_says_of_its_tokens_is_what_score_says_bit_for_bit() {
    for variant in DECODERS {
        let place = place(&[json!({"tokens": [3, 1, 4, 1, 5]}), json!({"tokens": [9]})]);
        let made = rows(&ask(
            &place,
            "generate",
            variant,
            &["--max-new-tokens", "7", "--n", "2", "--seed", "11"],
        ));
        assert_eq!(made.len(), 4);
        let prompts = [json!([3, 1, 4, 1, 5]), json!([9])];
        let whole = made.iter().enumerate().map(|(at, row)| {
            let tokens =
                [prompts[at / 2].as_array().unwrap().as_slice(), row["tokens"].as_array().unwrap()]
                    .concat();
            json!({"tokens": tokens})
        });
        let scored = rows(&ask(&self::place(&whole.collect::<Vec<_>>()), "score", variant, &[]));
        for (at, (made, scored)) in made.iter().zip(&scored).enumerate() {
            let (own, all) =
                (made["logprobs"].as_array().unwrap(), scored["logprobs"].as_array().unwrap());
            assert_eq!(own.as_slice(), &all[all.len() - own.len()..], "{variant}");
            assert_eq!(made["sample"], at % 2);
        }
    }
}

#[test]
fn neither_company_nor_batch_size_changes_a_row() {
    let many: Vec<Value> = (1..20u32)
        .map(|length| {
            let tokens: Vec<u32> = (0..length.min(12)).map(|at| (at * 7 + length) % 30).collect();
            json!({"tokens": tokens})
        })
        .collect();
    let all = place(&many);
    let cases: &[(&str, &str, &[&str])] = &[
        ("score", "gpt_neox", &[]),
        ("generate", "mistral", &["--max-new-tokens", "5"]),
        ("embed", "bert", &[]),
        ("embed", "roberta", &["--pooling", "cls", "--normalize"]),
        ("classify", "bert_classifier", &[]),
        ("classify", "llama_reward", &[]),
    ];
    for (command, variant, more) in cases {
        let at_once = ask(&all, command, variant, &[&["--batch-size", "64"], *more].concat());
        assert_eq!(
            at_once,
            ask(&all, command, variant, &[&["--batch-size", "3"], *more].concat()),
            "{command}"
        );
        if *command != "generate" {
            let one_by_one: String = many
                .iter()
                .map(|row| ask(&place(std::slice::from_ref(row)), command, variant, more))
                .collect();
            assert_eq!(at_once, one_by_one, "{command}");
        }
    }
}

#[test]
fn embed_and_classify_give_the_numbers_of_an_independent_program() {
    let embedded = |variant: &str, rows_of: &[Value]| -> Vec<f64> {
        rows(&ask(&place(rows_of), "embed", variant, &["--dtype", "f64"]))
            .iter()
            .flat_map(|row| list(row, "embedding"))
            .collect()
    };
    close(
        &embedded("roberta", &token_rows("roberta")),
        &numbers("roberta", "mean_pooled"),
        1e-9,
        "roberta",
    );
    // Rows of tokens alone are of the first segment, as the last sequence of this one is.
    let (last, pooled) = (token_rows("bert").split_off(2), numbers("bert", "mean_pooled"));
    close(&embedded("bert", &last), &pooled[pooled.len() / 3 * 2..], 1e-9, "bert");
    for variant in ["roberta_classifier", "llama_reward", "opt_reward"] {
        let answers =
            rows(&ask(&place(&token_rows(variant)), "classify", variant, &["--dtype", "f64"]));
        let found: Vec<f64> = answers.iter().flat_map(|row| list(row, "logits")).collect();
        close(&found, &numbers(variant, "logits"), 1e-9, variant);
        for row in &answers {
            let logits = list(row, "logits");
            let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap();
            assert_eq!(row["label"], format!("LABEL_{best}"));
        }
    }
}

#[test]
fn other_fields_are_passed_on_and_files_are_written() {
    let place = place(&[
        json!({"id": "a", "tokens": [1, 2]}),
        json!({"tokens": [3, 4, 5], "note": {"x": 1}}),
    ]);
    assert_eq!(ask(&place, "score", "gpt2", &["--output", "out.jsonl"]), "");
    let answers = rows(&place.read("out.jsonl"));
    assert_eq!((&answers[0]["id"], &answers[1]["note"]["x"]), (&json!("a"), &json!(1)));
    assert_eq!(
        (&answers[0]["tokens"], answers[1]["logprobs"].as_array().unwrap().len()),
        (&json!([1, 2]), 2)
    );
}

#[test]
fn mistakes_name_the_row_and_what_was_expected() {
    let cases: &[(&str, &str, Value, &[&str])] = &[
        ("score", "gpt2", json!({"text": "x"}), &["tokenizer"]),
        (
            "score",
            "gpt2",
            json!({"tokens": [1], "text": "x"}),
            &["row 1", "`tokens`, or `text`, or `prompt` and `completion`"],
        ),
        ("score", "gpt2", json!({"tokens": [99999]}), &["row 1", "99999", "vocabulary"]),
        ("score", "gpt2", json!({"tokens": []}), &["row 1", "no token"]),
        ("score", "gpt2", json!({"tokens": vec![1; 5000]}), &["row 1", "5000", "context"]),
        ("score", "gpt2", json!({"tokens": "1 2"}), &["row 1", "rows.jsonl"]),
        ("score", "bert", json!({"tokens": [1]}), &["no language head"]),
        ("generate", "bert", json!({"tokens": [1]}), &["no language head"]),
        (
            "generate",
            "gpt2",
            json!({"messages": [{"role": "user", "content": "x"}]}),
            &["chat template"],
        ),
        ("classify", "gpt2", json!({"tokens": [1]}), &["no head for classes"]),
    ];
    for (command, variant, row, words) in cases {
        let (place, folder) = (place(std::slice::from_ref(row)), golden(variant));
        let said =
            place.say(&[command, "--model", folder.to_str().unwrap(), "--input", "rows.jsonl"]);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{}", said.err);
        assert!(words.iter().all(|word| said.err.contains(word)), "{words:?}: {}", said.err);
    }
}

#[test]
fn a_model_that_cannot_fit_is_refused_before_it_is_loaded() {
    let place = place(&[json!({"tokens": [1, 2]})]);
    std::fs::create_dir(place.path("giant")).unwrap();
    let config = json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 1 << 20,
        "hidden_size": 1 << 17, "intermediate_size": 1 << 18,
        "num_hidden_layers": 400, "num_attention_heads": 512,
    });
    place.write("giant/config.json", &config.to_string());
    let said = place.say(&["score", "--model", "giant", "--input", "rows.jsonl"]);
    assert_eq!(said.code, 3, "{}", said.err);
    assert!(
        ["GiB", "weights", "free", "hint"].iter().all(|word| said.err.contains(word)),
        "{}",
        said.err
    );
}

#[test]
fn unknown_fields_of_a_configuration_are_refused_accepted_or_warned_of() {
    let place = place(&token_rows("llama")[..1]);
    let model = place.path("model");
    std::fs::create_dir(&model).unwrap();
    for file in std::fs::read_dir(golden("llama")).unwrap().flatten() {
        std::fs::copy(file.path(), model.join(file.file_name())).unwrap();
    }
    let config: Value =
        serde_json::from_slice(&std::fs::read(model.join("config.json")).unwrap()).unwrap();
    let score = |changes: Value, variables: &[(&str, &str)]| {
        let mut config = config.clone();
        config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        std::fs::write(model.join("config.json"), config.to_string()).unwrap();
        let arguments = ["score", "--model", "model", "--input", "rows.jsonl", "--quiet"];
        let mut command = place.command(&arguments);
        said(command.envs(variables.iter().copied()).output().unwrap())
    };
    let plain = score(json!({}), &[]);
    assert_eq!((plain.code, plain.err.as_str()), (0, ""));
    let refused = score(json!({"depth_scale": 0.5}), &[]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("`depth_scale` is 0.5"), "{}", refused.err);
    let accepted =
        score(json!({"depth_scale": 0.5}), &[("POSTTRAIN_HARMLESS_FIELDS", "other, depth_scale")]);
    assert_eq!((accepted.code, accepted.out), (0, plain.out.clone()), "{}", accepted.err);
    let warned = score(json!({"depth_scale": null}), &[]);
    assert_eq!((warned.code, warned.out), (0, plain.out));
    assert!(
        warned.err.starts_with("warning: ") && warned.err.contains("`depth_scale`"),
        "{}",
        warned.err
    );
}
