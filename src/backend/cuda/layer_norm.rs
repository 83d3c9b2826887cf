//! Launches kernels/layer_norm.cu. Knows nothing of where in a model a norm stands.

use super::buffer::Buf;
use super::kernels::Kernels;
use super::norm::COLUMNS;

/// Rows of a block: a warp each.
const ROWS: usize = 8;

/// `out[n,d]`, `mean[n]`, `rstd[n]` from `x[n,d]`, `weight[d]`, `bias[d]`.
#[allow(clippy::too_many_arguments)]
pub fn layer_norm(
    kernels: &Kernels,
    out: &mut Buf,
    mean: &mut Buf,
    rstd: &mut Buf,
    x: &Buf,
    weight: &Buf,
    bias: &Buf,
    n: usize,
    d: usize,
    epsilon: f64,
) {
    let call = kernels.call("layer_norm", "layer_norm", x.kind()).out(out).out_floats(mean).out_floats(rstd);
    call.input(x).input(weight).input(bias).size(n).size(d).float(epsilon).over(n, ROWS, 32 * ROWS);
}

/// `dx[n,d] +=`.
#[allow(clippy::too_many_arguments)]
pub fn layer_norm_backward(kernels: &Kernels, dx: &mut Buf, dout: &Buf, x: &Buf, weight: &Buf, mean: &Buf, rstd: &Buf, n: usize, d: usize) {
    let call = kernels.call("layer_norm", "layer_norm_backward", x.kind());
    call.out(dx).input(dout).input(x).input(weight).floats(mean).floats(rstd).size(n).size(d).over(n, ROWS, 32 * ROWS);
}

/// `dweight[d] +=`, in row order.
#[allow(clippy::too_many_arguments)]
pub fn layer_norm_backward_weight(kernels: &Kernels, dweight: &mut Buf, dout: &Buf, x: &Buf, mean: &Buf, rstd: &Buf, n: usize, d: usize) {
    let call = kernels.call("layer_norm", "layer_norm_backward_weight", x.kind());
    call.out_floats(dweight).input(dout).input(x).floats(mean).floats(rstd).size(n).size(d).over(d, COLUMNS, 256);
}
