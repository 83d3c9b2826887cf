//! Launches kernels/linear.cu and kernels/linear_hopper.cu. Knows nothing of layers.
//!
//! 1. Which tile of a file computes an output changes no bits, so the choice may follow the shape
//!    and the device's size.
//! 2. A wide output is written by separate kernels, whose sums are the same: a stored one is a
//!    wide one, rounded.
//! 3. The two files may differ in bits, so which of them computes a layer follows the way that was
//!    asked for, the storage type and the layer's widths, never the rows.

use super::activation::which;
use super::buffer::{Buf, Type};
use super::kernels::Kernels;
use super::linear_hopper;
use super::products::Way;
use crate::{Epilogue, Projection};

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
            Type::Bf16 => {
                Tile { rows: 128, columns: 128, threads: 256, shared: 4 * (128 + 128) * 32 * 2 }
            }
        }
    }

    const fn small(kind: Type) -> Tile {
        match kind {
            Type::F32 => Tile { rows: 32, columns: 64, threads: 128, shared: 0 },
            Type::Bf16 => {
                Tile { rows: 64, columns: 64, threads: 128, shared: 4 * (64 + 64) * 32 * 2 }
            }
        }
    }

    const fn few() -> Tile {
        Tile { rows: FEW, columns: 32, threads: 128, shared: 6 * (16 + 32) * 128 * 2 }
    }

    /// How many of them cover an output.
    pub fn blocks(self, rows: usize, columns: usize) -> usize {
        rows.div_ceil(self.rows) * columns.div_ceil(self.columns)
    }

    /// How many of them cover several outputs side by side.
    pub fn blocks_of(self, rows: usize, widths: &[usize]) -> usize {
        widths.iter().map(|columns| self.blocks(rows, *columns)).sum()
    }

    fn is_enough(self, rows: usize, widths: &[usize]) -> bool {
        self.blocks_of(rows, widths) >= BUSY
    }
}

/// A forward kernel of large tiles, of small ones and of few rows.
pub type Names = [&'static str; 3];

const LINEAR: Names = ["linear", "linear_small", "linear_few"];
const WIDE: Names = ["linear_wide", "linear_wide_small", "linear_wide_few"];
const FUNCTION: Names = ["linear_function", "linear_function_small", "linear_function_few"];
const SEVERAL: Names = ["linear_several", "linear_several_small", "linear_several_few"];

/// The tile for outputs side by side.
fn tile_for(kind: Type, names: Names, n: usize, widths: &[usize]) -> (&'static str, Tile) {
    match kind {
        Type::Bf16 if n <= FEW => (names[2], Tile::few()),
        _ if Tile::large(kind).is_enough(n, widths) => (names[0], Tile::large(kind)),
        _ => (names[1], Tile::small(kind)),
    }
}

/// Whether sums are written as they are where the operands are rounded.
pub fn is_wide(out: &Buf, x: &Buf) -> bool {
    out.kind() == Type::F32 && x.kind() == Type::Bf16
}

/// `out[n,o] = x[n,i] weight[o,i]^T + bias[o]`, and what `residual[n,o]` holds beside.
#[expect(clippy::too_many_arguments)]
pub fn linear(
    kernels: &Kernels,
    way: Way,
    out: &mut Buf,
    x: &Buf,
    weight: &Buf,
    bias: Option<&Buf>,
    residual: Option<&Buf>,
    n: usize,
    i: usize,
    o: usize,
) {
    let (kind, wide) = (x.kind(), is_wide(out, x));
    assert!(!wide || residual.is_none(), "a sum with a residual is stored");
    if n > 0 && linear_hopper::takes(way, kind, &[i]) {
        return linear_hopper::linear(kernels, out, x, weight, bias, residual, n, i, o);
    }
    let (method, tile) = tile_for(kind, if wide { WIDE } else { LINEAR }, n, &[o]);
    let call = kernels.call_with("linear", method, kind, tile.shared);
    let call = if wide { call.out_floats(out) } else { call.out(out) }
        .input(x)
        .input(weight)
        .optional(bias);
    let call = if wide { call } else { call.optional(residual) };
    call.size(n).size(i).size(o).launch([tile.blocks(n, o), 1, 1], tile.threads);
}

/// What a kernel applies to a sum, what it keeps of it, and what it multiplies with, of an epilogue
/// that is a function.
pub struct Function<'a> {
    /// As kernels/functions.cuh numbers them.
    pub which: i32,
    /// The sum, stored.
    pub kept: Option<&'a mut Buf>,
    /// `[n,o]`.
    pub factor: Option<&'a Buf>,
}

/// Silu as swiglu has it.
const GATE: i32 = 5;

