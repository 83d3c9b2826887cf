//! The language-model loss: negative log-likelihood of the tokens that are learned, averaged over those of the whole batch. Knows no rows.
//!
//! 1. Only response tokens, EOS included, are learned where there is a prompt; in a document without one, all but the first token.
//! 2. The mean is over the learned tokens of the whole batch, so cutting it into micro-batches changes no bit.

use super::optimiser::Learner;
use crate::backend::Backend;
use crate::data::tokenised::Tokenised;
use crate::model::heads::{self, Scored};
use crate::model::score::{micro_batches, scored_tokens};
use crate::model::transformer::{self, Batch};
use crate::rl::Metrics;

/// Adds the gradient of the mean loss over `batch` to the learner's; returns `loss`, `entropy` (both in nats a token) and `num_tokens`.
pub fn accumulate<B: Backend>(b: &B, learner: &mut Learner<B>, batch: &[&Tokenised]) -> Metrics {
    let learned = |row: &Tokenised| row.tokens.len() - row.prompt.clamp(1, row.tokens.len());
    let count: usize = batch.iter().map(|row| learned(row)).sum();
    let (mut loss, mut entropy) = (0.0, 0.0);
    for run in micro_batches(batch.iter().map(|row| row.tokens.len())) {
        let rows = &batch[run];
        let sequences: Vec<&[u32]> = rows.iter().map(|row| row.tokens.as_slice()).collect();
        let from: Vec<usize> = rows.iter().map(|row| row.prompt).collect();
        let (rows, targets) = scored_tokens(&sequences, &from);
        let scored = Scored { rows: &rows, targets: &targets, temperature: 1.0 };
        let packed = Batch::new(&sequences);
        let x = transformer::trunk(b, &learner.model, &packed, learner.trainable.first_layer);
        let activations = transformer::forward(b, &learner.model, x, &packed, learner.trainable.first_layer, true);
        let mut dhidden = b.zeros(packed.rows() * learner.model.spec.embedding_width);
        let Learner { model, gradients, trainable, .. } = learner;
        // loss = -sum of logprobs / count
        let scores = heads::token_gradients(b, model, &mut dhidden, gradients, &activations.hidden, scored, -1.0 / count as f64);
        loss -= scores.logprobs.iter().sum::<f64>();
        entropy += scores.entropies.iter().sum::<f64>();
        transformer::backward(b, model, &packed, &activations, &dhidden, gradients, *trainable);
    }
    vec![("loss", loss / count as f64), ("entropy", entropy / count as f64), ("num_tokens", count as f64)]
}
