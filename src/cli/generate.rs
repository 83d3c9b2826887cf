//! `generate`: continuations of prompts.

use clap::Args;

use super::rows;
use crate::backend::counting::Counting;
use crate::backend::{Backend, Sampling};
use crate::error::Result;
use crate::inference::generate::{self, Options, Prompt, Row, Written};
use crate::inference::{Answer, Progress, Reader, Subject};
use crate::model::memory::Memory;

/// What a model writes after rows with `tokens`, or `prompt`, or `messages`
///
/// A row becomes `tokens` (the new ones), `text` (where the folder has a tokenizer), `logprobs` and
/// `finish` (`eos`, `stop` or `length`); with --n above 1, as many rows as texts, numbered by
/// `sample`. Other fields are passed on.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    rows: rows::ModelAndRows,
    /// Tokens of a text at most
    #[arg(long, value_name = "N", default_value_t = 64)]
    max_new_tokens: usize,
    /// 0 takes the likeliest token always
    #[arg(long, default_value_t = 1.0)]
    temperature: f32,
    /// Draw from the k likeliest tokens; 0 is all
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Draw from the likeliest tokens that together reach this probability
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,
    /// Draw from tokens with at least this share of the likeliest token's probability
    #[arg(long, default_value_t = 0.0)]
    min_p: f32,
    /// Texts a row
    #[arg(long, default_value_t = 1)]
    n: usize,
    /// Of the draws
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A text that ends what is written; may be repeated
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
}

impl Arguments {
    fn options(&self) -> Result<Options> {
        let Arguments { max_new_tokens, temperature, top_k, top_p, min_p, n, seed, .. } = *self;
        let sampling = Sampling { temperature, top_k, top_p, min_p };
        let device = self.rows.device()?;
        let (cache, stored) = (device.cache_budget()?, device.sizes(self.rows.precision()).stored);
        let (stop, batch_size) = (self.stop.clone(), self.rows.batch_size());
        Ok(Options { cache, stored, max_new_tokens, sampling, n, seed, stop, batch_size })
    }
}

impl rows::Command for Arguments {
    type Row = Row;
    type Prepared = (Options, Vec<Prompt>);
    type Answer = Answer<Written>;

    fn prepare(&self, reader: &Reader, rows: Vec<(usize, Row)>) -> Result<Self::Prepared> {
        let options = self.options()?;
        let prompts = generate::prepare(reader, rows, &options)?;
        Ok((options, prompts))
    }

    fn memory(&self, b: &Counting, reader: &Reader, prepared: &Self::Prepared) -> Result<Memory> {
        generate::memory(b, &reader.spec, &prepared.1, &prepared.0)
    }

    fn run<B: Backend>(
        &self,
        subject: &Subject<B>,
        prepared: Self::Prepared,
        progress: Progress<'_>,
    ) -> Result<Vec<Self::Answer>> {
        generate::generate(subject, prepared.1, &prepared.0, progress)
    }
}

/// Generates.
pub fn main(arguments: &Arguments) -> Result<()> {
    rows::main(&arguments.rows, arguments)
}
