//! The attention branch of a block, forward and backward. Independent of norms, residuals and
//! wirings.

use super::activations::{AttentionActivations, BranchBuffers};
use super::attend::Attend;
use super::linear::{Linear, forward_together};
use super::params::Layer;
use super::pass::Pass;
use super::weights::Angles;
use crate::backend::{Backend, Epilogue, ops};

/// The linear layers of a block's attention.
struct Projections<'a, B: Backend> {
    query: Linear<'a, B>,
    key: Linear<'a, B>,
    value: Linear<'a, B>,
    output: Linear<'a, B>,
}

impl<'a, B: Backend> Projections<'a, B> {
    fn new(pass: &Pass<'a, B>) -> Self {
        let (spec, w) = (pass.spec(), pass.weights());
        let (d, hc, gc) = (spec.width, spec.query_width(), spec.key_value_width());
        Projections {
            query: Linear::of(pass.b, &w.query, [d, hc]),
            key: Linear::of(pass.b, &w.key, [d, gc]),
            value: Linear::of(pass.b, &w.value, [d, gc]),
            output: Linear::of(pass.b, &w.output, [hc, d]),
        }
    }
}

/// `out[n,d]`, attention of `input[n,d]`, added to `residual[n,d]` if there is one.
pub(super) fn forward<B: Backend>(
    pass: &Pass<'_, B>,
    activations: &mut AttentionActivations<B>,
    out: &mut B::Buf,
    input: &B::Buf,
    residual: Option<&B::Buf>,
    attend: &mut impl Attend<B>,
) {
    let (b, spec, n, t) = (pass.b, pass.spec(), pass.rows(), activations);
    let Projections { query, key, value, output } = Projections::new(pass);
    forward_together(
        [(&query, &mut t.query), (&key, &mut t.key), (&value, &mut t.value)],
        input,
        n,
    );
    norm_heads(pass, t);
    if let Some(Angles { cos, sin, rotary }) = pass.model.angles(pass.layer) {
        let (q, k) = (&mut t.query, &mut t.key);
        b.rotary_pair(ops::RotaryPair {
            q,
            k,
            cos,
            sin,
            positions: pass.positions,
            heads: spec.heads(),
            rotated: rotary.channels,
            inverse: false,
        });
    }
    let qkv = [&t.query, &t.key, &t.value];
    attend.attend(b, pass.layer, &mut t.attended, &mut t.log_sum_exp, qkv);
    match residual {
        Some(residual) => output.forward_with(out, &t.attended, Epilogue::Add(residual), n),
        None => output.forward(out, &t.attended, n),
    }
}

/// query = rms_norm(raw query), key = rms_norm(raw key), head by head, in models that norm heads.
fn norm_heads<B: Backend>(pass: &Pass<'_, B>, t: &mut AttentionActivations<B>) {
    let (b, spec, w, n) = (pass.b, pass.spec(), pass.weights(), pass.rows());
    let (Some(raw), Some(query_norm), Some(key_norm)) = (&mut t.raw, &w.query_norm, &w.key_norm)
    else {
        return;
    };
    let (h, g) = (n * spec.query_heads, n * spec.key_value_heads);
    let (c, epsilon) = (spec.channels, spec.norm_epsilon);
    std::mem::swap(&mut t.query, &mut raw.query);
    std::mem::swap(&mut t.key, &mut raw.key);
    b.rms_norm(ops::RmsNorm {
        out: &mut t.query,
        rstd: &mut raw.query_rstd,
        x: &raw.query,
        weight: query_norm,
        n: h,
        d: c,
        epsilon,
    });
    b.rms_norm(ops::RmsNorm {
        out: &mut t.key,
        rstd: &mut raw.key_rstd,
        x: &raw.key,
        weight: key_norm,
        n: g,
        d: c,
        epsilon,
    });
}

