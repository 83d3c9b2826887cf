//! SwiGLU (Shazeer 2020): out = silu(gate) up, silu(x) = x s(x), s(x) = 1 / (1 + exp(-x)). Knows nothing of layers.
//!
//! Backward: dup = dout silu(gate), dgate = dout up s (1 + gate (1 - s)).

use super::number::Number;
use super::simd::Simd;
use super::threads::{for_rows, matrix};

/// Elementary operations of one element.
const WORK: usize = 4;

#[inline(always)]
fn logistic<T: Number>(x: T) -> T {
    T::ONE / (T::ONE + (-x).exp())
}

/// `out = silu(gate) * up`.
pub fn swiglu<T: Number>(simd: Simd, out: &mut [T], gate: &[T], up: &[T]) {
    let n = out.len();
    for_rows(matrix(out, 1), n, WORK, |first, out| {
        simd.run(
            #[inline(always)]
            || {
                for ((out, &gate), &up) in out.data.iter_mut().zip(&gate[first..]).zip(&up[first..]) {
                    *out = gate * logistic(gate) * up;
                }
            },
        );
    });
}

/// `dgate`, `dup`.
pub fn swiglu_backward<T: Number>(simd: Simd, dgate: &mut [T], dup: &mut [T], dout: &[T], gate: &[T], up: &[T]) {
    let n = dgate.len();
    for_rows((matrix(dgate, 1), matrix(dup, 1)), n, 2 * WORK, |first, (dgate, dup)| {
        simd.run(
            #[inline(always)]
            || {
                let inputs = dout[first..].iter().zip(&gate[first..]).zip(&up[first..]);
                for ((dgate, dup), ((&dout, &gate), &up)) in dgate.data.iter_mut().zip(dup.data).zip(inputs) {
                    let s = logistic(gate);
                    *dup = dout * (gate * s);
                    *dgate = dout * up * s * gate.mul_add(T::ONE - s, T::ONE);
                }
            },
        );
    });
}
