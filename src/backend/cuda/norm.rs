//! Launches kernels/norm.cu. Independent of a norm's place in a model.

use super::Cuda;
use super::buffer::Buf;
use crate::ops::{NormOps, RmsNorm, RmsNormBackward, RmsNormResidual};

/// Columns of a block where they are added up.
pub const COLUMNS: usize = 32;
/// Rows of a block: a warp each.
const ROWS: usize = 8;

impl NormOps for Cuda {
    fn rms_norm_unchecked(&self, norm: RmsNorm<'_, Buf>) {
        self.rms_norm_of_sum(norm, None);
    }

    fn rms_norm_residual_unchecked(&self, mut norm: RmsNormResidual<'_, Buf>) {
        let delta = norm.delta;
        self.rms_norm_of_sum(norm.norm(), Some(delta));
    }

    fn rms_norm_backward_unchecked(&self, norm: RmsNormBackward<'_, Buf>) {
        let RmsNormBackward { dx, dweight, dout, x, weight, rstd, n, d } = norm;
        let kernels = &self.kernels;
        let call = kernels.call("norm", "rms_norm_backward", x.kind());
        call.out(dx).input(dout).input(x).input(weight).floats(rstd).size(n).size(d).over(
            n,
            ROWS,
            32 * ROWS,
        );
        if let Some(dweight) = dweight {
            let call = kernels.call("norm", "rms_norm_backward_weight", x.kind());
            call.out_floats(dweight)
                .input(dout)
                .input(x)
                .floats(rstd)
                .size(n)
                .size(d)
                .over(d, COLUMNS, 256);
        }
    }
}

impl Cuda {
    /// `x += delta`, where there is one, then the norm of `x`.
    fn rms_norm_of_sum(&self, norm: RmsNorm<'_, Buf>, delta: Option<&Buf>) {
        let RmsNorm { out, rstd, x, weight, n, d, epsilon } = norm;
        let call = self
            .kernels
            .call("norm", "rms_norm", x.kind())
            .out(out)
            .out_floats(rstd)
            .input(x)
            .optional(delta);
        call.input(weight).size(n).size(d).float(epsilon).over(n, ROWS, 32 * ROWS);
    }
}
