//! Training on preference pairs without a reward model: answers as tokens, their reference
//! log-probabilities, and the gradient of a loss of [`crate::rl::direct`].
//!
//! 1. The log-probability of an answer is the sum over its tokens, EOS included, at temperature 1,
//!    added up in `f64` in the order of the tokens.
//! 2. The loss is the mean over the pairs of the whole batch, however it is cut into
//!    micro-batches; a pair is never cut.

use super::optimiser::TrainState;
use super::validation;
use crate::backend::Backend;
use crate::data::rows::{Preference, called};
use crate::data::tokenised::{Limits, TooLong};
use crate::error::{Result, user};
use crate::model::batch::{Batch, micro_batches, scored_tokens};
use crate::model::heads::{self, TargetTokens};
use crate::model::transformer;
use crate::model::weights::Model;
use crate::rl::Metrics;
use crate::rl::direct::{Answer, DirectLoss, DirectStatistics};
use crate::tokenizer::tokens::Tokenizer;

/// A prompt with an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// Prompt and answer.
    pub tokens: Vec<u32>,
    /// Tokens of the prompt.
    pub prompt: usize,
}

impl Answered {
    /// Tokens of the answer that have a log-probability: all of them, but the first of a sequence
    /// without a prompt.
    pub fn length(&self) -> usize {
        self.tokens.len() - self.prompt.max(1)
    }
}

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
/// The user's: with all rows of the split that are too long for `reader`, or a row whose prompt and
/// answer are both without a token.
pub fn pairs(
    rows: &[Preference],
    tokenizer: &Tokenizer,
    limits: Limits,
    reader: &str,
    split: &str,
) -> Result<Vec<Pair>> {
    let mut long = TooLong::new(limits.context, split, reader, limits.field);
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let mut side = |text: &str, name: &str| -> Result<Answered> {
            let (prompt, response) = tokenizer.encode_row(&row.prompt, text, row.chat)?;
            let prompt = limits.cut(prompt);
            long.pair(&row.id, row.origin.as_ref(), prompt.len(), response.len(), "response");
            let side = Answered { prompt: prompt.len(), tokens: [prompt, response].concat() };
            if side.length() == 0 {
                let row = called(&row.id, row.origin.as_ref());
                let message = format!("{row} of split `{split}`: prompt and `{name}` are empty");
                return Err(user(message)
                    .hint("remove the row: no token has a probability")
                    .into());
            }
            Ok(side)
        };
        let sides = [side(&row.chosen, "chosen")?, side(&row.rejected, "rejected")?];
        found.push(Pair { id: row.id.clone(), sides });
    }
    long.check()?;
    Ok(found)
}

/// Of each pair, the log-probabilities of both answers under `model`, in nats.
pub fn logprobs<B: Backend>(b: &B, model: &Model<B>, pairs: &[Pair]) -> Vec<[f64; 2]> {
    let mut found = Vec::with_capacity(pairs.len());
    for run in micro_batches(pairs.iter().map(Pair::tokens)) {
        let part: Vec<&Pair> = pairs[run].iter().collect();
        let packed = Packed::new(&part);
        let hidden = transformer::hidden(b, model, &packed.batch);
        let scores = heads::token_logprobs(b, model, &hidden, packed.scored(), false);
        found.extend(packed.sums(&b.download_f64(&scores.logprobs)));
    }
    found
}

/// Some pairs, packed for one pass.
struct Packed<'a> {
    pairs: &'a [&'a Pair],
    batch: Batch,
    rows: Vec<u32>,
    targets: Vec<u32>,
}

impl<'a> Packed<'a> {
    fn new(pairs: &'a [&'a Pair]) -> Self {
        let sides = || pairs.iter().flat_map(|pair| &pair.sides);
        let sequences: Vec<&[u32]> = sides().map(|side| side.tokens.as_slice()).collect();
        let from: Vec<usize> = sides().map(|side| side.prompt).collect();
        let (rows, targets) = scored_tokens(&sequences, &from);
        Packed { pairs, batch: Batch::new(&sequences), rows, targets }
    }

    fn scored(&self) -> TargetTokens<'_> {
        TargetTokens { rows: &self.rows, targets: &self.targets, temperature: 1.0 }
    }

    /// Sums over the tokens of each side.
    fn sums(&self, logprobs: &[f64]) -> Vec<[f64; 2]> {
        let mut rest = logprobs;
        let mut sum = |side: &Answered| {
            let (own, after) = rest.split_at(side.length());
            rest = after;
            own.iter().sum::<f64>()
        };
        let of_pair = |pair: &&Pair| [sum(&pair.sides[0]), sum(&pair.sides[1])];
        self.pairs.iter().map(of_pair).collect()
    }
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
    assert_eq!(batch.len(), reference.len(), "a reference for each pair");
    let mut statistics = DirectStatistics::default();
    for run in micro_batches(batch.iter().map(|pair| pair.tokens())) {
        let (part, reference) = (&batch[run.clone()], &reference[run]);
        let packed = Packed::new(part);
        let activations = state.forward(b, &packed.batch);
        let TrainState { model, .. } = state;
        let scores = heads::token_logprobs(b, model, &activations.hidden, packed.scored(), true);
        let sums = packed.sums(&b.download_f64(&scores.logprobs));
        let mut by_token = Vec::with_capacity(packed.rows.len());
        for ((pair, policy), reference) in part.iter().zip(sums).zip(reference) {
            let [chosen, rejected] = answers(pair, policy, *reference);
            let found = loss.of(chosen, rejected);
            statistics.add(loss, chosen, rejected, found.loss);
            for (gradient, side) in [found.chosen, found.rejected].into_iter().zip(&pair.sides) {
                let of_token = gradient / batch.len() as f64;
                by_token.extend(std::iter::repeat_n(of_token, side.length()));
            }
        }
        let mut dhidden = state.hidden_gradient(b, &packed.batch);
        let TrainState { model, gradients, .. } = state;
        heads::token_logprobs_backward(
            b,
            model,
            &mut dhidden,
            gradients,
            &activations.hidden,
            packed.scored(),
            scores,
            &b.upload_wide_f64(&by_token),
        );
        state.backward(b, &packed.batch, &activations, &dhidden);
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
