//! Tokens to hidden states, and gradients of hidden states back to gradients of weights. Knows no head, loss or family.
//!
//! Details that matter:
//! 1. Sequences of a batch are packed one after the other; there is no padding, and a sequence's bits do not depend on its company.
//! 2. One block serves training, scoring, prefill and decoding: they differ only in `attend`, what turns q, k, v into attention's output.
//! 3. Blocks below the first trained one keep no activations ([`trunk`]) and have no backward pass.
//! 4. Backward is the forward pass read from below, each line quoted. Gradients of weights are added; a residual branch adds to `dx`.
//! 5. One block serves all wirings. In a post-norm model `x` goes into attention as it is and each norm stands behind its residual sum.
//! 6. The embeddings' forward pass is cheap: backward makes it again rather than keep it.

use std::ops::Range;

use crate::backend::{Backend, Heads, Mask};

use super::params::{Affine, Layer, Params, Trainable};
use super::spec::{Norm, Spec, Wiring};
use super::weights::{Gradients, Model, Weight};

/// Sequences packed one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// `[n]`: the tokens of all sequences.
    pub tokens: Vec<u32>,
    /// `[n]`: each token's position in its sequence.
    pub positions: Vec<u32>,
    /// `[n]`: each token's segment, in models that have token types.
    pub types: Vec<u32>,
    /// Sequence s is rows `starts[s]..starts[s + 1]`; one more entry than sequences.
    pub starts: Vec<usize>,
}

