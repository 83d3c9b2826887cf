//! Patterns of tokenizers: split as the library splits in Python (golden/patterns.py), whose
//! regular expressions are Oniguruma's; a search that does not end is an error.

use serde::Deserialize;
use serde_json::{Value, json};
use tokenizers::pre_tokenizers::split::Split;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use posttrain::error::{Kind, kind_of};
use posttrain::tokenizer::tokens::Tokenizer;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    pattern: String,
    text: String,
    pieces: Vec<String>,
}

fn split(pattern: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
}

/// A tokenizer of bytes and these merges, that splits texts by this pattern.
pub fn splitting(pattern: &str, merges: &[[&str; 2]]) -> (tempfile::TempDir, Value) {
    let folder = tempfile::tempdir().unwrap();
    let mut tokens: Vec<String> = (b'!'..=b'~').map(|byte| char::from(byte).to_string()).collect();
    tokens.push("Ġ".into());
    tokens.extend(merges.iter().map(|pair| pair.concat()));
    tokens.push("<eos>".into());
    let vocabulary: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
    let tokenizer = json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "post_processor": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            split(pattern), {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                "use_regex": false}]},
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
            "use_regex": true},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": merges},
    });
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    std::fs::write(folder.path().join("tokenizer_config.json"), r#"{"eos_token": "<eos>"}"#)
        .unwrap();
    (folder, tokenizer)
}

#[test]
fn patterns_split_texts_as_the_library_does_in_python() {
    let Golden { cases } = serde_json::from_str(include_str!("golden/patterns.json"))
        .expect("the golden file is JSON");
    assert!(cases.len() > 300);
    for Case { name, pattern, text, pieces } in cases {
        let splitter: Split = serde_json::from_value(split(&pattern))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut splits = PreTokenizedString::from(text.as_str());
        splitter.pre_tokenize(&mut splits).unwrap();
        let found = splits.get_splits(OffsetReferential::Original, OffsetType::Byte);
        assert_eq!(
            found.into_iter().map(|(piece, ..)| piece).collect::<Vec<_>>(),
            pieces,
            "{name}: {text:?}"
        );
    }
}

#[test]
fn an_interval_that_is_repeated_counts_groups() {
    let (folder, _) = splitting(
        r"\A\p{Nd}{1,2}(?=\p{Nd}{3}+\z)",
        &[["1", "2"], ["3", "4"], ["2", "3"], ["12", "34"]],
    );
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    for (text, pieces) in [
        ("1234567", &["1", "2", "34", "5", "6", "7"][..]),
        ("12345", &["12", "34", "5"]),
        ("12345678", &["12", "34", "5", "6", "7", "8"]),
    ] {
        let tokens = tokenizer.encode(text).unwrap();
        let found: Vec<String> =
            tokens.iter().map(|token| tokenizer.decode(&[*token]).unwrap()).collect();
        assert_eq!(found, pieces, "{text}");
    }
}

#[test]
fn a_search_without_an_end_is_an_error_that_names_the_tokenizer() {
    let (folder, _) = splitting(r"(?:a|a|aa)+$", &[["a", "a"]]);
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    assert_eq!(tokenizer.encode("aaa").unwrap().len(), 2);
    let error = tokenizer.encode(&format!("{}b", "a".repeat(60))).unwrap_err();
    assert_eq!(kind_of(&error), Kind::User);
    let message = error.to_string();
    assert!(
        ["retry-limit", "cannot encode", &folder.path().display().to_string()]
            .iter()
            .all(|word| message.contains(word)),
        "{message}"
    );
}
