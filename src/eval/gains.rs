//! Gaps of gains: what one method gains over another in distribution, minus what it gains out of
//! it. It is 0 where both methods lose as much, however hard the other test set is. Two sets of
//! inputs, each with the interval of a paired difference ([`apart`]).

use serde::{Deserialize, Serialize};

use super::compare::{Measured, holm_by, minus, paired, pairs};
use super::interval::{Interval, apart, p_apart};

/// How much of what one method gains over another is lost from one test set to another, by one
/// metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GainGap {
    /// The metric.
    pub metric: String,
    /// What gains.
    pub method: String,
    /// What it gains over.
    pub with: String,
    /// The test set in distribution.
    pub from: String,
    /// The one out of it.
    pub to: String,
    /// Mean of `method` minus mean of `with` on `from`, minus the same on `to`, with its interval;
    /// `n` counts the inputs of both.
    #[serde(flatten)]
    pub interval: Interval,
    /// Two-sided p value of no gap; 1 where there is no interval.
    pub p: f64,
    /// The same, Holm-corrected over all gaps of gains in this metric.
    pub p_holm: f64,
}

/// The gap of gains of every pair of methods from the first test set to each of the others, by
/// every metric; the p values of a metric are one family.
///
/// # Panics
/// If two methods have not as many values on the same test set.
pub fn gain_gaps(measured: &[Measured]) -> Vec<GainGap> {
    let Some(first) = measured.first().map(|measured| measured.test_set.clone()) else {
        return Vec::new();
    };
    let pairs = pairs(measured);
    let gain = |(a, b): &(&Measured, &Measured)| {
        assert_eq!(a.values.len(), b.values.len(), "one value an input");
        let values: Vec<f64> = a.values.iter().zip(&b.values).map(|(a, b)| minus(*a, *b)).collect();
        paired(&a.metric, &values)
    };
    let mut found = Vec::new();
    for here in pairs.iter().filter(|(a, _)| a.test_set == first) {
        let own = gain(here);
        let names = |pair: &(&Measured, &Measured)| {
            [&pair.0.metric, &pair.0.method, &pair.1.method].map(String::clone)
        };
        let [metric, method, with] = names(here);
        let same = |there: &&(&Measured, &Measured)| {
            there.0.test_set != first && names(there) == [&*metric, &*method, &*with]
        };
        for there in pairs.iter().filter(same) {
            let interval = apart(own, gain(there));
            found.push(GainGap {
                metric: metric.clone(),
                method: method.clone(),
                with: with.clone(),
                from: first.clone(),
                to: there.0.test_set.clone(),
                interval,
                p: p_apart(&interval).unwrap_or(1.0),
                p_holm: 1.0,
            });
        }
    }
    let corrected = holm_by(found.iter().map(|one| (one.metric.as_str(), one.p)));
    found.iter_mut().zip(corrected).for_each(|(one, p)| one.p_holm = p);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    /// Gaps of gains where two methods gain as much on both test sets, however skewed the gain: the
    /// share of p values below 0.05.
    #[test]
    fn gaps_of_gains_are_seldom_significant_by_chance() {
        let rate = |sizes: [usize; 2], skewed: bool| {
            let sets = 4_000;
            let told = (0..sets).filter(|set| {
                let mut draws = Stream::new(5, "gains").sequence(*set);
                let mut draw = || {
                    let value = draws.normal();
                    // Lognormal less its mean.
                    if skewed { value.exp() - 0.5f64.exp() } else { value }
                };
                let of = |values: Vec<f64>, test_set: &str| {
                    let one = |method: &str, values: Vec<f64>| Measured {
                        metric: "gold".into(),
                        test_set: test_set.into(),
                        method: method.into(),
                        values,
                    };
                    [one("with", vec![0.0; values.len()]), one("method", values)]
                };
                let first = of((0..sizes[0]).map(|_| draw()).collect(), "id");
                let other = of((0..sizes[1]).map(|_| draw()).collect(), "ood");
                gain_gaps(&[first, other].concat())[0].p < 0.05
            });
            told.count() as f64 / sets as f64
        };
        for sizes in [[8, 8], [20, 20], [20, 200], [200, 200]] {
            let (normal, skewed) = (rate(sizes, false), rate(sizes, true));
            println!("{sizes:?}: normal {normal:.3}, lognormal {skewed:.3}");
            assert!(normal < 0.06 && skewed < 0.07, "{sizes:?}: {normal} {skewed}");
            assert!(normal > 0.01, "{sizes:?}: a test that rejects nothing tells nothing");
        }
    }
}
