//! One block of the transformer, forward and backward, for all wirings. Independent of embeddings,
//! heads and families.
//!
//! 1. One block serves training, scoring, prefill and decoding: they differ only in `attend`, which
//!    turns q, k, v into attention's output.
//! 2. In a post-norm model `x` is the input of attention without a norm, and each norm follows its
//!    residual sum.
//! 3. Backward is the forward pass read from below, each line quoted. Gradients of weights are
//!    added; a residual branch adds to `dx`.

use super::params::{Affine, Layer};
use super::spec::{Norm, Spec, Wiring};
use super::transformer::{Attend, Batch};
use super::weights::{Model, Weight};
use crate::backend::{Backend, Epilogue, Projection, ops};

/// What a norm keeps for its backward pass.
pub(super) struct NormStatistics<B: Backend> {
    /// `[n]`; empty where nothing is subtracted.
    mean: B::Buf,
    /// `[n]`.
    rstd: B::Buf,
}

impl<B: Backend> NormStatistics<B> {
    pub(super) fn zeros(b: &B, spec: &Spec, n: usize) -> Self {
        NormStatistics {
            mean: b.wide(if spec.norm == Norm::Layer { n } else { 0 }),
            rstd: b.wide(n),
        }
    }
}

/// What one block keeps for its backward pass.
pub(super) struct Block<B: Backend> {
    /// `[n,d]`: the block's input.
    pub(super) x: B::Buf,
    attention_statistics: NormStatistics<B>,
    /// `[n,d]`: x or, in a post-norm model, y, normed.
    a: B::Buf,
    /// Heads before their norm, where they have one.
    raw: Option<RawHeads<B>>,
    /// `[n,h,c]`: as attention takes them.
    q: B::Buf,
    /// `[n,g,c]`: as attention takes them.
    k: B::Buf,
    /// `[n,g,c]`.
    v: B::Buf,
    /// `[n,h,c]`: attention's output.
    o: B::Buf,
    /// `[n,h]`: log of attention's denominators.
    lse: B::Buf,
    /// `[n,d]`: the residual stream after attention; in a parallel model, what attention adds to
    /// it.
    y: B::Buf,
    feed_forward_statistics: NormStatistics<B>,
    /// `[n,d]`: what goes into the feed-forward; in a post-norm model, that is `a`, and this is
    /// empty.
    e: B::Buf,
    /// `[n,f]`, where the feed-forward is gated and this is kept.
    gate: B::Buf,
    /// `[n,f]`, where the feed-forward is gated or this is kept.
    up: B::Buf,
    /// `[n,f]`: activation(gate) * up, or activation(up).
    s: B::Buf,
    /// `[n,d]`: the residual stream after the feed-forward, before its norm, in a post-norm model.
    z: B::Buf,
    /// Whether there is a backward pass. Only that reads what the activation is applied to.
    keeps: bool,
}

/// Queries and keys before the norm of each head.
struct RawHeads<B: Backend> {
    /// `[n,h,c]`, `[n*h]`.
    q: B::Buf,
    q_rstd: B::Buf,
    /// `[n,g,c]`, `[n*g]`.
    k: B::Buf,
    k_rstd: B::Buf,
}

impl<B: Backend> Block<B> {
    /// Room for `n` rows, and for what a backward pass reads where it `keeps` that.
    pub(super) fn zeros(b: &B, spec: &Spec, n: usize, keeps: bool) -> Self {
        let zeros = |width: usize| b.zeros(n * width);
        let (only, wide) = (
            |there: bool, width: usize| zeros(if there { width } else { 0 }),
            |width: usize| b.wide(n * width),
        );
        let (d, f, hc, gc) =
            (spec.width, spec.feed_forward, spec.query_width(), spec.key_value_width());
        let (h, g) = (spec.query_heads, spec.key_value_heads);
        let post = spec.wiring == Wiring::Post;
        Block {
            x: zeros(d),
            attention_statistics: NormStatistics::zeros(b, spec, n),
            a: zeros(d),
            raw: spec.query_key_norm.then(|| RawHeads {
                q: zeros(hc),
                q_rstd: wide(h),
                k: zeros(gc),
                k_rstd: wide(g),
            }),
            q: zeros(hc),
            k: zeros(gc),
            v: zeros(gc),
            o: zeros(hc),
            lse: wide(h),
            y: zeros(d),
            feed_forward_statistics: NormStatistics::zeros(b, spec, n),
            e: only(!post, d),
            gate: only(spec.gated && keeps, f),
            up: only(spec.gated || keeps, f),
            s: zeros(f),
            z: only(post, d),
            keeps,
        }
    }
}

