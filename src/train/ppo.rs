//! Proximal policy optimisation (Schulman et al. 2017) of a language model. Works on token ids.
//!
//! 1. The caller samples responses to prompts. The step scores them under reward model, reference
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
//! 6. By [`Options`] values are computed anew in every epoch, a step's epochs or the whole training
//!    end by KL, and the reference is replaced; `rl::rewards` scales scores.

use std::path::Path;

use super::archive::Archive;
use super::critic::Critic;
use super::optimiser::{OptimiserConfig, TrainState};
use super::policy_gradient::{ENTROPY, Losses, MicroBatch, UpdateStats, accumulate};
use super::policy_training::{load_entropy, save_entropy};
use super::ppo_options::{INITIAL_KL, Options};
use super::rollouts::{FrozenModels, Rollout, RolloutSettings, Scoring};
use super::steps::{State, diverged};
use super::trunk::Trunk;
use crate::backend::Backend;
use crate::error::{Context, Result};
use crate::model::batch::micro_batches;
use crate::model::memory::Memory;
use crate::model::params::{Role, Slot};
use crate::model::weights::{Model, unique};
use crate::random::Stream;
use crate::rl::Metrics;
use crate::rl::advantage::{self, Conventions, Estimate, MissingEos, Response};
use crate::rl::entropy::{EntropyBonus, EntropyControl};
use crate::rl::group::Rewarded;
use crate::rl::group_diversity::{Kin, Likelihoods};
use crate::rl::kl::{self, Adaptive, Kl};
use crate::rl::ppo::{PolicyClip, PolicyStatistics, ValueClip, ValueFit, explained_variance};
use crate::rl::rewards::{Moments, Scaled};

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
    /// Options that a plain run is without.
    pub options: Options,
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
    /// The reference, once it has been replaced.
    reference: Option<Model<B>>,
    /// Of the scores so far, where they are scaled.
    scores: Moments,
    /// The coefficient of the KL penalty at the start.
    first_coef: f64,
    /// The entropy bonus, where the loss has one.
    entropy: Option<EntropyControl>,
}

impl<B: Backend> State for Ppo<'_, B> {
    fn save(&self, archive: &mut Archive) {
        self.policy.save(self.b, "policy", archive);
        self.critic.save(self.b, archive);
        archive.put_text("coef", self.coef.to_bits().to_string());
        let Moments { count, mean, squares } = self.scores;
        let numbers = [count, mean.to_bits(), squares.to_bits()].map(|bits| bits.to_string());
        archive.put_text(SCORES, numbers.join(" "));
        if let Some(control) = &self.entropy {
            save_entropy(control, archive);
        }
        if let Some(reference) = &self.reference {
            archive.put_text(REFERENCE, "replaced".into());
            for (slot, tensor) in reference.slots().iter().zip(reference.weights.iter()) {
                if self.policy.trainable.trains(slot) {
                    archive.put(format!("{REFERENCE}.{}", slot.name), self.b.download(tensor));
                }
            }
        }
    }

    fn load(&mut self, archive: &Archive) -> Result<()> {
        self.policy.load(self.b, "policy", archive)?;
        self.critic.load(self.b, archive)?;
        self.coef = f64::from_bits(
            archive.text("coef")?.parse().context("a checkpoint's coefficient is a number")?,
        );
        // A checkpoint of an earlier version has none.
        if let Ok(text) = archive.text(SCORES) {
            let numbers: Vec<u64> = text.split(' ').filter_map(|word| word.parse().ok()).collect();
            let numbers = <[u64; 3]>::try_from(numbers).ok();
            let [count, mean, squares] =
                numbers.context("a checkpoint's moments of scores are three numbers")?;
            let (mean, squares) = (f64::from_bits(mean), f64::from_bits(squares));
            self.scores = Moments { count, mean, squares };
        }
        if let Some(control) = &mut self.entropy {
            load_entropy(control, archive)?;
        }
        if archive.text(REFERENCE).is_ok() {
            let mut reference = self.policy.model.trainable_copy(self.b, &self.policy.trainable);
            let slots = reference.slots();
            for (slot, tensor) in slots.iter().zip(reference.weights.iter_mut()) {
                if self.policy.trainable.trains(slot) {
                    let name = format!("{REFERENCE}.{}", slot.name);
                    let numbers = archive.get_of(&name, slot.count())?;
                    *unique(tensor) = self.b.upload(numbers);
                }
            }
            self.reference = Some(reference);
        }
        Ok(())
    }
}

/// The coefficients of a saved state that another run goes on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Continues {
    /// That of the KL penalty.
    pub kl: bool,
    /// That of the entropy bonus.
    pub entropy: bool,
}

/// The names of parts of a checkpoint.
const SCORES: &str = "scores";
const REFERENCE: &str = "reference";

