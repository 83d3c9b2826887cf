//! Critic-free policy optimisation: several responses to each prompt of a step, advantages from
//! their rewards, a policy loss on tokens. Works on token ids.
//!
//! 1. The caller samples the responses and fills in their scores. The step scores them under the
//!    reference, over the frozen blocks that policy and reference share (`trunk.rs`).
//! 2. Another number than its score may be compared of a response: that of the parts of its reward,
//!    normalised ([`group::normalised_parts`]).
//! 3. Scores of a group may be changed for the sake of diversity
//!    ([`crate::rl::group_diversity`]), after the missing-EOS rule and before KL.
//! 4. Advantages are those of [`crate::rl::group`] over all responses of the step. KL may take part
//!    in the reward of a response before the baseline (RLOO), in the returns of its tokens after it
//!    (REINFORCE++), or in the loss (GRPO).
//! 5. An epoch goes through the responses in a new random order, in `minibatches` parts of about
//!    one size, one optimiser step each. A loss is averaged over its whole minibatch.
//! 6. Losses and their derivatives are computed on the host, in `f64`, from the log-probabilities
//!    of each micro-batch: a number a token. Old log-probabilities are those of sampling, so the
//!    ratio of the first minibatch is exactly 1. Where it is not, the step has figures that say so.

use super::kl_stops::{KL, KlStops};
use super::optimiser::OptimiserConfig;
use super::policy_pass::{self, Derivatives, FirstPass, TokenFigures, by_response, wide};
use super::policy_training::PolicyTraining;
use super::rollouts::{Rollout, RolloutSettings, score_reference};
use super::trunk::Trunk;
use crate::backend::Backend;
use crate::error::Result;
use crate::model::batch::micro_batches;
use crate::model::weights::Model;
use crate::random::Stream;
use crate::rl::advantage::{self, Response};
use crate::rl::critic_free::KlIn;
use crate::rl::entropy::EntropyControl;
use crate::rl::group::{self, Baseline, Rewarded, Scale};
use crate::rl::group_diversity::{Diversity, Kin, Likelihoods};
use crate::rl::kl::Anneal;
use crate::rl::policy_loss::{LossStatistics, PolicyLoss, Scored, Size};
use crate::rl::{Metrics, ratio_or_zero};

/// The values that are the same in every step.
pub struct Settings<'a> {
    /// Number of steps.
    pub steps: usize,
    /// Optimiser steps of an epoch.
    pub minibatches: usize,
    /// Passes over the responses of a step.
    pub epochs: usize,
    /// Rules of responses; `conventions` has the missing-EOS rule and the estimator of KL that is
    /// charged in rewards or returns.
    pub rollouts: RolloutSettings,
    /// What is taken off rewards.
    pub baseline: Baseline,
    /// What the difference is divided by.
    pub scale: Scale,
    /// Where KL is charged.
    pub kl_in: KlIn,
    /// Coefficient of KL, in the first step if it is annealed.
    pub kl_coef: f64,
    /// Change of the coefficient from step to step.
    pub anneal: Option<Anneal>,
    /// The loss; the KL that is in it has a coefficient for each step.
    pub loss: PolicyLoss,
    /// Change of rewards and advantages for the sake of diversity.
    pub diversity: Option<Diversity>,
    /// The optimiser.
    pub optimiser: &'a OptimiserConfig,
    /// Seed of the order of responses.
    pub seed: u64,
    /// Where KL ends the epochs of a step, or training.
    pub kl_stops: KlStops,
}

/// A rollout with the place of its prompt in the step, and whether a reward applies to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Member {
    /// Place of its prompt; responses to one prompt follow one another.
    pub group: usize,
    /// Whether its score is one.
    pub has_reward: bool,
    /// The number that advantages compare instead of its score after the missing-EOS rule; `None`
    /// takes the score.
    pub compared: Option<f64>,
}

/// The data of a step that all its updates read.
struct Step<'a, B: Backend> {
    settings: &'a Settings<'a>,
    rollouts: &'a [Rollout],
    advantages: &'a [Vec<f64>],
    trunk: &'a Trunk<B>,
    rate: f64,
    loss: PolicyLoss,
    entropy_coef: f64,
}

/// Sums over the updates of a step.
#[derive(Default)]
struct Sums {
    losses: LossStatistics,
    entropy: f64,
    tokens: usize,
    norm: f64,
    first: FirstPass,
}

