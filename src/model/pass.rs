//! A pass of some rows through one block: the weights, sizes and positions that its two branches
//! read.

use super::norm::StreamNorm;
use super::params::Layer;
use super::spec::Spec;
use super::weights::{Model, Weight};
use crate::backend::Backend;

/// A pass of rows through block `layer`, forward or backward.
pub(super) struct Pass<'a, B: Backend> {
    pub(super) b: &'a B,
    pub(super) model: &'a Model<B>,
    pub(super) layer: usize,
    /// `[n]`: each row's position in its sequence.
    pub(super) positions: &'a [u32],
}

impl<'a, B: Backend> Pass<'a, B> {
    /// The model's form.
    pub(super) fn spec(&self) -> &'a Spec {
        &self.model.spec
    }

    /// The block's weights.
    pub(super) fn weights(&self) -> &'a Layer<Weight<B>> {
        &self.model.weights.layers[self.layer]
    }

    /// `n`: rows that pass.
    pub(super) fn rows(&self) -> usize {
        self.positions.len()
    }

    /// The norm before attention or, in a post-norm model, after its residual.
    pub(super) fn attention_norm(&self) -> StreamNorm<'a, B> {
        StreamNorm::new(self.b, self.spec(), &self.weights().attention_norm)
    }

    /// The norm before the feed-forward or, in a post-norm model, after its residual.
    pub(super) fn feed_forward_norm(&self) -> StreamNorm<'a, B> {
        StreamNorm::new(self.b, self.spec(), &self.weights().feed_forward_norm)
    }
}
