//! Tokenizers of older repositories, which have no `tokenizer.json`: made from `vocab.json` and
//! `merges.txt`, or from `vocab.txt`, as transformers makes them. Uses tokenizer classes by name,
//! since nothing else says what surrounds a text; uses no model.
//!
//! 1. Byte-level BPE: no normaliser, the byte-level pre-tokeniser with the configuration's
//!    `add_prefix_space`. One class puts its first and last token around a text where
//!    `add_bos_token` and `add_eos_token` ask for them, the other always has `<s>` and `</s>`
//!    there.
//! 2. WordPiece: the clean-up, lower case and accents that the configuration asks for, `[CLS]` and
//!    `[SEP]` around a text.
//! 3. A class that is not listed splits texts in some other way: it is refused by name.

use serde_json::{Map, Value, json};

use super::classes::{CLASSES, Style, named};
use super::files::{CONFIG, Files, MERGES, TOKENIZER, VOCABULARY, WORDS};
use super::special_tokens::SpecialNames;
use crate::error::{Result, user};

/// The contents of the `tokenizer.json` that an older repository means, except its added
/// tokens.
///
/// # Errors
/// The user's: there is no tokenizer, its class is not known, a file cannot be understood, a token
/// that surrounds texts is missing.
pub(super) fn tokenizer_json(files: &Files, names: &SpecialNames) -> Result<Value> {
    let (bytes, words) = (
        files.bytes(VOCABULARY).is_some() && files.bytes(MERGES).is_some(),
        files.bytes(WORDS).is_some(),
    );
    if !bytes && !words {
        let hint =
            format!("looked for {TOKENIZER}, for {VOCABULARY} with {MERGES}, and for {WORDS}");
        return Err(user(format!("{} holds no tokenizer", files.place())).hint(hint).into());
    }
    let (class, style) = named(files)?;
    let config = files.object(CONFIG)?;
    match style {
        Some(Style::Bytes) if bytes => flagged(files, names, &config),
        Some(Style::BytesBetween) if bytes => between(files, names, &config),
        Some(Style::Words) if words => wordpiece(files, names, &config),
        _ => {
            let found = if bytes { format!("{VOCABULARY} and {MERGES}") } else { WORDS.to_owned() };
            let class =
                class.map_or("no tokenizer class".to_owned(), |class| format!("the class {class}"));
            let message = format!(
                "{} has {found}, but names {class}, which does not say how to read them",
                files.place()
            );
            let known: Vec<&str> = CLASSES.iter().map(|(name, _, _)| *name).collect();
            let hint = format!(
                "put a {TOKENIZER} there, or name its class in {CONFIG}: {}",
                known.join(", ")
            );
            Err(user(message).hint(hint).into())
        }
    }
}

fn flag(config: &Map<String, Value>, key: &str, otherwise: bool) -> bool {
    config.get(key).and_then(Value::as_bool).unwrap_or(otherwise)
}

/// Name and id of a role's token.
fn token(
    files: &Files,
    names: &SpecialNames,
    vocabulary: &Map<String, Value>,
    role: &str,
) -> Result<(String, Value)> {
    let name = names
        .get(role)
        .ok_or_else(|| user(format!("{CONFIG} of {} has no {role}_token", files.place())))?;
    let id = vocabulary.get(name).ok_or_else(|| {
        user(format!("the vocabulary of {} has no token {name}, its {role}_token", files.place()))
    })?;
    Ok((name.to_owned(), id.clone()))
}

/// A post-processor that puts these tokens before and after every text, the second of a pair
/// included.
fn around(before: &[(String, Value)], after: &[(String, Value)], opens_second: bool) -> Value {
    let special = |(name, _): &(String, Value), second: bool| json!({"SpecialToken": {"id": name, "type_id": u8::from(second)}});
    let part = |id: &str, second: bool, open: bool| {
        let mut part: Vec<Value> = if open {
            before.iter().map(|token| special(token, second)).collect()
        } else {
            Vec::new()
        };
        part.push(json!({"Sequence": {"id": id, "type_id": u8::from(second)}}));
        part.extend(after.iter().map(|token| special(token, second)));
        part
    };
    let tokens: Map<String, Value> = before
        .iter()
        .chain(after)
        .map(|(name, id)| (name.clone(), json!({"id": name, "ids": [id], "tokens": [name]})))
        .collect();
    let pair = [part("A", false, true), part("B", true, opens_second)].concat();
    json!({"type": "TemplateProcessing", "single": part("A", false, true), "pair": pair,
        "special_tokens": tokens})
}

fn byte_level(
    files: &Files,
    vocabulary: Map<String, Value>,
    config: &Map<String, Value>,
    post_processor: Value,
) -> Result<Value> {
    let text = files.text(MERGES)?.unwrap_or_default();
    let mut merges = Vec::new();
    for (at, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty() && !line.starts_with("#version"))
    {
        match line.split(' ').collect::<Vec<_>>()[..] {
            [left, right] => merges.push([left, right]),
            _ => {
                return Err(files.broken(
                    MERGES,
                    &format!("line {} is not two tokens with a space between: {line:?}", at + 1),
                ));
            }
        }
    }
    let bytes = |space: bool| {
        json!({"type": "ByteLevel", "add_prefix_space": space,
        "trim_offsets": true, "use_regex": true})
    };
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": bytes(flag(config, "add_prefix_space", false)),
        "post_processor": post_processor, "decoder": bytes(true),
        "model": {"type": "BPE", "dropout": null, "unk_token": null,
            "continuing_subword_prefix": "", "end_of_word_suffix": "",
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocabulary,
            "merges": merges}
    }))
}

fn flagged(files: &Files, names: &SpecialNames, config: &Map<String, Value>) -> Result<Value> {
    let vocabulary = files.object(VOCABULARY)?;
    let asked = |role: &str| match flag(config, &format!("add_{role}_token"), false) {
        true => token(files, names, &vocabulary, role).map(|token| vec![token]),
        false => Ok(Vec::new()),
    };
    let post_processor = around(&asked("bos")?, &asked("eos")?, true);
    byte_level(files, vocabulary, config, post_processor)
}

fn between(files: &Files, names: &SpecialNames, config: &Map<String, Value>) -> Result<Value> {
    let vocabulary = files.object(VOCABULARY)?;
    let (first, last) =
        (token(files, names, &vocabulary, "cls")?, token(files, names, &vocabulary, "sep")?);
    let post_processor = json!({"type": "RobertaProcessing", "sep": last, "cls": first,
        "trim_offsets": flag(config, "trim_offsets", true),
        "add_prefix_space": flag(config, "add_prefix_space", false)});
    byte_level(files, vocabulary, config, post_processor)
}

fn wordpiece(files: &Files, names: &SpecialNames, config: &Map<String, Value>) -> Result<Value> {
    let text = files.text(WORDS)?.unwrap_or_default();
    let vocabulary: Map<String, Value> = text
        .lines()
        .enumerate()
        .map(|(id, word)| (word.trim_end().to_owned(), json!(id)))
        .collect();
    let post_processor = around(
        &[token(files, names, &vocabulary, "cls")?],
        &[token(files, names, &vocabulary, "sep")?],
        false,
    );
    let (unknown, _) = token(files, names, &vocabulary, "unk")?;
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": {"type": "BertNormalizer", "clean_text": true,
            "handle_chinese_chars": flag(config, "tokenize_chinese_chars", true),
            "strip_accents": config.get("strip_accents"),
            "lowercase": flag(config, "do_lower_case", true)},
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": post_processor,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": unknown, "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary}
    }))
}
