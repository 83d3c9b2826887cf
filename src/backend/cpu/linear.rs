//! The three matrix products of a linear layer: `x W^T + b`, `dout W` and `dout^T x`. Independent
//! of the layer's place in a model.
//!
//! 1. One routine: rows of the left side, in place where they are contiguous, times packed panels
//!    of the right side (`tile.rs`), in blocks of `DEPTH` so that a panel stays in the fastest
//!    cache, and of `COLUMNS` so that all panels stay in the second. Every block continues the
//!    chains of the one before from the output, so blocking changes no bits.
//! 2. Threads own rows of the output.
//! 3. Few rows of `x` (decoding): packing all of `W` would cost more than the product, so `x` is
//!    packed and `W` read in place, and the output is transposed at the end. The chains are the
//!    same: a product of two numbers does not depend on their order.

use super::Cpu;
use super::activation::{activation, swiglu};
use super::number::Number;
use super::rows::add_rows;
use super::scratch::Scratch;
use super::simd::{Kernel, Simd};
use super::threads::{for_pieces, for_rows, matrix};
use super::tile::{self, ACROSS, Panel};
use super::vector::Vector;
use crate::ops::{
    Epilogue, Linear, LinearBackwardInput, LinearBackwardWeight, LinearOps, linear_in_passes,
};

in_both_precisions! {
    impl LinearOps for Cpu<T> {
        fn linear_unchecked(&self, layer: Linear<'_, Vec<T>>) {
            linear(self.simd, layer);
        }

        fn linear_with_unchecked(
            &self,
            layer: Linear<'_, Vec<T>>,
            epilogue: Epilogue<'_, Vec<T>>,
        ) {
            let Linear { out, x, weight, bias, n, i, o } = layer;
            let layer = Linear { out: &mut *out, x, weight, bias, n, i, o };
            match epilogue {
                // A value that is not kept needs no separate memory.
                Epilogue::Activate { kept: None, activation: function } => {
                    linear(self.simd, layer);
                    activation(self.simd, out, None, function);
                }
                Epilogue::Gate { kept: None, up } => {
                    linear(self.simd, layer);
                    swiglu(self.simd, out, None, up);
                }
                epilogue => linear_in_passes(self, layer, epilogue),
            }
        }

        fn linear_backward_input_unchecked(&self, layer: LinearBackwardInput<'_, Vec<T>>) {
            let LinearBackwardInput { dx, dout, weight, n, i, o } = layer;
            backward_input(self.simd, dx, dout, weight, n, i, o);
        }

        fn linear_backward_weight_unchecked(&self, layer: LinearBackwardWeight<'_, Vec<T>>) {
            let LinearBackwardWeight { dweight, dbias, dout, x, n, i, o } = layer;
            backward_weight(self.simd, dweight, dout, x, n, i, o);
            if let Some(dbias) = dbias {
                add_rows(self.simd, dbias, dout, o);
            }
        }
    }
}

/// Depth of a block: a panel of it is 32 KiB in single precision.
const DEPTH: usize = 256;
/// Depth of a block of few columns, where reading the left side in long runs is what counts.
const LONG_DEPTH: usize = 1024;
/// Columns of a block.
const COLUMNS: usize = 1024;
/// Rows in a piece of work are a multiple of this: of every `M`.
const ROWS: usize = 24;

