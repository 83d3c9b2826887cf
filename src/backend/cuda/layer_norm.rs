//! Checks shapes and launches kernels/layer_norm.cu. Knows nothing of a norm's place in a
//! model.

use super::buffer::Buf;
use super::kernels::Kernels;
use super::norm::COLUMNS;
use super::{rows, shape};

/// Rows of a block: a warp each.
const ROWS: usize = 8;

/// `x[n,d] += delta[n,d]`, where there is one, then `out[n,d]`, `mean[n]`, `rstd[n]` from `x`,
/// `weight[d]`, `bias[d]`.
#[expect(clippy::too_many_arguments)]
#[track_caller]
pub fn layer_norm(
    kernels: &Kernels,
    out: &mut Buf,
    mean: &mut Buf,
    rstd: &mut Buf,
    x: &Buf,
    delta: Option<&Buf>,
    weight: &Buf,
    bias: &Buf,
    n: usize,
    d: usize,
    epsilon: f64,
) {
    shape(out, n * d, "out [n,d]");
    shape(mean, n, "mean [n]");
    shape(rstd, n, "rstd [n]");
    shape(x, n * d, "x [n,d]");
    shape(weight, d, "weight [d]");
    delta.into_iter().for_each(|delta| shape(delta, n * d, "delta [n,d]"));
    shape(bias, d, "bias [d]");
    let call = kernels
        .call("layer_norm", "layer_norm", x.kind())
        .out(out)
        .out_floats(mean)
        .out_floats(rstd);
    call.input(x).optional(delta).input(weight).input(bias).size(n).size(d).float(epsilon).over(
        n,
        ROWS,
        32 * ROWS,
    );
}

/// `dx[n,d] +=`, and `dweight[d] +=` and `dbias[d] +=` in row order.
#[expect(clippy::too_many_arguments)]
#[track_caller]
pub fn layer_norm_backward(
    kernels: &Kernels,
    dx: &mut Buf,
    dweight: Option<&mut Buf>,
    dbias: Option<&mut Buf>,
    dout: &Buf,
    x: &Buf,
    weight: &Buf,
    mean: &Buf,
    rstd: &Buf,
    n: usize,
    d: usize,
) {
    shape(dx, n * d, "dx [n,d]");
    shape(dout, n * d, "dout [n,d]");
    shape(x, n * d, "x [n,d]");
    shape(weight, d, "weight [d]");
    shape(mean, n, "mean [n]");
    shape(rstd, n, "rstd [n]");
    let call = kernels.call("layer_norm", "layer_norm_backward", x.kind());
    call.out(dx).input(dout).input(x).input(weight).floats(mean).floats(rstd).size(n).size(d).over(
        n,
        ROWS,
        32 * ROWS,
    );
    if let Some(dweight) = dweight {
        shape(dweight, d, "dweight [d]");
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
        shape(dbias, d, "dbias [d]");
        rows::add_rows(kernels, dbias, dout, n, d);
    }
}