/// `out[n,d]`, a norm of `x[n,d]`.
pub(super) fn norm<B: Backend>(
    b: &B,
    spec: &Spec,
    out: &mut B::Buf,
    kept: &mut NormStatistics<B>,
    x: &B::Buf,
    weights: &Affine<Weight<B>>,
    n: usize,
) {
    let (d, epsilon) = (spec.width, spec.norm_epsilon);
    match &weights.bias {
        Some(bias) => b.layer_norm(ops::LayerNorm {
            out,
            mean: &mut kept.mean,
            rstd: &mut kept.rstd,
            x,
            weight: &weights.weight,
            bias,
            n,
            d,
            epsilon,
        }),
        None => b.rms_norm(ops::RmsNorm {
            out,
            rstd: &mut kept.rstd,
            x,
            weight: &weights.weight,
            n,
            d,
            epsilon,
        }),
    }
}

/// [`norm`] of `x[n,d] += delta[n,d]`.
#[expect(clippy::too_many_arguments)]
pub(super) fn norm_residual<B: Backend>(
    b: &B,
    spec: &Spec,
    out: &mut B::Buf,
    kept: &mut NormStatistics<B>,
    x: &mut B::Buf,
    delta: &B::Buf,
    weights: &Affine<Weight<B>>,
    n: usize,
) {
    let (d, epsilon) = (spec.width, spec.norm_epsilon);
    match &weights.bias {
        Some(bias) => b.layer_norm_residual(ops::LayerNormResidual {
            out,
            mean: &mut kept.mean,
            rstd: &mut kept.rstd,
            x,
            delta,
            weight: &weights.weight,
            bias,
            n,
            d,
            epsilon,
        }),
        None => b.rms_norm_residual(ops::RmsNormResidual {
            out,
            rstd: &mut kept.rstd,
            x,
            delta,
            weight: &weights.weight,
            n,
            d,
            epsilon,
        }),
    }
}

/// Adds to `dx[n,d]` and to the gradients of a norm's weights.
#[expect(clippy::too_many_arguments)]
pub(super) fn norm_backward<B: Backend>(
    b: &B,
    spec: &Spec,
    dx: &mut B::Buf,
    grads: &mut Affine<Option<B::Buf>>,
    dout: &B::Buf,
    x: &B::Buf,
    weights: &Affine<Weight<B>>,
    kept: &NormStatistics<B>,
    n: usize,
) {
    let (d, dweight) = (spec.width, grads.weight.as_mut());
    match &weights.bias {
        Some(_) => {
            let dbias = grads.bias.as_mut().and_then(Option::as_mut);
            b.layer_norm_backward(ops::LayerNormBackward {
                dx,
                dweight,
                dbias,
                dout,
                x,
                weight: &weights.weight,
                mean: &kept.mean,
                rstd: &kept.rstd,
                n,
                d,
            });
        }
        None => b.rms_norm_backward(ops::RmsNormBackward {
            dx,
            dweight,
            dout,
            x,
            weight: &weights.weight,
            rstd: &kept.rstd,
            n,
            d,
        }),
    }
}

