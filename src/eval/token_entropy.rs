//! Entropy of the next-token distribution over the tokens of samples, and the branching factor by
//! position. Knows neither a model nor a token.
//!
//! 1. Token entropy of an input: the mean of H(p(. | prompt, tokens before)) in nats over all
//!    tokens of its samples, the end-of-text token included. Inputs count alike, so that the means
//!    of two methods are paired input by input.
//! 2. Branching factor: exp of a mean entropy, the number of equally likely tokens with the same
//!    entropy ("How alignment shrinks the generative horizon", Yang and Holtzman 2025, arXiv
//!    2506.17871). Entropies are exact where the whole distribution is at hand; only the prefixes
//!    are samples.
//! 3. At position t (from 1) an input has the mean entropy of those of its samples that have t
//!    tokens. Of fewer than [`FEWEST`] inputs the mean has no interval, so the curve ends there.

use super::interval::{FEWEST, Interval, average, of_mean};

/// The mean over all tokens of an input's samples; `None` where they have no token.
pub fn of_input(samples: &[Vec<f64>]) -> Option<f64> {
    let all: Vec<f64> = samples.iter().flatten().copied().collect();
    (!all.is_empty()).then(|| average(&all))
}

/// Branching factors for positions 1, 2, ..., as far as [`FEWEST`] inputs reach. Each input is the
/// entropies, in nats, of the tokens of its samples.
pub fn by_position(inputs: &[Vec<Vec<f64>>]) -> Vec<Interval> {
    let at = |place: usize| {
        let of_samples = |samples: &Vec<Vec<f64>>| {
            let own: Vec<f64> =
                samples.iter().filter_map(|tokens| tokens.get(place).copied()).collect();
            (!own.is_empty()).then(|| average(&own))
        };
        inputs.iter().filter_map(of_samples).collect::<Vec<f64>>()
    };
    // An input that reaches a position reaches those before it.
    (0..)
        .map(at)
        .take_while(|values| values.len() >= FEWEST)
        .map(|values| branching_factor(of_mean(&values)))
        .collect()
}

/// exp of a mean entropy, and of the ends of its interval.
pub fn branching_factor(entropy: Interval) -> Interval {
    let Interval { mean, low, high, n, kind } = entropy;
    Interval { mean: mean.exp(), low: low.exp(), high: high.exp(), n, kind }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interval::Kind;

    #[test]
    fn all_tokens_of_an_input_count_alike() {
        let samples = [vec![1.0, 2.0, 3.0], vec![6.0], vec![]];
        assert_eq!(of_input(&samples), Some(3.0));
        assert_eq!((of_input(&[]), of_input(&[vec![]])), (None, None));
    }

    /// Eight inputs reach position 1, and eight position 2; seven reach position 3. At position 2
    /// the first input has the mean of two samples, the others of one.
    #[test]
    fn a_position_is_of_the_samples_that_reach_it_and_of_eight_inputs_at_least() {
        let mut inputs: Vec<Vec<Vec<f64>>> =
            (1..9).map(|at| vec![vec![at as f64, 0.5 * at as f64, 1.0]]).collect();
        inputs[0] = vec![vec![3.0, 0.25], vec![1.0], vec![2.0, 0.75]];
        let found = by_position(&inputs);
        assert_eq!(found.len(), 2);
        // (2 + 2 + 3 + ... + 8) / 8 and (0.5 + 1 + 1.5 + ... + 4) / 8.
        for (point, entropy) in found.iter().zip([37.0 / 8.0, 18.0 / 8.0]) {
            assert!((point.mean - f64::exp(entropy)).abs() < 1e-9);
            assert_eq!((point.n, point.kind), (8, Kind::SkewT));
        }
        // 8 values 0.5, 1, ..., 4: mean 2.25, deviation sqrt(1.5), no skewness: Student's t with 7
        // degrees of freedom, whose 97.5th percentile is 2.364624.
        let reach = 2.364_624_251_592_784 * (1.5f64 / 8.0).sqrt();
        assert!((found[1].low - (2.25 - reach).exp()).abs() < 1e-9, "{:?}", found[1]);
        assert!((found[1].high - (2.25 + reach).exp()).abs() < 1e-6, "{:?}", found[1]);
        assert!(by_position(&inputs[..7]).is_empty() && by_position(&[]).is_empty());
    }

    /// A fair choice among k tokens branches k ways.
    #[test]
    fn equal_choices_are_counted() {
        let inputs = vec![vec![vec![5f64.ln()]]; 9];
        let found = by_position(&inputs);
        assert!((found[0].mean - 5.0).abs() < 1e-12);
        assert!(found[0].kind == Kind::NoneAllEqual && found[0].low.is_nan());
    }
}
