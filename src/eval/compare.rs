//! Comparisons: differences between methods on the same inputs, and between test sets of one
//! method. Knows neither what a method is nor what is measured; which metrics are shares of
//! outcomes, it knows.
//!
//! 1. A difference is paired: its interval is of the inputs' own differences ([`of_mean`],
//!    [`of_difference_of_shares`]).
//! 2. Its p value is two-sided, the larger of two. One is of a permutation test: the signs of the
//!    inputs' differences are flipped at random (Fisher 1935; Ernst 2004, Statistical Science 19,
//!    676-685), which is exact for any number of inputs where the two methods may be exchanged: all
//!    2^n signs up to [`ALL_SIGNS`] inputs, else [`FLIPS`] draws of them, one added to count and
//!    total so that p is never 0 (Phipson and Smyth 2010). The other is that of the interval, so
//!    that a difference whose interval has 0 in it is never significant. The first alone rejects
//!    too often where differences are skewed, the second where they are few and of few values.
//! 3. Of a family of m p values, Holm's step-down correction (1979) bounds the chance of any false
//!    claim: the k-th smallest is multiplied by m - k + 1, and none is below a smaller one's.
//! 4. A generalisation gap is the mean in distribution minus the mean out of it (Kirk et al. 2024,
//!    section 5.1): two sets of inputs, each with its own interval ([`apart`]).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::interval::{
    FEWEST, Interval, apart, of_difference_of_shares, of_mean, of_set, of_share,
    p_of_difference_of_shares, p_of_mean,
};
use super::win;
use crate::random::Stream;

/// Draws of signs of a permutation test.
pub const FLIPS: usize = 10_000;
/// Differences up to which a permutation test goes through all signs.
pub const ALL_SIGNS: usize = 13;
/// Groups of inputs that the jackknife of a ratio leaves out, one after another.
const GROUPS: usize = 40;
/// Share of two values by which they differ where they are one value, computed in two ways.
const ROUNDING: f64 = 1e-12;

/// One method against another on one test set, by one metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The metric.
    pub metric: String,
    /// The test set.
    pub test_set: String,
    /// What is compared.
    pub method: String,
    /// What it is compared with.
    pub with: String,
    /// Mean of `method` minus mean of `with`, with its interval.
    #[serde(flatten)]
    pub interval: Interval,
    /// Two-sided p value of no difference.
    pub p: f64,
    /// The same, Holm-corrected over all differences in this metric.
    pub p_holm: f64,
}

impl Difference {
    /// The second method minus the first.
    pub fn reversed(&self) -> Self {
        let Interval { mean, low, high, .. } = self.interval;
        Difference {
            method: self.with.clone(),
            with: self.method.clone(),
            interval: Interval { mean: -mean, low: -high, high: -low, ..self.interval },
            ..self.clone()
        }
    }
}

/// How much a method loses from one test set to another, by one metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// The metric.
    pub metric: String,
    /// The method.
    pub method: String,
    /// The test set in distribution.
    pub from: String,
    /// The one out of it.
    pub to: String,
    /// Mean on `from` minus mean on `to`, with its interval; `n` counts the inputs of both.
    #[serde(flatten)]
    pub interval: Interval,
}

/// One value an input.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The metric.
    pub metric: String,
    /// The test set.
    pub test_set: String,
    /// The method.
    pub method: String,
    /// In the order of the test set's inputs.
    pub values: Vec<f64>,
}

/// How often one method is scored above another on the same inputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wins {
    /// The metric that decides.
    pub metric: String,
    /// The test set.
    pub test_set: String,
    /// What is compared.
    pub method: String,
    /// What it is compared with.
    pub with: String,
    /// Share of inputs on which `method` is above, a tie counting half, with its interval.
    #[serde(flatten)]
    pub interval: Interval,
}

/// A method against best-of-n at the method's own distance from the reference policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Matched {
    /// That distance, in nats: the mean over the inputs of `difference`, of the same samples.
    pub kl: f64,
    /// Its 95% interval, which `difference` takes account of.
    pub kl_interval: Interval,
    /// The temperature of both methods' samples.
    pub temperature: f64,
    /// The mean of `method` on these samples.
    pub own: f64,
    /// The mean of best-of-n at that distance.
    pub best: f64,
    /// `method` minus `with`, which is best-of-n with the n whose KL bound that is.
    #[serde(flatten)]
    pub difference: Difference,
}