impl Batch {
    /// Packs sequences.
    pub fn new<S: AsRef<[u32]>>(sequences: &[S]) -> Self {
        let mut batch = Batch { starts: vec![0], ..Batch::default() };
        for sequence in sequences {
            let sequence = sequence.as_ref();
            batch.tokens.extend_from_slice(sequence);
            batch.positions.extend(0..sequence.len() as u32);
            batch.starts.push(batch.tokens.len());
        }
        batch.types = vec![0; batch.tokens.len()];
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

    /// The row of each sequence's first token; no sequence may be empty.
    pub fn firsts(&self) -> Vec<u32> {
        self.starts[..self.sequences()].iter().map(|&start| start as u32).collect()
    }

    /// The row of each sequence's last token; no sequence may be empty.
    pub fn lasts(&self) -> Vec<u32> {
        self.starts[1..].iter().map(|&end| end as u32 - 1).collect()
    }
}

/// What a norm keeps for its backward pass.
struct NormStatistics<B: Backend> {
    /// `[n]`; empty where nothing is subtracted.
    mean: B::Buf,
    /// `[n]`.
    rstd: B::Buf,
}

impl<B: Backend> NormStatistics<B> {
    fn zeros(b: &B, spec: &Spec, n: usize) -> Self {
        NormStatistics { mean: b.zeros(if spec.norm == Norm::Layer { n } else { 0 }), rstd: b.zeros(n) }
    }
}

/// What one block keeps for its backward pass.
struct Block<B: Backend> {
    /// `[n,d]`: the block's input.
    x: B::Buf,
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
    /// `[n,d]`: the residual stream after attention; in a parallel model, what attention adds to it.
    y: B::Buf,
    feed_forward_statistics: NormStatistics<B>,
    /// `[n,d]`: what goes into the feed-forward; in a post-norm model, that is `a`, and this is empty.
    e: B::Buf,
    /// `[n,f]`, where the feed-forward is gated.
    gate: B::Buf,
    /// `[n,f]`.
    up: B::Buf,
    /// `[n,f]`: activation(gate) * up, or activation(up).
    s: B::Buf,
    /// `[n,d]`: the residual stream after the feed-forward, before its norm, in a post-norm model.
    z: B::Buf,
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

/// What a forward pass gives.
pub struct Activations<B: Backend> {
    /// `[n,e]`: what heads read: the last block's output, normed and projected where the model does so.
    pub hidden: B::Buf,
    first_layer: usize,
    blocks: Vec<Block<B>>,
    /// `[n,d]`: the last block's output, where it is normed.
    x: B::Buf,
    statistics: NormStatistics<B>,
    /// `[n,d]`: what is projected to `hidden`.
    projected: B::Buf,
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
    /// Which positions a token attends to.
    pub(crate) mask: Mask,
}

impl<'a> WholeSequences<'a> {
    pub(crate) fn new(spec: &Spec, starts: &'a [usize]) -> Self {
        WholeSequences { starts, heads: spec.heads(), mask: spec.mask }
    }
}

impl<B: Backend> Attend<B> for WholeSequences<'_> {
    fn attend(&mut self, b: &B, _: usize, out: &mut B::Buf, lse: &mut B::Buf, [q, k, v]: [&B::Buf; 3]) {
        b.attention(out, lse, q, k, v, self.starts, self.heads, self.mask);
    }
}

impl<B: Backend> Block<B> {
    /// Room for `n` rows.
    fn zeros(b: &B, spec: &Spec, n: usize) -> Self {
        let zeros = |width: usize| b.zeros(n * width);
        let only = |there: bool, width: usize| zeros(if there { width } else { 0 });
        let (d, f, hc, gc) = (spec.width, spec.feed_forward, spec.query_width(), spec.key_value_width());
        let (h, g) = (spec.query_heads, spec.key_value_heads);
        let post = spec.wiring == Wiring::Post;
        Block {
            x: zeros(d),
            attention_statistics: NormStatistics::zeros(b, spec, n),
            a: zeros(d),
            raw: spec.query_key_norm.then(|| RawHeads { q: zeros(hc), q_rstd: zeros(h), k: zeros(gc), k_rstd: zeros(g) }),
            q: zeros(hc),
            k: zeros(gc),
            v: zeros(gc),
            o: zeros(hc),
            lse: zeros(h),
            y: zeros(d),
            feed_forward_statistics: NormStatistics::zeros(b, spec, n),
            e: only(!post, d),
            gate: only(spec.gated, f),
            up: zeros(f),
            s: zeros(f),
            z: only(post, d),
        }
    }
}

/// `out[n,d]`, a norm of `x[n,d]`.
fn norm<B: Backend>(b: &B, spec: &Spec, out: &mut B::Buf, kept: &mut NormStatistics<B>, x: &B::Buf, weights: &Affine<Weight<B>>, n: usize) {
    let (d, epsilon) = (spec.width, spec.norm_epsilon);
    match &weights.bias {
        Some(bias) => b.layer_norm(out, &mut kept.mean, &mut kept.rstd, x, &weights.weight, bias, n, d, epsilon),
        None => b.rms_norm(out, &mut kept.rstd, x, &weights.weight, n, d, epsilon),
    }
}

/// Adds to `dx[n,d]` and to the gradients of a norm's weights.
#[allow(clippy::too_many_arguments)]
fn norm_backward<B: Backend>(
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
            b.layer_norm_backward(dx, dweight, dbias, dout, x, &weights.weight, &kept.mean, &kept.rstd, n, d);
        }
        None => b.rms_norm_backward(dx, dweight, dout, x, &weights.weight, &kept.rstd, n, d),
    }
}

/// `out[n,o]`, a linear layer of `x[n,i]`.
fn linear<B: Backend>(b: &B, out: &mut B::Buf, x: &B::Buf, weights: &Affine<Weight<B>>, [n, i, o]: [usize; 3]) {
    b.linear(out, x, &weights.weight, weights.bias.as_deref(), n, i, o);
}

/// Adds to the gradients of a linear layer that trains.
fn linear_backward_weights<B: Backend>(b: &B, grads: &mut Affine<Option<B::Buf>>, dout: &B::Buf, x: &B::Buf, [n, i, o]: [usize; 3]) {
    let dbias = grads.bias.as_mut().and_then(Option::as_mut);
    b.linear_backward_weight(trained(&mut grads.weight), dbias, dout, x, n, i, o);
}