impl<B: Backend> PolicyTraining<'_, B> {
    /// Step number `step` (0 is the first) on sampled responses with scores, whose `reference` it
    /// fills in. `members` has one entry for each; `kin` says how responses to a prompt are alike.
    /// A step whose metrics have reached the KL that ends training has no updates and no metrics of
    /// them.
    ///
    /// # Errors
    /// The user's, if training diverged.
    ///
    /// # Panics
    /// If there is not one of `members` a rollout.
    pub fn learn_groups(
        &mut self,
        step: usize,
        rollouts: &mut [Rollout],
        (members, kin): (&[Member], &[Kin]),
        reference: &Model<B>,
        settings: &Settings<'_>,
    ) -> Result<Metrics> {
        assert_eq!(rollouts.len(), members.len(), "a member for each rollout");
        let rules = &settings.rollouts;
        let trunk = score_reference(self.b, &self.policy, reference, rollouts, rules)?;
        let rollouts = &*rollouts;
        let responses: Vec<Response<'_>> =
            rollouts.iter().map(|rollout| rollout.response(rules)).collect();
        let kl_coef = match settings.anneal {
            None => settings.kl_coef,
            Some(anneal) => anneal.coef(settings.kl_coef, step, settings.steps),
        };
        let (advantages, mut metrics) = advantages(&responses, (members, kin), kl_coef, settings);
        let episode = ("episode", ((step + 1) * rollouts.len()) as f64);
        if settings.kl_stops.reached(&metrics, KL).is_some() {
            metrics.push(episode);
            return Ok(metrics);
        }
        let rate = settings.optimiser.rate(step, settings.steps);
        let loss = settings.loss.with_kl_coef(kl_coef);
        let entropy_coef = self.entropy.as_ref().map_or(0.0, EntropyControl::applied);
        let (advantages, trunk) = (&advantages, &trunk);
        let data = Step { settings, rollouts, advantages, trunk, rate, loss, entropy_coef };
        let orders = Stream::new(settings.seed, "minibatches");
        let mut sums = Sums::default();
        let mut epochs = 0;
        while epochs < settings.epochs {
            let mut order: Vec<usize> = (0..rollouts.len()).collect();
            orders.sequence((step * settings.epochs + epochs) as u64).shuffle(&mut order);
            let mut before = sums.losses;
            for part in 0..settings.minibatches {
                let bound = |part: usize| part * order.len() / settings.minibatches;
                let is_first = epochs == 0 && part == 0;
                before = sums.losses;
                self.update(&data, &mut sums, &order[bound(part)..bound(part + 1)], is_first)?;
            }
            epochs += 1;
            if settings.kl_stops.ends_step(sums.losses.approximate_kl_since(&before)) {
                break;
            }
        }
        let updates = epochs * settings.minibatches;
        metrics.extend(sums.losses.metrics(updates));
        let entropy = ratio_or_zero(sums.entropy, sums.tokens);
        if let Some(control) = &mut self.entropy {
            metrics.push(("policy/entropy_coef", entropy_coef));
            control.after(entropy);
        }
        metrics.extend([
            ("policy/entropy_avg", entropy),
            ("grad_norm", sums.norm / updates as f64),
            ("learning_rate", rate),
            episode,
        ]);
        metrics.extend(settings.kl_stops.epochs_of(epochs));
        metrics.extend(sums.first.metrics());
        Ok(metrics)
    }

    /// One optimiser step on the minibatch of the responses `members`.
    fn update(
        &mut self,
        data: &Step<'_, B>,
        sums: &mut Sums,
        members: &[usize],
        is_first: bool,
    ) -> Result<()> {
        let Step { settings, rollouts, rate, .. } = *data;
        let tokens = members.iter().map(|member| rollouts[*member].length()).sum();
        let limit = settings.rollouts.max_new_tokens;
        let size = Size { responses: members.len(), tokens, limit };
        self.policy.clear_gradients(self.b);
        for run in micro_batches(members.iter().map(|member| rollouts[*member].tokens.len())) {
            self.accumulate(data, sums, &members[run], size, is_first)?;
        }
        sums.norm += self.policy.update(self.b, settings.optimiser, rate, 1.0, |_| true);
        Ok(())
    }

    /// Adds the gradients of one micro-batch of a minibatch of this size.
    fn accumulate(
        &mut self,
        data: &Step<'_, B>,
        sums: &mut Sums,
        members: &[usize],
        size: Size,
        is_first: bool,
    ) -> Result<()> {
        let Step { settings, rollouts, advantages, trunk, loss, .. } = data;
        let own = || members.iter().map(|member| &rollouts[*member]);
        let (policy, temperature) = (&mut self.policy, settings.rollouts.temperature);
        policy_pass::accumulate(
            self.b,
            policy,
            trunk,
            (rollouts, members),
            temperature,
            |figures| {
                let TokenFigures { logprobs, entropies } = figures;
                sums.entropy += entropies.iter().sum::<f64>();
                sums.tokens += logprobs.len();
                let mut derivatives = Vec::with_capacity(logprobs.len());
                let by_response = by_response(logprobs, own().map(Rollout::length));
                for (policy, member) in by_response.iter().zip(members) {
                    let rollout = &rollouts[*member];
                    let (old, reference) = (wide(&rollout.logprobs), wide(&rollout.reference));
                    if is_first {
                        sums.first.add(policy, &old);
                    }
                    let advantages = &advantages[*member];
                    let scored = Scored { policy, old: &old, reference: &reference, advantages };
                    derivatives.extend(loss.gradients(scored, size, &mut sums.losses));
                }
                let coef = data.entropy_coef;
                let entropy = (coef > 0.0).then(|| -coef / size.tokens as f64);
                Ok(Derivatives { logprobs: derivatives, entropy })
            },
        )
    }
}

