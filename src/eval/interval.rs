//! 95% intervals over inputs, and the p value that a mean is 0. Knows neither what an input is nor
//! what is measured. docs/evaluation.md has the table of how often each kind covers, at n = 8, 20,
//! 40 and 200; `tests/evaluation/coverage.rs` makes it.
//!
//! 1. A mean ([`of_mean`]): at each end the wider of two intervals at the quantiles of Student's t
//!    with n - 1 degrees of freedom. One is Student's; the other is of a statistic that is
//!    transformed against skewness (Hall 1992, "On the removal of skewness by transformation", J.
//!    R. Statist. Soc. B 54, 221-228, the cubic). With t = (mean - mu) / s, g the sample skewness:
//!    T = sqrt(n) (t + g t^2 / 3 + g^2 t^3 / 27 + g / (6 n)), which is inverted. Student's alone is
//!    too narrow where values are skewed, Hall's where they have a third moment by chance.
//! 2. A share of outcomes in [0, 1], ties at one half ([`of_share`]): Wilson's interval (1927) with
//!    an effective number of outcomes n' = k p~ (1 - p~) / s~^2 of k inputs (the design effect of
//!    Korn and Graubard 1998, Survey Methodology 24, 193-201). p~ and s~^2 are share and variance
//!    with z^2/2 inputs of outcome 1 and as many of outcome 0 added, as Agresti and Coull (1998)
//!    add them, so that inputs that all agree leave a width. Outcomes of 0 and 1 give n' = n:
//!    Wilson's own interval. Within 3 outcomes of an end the limit is the one of Poisson's
//!    distribution, as Brown, Cai and DasGupta have it (2001, Statistical Science 16, section
//!    4.1.1).
//! 3. Values in clusters, such as pairs of one prompt ([`Clusters`]): the ratio of sums over
//!    clusters is linearised (Cochran 1977, "Sampling Techniques", 6.3; 9.4), and clusters take the
//!    part of inputs in 1 and 2.
//! 4. A statistic of the whole set ([`of_set`]): the jackknife (Tukey 1958; Efron and Tibshirani
//!    1993, chapter 11) by groups of as many inputs each, its pseudo-values read as in 1, around
//!    the estimate on all inputs. A bootstrap would count no input twice as new.
//! 5. A difference of two independent estimates ([`apart`]): from the two intervals (Newcombe 1998,
//!    method 10; Zou and Donner 2008, Statistics in Medicine 27, 1693-1702).
//! 6. Fewer inputs than [`FEWEST`], or values that are all equal, tell nothing of the error of a
//!    mean: there is no interval then, and none is made up. A share has one of any number of
//!    inputs.
//! 7. What an interval leaves out: it is over inputs only, and says nothing of another seed of
//!    training.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::{Deserialize, Deserializer, Serialize};
use statrs::distribution::{ContinuousCDF, Gamma, Normal, StudentsT};

/// Inputs (or clusters of them) below which a mean has no interval: of 7 and fewer, skewed values
/// are covered less than 92 times in a hundred.
pub const FEWEST: usize = 8;

/// Clusters of several values below which their mean has no interval: clusters of unequal sizes are
/// covered 90 times in a hundred at 8.
pub const FEWEST_CLUSTERS: usize = 20;

/// Outcomes from an end up to which the limit of a share there is Poisson's. Three of them count
/// as three, whatever rounding makes of the effective number.
const FEW: f64 = 3.0;

/// The 97.5th percentile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// How an interval was made; docs/evaluation.md has the formulas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The file does not say.
    #[default]
    Unsaid,
    /// The figure is known without error.
    Exact,
    /// The wider of Student's t and the same with Hall's correction for skewness.
    SkewT,
    /// The same, wider at both ends by the bias that was corrected.
    SkewTBias,
    /// Wilson's of an effective number of outcomes.
    Wilson,
    /// The jackknife over inputs.
    Jackknife,
    /// From the intervals of two independent sets of inputs.
    TwoSets,
    /// Student's t, over seeds.
    StudentT,
    /// Over seeds and test inputs that all seeds share.
    Crossed,
    /// There is none: too few inputs.
    NoneTooFew,
    /// There is none: all values are equal.
    NoneAllEqual,
}

impl Kind {
    /// Whether the file does not say.
    pub fn is_unsaid(&self) -> bool {
        *self == Kind::Unsaid
    }
}

