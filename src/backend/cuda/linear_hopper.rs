//! Launches kernels/linear_hopper.cu. Knows nothing of layers, nor when it is to be taken but for what it can take.

use super::buffer::{Buf, Type};
use super::kernels::Kernels;
use super::linear::Tile;
use super::products::Way;

/// A tile of 64 rows a consumer warp group.
const fn tile(groups: usize, columns: usize, stages: usize) -> Tile {
    let rows = 64 * groups;
    // A stage is 64 depths of both sides and two barriers.
    Tile { rows, columns, threads: 128 * (groups + 1), shared: stages * ((rows + columns) * 64 * 2 + 16) }
}

const LARGE: Tile = tile(2, 256, 4);
const SMALL: Tile = tile(2, 128, 6);
const FEW: Tile = tile(1, 32, 16);

/// Whether it is the way that was asked for, and the rows of all operands are whole pieces of 16 bytes.
pub fn takes(way: Way, kind: Type, widths: &[usize]) -> bool {
    way == Way::Hopper && kind == Type::Bf16 && widths.iter().all(|width| *width > 0 && width.is_multiple_of(8))
}

/// Large tiles where they leave less than a quarter of the device idle.
fn tile_for(kernels: &Kernels, rows: usize, columns: usize, names: [&'static str; 2]) -> (&'static str, Tile) {
    let enough = LARGE.blocks(rows, columns) * 4 >= kernels.device().multiprocessors * 3;
    if enough { (names[0], LARGE) } else { (names[1], SMALL) }
}

/// One block to a multiprocessor.
fn grid(kernels: &Kernels, tile: Tile, rows: usize, columns: usize) -> [usize; 3] {
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
