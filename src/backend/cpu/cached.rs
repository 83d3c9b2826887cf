//! Attention of single query rows over the paged cache, each as in `attention.rs`, bit for bit. Knows nothing of who owns which block.
//!
//! The lanes of a block's scores are its 16 positions; the lanes of an output are 16 channels. Threads own (row, key/value head) pairs.

use super::attention::{scale, softmax};
use super::cache::Cache;
use super::number::Number;
use super::scratch::Scratch;
use super::simd::Simd;
use super::threads::{for_rows, matrix};
use crate::backend::{BLOCK, CacheView, Heads};

/// Channels that are summed side by side.
const CHANNELS: usize = 16;

/// `out[n,h,c]`: row n of `q` attends to `views[n]`.
pub fn attention<T: Number>(simd: Simd, out: &mut [T], q: &[T], cache: &Cache<T>, views: &[CacheView<'_>]) {
    let Heads { query: h, key_value: g, channels: c } = cache.heads;
    let group = h / g;
    let longest = views.iter().map(|view| view.length).max().unwrap_or(0);
    for_rows(matrix(out, group * c), views.len() * g, group * c * longest / 4, |first, out| {
        let mut scores = Scratch::new(longest.next_multiple_of(BLOCK));
        for (pair, out) in (first..).zip(out.data.chunks_exact_mut(group * c)) {
            let (view, q) = (&views[pair / g], &q[pair * group * c..][..group * c]);
            for (out, q) in out.chunks_exact_mut(c).zip(q.chunks_exact(c)) {
                simd.run(
                    #[inline(always)]
                    || attend(out, q, &mut scores, cache, pair % g, view),
                );
            }
        }
    });
}

/// One query against one head of the cache.
#[inline(always)]
fn attend<T: Number>(out: &mut [T], q: &[T], scores: &mut [T], cache: &Cache<T>, head: usize, view: &CacheView<'_>) {
    let c = q.len();
    let blocks = &view.blocks[..view.length.div_ceil(BLOCK)];
    let at = |block: u32| block as usize * cache.block_len() + head * c * BLOCK;
    let factor = scale::<T>(c);
    for (scores, &block) in scores.as_chunks_mut::<BLOCK>().0.iter_mut().zip(blocks) {
        let mut sums = [T::ZERO; BLOCK];
        for (&q, keys) in q.iter().zip(cache.keys[at(block)..][..c * BLOCK].as_chunks::<BLOCK>().0) {
            for lane in 0..BLOCK {
                sums[lane] = q.mul_add(keys[lane], sums[lane]);
            }
        }
        *scores = sums.map(|sum| sum * factor);
    }
    let weights = &mut scores[..view.length];
    let (reciprocal, _) = softmax(weights);
    let (whole, rest) = out.as_chunks_mut::<CHANNELS>();
    for (first, out) in (0..).step_by(CHANNELS).zip(whole) {
        let mut sums = [T::ZERO; CHANNELS];
        for (weights, &block) in weights.chunks(BLOCK).zip(blocks) {
            let values = &cache.values[at(block)..][..c * BLOCK];
            for (&weight, value) in weights.iter().zip(values.chunks_exact(c)) {
                let value: &[T; CHANNELS] = value[first..].first_chunk().expect("a whole chunk of channels");
                for lane in 0..CHANNELS {
                    sums[lane] = weight.mul_add(value[lane], sums[lane]);
                }
            }
        }
        *out = sums.map(|sum| sum * reciprocal + T::ZERO);
    }
    let first = c / CHANNELS * CHANNELS;
    rest.fill(T::ZERO);
    for (weights, &block) in weights.chunks(BLOCK).zip(blocks) {
        for (&weight, value) in weights.iter().zip(cache.values[at(block)..].chunks_exact(c)) {
            rest.iter_mut().zip(&value[first..]).for_each(|(sum, &value)| *sum = weight.mul_add(value, *sum));
        }
    }
    rest.iter_mut().for_each(|sum| *sum = *sum * reciprocal + T::ZERO);
}
