//! Quality beside diversity of the samples of one prompt: the diversity of the good ones, the part
//! of a difference in diversity that is theirs, pairs of good and different texts, and what the
//! best of k samples reaches. Knows neither how texts are scored nor how diversity is measured.
//!
//! 1. D_good: a measure of diversity of the samples whose score is at least a threshold, of a
//!    prompt with at least [`FEWEST_GOOD`] of them. D_all: the same of all its samples.
//! 2. Of two methods a and b, over the prompts where both have a D_good ([`shared`]): the total
//!    difference D_all(a) - D_all(b) is the narrowing D_good(a) - D_good(b) plus quality control,
//!    the rest. Quality control is diversity that one method has in bad samples and the other has
//!    not. (Quality-filtered diversity: released code of arXiv 2604.16027. The sum is exact prompt
//!    by prompt, by definition.) Prompts that one method alone is good on are left out of both
//!    sides: a better method would else be measured on harder prompts.
//! 3. [`effective`], effective semantic diversity: the mean over pairs i < j of q_i q_j d(i, j),
//!    qualities q and distances d in [0, 1] (Shypula et al. 2025, "Evaluating the diversity and
//!    quality of LLM generated content", arXiv 2504.12522). The pairs of a bad text count, as 0.
//! 4. [`pass_at_k`]: 1 - C(K - c, k) / C(K, k), the share of the subsets of k of K samples that
//!    have one of the c good ones: unbiased (Chen et al. 2021, "Evaluating large language models
//!    trained on code", arXiv 2107.03374, eq. 1).
//! 5. [`best_at_k`]: sum over j of r_(j) C(j - 1, k - 1) / C(K, k), r_(j) the j-th smallest of K
//!    scores: the mean over subsets of k of their greatest score, unbiased. It is of the score that
//!    chooses, so it is what an error-free chooser reaches.
//! 6. Curves over k of two methods that cross say that one is better at small k and covers less at
//!    large k: its training sharpened what the other has (Yue et al. 2025, arXiv 2504.13837). Near
//!    k = K estimates depend on few samples and are noisy.

use super::best_of_n;

/// Good samples of a prompt that its D_good needs.
pub const FEWEST_GOOD: usize = 2;

/// By how much a score may miss the threshold and be good: sums of decimal fractions are rounded.
const ROUNDING: f64 = 1e-9;

/// The places of the samples whose score is at least `threshold`; a score that misses it by less
/// than 1e-9 is at it.
pub fn good(scores: &[f64], threshold: f64) -> Vec<usize> {
    (0..scores.len()).filter(|&at| scores[at] >= threshold - ROUNDING).collect()
}

/// The share of the subsets of k of `samples` samples that have at least one of the `good` ones.
///
/// # Panics
/// If k is not from 1 to the number of samples, or more are good than there are.
pub fn pass_at_k(good: usize, samples: usize, k: usize) -> f64 {
    assert!((1..=samples).contains(&k), "pass@{k} of {samples} samples");
    assert!(good <= samples, "{good} good ones of {samples} samples");
    // C(K - c, k) / C(K, k): the first is 0 where fewer than k samples are bad.
    let none = |at: usize| (samples - good).saturating_sub(at) as f64 / (samples - at) as f64;
    1.0 - (0..k).map(none).product::<f64>()
}

/// The mean over the subsets of k of the samples of their greatest score.
///
/// # Panics
/// If k is not from 1 to the number of scores.
pub fn best_at_k(scores: &[f64], k: usize) -> f64 {
    best_of_n::expected(scores, scores, k)
}

/// Effective semantic diversity of samples with these qualities, each in [0, 1]; `distance(i, j)`,
/// i below j, is in [0, 1]. So is the result; 0 where there is no pair.
pub fn effective(qualities: &[f64], mut distance: impl FnMut(usize, usize) -> f64) -> f64 {
    let (mut sum, mut pairs) = (0.0, 0usize);
    for j in 1..qualities.len() {
        for i in 0..j {
            let both = qualities[i] * qualities[j];
            sum += if both == 0.0 { 0.0 } else { both * distance(i, j) };
            pairs += 1;
        }
    }
    if pairs == 0 { 0.0 } else { sum / pairs as f64 }
}

/// A prompt's diversity by one measure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Diversity {
    /// Of all samples, D_all.
    pub all: f64,
    /// Of the good ones, D_good.
    pub good: f64,
}

impl Diversity {
    /// What quality control would take away: D_all - D_good.
    pub fn control(self) -> f64 {
        self.all - self.good
    }
}

