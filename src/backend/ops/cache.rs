//! The paged key/value cache of one layer, and attention to it.

use super::Heads;
use super::attention::assert_window;
use crate::buffers::Buffers;
use crate::shapes::{below, length};

/// Positions in one block of the paged key/value cache.
pub const BLOCK: usize = 16;

/// The part of the cache that one query row attends to: `length` positions, [`BLOCK`] to a block,
/// in the order of `blocks`.
#[derive(Clone, Debug)]
pub struct CacheView<'a> {
    /// Block indices into the cache; at least `length.div_ceil(BLOCK)` of them.
    pub blocks: &'a [u32],
    /// Positions to attend to, the row's own included.
    pub length: usize,
}

/// Panics unless every view is within a cache of `blocks` blocks.
#[track_caller]
fn assert_views(views: &[CacheView<'_>], blocks: usize) {
    for view in views {
        assert!(
            view.length > 0 && view.length.div_ceil(BLOCK) <= view.blocks.len(),
            "a row attends to {} positions in {} blocks",
            view.length,
            view.blocks.len()
        );
        below(view.blocks, blocks, "blocks");
    }
}

/// The paged key/value cache.
pub trait CacheOps: Buffers {
    /// One layer's paged key/value cache.
    type Cache: Send + Sync;

    /// A cache of `blocks` blocks of [`BLOCK`] positions.
    fn cache(&self, blocks: usize, heads: Heads) -> Self::Cache {
        heads.assert_grouped();
        self.cache_unchecked(blocks, heads)
    }
    /// [`CacheOps::cache`] of checked arguments.
    fn cache_unchecked(&self, blocks: usize, heads: Heads) -> Self::Cache;
    /// Count of blocks of a cache.
    fn cache_blocks(&self, cache: &Self::Cache) -> usize;
    /// Sizes of the layer that a cache serves.
    fn cache_heads(&self, cache: &Self::Cache) -> Heads;

    /// Writes `k`, `v` `[n,g,c]`, row n at slot `slots[n]` = block * BLOCK + offset.
    fn cache_write(&self, cache: &mut Self::Cache, k: &Self::Buf, v: &Self::Buf, slots: &[u32]) {
        let Heads { key_value, channels, .. } = self.cache_heads(cache);
        length(self.len(k), slots.len() * key_value * channels, "k [n,g,c]");
        length(self.len(v), self.len(k), "v [n,g,c]");
        below(slots, self.cache_blocks(cache) * BLOCK, "slots");
        self.cache_write_unchecked(cache, k, v, slots);
    }
    /// [`CacheOps::cache_write`] of checked arguments.
    fn cache_write_unchecked(
        &self,
        cache: &mut Self::Cache,
        k: &Self::Buf,
        v: &Self::Buf,
        slots: &[u32],
    );

    /// Copies block `pairs[_].1` over block `pairs[_].0`.
    fn cache_copy_blocks(&self, cache: &mut Self::Cache, pairs: &[(u32, u32)]) {
        for &(to, from) in pairs {
            below(&[to, from], self.cache_blocks(cache), "block");
        }
        self.cache_copy_blocks_unchecked(cache, pairs);
    }
    /// [`CacheOps::cache_copy_blocks`] of checked arguments.
    fn cache_copy_blocks_unchecked(&self, cache: &mut Self::Cache, pairs: &[(u32, u32)]);

    /// `out[n,h,c]`: row n of `q[n,h,c]` attends to `views[n]`; where there is a `window`, to the
    /// last `window` positions of it.
    fn attention_cached(
        &self,
        out: &mut Self::Buf,
        q: &Self::Buf,
        cache: &Self::Cache,
        views: &[CacheView<'_>],
        window: Option<usize>,
    ) {
        assert_window(window);
        let Heads { query, channels, .. } = self.cache_heads(cache);
        length(self.len(q), views.len() * query * channels, "q [n,h,c]");
        length(self.len(out), self.len(q), "out [n,h,c]");
        assert_views(views, self.cache_blocks(cache));
        self.attention_cached_unchecked(out, q, cache, views, window);
    }
    /// [`CacheOps::attention_cached`] of checked arguments.
    fn attention_cached_unchecked(
        &self,
        out: &mut Self::Buf,
        q: &Self::Buf,
        cache: &Self::Cache,
        views: &[CacheView<'_>],
        window: Option<usize>,
    );
}
