//! The counting back end: buffers without numbers, of which only the sizes are known. An operation
//! does nothing. A computation that runs on it tells what memory it takes on another back end,
//! before there is a device or a weight.
//!
//! 1. A buffer counts as the bytes of its numbers on the device that is asked about ([`Sizes`]).
//!    Caches are counted apart. Sums of losses are few numbers and are left out, as are ids and
//!    other lists that kernels read.
//! 2. Fused operations allocate nothing beside their arguments.
//! 3. Numbers that come back to the host are 0, drawn tokens are token 0 with log-probability 0.
//!    What a computation allocates must not depend on them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::losses::{Losses, RatioLoss, SquareLoss};
use crate::ops::{
    Activation, ActivationOps, AdamW, Attention, AttentionBackward, AttentionOps, BLOCK, CacheOps,
    CacheView, Epilogue, Heads, LayerNorm, LayerNormBackward, LayerNormOps, LayerNormResidual,
    Linear, LinearBackwardInput, LinearBackwardWeight, LinearOps, NormOps, OptimiserOps,
    Projection, RmsNorm, RmsNormBackward, RmsNormResidual, Rotary, RotaryOps, RotaryPair, RowOps,
    Sampling, SamplingOps, TokenLogprobs, TokenLogprobsBackward, TokenOps, TokenScoresBackward,
};
use crate::{Buffers, Sizes};

/// Bytes that buffers and caches hold at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Of buffers.
    pub buffers: u64,
    /// Of key/value caches.
    pub caches: u64,
}

impl Held {
    /// Both.
    pub fn total(self) -> u64 {
        self.buffers + self.caches
    }
}

/// What was counted so far.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    held: Held,
    most: Held,
    channels: usize,
}

#[derive(Debug, Default)]
struct Meter(Mutex<Count>);

impl Meter {
    fn count(&self) -> MutexGuard<'_, Count> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, more: Held) {
        let mut count = self.count();
        count.held.buffers += more.buffers;
        count.held.caches += more.caches;
        if count.held.total() > count.most.total() {
            count.most = count.held;
        }
    }

    fn give(&self, less: Held) {
        let mut count = self.count();
        count.held.buffers -= less.buffers;
        count.held.caches -= less.caches;
    }
}

/// Bytes that are held until it is dropped.
#[derive(Debug)]
struct Block {
    meter: Arc<Meter>,
    held: Held,
}

impl Drop for Block {
    fn drop(&mut self) {
        self.meter.give(self.held);
    }
}

/// A buffer of which only the size is known.
#[derive(Debug)]
pub struct Buf {
    len: usize,
    _block: Block,
}

/// A key/value cache of which only the size is known.
#[derive(Debug)]
pub struct Cache {
    blocks: usize,
    heads: Heads,
    _block: Block,
}

/// A back end that counts bytes. Clones count together.
#[derive(Clone, Debug)]
pub struct Counting {
    sizes: Sizes,
    free: Option<u64>,
    meter: Arc<Meter>,
}

impl Counting {
    /// Counts on a device with numbers of these sizes, of which `free` bytes are free at the start,
    /// if that is known.
    pub fn new(sizes: Sizes, free: Option<u64>) -> Self {
        Counting { sizes, free, meter: Arc::default() }
    }

    /// Bytes that are held now.
    pub fn held(&self) -> Held {
        self.meter.count().held
    }

    /// Bytes that were held at the fullest moment.
    pub fn most(&self) -> Held {
        self.meter.count().most
    }

    /// Notes the heads of a model that may not attend.
    pub fn note(&self, heads: Heads) {
        let mut count = self.meter.count();
        count.channels = count.channels.max(heads.channels);
    }

    /// The most channels of a head that was noted, or that attention has had.
    pub fn channels(&self) -> usize {
        self.meter.count().channels
    }

    fn block(&self, held: Held) -> Block {
        self.meter.take(held);
        Block { meter: Arc::clone(&self.meter), held }
    }

    fn buffer(&self, len: usize, size: usize) -> Buf {
        let held = Held { buffers: (len * size) as u64, caches: 0 };
        Buf { len, _block: self.block(held) }
    }
}

impl Buffers for Counting {
    type Buf = Buf;
    type GraphCache = ();

