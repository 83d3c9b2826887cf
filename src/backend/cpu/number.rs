//! The two precisions of the CPU back end behind one trait, with our own `exp` and `ln`.
//! Independent of shapes and threads.
//!
//! 1. `exp` and `ln` are sequences of exactly rounded operations (add, multiply, fused
//!    multiply-add, integer shifts), so that they vectorise and give the same bits on every
//!    instruction set and every C library.
//! 2. `exp`: x = k ln 2 + r with |r| <= ln(2)/2, a polynomial in r, then two multiplications by
//!    powers of two (two, so that results overflow to infinity). Where the result would be
//!    subnormal it is 0: subnormal numbers take processors a hundred times as long, and softmax
//!    makes many. NaN stays NaN.
//! 3. `ln`: x = 2^k m with m in [sqrt(1/2), sqrt(2)), ln m = 2 atanh((m-1)/(m+1)) as a series;
//!    always in double precision.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m256d, __m512, __m512d};
use std::cell::RefCell;
use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};
use std::thread::LocalKey;

#[cfg(target_arch = "x86_64")]
use super::vector::{HasAvx2, HasAvx512, Vector};

/// Buffers of one thread that wait for their next use (`scratch.rs`).
pub type Pool<T> = LocalKey<RefCell<Vec<Vec<T>>>>;

/// A floating-point type that the back end computes in.
pub trait Number:
    Copy
    + Default
    + Debug
    + PartialOrd
    + Send
    + Sync
    + 'static
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
{
    /// Vectors of AVX2.
    #[cfg(target_arch = "x86_64")]
    type Avx2: Vector<Self, Proof = HasAvx2>;
    /// Vectors of AVX-512.
    #[cfg(target_arch = "x86_64")]
    type Avx512: Vector<Self, Proof = HasAvx512>;
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Below every number.
    const NEG_INFINITY: Self;
    /// Rounded to nearest.
    fn from_f64(x: f64) -> Self;
    /// Exact.
    fn from_f32(x: f32) -> Self;
    /// Exact; the same memory where it is the same type.
    fn from_f32s(x: Vec<f32>) -> Vec<Self>;
    /// Exact.
    fn to_f64(self) -> f64;
    /// Rounded to nearest.
    fn to_f32(self) -> f32;
    /// `self * a + b` with one rounding, on every instruction set.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// Exactly rounded.
    fn sqrt(self) -> Self;
    /// The exponential function, within two units in the last place; 0 where it would be subnormal.
    fn exp(self) -> Self;
    /// The natural logarithm, within two units in the last place; of a positive, finite, normal
    /// number, or NaN.
    fn ln(self) -> Self;
    /// This thread's idle buffers.
    fn pool() -> &'static Pool<Self>;
}

impl Number for f32 {
    #[cfg(target_arch = "x86_64")]
    type Avx2 = __m256;
    #[cfg(target_arch = "x86_64")]
    type Avx512 = __m512;
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const NEG_INFINITY: Self = f32::NEG_INFINITY;
    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        x as f32
    }
    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        x
    }
    fn from_f32s(x: Vec<f32>) -> Vec<Self> {
        x
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        f32::mul_add(self, a, b)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }
    #[inline(always)]
    fn exp(self) -> Self {
        /// Just above ln of the least normal number.
        const LEAST: f32 = -87.336;
        /// Adding and taking away 1.5 * 2^23 rounds to the nearest integer, which is then in the
        /// low bits.
        const ROUND: f32 = 12_582_912.0;
        // ln 2 in two parts; the first has trailing zeros enough for k * LN2_HIGH to be exact.
        const LN2_HIGH: f32 = 0.693_359_4;
        const LN2_LOW: f32 = -2.121_944_4e-4;
        let low = if self < LEAST { LEAST } else { self };
        let x = if low > 89.0 { 89.0 } else { low };
        let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
        let k = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
        let whole = shifted - ROUND;
        let r = (-whole).mul_add(LN2_LOW, (-whole).mul_add(LN2_HIGH, x));
        let mut sum = 1.0 / 5040.0f32;
        sum = sum.mul_add(r, 1.0 / 720.0);
        sum = sum.mul_add(r, 1.0 / 120.0);
        sum = sum.mul_add(r, 1.0 / 24.0);
        sum = sum.mul_add(r, 1.0 / 6.0);
        sum = sum.mul_add(r, 0.5);
        sum = (sum * r).mul_add(r, r) + 1.0;
        let half = k >> 1;
        let first = f32::from_bits((half.wrapping_add(127) as u32) << 23);
        let second = f32::from_bits((k.wrapping_sub(half).wrapping_add(127) as u32) << 23);
        if self < LEAST { 0.0 } else { sum * first * second }
    }
    #[inline(always)]
    fn ln(self) -> Self {
        ln(f64::from(self)) as f32
    }
    fn pool() -> &'static Pool<Self> {
        thread_local!(static POOL: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) });
        &POOL
    }
}

