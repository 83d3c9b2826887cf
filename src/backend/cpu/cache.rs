//! One layer's paged key/value cache. Independent of the assignment of blocks to sequences.
//!
//! A block holds [`BLOCK`] positions. Keys are stored as `[g,c,BLOCK]`, so that scores vectorise
//! over positions; values as `[g,BLOCK,c]`, so that outputs vectorise over channels.

use super::number::Number;
use crate::ops::{BLOCK, Heads};

/// Keys and values of all blocks.
pub struct Cache<T> {
    /// `[blocks,g,c,BLOCK]`.
    pub keys: Vec<T>,
    /// `[blocks,g,BLOCK,c]`.
    pub values: Vec<T>,
    /// Sizes of the layer that the cache serves.
    pub heads: Heads,
}

impl<T: Number> Cache<T> {
    /// A cache of `blocks` blocks of zeros.
    pub fn new(blocks: usize, heads: Heads) -> Self {
        let len = blocks * BLOCK * heads.key_value * heads.channels;
        Cache { keys: vec![T::ZERO; len], values: vec![T::ZERO; len], heads }
    }

    /// Elements of one block of keys, or of values.
    pub fn block_len(&self) -> usize {
        BLOCK * self.heads.key_value * self.heads.channels
    }

    /// Count of blocks.
    pub fn blocks(&self) -> usize {
        self.keys.len() / self.block_len()
    }
}

/// Writes row n of `k`, `v` `[n,g,c]` at slot `slots[n]`.
pub fn write<T: Number>(cache: &mut Cache<T>, k: &[T], v: &[T], slots: &[u32]) {
    let c = cache.heads.channels;
    let (width, block_len) = (cache.heads.key_value * c, cache.block_len());
    for ((k, v), &slot) in k.chunks_exact(width).zip(v.chunks_exact(width)).zip(slots) {
        let (block, offset) = (slot as usize / BLOCK, slot as usize % BLOCK);
        let keys = &mut cache.keys[block * block_len..][..block_len];
        let values = &mut cache.values[block * block_len..][..block_len];
        for (lanes, &k) in keys.chunks_exact_mut(BLOCK).zip(k) {
            lanes[offset] = k;
        }
        for (positions, v) in values.chunks_exact_mut(BLOCK * c).zip(v.chunks_exact(c)) {
            positions[offset * c..][..c].copy_from_slice(v);
        }
    }
}

/// Copies block `pairs[_].1` over block `pairs[_].0`, in order.
pub fn copy_blocks<T: Number>(cache: &mut Cache<T>, pairs: &[(u32, u32)]) {
    let len = cache.block_len();
    for &(to, from) in pairs {
        let (to, from) = (to as usize * len, from as usize * len);
        cache.keys.copy_within(from..from + len, to);
        cache.values.copy_within(from..from + len, to);
    }
}
