//! Scores of queries and keys, and their softmax: what attention over whole sequences, its gradient
//! and attention over the paged cache share.

use std::ops::Range;

use super::lanes::{self, LANES};
use super::number::Number;
use super::tile;
use super::vector::Vector;

/// What scores are multiplied by: 1 / sqrt(c).
#[inline(always)]
pub fn scale<T: Number>(channels: usize) -> T {
    T::ONE / T::from_f64(channels as f64).sqrt()
}

/// The scaled scores of the positions `seen` become exp(score - max), and those on both sides up to
/// multiples of the lanes become 0, which adds nothing to a sum, so that vectors have no remainder.
/// Returns their sum and max.
#[inline(always)]
pub fn softmax<T: Number>(scores: &mut [T], seen: Range<usize>) -> (T, T) {
    let first = seen.start / LANES * LANES;
    let scores = &mut scores[first..seen.end.next_multiple_of(LANES)];
    scores[..seen.start - first].fill(T::NEG_INFINITY);
    scores[seen.end - first..].fill(T::NEG_INFINITY);
    let max = lanes::max(scores);
    for score in scores.iter_mut() {
        *score = (*score - max).exp();
    }
    (lanes::sum(scores), max)
}

/// The distance between rows of scores of `len` positions: whole panels and whole lanes.
#[inline(always)]
pub fn score_stride(len: usize, lanes: usize) -> usize {
    tile::padded(len, lanes).next_multiple_of(LANES)
}

/// `scores = q keys * factor` for one panel of keys.
#[inline(always)]
pub fn score<T: Number, V: Vector<T>, const M: usize, const N: usize>(
    proof: V::Proof,
    scores: &mut [T],
    stride: usize,
    q: [&[T]; M],
    keys: &[T],
    factor: V,
) {
    let zeros = [[V::splat(proof, T::ZERO); N]; M];
    let mut sums = tile::tile(proof, zeros, q, keys);
    for sums in &mut sums {
        for sum in sums {
            *sum = sum.mul(factor);
        }
    }
    tile::store(scores, stride, M, N * V::WIDTH, sums);
}
