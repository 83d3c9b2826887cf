//! Training of one model on batches of rows: for each batch a loss, its gradient, one optimiser
//! step. Every loss of fixed rows is trained so: supervised fine-tuning and the reward model.

use super::archive::Archive;
use super::optimiser::{OptimiserConfig, TrainState};
use super::steps::{self, State, StepReport};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::error::Result;
use crate::rl::Metrics;

/// A run whose whole state between steps is one model in training.
struct Training<'a, B: Backend> {
    b: &'a B,
    state: TrainState<B>,
}

impl<B: Backend> State for Training<'_, B> {
    fn save(&self, archive: &mut Archive) {
        self.state.save(self.b, "model", archive);
    }

    fn load(&mut self, archive: &Archive) -> Result<()> {
        self.state.load(self.b, "model", archive)
    }
}

/// Takes one step on each of `batches`, lists of rows; writes `metrics.jsonl` and returns the
/// trained state. `accumulate(state, batch)` adds the gradient of the mean loss of a batch to the
/// gradients, which are zero, and returns metrics and the tokens that went through the model;
/// metrics named in `shown` are shown as they come.
///
/// # Errors
/// Those of [`steps::run`].
pub fn minimise<B: Backend>(
    b: &B,
    context: &Context,
    state: TrainState<B>,
    batches: &[Vec<usize>],
    optimiser: &OptimiserConfig,
    shown: &'static [&'static str],
    mut accumulate: impl FnMut(&mut TrainState<B>, &[usize]) -> (Metrics, usize),
) -> Result<TrainState<B>> {
    let mut training = Training { b, state };
    steps::run(context, &mut training, batches.len(), |Training { state, .. }, step| {
        state.clear_gradients(b);
        let (mut metrics, tokens) = accumulate(state, &batches[step]);
        let rate = optimiser.rate(step, batches.len());
        let norm = state.update(b, optimiser, rate, 1.0, |_| true);
        metrics.extend([("grad_norm", norm), ("learning_rate", rate)]);
        Ok(StepReport { metrics, shown, tokens })
    })?;
    Ok(training.state)
}
