//! The optimum of the KL-regularised objective E[R] - beta KL(pi || pi_ref), from samples of the
//! reference policy pi_ref. Knows no policy, no reward and no text.
//!
//! 1. For one input the maximiser is pi*(y) = pi_ref(y) exp(R(y) / beta) / Z with Z = E_ref[exp(R /
//!    beta)] (Korbak et al. 2022, "RL with KL penalties is better viewed as Bayesian inference";
//!    Rafailov et al. 2023, eq. 4). No policy has a higher value of the objective at that beta.
//! 2. n independent candidates y_i of pi_ref, with the self-normalised weights w_i = exp(R_i /
//!    beta) / sum_j exp(R_j / beta), estimate it: E_pi*[f] by sum_i w_i f(y_i), and KL(pi* ||
//!    pi_ref) = E_pi*[R] / beta - log Z by sum_i w_i log(n w_i), which is never above log n.
//! 3. The expected distance of two independent draws of pi* is sum_{i != j} w_i w_j d_ij / sum_{i
//!    != j} w_i w_j: two candidates are two draws, one candidate twice is not. Measures of a set
//!    that are no mean over pairs (distinct n-grams, Vendi scores) have no such estimate.
//! 4. All of these are ratios with a bias of order 1 / n. The jackknife over candidates takes the
//!    part of that order away: n T - (n - 1) mean_i T without candidate i (Quenouille 1956). The
//!    rest is of order 1 / n^2 where weights are even, and of unknown size where few candidates
//!    have them all.
//! 5. The effective sample size is 1 / sum w_i^2 (Kong 1992): as many even weights have as much
//!    variance. It sees candidates only: where good texts are rarer than 1 in n it is high, and the
//!    estimate is of an optimum without them.
//! 6. Weights are relative to the greatest, so that no exponential overflows. Sums go over
//!    candidates in their order.

use super::interval::{Interval, Kind, average, of_mean};

/// The fewest candidates that an estimate is made of: of the pairs of two, nothing is left without
/// one of them.
pub const FEWEST_CANDIDATES: usize = 3;

/// An estimate of one input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The ratio of weighted sums.
    pub plain: f64,
    /// The same less its bias of order 1 / n.
    pub corrected: f64,
}

/// The candidates of one input, as the optimum at one beta weights them.
#[derive(Clone, Debug)]
pub struct Weighted {
    /// (R_i - max R) / beta.
    logs: Vec<f64>,
    /// Their exponentials.
    weights: Vec<f64>,
}

impl Weighted {
    /// Of candidates with these rewards, beta in units of the reward a nat.
    ///
    /// # Panics
    /// If there are fewer than [`FEWEST_CANDIDATES`], a reward is not finite, or beta is not a
    /// finite number above 0.
    pub fn new(rewards: &[f64], beta: f64) -> Self {
        assert!(rewards.len() >= FEWEST_CANDIDATES, "{} candidates are too few", rewards.len());
        assert!(rewards.iter().all(|reward| reward.is_finite()), "rewards are finite");
        assert!(beta > 0.0 && beta.is_finite(), "beta {beta} is no positive number");
        let most = greatest(rewards.iter().copied());
        let logs: Vec<f64> = rewards.iter().map(|reward| (reward - most) / beta).collect();
        let weights = logs.iter().map(|log| log.exp()).collect();
        Weighted { logs, weights }
    }

    /// w_i, whose sum is 1.
    pub fn weights(&self) -> Vec<f64> {
        let total: f64 = self.weights.iter().sum();
        self.weights.iter().map(|weight| weight / total).collect()
    }

    /// The effective sample size 1 / sum w_i^2, from 1 to n.
    pub fn effective(&self) -> f64 {
        1.0 / self.weights().iter().map(|weight| weight * weight).sum::<f64>()
    }

    /// E_pi*[f], f by candidate.
    ///
    /// # Panics
    /// If there is not one value a candidate.
    pub fn mean(&self, values: &[f64]) -> Estimate {
        assert_eq!(values.len(), self.logs.len(), "one value a candidate");
        self.estimate(values, |sums, _| sums.weighted / sums.total)
    }

    /// KL(pi* || pi_ref) in nats.
    pub fn kl(&self) -> Estimate {
        let of = |sums: &Sums, n: usize| {
            sums.weighted / sums.total - sums.shift - (sums.total / n as f64).ln()
        };
        self.estimate(&self.logs, of)
    }