/// An estimate with its 95% interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The statistic on all inputs.
    pub mean: f64,
    /// Lower end; NaN where there is no interval, which is `null` in JSON.
    #[serde(deserialize_with = "end")]
    pub low: f64,
    /// Upper end; NaN where there is no interval, which is `null` in JSON.
    #[serde(deserialize_with = "end")]
    pub high: f64,
    /// Inputs.
    pub n: usize,
    /// How it was made, and why there is none.
    #[serde(default, rename = "interval", skip_serializing_if = "Kind::is_unsaid")]
    pub kind: Kind,
}

/// The end of an interval: `null` is no end.
fn end<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

impl Interval {
    /// A figure without error, over `n` inputs.
    pub fn exact(mean: f64, n: usize) -> Self {
        Interval { mean, low: mean, high: mean, n, kind: Kind::Exact }
    }

    /// A figure of whose error nothing can be said.
    pub fn none(mean: f64, n: usize, kind: Kind) -> Self {
        Interval { mean, low: f64::NAN, high: f64::NAN, n, kind }
    }

    /// Whether it has ends.
    pub fn has_ends(&self) -> bool {
        !self.low.is_nan() && !self.high.is_nan()
    }
}

/// The mean of one value an input.
pub fn of_mean(values: &[f64]) -> Interval {
    match Skewed::of(values, FEWEST) {
        Ok(skewed) => {
            let mean = average(values);
            let [low, high] = skewed.around(mean);
            Interval { mean, low, high, n: values.len(), kind: Kind::SkewT }
        }
        Err(kind) => Interval::none(average(values), values.len(), kind),
    }
}

/// The share of one outcome in [0, 1] an input, a tie being one half.
pub fn of_share(outcomes: &[f64]) -> Interval {
    Clusters::each(outcomes.len()).share(outcomes)
}

/// The mean difference of two outcomes in [0, 1] of each input: twice the share of (1 + difference)
/// / 2, less 1.
pub fn of_difference_of_shares(differences: &[f64]) -> Interval {
    let Interval { mean, low, high, n, kind } = of_share(&halves(differences));
    Interval { mean: 2.0 * mean - 1.0, low: 2.0 * low - 1.0, high: 2.0 * high - 1.0, n, kind }
}

/// The two-sided p value that the mean is 0 for which [`of_mean`] has an end at 0; `None` where it
/// has no ends.
pub fn p_of_mean(values: &[f64]) -> Option<f64> {
    Skewed::of(values, FEWEST).ok().map(|skewed| skewed.p(average(values)))
}

/// The same of [`of_difference_of_shares`].
pub fn p_of_difference_of_shares(differences: &[f64]) -> f64 {
    let (share, n) = Clusters::each(differences.len()).effective(&halves(differences));
    let z = (share - 0.5).abs() / (0.25 / n).sqrt();
    2.0 * Normal::standard().cdf(-z)
}

fn halves(differences: &[f64]) -> Vec<f64> {
    differences.iter().map(|difference| (1.0 + difference) / 2.0).collect()
}

/// The first estimate minus the second, of other inputs.
pub fn apart(a: Interval, b: Interval) -> Interval {
    let (mean, n) = (a.mean - b.mean, a.n + b.n);
    let reach = |a: f64, b: f64| (a.powi(2) + b.powi(2)).sqrt();
    match [a, b].into_iter().find(|one| !one.has_ends()) {
        Some(none) => Interval::none(mean, n, none.kind),
        None => {
            let (low, high) = (
                mean - reach(a.mean - a.low, b.high - b.mean),
                mean + reach(a.high - a.mean, b.mean - b.low),
            );
            Interval { mean, low, high, n, kind: Kind::TwoSets }
        }
    }
}

/// The two-sided p value that the difference of [`apart`] is 0: that of a normal distribution whose
/// interval ends where this one does on the side of 0. It is 0.05 where the interval ends at 0;
/// `None` where there are no ends.
pub fn p_apart(difference: &Interval) -> Option<f64> {
    let Interval { mean, low, high, .. } = *difference;
    let reach = if mean < 0.0 { high - mean } else { mean - low };
    let p = 2.0 * Normal::standard().cdf(-Z * mean.abs() / reach);
    (difference.has_ends() && reach > 0.0).then_some(p)
}

