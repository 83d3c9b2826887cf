//! Tokens to hidden states, and gradients of hidden states back to gradients of weights. Knows no head, loss or family.
//!
//! Details that matter:
//! 1. Sequences of a batch are packed one after the other; there is no padding, and a sequence's bits do not depend on its company.
//! 2. One block serves training, scoring, prefill and decoding: they differ only in `attend`, what turns q, k, v into attention's output.
//! 3. Blocks below the first trained one keep no activations ([`trunk`]) and have no backward pass.
//! 4. Backward is the forward pass read from below, each line quoted. Gradients of weights are added; a residual branch adds to `dx`.

use std::ops::Range;

use crate::backend::{Backend, Heads};

use super::params::{Layer, Trainable};
use super::spec::Spec;
use super::weights::{Gradients, Model};

/// Sequences packed one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// `[n]`: the tokens of all sequences.
    pub tokens: Vec<u32>,
    /// `[n]`: each token's position in its sequence.
    pub positions: Vec<u32>,
    /// Sequence s is rows `starts[s]..starts[s + 1]`; one more entry than sequences.
    pub starts: Vec<usize>,
}

impl Batch {
    /// Packs sequences.
    pub fn new<S: AsRef<[u32]>>(sequences: &[S]) -> Self {
        let mut batch = Batch { tokens: Vec::new(), positions: Vec::new(), starts: vec![0] };
        for sequence in sequences {
            let sequence = sequence.as_ref();
            batch.tokens.extend_from_slice(sequence);
            batch.positions.extend(0..sequence.len() as u32);
            batch.starts.push(batch.tokens.len());
        }
        batch
    }

    /// `n`: tokens in all.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// Sequences in all.
    pub fn sequences(&self) -> usize {
        self.starts.len() - 1
    }
}

/// What one block keeps for its backward pass.
struct Block<B: Backend> {
    /// `[n,d]`: the block's input.
    x: B::Buf,
    /// `[n]`.
    attention_rstd: B::Buf,
    /// `[n,d]`: x, normed.
    a: B::Buf,
    /// `[n,h,c]`, rotated.
    q: B::Buf,
    /// `[n,g,c]`, rotated.
    k: B::Buf,
    /// `[n,g,c]`.
    v: B::Buf,
    /// `[n,h,c]`: attention's output.
    o: B::Buf,
    /// `[n,h]`: log of attention's denominators.
    lse: B::Buf,
    /// `[n,d]`: the residual stream after attention.
    y: B::Buf,
    /// `[n]`.
    feed_forward_rstd: B::Buf,
    /// `[n,d]`: y, normed.
    e: B::Buf,
    /// `[n,f]`.
    gate: B::Buf,
    /// `[n,f]`.
    up: B::Buf,
    /// `[n,f]`: silu(gate) * up.
    s: B::Buf,
}

/// What a forward pass gives.
pub struct Activations<B: Backend> {
    /// `[n,d]`: the last block's output, normed: what heads read.
    pub hidden: B::Buf,
    first_layer: usize,
    blocks: Vec<Block<B>>,
    /// `[n,d]`: the last block's output.
    x: B::Buf,
    /// `[n]`.
    rstd: B::Buf,
}

/// How queries meet keys and values in one block: the one thing that training, prefill and decoding do differently.
pub(crate) trait Attend<B: Backend> {
    /// `out[n,h,c]` and, where it is wanted later, `lse[n,h]`, from `q[n,h,c]`, `k[n,g,c]`, `v[n,g,c]` of block `layer`.
    fn attend(&mut self, b: &B, layer: usize, out: &mut B::Buf, lse: &mut B::Buf, qkv: [&B::Buf; 3]);
}

/// Causal attention of each sequence of a batch to itself.
pub(crate) struct WholeSequences<'a> {
    /// As in [`Batch`].
    pub(crate) starts: &'a [usize],
    /// Sizes of attention.
    pub(crate) heads: Heads,
}

impl<B: Backend> Attend<B> for WholeSequences<'_> {
    fn attend(&mut self, b: &B, _: usize, out: &mut B::Buf, lse: &mut B::Buf, [q, k, v]: [&B::Buf; 3]) {
        b.attention(out, lse, q, k, v, self.starts, self.heads);
    }
}

