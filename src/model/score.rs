//! Scoring whole sequences without training: log-probabilities of responses, scalars at the last
//! token. Independent of texts.
//!
//! Sequences are taken some at a time; no bit of a score depends on how many (see the back end's
//! contract).

use std::ops::Range;

use super::heads::{self, Scored};
use super::transformer::{self, Batch};
use super::weights::Model;
use crate::backend::Backend;

/// Tokens that one pass takes, about. In bf16 on tensor cores it decides bits of gradients of
/// weights, since sequences end anywhere in a group of rows ([`crate::backend::GROUP`]): a change
/// of it, or of [`runs`], raises the VERSION of every stage that trains.
pub const MICRO_BATCH_TOKENS: usize = 2048;

/// Cuts a list of sequences into runs of at most about `MICRO_BATCH_TOKENS` tokens, in order; a
/// longer sequence is alone.
pub fn micro_batches(lengths: impl IntoIterator<Item = usize>) -> Vec<Range<usize>> {
    runs(lengths, MICRO_BATCH_TOKENS)
}

/// Cuts a list of lengths into runs whose sum is at most `most`, in order; a greater length is
/// alone.
pub fn runs(lengths: impl IntoIterator<Item = usize>, most: usize) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut tokens = 0;
    for (at, length) in lengths.into_iter().enumerate() {
        match runs.last_mut() {
            Some(run) if tokens + length <= most => run.end = at + 1,
            _ => {
                runs.push(at..at + 1);
                tokens = 0;
            }
        }
        tokens += length;
    }
    runs
}

/// For packed sequences, the rows whose next token is scored, and those tokens: from token
/// `from[s]` on of each sequence s, and never the first token of a sequence.
pub fn scored_tokens(sequences: &[&[u32]], from: &[usize]) -> (Vec<u32>, Vec<u32>) {
    let (mut rows, mut targets, mut start) = (Vec::new(), Vec::new(), 0);
    for (tokens, from) in sequences.iter().zip(from) {
        for at in (*from).max(1)..tokens.len() {
            rows.push((start + at - 1) as u32);
            targets.push(tokens[at]);
        }
        start += tokens.len();
    }
    (rows, targets)
}

/// Cuts numbers of packed responses back into one list a response; `lengths` are the responses'
/// tokens.
pub fn split(flat: &[f64], lengths: impl IntoIterator<Item = usize>) -> Vec<Vec<f32>> {
    let mut rest = flat;
    let rows = lengths.into_iter().map(|length| {
        let (row, after) = rest.split_at(length);
        rest = after;
        row.iter().map(|x| *x as f32).collect()
    });
    let rows = rows.collect();
    assert!(rest.is_empty(), "a number for every response token");
    rows
}

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
        let scored = Scored { rows: &rows, targets: &targets, temperature };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn micro_batches_cover_the_batch_in_order_within_the_budget() {
        assert!(micro_batches([]).is_empty());
        assert_eq!(micro_batches([5000, 1, 2000, 47, 1]), [0..1, 1..4, 4..5]);
    }

    #[test]
    fn the_row_before_a_token_scores_it_and_a_first_token_is_never_scored() {
        let (rows, targets) = scored_tokens(&[&[5, 6, 7], &[8, 9]], &[2, 0]);
        assert_eq!((rows, targets), (vec![1, 3], vec![7, 9]));
        assert_eq!(split(&[1.0, 2.0, 3.0], [1, 0, 2]), [vec![1.0], vec![], vec![2.0, 3.0]]);
    }
}
