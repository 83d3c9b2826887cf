//! Proximal policy optimisation (Schulman et al. 2017) of a language model. Works on token ids.
//!
//! 1. The caller samples one response a prompt. The step scores them under reward model, reference
//!    and critic (`rollouts.rs`). Old log-probabilities are those of sampling: the same kernels
//!    sample and score, so the ratio of the first minibatch is exactly 1. Where it is not, the step
//!    has figures that say so.
//! 2. Frozen blocks run once a step for all models that share them, and their output is kept for
//!    every epoch (`trunk.rs`).
//! 3. Advantages are estimated over the whole batch of the step; `rl::advantage` says how.
//! 4. An epoch goes through the responses in a new random order, in `minibatches` parts of about
//!    one size, one optimiser step each (`policy_gradient.rs` has the losses).
//! 5. In the first `value_warmup` steps only the value function learns, by the loss that it has
//!    later; a shared one then learns through its head, and the trunk's tensors have no update.

use std::path::Path;

use super::archive::Archive;
use super::critic::Critic;
use super::optimiser::{OptimiserConfig, TrainState};
use super::policy_gradient::{Losses, MicroBatch, UpdateStats, accumulate};
use super::rollouts::{FrozenModels, Rollout, RolloutSettings, Scoring};
use super::steps::{State, diverged};
use super::trunk::Trunk;
use crate::backend::Backend;
use crate::error::{Context, Result};
use crate::model::batch::micro_batches;
use crate::model::memory::Memory;
use crate::model::params::{Role, Slot};
use crate::random::Stream;
use crate::rl::Metrics;
use crate::rl::advantage::{self, Estimate, Response};
use crate::rl::kl::{self, Adaptive};
use crate::rl::ppo::{PolicyClip, ValueClip, explained_variance};

/// The values that are the same in every step.
pub struct Settings<'a> {
    /// Number of steps.
    pub steps: usize,
    /// Optimiser steps of an epoch.
    pub minibatches: usize,
    /// Passes over the responses of a step.
    pub epochs: usize,
    /// Rules of responses and of their rewards.
    pub rollouts: RolloutSettings,
    /// Control of the KL coefficient; `None` keeps it.
    pub adaptive: Option<Adaptive>,
    /// Clipping of the policy's ratio.
    pub policy_clip: PolicyClip,
    /// Clipping and weight of the value loss.
    pub value_clip: ValueClip,
    /// Steps in which only the value function learns.
    pub value_warmup: usize,
    /// Learning rate of the value head, divided by that of the trunk.
    pub value_head_ratio: f64,
    /// The optimiser of policy and critic.
    pub optimiser: &'a OptimiserConfig,
    /// Seed of the order of responses.
    pub seed: u64,
}

/// Policy, critic and KL coefficient.
pub struct Ppo<'a, B: Backend> {
    /// The back end.
    pub b: &'a B,
    /// The policy; with a shared critic it has the value head.
    pub policy: TrainState<B>,
    /// The model of the value function.
    pub critic: Critic<B>,
    /// Coefficient of the KL penalty.
    pub coef: f64,
}

impl<B: Backend> State for Ppo<'_, B> {
    fn save(&self, archive: &mut Archive) {
        self.policy.save(self.b, "policy", archive);
        self.critic.save(self.b, archive);
        archive.put_text("coef", self.coef.to_bits().to_string());
    }

    fn load(&mut self, archive: &Archive) -> Result<()> {
        self.policy.load(self.b, "policy", archive)?;
        self.critic.load(self.b, archive)?;
        self.coef = f64::from_bits(
            archive.text("coef")?.parse().context("a checkpoint's coefficient is a number")?,
        );
        Ok(())
    }
}

/// The data of a step that all its updates read.
struct Step<'a, B: Backend> {
    settings: &'a Settings<'a>,
    rollouts: &'a [Rollout],
    estimates: &'a [Estimate],
    trunk: &'a Trunk<B>,
    rate: f64,
    /// Whether only the value function learns.
    warming: bool,
}

