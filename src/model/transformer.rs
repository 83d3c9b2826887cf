//! Tokens to hidden states, and gradients of hidden states back to gradients of weights.
//! Independent of heads, losses and families.
//!
//! Details that matter:
//! 1. Sequences of a batch are packed one after the other; there is no padding, and a sequence's
//!    bits do not depend on the rest of the batch.
//! 2. Blocks (`block.rs`) below the first trained one keep no activations ([`trunk`]) and have no
//!    backward pass.
//! 3. Backward is the forward pass read from below, each line quoted. Gradients of weights are
//!    added; a residual branch adds to `dx`.
//! 4. The embeddings' forward pass is cheap: backward makes it again rather than keep it.
//!    [`Recompute`] selects what of the blocks is made again, from the same numbers in the same
//!    order, so no bit depends on it.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::backend::{Backend, Buffers, Heads, Mask, ops};

use super::block::{
    Block, Flight, NormStatistics, block_again, block_backward, block_forward, norm, norm_backward,
    norm_residual, trained,
};
use super::params::{Params, Trainable};
use super::spec::Spec;
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

/// What a backward pass makes again instead of having it kept: less memory for more time. Changes
/// no bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recompute {
    /// Nothing: every block keeps what its backward pass reads.
    #[default]
    None,
    /// Blocks: each keeps its input alone, and is run again before its backward pass.
    Block,
}

/// What the blocks keep for a backward pass, the first that trains first.
enum Kept<B: Backend> {
    Whole(Vec<Block<B>>),
    /// `[n,d]` each.
    Inputs(Vec<B::Buf>),
}

impl<B: Backend> Kept<B> {
    fn len(&self) -> usize {
        match self {
            Kept::Whole(blocks) => blocks.len(),
            Kept::Inputs(inputs) => inputs.len(),
        }
    }
}

/// What a forward pass gives.
pub struct Activations<B: Backend> {
    /// `[n,e]`: what heads read: the last block's output, normed and projected where the model does
    /// so.
    pub hidden: B::Buf,
    first_layer: usize,
    blocks: Kept<B>,
    /// `[n,d]`: the last block's output, where it is normed.
    x: B::Buf,
    statistics: NormStatistics<B>,
    /// `[n,d]`: what is projected to `hidden`.
    projected: B::Buf,
}

/// Attention of queries to keys and values in one block, the only difference between training,
/// prefill and decoding.
pub trait Attend<B: Backend> {
    /// `out[n,h,c]` and, where it is wanted later, `lse[n,h]`, from `q[n,h,c]`, `k[n,g,c]`,
    /// `v[n,g,c]` of block `layer`.
    fn attend(
        &mut self,
        b: &B,
        layer: usize,
        out: &mut B::Buf,
        lse: &mut B::Buf,
        qkv: [&B::Buf; 3],
    );
}

/// Causal attention of each sequence of a batch to itself.
pub struct WholeSequences<'a> {
    /// As in [`Batch`].
    pub starts: &'a [usize],
    /// Sizes of attention.
    pub heads: Heads,
    /// Which positions a token attends to.
    pub mask: Mask,
}

impl<'a> WholeSequences<'a> {
    /// Of sequences that begin at these rows, the last entry being the end.
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
        b.attention(ops::Attention {
            out,
            lse,
            q,
            k,
            v,
            starts: self.starts,
            heads: self.heads,
            mask: self.mask,
        });
    }
}

/// `[n,d]`: the embeddings of tokens, and what of segments and positions is added to them.
fn embedded<B: Backend>(
    b: &B,
    model: &Model<B>,
    tokens: &[u32],
    positions: &[u32],
    types: &[u32],
) -> (B::Buf, Vec<B::Buf>) {
    let (spec, w, n, d) = (&model.spec, &model.weights, tokens.len(), model.spec.width);
    let mut x = b.zeros(n * spec.embedding_width);
    b.embedding(&mut x, &w.embedding, tokens, spec.embedding_width);
    if let Some(project) = &w.project_in {
        let mut projected = b.zeros(n * d);
        b.linear(ops::Linear {
            out: &mut projected,
            x: &x,
            weight: project,
            bias: None,
            n,
            i: spec.embedding_width,
            o: d,
        });
        x = projected;
    }
    let rows = |(table, ids): (&Weight<B>, &[u32])| {
        let mut rows = b.zeros(n * d);
        b.embedding(&mut rows, table, ids, d);
        rows
    };
    let tables = [(w.token_types.as_ref(), types), (w.positions.as_ref(), positions)];
    let added = tables.into_iter().filter_map(|(table, ids)| Some(rows((table?, ids)))).collect();
    (x, added)
}

/// The sum of the embeddings of tokens, `[n,d]`, with its norm and what that keeps, where there is
/// one.
type Embedded<B> = (<B as Buffers>::Buf, Option<(<B as Buffers>::Buf, NormStatistics<B>)>);