/// `out[n,o]`, what `epilogue` makes of `x[n,i] weight[o,i]^T + bias[o]`.
#[expect(clippy::too_many_arguments)]
pub fn with(
    kernels: &Kernels,
    way: Way,
    out: &mut Buf,
    x: &Buf,
    weight: &Buf,
    bias: Option<&Buf>,
    epilogue: Epilogue<'_, Buf>,
    n: usize,
    i: usize,
    o: usize,
) {
    let function = match epilogue {
        Epilogue::Add(residual) => {
            return linear(kernels, way, out, x, weight, bias, Some(residual), n, i, o);
        }
        Epilogue::Activate { kept, activation } => {
            Function { which: which(activation), kept, factor: None }
        }
        Epilogue::Gate { kept, up } => Function { which: GATE, kept, factor: Some(up) },
    };
    let kind = x.kind();
    if n > 0 && linear_hopper::takes(way, kind, &[i]) {
        return linear_hopper::function(kernels, out, x, weight, bias, function, n, i, o);
    }
    let (method, tile) = tile_for(kind, FUNCTION, n, &[o]);
    let call =
        kernels.call_with("linear", method, kind, tile.shared).out(out).optional_out(function.kept);
    let call = call.input(x).input(weight).optional(bias).optional(function.factor);
    call.size(n)
        .size(i)
        .size(o)
        .integer(function.which)
        .launch([tile.blocks(n, o), 1, 1], tile.threads);
}

/// [`linear`] of the same `x[n,i]` by three layers.
pub fn several(
    kernels: &Kernels,
    way: Way,
    layers: &mut [Projection<'_, Buf>; 3],
    x: &Buf,
    n: usize,
    i: usize,
) {
    let kind = x.kind();
    let widths = layers.each_ref().map(|layer| layer.width);
    if n > 0 && linear_hopper::takes(way, kind, &[i]) {
        return linear_hopper::several(kernels, layers, x, n, i);
    }
    let (method, tile) = tile_for(kind, SEVERAL, n, &widths);
    let call = kernels.call_with("linear", method, kind, tile.shared);
    let call = layers.iter_mut().fold(call, |call, layer| call.out(layer.out)).input(x);
    let call = layers.iter().fold(call, |call, layer| call.input(layer.weight));
    let call = layers.iter().fold(call, |call, layer| call.optional(layer.bias)).size(n).size(i);
    widths
        .into_iter()
        .fold(call, |call, width| call.size(width))
        .launch([tile.blocks_of(n, &widths), 1, 1], tile.threads);
}

/// `dx[n,i] = dout[n,o] weight[o,i]`, and what `dx` holds where it `adds`.
#[expect(clippy::too_many_arguments)]
pub fn linear_backward_input(
    kernels: &Kernels,
    way: Way,
    dx: &mut Buf,
    adds: bool,
    dout: &Buf,
    weight: &Buf,
    n: usize,
    i: usize,
    o: usize,
) {
    let kind = dout.kind();
    if n > 0 && linear_hopper::takes(way, kind, &[i, o]) {
        return linear_hopper::backward_input(kernels, dx, adds, dout, weight, n, i, o);
    }
    let (method, tile) = match Tile::large(kind).is_enough(n, &[i]) {
        true => ("linear_backward_input", Tile::large(kind)),
        false => ("linear_backward_input_small", Tile::small(kind)),
    };
    let call =
        kernels.call_with("linear", method, kind, tile.shared).out(dx).input(dout).input(weight);
    call.size(n)
        .size(i)
        .size(o)
        .integer(adds.into())
        .launch([tile.blocks(n, i), 1, 1], tile.threads);
}

/// `dweight[o,i] += dout[n,o]^T x[n,i]`.
#[expect(clippy::too_many_arguments)]
pub fn linear_backward_weight(
    kernels: &Kernels,
    way: Way,
    dweight: &mut Buf,
    dout: &Buf,
    x: &Buf,
    n: usize,
    i: usize,
    o: usize,
) {
    let kind = dout.kind();
    if n > 0 && linear_hopper::takes(way, kind, &[i, o]) {
        return linear_hopper::backward_weight(kernels, dweight, dout, x, n, i, o);
    }
    let (method, tile) = match Tile::large(kind).is_enough(o, &[i]) {
        true => ("linear_backward_weight", Tile::large(kind)),
        false => ("linear_backward_weight_small", Tile::small(kind)),
    };
    let call = kernels.call_with("linear", method, kind, tile.shared);
    call.out_floats(dweight)
        .input(dout)
        .input(x)
        .size(n)
        .size(i)
        .size(o)
        .launch([tile.blocks(o, i), 1, 1], tile.threads);
}
