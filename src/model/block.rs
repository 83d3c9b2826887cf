//! One block of the transformer, forward and backward, in three wirings of two branches, attention
//! (`attention.rs`) and feed-forward (`feed_forward.rs`). Independent of embeddings, heads and
//! families.
//!
//! 1. One block serves training, scoring, prefill and decoding: they differ only in `attend`, which
//!    turns queries, keys and values into attention's output.
//! 2. Backward is the forward pass read from below, each line quoted. Gradients of weights are
//!    added; a residual branch adds to `dx`.

use super::activations::{BackwardBuffers, BlockActivations};
use super::attend::Attend;
use super::params::Layer;
use super::pass::Pass;
use super::spec::Wiring;
use super::{attention, feed_forward};
use crate::backend::Backend;

/// One block: `out[n,d]` from `activations.input[n,d]`; everything in between is in `activations`.
pub(super) fn block_forward<B: Backend>(
    pass: &Pass<'_, B>,
    activations: &mut BlockActivations<B>,
    out: &mut B::Buf,
    attend: &mut impl Attend<B>,
) {
    match pass.spec().wiring {
        Wiring::Pre => pre_norm(pass, activations, Some(out), attend),
        Wiring::Parallel => parallel(pass, activations, Some(out), attend),
        Wiring::Post => post_norm(pass, activations, out, attend),
    }
}

/// The activations that [`block_backward`] reads, recomputed from `activations.input[n,d]`;
/// `spare[n,d]` is overwritten. The block's output is skipped, except in a post-norm model, where
/// the last norm reads it.
pub(super) fn recompute_block<B: Backend>(
    pass: &Pass<'_, B>,
    activations: &mut BlockActivations<B>,
    spare: &mut B::Buf,
    attend: &mut impl Attend<B>,
) {
    match pass.spec().wiring {
        Wiring::Pre => pre_norm(pass, activations, None, attend),
        Wiring::Parallel => parallel(pass, activations, None, attend),
        Wiring::Post => post_norm(pass, activations, spare, attend),
    }
}

/// One block backward: `dx[n,d]`, the gradient of its output, becomes that of its input. `starts`
/// are those of the batch's sequences.
pub(super) fn block_backward<B: Backend>(
    pass: &Pass<'_, B>,
    starts: &[usize],
    activations: &BlockActivations<B>,
    dx: &mut B::Buf,
    buffers: &mut BackwardBuffers<B>,
    gradients: &mut Layer<Option<B::Buf>>,
) {
    let backward = match pass.spec().wiring {
        Wiring::Pre => pre_norm_backward,
        Wiring::Parallel => parallel_backward,
        Wiring::Post => post_norm_backward,
    };
    backward(pass, starts, activations, dx, buffers, gradients);
}

/// y = x + A(N x), out = y + F(N' y), where `out` is wanted.
fn pre_norm<B: Backend>(
    pass: &Pass<'_, B>,
    activations: &mut BlockActivations<B>,
    out: Option<&mut B::Buf>,
    attend: &mut impl Attend<B>,
) {
    let (t, n) = (activations, pass.rows());
    let (x, y) = (&t.input, &mut t.after_attention);
    pass.attention_norm().forward(&mut t.attention_normed, &mut t.attention_statistics, x, n);
    attention::forward(pass, &mut t.attention, y, &t.attention_normed, Some(x), attend);
    let (normed, statistics) = (&mut t.feed_forward_normed, &mut t.feed_forward_statistics);
    pass.feed_forward_norm().forward(normed, statistics, y, n);
    feed_forward::inner(pass, &mut t.feed_forward, normed);
    if let Some(out) = out {
        feed_forward::outer(pass, out, &t.feed_forward, y);
    }
}

/// out = x + A(N x) + F(N' x), where `out` is wanted.
fn parallel<B: Backend>(
    pass: &Pass<'_, B>,
    activations: &mut BlockActivations<B>,
    out: Option<&mut B::Buf>,
    attend: &mut impl Attend<B>,
) {
    let (t, n) = (activations, pass.rows());
    let (x, y) = (&t.input, &mut t.after_attention);
    pass.attention_norm().forward(&mut t.attention_normed, &mut t.attention_statistics, x, n);
    attention::forward(pass, &mut t.attention, y, &t.attention_normed, None, attend);
    let (normed, statistics) = (&mut t.feed_forward_normed, &mut t.feed_forward_statistics);
    pass.feed_forward_norm().forward(normed, statistics, x, n);
    feed_forward::inner(pass, &mut t.feed_forward, normed);
    if let Some(out) = out {
        feed_forward::outer(pass, out, &t.feed_forward, y);
        pass.b.add(out, x);
    }
}

