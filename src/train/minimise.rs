//! Training of one model on batches of rows: for each batch a loss, its gradient, one optimiser
//! step. Every loss of fixed rows is trained so: supervised fine-tuning and the reward model.

use super::archive::Archive;
use super::average::{Average, AverageConfig};
use super::optimiser::{OptimiserConfig, TrainState};
use super::steps::{self, State, StepReport};
use super::validation::{Kept, Validator, WithBest};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::error::Result;
use crate::rl::Metrics;
use crate::rl::sentinels::settings::Sentinels;
use crate::rl::sentinels::watch::Watch;

/// A run whose whole state between steps is one model in training.
struct Training<'a, B: Backend> {
    b: &'a B,
    state: TrainState<B>,
    average: Option<Average>,
}

impl<B: Backend> Training<'_, B> {
    /// Exchanges the weights with their average, where there is one.
    fn exchange(&mut self) {
        if let Some(average) = &mut self.average {
            average.exchange(self.b, &mut self.state);
        }
    }
}

impl<B: Backend> State for Training<'_, B> {
    fn save(&self, archive: &mut Archive) {
        self.state.save(self.b, "model", archive);
        if let Some(average) = &self.average {
            average.save(archive);
        }
    }

    fn load(&mut self, archive: &Archive) -> Result<()> {
        self.state.load(self.b, "model", archive)?;
        self.average.as_mut().map_or(Ok(()), |average| average.load(archive))
    }
}

/// One optimiser step on each of some batches.
pub struct Minimise<'a, B: Backend> {
    /// Lists of rows.
    pub batches: &'a [Vec<usize>],
    /// The optimiser.
    pub optimiser: &'a OptimiserConfig,
    /// Metrics that are shown as they come.
    pub shown: &'static [&'static str],
    /// How the model is measured meanwhile, if it is.
    pub validator: Option<Validator<'a, B>>,
    /// The average of weights that is measured and returned instead of the last weights, if one is.
    pub average: Option<AverageConfig>,
    /// The stage kind, and the settings of its sentinels, where it has any.
    pub sentinels: Option<(&'a str, &'a Sentinels)>,
}

impl<B: Backend> Minimise<'_, B> {
    /// Takes the steps, writes `metrics.jsonl`, and returns the trained state, with the step that
    /// it is of where there is a validator. `accumulate(state, batch)` adds the gradient of the
    /// mean loss of a batch to the gradients, which are zero, and returns metrics and the tokens
    /// that went through the model.
    ///
    /// # Errors
    /// Those of [`steps::watched`].
    pub fn run(
        &self,
        b: &B,
        context: &Context,
        state: TrainState<B>,
        mut accumulate: impl FnMut(&mut TrainState<B>, &[usize]) -> (Metrics, usize),
    ) -> Result<(TrainState<B>, Option<Kept>)> {
        let Minimise { batches, optimiser, shown, validator, average, sentinels } = self;
        let total = batches.len();
        let watch = sentinels.map_or_else(Watch::none, |(kind, own)| Watch::new(kind, total, own));
        let average = average.map(|config| Average::new(b, config, &state));
        let mut training = WithBest::new(Training { b, state, average });
        steps::watched(context, watch, &mut training, 0..total, |training, step| {
            let state = &mut training.run.state;
            state.clear_gradients(b);
            let (mut metrics, tokens) = accumulate(state, &batches[step]);
            let rate = optimiser.rate(step, total);
            let norm = state.update(b, optimiser, rate, 1.0, |_| true);
            metrics.extend([("grad_norm", norm), ("learning_rate", rate)]);
            let Training { state, average, .. } = &mut training.run;
            if let Some(average) = average {
                average.follow(b, state);
            }
            if step + 1 == total {
                metrics.extend(training.run.state.frozen_movement(b)?);
            }
            let steps = (step + 1, total);
            if let Some(validator) = validator.as_ref().filter(|it| it.is_due(steps)) {
                training.run.exchange();
                metrics.extend(training.after(b, validator, |run| &run.state, steps)?);
                training.run.exchange();
            }
            Ok(StepReport { metrics, shown, tokens, ..StepReport::default() })
        })?;
        training.run.exchange();
        let (run, kept) = training.finish(b, |run| &mut run.state);
        Ok((run.state, kept))
    }
}
