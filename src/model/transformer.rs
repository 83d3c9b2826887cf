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
//! 4. [`Recompute`] selects the activations of blocks that backward recomputes, from the same
//!    numbers in the same order, so no bit depends on it.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::backend::Backend;

use super::activations::{BackwardBuffers, BlockActivations};
use super::attend::{Attend, WholeSequences};
use super::batch::Batch;
use super::block::{block_backward, block_forward, recompute_block};
use super::embeddings::{embed, embed_backward};
use super::linear::Linear;
use super::norm::{NormStatistics, StreamNorm};
use super::params::{Params, Trainable};
use super::pass::Pass;
use super::weights::{Gradients, Model};

/// Activations that a backward pass recomputes instead of reading saved ones: less memory for more
/// time. Changes no bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recompute {
    /// None: every block saves what its backward pass reads.
    #[default]
    None,
    /// Those of blocks: each saves only its input, and is run again before its backward pass.
    Block,
}

/// Activations of blocks, saved for a backward pass, the first that trains first.
enum Saved<B: Backend> {
    Whole(Vec<BlockActivations<B>>),
    /// `[n,d]` each.
    Inputs(Vec<B::Buf>),
}

impl<B: Backend> Saved<B> {
    fn len(&self) -> usize {
        match self {
            Saved::Whole(blocks) => blocks.len(),
            Saved::Inputs(inputs) => inputs.len(),
        }
    }
}

/// What a forward pass gives.
pub struct Activations<B: Backend> {
    /// `[n,e]`: what heads read: the last block's output, normed and projected where the model does
    /// so.
    pub hidden: B::Buf,
    first_layer: usize,
    blocks: Saved<B>,
    /// `[n,d]`: the last block's output, where it is normed.
    x: B::Buf,
    statistics: NormStatistics<B>,
    /// `[n,d]`: what is projected to `hidden`.
    projected: B::Buf,
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
    let pass = |layer| Pass { b, model, layer, positions: &batch.positions };
    let (mut whole, mut inputs) = (Vec::new(), Vec::new());
    match keep {
        None => x = blocks(b, model, x, &batch.positions, layers, &mut attend),
        Some(Recompute::None) => {
            for layer in layers {
                let mut block = BlockActivations::zeros(b, &model.spec, n, true);
                std::mem::swap(&mut block.input, &mut x);
                block_forward(&pass(layer), &mut block, &mut x, &mut attend);
                whole.push(block);
            }
        }
        Some(Recompute::Block) => {
            let mut block = BlockActivations::zeros(b, &model.spec, n, false);
            for layer in layers {
                block.input = std::mem::replace(&mut x, b.zeros(n * model.spec.width));
                block_forward(&pass(layer), &mut block, &mut x, &mut attend);
                inputs.push(std::mem::replace(&mut block.input, b.zeros(0)));
            }
        }
    }
    let blocks =
        if keep == Some(Recompute::Block) { Saved::Inputs(inputs) } else { Saved::Whole(whole) };
    Activations { first_layer, blocks, ..above_blocks(b, model, x, n) }
}