/// Every pair of methods, on every test set, by every metric, in the order in which they come.
///
/// # Panics
/// If two methods have not as many values on the same test set.
pub fn differences(measured: &[Measured], seed: u64) -> Vec<Difference> {
    differences_of(&pairs(measured), seed)
}

/// The first of each two minus the second, which is of the same metric and test set; the p values
/// of a metric are one family.
///
/// # Panics
/// If the two have not as many values.
pub fn differences_of(pairs: &[(&Measured, &Measured)], seed: u64) -> Vec<Difference> {
    let mut flips: BTreeMap<(&str, usize), Flips> = BTreeMap::new();
    let mut found: Vec<Difference> = Vec::new();
    for (a, b) in pairs {
        assert_eq!(a.values.len(), b.values.len(), "one value an input");
        let values: Vec<f64> = a.values.iter().zip(&b.values).map(|(a, b)| minus(*a, *b)).collect();
        let own =
            || Flips::new(values.len(), &Stream::new(seed, &format!("compare {}", a.test_set)));
        let flips = flips.entry((&a.test_set, values.len())).or_insert_with(own);
        found.push(Difference {
            metric: a.metric.clone(),
            test_set: a.test_set.clone(),
            method: a.method.clone(),
            with: b.method.clone(),
            interval: paired(&a.metric, &values),
            p: p_value(&a.metric, &values, flips),
            p_holm: 1.0,
        });
    }
    let corrected = holm_by(found.iter().map(|one| (one.metric.as_str(), one.p)));
    found.iter_mut().zip(corrected).for_each(|(one, p)| one.p_holm = p);
    found
}

/// Holm's correction within each family, in the order given: the families' names and p values.
pub(super) fn holm_by<'a>(all: impl Iterator<Item = (&'a str, f64)>) -> Vec<f64> {
    let all: Vec<(&str, f64)> = all.collect();
    let mut corrected = vec![1.0; all.len()];
    for name in all.iter().map(|(name, _)| *name).collect::<BTreeSet<&str>>() {
        let family: Vec<usize> = (0..all.len()).filter(|at| all[*at].0 == name).collect();
        let own = holm(&family.iter().map(|at| all[*at].1).collect::<Vec<f64>>());
        family.iter().zip(own).for_each(|(at, p)| corrected[*at] = p);
    }
    corrected
}

/// The first minus the second; 0 where they differ by rounding alone, which would have a sign and
/// a spread of no meaning.
pub(super) fn minus(a: f64, b: f64) -> f64 {
    let difference = a - b;
    if difference.abs() <= ROUNDING * a.abs().max(b.abs()) { 0.0 } else { difference }
}

/// Every pair of methods, on every test set, by the metrics that score a text.
pub fn head_to_head(measured: &[Measured], scores: &[&str]) -> Vec<Wins> {
    let wins = |(a, b): (&Measured, &Measured)| Wins {
        metric: a.metric.clone(),
        test_set: a.test_set.clone(),
        method: a.method.clone(),
        with: b.method.clone(),
        interval: of_share(&win::outcomes(&a.values, &b.values)),
    };
    pairs(measured)
        .into_iter()
        .filter(|(a, _)| scores.contains(&a.metric.as_str()))
        .map(wins)
        .collect()
}

/// Every two methods of a metric and a test set, the later one first.
pub(super) fn pairs(measured: &[Measured]) -> Vec<(&Measured, &Measured)> {
    let mut pairs = Vec::new();
    for (at, b) in measured.iter().enumerate() {
        let same = |a: &&Measured| {
            (&a.metric, &a.test_set) == (&b.metric, &b.test_set) && a.method != b.method
        };
        pairs.extend(measured[at + 1..].iter().filter(same).map(|a| (a, b)));
    }
    pairs
}

