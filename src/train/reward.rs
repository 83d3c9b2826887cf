//! The reward model: the sequence that it reads, its gradient on preference pairs, and the
//! normalisation of its scores.
//!
//! 1. The score is read at the last token, which is the end-of-text token.
//! 2. After training, scores are normalised: mean 0 and standard deviation 1 over both texts of
//!    training pairs, or mean 0 over reference completions, the scale kept.

use super::optimiser::TrainState;
use super::preference::{PreferenceGroup, score_gradients};
use super::steps::diverged;
use super::validation;
use crate::backend::Backend;
use crate::error::Result;
use crate::model::batch::{Batch, micro_batches};
use crate::model::heads;
use crate::model::score::last_scalars;
use crate::model::weights::Model;
use crate::rl::Metrics;
use crate::rl::preference::{Normalisation, PairLoss, PairStatistics};

/// Prompt, response and the end-of-text token: a reward model always sees the end that it saw in
/// training (Kirk et al. 2024, released code), behind a response that another token ended as well.
/// The penalty of an unfinished response is decided elsewhere.
pub fn reward_sequence(prompt: &[u32], response: &[u32], eos: u32) -> Vec<u32> {
    let mut sequence = [prompt, response].concat();
    if response.last() != Some(&eos) {
        sequence.push(eos);
    }
    sequence
}

/// Adds the gradient of the mean loss over groups to the gradients of `state`; returns the metrics
/// of [`PairStatistics`].
pub fn accumulate<B: Backend>(
    b: &B,
    state: &mut TrainState<B>,
    batch: &[&PreferenceGroup],
    loss: PairLoss,
) -> Metrics {
    let mut statistics = PairStatistics::default();
    for run in micro_batches(batch.iter().map(|group| group.tokens())) {
        let groups = &batch[run];
        let sequences: Vec<&[u32]> = groups.iter().flat_map(|group| group.slices()).collect();
        let packed = Batch::new(&sequences);
        let last = packed.lasts();
        let activations = state.forward(b, &packed);
        let scores: Vec<f32> = heads::scalar_scores(b, &state.model, &activations.hidden, &last)
            .into_iter()
            .map(|score| score as f32)
            .collect();
        let dscores = score_gradients(&mut statistics, groups, &scores, batch.len(), loss);
        let mut dhidden = state.hidden_gradient(b, &packed);
        heads::scalar_scores_backward(
            b,
            &state.model,
            &mut dhidden,
            &mut state.gradients,
            &activations.hidden,
            &last,
            &b.upload_f64(&dscores),
        );
        state.backward(b, &packed, &activations, &dhidden);
    }
    statistics.metrics()
}

/// The mean loss of `groups`, `validation/loss`, and the share of pairs that are ordered as
/// labelled, `validation/accuracy`: those of [`accumulate`], without a gradient.
pub fn measure<B: Backend>(
    b: &B,
    model: &Model<B>,
    groups: &[PreferenceGroup],
    loss: PairLoss,
) -> Metrics {
    let mut statistics = PairStatistics::default();
    for group in groups {
        let scores = last_scalars(b, model, &group.slices().collect::<Vec<_>>());
        score_gradients(&mut statistics, &[group], &scores, groups.len(), loss);
    }
    let figure = |wanted| {
        let metrics = statistics.metrics();
        metrics.into_iter().find(|(name, _)| *name == wanted).map_or(f64::NAN, |(_, x)| x)
    };
    vec![(validation::LOSS, figure("loss")), ("validation/accuracy", figure("accuracy"))]
}

/// The normalisation of the model's scores, from both texts of the pairs of `groups`.
///
/// # Errors
/// The user's, if scores are not finite: training diverged.
pub fn normalisation<B: Backend>(
    b: &B,
    model: &Model<B>,
    groups: &[PreferenceGroup],
) -> Result<Normalisation> {
    let (mut chosen, mut rejected) = (Vec::new(), Vec::new());
    for group in groups {
        let sequences: Vec<&[u32]> = group.slices().collect();
        let scores = last_scalars(b, model, &sequences);
        chosen.extend(group.pairs.iter().map(|pair| scores[pair.0]));
        rejected.extend(group.pairs.iter().map(|pair| scores[pair.1]));
    }
    checked(Normalisation::of(&chosen, &rejected), "the training pairs")
}

/// The shift that gives `sequences` a mean score of 0 (Huang et al. 2024, detail 15).
///
/// # Errors
/// As of [`normalisation`].
pub fn shift<B: Backend>(b: &B, model: &Model<B>, sequences: &[&[u32]]) -> Result<Normalisation> {
    checked(Normalisation::shift(&last_scalars(b, model, sequences)), "the references")
}

/// Refuses what is not finite; `of` says what was scored.
fn checked(normalisation: Normalisation, of: &str) -> Result<Normalisation> {
    let Normalisation { mean, std } = normalisation;
    match mean.is_finite() && std.is_finite() {
        true => Ok(normalisation),
        false => {
            let found = format!("scores of {of} have mean {mean} and standard deviation {std}");
            Err(diverged(found).into())
        }
    }
}
