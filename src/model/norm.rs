//! Norms of the residual stream, forward and backward. Independent of their place in the model.

use super::params::Affine;
use super::spec::{Norm, Spec};
use super::weights::Weight;
use crate::backend::{Backend, ops};

/// Statistics of rows that a norm's backward pass reads.
pub(super) struct NormStatistics<B: Backend> {
    /// `[n]`; empty for a norm that subtracts no mean.
    mean: B::Buf,
    /// `[n]`.
    rstd: B::Buf,
}

impl<B: Backend> NormStatistics<B> {
    /// Room for `n` rows.
    pub(super) fn zeros(b: &B, spec: &Spec, n: usize) -> Self {
        NormStatistics {
            mean: b.wide(if spec.norm == Norm::Layer { n } else { 0 }),
            rstd: b.wide(n),
        }
    }
}

/// A norm of rows of the residual stream.
pub(super) struct StreamNorm<'a, B: Backend> {
    b: &'a B,
    /// `[d]`.
    weight: &'a B::Buf,
    /// `[d]`; a norm by the root mean square has none.
    bias: Option<&'a B::Buf>,
    d: usize,
    epsilon: f64,
}

impl<'a, B: Backend> StreamNorm<'a, B> {
    /// The norm with these weights, in a model of `spec`.
    pub(super) fn new(b: &'a B, spec: &Spec, weights: &'a Affine<Weight<B>>) -> Self {
        StreamNorm {
            b,
            weight: &weights.weight,
            bias: weights.bias.as_deref(),
            d: spec.width,
            epsilon: spec.norm_epsilon,
        }
    }

    /// `out[n,d] = norm(x[n,d])`.
    pub(super) fn forward(
        &self,
        out: &mut B::Buf,
        statistics: &mut NormStatistics<B>,
        x: &B::Buf,
        n: usize,
    ) {
        let StreamNorm { b, weight, bias, d, epsilon } = *self;
        let NormStatistics { mean, rstd } = statistics;
        match bias {
            Some(bias) => {
                b.layer_norm(ops::LayerNorm { out, mean, rstd, x, weight, bias, n, d, epsilon })
            }
            None => b.rms_norm(ops::RmsNorm { out, rstd, x, weight, n, d, epsilon }),
        }
    }

    /// [`StreamNorm::forward`] of `x[n,d] += delta[n,d]`.
    pub(super) fn forward_residual(
        &self,
        out: &mut B::Buf,
        statistics: &mut NormStatistics<B>,
        x: &mut B::Buf,
        delta: &B::Buf,
        n: usize,
    ) {
        let StreamNorm { b, weight, bias, d, epsilon } = *self;
        let NormStatistics { mean, rstd } = statistics;
        match bias {
            Some(bias) => b.layer_norm_residual(ops::LayerNormResidual {
                out,
                mean,
                rstd,
                x,
                delta,
                weight,
                bias,
                n,
                d,
                epsilon,
            }),
            None => b.rms_norm_residual(ops::RmsNormResidual {
                out,
                rstd,
                x,
                delta,
                weight,
                n,
                d,
                epsilon,
            }),
        }
    }

    /// Adds to `dx[n,d]` and to the gradients of those of the norm's weights that train, from
    /// `dout[n,d]` and the forward pass's `x[n,d]` and statistics.
    pub(super) fn backward(
        &self,
        dx: &mut B::Buf,
        gradients: &mut Affine<Option<B::Buf>>,
        dout: &B::Buf,
        x: &B::Buf,
        statistics: &NormStatistics<B>,
        n: usize,
    ) {
        let StreamNorm { b, weight, bias, d, .. } = *self;
        let (NormStatistics { mean, rstd }, dweight) = (statistics, gradients.weight.as_mut());
        match bias {
            Some(_) => {
                let dbias = gradients.bias.as_mut().and_then(Option::as_mut);
                b.layer_norm_backward(ops::LayerNormBackward {
                    dx,
                    dweight,
                    dbias,
                    dout,
                    x,
                    weight,
                    mean,
                    rstd,
                    n,
                    d,
                });
            }
            None => b.rms_norm_backward(ops::RmsNormBackward {
                dx,
                dweight,
                dout,
                x,
                weight,
                rstd,
                n,
                d,
            }),
        }
    }
}
