//! Diversity in the objective: rewards and advantages of the responses to one prompt, changed so
//! that a policy keeps varied answers. Knows no text and no model.
//!
//! All functions take the responses of one group, in order; r are their rewards.
//! 1. [`novelties`]: 1 less the mean similarity with the others of the group. They are added to
//!    rewards ([`add`]), or multiply them ([`multiply`]).
//! 2. [`class_factors`]: DARLING (Li et al. 2025, "Jointly reinforcing diversity and quality in
//!    language model generations", arXiv 2509.02534): a reward is multiplied by the share of the
//!    others that are of another class.
//! 3. [`mode_anchored`]: MARA (GX-Chen et al. 2025, "KL-regularized reinforcement learning is
//!    designed to mode collapse", arXiv 2510.20817): all good responses get what makes them equally
//!    likely at the optimum of the KL-regularised objective.
//! 4. [`uniform_correct`]: UCPO (arXiv 2605.00365): advantages of good responses are shared out
//!    anew, more to what is unlikely.
//! 5. [`max_at_k`]: the gradient of the expected maximum of k responses (Walder and Karkhanis 2025,
//!    "Pass@k policy optimization", arXiv 2505.15201; pass@k for rewards of 0 and 1).
//! 6. [`unlikeliness`]: He et al. 2025, "Rewarding the unlikely", arXiv 2506.02355: the reward of a
//!    good response is the less, the likelier it was.
//! 7. [`preference_pair`]: DivPO (Lanchantin et al. 2025, "Diverse preference optimization", arXiv
//!    2501.18101).
//!
//! A group of equal responses with equal rewards keeps equal rewards, to the bit, whatever
//! the order of its responses is.

use serde::{Deserialize, Serialize};

/// Factor of DARLING below which none falls.
const FLOOR: f64 = 0.1;
/// Probability of a response below which UCPO does not tell two apart.
const LEAST_PROBABILITY: f64 = 1e-6;

/// Which responses of a group are good ones.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Good {
    /// Those with at least this reward.
    AtLeast(f64),
    /// Those with at least the reward that this share of the group is below: 0.75 of a group of
    /// eight is its best two.
    Quantile(f64),
}

impl Good {
    /// Whether its number is in range.
    pub fn is_in_range(self) -> bool {
        match self {
            Good::AtLeast(least) => least.is_finite(),
            Good::Quantile(share) => (0.0..1.0).contains(&share),
        }
    }

    /// Whether each response is one.
    pub fn of(self, rewards: &[f64]) -> Vec<bool> {
        let least = match self {
            Good::AtLeast(least) => least,
            Good::Quantile(share) => {
                let mut sorted = rewards.to_vec();
                sorted.sort_by(f64::total_cmp);
                let place = (share * rewards.len() as f64).floor() as usize;
                sorted.get(place).copied().unwrap_or(f64::INFINITY)
            }
        };
        rewards.iter().map(|reward| *reward >= least).collect()
    }
}

/// The sum in an order of sizes, so that it does not depend on the order of a group.
fn sum_of(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.iter().sum()
}

/// The mean, likewise.
fn mean_of(numbers: &[f64]) -> f64 {
    super::ratio_or_zero(sum_of(numbers), numbers.len())
}

/// 1 less the mean similarity with the others, of `n` responses with `similarities[n,n]`; 1 of a
/// response without others.
///
/// # Panics
/// If the matrix has another size.
pub fn novelties(similarities: &[f64], n: usize) -> Vec<f64> {
    assert_eq!(similarities.len(), n * n, "a square matrix");
    let others = |at: usize| -> Vec<f64> {
        let other = move |other: &usize| *other != at;
        (0..n).filter(other).map(|other| similarities[at * n + other]).collect()
    };
    (0..n).map(|at| 1.0 - mean_of(&others(at))).collect()
}

/// r + weight x novelty.
pub fn add(rewards: &[f64], novelties: &[f64], weight: f64) -> Vec<f64> {
    rewards.iter().zip(novelties).map(|(reward, novelty)| reward + weight * novelty).collect()
}

/// (r - b) x factor, with b the least reward of the group where that is negative, else 0: a
/// negative reward would gain by a small factor.
pub fn multiply(rewards: &[f64], factors: &[f64]) -> Vec<f64> {
    let least = rewards.iter().copied().fold(0.0, f64::min);
    rewards.iter().zip(factors).map(|(reward, factor)| (reward - least) * factor).collect()
}

