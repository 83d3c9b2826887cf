//! Scoring whole sequences without training: log-probabilities of responses, scalars at the last
//! token. Independent of texts.
//!
//! Sequences are taken some at a time; no bit of a score depends on how many (see the back end's
//! contract).

use super::batch::{Batch, micro_batches, scored_tokens, split};
use super::heads::{self, TargetTokens};
use super::transformer;
use super::weights::Model;
use crate::backend::Backend;

/// Log-probabilities of the tokens from `from[s]` (at least 1) on of each sequence, at
/// `temperature`.
pub fn response_logprobs<B: Backend>(
    b: &B,
    model: &Model<B>,
    sequences: &[&[u32]],
    from: &[usize],
    temperature: f32,
) -> Vec<Vec<f32>> {
    let mut out = Vec::with_capacity(sequences.len());
    for run in micro_batches(sequences.iter().map(|tokens| tokens.len())) {
        let (sequences, from) = (&sequences[run.clone()], &from[run]);
        let (rows, targets) = scored_tokens(sequences, from);
        let hidden = transformer::hidden(b, model, &Batch::new(sequences));
        let scored = TargetTokens { rows: &rows, targets: &targets, temperature };
        let scores = heads::token_logprobs(b, model, &hidden, scored, false);
        out.extend(split(
            &b.download_f64(&scores.logprobs),
            sequences.iter().zip(from).map(|(tokens, from)| tokens.len() - from),
        ));
    }
    out
}

/// The scalar head's number at the last token of each sequence.
pub fn last_scalars<B: Backend>(b: &B, model: &Model<B>, sequences: &[&[u32]]) -> Vec<f32> {
    let mut out = Vec::with_capacity(sequences.len());
    for run in micro_batches(sequences.iter().map(|tokens| tokens.len())) {
        let batch = Batch::new(&sequences[run]);
        let hidden = transformer::hidden(b, model, &batch);
        out.extend(
            heads::scalar_scores(b, model, &hidden, &batch.lasts())
                .into_iter()
                .map(|score| score as f32),
        );
    }
    out
}
