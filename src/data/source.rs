//! Rows of any JSONL file: by template, filter and share. The structs are the options of a pipeline. Knows no split's purpose.

use serde::{Deserialize, Serialize};

use super::rows::Example;
use crate::error::Result;
use crate::stages::reference::Input;

/// Where the rows of a split come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// A JSONL file; its columns are what the options below name.
    pub path: Input,
    /// Template of the prompt.
    pub prompt: String,
    /// Template of the completion. A model continues the prompt with it as it is: it usually starts with a space.
    pub completion: String,
    /// The column that names a row; without one, the line number does.
    #[serde(default)]
    pub id: Option<String>,
    /// Rows to keep: those that pass every filter.
    #[serde(default)]
    pub keep: Vec<Filter>,
    /// The part of the rows to keep, by the hash of the prompt.
    #[serde(default)]
    pub share: Option<Share>,
    /// Puts the rows into a random order with this seed; without one they stay in the file's.
    #[serde(default)]
    pub shuffle: Option<u64>,
    /// Keeps the first so many rows, after all else.
    #[serde(default)]
    pub limit: Option<usize>,
    /// Cuts a column that is too long, before the templates are filled in.
    #[serde(default)]
    pub cut: Option<Cut>,
}

/// A condition on a column; exactly one of `equals` and `not` is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// The column.
    pub column: String,
    /// Keeps rows whose column is this text (numbers and truth values as JSON writes them).
    #[serde(default)]
    pub equals: Option<String>,
    /// Keeps rows whose column is anything else.
    #[serde(default)]
    pub not: Option<String>,
}

/// A part of the rows: those whose prompt hashes into `[from, to)`, so that parts that do not overlap share no prompt, and a row
/// stays where it is when others come or go.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// At least 0.
    pub from: f64,
    /// At most 1.
    pub to: f64,
}

/// Cuts a column to so many words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// The column.
    pub column: String,
    /// Words that stay.
    pub words: usize,
    /// Which.
    #[serde(default)]
    pub keep: End,
}

/// An end of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The first words.
    #[default]
    Start,
    /// The last words.
    End,
}

/// The rows that the options ask for.
///
/// # Errors
/// The user's, with file and row: see `rows::read_jsonl`; a template or an option that does not fit the file.
pub fn load(files: &Files) -> Result<Vec<Example>> {
    let _ = files;
    unimplemented!()
}
