//! Launches kernels/cached.cu. Independent of the assignment of blocks to
//! sequences.

use super::Cuda;
use super::attention_shape::{Shape, for_channels, single_bytes, stages};
use super::buffer::Buf;
use super::cache::{self, Cache};
use super::kernels::Kernels;
use crate::DType;
use crate::ops::{BLOCK, CacheOps, CacheView, Heads};

impl CacheOps for Cuda {
    type Cache = Cache;

    fn cache_unchecked(&self, blocks: usize, heads: Heads) -> Cache {
        Cache::new(&self.device, blocks, heads, self.kind)
    }

    fn cache_blocks(&self, cache: &Cache) -> usize {
        cache.blocks()
    }

    fn cache_heads(&self, cache: &Cache) -> Heads {
        cache.heads
    }

    fn cache_write_unchecked(&self, cache: &mut Cache, k: &Buf, v: &Buf, slots: &[u32]) {
        cache::write(&self.kernels, cache, k, v, slots);
    }

    fn cache_copy_blocks_unchecked(&self, cache: &mut Cache, pairs: &[(u32, u32)]) {
        cache::copy_blocks(&self.kernels, cache, pairs);
    }

    fn attention_cached_unchecked(
        &self,
        out: &mut Buf,
        q: &Buf,
        cache: &Cache,
        views: &[CacheView<'_>],
        window: Option<usize>,
    ) {
        attention(&self.kernels, out, q, cache, views, window);
    }
}

/// Pairs of a row and a query head that a block takes.
const PAIRS: usize = 16;
/// Positions of a step along the keys.
const STEP: usize = 64;

fn shape(kind: DType, channels: usize) -> Shape {
    let names = [
        "attention_cached_c32",
        "attention_cached_c64",
        "attention_cached_c96",
        "attention_cached_c128",
        "attention_cached_c192",
        "attention_cached_c256",
    ];
    let (method, width) =
        for_channels(kind, channels, ["attention_cached", "attention_cached_wide"], names);
    match kind {
        DType::F32 => Shape {
            method,
            rows: PAIRS,
            threads: 256,
            shared: single_bytes(width, PAIRS + STEP, PAIRS),
        },
        DType::Bf16 => Shape {
            method,
            rows: PAIRS,
            threads: 128,
            shared: 2 * (width * (PAIRS + 2 * stages(width) * STEP) + PAIRS * STEP),
        },
    }
}

/// Whether what `earlier` sees is the beginning of what `later` sees, so that one block can take
/// both.
fn is_prefix(earlier: &CacheView<'_>, later: &CacheView<'_>) -> bool {
    let blocks = earlier.length.div_ceil(BLOCK);
    earlier.length <= later.length && earlier.blocks[..blocks] == later.blocks[..blocks]
}

/// First row and count of runs of rows that see prefixes of the last one's blocks, up to `most`
/// rows long.
fn runs(views: &[CacheView<'_>], most: usize) -> Vec<[u32; 2]> {
    let mut runs: Vec<[u32; 2]> = Vec::new();
    for row in 0..views.len() {
        match runs.last_mut() {
            Some([_, count])
                if (*count as usize) < most && is_prefix(&views[row - 1], &views[row]) =>
            {
                *count += 1
            }
            _ => runs.push([u32::try_from(row).expect("a batch has fewer than 2^32 rows"), 1]),
        }
    }
    runs
}

/// `out[n,h,c]`: row n of `q` attends to the last `window` positions of `views[n]`.
fn attention(
    kernels: &Kernels,
    out: &mut Buf,
    q: &Buf,
    cache: &Cache,
    views: &[CacheView<'_>],
    window: Option<usize>,
) {
    let Heads { query: h, key_value: g, channels: c } = cache.heads;
    let (group, shape) = (h / g, shape(q.kind(), c));
    let most = (PAIRS / group).max(1);
    let runs = runs(views, most);
    let number = |x: usize| u32::try_from(x).expect("a cache has fewer than 2^32 positions");
    let mut blocks: Vec<u32> = Vec::new();
    let mut table: Vec<[u32; 2]> = Vec::with_capacity(views.len());
    for view in views {
        table.push([view.length, blocks.len()].map(number));
        blocks.extend(&view.blocks[..view.length.div_ceil(BLOCK)]);
    }
    let call = kernels
        .call_with("cached", shape.method, q.kind(), shape.shared)
        .out(out)
        .input(q)
        .input(&cache.keys)
        .input(&cache.values);
    let call = call.host(&blocks).host(table.as_flattened()).host(runs.as_flattened());
    let small = |x: usize| i32::try_from(x).expect("heads and channels are few");
    let call = call
        .integer(small(h))
        .integer(small(g))
        .integer(small(c))
        .size(window.unwrap_or(usize::MAX).min(1 << 40));
    call.launch([runs.len(), g, (most * group).div_ceil(PAIRS)], shape.threads);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_run_together_only_where_each_sees_a_prefix_of_the_next() {
        let (a, b) = ([3, 5, 7], [3, 6]);
        let view = |blocks: &'static [u32], length| CacheView { blocks, length };
        let prompt: Vec<CacheView<'_>> =
            (30..36).map(|length| CacheView { blocks: &a, length }).collect();
        assert_eq!(runs(&prompt, 4), [[0, 4], [4, 2]]);
        assert_eq!(runs(&prompt, 1).len(), 6);
        // The same first block, another second one.
        let forks = [CacheView { blocks: &a, length: 20 }, CacheView { blocks: &b, length: 21 }];
        assert_eq!(runs(&forks, 8), [[0, 1], [1, 1]]);
        // Within the first block they agree; a shorter one may not follow a longer one.
        assert_eq!(runs(&[view(&[3], 9), view(&[3, 6], 20), view(&[3], 2)], 8), [[0, 2], [2, 1]]);
    }
}
