//! A policy beside best-of-n at the policy's quality: what two ways to the same mean score cost by
//! another measure, such as diversity. Knows neither how texts are scored nor what is measured.
//!
//! 1. With q(n) the mean score of best-of-n, n is the first for which q(n) <= q <= q(n + 1), q the
//!    policy's mean score; between the two all is linear in the score. None where q is below one
//!    sample's or above that of the most candidates.
//! 2. The error of q, q(n) and q(n + 1) is in the interval to first order (the delta method):
//!    with w = (q - q(n)) / (q(n + 1) - q(n)) and m the values of best-of-n, each input's value of
//!    the policy has (m(n + 1) - m(n)) times its own part in w, which is 0 on average, taken away.

use super::interval::average;

/// Two methods at one mean score, on the same inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct AtEqualQuality {
    /// The n of best-of-n, between two whole ones.
    pub n: f64,
    /// The policy's values, one an input, with the error of the score; their mean is the policy's.
    pub own: Vec<f64>,
    /// Those of best-of-n at that n.
    pub best: Vec<f64>,
}

/// Scores and values of one method, one an input.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// What the two methods have in common on average.
    pub scores: Vec<f64>,
    /// What is compared.
    pub values: Vec<f64>,
}

/// The policy's values beside those of best-of-n at the policy's mean score; `best(n)` is best-of-n
/// for n from 1 to `most`, on the same inputs.
///
/// # Panics
/// If there are not as many numbers of both.
pub fn at_equal_quality(
    own: &Scored,
    most: usize,
    best: impl Fn(usize) -> Scored,
) -> Option<AtEqualQuality> {
    let all: Vec<Scored> = (1..=most).map(best).collect();
    let quality = average(&own.scores);
    let means: Vec<f64> = all.iter().map(|one| average(&one.scores)).collect();
    let at = means.windows(2).position(|two| two[0] <= quality && quality <= two[1])?;
    let (low, high, rise) = (&all[at], &all[at + 1], means[at + 1] - means[at]);
    if rise == 0.0 {
        return None;
    }
    let weight = (quality - means[at]) / rise;
    let slope = average(&high.values) - average(&low.values);
    let places = 0..own.values.len();
    let between = |low: f64, high: f64| low + weight * (high - low);
    // The part of an input in the weight.
    let part = |at: usize| (own.scores[at] - between(low.scores[at], high.scores[at])) / rise;
    Some(AtEqualQuality {
        n: (at + 1) as f64 + weight,
        own: places.clone().map(|at| own.values[at] - slope * part(at)).collect(),
        best: places.map(|at| between(low.values[at], high.values[at])).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(scores: &[f64], values: &[f64]) -> Scored {
        Scored { scores: scores.into(), values: values.into() }
    }

    /// Means of scores 1, 3, 4 and of values 9, 5, 3; the policy's are 3.5 and 2.
    fn best(n: usize) -> Scored {
        match n {
            1 => scored(&[0.0, 2.0, 1.0], &[8.0, 9.0, 10.0]),
            2 => scored(&[2.0, 3.0, 4.0], &[5.0, 6.0, 4.0]),
            _ => scored(&[4.0, 3.0, 5.0], &[2.0, 4.0, 3.0]),
        }
    }

    #[test]
    fn between_two_n_all_is_linear_in_the_score() {
        let own = scored(&[3.0, 3.5, 4.0], &[1.0, 2.0, 3.0]);
        let found = at_equal_quality(&own, 3, best).unwrap();
        assert!((found.n - 2.5).abs() < 1e-12);
        assert!((average(&found.own) - 2.0).abs() < 1e-12);
        assert_eq!(found.best, [3.5, 5.0, 3.5]);
        assert_eq!(at_equal_quality(&own, 2, best), None, "above two candidates");
        assert_eq!(at_equal_quality(&scored(&[0.5; 3], &[1.0; 3]), 3, best), None);
        assert_eq!(at_equal_quality(&own, 0, best), None);
    }

    /// The part of an input is the derivative of the difference by the input's weight.
    #[test]
    fn an_inputs_part_is_the_derivative_by_its_weight() {
        let own = scored(&[3.0, 3.9, 4.0], &[1.0, 2.0, 6.0]);
        let found = at_equal_quality(&own, 3, best).unwrap();
        let parts: Vec<f64> = found.own.iter().zip(&found.best).map(|(a, b)| a - b).collect();
        let difference = |weights: [f64; 3]| {
            let mean = |values: &[f64]| {
                let sum: f64 =
                    values.iter().zip(weights).map(|(value, weight)| value * weight).sum();
                sum / weights.iter().sum::<f64>()
            };
            let (low, high) = (best(2), best(3));
            let (q0, q1) = (mean(&low.scores), mean(&high.scores));
            let w = (mean(&own.scores) - q0) / (q1 - q0);
            let (m0, m1) = (mean(&low.values), mean(&high.values));
            mean(&own.values) - (m0 + w * (m1 - m0))
        };
        let plain = difference([1.0; 3]);
        assert!((average(&parts) - plain).abs() < 1e-12);
        for (at, part) in parts.iter().enumerate() {
            let mut weights = [1.0; 3];
            weights[at] += 1e-6;
            let derivative = (difference(weights) - plain) / 1e-6 * 3.0;
            assert!((derivative - (part - plain)).abs() < 1e-4, "{derivative}, {part}");
        }
    }
}
