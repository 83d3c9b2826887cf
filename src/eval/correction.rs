//! Corrections of the p values of a family of tests.
//!
//! 1. Holm (1979, Scandinavian Journal of Statistics 6, 65-70): bounds the chance of any false
//!    claim of the family, whatever the dependence of its tests.
//! 2. Benjamini and Hochberg (1995, J. R. Statist. Soc. B 57, 289-300): bounds the expected share
//!    of false claims among the claims (the false discovery rate) where the tests are independent
//!    or positively dependent (Benjamini and Yekutieli 2001). Of m p values the k-th smallest is
//!    multiplied by m / k, and none is above a larger one's.

use serde::{Deserialize, Serialize};

use super::compare::holm;

/// The level that corrected p values are compared with.
pub const LEVEL: f64 = 0.05;

/// How the p values of a family are corrected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Correction {
    /// Holm's: the chance of any false claim in a family is at most 0.05.
    #[default]
    Holm,
    /// Benjamini and Hochberg's: at most 0.05 of the claims of a family are false, on average.
    BenjaminiHochberg,
}

impl Correction {
    /// The corrected p values, in the order of `p`.
    pub fn correct(self, p: &[f64]) -> Vec<f64> {
        match self {
            Correction::Holm => holm(p),
            Correction::BenjaminiHochberg => benjamini_hochberg(p),
        }
    }

    /// Its name in a sentence.
    pub fn name(self) -> &'static str {
        match self {
            Correction::Holm => "Holm",
            Correction::BenjaminiHochberg => "Benjamini-Hochberg",
        }
    }
}

/// Benjamini and Hochberg's correction of a family of p values, in their order.
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let (mut corrected, mut most) = (vec![1.0; p.len()], 1.0f64);
    for (place, at) in order.into_iter().enumerate().rev() {
        most = most.min(p[at] * p.len() as f64 / (place + 1) as f64);
        corrected[at] = most;
    }
    corrected
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Benjamini and Hochberg 1995, section 4.1: of 15 p values their procedure
    /// rejects four at 0.05, Bonferroni's three.
    #[test]
    fn the_example_of_the_paper_has_four_rejections() {
        let p = [
            0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262,
            0.5719, 0.6528, 0.7590, 1.0000,
        ];
        let count =
            |correction: Correction| correction.correct(&p).iter().filter(|p| **p <= LEVEL).count();
        assert_eq!((count(Correction::BenjaminiHochberg), count(Correction::Holm)), (4, 3));
        // The fourth: 0.0095 times 15/4; 0.0201 to 0.0344 end at the ninth's or their own.
        let found = benjamini_hochberg(&p);
        assert!((found[3] - 0.035625).abs() < 1e-12, "{found:?}");
        assert!((found[4] - 0.0603).abs() < 1e-12, "{found:?}");
        assert!((found[5] - 0.0298 * 15.0 / 7.0).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn the_order_of_a_family_is_kept() {
        let found = benjamini_hochberg(&[0.04, 0.01, 0.03]);
        assert!(
            found.iter().zip([0.04, 0.03, 0.04]).all(|(a, b)| (a - b).abs() < 1e-12),
            "{found:?}"
        );
        assert_eq!(
            (benjamini_hochberg(&[0.6, 0.9]), benjamini_hochberg(&[])),
            (vec![0.9; 2], vec![])
        );
    }
}