/// The layout of the left side `a[rows, depth]` in memory.
#[derive(Clone, Copy)]
enum Left<'a, T> {
    /// `[rows, stride]`, the depth contiguous.
    Rows(&'a [T], usize),
    /// `[depth, stride]`, the rows contiguous.
    Columns(&'a [T], usize),
}

/// The layout of the right side `b[depth, columns]` in memory.
#[derive(Clone, Copy)]
enum Right<'a, T> {
    /// `[depth, stride]`.
    Rows(&'a [T], usize),
    /// `[columns, stride]`: the transpose.
    Columns(&'a [T], usize),
}

/// What the chains of the output start from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Zero,
    Output,
}

/// `out[n,o] = x[n,i] weight[o,i]^T + bias[o]`.
fn linear<T: Number>(simd: Simd, layer: Linear<'_, Vec<T>>) {
    let Linear { out, x, weight, bias, n, i, o } = layer;
    if n * (i + o) < i * o {
        let mut transposed = Scratch::new(o * n);
        product(
            simd,
            &mut transposed,
            Left::Rows(weight, i),
            Right::Columns(x, i),
            o,
            n,
            i,
            From::Zero,
        );
        let transposed = &*transposed;
        for_rows(matrix(out, o), n, o, |first, out| {
            let rows = out.data.len() / o;
            simd.run(
                #[inline(always)]
                || tile::transpose(out.data, o, &transposed[first..], n, o, rows),
            );
        });
    } else {
        product(simd, out, Left::Rows(x, i), Right::Columns(weight, i), n, o, i, From::Zero);
    }
    if let Some(bias) = bias {
        for_rows(matrix(out, o), n, o, |_, out| {
            simd.run(
                #[inline(always)]
                || {
                    out.data.chunks_exact_mut(o).for_each(|out| {
                        out.iter_mut().zip(bias).for_each(|(out, &bias)| *out += bias)
                    })
                },
            );
        });
    }
}

/// `dx[n,i] += dout[n,o] weight[o,i]`.
fn backward_input<T: Number>(
    simd: Simd,
    dx: &mut [T],
    dout: &[T],
    weight: &[T],
    n: usize,
    i: usize,
    o: usize,
) {
    product(simd, dx, Left::Rows(dout, o), Right::Rows(weight, i), n, i, o, From::Output);
}

/// `dweight[o,i] += dout[n,o]^T x[n,i]`.
fn backward_weight<T: Number>(
    simd: Simd,
    dweight: &mut [T],
    dout: &[T],
    x: &[T],
    n: usize,
    i: usize,
    o: usize,
) {
    product(simd, dweight, Left::Columns(dout, o), Right::Rows(x, i), o, i, n, From::Output);
}

/// `c[rows, columns] = (0 or c) + a b`.
#[expect(clippy::too_many_arguments)]
fn product<T: Number>(
    simd: Simd,
    c: &mut [T],
    a: Left<'_, T>,
    b: Right<'_, T>,
    rows: usize,
    columns: usize,
    depth: usize,
    from: From,
) {
    if depth == 0 && from == From::Zero {
        c.fill(T::ZERO);
    }
    let lanes = simd.width::<T>();
    let most_depth = if columns <= ACROSS * lanes { LONG_DEPTH } else { DEPTH };
    for first_column in (0..columns).step_by(COLUMNS) {
        let block_columns = COLUMNS.min(columns - first_column);
        for first_depth in (0..depth).step_by(most_depth) {
            let block_depth = most_depth.min(depth - first_depth);
            let mut packed = Scratch::new(block_depth * tile::padded(block_columns, lanes));
            pack(simd, &mut packed, b, first_column, block_columns, first_depth, block_depth);
            let packed = &*packed;
            for_pieces(
                matrix(c, columns),
                rows,
                block_columns * block_depth / 16,
                ROWS,
                |first_row, c| {
                    let rows = c.data.len() / columns;
                    let (a, mut left) = match a {
                        Left::Rows(a, stride) => (
                            Left::Rows(&a[first_row * stride + first_depth..], stride),
                            Scratch::new(0),
                        ),
                        Left::Columns(a, stride) => {
                            let a = Left::Columns(&a[first_depth * stride + first_row..], stride);
                            (a, Scratch::new(rows.next_multiple_of(ROWS) * block_depth))
                        }
                    };
                    let from = if first_depth > 0 { From::Output } else { from };
                    simd.run_tiled(Block {
                        c: &mut c.data[first_column..],
                        c_stride: columns,
                        a,
                        left: &mut left,
                        packed,
                        rows,
                        columns: block_columns,
                        depth: block_depth,
                        from,
                    });
                },
            );
        }
    }
}

/// Packs a block of `b`.
fn pack<T: Number>(
    simd: Simd,
    packed: &mut [T],
    b: Right<'_, T>,
    first_column: usize,
    columns: usize,
    first_depth: usize,
    depth: usize,
) {
    let lanes = simd.width::<T>();
    let full = ACROSS * lanes;
    let pack = |packed: &mut [T], panel: Panel| {
        simd.run(
            #[inline(always)]
            || match b {
                Right::Rows(b, stride) => {
                    tile::pack(packed, &b[first_depth * stride + first_column..], stride, panel)
                }
                Right::Columns(b, stride) => tile::pack_transposed(
                    packed,
                    &b[first_column * stride + first_depth..],
                    stride,
                    depth,
                    panel,
                ),
            },
        )
    };
    // All panels but the last are full, so the packed matrix is cut into rows of one full panel
    // each and the last.
    let (whole, rest) = packed.split_at_mut(columns / full * depth * full);
    for_rows(matrix(whole, depth * full), columns / full, depth * full * 2, |first, panels| {
        for (at, packed) in (first..).zip(panels.data.chunks_exact_mut(depth * full)) {
            pack(packed, Panel { first: at * full, columns: full, width: full });
        }
    });
    if let Some(panel) = tile::panels(columns, lanes).last().filter(|panel| panel.columns < full) {
        pack(rest, panel);
    }
}

/// A piece of a product: `c = (0 or c) + a b` over one block of packed panels.
struct Block<'a, T> {
    /// `[rows, c_stride]`.
    c: &'a mut [T],
    c_stride: usize,
    /// From its first row and depth on.
    a: Left<'a, T>,
    /// Room for `a` packed, if it is stored by columns.
    left: &'a mut [T],
    packed: &'a [T],
    rows: usize,
    columns: usize,
    depth: usize,
    from: From,
}

impl<T: Number> Kernel<T> for Block<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<T>, const M: usize>(mut self, proof: V::Proof) {
        if let Left::Columns(a, stride) = self.a {
            tile::pack_left::<T, M>(self.left, a, stride, self.rows, self.depth);
        }
        for panel in tile::panels(self.columns, V::WIDTH) {
            match panel.width == V::WIDTH {
                true => self.panel::<V, M, 1>(proof, panel),
                false => self.panel::<V, M, ACROSS>(proof, panel),
            }
        }
    }
}

impl<T: Number> Block<'_, T> {
    #[inline(always)]
    fn panel<V: Vector<T>, const M: usize, const N: usize>(
        &mut self,
        proof: V::Proof,
        panel: Panel,
    ) {
        let b = &self.packed[panel.range(self.depth)];
        for row in (0..self.rows).step_by(M) {
            let rows = M.min(self.rows - row);
            let c = &mut self.c[row * self.c_stride + panel.first..];
            let sums = match self.from {
                From::Zero => [[V::splat(proof, T::ZERO); N]; M],
                From::Output => {
                    tile::load::<T, V, M, N>(proof, c, self.c_stride, rows, panel.columns)
                }
            };
            let sums = match self.a {
                Left::Rows(a, stride) => tile::tile(
                    proof,
                    sums,
                    tile::rows(a, row * stride, stride, rows, self.depth),
                    b,
                ),
                Left::Columns(..) => tile::tile_packed(
                    proof,
                    sums,
                    &self.left[row * self.depth..][..M * self.depth],
                    b,
                ),
            };
            tile::store(c, self.c_stride, rows, panel.columns, sums);
        }
    }
}