/// `out[n,o]`, a linear layer of `x[n,i]`.
fn linear<B: Backend>(
    b: &B,
    out: &mut B::Buf,
    x: &B::Buf,
    weights: &Affine<Weight<B>>,
    [n, i, o]: [usize; 3],
) {
    b.linear(ops::Linear {
        out,
        x,
        weight: &weights.weight,
        bias: weights.bias.as_deref(),
        n,
        i,
        o,
    });
}

/// `out[n,o]`, a linear layer of `x[n,i]` and what follows it.
fn linear_with<B: Backend>(
    b: &B,
    out: &mut B::Buf,
    x: &B::Buf,
    weights: &Affine<Weight<B>>,
    epilogue: Epilogue<'_, B::Buf>,
    [n, i, o]: [usize; 3],
) {
    b.linear_with(
        ops::Linear { out, x, weight: &weights.weight, bias: weights.bias.as_deref(), n, i, o },
        epilogue,
    );
}

/// One of the layers that read attention's input.
fn projection<'a, B: Backend>(
    out: &'a mut B::Buf,
    weights: &'a Affine<Weight<B>>,
    width: usize,
) -> Projection<'a, B::Buf> {
    Projection { out, weight: &weights.weight, bias: weights.bias.as_deref(), width }
}

/// Adds to the gradients of a linear layer that trains.
fn linear_backward_weights<B: Backend>(
    b: &B,
    grads: &mut Affine<Option<B::Buf>>,
    dout: &B::Buf,
    x: &B::Buf,
    [n, i, o]: [usize; 3],
) {
    let dbias = grads.bias.as_mut().and_then(Option::as_mut);
    b.linear_backward_weight(ops::LinearBackwardWeight {
        dweight: trained(&mut grads.weight),
        dbias,
        dout,
        x,
        n,
        i,
        o,
    });
}

/// The inputs of the two halves of a block.
fn attention_input<'a, B: Backend>(spec: &Spec, block: &'a Block<B>) -> &'a B::Buf {
    if spec.wiring == Wiring::Post { &block.x } else { &block.a }
}

fn feed_forward_input<'a, B: Backend>(spec: &Spec, block: &'a Block<B>) -> &'a B::Buf {
    if spec.wiring == Wiring::Post { &block.a } else { &block.e }
}

/// One block: `out[n,d]` from `block.x[n,d]`; everything in between stays in `block`.
pub(super) fn block_forward<B: Backend>(
    b: &B,
    model: &Model<B>,
    layer: usize,
    block: &mut Block<B>,
    out: &mut B::Buf,
    positions: &[u32],
    attend: &mut impl Attend<B>,
) {
    block_inside(b, model, layer, block, positions, attend);
    block_output(b, model, layer, block, out, positions.len());
}

/// What [`block_backward`] reads of a block, made again from `block.x[n,d]`; `spare[n,d]` is
/// overwritten. The block's output itself is not read, except in a post-norm model, where it is
/// normed.
pub(super) fn block_again<B: Backend>(
    b: &B,
    model: &Model<B>,
    layer: usize,
    block: &mut Block<B>,
    spare: &mut B::Buf,
    positions: &[u32],
    attend: &mut impl Attend<B>,
) {
    block_inside(b, model, layer, block, positions, attend);
    if model.spec.wiring == Wiring::Post {
        block_output(b, model, layer, block, spare, positions.len());
    }
}

