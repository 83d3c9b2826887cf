//! Direct preference optimisation of a policy's own responses: of the responses to each prompt the
//! best and the worst by reward are a pair, and a step learns from the pairs (Guo et al. 2024,
//! "Direct language model alignment from online AI feedback", arXiv 2402.04792). Works on token
//! ids.
//!
//! 1. The best is the first of those with the greatest reward, the worst the last of those with the
//!    least. Two responses of one reward are a pair too, as in TRL. Or a pair is of the most
//!    diverse of the best and the least diverse of the worst ([`diversity::preference_pair`]).
//! 2. Log-probabilities of policy and reference are at the temperature of sampling.
//! 3. A step is one optimiser step on the mean over its pairs. A prompt with fewer than two rewards
//!    gives no pair, and a step without a pair leaves the policy as it is.

use super::answers::Answered;
use super::direct::{Pair, accumulate_at};
use super::kl_stops::{KL, KlStops};
use super::optimiser::OptimiserConfig;
use super::policy_training::PolicyTraining;
use super::rollouts::{Rollout, RolloutSettings, score_reference};
use crate::backend::Backend;
use crate::error::Result;
use crate::model::weights::Model;
use crate::rl::advantage::{self, Response};
use crate::rl::direct::DirectLoss;
use crate::rl::group::{self, Rewarded};
use crate::rl::{Metrics, diversity, ratio_or_zero};

/// The values that are the same in every step.
pub struct Settings<'a> {
    /// Number of steps.
    pub steps: usize,
    /// Rules of responses; `conventions` has the missing-EOS rule.
    pub rollouts: RolloutSettings,
    /// Loss of a pair.
    pub loss: DirectLoss,
    /// The optimiser.
    pub optimiser: &'a OptimiserConfig,
    /// Where KL ends training; a step has no epochs that it could end.
    pub kl_stops: KlStops,
}

/// How the pair of a prompt is chosen.
#[derive(Clone, Copy, Debug)]
pub enum Choice<'a> {
    /// The best and the worst by reward.
    BestAndWorst,
    /// The most diverse of the best and the least diverse of the worst.
    Diverse {
        /// The diversity of each response.
        diversity: &'a [f64],
        /// Share of the responses that are the best, and that are the worst.
        pool: f64,
    },
}

impl<B: Backend> PolicyTraining<'_, B> {
    /// Step number `step` (0 is the first) on sampled responses, whose `reference` it fills in.
    /// `rewarded` has one entry for each, after the missing-EOS rule. A step whose metrics have
    /// reached the KL that ends training has no update and no metrics of it.
    ///
    /// # Errors
    /// The user's, if training diverged.
    pub fn learn_pairs(
        &mut self,
        step: usize,
        rollouts: &mut [Rollout],
        (rewarded, choice): (&[Rewarded], Choice<'_>),
        reference: &Model<B>,
        settings: &Settings<'_>,
    ) -> Result<Metrics> {
        let (b, rules) = (self.b, &settings.rollouts);
        score_reference(b, &self.policy, reference, rollouts, rules)?;
        let mut metrics = objective(rollouts, rewarded, settings.loss.beta, rules);
        let episode = ("episode", ((step + 1) * rollouts.len()) as f64);
        if settings.kl_stops.reached(&metrics, KL).is_some() {
            metrics.push(episode);
            return Ok(metrics);
        }
        let chosen = pairs(rewarded, choice);
        let side = |at: usize| Answered {
            tokens: rollouts[at].tokens.clone(),
            prompt: rollouts[at].prompt,
        };
        let found: Vec<Pair> =
            chosen.iter().map(|ends| Pair { id: String::new(), sides: ends.map(side) }).collect();
        let sum = |at: usize| rollouts[at].reference.iter().map(|x| f64::from(*x)).sum::<f64>();
        let of_reference: Vec<[f64; 2]> = chosen.iter().map(|ends| ends.map(sum)).collect();
        let batch: Vec<&Pair> = found.iter().collect();
        self.policy.clear_gradients(b);
        let policy = &mut self.policy;
        let (loss, temperature) = (&settings.loss, rules.temperature);
        metrics.extend(accumulate_at(b, policy, &batch, &of_reference, loss, temperature));
        let rate = settings.optimiser.rate(step, settings.steps);
        let norm = match batch.is_empty() {
            true => 0.0,
            false => self.policy.update(b, settings.optimiser, rate, 1.0, |_| true),
        };
        metrics.extend([("grad_norm", norm), ("learning_rate", rate), episode]);
        Ok(metrics)
    }
}

/// Places of the chosen and the rejected response to each prompt that has two with a reward.
fn pairs(rewarded: &[Rewarded], choice: Choice<'_>) -> Vec<[usize; 2]> {
    let mut found = Vec::new();
    let mut start = 0;
    for group in rewarded.chunk_by(|one, other| one.group == other.group) {
        let known = group.iter().enumerate();
        let (places, rewards): (Vec<usize>, Vec<f64>) =
            known.filter_map(|(at, response)| Some((start + at, response.reward?))).unzip();
        start += group.len();
        if places.len() < 2 {
            continue;
        }
        let pair = match choice {
            Choice::BestAndWorst => Some(diversity::best_and_worst(&rewards)),
            Choice::Diverse { diversity, pool } => {
                let own: Vec<f64> = places.iter().map(|place| diversity[*place]).collect();
                diversity::preference_pair(&rewards, &own, pool)
            }
        };
        found.extend(pair.map(|ends| ends.map(|at| places[at])));
    }
    found
}

/// The metrics of the objective over responses with a reward, `reward_std`, `frac_reward_zero_std`
/// and `frac_without_reward`.
pub(super) fn objective(
    rollouts: &[Rollout],
    rewarded: &[Rewarded],
    coef: f64,
    settings: &RolloutSettings,
) -> Metrics {
    let known: Vec<Response<'_>> = rollouts
        .iter()
        .zip(rewarded)
        .filter(|(_, rewarded)| rewarded.reward.is_some())
        .map(|(rollout, _)| rollout.response(settings))
        .collect();
    let mut metrics = advantage::objective(&known, coef, &settings.conventions);
    let (deviation, without) = group::spread(rewarded);
    let unrewarded = (rollouts.len() - known.len()) as f64;
    metrics.extend([
        ("reward_std", deviation),
        ("frac_reward_zero_std", without),
        ("frac_without_reward", ratio_or_zero(unrewarded, rollouts.len())),
    ]);
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_and_the_worst_of_each_prompt_are_a_pair() {
        let response = |group, reward| Rewarded { group, reward, tokens: 3 };
        let rewarded = [
            response(0, Some(1.0)),
            response(0, Some(3.0)),
            response(0, Some(3.0)),
            response(0, Some(1.0)),
            response(1, Some(0.5)),
            response(1, None),
            response(2, Some(2.0)),
            response(2, None),
            response(2, Some(2.0)),
        ];
        assert_eq!(pairs(&rewarded, Choice::BestAndWorst), [[1, 3], [6, 8]]);
        let diversity = [0.1, 0.2, 0.9, 0.3, 0.0, 0.0, 0.4, 0.9, 0.5];
        // Of the best half the third is the most diverse, of the worst half the first the least. A
        // prompt whose most and least diverse response are one gives no pair.
        let choice = Choice::Diverse { diversity: &diversity, pool: 0.5 };
        assert_eq!(pairs(&rewarded, choice), [[2, 0], [6, 8]]);
    }
}
