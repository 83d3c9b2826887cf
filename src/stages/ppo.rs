//! `ppo`: reinforcement learning of a policy against a reward, with a KL penalty towards the policy
//! it began as.
//!
//! The reward is a reward model's score or, with `rewards`, a weighted sum (`rewards/mod.rs`). A
//! reward model under `reward_model` shares the pass of the frozen blocks with the policy.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::generation::{Prompt, Room};
use super::model_files::{self, normalisation};
use super::models::{self, ArtefactShape, ArtefactShapes};
use super::policy_validation::{Measured, PolicyScorer, PolicyValidation};
use super::reading::{Part, Reading, Splits};
use super::rewards::{Names, Reward, Rewards, Scored};
use super::rollouts::{self, RolloutFiles, Sampler};
use super::source::Source;
use super::{Checks, KindInfo, Problem, Stage, footprint, sentinels, validation};
use crate::backend::Backend;
use crate::backend::counting::Counting;
use crate::dag::context::Context;
use crate::data::dataset;
use crate::data::lineage::Lineage;
use crate::data::tokenised::Limits;
use crate::error::{Context as _, Result};
use crate::model::memory::{self, Memory};
use crate::model::params::{HeadKind, Trainable};
use crate::model::spec::Spec;
use crate::model::transformer::Recompute;
use crate::model::weights::Model;
use crate::reference::{Dataset as DatasetArtefact, Policy, Ref, RewardModel};
use crate::rl::advantage::{Advantages, Conventions};
use crate::rl::compat::{Compat, Overrides};
use crate::rl::kl::Adaptive;
use crate::rl::ppo::{PolicyClip, ValueClip};
use crate::rl::preference::Normalisation;
use crate::rl::sentinels::settings::Sentinels;
use crate::rl::sentinels::watch::Watch;
use crate::sample::footprint::first_tokens;
use crate::train::critic;
use crate::train::optimiser::{OptimiserConfig, TrainState};
use crate::train::ppo::{Ppo, Settings};
use crate::train::reward::reward_sequence;
use crate::train::rollouts::{FrozenModels, Rollout, RolloutSettings};
use crate::train::steps::{self, StepReport};
use crate::train::validation::{Keep, SCORE, Validator, WithBest};

/// Figures that are shown as they come.
const SHOWN: &[&str] = &["objective/scores", "objective/kl", SCORE];

/// The config of `uses: ppo`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PpoStage {
    /// Policy to begin with, which is also the reference of the KL penalty.
    pub policy: Ref<Policy>,
    /// Reward model that scores responses; `null` where `rewards` do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward_model: Option<Ref<RewardModel>>,
    /// Parts of the reward by name, instead of `reward_model`: the reward is their weighted sum.
    #[serde(default, skip_serializing_if = "Rewards::is_empty")]
    pub rewards: Rewards,
    /// Dataset with the prompts.
    pub dataset: Ref<DatasetArtefact>,
    /// Split of `dataset` with the prompts.
    #[serde(default = "split")]
    pub split: String,
    /// Seed of the order of prompts, of sampling and of minibatches.
    #[serde(default)]
    pub seed: u64,
    /// Number of steps, each a rollout and its updates.
    pub steps: usize,
    /// Prompts of a step; each gets one response.
    pub batch_size: usize,
    /// Minibatches that the responses of a step are split into: optimiser steps of an epoch.
    #[serde(default = "one")]
    pub minibatches: usize,
    /// Passes over the responses of a step.
    #[serde(default = "four")]
    pub epochs: usize,
    /// Temperature of sampling and of all log-probabilities.
    #[serde(default = "unit")]
    pub temperature: f64,
    /// Longest response in tokens, EOS included.
    pub max_new_tokens: usize,
    /// Longest prompt in tokens; a longer prompt loses its beginning. `null` cuts nothing.
    #[serde(default)]
    pub max_prompt_tokens: Option<usize>,
    /// Fraction of the lowest blocks that is frozen, and with them the embedding and the language
    /// head; 0 trains everything.
    #[serde(default)]
    pub frozen: f64,
    /// The KL penalty.
    pub kl: KlConfig,
    /// Conventions of another program or paper; `null` means this project's own.
    #[serde(default)]
    pub compat: Option<Compat>,
    /// Rules by which rewards become advantages. Each key that is given here replaces that of
    /// `compat`.
    #[serde(default)]
    pub conventions: Overrides,
    /// Clipping of the probability ratio in the policy loss.
    #[serde(default)]
    pub policy_clip: PolicyClip,
    /// The value function.
    #[serde(default)]
    pub value: ValueConfig,
    /// Measurement of the policy on other prompts during training, and the step that is kept.
    /// `null` measures nothing and keeps the last step.
    #[serde(default)]
    pub validation: Option<PolicyValidation>,
    /// Settings of sentinels by name; docs/sentinels.md lists them. Those without an entry have
    /// their defaults.
    #[serde(default, skip_serializing_if = "Sentinels::is_empty")]
    pub sentinels: Sentinels,
    /// Activations that the backward pass computes again instead of keeping them.
    #[serde(default)]
    pub recompute: Recompute,
    /// The optimiser of policy and value function.
    pub optimiser: OptimiserConfig,
}

