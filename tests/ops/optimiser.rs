//! AdamW.

use posttrain::backend::AdamW;
use posttrain::backend::cpu::Cpu;
use posttrain::backend::prelude::*;

use super::{close, normals, oracle};

fn step(step: u64) -> AdamW {
    AdamW {
        learning_rate: 3e-2,
        beta1: 0.9,
        beta2: 0.98,
        epsilon: 1e-8,
        weight_decay: 0.1,
        step,
        gradient_scale: 0.5,
    }
}

/// Algorithm 2 of Loshchilov & Hutter, one number at a time.
fn formula(weight: &mut f64, first: &mut f64, second: &mut f64, gradient: f64, s: AdamW) {
    let g = gradient * s.gradient_scale;
    *first = s.beta1 * *first + (1.0 - s.beta1) * g;
    *second = s.beta2 * *second + (1.0 - s.beta2) * g * g;
    let first_hat = *first / (1.0 - s.beta1.powf(s.step as f64));
    let second_hat = *second / (1.0 - s.beta2.powf(s.step as f64));
    *weight -=
        s.learning_rate * (first_hat / (second_hat.sqrt() + s.epsilon) + s.weight_decay * *weight);
}

fn run<B: Backend>(b: &B, len: usize) -> [Vec<f64>; 3] {
    let (mut weight, mut first, mut second) =
        (b.upload_f64(&normals("weight", len)), b.zeros(len), b.zeros(len));
    for t in 1..=5 {
        let gradient = b.upload_f64(&normals(&format!("gradient {t}"), len));
        b.adamw(&mut weight, None, &mut first, &mut second, &gradient, step(t));
    }
    [weight, first, second].map(|x| b.download_f64(&x))
}

#[test]
fn five_steps_are_the_algorithm() {
    let len = 37;
    let mut expected = [normals("weight", len), vec![0.0; len], vec![0.0; len]];
    for t in 1..=5 {
        let gradient = normals(&format!("gradient {t}"), len);
        let [weight, first, second] = &mut expected;
        for at in 0..len {
            formula(&mut weight[at], &mut first[at], &mut second[at], gradient[at], step(t));
        }
    }
    // Double precision: rounding alone. Single: inputs rounded, then about ten roundings in each of
    // five steps.
    for (got, expected) in run(&oracle(), len).iter().zip(&expected) {
        close("f64", got, expected, 1e-13);
    }
    for (got, expected) in run(&Cpu::<f32>::new(), len).iter().zip(&expected) {
        close("f32", got, expected, 1e-6);
    }
}

#[test]
fn a_late_step_has_no_bias_correction_left() {
    let b = oracle();
    let (mut weight, mut first, mut second) = (vec![1.0], vec![0.2], vec![0.04]);
    b.adamw(
        &mut weight,
        None,
        &mut first,
        &mut second,
        &vec![0.4],
        AdamW { weight_decay: 0.0, ..step(u64::MAX) },
    );
    close("weight", &weight, &[1.0 - 3e-2 * 0.2 / (0.2 + 1e-8)], 1e-12);
}
