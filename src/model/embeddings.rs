//! Embeddings: tokens, segments and positions to the input of the first block, and the gradients
//! back. Independent of blocks.
//!
//! The forward pass is cheap: backward recomputes it rather than keep it.

use super::batch::Batch;
use super::linear::Linear;
use super::norm::{NormStatistics, StreamNorm};
use super::params::Params;
use super::weights::{Model, Weight};
use crate::backend::{Backend, Buffers};

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
        projection(b, model, project).forward(&mut projected, &x, n);
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

/// The sum of the embeddings of tokens, `[n,d]`, with its norm and the norm's statistics, where
/// there is one.
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
    let (mut out, mut statistics) = (b.zeros(n * spec.width), NormStatistics::zeros(b, spec, n));
    let last = added.pop();
    added.iter().for_each(|rows| b.add(&mut x, rows));
    let norm = StreamNorm::new(b, spec, weights);
    match last {
        Some(last) => norm.forward_residual(&mut out, &mut statistics, &mut x, &last, n),
        None => norm.forward(&mut out, &mut statistics, &x, n),
    }
    (x, Some((out, statistics)))
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
pub(super) fn embed_backward<B: Backend>(
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
        let (_, statistics) = normed.expect("an embedding's norm has its output");
        let mut dsum = b.zeros(n * d);
        StreamNorm::new(b, spec, weights).backward(&mut dsum, dweights, &dx, &x, &statistics, n);
        dx = dsum;
    }
    // x = project_in(embedding[tokens]) + token_types[types] + positions[positions]
    if let Some(dpositions) = grads.positions.as_mut().and_then(Option::as_mut) {
        b.embedding_backward(dpositions, &dx, &batch.positions, d);
    }
    if let Some(dtypes) = grads.token_types.as_mut().and_then(Option::as_mut) {
        b.embedding_backward(dtypes, &dx, &batch.types, d);
    }
    if let (Some(weight), Some(dweight)) = (&w.project_in, &mut grads.project_in) {
        let (project, mut tokens) = (projection(b, model, weight), b.zeros(n * e));
        b.embedding(&mut tokens, &w.embedding, &batch.tokens, e);
        project.backward_weight(dweight.as_mut(), None, &dx, &tokens, n);
        let mut dtokens = b.zeros(n * e);
        project.backward_input(&mut dtokens, &dx, n);
        dx = dtokens;
    }
    if let Some(dembedding) = &mut grads.embedding {
        b.embedding_backward(dembedding, &dx, &batch.tokens, e);
    }
}

/// The layer from embeddings to the residual stream.
fn projection<'a, B: Backend>(b: &'a B, model: &Model<B>, weight: &'a B::Buf) -> Linear<'a, B> {
    Linear::new(b, weight, None, [model.spec.embedding_width, model.spec.width])
}