/// Every method's gap from the first test set to each of the others, by every metric.
pub fn gaps(measured: &[Measured]) -> Vec<Gap> {
    let Some(first) = measured.first().map(|measured| measured.test_set.clone()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for here in measured.iter().filter(|measured| measured.test_set == first) {
        let same = |there: &&Measured| {
            there.test_set != first
                && (&there.metric, &there.method) == (&here.metric, &here.method)
        };
        for there in measured.iter().filter(same) {
            found.push(Gap {
                metric: here.metric.clone(),
                method: here.method.clone(),
                from: first.clone(),
                to: there.test_set.clone(),
                interval: apart(
                    of_values(&here.metric, &here.values),
                    of_values(&there.metric, &there.values),
                ),
            });
        }
    }
    found
}

/// Whether a metric of an input is an outcome, 1, 0, or one half for a tie, or a share of several
/// outcomes: its mean is a share. Of metrics of the user's, those are that begin with `share_`.
pub fn is_share(metric: &str) -> bool {
    let wins = metric == "win_rate" || metric.starts_with("win_rate_");
    let pairs =
        ["rm_accuracy", "rm_accuracy_clean", "rm_accuracy_own", "noise_ceiling"].contains(&metric);
    let graded = ["good_share", "pass_at_k", "win_at_k"].contains(&metric);
    let parts = metric == "exact" || metric.starts_with("coverage_");
    wins || pairs || graded || parts || metric.starts_with("share_")
}

/// The mean of a metric, one value an input.
pub fn of_values(metric: &str, values: &[f64]) -> Interval {
    if is_share(metric) { of_share(values) } else { of_mean(values) }
}

/// The mean of the differences of a metric, one an input.
pub fn paired(metric: &str, differences: &[f64]) -> Interval {
    if is_share(metric) { of_difference_of_shares(differences) } else { of_mean(differences) }
}

/// A change over the change that it is a part of, of the means over inputs, with the interval of
/// the jackknife over inputs.
///
/// # Panics
/// If there is not one value of both an input.
pub fn share_of_total(part: &[f64], total: &[f64]) -> Interval {
    assert_eq!(part.len(), total.len(), "one value of both an input");
    let ratio = |inputs: &[usize]| {
        let sum = |values: &[f64]| inputs.iter().map(|&at| values[at]).sum::<f64>();
        sum(part) / sum(total)
    };
    let all: Vec<usize> = (0..part.len()).collect();
    of_set(part.len(), GROUPS, FEWEST, ratio).around(ratio(&all), part.len())
}

/// The two-sided p value of no difference, from the differences of a metric, one an input.
pub fn p_value(metric: &str, differences: &[f64], flips: &Flips) -> f64 {
    let of_interval = match is_share(metric) {
        true if !differences.is_empty() => Some(p_of_difference_of_shares(differences)),
        true => None,
        false => p_of_mean(differences),
    };
    flips.p(differences).max(of_interval.unwrap_or(0.0))
}

/// The smallest p value that a difference over `n` inputs can have.
pub fn least_p(n: usize) -> f64 {
    if n <= ALL_SIGNS { 2f64.powi(1 - n.max(1) as i32) } else { 1.0 / (1 + FLIPS) as f64 }
}

/// Signs of the differences of n inputs: all that there are, or draws.
#[derive(Clone, Debug)]
pub struct Flips {
    n: usize,
    /// Eight inputs a byte, the bytes of a draw one after another; a bit that is set turns the
    /// sign. Of all signs the first is no draw: none turned.
    bytes: Vec<u8>,
    all: bool,
}

impl Flips {
    /// For `n` inputs.
    pub fn new(n: usize, stream: &Stream) -> Self {
        let (width, all) = (n.div_ceil(8), n <= ALL_SIGNS);
        let bytes = match all {
            // The opposite signs give the opposite sum: the last input keeps its sign.
            true => (0u32..1 << n.saturating_sub(1))
                .flat_map(|signs| signs.to_le_bytes().into_iter().take(width))
                .collect(),
            false => (0..FLIPS)
                .flat_map(|draw| (0..width).map(move |byte| (draw as u64, byte)))
                .map(|(draw, byte)| stream.bits(draw, (byte / 8) as u64).to_le_bytes()[byte % 8])
                .collect(),
        };
        Flips { n, bytes, all }
    }

    /// The share of signs that give a sum of differences as far from 0.
    ///
    /// # Panics
    /// If there is not one difference an input.
    pub fn p(&self, differences: &[f64]) -> f64 {
        assert_eq!(differences.len(), self.n, "one difference an input");
        if self.n == 0 {
            return 1.0;
        }
        let part = |eight: &[f64]| -> Vec<f64> {
            let sign = |signs: usize, at: usize| if signs >> at & 1 == 1 { -1.0 } else { 1.0 };
            (0..256)
                .map(|signs| {
                    eight.iter().enumerate().map(|(at, value)| sign(signs, at) * value).sum()
                })
                .collect()
        };
        let parts: Vec<Vec<f64>> = differences.chunks(8).map(part).collect();
        let sum = |signs: &[u8]| {
            signs
                .iter()
                .zip(&parts)
                .map(|(signs, part)| part[usize::from(*signs)])
                .sum::<f64>()
                .abs()
        };
        // Sums that differ by rounding alone are equal.
        let least = sum(&vec![0; parts.len()])
            - 1e-9 * differences.iter().map(|value| value.abs()).sum::<f64>();
        let (mut as_far, mut draws) = (0, 0);
        for signs in self.bytes.chunks_exact(parts.len()) {
            as_far += usize::from(sum(signs) >= least);
            draws += 1;
        }
        let added = usize::from(!self.all);
        (as_far + added) as f64 / (draws + added) as f64
    }
}

/// Holm's correction of a family of p values, in their order.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let (mut corrected, mut least) = (vec![1.0; p.len()], 0.0f64);
    for (place, at) in order.into_iter().enumerate() {
        least = least.max(p[at] * (p.len() - place) as f64).min(1.0);
        corrected[at] = least;
    }
    corrected
}

