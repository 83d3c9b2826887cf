//! Training of one model on batches of rows: for each batch a loss, its gradient, one optimiser
//! step. Every loss of fixed rows is trained so: supervised fine-tuning and the reward model.

use super::archive::Archive;
use super::optimiser::{OptimiserConfig, TrainState};
use super::steps::{self, State, StepReport};
use super::validation::{Best, Kept, Validator};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::error::Result;
use crate::rl::Metrics;

/// A run whose whole state between steps is one model in training, and the best of its steps.
struct Training<'a, B: Backend> {
    b: &'a B,
    state: TrainState<B>,
    best: Best,
}

impl<B: Backend> State for Training<'_, B> {
    fn save(&self, archive: &mut Archive) {
        self.state.save(self.b, "model", archive);
        self.best.save(archive);
    }

    fn load(&mut self, archive: &Archive) -> Result<()> {
        self.best = Best::load(archive)?;
        self.state.load(self.b, "model", archive)
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
}

impl<B: Backend> Minimise<'_, B> {
    /// Takes the steps, writes `metrics.jsonl`, and returns the trained state, with the step that
    /// it is of where there is a validator. `accumulate(state, batch)` adds the gradient of the
    /// mean loss of a batch to the gradients, which are zero, and returns metrics and the tokens
    /// that went through the model.
    ///
    /// # Errors
    /// Those of [`steps::run`].
    pub fn run(
        &self,
        b: &B,
        context: &Context,
        state: TrainState<B>,
        mut accumulate: impl FnMut(&mut TrainState<B>, &[usize]) -> (Metrics, usize),
    ) -> Result<(TrainState<B>, Option<Kept>)> {
        let Minimise { batches, optimiser, shown, validator } = self;
        let mut training = Training { b, state, best: Best::default() };
        steps::run(context, &mut training, batches.len(), |Training { state, best, .. }, step| {
            state.clear_gradients(b);
            let (mut metrics, tokens) = accumulate(state, &batches[step]);
            let rate = optimiser.rate(step, batches.len());
            let norm = state.update(b, optimiser, rate, 1.0, |_| true);
            metrics.extend([("grad_norm", norm), ("learning_rate", rate)]);
            if let Some(validator) = validator {
                metrics.extend(best.after(b, validator, state, (step + 1, batches.len())));
            }
            Ok(StepReport { metrics, shown, tokens })
        })?;
        let Training { mut state, best, .. } = training;
        let kept = best.restore(b, &mut state);
        Ok((state, kept))
    }
}