/// y = x + A(x), z = N y + F(N y), out = N' z.
fn post_norm<B: Backend>(
    pass: &Pass<'_, B>,
    activations: &mut BlockActivations<B>,
    out: &mut B::Buf,
    attend: &mut impl Attend<B>,
) {
    let (t, n) = (activations, pass.rows());
    let (x, y) = (&t.input, &mut t.after_attention);
    attention::forward(pass, &mut t.attention, y, x, Some(x), attend);
    let normed = &mut t.attention_normed;
    pass.attention_norm().forward(normed, &mut t.attention_statistics, y, n);
    feed_forward::inner(pass, &mut t.feed_forward, normed);
    feed_forward::outer(pass, out, &t.feed_forward, normed);
    let z = &mut t.after_feed_forward;
    std::mem::swap(out, z);
    pass.feed_forward_norm().forward(out, &mut t.feed_forward_statistics, z, n);
}

fn pre_norm_backward<B: Backend>(
    pass: &Pass<'_, B>,
    starts: &[usize],
    activations: &BlockActivations<B>,
    dx: &mut B::Buf,
    buffers: &mut BackwardBuffers<B>,
    gradients: &mut Layer<Option<B::Buf>>,
) {
    let (t, z, n) = (activations, &mut buffers.branch, pass.rows());
    // out = y + feed_forward(normed): dx is the gradient of the branch, and of y through the
    // residual stream
    feed_forward::backward(pass, gradients, z, dx, &t.feed_forward, &t.feed_forward_normed);
    // normed = norm(y): dx is now the gradient of y, and of x through it
    let (y, statistics) = (&t.after_attention, &t.feed_forward_statistics);
    let dnorm = &mut gradients.feed_forward_norm;
    pass.feed_forward_norm().backward(dx, dnorm, &z.dinput, y, statistics, n);
    // y = x + attention(normed)
    attention::backward(pass, starts, gradients, z, dx, &t.attention, &t.attention_normed);
    // normed = norm(x)
    let dnorm = &mut gradients.attention_norm;
    pass.attention_norm().backward(dx, dnorm, &z.dinput, &t.input, &t.attention_statistics, n);
}

fn parallel_backward<B: Backend>(
    pass: &Pass<'_, B>,
    starts: &[usize],
    activations: &BlockActivations<B>,
    dx: &mut B::Buf,
    buffers: &mut BackwardBuffers<B>,
    gradients: &mut Layer<Option<B::Buf>>,
) {
    let (t, x, n) = (activations, &activations.input, pass.rows());
    let BackwardBuffers { branch: z, dstream } = buffers;
    // out = x + y + feed_forward(normed)
    feed_forward::backward(pass, gradients, z, dx, &t.feed_forward, &t.feed_forward_normed);
    // y, which attention added, has the gradient of the output
    pass.b.copy(dstream, dx);
    // normed = norm(x)
    let (dnorm, statistics) = (&mut gradients.feed_forward_norm, &t.feed_forward_statistics);
    pass.feed_forward_norm().backward(dx, dnorm, &z.dinput, x, statistics, n);
    // y = attention(normed)
    attention::backward(pass, starts, gradients, z, dstream, &t.attention, &t.attention_normed);
    // normed = norm(x)
    let dnorm = &mut gradients.attention_norm;
    pass.attention_norm().backward(dx, dnorm, &z.dinput, x, &t.attention_statistics, n);
}

fn post_norm_backward<B: Backend>(
    pass: &Pass<'_, B>,
    starts: &[usize],
    activations: &BlockActivations<B>,
    dx: &mut B::Buf,
    buffers: &mut BackwardBuffers<B>,
    gradients: &mut Layer<Option<B::Buf>>,
) {
    let (b, t, n) = (pass.b, activations, pass.rows());
    let BackwardBuffers { branch: z, dstream } = buffers;
    // out = norm(sum)
    b.fill(dstream, 0.0);
    let (sum, statistics) = (&t.after_feed_forward, &t.feed_forward_statistics);
    let dnorm = &mut gradients.feed_forward_norm;
    pass.feed_forward_norm().backward(dstream, dnorm, dx, sum, statistics, n);
    std::mem::swap(dx, dstream);
    // sum = normed + feed_forward(normed)
    feed_forward::backward(pass, gradients, z, dx, &t.feed_forward, &t.attention_normed);
    b.add(dx, &z.dinput);
    // normed = norm(y)
    b.fill(dstream, 0.0);
    let (y, dnorm) = (&t.after_attention, &mut gradients.attention_norm);
    pass.attention_norm().backward(dstream, dnorm, dx, y, &t.attention_statistics, n);
    std::mem::swap(dx, dstream);
    // y = x + attention(x)
    attention::backward(pass, starts, gradients, z, dx, &t.attention, &t.input);
    b.add(dx, &z.dinput);
}