impl Number for f64 {
    #[cfg(target_arch = "x86_64")]
    type Avx2 = __m256d;
    #[cfg(target_arch = "x86_64")]
    type Avx512 = __m512d;
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const NEG_INFINITY: Self = f64::NEG_INFINITY;
    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        x
    }
    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        f64::from(x)
    }
    fn from_f32s(x: Vec<f32>) -> Vec<Self> {
        x.into_iter().map(f64::from).collect()
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self as f32
    }
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        f64::mul_add(self, a, b)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    #[inline(always)]
    fn exp(self) -> Self {
        /// Just above ln of the least normal number.
        const LEAST: f64 = -708.396;
        /// Adding and taking away 1.5 * 2^52 rounds to the nearest integer, which is then in the
        /// low bits.
        const ROUND: f64 = 6_755_399_441_055_744.0;
        // ln 2 in two parts; the first has trailing zeros enough for k * LN2_HIGH to be exact.
        const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
        const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
        let low = if self < LEAST { LEAST } else { self };
        let x = if low > 710.0 { 710.0 } else { low };
        let shifted = x.mul_add(std::f64::consts::LOG2_E, ROUND);
        let k = (shifted.to_bits() as i64).wrapping_sub(ROUND.to_bits() as i64);
        let whole = shifted - ROUND;
        let r = (-whole).mul_add(LN2_LOW, (-whole).mul_add(LN2_HIGH, x));
        let mut sum = 1.0 / 6_227_020_800.0f64;
        sum = sum.mul_add(r, 1.0 / 479_001_600.0);
        sum = sum.mul_add(r, 1.0 / 39_916_800.0);
        sum = sum.mul_add(r, 1.0 / 3_628_800.0);
        sum = sum.mul_add(r, 1.0 / 362_880.0);
        sum = sum.mul_add(r, 1.0 / 40_320.0);
        sum = sum.mul_add(r, 1.0 / 5_040.0);
        sum = sum.mul_add(r, 1.0 / 720.0);
        sum = sum.mul_add(r, 1.0 / 120.0);
        sum = sum.mul_add(r, 1.0 / 24.0);
        sum = sum.mul_add(r, 1.0 / 6.0);
        sum = sum.mul_add(r, 0.5);
        sum = (sum * r).mul_add(r, r) + 1.0;
        // k / 2 without an arithmetic shift of 64 bits, which AVX2 lacks: k is in -1022..=1025, so
        // 2048 makes it positive.
        let half = ((k.wrapping_add(2048) as u64 >> 1) as i64).wrapping_sub(1024);
        let first = f64::from_bits((half.wrapping_add(1023) as u64) << 52);
        let second = f64::from_bits((k.wrapping_sub(half).wrapping_add(1023) as u64) << 52);
        if self < LEAST { 0.0 } else { sum * first * second }
    }
    #[inline(always)]
    fn ln(self) -> Self {
        ln(self)
    }
    fn pool() -> &'static Pool<Self> {
        thread_local!(static POOL: RefCell<Vec<Vec<f64>>> = const { RefCell::new(Vec::new()) });
        &POOL
    }
}

