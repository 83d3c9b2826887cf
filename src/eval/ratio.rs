//! Ratios of two sums over inputs, such as a loss over tokens, with intervals: the ratio estimator,
//! linearised (Cochran 1977, "Sampling Techniques", 6.3).

use super::interval::{FEWEST_CLUSTERS, Interval, Kind, Skewed, average, of_mean};

/// The ratio of the means of x and y, one of each an input: the ratio estimator, linearised
/// (Cochran 1977, "Sampling Techniques", 6.3). With r the ratio, its interval is that of the mean
/// of r + (x - r y) / mean y. The mean of y should be far from 0, in its standard errors.
///
/// # Panics
/// If there are not as many x as y.
pub fn of_ratio(x: &[f64], y: &[f64]) -> Interval {
    let (r, values) = (ratio(x, y), linearised(x, y));
    // Rounding alone makes values differ a little.
    match values.iter().all(|value| (value - r).abs() <= 1e-12 * r.abs().max(1.0)) {
        true => Interval::none(r, values.len(), Kind::NoneAllEqual),
        false => Interval { mean: r, ..of_mean(&values) },
    }
}

/// A sum over inputs over another, such as a loss over tokens: Cochran's ratio estimator, 6.3.
/// There is no interval of fewer than [`FEWEST_CLUSTERS`] inputs.
pub fn of_sums(sums: &[f64], counts: &[f64]) -> Interval {
    let values = linearised(sums, counts);
    match Skewed::of(&values, FEWEST_CLUSTERS) {
        Ok(skewed) => {
            let mean = ratio(sums, counts);
            let [low, high] = skewed.around(mean);
            Interval { mean, low, high, n: values.len(), kind: Kind::SkewT }
        }
        Err(kind) => Interval::none(ratio(sums, counts), values.len(), kind),
    }
}

/// One value an input, whose mean is the ratio of two sums over inputs and which spread as it does,
/// to first order: R + (y - R x) / mean of x.
///
/// # Panics
/// If there are not as many of both.
pub fn linearised(sums: &[f64], counts: &[f64]) -> Vec<f64> {
    assert_eq!(sums.len(), counts.len(), "a count for every sum");
    let (ratio, size) = (ratio(sums, counts), average(counts));
    sums.iter().zip(counts).map(|(sum, count)| ratio + (sum - ratio * count) / size).collect()
}

fn ratio(sums: &[f64], counts: &[f64]) -> f64 {
    sums.iter().sum::<f64>() / counts.iter().sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::super::interval::Clusters;
    use super::*;

    fn close(found: Interval, low: f64, high: f64, tolerance: f64) {
        assert!(
            (found.low - low).abs() < tolerance && (found.high - high).abs() < tolerance,
            "{found:?}"
        );
    }

    /// Changes of 1, 2, ..., 8 by content, and half of them with an error of +-0.1 in turn: the
    /// ratio is a half, and the residuals over 4.5 are +-0.1 / 4.5.
    #[test]
    fn a_ratio_has_the_error_of_its_residuals() {
        let y: Vec<f64> = (1..=8).map(f64::from).collect();
        let x: Vec<f64> =
            y.iter().enumerate().map(|(at, y)| y / 2.0 + [0.1, -0.1, -0.1, 0.1][at % 4]).collect();
        let found = of_ratio(&x, &y);
        // Student's t of 7 degrees is 2.3646; the deviation of +-e of n = 8 is e sqrt(8/7).
        let half = 2.364_624_251 * (0.1 / 4.5) * (8.0f64 / 7.0).sqrt() / 8f64.sqrt();
        assert!((found.mean - 0.5).abs() < 1e-12);
        close(found, 0.5 - half, 0.5 + half, 1e-6);
        let exact = of_ratio(&y.iter().map(|y| 3.0 * y).collect::<Vec<f64>>(), &y);
        assert!((exact.mean - 3.0).abs() < 1e-12 && exact.kind == Kind::NoneAllEqual);
    }

    /// A mean over values in clusters of unequal sizes is a ratio of their sums.
    #[test]
    fn a_ratio_is_the_mean_over_clusters() {
        let keys: Vec<usize> = (0..25).flat_map(|at| vec![at; 1 + at % 4]).collect();
        let values: Vec<f64> = (0..keys.len()).map(|at| (at * 37 % 11) as f64).collect();
        let (mut sums, mut counts) = (vec![0.0; 25], vec![0.0; 25]);
        for (key, value) in keys.iter().zip(&values) {
            sums[*key] += value;
            counts[*key] += 1.0;
        }
        let (found, expected) = (of_sums(&sums, &counts), Clusters::of(&keys).mean(&values));
        assert!((found.mean - expected.mean).abs() < 1e-12);
        close(found, expected.low, expected.high, 1e-9);
        assert!((average(&linearised(&sums, &counts)) - expected.mean).abs() < 1e-12);
        assert_eq!(of_sums(&sums[..19], &counts[..19]).kind, Kind::NoneTooFew);
    }
}
