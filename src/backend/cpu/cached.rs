//! Attention of single query rows over the paged cache, each as in `attention.rs`, bit for bit.
//! Independent of the assignment of blocks to sequences.
//!
//! The lanes of a block's scores are its 16 positions; the lanes of an output are channels. Threads
//! own (row, key/value head) pairs. Positions before a row's window are not read, except those in
//! the window's first block, whose scores are overwritten.

use std::ops::Range;

use super::Cpu;
use super::cache::{self, Cache};
use super::number::Number;
use super::scores::{scale, softmax};
use super::scratch::Scratch;
use super::simd::Simd;
use super::threads::{for_rows, matrix};
use crate::ops::{BLOCK, CacheOps, CacheView, Heads};

in_both_precisions! {
    impl CacheOps for Cpu<T> {
        type Cache = Cache<T>;

        fn cache_unchecked(&self, blocks: usize, heads: Heads) -> Cache<T> {
            Cache::new(blocks, heads)
        }

        fn cache_blocks(&self, cache: &Cache<T>) -> usize {
            cache.blocks()
        }

        fn cache_heads(&self, cache: &Cache<T>) -> Heads {
            cache.heads
        }

        fn cache_write_unchecked(
            &self,
            cache: &mut Cache<T>,
            k: &Vec<T>,
            v: &Vec<T>,
            slots: &[u32],
        ) {
            cache::write(cache, k, v, slots);
        }

        fn cache_copy_blocks_unchecked(&self, cache: &mut Cache<T>, pairs: &[(u32, u32)]) {
            cache::copy_blocks(cache, pairs);
        }

        fn attention_cached_unchecked(
            &self,
            out: &mut Vec<T>,
            q: &Vec<T>,
            cache: &Cache<T>,
            views: &[CacheView<'_>],
            window: Option<usize>,
        ) {
            attention(self.simd, out, q, cache, views, window);
        }
    }
}

/// `out[n,h,c]`: row n of `q` attends to the last `window` positions of `views[n]`.
fn attention<T: Number>(
    simd: Simd,
    out: &mut [T],
    q: &[T],
    cache: &Cache<T>,
    views: &[CacheView<'_>],
    window: Option<usize>,
) {
    let Heads { query: h, key_value: g, channels: c } = cache.heads;
    let group = h / g;
    let seen = |view: &CacheView<'_>| {
        window.map_or(0, |window| view.length.saturating_sub(window))..view.length
    };
    let longest = views.iter().map(|view| seen(view).len()).max().unwrap_or(0);
    for_rows(matrix(out, group * c), views.len() * g, group * c * longest / 4, |first, out| {
        // A window may begin and end within a block.
        let mut scores = Scratch::new(longest.next_multiple_of(BLOCK) + BLOCK);
        for (pair, out) in (first..).zip(out.data.chunks_exact_mut(group * c)) {
            let (view, q) = (&views[pair / g], &q[pair * group * c..][..group * c]);
            for (out, q) in out.chunks_exact_mut(c).zip(q.chunks_exact(c)) {
                simd.run(
                    #[inline(always)]
                    || attend(out, q, &mut scores, cache, pair % g, view.blocks, seen(view)),
                );
            }
        }
    });
}

/// One query against one head of the cache: the positions `seen` of those in `blocks`.
#[inline(always)]
fn attend<T: Number>(
    out: &mut [T],
    q: &[T],
    scores: &mut [T],
    cache: &Cache<T>,
    head: usize,
    blocks: &[u32],
    seen: Range<usize>,
) {
    let c = q.len();
    // Whole blocks outside of the window can be left out: the lanes of a sum are the positions in a
    // block.
    let skipped = seen.start / BLOCK;
    let blocks = &blocks[skipped..seen.end.div_ceil(BLOCK)];
    let seen = seen.start - skipped * BLOCK..seen.end - skipped * BLOCK;
    let keys = |block: u32| {
        &cache.keys[block as usize * cache.block_len() + head * c * BLOCK..][..c * BLOCK]
    };
    let values = |block: u32| {
        &cache.values[block as usize * cache.block_len() + head * c * BLOCK..][..c * BLOCK]
    };
    let factor = scale::<T>(c);
    for (scores, &block) in scores.as_chunks_mut::<BLOCK>().0.iter_mut().zip(blocks) {
        let mut sums = [T::ZERO; BLOCK];
        for (&q, keys) in q.iter().zip(keys(block).as_chunks::<BLOCK>().0) {
            for lane in 0..BLOCK {
                sums[lane] = q.mul_add(keys[lane], sums[lane]);
            }
        }
        for lane in 0..BLOCK {
            scores[lane] = sums[lane] * factor;
        }
    }
    let (sum, _) = softmax(scores, seen.clone());
    let reciprocal = T::ONE / sum;
    let weights = &scores[..seen.end];
    let (wide, rest) = out.as_chunks_mut::<32>();
    for (first, out) in (0..).step_by(32).zip(wide) {
        *out = weigh(weights, seen.start, reciprocal, blocks, values, c, first);
    }
    let mut first = c / 32 * 32;
    let (narrow, rest) = rest.as_chunks_mut::<8>();
    for out in narrow {
        *out = weigh(weights, seen.start, reciprocal, blocks, values, c, first);
        first += 8;
    }
    for out in rest {
        [*out] = weigh(weights, seen.start, reciprocal, blocks, values, c, first);
        first += 1;
    }
}

/// `N` channels of the output, from `first` on: chains over positions from `start` on, which is in
/// the first block.
#[inline(always)]
fn weigh<'a, T: Number, const N: usize>(
    weights: &[T],
    start: usize,
    reciprocal: T,
    blocks: &[u32],
    values: impl Fn(u32) -> &'a [T],
    c: usize,
    first: usize,
) -> [T; N] {
    let mut sums = [T::ZERO; N];
    let mut start = start;
    for (weights, &block) in weights.chunks(BLOCK).zip(blocks) {
        for (&weight, value) in
            weights[start..].iter().zip(values(block)[start * c..].chunks_exact(c))
        {
            let value: &[T; N] = value[first..].first_chunk().expect("a head has these channels");
            for lane in 0..N {
                sums[lane] = weight.mul_add(value[lane], sums[lane]);
            }
        }
        start = 0;
    }
    for sum in &mut sums {
        *sum = *sum * reciprocal + T::ZERO;
    }
    sums
}
