//! The logistic function, tanh and the normal distribution. Independent of their use.
//!
//! 1. Like `exp` (`number.rs`), from which they are made, they are sequences of exactly rounded
//!    operations without branches: the same bits on every instruction set and C library, and whole
//!    vectors at a time. NaN stays NaN.
//! 2. The tail of the normal distribution, Q(t) = 1 - Phi(t) for t >= 0, is
//!    exp(-t^2 / 2) P(y) / (t + 4), where y = (t - 4) / (t + 4) maps [0, inf) to [-1, 1) and P is
//!    smooth, so that one polynomial serves the whole axis (the form of Shepherd & Laframboise
//!    1981, "Chebyshev approximation of (1 + 2x) exp(x^2) erfc x in 0 <= x < inf", Mathematics of
//!    Computation 36). A factor corrects the rounding error of t^2, which exp would magnify. So
//!    Phi keeps its digits in the lower tail, which 1 + erf loses.
//! 3. tanh x = x + x^3 H(x^2) for small x and 1 - 2 / (exp(2x) + 1) for others.
//! 4. The coefficients of P and H interpolate at Chebyshev nodes: computed in 60 digits by
//!    `tests/ops/special.py`, then rounded.

use super::number::Number;

/// A type with polynomials of its precision.
pub trait Special: Number {
    /// P(y). f64: for t <= 38.7, to 7e-17 of P; f32: for t <= 13.5, to 3e-8. Beyond, exp is 0.
    fn tail(y: Self) -> Self;
    /// H(x^2) for |x| <= 0.6, to 6e-17 and 4e-8 of H, which is a third of x^2 beside 1.
    fn tanh_rest(square: Self) -> Self;
}

/// A polynomial from its highest coefficient down, written out: a loop over coefficients would
/// prevent vectorisation.
macro_rules! polynomial {
    ($x:ident, $highest:literal, $($coefficient:literal),+ $(,)?) => {{
        let sum: Self = $highest;
        $(let sum = Number::mul_add(sum, $x, $coefficient);)+
        sum
    }};
}

impl Special for f32 {
    #[inline(always)]
    fn tail(y: f32) -> f32 {
        polynomial!(
            y,
            -0.000_117_137_75,
            0.000_208_466_17,
            0.001_576_009_7,
            -0.003_528_755_6,
            -0.007_531_534_4,
            0.060_406_823,
            -0.186_522_35,
            0.387_136_7,
            -0.607_896_6,
            0.755_285_14,
        )
    }
    #[inline(always)]
    fn tanh_rest(square: f32) -> f32 {
        polynomial!(
            square,
            0.002_370_765_7,
            -0.008_410_071,
            0.021_788_321,
            -0.053_961_553,
            0.133_333_13,
            -0.333_333_34
        )
    }
}

impl Special for f64 {
    #[inline(always)]
    fn tail(y: f64) -> f64 {
        polynomial!(
            y,
            -7.272_138_524_353_013e-10,
            -2.525_178_701_767_171_5e-9,
            1.918_210_924_472_669e-9,
            1.962_855_346_723_497_4e-8,
            1.328_693_942_556_704e-8,
            -8.541_885_045_168_615e-8,
            -1.549_761_910_235_767e-7,
            2.718_105_105_103_556e-7,
            1.021_563_821_521_254_4e-6,
            -6.296_980_030_308_233e-7,
            -5.920_178_241_679_992e-6,
            7.166_661_591_640_473e-7,
            3.514_468_757_013_453_6e-5,
            -1.908_258_283_135_483_3e-6,
            -0.000_231_094_935_457_402_6,
            0.000_133_344_312_358_331_8,
            0.001_630_818_457_621_097_5,
            -0.003_479_692_367_387_325_4,
            -0.007_540_188_966_728_774,
            0.060_396_574_890_936_2,
            -0.186_521_857_959_657_2,
            0.387_137_400_742_214_53,
            -0.607_896_641_971_892_1,
            0.755_285_130_415_751_5,
        )
    }
    #[inline(always)]
    fn tanh_rest(square: f64) -> f64 {
        polynomial!(
            square,
            6.934_046_420_988_954e-6,
            -3.208_661_403_793_599_4e-5,
            9.332_432_233_847_448e-5,
            -0.000_237_952_013_839_249_94,
            0.000_589_768_099_468_826_8,
            -0.001_455_795_885_573_463_5,
            0.003_592_124_250_008_692_5,
            -0.008_863_235_292_803_289,
            0.021_869_488_527_368_107,
            -0.053_968_253_968_085_31,
            0.133_333_333_333_332_05,
            -0.333_333_333_333_333_3,
        )
    }
}

/// |x|.
#[inline(always)]
pub fn magnitude<T: Number>(x: T) -> T {
    if x < T::ZERO { -x } else { x }
}

/// 1 / (1 + exp(-x)).
#[inline(always)]
pub fn logistic<T: Number>(x: T) -> T {
    T::ONE / (T::ONE + (-x).exp())
}

/// The logistic function s and its complement 1 - s, both to their last digits.
#[inline(always)]
pub fn logistic_pair<T: Number>(x: T) -> (T, T) {
    let e = (-magnitude(x)).exp();
    let large = T::ONE / (T::ONE + e);
    let small = e * large;
    if x < T::ZERO { (small, large) } else { (large, small) }
}

/// tanh x.
#[inline(always)]
pub fn tanh<T: Special>(x: T) -> T {
    let (size, two) = (magnitude(x), T::from_f32(2.0));
    let large = T::ONE - two / ((two * size).exp() + T::ONE);
    let square = x * x;
    let small = (x * square).mul_add(T::tanh_rest(square), x);
    let signed = if x < T::ZERO { -large } else { large };
    if size < T::from_f32(0.5625) { small } else { signed }
}

/// The derivative of tanh: 1 / cosh^2 x.
#[inline(always)]
pub fn tanh_derivative<T: Number>(x: T) -> T {
    let e = (T::from_f32(-2.0) * magnitude(x)).exp();
    let sum = T::ONE + e;
    T::from_f32(4.0) * e / (sum * sum)
}

/// The normal distribution's Phi(x), and exp(-x^2 / 2).
#[inline(always)]
pub fn normal<T: Special>(x: T) -> (T, T) {
    let (limit, minus_half) = (T::from_f32(40.0), T::from_f32(-0.5));
    let t = magnitude(x);
    let t = if t > limit { limit } else { t };
    let square = t * t;
    let rest = t.mul_add(t, -square);
    let bell = (minus_half * square).exp() * rest.mul_add(minus_half, T::ONE);
    let share = T::ONE / (t + T::from_f32(4.0));
    let y = share.mul_add(T::from_f32(-8.0), T::ONE);
    let tail = bell * (share * T::tail(y));
    (if x < T::ZERO { tail } else { T::ONE - tail }, bell)
}
