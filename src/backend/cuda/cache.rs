//! Launches kernels/cache.cu.

use std::sync::Arc;

use super::buffer::{Buf, Type};
use super::driver::Device;
use super::kernels::Kernels;
use crate::backend::{BLOCK, Heads};

/// Keys and values of all blocks.
pub struct Cache {
    /// `[blocks,g,BLOCK,c]`.
    pub keys: Buf,
    /// `[blocks,g,BLOCK,c]`.
    pub values: Buf,
    /// Sizes of the layer that the cache serves.
    pub heads: Heads,
}

impl Cache {
    /// A cache of `blocks` blocks of zeros.
    pub fn new(device: &Arc<Device>, blocks: usize, heads: Heads) -> Self {
        let len = blocks * BLOCK * heads.key_value * heads.channels;
        Cache { keys: Buf::zeros(device, len, Type::F32), values: Buf::zeros(device, len, Type::F32), heads }
    }

    /// Count of blocks.
    pub fn blocks(&self) -> usize {
        self.keys.len() / (BLOCK * self.heads.key_value * self.heads.channels)
    }
}

/// As the trait says.
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn write(kernels: &Kernels, cache: &mut Cache, k: &Buf, v: &Buf, slots: &[u32]) {
    panic!("write is not built yet")
}

/// As the trait says.
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn copy_blocks(kernels: &Kernels, cache: &mut Cache, pairs: &[(u32, u32)]) {
    panic!("copy_blocks is not built yet")
}
