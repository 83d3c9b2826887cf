//! How many classes a source has, and the entropy of its distribution over them, estimated from the
//! classes of a few samples. Knows no text.
//!
//! f_1 and f_2 are the numbers of classes with one and with two of the n samples, C the number of
//! classes with any, p_c = n_c / n.
//!
//! 1. [`chao1`]: C + (n - 1) / n f_1 (f_1 - 1) / (2 (f_2 + 1)), the bias-corrected form of the
//!    lower bound of Chao 1984, "Nonparametric estimation of the number of classes in a
//!    population", Scand. J. Statist. 11:265.
//! 2. [`miller_madow`]: the entropy of the p_c plus (C - 1) / (2 n) (Miller 1955, "Note on the bias
//!    of information estimates"), in nats.
//! 3. [`chao_shen`]: - sum of q_c ln q_c / (1 - (1 - q_c)^n), q_c = (1 - f_1 / n) p_c: the entropy
//!    with the coverage of the samples after Good and Turing, and classes that samples miss by
//!    Horvitz and Thompson (Chao and Shen 2003, "Nonparametric estimation of Shannon's index of
//!    diversity when there are unseen species in sample", Environ. Ecol. Stat. 10:429), in nats.
//!    Where all samples are of classes with one, f_1 counts as n - 1: their coverage would be 0.

use super::classes::{distinct, entropy};

/// Samples of each class, of classes that are numbered by first member.
fn counts(classes: &[usize]) -> Vec<usize> {
    let mut counts = vec![0usize; distinct(classes, classes.len())];
    classes.iter().for_each(|&class| counts[class] += 1);
    counts
}

fn classes_with(counts: &[usize], samples: usize) -> f64 {
    counts.iter().filter(|count| **count == samples).count() as f64
}

/// The estimate of the number of classes by Chao; 0 of no sample. Classes are numbered by first
/// member, as [`super::classes::partition`] numbers them.
pub fn chao1(classes: &[usize]) -> f64 {
    let (counts, n) = (counts(classes), classes.len() as f64);
    let (once, twice) = (classes_with(&counts, 1), classes_with(&counts, 2));
    if counts.is_empty() {
        return 0.0;
    }
    counts.len() as f64 + (n - 1.0) / n * once * (once - 1.0) / (2.0 * (twice + 1.0))
}

/// The entropy in nats, with the correction of Miller and Madow; 0 of no sample.
pub fn miller_madow(classes: &[usize]) -> f64 {
    let seen = distinct(classes, classes.len());
    entropy(classes) + seen.saturating_sub(1) as f64 / (2 * classes.len().max(1)) as f64
}

/// The entropy in nats by Chao and Shen; 0 of no sample.
pub fn chao_shen(classes: &[usize]) -> f64 {
    let (counts, n) = (counts(classes), classes.len() as f64);
    let once = classes_with(&counts, 1);
    let coverage = 1.0 - if once == n { n - 1.0 } else { once } / n;
    let term = |count: &usize| {
        let share = coverage * *count as f64 / n;
        -share * share.ln() / (1.0 - (1.0 - share).powf(n))
    };
    // One class of all samples: ln 1.
    counts.iter().map(term).sum::<f64>().max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classes::partition;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} for {expected}");
    }

    /// Counts 3, 2, 1, 1, 1 of n = 8: f_1 = 3, f_2 = 1.
    const CLASSES: [usize; 8] = [0, 0, 1, 2, 0, 1, 3, 4];

    #[test]
    fn golden_values_come_out() {
        // 5 + 7/8 x 3 x 2 / (2 x 2).
        close(chao1(&CLASSES), 5.0 + 7.0 / 8.0 * 1.5);
        let plain = 3.0 * 8f64.ln() / 8.0 + 0.25 * 4f64.ln() + 0.375 * (8.0 / 3.0f64).ln();
        close(entropy(&CLASSES), plain);
        close(miller_madow(&CLASSES), plain + 4.0 / 16.0);
        // Coverage 5/8: shares 15/64, 10/64 and three of 5/64.
        let term = |q: f64| -q * q.ln() / (1.0 - (1.0 - q).powi(8));
        let [a, b, c] = [15.0, 10.0, 5.0].map(|q| term(q / 64.0));
        close(chao_shen(&CLASSES), a + b + 3.0 * c);
        // The same in decimal arithmetic of 50 digits, rounded.
        close(chao_shen(&CLASSES), 2.024995058470512);
    }

    #[test]
    fn few_samples_and_one_class_are_no_exception() {
        for of in [chao1, miller_madow, chao_shen] {
            assert_eq!(of(&[]), 0.0);
        }
        assert_eq!((chao1(&[0]), miller_madow(&[0]), chao_shen(&[0])), (1.0, 0.0, 0.0));
        assert_eq!((chao1(&[0; 4]), miller_madow(&[0; 4])), (1.0, 0.0));
        close(chao_shen(&[0; 4]), 0.0);
        // All different: f_1 counts as 2 of 3, so shares are 1/9.
        let share = 1.0 / 9.0f64;
        close(chao_shen(&[0, 1, 2]), 3.0 * share * 9f64.ln() / (1.0 - (8.0 / 9.0f64).powi(3)));
        close(chao1(&[0, 1, 2]), 3.0 + 2.0 / 3.0 * 3.0);
    }

    /// The mean over all 4^4 outcomes of four draws from four equal classes, less ln 4, by other
    /// code: the corrections take away most of the bias.
    #[test]
    fn the_bias_is_that_of_all_outcomes() {
        let outcomes = (0..256usize).map(|at| [at % 4, at / 4 % 4, at / 16 % 4, at / 64]);
        let classes: Vec<Vec<usize>> =
            outcomes.map(|draws| partition(4, |i, j| draws[i] == draws[j])).collect();
        let bias = |of: fn(&[usize]) -> f64| {
            classes.iter().map(|classes| of(classes)).sum::<f64>() / 256.0 - 4f64.ln()
        };
        close(bias(entropy), -0.468_574_669_285_176_9);
        close(bias(miller_madow), -0.251_777_794_285_176_77);
        close(bias(chao_shen), 0.162_408_172_902_194_7);
    }
}