/// From `dout[n,d]`, the gradient of the branch's output, to `buffers.dinput[n,d]`, that of its
/// `input`; adds to the gradients of the weights. `starts` are those of the batch's sequences.
pub(super) fn backward<B: Backend>(
    pass: &Pass<'_, B>,
    starts: &[usize],
    gradients: &mut Layer<Option<B::Buf>>,
    buffers: &mut BranchBuffers<B>,
    dout: &B::Buf,
    activations: &AttentionActivations<B>,
    input: &B::Buf,
) {
    let (b, spec, n) = (pass.b, pass.spec(), pass.rows());
    let (t, z, heads) = (activations, buffers, spec.heads());
    let Projections { query, key, value, output } = Projections::new(pass);

    // out = linear(attended, output)
    output.backward_input_first(&mut z.dattended, dout, n);
    output.backward_weights(&mut gradients.output, dout, &t.attended, n);
    // attended = attention(query, key, value)
    b.attention_backward(ops::AttentionBackward {
        dq: &mut z.dquery,
        dk: &mut z.dkey,
        dv: &mut z.dvalue,
        dout: &z.dattended,
        out: &t.attended,
        lse: &t.log_sum_exp,
        q: &t.query,
        k: &t.key,
        v: &t.value,
        starts,
        heads,
        mask: spec.layer(pass.layer).mask,
    });
    // query = rotary(query), key = rotary(key)
    if let Some(Angles { cos, sin, rotary }) = pass.model.angles(pass.layer) {
        let (dq, dk) = (&mut z.dquery, &mut z.dkey);
        b.rotary_pair(ops::RotaryPair {
            q: dq,
            k: dk,
            cos,
            sin,
            positions: pass.positions,
            heads,
            rotated: rotary.channels,
            inverse: true,
        });
    }
    norm_heads_backward(pass, gradients, z, t);
    // query = linear(input, query), key = linear(input, key), value = linear(input, value)
    query.backward_input_first(&mut z.dinput, &z.dquery, n);
    key.backward_input(&mut z.dinput, &z.dkey, n);
    value.backward_input(&mut z.dinput, &z.dvalue, n);
    query.backward_weights(&mut gradients.query, &z.dquery, input, n);
    key.backward_weights(&mut gradients.key, &z.dkey, input, n);
    value.backward_weights(&mut gradients.value, &z.dvalue, input, n);
}

/// From the gradients of heads after their norm to those before it.
fn norm_heads_backward<B: Backend>(
    pass: &Pass<'_, B>,
    gradients: &mut Layer<Option<B::Buf>>,
    z: &mut BranchBuffers<B>,
    t: &AttentionActivations<B>,
) {
    let (b, spec, w, n) = (pass.b, pass.spec(), pass.weights(), pass.rows());
    let (Some(raw), Some(query_norm), Some(key_norm)) = (&t.raw, &w.query_norm, &w.key_norm) else {
        return;
    };
    let (h, g, c) = (n * spec.query_heads, n * spec.key_value_heads, spec.channels);
    b.fill(&mut z.dquery_raw, 0.0);
    b.fill(&mut z.dkey_raw, 0.0);
    let dquery_norm = gradients.query_norm.as_mut().and_then(Option::as_mut);
    let dkey_norm = gradients.key_norm.as_mut().and_then(Option::as_mut);
    let (dq, dk) = (&mut z.dquery_raw, &mut z.dkey_raw);
    b.rms_norm_backward(ops::RmsNormBackward {
        dx: dq,
        dweight: dquery_norm,
        dout: &z.dquery,
        x: &raw.query,
        weight: query_norm,
        rstd: &raw.query_rstd,
        n: h,
        d: c,
    });
    b.rms_norm_backward(ops::RmsNormBackward {
        dx: dk,
        dweight: dkey_norm,
        dout: &z.dkey,
        x: &raw.key,
        weight: key_norm,
        rstd: &raw.key_rstd,
        n: g,
        d: c,
    });
    std::mem::swap(&mut z.dquery, &mut z.dquery_raw);
    std::mem::swap(&mut z.dkey, &mut z.dkey_raw);
}
