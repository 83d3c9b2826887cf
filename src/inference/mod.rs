//! What a model says of rows, without training: rows in, rows out, in order. Knows no arguments and
//! prints nothing.
//!
//! 1. A row's result depends on that row and the model alone, bit for bit, whatever batch it ran
//!    in.
//! 2. Every row is read and checked before the first is run.
//! 3. A row's other fields are passed on to its result.

pub mod classify;
pub mod diversity;
pub mod embed;
pub mod generate;
pub mod pair_head;
pub mod pairs;
pub mod same_answer;
pub mod score;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};

use crate::backend::Backend;
use crate::device::Precision;
use crate::error::{Result, user};
use crate::json::{self, Json, Object};
use crate::model::arch::{Description, Origin};
use crate::model::batch::Batch;
use crate::model::checkpoint;
use crate::model::params::HeadKind;
use crate::model::spec::Spec;
use crate::model::weights::Model;
use crate::tokenizer::chat::ChatTemplate;
use crate::tokenizer::encode::Encoded;
use crate::tokenizer::tokens::{CONVERT, Tokenizer, has_sentencepiece_alone, stated_ends};

/// Hears of (rows done, rows in all), and stops the work by returning an error.
pub type Progress<'a> = &'a mut dyn FnMut(usize, usize) -> Result<()>;

/// What reads rows for a model: its configuration and its tokenizer, without its tensors.
pub struct Reader {
    /// What the model is.
    pub spec: Spec,
    /// The head on its trunk.
    pub head: HeadKind,
    /// Where it comes from.
    pub origin: Origin,
    /// Its tokenizer; a folder without one works with token ids.
    tokenizer: Option<Tokenizer>,
    /// What writes chats out, where the folder has it.
    chat_template: Option<ChatTemplate>,
    /// Tokens that end what the model writes.
    ends: Vec<u32>,
    remark: Option<String>,
    folder: PathBuf,
}

impl Reader {
    /// Opens a folder in the Hugging Face layout.
    pub fn open(folder: &Path) -> Result<Self> {
        let description = checkpoint::describe(folder)?;
        let remark = description.remark(folder);
        let Description { origin, spec, head, .. } = description;
        let (tokenizer, chat_template) =
            (Tokenizer::open_if_there(folder)?, ChatTemplate::open(folder)?);
        let ends = match &tokenizer {
            Some(tokenizer) => tokenizer.ends().to_vec(),
            None => Some(stated_ends(folder)?)
                .filter(|ends| !ends.is_empty())
                .unwrap_or(origin.special.eos.into_iter().collect()),
        };
        let folder = folder.to_owned();
        Ok(Reader { spec, head, origin, tokenizer, chat_template, ends, remark, folder })
    }

    /// What errors call the model: its folder.
    pub fn name(&self) -> std::path::Display<'_> {
        self.folder.display()
    }

    /// A warning of what the folder has and is ignored, where there is any.
    pub fn remark(&self) -> Option<&str> {
        self.remark.as_deref()
    }

    /// The tokenizer, for a row that has text.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        let message = || {
            user(format!(
                "{} holds no tokenizer, so rows must have `tokens`",
                self.folder.display()
            ))
        };
        let hint = if has_sentencepiece_alone(&self.folder) {
            CONVERT
        } else {
            "put tokenizer.json beside the model"
        };
        self.tokenizer.as_ref().ok_or_else(|| message().hint(hint).into())
    }

    /// The tokens that end what the model writes, each of them.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// The chat template, for a row that has messages.
    pub fn chat_template(&self) -> Result<&ChatTemplate> {
        let message = || {
            user(format!(
                "{} holds no chat template, so rows must have `prompt` or `tokens`",
                self.folder.display()
            ))
        };
        self.chat_template.as_ref().ok_or_else(|| message().into())
    }

    /// Refuses tokens that the model cannot read: none, ids beyond the vocabulary, more than its
    /// context.
    fn check(&self, row: usize, tokens: &[u32]) -> Result<()> {
        let spec = &self.spec;
        if tokens.is_empty() {
            return Err(user(format!("row {row} has no token")).into());
        }
        if let Some(token) = tokens.iter().find(|token| **token as usize >= spec.vocabulary) {
            return Err(user(format!(
                "row {row} has the token {token}, the model's vocabulary has {}",
                spec.vocabulary
            ))
            .into());
        }
        if tokens.len() > spec.context {
            let message = format!(
                "row {row} has {} tokens, the model's context is {}",
                tokens.len(),
                spec.context
            );
            return Err(user(message).hint("shorten or split the row").into());
        }
        Ok(())
    }
}

/// A model that is asked.
pub struct Subject<B: Backend> {
    /// What it runs on.
    pub b: B,
    /// The precision of `b`, which is that of the numbers in results.
    pub precision: Precision,
    /// The model.
    pub model: Model<B>,
    /// What reads rows for it.
    pub reader: Reader,
}

