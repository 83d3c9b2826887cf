//! `embed`: texts as vectors.

use clap::{Args, ValueEnum};

use super::rows;
use crate::backend::Backend;
use crate::error::Result;
use crate::inference::embed::{self, Embedding, Row};
use crate::inference::{Answer, Progress, Subject};

/// Vectors of rows with `tokens`, or `text`
///
/// A row becomes `embedding`, pooled from the last hidden states. Without options, as the folder's sentence-transformers files ask; where
/// there are none, the mean. Other fields are passed on.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    rows: rows::Arguments,
    /// How the states of tokens become one vector
    #[arg(long, value_enum)]
    pooling: Option<Pooling>,
    /// Scale vectors to length 1
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    normalize: Option<bool>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Pooling {
    /// The mean of all tokens
    Mean,
    /// The first token
    Cls,
}

impl rows::Command for Arguments {
    type Row = Row;
    type Answer = Answer<Embedding>;

    fn run<B: Backend>(&self, subject: &Subject<B>, rows: Vec<(usize, Row)>, progress: Progress<'_>) -> Result<Vec<Answer<Embedding>>> {
        let mut options = embed::defaults(subject)?;
        match self.pooling {
            Some(Pooling::Mean) => options.pooling = embed::Pooling::Mean,
            Some(Pooling::Cls) => options.pooling = embed::Pooling::Cls,
            None => {}
        }
        options.normalize = self.normalize.unwrap_or(options.normalize);
        embed::embed(subject, rows, self.rows.batch_size as usize, options, progress)
    }
}

/// Embeds.
pub fn main(arguments: &Arguments) -> Result<()> {
    rows::main(&arguments.rows, arguments)
}
