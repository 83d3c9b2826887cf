//! The register tile that every matrix product and attention is made of, and the packing of its
//! right-hand side. Independent of threads and of the meaning of the matrices.
//!
//! 1. `M` rows of the left side times a panel of `N` vectors' width of columns of the right side:
//!    `M * N` vectors of sums stay in registers over the whole depth, each lane one chain of fused
//!    multiply-adds in ascending order.
//! 2. The right side is packed into panels `[depth, N * WIDTH]`, so that it is read in one stream;
//!    the last panel is one vector wide where that is enough. Columns beyond the matrix hold zeros,
//!    and their sums are thrown away.
//! 3. The left side is read in place, by rows.

use std::ops::Range;

use super::vector::Vector;

/// Vectors across a full panel.
pub const ACROSS: usize = 2;

/// `sums + a b` for `a[M, depth]` by rows and a panel `b[depth, N * WIDTH]`.
// Registers are filled by loops, not by `array::map` or `array::from_fn`: a closure with a vector
// instruction must be inlined, which the language does not guarantee.
#[inline(always)]
pub fn tile<T: Copy + Default, V: Vector<T>, const M: usize, const N: usize>(
    proof: V::Proof,
    mut sums: [[V; N]; M],
    a: [&[T]; M],
    b: &[T],
) -> [[V; N]; M] {
    /// Depth of one step: the bounds of `a` are checked once a step.
    const STEP: usize = 4;
    let depth = b.len() / (N * V::WIDTH);
    let zeros = [V::splat(proof, T::default()); N];
    let mut whole: [&[[T; STEP]]; M] = [&[]; M];
    for r in 0..M {
        whole[r] = &a[r].as_chunks().0[..depth / STEP];
    }
    let mut steps = b.chunks_exact(STEP * N * V::WIDTH);
    for (at, b) in steps.by_ref().enumerate() {
        let mut a = [&whole[0][at]; M];
        for r in 1..M {
            a[r] = &whole[r][at];
        }
        for k in 0..STEP {
            let mut line = zeros;
            for v in 0..N {
                line[v] = V::load(proof, &b[(k * N + v) * V::WIDTH..]);
            }
            for r in 0..M {
                let x = V::splat(proof, a[r][k]);
                for v in 0..N {
                    sums[r][v] = x.mul_add(line[v], sums[r][v]);
                }
            }
        }
    }
    let mut rest: [&[T]; M] = [&[]; M];
    for r in 0..M {
        rest[r] = &a[r][depth / STEP * STEP..depth];
    }
    for (k, b) in steps.remainder().chunks_exact(N * V::WIDTH).enumerate() {
        for r in 0..M {
            let x = V::splat(proof, rest[r][k]);
            for v in 0..N {
                sums[r][v] = x.mul_add(V::load(proof, &b[v * V::WIDTH..]), sums[r][v]);
            }
        }
    }
    sums
}

/// The elements of a matrix `[rows, depth]` that take part in a product: of row r those from `r +
/// start` to before `r + end`.
#[derive(Clone, Copy, Debug)]
pub struct Band {
    /// Of row 0; may be before the first depth.
    pub start: isize,
    /// Of row 0; may be beyond the last depth.
    pub end: isize,
    /// Of the matrix.
    pub depth: usize,
}

impl Band {
    /// The depths of a row. Both ends rise with the row.
    #[inline(always)]
    pub fn range(self, row: usize) -> Range<usize> {
        let bound = |at: isize| (row as isize + at).clamp(0, self.depth as isize) as usize;
        bound(self.start)..bound(self.end)
    }

    /// Of the transposed matrix, for a matrix of `rows`.
    #[inline(always)]
    pub fn transposed(self, rows: usize) -> Band {
        Band { start: 1 - self.end, end: 1 - self.start, depth: rows }
    }

    /// Of the part of the matrix from row `row` and depth `first` on, `depth` deep.
    #[inline(always)]
    pub fn part(self, row: usize, first: usize, depth: usize) -> Band {
        let moved = row as isize - first as isize;
        Band { start: self.start + moved, end: self.end + moved, depth }
    }
}

