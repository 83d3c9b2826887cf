//! Launches kernels/layer_norm.cu. Independent of a norm's place in a model.

use super::Cuda;
use super::buffer::Buf;
use super::norm::COLUMNS;
use super::rows::add_rows;
use crate::ops::{LayerNorm, LayerNormBackward, LayerNormOps, LayerNormResidual};

/// Rows of a block: a warp each.
const ROWS: usize = 8;

impl LayerNormOps for Cuda {
    fn layer_norm_unchecked(&self, norm: LayerNorm<'_, Buf>) {
        self.layer_norm_of_sum(norm, None);
    }

    fn layer_norm_residual_unchecked(&self, mut norm: LayerNormResidual<'_, Buf>) {
        let delta = norm.delta;
        self.layer_norm_of_sum(norm.norm(), Some(delta));
    }

    fn layer_norm_backward_unchecked(&self, norm: LayerNormBackward<'_, Buf>) {
        let LayerNormBackward { dx, dweight, dbias, dout, x, weight, mean, rstd, n, d } = norm;
        let kernels = &self.kernels;
        let call = kernels.call("layer_norm", "layer_norm_backward", x.kind());
        let call = call.out(dx).input(dout).input(x).input(weight).floats(mean).floats(rstd);
        call.size(n).size(d).over(n, ROWS, 32 * ROWS);
        if let Some(dweight) = dweight {
            let call = kernels.call("layer_norm", "layer_norm_backward_weight", x.kind());
            call.out_floats(dweight)
                .input(dout)
                .input(x)
                .floats(mean)
                .floats(rstd)
                .size(n)
                .size(d)
                .over(d, COLUMNS, 256);
        }
        if let Some(dbias) = dbias {
            add_rows(kernels, dbias, dout, n, d);
        }
    }
}

impl Cuda {
    /// `x += delta`, where there is one, then the norm of `x`.
    fn layer_norm_of_sum(&self, norm: LayerNorm<'_, Buf>, delta: Option<&Buf>) {
        let LayerNorm { out, mean, rstd, x, weight, bias, n, d, epsilon } = norm;
        let call = self
            .kernels
            .call("layer_norm", "layer_norm", x.kind())
            .out(out)
            .out_floats(mean)
            .out_floats(rstd);
        let call = call.input(x).optional(delta).input(weight).input(bias);
        call.size(n).size(d).float(epsilon).over(n, ROWS, 32 * ROWS);
    }
}