/// The natural logarithm of a positive, finite, normal number; NaN of NaN.
#[inline(always)]
fn ln(x: f64) -> f64 {
    const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    let exponent = f64::from((x.to_bits() >> 52) as i32 - 1023);
    let mantissa = f64::from_bits(x.to_bits() & 0x000F_FFFF_FFFF_FFFF | 0x3FF0_0000_0000_0000);
    let halve = mantissa > std::f64::consts::SQRT_2;
    let k = if halve { exponent + 1.0 } else { exponent };
    let f = if halve { mantissa * 0.5 } else { mantissa } - 1.0;
    let s = f / (2.0 + f);
    let square = s * s;
    // 2 atanh(s) = 2s + s * (2/3 s^2 + 2/5 s^4 + …) = f - s * (f - rest), which keeps the digits of
    // f.
    let mut rest = 0.0;
    for odd in [25.0, 23.0, 21.0, 19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0] {
        rest = (rest + 2.0 / odd) * square;
    }
    let half_square = 0.5 * f * f;
    let result = k * LN2_HIGH - ((half_square - (s * (half_square + rest) + k * LN2_LOW)) - f);
    if x.is_nan() { x } else { result }
}

#[cfg(test)]
mod tests {
    use super::Number;

    /// Distance in units in the last place between a result in f32 and the exact value.
    fn ulps(got: f32, exact: f64) -> f64 {
        let spacing = f64::from(f32::from_bits((exact as f32).abs().to_bits() + 1))
            - f64::from((exact as f32).abs());
        (f64::from(got) - exact).abs() / spacing
    }

    #[test]
    fn exp_of_f32_is_within_two_ulps_over_its_whole_range() {
        let worst = (-87_336..88_700)
            .map(|i| i as f32 * 1e-3 + 1.7e-4)
            .map(|x| ulps(Number::exp(x), f64::from(x).exp()))
            .fold(0.0, f64::max);
        assert!(worst <= 2.0, "{worst} ulps");
    }

    #[test]
    fn exp_of_f64_agrees_with_the_standard_library_to_two_ulps() {
        for i in -7_083_960..7_090_000i64 {
            if i % 37 != 0 {
                continue;
            }
            let x = i as f64 * 1e-4 + 3e-6;
            let (got, exact) = (Number::exp(x), x.exp());
            assert!(
                (got - exact).abs() <= 2.0 * f64::EPSILON * exact,
                "exp({x}) = {got}, not {exact}"
            );
        }
    }

    #[test]
    fn ln_agrees_with_the_standard_library_to_two_ulps() {
        for i in 1..200_000u32 {
            for x in [
                f64::from(i) * 1e-4,
                f64::from(i) * 1e20,
                1.0 / f64::from(i) / f64::from(i),
                1.0 + f64::from(i) * 1e-14,
            ] {
                let (got, exact) = (Number::ln(x), x.ln());
                assert!(
                    (got - exact).abs() <= 2.0 * f64::EPSILON * exact.abs(),
                    "ln({x}) = {got}, not {exact}"
                );
            }
        }
    }

    #[test]
    fn exp_has_the_limits_of_the_exponential_function() {
        assert_eq!(Number::exp(0.0f32), 1.0);
        assert_eq!(Number::exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(Number::exp(-87.4f32), 0.0);
        assert!(Number::exp(-87.336f32).is_normal());
        assert_eq!(Number::exp(f32::INFINITY), f32::INFINITY);
        assert!(Number::exp(f32::NAN).is_nan());
        assert_eq!(Number::exp(0.0f64), 1.0);
        assert_eq!(Number::exp(f64::NEG_INFINITY), 0.0);
        assert_eq!(Number::exp(-708.4f64), 0.0);
        assert!(Number::exp(-708.396f64).is_normal());
        assert_eq!(Number::exp(f64::INFINITY), f64::INFINITY);
        assert!(Number::exp(f64::NAN).is_nan());
        assert_eq!(Number::ln(1.0f32), 0.0);
        assert!(Number::ln(f32::NAN).is_nan());
    }
}