/// Of two methods the prompts on which both have enough good samples, in order. Both lists are of
/// the same prompts; `None` where a method has too few.
///
/// # Panics
/// If the lists are not of as many prompts.
pub fn shared(a: &[Option<Diversity>], b: &[Option<Diversity>]) -> Vec<(Diversity, Diversity)> {
    assert_eq!(a.len(), b.len(), "the same prompts");
    a.iter().zip(b).filter_map(|(a, b)| (*a).zip(*b)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::interval::average;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} for {expected}");
    }

    /// Of 4 samples 2 are good: of the 6 pairs 1 has none, of the 4 triples none has none.
    #[test]
    fn pass_at_k_is_the_share_of_subsets_with_a_good_one() {
        close(pass_at_k(2, 4, 1), 0.5);
        close(pass_at_k(2, 4, 2), 5.0 / 6.0);
        assert_eq!((pass_at_k(2, 4, 3), pass_at_k(0, 4, 4), pass_at_k(4, 4, 1)), (1.0, 0.0, 1.0));
        // 1 - C(197, 100) / C(200, 100) = 1 - 100 99 98 / (200 199 198).
        close(pass_at_k(3, 200, 100), 1.0 - 970_200.0 / 7_880_400.0);
    }

    /// Of 1, 2, 4 and 8: the pairs' greatest are 2, 4, 8, 4, 8, 8, the triples' 4, 8, 8, 8.
    #[test]
    fn best_at_k_is_the_mean_of_the_greatest() {
        let scores = [4.0, 1.0, 8.0, 2.0];
        let found = [1, 2, 3, 4].map(|k| best_at_k(&scores, k));
        let expected = [15.0 / 4.0, 34.0 / 6.0, 7.0, 8.0];
        found.into_iter().zip(expected).for_each(|(found, expected)| close(found, expected));
    }

    /// Three samples of two classes, of which the second is of quality one half: the pairs add
    /// 1 x 0.5, 0 and 0.5, over three pairs.
    #[test]
    fn effective_diversity_is_of_pairs_that_are_good_and_different() {
        let classes = [0, 1, 0];
        let distance = |i: usize, j: usize| f64::from(u8::from(classes[i] != classes[j]));
        close(effective(&[1.0, 0.5, 1.0], distance), 1.0 / 3.0);
        close(effective(&[1.0, 0.0, 1.0], distance), 0.0);
        close(effective(&[1.0; 4], |_, _| 1.0), 1.0);
        // Two of four are good and differ: one of six pairs.
        close(effective(&[1.0, 0.0, 1.0, 0.0], |_, _| 1.0), 1.0 / 6.0);
        assert_eq!((effective(&[1.0], |_, _| 1.0), effective(&[], |_, _| 1.0)), (0.0, 0.0));
    }

    /// SFT has bad samples that vary: what a method loses to it is mostly they.
    #[test]
    fn the_parts_of_a_difference_add_up_over_the_prompts_that_both_have() {
        let of = |all: f64, good: f64| Some(Diversity { all, good });
        let ppo = [of(0.5, 0.4), None, of(0.3, 0.3), of(0.6, 0.5)];
        let sft = [of(0.9, 0.5), of(0.8, 0.7), None, of(0.8, 0.4)];
        let both = shared(&ppo, &sft);
        assert_eq!(both.len(), 2);
        let mean = |of: fn(Diversity) -> f64| {
            average(&both.iter().map(|(a, b)| of(*a) - of(*b)).collect::<Vec<f64>>())
        };
        let (total, narrowing) = (mean(|of| of.all), mean(|of| of.good));
        close(total, -0.3);
        close(narrowing, 0.0);
        close(mean(Diversity::control), total - narrowing);
    }

    #[test]
    fn a_score_at_the_threshold_is_good() {
        assert_eq!(good(&[0.1, 0.3, 0.1 + 0.2, -1.0, 1.0], 0.3), [1, 2, 4]);
        assert_eq!(good(&[0.7 + 0.1 + 0.1], 0.9), [0]);
    }

    proptest! {
        /// Every subset, by enumeration.
        #[test]
        fn curves_are_means_over_all_subsets(scores in prop::collection::vec(0u8..5, 1..9),
            threshold in 0u8..6) {
            let scores: Vec<f64> = scores.into_iter().map(f64::from).collect();
            let good = good(&scores, f64::from(threshold));
            for k in 1..=scores.len() {
                let of_k = |set: &u32| set.count_ones() as usize == k;
                let subsets = (0u32..1 << scores.len()).filter(of_k);
                let (mut passed, mut best, mut count) = (0usize, 0.0, 0usize);
                for set in subsets {
                    let members = || (0..scores.len()).filter(|at| set >> at & 1 == 1);
                    passed += usize::from(members().any(|at| good.contains(&at)));
                    best += members().map(|at| scores[at]).fold(f64::MIN, f64::max);
                    count += 1;
                }
                let pass = pass_at_k(good.len(), scores.len(), k);
                prop_assert!((pass - passed as f64 / count as f64).abs() < 1e-12);
                prop_assert!((best_at_k(&scores, k) - best / count as f64).abs() < 1e-12);
            }
        }
    }
}
