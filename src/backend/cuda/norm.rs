//! Launches kernels/norm.cu. Knows nothing of where in a model a norm stands.

use super::buffer::Buf;
use super::kernels::Kernels;

/// Columns of a block where they are added up.
pub const COLUMNS: usize = 32;
/// Rows of a block: a warp each.
const ROWS: usize = 8;

/// `out[n,d]`, `rstd[n]` from `x[n,d]`, `weight[d]`.
#[allow(clippy::too_many_arguments)]
pub fn rms_norm(kernels: &Kernels, out: &mut Buf, rstd: &mut Buf, x: &Buf, weight: &Buf, n: usize, d: usize, epsilon: f64) {
    let call = kernels.call("norm", "rms_norm", x.kind());
    call.out(out).out_floats(rstd).input(x).input(weight).size(n).size(d).float(epsilon).over(n, ROWS, 32 * ROWS);
}

/// `dx[n,d] +=`.
#[allow(clippy::too_many_arguments)]
pub fn rms_norm_backward(kernels: &Kernels, dx: &mut Buf, dout: &Buf, x: &Buf, weight: &Buf, rstd: &Buf, n: usize, d: usize) {
    let call = kernels.call("norm", "rms_norm_backward", x.kind());
    call.out(dx).input(dout).input(x).input(weight).floats(rstd).size(n).size(d).over(n, ROWS, 32 * ROWS);
}

/// `dweight[d] +=`, in row order.
pub fn rms_norm_backward_weight(kernels: &Kernels, dweight: &mut Buf, dout: &Buf, x: &Buf, rstd: &Buf, n: usize, d: usize) {
    let call = kernels.call("norm", "rms_norm_backward_weight", x.kind());
    call.out_floats(dweight).input(dout).input(x).floats(rstd).size(n).size(d).over(d, COLUMNS, 256);
}
