//! Comparisons: differences between methods on the same inputs, and between test sets of one method. Knows neither what a method is nor what
//! is measured.
//!
//! 1. A difference is paired: both methods' values of an input are resampled together (Efron and Tibshirani 1993, chapter 8), 10,000 times.
//! 2. Its p value is two-sided: twice the smaller share of resampled differences on either side of zero, one resample added to count and
//!    total, so that it is never 0 (Davison and Hinkley 1997, section 4.2).
//! 3. Of a family of m p values, Holm's step-down correction (1979) bounds the chance of any false claim: the k-th smallest is multiplied by
//!    m - k + 1, and none is below a smaller one's.
//! 4. A generalisation gap is the mean in distribution minus the mean out of it (Kirk et al. 2024, section 5.1): two sets of inputs,
//!    resampled apart.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::bootstrap::{Interval, Resamples};
use super::win;
use crate::random::Stream;

/// Resamples of every comparison.
pub const RESAMPLES: usize = 10_000;

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
    /// That distance, in nats.
    pub kl: f64,
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

/// The first of each two minus the second, which is of the same metric and test set; the p values of a metric are one family.
///
/// # Panics
/// If the two have not as many values.
pub fn differences_of(pairs: &[(&Measured, &Measured)], seed: u64) -> Vec<Difference> {
    let resamples = resamples(pairs.iter().map(|(a, _)| *a), "compare", seed);
    let mut found: Vec<Difference> = Vec::new();
    for (a, b) in pairs {
        assert_eq!(a.values.len(), b.values.len(), "one value an input");
        let values: Vec<f64> = a.values.iter().zip(&b.values).map(|(a, b)| a - b).collect();
        let means = resamples[&(a.test_set.as_str(), values.len())].means(&values);
        found.push(Difference {
            metric: a.metric.clone(),
            test_set: a.test_set.clone(),
            method: a.method.clone(),
            with: b.method.clone(),
            p: p_value(&means),
            interval: Interval::of(values.iter().sum::<f64>() / values.len().max(1) as f64, means, values.len()),
            p_holm: 1.0,
        });
    }
    let metrics: BTreeSet<String> = found.iter().map(|difference| difference.metric.clone()).collect();
    for metric in &metrics {
        let family: Vec<usize> = (0..found.len()).filter(|at| found[*at].metric == *metric).collect();
        let corrected = holm(&family.iter().map(|at| found[*at].p).collect::<Vec<f64>>());
        family.iter().zip(corrected).for_each(|(at, p)| found[*at].p_holm = p);
    }
    found
}

/// Every pair of methods, on every test set, by the metrics that score a text.
pub fn head_to_head(measured: &[Measured], scores: &[&str], seed: u64) -> Vec<Wins> {
    let resamples = resamples(measured, "compare", seed);
    let wins = |(a, b): (&Measured, &Measured)| Wins {
        metric: a.metric.clone(),
        test_set: a.test_set.clone(),
        method: a.method.clone(),
        with: b.method.clone(),
        interval: resamples[&(a.test_set.as_str(), a.values.len())].mean(&win::outcomes(&a.values, &b.values)),
    };
    pairs(measured).into_iter().filter(|(a, _)| scores.contains(&a.metric.as_str())).map(wins).collect()
}

/// Every two methods of a metric and a test set, the later one first.
fn pairs(measured: &[Measured]) -> Vec<(&Measured, &Measured)> {
    let mut pairs = Vec::new();
    for (at, b) in measured.iter().enumerate() {
        let same = |a: &&Measured| (&a.metric, &a.test_set) == (&b.metric, &b.test_set) && a.method != b.method;
        pairs.extend(measured[at + 1..].iter().filter(same).map(|a| (a, b)));
    }
    pairs
}

/// Every method's gap from the first test set to each of the others, by every metric.
pub fn gaps(measured: &[Measured], seed: u64) -> Vec<Gap> {
    let Some(first) = measured.first().map(|measured| measured.test_set.clone()) else { return Vec::new() };
    let resamples = resamples(measured, "gap", seed);
    let means = |measured: &Measured| resamples[&(measured.test_set.as_str(), measured.values.len())].means(&measured.values);
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let mut found = Vec::new();
    for here in measured.iter().filter(|measured| measured.test_set == first) {
        let own = means(here);
        let same = |there: &&Measured| there.test_set != first && (&there.metric, &there.method) == (&here.metric, &here.method);
        for there in measured.iter().filter(same) {
            let apart: Vec<f64> = own.iter().zip(means(there)).map(|(here, there)| here - there).collect();
            let estimate = mean(&here.values) - mean(&there.values);
            found.push(Gap {
                metric: here.metric.clone(),
                method: here.method.clone(),
                from: first.clone(),
                to: there.test_set.clone(),
                interval: Interval::of(estimate, apart, here.values.len() + there.values.len()),
            });
        }
    }
    found
}

