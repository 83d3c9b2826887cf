//! From scores and log-probabilities to advantages and returns: KL-shaped rewards, GAE, whitening.
//! Knows no loss and no optimiser.
//!
//! 1. Reward of a token = -coef * KL of the token; the score is added at EOS, or at the last token
//!    of a response without one.
//! 2. A response without EOS keeps its score, gets another ([`MissingEos::Replace`], -1 in N+), or
//!    loses some of it (`Subtract`, TRL).
//! 3. A score one past EOS ([`ScorePosition::AfterEos`]) needs room: a response shorter than
//!    `max_new_tokens` T has such a position, whose value takes part in GAE and is fitted. The
//!    score of a response of full length, ended or not, is at its last token (N+: `actual_end`).
//! 4. GAE (Schulman et al. 2016, "High-dimensional continuous control using generalized advantage
//!    estimation", eq. 16) over [`Conventions::positions`]; the value after the last one is 0.
//! 5. Returns = advantages before whitening + values, over [`Conventions::fitted`] positions.
//! 6. Whitening is over all tokens of all responses given, so the caller gives the whole update
//!    batch at once. Whitening of rewards comes before GAE and runs over all positions of GAE.
//! 7. What other libraries do otherwise is an option each here; their presets are in
//!    [`super::compat`].

use serde::{Deserialize, Serialize};

use super::kl::{self, Clamp, Estimator, Kl};
use super::{Metrics, ratio_or_zero};

/// One sampled response; T tokens, EOS included.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// Log-probabilities of the sampled tokens under the policy that sampled them, T of them.
    pub log_probs: &'a [f32],
    /// The same under the reference, at the same temperature and truncation, T of them.
    pub reference: &'a [f32],
    /// Values before each of [`Conventions::positions`]; values behind those are not read. 0 if
    /// there is no value function.
    pub values: &'a [f32],
    /// The reward model's score.
    pub score: f64,
    /// Whether the last token is EOS.
    pub ended: bool,
    /// Tokens that a response may have, EOS included (`max_new_tokens`): at least T.
    pub limit: usize,
}

/// Token that the score is added to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScorePosition {
    /// At the last token, which is EOS unless the response was cut.
    #[default]
    Eos,
    /// One position later, whose value takes part in GAE and is fitted (N+, TRL, torchtune); at the
    /// last token of a response of `max_new_tokens` tokens, which has no such position.
    AfterEos,
}

/// Which positions GAE and whitening run over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The response's own tokens.
    #[default]
    Response,
    /// All `max_new_tokens` positions of every response, those behind its end too (alpaca_farm);
    /// for comparison with such results only.
    Padded,
}

/// How rewards are normalised before GAE, over all positions that GAE runs over: scaled to variance
/// 1 (epsilon 1e-8, added to the variance) with their mean kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardWhitening {
    /// Not at all.
    #[default]
    None,
    /// By the unbiased variance (TRL and N+ with `whiten_rewards`).
    Unbiased,
    /// By the biased variance (alpaca_farm).
    Biased,
}

/// How advantages are normalised; the epsilon is 1e-8, added to the variance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whitening {
    /// Not at all.
    None,
    /// Zero mean, unbiased variance.
    #[default]
    Unbiased,
    /// Zero mean, biased variance (OpenRLHF, alpaca_farm).
    Biased,
    /// Unbiased variance, and the mean is added back (torchtune).
    ScaleOnly,
}

/// The score of a response that was cut before EOS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingEos {
    /// Score of the reward model.
    #[default]
    Keep,
    /// Score that replaces the score of the reward model.
    Replace(f64),
    /// Number that is subtracted from the score of the reward model.
    Subtract(f64),
}

/// The method by which rewards become advantages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Advantages {
    /// Generalised advantage estimation, which reads values.
    Gae {
        /// Discount of rewards.
        gamma: f64,
        /// Lambda of GAE.
        lambda: f64,
    },
}

impl Advantages {
    /// Advantages before whitening, one for each reward. All responses of the update batch are
    /// given at once: a method may compare a response with others.
    ///
    /// # Panics
    /// If there is not one value a reward.
    fn estimate(self, rewards: &[Vec<f64>], values: &[Vec<f64>]) -> Vec<Vec<f64>> {
        match self {
            Advantages::Gae { gamma, lambda } => rewards
                .iter()
                .zip(values)
                .map(|(rewards, values)| gae(rewards, values, gamma, lambda))
                .collect(),
        }
    }
}

