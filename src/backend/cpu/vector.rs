//! Vectors of the instruction sets behind one trait, for the kernels where the shape of the
//! registers matters. Independent of the computation.
//!
//! A vector can only be made with a proof that the machine has its instruction set, so every method
//! is safe to call. The proofs are made by `simd.rs`, nowhere else.

/// Lanes of one register.
pub trait Vector<T>: Copy {
    /// Shows that the machine has the instruction set.
    type Proof: Copy;
    /// Lanes.
    const WIDTH: usize;
    /// `x` in every lane.
    fn splat(proof: Self::Proof, x: T) -> Self;
    /// The first `WIDTH` elements.
    fn load(proof: Self::Proof, from: &[T]) -> Self;
    /// Over the first `WIDTH` elements.
    fn store(self, to: &mut [T]);
    /// `self * a + b` with one rounding.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// Lane by lane.
    fn mul(self, a: Self) -> Self;
    /// Lane by lane.
    fn add(self, a: Self) -> Self;
}

#[cfg(target_arch = "x86_64")]
pub use x86::{HasAvx2, HasAvx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Vector;

    /// Shows that the machine has AVX2 and FMA.
    #[derive(Clone, Copy)]
    pub struct HasAvx2(());
    /// Shows that the machine has AVX-512 F.
    #[derive(Clone, Copy)]
    pub struct HasAvx512(());

    impl HasAvx2 {
        /// # Safety
        /// The machine must have AVX2 and FMA.
        pub unsafe fn promise() -> Self {
            HasAvx2(())
        }
    }

    impl HasAvx512 {
        /// # Safety
        /// The machine must have AVX-512 F.
        pub unsafe fn promise() -> Self {
            HasAvx512(())
        }
    }

    macro_rules! vector {
        ($vector:ty, $number:ty, $proof:ty, $width:literal, $set1:ident, $load:ident, $store:ident,
            $fma:ident, $mul:ident, $add:ident) => {
            impl Vector<$number> for $vector {
                type Proof = $proof;
                const WIDTH: usize = $width;
                #[inline(always)]
                fn splat(_: $proof, x: $number) -> Self {
                    // SAFETY: the proof shows that the instruction exists.
                    unsafe { $set1(x) }
                }
                #[inline(always)]
                fn load(_: $proof, from: &[$number]) -> Self {
                    let from = &from[..$width];
                    // SAFETY: the proof shows that the instruction exists, and the slice holds as
                    // many numbers as it reads.
                    unsafe { $load(from.as_ptr()) }
                }
                #[inline(always)]
                fn store(self, to: &mut [$number]) {
                    let to = &mut to[..$width];
                    // SAFETY: `self` was made with a proof, and the slice holds as many numbers as
                    // are written.
                    unsafe { $store(to.as_mut_ptr(), self) }
                }
                #[inline(always)]
                fn mul_add(self, a: Self, b: Self) -> Self {
                    // SAFETY: `self` was made with a proof.
                    unsafe { $fma(self, a, b) }
                }
                #[inline(always)]
                fn mul(self, a: Self) -> Self {
                    // SAFETY: `self` was made with a proof.
                    unsafe { $mul(self, a) }
                }
                #[inline(always)]
                fn add(self, a: Self) -> Self {
                    // SAFETY: `self` was made with a proof.
                    unsafe { $add(self, a) }
                }
            }
        };
    }

    vector!(
        __m256,
        f32,
        HasAvx2,
        8,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_fmadd_ps,
        _mm256_mul_ps,
        _mm256_add_ps
    );
    vector!(
        __m256d,
        f64,
        HasAvx2,
        4,
        _mm256_set1_pd,
        _mm256_loadu_pd,
        _mm256_storeu_pd,
        _mm256_fmadd_pd,
        _mm256_mul_pd,
        _mm256_add_pd
    );
    vector!(
        __m512,
        f32,
        HasAvx512,
        16,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_fmadd_ps,
        _mm512_mul_ps,
        _mm512_add_ps
    );
    vector!(
        __m512d,
        f64,
        HasAvx512,
        8,
        _mm512_set1_pd,
        _mm512_loadu_pd,
        _mm512_storeu_pd,
        _mm512_fmadd_pd,
        _mm512_mul_pd,
        _mm512_add_pd
    );
}