/// `[n,d]`: the sum of the embeddings of tokens, before any norm.
fn embedded<B: Backend>(b: &B, model: &Model<B>, tokens: &[u32], positions: &[u32], types: &[u32]) -> B::Buf {
    let (spec, w, n, d) = (&model.spec, &model.weights, tokens.len(), model.spec.width);
    let mut x = b.zeros(n * spec.embedding_width);
    b.embedding(&mut x, &w.embedding, tokens, spec.embedding_width);
    if let Some(project) = &w.project_in {
        let mut projected = b.zeros(n * d);
        b.linear(&mut projected, &x, project, None, n, spec.embedding_width, d);
        x = projected;
    }
    for (table, ids) in [(&w.token_types, types), (&w.positions, positions)] {
        if let Some(table) = table {
            let mut rows = b.zeros(n * d);
            b.embedding(&mut rows, table, ids, d);
            b.add(&mut x, &rows);
        }
    }
    x
}

/// `[n,d]`: the embeddings of tokens; `types` are read by models that have token types.
pub(crate) fn embed<B: Backend>(b: &B, model: &Model<B>, tokens: &[u32], positions: &[u32], types: &[u32]) -> B::Buf {
    let x = embedded(b, model, tokens, positions, types);
    let Some(weights) = &model.weights.embedding_norm else { return x };
    let (mut out, mut kept) = (b.zeros(b.len(&x)), NormStatistics::zeros(b, &model.spec, tokens.len()));
    norm(b, &model.spec, &mut out, &mut kept, &x, weights, tokens.len());
    out
}

/// Adds to the gradients of the embeddings, from `dx[n,d]`, the gradient of [`embed`]'s output.
fn embed_backward<B: Backend>(b: &B, model: &Model<B>, batch: &Batch, mut dx: B::Buf, grads: &mut Params<Option<B::Buf>>) {
    let (spec, w, n, d, e) = (&model.spec, &model.weights, batch.rows(), model.spec.width, model.spec.embedding_width);
    // out = norm(x, embedding_norm)
    if let (Some(weights), Some(dweights)) = (&w.embedding_norm, &mut grads.embedding_norm) {
        let x = embedded(b, model, &batch.tokens, &batch.positions, &batch.types);
        let (mut out, mut kept) = (b.zeros(n * d), NormStatistics::zeros(b, spec, n));
        norm(b, spec, &mut out, &mut kept, &x, weights, n);
        let mut dsum = b.zeros(n * d);
        norm_backward(b, spec, &mut dsum, dweights, &dx, &x, weights, &kept, n);
        dx = dsum;
    }
    // x = project_in(embedding[tokens]) + token_types[types] + positions[positions]
    if let Some(dpositions) = &mut grads.positions {
        b.embedding_backward(trained(dpositions), &dx, &batch.positions, d);
    }
    if let Some(dtypes) = &mut grads.token_types {
        b.embedding_backward(trained(dtypes), &dx, &batch.types, d);
    }
    if let (Some(project), Some(dproject)) = (&w.project_in, &mut grads.project_in) {
        let mut tokens = b.zeros(n * e);
        b.embedding(&mut tokens, &w.embedding, &batch.tokens, e);
        b.linear_backward_weight(trained(dproject), None, &dx, &tokens, n, e, d);
        let mut dtokens = b.zeros(n * e);
        b.linear_backward_input(&mut dtokens, &dx, project, n, e, d);
        dx = dtokens;
    }
    b.embedding_backward(trained(&mut grads.embedding), &dx, &batch.tokens, e);
}

