//! Training on single answers with a label by the loss of [`crate::rl::kto`]: the reference point
//! of a batch, and the gradient.
//!
//! 1. The reference point is of the whole batch and of the weights that the step begins with,
//!    however the batch is cut into micro-batches. Mismatched rows take a forward pass more.
//! 2. The loss is the mean over the rows of the whole batch.

use super::answers::{Answered, Packed, logprobs};
use super::optimiser::TrainState;
use super::validation;
use crate::backend::Backend;
use crate::model::batch::micro_batches;
use crate::model::weights::Model;
use crate::rl::Metrics;
use crate::rl::kto::{KtoLoss, KtoStatistics, reference_point};
use crate::rl::preference::preferred;

/// An answer, and what the reference policy says of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Referenced {
    /// Prompt and answer.
    pub answer: Answered,
    /// Log-probability of the answer under the reference, in nats.
    pub reference: f64,
}

/// A row that is learned from.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledRow {
    /// The answer to its own prompt.
    pub own: Referenced,
    /// Its prompt with an answer to another one; `None` where the reference point is 0.
    pub mismatched: Option<Referenced>,
    /// Its label.
    pub desirable: bool,
}

impl LabelledRow {
    /// Tokens of all its sequences.
    pub fn tokens(&self) -> usize {
        let own = self.own.answer.tokens.len();
        own + self.mismatched.as_ref().map_or(0, |of| of.answer.tokens.len())
    }
}

/// Log-probabilities of answers under `model` with their log-ratios, in nats.
fn log_ratios<B: Backend>(b: &B, model: &Model<B>, of: &[&Referenced]) -> Vec<(f64, f64)> {
    let answers: Vec<&Answered> = of.iter().map(|of| &of.answer).collect();
    let logps = logprobs(b, model, &answers).into_iter();
    logps.zip(of).map(|(logp, of)| (logp, logp - of.reference)).collect()
}

/// The reference point of some rows: 0 where they have no mismatched ones.
fn point<B: Backend>(b: &B, model: &Model<B>, rows: &[&LabelledRow]) -> f64 {
    let mismatched: Vec<&Referenced> =
        rows.iter().filter_map(|row| row.mismatched.as_ref()).collect();
    let ratios = log_ratios(b, model, &mismatched).into_iter().map(|(_, ratio)| ratio);
    reference_point(&ratios.collect::<Vec<f64>>())
}

/// Adds the gradient of the mean loss over the rows of `batch` to the gradients of `state`, and
/// returns the metrics of [`KtoStatistics`].
pub fn accumulate<B: Backend>(
    b: &B,
    state: &mut TrainState<B>,
    batch: &[&LabelledRow],
    loss: &KtoLoss,
) -> Metrics {
    let z0 = point(b, &state.model, batch);
    let mut statistics = KtoStatistics::default();
    for run in micro_batches(batch.iter().map(|row| row.own.answer.tokens.len())) {
        let part = &batch[run];
        let answers: Vec<&Answered> = part.iter().map(|row| &row.own.answer).collect();
        Packed::new(&answers).accumulate(b, state, |logps| {
            let mut gradients = Vec::with_capacity(part.len());
            for (row, logp) in part.iter().zip(logps) {
                let ratio = logp - row.own.reference;
                let found = loss.of(ratio, z0, row.desirable);
                statistics.add(loss, (*logp, ratio), found.loss, row.desirable);
                gradients.push(found.gradient / batch.len() as f64);
            }
            gradients
        });
    }
    statistics.metrics(z0)
}

/// The mean loss of the rows of some pairs, desirable and undesirable in turn, `validation/loss`,
/// with their own reference point; and the share of pairs whose desirable answer has the greater
/// log-ratio, a tie counting half, `validation/accuracy`.
pub fn measure<B: Backend>(
    b: &B,
    model: &Model<B>,
    rows: &[LabelledRow],
    loss: &KtoLoss,
) -> Metrics {
    let z0 = point(b, model, &rows.iter().collect::<Vec<_>>());
    let own: Vec<&Referenced> = rows.iter().map(|row| &row.own).collect();
    let ratios = log_ratios(b, model, &own);
    let mut statistics = KtoStatistics::default();
    for (row, (logp, ratio)) in rows.iter().zip(&ratios) {
        let of_row = loss.of(*ratio, z0, row.desirable).loss;
        statistics.add(loss, (*logp, *ratio), of_row, row.desirable);
    }
    let (pairs, _) = ratios.as_chunks::<2>();
    let correct: f64 = pairs.iter().map(|[up, down]| preferred(up.1, down.1)).sum();
    let accuracy = crate::rl::ratio_or_zero(correct, pairs.len());
    vec![(validation::LOSS, statistics.loss()), ("validation/accuracy", accuracy)]
}