/// [`tile`] where `rows` rows take part in the depths of a band. The rest of `a` may hold anything,
/// and the rest of `b` does not touch the row.
#[inline(always)]
pub fn banded<T: Copy + Default, V: Vector<T>, const M: usize, const N: usize>(
    proof: V::Proof,
    mut sums: [[V; N]; M],
    a: [&[T]; M],
    b: &[T],
    band: Band,
    rows: usize,
) -> [[V; N]; M] {
    let width = N * V::WIDTH;
    // What all rows share; before and after it, row by row.
    let (head, tail) = (band.range(0), band.range(rows - 1));
    let start = tail.start;
    let end = head.end.max(start);
    let mut shared = a;
    if start > 0 {
        for r in 0..M {
            shared[r] = &a[r][start..];
        }
        for r in 0..rows {
            let range = band.range(r);
            sums[r] = chain(
                proof,
                sums[r],
                &a[r][range.start..range.end.min(start)],
                &b[range.start * width..],
            );
        }
    }
    sums = tile(proof, sums, shared, &b[start * width..end * width]);
    if end < tail.end {
        let rest = &b[end * width..];
        for r in 0..rows {
            sums[r] = chain(proof, sums[r], &a[r][end..band.range(r).end.max(end)], rest);
        }
    }
    sums
}

/// One row of [`tile`], as deep as `a`.
#[inline(always)]
fn chain<T: Copy + Default, V: Vector<T>, const N: usize>(
    proof: V::Proof,
    mut sums: [V; N],
    a: &[T],
    b: &[T],
) -> [V; N] {
    for (&a, b) in a.iter().zip(b.chunks_exact(N * V::WIDTH)) {
        for v in 0..N {
            sums[v] = V::splat(proof, a).mul_add(V::load(proof, &b[v * V::WIDTH..]), sums[v]);
        }
    }
    sums
}

/// [`tile`] for `a[depth, M]` as [`pack_left`] packs it.
#[inline(always)]
pub fn tile_packed<T: Copy + Default, V: Vector<T>, const M: usize, const N: usize>(
    proof: V::Proof,
    mut sums: [[V; N]; M],
    a: &[T],
    b: &[T],
) -> [[V; N]; M] {
    let zeros = [V::splat(proof, T::default()); N];
    for (a, b) in a.as_chunks::<M>().0.iter().zip(b.chunks_exact(N * V::WIDTH)) {
        let mut line = zeros;
        for v in 0..N {
            line[v] = V::load(proof, &b[v * V::WIDTH..]);
        }
        for r in 0..M {
            let x = V::splat(proof, a[r]);
            for v in 0..N {
                sums[r][v] = x.mul_add(line[v], sums[r][v]);
            }
        }
    }
    sums
}

/// Packs `a[depth, rows]`, whose depths are `stride` apart, into tiles `[depth, M]` of `M` rows
/// each; missing rows are zeros.
#[inline(always)]
pub fn pack_left<T: Copy + Default, const M: usize>(
    packed: &mut [T],
    a: &[T],
    stride: usize,
    rows: usize,
    depth: usize,
) {
    let whole = rows / M;
    for k in 0..depth {
        let (tiles, rest) = a[k * stride..][..rows].as_chunks::<M>();
        for (at, tile) in tiles.iter().enumerate() {
            packed[(at * depth + k) * M..][..M].copy_from_slice(tile);
        }
        if !rest.is_empty() {
            let last = &mut packed[(whole * depth + k) * M..][..M];
            last.fill(T::default());
            last[..rest.len()].copy_from_slice(rest);
        }
    }
}

/// `M` rows of a matrix from `first` on, each `len` long; missing rows, after the first `rows`,
/// repeat the last.
#[inline(always)]
pub fn rows<T, const M: usize>(
    x: &[T],
    first: usize,
    stride: usize,
    rows: usize,
    len: usize,
) -> [&[T]; M] {
    let mut slices: [&[T]; M] = [&[]; M];
    for r in 0..M {
        slices[r] = &x[first + r.min(rows - 1) * stride..][..len];
    }
    slices
}