/// The embedding and the blocks below `first_layer`: `[n,d]`, the input of block `first_layer`. Keeps nothing.
pub fn trunk<B: Backend>(b: &B, model: &Model<B>, batch: &Batch, first_layer: usize) -> B::Buf {
    let mut attend = WholeSequences::new(&model.spec, &batch.starts);
    let x = embed(b, model, &batch.tokens, &batch.positions, &batch.types);
    blocks(b, model, x, &batch.positions, 0..first_layer, &mut attend)
}

/// The blocks from `first_layer` up and what stands above them, from `x`, the `[n,d]` that [`trunk`] gave. Where there will be no
/// backward pass, `keep` is false and the activations hold `hidden` alone.
pub fn forward<B: Backend>(b: &B, model: &Model<B>, x: B::Buf, batch: &Batch, first_layer: usize, keep: bool) -> Activations<B> {
    let n = batch.rows();
    let mut attend = WholeSequences::new(&model.spec, &batch.starts);
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
    Activations { first_layer, blocks: kept, ..above_blocks(b, model, x, n) }
}

/// What heads read, from `x[n,d]`, the last block's output: normed and projected where the model does so. Without blocks.
pub(crate) fn above_blocks<B: Backend>(b: &B, model: &Model<B>, x: B::Buf, n: usize) -> Activations<B> {
    let (spec, w) = (&model.spec, &model.weights);
    let mut kept = NormStatistics::zeros(b, spec, if w.norm.is_some() { n } else { 0 });
    let (x, normed) = match &w.norm {
        Some(weights) => {
            let mut out = b.zeros(n * spec.width);
            norm(b, spec, &mut out, &mut kept, &x, weights, n);
            (x, out)
        }
        None => (b.zeros(0), x),
    };
    let (projected, hidden) = match &w.project_out {
        Some(project) => {
            let mut out = b.zeros(n * spec.embedding_width);
            b.linear(&mut out, &normed, project, None, n, spec.width, spec.embedding_width);
            (normed, out)
        }
        None => (b.zeros(0), normed),
    };
    Activations { hidden, first_layer: spec.layers, blocks: Vec::new(), x, statistics: kept, projected }
}

/// [`trunk`] and [`forward`] in one, keeping nothing: the `[n,e]` that heads read.
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

/// Where the two halves of a block take their input from.
fn attention_input<'a, B: Backend>(spec: &Spec, block: &'a Block<B>) -> &'a B::Buf {
    if spec.wiring == Wiring::Post { &block.x } else { &block.a }
}

fn feed_forward_input<'a, B: Backend>(spec: &Spec, block: &'a Block<B>) -> &'a B::Buf {
    if spec.wiring == Wiring::Post { &block.a } else { &block.e }
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
    let (n, d) = (positions.len(), spec.width);

    if spec.wiring != Wiring::Post {
        norm(b, spec, &mut block.a, &mut block.attention_statistics, &block.x, &w.attention_norm, n);
    }
    attention_forward(b, model, layer, block, positions, attend);
    let t = block;
    match spec.wiring {
        Wiring::Pre => {
            b.add(&mut t.y, &t.x);
            norm(b, spec, &mut t.e, &mut t.feed_forward_statistics, &t.y, &w.feed_forward_norm, n);
        }
        Wiring::Parallel => norm(b, spec, &mut t.e, &mut t.feed_forward_statistics, &t.x, &w.feed_forward_norm, n),
        Wiring::Post => {
            b.add(&mut t.y, &t.x);
            norm(b, spec, &mut t.a, &mut t.attention_statistics, &t.y, &w.attention_norm, n);
        }
    }
    let f = spec.feed_forward;
    let input = if spec.wiring == Wiring::Post { &t.a } else { &t.e };
    linear(b, &mut t.up, input, &w.up, [n, d, f]);
    match &w.gate {
        Some(gate) => {
            linear(b, &mut t.gate, input, gate, [n, d, f]);
            b.swiglu(&mut t.s, &t.gate, &t.up);
        }
        None => b.activation(&mut t.s, &t.up, spec.activation),
    }
    linear(b, out, &t.s, &w.down, [n, f, d]);
    match spec.wiring {
        Wiring::Pre => b.add(out, &t.y),
        Wiring::Parallel => {
            b.add(out, &t.y);
            b.add(out, &t.x);
        }
        Wiring::Post => {
            b.add(out, &t.a);
            std::mem::swap(out, &mut t.z);
            norm(b, spec, out, &mut t.feed_forward_statistics, &t.z, &w.feed_forward_norm, n);
        }
    }
}