/// Everything that decides advantages but the KL coefficient, which may change from step to step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conventions {
    /// KL penalty of each token.
    pub kl: Kl,
    /// From rewards to advantages.
    pub advantages: Advantages,
    /// Token that the score is added to.
    pub score_position: ScorePosition,
    /// Tokens that GAE and whitening run over.
    pub scope: Scope,
    /// Normalisation of rewards before GAE.
    pub reward_whitening: RewardWhitening,
    /// Normalisation of advantages.
    pub whitening: Whitening,
    /// The score of a response without EOS.
    pub missing_eos: MissingEos,
}

impl Default for Conventions {
    fn default() -> Self {
        Conventions {
            kl: Kl::default(),
            advantages: Advantages::Gae { gamma: 1.0, lambda: 0.95 },
            score_position: ScorePosition::Eos,
            scope: Scope::Response,
            reward_whitening: RewardWhitening::None,
            whitening: Whitening::Unbiased,
            missing_eos: MissingEos::Keep,
        }
    }
}

impl Conventions {
    /// Positions that GAE runs over, of a response of `tokens` tokens that might have `limit`.
    pub fn positions(&self, tokens: usize, limit: usize) -> usize {
        match self.scope {
            Scope::Padded => limit,
            Scope::Response => self.fitted(tokens, limit),
        }
    }

    /// Positions whose values are fitted: the tokens, and the one past them that carries the score.
    pub fn fitted(&self, tokens: usize, limit: usize) -> usize {
        tokens + usize::from(self.scores_past_end(tokens, limit))
    }

    fn scores_past_end(&self, tokens: usize, limit: usize) -> bool {
        self.score_position == ScorePosition::AfterEos && tokens > 0 && tokens < limit
    }
}

/// What a response of T tokens is trained on.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// `[T]`: -coef * KL, and the score where it is added to one of the tokens; whitened where
    /// rewards are.
    pub rewards: Vec<f32>,
    /// `[T]`: advantages, whitened.
    pub advantages: Vec<f32>,
    /// `[T]`, or `[T + 1]` where the score is one past the end: targets of the value function.
    pub returns: Vec<f32>,
}

/// Rewards, advantages and returns of a whole update batch.
///
/// # Panics
/// If a response's slices do not fit together.
pub fn estimate(responses: &[Response], coef: f64, conventions: &Conventions) -> Vec<Estimate> {
    let mut rewards: Vec<Vec<f64>> =
        responses.iter().map(|response| rewards(response, coef, conventions)).collect();
    whiten_rewards(&mut rewards, conventions.reward_whitening);
    let values = |(response, rewards): (&Response, &Vec<f64>)| {
        response.values[..rewards.len()].iter().map(|&value| f64::from(value)).collect()
    };
    let values: Vec<Vec<f64>> = responses.iter().zip(&rewards).map(values).collect();
    let raw = conventions.advantages.estimate(&rewards, &values);
    let mut advantages = raw.clone();
    if conventions.scope == Scope::Response {
        advantages
            .iter_mut()
            .zip(responses)
            .for_each(|(row, response)| row.truncate(response.log_probs.len()));
    }
    whiten(&mut advantages, conventions.whitening);
    let narrow = |row: &[f64]| row.iter().map(|&x| x as f32).collect::<Vec<f32>>();
    let rows = responses.iter().zip(&rewards).zip(raw.iter().zip(&advantages));
    rows.map(|((response, rewards), (raw, advantages))| {
        let tokens = response.log_probs.len();
        let fitted = &raw[..conventions.fitted(tokens, response.limit)];
        let returns: Vec<f64> = fitted
            .iter()
            .zip(response.values)
            .map(|(advantage, &value)| advantage + f64::from(value))
            .collect();
        Estimate {
            rewards: narrow(&rewards[..tokens]),
            advantages: narrow(&advantages[..tokens]),
            returns: narrow(&returns),
        }
    })
    .collect()
}