#[cfg(test)]
mod tests {
    use super::super::interval::Kind;
    use super::*;

    #[test]
    fn holm_multiplies_the_smallest_most_and_keeps_the_order() {
        let corrected = holm(&[0.04, 0.01, 0.03]);
        assert!(
            corrected.iter().zip([0.06, 0.03, 0.06]).all(|(a, b)| (a - b).abs() < 1e-12),
            "{corrected:?}"
        );
        assert_eq!((holm(&[0.6, 0.9]), holm(&[])), (vec![1.0, 1.0], vec![]));
    }

    fn flips(n: usize) -> Flips {
        Flips::new(n, &Stream::new(3, "signs"))
    }

    /// Of 8 inputs that all say the same there are 2 of 256 signs as far from 0; with one against
    /// it 2 (1 + 8).
    #[test]
    fn a_p_value_counts_the_signs_that_are_as_far_from_none() {
        assert_eq!(
            (flips(8).p(&[1.0; 8]), flips(8).p(&[1.0, 1.0, 1.0, -1.0, 1.0, 1.0, 1.0, 1.0])),
            (2.0 / 256.0, 18.0 / 256.0)
        );
        assert_eq!((flips(1).p(&[3.0]), flips(0).p(&[]), flips(20).p(&[0.0; 20])), (1.0, 1.0, 1.0));
        assert_eq!(
            (flips(8).p(&[0.1; 8]), least_p(8), least_p(1), least_p(0)),
            (2.0 / 256.0, 2.0 / 256.0, 1.0, 1.0)
        );
        // Draws are never 0, and near the share of all signs.
        assert_eq!(flips(40).p(&[1.0; 40]), least_p(40));
        let values: Vec<f64> = (0..14).map(|at| f64::from(at) - 3.0).collect();
        let far = (0u32..1 << 14).filter(|signs| {
            let sum: f64 = values
                .iter()
                .enumerate()
                .map(|(at, value)| if signs >> at & 1 == 1 { -value } else { *value })
                .sum();
            sum.abs() >= values.iter().sum::<f64>().abs() - 1e-9
        });
        let exact = far.count() as f64 / f64::from(1 << 14);
        assert!(
            (flips(14).p(&values) - exact).abs() < 4.0 * (exact / 1e4).sqrt(),
            "{} for {exact}",
            flips(14).p(&values)
        );
    }

