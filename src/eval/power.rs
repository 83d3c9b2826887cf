//! How many seeds would decide a comparison, at the mean and the spread that were observed. A
//! planning aid: the power at an observed effect is a function of the p value alone, and no
//! evidence about the comparison (Hoenig and Heisey 2001, The American Statistician 55, 19-24).
//!
//! 1. A test at a level rejects where |mean| is above its critical distance ([`Variance::reach`]).
//!    With a true mean m, mean / error has Student's noncentral t distribution with the shift m /
//!    error; with parts of inputs the degrees of freedom are Satterthwaite's, an approximation.
//! 2. The power of two one-sided tests is the chance that neither fails, which is at least 1 minus
//!    the sum of the two chances of failure, each of a noncentral t distribution. The bound is
//!    used; where the power is 0.8, the exact one (Phillips 1990, J. Pharmacokinetics and
//!    Biopharmaceutics 18, 137-144) is hardly above it.
//! 3. The noncentral t distribution is an integral over Z, standard normal, or over W = sqrt(chi² /
//!    freedom): T = (Z + shift) / W. Of the two the one is taken whose integrand is the smoother.

use statrs::function::erf::erfc;
use statrs::function::gamma::{gamma_lr, ln_gamma};

use super::crossed::Variance;

/// The power that decides.
pub const POWER: f64 = 0.8;
/// The most seeds that are planned with.
pub const MOST: usize = 1000;
/// Intervals of an integral by Simpson's rule.
const INTERVALS: usize = 400;

/// The smallest number of seeds in all, of [`MOST`] at most, with which a test of a mean of 0 at a
/// two-sided `level` finds this mean with the power [`POWER`]; `None` where no number does, or the
/// mean is 0, or nothing varies.
pub fn seeds_for_difference(mean: f64, variance: &Variance, level: f64) -> Option<usize> {
    if mean == 0.0 || variance.total() == 0.0 {
        return None;
    }
    least(|k| power_of_difference(mean, &variance.with_seeds(k), level))
}

/// The same of two one-sided tests at `level` each of a mean within `margin` of 0; `None` also
/// where the mean is not within it.
pub fn seeds_for_equivalence(
    mean: f64,
    variance: &Variance,
    margin: f64,
    level: f64,
) -> Option<usize> {
    if mean.abs() >= margin || variance.total() == 0.0 {
        return None;
    }
    least(|k| power_of_equivalence(mean, &variance.with_seeds(k), margin, level))
}

/// The chance that a two-sided test at `level` rejects a mean of 0, where the mean is `mean`.
pub fn power_of_difference(mean: f64, variance: &Variance, level: f64) -> f64 {
    let error = variance.total().sqrt();
    let (critical, shift) = (variance.reach(level / 2.0) / error, mean.abs() / error);
    let freedom = variance.freedom();
    above(critical, freedom, shift) + above(critical, freedom, -shift)
}

/// A lower bound of the chance that two one-sided tests at `level` each find a mean within `margin`
/// of 0, where the mean is `mean`.
pub fn power_of_equivalence(mean: f64, variance: &Variance, margin: f64, level: f64) -> f64 {
    let error = variance.total().sqrt();
    let (critical, freedom) = (variance.reach(level) / error, variance.freedom());
    let passes = |distance: f64| above(critical, freedom, distance / error);
    (passes(margin + mean) + passes(margin - mean) - 1.0).max(0.0)
}

/// The smallest number of seeds from 2 to [`MOST`] whose power, which rises, is enough.
fn least(power: impl Fn(usize) -> f64) -> Option<usize> {
    let enough = |k: usize| power(k) >= POWER;
    let (mut few, mut many) = (1, 2);
    while !enough(many) {
        if many == MOST {
            return None;
        }
        (few, many) = (many, (many * 2).min(MOST));
    }
    while few + 1 < many {
        let middle = few.midpoint(many);
        if enough(middle) {
            many = middle;
        } else {
            few = middle;
        }
    }
    Some(many)
}

/// The chance that a noncentral t variate with `freedom` degrees of freedom and this shift is above
/// `critical`, which is above 0.
pub fn above(critical: f64, freedom: f64, shift: f64) -> f64 {
    // Ten deviations on each side of the middle.
    let deviation = (2.0 * freedom).sqrt().recip();
    if critical * deviation < 1.0 {
        let (low, high) = ((1.0 - 10.0 * deviation).max(0.0), 1.0 + 10.0 * deviation);
        simpson(low, high, |w| chi_density(w, freedom) * normal(shift - critical * w))
    } else {
        simpson(-9.0, 9.0, |z| normal_density(z) * chi((z + shift) / critical, freedom))
    }
    .clamp(0.0, 1.0)
}

