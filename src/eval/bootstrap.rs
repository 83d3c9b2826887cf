//! 95% intervals over inputs. Knows neither what an input is nor what is measured.
//!
//! 1. [`Resamples`] draws its index sets once; every figure over the same inputs is read on the same sets, so methods are paired and a
//!    difference needs no draws of its own. Set i depends on (stream, i) alone.
//! 2. [`Resamples::mean`], [`Resamples::difference`]: percentile bootstrap (Efron and Tibshirani 1993, chapter 13), n draws with
//!    replacement.
//! 3. [`Resamples::set`]: for statistics that count distinct things across inputs. Drawing an input twice would count nothing new, so
//!    resamples with replacement lie far below the estimate; half of the inputs are drawn WITHOUT replacement instead, which has the
//!    same variance for a mean (Politis, Romano and Wolf 1999, "Subsampling", 2.2), and the deviations from their own mean are laid
//!    around the estimate, because the size of the set shifts such statistics.
//! 4. Percentiles interpolate linearly between order statistics.
//! 5. What an interval leaves out: it is over inputs only, and says nothing of another seed of training.

use serde::{Deserialize, Serialize};

use crate::random::Stream;

/// Resamples a table's intervals are made of, unless there is a reason for another number.
pub const RESAMPLES: usize = 1000;

/// An estimate with its 95% interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The statistic on all inputs.
    pub mean: f64,
    /// 2.5th percentile.
    pub low: f64,
    /// 97.5th percentile.
    pub high: f64,
    /// Inputs; the rest is 0 where this is.
    pub n: usize,
}

impl Interval {
    /// From the estimate and what it came to on resamples.
    pub fn of(mean: f64, mut resampled: Vec<f64>, n: usize) -> Self {
        if resampled.is_empty() || n == 0 {
            return Interval { mean, low: mean, high: mean, n };
        }
        resampled.sort_by(f64::total_cmp);
        Interval { mean, low: percentile(&resampled, 0.025), high: percentile(&resampled, 0.975), n }
    }
}

/// Index sets over n inputs.
#[derive(Clone, Debug)]
pub struct Resamples {
    n: usize,
    /// Count sets of n indices each, drawn with replacement.
    with_replacement: Vec<usize>,
    /// Count sets of n / 2 indices each, drawn without.
    halves: Vec<usize>,
    count: usize,
}

impl Resamples {
    /// `count` sets over `n` inputs.
    pub fn new(n: usize, count: usize, stream: &Stream) -> Self {
        let mut with_replacement = Vec::with_capacity(n * count);
        let mut halves = Vec::with_capacity(n / 2 * count);
        let mut all: Vec<usize> = Vec::with_capacity(n);
        for set in 0..count {
            let mut draws = stream.sequence(set as u64);
            with_replacement.extend((0..n).map(|_| draws.below(n)));
            all.clear();
            all.extend(0..n);
            for i in 0..n / 2 {
                all.swap(i, i + draws.below(n - i));
            }
            halves.extend_from_slice(&all[..n / 2]);
        }
        Resamples { n, with_replacement, halves, count }
    }

    /// The mean of one value an input.
    ///
    /// # Panics
    /// If there is not one value an input.
    pub fn mean(&self, values: &[f64]) -> Interval {
        assert_eq!(values.len(), self.n, "one value an input");
        self.interval(|indices| indices.iter().map(|&i| values[i]).sum::<f64>() / indices.len() as f64)
    }

    /// The mean of one value an input, of every resample drawn with replacement.
    pub fn means(&self, values: &[f64]) -> Vec<f64> {
        assert_eq!(values.len(), self.n, "one value an input");
        let mean = |indices: &[usize]| indices.iter().map(|&i| values[i]).sum::<f64>() / self.n as f64;
        self.with_replacement.chunks_exact(self.n.max(1)).map(mean).collect()
    }

    /// The mean of `a - b`, input by input.
    ///
    /// # Panics
    /// If there is not one value an input.
    pub fn difference(&self, a: &[f64], b: &[f64]) -> Interval {
        assert_eq!(a.len(), b.len(), "one value an input");
        self.mean(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<f64>>())
    }

    /// A smooth statistic of the inputs at `indices`, an input drawn twice counting twice.
    pub fn interval(&self, statistic: impl FnMut(&[usize]) -> f64) -> Interval {
        self.read(&self.with_replacement, self.n, statistic, |_, _, x| x)
    }

    /// A statistic of the inputs at `indices` as a set: how many things differ among them, and the like.
    pub fn set(&self, statistic: impl FnMut(&[usize]) -> f64) -> Interval {
        let half = self.n / 2;
        // An odd n makes the half a little small and its variance a little large.
        let scale = (half as f64 / (self.n - half).max(1) as f64).sqrt();
        self.read(&self.halves, half, statistic, |estimate, centre, x| estimate + scale * (x - centre))
    }

