//! Tokenizers that are unusual, damaged or hostile: without an unknown token, saved with dropout,
//! that make texts long, empty.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::patterns::splitting;
use posttrain::error::{Kind, kind_of};
use posttrain::tokenizer::tokens::Tokenizer;

/// A folder with this `tokenizer.json`.
fn folder(tokenizer: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    std::fs::write(folder.path().join("tokenizer_config.json"), r#"{"eos_token": "</s>"}"#)
        .unwrap();
    folder
}

fn open(tokenizer: &Value) -> posttrain::error::Result<Tokenizer> {
    Tokenizer::open(folder(tokenizer).path())
}

/// A tokenizer of three letters with these other parts.
fn letters(parts: Value) -> Value {
    let mut tokenizer = json!({
        "version": "1.0", "added_tokens": [],
        "model": {"type": "BPE", "vocab": {"</s>": 0, "a": 1, "b": 2, "c": 3}, "merges": []},
    });
    tokenizer.as_object_mut().unwrap().extend(parts.as_object().unwrap().clone());
    tokenizer
}

#[track_caller]
fn user_error<T>(result: posttrain::error::Result<T>, words: &[&str]) {
    let error = result.err().expect("it is refused");
    assert_eq!(kind_of(&error), Kind::User, "{error:#}");
    assert!(words.iter().all(|word| error.to_string().contains(word)), "{words:?}: {error:#}");
}

#[test]
fn without_an_unknown_token_known_texts_have_tokens_and_others_are_refused() {
    let pieces = [
        ("<s>", -1.0),
        ("</s>", -1.0),
        ("▁", -2.0),
        ("a", -3.0),
        ("b", -3.0),
        ("c", -3.0),
        ("▁ab", -2.5),
        ("▁abc", -2.5),
    ];
    let words = json!({"</s>": 0, "ab": 1, "abc": 2, "a": 3});
    let space =
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
    let models = [
        (
            json!({"type": "Unigram", "unk_id": null, "byte_fallback": false, "vocab": pieces}),
            space,
            [6, 7],
        ),
        (
            json!({"type": "WordLevel", "vocab": words, "unk_token": "<unk>"}),
            json!({"type": "Whitespace"}),
            [1, 2],
        ),
        (
            json!({"type": "WordPiece", "vocab": words, "unk_token": "<unk>",
                "continuing_subword_prefix": "##", "max_input_chars_per_word": 9}),
            json!({"type": "Whitespace"}),
            [1, 2],
        ),
    ];
    for (model, pre_tokenizer, tokens) in models {
        let tokenizer = open(&json!({"version": "1.0", "added_tokens": [],
            "pre_tokenizer": pre_tokenizer, "model": model}))
        .unwrap();
        assert_eq!(tokenizer.encode_prompt("ab abc").unwrap(), tokens, "{model}");
        assert_eq!(tokenizer.encode_input("ab abc", None, None).unwrap().tokens, tokens, "{model}");
        user_error(tokenizer.encode_prompt("zab"), &["has no token for a part of the text"]);
        user_error(
            tokenizer.encode_input("a", Some("zab"), None),
            &["has no token for a part of the text"],
        );
    }
}

#[test]
fn no_merge_is_left_out_by_chance() {
    let (folder, mut tokenizer) = splitting("x", &[["a", "b"], ["ab", "ab"]]);
    tokenizer["model"]["dropout"] = json!(0.5);
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    let text = "abab".repeat(8);
    let expected = tokenizer.encode("abab").unwrap().repeat(8);
    assert_eq!(expected.len(), 8);
    assert!((0..20).all(|_| tokenizer.encode(&text).unwrap() == expected));
    // The file goes on as it came.
    let copy = tempfile::tempdir().unwrap();
    tokenizer.save(copy.path()).unwrap();
    let bytes =
        |folder: &tempfile::TempDir| std::fs::read(folder.path().join("tokenizer.json")).unwrap();
    assert_eq!(bytes(&copy), bytes(&folder));
}

#[test]
fn normalisers_that_double_a_text_again_and_again_are_stopped_at_a_limit() {
    let replace = |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
    let sequence = |steps: Vec<Value>| {
        letters(json!({"normalizer": {"type": "Sequence", "normalizers": steps}}))
    };
    let since = Instant::now();
    let hostile = [
        sequence(vec![replace("a", "aa"); 50]),
        sequence(vec![
            json!({"type": "Sequence", "normalizers": vec![replace("a", "aaa"); 25]});
            2
        ]),
        sequence(vec![
            json!({"type": "Replace", "pattern": {"Regex": "(?=a)|a"}, "content": "aa"});
            50
        ]),
        sequence(vec![replace("a", &"a".repeat(100_000)), replace("a", &"a".repeat(100_000))]),
    ];
    for tokenizer in &hostile {
        let tokenizer = open(tokenizer).unwrap();
        assert_eq!(
            tokenizer.encode("bcb").unwrap(),
            [2, 3, 2],
            "what does not grow has its tokens"
        );
        for text in ["ba", &"abc".repeat(10_000)] {
            user_error(
                tokenizer.encode(text),
                &[
                    "the tokenizer's normalizer would make a text of",
                    "longer than",
                    "the limit (16 times",
                ],
            );
        }
    }
    assert!(since.elapsed() < Duration::from_secs(60), "{:?}", since.elapsed());
    // Many steps that make nothing longer are no reason to refuse.
    let many = (0..50).map(|step| replace(&format!("{}", step % 10), "ab")).collect();
    assert_eq!(open(&sequence(many)).unwrap().encode("a1b2").unwrap(), [1, 1, 2, 2, 1, 2]);
}

#[test]
fn templates_and_decoders_that_multiply_are_refused_when_they_are_read() {
    let twice = json!({"type": "TemplateProcessing", "special_tokens": {},
        "single": [{"Sequence": {"id": "A", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}},
            {"Sequence": {"id": "B", "type_id": 0}}]});
    let many = json!({"type": "TemplateProcessing",
        "special_tokens": {"</s>": {"id": "</s>", "ids": vec![0; 100],
            "tokens": vec!["</s>"; 100]}},
        "single": vec![json!({"SpecialToken": {"id": "</s>", "type_id": 0}}); 100],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}},
            {"Sequence": {"id": "B", "type_id": 0}}]});
    for template in [json!({"type": "Sequence", "processors": vec![twice.clone(); 40]}), many] {
        user_error(
            open(&letters(json!({"post_processor": template}))),
            &["post_processor", "the limits are"],
        );
    }
    let replace = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
    let decoder = json!({"type": "Sequence", "decoders": vec![replace; 40]});
    user_error(open(&letters(json!({"decoder": decoder}))), &["decoder", "the limit is 4096"]);
    assert!(open(&letters(json!({"post_processor": twice}))).is_ok());
}