/// A block from its input to what its last linear layer reads.
fn block_inside<B: Backend>(
    b: &B,
    model: &Model<B>,
    layer: usize,
    block: &mut Block<B>,
    positions: &[u32],
    attend: &mut impl Attend<B>,
) {
    let (spec, w) = (&model.spec, &model.weights.layers[layer]);
    let (n, d) = (positions.len(), spec.width);

    if spec.wiring != Wiring::Post {
        norm(
            b,
            spec,
            &mut block.a,
            &mut block.attention_statistics,
            &block.x,
            &w.attention_norm,
            n,
        );
    }
    attention_forward(b, model, layer, block, positions, attend);
    let t = block;
    match spec.wiring {
        Wiring::Pre => {
            norm(b, spec, &mut t.e, &mut t.feed_forward_statistics, &t.y, &w.feed_forward_norm, n)
        }
        Wiring::Parallel => {
            norm(b, spec, &mut t.e, &mut t.feed_forward_statistics, &t.x, &w.feed_forward_norm, n)
        }
        Wiring::Post => {
            norm(b, spec, &mut t.a, &mut t.attention_statistics, &t.y, &w.attention_norm, n)
        }
    }
    let sizes = [n, d, spec.feed_forward];
    let input = if spec.wiring == Wiring::Post { &t.a } else { &t.e };
    match &w.gate {
        Some(gate) => {
            linear(b, &mut t.up, input, &w.up, sizes);
            let kept = t.keeps.then_some(&mut t.gate);
            linear_with(b, &mut t.s, input, gate, Epilogue::Gate { kept, up: &t.up }, sizes);
        }
        None => {
            let kept = t.keeps.then_some(&mut t.up);
            linear_with(
                b,
                &mut t.s,
                input,
                &w.up,
                Epilogue::Activate { kept, activation: spec.activation },
                sizes,
            );
        }
    }
}

/// `out[n,d]` from what [`block_inside`] left.
fn block_output<B: Backend>(
    b: &B,
    model: &Model<B>,
    layer: usize,
    block: &mut Block<B>,
    out: &mut B::Buf,
    n: usize,
) {
    let (spec, w, t) = (&model.spec, &model.weights.layers[layer], block);
    let stream = if spec.wiring == Wiring::Post { &t.a } else { &t.y };
    linear_with(b, out, &t.s, &w.down, Epilogue::Add(stream), [n, spec.feed_forward, spec.width]);
    match spec.wiring {
        Wiring::Pre => {}
        Wiring::Parallel => b.add(out, &t.x),
        Wiring::Post => {
            std::mem::swap(out, &mut t.z);
            norm(b, spec, out, &mut t.feed_forward_statistics, &t.z, &w.feed_forward_norm, n);
        }
    }
}

/// The attention branch of one block: `block.y[n,d]`, with the residual except in a parallel model.
fn attention_forward<B: Backend>(
    b: &B,
    model: &Model<B>,
    layer: usize,
    block: &mut Block<B>,
    positions: &[u32],
    attend: &mut impl Attend<B>,
) {
    let (spec, w, t) = (&model.spec, &model.weights.layers[layer], block);
    let (n, d, c, hc, gc) =
        (positions.len(), spec.width, spec.channels, spec.query_width(), spec.key_value_width());
    let input = if spec.wiring == Wiring::Post { &t.x } else { &t.a };

    let mut layers = [
        projection::<B>(&mut t.q, &w.query, hc),
        projection::<B>(&mut t.k, &w.key, gc),
        projection::<B>(&mut t.v, &w.value, gc),
    ];
    b.linears(&mut layers, input, n, d);
    if let (Some(raw), Some(query_norm), Some(key_norm)) = (&mut t.raw, &w.query_norm, &w.key_norm)
    {
        std::mem::swap(&mut t.q, &mut raw.q);
        std::mem::swap(&mut t.k, &mut raw.k);
        b.rms_norm(ops::RmsNorm {
            out: &mut t.q,
            rstd: &mut raw.q_rstd,
            x: &raw.q,
            weight: query_norm,
            n: n * spec.query_heads,
            d: c,
            epsilon: spec.norm_epsilon,
        });
        b.rms_norm(ops::RmsNorm {
            out: &mut t.k,
            rstd: &mut raw.k_rstd,
            x: &raw.k,
            weight: key_norm,
            n: n * spec.key_value_heads,
            d: c,
            epsilon: spec.norm_epsilon,
        });
    }
    if let Some(rotary) = spec.rotary() {
        b.rotary_pair(ops::RotaryPair {
            q: &mut t.q,
            k: &mut t.k,
            cos: &model.cos,
            sin: &model.sin,
            positions,
            heads: spec.heads(),
            rotated: rotary.channels,
            inverse: false,
        });
    }
    attend.attend(b, layer, &mut t.o, &mut t.lse, [&t.q, &t.k, &t.v]);
    match spec.wiring {
        Wiring::Pre | Wiring::Post => {
            linear_with(b, &mut t.y, &t.o, &w.output, Epilogue::Add(&t.x), [n, hc, d])
        }
        Wiring::Parallel => linear(b, &mut t.y, &t.o, &w.output, [n, hc, d]),
    }
}