impl<B: Backend> Block<B> {
    /// Room for `n` rows.
    fn zeros(b: &B, spec: &Spec, n: usize) -> Self {
        let zeros = |width: usize| b.zeros(n * width);
        let (d, f, hc, gc) = (spec.width, spec.feed_forward, spec.query_width(), spec.key_value_width());
        Block {
            x: zeros(d),
            attention_rstd: zeros(1),
            a: zeros(d),
            q: zeros(hc),
            k: zeros(gc),
            v: zeros(gc),
            o: zeros(hc),
            lse: zeros(spec.query_heads),
            y: zeros(d),
            feed_forward_rstd: zeros(1),
            e: zeros(d),
            gate: zeros(f),
            up: zeros(f),
            s: zeros(f),
        }
    }
}

/// `[n,d]`: the embeddings of tokens.
pub(crate) fn embed<B: Backend>(b: &B, model: &Model<B>, tokens: &[u32]) -> B::Buf {
    let mut x = b.zeros(tokens.len() * model.spec.width);
    b.embedding(&mut x, &model.weights.embedding, tokens, model.spec.width);
    x
}

/// The embedding and the blocks below `first_layer`: `[n,d]`, the input of block `first_layer`. Keeps nothing.
pub fn trunk<B: Backend>(b: &B, model: &Model<B>, batch: &Batch, first_layer: usize) -> B::Buf {
    let mut attend = WholeSequences { starts: &batch.starts, heads: model.spec.heads() };
    blocks(b, model, embed(b, model, &batch.tokens), &batch.positions, 0..first_layer, &mut attend)
}

/// The blocks from `first_layer` up and the last norm, from `x`, the `[n,d]` that [`trunk`] gave. Where there will be no backward
/// pass, `keep` is false and the activations hold `hidden` alone.
pub fn forward<B: Backend>(b: &B, model: &Model<B>, x: B::Buf, batch: &Batch, first_layer: usize, keep: bool) -> Activations<B> {
    let n = batch.rows();
    let mut attend = WholeSequences { starts: &batch.starts, heads: model.spec.heads() };
    let mut kept = Vec::new();
    let mut x = x;
    if keep {
        for layer in first_layer..model.spec.layers {
            let mut block = Block::zeros(b, &model.spec, n);
            std::mem::swap(&mut block.x, &mut x);
            block_forward(b, model, layer, &mut block, &mut x, &batch.positions, &mut attend);
            kept.push(block);
        }
    } else {
        x = blocks(b, model, x, &batch.positions, first_layer..model.spec.layers, &mut attend);
    }
    let (hidden, rstd) = final_norm(b, model, &x, n);
    Activations { hidden, first_layer, blocks: kept, x, rstd }
}

/// `hidden[n,d]` and `rstd[n]`: the norm above the last block.
pub(crate) fn final_norm<B: Backend>(b: &B, model: &Model<B>, x: &B::Buf, n: usize) -> (B::Buf, B::Buf) {
    let (mut hidden, mut rstd) = (b.zeros(n * model.spec.width), b.zeros(n));
    b.rms_norm(&mut hidden, &mut rstd, x, &model.weights.norm, n, model.spec.width, model.spec.norm_epsilon);
    (hidden, rstd)
}

/// [`trunk`] and [`forward`] in one, keeping nothing: the `[n,d]` that heads read.
pub fn hidden<B: Backend>(b: &B, model: &Model<B>, batch: &Batch) -> B::Buf {
    forward(b, model, trunk(b, model, batch, 0), batch, 0, false).hidden
}

/// The blocks of `layers`, one after the other, in one block's memory.
pub(crate) fn blocks<B: Backend>(
    b: &B,
    model: &Model<B>,
    mut x: B::Buf,
    positions: &[u32],
    layers: Range<usize>,
    attend: &mut impl Attend<B>,
) -> B::Buf {
    if layers.is_empty() {
        return x;
    }
    let mut block = Block::zeros(b, &model.spec, positions.len());
    for layer in layers {
        std::mem::swap(&mut block.x, &mut x);
        block_forward(b, model, layer, &mut block, &mut x, positions, attend);
    }
    x
}

