//! Training runs of a classifier of text pairs: of the network on features that stay the same, or
//! of the network and its encoder at once. Batches are lists of rows.

use super::optimiser::OptimiserConfig;
use super::steps::{self, StepReport};
use super::text_pairs::{PairHeadState, PairTuner, TokenPair, tokens};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::error::Result;
use crate::model::pairs::PairHead;

/// Trains the network on features `[n][inputs]` and the labels `[n]` of all rows.
///
/// # Errors
/// Those of [`steps::run`].
pub fn train_head<B: Backend>(
    b: &B,
    context: &Context,
    head: &PairHead,
    (x, y): (&[Vec<f32>], &[u32]),
    batches: &[Vec<usize>],
    optimiser: &OptimiserConfig,
) -> Result<PairHead> {
    let mut state = PairHeadState::new(b, head);
    steps::run(context, &mut state, batches.len(), |state, step| {
        let features: Vec<f32> =
            batches[step].iter().flat_map(|row| x[*row].iter().copied()).collect();
        let targets: Vec<u32> = batches[step].iter().map(|row| y[*row]).collect();
        let rate = optimiser.rate(step, batches.len());
        let mut metrics = state.step(&features, &targets, optimiser, rate);
        metrics.push(("learning_rate", rate));
        Ok(StepReport { metrics, shown: &["loss", "accuracy"], ..StepReport::default() })
    })?;
    Ok(state.finished())
}

/// Trains the network and the blocks of the encoder that are not frozen, on the tokens and the
/// labels of all rows.
///
/// # Errors
/// Those of [`steps::run`].
pub fn train_with_encoder<'a, B: Backend>(
    context: &Context,
    mut tuner: PairTuner<'a, B>,
    (x, y): (&[TokenPair], &[u32]),
    batches: &[Vec<usize>],
    optimiser: &OptimiserConfig,
) -> Result<PairTuner<'a, B>> {
    steps::run(context, &mut tuner, batches.len(), |tuner, step| {
        let rows: Vec<&TokenPair> = batches[step].iter().map(|row| &x[*row]).collect();
        let targets: Vec<u32> = batches[step].iter().map(|row| y[*row]).collect();
        let rate = optimiser.rate(step, batches.len());
        let mut metrics = tuner.step(&rows, &targets, optimiser, rate);
        metrics.push(("learning_rate", rate));
        Ok(StepReport {
            metrics,
            shown: &["loss", "accuracy"],
            tokens: rows.into_iter().map(tokens).sum(),
            ..StepReport::default()
        })
    })?;
    Ok(tuner)
}
