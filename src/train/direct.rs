//! Training on preference pairs without a reward model: answers as tokens, their reference
//! log-probabilities, and the gradient of a loss of [`crate::rl::direct`].
//!
//! The loss is the mean over the pairs of the whole batch, however it is cut into micro-batches; a
//! pair is never cut.

use super::answers::{Answered, Packed, Reader, RowPrompt};
use super::optimiser::TrainState;
use super::validation;
use crate::backend::Backend;
use crate::data::rows::Preference;
use crate::data::tokenised::Limits;
use crate::error::Result;
use crate::model::batch::micro_batches;
use crate::model::weights::Model;
use crate::rl::Metrics;
use crate::rl::direct::{Answer, DirectLoss, DirectStatistics};
use crate::tokenizer::tokens::Tokenizer;

/// A pair as tokens: the chosen answer, then the rejected one.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// Its row.
    pub id: String,
    /// Both sides.
    pub sides: [Answered; 2],
}

impl Pair {
    /// Tokens of both sequences.
    pub fn tokens(&self) -> usize {
        self.sides.iter().map(|side| side.tokens.len()).sum()
    }
}

/// The pairs of some rows. Each answer has a token with a log-probability.
///
/// # Errors
/// Those of [`Reader`].
pub fn pairs(
    rows: &[Preference],
    tokenizer: &Tokenizer,
    limits: Limits,
    reader: &str,
    split: &str,
) -> Result<Vec<Pair>> {
    let mut reader = Reader::new(tokenizer, limits, reader, split);
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let of = RowPrompt {
            id: &row.id,
            origin: row.origin.as_ref(),
            prompt: &row.prompt,
            chat: row.chat,
        };
        let chosen = reader.answer(of, "chosen", &row.chosen)?;
        let rejected = reader.answer(of, "rejected", &row.rejected)?;
        found.push(Pair { id: row.id.clone(), sides: [chosen, rejected] });
    }
    reader.check()?;
    Ok(found)
}

/// Of each pair, the log-probabilities of both answers under `model`, in nats.
pub fn logprobs<B: Backend>(b: &B, model: &Model<B>, pairs: &[Pair]) -> Vec<[f64; 2]> {
    let mut found = Vec::with_capacity(pairs.len());
    for run in micro_batches(pairs.iter().map(Pair::tokens)) {
        let sides: Vec<&Answered> = pairs[run].iter().flat_map(|pair| &pair.sides).collect();
        found.extend_from_slice(Packed::new(&sides).logprobs(b, model).as_chunks().0);
    }
    found
}

/// The sides of a pair with what policy and reference say of them.
fn answers(pair: &Pair, policy: [f64; 2], reference: [f64; 2]) -> [Answer; 2] {
    [0, 1].map(|at| Answer {
        policy: policy[at],
        reference: reference[at],
        tokens: pair.sides[at].length(),
    })
}

/// Adds the gradient of the mean loss over the pairs of `batch` to the gradients of `state`, and
/// returns the metrics of [`DirectStatistics`]. `reference` has each pair's log-probabilities under
/// the reference policy, or zeros.
///
/// # Panics
/// If there is not one of `reference` a pair.
pub fn accumulate<B: Backend>(
    b: &B,
    state: &mut TrainState<B>,
    batch: &[&Pair],
    reference: &[[f64; 2]],
    loss: &DirectLoss,
) -> Metrics {
    accumulate_at(b, state, batch, reference, loss, 1.0)
}

/// The same with log-probabilities at a temperature, that of `reference`.
///
/// # Panics
/// If there is not one of `reference` a pair.
pub(super) fn accumulate_at<B: Backend>(
    b: &B,
    state: &mut TrainState<B>,
    batch: &[&Pair],
    reference: &[[f64; 2]],
    loss: &DirectLoss,
    temperature: f32,
) -> Metrics {
    assert_eq!(batch.len(), reference.len(), "a reference for each pair");
    let mut statistics = DirectStatistics::default();
    for run in micro_batches(batch.iter().map(|pair| pair.tokens())) {
        let (part, reference) = (&batch[run.clone()], &reference[run]);
        let sides: Vec<&Answered> = part.iter().flat_map(|pair| &pair.sides).collect();
        Packed::new(&sides).at(temperature).accumulate(b, state, |sums| {
            let mut gradients = Vec::with_capacity(sums.len());
            for ((pair, policy), reference) in part.iter().zip(sums.as_chunks().0).zip(reference) {
                let [chosen, rejected] = answers(pair, *policy, *reference);
                let found = loss.of(chosen, rejected);
                statistics.add(loss, chosen, rejected, found.loss);
                gradients
                    .extend([found.chosen, found.rejected].map(|own| own / batch.len() as f64));
            }
            gradients
        });
    }
    statistics.metrics()
}

/// The mean loss of `pairs`, `validation/loss`, and the share whose chosen answer has the greater
/// implicit reward, `validation/accuracy`: those of [`accumulate`], without a gradient.
pub fn measure<B: Backend>(
    b: &B,
    model: &Model<B>,
    pairs: &[Pair],
    reference: &[[f64; 2]],
    loss: &DirectLoss,
) -> Metrics {
    let mut statistics = DirectStatistics::default();
    for ((pair, policy), reference) in pairs.iter().zip(logprobs(b, model, pairs)).zip(reference) {
        let [chosen, rejected] = answers(pair, policy, *reference);
        statistics.add(loss, chosen, rejected, loss.of(chosen, rejected).loss);
    }
    vec![(validation::LOSS, statistics.loss()), ("validation/accuracy", statistics.accuracy())]
}
