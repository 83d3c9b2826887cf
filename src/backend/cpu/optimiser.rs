//! AdamW (Loshchilov & Hutter 2019, algorithm 2). Independent of schedules, clipping rules and
//! parameter names.
//!
//! With g the scaled gradient: m = b1 m + (1-b1) g, v = b2 v + (1-b2) g^2, weight -= lr (m /
//! (1-b1^t) / (sqrt(v / (1-b2^t)) + eps) + wd weight).

use super::Cpu;
use super::number::Number;
use super::rows;
use super::simd::Simd;
use super::threads::{for_rows, matrix};
use crate::ops::{AdamW, OptimiserOps};

in_both_precisions! {
    impl OptimiserOps for Cpu<T> {
        fn adamw_unchecked(
            &self,
            master: &mut Vec<T>,
            copy: Option<&mut Vec<T>>,
            first: &mut Vec<T>,
            second: &mut Vec<T>,
            gradient: &Vec<T>,
            step: AdamW,
        ) {
            adamw(self.simd, master, first, second, gradient, step);
            if let Some(copy) = copy {
                rows::copy(copy, master);
            }
        }
    }
}

/// One step, in place.
fn adamw<T: Number>(
    simd: Simd,
    weight: &mut [T],
    first: &mut [T],
    second: &mut [T],
    gradient: &[T],
    step: AdamW,
) {
    let number = T::from_f64;
    let (beta1, rest1) = (number(step.beta1), number(1.0 - step.beta1));
    let (beta2, rest2) = (number(step.beta2), number(1.0 - step.beta2));
    let correction1 = number(1.0 / (1.0 - step.beta1_power()));
    let correction2 = number(1.0 / (1.0 - step.beta2_power()));
    let (epsilon, scale, rate) =
        (number(step.epsilon), number(step.gradient_scale), number(step.learning_rate));
    let keep = number(1.0 - step.learning_rate * step.weight_decay);
    let n = weight.len();
    for_rows(
        (matrix(weight, 1), matrix(first, 1), matrix(second, 1)),
        n,
        8,
        |start, (weight, first, second)| {
            simd.run(
                #[inline(always)]
                || {
                    let state = weight.data.iter_mut().zip(first.data).zip(second.data);
                    for (((weight, first), second), &gradient) in state.zip(&gradient[start..]) {
                        let g = gradient * scale;
                        *first = beta1.mul_add(*first, rest1 * g);
                        *second = beta2.mul_add(*second, rest2 * g * g);
                        let change =
                            *first * correction1 / ((*second * correction2).sqrt() + epsilon);
                        *weight = (-rate).mul_add(change, *weight * keep);
                    }
                },
            );
        },
    );
}