/// One block: `out[n,d]` from `block.x[n,d]`; everything in between stays in `block`.
fn block_forward<B: Backend>(
    b: &B,
    model: &Model<B>,
    layer: usize,
    block: &mut Block<B>,
    out: &mut B::Buf,
    positions: &[u32],
    attend: &mut impl Attend<B>,
) {
    let (spec, w) = (&model.spec, &model.weights.layers[layer]);
    let (n, d, f, c) = (positions.len(), spec.width, spec.feed_forward, spec.channels);
    let (hc, gc) = (spec.query_width(), spec.key_value_width());
    let t = block;

    b.rms_norm(&mut t.a, &mut t.attention_rstd, &t.x, &w.attention_norm, n, d, spec.norm_epsilon);
    b.linear(&mut t.q, &t.a, &w.query, w.query_bias.as_deref(), n, d, hc);
    b.linear(&mut t.k, &t.a, &w.key, w.key_bias.as_deref(), n, d, gc);
    b.linear(&mut t.v, &t.a, &w.value, w.value_bias.as_deref(), n, d, gc);
    b.rotary(&mut t.q, &model.cos, &model.sin, positions, spec.query_heads, c, false);
    b.rotary(&mut t.k, &model.cos, &model.sin, positions, spec.key_value_heads, c, false);
    attend.attend(b, layer, &mut t.o, &mut t.lse, [&t.q, &t.k, &t.v]);
    b.linear(&mut t.y, &t.o, &w.output, w.output_bias.as_deref(), n, hc, d);
    b.add(&mut t.y, &t.x);

    b.rms_norm(&mut t.e, &mut t.feed_forward_rstd, &t.y, &w.feed_forward_norm, n, d, spec.norm_epsilon);
    b.linear(&mut t.gate, &t.e, &w.gate, None, n, d, f);
    b.linear(&mut t.up, &t.e, &w.up, None, n, d, f);
    b.swiglu(&mut t.s, &t.gate, &t.up);
    b.linear(out, &t.s, &w.down, None, n, f, d);
    b.add(out, &t.y);
}

/// Gradients of one batch's tokens in flight: one set serves all blocks.
struct Flight<B: Backend> {
    /// `[n,d]`: of a normed residual stream.
    dnormed: B::Buf,
    /// `[n,h,c]` each.
    dq: B::Buf,
    d_o: B::Buf,
    /// `[n,g,c]` each.
    dk: B::Buf,
    dv: B::Buf,
    /// `[n,f]` each.
    dgate: B::Buf,
    dup: B::Buf,
    ds: B::Buf,
}

/// Adds the gradients of the weights that train, from `dhidden[n,d]`, the gradient of `activations.hidden`.
///
/// # Panics
/// Where the forward pass kept nothing, or started at another block than the first that trains.
pub fn backward<B: Backend>(
    b: &B,
    model: &Model<B>,
    batch: &Batch,
    activations: &Activations<B>,
    dhidden: &B::Buf,
    gradients: &mut Gradients<B>,
    trainable: Trainable,
) {
    let (spec, n, d) = (&model.spec, batch.rows(), model.spec.width);
    assert_eq!(activations.first_layer, trainable.first_layer, "the forward pass starts at the first block that trains");
    assert_eq!(activations.blocks.len(), spec.layers - trainable.first_layer, "the forward pass kept its activations");
    assert!(trainable.first_layer == 0 || !trainable.embeddings, "the embedding trains only with all blocks");
    let (f, hc, gc) = (spec.feed_forward, spec.query_width(), spec.key_value_width());
    let zeros = |width: usize| b.zeros(n * width);
    let grads = gradients.params_mut();

    // hidden = rms_norm(x, norm)
    let mut dx = zeros(d);
    let dnorm = grads.norm.as_mut();
    b.rms_norm_backward(&mut dx, dnorm, dhidden, &activations.x, &model.weights.norm, &activations.rstd, n, d);

    let mut flight = Flight {
        dnormed: zeros(d),
        dq: zeros(hc),
        d_o: zeros(hc),
        dk: zeros(gc),
        dv: zeros(gc),
        dgate: zeros(f),
        dup: zeros(f),
        ds: zeros(f),
    };
    for (index, block) in activations.blocks.iter().enumerate().rev() {
        let layer = trainable.first_layer + index;
        block_backward(b, model, layer, block, &mut dx, &mut flight, batch, &mut grads.layers[layer]);
    }

    // x = embedding[tokens]
    if let Some(dembedding) = &mut grads.embedding {
        b.embedding_backward(dembedding, &dx, &batch.tokens, d);
    }
}

