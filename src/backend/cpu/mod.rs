//! The CPU back end, in single and in double precision: one file per family of operations, with the
//! back end's methods and the kernels. Independent of files, configs and clocks.
//!
//! Numerics, the same bits for every instruction set, thread count and batch composition:
//! 1. An element of a matrix product is one chain of fused multiply-adds over the contraction
//!    index, ascending, from 0 or from what the output holds. Blocking and vectors run across
//!    outputs, never along the chain.
//! 2. A sum along a row (norms, softmax) is sixteen lanes by index modulo 16 and a fixed tree
//!    (`lanes.rs`).
//! 3. A gradient of weights is a chain over rows in row order, continued from what the output
//!    holds; threads own columns.
//! 4. `exp` and `ln` are our own (`number.rs`), and so is what is made of them (`special.rs`).

/// Items in which `T` is the number, in both precisions. Not generic, so that every kernel is
/// compiled once, here, and not again in each program that uses it.
macro_rules! in_both_precisions {
    ($($items:tt)*) => {
        const _: () = {
            type T = f32;
            $($items)*
        };
        const _: () = {
            type T = f64;
            $($items)*
        };
    };
}

mod activation;
mod attention;
mod attention_backward;
mod buffers;
mod cache;
mod cached;
mod lanes;
mod layer_norm;
mod linear;
mod loss;
mod mask;
mod norm;
mod number;
mod optimiser;
mod plain;
mod pool;
mod rotary;
mod rows;
mod sampling;
mod scores;
mod scratch;
mod simd;
mod special;
mod threads;
mod tile;
mod token;
mod vector;

use std::marker::PhantomData;

pub use cache::Cache;
pub use number::Number;
pub use simd::Level;

use simd::Simd;

/// The version of what the kernels compute: raised whenever one of them gives another bit for the
/// same input. It is a part of the numerics class, and so of keys. `tests/structure/numerics.txt`
/// has a digest of the code at this version.
pub const KERNELS: u32 = 1;

/// The CPU, computing in `T`: `f32`, or `f64` as the oracle of gradient checks and other
/// precisions.
#[derive(Clone, Copy, Debug)]
pub struct Cpu<T> {
    simd: Simd,
    precision: PhantomData<T>,
}

impl<T: Number> Cpu<T> {
    /// With the best instruction set of this machine.
    #[expect(clippy::new_without_default)]
    pub fn new() -> Self {
        Cpu { simd: Simd::best(), precision: PhantomData }
    }

    /// With a given instruction set, for tests: results are the same bits. Panics where the machine
    /// lacks it.
    pub fn with_level(level: Level) -> Self {
        Cpu { simd: Simd::at(level), precision: PhantomData }
    }
}