    /// The expected distance of two independent draws, from the symmetric matrix `distances[n,n]`.
    ///
    /// # Panics
    /// If the matrix is of another size.
    pub fn distance(&self, distances: &[f64]) -> Estimate {
        let n = self.logs.len();
        assert_eq!(distances.len(), n * n, "a distance for every two candidates");
        let rows = self.pairs(distances, None);
        let half = |of: fn(&[f64; 2]) -> f64| rows.iter().map(of).sum::<f64>() / 2.0;
        let (weighted, total) = (half(|row| row[0]), half(|row| row[1]));
        let without = |i: usize| match rows[i] {
            [own, weight] if weight <= total / 2.0 => (weighted - own) / (total - weight),
            // Nearly all is in this row: what a difference would leave is rounding.
            _ => {
                let rest = self.pairs(distances, Some(i));
                let sum = |of: fn(&[f64; 2]) -> f64| rest.iter().map(of).sum::<f64>();
                sum(|row| row[0]) / sum(|row| row[1])
            }
        };
        jackknifed(n, weighted / total, without)
    }

    /// Of each candidate, over its pairs with all others but `left_out`: the sum of weights times
    /// distances, and of weights, which are relative to the greatest of any pair.
    fn pairs(&self, distances: &[f64], left_out: Option<usize>) -> Vec<[f64; 2]> {
        let n = self.logs.len();
        let among: Vec<usize> = (0..n).filter(|i| Some(*i) != left_out).collect();
        let first = greatest(among.iter().map(|&i| self.logs[i]));
        let at = among.iter().position(|&i| self.logs[i] == first).unwrap_or(0);
        let others = among.iter().enumerate().filter(|(place, _)| *place != at);
        let shift = first + greatest(others.map(|(_, &i)| self.logs[i]));
        let mut rows = vec![[0.0; 2]; n];
        for (place, &i) in among.iter().enumerate() {
            for &j in &among[..place] {
                let weight = (self.logs[i] + self.logs[j] - shift).exp();
                for row in [i, j] {
                    rows[row][0] += weight * distances[i * n + j];
                    rows[row][1] += weight;
                }
            }
        }
        rows
    }

    /// A function of the two sums over candidates, and of how many these are.
    fn estimate(&self, values: &[f64], of: impl Fn(&Sums, usize) -> f64) -> Estimate {
        let n = self.logs.len();
        let all = self.sums(values, None);
        let without = |i: usize| {
            let weight = self.weights[i];
            let rest = match weight <= all.total / 2.0 {
                true => Sums {
                    total: all.total - weight,
                    weighted: all.weighted - weight * values[i],
                    shift: all.shift,
                },
                false => self.sums(values, Some(i)),
            };
            of(&rest, n - 1)
        };
        jackknifed(n, of(&all, n), without)
    }

    /// Over all candidates but `left_out`.
    fn sums(&self, values: &[f64], left_out: Option<usize>) -> Sums {
        let among = || (0..self.logs.len()).filter(|i| Some(*i) != left_out);
        let shift = greatest(among().map(|i| self.logs[i]));
        let (mut total, mut weighted) = (0.0, 0.0);
        for i in among() {
            let weight = (self.logs[i] - shift).exp();
            total += weight;
            weighted += weight * values[i];
        }
        Sums { total, weighted, shift }
    }
}

/// Sums over candidates, their weights divided by exp(shift).
struct Sums {
    total: f64,
    /// Of weights times values.
    weighted: f64,
    shift: f64,
}

/// A statistic of n candidates, less its bias of order 1 / n.
fn jackknifed(n: usize, plain: f64, without: impl Fn(usize) -> f64) -> Estimate {
    let others = (0..n).map(without).sum::<f64>() / n as f64;
    Estimate { plain, corrected: n as f64 * plain - (n as f64 - 1.0) * others }
}

fn greatest(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(f64::NEG_INFINITY, f64::max)
}

/// The mean over inputs of corrected estimates, with the interval of a mean ([`of_mean`]), wider at
/// both ends by the mean of what was corrected: the jackknife leaves a bias that is at most of that
/// size, unless the effective sample size is small.
pub fn over_inputs(estimates: &[Estimate]) -> Interval {
    let corrected: Vec<f64> = estimates.iter().map(|one| one.corrected).collect();
    let biases: Vec<f64> = estimates.iter().map(|one| one.plain - one.corrected).collect();
    let (found, bias) = (of_mean(&corrected), average(&biases).abs());
    match found.has_ends() {
        true => {
            let (low, high) = (found.low - bias, found.high + bias);
            Interval { low, high, kind: Kind::SkewTBias, ..found }
        }
        false => found,
    }
}

/// The effective sample size of several inputs, 1 / mean of sum w_i^2: the bias of each input is of
/// the order of sum w_i^2, so those of which one candidate has all the weight count most.
pub fn effective_over_inputs(effective: &[f64]) -> f64 {
    1.0 / average(&effective.iter().map(|one| 1.0 / one).collect::<Vec<f64>>())
}

#[cfg(test)]
mod tests;