/// One panel of a packed matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panel {
    /// Its first column.
    pub first: usize,
    /// Columns of the matrix in it.
    pub columns: usize,
    /// Columns with those of zeros.
    pub width: usize,
}

impl Panel {
    /// Its offset in the packed matrix: all panels before it are full.
    pub fn range(&self, depth: usize) -> std::ops::Range<usize> {
        depth * self.first..depth * (self.first + self.width)
    }
}

/// The panels that overlap `columns`, a range of what `panels` are of.
pub fn within(
    panels: impl Iterator<Item = Panel>,
    columns: Range<usize>,
) -> impl Iterator<Item = Panel> {
    let Range { start, end } = columns;
    panels
        .skip_while(move |panel| panel.first + panel.width <= start)
        .take_while(move |panel| panel.first < end)
}

/// The panels of `columns` columns, for vectors of `lanes`.
pub fn panels(columns: usize, lanes: usize) -> impl Iterator<Item = Panel> + Clone {
    (0..columns).step_by(ACROSS * lanes).map(move |first| {
        let columns = (columns - first).min(ACROSS * lanes);
        Panel { first, columns, width: if columns <= lanes { lanes } else { ACROSS * lanes } }
    })
}

/// Columns with those of zeros.
pub fn padded(columns: usize, lanes: usize) -> usize {
    panels(columns, lanes).last().map_or(0, |panel| panel.first + panel.width)
}

/// Packs one panel of `b[depth, _]` whose rows are `stride` apart.
#[inline(always)]
pub fn pack<T: Copy + Default>(packed: &mut [T], b: &[T], stride: usize, panel: Panel) {
    match (panel.columns, panel.width) {
        (32, 32) => pack_full::<T, 32>(packed, b, stride, panel),
        (16, 16) => pack_full::<T, 16>(packed, b, stride, panel),
        (8, 8) => pack_full::<T, 8>(packed, b, stride, panel),
        _ => {
            for (k, packed) in packed.chunks_exact_mut(panel.width).enumerate() {
                let (data, zeros) = packed.split_at_mut(panel.columns);
                data.copy_from_slice(&b[k * stride + panel.first..][..panel.columns]);
                zeros.fill(T::default());
            }
        }
    }
}

/// [`pack`] for a panel of `W` columns without zeros: for a constant length the compiler emits no
/// call to copy.
#[inline(always)]
fn pack_full<T: Copy, const W: usize>(packed: &mut [T], b: &[T], stride: usize, panel: Panel) {
    for (k, packed) in packed.as_chunks_mut::<W>().0.iter_mut().enumerate() {
        packed.copy_from_slice(&b[k * stride + panel.first..][..W]);
    }
}

/// Packs one panel of the transpose of `b[_, depth]` whose rows are `stride` apart.
#[inline(always)]
pub fn pack_transposed<T: Copy + Default>(
    packed: &mut [T],
    b: &[T],
    stride: usize,
    depth: usize,
    panel: Panel,
) {
    if panel.columns < panel.width {
        packed.fill(T::default());
    }
    transpose(packed, panel.width, &b[panel.first * stride..], stride, panel.columns, depth);
}

/// `out[columns, rows] = x[rows, columns]^T`, whose rows are `out_stride` and `stride` apart.
#[inline(always)]
pub fn transpose<T: Copy + Default>(
    out: &mut [T],
    out_stride: usize,
    x: &[T],
    stride: usize,
    rows: usize,
    columns: usize,
) {
    /// A square of this side is read and written while it is in the fastest cache.
    const SIDE: usize = 8;
    let (whole_rows, whole_columns) = (rows / SIDE * SIDE, columns / SIDE * SIDE);
    for row in (0..whole_rows).step_by(SIDE) {
        for column in (0..whole_columns).step_by(SIDE) {
            let mut square = [[T::default(); SIDE]; SIDE];
            for r in 0..SIDE {
                square[r].copy_from_slice(&x[(row + r) * stride + column..][..SIDE]);
            }
            for c in 0..SIDE {
                let mut line = [T::default(); SIDE];
                for r in 0..SIDE {
                    line[r] = square[r][c];
                }
                out[(column + c) * out_stride + row..][..SIDE].copy_from_slice(&line);
            }
        }
    }
    for row in 0..rows {
        let rest = if row < whole_rows { whole_columns } else { 0 };
        for column in rest..columns {
            out[column * out_stride + row] = x[row * stride + column];
        }
    }
}

