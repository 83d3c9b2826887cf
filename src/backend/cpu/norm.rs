//! Root-mean-square normalisation (Zhang & Sennrich 2019). Independent of its place in a model.
//!
//! Forward: rstd = 1 / sqrt(mean(x^2) + epsilon), out = x rstd weight. Backward, with y = x rstd
//! and m = mean(weight dout y): dx += rstd (weight dout - y m), dweight += sum over rows of dout y.

use super::Cpu;
use super::lanes;
use super::number::Number;
use super::simd::Simd;
use super::threads::{for_rows, matrix};
use crate::ops::{NormOps, RmsNorm, RmsNormBackward};

in_both_precisions! {
    impl NormOps for Cpu<T> {
        fn rms_norm_unchecked(&self, norm: RmsNorm<'_, Vec<T>>) {
            let RmsNorm { out, rstd, x, weight, epsilon, .. } = norm;
            rms_norm(self.simd, out, rstd, x, weight, epsilon);
        }

        fn rms_norm_backward_unchecked(&self, norm: RmsNormBackward<'_, Vec<T>>) {
            let RmsNormBackward { dx, dweight, dout, x, weight, rstd, .. } = norm;
            rms_norm_backward(self.simd, dx, dout, x, weight, rstd);
            if let Some(dweight) = dweight {
                rms_norm_backward_weight(self.simd, dweight, dout, x, rstd);
            }
        }
    }
}

/// `out[n,d]`, `rstd[n]` from `x[n,d]`, `weight[d]`.
fn rms_norm<T: Number>(
    simd: Simd,
    out: &mut [T],
    rstd: &mut [T],
    x: &[T],
    weight: &[T],
    epsilon: f64,
) {
    let (n, d) = (rstd.len(), weight.len());
    let (epsilon, width) = (T::from_f64(epsilon), T::from_f64(d as f64));
    for_rows((matrix(out, d), matrix(rstd, 1)), n, 2 * d, |first, (out, rstd)| {
        simd.run(
            #[inline(always)]
            || {
                for ((out, rstd), x) in
                    out.data.chunks_exact_mut(d).zip(rstd.data).zip(x[first * d..].chunks_exact(d))
                {
                    let r = T::ONE / (lanes::dot(x, x) / width + epsilon).sqrt();
                    *rstd = r;
                    for ((out, &x), &weight) in out.iter_mut().zip(x).zip(weight) {
                        *out = x * r * weight;
                    }
                }
            },
        );
    });
}

/// `dx[n,d] +=`.
fn rms_norm_backward<T: Number>(
    simd: Simd,
    dx: &mut [T],
    dout: &[T],
    x: &[T],
    weight: &[T],
    rstd: &[T],
) {
    let (n, d) = (rstd.len(), weight.len());
    let width = T::from_f64(d as f64);
    for_rows(matrix(dx, d), n, 4 * d, |first, dx| {
        simd.run(
            #[inline(always)]
            || {
                let rows = dout[first * d..]
                    .chunks_exact(d)
                    .zip(x[first * d..].chunks_exact(d))
                    .zip(&rstd[first..]);
                for (dx, ((dout, x), &r)) in dx.data.chunks_exact_mut(d).zip(rows) {
                    let m = lanes::fold3(weight, dout, x, |sum, weight, dout, x| {
                        (weight * dout).mul_add(x * r, sum)
                    }) / width;
                    for (((dx, &dout), &x), &weight) in dx.iter_mut().zip(dout).zip(x).zip(weight) {
                        *dx += r * (x * r).mul_add(-m, weight * dout);
                    }
                }
            },
        );
    });
}

/// `dweight[d] +=`, in row order; threads own columns.
fn rms_norm_backward_weight<T: Number>(
    simd: Simd,
    dweight: &mut [T],
    dout: &[T],
    x: &[T],
    rstd: &[T],
) {
    let d = dweight.len();
    for_rows(matrix(dweight, 1), d, 2 * rstd.len(), |first, dweight| {
        simd.run(
            #[inline(always)]
            || {
                for ((dout, x), &r) in dout.chunks_exact(d).zip(x.chunks_exact(d)).zip(rstd) {
                    for ((dweight, &dout), &x) in
                        dweight.data.iter_mut().zip(&dout[first..]).zip(&x[first..])
                    {
                        *dweight = dout.mul_add(x * r, *dweight);
                    }
                }
            },
        );
    });
}