/// The KL penalty: its estimator is a field of `conventions`. A coefficient means something
/// else under another estimator.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KlConfig {
    /// Coefficient of the KL penalty; with `adaptive`, its first value.
    pub coef: f64,
    /// Adaptive control of the coefficient, so that `objective/kl` approaches a target.
    #[serde(default)]
    pub adaptive: Option<Adaptive>,
}

/// The value function.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ValueConfig {
    /// Network that has the value function.
    pub critic: Critic,
    /// Clipping and weight of the value loss.
    pub clip: ValueClip,
    /// Learning rate of the value head, divided by that of the trunk.
    pub head_ratio: f64,
    /// Number of first steps in which only the value function learns.
    pub warmup: usize,
}

impl Default for ValueConfig {
    fn default() -> Self {
        ValueConfig {
            critic: Critic::Shared,
            clip: ValueClip::default(),
            head_ratio: 1.0,
            warmup: 0,
        }
    }
}

/// Where the value function is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Critic {
    /// A new head on the policy's trunk.
    Shared,
    /// A separate network, which begins as the reward model.
    Separate,
}

fn split() -> String {
    dataset::PROMPTS.into()
}

fn one() -> usize {
    1
}

fn four() -> usize {
    4
}

fn unit() -> f64 {
    1.0
}