/// The sums of a tile as they are in memory at `c`, rows `stride` apart; zeros beyond `rows` and
/// `columns`.
#[inline(always)]
pub fn load<T: Copy + Default, V: Vector<T>, const M: usize, const N: usize>(
    proof: V::Proof,
    c: &[T],
    stride: usize,
    rows: usize,
    columns: usize,
) -> [[V; N]; M] {
    let mut sums = [[V::splat(proof, T::default()); N]; M];
    for r in 0..rows.min(M) {
        let c = &c[r * stride..][..columns];
        if columns == N * V::WIDTH {
            for v in 0..N {
                sums[r][v] = V::load(proof, &c[v * V::WIDTH..]);
            }
        } else {
            let mut line = [T::default(); 32];
            line[..columns].copy_from_slice(c);
            for v in 0..N {
                sums[r][v] = V::load(proof, &line[v * V::WIDTH..]);
            }
        }
    }
    sums
}

/// The sums of a tile into memory at `c`, rows `stride` apart, without what is beyond `rows` and
/// `columns`.
#[inline(always)]
pub fn store<T: Copy + Default, V: Vector<T>, const M: usize, const N: usize>(
    c: &mut [T],
    stride: usize,
    rows: usize,
    columns: usize,
    sums: [[V; N]; M],
) {
    for r in 0..rows.min(M) {
        let c = &mut c[r * stride..][..columns];
        if columns == N * V::WIDTH {
            for v in 0..N {
                sums[r][v].store(&mut c[v * V::WIDTH..]);
            }
        } else {
            let mut line = [T::default(); 32];
            for v in 0..N {
                sums[r][v].store(&mut line[v * V::WIDTH..]);
            }
            c.copy_from_slice(&line[..columns]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_cover_every_column_once_and_the_last_is_narrow_where_that_is_enough() {
        for lanes in [4, 8, 16] {
            for columns in 0..200 {
                let all: Vec<Panel> = panels(columns, lanes).collect();
                let mut next = 0;
                for panel in &all {
                    assert_eq!(panel.first, next);
                    assert!(
                        panel.columns > 0
                            && panel.columns <= panel.width
                            && panel.columns + lanes > panel.width
                    );
                    next += panel.columns;
                }
                assert_eq!(next, columns);
                let widths: usize = all.iter().map(|panel| panel.width).sum();
                assert_eq!(widths, padded(columns, lanes));
                assert!(
                    all.iter()
                        .rev()
                        .skip(1)
                        .all(|panel| panel.width == panel.columns && panel.width == ACROSS * lanes)
                );
            }
        }
    }

    #[test]
    fn packing_puts_every_element_in_its_place_and_zeros_beyond() {
        for (depth, columns) in [(1, 1), (3, 5), (8, 8), (9, 17), (20, 40), (33, 7)] {
            let b: Vec<f64> = (0..depth * columns).map(|at| at as f64 + 1.0).collect();
            let mut transposed = vec![f64::NAN; b.len()];
            transpose(&mut transposed, depth, &b, columns, depth, columns);
            for panel in panels(columns, 4) {
                let mut packed = vec![f64::NAN; depth * panel.width];
                let mut packed_transposed = packed.clone();
                pack(&mut packed, &b, columns, panel);
                pack_transposed(&mut packed_transposed, &transposed, depth, depth, panel);
                for (at, &x) in packed.iter().enumerate() {
                    let (k, column) = (at / panel.width, at % panel.width);
                    let expected = if column < panel.columns {
                        b[k * columns + panel.first + column]
                    } else {
                        0.0
                    };
                    assert_eq!((x, packed_transposed[at]), (expected, expected));
                }
            }
        }
    }
}
