//! `score`: log-probabilities of tokens.

use clap::Args;

use super::rows;
use crate::backend::Backend;
use crate::error::Result;
use crate::inference::score::{Row, Score, score};
use crate::inference::{Answer, Progress, Subject};

/// Log-probabilities of the tokens of rows with `tokens`, or `text`, or `prompt` and `completion`
///
/// A row becomes `tokens` and `logprobs` (natural logarithms): entry i is the log-probability of token i + 1 given tokens 0 to i. Of a row
/// with a prompt, both are of the completion alone, and entry i is of token i of it. Other fields are passed on.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    rows: rows::Arguments,
    /// Logits are divided by it
    #[arg(long, default_value_t = 1.0)]
    temperature: f32,
}

impl rows::Command for Arguments {
    type Row = Row;
    type Answer = Answer<Score>;

    fn run<B: Backend>(&self, subject: &Subject<B>, rows: Vec<(usize, Row)>, progress: Progress<'_>) -> Result<Vec<Answer<Score>>> {
        score(subject, rows, self.rows.batch_size as usize, self.temperature, progress)
    }
}

/// Scores.
pub fn main(arguments: &Arguments) -> Result<()> {
    rows::positive(arguments.temperature, "--temperature")?;
    rows::main(&arguments.rows, arguments)
}
