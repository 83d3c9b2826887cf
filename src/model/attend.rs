//! Attention of queries to keys and values in one block: the only step of a forward pass in which
//! training, prefill and decoding differ.

use super::spec::Spec;
use crate::backend::{Backend, ops};

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
    spec: &'a Spec,
    starts: &'a [usize],
}

impl<'a> WholeSequences<'a> {
    /// Of sequences that begin at these rows, as in [`super::batch::Batch::starts`].
    pub fn new(spec: &'a Spec, starts: &'a [usize]) -> Self {
        WholeSequences { spec, starts }
    }
}

impl<B: Backend> Attend<B> for WholeSequences<'_> {
    fn attend(
        &mut self,
        b: &B,
        layer: usize,
        out: &mut B::Buf,
        lse: &mut B::Buf,
        [q, k, v]: [&B::Buf; 3],
    ) {
        let (heads, mask) = (self.spec.heads(), self.spec.layer(layer).mask);
        b.attention(ops::Attention { out, lse, q, k, v, starts: self.starts, heads, mask });
    }
}