/// [`embedded`], added up and normed.
fn embedded_and_normed<B: Backend>(
    b: &B,
    model: &Model<B>,
    tokens: &[u32],
    positions: &[u32],
    types: &[u32],
) -> Embedded<B> {
    let (spec, n) = (&model.spec, tokens.len());
    let (mut x, mut added) = embedded(b, model, tokens, positions, types);
    let Some(weights) = &model.weights.embedding_norm else {
        added.iter().for_each(|rows| b.add(&mut x, rows));
        return (x, None);
    };
    let (mut out, mut kept) = (b.zeros(n * spec.width), NormStatistics::zeros(b, spec, n));
    let last = added.pop();
    added.iter().for_each(|rows| b.add(&mut x, rows));
    match last {
        Some(last) => norm_residual(b, spec, &mut out, &mut kept, &mut x, &last, weights, n),
        None => norm(b, spec, &mut out, &mut kept, &x, weights, n),
    }
    (x, Some((out, kept)))
}

/// `[n,d]`: the embeddings of tokens; `types` are read by models that have token types.
pub fn embed<B: Backend>(
    b: &B,
    model: &Model<B>,
    tokens: &[u32],
    positions: &[u32],
    types: &[u32],
) -> B::Buf {
    let (x, normed) = embedded_and_normed(b, model, tokens, positions, types);
    normed.map_or(x, |(out, _)| out)
}

/// Adds to the gradients of the embeddings, from `dx[n,d]`, the gradient of [`embed`]'s output.
fn embed_backward<B: Backend>(
    b: &B,
    model: &Model<B>,
    batch: &Batch,
    mut dx: B::Buf,
    grads: &mut Params<Option<B::Buf>>,
) {
    let (spec, w, n, d, e) =
        (&model.spec, &model.weights, batch.rows(), model.spec.width, model.spec.embedding_width);
    // out = norm(x, embedding_norm)
    if let (Some(weights), Some(dweights)) = (&w.embedding_norm, &mut grads.embedding_norm) {
        let (x, normed) =
            embedded_and_normed(b, model, &batch.tokens, &batch.positions, &batch.types);
        let (_, kept) = normed.expect("an embedding's norm has its output");
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
        b.linear_backward_weight(ops::LinearBackwardWeight {
            dweight: trained(dproject),
            dbias: None,
            dout: &dx,
            x: &tokens,
            n,
            i: e,
            o: d,
        });
        let mut dtokens = b.zeros(n * e);
        b.linear_backward_input(ops::LinearBackwardInput {
            dx: &mut dtokens,
            dout: &dx,
            weight: project,
            n,
            i: e,
            o: d,
        });
        dx = dtokens;
    }
    b.embedding_backward(trained(&mut grads.embedding), &dx, &batch.tokens, e);
}

/// The embedding and the blocks below `first_layer`: `[n,d]`, the input of block `first_layer`.
/// Keeps nothing.
pub fn trunk<B: Backend>(b: &B, model: &Model<B>, batch: &Batch, first_layer: usize) -> B::Buf {
    higher(
        b,
        model,
        embed(b, model, &batch.tokens, &batch.positions, &batch.types),
        batch,
        0..first_layer,
    )
}

/// The blocks of `layers`: `[n,d]`, the input of the block above them, from `x[n,d]`, that of the
/// lowest. Keeps nothing.
pub fn higher<B: Backend>(
    b: &B,
    model: &Model<B>,
    x: B::Buf,
    batch: &Batch,
    layers: Range<usize>,
) -> B::Buf {
    blocks(
        b,
        model,
        x,
        &batch.positions,
        layers,
        &mut WholeSequences::new(&model.spec, &batch.starts),
    )
}

/// The blocks from `first_layer` up and the layers above them, from `x`, the `[n,d]` that [`trunk`]
/// gave. `keep` selects what a backward pass will make again; where there will be none, it is
/// `None` and the activations hold `hidden` alone.
pub fn forward<B: Backend>(
    b: &B,
    model: &Model<B>,
    mut x: B::Buf,
    batch: &Batch,
    first_layer: usize,
    keep: Option<Recompute>,
) -> Activations<B> {
    let n = batch.rows();
    let mut attend = WholeSequences::new(&model.spec, &batch.starts);
    let layers = first_layer..model.spec.layers;
    let mut whole = Vec::new();
    let mut inputs = Vec::new();
    match keep {
        None => x = blocks(b, model, x, &batch.positions, layers, &mut attend),
        Some(Recompute::None) => {
            for layer in layers {
                let mut block = Block::zeros(b, &model.spec, n, true);
                std::mem::swap(&mut block.x, &mut x);
                block_forward(b, model, layer, &mut block, &mut x, &batch.positions, &mut attend);
                whole.push(block);
            }
        }
        Some(Recompute::Block) => {
            let mut block = Block::zeros(b, &model.spec, n, false);
            for layer in layers {
                block.x = std::mem::replace(&mut x, b.zeros(n * model.spec.width));
                block_forward(b, model, layer, &mut block, &mut x, &batch.positions, &mut attend);
                inputs.push(std::mem::replace(&mut block.x, b.zeros(0)));
            }
        }
    }
    let blocks =
        if keep == Some(Recompute::Block) { Kept::Inputs(inputs) } else { Kept::Whole(whole) };
    Activations { first_layer, blocks, ..above_blocks(b, model, x, n) }
}

