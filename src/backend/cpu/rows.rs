//! Whole buffers and whole rows: add, sum of squares, embedding, gather, scatter. Independent of
//! the meaning of a row.

use super::Cpu;
use super::lanes;
use super::number::Number;
use super::simd::Simd;
use super::threads::{for_rows, matrix};
use crate::ops::RowOps;

in_both_precisions! {
    impl RowOps for Cpu<T> {
        fn embedding_backward_unchecked(
            &self,
            dtable: &mut Vec<T>,
            dout: &Vec<T>,
            ids: &[u32],
            d: usize,
        ) {
            scatter_add(self.simd, dtable, dout, ids, d);
        }

        fn gather_rows_unchecked(&self, out: &mut Vec<T>, x: &Vec<T>, rows: &[u32], d: usize) {
            gather(out, x, rows, d);
        }

        fn scatter_add_rows_unchecked(
            &self,
            dx: &mut Vec<T>,
            dout: &Vec<T>,
            rows: &[u32],
            d: usize,
        ) {
            scatter_add(self.simd, dx, dout, rows, d);
        }
    }
}

/// `out = x`.
pub fn copy<T: Number>(out: &mut [T], x: &[T]) {
    let n = out.len();
    for_rows(matrix(out, 1), n, 1, |first, out| {
        out.data.copy_from_slice(&x[first..][..out.data.len()])
    });
}

/// `out = value` everywhere.
pub fn fill<T: Number>(out: &mut [T], value: T) {
    let n = out.len();
    for_rows(matrix(out, 1), n, 1, |_, out| out.data.fill(value));
}

/// `out += x`.
pub fn add<T: Number>(simd: Simd, out: &mut [T], x: &[T]) {
    let n = out.len();
    for_rows(matrix(out, 1), n, 1, |first, out| {
        simd.run(
            #[inline(always)]
            || out.data.iter_mut().zip(&x[first..]).for_each(|(out, &x)| *out += x),
        );
    });
}

/// Sum of squares in double precision: pieces of a fixed size by lanes, the pieces in order.
pub fn sum_squares<T: Number>(simd: Simd, x: &[T]) -> f64 {
    const PIECE: usize = 1 << 15;
    let mut sums = vec![0.0; x.len().div_ceil(PIECE)];
    let n = sums.len();
    for_rows(matrix(&mut sums, 1), n, PIECE, |first, sums| {
        for (sum, x) in sums.data.iter_mut().zip(x[first * PIECE..].chunks(PIECE)) {
            *sum = simd.run(
                #[inline(always)]
                || lanes::sum_squares_f64(x),
            );
        }
    });
    sums.into_iter().sum()
}

/// `out[m,d] = x[rows[m],d]`.
pub fn gather<T: Number>(out: &mut [T], x: &[T], rows: &[u32], d: usize) {
    for_rows(matrix(out, d), rows.len(), d, |first, out| {
        for (out, &row) in out.data.chunks_exact_mut(d).zip(&rows[first..]) {
            out.copy_from_slice(&x[row as usize * d..][..d]);
        }
    });
}

/// `dx[rows[m],d] += dout[m,d]`, in row order for each row of `dx`: a thread owns rows of `dx` and
/// looks at all of `rows`.
pub fn scatter_add<T: Number>(simd: Simd, dx: &mut [T], dout: &[T], rows: &[u32], d: usize) {
    let n = dx.len() / d;
    let work = (rows.len() * d).div_ceil(n.max(1));
    for_rows(matrix(dx, d), n, work, |first, dx| {
        let owned = first..first + dx.data.len() / d;
        simd.run(
            #[inline(always)]
            || {
                for (m, &row) in rows.iter().enumerate() {
                    if owned.contains(&(row as usize)) {
                        let dx = &mut dx.data[(row as usize - first) * d..][..d];
                        dx.iter_mut().zip(&dout[m * d..][..d]).for_each(|(dx, &dout)| *dx += dout);
                    }
                }
            },
        );
    });
}

/// `sums[width] += ` the rows of `x[n,width]`, in row order.
pub fn add_rows<T: Number>(simd: Simd, sums: &mut [T], x: &[T], width: usize) {
    for_rows(matrix(sums, 1), width, x.len() / width.max(1), |first, sums| {
        simd.run(
            #[inline(always)]
            || {
                for x in x.chunks_exact(width) {
                    sums.data.iter_mut().zip(&x[first..]).for_each(|(sum, &x)| *sum += x);
                }
            },
        );
    });
}