impl<B: Backend> Subject<B> {
    /// Loads the model's tensors.
    pub fn load(b: B, precision: Precision, reader: Reader) -> Result<Self> {
        let (Description { spec, head, .. }, weights) =
            checkpoint::load_with(&reader.folder, |numbers| Arc::new(b.upload_owned(numbers)))?;
        Ok(Subject { model: Model::from_weights(&b, spec, head, weights), b, precision, reader })
    }

    /// Numbers as they are printed: shortest in their precision.
    fn numbers(&self, numbers: impl IntoIterator<Item = f64>) -> Numbers {
        match self.precision {
            Precision::Single => {
                Numbers::Single(numbers.into_iter().map(|number| number as f32).collect())
            }
            Precision::Double => Numbers::Double(numbers.into_iter().collect()),
        }
    }
}

/// Numbers of a result.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Numbers {
    /// In single precision.
    Single(Vec<f32>),
    /// In double precision.
    Double(Vec<f64>),
}

/// A result with the fields of its row that nothing here reads.
#[derive(Clone, Debug, Serialize)]
pub struct Answer<T> {
    /// What was asked for.
    #[serde(flatten)]
    pub result: T,
    /// What the row had beside, in its order.
    #[serde(flatten, serialize_with = "json::object")]
    pub rest: Object,
}

/// A row: the fields that are known, and the rest of them as the row has them.
#[derive(Clone, Debug)]
pub struct Given<K> {
    known: K,
    rest: Object,
}

/// What a command knows of a row.
pub trait Known: DeserializeOwned {
    /// The names of its fields.
    const NAMES: &'static [&'static str];
}

impl<'de, K: Known> Deserialize<'de> for Given<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let mut rest = match Json::deserialize(deserializer)? {
            Json::Object(fields) => fields,
            other => {
                return Err(D::Error::custom(format!(
                    "expected an object, found {}",
                    other.what()
                )));
            }
        };
        let known: Object =
            K::NAMES.iter().filter_map(|name| rest.shift_remove_entry(*name)).collect();
        let known = serde_json::to_value(Json::Object(known))
            .and_then(serde_json::from_value)
            .map_err(D::Error::custom)?;
        Ok(Given { known, rest })
    }
}

/// Texts as one batch.
fn batch<'a>(texts: impl Iterator<Item = &'a Encoded> + Clone) -> Batch {
    let tokens: Vec<&[u32]> = texts.clone().map(|text| text.tokens.as_slice()).collect();
    Batch {
        types: texts.flat_map(|text| text.types.iter().copied()).collect(),
        ..Batch::new(&tokens)
    }
}

/// Refuses results that are not finite: they are no numbers, and JSON would write them as `null`.
/// `name` is what errors call the result of an index.
///
/// # Errors
/// The user's: the first such result.
pub fn check_finite<'a>(
    numbers: impl IntoIterator<Item = &'a f64>,
    name: impl Fn(usize) -> String,
) -> Result<()> {
    match numbers.into_iter().enumerate().find(|(_, number)| !number.is_finite()) {
        None => Ok(()),
        Some((at, number)) => Err(not_finite(&format!("{} is {number}, which", name(at)))),
    }
}

/// The error of a result that is not finite.
fn not_finite(what: &str) -> anyhow::Error {
    user(format!("{what} is not finite"))
        .hint(
            "the model's weights, or the normalisation of its scores, are too large for this \
             precision: try --dtype f32, or take an earlier checkpoint",
        )
        .into()
}

/// The error of a row that says too little or too much.
fn unclear(row: usize, expected: &str) -> anyhow::Error {
    user(format!("row {row}: expected {expected}")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_nothing_reads_come_back_in_their_order_and_to_the_last_digit() {
        let text = r#"{"z":12345678901234567890123,"text":"a","m":{"y":0.10,"x":1}}"#;
        let Given { known, rest }: score::Row = serde_json::from_str(text).unwrap();
        let answer =
            serde_json::to_string(&Answer { result: known_is_there(known), rest }).unwrap();
        assert_eq!(answer, r#"{"known":true,"z":12345678901234567890123,"m":{"y":0.10,"x":1}}"#);
        assert!(
            serde_json::from_str::<score::Row>(r#"{"text":3}"#)
                .unwrap_err()
                .to_string()
                .contains("expected a string")
        );
        assert!(
            serde_json::from_str::<score::Row>("[]")
                .unwrap_err()
                .to_string()
                .contains("expected an object, found a list")
        );
    }

    #[derive(Serialize)]
    struct IsThere {
        known: bool,
    }

    fn known_is_there(_: score::Fields) -> IsThere {
        IsThere { known: true }
    }
}