/// What heads read, from `x[n,d]`, the last block's output: normed and projected where the model
/// does so. Without blocks.
pub fn above_blocks<B: Backend>(b: &B, model: &Model<B>, x: B::Buf, n: usize) -> Activations<B> {
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
            b.linear(ops::Linear {
                out: &mut out,
                x: &normed,
                weight: project,
                bias: None,
                n,
                i: spec.width,
                o: spec.embedding_width,
            });
            (normed, out)
        }
        None => (b.zeros(0), normed),
    };
    Activations {
        hidden,
        first_layer: spec.layers,
        blocks: Kept::Whole(Vec::new()),
        x,
        statistics: kept,
        projected,
    }
}

/// [`trunk`] and [`forward`] in one, keeping nothing: the `[n,e]` that heads read.
pub fn hidden<B: Backend>(b: &B, model: &Model<B>, batch: &Batch) -> B::Buf {
    forward(b, model, trunk(b, model, batch, 0), batch, 0, None).hidden
}

/// The blocks of `layers`, one after the other, in one block's memory.
pub fn blocks<B: Backend>(
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
    let mut block = Block::zeros(b, &model.spec, positions.len(), false);
    for layer in layers {
        std::mem::swap(&mut block.x, &mut x);
        block_forward(b, model, layer, &mut block, &mut x, positions, attend);
    }
    x
}

/// Adds the gradients of the weights that train, from `dhidden[n,e]`, the gradient of
/// `activations.hidden`.
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
    assert_eq!(
        activations.first_layer, trainable.first_layer,
        "the forward pass starts at the first block that trains"
    );
    assert_eq!(
        activations.blocks.len(),
        spec.layers - trainable.first_layer,
        "the forward pass kept its activations"
    );
    assert!(
        trainable.first_layer == 0 || !trainable.embeddings,
        "the embedding trains only with all blocks"
    );
    let grads = gradients.params_mut();

    // hidden = linear(projected, project_out)
    let mut dx = b.zeros(n * d);
    match &model.weights.project_out {
        Some(project) => {
            b.linear_backward_input(ops::LinearBackwardInput {
                dx: &mut dx,
                dout: dhidden,
                weight: project,
                n,
                i: d,
                o: e,
            });
            if let Some(Some(dproject)) = &mut grads.project_out {
                b.linear_backward_weight(ops::LinearBackwardWeight {
                    dweight: dproject,
                    dbias: None,
                    dout: dhidden,
                    x: &activations.projected,
                    n,
                    i: d,
                    o: e,
                });
            }
        }
        None => b.copy(&mut dx, dhidden),
    }
    // projected = norm(x)
    if let (Some(weights), Some(dweights)) = (&model.weights.norm, &mut grads.norm) {
        let mut below = b.zeros(n * d);
        norm_backward(
            b,
            spec,
            &mut below,
            dweights,
            &dx,
            &activations.x,
            weights,
            &activations.statistics,
            n,
        );
        dx = below;
    }

    let mut flight = Flight::zeros(b, spec, n);
    match &activations.blocks {
        Kept::Whole(blocks) => {
            for (index, block) in blocks.iter().enumerate().rev() {
                let layer = trainable.first_layer + index;
                block_backward(
                    b,
                    model,
                    layer,
                    block,
                    &mut dx,
                    &mut flight,
                    batch,
                    &mut grads.layers[layer],
                );
            }
        }
        Kept::Inputs(inputs) => {
            let mut attend = WholeSequences::new(spec, &batch.starts);
            let mut block = Block::zeros(b, spec, n, true);
            for (index, x) in inputs.iter().enumerate().rev() {
                let layer = trainable.first_layer + index;
                b.copy(&mut block.x, x);
                block_again(
                    b,
                    model,
                    layer,
                    &mut block,
                    flight.spare(),
                    &batch.positions,
                    &mut attend,
                );
                block_backward(
                    b,
                    model,
                    layer,
                    &block,
                    &mut dx,
                    &mut flight,
                    batch,
                    &mut grads.layers[layer],
                );
            }
        }
    }
    if trainable.embeddings {
        embed_backward(b, model, batch, dx, grads);
    }
}
