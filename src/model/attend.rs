//! Attention of queries to keys and values in one block: the only step of a forward pass in which
//! training, prefill and decoding differ.

use super::spec::Spec;
use crate::backend::{Backend, Heads, Mask};

/// Attention in the blocks of a model.
pub trait Attend<B: Backend> {
    /// `out[n,h,c]` and, if a backward pass follows, `lse[n,h]`, the logs of the denominators, from
    /// `q[n,h,c]`, `k[n,g,c]`, `v[n,g,c]` of block `layer`.
    fn attend(
        &mut self,
        b: &B,
        layer: usize,
        out: &mut B::Buf,
        lse: &mut B::Buf,
        qkv: [&B::Buf; 3],
    );
}

/// Attention of each sequence of a batch to itself.
pub struct WholeSequences<'a> {
    starts: &'a [usize],
    heads: Heads,
    mask: Mask,
}

impl<'a> WholeSequences<'a> {
    /// Of sequences that begin at these rows, as in [`super::batch::Batch::starts`].
    pub fn new(spec: &Spec, starts: &'a [usize]) -> Self {
        WholeSequences { starts, heads: spec.heads(), mask: spec.mask }
    }
}

impl<B: Backend> Attend<B> for WholeSequences<'_> {
    fn attend(
        &mut self,
        b: &B,
        _: usize,
        out: &mut B::Buf,
        lse: &mut B::Buf,
        [q, k, v]: [&B::Buf; 3],
    ) {
        b.attention(out, lse, q, k, v, self.starts, self.heads, self.mask);
    }
}