    /// The statistic on all inputs, and percentiles of it on `sets` of `size`, each put through `place(estimate, mean, it)`.
    fn read(
        &self,
        sets: &[usize],
        size: usize,
        mut statistic: impl FnMut(&[usize]) -> f64,
        place: impl Fn(f64, f64, f64) -> f64,
    ) -> Interval {
        if self.n == 0 {
            return Interval { mean: 0.0, low: 0.0, high: 0.0, n: 0 };
        }
        let mean = statistic(&(0..self.n).collect::<Vec<usize>>());
        if size == 0 || self.count == 0 {
            return Interval { mean, low: mean, high: mean, n: self.n };
        }
        let mut found: Vec<f64> = sets.chunks_exact(size).map(statistic).collect();
        let centre = found.iter().sum::<f64>() / found.len() as f64;
        found.iter_mut().for_each(|x| *x = place(mean, centre, *x));
        found.sort_by(f64::total_cmp);
        Interval { mean, low: percentile(&found, 0.025), high: percentile(&found, 0.975), n: self.n }
    }
}

/// The value below which `share` of the sorted, non-empty values lie, linear between neighbours.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resamples(n: usize) -> Resamples {
        Resamples::new(n, RESAMPLES, &Stream::new(7, "bootstrap"))
    }

    #[test]
    fn percentiles_interpolate() {
        let values = [1.0, 2.0, 4.0, 8.0, 16.0];
        assert_eq!([0.0, 0.25, 0.375, 1.0].map(|share| percentile(&values, share)), [1.0, 2.0, 3.0, 16.0]);
    }

    /// The standard error of a mean is known: both kinds of interval are 1.96 of it on either side.
    #[test]
    fn both_intervals_of_a_mean_have_the_width_of_theory() {
        let mut draws = Stream::new(1, "values").sequence(0);
        let values: Vec<f64> = (0..401).map(|_| draws.normal()).collect();
        let mean = values.iter().sum::<f64>() / 401.0;
        let error = (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 400.0 / 401.0).sqrt();
        let average = |indices: &[usize]| indices.iter().map(|&i| values[i]).sum::<f64>() / indices.len() as f64;
        for interval in [resamples(401).mean(&values), resamples(401).set(average)] {
            assert_eq!((interval.mean, interval.n), (mean, 401));
            for side in [interval.high - mean, mean - interval.low] {
                assert!((side / error - 1.96).abs() < 0.2, "{} of 1.96", side / error);
            }
        }
    }

    #[test]
    fn the_same_stream_gives_the_same_interval_and_another_does_not() {
        let values: Vec<f64> = (0..50).map(|i| f64::from(i * i % 17)).collect();
        let other = Resamples::new(50, RESAMPLES, &Stream::new(8, "bootstrap"));
        assert_eq!(resamples(50).mean(&values), resamples(50).mean(&values));
        assert_ne!(resamples(50).mean(&values), other.mean(&values));
    }

    #[test]
    fn a_paired_difference_is_narrow_where_inputs_vary_and_methods_do_not() {
        let a: Vec<f64> = (0..100).map(|i| f64::from(i * 37 % 100)).collect();
        let b: Vec<f64> = a.iter().enumerate().map(|(i, x)| x - 1.0 + 0.5 * (i % 2) as f64).collect();
        let difference = resamples(100).difference(&a, &b);
        assert!((difference.mean - 0.75).abs() < 1e-12 && difference.low > 0.69 && difference.high < 0.81);
        assert!(resamples(100).mean(&a).high - resamples(100).mean(&a).low > 10.0);
    }

    #[test]
    fn nothing_gives_zero_and_one_input_gives_no_width() {
        assert_eq!(resamples(0).mean(&[]), Interval { mean: 0.0, low: 0.0, high: 0.0, n: 0 });
        let one = Interval { mean: 3.0, low: 3.0, high: 3.0, n: 1 };
        assert_eq!(resamples(1).mean(&[3.0]), one);
        assert_eq!(resamples(1).set(|_| 3.0), one);
    }

    #[test]
    fn halves_hold_no_input_twice_and_every_input_as_often() {
        let resamples = resamples(11);
        let mut seen = [0usize; 11];
        for half in resamples.halves.chunks_exact(5) {
            let mut sorted = half.to_vec();
            sorted.sort_unstable();
            assert!(sorted.windows(2).all(|pair| pair[0] < pair[1]));
            half.iter().for_each(|&i| seen[i] += 1);
        }
        // 1000 * 5 / 11 = 455, with a standard deviation of 16.
        assert!(seen.iter().all(|&count| (390..520).contains(&count)), "{seen:?}");
    }
}