/// Values that belong together, such as those of pairs of one prompt: what is drawn at random is a
/// cluster.
#[derive(Clone, Debug)]
pub struct Clusters {
    /// The values' places, cluster by cluster.
    members: Vec<Vec<usize>>,
}

impl Clusters {
    /// Of values whose keys are equal, in the order in which they first come.
    pub fn of<K: Ord>(keys: impl IntoIterator<Item = K>) -> Self {
        let (mut places, mut members) = (BTreeMap::new(), Vec::<Vec<usize>>::new());
        for (at, key) in keys.into_iter().enumerate() {
            let place = *places.entry(key).or_insert(members.len());
            match members.get_mut(place) {
                Some(own) => own.push(at),
                None => members.push(vec![at]),
            }
        }
        Clusters { members }
    }

    /// Of one value each.
    pub fn each(n: usize) -> Self {
        Clusters { members: (0..n).map(|at| vec![at]).collect() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The mean over all values.
    pub fn mean(&self, values: &[f64]) -> Interval {
        let (mean, size) = (average(values), values.len() as f64 / self.len().max(1) as f64);
        let apart = |own: &Vec<usize>| own.iter().map(|&at| values[at] - mean).sum::<f64>() / size;
        let fewest = if self.len() == values.len() { FEWEST } else { FEWEST_CLUSTERS };
        match Skewed::of(&self.members.iter().map(apart).collect::<Vec<f64>>(), fewest) {
            Ok(skewed) => {
                let [low, high] = skewed.around(mean);
                Interval { mean, low, high, n: values.len(), kind: Kind::SkewT }
            }
            Err(kind) => Interval::none(mean, values.len(), kind),
        }
    }

    /// The share of outcomes in [0, 1].
    pub fn share(&self, outcomes: &[f64]) -> Interval {
        let n = outcomes.len();
        if n == 0 {
            return Interval::none(0.0, 0, Kind::NoneTooFew);
        }
        let (share, effective) = self.effective(outcomes);
        let [low, high] = wilson(share, effective);
        Interval { mean: share, low, high, n, kind: Kind::Wilson }
    }

    /// The share of outcomes, and how many independent outcomes of 0 and 1 would tell as much of
    /// it.
    fn effective(&self, outcomes: &[f64]) -> (f64, f64) {
        const ADDED: f64 = Z * Z / 2.0;
        let (n, k) = (outcomes.len() as f64, self.len() as f64);
        let (size, sum) = (n / k, outcomes.iter().sum::<f64>());
        let p = (sum + ADDED * size) / (n + 2.0 * ADDED * size);
        let off =
            |own: &Vec<usize>| (own.iter().map(|&at| outcomes[at] - p).sum::<f64>() / size).powi(2);
        let added = ADDED * (p.powi(2) + (1.0 - p).powi(2));
        let variance = (self.members.iter().map(off).sum::<f64>() + added) / (k + 2.0 * ADDED);
        (sum / n, k * p * (1.0 - p) / variance)
    }
}

/// Wilson's interval of a share of `n` outcomes, which need not be a whole number, with Poisson's
/// limits near 0 and 1.
fn wilson(share: f64, n: f64) -> [f64; 2] {
    let middle = (share + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let reach = Z / (1.0 + Z * Z / n) * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    // Of so few outcomes, the mean of Poisson's distribution that gives as many or more in 5 of 100
    // draws.
    let least = |outcomes: f64| match outcomes {
        few if few <= 1e-9 => 0.0,
        few if few <= FEW + 1e-9 => {
            Gamma::new(few, 1.0).expect("a shape above 0").inverse_cdf(0.05) / n
        }
        _ => 1.0,
    };
    [
        (middle - reach).min(least(share * n)).max(0.0),
        (middle + reach).max(1.0 - least((1.0 - share) * n)).min(1.0),
    ]
}

/// The jackknife of a statistic of the inputs at some indices as a set: how many things differ
/// among them, and the like. It leaves out at most `most` groups, one after another, and needs
/// `fewest` inputs. The statistic is called for all inputs and once a group.
pub fn of_set(
    n: usize,
    most: usize,
    fewest: usize,
    statistic: impl Fn(&[usize]) -> f64 + Sync,
) -> OfSet {
    if n < fewest.max(2) {
        return OfSet(Err(Kind::NoneTooFew));
    }
    let size = n.div_ceil(most.max(2));
    let groups = n / size;
    let all: Vec<usize> = (0..n).collect();
    let whole = statistic(&all);
    let without = |group: usize| {
        let rest: Vec<usize> = all.iter().copied().filter(|at| at / size != group).collect();
        (n - size) as f64 / size as f64 * (whole - statistic(&rest))
    };
    let mut values: Vec<f64> = (0..groups).into_par_iter().map(without).collect();
    // The last inputs, fewer than a group, are never left out: the mean of n is of n / size groups.
    let (middle, scale) = (average(&values), ((groups * size) as f64 / n as f64).sqrt());
    values.iter_mut().for_each(|value| *value = scale * (*value - middle));
    // Rounding alone makes values differ a little.
    let told = values.iter().any(|value| value.abs() > 1e-9 * whole.abs().max(1e-9));
    OfSet(if told { Skewed::of(&values, 2) } else { Err(Kind::NoneAllEqual) })
}

/// What the jackknife says of a statistic.
#[derive(Clone, Copy, Debug)]
pub struct OfSet(Result<Skewed, Kind>);

impl OfSet {
    /// The interval around an estimate from `n` inputs.
    pub fn around(&self, mean: f64, n: usize) -> Interval {
        self.through(mean, n, |x| x, |x| x)
    }

    /// The same for a statistic that was jackknifed after `forth`, which rises and `back` undoes.
    pub fn through(
        &self,
        mean: f64,
        n: usize,
        forth: impl Fn(f64) -> f64,
        back: impl Fn(f64) -> f64,
    ) -> Interval {
        match &self.0 {
            Ok(skewed) => {
                let [low, high] = skewed.around(forth(mean)).map(back);
                Interval { mean, low, high, n, kind: Kind::Jackknife }
            }
            Err(kind) => Interval::none(mean, n, *kind),
        }
    }
}

/// How far values spread and lean.
#[derive(Clone, Copy, Debug)]
pub(super) struct Skewed {
    n: f64,
    /// Sample standard deviation.
    deviation: f64,
    skewness: f64,
}

impl Skewed {
    pub(super) fn of(values: &[f64], fewest: usize) -> Result<Self, Kind> {
        let n = values.len();
        if n < fewest.max(2) {
            return Err(Kind::NoneTooFew);
        }
        if values.iter().all(|value| *value == values[0]) {
            return Err(Kind::NoneAllEqual);
        }
        let mean = average(values);
        let moment = |power: i32| {
            values.iter().map(|value| (value - mean).powi(power)).sum::<f64>() / n as f64
        };
        let (second, n) = (moment(2), n as f64);
        Ok(Skewed {
            n,
            deviation: (second * n / (n - 1.0)).sqrt(),
            skewness: moment(3) / second.powf(1.5),
        })
    }

    /// Hall's transform of (mean - mu) / deviation.
    fn transform(&self, t: f64) -> f64 {
        let g = self.skewness;
        self.n.sqrt() * (t + g * t.powi(2) / 3.0 + (g * g) * t.powi(3) / 27.0 + g / (6.0 * self.n))
    }

    /// What [`Skewed::transform`] makes `value` of.
    fn inverse(&self, value: f64) -> f64 {
        let (g, shifted) = (self.skewness, value / self.n.sqrt() - self.skewness / (6.0 * self.n));
        match g.abs() < 1e-6 {
            true => shifted,
            false => 3.0 / g * ((1.0 + g * shifted).cbrt() - 1.0),
        }
    }

    /// The interval around the mean.
    pub(super) fn around(&self, mean: f64) -> [f64; 2] {
        let quantile = student(self.n - 1.0).inverse_cdf(0.975);
        let plain = quantile / self.n.sqrt();
        [
            mean - self.deviation * self.inverse(quantile).max(plain),
            mean - self.deviation * self.inverse(-quantile).min(-plain),
        ]
    }

    /// The two-sided p value of 0, where the mean is this: the larger of the two intervals'.
    fn p(&self, mean: f64) -> f64 {
        let t = mean / self.deviation;
        let least = self.transform(t).abs().min(self.n.sqrt() * t.abs());
        2.0 * student(self.n - 1.0).cdf(-least)
    }
}

/// Student's distribution.
pub(super) fn student(freedom: f64) -> StudentsT {
    StudentsT::new(0.0, 1.0, freedom).expect("degrees of freedom are at least 1")
}

/// The mean, 0 of nothing.
pub fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends and p value of the values that lean.
    const LEANING: [f64; 3] = [-0.03087232, 7.11880490, 0.0539718364];

    fn close(found: Interval, low: f64, high: f64, tolerance: f64) {
        assert!(
            (found.low - low).abs() < tolerance && (found.high - high).abs() < tolerance,
            "{found:?}"
        );
    }

    fn outcomes(right: usize, n: usize) -> Vec<f64> {
        (0..n).map(|at| f64::from(u8::from(at < right))).collect()
    }

    /// Wilson's interval of 80 of 100 is 0.7112 to 0.8666; of 7 of 8 it is 0.5291 to 0.9776, whose
    /// upper end Poisson's limit raises to 1 + ln(0.95) / 8.
    #[test]
    fn shares_are_wilson_s_but_for_the_ends() {
        close(of_share(&outcomes(80, 100)), 0.7112, 0.8666, 1e-4);
        close(of_share(&outcomes(7, 8)), 0.5291, 1.0 + 0.95f64.ln() / 8.0, 1e-4);
        let all = of_share(&outcomes(20, 20));
        assert!(all.mean == 1.0 && all.high == 1.0 && (0.8..0.9).contains(&all.low), "{all:?}");
    }

    /// Three outcomes have Poisson's limit whatever their number is rounded to.
    #[test]
    fn three_outcomes_are_few_of_any_number() {
        for n in 4..60 {
            let limit = Gamma::new(3.0, 1.0).unwrap().inverse_cdf(0.05) / n as f64;
            assert!((of_share(&outcomes(3, n)).low - limit).abs() < 1e-6, "{n}");
            assert!((of_share(&outcomes(n - 3, n)).high - 1.0 + limit).abs() < 1e-6, "{n}");
        }
    }

    /// No share has an interval of no width, whatever the outcomes and however many.
    #[test]
    fn outcomes_that_agree_leave_a_width() {
        for n in [1, 2, 8, 40, 200] {
            for outcome in [0.0, 0.5, 1.0] {
                let found = of_share(&vec![outcome; n]);
                assert!(
                    found.high - found.low > 0.5 / n as f64
                        && found.low >= 0.0
                        && found.high <= 1.0,
                    "{n}: {found:?}"
                );
            }
            let none = of_difference_of_shares(&vec![0.0; n]);
            assert!(none.low < 0.0 && none.high > 0.0 && none.mean == 0.0, "{none:?}");
        }
        // Ties say more than wins and losses do: the interval is narrower.
        let width = |found: Interval| found.high - found.low;
        let tied: Vec<f64> = (0..200).map(|at| [0.0, 0.5, 0.5, 1.0][at % 4]).collect();
        assert!(
            (width(of_share(&tied)) / width(of_share(&outcomes(100, 200))) - 0.5f64.sqrt()).abs()
                < 0.02
        );
    }

    /// Of values that lean to no side it is Student's t: 2.3646 standard errors for 8.
    #[test]
    fn a_mean_is_student_s_where_nothing_leans_and_leans_with_its_values() {
        let even = [-7.0, -5.0, -3.0, -1.0, 1.0, 3.0, 5.0, 7.0];
        let reach = 2.364_624 * (24.0f64 / 8.0).sqrt();
        close(of_mean(&even), -reach, reach, 1e-5);
        assert!((p_of_mean(&even).unwrap() - 1.0).abs() < 1e-12);
        // By an independent script, of the formula in the head.
        let leaning = [0.1, 0.2, 0.3, 0.5, 0.9, 1.4, 2.6, 5.0];
        close(of_mean(&leaning), LEANING[0], LEANING[1], 1e-6);
        assert!((p_of_mean(&leaning).unwrap() - LEANING[2]).abs() < 1e-6);
    }

    #[test]
    fn an_interval_ends_at_0_where_its_p_value_is_a_twentieth() {
        let base = [0.1, 0.2, 0.3, 0.5, 0.9, 1.4, 2.6, 5.0];
        for end in [of_mean(&base).low, of_mean(&base).high] {
            let moved: Vec<f64> = base.iter().map(|value| value - end).collect();
            assert!((p_of_mean(&moved).unwrap() - 0.05).abs() < 1e-6);
        }
    }

    #[test]
    fn too_few_or_equal_values_have_no_interval_and_json_says_why() {
        for (values, kind) in [
            (vec![1.0, 2.0, 4.0], Kind::NoneTooFew),
            (vec![3.0; 9], Kind::NoneAllEqual),
            (vec![], Kind::NoneTooFew),
        ] {
            let found = of_mean(&values);
            assert!(
                !found.has_ends() && found.kind == kind && found.n == values.len(),
                "{found:?}"
            );
            let json = serde_json::to_value(found).unwrap();
            assert!(
                json["low"].is_null()
                    && json["high"].is_null()
                    && json["interval"].as_str().unwrap().starts_with("none_")
            );
            let read: Interval = serde_json::from_value(json).unwrap();
            assert!(!read.has_ends() && read.kind == kind);
        }
        assert_eq!(Clusters::each(0).share(&[]).kind, Kind::NoneTooFew);
        // Eight pairs of two prompts are two.
        assert_eq!(
            Clusters::of([1, 1, 1, 1, 2, 2, 2, 2])
                .mean(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
                .kind,
            Kind::NoneTooFew
        );
    }

    /// Newcombe's own example: 56 of 70 against 48 of 80 is 0.2, 0.0524 to 0.3339.
    #[test]
    fn two_shares_differ_as_in_newcombe_s_example() {
        let found = apart(of_share(&outcomes(56, 70)), of_share(&outcomes(48, 80)));
        close(found, 0.0524, 0.3339, 1e-4);
        assert!((found.mean - 0.2).abs() < 1e-12 && found.n == 150 && found.kind == Kind::TwoSets);
        assert_eq!(apart(of_mean(&[1.0]), of_share(&[1.0])).kind, Kind::NoneTooFew);
    }

    /// Clusters of one are inputs; of clusters the ratio of sums is linearised.
    #[test]
    fn clusters_take_the_part_of_inputs() {
        let values = [0.3, 1.2, -0.7, 2.2, 0.4, 0.9, 1.1, -0.2, 0.6];
        let (ones, inputs) = (Clusters::of(0..9).mean(&values), of_mean(&values));
        close(ones, inputs.low, inputs.high, 1e-12);
        let (sizes, mut all, mut keys) = ([1, 2, 3, 4].repeat(6), Vec::new(), Vec::new());
        for (key, size) in sizes.into_iter().enumerate() {
            (0..size).for_each(|at| all.push((key * at) as f64));
            keys.extend(vec![key; size]);
        }
        let mean = average(&all);
        let sums: Vec<f64> = (0..24)
            .map(|key| {
                all.iter()
                    .zip(&keys)
                    .filter(|(_, own)| **own == key)
                    .map(|(value, _)| value - mean)
                    .sum::<f64>()
                    / 2.5
                    + mean
            })
            .collect();
        let (found, expected) = (Clusters::of(&keys).mean(&all), of_mean(&sums));
        close(found, expected.low, expected.high, 1e-9);
        assert_eq!(found.n, 60);
        assert_eq!(Clusters::of(&keys[..20]).mean(&all[..20]).kind, Kind::NoneTooFew);
    }

    /// The jackknife of a mean is the interval of the mean, and nearly so by groups.
    #[test]
    fn the_jackknife_of_a_mean_is_that_of_a_mean() {
        let values: Vec<f64> = (0..30).map(|at| f64::from(at * at % 17)).collect();
        let mean = |indices: &[usize]| {
            indices.iter().map(|&at| values[at]).sum::<f64>() / indices.len() as f64
        };
        let (whole, expected) = (average(&values), of_mean(&values));
        let found = of_set(30, 40, 8, mean).around(whole, 30);
        close(found, expected.low, expected.high, 1e-9);
        assert_eq!(found.kind, Kind::Jackknife);
        let grouped = of_set(30, 10, 8, mean).around(whole, 30);
        let ratio = (grouped.high - grouped.low) / (expected.high - expected.low);
        assert!((0.5..1.7).contains(&ratio), "{ratio}");
        assert_eq!(of_set(7, 40, 8, mean).around(whole, 7).kind, Kind::NoneTooFew);
        assert_eq!(of_set(9, 40, 8, |_| 0.3).around(0.3, 9).kind, Kind::NoneAllEqual);
    }
}
