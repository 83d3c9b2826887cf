//! Buffers of one block: the activations of a forward pass, those that its backward pass reads
//! among them, and the gradients of activations.

use super::norm::NormStatistics;
use super::spec::{Spec, Wiring};
use crate::backend::Backend;

/// Activations of one block.
pub(super) struct BlockActivations<B: Backend> {
    /// `[n,d]`: the block's input.
    pub(super) input: B::Buf,
    pub(super) attention_statistics: NormStatistics<B>,
    /// `[n,d]`: the input, normed; in a post-norm model, `after_attention`, normed.
    pub(super) attention_normed: B::Buf,
    pub(super) attention: AttentionActivations<B>,
    /// `[n,d]`: the residual stream after attention; in a parallel model, what attention adds to
    /// it.
    pub(super) after_attention: B::Buf,
    pub(super) feed_forward_statistics: NormStatistics<B>,
    /// `[n,d]`: input of the feed-forward; in a post-norm model that is `attention_normed`, and
    /// this is empty.
    pub(super) feed_forward_normed: B::Buf,
    pub(super) feed_forward: FeedForwardActivations<B>,
    /// `[n,d]`: in a post-norm model, the residual stream after the feed-forward, before its norm.
    pub(super) after_feed_forward: B::Buf,
}

/// Activations of a block's attention branch.
pub(super) struct AttentionActivations<B: Backend> {
    /// Heads before their norm, in models that norm heads.
    pub(super) raw: Option<RawHeads<B>>,
    /// `[n,h,c]`: as attention reads them.
    pub(super) query: B::Buf,
    /// `[n,g,c]`: as attention reads them.
    pub(super) key: B::Buf,
    /// `[n,g,c]`.
    pub(super) value: B::Buf,
    /// `[n,h,c]`: attention's output.
    pub(super) attended: B::Buf,
    /// `[n,h]`: log of attention's denominators.
    pub(super) log_sum_exp: B::Buf,
}

/// Queries and keys before the norm of each head.
pub(super) struct RawHeads<B: Backend> {
    /// `[n,h,c]`.
    pub(super) query: B::Buf,
    /// `[n*h]`.
    pub(super) query_rstd: B::Buf,
    /// `[n,g,c]`.
    pub(super) key: B::Buf,
    /// `[n*g]`.
    pub(super) key_rstd: B::Buf,
}

/// Activations of a block's feed-forward branch.
pub(super) struct FeedForwardActivations<B: Backend> {
    /// `[n,f]`, in a gated feed-forward that saves this.
    pub(super) gate: B::Buf,
    /// `[n,f]`, in a feed-forward that is gated or saves this.
    pub(super) up: B::Buf,
    /// `[n,f]`: input of the last linear layer.
    pub(super) activated: B::Buf,
    /// Whether there is a backward pass. Only that reads what the activation is applied to.
    pub(super) saves: bool,
}

impl<B: Backend> BlockActivations<B> {
    /// Room for `n` rows; with `saves`, also for the activations that only a backward pass reads.
    pub(super) fn zeros(b: &B, spec: &Spec, n: usize, saves: bool) -> Self {
        let zeros = |width: usize| b.zeros(n * width);
        let only = |there: bool, width: usize| zeros(if there { width } else { 0 });
        let wide = |width: usize| b.wide(n * width);
        let (d, f, hc, gc) =
            (spec.width, spec.feed_forward_width, spec.query_width(), spec.key_value_width());
        let (h, g) = (spec.query_heads, spec.key_value_heads);
        let post = spec.wiring == Wiring::Post;
        BlockActivations {
            input: zeros(d),
            attention_statistics: NormStatistics::zeros(b, spec, n),
            attention_normed: zeros(d),
            attention: AttentionActivations {
                raw: spec.query_key_norm.then(|| RawHeads {
                    query: zeros(hc),
                    query_rstd: wide(h),
                    key: zeros(gc),
                    key_rstd: wide(g),
                }),
                query: zeros(hc),
                key: zeros(gc),
                value: zeros(gc),
                attended: zeros(hc),
                log_sum_exp: wide(h),
            },
            after_attention: zeros(d),
            feed_forward_statistics: NormStatistics::zeros(b, spec, n),
            feed_forward_normed: only(!post, d),
            feed_forward: FeedForwardActivations {
                gate: only(spec.feed_forward.is_gated() && saves, f),
                up: only(spec.feed_forward.is_gated() || saves, f),
                activated: zeros(f),
                saves,
            },
            after_feed_forward: only(post, d),
        }
    }
}

/// Gradients of a batch's activations during a backward pass; all blocks use one set.
pub(super) struct BackwardBuffers<B: Backend> {
    pub(super) branch: BranchBuffers<B>,
    /// `[n,d]`: in a post-norm model, gradient of the residual stream below a norm; in a parallel
    /// one, of a branch's output.
    pub(super) dstream: B::Buf,
}

/// Gradients inside of a block's branches.
pub(super) struct BranchBuffers<B: Backend> {
    /// `[n,d]`: of a branch's input.
    pub(super) dinput: B::Buf,
    /// `[n,h,c]`.
    pub(super) dquery: B::Buf,
    /// `[n,h,c]`.
    pub(super) dattended: B::Buf,
    /// `[n,g,c]`.
    pub(super) dkey: B::Buf,
    /// `[n,g,c]`.
    pub(super) dvalue: B::Buf,
    /// `[n,h,c]`: of queries before their norm, in models that norm heads.
    pub(super) dquery_raw: B::Buf,
    /// `[n,g,c]`: of keys before their norm.
    pub(super) dkey_raw: B::Buf,
    /// `[n,f]`, where the feed-forward is gated.
    pub(super) dgate: B::Buf,
    /// `[n,f]`.
    pub(super) dup: B::Buf,
    /// `[n,f]`.
    pub(super) dactivated: B::Buf,
}

impl<B: Backend> BackwardBuffers<B> {
    /// Room for `n` rows.
    pub(super) fn zeros(b: &B, spec: &Spec, n: usize) -> Self {
        let zeros = |width: usize| b.zeros(n * width);
        let only = |there: bool, width: usize| zeros(if there { width } else { 0 });
        let (d, f, hc, gc) =
            (spec.width, spec.feed_forward_width, spec.query_width(), spec.key_value_width());
        let (dinput, dstream) = (zeros(d), only(spec.wiring != Wiring::Pre, d));
        let branch = BranchBuffers {
            dinput,
            dquery: zeros(hc),
            dattended: zeros(hc),
            dkey: zeros(gc),
            dvalue: zeros(gc),
            dquery_raw: only(spec.query_key_norm, hc),
            dkey_raw: only(spec.query_key_norm, gc),
            dgate: only(spec.feed_forward.is_gated(), f),
            dup: zeros(f),
            dactivated: zeros(f),
        };
        BackwardBuffers { branch, dstream }
    }

    /// `[n,d]`: its content is overwritten by the next backward pass.
    pub(super) fn spare(&mut self) -> &mut B::Buf {
        &mut self.branch.dinput
    }
}