/// One block backward: `dx[n,d]`, the gradient of its output, becomes that of its input.
#[allow(clippy::too_many_arguments)]
fn block_backward<B: Backend>(
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
    let (n, d, f, c) = (batch.rows(), spec.width, spec.feed_forward, spec.channels);
    let (hc, gc) = (spec.query_width(), spec.key_value_width());
    let (t, z) = (block, flight);

    // out = linear(s, down) + y: dx is now the gradient of both out and, through the residual stream, of y
    b.fill(&mut z.ds, 0.0);
    b.linear_backward_input(&mut z.ds, dx, &w.down, n, f, d);
    b.linear_backward_weight(trained(&mut grads.down), None, dx, &t.s, n, f, d);
    // s = silu(gate) * up
    b.swiglu_backward(&mut z.dgate, &mut z.dup, &z.ds, &t.gate, &t.up);
    // gate = linear(e, gate), up = linear(e, up)
    b.fill(&mut z.dnormed, 0.0);
    b.linear_backward_input(&mut z.dnormed, &z.dgate, &w.gate, n, d, f);
    b.linear_backward_input(&mut z.dnormed, &z.dup, &w.up, n, d, f);
    b.linear_backward_weight(trained(&mut grads.gate), None, &z.dgate, &t.e, n, d, f);
    b.linear_backward_weight(trained(&mut grads.up), None, &z.dup, &t.e, n, d, f);
    // e = rms_norm(y, feed_forward_norm)
    let dnorm = grads.feed_forward_norm.as_mut();
    b.rms_norm_backward(dx, dnorm, &z.dnormed, &t.y, &w.feed_forward_norm, &t.feed_forward_rstd, n, d);

    // y = linear(o, output) + x: dx is now the gradient of both y and x
    b.fill(&mut z.d_o, 0.0);
    b.linear_backward_input(&mut z.d_o, dx, &w.output, n, hc, d);
    b.linear_backward_weight(trained(&mut grads.output), grads.output_bias.as_mut().and_then(Option::as_mut), dx, &t.o, n, hc, d);
    // o = attention(q, k, v)
    let heads = spec.heads();
    b.attention_backward(&mut z.dq, &mut z.dk, &mut z.dv, &z.d_o, &t.o, &t.lse, &t.q, &t.k, &t.v, &batch.starts, heads);
    // q = rotary(q), k = rotary(k)
    b.rotary(&mut z.dq, &model.cos, &model.sin, &batch.positions, spec.query_heads, c, true);
    b.rotary(&mut z.dk, &model.cos, &model.sin, &batch.positions, spec.key_value_heads, c, true);
    // q = linear(a, query), k = linear(a, key), v = linear(a, value)
    b.fill(&mut z.dnormed, 0.0);
    b.linear_backward_input(&mut z.dnormed, &z.dq, &w.query, n, d, hc);
    b.linear_backward_input(&mut z.dnormed, &z.dk, &w.key, n, d, gc);
    b.linear_backward_input(&mut z.dnormed, &z.dv, &w.value, n, d, gc);
    b.linear_backward_weight(trained(&mut grads.query), grads.query_bias.as_mut().and_then(Option::as_mut), &z.dq, &t.a, n, d, hc);
    b.linear_backward_weight(trained(&mut grads.key), grads.key_bias.as_mut().and_then(Option::as_mut), &z.dk, &t.a, n, d, gc);
    b.linear_backward_weight(trained(&mut grads.value), grads.value_bias.as_mut().and_then(Option::as_mut), &z.dv, &t.a, n, d, gc);
    // a = rms_norm(x, attention_norm)
    b.rms_norm_backward(dx, grads.attention_norm.as_mut(), &z.dnormed, &t.x, &w.attention_norm, &t.attention_rstd, n, d);
}

/// The gradient of a weight in a block that trains.
fn trained<T>(gradient: &mut Option<T>) -> &mut T {
    gradient.as_mut().expect("every tensor of a block that trains has a gradient")
}