/// The rewards of one response over the positions that GAE runs over.
fn rewards(response: &Response, coef: f64, conventions: &Conventions) -> Vec<f64> {
    let (tokens, limit) = (response.log_probs.len(), response.limit);
    assert!(tokens <= limit, "a response of {tokens} tokens has at most {limit}");
    let positions = conventions.positions(tokens, limit);
    assert!(
        response.values.len() >= positions,
        "a response with {positions} positions has {} values",
        response.values.len()
    );
    let mut rewards: Vec<f64> = conventions
        .kl
        .values(response.log_probs, response.reference)
        .iter()
        .map(|kl| -coef * kl)
        .collect();
    rewards.resize(positions, 0.0);
    if tokens > 0 {
        let after = conventions.scores_past_end(tokens, limit);
        rewards[if after { tokens } else { tokens - 1 }] += score(response, conventions);
    }
    rewards
}

/// Scales rewards to variance 1 over all positions, and keeps their mean.
fn whiten_rewards(rows: &mut [Vec<f64>], whitening: RewardWhitening) {
    match whitening {
        RewardWhitening::None => {}
        RewardWhitening::Unbiased => scale(rows, false, true),
        RewardWhitening::Biased => scale(rows, true, true),
    }
}

impl MissingEos {
    /// Whether its number, if it has one, is one.
    pub fn is_finite(self) -> bool {
        match self {
            MissingEos::Keep => true,
            MissingEos::Replace(number) | MissingEos::Subtract(number) => number.is_finite(),
        }
    }

    /// The score that is optimised: the reward model's, or what a missing EOS makes of it.
    pub fn apply(self, score: f64, ended: bool) -> f64 {
        match self {
            MissingEos::Replace(instead) if !ended => instead,
            MissingEos::Subtract(penalty) if !ended => score - penalty,
            _ => score,
        }
    }
}

fn score(response: &Response, conventions: &Conventions) -> f64 {
    conventions.missing_eos.apply(response.score, response.ended)
}

/// Advantages of one episode: A_t = delta_t + gamma lambda A_{t+1} with delta_t = r_t + gamma
/// V_{t+1} - V_t, and 0 past the end.
///
/// # Panics
/// If there is not one value a reward.
pub fn gae(rewards: &[f64], values: &[f64], gamma: f64, lambda: f64) -> Vec<f64> {
    assert_eq!(rewards.len(), values.len(), "one value a reward");
    let mut advantages = vec![0.0; rewards.len()];
    let (mut next_value, mut next_advantage) = (0.0, 0.0);
    for t in (0..rewards.len()).rev() {
        let delta = rewards[t] + gamma * next_value - values[t];
        next_advantage = delta + gamma * lambda * next_advantage;
        next_value = values[t];
        advantages[t] = next_advantage;
    }
    advantages
}

/// Normalises over all elements of all rows; fewer than two elements have no variance and are only
/// centred (or, `ScaleOnly`, left).
pub fn whiten(rows: &mut [Vec<f64>], whitening: Whitening) {
    match whitening {
        Whitening::None => {}
        Whitening::Unbiased => scale(rows, false, false),
        Whitening::Biased => scale(rows, true, false),
        Whitening::ScaleOnly => scale(rows, false, true),
    }
}

/// Variance 1 over all elements of all rows; the mean becomes 0, or is kept. Less than two elements
/// keep their scale.
fn scale(rows: &mut [Vec<f64>], biased: bool, keep_mean: bool) {
    let count = rows.iter().map(Vec::len).sum::<usize>();
    let mean = ratio_or_zero(rows.iter().flatten().sum::<f64>(), count);
    let squares = rows.iter().flatten().map(|x| (x - mean) * (x - mean)).sum::<f64>();
    let divisor = if biased { count } else { count.saturating_sub(1).max(1) };
    let scale = if count > 1 { (squares / divisor as f64 + 1e-8).sqrt().recip() } else { 1.0 };
    let shift = if keep_mean { mean } else { 0.0 };
    for x in rows.iter_mut().flatten() {
        *x = (*x - mean) * scale + shift;
    }
}