/// What heads read, from `x[n,d]`, the last block's output: normed and projected where the model
/// does so. Without blocks.
pub fn above_blocks<B: Backend>(b: &B, model: &Model<B>, x: B::Buf, n: usize) -> Activations<B> {
    let (spec, w) = (&model.spec, &model.weights);
    let mut statistics = NormStatistics::zeros(b, spec, if w.norm.is_some() { n } else { 0 });
    let (x, normed) = match &w.norm {
        Some(weights) => {
            let mut out = b.zeros(n * spec.width);
            StreamNorm::new(b, spec, weights).forward(&mut out, &mut statistics, &x, n);
            (x, out)
        }
        None => (b.zeros(0), x),
    };
    let (projected, hidden) = match &w.project_out {
        Some(weight) => {
            let mut out = b.zeros(n * spec.embedding_width);
            projection(b, model, weight).forward(&mut out, &normed, n);
            (normed, out)
        }
        None => (b.zeros(0), normed),
    };
    Activations {
        hidden,
        first_layer: spec.layers,
        blocks: Saved::Whole(Vec::new()),
        x,
        statistics,
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
    let mut block = BlockActivations::zeros(b, &model.spec, positions.len(), false);
    for layer in layers {
        std::mem::swap(&mut block.input, &mut x);
        block_forward(&Pass { b, model, layer, positions }, &mut block, &mut x, attend);
    }
    x
}

/// Adds the gradients of the weights that train, from `dhidden[n,e]`, the gradient of
/// `activations.hidden`.
///
/// # Panics
/// If the forward pass saved nothing, or started at another block than the first that trains.
pub fn backward<B: Backend>(
    b: &B,
    model: &Model<B>,
    batch: &Batch,
    activations: &Activations<B>,
    dhidden: &B::Buf,
    gradients: &mut Gradients<B>,
    trainable: &Trainable,
) {
    let (spec, n, first_layer) = (&model.spec, batch.rows(), trainable.first_layer());
    assert_eq!(
        activations.first_layer, first_layer,
        "the forward pass starts at the first block that trains"
    );
    assert_eq!(
        activations.blocks.len(),
        spec.layers - first_layer,
        "the forward pass saved its activations"
    );
    let grads = gradients.params_mut();
    let mut dx = above_blocks_backward(b, model, activations, dhidden, grads, n);

    let mut buffers = BackwardBuffers::zeros(b, spec, n);
    let pass = |layer| Pass { b, model, layer, positions: &batch.positions };
    let mut backward = |index: usize, block: &BlockActivations<B>, buffers: &mut _| {
        let layer = first_layer + index;
        let grads = &mut grads.layers[layer];
        block_backward(&pass(layer), &batch.starts, block, &mut dx, buffers, grads);
    };
    match &activations.blocks {
        Saved::Whole(blocks) => {
            for (index, block) in blocks.iter().enumerate().rev() {
                backward(index, block, &mut buffers);
            }
        }
        Saved::Inputs(inputs) => {
            let mut attend = WholeSequences::new(spec, &batch.starts);
            let mut block = BlockActivations::zeros(b, spec, n, true);
            for (index, input) in inputs.iter().enumerate().rev() {
                b.copy(&mut block.input, input);
                let pass = pass(first_layer + index);
                recompute_block(&pass, &mut block, buffers.spare(), &mut attend);
                backward(index, &block, &mut buffers);
            }
        }
    }
    if trainable.embeddings() {
        embed_backward(b, model, batch, dx, grads);
    }
}

/// `[n,d]`: the gradient of the last block's output, from `dhidden[n,e]`; adds to the gradients of
/// the layers above the blocks.
fn above_blocks_backward<B: Backend>(
    b: &B,
    model: &Model<B>,
    activations: &Activations<B>,
    dhidden: &B::Buf,
    grads: &mut Params<Option<B::Buf>>,
    n: usize,
) -> B::Buf {
    let (spec, w, d) = (&model.spec, &model.weights, model.spec.width);
    // hidden = linear(projected, project_out)
    let mut dx = b.zeros(n * d);
    match (&w.project_out, &mut grads.project_out) {
        (Some(weight), Some(dweight)) => {
            let project = projection(b, model, weight);
            project.backward_input(&mut dx, dhidden, n);
            project.backward_weight(dweight.as_mut(), None, dhidden, &activations.projected, n);
        }
        _ => b.copy(&mut dx, dhidden),
    }
    // projected = norm(x)
    if let (Some(weights), Some(dweights)) = (&w.norm, &mut grads.norm) {
        let (x, statistics) = (&activations.x, &activations.statistics);
        let mut below = b.zeros(n * d);
        StreamNorm::new(b, spec, weights).backward(&mut below, dweights, &dx, x, statistics, n);
        dx = below;
    }
    dx
}

/// The layer from the residual stream to what heads read.
fn projection<'a, B: Backend>(b: &'a B, model: &Model<B>, weight: &'a B::Buf) -> Linear<'a, B> {
    Linear::new(b, weight, None, [model.spec.width, model.spec.embedding_width])
}
