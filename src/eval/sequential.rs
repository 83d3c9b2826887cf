//! Tests and intervals of a mean that hold however often they are looked at: seeds may be added
//! until a comparison is decided, or stopped at any other time. Knows neither what was trained nor
//! what is measured.
//!
//! 1. Model: values in the order of their seeds are independent draws from a normal distribution
//!    with an unknown standard deviation, as in [`super::seeds`].
//! 2. E-value of n values against the mean m: with t = (mean - m) / (s / sqrt(n)), f = n - 1 and
//!    c = 1 + n g,
//!    E = c^(-1/2) ((1 + t²/f) / (1 + t²/(f c)))^(n/2),
//!    the ratio of the likelihoods of t under effects mean / deviation with the prior N(0, g), and
//!    under the effect 0. Over n it is a martingale under the mean m, whatever the deviation is, so
//!    that it ever reaches 1/a with the chance a at most (Ville 1939; Pérez-Ortiz, Lardy, de Heide
//!    and Grünwald 2024, Annals of Statistics 52, 1410-1432; Wang and Ramdas 2023, arXiv
//!    2310.03722, section 4).
//! 3. [`Anytime::p`]: the least 1/E so far, 1 at most. [`Anytime::low`] to [`Anytime::high`]: the
//!    means with E below 1/a for every n so far.
//! 4. With few values no mean is excluded: with g = 4 and a = 0.05, four are the fewest.

use serde::{Deserialize, Serialize};

use super::interval::average;
use super::power::MOST;
use super::seeds::Decision;

/// Variance of effects, in standard deviations, that the e-value takes for granted: differences of
/// about two standard deviations over seeds. It changes how soon a comparison is decided, not
/// whether the test holds.
pub const EFFECT_VARIANCE: f64 = 4.0;

/// What is known of a mean, at whatever number of values one stops.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Anytime {
    /// Two-sided p value of a mean of 0.
    pub p: f64,
    /// Lower end of the interval; `None` where no mean is excluded on this side.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
}

/// The fewest values that can exclude a mean, at a level of 0.05.
pub const FEWEST: usize = 4;

/// Of values in the order in which they came, with a level in (0, 1).
pub fn anytime(values: &[f64], level: f64) -> Anytime {
    let mut found = Anytime { p: 1.0, low: None, high: None };
    for n in 2..=values.len() {
        let so_far = Moments::of(&values[..n]);
        found.p = found.p.min(1.0 / so_far.e_value(0.0));
        let Some(reach) = so_far.reach(level) else { continue };
        let (low, high) = (so_far.mean - reach, so_far.mean + reach);
        found.low = Some(found.low.map_or(low, |least| least.max(low)));
        found.high = Some(found.high.map_or(high, |most| most.min(high)));
    }
    found
}

impl Anytime {
    /// Whether the mean differs from 0, or is between minus `margin` and `margin`, where there is
    /// one; the latter goes first.
    pub fn decide(&self, margin: Option<f64>) -> Decision {
        let above = |bound: f64| self.low.is_some_and(|low| low > bound);
        let below = |bound: f64| self.high.is_some_and(|high| high < bound);
        match margin {
            Some(margin) if above(-margin) && below(margin) => Decision::Equivalent,
            _ if above(0.0) => Decision::Greater,
            _ if below(0.0) => Decision::Less,
            _ => Decision::Open,
        }
    }
}

/// How many values in all would decide, if their mean and deviation were always these; `None` where
/// no number up to [`MOST`] does. A planning aid, no evidence.
pub fn seeds_to_decide(mean: f64, std: f64, level: f64, margin: Option<f64>) -> Option<usize> {
    let decides = |n: &usize| {
        let of_n = Moments { n: *n as f64, mean, error: std / (*n as f64).sqrt() };
        of_n.reach(level).is_some_and(|reach| {
            reach < mean.abs() || margin.is_some_and(|margin| reach < margin - mean.abs())
        })
    };
    (2..=MOST).find(decides)
}

/// Of the first n values.
struct Moments {
    n: f64,
    mean: f64,
    /// Of the mean.
    error: f64,
}