impl<B: Backend> Ppo<'_, B> {
    /// [`TrainState::with_masters_of`] of policy and critic, which were loaded from the folders
    /// `policy` and, a separate critic, `reward`.
    ///
    /// # Errors
    /// Those of reading the folders.
    pub fn with_masters_of(mut self, policy: &Path, reward: Option<&Path>) -> Result<Self> {
        self.policy = self.policy.with_masters_of(self.b, policy)?;
        self.critic = match (self.critic, reward) {
            (Critic::Separate(state), Some(reward)) => {
                Critic::Separate(Box::new(state.with_masters_of(self.b, reward)?))
            }
            (critic, _) => critic,
        };
        Ok(self)
    }

    /// [`TrainState::frozen_movement`] of policy and separate critic.
    ///
    /// # Errors
    /// Those of reading the folders that they were loaded from.
    pub fn frozen_movement(&self) -> Result<Metrics> {
        let mut metrics = self.policy.frozen_movement(self.b)?;
        if let Some(critic) = self.critic.separate() {
            metrics.extend(critic.frozen_movement(self.b)?);
        }
        Ok(metrics)
    }

    /// The bytes of the training states of policy and critic.
    pub fn memory(&self) -> Memory {
        let critic = self.critic.separate().map(|state| state.memory(self.b));
        self.policy.memory(self.b).and(critic.unwrap_or_default())
    }

    /// Step number `step` (0 is the first) on sampled responses, whose `reference`, `values` and,
    /// where there is a reward model, `score` it fills in. `judged` are the sequences that the
    /// reward model reads: each begins with the rollout's tokens.
    ///
    /// # Errors
    /// The user's, if training diverged.
    pub fn step(
        &mut self,
        step: usize,
        rollouts: &mut [Rollout],
        judged: &[Vec<u32>],
        frozen: &FrozenModels<'_, B>,
        settings: &Settings<'_>,
    ) -> Result<Metrics> {
        let (policy, critic, rules) = (&self.policy, &self.critic, &settings.rollouts);
        let scoring = Scoring { b: self.b, policy, critic, frozen, settings: rules };
        let trunk = scoring.score(rollouts, judged)?;
        let (estimates, mut metrics) = self.advantages(rollouts, rules);

        let (rate, warming) =
            (settings.optimiser.rate(step, settings.steps), step < settings.value_warmup);
        let rollouts = &*rollouts;
        let data = Step { settings, rollouts, estimates: &estimates, trunk: &trunk, rate, warming };
        let orders = Stream::new(settings.seed, "minibatches");
        let mut stats = UpdateStats::new(self.b);
        for epoch in 0..settings.epochs {
            let mut order: Vec<usize> = (0..rollouts.len()).collect();
            orders.sequence((step * settings.epochs + epoch) as u64).shuffle(&mut order);
            for part in 0..settings.minibatches {
                let bound = |part: usize| part * order.len() / settings.minibatches;
                let is_first = epoch == 0 && part == 0;
                self.update(&data, &mut stats, &order[bound(part)..bound(part + 1)], is_first)?;
            }
        }
        let updates = settings.epochs * settings.minibatches;
        metrics.extend(stats.metrics(self.b, self.has_values(), updates));
        metrics
            .extend([("learning_rate", rate), ("episode", ((step + 1) * rollouts.len()) as f64)]);
        if let Some(adaptive) = &settings.adaptive {
            let kl = metrics.iter().find(|metric| metric.0 == "objective/kl");
            let (_, kl) = kl.expect("the objective has its KL");
            self.coef = kl::adapt(self.coef, *kl, rollouts.len(), adaptive);
        }
        Ok(metrics)
    }

    fn has_values(&self) -> bool {
        !matches!(self.critic, Critic::None)
    }

    /// Advantages and returns of the batch, and the metrics of the objective.
    fn advantages(
        &self,
        rollouts: &[Rollout],
        settings: &RolloutSettings,
    ) -> (Vec<Estimate>, Metrics) {
        let responses: Vec<Response<'_>> =
            rollouts.iter().map(|rollout| rollout.response(settings)).collect();
        let estimates = advantage::estimate(&responses, self.coef, &settings.conventions);
        let mut metrics = advantage::objective(&responses, self.coef, &settings.conventions);
        if self.has_values() {
            let fitted = |rollout: &Rollout| rollout.values[..rollout.fitted(settings)].to_vec();
            let values: Vec<f32> = rollouts.iter().flat_map(fitted).collect();
            let returns: Vec<f32> =
                estimates.iter().flat_map(|estimate| estimate.returns.clone()).collect();
            metrics.push(("critic/vf_explained_var", explained_variance(&values, &returns)));
        }
        (estimates, metrics)
    }

    /// One optimiser step on the minibatch of the responses `members`.
    fn update(
        &mut self,
        data: &Step<'_, B>,
        stats: &mut UpdateStats<B>,
        members: &[usize],
        is_first: bool,
    ) -> Result<()> {
        let Step { settings, rollouts, estimates, trunk, rate, warming } = *data;
        let rules = &settings.rollouts;
        let losses = Losses {
            temperature: rules.temperature,
            policy: settings.policy_clip,
            value: settings.value_clip,
            warming,
            tokens: members.iter().map(|member| rollouts[*member].length()).sum(),
            positions: members.iter().map(|member| rollouts[*member].fitted(rules)).sum(),
        };
        self.policy.clear_gradients(self.b);
        self.critic.clear_gradients(self.b);
        for run in micro_batches(members.iter().map(|member| rollouts[*member].tokens.len())) {
            let part = MicroBatch::new(rollouts, estimates, &members[run], rules);
            let (policy, critic) = (&mut self.policy, &mut self.critic);
            accumulate(self.b, policy, critic, stats, &part, trunk, &losses);
        }
        if is_first {
            stats.gaps = stats.policy(self.b).gaps();
        }
        let (optimiser, ratio) = (settings.optimiser, settings.value_head_ratio);
        if !warming || matches!(self.critic, Critic::Shared) {
            let moves = |slot: &Slot| !warming || slot.role == Role::Scalar;
            stats.norm += self.policy.update(self.b, optimiser, rate, ratio, moves);
        }
        if let Critic::Separate(critic) = &mut self.critic {
            let norm = critic.update(self.b, optimiser, rate, ratio, |_| true);
            if !norm.is_finite() {
                return Err(diverged(format!("the norm of the critic's gradient is {norm}")).into());
            }
        }
        Ok(())
    }
}
