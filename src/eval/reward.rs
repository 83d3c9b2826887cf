//! How well a reward model orders pairs, and the best that any could do on noisy labels. Knows no reward model.

use crate::rl::preference::{preferred, sigmoid};

/// 1 for each pair whose chosen text is scored higher, 0 lower, 0.5 for a tie: their mean is the accuracy.
///
/// # Panics
/// If the slices differ in length.
pub fn correct(chosen: &[f64], rejected: &[f64]) -> Vec<f64> {
    assert_eq!(chosen.len(), rejected.len(), "one of each a pair");
    chosen.iter().zip(rejected).map(|(&chosen, &rejected)| preferred(chosen, rejected)).collect()
}

/// The noise ceiling, pair by pair: how likely a label drawn by Bradley-Terry with P(first) = sigmoid(beta * gap) agrees with the sign of
/// the gold gap. The mean is the expected accuracy of gold itself, above which no scorer gets but by luck.
pub fn ceiling(gaps: &[f64], beta: f64) -> Vec<f64> {
    gaps.iter().map(|gap| sigmoid(beta * gap.abs())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn accuracy_counts_a_tie_half() {
        assert_eq!(correct(&[1.0, 0.0, 2.0], &[0.0, 1.0, 2.0]), [1.0, 0.0, 0.5]);
    }

    #[test]
    fn the_ceiling_is_the_sigmoid_of_the_gap_whatever_its_sign() {
        let found = ceiling(&[0.0, 3f64.ln(), -3f64.ln(), 1000.0], 1.0);
        assert!(found.iter().zip([0.5, 0.75, 0.75, 1.0]).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
    }

    #[test]
    fn gold_reaches_its_ceiling_on_labels_drawn_from_it() {
        let mut draws = Stream::new(4, "labels").sequence(0);
        let gaps: Vec<f64> = (0..20_000).map(|_| draws.uniform() * 2.0 - 1.0).collect();
        let (chosen, rejected): (Vec<f64>, Vec<f64>) =
            gaps.iter().map(|&gap| if draws.chance(1.0 / (1.0 + (-4.0 * gap).exp())) { (gap, 0.0) } else { (0.0, gap) }).unzip();
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
        assert!((mean(correct(&chosen, &rejected)) - mean(ceiling(&gaps, 4.0))).abs() < 0.01);
    }
}