impl Moments {
    fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = average(values);
        let square = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
        Moments { n, mean, error: (square / n).sqrt() }
    }

    /// Against the mean `m`. Values that are all equal have no deviation: 1.
    fn e_value(&self, m: f64) -> f64 {
        if self.error == 0.0 {
            return 1.0;
        }
        let (freedom, c) = (self.n - 1.0, 1.0 + self.n * EFFECT_VARIANCE);
        let square = ((self.mean - m) / self.error).powi(2) / freedom;
        (self.n / 2.0 * (square.ln_1p() - (square / c).ln_1p()) - c.ln() / 2.0).exp()
    }

    /// The distance from the mean within which the e-value is below 1 / level; `None` if it is so
    /// everywhere.
    fn reach(&self, level: f64) -> Option<f64> {
        let c = 1.0 + self.n * EFFECT_VARIANCE;
        let ratio = (c.sqrt() / level).powf(2.0 / self.n);
        if self.error == 0.0 || ratio >= c {
            return None;
        }
        let square = (ratio - 1.0) / (1.0 - ratio / c);
        Some((square * (self.n - 1.0)).sqrt() * self.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    const GOLDEN: [(&[f64], f64); 4] = [
        (&[0.4, 0.55], 2.511312),
        (&[0.4, 0.55, 0.47, 0.6, 0.52], 205.41862956623),
        (&[0.1, -0.2, 0.3, 0.25, 0.05, 0.4], 0.7455713541849),
        (&[1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4], 22.917984902928),
    ];

    /// The ratio of noncentral and central t densities, integrated over the prior of effects by
    /// Simpson's rule in other code (numpy): values, e-value against a mean of 0.
    #[test]
    fn e_values_are_those_of_the_likelihoods_of_t() {
        for (values, expected) in GOLDEN {
            let found = Moments::of(values).e_value(0.0);
            assert!((found / expected - 1.0).abs() < 1e-6, "{values:?}: {found}");
        }
    }

    #[test]
    fn the_ends_are_the_means_that_the_test_just_rejects() {
        let values = [0.4, 0.55, 0.47, 0.6, 0.52];
        let found = anytime(&values, 0.05);
        let so_far = Moments::of(&values);
        for end in [found.low.unwrap(), found.high.unwrap()] {
            let rejected = |n: usize| (Moments::of(&values[..n]).e_value(end) * 0.05 - 1.0).abs();
            assert!(rejected(4).min(rejected(5)) < 1e-9, "{end}");
        }
        assert!((found.p - 1.0 / so_far.e_value(0.0)).abs() < 1e-12 && found.p < 0.05);
        let few = anytime(&values[..3], 0.05);
        assert_eq!((few.low, few.high), (None, None), "three exclude nothing");
        assert_eq!(anytime(&[0.3; 6], 0.05), Anytime { p: 1.0, low: None, high: None });
    }

    #[test]
    fn a_mean_is_decided_where_the_interval_says_so() {
        let of = |low, high| Anytime { p: 0.01, low: Some(low), high: Some(high) };
        let decided = |low, high| [None, Some(0.1)].map(|margin| of(low, high).decide(margin));
        assert_eq!(decided(0.02, 0.3), [Decision::Greater; 2]);
        assert_eq!(decided(-0.3, -0.2), [Decision::Less; 2]);
        assert_eq!(decided(0.02, 0.08), [Decision::Greater, Decision::Equivalent]);
        assert_eq!(decided(-0.05, 0.2), [Decision::Open; 2]);
        let none = Anytime { p: 1.0, low: None, high: None };
        assert_eq!(none.decide(Some(0.1)), Decision::Open);
    }

    /// With the planned number of values of this mean and deviation the interval ends at 0 or
    /// beyond, with one less it does not.
    #[test]
    fn as_many_seeds_are_planned_as_decide() {
        let planned = seeds_to_decide(0.5, 0.4, 0.05, None).unwrap();
        let reach = |n: usize| {
            let error = 0.4 / (n as f64).sqrt();
            Moments { n: n as f64, mean: 0.5, error }.reach(0.05)
        };
        assert!(reach(planned).unwrap() < 0.5 && reach(planned - 1).is_none_or(|of| of >= 0.5));
        assert_eq!(seeds_to_decide(0.0, 1.0, 0.05, None), None);
        assert!(seeds_to_decide(0.0, 1.0, 0.05, Some(1.0)).is_some_and(|seeds| seeds > 10));
        assert!(seeds_to_decide(0.5, 0.4, 0.01, None).unwrap() > planned);
    }

    /// Under no difference, with a look after every seed from the second to the fortieth, at most
    /// 5% of studies ever reject; a t test that looks as often rejects five times as many.
    #[test]
    fn looking_after_every_seed_keeps_the_level() {
        let stream = Stream::new(1, "looks");
        let (studies, most) = (4000, 40);
        let (mut ever, mut covered, mut naive) = (0, 0, 0);
        for study in 0..studies {
            let mut draws = stream.sequence(study);
            let values: Vec<f64> = (0..most).map(|_| draws.normal()).collect();
            let found = anytime(&values, 0.05);
            ever += usize::from(found.p <= 0.05);
            let inside = |mean: f64| {
                found.low.is_none_or(|low| low < mean) && found.high.is_none_or(|high| mean < high)
            };
            covered += usize::from(inside(0.0));
            let looks =
                (2..=most).any(|n| super::super::seeds::over_seeds(values[..n].into()).p < 0.05);
            naive += usize::from(looks);
        }
        let share = |count: usize| count as f64 / studies as f64;
        // 1.1 standard errors above 0.05 at 4,000 studies are 0.0538.
        assert!(share(ever) < 0.0538 && share(ever) > 0.01, "{}", share(ever));
        assert!((1.0 - share(covered) - share(ever)).abs() < 1e-9);
        assert!(share(naive) > 0.2, "{}", share(naive));
    }
}
