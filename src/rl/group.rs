//! Advantages without a value function: from the rewards of groups of responses, each group to one
//! prompt. Knows no loss.
//!
//! With r the reward of a response and g its group:
//! 1. A baseline is taken off: the mean of the group (GRPO, Shao et al. 2024, arXiv 2402.03300) or
//!    of its others (RLOO, Ahmadian et al. 2024, arXiv 2402.14740), the group's mean weighted by
//!    length (OPO, Hao et al. 2025, arXiv 2505.23585), the mean of the batch (REINFORCE), or
//!    nothing.
//! 2. The difference is divided by a scale: the standard deviation of the group's rewards, or of
//!    the batch's, each plus 1e-4; or advantages are whitened over responses, or over tokens.
//! 3. A group of one response has nothing to compare with: under the group's baselines its
//!    advantage is 0, as TRL's. `whiten_tokens` (REINFORCE++, Hu 2025, arXiv 2501.03262) keeps its
//!    reward, as verl's.
//! 4. A response without a reward has the advantage 0 and is in no mean and no deviation.
//! 5. Equal rewards give the advantage 0 exactly, whatever rounding does to their mean.
//! 6. Several parts of a reward are added up, or each is normalised in its group first
//!    ([`normalised_parts`]): a part of small spread then counts as much as one of large spread.

use serde::{Deserialize, Serialize};

use super::{diversity, ratio_or_zero};

/// What is added to standard deviations of rewards (TRL).
const EPSILON: f64 = 1e-4;
/// What is added to the variance of advantages of tokens (verl).
const TOKEN_EPSILON: f64 = 1e-8;

/// What is taken off the reward of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// Mean reward of the group.
    Group,
    /// Mean reward of the others of the group.
    LeaveOneOut,
    /// Mean reward of the group, weighted by the tokens of responses.
    LengthWeighted,
    /// Mean reward of the batch.
    Batch,
    /// Nothing.
    None,
}

/// What the difference to the baseline is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Unbiased standard deviation of the group's rewards, plus 1e-4.
    Group,
    /// Unbiased standard deviation of the batch's rewards, plus 1e-4.
    Batch,
    /// Advantages of responses get mean 0 and unbiased standard deviation 1 over the batch (1e-4 is
    /// added to it).
    Whiten,
    /// Advantages of tokens get mean 0 and unbiased variance 1 over the batch (1e-8 is added to
    /// it).
    WhitenTokens,
    /// Nothing.
    None,
}

/// How the parts of a reward become the number that advantages compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parts {
    /// Weighted sum of the parts' rewards.
    #[default]
    Sum,
    /// Weighted sum of the parts' rewards, each less its mean in the group and divided by its
    /// unbiased standard deviation there, plus 1e-4. The sums get mean 0 and unbiased standard
    /// deviation 1 over the batch.
    NormaliseEach,
}

impl Parts {
    /// Whether this is the plain sum.
    pub fn is_sum(&self) -> bool {
        *self == Parts::Sum
    }
}

/// A response as advantages see it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rewarded {
    /// Place of its prompt among those of the step; responses to one prompt follow one another.
    pub group: usize,
    /// What is optimised; `None` where no reward applies.
    pub reward: Option<f64>,
    /// Tokens, EOS included.
    pub tokens: usize,
}

/// The rewards of one group that has any, in order.
fn known(group: &[Rewarded]) -> Vec<f64> {
    group.iter().filter_map(|response| response.reward).collect()
}

fn mean(numbers: &[f64]) -> f64 {
    ratio_or_zero(numbers.iter().sum(), numbers.len())
}

/// The unbiased standard deviation; 0 of fewer than two numbers, and of equal ones.
fn deviation(numbers: &[f64]) -> f64 {
    if are_equal(numbers) { 0.0 } else { super::rewards::deviation(numbers) }
}

fn are_equal(numbers: &[f64]) -> bool {
    numbers.iter().all(|number| *number == numbers[0])
}

/// The advantage of each response, before tokens are whitened.
pub fn advantages(responses: &[Rewarded], baseline: Baseline, scale: Scale) -> Vec<f64> {
    let of_batch = mean(&known(responses));
    let mut differences = Vec::with_capacity(responses.len());
    for group in responses.chunk_by(|one, other| one.group == other.group) {
        let rewards = known(group);
        differences.extend(group.iter().map(|response| {
            response.reward.map_or(0.0, |reward| {
                difference(reward, group, &rewards, of_batch, baseline, scale)
            })
        }));
    }
    scaled(responses, differences, scale)
}

