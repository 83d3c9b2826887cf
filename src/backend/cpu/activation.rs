//! Functions of one number, and SwiGLU (Shazeer 2020): out = silu(gate) up. Knows nothing of layers.
//!
//! 1. silu(x) = x s(x) with s(x) = 1 / (1 + exp(-x)); silu' = s (1 + x (1 - s)).
//! 2. gelu(x) = x Phi(x); gelu' = Phi(x) + x exp(-x^2/2) / sqrt(2 pi).
//! 3. The tanh form of gelu is x s(2u) with u = sqrt(2/pi) (x + 0.044715 x^3), for (1 + tanh u) / 2 = s(2u); its derivative is
//!    s + x s (1 - s) 2u'.
//! 4. Where a function has reached its limits, x is held at a bound, so that neither infinity times 0 nor an overflow makes NaN.
//! 5. Backward of SwiGLU: dup = dout silu(gate), dgate = dout up s (1 + gate (1 - s)).

use super::number::Number;
use super::simd::Simd;
use super::special::{Special, logistic, logistic_pair, normal, tanh, tanh_derivative};
use super::threads::{for_rows, matrix};
use crate::backend::Activation;

/// Elementary operations of one element.
const WORK: usize = 4;

/// Beyond it silu is 0 or x, in both precisions.
const SILU_LIMIT: f32 = 750.0;

/// Beyond it gelu, in both forms, is 0 or x, in both precisions.
const GELU_LIMIT: f32 = 40.0;

/// `out = activation(x)`.
pub fn activation<T: Special>(simd: Simd, out: &mut [T], x: &[T], activation: Activation) {
    match activation {
        Activation::Relu => map(simd, out, x, relu),
        Activation::Gelu => map(simd, out, x, gelu),
        Activation::GeluTanh => map(simd, out, x, gelu_tanh),
        Activation::Silu => map(simd, out, x, silu),
        Activation::Tanh => map(simd, out, x, tanh),
    }
}

/// `dx = dout * activation'(x)`.
pub fn activation_backward<T: Special>(simd: Simd, dx: &mut [T], dout: &[T], x: &[T], activation: Activation) {
    match activation {
        Activation::Relu => map_backward(simd, dx, dout, x, relu_derivative),
        Activation::Gelu => map_backward(simd, dx, dout, x, gelu_derivative),
        Activation::GeluTanh => map_backward(simd, dx, dout, x, gelu_tanh_derivative),
        Activation::Silu => map_backward(simd, dx, dout, x, silu_derivative),
        Activation::Tanh => map_backward(simd, dx, dout, x, tanh_derivative),
    }
}

/// `out = function(x)`, element by element; `function` is `#[inline(always)]`.
fn map<T: Number>(simd: Simd, out: &mut [T], x: &[T], function: impl Fn(T) -> T + Sync) {
    let n = out.len();
    for_rows(matrix(out, 1), n, WORK, |first, out| {
        simd.run(
            #[inline(always)]
            || out.data.iter_mut().zip(&x[first..]).for_each(|(out, &x)| *out = function(x)),
        );
    });
}

/// `dx = dout * derivative(x)`, element by element; `derivative` is `#[inline(always)]`.
fn map_backward<T: Number>(simd: Simd, dx: &mut [T], dout: &[T], x: &[T], derivative: impl Fn(T) -> T + Sync) {
    let n = dx.len();
    for_rows(matrix(dx, 1), n, WORK, |first, dx| {
        simd.run(
            #[inline(always)]
            || dx.data.iter_mut().zip(dout[first..].iter().zip(&x[first..])).for_each(|(dx, (&dout, &x))| *dx = dout * derivative(x)),
        );
    });
}

/// `x`, but no less than `-limit`.
#[inline(always)]
fn at_least<T: Number>(x: T, limit: f32) -> T {
    let limit = T::from_f32(-limit);
    if x < limit { limit } else { x }
}

/// `x`, but within `-limit` and `limit`.
#[inline(always)]
fn within<T: Number>(x: T, limit: f32) -> T {
    let (x, limit) = (at_least(x, limit), T::from_f32(limit));
    if x > limit { limit } else { x }
}

#[inline(always)]
fn relu<T: Number>(x: T) -> T {
    if x <= T::ZERO { T::ZERO } else { x }
}

#[inline(always)]
fn relu_derivative<T: Number>(x: T) -> T {
    let positive = if x > T::ZERO { T::ONE } else { x };
    if x <= T::ZERO { T::ZERO } else { positive }
}

#[inline(always)]
fn silu<T: Number>(x: T) -> T {
    let x = at_least(x, SILU_LIMIT);
    x * logistic_pair(x).0
}

#[inline(always)]
fn silu_derivative<T: Number>(x: T) -> T {
    let x = within(x, SILU_LIMIT);
    let (s, rest) = logistic_pair(x);
    s * x.mul_add(rest, T::ONE)
}

#[inline(always)]
fn gelu<T: Special>(x: T) -> T {
    at_least(x, GELU_LIMIT) * normal(x).0
}

#[inline(always)]
fn gelu_derivative<T: Special>(x: T) -> T {
    let (phi, bell) = normal(x);
    (within(x, GELU_LIMIT) * T::from_f64(0.398_942_280_401_432_7)).mul_add(bell, phi)
}

/// s(2u), 1 - s(2u) and 2u'.
#[inline(always)]
fn gelu_tanh_gate<T: Number>(x: T) -> (T, T, T) {
    let (x, factor) = (within(x, GELU_LIMIT), T::from_f64(2.0 * (2.0 / std::f64::consts::PI).sqrt()));
    let (cubic, square) = (T::from_f64(0.044_715), x * x);
    let (s, rest) = logistic_pair(factor * (x * square).mul_add(cubic, x));
    (s, rest, factor * (T::from_f64(3.0 * 0.044_715)).mul_add(square, T::ONE))
}

#[inline(always)]
fn gelu_tanh<T: Number>(x: T) -> T {
    at_least(x, GELU_LIMIT) * gelu_tanh_gate(x).0
}

#[inline(always)]
fn gelu_tanh_derivative<T: Number>(x: T) -> T {
    let (s, rest, slope) = gelu_tanh_gate(x);
    (within(x, GELU_LIMIT) * s * rest).mul_add(slope, s)
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
