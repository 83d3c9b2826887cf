//! Launches kernels/linear.cu and kernels/linear_hopper.cu. Independent of
//! layers.
//!
//! 1. Which tile of a file computes an output changes no bits, so the choice may follow the shape
//!    and the device's size.
//! 2. A wide output is written by separate kernels, whose sums are the same: a stored one is a
//!    wide one, rounded.
//! 3. The two files may differ in bits, so which of them computes a layer follows the kind that was
//!    selected, the storage type and the layer's widths, never the rows.

use super::Cuda;
use super::activation::which;
use super::buffer::Buf;
use super::cublaslt::Library;
use super::gemm_selection::GemmKind;
use super::kernels::Kernels;
use super::linear_hopper;
use super::rows::add_rows;
use super::tiles::{Function, Names, Tile, is_wide};
use crate::DType;
use crate::ops::{
    Epilogue, Linear, LinearBackwardInput, LinearBackwardWeight, LinearOps, Projection,
    linear_in_passes,
};

impl LinearOps for Cuda {
    fn linear_unchecked(&self, layer: Linear<'_, Buf>) {
        // The library adds a bias of the output's storage type alone.
        let fits = layer.bias.is_none_or(|bias| bias.kind() == layer.out.kind());
        let sizes = [layer.n, layer.i, layer.o];
        match self.library_for(self.gemm.forward, sizes).filter(|_| fits) {
            Some(library) => library.linear(layer),
            None => linear(&self.kernels, self.gemm.forward, layer, None),
        }
    }

    fn linear_with_unchecked(&self, layer: Linear<'_, Buf>, epilogue: Epilogue<'_, Buf>) {
        match self.library_for(self.gemm.forward, [layer.n, layer.i, layer.o]) {
            // Of the library's own epilogues none rounds what is kept before the function.
            Some(_) => linear_in_passes(self, layer, epilogue),
            None => with(&self.kernels, self.gemm.forward, layer, epilogue),
        }
    }

    fn linears_unchecked(&self, layers: &mut [Projection<'_, Buf>], x: &Buf, n: usize, i: usize) {
        match <&mut [Projection<'_, Buf>; 3]>::try_from(&mut *layers) {
            Ok(three) if self.gemm.forward != GemmKind::Cublaslt => {
                several(&self.kernels, self.gemm.forward, three, x, n, i)
            }
            _ => layers.iter_mut().for_each(|layer| self.linear_unchecked(layer.of(x, n, i))),
        }
    }

    fn linear_backward_input_unchecked(&self, layer: LinearBackwardInput<'_, Buf>) {
        self.backward_input(layer, true);
    }

    fn linear_backward_input_first_unchecked(&self, layer: LinearBackwardInput<'_, Buf>) {
        self.backward_input(layer, false);
    }

    fn linear_backward_weight_unchecked(&self, layer: LinearBackwardWeight<'_, Buf>) {
        let LinearBackwardWeight { dweight, dbias, dout, x, n, i, o } = layer;
        let layer = LinearBackwardWeight { dweight, dbias: None, dout, x, n, i, o };
        match self.library_for(self.gemm.backward, [n, i, o]) {
            Some(library) => library.backward_weight(layer),
            None => backward_weight(&self.kernels, self.gemm.backward, layer),
        }
        if let Some(dbias) = dbias {
            add_rows(&self.kernels, dbias, dout, n, o);
        }
    }
}

impl Cuda {
    /// The library, where it is the kind; products without numbers are not given to it.
    fn library_for(&self, gemm: GemmKind, sizes: [usize; 3]) -> Option<&Library> {
        self.library.as_deref().filter(|_| gemm == GemmKind::Cublaslt && !sizes.contains(&0))
    }

