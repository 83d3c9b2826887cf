//! Matrix products.
use super::number::Number;
use super::simd::Simd;
use super::threads::{for_rows, matrix};

pub fn linear<T: Number>(_simd: Simd, out: &mut [T], x: &[T], weight: &[T], bias: Option<&[T]>, n: usize, i: usize, o: usize) {
    for_rows(matrix(out, o), n, i * o, |first, out| {
        for (out, x) in out.data.chunks_exact_mut(o).zip(x[first * i..].chunks_exact(i)) {
            for (at, out) in out.iter_mut().enumerate() {
                let sum = x.iter().zip(&weight[at * i..]).fold(T::ZERO, |sum, (&x, &w)| x.mul_add(w, sum));
                *out = bias.map_or(sum, |bias| sum + bias[at]);
            }
        }
    });
}

pub fn backward_input<T: Number>(_simd: Simd, dx: &mut [T], dout: &[T], weight: &[T], n: usize, i: usize, o: usize) {
    for_rows(matrix(dx, i), n, i * o, |first, dx| {
        for (dx, dout) in dx.data.chunks_exact_mut(i).zip(dout[first * o..].chunks_exact(o)) {
            for (&dout, weight) in dout.iter().zip(weight.chunks_exact(i)) {
                dx.iter_mut().zip(weight).for_each(|(dx, &w)| *dx = dout.mul_add(w, *dx));
            }
        }
    });
}

pub fn backward_weight<T: Number>(_simd: Simd, dweight: &mut [T], dout: &[T], x: &[T], n: usize, i: usize, o: usize) {
    for_rows(matrix(dweight, i), o, n * i, |first, dweight| {
        for (at, dweight) in (first..).zip(dweight.data.chunks_exact_mut(i)) {
            for row in 0..n {
                let dout = dout[row * o + at];
                dweight.iter_mut().zip(&x[row * i..]).for_each(|(dw, &x)| *dw = dout.mul_add(x, *dw));
            }
        }
    });
}
