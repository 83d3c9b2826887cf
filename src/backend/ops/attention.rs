//! Attention within packed sequences, forward and backward.

use crate::buffers::Buffers;
use crate::shapes::length;

/// Sizes of one attention call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// `h`: query heads, a multiple of `key_value`.
    pub query: usize,
    /// `g`: key/value heads.
    pub key_value: usize,
    /// `c`: channels of a head.
    pub channels: usize,
}

impl Heads {
    /// Panics unless the heads divide.
    #[track_caller]
    pub fn assert_grouped(self) {
        let whole =
            self.key_value > 0 && self.channels > 0 && self.query.is_multiple_of(self.key_value);
        assert!(
            whole && self.query > 0,
            "{self:?}: query heads must be a multiple of key/value heads, and none may be 0"
        );
    }
}

/// Which positions a token attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Itself and what is before it.
    Causal {
        /// Only the last `window` positions, the token's included; all if there is no window.
        window: Option<usize>,
    },
    /// All of its sequence.
    Bidirectional,
}

/// Panics unless a row is in its own window.
#[track_caller]
pub fn assert_window(window: Option<usize>) {
    assert!(window != Some(0), "a window of 0 positions does not hold the row's own");
}

/// Panics unless `starts` cuts `n` rows into sequences.
#[track_caller]
fn assert_sequences(starts: &[usize], n: usize) {
    assert!(
        starts.first() == Some(&0) && starts.last() == Some(&n) && starts.is_sorted(),
        "sequence starts must rise from 0 to {n}: {starts:?}"
    );
}

/// Panics unless the mask, the heads and the starts of sequences are possible; the count of rows.
#[track_caller]
fn rows(starts: &[usize], heads: Heads, mask: Mask) -> usize {
    if let Mask::Causal { window } = mask {
        assert_window(window);
    }
    let n = *starts.last().expect("starts holds at least the 0 of no sequences");
    heads.assert_grouped();
    assert_sequences(starts, n);
    n
}

/// Arguments of [`AttentionOps::attention`].
#[derive(Debug)]
pub struct Attention<'a, Buf> {
    /// `[n,h,c]`: overwritten.
    pub out: &'a mut Buf,
    /// `[n,h]`, wide: overwritten.
    pub lse: &'a mut Buf,
    /// `[n,h,c]`.
    pub q: &'a Buf,
    /// `[n,g,c]`.
    pub k: &'a Buf,
    /// `[n,g,c]`.
    pub v: &'a Buf,
    /// Sequence s is rows `starts[s]..starts[s+1]`.
    pub starts: &'a [usize],
    /// Sizes of the layer.
    pub heads: Heads,
    /// Which positions a token attends to.
    pub mask: Mask,
}

impl<Buf> Attention<'_, Buf> {
    #[track_caller]
    fn check<B: Buffers<Buf = Buf>>(&self, b: &B) {
        let heads = self.heads;
        let n = rows(self.starts, heads, self.mask);
        length(b.len(self.q), n * heads.query * heads.channels, "q [n,h,c]");
        length(b.len(self.out), b.len(self.q), "out [n,h,c]");
        length(b.len(self.lse), n * heads.query, "lse [n,h]");
        length(b.len(self.k), n * heads.key_value * heads.channels, "k [n,g,c]");
        length(b.len(self.v), b.len(self.k), "v [n,g,c]");
    }
}

/// Arguments of [`AttentionOps::attention_backward`].
#[derive(Debug)]
pub struct AttentionBackward<'a, Buf> {
    /// `[n,h,c]`: overwritten.
    pub dq: &'a mut Buf,
    /// `[n,g,c]`: overwritten.
    pub dk: &'a mut Buf,
    /// `[n,g,c]`: overwritten.
    pub dv: &'a mut Buf,
    /// `[n,h,c]`.
    pub dout: &'a Buf,
    /// `[n,h,c]`, of the forward pass.
    pub out: &'a Buf,
    /// `[n,h]`, wide, of the forward pass.
    pub lse: &'a Buf,
    /// `[n,h,c]`, of the forward pass.
    pub q: &'a Buf,
    /// `[n,g,c]`, of the forward pass.
    pub k: &'a Buf,
    /// `[n,g,c]`, of the forward pass.
    pub v: &'a Buf,
    /// Sequence s is rows `starts[s]..starts[s+1]`.
    pub starts: &'a [usize],
    /// Sizes of the layer.
    pub heads: Heads,
    /// Which positions a token attends to.
    pub mask: Mask,
}

impl<Buf> AttentionBackward<'_, Buf> {
    #[track_caller]
    fn check<B: Buffers<Buf = Buf>>(&self, b: &B) {
        let heads = self.heads;
        let n = rows(self.starts, heads, self.mask);
        let queries = n * heads.query * heads.channels;
        let keys = n * heads.key_value * heads.channels;
        length(b.len(self.dq), queries, "dq [n,h,c]");
        length(b.len(self.dout), queries, "dout [n,h,c]");
        length(b.len(self.out), queries, "out [n,h,c]");
        length(b.len(self.q), queries, "q [n,h,c]");
        length(b.len(self.dk), keys, "dk [n,g,c]");
        length(b.len(self.dv), keys, "dv [n,g,c]");
        length(b.len(self.k), keys, "k [n,g,c]");
        length(b.len(self.v), keys, "v [n,g,c]");
        length(b.len(self.lse), n * heads.query, "lse [n,h]");
    }
}

/// Attention within sequences.
pub trait AttentionOps: Buffers {
    /// Attention within each packed sequence, as `mask` allows. `lse` is the log of the softmax's
    /// denominator (scores scaled by 1/sqrt(c)).
    fn attention(&self, attention: Attention<'_, Self::Buf>) {
        attention.check(self);
        self.attention_unchecked(attention);
    }
    /// [`AttentionOps::attention`] of checked arguments.
    fn attention_unchecked(&self, attention: Attention<'_, Self::Buf>);

    /// `dq`, `dk`, `dv` overwritten, from `dout` and the forward pass's `out`, `lse`, `q`, `k`,
    /// `v`.
    fn attention_backward(&self, attention: AttentionBackward<'_, Self::Buf>) {
        attention.check(self);
        self.attention_backward_unchecked(attention);
    }
    /// [`AttentionOps::attention_backward`] of checked arguments.
    fn attention_backward_unchecked(&self, attention: AttentionBackward<'_, Self::Buf>);
}