/// Gradients of one batch's tokens during a backward pass: all blocks use one set.
pub(super) struct Flight<B: Backend> {
    /// `[n,d]`: of what goes into a branch.
    dinput: B::Buf,
    /// `[n,d]`: of the residual stream below a norm, in a post-norm model; of a branch's output, in
    /// a parallel one.
    dstream: B::Buf,
    /// `[n,h,c]` each.
    dq: B::Buf,
    d_o: B::Buf,
    /// `[n,g,c]` each.
    dk: B::Buf,
    dv: B::Buf,
    /// Of raw heads, where they have a norm: `[n,h,c]`, `[n,g,c]`.
    dq_raw: B::Buf,
    dk_raw: B::Buf,
    /// `[n,f]` each.
    dgate: B::Buf,
    dup: B::Buf,
    ds: B::Buf,
}

impl<B: Backend> Flight<B> {
    pub(super) fn zeros(b: &B, spec: &Spec, n: usize) -> Self {
        let zeros = |width: usize| b.zeros(n * width);
        let only = |there: bool, width: usize| zeros(if there { width } else { 0 });
        let (d, f, hc, gc) =
            (spec.width, spec.feed_forward, spec.query_width(), spec.key_value_width());
        Flight {
            dinput: zeros(d),
            dstream: only(spec.wiring != Wiring::Pre, d),
            dq: zeros(hc),
            d_o: zeros(hc),
            dk: zeros(gc),
            dv: zeros(gc),
            dq_raw: only(spec.query_key_norm, hc),
            dk_raw: only(spec.query_key_norm, gc),
            dgate: only(spec.gated, f),
            dup: zeros(f),
            ds: zeros(f),
        }
    }

    /// `[n,d]`: its content is overwritten by the next backward pass.
    pub(super) fn spare(&mut self) -> &mut B::Buf {
        &mut self.dinput
    }
}

