//! Launches kernels/linear_hopper.cu. Knows the shapes that it takes; `linear.rs`
//! decides when to use it.

use super::buffer::Buf;
use super::gemm_selection::GemmKind;
use super::kernels::Kernels;
use super::tiles::{Function, Names, Tile, is_wide};
use crate::DType;
use crate::ops::{Linear, LinearBackwardInput, LinearBackwardWeight, Projection};

/// A tile of 64 rows a consumer warp group.
const fn tile(groups: usize, columns: usize, stages: usize) -> Tile {
    let rows = 64 * groups;
    // A stage is 64 depths of both sides and two barriers.
    Tile {
        rows,
        columns,
        threads: 128 * (groups + 1),
        shared: stages * ((rows + columns) * 64 * 2 + 16),
    }
}

const LARGE: Tile = tile(2, 256, 4);
const SMALL: Tile = tile(2, 128, 6);
const FEW: Tile = tile(1, 32, 16);

/// Whether it is the kind that was selected, and the rows of all operands are whole pieces of 16
/// bytes.
pub fn takes(gemm: GemmKind, kind: DType, widths: &[usize]) -> bool {
    gemm == GemmKind::Hopper
        && kind == DType::Bf16
        && widths.iter().all(|width| *width > 0 && width.is_multiple_of(8))
}

/// Large tiles where they leave less than a quarter of the device idle.
fn tile_for(
    kernels: &Kernels,
    rows: usize,
    widths: &[usize],
    [large, small]: [&'static str; 2],
) -> (&'static str, Tile) {
    let enough =
        LARGE.blocks_of(rows, widths) * 4 >= kernels.device().context().multiprocessors * 3;
    if enough { (large, LARGE) } else { (small, SMALL) }
}

/// The same, or the tile of few rows.
fn forward_tile(
    kernels: &Kernels,
    [large, small, few]: Names,
    n: usize,
    widths: &[usize],
) -> (&'static str, Tile) {
    if n <= FEW.rows { (few, FEW) } else { tile_for(kernels, n, widths, [large, small]) }
}

/// One block to a multiprocessor.
fn grid(kernels: &Kernels, tile: Tile, rows: usize, widths: &[usize]) -> [usize; 3] {
    [tile.blocks_of(rows, widths).min(kernels.device().context().multiprocessors), 1, 1]
}

const LINEAR: Names = ["linear_hopper", "linear_hopper_small", "linear_hopper_few"];
const WIDE: Names = ["linear_wide_hopper", "linear_wide_hopper_small", "linear_wide_hopper_few"];
const FUNCTION: Names =
    ["linear_function_hopper", "linear_function_hopper_small", "linear_function_hopper_few"];
const SEVERAL: Names =
    ["linear_several_hopper", "linear_several_hopper_small", "linear_several_hopper_few"];

/// `out[n,o] = x[n,i] weight[o,i]^T + bias[o]`, and what `residual[n,o]` holds beside.
pub fn linear(kernels: &Kernels, layer: Linear<'_, Buf>, residual: Option<&Buf>) {
    let Linear { out, x, weight, bias, n, i, o } = layer;
    let wide = is_wide(out, x);
    let (method, tile) = forward_tile(kernels, if wide { WIDE } else { LINEAR }, n, &[o]);
    let call = kernels.call_with("linear_hopper", method, DType::Bf16, tile.shared);
    let call = if wide { call.out_floats(out) } else { call.out(out) };
    let call = call.matrix(x, n, i, tile.rows).matrix(weight, o, i, tile.columns).optional(bias);
    let call = if wide { call } else { call.optional(residual) };
    call.size(n).size(i).size(o).launch(grid(kernels, tile, n, &[o]), tile.threads);
}

/// `out[n,o]`, a function of `x[n,i] weight[o,i]^T + bias[o]`.
pub fn function(kernels: &Kernels, layer: Linear<'_, Buf>, function: Function<'_>) {
    let Linear { out, x, weight, bias, n, i, o } = layer;
    let (method, tile) = forward_tile(kernels, FUNCTION, n, &[o]);
    let call = kernels
        .call_with("linear_hopper", method, DType::Bf16, tile.shared)
        .out(out)
        .optional_out(function.kept);
    let call = call
        .matrix(x, n, i, tile.rows)
        .matrix(weight, o, i, tile.columns)
        .optional(bias)
        .optional(function.factor);
    call.size(n)
        .size(i)
        .size(o)
        .integer(function.which)
        .launch(grid(kernels, tile, n, &[o]), tile.threads);
}

/// [`linear`] of the same `x[n,i]` by three layers.
pub fn several(
    kernels: &Kernels,
    layers: &mut [Projection<'_, Buf>; 3],
    x: &Buf,
    n: usize,
    i: usize,
) {
    let widths = layers.each_ref().map(|layer| layer.width);
    let (method, tile) = forward_tile(kernels, SEVERAL, n, &widths);
    let call = kernels.call_with("linear_hopper", method, DType::Bf16, tile.shared);
    let call =
        layers.iter_mut().fold(call, |call, layer| call.out(layer.out)).matrix(x, n, i, tile.rows);
    let call = layers
        .iter()
        .fold(call, |call, layer| call.matrix(layer.weight, layer.width, i, tile.columns));
    let call = layers.iter().fold(call, |call, layer| call.optional(layer.bias)).size(n).size(i);
    widths
        .into_iter()
        .fold(call, |call, width| call.size(width))
        .launch(grid(kernels, tile, n, &widths), tile.threads);
}

/// `dx[n,i] = dout[n,o] weight[o,i]`, and what `dx` holds where it `adds`.
pub fn backward_input(kernels: &Kernels, layer: LinearBackwardInput<'_, Buf>, adds: bool) {
    let LinearBackwardInput { dx, dout, weight, n, i, o } = layer;
    let (method, tile) = tile_for(
        kernels,
        n,
        &[i],
        ["linear_backward_input_hopper", "linear_backward_input_hopper_small"],
    );
    let call = kernels.call_with("linear_hopper", method, DType::Bf16, tile.shared).out(dx);
    let call = call.matrix(dout, n, o, tile.rows).matrix(weight, o, i, 64);
    call.size(n)
        .size(i)
        .size(o)
        .integer(adds.into())
        .launch(grid(kernels, tile, n, &[i]), tile.threads);
}

/// `dweight[o,i] += dout[n,o]^T x[n,i]`.
pub fn backward_weight(kernels: &Kernels, layer: LinearBackwardWeight<'_, Buf>) {
    let LinearBackwardWeight { dweight, dout, x, n, i, o, .. } = layer;
    let (method, tile) = tile_for(
        kernels,
        o,
        &[i],
        ["linear_backward_weight_hopper", "linear_backward_weight_hopper_small"],
    );
    let call =
        kernels.call_with("linear_hopper", method, DType::Bf16, tile.shared).out_floats(dweight);
    let call = call.matrix(dout, n, o, 64).matrix(x, n, i, 64);
    call.size(n).size(i).size(o).launch(grid(kernels, tile, o, &[i]), tile.threads);
}
