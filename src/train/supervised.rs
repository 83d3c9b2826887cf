//! Supervised training of a language model on tokenised rows, in one phase or in several that
//! follow one another.

use std::ops::Range;
use std::path::Path;

use super::average::AverageConfig;
use super::language;
use super::minimise::Minimise;
use super::optimiser::{OptimiserConfig, TrainState};
use super::validation::{self, Kept, ValidationConfig, Validator};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::batches::phased_batches;
use crate::data::tokenised::Tokenised;
use crate::error::Result;
use crate::model::params::Trainable;
use crate::model::transformer::Recompute;
use crate::model::weights::Model;
use crate::rl::sentinels::settings::Sentinels;

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
    /// How the model is measured meanwhile, and the rows, if it is.
    pub validation: Option<(&'a ValidationConfig, &'a [Tokenised])>,
    /// The average of weights that is measured and returned instead of the last ones, if one is.
    pub average: Option<AverageConfig>,
    /// The stage kind, and the settings of its sentinels, where it has any.
    pub sentinels: Option<(&'a str, &'a Sentinels)>,
    /// Figures of the rows, which every step has.
    pub of_rows: &'a [(&'static str, f64)],
}

impl Supervised<'_> {
    /// Trains a copy of the model, and writes `metrics.jsonl`. The model that comes back is to be
    /// written ([`TrainState::finished`]); with it comes the step that it is of, where it was
    /// measured.
    pub fn run<B: Backend>(
        &self,
        b: &B,
        context: &Context,
        model: &Model<B>,
    ) -> Result<(Model<B>, Option<Kept>)> {
        let lengths: Vec<usize> = self.rows.iter().map(|row| row.tokens.len()).collect();
        let epoch = |epoch: usize| {
            phased_batches(&lengths, self.phases, self.batch_size, self.seed, epoch as u64)
        };
        let batches: Vec<Vec<usize>> = (0..self.epochs).flat_map(epoch).collect();
        let mut state = TrainState::new(b, model, self.trainable.clone())?.with(self.recompute);
        if let Some(folder) = self.from {
            state = state.with_masters_of(b, folder)?;
        }
        let measure = |state: &TrainState<B>| {
            let (_, rows) = self.validation.expect("a validator has rows");
            Ok(language::measure(b, &state.model, rows))
        };
        let validator = self.validation.map(|(config, _)| Validator {
            every: config.every,
            keep: config.keep,
            by: validation::LOSS,
            measure: &measure,
        });
        let (optimiser, shown) = (self.optimiser, &["loss", "validation/loss"]);
        let average = self.average;
        let sentinels = self.sentinels;
        let minimise =
            Minimise { batches: &batches, optimiser, shown, validator, average, sentinels };
        let (state, kept) = minimise.run(b, context, state, |state, batch| {
            let batch: Vec<&Tokenised> = batch.iter().map(|row| &self.rows[*row]).collect();
            let tokens = batch.iter().map(|row| row.tokens.len()).sum();
            let mut metrics = language::accumulate(b, state, &batch);
            metrics.extend(self.of_rows);
            (metrics, tokens)
        })?;
        Ok((state.finished(), kept))
    }
}