    /// What was free at the start, less what is held; without bound where that was not known.
    fn free_memory(&self) -> Option<u64> {
        Some(self.free.map_or(u64::MAX, |free| free.saturating_sub(self.held().total())))
    }

    fn sizes(&self) -> Sizes {
        self.sizes
    }

    fn zeros(&self, len: usize) -> Buf {
        self.buffer(len, self.sizes.stored)
    }

    fn wide(&self, len: usize) -> Buf {
        self.buffer(len, self.sizes.wide)
    }

    fn upload(&self, host: &[f32]) -> Buf {
        self.zeros(host.len())
    }

    fn upload_f64(&self, host: &[f64]) -> Buf {
        self.zeros(host.len())
    }

    fn upload_wide(&self, host: &[f32]) -> Buf {
        self.wide(host.len())
    }

    fn upload_wide_f64(&self, host: &[f64]) -> Buf {
        self.wide(host.len())
    }

    fn download(&self, x: &Buf) -> Vec<f32> {
        vec![0.0; x.len]
    }

    fn download_f64(&self, x: &Buf) -> Vec<f64> {
        vec![0.0; x.len]
    }

    fn len(&self, x: &Buf) -> usize {
        x.len
    }

    fn copy_unchecked(&self, _: &mut Buf, _: &Buf) {}

    fn fill(&self, _: &mut Buf, _: f32) {}

    fn add_unchecked(&self, _: &mut Buf, _: &Buf) {}

    fn sum_squares(&self, _: &Buf) -> f64 {
        0.0
    }
}

impl ActivationOps for Counting {
    fn activation_unchecked(&self, _: &mut Buf, _: &Buf, _: Activation) {}

    fn activation_backward_unchecked(&self, _: &mut Buf, _: &Buf, _: &Buf, _: Activation) {}

    fn swiglu_unchecked(&self, _: &mut Buf, _: &Buf, _: &Buf) {}

    fn swiglu_backward_unchecked(&self, _: &mut Buf, _: &mut Buf, _: &Buf, _: &Buf, _: &Buf) {}
}