impl Stage for PpoStage {
    const INFO: KindInfo = KindInfo {
        byte_neutral: &["recompute", "sentinels"],
        trains: true,
        held_out: &[("validation.by.reward_model", &["policy", "reward_model"])],
        ..KindInfo::on_device("ppo", 3, "policy")
    };

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        let conventions = self.conventions();
        let Advantages::Gae { gamma, lambda } = conventions.advantages;
        let share = |x: f64| (0.0..=1.0).contains(&x);
        checks
            .positive(self.steps, "steps")
            .positive(self.batch_size, "batch_size")
            .positive(self.epochs, "epochs")
            .require(
                (1..=self.batch_size.max(1)).contains(&self.minibatches),
                "minibatches",
                "expected at least 1, at most `batch_size`",
            )
            .require(
                self.temperature > 0.0,
                "temperature",
                "expected above 0: a greedy policy has no gradient",
            )
            .positive(self.max_new_tokens, "max_new_tokens")
            .positive_or_null(self.max_prompt_tokens, "max_prompt_tokens")
            .fraction(self.frozen, "frozen", "the blocks")
            .require(
                self.kl.coef >= 0.0,
                "kl.coef",
                format!("expected 0 or more, found {}", self.kl.coef),
            )
            .require(
                self.kl.adaptive.is_none() || self.kl.coef > 0.0,
                "kl.adaptive",
                "a coefficient of 0 stays 0: expected `kl.coef` above 0",
            )
            .require(
                self.kl.adaptive.is_none_or(|a| a.target > 0.0),
                "kl.adaptive.target",
                "expected above 0",
            )
            .require(
                self.kl.adaptive.is_none_or(|a| a.horizon > 0.0),
                "kl.adaptive.horizon",
                "expected above 0",
            )
            .require(share(gamma), "conventions.gamma", "expected a discount from 0 to 1")
            .require(share(lambda), "conventions.lambda", "expected a number from 0 to 1")
            .require(
                conventions.missing_eos.is_finite(),
                "conventions.missing_eos",
                "expected a finite number",
            )
            .require(self.policy_clip.range > 0.0, "policy_clip.range", "expected above 0")
            .require(
                self.policy_clip.dual.is_none_or(|dual| dual > 1.0),
                "policy_clip.dual",
                "expected above 1, or null",
            )
            .require(
                self.value.clip.range.is_none_or(|range| range > 0.0),
                "value.clip.range",
                "expected above 0, or null",
            )
            .require(self.value.clip.coef >= 0.0, "value.clip.coef", "expected 0 or more")
            .require(self.value.head_ratio > 0.0, "value.head_ratio", "expected above 0")
            .require(
                self.value.critic == Critic::Shared || self.rewards.is_empty(),
                "value.critic",
                "a separate critic begins as the reward model: expected `reward_model`, or \
                 `shared`",
            );
        self.reward().check(&mut checks);
        if let Some(validation) = &self.validation {
            validation.check(&mut checks, &self.split);
        }
        sentinels::check(&mut checks, Self::INFO.name, &self.sentinels);
        let mut problems = checks.done();
        problems.extend(self.optimiser.problems());
        problems
    }

    fn makes(&self, shapes: &ArtefactShapes) -> Option<ArtefactShape> {
        let (_, head) = shapes.model(&self.policy)?;
        shapes.trained(&self.policy, head, self.frozen)
    }

    fn memory(&self, shapes: &ArtefactShapes) -> Option<Memory> {
        let policy = shapes.model(&self.policy)?;
        let rewards = self.reward().shapes(shapes, &self.policy)?;
        let sizes =
            (self.batch_size, self.minibatches, self.max_prompt_tokens, self.max_new_tokens);
        let trains = (self.frozen, self.recompute, self.value.critic, self.conventions().scope);
        let judge = match self.validation.as_ref().and_then(PolicyValidation::judge) {
            Some(judge) => Some((shapes.model(judge)?.0, shapes.shared(&self.policy, judge))),
            None => None,
        };
        let measured = (self.validation.as_ref().map(|validation| validation.keep), &judge);
        shapes.counted(("ppo", &policy, &rewards, sizes, trains, measured), |b| {
            let policy = memory::model(b, &policy.0, policy.1);
            let beside = |(spec, shared): &(Spec, Option<usize>)| {
                memory::model_beside(b, spec, HeadKind::Reward, &policy, *shared)
            };
            let rewards: Vec<Model<Counting>> = rewards.iter().map(beside).collect();
            let _judge = judge.as_ref().map(|(spec, shared)| {
                let judge = memory::model_beside(b, spec, HeadKind::Reward, &policy, *shared);
                footprint::score(b, &judge);
                judge
            });
            self.count(b, &policy, &rewards)
        })
    }

    fn readings(&self, shapes: &ArtefactShapes) -> Vec<Reading> {
        let Some((tokenizer, policy)) = shapes.reader(&self.policy) else { return Vec::new() };
        let Some(reward_model) = self.reward().reader(shapes, &tokenizer) else {
            return Vec::new();
        };
        let Room { context, response, reader } = self.room(policy, reward_model);
        let reading = |split: &String, rows| Reading {
            dataset: Source::from(&self.dataset),
            splits: Splits::Named(vec![split.clone()]),
            rows,
            tokenizer: tokenizer.clone(),
            limits: Limits::of_stage(context, self.max_prompt_tokens),
            reader,
            part: Part::Prompt(response),
        };
        let validation = self.validation.iter().map(|it| reading(&it.split, it.rows));
        validation.chain([reading(&self.split, None)]).collect()
    }

    fn run<B: Backend>(&self, b: &B, context: &Context) -> Result<()> {
        let from = model_files::load(b, self.policy.path())?;
        let alone = match &self.reward_model {
            None => None,
            Some(model) => {
                let loaded = model_files::load_beside(b, model.path(), &from, self.policy.path())?;
                model_files::check_same_tokenizer(self.policy.path(), model.path())?;
                Some((loaded, normalisation(model.path())?))
            }
        };
        let parts = Reward { model: None, parts: &self.rewards };
        let new = self.max_new_tokens;
        let mut scorer = parts.scorer(b, context, &from, self.policy.path(), new)?;
        let names = Names::new(&self.rewards);
        let sizes = (self.batch_size, self.max_prompt_tokens);
        let prompts = rollouts::prompts(self.dataset.path(), &self.split, sizes, &from.tokenizer)?;
        let reader = match &alone {
            Some((reward, _)) => Some(reward.model.spec.context),
            None => scorer.context(),
        };
        self.room(from.model.spec.context, reader).check(&prompts)?;
        let reward = alone.as_ref().map(|(reward, normalisation)| (&reward.model, *normalisation));
        let ppo = self.begin(b, &from.model, reward)?;
        let reward_folder = self.reward_model.as_ref().map(Ref::path);
        let ppo = ppo.with_masters_of(self.policy.path(), reward_folder)?;
        let optimised = self.reward().lineage()?;
        let measured = Measured {
            policy: &from,
            folder: self.policy.path(),
            rewards: optimised.as_ref(),
            dataset: self.dataset.path(),
            max_prompt_tokens: self.max_prompt_tokens,
            max_new_tokens: self.max_new_tokens,
        };
        let by = self.validation.as_ref();
        let by = by.map(|config| PolicyScorer::load(b, config, &measured)).transpose()?;
        let measure = |state: &TrainState<B>| {
            let by = by.as_ref().context("a validator has prompts")?;
            Ok(vec![(SCORE, by.score(context, &state.model)?)])
        };
        let validator = self.validation.as_ref().map(|config| Validator {
            every: config.every,
            keep: config.keep,
            by: SCORE,
            measure: &measure,
        });
        let mut ppo = WithBest::new(ppo);
        let frozen = FrozenModels { reference: &from.model, reward };
        let settings = self.settings(from.tokenizer.pad().unwrap_or(from.tokenizer.eos()));
        let sampler = Sampler {
            purpose: "rollouts",
            samples: 1,
            temperature: settings.rollouts.temperature,
            max_new_tokens: self.max_new_tokens,
            ends: from.tokenizer.ends(),
            seed: self.seed,
        };
        let files = RolloutFiles::new(context)?;

        let watch = Watch::new(Self::INFO.name, self.steps, &self.sentinels);
        steps::watched(context, watch, &mut ppo, self.steps, |ppo, step| {
            let batch = self.batch(&prompts, step);
            let mut rollouts = sampler.rollouts(b, context, &ppo.run.policy.model, &batch, step)?;
            let (mut judged, mut scored): (Vec<Vec<u32>>, Option<Scored>) = (Vec::new(), None);
            match &alone {
                Some((reward, _)) => {
                    let eos = reward.tokenizer.eos();
                    let read = |it: &Rollout| reward_sequence(&[], &it.tokens, eos);
                    judged = rollouts.iter().map(read).collect();
                }
                None => {
                    let answers = rollouts::answers(&batch, &rollouts);
                    let found = scorer.score(b, context, &from.tokenizer, &answers)?;
                    let scores = found.of_each(&answers)?;
                    rollouts.iter_mut().zip(scores).for_each(|(it, score)| it.score = score);
                    scored = Some(found);
                }
            }
            let mut metrics = ppo.run.step(step, &mut rollouts, &judged, &frozen, &settings)?;
            metrics.extend(scored.iter().flat_map(|scored| names.metrics(scored)));
            if let Some(validator) = &validator {
                let steps = (step + 1, self.steps);
                metrics.extend(ppo.after(b, validator, |run| &run.policy, steps)?);
            }
            let missing_eos = settings.rollouts.conventions.missing_eos;
            let scored = scored.as_ref();
            let observed =
                files.write(step, &from.tokenizer, &batch, &rollouts, scored, missing_eos)?;
            if step + 1 == self.steps {
                metrics.extend(ppo.run.frozen_movement()?);
            }
            let tokens = rollouts.iter().map(|rollout| rollout.tokens.len()).sum();
            Ok(StepReport { metrics, shown: SHOWN, tokens, observed })
        })?;

        files.publish(self.steps)?;
        let (ppo, kept) = ppo.finish(b, |run| &mut run.policy);
        let model = ppo.policy.finished();
        model_files::save(b, context.out(), &model, &from.origin, self.policy.path())?;
        let used: BTreeSet<String> = (0..self.steps)
            .flat_map(|step| self.batch(&prompts, step))
            .map(|prompt| prompt.example.id.clone())
            .collect();
        let policys = Lineage::read(self.policy.path())?;
        let made_of = optimised.iter().fold(policys, |all, own| all.with(own.clone()));
        let mut learned = made_of.with(rollouts::lineage_of(&prompts, &used));
        if let (Some(config), Some(by), Some(kept)) = (&self.validation, &by, kept) {
            validation::save(context, (&config.split, config.keep), SCORE, kept)?;
            if config.keep == Keep::Best {
                learned = learned.with(by.lineage());
            }
        }
        learned.write(context.out())
    }
}