/// The weighted sum of each response's rewards, each part of which is normalised in its group: (r -
/// mean) / (s + 1e-4), mean and unbiased standard deviation s over the responses of the group that
/// the part applies to. `None` for a response to which no part applies. With [`Scale::Whiten`] and
/// no baseline, these are the advantages of GDPO (Liu et al. 2026, arXiv 2601.05242;
/// `multi_objective_aggregation: normalize_then_sum` of TRL's `grpo_trainer.py`).
///
/// A part adds nothing to a response that it does not apply to. Where it applies to one response of
/// a group, or its rewards in a group are equal, it adds 0 exactly.
///
/// `groups` has the place of each response's prompt, and responses to one prompt follow one
/// another; `parts` have a weight and the reward of each response.
///
/// # Panics
/// If a part has not as many rewards as there are responses.
pub fn normalised_parts(groups: &[usize], parts: &[(f64, &[Option<f64>])]) -> Vec<Option<f64>> {
    let mut sums = vec![None; groups.len()];
    for (weight, rewards) in parts {
        assert_eq!(rewards.len(), groups.len(), "a reward for each response");
        let mut start = 0;
        for group in groups.chunk_by(|one, other| one == other) {
            let own = start..start + group.len();
            start = own.end;
            let known: Vec<f64> = rewards[own.clone()].iter().flatten().copied().collect();
            if known.is_empty() {
                continue;
            }
            let (centre, scale) = (mean(&known), deviation(&known) + EPSILON);
            let is_equal = are_equal(&known);
            for (sum, reward) in sums[own.clone()].iter_mut().zip(&rewards[own]) {
                if let Some(reward) = reward {
                    let normalised = if is_equal { 0.0 } else { (reward - centre) / scale };
                    *sum = Some(sum.unwrap_or(0.0) + weight * normalised);
                }
            }
        }
    }
    sums
}

/// [`diversity::max_at_k`] of the rewards of each group, in place of differences to a baseline; 0
/// in a group of fewer than `k` rewards.
pub fn max_at_k(responses: &[Rewarded], k: usize) -> Vec<f64> {
    let mut differences = Vec::with_capacity(responses.len());
    for group in responses.chunk_by(|one, other| one.group == other.group) {
        let rewards = known(group);
        let own = match rewards.len() < k {
            true => vec![0.0; rewards.len()],
            false => diversity::max_at_k(&rewards, k),
        };
        let mut own = own.into_iter();
        let next = |response: &Rewarded| match response.reward {
            Some(_) => own.next().expect("an advantage a reward"),
            None => 0.0,
        };
        differences.extend(group.iter().map(next));
    }
    differences
}

/// Differences to a baseline, divided by what `scale` says of the rewards; before tokens are
/// whitened.
pub fn scaled(responses: &[Rewarded], differences: Vec<f64>, scale: Scale) -> Vec<f64> {
    let mut advantages = differences;
    match scale {
        Scale::Group => {
            let mut rest = advantages.as_mut_slice();
            for group in responses.chunk_by(|one, other| one.group == other.group) {
                let deviation = deviation(&known(group));
                let (own, others) = rest.split_at_mut(group.len());
                own.iter_mut().for_each(|advantage| *advantage /= deviation + EPSILON);
                rest = others;
            }
        }
        Scale::Batch => {
            let deviation = deviation(&known(responses));
            advantages.iter_mut().for_each(|advantage| *advantage /= deviation + EPSILON);
        }
        Scale::Whiten => {
            let rewarded = responses.iter().zip(&advantages);
            let known: Vec<f64> = rewarded
                .filter(|(response, _)| response.reward.is_some())
                .map(|(_, advantage)| *advantage)
                .collect();
            let (centre, deviation) = (mean(&known), deviation(&known));
            for (advantage, response) in advantages.iter_mut().zip(responses) {
                if response.reward.is_some() {
                    *advantage = (*advantage - centre) / (deviation + EPSILON);
                }
            }
        }
        Scale::WhitenTokens | Scale::None => {}
    }
    advantages
}

/// The reward of a response of `group` less its baseline. `rewards` are those of the group.
fn difference(
    reward: f64,
    group: &[Rewarded],
    rewards: &[f64],
    of_batch: f64,
    baseline: Baseline,
    scale: Scale,
) -> f64 {
    let is_of_group = !matches!(baseline, Baseline::Batch | Baseline::None);
    if is_of_group && rewards.len() == 1 {
        return if scale == Scale::WhitenTokens { reward } else { 0.0 };
    }
    if is_of_group && are_equal(rewards) {
        return 0.0;
    }
    let count = rewards.len() as f64;
    match baseline {
        Baseline::Group => reward - mean(rewards),
        Baseline::LeaveOneOut => (reward - mean(rewards)) * count / (count - 1.0),
        Baseline::LengthWeighted => {
            let rewarded = || group.iter().filter_map(|it| Some((it.reward?, it.tokens as f64)));
            let tokens: f64 = rewarded().map(|(_, tokens)| tokens).sum();
            reward - rewarded().map(|(reward, tokens)| reward * tokens).sum::<f64>() / tokens
        }
        Baseline::Batch => reward - of_batch,
        Baseline::None => reward,
    }
}

