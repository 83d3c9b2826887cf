//! Win rates: an output against the reference of its input, as some judge scores both. Knows no
//! judge.

use crate::rl::preference::preferred;

/// 1 where the output is scored above the reference, 0 where below, 0.5 for a tie, input by input:
/// their mean is the win rate.
///
/// # Panics
/// If there is not one reference an output.
pub fn outcomes(outputs: &[f64], references: &[f64]) -> Vec<f64> {
    assert_eq!(outputs.len(), references.len(), "one reference an output");
    outputs
        .iter()
        .zip(references)
        .map(|(&output, &reference)| preferred(output, reference))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_win_is_one_a_tie_half_and_a_loss_nothing() {
        assert_eq!(outcomes(&[2.0, 1.0, 0.0], &[1.0, 1.0, 1.0]), [1.0, 0.5, 0.0]);
        assert_eq!(outcomes(&[f64::NAN], &[0.0]), [0.5]);
    }

    #[test]
    fn two_sides_win_rates_add_up_to_one() {
        let (a, b) = ([0.1, 0.7, 0.3, 0.3], [0.2, 0.1, 0.3, 0.4]);
        assert!(outcomes(&a, &b).iter().zip(outcomes(&b, &a)).all(|(a, b)| a + b == 1.0));
    }
}