/// One block backward: `dx[n,d]`, the gradient of its output, becomes that of its input.
#[expect(clippy::too_many_arguments)]
pub(super) fn block_backward<B: Backend>(
    b: &B,
    model: &Model<B>,
    layer: usize,
    block: &Block<B>,
    dx: &mut B::Buf,
    flight: &mut Flight<B>,
    batch: &Batch,
    grads: &mut Layer<Option<B::Buf>>,
) {
    let (spec, w) = (&model.spec, &model.weights.layers[layer]);
    let (n, d, f) = (batch.rows(), spec.width, spec.feed_forward);
    let (t, z) = (block, flight);

    // out = norm(z)
    if spec.wiring == Wiring::Post {
        b.fill(&mut z.dstream, 0.0);
        norm_backward(
            b,
            spec,
            &mut z.dstream,
            &mut grads.feed_forward_norm,
            dx,
            &t.z,
            &w.feed_forward_norm,
            &t.feed_forward_statistics,
            n,
        );
        std::mem::swap(dx, &mut z.dstream);
    }
    // out = linear(s, down) + residuals: dx is now the gradient of the branch and, through the
    // residual stream, of what it was added to
    b.linear_backward_input_first(ops::LinearBackwardInput {
        dx: &mut z.ds,
        dout: dx,
        weight: &w.down.weight,
        n,
        i: f,
        o: d,
    });
    linear_backward_weights(b, &mut grads.down, dx, &t.s, [n, f, d]);
    let input = feed_forward_input(spec, t);
    match (&w.gate, &mut grads.gate) {
        (Some(gate), Some(dgate)) => {
            // s = silu(gate) * up
            b.swiglu_backward(&mut z.dgate, &mut z.dup, &z.ds, &t.gate, &t.up);
            // gate = linear(input, gate), up = linear(input, up)
            b.linear_backward_input_first(ops::LinearBackwardInput {
                dx: &mut z.dinput,
                dout: &z.dgate,
                weight: &gate.weight,
                n,
                i: d,
                o: f,
            });
            linear_backward_weights(b, dgate, &z.dgate, input, [n, d, f]);
            b.linear_backward_input(ops::LinearBackwardInput {
                dx: &mut z.dinput,
                dout: &z.dup,
                weight: &w.up.weight,
                n,
                i: d,
                o: f,
            });
        }
        _ => {
            // s = activation(up)
            b.activation_backward(&mut z.dup, &z.ds, &t.up, spec.activation);
            // up = linear(input, up)
            b.linear_backward_input_first(ops::LinearBackwardInput {
                dx: &mut z.dinput,
                dout: &z.dup,
                weight: &w.up.weight,
                n,
                i: d,
                o: f,
            });
        }
    }
    linear_backward_weights(b, &mut grads.up, &z.dup, input, [n, d, f]);

    match spec.wiring {
        // input = e = norm(y): dx is now the gradient of y, and of x through it
        Wiring::Pre => {
            norm_backward(
                b,
                spec,
                dx,
                &mut grads.feed_forward_norm,
                &z.dinput,
                &t.y,
                &w.feed_forward_norm,
                &t.feed_forward_statistics,
                n,
            );
            attention_backward(b, model, layer, t, dx, z, batch, grads);
        }
        // input = e = norm(x), out = x + y + feed-forward: what attention added has the gradient of
        // the output
        Wiring::Parallel => {
            b.copy(&mut z.dstream, dx);
            norm_backward(
                b,
                spec,
                dx,
                &mut grads.feed_forward_norm,
                &z.dinput,
                &t.x,
                &w.feed_forward_norm,
                &t.feed_forward_statistics,
                n,
            );
            let dy = std::mem::replace(&mut z.dstream, b.zeros(0));
            attention_backward(b, model, layer, t, &dy, z, batch, grads);
            z.dstream = dy;
        }
        // input = a = norm(y), which is also added to the feed-forward's output
        Wiring::Post => {
            b.add(dx, &z.dinput);
            b.fill(&mut z.dstream, 0.0);
            norm_backward(
                b,
                spec,
                &mut z.dstream,
                &mut grads.attention_norm,
                dx,
                &t.y,
                &w.attention_norm,
                &t.attention_statistics,
                n,
            );
            std::mem::swap(dx, &mut z.dstream);
            attention_backward(b, model, layer, t, dx, z, batch, grads);
        }
    }
    match spec.wiring {
        // attention's input is x itself
        Wiring::Post => b.add(dx, &z.dinput),
        // a = norm(x)
        Wiring::Pre | Wiring::Parallel => {
            norm_backward(
                b,
                spec,
                dx,
                &mut grads.attention_norm,
                &z.dinput,
                &t.x,
                &w.attention_norm,
                &t.attention_statistics,
                n,
            );
        }
    }
}