/// The advantage of every token of every response, and the metrics of the objective.
fn advantages(
    responses: &[Response<'_>],
    (members, kin): (&[Member], &[Kin]),
    kl_coef: f64,
    settings: &Settings<'_>,
) -> (Vec<Vec<f64>>, Metrics) {
    let conventions = &settings.rollouts.conventions;
    let charged: Vec<Vec<f64>> = responses
        .iter()
        .map(|response| conventions.kl.values(response.log_probs, response.reference))
        .collect();
    let score = |(response, member): (&Response<'_>, &Member)| Rewarded {
        group: member.group,
        reward: member.has_reward.then(|| {
            let score = || conventions.missing_eos.apply(response.score, response.ended);
            member.compared.unwrap_or_else(score)
        }),
        tokens: response.log_probs.len(),
    };
    let mut rewarded: Vec<Rewarded> = responses.iter().zip(members).map(score).collect();
    let likelihoods: Vec<Likelihoods> = responses.iter().map(Likelihoods::of).collect();
    let mut metrics = Vec::new();
    if let Some(diversity) = &settings.diversity {
        metrics.extend(diversity.shape(&mut rewarded, &likelihoods, kin));
    }
    let scored = rewarded.clone();
    if settings.kl_in == KlIn::Reward {
        for (own, kl) in rewarded.iter_mut().zip(&charged) {
            let penalty = kl_coef * kl.iter().sum::<f64>();
            own.reward = own.reward.map(|reward| reward - penalty);
        }
    }
    let mut own = match settings.diversity.and_then(Diversity::best_of) {
        None => group::advantages(&rewarded, settings.baseline, settings.scale),
        Some(k) => group::scaled(&rewarded, group::max_at_k(&rewarded, k), settings.scale),
    };
    if let Some(diversity) = &settings.diversity {
        diversity.reweigh(&mut own, &scored, &likelihoods);
    }
    let mut tokens: Vec<Vec<f64>> = own
        .iter()
        .zip(&charged)
        .zip(members)
        .map(|((advantage, kl), member)| match settings.kl_in {
            KlIn::Returns if member.has_reward => to_come(*advantage, kl, kl_coef),
            _ => vec![*advantage; kl.len()],
        })
        .collect();
    if settings.scale == Scale::WhitenTokens {
        let takes_part: Vec<bool> = members.iter().map(|member| member.has_reward).collect();
        group::whiten_tokens(&mut tokens, &takes_part);
    }
    let known: Vec<Response<'_>> = responses
        .iter()
        .zip(members)
        .filter(|(_, member)| member.has_reward)
        .map(|(response, _)| *response)
        .collect();
    let mut objective = advantage::objective(&known, kl_coef, conventions);
    let (deviation, without) = group::spread(&rewarded);
    let unrewarded = (responses.len() - known.len()) as f64;
    objective.extend([
        ("reward_std", deviation),
        ("frac_reward_zero_std", without),
        ("frac_without_reward", ratio_or_zero(unrewarded, responses.len())),
    ]);
    objective.extend(metrics);
    (tokens, objective)
}

/// The advantage of each token of a response that is charged the KL of that token and of those
/// after it.
fn to_come(advantage: f64, kl: &[f64], coef: f64) -> Vec<f64> {
    let mut to_come = advantage;
    let mut row: Vec<f64> = kl
        .iter()
        .rev()
        .map(|kl| {
            to_come -= coef * kl;
            to_come
        })
        .collect();
    row.reverse();
    row
}