impl PpoStage {
    fn reward(&self) -> Reward<'_> {
        Reward { model: self.reward_model.as_ref(), parts: &self.rewards }
    }

    fn room(&self, policy: usize, reward_model: Option<usize>) -> Room {
        Room::of(policy, reward_model, self.max_new_tokens)
    }

    /// Those of the preset, with what is said otherwise.
    fn conventions(&self) -> Conventions {
        self.conventions.over(self.compat.map(Compat::conventions).unwrap_or_default())
    }

    fn settings(&self, pad: u32) -> Settings<'_> {
        Settings {
            steps: self.steps,
            minibatches: self.minibatches,
            epochs: self.epochs,
            rollouts: RolloutSettings {
                temperature: self.temperature as f32,
                max_new_tokens: self.max_new_tokens,
                pad,
                conventions: self.conventions(),
            },
            adaptive: self.kl.adaptive,
            policy_clip: self.policy_clip,
            value_clip: self.value.clip,
            value_warmup: self.value.warmup,
            value_head_ratio: self.value.head_ratio,
            optimiser: &self.optimiser,
            seed: self.seed,
        }
    }

    /// Policy and critic at the start.
    fn begin<'a, B: Backend>(
        &self,
        b: &'a B,
        policy: &Model<B>,
        reward: Option<(&Model<B>, Normalisation)>,
    ) -> Result<Ppo<'a, B>> {
        let trainable = |model: &Model<B>| Trainable::frozen_fraction(&model.spec, self.frozen);
        let (policy, critic) = match self.value.critic {
            Critic::Shared => {
                (critic::with_value_head(b, policy, self.seed)?, critic::Critic::Shared)
            }
            Critic::Separate => {
                let (reward, normalisation) =
                    reward.context("a separate critic begins as a reward model")?;
                let critic = critic::of_reward_model(b, reward, &normalisation)?;
                let none = Trainable::above(&policy.spec, policy.spec.layers);
                let policy = policy.trainable_copy(b, &none);
                let state = TrainState::new(b, &critic, trainable(&critic))?.with(self.recompute);
                (policy, critic::Critic::Separate(Box::new(state)))
            }
        };
        let policy = TrainState::new(b, &policy, trainable(&policy))?.with(self.recompute);
        Ok(Ppo { b, policy, critic, coef: self.kl.coef })
    }

    /// What a step takes, with prompts and responses of the greatest length.
    fn count(
        &self,
        b: &Counting,
        policy: &Model<Counting>,
        rewards: &[Model<Counting>],
    ) -> Result<Memory> {
        let alone = self.reward_model.as_ref().and(rewards.first());
        let reward = alone.map(|reward| (reward, Normalisation::IDENTITY));
        let mut ppo = self.begin(b, policy, reward)?;
        let (context, new) = (policy.spec.context, self.max_new_tokens);
        let longest = context.saturating_sub(new).max(1);
        let prompt = self.max_prompt_tokens.map_or(longest, |most| most.min(longest));
        let prompts = vec![vec![0; prompt]; self.batch_size];
        let limits = models::limits(b, &policy.spec);
        first_tokens(b, &ppo.policy.model, &prompts, (1, new), limits)?;

        let response = vec![0; new];
        let rollout =
            |prompt: &Vec<u32>| Rollout::sampled(prompt, &response, vec![0.0; new], false);
        let mut rollouts: Vec<Rollout> = prompts.iter().map(rollout).collect();
        let judged: Vec<Vec<u32>> =
            rollouts.iter().map(|rollout| reward_sequence(&[], &rollout.tokens, 0)).collect();
        let frozen = FrozenModels { reference: policy, reward };
        if reward.is_none() {
            rewards.iter().for_each(|reward| footprint::score(b, reward));
        }
        // The gradient of a tied head is there from the end of the first epoch on.
        let settings = Settings { epochs: 2, ..self.settings(0) };
        ppo.step(self.value.warmup, &mut rollouts, &judged, &frozen, &settings)?;
        let mut training = ppo.memory();
        if self.validation.as_ref().is_some_and(|validation| validation.keep == Keep::Best) {
            training = footprint::with_best(training, ppo.policy.memory(b));
        }
        Ok(Memory::of(b, training))
    }

    /// The prompts of a step.
    fn batch<'a>(&self, prompts: &'a [Prompt], step: usize) -> Vec<&'a Prompt> {
        rollouts::batch(prompts, self.batch_size, self.seed, step)
    }
}
