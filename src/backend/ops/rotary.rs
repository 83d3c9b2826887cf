//! Rotary position embedding (Su et al. 2021), in the Hugging Face layout: channel j pairs with
//! j + r/2.

use super::Heads;
use crate::buffers::Buffers;
use crate::shapes::{below, length};

/// Arguments of [`RotaryOps::rotary`].
#[derive(Debug)]
pub struct Rotary<'a, Buf> {
    /// `[n,heads,channels]`: rotated in place.
    pub x: &'a mut Buf,
    /// `[positions,rotated/2]`, wide.
    pub cos: &'a Buf,
    /// `[positions,rotated/2]`, wide.
    pub sin: &'a Buf,
    /// `[n]`: the position of each row.
    pub positions: &'a [u32],
    /// Heads of a row.
    pub heads: usize,
    /// Channels of a head.
    pub channels: usize,
    /// Channels that are rotated, the first ones.
    pub rotated: usize,
    /// Whether to rotate back, which is also the backward pass.
    pub inverse: bool,
}

impl<Buf> Rotary<'_, Buf> {
    #[track_caller]
    fn check<B: Buffers<Buf = Buf>>(&self, b: &B) {
        let len = self.positions.len() * self.heads * self.channels;
        length(b.len(self.x), len, "x [n,heads,c]");
        assert_pairs(self.rotated, self.channels);
        let angles = b.len(self.cos);
        length(b.len(self.sin), angles, "sin [positions,r/2]");
        below(self.positions, angles / (self.rotated / 2), "positions");
    }
}

/// Arguments of [`RotaryOps::rotary_pair`].
#[derive(Debug)]
pub struct RotaryPair<'a, Buf> {
    /// `[n,h,c]`: rotated in place.
    pub q: &'a mut Buf,
    /// `[n,g,c]`: rotated in place.
    pub k: &'a mut Buf,
    /// `[positions,rotated/2]`, wide.
    pub cos: &'a Buf,
    /// `[positions,rotated/2]`, wide.
    pub sin: &'a Buf,
    /// `[n]`: the position of each row.
    pub positions: &'a [u32],
    /// Sizes of the layer.
    pub heads: Heads,
    /// Channels that are rotated, the first ones.
    pub rotated: usize,
    /// Whether to rotate back, which is also the backward pass.
    pub inverse: bool,
}

impl<Buf> RotaryPair<'_, Buf> {
    #[track_caller]
    fn check<B: Buffers<Buf = Buf>>(&mut self, b: &B) {
        self.query().check(b);
        self.key().check(b);
    }

    /// The rotation of `q`.
    pub fn query(&mut self) -> Rotary<'_, Buf> {
        let Heads { query: heads, channels, .. } = self.heads;
        let RotaryPair { cos, sin, positions, rotated, inverse, .. } = *self;
        Rotary { x: self.q, cos, sin, positions, heads, channels, rotated, inverse }
    }

    /// The rotation of `k`.
    pub fn key(&mut self) -> Rotary<'_, Buf> {
        let Heads { key_value: heads, channels, .. } = self.heads;
        let RotaryPair { cos, sin, positions, rotated, inverse, .. } = *self;
        Rotary { x: self.k, cos, sin, positions, heads, channels, rotated, inverse }
    }
}

/// Panics unless rotary turns pairs within a head.
#[track_caller]
fn assert_pairs(rotated: usize, channels: usize) {
    let pairs = rotated > 0 && rotated.is_multiple_of(2) && rotated <= channels;
    assert!(pairs, "rotary turns pairs of a head's {channels} channels, not {rotated}");
}

/// Rotary position embedding.
pub trait RotaryOps: Buffers {
    /// Rotates the first `rotated` channels of every head of `x` in place by the angles of each
    /// row's position, or back by them.
    fn rotary(&self, rotary: Rotary<'_, Self::Buf>) {
        rotary.check(self);
        self.rotary_unchecked(rotary);
    }
    /// [`RotaryOps::rotary`] of checked arguments.
    fn rotary_unchecked(&self, rotary: Rotary<'_, Self::Buf>);

    /// [`RotaryOps::rotary`] of `q` and of `k`, by the same angles.
    fn rotary_pair(&self, mut pair: RotaryPair<'_, Self::Buf>) {
        pair.check(self);
        self.rotary_pair_unchecked(pair);
    }
    /// [`RotaryOps::rotary_pair`] of checked arguments.
    fn rotary_pair_unchecked(&self, mut pair: RotaryPair<'_, Self::Buf>) {
        self.rotary_unchecked(pair.query());
        self.rotary_unchecked(pair.key());
    }
}
