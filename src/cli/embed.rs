//! `embed`: texts as vectors.

use clap::{Args, ValueEnum};

use super::rows;
use crate::backend::Backend;
use crate::backend::counting::Counting;
use crate::error::Result;
use crate::inference::embed::{self, Embedding, Options, Row, Text};
use crate::inference::{Answer, Progress, Reader, Subject};
use crate::model::memory::Memory;

/// Vectors of rows with `tokens`, or `text`
///
/// A row becomes `embedding`, pooled from the last hidden states. Without options, as the folder's
/// sentence-transformers files ask; where there are none, the mean. Other fields are passed on.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    rows: rows::ModelAndRows,
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
    type Prepared = (Options, Vec<Text>);
    type Answer = Answer<Embedding>;

    fn prepare(&self, reader: &Reader, rows: Vec<(usize, Row)>) -> Result<Self::Prepared> {
        let mut options = embed::defaults(reader)?;
        match self.pooling {
            Some(Pooling::Mean) => options.pooling = embed::Pooling::Mean,
            Some(Pooling::Cls) => options.pooling = embed::Pooling::Cls,
            None => {}
        }
        options.normalize = self.normalize.unwrap_or(options.normalize);
        Ok((options, embed::prepare(reader, rows, options)?))
    }

    fn memory(&self, b: &Counting, reader: &Reader, prepared: &Self::Prepared) -> Result<Memory> {
        Ok(embed::memory(b, &reader.spec, reader.head, &prepared.1, self.rows.batch_size()))
    }

    fn run<B: Backend>(
        &self,
        subject: &Subject<B>,
        prepared: Self::Prepared,
        progress: Progress<'_>,
    ) -> Result<Vec<Self::Answer>> {
        let (options, texts) = prepared;
        embed::embed(subject, texts, self.rows.batch_size(), options, progress)
    }
}

/// Embeds.
pub fn main(arguments: &Arguments) -> Result<()> {
    rows::main(&arguments.rows, arguments)
}
