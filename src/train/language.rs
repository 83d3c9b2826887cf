//! The language-model loss: negative log-likelihood of the tokens that are learned, averaged over
//! those of the whole batch. Knows no rows.
//!
//! 1. Only response tokens, EOS included, are learned where there is a prompt, and of a
//!    conversation only the model's own turns; in a document without a prompt, all but the first
//!    token.
//! 2. The mean is over the learned tokens of the whole batch, however it is cut into micro-batches.
//!    Where it is cut follows from the lengths of its sequences alone. In single precision the cut
//!    changes no bit; in bf16 on tensor cores it does, unless it is at a multiple of
//!    [`crate::backend::GROUP`] tokens.

use super::optimiser::TrainState;
use super::validation;
use crate::backend::Backend;
use crate::data::tokenised::Tokenised;
use crate::model::batch::{Batch, micro_batches};
use crate::model::heads::{self, TargetTokens};
use crate::model::transformer;
use crate::model::weights::Model;
use crate::rl::Metrics;

/// Adds the gradient of the mean loss over `batch` to the gradients of `state`; returns `loss`,
/// `entropy` (both in nats a token) and `num_tokens`.
pub fn accumulate<B: Backend>(b: &B, state: &mut TrainState<B>, batch: &[&Tokenised]) -> Metrics {
    let count: usize = batch.iter().map(|row| row.learned().count()).sum();
    let (mut loss, mut entropy) = (0.0, 0.0);
    for run in micro_batches(batch.iter().map(|row| row.tokens.len())) {
        let rows = &batch[run];
        let sequences: Vec<&[u32]> = rows.iter().map(|row| row.tokens.as_slice()).collect();
        let (rows, targets) = learned_tokens(rows);
        let scored = TargetTokens { rows: &rows, targets: &targets, temperature: 1.0 };
        let packed = Batch::new(&sequences);
        let activations = state.forward(b, &packed);
        let mut dhidden = state.hidden_gradient(b, &packed);
        let TrainState { model, gradients, .. } = state;
        // loss = -sum of logprobs / count
        let scores = heads::token_gradients(
            b,
            model,
            &mut dhidden,
            gradients,
            &activations.hidden,
            scored,
            -1.0 / count as f64,
        );
        loss -= b.download_f64(&scores.logprobs).iter().sum::<f64>();
        entropy += b.download_f64(&scores.entropies).iter().sum::<f64>();
        state.backward(b, &packed, &activations, &dhidden);
    }
    vec![
        ("loss", loss / count as f64),
        ("entropy", entropy / count as f64),
        ("num_tokens", count as f64),
    ]
}

/// The mean loss over `rows`, `validation/loss`, in nats a token: that of [`accumulate`], without a
/// gradient.
pub fn measure<B: Backend>(b: &B, model: &Model<B>, rows: &[Tokenised]) -> Metrics {
    let rows: Vec<&Tokenised> = rows.iter().collect();
    let count: usize = rows.iter().map(|row| row.learned().count()).sum();
    let mut loss = 0.0;
    for run in micro_batches(rows.iter().map(|row| row.tokens.len())) {
        loss -= logprobs(b, model, &rows[run]).iter().sum::<f64>();
    }
    vec![(validation::LOSS, loss / count as f64)]
}

/// Of each row the loss summed over its learned tokens, in nats, and their number.
pub fn losses<B: Backend>(b: &B, model: &Model<B>, rows: &[Tokenised]) -> Vec<(f64, usize)> {
    let rows: Vec<&Tokenised> = rows.iter().collect();
    let mut found = Vec::with_capacity(rows.len());
    for run in micro_batches(rows.iter().map(|row| row.tokens.len())) {
        let part = &rows[run];
        let mut logprobs = logprobs(b, model, part).into_iter();
        for row in part {
            let count = row.learned().count();
            found.push((-logprobs.by_ref().take(count).sum::<f64>(), count));
        }
    }
    found
}

/// The log-probabilities of the learned tokens of rows that are one micro-batch.
fn logprobs<B: Backend>(b: &B, model: &Model<B>, part: &[&Tokenised]) -> Vec<f64> {
    let sequences: Vec<&[u32]> = part.iter().map(|row| row.tokens.as_slice()).collect();
    let (rows, targets) = learned_tokens(part);
    let hidden = transformer::hidden(b, model, &Batch::new(&sequences));
    let scored = TargetTokens { rows: &rows, targets: &targets, temperature: 1.0 };
    b.download_f64(&heads::token_logprobs(b, model, &hidden, scored, false).logprobs)
}

/// For packed sequences, the rows whose next token is learned, and those tokens.
fn learned_tokens(sequences: &[&Tokenised]) -> (Vec<u32>, Vec<u32>) {
    let (mut rows, mut targets, mut start) = (Vec::new(), Vec::new(), 0);
    for sequence in sequences {
        rows.extend(sequence.learned().map(|at| (start + at - 1) as u32));
        targets.extend(sequence.learned().map(|at| sequence.tokens[at]));
        start += sequence.tokens.len();
    }
    (rows, targets)
}
