//! Rows as token sequences with their response part, cut or refused where they are too long. Knows no model beyond its context length.

use std::path::Path;

use super::rows::Example;
use super::tokens::Tokenizer;
use crate::error::Result;

/// A token sequence: a prompt followed by a response that ends with the end-of-text token.
#[derive(Clone, Debug, PartialEq)]
pub struct Tokenised {
    /// All tokens.
    pub tokens: Vec<u32>,
    /// How many of them are the prompt; the rest is the response.
    pub prompt: usize,
}

/// How long a sequence may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tokens in all: the model's context.
    pub context: usize,
    /// Tokens of a prompt; more are cut off its beginning. `None`: a prompt is never cut.
    pub prompt: Option<usize>,
}

/// The sequences of the rows of `file`, in order.
///
/// # Errors
/// The user's, with file and row: a sequence that does not fit.
pub fn tokenise(rows: &[Example], tokenizer: &Tokenizer, limits: Limits, file: &Path) -> Result<Vec<Tokenised>> {
    let _ = (rows, tokenizer, limits, file);
    unimplemented!()
}