/// Changes the scores of the responses to each prompt for the sake of diversity, where that is
/// asked for, and tells what it sees.
fn shape(
    scores: &mut [f64],
    rollouts: &[Rollout],
    kin: &[Kin],
    settings: &Settings<'_>,
) -> Metrics {
    let Some((diversity, samples)) = settings.options.diversity else { return Metrics::new() };
    let rules = &settings.rollouts;
    let rewarded = |(at, score): (usize, &f64)| Rewarded {
        group: at / samples,
        reward: Some(*score),
        tokens: rollouts[at].length(),
    };
    let mut rewarded: Vec<Rewarded> = scores.iter().enumerate().map(rewarded).collect();
    let likelihoods: Vec<Likelihoods> =
        rollouts.iter().map(|rollout| Likelihoods::of(&rollout.response(rules))).collect();
    let metrics = diversity.shape(&mut rewarded, &likelihoods, kin);
    for (score, rewarded) in scores.iter_mut().zip(rewarded) {
        *score = rewarded.reward.expect("each response has a score");
    }
    metrics
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

impl<'a, B: Backend> Ppo<'a, B> {
    /// Before the first step, with the first coefficient of the KL penalty.
    pub fn new(
        b: &'a B,
        policy: TrainState<B>,
        critic: Critic<B>,
        coef: f64,
        entropy: Option<EntropyBonus>,
    ) -> Self {
        let entropy = entropy.map(EntropyControl::new);
        let (reference, scores) = (None, Moments::default());
        Ppo { b, policy, critic, coef, reference, scores, first_coef: coef, entropy }
    }

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

    /// Takes up a state that another run has saved. Of the coefficients of the KL penalty and of
    /// the entropy bonus, each is that of the state if its entry of `continues` says so.
    ///
    /// # Errors
    /// If the archive lacks a part, or has one of another size.
    pub fn begin_as(&mut self, archive: &Archive, continues: Continues) -> Result<()> {
        let own = self.entropy;
        self.entropy = own.filter(|_| continues.entropy);
        self.load(archive)?;
        self.entropy = self.entropy.or(own);
        if !continues.kl {
            self.coef = self.first_coef;
        }
        Ok(())
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

    /// The policy as it is becomes the reference.
    pub fn replace_reference(&mut self) {
        let TrainState { model, trainable, .. } = &self.policy;
        self.reference = Some(model.trainable_copy(self.b, trainable));
    }

    /// What scores responses, `frozen` having the policy at its start.
    fn scoring<'s>(
        &'s self,
        frozen: &FrozenModels<'s, B>,
        settings: &'s RolloutSettings,
    ) -> Scoring<'s, B> {
        Scoring {
            b: self.b,
            policy: &self.policy,
            critic: &self.critic,
            frozen: FrozenModels {
                reference: self.reference.as_ref().unwrap_or(frozen.reference),
                reward: frozen.reward,
            },
            initial: self.reference.as_ref().map(|_| frozen.reference),
            settings,
        }
    }

    /// Step number `step` (0 is the first) on sampled responses, whose `reference`, `initial`,
    /// `values` and, where there is a reward model, `score` it fills in. `judged` are the sequences
    /// that the reward model reads: each begins with the rollout's tokens; `kin` says how the
    /// responses to a prompt are alike, where [`Options::diversity`] takes it. A step whose metrics
    /// have [`Options::reached`] the KL that ends training has no updates and no metrics of them.
    ///
    /// # Errors
    /// The user's, if training diverged.
    pub fn step(
        &mut self,
        step: usize,
        rollouts: &mut [Rollout],
        (judged, kin): (&[Vec<u32>], &[Kin]),
        frozen: &FrozenModels<'_, B>,
        settings: &Settings<'_>,
    ) -> Result<Metrics> {
        let (rules, options) = (&settings.rollouts, &settings.options);
        if let Some(anneal) = options.anneal {
            self.coef = anneal.coef(self.first_coef, step, settings.steps);
        }
        if options.resets_before(step) {
            self.replace_reference();
        }
        let trunk = self.scoring(frozen, rules).score(rollouts, judged)?;
        let (scores, scaled) = self.scores(rollouts, kin, settings);
        let mut estimates = self.estimates(rollouts, &scores, settings);
        let mut metrics = self.objective(rollouts, &estimates, settings);
        metrics.extend(scaled);
        let episode = ("episode", ((step + 1) * rollouts.len()) as f64);
        if options.reached(&metrics).is_some() {
            metrics.push(episode);
            return Ok(metrics);
        }

        let (rate, warming) =
            (settings.optimiser.rate(step, settings.steps), step < settings.value_warmup);
        let mut stats = UpdateStats::new(self.b);
        let mut epochs = 0;
        while epochs < settings.epochs {
            if epochs > 0 && options.value_fit == ValueFit::EveryEpoch {
                self.scoring(frozen, rules).values_anew(rollouts, &trunk)?;
                estimates = self.estimates(rollouts, &scores, settings);
            }
            let (rollouts, estimates, trunk) = (&*rollouts, &*estimates, &trunk);
            let data = Step { settings, rollouts, estimates, trunk, rate, warming };
            let ends = self.epoch(&data, &mut stats, (step, epochs))?;
            epochs += 1;
            if ends {
                break;
            }
        }
        let updates = epochs * settings.minibatches;
        let has = (options.kl_in_loss.is_some(), self.has_values());
        let of_updates = stats.metrics(self.b, has, updates);
        if let Some(control) = &mut self.entropy {
            metrics.push(("policy/entropy_coef", control.applied()));
            let entropy = of_updates.iter().find(|metric| metric.0 == ENTROPY);
            control.after(entropy.expect("an update has its entropy").1);
        }
        metrics.extend(of_updates);
        metrics.extend(options.kl_stops.epochs_of(epochs));
        metrics.extend([("learning_rate", rate), episode]);
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

    /// One epoch of step number `step`: an optimiser step on each minibatch. Returns whether the
    /// policy of the last one was so far from that which sampled that the remaining epochs are left
    /// out.
    fn epoch(
        &mut self,
        data: &Step<'_, B>,
        stats: &mut UpdateStats<B>,
        (step, epoch): (usize, usize),
    ) -> Result<bool> {
        let Step { settings, rollouts, .. } = *data;
        let orders = Stream::new(settings.seed, "minibatches");
        let mut order: Vec<usize> = (0..rollouts.len()).collect();
        orders.sequence((step * settings.epochs + epoch) as u64).shuffle(&mut order);
        let stops = settings.options.kl_stops;
        let mut before = PolicyStatistics::default();
        for part in 0..settings.minibatches {
            let bound = |part: usize| part * order.len() / settings.minibatches;
            let is_first = epoch == 0 && part == 0;
            if stops.epochs.is_some() {
                before = stats.policy(self.b);
            }
            self.update(data, stats, &order[bound(part)..bound(part + 1)], is_first)?;
        }
        // The sums are on the device: they are read only where something is compared with them.
        Ok(stops.epochs.is_some()
            && stops.ends_step(stats.policy(self.b).approximate_kl_since(&before)))
    }

    /// The scores that rewards are made of, after the rule for a missing EOS and their scaling, and
    /// the metrics of the latter.
    fn scores(
        &mut self,
        rollouts: &[Rollout],
        kin: &[Kin],
        settings: &Settings<'_>,
    ) -> (Vec<f64>, Metrics) {
        let missing_eos = settings.rollouts.conventions.missing_eos;
        let score = |rollout: &Rollout| missing_eos.apply(rollout.score, rollout.ended);
        let mut scores: Vec<f64> = rollouts.iter().map(score).collect();
        let mut metrics = shape(&mut scores, rollouts, kin, settings);
        let scaling = &settings.options.reward_scaling;
        if scaling.is_default() {
            return (scores, metrics);
        }
        let Scaled { divisor, mean, clipped } = scaling.apply(&mut scores, &mut self.scores);
        metrics.extend([
            ("objective/scaled_scores", mean),
            ("reward_scaling/divisor", divisor),
            ("reward_scaling/clipfrac", clipped),
        ]);
        (scores, metrics)
    }

    /// Advantages and returns of the batch, whose rewards are made of `scores`.
    fn estimates(
        &self,
        rollouts: &[Rollout],
        scores: &[f64],
        settings: &Settings<'_>,
    ) -> Vec<Estimate> {
        let rules = &settings.rollouts;
        let mut responses: Vec<Response<'_>> =
            rollouts.iter().map(|rollout| rollout.response(rules)).collect();
        responses.iter_mut().zip(scores).for_each(|(response, score)| response.score = *score);
        let coef = if settings.options.kl_in_loss.is_some() { 0.0 } else { self.coef };
        let conventions = Conventions { missing_eos: MissingEos::Keep, ..rules.conventions };
        advantage::estimate(&responses, coef, &conventions)
    }

    /// The metrics of the objective.
    fn objective(
        &self,
        rollouts: &[Rollout],
        estimates: &[Estimate],
        settings: &Settings<'_>,
    ) -> Metrics {
        let Settings { rollouts: settings, options, .. } = settings;
        let responses: Vec<Response<'_>> =
            rollouts.iter().map(|rollout| rollout.response(settings)).collect();
        let mut metrics = advantage::objective(&responses, self.coef, &settings.conventions);
        if options.reset_every.is_some() {
            let k1 = Kl::default();
            let own = |rollout: &Rollout| k1.values(&rollout.logprobs, rollout.under_initial());
            let kls: Vec<Vec<f64>> = rollouts.iter().map(own).collect();
            metrics.push((INITIAL_KL, kl::per_sequence(&kls)));
        }
        if self.has_values() {
            let fitted = |rollout: &Rollout| rollout.values[..rollout.fitted(settings)].to_vec();
            let values: Vec<f32> = rollouts.iter().flat_map(fitted).collect();
            let returns: Vec<f32> =
                estimates.iter().flat_map(|estimate| estimate.returns.clone()).collect();
            metrics.push(("critic/vf_explained_var", explained_variance(&values, &returns)));
        }
        metrics
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
            kl: settings.options.kl_in_loss.map(|estimator| (estimator, self.coef)),
            entropy: self.entropy.as_ref().map_or(0.0, EntropyControl::applied),
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
