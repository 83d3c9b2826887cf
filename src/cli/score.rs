//! `score`: log-probabilities of tokens.

use clap::Args;

use super::rows;
use crate::backend::Backend;
use crate::backend::counting::Counting;
use crate::error::Result;
use crate::inference::score::{self, Row, Score, Sequence};
use crate::inference::{Answer, Progress, Reader, Subject};
use crate::model::memory::Memory;

/// Log-probabilities of the tokens of rows with `tokens`, or `text`, or `prompt` and `completion`
///
/// A row becomes `tokens` and `logprobs` (natural logarithms): entry i is the log-probability of
/// token i + 1 given tokens 0 to i. Of a row with a prompt, both are of the completion alone, and
/// entry i is of token i of it. Other fields are passed on.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    rows: rows::ModelAndRows,
    /// Logits are divided by it
    #[arg(long, default_value_t = 1.0)]
    temperature: f32,
}

impl rows::Command for Arguments {
    type Row = Row;
    type Prepared = Vec<Sequence>;
    type Answer = Answer<Score>;

    fn prepare(&self, reader: &Reader, rows: Vec<(usize, Row)>) -> Result<Self::Prepared> {
        score::prepare(reader, rows)
    }

    fn memory(&self, b: &Counting, reader: &Reader, prepared: &Self::Prepared) -> Result<Memory> {
        Ok(score::memory(b, &reader.spec, prepared, self.rows.batch_size()))
    }

    fn run<B: Backend>(
        &self,
        subject: &Subject<B>,
        prepared: Self::Prepared,
        progress: Progress<'_>,
    ) -> Result<Vec<Self::Answer>> {
        score::score(subject, prepared, self.rows.batch_size(), self.temperature, progress)
    }
}

/// Scores.
pub fn main(arguments: &Arguments) -> Result<()> {
    rows::positive(arguments.temperature, "--temperature")?;
    rows::main(&arguments.rows, arguments)
}
