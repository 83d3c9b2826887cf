//! Supervised training of a language model on tokenised rows, in one phase or in several that
//! follow one another.

use std::ops::Range;
use std::path::Path;

use super::language;
use super::minimise::minimise;
use super::optimiser::{OptimiserConfig, TrainState};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::batches::phased_batches;
use crate::data::tokenised::Tokenised;
use crate::error::Result;
use crate::model::params::Trainable;
use crate::model::transformer::Recompute;
use crate::model::weights::Model;

/// A supervised run.
pub struct Supervised<'a> {
    /// What is learned.
    pub rows: &'a [Tokenised],
    /// Ranges of rows that follow one another in an epoch.
    pub phases: &'a [Range<usize>],
    /// Rows a step.
    pub batch_size: usize,
    /// Times through all rows.
    pub epochs: usize,
    /// Seed of the order.
    pub seed: u64,
    /// The optimiser.
    pub optimiser: &'a OptimiserConfig,
    /// What backward passes make again.
    pub recompute: Recompute,
    /// What trains.
    pub trainable: Trainable,
    /// The folder that the model was loaded from, if it was.
    pub from: Option<&'a Path>,
}

impl Supervised<'_> {
    /// Trains a copy of the model, and writes `metrics.jsonl`. The model that comes back is to be
    /// written: [`TrainState::finished`].
    pub fn run<B: Backend>(&self, b: &B, context: &Context, model: &Model<B>) -> Result<Model<B>> {
        let lengths: Vec<usize> = self.rows.iter().map(|row| row.tokens.len()).collect();
        let epoch = |epoch: usize| {
            phased_batches(&lengths, self.phases, self.batch_size, self.seed, epoch as u64)
        };
        let batches: Vec<Vec<usize>> = (0..self.epochs).flat_map(epoch).collect();
        let mut state = TrainState::new(b, model, self.trainable.clone())?.with(self.recompute);
        if let Some(folder) = self.from {
            state = state.with_masters_of(b, folder)?;
        }
        let state =
            minimise(b, context, state, &batches, self.optimiser, &["loss"], |state, batch| {
                let batch: Vec<&Tokenised> = batch.iter().map(|row| &self.rows[*row]).collect();
                let tokens = batch.iter().map(|row| row.tokens.len()).sum();
                (language::accumulate(b, state, &batch), tokens)
            })?;
        Ok(state.finished())
    }
}