/// Novelties divided by their mean, so that factors have the mean 1; 1 where none is novel.
pub fn relative(novelties: &[f64]) -> Vec<f64> {
    let mean = mean_of(novelties);
    novelties.iter().map(|novelty| if mean > 0.0 { novelty / mean } else { 1.0 }).collect()
}

/// (n - |class|) / (n - 1) of each of `n` responses, at least 0.1; 1 of a response without others.
/// `classes` has the number of the class of each. With `good`, classes and n are of good ones, and
/// others have 0.1.
pub fn class_factors(classes: &[usize], good: Option<&[bool]>) -> Vec<f64> {
    let takes_part = |at: usize| good.is_none_or(|good| good[at]);
    let count = (0..classes.len()).filter(|at| takes_part(*at)).count();
    let factor = |at: usize| {
        if !takes_part(at) {
            return FLOOR;
        }
        let same = |other: &usize| takes_part(*other) && classes[*other] == classes[at];
        let size = (0..classes.len()).filter(same).count();
        match count {
            1 => 1.0,
            _ => ((count - size) as f64 / (count - 1) as f64).max(FLOOR),
        }
    };
    (0..classes.len()).map(factor).collect()
}

/// The rewards of MARA: with z the good response of the greatest `reference` log-probability (the
/// first of equals), a good response gets r(z) + beta (reference(z) - reference(y)), others keep
/// theirs. `reference` is summed over the response; `beta` the coefficient of the KL.
pub fn mode_anchored(rewards: &[f64], reference: &[f64], good: &[bool], beta: f64) -> Vec<f64> {
    let mut anchor: Option<usize> = None;
    for at in (0..rewards.len()).filter(|at| good[*at]) {
        if anchor.is_none_or(|anchor| reference[at] > reference[anchor]) {
            anchor = Some(at);
        }
    }
    let Some(anchor) = anchor else { return rewards.to_vec() };
    let new = |at: usize| match good[at] {
        true => rewards[anchor] + beta * (reference[anchor] - reference[at]),
        false => rewards[at],
    };
    (0..rewards.len()).map(new).collect()
}

/// Factors of the advantages of UCPO: with n the good responses, q the softmax of their
/// `logprobs` (means over tokens, under the policy that sampled) and v = 1 / max(q, 1e-6), a good
/// response has n ((1 - tau) / n + tau v / sum v), which have the sum n; others have 1.
pub fn uniform_correct(logprobs: &[f64], good: &[bool], tau: f64) -> Vec<f64> {
    let own: Vec<f64> =
        logprobs.iter().zip(good).filter(|(_, good)| **good).map(|(own, _)| *own).collect();
    let greatest = own.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = own.iter().map(|own| (own - greatest).exp()).collect();
    let all = sum_of(&powers);
    let inverse: Vec<f64> =
        powers.iter().map(|power| (power / all).max(LEAST_PROBABILITY).recip()).collect();
    let (total, count) = (sum_of(&inverse), own.len() as f64);
    let mut next = inverse.iter();
    let factor = |good: &bool| match good {
        true => {
            let inverse = next.next().expect("a number for each good response");
            count * ((1.0 - tau) / count + tau * inverse / total)
        }
        false => 1.0,
    };
    good.iter().map(factor).collect()
}

/// Advantages whose mean times the gradient of a response's log-probability is, over draws of a
/// group, the gradient of the expected maximum of `k` rewards: with ascending ranks i = 1 to n,
/// n / C(n, k) sum over j < i of C(j - 1, k - 2) (r_i - r_j), the mean over subsets of k with i of
/// what i adds to the maximum of the k - 1 others. Equal rewards have equal advantages.
///
/// # Panics
/// If `k` is not from 2 to the number of rewards.
pub fn max_at_k(rewards: &[f64], k: usize) -> Vec<f64> {
    let n = rewards.len();
    assert!((2..=n).contains(&k), "{k} of {n} responses");
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|one, other| rewards[*one].total_cmp(&rewards[*other]));
    // C(j - 1, k - 2) / C(n, k), j from 1.
    let all = binomial(n, k);
    let share: Vec<f64> = (0..n).map(|below| binomial(below, k - 2) / all).collect();
    let mut advantages = vec![0.0; n];
    for (rank, at) in order.iter().enumerate() {
        let added = |below: usize| share[below] * (rewards[*at] - rewards[order[below]]);
        advantages[*at] = n as f64 * (0..rank).map(added).sum::<f64>();
    }
    advantages
}

