//! Batches: sequences packed one after the other, and the cut of many sequences into batches.
//! Independent of models and texts.

use std::ops::Range;

/// Sequences packed one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// `[n]`: the tokens of all sequences.
    pub tokens: Vec<u32>,
    /// `[n]`: each token's position in its sequence.
    pub positions: Vec<u32>,
    /// `[n]`: each token's segment, in models that have token types.
    pub types: Vec<u32>,
    /// Sequence s is rows `starts[s]..starts[s + 1]`; one more entry than sequences.
    pub starts: Vec<usize>,
}

impl Batch {
    /// Packs sequences.
    pub fn new<S: AsRef<[u32]>>(sequences: &[S]) -> Self {
        let mut batch = Batch { starts: vec![0], ..Batch::default() };
        for sequence in sequences {
            let sequence = sequence.as_ref();
            batch.tokens.extend_from_slice(sequence);
            batch.positions.extend(0..sequence.len() as u32);
            batch.starts.push(batch.tokens.len());
        }
        batch.types = vec![0; batch.tokens.len()];
        batch
    }

    /// `n`: tokens in all.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// Sequences in all.
    pub fn sequences(&self) -> usize {
        self.starts.len() - 1
    }

    /// The row of each sequence's first token; no sequence may be empty.
    pub fn firsts(&self) -> Vec<u32> {
        self.starts[..self.sequences()].iter().map(|&start| start as u32).collect()
    }

    /// The row of each sequence's last token; no sequence may be empty.
    pub fn lasts(&self) -> Vec<u32> {
        self.starts[1..].iter().map(|&end| end as u32 - 1).collect()
    }
}

/// Tokens that one pass takes, about. In bf16 on tensor cores it decides bits of gradients of
/// weights, since sequences end anywhere in a group of rows ([`crate::backend::GROUP`]): a change
/// of it, or of [`pack_by_tokens`], raises the VERSION of every stage that trains.
pub const MICRO_BATCH_TOKENS: usize = 2048;

/// Cuts a list of sequences into runs of at most about `MICRO_BATCH_TOKENS` tokens, in order; a
/// longer sequence is alone.
pub fn micro_batches(lengths: impl IntoIterator<Item = usize>) -> Vec<Range<usize>> {
    pack_by_tokens(lengths, MICRO_BATCH_TOKENS)
}

/// Cuts a list of lengths into runs whose sum is at most `most`, in order; a greater length is
/// alone.
pub fn pack_by_tokens(lengths: impl IntoIterator<Item = usize>, most: usize) -> Vec<Range<usize>> {
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