#[test]
fn an_empty_vocabulary_is_refused() {
    let models = [
        json!({"type": "BPE", "vocab": {}, "merges": []}),
        json!({"type": "WordLevel", "vocab": {}, "unk_token": "<unk>"}),
        json!({"type": "Unigram", "vocab": [], "unk_id": null}),
    ];
    for model in models {
        user_error(
            open(&json!({"version": "1.0", "added_tokens": [], "model": model})),
            &["tokenizer.json of", "cannot be understood"],
        );
    }
}

#[test]
fn special_tokens_add_nothing_to_a_generated_text_wherever_they_stand() {
    let special = |id: u32, content: &str| json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    let added = [special(0, "</s>"), special(5, "<|turn|>"), special(6, "<|pad|>")];
    let prefixed = json!({"type": "Sequence",
        "normalizers": [{"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]});
    let spaces = json!({"type": "Sequence",
        "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]});
    let with = |parts: Value| {
        let mut tokenizer = letters(parts);
        tokenizer["model"]["vocab"]["▁"] = json!(4);
        open(&tokenizer).unwrap()
    };
    let plain = with(json!({"added_tokens": added, "decoder": {"type": "Fuse"}}));
    let sentences = with(json!({"added_tokens": added, "decoder": spaces, "normalizer": prefixed}));
    for tokenizer in [&plain, &sentences] {
        assert_eq!(tokenizer.decode_after(&[1, 5], &[2, 5, 3, 6, 1]).unwrap(), "bca");
        assert_eq!(tokenizer.decode_after(&[1], &[5, 0, 6]).unwrap(), "");
        assert_eq!(tokenizer.decode(&[2, 5, 3]).unwrap(), "b<|turn|>c", "elsewhere they show");
    }
    assert_eq!(sentences.decode_after(&[4, 1], &[4, 2, 5, 4, 3]).unwrap(), " b c");
    assert_eq!(plain.specials_among(&["<|turn|>".into(), "a".into(), "x".into()]), [5]);
}