    #[test]
    fn the_larger_p_value_counts() {
        // 7 of 8 the same way: Student's t alone would call that p = 0.02.
        let ones = [1.0, 1.0, 1.0, -1.0, 1.0, 1.0, 1.0, 1.0];
        assert!(
            p_value("gold", &ones, &flips(8)) >= 18.0 / 256.0
                && p_value("win_rate", &ones, &flips(8)) >= 18.0 / 256.0
        );
        assert_eq!(
            (p_value("win_rate", &[], &flips(0)), p_value("win_rate", &[0.0; 20], &flips(20))),
            (1.0, 1.0)
        );
        // Too few for an interval: signs alone.
        assert_eq!(p_value("gold", &[1.0, 2.0, 3.0, 4.0, 5.0], &flips(5)), 2.0 / 32.0);
    }

    fn measured(metric: &str, test_set: &str, method: &str, values: Vec<f64>) -> Measured {
        Measured { metric: metric.into(), test_set: test_set.into(), method: method.into(), values }
    }

    /// Equal values that were computed in two ways: their differences of 1e-16 are no difference.
    #[test]
    fn what_differs_by_rounding_does_not_differ() {
        let exact = measured("gold", "id", "b", vec![-1.0; 20]);
        let rounded: Vec<f64> =
            (1..=20).map(|at| -1.0 + f64::from(at) * f64::EPSILON / 2.0).collect();
        let found = differences(&[exact, measured("gold", "id", "a", rounded)], 0);
        assert_eq!(
            (found[0].interval.kind, found[0].interval.mean, found[0].p),
            (Kind::NoneAllEqual, 0.0, 1.0)
        );
    }

    #[test]
    fn methods_are_compared_in_pairs_on_the_same_inputs() {
        let (base, shift): (Vec<f64>, fn(&f64) -> f64) =
            ((0..50).map(|i| f64::from(i * 37 % 50)).collect(), |x| x + 1.0 + x * 0.01);
        let all = [
            measured("gold", "id", "a", base.clone()),
            measured("gold", "id", "b", base.iter().map(shift).collect()),
            measured("gold", "id", "c", base.iter().map(|x| 49.0 - x).collect()),
            measured("gold", "ood", "a", base.iter().map(|x| x / 2.0).collect()),
            measured("gold", "ood", "b", base.clone()),
        ];
        let found = differences(&all, 0);
        let pairs: Vec<(&str, &str, &str)> = found
            .iter()
            .map(|found| (found.test_set.as_str(), found.method.as_str(), found.with.as_str()))
            .collect();
        assert_eq!(
            pairs,
            [("id", "b", "a"), ("id", "c", "a"), ("id", "c", "b"), ("ood", "b", "a")]
        );
        // Inputs vary by tens, b over a hardly.
        assert!(
            (found[0].interval.mean - 1.245).abs() < 1e-9
                && found[0].interval.low > 1.1
                && found[0].p < 0.001
        );
        assert!(found[1].p > 0.5 && found[1].interval.low < 0.0 && found[0].p_holm >= found[0].p);
        let wins = head_to_head(&all, &["gold"]);
        assert_eq!((wins.len(), wins[0].interval.mean, wins[0].method.as_str()), (4, 1.0, "b"));
        assert!(
            (wins[1].interval.mean - 0.5).abs() < 0.1 && head_to_head(&all, &["rm"]).is_empty()
        );
        let gaps = gaps(&all);
        let (a, b) = (&gaps[0], &gaps[1]);
        assert_eq!(
            (a.method.as_str(), a.from.as_str(), a.to.as_str(), gaps.len()),
            ("a", "id", "ood", 2)
        );
        assert!(
            (a.interval.mean - 12.25).abs() < 1e-9
                && a.interval.low > 5.0
                && b.interval.low < 1.2
                && b.interval.high > 1.2
        );
        assert_eq!(a.interval.n, 100);
    }
}
