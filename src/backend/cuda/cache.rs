//! The paged key/value cache, and launches of kernels/cache.cu. Independent of the
//! assignment of blocks to sequences.

use std::sync::Arc;

use super::buffer::Buf;
use super::device::Device;
use super::kernels::Kernels;
use crate::DType;
use crate::ops::{BLOCK, Heads};

/// Keys and values of all blocks: a block of a head is one run of memory, which is read in wide
/// pieces.
pub struct Cache {
    /// `[blocks,g,BLOCK,c]`.
    pub keys: Buf,
    /// `[blocks,g,BLOCK,c]`.
    pub values: Buf,
    /// Sizes of the layer that the cache serves.
    pub heads: Heads,
}

impl Cache {
    /// A cache of `blocks` blocks of zeros, stored as `kind`.
    pub fn new(device: &Arc<Device>, blocks: usize, heads: Heads, kind: DType) -> Self {
        let len = blocks * BLOCK * heads.key_value * heads.channels;
        Cache { keys: Buf::zeros(device, len, kind), values: Buf::zeros(device, len, kind), heads }
    }

    /// Count of blocks.
    pub fn blocks(&self) -> usize {
        self.keys.len() / (BLOCK * self.heads.key_value * self.heads.channels)
    }
}

fn number(x: usize) -> i32 {
    i32::try_from(x).expect("heads and channels are few")
}

/// Row n of `k`, `v` `[n,g,c]` at slot `slots[n]`.
pub fn write(kernels: &Kernels, cache: &mut Cache, k: &Buf, v: &Buf, slots: &[u32]) {
    let Heads { key_value: g, channels: c, .. } = cache.heads;
    let call =
        kernels.call("cache", "cache_write", k.kind()).out(&mut cache.keys).out(&mut cache.values);
    call.input(k)
        .input(v)
        .host(slots)
        .size(slots.len())
        .integer(number(g))
        .integer(number(c))
        .over(k.len(), 256, 256);
}

/// Block `pairs[_].1` over block `pairs[_].0`, in order.
pub fn copy_blocks(kernels: &Kernels, cache: &mut Cache, pairs: &[(u32, u32)]) {
    let Heads { key_value: g, channels: c, .. } = cache.heads;
    let flat: Vec<u32> = pairs.iter().flat_map(|&(to, from)| [to, from]).collect();
    // 16 bytes to a thread.
    let units = if pairs.is_empty() { 0 } else { BLOCK * g * c * cache.keys.kind().bytes() / 16 };
    let call = kernels
        .call("cache", "cache_copy_blocks", cache.keys.kind())
        .out(&mut cache.keys)
        .out(&mut cache.values);
    call.host(&flat).size(pairs.len()).integer(number(g)).integer(number(c)).over(units, 256, 256);
}
