//! Picks the instruction set once, at run time, and runs a kernel compiled for it. Independent of
//! what a kernel computes.
//!
//! A kernel is an `#[inline(always)]` closure over plain loops, or a [`Kernel`] over registers of a
//! given width: compiled into each of the functions below, it uses that function's instruction set.
//! Every operation in it is exactly rounded and in an order that the width does not change, so all
//! levels give the same bits.

use std::sync::OnceLock;

use super::number::Number;
use super::plain::{Always, Plain};
use super::vector::Vector;
#[cfg(target_arch = "x86_64")]
use super::vector::{HasAvx2, HasAvx512};

/// Instruction sets that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What the target guarantees.
    Baseline,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
}

impl Level {
    /// All levels of this machine, ascending.
    #[cfg(target_arch = "x86_64")]
    pub fn available() -> Vec<Level> {
        let mut levels = vec![Level::Baseline];
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            levels.push(Level::Avx2);
            let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
            if wide && is_x86_feature_detected!("avx512dq") && is_x86_feature_detected!("avx512vl")
            {
                levels.push(Level::Avx512);
            }
        }
        levels
    }

    /// All levels of this machine, ascending.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn available() -> Vec<Level> {
        vec![Level::Baseline]
    }
}

/// A computation over vectors `V`, in tiles of `M` rows: as many as the instruction set has
/// registers for.
pub trait Kernel<T> {
    /// What it gives back.
    type Output;
    /// Runs it. Implementations are `#[inline(always)]`.
    fn run<V: Vector<T>, const M: usize>(self, proof: V::Proof) -> Self::Output;
}

/// A [`Level`] that this machine has: the proof that its instructions may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Simd(Level);

impl Simd {
    /// The best of this machine.
    pub fn best() -> Simd {
        static LEVEL: OnceLock<Level> = OnceLock::new();
        Simd(
            *LEVEL
                .get_or_init(|| *Level::available().last().expect("the baseline is always there")),
        )
    }

    /// The given level. Panics where the machine lacks it.
    pub fn at(level: Level) -> Simd {
        assert!(Level::available().contains(&level), "this machine has no {level:?}");
        Simd(level)
    }

    /// Lanes of a [`Kernel`]'s vectors.
    pub fn width<T: Number>(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => T::Avx512::WIDTH,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => T::Avx2::WIDTH,
            _ => Plain::<T>::WIDTH,
        }
    }

    /// Runs `kernel`, an `#[inline(always)]` closure, compiled for the level.
    #[inline(always)]
    pub fn run<R>(self, kernel: impl FnOnce() -> R) -> R {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: only `best` and `at` make a `Simd`, of levels that the machine was found to
            // have.
            Level::Avx512 => unsafe { avx512(kernel) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Level::Avx2 => unsafe { avx2(kernel) },
            _ => kernel(),
        }
    }

    /// Runs `kernel` over the level's vectors.
    pub fn run_tiled<T: Number, K: Kernel<T>>(self, kernel: K) -> K::Output {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Level::Avx512 => unsafe { avx512_tiled(kernel, HasAvx512::promise()) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Level::Avx2 => unsafe { avx2_tiled(kernel, HasAvx2::promise()) },
            _ => kernel.run::<Plain<T>, 4>(Always),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn avx512<R>(kernel: impl FnOnce() -> R) -> R {
    kernel()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<R>(kernel: impl FnOnce() -> R) -> R {
    kernel()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn avx512_tiled<T: Number, K: Kernel<T>>(kernel: K, proof: HasAvx512) -> K::Output {
    kernel.run::<T::Avx512, 8>(proof)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2_tiled<T: Number, K: Kernel<T>>(kernel: K, proof: HasAvx2) -> K::Output {
    kernel.run::<T::Avx2, 6>(proof)
}