/// Gives advantages of tokens mean 0 and unbiased variance 1 over all rows but those that are left
/// out, which keep theirs.
pub fn whiten_tokens(rows: &mut [Vec<f64>], takes_part: &[bool]) {
    let part = |rows: &[Vec<f64>]| -> Vec<f64> {
        let own = rows.iter().zip(takes_part).filter(|(_, takes_part)| **takes_part);
        own.flat_map(|(row, _)| row.iter().copied()).collect()
    };
    let numbers = part(rows);
    let centre = mean(&numbers);
    let deviation = deviation(&numbers);
    let scale = (deviation * deviation + TOKEN_EPSILON).sqrt().recip();
    for (row, takes_part) in rows.iter_mut().zip(takes_part) {
        if *takes_part {
            row.iter_mut().for_each(|x| *x = (*x - centre) * scale);
        }
    }
}

/// What the rewards of a batch say: the mean over groups of the unbiased standard deviation, and
/// the share of groups without one, which teach nothing. Groups with fewer than two rewards do not
/// count.
pub fn spread(responses: &[Rewarded]) -> (f64, f64) {
    let groups = responses.chunk_by(|one, other| one.group == other.group).map(known);
    let deviations: Vec<f64> =
        groups.filter(|rewards| rewards.len() > 1).map(|rewards| deviation(&rewards)).collect();
    let without = deviations.iter().filter(|deviation| **deviation == 0.0).count();
    (mean(&deviations), ratio_or_zero(without as f64, deviations.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batch() -> Vec<Rewarded> {
        let rewards = [1.0, 0.2, -0.4, 0.5, 0.5, 0.9, -1.1, 0.3];
        let groups = [0, 0, 0, 1, 1, 1, 1, 2];
        let lengths = [3, 5, 2, 4, 1, 6, 2, 3];
        let response = |at: usize| Rewarded {
            group: groups[at],
            reward: Some(rewards[at]),
            tokens: lengths[at],
        };
        (0..8).map(response).collect()
    }

    fn close(found: &[f64], expected: &[f64], what: &str) {
        assert_eq!(found.len(), expected.len(), "{what}");
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{what}: {found} for {expected}");
        }
    }

    /// Values of TRL's and verl's own functions on one batch of three groups.
    #[test]
    fn advantages_have_the_published_values() {
        for (baseline, scale, expected) in [
            (
                Baseline::Group,
                Scale::Group,
                [1.043925, -0.094902, -0.949023, 0.338203, 0.338203, 0.789139, -1.465545, 0.0],
            ),
            (
                Baseline::Group,
                Scale::Batch,
                [1.05852, -0.096229, -0.962291, 0.433031, 0.433031, 1.010405, -1.876467, 0.0],
            ),
            (
                Baseline::Group,
                Scale::None,
                [0.733333, -0.066667, -0.666667, 0.3, 0.3, 0.7, -1.3, 0.0],
            ),
            (
                Baseline::LeaveOneOut,
                Scale::None,
                [1.1, -0.1, -1.0, 0.4, 0.4, 0.933333, -1.733333, 0.0],
            ),
            (
                Baseline::LeaveOneOut,
                Scale::Whiten,
                [1.148892, -0.104445, -1.044447, 0.417779, 0.417779, 0.974817, -1.810375, 0.0],
            ),
            (
                Baseline::LengthWeighted,
                Scale::None,
                [0.68, -0.12, -0.72, 0.061538, 0.061538, 0.461538, -1.538462, 0.0],
            ),
        ] {
            let found = advantages(&batch(), baseline, scale);
            close(&found, &expected, &format!("{baseline:?}, {scale:?}"));
        }
    }

    const NONE: Option<f64> = None;

    /// Weights and rewards of three parts on the groups of [`batch`].
    fn parts() -> [(f64, [Option<f64>; 8]); 3] {
        let known = |rewards: [f64; 8]| rewards.map(Some);
        let mut others = known([0.0, 1.0, 1.0, 0.0, 2.0, 5.0, 0.0, 4.0]);
        (others[3], others[6]) = (NONE, NONE);
        let mut equal = known([3.0, 3.0, 3.0, 0.0, 0.0, 7.0, 0.0, 0.0]);
        [3, 4, 6, 7].into_iter().for_each(|at| equal[at] = NONE);
        [(1.0, known([1.0, 0.2, -0.4, 0.5, 0.5, 0.9, -1.1, 0.3])), (-0.5, others), (2.0, equal)]
    }

    fn normalised(parts: &[(f64, [Option<f64>; 8])]) -> Vec<Option<f64>> {
        let groups: Vec<usize> = batch().iter().map(|response| response.group).collect();
        let parts: Vec<(f64, &[Option<f64>])> =
            parts.iter().map(|(weight, rewards)| (*weight, rewards.as_slice())).collect();
        normalised_parts(&groups, &parts)
    }

    /// The advantages of sums of normalised parts.
    fn of_sums(sums: &[Option<f64>]) -> Vec<f64> {
        let mut responses = batch();
        responses.iter_mut().zip(sums).for_each(|(own, sum)| own.reward = *sum);
        advantages(&responses, Baseline::None, Scale::Whiten)
    }

    /// Values of Python, by `statistics.mean` and `statistics.stdev`:
    ///
    /// ```python
    /// sums = [None] * 8
    /// for weight, rewards in parts:
    ///     for group in [[0, 1, 2], [3, 4, 5, 6], [7]]:
    ///         known = [rewards[i] for i in group if rewards[i] is not None]
    ///         s = stdev(known) if len(known) > 1 else 0.0
    ///         for i in group:
    ///             if rewards[i] is not None:
    ///                 sums[i] = (sums[i] or 0) + weight * (rewards[i] - mean(known)) / (s + 1e-4)
    /// known = [x for x in sums if x is not None]
    /// advantages = [(x - mean(known)) / (stdev(known) + 1e-4) for x in known]
    /// ```
    #[test]
    fn normalised_parts_have_the_values_of_independent_code() {
        let sums: Vec<f64> = normalised(&parts()).into_iter().flatten().collect();
        let expected =
            [1.621175, -0.383527, -1.237648, 0.338203, 0.691739, 0.435603, -1.465545, 0.0];
        close(&sums, &expected, "sums");
        let expected =
            [1.594194, -0.377144, -1.21705, 0.332574, 0.680227, 0.428353, -1.441153, 0.0];
        close(&of_sums(&normalised(&parts())), &expected, "advantages");
        // Without the first part two responses have no reward, and are in no mean.
        let sums = normalised(&parts()[1..]);
        assert_eq!((sums[3], sums[6], sums[7]), (NONE, NONE, Some(0.0)));
        let expected = [1.490265, -0.745132, -0.745132, 0.0, 0.912712, -0.912712, 0.0, 0.0];
        close(&of_sums(&sums), &expected, "advantages without two");
    }

    /// Where one sum would hide a part of small spread, normalised parts weigh alike.
    #[test]
    fn a_part_of_small_spread_is_not_lost() {
        let small = [0.0, 0.01, 0.0, 0.01, 0.0, 0.01, 0.0, 0.0].map(Some);
        let large = [9.0, 0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0].map(Some);
        let sums = normalised(&[(1.0, small), (1.0, large)]);
        let normal = |rewards: [Option<f64>; 8]| normalised(&[(1.0, rewards)]);
        let spread =
            |sums: Vec<Option<f64>>| sums[..3].iter().flatten().fold(0.0f64, |a, b| a.max(*b));
        let (small, large) = (spread(normal(small)), spread(normal(large)));
        // The deviation of (0, 0.01, 0) is 0.00577, beside which 1e-4 counts.
        assert!((large - small) / large < 0.02, "{small}, {large}");
        assert!(sums.iter().all(Option::is_some));
    }

    #[test]
    fn parts_that_say_nothing_of_a_group_add_nothing_to_it() {
        // The mean of three times 0.1 is not 0.1 in binary.
        let equal = [(5.0, [Some(0.1); 8])];
        assert_eq!(normalised(&equal), [Some(0.0); 8]);
        assert_eq!(of_sums(&normalised(&equal)), [0.0; 8]);
        assert_eq!(normalised(&[(1.0, [NONE; 8])]), [NONE; 8]);
        assert_eq!(normalised(&[]), [NONE; 8]);
    }

    /// REINFORCE++ with the group's mean as baseline, as verl computes it.
    #[test]
    fn tokens_are_whitened_over_the_batch() {
        let responses = batch();
        let own = advantages(&responses, Baseline::Group, Scale::WhitenTokens);
        let mut rows: Vec<Vec<f64>> = own
            .iter()
            .zip(&responses)
            .map(|(advantage, response)| vec![*advantage; response.tokens])
            .collect();
        whiten_tokens(&mut rows, &[true; 8]);
        let first: Vec<f64> = rows.iter().map(|row| row[0]).collect();
        let expected =
            [0.943545, -0.40685, -1.419646, 0.212081, 0.212081, 0.887279, -2.488708, 0.212081];
        close(&first, &expected, "whitened");
    }

    #[test]
    fn equal_rewards_teach_nothing_and_are_counted() {
        let response = |group, reward| Rewarded { group, reward: Some(reward), tokens: 3 };
        // Their mean is not 0.1 in binary.
        let responses: Vec<Rewarded> =
            (0..3).map(|_| response(0, 0.1)).chain([response(1, 0.0), response(1, 1.0)]).collect();
        for baseline in [Baseline::Group, Baseline::LeaveOneOut, Baseline::LengthWeighted] {
            for scale in [Scale::Group, Scale::Batch, Scale::None] {
                let found = advantages(&responses, baseline, scale);
                assert_eq!(found[..3], [0.0; 3], "{baseline:?}, {scale:?}");
                assert!(found[3] < 0.0 && found[4] > 0.0, "{baseline:?}, {scale:?}");
            }
        }
        let (std, zero) = spread(&responses);
        assert!((std - 0.5 * 0.5f64.sqrt()).abs() < 1e-15 && zero == 0.5, "{std}, {zero}");
    }

    /// The third response has no reward: the others have what they have without it.
    #[test]
    fn a_response_without_a_reward_changes_no_other() {
        let mut responses = batch();
        responses[2].reward = None;
        let mut without = responses.clone();
        without.remove(2);
        for baseline in [Baseline::Group, Baseline::LeaveOneOut, Baseline::Batch] {
            for scale in [Scale::Group, Scale::Batch, Scale::Whiten] {
                let mut found = advantages(&responses, baseline, scale);
                assert_eq!(found.remove(2), 0.0);
                assert_eq!(found, advantages(&without, baseline, scale));
            }
        }
    }

    proptest! {
        /// Neither the order of parts nor that of responses in a group matters, beyond rounding.
        #[test]
        fn normalised_parts_have_no_order(
            rewards in prop::collection::vec(prop::option::of(-2.0f64..2.0), 12),
            turn in 0usize..4,
        ) {
            let groups = [0, 0, 0, 0, 0, 0];
            let (one, other) = rewards.split_at(6);
            let turned = |rewards: &[Option<f64>]| -> Vec<Option<f64>> {
                let mut rewards = rewards.to_vec();
                rewards.rotate_left(turn);
                rewards
            };
            let plain = normalised_parts(&groups, &[(1.0, one), (-0.5, other)]);
            let again = normalised_parts(&groups, &[(-0.5, &turned(other)), (1.0, &turned(one))]);
            for (plain, again) in turned(&plain).into_iter().zip(again) {
                prop_assert_eq!(plain.is_some(), again.is_some());
                prop_assert!((plain.unwrap_or(0.0) - again.unwrap_or(0.0)).abs() < 1e-9);
            }
        }

        #[test]
        fn group_baselines_sum_to_nothing(rewards in prop::collection::vec(-2.0f64..2.0, 2..9)) {
            let responses: Vec<Rewarded> = rewards.iter()
                .map(|reward| Rewarded { group: 0, reward: Some(*reward), tokens: 2 }).collect();
            for baseline in [Baseline::Group, Baseline::LeaveOneOut, Baseline::LengthWeighted] {
                let sum: f64 = advantages(&responses, baseline, Scale::None).iter().sum();
                prop_assert!(sum.abs() < 1e-12);
            }
        }

        /// The definition: the mean of the others.
        #[test]
        fn leave_one_out_takes_the_mean_of_the_others(
            rewards in prop::collection::vec(-2.0f64..2.0, 2..9)
        ) {
            let responses: Vec<Rewarded> = rewards.iter()
                .map(|reward| Rewarded { group: 0, reward: Some(*reward), tokens: 2 }).collect();
            let found = advantages(&responses, Baseline::LeaveOneOut, Scale::None);
            for (at, advantage) in found.iter().enumerate() {
                let others = rewards.iter().enumerate().filter(|(other, _)| *other != at);
                let mean = others.map(|(_, r)| *r).sum::<f64>() / (rewards.len() - 1) as f64;
                prop_assert!((advantage - (rewards[at] - mean)).abs() < 1e-12);
            }
        }
    }
}
