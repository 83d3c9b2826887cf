//! A measure beside people: does it order two things as people do? Knows no measure.

use std::collections::BTreeMap;

use super::interval::{Clusters, FEWEST, FEWEST_CLUSTERS, Interval, of_set};
use super::ranks::{ordered_alike, tau_b_of_pairs};

/// Groups of clusters that the jackknife leaves out, one after another.
const GROUPS: usize = 40;

/// Two things that people have compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared<K> {
    /// What the pair belongs to: pairs of one prompt are one cluster.
    pub cluster: K,
    /// The measure of both, higher for what it picks.
    pub measure: [f64; 2],
    /// What people say of both, higher for what they pick, equal for a tie.
    pub people: [f64; 2],
}

/// How often a measure picks what people pick.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Beside {
    /// Of the pairs that people do not call equal, the share that the measure orders alike, a tie
    /// of the measure counting half. By chance it is a half.
    pub agreement: Interval,
    /// Kendall's tau-b over the pairs ([`tau_b_of_pairs`]), by the jackknife over clusters.
    pub tau_b: Interval,
}

/// A measure beside people, with 95% intervals over clusters.
pub fn beside<K: Ord>(all: &[Compared<K>]) -> Beside {
    let alike = |one: &Compared<K>| ordered_alike(one.measure, one.people);
    let decided: Vec<(&K, f64)> =
        all.iter().filter_map(|one| Some((&one.cluster, alike(one)?))).collect();
    let outcomes: Vec<f64> = decided.iter().map(|(_, outcome)| *outcome).collect();
    let agreement = Clusters::of(decided.iter().map(|(key, _)| *key)).share(&outcomes);
    let mut clusters: BTreeMap<&K, Vec<&Compared<K>>> = BTreeMap::new();
    all.iter().for_each(|one| clusters.entry(&one.cluster).or_default().push(one));
    let clusters: Vec<Vec<([f64; 2], [f64; 2])>> = clusters
        .into_values()
        .map(|own| own.into_iter().map(|one| (one.measure, one.people)).collect())
        .collect();
    let tau = |places: &[usize]| {
        let own = places.iter().flat_map(|&at| clusters[at].iter().copied());
        let (measure, people): (Vec<[f64; 2]>, Vec<[f64; 2]>) = own.unzip();
        tau_b_of_pairs(&measure, &people)
    };
    let n = clusters.len();
    let whole = tau(&(0..n).collect::<Vec<usize>>());
    let fewest = if n == all.len() { FEWEST } else { FEWEST_CLUSTERS };
    let Interval { low, high, kind, .. } = of_set(n, GROUPS, fewest, tau).around(whole, n);
    // NaN, of no end, stays: it is above and below nothing.
    let within = |end: f64| if end.abs() > 1.0 { end.signum() } else { end };
    let tau_b = Interval { mean: whole, low: within(low), high: within(high), n: all.len(), kind };
    Beside { agreement, tau_b }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interval::Kind;

    fn compared(cluster: usize, measure: [f64; 2], people: [f64; 2]) -> Compared<usize> {
        Compared { cluster, measure, people }
    }

    #[test]
    fn ties_of_people_are_no_errors_and_ties_of_the_measure_are_half() {
        let all = [
            compared(0, [2.0, 1.0], [1.0, 0.0]),
            compared(1, [2.0, 1.0], [0.0, 1.0]),
            compared(2, [1.0, 1.0], [1.0, 0.0]),
            compared(3, [3.0, 1.0], [1.0, 0.0]),
            compared(4, [3.0, 1.0], [0.5, 0.5]),
        ];
        let found = beside(&all);
        // Alike, opposite, half, alike: 2.5 of 4. P = 2, Q = 1, X = 1, Y = 1: 1 / 4.
        assert_eq!((found.agreement.mean, found.agreement.n), (0.625, 4));
        assert!((found.tau_b.mean - 0.25).abs() < 1e-12 && found.tau_b.n == 5);
        assert!(found.agreement.has_ends() && found.tau_b.kind == Kind::NoneTooFew);
    }

    #[test]
    fn a_measure_that_says_what_people_say_has_all_of_them() {
        let all: Vec<Compared<usize>> = (0..20)
            .map(|at| match at % 2 {
                0 => compared(at, [1.0, 0.0], [1.0, 0.0]),
                _ => compared(at, [0.2, 0.3], [0.0, 1.0]),
            })
            .collect();
        let found = beside(&all);
        assert_eq!((found.agreement.mean, found.agreement.high, found.tau_b.mean), (1.0, 1.0, 1.0));
        // All values equal: nothing is known of the error of tau-b.
        assert_eq!(found.tau_b.kind, Kind::NoneAllEqual);
        assert!(found.agreement.low > 0.8 && found.agreement.low < 1.0);
    }

    #[test]
    fn intervals_are_over_clusters() {
        let one = |at: usize, cluster: usize| {
            let lost = at.is_multiple_of(3);
            compared(cluster, if lost { [0.0, 1.0] } else { [1.0, 0.0] }, [1.0, 0.0])
        };
        let apart = beside(&(0..60).map(|at| one(at, at)).collect::<Vec<_>>());
        let together = beside(&(0..60).map(|at| one(at / 3, at / 3)).collect::<Vec<_>>());
        let width = |of: Interval| of.high - of.low;
        assert!(width(together.agreement) > 1.4 * width(apart.agreement));
        // Items in twos of ten clusters are too few.
        let few = beside(&(0..20).map(|at| one(at, at / 2)).collect::<Vec<_>>());
        assert_eq!(few.tau_b.kind, Kind::NoneTooFew);
        assert!(beside::<usize>(&[]).agreement.n == 0);
    }
}