fn simpson(low: f64, high: f64, of: impl Fn(f64) -> f64) -> f64 {
    let step = (high - low) / INTERVALS as f64;
    let weight = |at: usize| match at {
        0 | INTERVALS => 1.0,
        _ if at % 2 == 1 => 4.0,
        _ => 2.0,
    };
    (0..=INTERVALS).map(|at| weight(at) * of(low + step * at as f64)).sum::<f64>() * step / 3.0
}

/// The standard normal distribution function.
fn normal(x: f64) -> f64 {
    erfc(-x / std::f64::consts::SQRT_2) / 2.0
}

fn normal_density(x: f64) -> f64 {
    (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt()
}

/// The distribution function of sqrt(chi² / freedom).
fn chi(w: f64, freedom: f64) -> f64 {
    if w <= 0.0 { 0.0 } else { gamma_lr(freedom / 2.0, freedom * w * w / 2.0) }
}

/// Its density.
fn chi_density(w: f64, freedom: f64) -> f64 {
    let half = freedom / 2.0;
    if w <= 0.0 {
        // Only one degree of freedom or fewer has a density there that is not 0.
        return if freedom == 1.0 { (2.0 / std::f64::consts::PI).sqrt() } else { 0.0 };
    }
    let log =
        (2.0f64).ln() + half * half.ln() - ln_gamma(half) + (freedom - 1.0) * w.ln() - half * w * w;
    log.exp()
}

#[cfg(test)]
mod tests {
    use super::super::crossed::Part;
    use super::*;

    /// By scipy's noncentral t: critical value, degrees of freedom, shift, share above.
    #[test]
    fn the_noncentral_t_distribution_is_that_of_independent_code() {
        for (critical, freedom, shift, expected) in [
            (2.262157, 9.0, 1.5, 0.26850960120125306),
            (4.302653, 2.0, 3.0, 0.3873893159784006),
            (2.0345153, 33.0, 2.9154759, 0.8077766722575603),
            (63.656741, 1.0, 40.0, 0.4701877832183104),
            (1.972, 199.0, 2.8, 0.7957271695998036),
            (2.6, 4.5, 2.0, 0.3679162705283412),
            (1.96, 1000.0, 3.0, 0.8507120844655529),
            (636.6, 1.0, 400.0, 0.4702169790798491),
            (2.5, 6.0, -1.0, 0.002185909101352695),
        ] {
            let found = above(critical, freedom, shift);
            assert!((found - expected).abs() < 1e-6, "{critical} {freedom} {shift}: {found}");
        }
    }

    /// The tables of paired t tests: d = 0.5 takes 34 pairs at 0.05 and 51 at 0.01 for a power of
    /// 0.8, d = 0.8 takes 15 and 22, d = 1 takes 10 (Cohen 1988, chapter 2, by G*Power 3).
    #[test]
    fn as_many_pairs_are_planned_as_the_tables_have() {
        let planned = |d: f64, level: f64, k: usize| {
            seeds_for_difference(d, &Variance::of_seeds(1.0, k), level)
        };
        for (d, of) in [(0.2, [199, 296]), (0.5, [34, 51]), (0.8, [15, 22]), (1.0, [10, 16])] {
            // The number that was observed changes nothing.
            for k in [3, 10] {
                assert_eq!([0.05, 0.01].map(|level| planned(d, level, k)), of.map(Some), "{d}");
                assert_eq!(planned(-d, 0.05, k), Some(of[0]));
            }
        }
        assert_eq!((planned(0.0, 0.05, 3), planned(0.01, 0.05, 3)), (None, None));
        assert_eq!(planned(1e6, 0.05, 3), Some(2));
        // What other inputs change stays, however many seeds there are.
        let inputs = Variance {
            inputs: vec![Part { variance: 1.0, freedom: 40.0 }],
            ..Variance::of_seeds(1.0, 3)
        };
        assert_eq!(seeds_for_difference(2.0, &inputs, 0.05), None);
        assert!(seeds_for_difference(4.0, &inputs, 0.05).is_some_and(|seeds| seeds > 2));
    }

    /// The standard two-by-two crossover of bioequivalence: CV 0.3, true ratio 0.95, 40 subjects,
    /// 38 degrees of freedom, limits 0.8 and 1.25: the power is 0.8158.
    #[test]
    fn the_power_of_two_one_sided_tests_is_the_published_one() {
        let within = 1.09f64.ln();
        let error = Part { variance: within * 2.0 / 40.0, freedom: 38.0 };
        let variance = Variance { seeds: error, inputs: Vec::new() };
        let found = power_of_equivalence(0.95f64.ln(), &variance, 1.25f64.ln(), 0.05);
        assert!((found - 0.815845).abs() < 1e-5, "{found}");
        assert_eq!(seeds_for_equivalence(0.3, &Variance::of_seeds(0.1, 3), 0.3, 0.05), None);
        let seeds = |margin| seeds_for_equivalence(0.0, &Variance::of_seeds(1.0, 3), margin, 0.05);
        assert!(seeds(1.0) < seeds(0.5) && seeds(0.5).is_some());
    }
}