/// The number of subsets of `k` of `n`; 0 where there are fewer.
fn binomial(n: usize, k: usize) -> f64 {
    if k > n {
        return 0.0;
    }
    (0..k).map(|at| (n - at) as f64 / (at + 1) as f64).product()
}

/// Factors of rewards: 1 - beta (n - rank) / n of good ones, rank 0 the likeliest of the group of n
/// by `logprobs` (equals have the least rank of theirs); 1 of others.
pub fn unlikeliness(logprobs: &[f64], good: &[bool], beta: f64) -> Vec<f64> {
    let count = logprobs.len() as f64;
    let factor = |(own, good): (&f64, &bool)| match good {
        true => {
            let rank = logprobs.iter().filter(|other| *other > own).count();
            1.0 - beta * (count - rank as f64) / count
        }
        false => 1.0,
    };
    logprobs.iter().zip(good).map(factor).collect()
}

/// Places of the first of the greatest and the last of the least.
pub fn best_and_worst(rewards: &[f64]) -> [usize; 2] {
    let (mut best, mut worst) = (0, 0);
    for (at, reward) in rewards.iter().enumerate() {
        if *reward > rewards[best] {
            best = at;
        }
        if *reward <= rewards[worst] {
            worst = at;
        }
    }
    [best, worst]
}