/// The attention branch of one block: `block.y[n,d]`, before any residual.
fn attention_forward<B: Backend>(
    b: &B,
    model: &Model<B>,
    layer: usize,
    block: &mut Block<B>,
    positions: &[u32],
    attend: &mut impl Attend<B>,
) {
    let (spec, w, t) = (&model.spec, &model.weights.layers[layer], block);
    let (n, d, c, hc, gc) = (positions.len(), spec.width, spec.channels, spec.query_width(), spec.key_value_width());
    let input = if spec.wiring == Wiring::Post { &t.x } else { &t.a };

    linear(b, &mut t.q, input, &w.query, [n, d, hc]);
    linear(b, &mut t.k, input, &w.key, [n, d, gc]);
    linear(b, &mut t.v, input, &w.value, [n, d, gc]);
    if let (Some(raw), Some(query_norm), Some(key_norm)) = (&mut t.raw, &w.query_norm, &w.key_norm) {
        std::mem::swap(&mut t.q, &mut raw.q);
        std::mem::swap(&mut t.k, &mut raw.k);
        b.rms_norm(&mut t.q, &mut raw.q_rstd, &raw.q, query_norm, n * spec.query_heads, c, spec.norm_epsilon);
        b.rms_norm(&mut t.k, &mut raw.k_rstd, &raw.k, key_norm, n * spec.key_value_heads, c, spec.norm_epsilon);
    }
    if let Some(rotary) = spec.rotary() {
        b.rotary(&mut t.q, &model.cos, &model.sin, positions, spec.query_heads, c, rotary.channels, false);
        b.rotary(&mut t.k, &model.cos, &model.sin, positions, spec.key_value_heads, c, rotary.channels, false);
    }
    attend.attend(b, layer, &mut t.o, &mut t.lse, [&t.q, &t.k, &t.v]);
    linear(b, &mut t.y, &t.o, &w.output, [n, hc, d]);
}

/// Gradients of one batch's tokens in flight: one set serves all blocks.
struct Flight<B: Backend> {
    /// `[n,d]`: of what goes into a branch.
    dinput: B::Buf,
    /// `[n,d]`: of the residual stream below a norm, in a post-norm model; of a branch's output, in a parallel one.
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
    fn zeros(b: &B, spec: &Spec, n: usize) -> Self {
        let zeros = |width: usize| b.zeros(n * width);
        let only = |there: bool, width: usize| zeros(if there { width } else { 0 });
        let (d, f, hc, gc) = (spec.width, spec.feed_forward, spec.query_width(), spec.key_value_width());
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
}

/// Adds the gradients of the weights that train, from `dhidden[n,e]`, the gradient of `activations.hidden`.
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
    let (spec, n, d, e) = (&model.spec, batch.rows(), model.spec.width, model.spec.embedding_width);
    assert_eq!(activations.first_layer, trainable.first_layer, "the forward pass starts at the first block that trains");
    assert_eq!(activations.blocks.len(), spec.layers - trainable.first_layer, "the forward pass kept its activations");
    assert!(trainable.first_layer == 0 || !trainable.embeddings, "the embedding trains only with all blocks");
    let grads = gradients.params_mut();