/// What a batch of rollouts says about the objective, under TRL's names. KL is k1, whatever
/// estimator is charged, so that runs compare: `objective/kl` is the sequence KL,
/// `objective/kl_token` the token KL. `objective/entropy` is the sequence mean of -log p.
/// `objective/scores` is the score that is optimised, after the missing-EOS rule, as TRL's;
/// `objective/raw_scores` is what the reward model said. `objective/rlhf_reward` =
/// `objective/scores` + `objective/non_score_reward`, which is -coef * the charged KL.
pub fn objective(responses: &[Response], coef: f64, conventions: &Conventions) -> Metrics {
    let k1 = Kl { estimator: Estimator::K1, clamp: Clamp::default() };
    let kls: Vec<Vec<f64>> =
        responses.iter().map(|r| k1.values(r.log_probs, r.reference)).collect();
    let charged: Vec<Vec<f64>> =
        responses.iter().map(|r| conventions.kl.values(r.log_probs, r.reference)).collect();
    let mean = |of: &dyn Fn(&Response) -> f64| {
        ratio_or_zero(responses.iter().map(of).sum(), responses.len())
    };
    let scores = mean(&|r| score(r, conventions));
    let non_score = -coef * kl::per_sequence(&charged);
    let ended = responses.iter().filter(|r| r.ended).count();
    let cut = ratio_or_zero((responses.len() - ended) as f64, responses.len());
    vec![
        ("objective/kl", kl::per_sequence(&kls)),
        ("objective/kl_token", kl::per_token(&kls)),
        ("objective/kl_coef", coef),
        ("objective/entropy", mean(&|r| -r.log_probs.iter().map(|&p| f64::from(p)).sum::<f64>())),
        ("objective/non_score_reward", non_score),
        ("objective/rlhf_reward", scores + non_score),
        ("objective/scores", scores),
        ("objective/raw_scores", mean(&|r| r.score)),
        ("val/num_eos_tokens", ended as f64),
        ("response_length/mean", mean(&|r| r.log_probs.len() as f64)),
        (
            "response_length/max",
            responses.iter().map(|r| r.log_probs.len()).max().unwrap_or(0) as f64,
        ),
        ("response_length/clip_ratio", cut),
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn response<'a>(
        log_probs: &'a [f32],
        values: &'a [f32],
        score: f64,
        ended: bool,
    ) -> Response<'a> {
        Response { log_probs, reference: log_probs, values, score, ended, limit: log_probs.len() }
    }

    /// NeMo-RL's constants.
    #[test]
    fn lambda_zero_gives_one_step_errors() {
        assert_eq!(gae(&[0.0, 0.0, 5.0], &[1.0, 2.0, 3.0], 1.0, 0.0), [1.0, 1.0, 2.0]);
    }

    #[test]
    fn a_missing_eos_keeps_replaces_or_lowers_the_score() {
        let cut = response(&[-1.0, -1.0], &[0.0, 0.0], 0.75, false);
        let whole = Response { ended: true, ..cut };
        for (missing_eos, expected) in [
            (MissingEos::Keep, 0.75),
            (MissingEos::Replace(-1.0), -1.0),
            (MissingEos::Subtract(1.0), -0.25),
        ] {
            let conventions = Conventions { missing_eos, ..Conventions::default() };
            let estimates = estimate(&[cut, whole], 0.1, &conventions);
            assert_eq!(estimates[0].rewards, [0.0, expected as f32]);
            assert_eq!(estimates[1].rewards, [0.0, 0.75]);
        }
    }

    #[test]
    fn nothing_in_gives_nothing_out() {
        assert!(estimate(&[], 0.1, &Conventions::default()).is_empty());
        let estimates = estimate(&[response(&[], &[], 1.0, false)], 0.1, &Conventions::default());
        assert_eq!(estimates, [Estimate { rewards: vec![], advantages: vec![], returns: vec![] }]);
        assert!(
            objective(&[], 0.1, &Conventions::default())
                .iter()
                .all(|(name, x)| *x == 0.0 || *name == "objective/kl_coef")
        );
    }

    #[test]
    fn one_token_is_centred_and_equal_advantages_become_zero() {
        let single =
            estimate(&[response(&[-1.0], &[0.5], 2.0, true)], 0.0, &Conventions::default());
        assert_eq!((single[0].advantages[0], single[0].returns[0]), (0.0, 2.0));
        let same = response(&[-1.0], &[0.5], 2.0, true);
        assert!(
            estimate(&[same; 4], 0.0, &Conventions::default())
                .iter()
                .all(|e| e.advantages == [0.0])
        );
    }

    #[test]
    fn the_objective_is_reported_under_its_names() {
        let first = Response {
            log_probs: &[-1.0, -2.0],
            reference: &[-1.5, -1.5],
            values: &[0.0; 2],
            score: 1.0,
            ended: true,
            limit: 2,
        };
        let second = Response {
            log_probs: &[-1.0],
            reference: &[-3.0],
            values: &[0.0],
            score: 3.0,
            ended: false,
            limit: 1,
        };
        let conventions =
            Conventions { missing_eos: MissingEos::Replace(-1.0), ..Conventions::default() };
        let metrics = objective(&[first, second], 0.5, &conventions);
        let expected = [
            ("objective/kl", 1.0),
            ("objective/kl_token", 2.0 / 3.0),
            ("objective/kl_coef", 0.5),
            ("objective/entropy", 2.0),
            ("objective/non_score_reward", -0.5),
            ("objective/rlhf_reward", -0.5),
            ("objective/scores", 0.0),
            ("objective/raw_scores", 2.0),
            ("val/num_eos_tokens", 1.0),
            ("response_length/mean", 1.5),
            ("response_length/max", 2.0),
            ("response_length/clip_ratio", 0.5),
        ];
        assert_eq!(metrics, expected);
    }

    proptest! {
        /// The definition as a double sum: A_t = sum over l of (gamma lambda)^l delta_{t+l}.
        #[test]
        fn gae_is_the_discounted_sum_of_errors(
            steps in prop::collection::vec((-2.0f64..2.0, -2.0f64..2.0), 1..12),
            gamma in 0.5f64..1.0, lambda in 0.0f64..1.0
        ) {
            let (rewards, values): (Vec<f64>, Vec<f64>) = steps.iter().copied().unzip();
            let n = rewards.len();
            let next = |t: usize| values.get(t + 1).unwrap_or(&0.0);
            let delta = |t: usize| rewards[t] + gamma * next(t) - values[t];
            let advantages = gae(&rewards, &values, gamma, lambda);
            for (t, advantage) in advantages.iter().enumerate() {
                let term = |l: usize| (gamma * lambda).powi(l as i32) * delta(t + l);
                let sum: f64 = (0..n - t).map(term).sum();
                prop_assert!((advantage - sum).abs() < 1e-12);
            }
        }

        /// With lambda 1 the values cancel: the return is what is still to come.
        #[test]
        fn lambda_one_returns_are_rewards_to_go(scores in prop::collection::vec(-2.0f64..2.0, 1..6),
            value in -1.0f32..1.0) {
            let (log_probs, values) = ([-1.0f32; 3], [value, -value, 2.0 * value]);
            let responses: Vec<Response> = scores.iter().map(|&score| response(&log_probs, &values,
                score, true)).collect();
            let estimates = estimate(&responses, 0.3,
                &Conventions { advantages: Advantages::Gae { gamma: 1.0, lambda: 1.0 },
                    ..Conventions::default() });
            for (estimate, score) in estimates.iter().zip(&scores) {
                prop_assert!(estimate.returns.iter().all(|r| (f64::from(*r) - score).abs() < 1e-6));
            }
        }

        #[test]
        fn whitened_is_centred_and_of_variance_one(
            rows in prop::collection::vec(prop::collection::vec(-3.0f64..3.0, 1..5), 2..5)
        ) {
            let spread = rows.iter().flatten().fold(f64::MIN, |a,
                &b| a.max(b)) - rows.iter().flatten().fold(f64::MAX, |a, &b| a.min(b));
            prop_assume!(spread > 0.1);
            let mut whitened = rows.clone();
            whiten(&mut whitened, Whitening::Unbiased);
            let all: Vec<f64> = whitened.into_iter().flatten().collect();
            let variance = all.iter().map(|x| x * x).sum::<f64>() / (all.len() - 1) as f64;
            prop_assert!(all.iter().sum::<f64>().abs() < 1e-9 && (variance - 1.0).abs() < 1e-4);
        }

        #[test]
        fn the_order_of_responses_changes_no_response(scores in prop::collection::vec(-2.0f64..2.0,
            2..6)) {
            let (log_probs, values) = ([-1.0f32, -0.5], [0.25f32, -0.5]);
            let forth: Vec<Response> = scores.iter().map(|&score| response(&log_probs, &values,
                score, true)).collect();
            let back: Vec<Response> = forth.iter().rev().copied().collect();
            let (forth, mut back) = (estimate(&forth, 0.1, &Conventions::default()),
                estimate(&back, 0.1, &Conventions::default()));
            back.reverse();
            for (a, b) in forth.iter().zip(&back) {
                prop_assert!(a.advantages.iter().zip(&b.advantages).all(|(a,
                    b)| (a - b).abs() < 1e-6));
            }
        }
    }
}
