//! Which rows make up which batch: a pure function of the lengths, the batch size, the seed and the
//! epoch. Uses no token.
//!
//! 1. The rows are shuffled. 2. Chunks of 16 batches are sorted by length, so that the rows of a
//!    batch are about as long.
//! 3. The batches are shuffled. 4. Phases follow one another: all batches of the first come before
//!    those of the second.

use std::ops::Range;

use crate::random::{Sequence, Stream};

/// Batches whose rows are sorted together.
const CHUNK: usize = 16;

/// The batches of one epoch, as indices into `lengths`: every row once, `batch_size` rows a batch,
/// fewer in at most one.
pub fn batches(lengths: &[usize], batch_size: usize, seed: u64, epoch: u64) -> Vec<Vec<usize>> {
    phased_batches(lengths, std::slice::from_ref(&(0..lengths.len())), batch_size, seed, epoch)
}

/// The batches of one epoch over phases that follow one another; each phase is a range of rows.
///
/// # Panics
/// If `batch_size` is 0 or a phase reaches beyond the rows.
pub fn phased_batches(
    lengths: &[usize],
    phases: &[Range<usize>],
    batch_size: usize,
    seed: u64,
    epoch: u64,
) -> Vec<Vec<usize>> {
    assert!(batch_size > 0, "a batch has at least one row");
    let mut random = Stream::new(seed, "batches").sequence(epoch);
    phases
        .iter()
        .flat_map(|phase| phase_batches(lengths, phase.clone(), batch_size, &mut random))
        .collect()
}

fn phase_batches(
    lengths: &[usize],
    phase: Range<usize>,
    batch_size: usize,
    random: &mut Sequence,
) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = phase.collect();
    random.shuffle(&mut order);
    let mut batches = Vec::with_capacity(order.len().div_ceil(batch_size));
    for chunk in order.chunks_mut(CHUNK * batch_size) {
        // Stable, so rows of one length stay in shuffled order.
        chunk.sort_by_key(|row| lengths[*row]);
        batches.extend(chunk.chunks(batch_size).map(<[usize]>::to_vec));
    }
    random.shuffle(&mut batches);
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(n: usize) -> Vec<usize> {
        (0..n).map(|row| row * 7919 % 101).collect()
    }

    #[test]
    fn every_row_is_in_one_batch() {
        for (n, size) in [(0, 4), (1, 4), (4, 4), (1000, 8), (1003, 8), (5, 100)] {
            let batches = batches(&lengths(n), size, 1, 0);
            let mut rows = batches.concat();
            rows.sort();
            assert_eq!(rows, (0..n).collect::<Vec<_>>());
            assert!(batches.iter().all(|batch| !batch.is_empty() && batch.len() <= size));
            assert!(batches.iter().filter(|batch| batch.len() < size).count() <= 1);
        }
    }

    #[test]
    fn seed_and_epoch_alone_decide_the_order() {
        let lengths = lengths(500);
        assert_eq!(batches(&lengths, 8, 1, 2), batches(&lengths, 8, 1, 2));
        assert_ne!(batches(&lengths, 8, 1, 2), batches(&lengths, 8, 1, 3));
        assert_ne!(batches(&lengths, 8, 1, 2), batches(&lengths, 8, 2, 2));
    }

    #[test]
    fn rows_of_a_batch_are_about_as_long() {
        let lengths = lengths(1280);
        let spread = |batch: &Vec<usize>| {
            let of = |row: &usize| lengths[*row];
            batch.iter().map(of).max().unwrap() - batch.iter().map(of).min().unwrap()
        };
        let mean = |batches: &[Vec<usize>]| {
            batches.iter().map(spread).sum::<usize>() as f64 / batches.len() as f64
        };
        // 8 uniform draws from 0..=100 are 78 apart on average; one sixteenth of that range is 6.3.
        assert!(mean(&batches(&lengths, 8, 3, 0)) < 8.0);
    }

    #[test]
    fn phases_follow_one_another() {
        let lengths = lengths(300);
        let batches = phased_batches(&lengths, &[200..300, 0..200], 8, 1, 0);
        assert_eq!(batches.len(), 13 + 25);
        let mut first = batches[..13].concat();
        first.sort();
        assert_eq!(first, (200..300).collect::<Vec<_>>());
    }
}
