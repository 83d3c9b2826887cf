//! `classify`: logits of classes.

use clap::Args;

use super::rows;
use crate::backend::Backend;
use crate::backend::counting::Counting;
use crate::error::Result;
use crate::inference::classify::{self, Class, Row, Text};
use crate::inference::{Answer, Progress, Reader, Subject};
use crate::model::memory::Memory;

/// Logits of rows with `tokens`, or `text` with or without `text_pair`, by a sequence classifier or
/// a reward model
///
/// What the stage `classifier` made takes rows with `text` and `text_pair`. A row becomes `logits`
/// and `label`, the name of the greatest. Other fields are passed on.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    rows: rows::ModelAndRows,
}

impl rows::Command for Arguments {
    type Row = Row;
    type Prepared = Vec<Text>;
    type Answer = Answer<Class>;

    fn prepare(&self, reader: &Reader, rows: Vec<(usize, Row)>) -> Result<Self::Prepared> {
        classify::prepare(reader, rows)
    }

    fn memory(&self, b: &Counting, reader: &Reader, prepared: &Self::Prepared) -> Result<Memory> {
        Ok(classify::memory(b, &reader.spec, reader.head, prepared, self.rows.batch_size()))
    }

    fn run<B: Backend>(
        &self,
        subject: &Subject<B>,
        prepared: Self::Prepared,
        progress: Progress<'_>,
    ) -> Result<Vec<Self::Answer>> {
        classify::classify(subject, prepared, self.rows.batch_size(), progress)
    }
}

/// Classifies.
pub fn main(arguments: &Arguments) -> Result<()> {
    rows::main(&arguments.rows, arguments)
}
