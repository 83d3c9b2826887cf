//! The files that make up a tokenizer in the Hugging Face layout: found, read as JSON, written.
//! Uses no token.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Result, user};
use crate::fs;

/// The tokenizer itself.
pub(super) const TOKENIZER: &str = "tokenizer.json";
/// The names of its special tokens, its class, its chat template.
pub(super) const CONFIG: &str = "tokenizer_config.json";
/// The names of its special tokens once more, as older programs write them.
pub(super) const SPECIAL_TOKENS: &str = "special_tokens_map.json";
/// Tokens beyond the vocabulary with their ids, as older programs write them.
pub(super) const ADDED_TOKENS: &str = "added_tokens.json";
/// Vocabulary and merges of a byte-level BPE of an older repository.
pub(super) const VOCABULARY: &str = "vocab.json";
/// See [`VOCABULARY`].
pub(super) const MERGES: &str = "merges.txt";
/// The vocabulary of a WordPiece model of an older repository.
pub(super) const WORDS: &str = "vocab.txt";
/// The chat template, where it has a separate file.
pub(super) const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// Every file that belongs to a tokenizer and goes where it goes.
const OWN: [&str; 8] =
    [TOKENIZER, CONFIG, SPECIAL_TOKENS, ADDED_TOKENS, VOCABULARY, MERGES, WORDS, CHAT_TEMPLATE];
/// Files of the model that have a say in which tokens are special; the first wins.
const OF_THE_MODEL: [&str; 2] = ["generation_config.json", "config.json"];

/// Files by name, with their bytes, and what errors call the place they are from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Files {
    place: String,
    own: Vec<(String, Vec<u8>)>,
    of_the_model: Vec<(String, Vec<u8>)>,
}

impl Files {
    /// Those of a folder; none need be there.
    pub fn read(folder: &Path) -> Result<Self> {
        let all = |names: &[&str]| -> Result<Vec<(String, Vec<u8>)>> {
            let mut found = Vec::new();
            for name in names {
                let path = folder.join(name);
                if path.is_file() {
                    fs::refuse_pointer(&path)?;
                }
                found.extend(fs::read_if_exists(&path)?.map(|bytes| (name.to_string(), bytes)));
            }
            Ok(found)
        };
        Ok(Files {
            place: folder.display().to_string(),
            own: all(&OWN)?,
            of_the_model: all(&OF_THE_MODEL)?,
        })
    }

    /// Files that were made here.
    pub fn made(place: &str, own: Vec<(String, Vec<u8>)>) -> Self {
        Files { place: place.to_owned(), own, of_the_model: Vec::new() }
    }

    /// Whether any of them can be a tokenizer.
    pub fn hold_a_tokenizer(&self) -> bool {
        [TOKENIZER, VOCABULARY, MERGES, WORDS].iter().any(|name| self.bytes(name).is_some())
    }

    /// What errors call the place.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The bytes of a file of the tokenizer.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.own.iter().find(|(file, _)| file == name).map(|(_, bytes)| bytes.as_slice())
    }

    /// The text of a file of the tokenizer.
    ///
    /// # Errors
    /// The user's, if it is not UTF-8.
    pub fn text(&self, name: &str) -> Result<Option<&str>> {
        self.bytes(name)
            .map(|bytes| std::str::from_utf8(bytes).map_err(|error| self.broken(name, &error)))
            .transpose()
    }

    /// A file of the tokenizer as a JSON object; an empty one if there is no such file.
    ///
    /// # Errors
    /// The user's, if it is something else.
    pub fn object(&self, name: &str) -> Result<Map<String, Value>> {
        self.bytes(name).map_or(Ok(Map::new()), |bytes| self.parse(name, bytes))
    }

    /// The model's files that name tokens, as JSON objects; the first wins.
    ///
    /// # Errors
    /// The user's, if one is something else.
    pub fn of_the_model(&self) -> Result<Vec<Map<String, Value>>> {
        self.of_the_model.iter().map(|(name, bytes)| self.parse(name, bytes)).collect()
    }

    fn parse(&self, name: &str, bytes: &[u8]) -> Result<Map<String, Value>> {
        serde_json::from_slice(bytes).map_err(|error| self.broken(name, &error))
    }

    /// The error of a file that cannot be understood.
    pub fn broken(&self, name: &str, error: &dyn std::fmt::Display) -> anyhow::Error {
        user(format!("{name} of {} cannot be understood: {error}", self.place)).into()
    }

    /// Puts a file in, or replaces the one of its name.
    pub fn put(&mut self, name: &str, bytes: Vec<u8>) {
        match self.own.iter_mut().find(|(file, _)| file == name) {
            Some((_, old)) => *old = bytes,
            None => self.own.push((name.to_owned(), bytes)),
        }
    }

    /// Writes the tokenizer's files into a folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        self.own.iter().try_for_each(|(name, bytes)| fs::write_atomic(&folder.join(name), bytes))
    }
}

/// A JSON value as the bytes of a file.
pub(super) fn pretty(value: &Value) -> Vec<u8> {
    serde_json::to_vec_pretty(value).expect("a JSON value is plain data")
}
