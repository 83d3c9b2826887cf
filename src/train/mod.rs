//! Training: the optimiser, learning-rate schedules, the loop of steps with checkpoints and resume, the language-model loss.
//! Knows models and batches; not where rows come from or what a stage is.

pub mod archive;
pub mod language;
pub mod optimiser;
pub mod schedule;
pub mod steps;

use std::ops::Range;

/// Tokens that one forward and backward pass takes, about. No bit depends on it: see the back end's contract.
const MICRO_BATCH_TOKENS: usize = 2048;

/// Cuts a batch of sequences into runs of at most about [`MICRO_BATCH_TOKENS`] tokens, in order; a longer sequence is alone.
pub fn micro_batches(lengths: &[usize]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut tokens = 0;
    for (at, length) in lengths.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if tokens + length <= MICRO_BATCH_TOKENS => run.end = at + 1,
            _ => {
                runs.push(at..at + 1);
                tokens = 0;
            }
        }
        tokens += length;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn micro_batches_cover_the_batch_in_order_within_the_budget() {
        assert_eq!(micro_batches(&[]), []);
        assert_eq!(micro_batches(&[5000, 1, 2000, 47, 1]), [0..1, 1..4, 4..5]);
    }
}