/// The chosen and the rejected response of DivPO: the most diverse of the ⌈rho n⌉ of the greatest
/// rewards, and the least diverse of the ⌈rho n⌉ of the least; the first of equals. `None` of fewer
/// than two responses, and where both would be the same one.
///
/// # Panics
/// If there is not one diversity a reward.
pub fn preference_pair(rewards: &[f64], diversity: &[f64], rho: f64) -> Option<[usize; 2]> {
    assert_eq!(rewards.len(), diversity.len(), "a diversity a reward");
    let n = rewards.len();
    if n < 2 {
        return None;
    }
    let pool = ((rho * n as f64).ceil() as usize).clamp(1, n);
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|one, other| rewards[*other].total_cmp(&rewards[*one]));
    // The first of equals is the one that was drawn first, not the one of the greatest reward.
    let first_of = |places: &[usize], sign: f64| {
        let mut places = places.to_vec();
        places.sort_unstable();
        let better = |best: usize, at: usize| match sign * diversity[at] > sign * diversity[best] {
            true => at,
            false => best,
        };
        places.into_iter().reduce(better).expect("a pool of at least one")
    };
    let chosen = first_of(&order[..pool], 1.0);
    let rejected = first_of(&order[n - pool..], -1.0);
    (chosen != rejected).then_some([chosen, rejected])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(found: &[f64], expected: &[f64], what: &str) {
        assert_eq!(found.len(), expected.len(), "{what}");
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{what}: {found} for {expected}");
        }
    }

    /// Four texts of which the first and the last are the same; values of an independent script.
    #[test]
    fn novelty_has_its_values() {
        let a = 0.733_012_701_9;
        let similarities = [1.0, a, 0.0, 1.0, a, 1.0, 0.0, a, 0.0, 0.0, 1.0, 0.0, 1.0, a, 0.0, 1.0];
        let found = novelties(&similarities, 4);
        close(&found, &[0.422_329, 0.511_325, 1.0, 0.422_329], "novelty");
        assert_eq!(novelties(&[1.0], 1), [1.0]);

        let rewards = [0.9, 0.7, 0.4, 0.8];
        let added = add(&rewards, &found, 0.5);
        close(&added, &[1.111_164_5, 0.955_662_5, 0.9, 1.011_164_5], "added");
        let multiplied = multiply(&rewards, &relative(&found));
        close(&multiplied, &[0.645_329, 0.607_691, 0.679_122, 0.573_626], "multiplied");
    }

    #[test]
    fn factors_of_classes_have_the_published_values() {
        close(&class_factors(&[0, 1, 0, 2], None), &[2.0 / 3.0, 1.0, 2.0 / 3.0, 1.0], "classes");
        let good = [true, true, true, false];
        close(&class_factors(&[0, 1, 0, 2], Some(&good)), &[0.5, 1.0, 0.5, 0.1], "good classes");
        close(&class_factors(&[4, 4, 4], None), &[0.1; 3], "one class");
        close(&class_factors(&[0], None), &[1.0], "one response");
        close(&class_factors(&[0, 1], Some(&[true, false])), &[1.0, 0.1], "one good response");
    }

    #[test]
    fn a_negative_reward_does_not_gain_by_a_small_factor() {
        assert_eq!(multiply(&[-1.0, -1.0, 1.0], &[0.1, 1.0, 1.0]), [0.0, 0.0, 2.0]);
        assert_eq!(multiply(&[1.0, 2.0], &[0.5, 1.0]), [0.5, 2.0]);
    }

    #[test]
    fn good_ones_are_above_a_reward_or_a_share() {
        assert_eq!(Good::AtLeast(0.5).of(&[0.5, 0.4, 1.0]), [true, false, true]);
        assert_eq!(Good::Quantile(0.5).of(&[4.0, 1.0, 3.0, 2.0]), [true, false, true, false]);
        assert_eq!(Good::Quantile(0.0).of(&[4.0, 1.0]), [true, true]);
        assert_eq!(Good::Quantile(0.9).of(&[1.0, 1.0, 1.0]), [true; 3]);
        assert!(!Good::Quantile(1.0).is_in_range() && !Good::AtLeast(f64::NAN).is_in_range());
    }

    /// At the optimum of reward - beta KL, the policy is reference x exp(reward / beta): with the
    /// rewards of MARA all good responses have one probability.
    #[test]
    fn mode_anchored_rewards_make_good_responses_equally_likely() {
        let reference = [0.5f64, 0.2, 0.05, 0.25].map(f64::ln);
        let (rewards, good, beta) = ([1.0, 0.8, 1.2, 0.0], [true, true, true, false], 0.3);
        let found = mode_anchored(&rewards, &reference, &good, beta);
        assert_eq!((found[0], found[3]), (1.0, 0.0));
        let weight = |at: usize| (reference[at] + found[at] / beta).exp();
        assert!((weight(1) / weight(0) - 1.0).abs() < 1e-12);
        assert!((weight(2) / weight(0) - 1.0).abs() < 1e-12);
        assert_eq!(mode_anchored(&rewards, &reference, &[false; 4], beta), rewards);
    }

    #[test]
    fn factors_of_ucpo_have_the_published_values() {
        let found = uniform_correct(&[-0.2, -0.5, -9.0, -1.0], &[true, true, false, true], 0.2);
        close(&found, &[0.931_136, 0.977_015, 1.0, 1.091_849], "ucpo");
        assert!((found[0] + found[1] + found[3] - 3.0).abs() < 1e-12, "mass is kept");
        assert_eq!(uniform_correct(&[-1.0, -2.0], &[false, true], 0.3), [1.0, 1.0]);
        assert_eq!(uniform_correct(&[-1.0, -2.0], &[false; 2], 0.3), [1.0, 1.0]);
    }

    /// The likeliest loses the share beta of its reward.
    #[test]
    fn the_likelier_a_good_response_the_less_it_gets() {
        let found = unlikeliness(&[-1.0, -3.0, -2.0, -3.0], &[true, true, true, false], 0.4);
        close(&found, &[0.6, 0.8, 0.7, 1.0], "unlikeliness");
    }

    #[test]
    fn pairs_are_of_the_best_and_the_worst_of_a_pool() {
        let rewards = [0.9, 0.1, 0.8, 0.5, -0.3, 0.7, 0.2, -0.6];
        let diversity = [0.2, 0.9, 0.6, 0.3, 0.5, 0.7, 0.1, 0.4];
        assert_eq!(preference_pair(&rewards, &diversity, 0.25), Some([2, 7]));
        assert_eq!(preference_pair(&[1.0], &[1.0], 0.5), None);
        // All in both pools, and one of them the most and the least diverse.
        assert_eq!(preference_pair(&[1.0, 1.0], &[0.5, 0.5], 1.0), None);
        assert_eq!(preference_pair(&[1.0, 0.0], &[0.5, 0.5], 0.1), Some([0, 1]));
    }

    /// Every subset of k, one after the other.
    fn by_enumeration(rewards: &[f64], k: usize) -> Vec<f64> {
        let n = rewards.len();
        let mut sums = vec![0.0; n];
        let mut subsets = 0.0;
        for subset in (0u32..1 << n).filter(|subset| subset.count_ones() as usize == k) {
            subsets += 1.0;
            let most = |without: usize| {
                let own = |at: &usize| subset >> at & 1 == 1 && *at != without;
                (0..n).filter(own).map(|at| rewards[at]).fold(f64::NEG_INFINITY, f64::max)
            };
            for at in (0..n).filter(|at| subset >> at & 1 == 1) {
                sums[at] += most(n) - most(at);
            }
        }
        sums.iter().map(|sum| n as f64 * sum / subsets).collect()
    }

    /// Three outcomes, a group of four: the expectation of sum advantage x gradient of log p over
    /// all groups, divided by n, is the slope of the expected maximum of k.
    #[test]
    fn max_at_k_is_the_gradient_of_the_expected_maximum() {
        let (logits, rewards, n) = ([0.2f64, -0.4, 0.1], [0.3, 1.0, -0.5], 4usize);
        let probabilities = |logits: [f64; 3]| {
            let sum: f64 = logits.iter().map(|x| x.exp()).sum();
            logits.map(|x| x.exp() / sum)
        };
        let groups = |size: u32| {
            let group = move |code: usize| {
                (0..size).map(move |at| code / 3usize.pow(at) % 3).collect::<Vec<usize>>()
            };
            (0..3usize.pow(size)).map(group)
        };
        for k in [2, 3, 4] {
            let expected = |logits: [f64; 3]| {
                let p = probabilities(logits);
                let value = |group: Vec<usize>| {
                    let most = group.iter().map(|at| rewards[*at]).fold(f64::MIN, f64::max);
                    group.iter().map(|at| p[*at]).product::<f64>() * most
                };
                groups(k as u32).map(value).sum::<f64>()
            };
            let p = probabilities(logits);
            let mut gradient = [0.0; 3];
            for group in groups(n as u32) {
                let own: Vec<f64> = group.iter().map(|at| rewards[*at]).collect();
                let chance: f64 = group.iter().map(|at| p[*at]).product();
                for (advantage, drawn) in max_at_k(&own, k).iter().zip(&group) {
                    for (logit, gradient) in gradient.iter_mut().enumerate() {
                        let score = f64::from(u8::from(logit == *drawn)) - p[logit];
                        *gradient += chance * advantage * score / n as f64;
                    }
                }
            }
            for logit in 0..3 {
                let at = |step: f64| {
                    let mut moved = logits;
                    moved[logit] += step;
                    expected(moved)
                };
                let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
                let found = gradient[logit];
                assert!((slope - found).abs() < 1e-9, "k {k}: {slope}, {found}");
            }
        }
    }

    proptest! {
        #[test]
        fn max_at_k_is_the_mean_over_subsets(
            rewards in prop::collection::vec(-2.0f64..2.0, 2..8), k in 2usize..8
        ) {
            prop_assume!(k <= rewards.len());
            let found = max_at_k(&rewards, k);
            for (found, expected) in found.iter().zip(by_enumeration(&rewards, k)) {
                prop_assert!((found - expected).abs() < 1e-9, "{found} for {expected}");
            }
        }

        /// Equal responses have equal numbers to the bit, wherever they are in the group.
        #[test]
        fn novelty_does_not_depend_on_places(
            points in prop::collection::vec(0usize..3, 2..9), turn in 0usize..9
        ) {
            let kernel = [[1.0, 0.37, 0.11], [0.37, 1.0, 0.73], [0.11, 0.73, 1.0]];
            let of = |points: &[usize]| {
                let all: Vec<f64> = points.iter()
                    .flat_map(|one| points.iter().map(move |other| kernel[*one][*other])).collect();
                novelties(&all, points.len())
            };
            let mut turned = points.clone();
            turned.rotate_left(turn % points.len());
            let mut own = of(&points);
            own.rotate_left(turn % points.len());
            prop_assert_eq!(own, of(&turned));
        }
    }
}
