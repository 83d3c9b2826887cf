//! Launches kernels/linear.cu and kernels/linear_hopper.cu. Knows nothing of layers.
//!
//! 1. Which tile of a file computes an output changes no bits, so the choice may follow the shape and the device's size.
//! 2. The two files may differ in bits, so which of them computes a layer follows the device, the storage type and the layer's widths, never the rows.

use super::buffer::{Buf, Type};
use super::kernels::Kernels;

/// Rows and columns of a block's tile, and its threads.
#[derive(Clone, Copy, Debug)]
struct Tile {
    rows: usize,
    columns: usize,
    threads: usize,
    shared: usize,
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

    fn blocks(self, rows: usize, columns: usize) -> usize {
        rows.div_ceil(self.rows) * columns.div_ceil(self.columns)
    }

    fn is_enough(self, rows: usize, columns: usize) -> bool {
        self.blocks(rows, columns) >= BUSY
    }
}

/// Tiles of kernels/linear_hopper.cu: rows and columns of a block's tile, its threads; the shared memory is that of its ring of stages.
mod hopper {
    use super::{Buf, Kernels, Tile, Type};

    const fn tile(groups: usize, columns: usize, stages: usize) -> Tile {
        let rows = 64 * groups;
        // A stage is 64 depths of both sides and two barriers.
        Tile { rows, columns, threads: 128 * (groups + 1), shared: stages * ((rows + columns) * 64 * 2 + 16) }
    }

    pub const LARGE: Tile = tile(2, 256, 4);
    pub const SMALL: Tile = tile(2, 128, 6);
    pub const FEW: Tile = tile(1, 32, 16);

    /// Whether the rows of all operands are whole pieces of 16 bytes, and the device has tensor copies.
    pub fn takes(kernels: &Kernels, kind: Type, widths: &[usize]) -> bool {
        kernels.is_hopper() && kind == Type::Bf16 && widths.iter().all(|width| *width > 0 && width.is_multiple_of(8))
    }

    /// Large tiles where they leave less than a quarter of the device idle.
    pub fn tile_for(kernels: &Kernels, rows: usize, columns: usize, names: [&'static str; 2]) -> (&'static str, Tile) {
        let enough = LARGE.blocks(rows, columns) * 4 >= kernels.device().multiprocessors * 3;
        if enough { (names[0], LARGE) } else { (names[1], SMALL) }
    }

    /// One block to a multiprocessor.
    pub fn grid(kernels: &Kernels, tile: Tile, rows: usize, columns: usize) -> [usize; 3] {
        [tile.blocks(rows, columns).min(kernels.device().multiprocessors), 1, 1]
    }

    /// `out[n,o] = x[n,i] weight[o,i]^T + bias[o]`.
    #[allow(clippy::too_many_arguments)]
    pub fn linear(kernels: &Kernels, out: &mut Buf, x: &Buf, weight: &Buf, bias: Option<&Buf>, n: usize, i: usize, o: usize) {
        let (method, tile) = match n <= FEW.rows {
            true => ("linear_hopper_few", FEW),
            false => tile_for(kernels, n, o, ["linear_hopper", "linear_hopper_small"]),
        };
        let call = kernels.call_with("linear_hopper", method, Type::Bf16, tile.shared).out(out);
        let call = call.matrix(x, n, i, tile.rows).matrix(weight, o, i, tile.columns).optional(bias);
        call.size(n).size(i).size(o).launch(grid(kernels, tile, n, o), tile.threads);
    }

    /// `dx[n,i] += dout[n,o] weight[o,i]`.
    pub fn backward_input(kernels: &Kernels, dx: &mut Buf, dout: &Buf, weight: &Buf, n: usize, i: usize, o: usize) {
        let (method, tile) = tile_for(kernels, n, i, ["linear_backward_input_hopper", "linear_backward_input_hopper_small"]);
        let call = kernels.call_with("linear_hopper", method, Type::Bf16, tile.shared).out(dx);
        let call = call.matrix(dout, n, o, tile.rows).matrix(weight, o, i, 64);
        call.size(n).size(i).size(o).launch(grid(kernels, tile, n, i), tile.threads);
    }

    /// `dweight[o,i] += dout[n,o]^T x[n,i]`.
    pub fn backward_weight(kernels: &Kernels, dweight: &mut Buf, dout: &Buf, x: &Buf, n: usize, i: usize, o: usize) {
        let (method, tile) = tile_for(kernels, o, i, ["linear_backward_weight_hopper", "linear_backward_weight_hopper_small"]);
        let call = kernels.call_with("linear_hopper", method, Type::Bf16, tile.shared).out_floats(dweight);
        let call = call.matrix(dout, n, o, 64).matrix(x, n, i, 64);
        call.size(n).size(i).size(o).launch(grid(kernels, tile, o, i), tile.threads);
    }
}

/// `out[n,o] = x[n,i] weight[o,i]^T + bias[o]`.
#[allow(clippy::too_many_arguments)]
pub fn linear(kernels: &Kernels, out: &mut Buf, x: &Buf, weight: &Buf, bias: Option<&Buf>, n: usize, i: usize, o: usize) {
    let kind = x.kind();
    if n > 0 && hopper::takes(kernels, kind, &[i]) {
        return hopper::linear(kernels, out, x, weight, bias, n, i, o);
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
pub fn linear_backward_input(kernels: &Kernels, dx: &mut Buf, dout: &Buf, weight: &Buf, n: usize, i: usize, o: usize) {
    let kind = dout.kind();
    if n > 0 && hopper::takes(kernels, kind, &[i, o]) {
        return hopper::backward_input(kernels, dx, dout, weight, n, i, o);
    }
    let (method, tile) = match Tile::large(kind).is_enough(n, i) {
        true => ("linear_backward_input", Tile::large(kind)),
        false => ("linear_backward_input_small", Tile::small(kind)),
    };
    let call = kernels.call_with("linear", method, kind, tile.shared);
    call.out(dx).input(dout).input(weight).size(n).size(i).size(o).launch([tile.blocks(n, i), 1, 1], tile.threads);
}

/// `dweight[o,i] += dout[n,o]^T x[n,i]`, `dbias[o] +=` the sum of the rows of `dout`.
#[allow(clippy::too_many_arguments)]
pub fn linear_backward_weight(
    kernels: &Kernels,
    dweight: &mut Buf,
    dbias: Option<&mut Buf>,
    dout: &Buf,
    x: &Buf,
    n: usize,
    i: usize,
    o: usize,
) {
    let kind = dout.kind();
    if n > 0 && hopper::takes(kernels, kind, &[i, o]) {
        hopper::backward_weight(kernels, dweight, dout, x, n, i, o);
    } else {
        let (method, tile) = match Tile::large(kind).is_enough(o, i) {
            true => ("linear_backward_weight", Tile::large(kind)),
            false => ("linear_backward_weight_small", Tile::small(kind)),
        };
        let call = kernels.call_with("linear", method, kind, tile.shared);
        call.out_floats(dweight).input(dout).input(x).size(n).size(i).size(o).launch([tile.blocks(o, i), 1, 1], tile.threads);
    }
    if let Some(dbias) = dbias {
        let call = kernels.call("linear", "linear_backward_bias", kind);
        call.out_floats(dbias).input(dout).size(n).size(o).over(o, 32, 256);
    }
}