    // hidden = linear(projected, project_out)
    let mut dx = b.zeros(n * d);
    match &model.weights.project_out {
        Some(project) => {
            b.linear_backward_input(&mut dx, dhidden, project, n, d, e);
            if let Some(Some(dproject)) = &mut grads.project_out {
                b.linear_backward_weight(dproject, None, dhidden, &activations.projected, n, d, e);
            }
        }
        None => b.copy(&mut dx, dhidden),
    }
    // projected = norm(x)
    if let (Some(weights), Some(dweights)) = (&model.weights.norm, &mut grads.norm) {
        let mut below = b.zeros(n * d);
        norm_backward(b, spec, &mut below, dweights, &dx, &activations.x, weights, &activations.statistics, n);
        dx = below;
    }

    let mut flight = Flight::zeros(b, spec, n);
    for (index, block) in activations.blocks.iter().enumerate().rev() {
        let layer = trainable.first_layer + index;
        block_backward(b, model, layer, block, &mut dx, &mut flight, batch, &mut grads.layers[layer]);
    }
    if trainable.embeddings {
        embed_backward(b, model, batch, dx, grads);
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
    let (n, d, f) = (batch.rows(), spec.width, spec.feed_forward);
    let (t, z) = (block, flight);

    // out = norm(z)
    if spec.wiring == Wiring::Post {
        b.fill(&mut z.dstream, 0.0);
        norm_backward(b, spec, &mut z.dstream, &mut grads.feed_forward_norm, dx, &t.z, &w.feed_forward_norm, &t.feed_forward_statistics, n);
        std::mem::swap(dx, &mut z.dstream);
    }
    // out = linear(s, down) + residuals: dx is now the gradient of the branch and, through the residual stream, of what it was added to
    b.fill(&mut z.ds, 0.0);
    b.linear_backward_input(&mut z.ds, dx, &w.down.weight, n, f, d);
    linear_backward_weights(b, &mut grads.down, dx, &t.s, [n, f, d]);
    let input = feed_forward_input(spec, t);
    b.fill(&mut z.dinput, 0.0);
    match (&w.gate, &mut grads.gate) {
        (Some(gate), Some(dgate)) => {
            // s = silu(gate) * up
            b.swiglu_backward(&mut z.dgate, &mut z.dup, &z.ds, &t.gate, &t.up);
            // gate = linear(input, gate)
            b.linear_backward_input(&mut z.dinput, &z.dgate, &gate.weight, n, d, f);
            linear_backward_weights(b, dgate, &z.dgate, input, [n, d, f]);
        }
        // s = activation(up)
        _ => b.activation_backward(&mut z.dup, &z.ds, &t.up, spec.activation),
    }
    // up = linear(input, up)
    b.linear_backward_input(&mut z.dinput, &z.dup, &w.up.weight, n, d, f);
    linear_backward_weights(b, &mut grads.up, &z.dup, input, [n, d, f]);

    match spec.wiring {
        // input = e = norm(y): dx is now the gradient of y, and of x through it
        Wiring::Pre => {
            norm_backward(b, spec, dx, &mut grads.feed_forward_norm, &z.dinput, &t.y, &w.feed_forward_norm, &t.feed_forward_statistics, n);
            attention_backward(b, model, layer, t, dx, z, batch, grads);
        }
        // input = e = norm(x), out = x + y + feed-forward: what attention added has the gradient of the output
        Wiring::Parallel => {
            b.copy(&mut z.dstream, dx);
            norm_backward(b, spec, dx, &mut grads.feed_forward_norm, &z.dinput, &t.x, &w.feed_forward_norm, &t.feed_forward_statistics, n);
            let dy = std::mem::replace(&mut z.dstream, b.zeros(0));
            attention_backward(b, model, layer, t, &dy, z, batch, grads);
            z.dstream = dy;
        }
        // input = a = norm(y), which is also added to the feed-forward's output
        Wiring::Post => {
            b.add(dx, &z.dinput);
            b.fill(&mut z.dstream, 0.0);
            norm_backward(b, spec, &mut z.dstream, &mut grads.attention_norm, dx, &t.y, &w.attention_norm, &t.attention_statistics, n);
            std::mem::swap(dx, &mut z.dstream);
            attention_backward(b, model, layer, t, dx, z, batch, grads);
        }
    }
    match spec.wiring {
        // attention's input is x itself
        Wiring::Post => b.add(dx, &z.dinput),
        // a = norm(x)
        Wiring::Pre | Wiring::Parallel => {
            norm_backward(b, spec, dx, &mut grads.attention_norm, &z.dinput, &t.x, &w.attention_norm, &t.attention_statistics, n);
        }
    }
}

/// The attention branch backward: from `dy[n,d]`, the gradient of what it added, to `flight.dinput`, that of its input.
#[allow(clippy::too_many_arguments)]
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
    let (n, d, c, hc, gc) = (batch.rows(), spec.width, spec.channels, spec.query_width(), spec.key_value_width());

