//! Launches kernels/linear.cu and kernels/linear_hopper.cu. Knows nothing of layers.
//!
//! 1. Which tile of a file computes an output changes no bits, so the choice may follow the shape and the device's size.
//! 2. The two files may differ in bits, so which of them computes a layer follows the way that was asked for, the storage type and the layer's widths,
//!    never the rows.

use super::buffer::{Buf, Type};
use super::kernels::Kernels;
use super::linear_hopper;
use super::products::Way;

/// Rows and columns of a block's tile, and its threads.
#[derive(Clone, Copy, Debug)]
pub struct Tile {
    /// Of the output.
    pub rows: usize,
    /// Of the output.
    pub columns: usize,
    /// Of a block.
    pub threads: usize,
    /// Dynamic shared memory in bytes.
    pub shared: usize,
}

/// As many blocks keep a device busy: fewer large tiles than this are cut into small ones.
const BUSY: usize = 128;
/// Rows up to which the tile of few rows reads the weights as fast as memory gives them.
const FEW: usize = 16;

impl Tile {
    const fn large(kind: Type) -> Tile {
        match kind {
            Type::F32 => Tile { rows: 128, columns: 128, threads: 256, shared: 0 },
            Type::Bf16 => Tile { rows: 128, columns: 128, threads: 256, shared: 4 * (128 + 128) * 32 * 2 },
        }
    }

    const fn small(kind: Type) -> Tile {
        match kind {
            Type::F32 => Tile { rows: 32, columns: 64, threads: 128, shared: 0 },
            Type::Bf16 => Tile { rows: 64, columns: 64, threads: 128, shared: 4 * (64 + 64) * 32 * 2 },
        }
    }

    const fn few() -> Tile {
        Tile { rows: FEW, columns: 32, threads: 128, shared: 6 * (16 + 32) * 128 * 2 }
    }

    /// How many of them cover an output.
    pub fn blocks(self, rows: usize, columns: usize) -> usize {
        rows.div_ceil(self.rows) * columns.div_ceil(self.columns)
    }

    fn is_enough(self, rows: usize, columns: usize) -> bool {
        self.blocks(rows, columns) >= BUSY
    }
}

/// `out[n,o] = x[n,i] weight[o,i]^T + bias[o]`.
#[allow(clippy::too_many_arguments)]
pub fn linear(kernels: &Kernels, way: Way, out: &mut Buf, x: &Buf, weight: &Buf, bias: Option<&Buf>, n: usize, i: usize, o: usize) {
    let kind = x.kind();
    if n > 0 && linear_hopper::takes(way, kind, &[i]) {
        return linear_hopper::linear(kernels, out, x, weight, bias, n, i, o);
    }
    let (method, tile) = match kind {
        Type::Bf16 if n <= FEW => ("linear_few", Tile::few()),
        _ if Tile::large(kind).is_enough(n, o) => ("linear", Tile::large(kind)),
        _ => ("linear_small", Tile::small(kind)),
    };
    let call = kernels.call_with("linear", method, kind, tile.shared);
    call.out(out).input(x).input(weight).optional(bias).size(n).size(i).size(o).launch([tile.blocks(n, o), 1, 1], tile.threads);
}

/// `dx[n,i] += dout[n,o] weight[o,i]`.
#[allow(clippy::too_many_arguments)]
pub fn linear_backward_input(kernels: &Kernels, way: Way, dx: &mut Buf, dout: &Buf, weight: &Buf, n: usize, i: usize, o: usize) {
    let kind = dout.kind();
    if n > 0 && linear_hopper::takes(way, kind, &[i, o]) {
        return linear_hopper::backward_input(kernels, dx, dout, weight, n, i, o);
    }
    let (method, tile) = match Tile::large(kind).is_enough(n, i) {
        true => ("linear_backward_input", Tile::large(kind)),
        false => ("linear_backward_input_small", Tile::small(kind)),
    };
    let call = kernels.call_with("linear", method, kind, tile.shared);
    call.out(dx).input(dout).input(weight).size(n).size(i).size(o).launch([tile.blocks(n, i), 1, 1], tile.threads);
}

/// `dweight[o,i] += dout[n,o]^T x[n,i]`.
#[allow(clippy::too_many_arguments)]
pub fn linear_backward_weight(kernels: &Kernels, way: Way, dweight: &mut Buf, dout: &Buf, x: &Buf, n: usize, i: usize, o: usize) {
    let kind = dout.kind();
    if n > 0 && linear_hopper::takes(way, kind, &[i, o]) {
        return linear_hopper::backward_weight(kernels, dweight, dout, x, n, i, o);
    }
    let (method, tile) = match Tile::large(kind).is_enough(o, i) {
        true => ("linear_backward_weight", Tile::large(kind)),
        false => ("linear_backward_weight_small", Tile::small(kind)),
    };
    let call = kernels.call_with("linear", method, kind, tile.shared);
    call.out_floats(dweight).input(dout).input(x).size(n).size(i).size(o).launch([tile.blocks(o, i), 1, 1], tile.threads);
}