impl LinearOps for Counting {
    fn linear_unchecked(&self, _: Linear<'_, Buf>) {}

    fn linear_with_unchecked(&self, _: Linear<'_, Buf>, _: Epilogue<'_, Buf>) {}

    fn linears_unchecked(&self, _: &mut [Projection<'_, Buf>], _: &Buf, _: usize, _: usize) {}

    fn linear_backward_input_unchecked(&self, _: LinearBackwardInput<'_, Buf>) {}

    fn linear_backward_weight_unchecked(&self, _: LinearBackwardWeight<'_, Buf>) {}
}

impl NormOps for Counting {
    fn rms_norm_unchecked(&self, _: RmsNorm<'_, Buf>) {}

    fn rms_norm_residual_unchecked(&self, _: RmsNormResidual<'_, Buf>) {}

    fn rms_norm_backward_unchecked(&self, _: RmsNormBackward<'_, Buf>) {}
}

impl LayerNormOps for Counting {
    fn layer_norm_unchecked(&self, _: LayerNorm<'_, Buf>) {}

    fn layer_norm_residual_unchecked(&self, _: LayerNormResidual<'_, Buf>) {}

    fn layer_norm_backward_unchecked(&self, _: LayerNormBackward<'_, Buf>) {}
}

impl RotaryOps for Counting {
    fn rotary_unchecked(&self, _: Rotary<'_, Buf>) {}

    fn rotary_pair_unchecked(&self, _: RotaryPair<'_, Buf>) {}
}

impl AttentionOps for Counting {
    fn attention_unchecked(&self, attention: Attention<'_, Buf>) {
        self.note(attention.heads);
    }

    /// One number for each row and head, as the back ends hold them: the product of the output
    /// with its gradient.
    fn attention_backward_unchecked(&self, attention: AttentionBackward<'_, Buf>) {
        drop(self.wide(attention.lse.len));
    }
}

impl CacheOps for Counting {
    type Cache = Cache;

    fn cache_unchecked(&self, blocks: usize, heads: Heads) -> Cache {
        self.note(heads);
        let numbers = 2 * blocks * BLOCK * heads.key_value * heads.channels;
        let held = Held { buffers: 0, caches: (numbers * self.sizes.stored) as u64 };
        Cache { blocks, heads, _block: self.block(held) }
    }

    fn cache_blocks(&self, cache: &Cache) -> usize {
        cache.blocks
    }

    fn cache_heads(&self, cache: &Cache) -> Heads {
        cache.heads
    }

    fn cache_write_unchecked(&self, _: &mut Cache, _: &Buf, _: &Buf, _: &[u32]) {}

    fn cache_copy_blocks_unchecked(&self, _: &mut Cache, _: &[(u32, u32)]) {}

    fn attention_cached_unchecked(
        &self,
        _: &mut Buf,
        _: &Buf,
        _: &Cache,
        _: &[CacheView<'_>],
        _: Option<usize>,
    ) {
    }
}

impl RowOps for Counting {
    fn embedding_backward_unchecked(&self, _: &mut Buf, _: &Buf, _: &[u32], _: usize) {}

    fn gather_rows_unchecked(&self, _: &mut Buf, _: &Buf, _: &[u32], _: usize) {}

    fn scatter_add_rows_unchecked(&self, _: &mut Buf, _: &Buf, _: &[u32], _: usize) {}
}

impl TokenOps for Counting {
    fn token_logprobs_unchecked(&self, _: TokenLogprobs<'_, Buf>) {}

    fn token_logprobs_backward_unchecked(&self, _: TokenLogprobsBackward<'_, Buf>) {}

    fn token_scores_backward_unchecked(&self, _: TokenScoresBackward<'_, Buf>) {}
}

impl SamplingOps for Counting {
    fn sample_unchecked(
        &self,
        _: &Buf,
        uniforms: &[f64],
        _: Sampling,
        _: usize,
    ) -> (Vec<u32>, Vec<f32>) {
        (vec![0; uniforms.len()], vec![0.0; uniforms.len()])
    }
}

impl OptimiserOps for Counting {
    fn adamw_unchecked(
        &self,
        _: &mut Buf,
        _: Option<&mut Buf>,
        _: &mut Buf,
        _: &mut Buf,
        _: &Buf,
        _: AdamW,
    ) {
    }
}

impl Losses for Counting {
    type Sums = usize;

    fn sums(&self, len: usize) -> usize {
        len
    }

    fn sums_len(&self, sums: &usize) -> usize {
        *sums
    }

    fn download_sums(&self, sums: &usize) -> Vec<f64> {
        vec![0.0; *sums]
    }

    fn add_sum_unchecked(&self, _: &mut usize, _: &Buf) {}

    fn clipped_ratio_loss_unchecked(
        &self,
        _: &mut Buf,
        _: &mut usize,
        _: &Buf,
        _: &Buf,
        _: &Buf,
        _: RatioLoss,
    ) {
    }

    fn clipped_square_loss_unchecked(
        &self,
        _: &mut Buf,
        _: &mut usize,
        _: &Buf,
        _: &Buf,
        _: &Buf,
        _: SquareLoss,
    ) {
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two bytes a stored number, four a wide one.
    const NARROW: Sizes = Sizes { stored: 2, wide: 4, host: 4, channels: 128 };

    #[test]
    fn bytes_are_held_until_they_are_dropped_and_the_fullest_moment_is_kept() {
        let b = Counting::new(NARROW, Some(1000));
        let stored = b.zeros(10);
        drop(b.wide(30));
        let heads = Heads { query: 2, key_value: 1, channels: 4 };
        let cache = b.cache(1, heads);
        assert_eq!(b.held(), Held { buffers: 20, caches: 2 * 2 * 16 * 4 });
        assert_eq!(b.most().total(), 20 + 256);
        assert_eq!((b.free_memory(), b.channels()), (Some(1000 - 276), 4));
        drop((stored, cache));
        assert_eq!((b.held(), b.most().caches), (Held::default(), 256));
    }

    #[test]
    fn clones_count_together_and_shapes_are_checked() {
        let b = Counting::new(NARROW, None);
        let (mut out, x) = (b.clone().zeros(4), b.zeros(3));
        assert_eq!(b.held().buffers, 14);
        let copied =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| b.copy(&mut out, &x)));
        assert!(copied.is_err());
    }
}