    // y = linear(o, output)
    b.fill(&mut z.d_o, 0.0);
    b.linear_backward_input(&mut z.d_o, dy, &w.output.weight, n, hc, d);
    linear_backward_weights(b, &mut grads.output, dy, &t.o, [n, hc, d]);
    // o = attention(q, k, v)
    let (heads, mask) = (spec.heads(), spec.mask);
    b.attention_backward(&mut z.dq, &mut z.dk, &mut z.dv, &z.d_o, &t.o, &t.lse, &t.q, &t.k, &t.v, &batch.starts, heads, mask);
    // q = rotary(q), k = rotary(k)
    if let Some(rotary) = spec.rotary() {
        b.rotary(&mut z.dq, &model.cos, &model.sin, &batch.positions, spec.query_heads, c, rotary.channels, true);
        b.rotary(&mut z.dk, &model.cos, &model.sin, &batch.positions, spec.key_value_heads, c, rotary.channels, true);
    }
    // q = rms_norm(raw q), k = rms_norm(raw k), head by head
    if let (Some(raw), Some(query_norm), Some(key_norm)) = (&t.raw, &w.query_norm, &w.key_norm) {
        let (h, g) = (n * spec.query_heads, n * spec.key_value_heads);
        b.fill(&mut z.dq_raw, 0.0);
        b.fill(&mut z.dk_raw, 0.0);
        let (dquery, dkey) = (grads.query_norm.as_mut().and_then(Option::as_mut), grads.key_norm.as_mut().and_then(Option::as_mut));
        b.rms_norm_backward(&mut z.dq_raw, dquery, &z.dq, &raw.q, query_norm, &raw.q_rstd, h, c);
        b.rms_norm_backward(&mut z.dk_raw, dkey, &z.dk, &raw.k, key_norm, &raw.k_rstd, g, c);
        std::mem::swap(&mut z.dq, &mut z.dq_raw);
        std::mem::swap(&mut z.dk, &mut z.dk_raw);
    }
    // q = linear(input, query), k = linear(input, key), v = linear(input, value)
    let input = attention_input(spec, t);
    b.fill(&mut z.dinput, 0.0);
    b.linear_backward_input(&mut z.dinput, &z.dq, &w.query.weight, n, d, hc);
    b.linear_backward_input(&mut z.dinput, &z.dk, &w.key.weight, n, d, gc);
    b.linear_backward_input(&mut z.dinput, &z.dv, &w.value.weight, n, d, gc);
    linear_backward_weights(b, &mut grads.query, &z.dq, input, [n, d, hc]);
    linear_backward_weights(b, &mut grads.key, &z.dk, input, [n, d, gc]);
    linear_backward_weights(b, &mut grads.value, &z.dv, input, [n, d, gc]);
}

/// The gradient of a weight in a block that trains.
fn trained<T>(gradient: &mut Option<T>) -> &mut T {
    gradient.as_mut().expect("every tensor of a block that trains has a gradient")
}
