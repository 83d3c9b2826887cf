//! Every operation of the back end, in both precisions: against independent formulas, finite
//! differences, and itself under other threads, instruction sets and batches. Shared here: inputs,
//! comparison, the gradient check.

mod activation;
mod attention;
mod cache;
mod invariance;
mod layer_norm;
mod linear;
pub mod loss;
mod norm;
mod optimiser;
mod pieces;
mod rotary;
mod rows;
mod sampling;
mod token;

use posttrain::backend::cpu::{Cpu, Level};
use posttrain::backend::prelude::*;
use posttrain::random::Stream;

/// Standard normal numbers, the same for the same name.
pub fn normals(name: &str, len: usize) -> Vec<f64> {
    let mut sequence = Stream::new(11, name).sequence(0);
    (0..len).map(|_| sequence.normal()).collect()
}

/// Integers below `limit`, the same for the same name.
pub fn below(name: &str, len: usize, limit: usize) -> Vec<u32> {
    let mut sequence = Stream::new(12, name).sequence(0);
    (0..len).map(|_| sequence.below(limit) as u32).collect()
}

/// The double-precision back end.
pub fn oracle() -> Cpu<f64> {
    Cpu::new()
}

/// A single-precision back end for each instruction set of this machine.
pub fn levels() -> Vec<(Level, Cpu<f32>)> {
    Level::available().into_iter().map(|level| (level, Cpu::with_level(level))).collect()
}

/// An output buffer full of what an operation that overwrites must not leave there.
pub fn dirty<B: Backend>(b: &B, len: usize) -> B::Buf {
    b.upload_f64(&vec![f64::NAN; len])
}

/// The bits of a buffer.
pub fn bits<B: Backend>(b: &B, x: &B::Buf) -> Vec<u64> {
    b.download_f64(x).into_iter().map(f64::to_bits).collect()
}

/// Greatest difference, as a share of the greatest magnitude expected.
pub fn difference(got: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let size = expected.iter().fold(0.0f64, |size, x| size.max(x.abs())).max(1e-300);
    // A maximum would skip NaN.
    got.iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs() / size)
        .fold(0.0, |worst, x| if x <= worst { worst } else { x })
}

/// Panics unless the difference is within `tolerance`.
#[track_caller]
pub fn close(what: &str, got: &[f64], expected: &[f64], tolerance: f64) {
    let difference = difference(got, expected);
    assert!(
        difference <= tolerance,
        "{what}: off by {difference:e} of the greatest magnitude, more than {tolerance:e}"
    );
}

/// What the five-point rule leaves, as a share of the greatest derivative: its own error is of
/// order step^4 = 1e-12, rounding adds epsilon / step = 2e-13, and losses here have derivatives up
/// to the fifth of order 10 to 1000.
pub const FINITE_DIFFERENCE: f64 = 1e-8;

/// Panics unless `gradient` is that of `loss` at `x`, by central differences of fourth order.
#[track_caller]
pub fn check_gradient(what: &str, gradient: &[f64], x: &[f64], loss: impl Fn(&[f64]) -> f64) {
    const STEP: f64 = 1e-3;
    let mut x = x.to_vec();
    let numeric: Vec<f64> = (0..x.len())
        .map(|at| {
            let centre = x[at];
            let mut moved = |by: f64| {
                x[at] = centre + by * STEP;
                let value = loss(&x);
                x[at] = centre;
                value
            };
            (8.0 * (moved(1.0) - moved(-1.0)) - (moved(2.0) - moved(-2.0))) / (12.0 * STEP)
        })
        .collect();
    assert!(
        numeric.iter().any(|x| x.abs() > 1e-3),
        "{what}: a loss that does not move checks nothing"
    );
    close(what, gradient, &numeric, FINITE_DIFFERENCE);
}

/// Sum of products: turns an output into a loss whose gradient is `weights`.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