/// Resamples of every test set, by its name and its number of inputs.
fn resamples<'a>(measured: impl IntoIterator<Item = &'a Measured>, purpose: &str, seed: u64) -> BTreeMap<(&'a str, usize), Resamples> {
    let sets: BTreeSet<(&str, usize)> = measured.into_iter().map(|measured| (measured.test_set.as_str(), measured.values.len())).collect();
    let draw = |(name, n): (&'a str, usize)| Resamples::new(n, RESAMPLES, &Stream::new(seed, &format!("{purpose} {name}")));
    sets.into_iter().map(|set| (set, draw(set))).collect()
}

/// The two-sided p value of zero, from resampled statistics.
pub fn p_value(resampled: &[f64]) -> f64 {
    let share = |side: fn(f64) -> bool| (1 + resampled.iter().filter(|x| side(**x)).count()) as f64 / (1 + resampled.len()) as f64;
    (2.0 * share(|x| x <= 0.0).min(share(|x| x >= 0.0))).min(1.0)
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
    use super::*;

    #[test]
    fn holm_multiplies_the_smallest_most_and_keeps_the_order() {
        let corrected = holm(&[0.04, 0.01, 0.03]);
        assert!(corrected.iter().zip([0.06, 0.03, 0.06]).all(|(a, b)| (a - b).abs() < 1e-12), "{corrected:?}");
        assert_eq!((holm(&[0.6, 0.9]), holm(&[])), (vec![1.0, 1.0], vec![]));
    }

    #[test]
    fn a_p_value_is_never_zero_and_of_nothing_one() {
        assert_eq!(p_value(&[1.0; 99]), 0.02);
        assert_eq!((p_value(&[0.0; 99]), p_value(&[])), (1.0, 1.0));
    }

    fn measured(metric: &str, test_set: &str, method: &str, values: Vec<f64>) -> Measured {
        Measured { metric: metric.into(), test_set: test_set.into(), method: method.into(), values }
    }

    /// Where there is no difference, five in a hundred p values are below 0.05.
    #[test]
    fn p_values_of_no_difference_are_uniform() {
        let mut draws = Stream::new(3, "null").sequence(0);
        let below = (0..400).filter(|seed| {
            let values: Vec<f64> = (0..60).map(|_| draws.normal()).collect();
            let resamples = Resamples::new(60, 400, &Stream::new(*seed, "p"));
            p_value(&resamples.means(&values)) < 0.05
        });
        let below = below.count();
        // 20, with a standard deviation of 4.4.
        assert!((8..=36).contains(&below), "{below} of 400");
    }

    #[test]
    fn methods_are_compared_in_pairs_on_the_same_inputs() {
        let (base, shift): (Vec<f64>, fn(&f64) -> f64) = ((0..50).map(|i| f64::from(i * 37 % 50)).collect(), |x| x + 1.0 + x * 0.01);
        let all = [
            measured("gold", "id", "a", base.clone()),
            measured("gold", "id", "b", base.iter().map(shift).collect()),
            measured("gold", "id", "c", base.iter().map(|x| 49.0 - x).collect()),
            measured("gold", "ood", "a", base.iter().map(|x| x / 2.0).collect()),
            measured("gold", "ood", "b", base.clone()),
        ];
        let found = differences(&all, 0);
        let pairs: Vec<(&str, &str, &str)> =
            found.iter().map(|found| (found.test_set.as_str(), found.method.as_str(), found.with.as_str())).collect();
        assert_eq!(pairs, [("id", "b", "a"), ("id", "c", "a"), ("id", "c", "b"), ("ood", "b", "a")]);
        // Inputs vary by tens, b over a hardly.
        assert!((found[0].interval.mean - 1.245).abs() < 1e-9 && found[0].interval.low > 1.1 && found[0].p < 0.001);
        assert!(found[1].p > 0.5 && found[1].interval.low < 0.0 && found[0].p_holm >= found[0].p);
        let wins = head_to_head(&all, &["gold"], 0);
        assert_eq!((wins.len(), wins[0].interval.mean, wins[0].method.as_str()), (4, 1.0, "b"));
        assert!((wins[1].interval.mean - 0.5).abs() < 0.1 && head_to_head(&all, &["rm"], 0).is_empty());
        let gaps = gaps(&all, 0);
        let (a, b) = (&gaps[0], &gaps[1]);
        assert_eq!((a.method.as_str(), a.from.as_str(), a.to.as_str(), gaps.len()), ("a", "id", "ood", 2));
        assert!((a.interval.mean - 12.25).abs() < 1e-9 && a.interval.low > 5.0 && b.interval.low < 1.2 && b.interval.high > 1.2);
        assert_eq!(a.interval.n, 100);
    }
}
