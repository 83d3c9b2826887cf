//! Functions of one number, and SwiGLU (Shazeer 2020): out = silu(gate) up. Independent of layers.
//!
//! 1. silu(x) = x s(x) with s(x) = 1 / (1 + exp(-x)); silu' = s (1 + x (1 - s)).
//! 2. gelu(x) = x Phi(x); gelu' = Phi(x) + x exp(-x^2/2) / sqrt(2 pi).
//! 3. The tanh form of gelu is x s(2u) with u = sqrt(2/pi) (x + 0.044715 x^3), for (1 + tanh u) / 2
//!    = s(2u); its derivative is s + x s (1 - s) 2u'.
//! 4. Where a function has reached its limits, x is held at a bound, so that neither infinity times
//!    0 nor an overflow makes NaN.
//! 5. Backward of SwiGLU: dup = dout silu(gate), dgate = dout up s (1 + gate (1 - s)).

use super::Cpu;
use super::number::Number;
use super::simd::Simd;
use super::special::{Special, logistic, logistic_pair, normal, tanh, tanh_derivative};
use super::threads::{for_rows, matrix};
use crate::ops::{Activation, ActivationOps};

in_both_precisions! {
    impl ActivationOps for Cpu<T> {
        fn activation_unchecked(&self, out: &mut Vec<T>, x: &Vec<T>, activation: Activation) {
            self::activation(self.simd, out, Some(x), activation);
        }

        fn activation_backward_unchecked(
            &self,
            dx: &mut Vec<T>,
            dout: &Vec<T>,
            x: &Vec<T>,
            activation: Activation,
        ) {
            activation_backward(self.simd, dx, dout, x, activation);
        }

        fn swiglu_unchecked(&self, out: &mut Vec<T>, gate: &Vec<T>, up: &Vec<T>) {
            swiglu(self.simd, out, Some(gate), up);
        }

        fn swiglu_backward_unchecked(
            &self,
            dgate: &mut Vec<T>,
            dup: &mut Vec<T>,
            dout: &Vec<T>,
            gate: &Vec<T>,
            up: &Vec<T>,
        ) {
            swiglu_backward(self.simd, dgate, dup, dout, gate, up);
        }
    }
}

/// Elementary operations of one element.
const WORK: usize = 4;

/// Beyond it silu is 0 or x, in both precisions.
const SILU_LIMIT: f32 = 750.0;

/// Beyond it gelu, in both forms, is 0 or x, in both precisions.
const GELU_LIMIT: f32 = 40.0;

/// One activation. Methods are `#[inline(always)]`; a trait and not two function values, whose
/// calls the compiler might not inline into a kernel.
trait Function {
    /// At `x`.
    fn value<T: Special>(x: T) -> T;
    /// At `x`.
    fn derivative<T: Special>(x: T) -> T;
}

/// `out = activation(x)`; of what `out` holds where there is no `x`.
pub fn activation<T: Special>(simd: Simd, out: &mut [T], x: Option<&[T]>, activation: Activation) {
    match activation {
        Activation::Relu => map::<Relu, T>(simd, out, x),
        Activation::Gelu => map::<Gelu, T>(simd, out, x),
        Activation::GeluTanh => map::<GeluTanh, T>(simd, out, x),
        Activation::Silu => map::<Silu, T>(simd, out, x),
        Activation::Tanh => map::<Tanh, T>(simd, out, x),
    }
}

/// `dx = dout * activation'(x)`.
fn activation_backward<T: Special>(
    simd: Simd,
    dx: &mut [T],
    dout: &[T],
    x: &[T],
    activation: Activation,
) {
    match activation {
        Activation::Relu => map_backward::<Relu, T>(simd, dx, dout, x),
        Activation::Gelu => map_backward::<Gelu, T>(simd, dx, dout, x),
        Activation::GeluTanh => map_backward::<GeluTanh, T>(simd, dx, dout, x),
        Activation::Silu => map_backward::<Silu, T>(simd, dx, dout, x),
        Activation::Tanh => map_backward::<Tanh, T>(simd, dx, dout, x),
    }
}

fn map<F: Function, T: Special>(simd: Simd, out: &mut [T], x: Option<&[T]>) {
    let n = out.len();
    for_rows(matrix(out, 1), n, WORK, |first, out| {
        simd.run(
            #[inline(always)]
            || match x {
                Some(x) => {
                    for (out, &x) in out.data.iter_mut().zip(&x[first..]) {
                        *out = F::value(x);
                    }
                }
                None => {
                    for x in out.data {
                        *x = F::value(*x);
                    }
                }
            },
        );
    });
}

