//! Layer normalisation (Ba et al. 2016). Independent of its place in a model.
//!
//! Forward: mean and variance of a row in two passes (the second sums squares of deviations, so
//! that a mean that is large beside them costs no digits), rstd = 1 / sqrt(variance + epsilon), out
//! = (x - mean) rstd weight + bias. Backward, with y = (x - mean) rstd, g = weight dout: dx += rstd
//! (g - mean(g) - y mean(g y)), dweight += sum over rows of dout y, dbias += sum over rows of dout.

use super::Cpu;
use super::lanes;
use super::number::Number;
use super::rows::add_rows;
use super::simd::Simd;
use super::threads::{for_rows, matrix};
use crate::ops::{LayerNorm, LayerNormBackward, LayerNormOps};

in_both_precisions! {
    impl LayerNormOps for Cpu<T> {
        fn layer_norm_unchecked(&self, norm: LayerNorm<'_, Vec<T>>) {
            layer_norm(self.simd, norm);
        }

        fn layer_norm_backward_unchecked(&self, norm: LayerNormBackward<'_, Vec<T>>) {
            let LayerNormBackward { dx, dweight, dbias, dout, x, weight, mean, rstd, d, .. } = norm;
            layer_norm_backward(self.simd, dx, dout, x, weight, mean, rstd);
            if let Some(dweight) = dweight {
                layer_norm_backward_weight(self.simd, dweight, dout, x, mean, rstd);
            }
            if let Some(dbias) = dbias {
                add_rows(self.simd, dbias, dout, d);
            }
        }
    }
}

/// `out[n,d]`, `mean[n]`, `rstd[n]` from `x[n,d]`, `weight[d]`, `bias[d]`.
fn layer_norm<T: Number>(simd: Simd, norm: LayerNorm<'_, Vec<T>>) {
    let LayerNorm { out, mean, rstd, x, weight, bias, n, d, epsilon } = norm;
    let (epsilon, width) = (T::from_f64(epsilon), T::from_f64(d as f64));
    for_rows(
        (matrix(out, d), matrix(mean, 1), matrix(rstd, 1)),
        n,
        3 * d,
        |first, (out, mean, rstd)| {
            simd.run(
                #[inline(always)]
                || {
                    let statistics = mean.data.iter_mut().zip(rstd.data);
                    for ((out, (mean, rstd)), x) in out
                        .data
                        .chunks_exact_mut(d)
                        .zip(statistics)
                        .zip(x[first * d..].chunks_exact(d))
                    {
                        let m = lanes::sum(x) / width;
                        let squares =
                            lanes::fold3(x, x, x, |sum, x, _, _| (x - m).mul_add(x - m, sum));
                        let r = T::ONE / (squares / width + epsilon).sqrt();
                        (*mean, *rstd) = (m, r);
                        for ((out, &x), (&weight, &bias)) in
                            out.iter_mut().zip(x).zip(weight.iter().zip(bias))
                        {
                            *out = ((x - m) * r).mul_add(weight, bias);
                        }
                    }
                },
            );
        },
    );
}

/// `dx[n,d] +=`.
fn layer_norm_backward<T: Number>(
    simd: Simd,
    dx: &mut [T],
    dout: &[T],
    x: &[T],
    weight: &[T],
    mean: &[T],
    rstd: &[T],
) {
    let (n, d) = (rstd.len(), weight.len());
    let width = T::from_f64(d as f64);
    for_rows(matrix(dx, d), n, 6 * d, |first, dx| {
        simd.run(
            #[inline(always)]
            || {
                let rows = dout[first * d..].chunks_exact(d).zip(x[first * d..].chunks_exact(d));
                let statistics = mean[first..].iter().zip(&rstd[first..]);
                for ((dx, (dout, x)), (&m, &r)) in
                    dx.data.chunks_exact_mut(d).zip(rows).zip(statistics)
                {
                    let mean_g = lanes::dot(weight, dout) / width;
                    let mean_gy = lanes::fold3(weight, dout, x, |sum, weight, dout, x| {
                        (weight * dout).mul_add((x - m) * r, sum)
                    }) / width;
                    for (((dx, &dout), &x), &weight) in dx.iter_mut().zip(dout).zip(x).zip(weight) {
                        *dx += r * ((x - m) * r).mul_add(-mean_gy, weight.mul_add(dout, -mean_g));
                    }
                }
            },
        );
    });
}

/// `dweight[d] +=`, in row order; threads own columns.
fn layer_norm_backward_weight<T: Number>(
    simd: Simd,
    dweight: &mut [T],
    dout: &[T],
    x: &[T],
    mean: &[T],
    rstd: &[T],
) {
    let d = dweight.len();
    for_rows(matrix(dweight, 1), d, 2 * rstd.len(), |first, dweight| {
        simd.run(
            #[inline(always)]
            || {
                let statistics = mean.iter().zip(rstd);
                for ((dout, x), (&m, &r)) in
                    dout.chunks_exact(d).zip(x.chunks_exact(d)).zip(statistics)
                {
                    for ((dweight, &dout), &x) in
                        dweight.data.iter_mut().zip(&dout[first..]).zip(&x[first..])
                    {
                        *dweight = dout.mul_add((x - m) * r, *dweight);
                    }
                }
            },
        );
    });
}
