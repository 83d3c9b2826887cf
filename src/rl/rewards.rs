//! Numbers made of rewards: ensembles of reward models, and the penalty of long responses. Knows no
//! text and no model.

use serde::{Deserialize, Serialize};

/// How the scores of several reward models become one (Coste et al. 2023, "Reward model ensembles
/// help mitigate overoptimization", section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Combine {
    /// Mean of the scores.
    #[default]
    Mean,
    /// Least of the scores: worst-case optimisation.
    Worst,
    /// Mean less this multiple of the biased variance: uncertainty-weighted optimisation.
    LessVariance(f64),
    /// Mean less this multiple of the unbiased standard deviation.
    LessDeviation(f64),
}

impl Combine {
    /// Whether its coefficient, if it has one, is a finite number of 0 or more.
    pub fn is_in_range(self) -> bool {
        match self {
            Combine::Mean | Combine::Worst => true,
            Combine::LessVariance(coef) | Combine::LessDeviation(coef) => {
                coef.is_finite() && coef >= 0.0
            }
        }
    }

    /// The score of a response that reward models gave `scores`.
    ///
    /// # Panics
    /// Without a score.
    pub fn of(self, scores: &[f64]) -> f64 {
        assert!(!scores.is_empty(), "an ensemble has members");
        let count = scores.len() as f64;
        let mean = scores.iter().sum::<f64>() / count;
        let squares = || scores.iter().map(|score| (score - mean) * (score - mean)).sum::<f64>();
        match self {
            Combine::Mean => mean,
            Combine::Worst => scores.iter().copied().fold(f64::INFINITY, f64::min),
            Combine::LessVariance(coef) => mean - coef * squares() / count,
            Combine::LessDeviation(coef) => mean - coef * deviation(scores),
        }
    }
}

/// The unbiased standard deviation; 0 of fewer than two numbers.
pub fn deviation(numbers: &[f64]) -> f64 {
    if numbers.len() < 2 {
        return 0.0;
    }
    let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
    let squares: f64 = numbers.iter().map(|x| (x - mean) * (x - mean)).sum();
    (squares / (numbers.len() - 1) as f64).sqrt()
}

/// The soft penalty of a response of `tokens` tokens, from 0 to -1 (Yu et al. 2025, "DAPO", eq.
/// 13): 0 up to `limit` - `buffer`, then falling in a line to -1 at `limit`.
pub fn overlong(tokens: usize, limit: usize, buffer: usize) -> f64 {
    let free = limit.saturating_sub(buffer);
    match tokens {
        _ if tokens <= free => 0.0,
        _ if tokens >= limit => -1.0,
        _ => -((tokens - free) as f64 / buffer as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand and from numpy: members .9, .2, 1.3, .5, coefficient .5.
    #[test]
    fn ensembles_have_the_published_values() {
        let scores = [0.9, 0.2, 1.3, 0.5];
        for (combine, expected) in [
            (Combine::Mean, 0.725),
            (Combine::Worst, 0.2),
            (Combine::LessVariance(0.5), 0.639_062_5),
            (Combine::LessDeviation(0.5), 0.485_643),
        ] {
            assert!((combine.of(&scores) - expected).abs() < 1e-6, "{combine:?}");
            assert!((combine.of(&[0.3]) - 0.3).abs() < 1e-15, "{combine:?} of one");
        }
        assert!(!Combine::LessVariance(-1.0).is_in_range());
        assert!(!Combine::LessDeviation(f64::NAN).is_in_range());
    }

    /// Limit 64, buffer 16.
    #[test]
    fn the_penalty_of_length_begins_in_the_buffer() {
        let penalties = [40, 48, 52, 64, 70].map(|tokens| overlong(tokens, 64, 16));
        assert_eq!(penalties, [0.0, 0.0, -0.25, -1.0, -1.0]);
        assert_eq!([7, 8, 9].map(|tokens| overlong(tokens, 8, 0)), [0.0, 0.0, -1.0]);
    }
}