fn map_backward<F: Function, T: Special>(simd: Simd, dx: &mut [T], dout: &[T], x: &[T]) {
    let n = dx.len();
    for_rows(matrix(dx, 1), n, WORK, |first, dx| {
        simd.run(
            #[inline(always)]
            || {
                for (dx, (&dout, &x)) in
                    dx.data.iter_mut().zip(dout[first..].iter().zip(&x[first..]))
                {
                    *dx = dout * F::derivative(x);
                }
            },
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

struct Relu;

impl Function for Relu {
    #[inline(always)]
    fn value<T: Special>(x: T) -> T {
        if x <= T::ZERO { T::ZERO } else { x }
    }
    #[inline(always)]
    fn derivative<T: Special>(x: T) -> T {
        let positive = if x > T::ZERO { T::ONE } else { x };
        if x <= T::ZERO { T::ZERO } else { positive }
    }
}

struct Silu;

impl Function for Silu {
    #[inline(always)]
    fn value<T: Special>(x: T) -> T {
        let x = at_least(x, SILU_LIMIT);
        x * logistic_pair(x).0
    }
    #[inline(always)]
    fn derivative<T: Special>(x: T) -> T {
        let x = within(x, SILU_LIMIT);
        let (s, rest) = logistic_pair(x);
        s * x.mul_add(rest, T::ONE)
    }
}

struct Gelu;

impl Function for Gelu {
    #[inline(always)]
    fn value<T: Special>(x: T) -> T {
        at_least(x, GELU_LIMIT) * normal(x).0
    }
    #[inline(always)]
    fn derivative<T: Special>(x: T) -> T {
        let (phi, bell) = normal(x);
        (within(x, GELU_LIMIT) * T::from_f64(0.398_942_280_401_432_7)).mul_add(bell, phi)
    }
}

struct GeluTanh;

impl GeluTanh {
    /// s(2u), 1 - s(2u) and 2u'.
    #[inline(always)]
    fn gate<T: Number>(x: T) -> (T, T, T) {
        let (x, factor) =
            (within(x, GELU_LIMIT), T::from_f64(2.0 * (2.0 / std::f64::consts::PI).sqrt()));
        let (cubic, square) = (T::from_f64(0.044_715), x * x);
        let (s, rest) = logistic_pair(factor * (x * square).mul_add(cubic, x));
        (s, rest, factor * (T::from_f64(3.0 * 0.044_715)).mul_add(square, T::ONE))
    }
}

impl Function for GeluTanh {
    #[inline(always)]
    fn value<T: Special>(x: T) -> T {
        at_least(x, GELU_LIMIT) * Self::gate(x).0
    }
    #[inline(always)]
    fn derivative<T: Special>(x: T) -> T {
        let (s, rest, slope) = Self::gate(x);
        (within(x, GELU_LIMIT) * s * rest).mul_add(slope, s)
    }
}

struct Tanh;

impl Function for Tanh {
    #[inline(always)]
    fn value<T: Special>(x: T) -> T {
        tanh(x)
    }
    #[inline(always)]
    fn derivative<T: Special>(x: T) -> T {
        tanh_derivative(x)
    }
}

/// `out = silu(gate) * up`; the gate is what `out` holds where there is none.
pub fn swiglu<T: Number>(simd: Simd, out: &mut [T], gate: Option<&[T]>, up: &[T]) {
    let n = out.len();
    for_rows(matrix(out, 1), n, WORK, |first, out| {
        simd.run(
            #[inline(always)]
            || match gate {
                Some(gate) => {
                    for ((out, &gate), &up) in
                        out.data.iter_mut().zip(&gate[first..]).zip(&up[first..])
                    {
                        *out = gate * logistic(gate) * up;
                    }
                }
                None => {
                    for (gate, &up) in out.data.iter_mut().zip(&up[first..]) {
                        *gate = *gate * logistic(*gate) * up;
                    }
                }
            },
        );
    });
}

/// `dgate`, `dup`.
fn swiglu_backward<T: Number>(
    simd: Simd,
    dgate: &mut [T],
    dup: &mut [T],
    dout: &[T],
    gate: &[T],
    up: &[T],
) {
    let n = dgate.len();
    for_rows((matrix(dgate, 1), matrix(dup, 1)), n, 2 * WORK, |first, (dgate, dup)| {
        simd.run(
            #[inline(always)]
            || {
                let inputs = dout[first..].iter().zip(&gate[first..]).zip(&up[first..]);
                for ((dgate, dup), ((&dout, &gate), &up)) in
                    dgate.data.iter_mut().zip(dup.data).zip(inputs)
                {
                    let s = logistic(gate);
                    *dup = dout * (gate * s);
                    *dgate = dout * up * s * gate.mul_add(T::ONE - s, T::ONE);
                }
            },
        );
    });
}
