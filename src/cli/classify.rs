//! `classify`: logits of classes.

use clap::Args;

use super::rows;
use crate::backend::Backend;
use crate::error::Result;
use crate::inference::classify::{Class, Row, classify};
use crate::inference::{Answer, Progress, Subject};

/// Logits of rows with `tokens`, or `text` with or without `text_pair`, by a sequence classifier or a reward model
///
/// A row becomes `logits` and `label`, the name of the greatest. Other fields are passed on.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    rows: rows::Arguments,
}

impl rows::Command for Arguments {
    type Row = Row;
    type Answer = Answer<Class>;

    fn run<B: Backend>(&self, subject: &Subject<B>, rows: Vec<(usize, Row)>, progress: Progress<'_>) -> Result<Vec<Answer<Class>>> {
        classify(subject, rows, self.rows.batch_size as usize, progress)
    }
}

/// Classifies.
pub fn main(arguments: &Arguments) -> Result<()> {
    rows::main(&arguments.rows, arguments)
}