/// The attention branch backward: from `dy[n,d]`, the gradient of what it added, to
/// `flight.dinput`, that of its input.
#[expect(clippy::too_many_arguments)]
fn attention_backward<B: Backend>(
    b: &B,
    model: &Model<B>,
    layer: usize,
    block: &Block<B>,
    dy: &B::Buf,
    flight: &mut Flight<B>,
    batch: &Batch,
    grads: &mut Layer<Option<B::Buf>>,
) {
    let (spec, w, t, z) = (&model.spec, &model.weights.layers[layer], block, flight);
    let (n, d, c, hc, gc) =
        (batch.rows(), spec.width, spec.channels, spec.query_width(), spec.key_value_width());

    // y = linear(o, output)
    b.linear_backward_input_first(ops::LinearBackwardInput {
        dx: &mut z.d_o,
        dout: dy,
        weight: &w.output.weight,
        n,
        i: hc,
        o: d,
    });
    linear_backward_weights(b, &mut grads.output, dy, &t.o, [n, hc, d]);
    // o = attention(q, k, v)
    let (heads, mask) = (spec.heads(), spec.mask);
    b.attention_backward(ops::AttentionBackward {
        dq: &mut z.dq,
        dk: &mut z.dk,
        dv: &mut z.dv,
        dout: &z.d_o,
        out: &t.o,
        lse: &t.lse,
        q: &t.q,
        k: &t.k,
        v: &t.v,
        starts: &batch.starts,
        heads,
        mask,
    });
    // q = rotary(q), k = rotary(k)
    if let Some(rotary) = spec.rotary() {
        b.rotary_pair(ops::RotaryPair {
            q: &mut z.dq,
            k: &mut z.dk,
            cos: &model.cos,
            sin: &model.sin,
            positions: &batch.positions,
            heads,
            rotated: rotary.channels,
            inverse: true,
        });
    }
    // q = rms_norm(raw q), k = rms_norm(raw k), head by head
    if let (Some(raw), Some(query_norm), Some(key_norm)) = (&t.raw, &w.query_norm, &w.key_norm) {
        let (h, g) = (n * spec.query_heads, n * spec.key_value_heads);
        b.fill(&mut z.dq_raw, 0.0);
        b.fill(&mut z.dk_raw, 0.0);
        let (dquery, dkey) = (
            grads.query_norm.as_mut().and_then(Option::as_mut),
            grads.key_norm.as_mut().and_then(Option::as_mut),
        );
        b.rms_norm_backward(ops::RmsNormBackward {
            dx: &mut z.dq_raw,
            dweight: dquery,
            dout: &z.dq,
            x: &raw.q,
            weight: query_norm,
            rstd: &raw.q_rstd,
            n: h,
            d: c,
        });
        b.rms_norm_backward(ops::RmsNormBackward {
            dx: &mut z.dk_raw,
            dweight: dkey,
            dout: &z.dk,
            x: &raw.k,
            weight: key_norm,
            rstd: &raw.k_rstd,
            n: g,
            d: c,
        });
        std::mem::swap(&mut z.dq, &mut z.dq_raw);
        std::mem::swap(&mut z.dk, &mut z.dk_raw);
    }
    // q = linear(input, query), k = linear(input, key), v = linear(input, value)
    let input = attention_input(spec, t);
    b.linear_backward_input_first(ops::LinearBackwardInput {
        dx: &mut z.dinput,
        dout: &z.dq,
        weight: &w.query.weight,
        n,
        i: d,
        o: hc,
    });
    b.linear_backward_input(ops::LinearBackwardInput {
        dx: &mut z.dinput,
        dout: &z.dk,
        weight: &w.key.weight,
        n,
        i: d,
        o: gc,
    });
    b.linear_backward_input(ops::LinearBackwardInput {
        dx: &mut z.dinput,
        dout: &z.dv,
        weight: &w.value.weight,
        n,
        i: d,
        o: gc,
    });
    linear_backward_weights(b, &mut grads.query, &z.dq, input, [n, d, hc]);
    linear_backward_weights(b, &mut grads.key, &z.dk, input, [n, d, gc]);
    linear_backward_weights(b, &mut grads.value, &z.dv, input, [n, d, gc]);
}

/// The gradient of a weight in a block that trains.
pub(super) fn trained<T>(gradient: &mut Option<T>) -> &mut T {
    gradient.as_mut().expect("every tensor of a block that trains has a gradient")
}
