//! The spread of a figure over training seeds: what intervals over inputs leave out. Knows neither
//! what was trained nor what is measured.
//!
//! 1. Interval of the mean over k seeds: mean ± t s / sqrt(k), s the sample standard deviation, t
//!    the 97.5th percentile of Student's t with k - 1 degrees of freedom (Student 1908). It takes
//!    seeds as draws from a normal distribution; with two of them it is very wide.
//! 2. Two methods are compared seed by seed, because what they share (data, SFT, reward model)
//!    moves both: the interval and the p value are of the mean difference (paired t test).
//! 3. Seeds that all give the same value tell nothing of the spread: there is no interval then, and
//!    p is that of signs, 2 / 2^k (1 where the value is 0).

use serde::{Deserialize, Serialize};
use statrs::distribution::ContinuousCDF;

use super::correction::LEVEL;
use super::interval::{Interval, Kind, average, student};

/// A figure over seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OverSeeds {
    /// Mean with its interval; `n` counts seeds.
    #[serde(flatten)]
    pub interval: Interval,
    /// Sample standard deviation.
    pub std: f64,
    /// Two-sided p value of a mean of 0.
    pub p: f64,
    /// Of each seed.
    pub values: Vec<f64>,
}

/// What is known of a comparison at a level: whether the mean differs from 0, and whether it is
/// within the region of practical equivalence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It is above 0.
    Greater,
    /// It is below 0.
    Less,
    /// It is within the region, whether or not it differs from 0.
    Equivalent,
    /// Neither is known.
    Open,
}

impl Decision {
    /// From the corrected p value of no difference, and that of two one-sided tests of equivalence,
    /// where there is a region.
    pub fn of(mean: f64, p: f64, p_of_equivalence: Option<f64>) -> Self {
        match p < LEVEL {
            _ if p_of_equivalence.is_some_and(|p| p < LEVEL) => Decision::Equivalent,
            true if mean > 0.0 => Decision::Greater,
            true => Decision::Less,
            false => Decision::Open,
        }
    }
}

/// Of at least two seeds.
///
/// # Panics
/// If there are fewer.
pub fn over_seeds(values: Vec<f64>) -> OverSeeds {
    let n = values.len();
    assert!(n >= 2, "one seed has no spread");
    let mean = average(&values);
    let std =
        (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1) as f64).sqrt();
    let error = std / (n as f64).sqrt();
    let student = student((n - 1) as f64);
    let (interval, p) = match values.iter().all(|value| *value == values[0]) {
        true => (
            Interval::none(mean, n, Kind::NoneAllEqual),
            if mean == 0.0 { 1.0 } else { 2f64.powi(1 - n as i32) },
        ),
        false => {
            let reach = student.inverse_cdf(0.975) * error;
            let interval =
                Interval { mean, low: mean - reach, high: mean + reach, n, kind: Kind::StudentT };
            (interval, 2.0 * student.cdf(-(mean / error).abs()))
        }
    };
    OverSeeds { interval, std, p, values }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_difference_is_equivalent_even_where_it_is_one() {
        use Decision::{Equivalent, Greater, Less, Open};
        let found = [
            (0.1, 0.01, None),
            (-0.1, 0.01, Some(0.2)),
            (0.1, 0.01, Some(0.01)),
            (0.1, 0.05, Some(0.05)),
            (0.1, 0.3, None),
        ]
        .map(|(mean, p, equivalent)| Decision::of(mean, p, equivalent));
        assert_eq!(found, [Greater, Less, Equivalent, Open, Open]);
    }

    /// The table of Student's t: 12.706, 4.303 and 2.262 for 1, 2 and 9 degrees of freedom.
    #[test]
    fn intervals_are_those_of_the_table_of_t() {
        for (values, t) in [
            (vec![0.0, 2.0], 12.706),
            (vec![1.0, 2.0, 3.0], 4.303),
            ((0..10).map(f64::from).collect(), 2.262),
        ] {
            let found = over_seeds(values.clone());
            let half = (found.interval.high - found.interval.low) / 2.0;
            assert!(
                (half - t * found.std / (values.len() as f64).sqrt()).abs() < 1e-3 * half,
                "{found:?}"
            );
        }
    }

    /// Student's sleep data, drug 2 minus drug 1: t = 4.0621 with 9 degrees of freedom, p =
    /// 0.002833.
    #[test]
    fn students_own_example() {
        let found = over_seeds(vec![1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]);
        assert!(
            (found.interval.mean - 1.58).abs() < 1e-12 && (found.p - 0.002833).abs() < 1e-6,
            "{found:?}"
        );
        assert!(
            (found.interval.low - 0.7001).abs() < 1e-4
                && (found.interval.high - 2.4599).abs() < 1e-4,
            "{found:?}"
        );
    }

    #[test]
    fn seeds_that_agree_tell_nothing_of_their_spread() {
        let (same, zero) = (over_seeds(vec![0.1; 3]), over_seeds(vec![0.0; 3]));
        assert_eq!(
            (same.interval.has_ends(), same.interval.kind, same.p, zero.p),
            (false, Kind::NoneAllEqual, 0.25, 1.0)
        );
    }
}