    /// `dx[n,i] = dout[n,o] weight[o,i]`, and what `dx` holds where it `adds`.
    fn backward_input(&self, layer: LinearBackwardInput<'_, Buf>, adds: bool) {
        match self.library_for(self.gemm.backward, [layer.n, layer.i, layer.o]) {
            Some(library) => library.backward_input(layer, adds),
            None => backward_input(&self.kernels, self.gemm.backward, layer, adds),
        }
    }
}

/// As many blocks keep a device busy: fewer large tiles than this are cut into small ones.
const BUSY: usize = 128;
/// Rows up to which the tile of few rows reads the weights as fast as memory gives them.
const FEW: usize = 16;

const fn large(kind: DType) -> Tile {
    match kind {
        DType::F32 => Tile { rows: 128, columns: 128, threads: 256, shared: 0 },
        DType::Bf16 => {
            Tile { rows: 128, columns: 128, threads: 256, shared: 4 * (128 + 128) * 32 * 2 }
        }
    }
}

const fn small(kind: DType) -> Tile {
    match kind {
        DType::F32 => Tile { rows: 32, columns: 64, threads: 128, shared: 0 },
        DType::Bf16 => Tile { rows: 64, columns: 64, threads: 128, shared: 4 * (64 + 64) * 32 * 2 },
    }
}

const fn few() -> Tile {
    Tile { rows: FEW, columns: 32, threads: 128, shared: 6 * (16 + 32) * 128 * 2 }
}

/// Whether large tiles keep a device busy.
fn is_enough(kind: DType, rows: usize, widths: &[usize]) -> bool {
    large(kind).blocks_of(rows, widths) >= BUSY
}

const LINEAR: Names = ["linear", "linear_small", "linear_few"];
const WIDE: Names = ["linear_wide", "linear_wide_small", "linear_wide_few"];
const FUNCTION: Names = ["linear_function", "linear_function_small", "linear_function_few"];
const SEVERAL: Names = ["linear_several", "linear_several_small", "linear_several_few"];

/// The tile for outputs side by side.
fn tile_for(kind: DType, names: Names, n: usize, widths: &[usize]) -> (&'static str, Tile) {
    match kind {
        DType::Bf16 if n <= FEW => (names[2], few()),
        _ if is_enough(kind, n, widths) => (names[0], large(kind)),
        _ => (names[1], small(kind)),
    }
}

/// `out[n,o] = x[n,i] weight[o,i]^T + bias[o]`, and what `residual[n,o]` holds beside.
fn linear(kernels: &Kernels, gemm: GemmKind, layer: Linear<'_, Buf>, residual: Option<&Buf>) {
    let Linear { out, x, weight, bias, n, i, o } = layer;
    let (kind, wide) = (x.kind(), is_wide(out, x));
    assert!(!wide || residual.is_none(), "a sum with a residual is stored");
    if n > 0 && linear_hopper::takes(gemm, kind, &[i]) {
        let layer = Linear { out, x, weight, bias, n, i, o };
        return linear_hopper::linear(kernels, layer, residual);
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

/// Silu as swiglu has it.
const GATE: i32 = 5;

/// `out[n,o]`, what `epilogue` makes of `x[n,i] weight[o,i]^T + bias[o]`.
fn with(kernels: &Kernels, gemm: GemmKind, layer: Linear<'_, Buf>, epilogue: Epilogue<'_, Buf>) {
    let function = match epilogue {
        Epilogue::Add(residual) => {
            return linear(kernels, gemm, layer, Some(residual));
        }
        Epilogue::Activate { kept, activation } => {
            Function { which: which(activation), kept, factor: None }
        }
        Epilogue::Gate { kept, up } => Function { which: GATE, kept, factor: Some(up) },
    };
    let kind = layer.x.kind();
    if layer.n > 0 && linear_hopper::takes(gemm, kind, &[layer.i]) {
        return linear_hopper::function(kernels, layer, function);
    }
    let Linear { out, x, weight, bias, n, i, o } = layer;
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
fn several(
    kernels: &Kernels,
    gemm: GemmKind,
    layers: &mut [Projection<'_, Buf>; 3],
    x: &Buf,
    n: usize,
    i: usize,
) {
    let kind = x.kind();
    let widths = layers.each_ref().map(|layer| layer.width);
    if n > 0 && linear_hopper::takes(gemm, kind, &[i]) {
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
fn backward_input(
    kernels: &Kernels,
    gemm: GemmKind,
    layer: LinearBackwardInput<'_, Buf>,
    adds: bool,
) {
    let LinearBackwardInput { dx, dout, weight, n, i, o } = layer;
    let kind = dout.kind();
    if n > 0 && linear_hopper::takes(gemm, kind, &[i, o]) {
        let layer = LinearBackwardInput { dx, dout, weight, n, i, o };
        return linear_hopper::backward_input(kernels, layer, adds);
    }
    let (method, tile) = match is_enough(kind, n, &[i]) {
        true => ("linear_backward_input", large(kind)),
        false => ("linear_backward_input_small", small(kind)),
    };
    let call =
        kernels.call_with("linear", method, kind, tile.shared).out(dx).input(dout).input(weight);
    call.size(n)
        .size(i)
        .size(o)
        .integer(adds.into())
        .launch([tile.blocks(n, i), 1, 1], tile.threads);
}

/// `dweight[o,i] += dout[n,o]^T x[n,i]`, without a bias.
fn backward_weight(kernels: &Kernels, gemm: GemmKind, layer: LinearBackwardWeight<'_, Buf>) {
    let LinearBackwardWeight { dweight, dbias, dout, x, n, i, o } = layer;
    let kind = dout.kind();
    if n > 0 && linear_hopper::takes(gemm, kind, &[i, o]) {
        let layer = LinearBackwardWeight { dweight, dbias, dout, x, n, i, o };
        return linear_hopper::backward_weight(kernels, layer);
    }
    let (method, tile) = match is_enough(kind, o, &[i]) {
        true => ("linear_backward_weight", large(kind)),
        false => ("linear_backward_weight_small", small(kind)),
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
