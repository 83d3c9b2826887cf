//! Checks shapes and launches kernels/norm.cu. Knows nothing of a norm's place in a model.

use super::buffer::Buf;
use super::kernels::Kernels;
use super::shape;

/// Columns of a block where they are added up.
pub const COLUMNS: usize = 32;
/// Rows of a block: a warp each.
const ROWS: usize = 8;

/// `x[n,d] += delta[n,d]`, where there is one, then `out[n,d]`, `rstd[n]` from `x`, `weight[d]`.
#[expect(clippy::too_many_arguments)]
#[track_caller]
pub fn rms_norm(
    kernels: &Kernels,
    out: &mut Buf,
    rstd: &mut Buf,
    x: &Buf,
    delta: Option<&Buf>,
    weight: &Buf,
    n: usize,
    d: usize,
    epsilon: f64,
) {
    shape(out, n * d, "out [n,d]");
    shape(rstd, n, "rstd [n]");
    shape(x, n * d, "x [n,d]");
    delta.into_iter().for_each(|delta| shape(delta, n * d, "delta [n,d]"));
    shape(weight, d, "weight [d]");
    let call = kernels
        .call("norm", "rms_norm", x.kind())
        .out(out)
        .out_floats(rstd)
        .input(x)
        .optional(delta);
    call.input(weight).size(n).size(d).float(epsilon).over(n, ROWS, 32 * ROWS);
}

/// `dx[n,d] +=`, and `dweight[d] +=` in row order.
#[expect(clippy::too_many_arguments)]
#[track_caller]
pub fn rms_norm_backward(
    kernels: &Kernels,
    dx: &mut Buf,
    dweight: Option<&mut Buf>,
    dout: &Buf,
    x: &Buf,
    weight: &Buf,
    rstd: &Buf,
    n: usize,
    d: usize,
) {
    shape(dx, n * d, "dx [n,d]");
    shape(dout, n * d, "dout [n,d]");
    shape(x, n * d, "x [n,d]");
    shape(weight, d, "weight [d]");
    shape(rstd, n, "rstd [n]");
    let call = kernels.call("norm", "rms_norm_backward", x.kind());
    call.out(dx).input(dout).input(x).input(weight).floats(rstd).size(n).size(d).over(
        n,
        ROWS,
        32 * ROWS,
    );
    if let Some(dweight) = dweight {
        shape(dweight, d, "dweight [d]");
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
