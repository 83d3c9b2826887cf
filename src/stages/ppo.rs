//! `ppo`: reinforcement learning of a policy against a reward, with a KL penalty towards the policy
//! it began as.
//!
//! The reward is a reward model's score or, with `rewards`, a weighted sum (`rewards/mod.rs`). A
//! reward model under `reward_model` shares the pass of the frozen blocks with the policy.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::generation::{Prompt, Room};
use super::group_diversity::{GroupDiversity, Kinship};
use super::model_files::{self, normalisation};
use super::models::{ArtefactShape, ArtefactShapes};
use super::policy_validation::{Measured, PolicyScorer, PolicyValidation};
use super::ppo_config::{Critic, KlConfig, KlPlace, ReferenceConfig, ValueConfig};
use super::reading::{Part, Reading, Splits};
use super::recorded::{Coefficient, Records, Taken};
use super::replay::{self, Common, ReplayConfig, Replayed, Replays};
use super::rewards::{Names, Reward, Rewards, Scored};
use super::rollouts::{self, RolloutFiles, Sampler};
use super::source::Source;
use super::{Checks, Constraint, KindInfo, Problem, Stage, footprint, sentinels, validation};
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
use crate::rl::Metrics;
use crate::rl::advantage::{Advantages, Conventions};
use crate::rl::compat::{Compat, Overrides};
use crate::rl::entropy::EntropyBonus;
use crate::rl::kl::Kl;
use crate::rl::ppo::PolicyClip;
use crate::rl::preference::Normalisation;
use crate::rl::rewards::RewardScaling;
use crate::rl::sentinels::settings::Sentinels;
use crate::rl::sentinels::watch::Watch;
use crate::train::critic;
use crate::train::kl_stops::KlStops;
use crate::train::optimiser::{OptimiserConfig, TrainState};
use crate::train::ppo::{Ppo, Settings};
use crate::train::ppo_options::Options;
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
    /// Prompts of a step.
    pub batch_size: usize,
    /// Responses to each prompt of a step; 1 where none are given.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub samples_per_prompt: usize,
    /// Minibatches that the responses of a step are split into: optimiser steps of an epoch.
    #[serde(default = "one")]
    pub minibatches: usize,
    /// Passes over the responses of a step.
    #[serde(default = "four")]
    pub epochs: usize,
    /// Approximate KL of the policy from the one that sampled, in nats a token, above which the
    /// remaining epochs of a step are left out: `policy/approxkl_avg` of the last minibatch of an
    /// epoch. `null` leaves out none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch_stop_kl: Option<f64>,
    /// KL of responses from the policy at its start, in nats, at which training ends: the artefact
    /// is the policy that sampled them. `null` takes all steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_at_kl: Option<f64>,
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
    /// Replacement of the reference of the KL penalty; `null` keeps the policy at its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<ReferenceConfig>,
    /// Change of the scores of the responses to a prompt for the sake of diversity; with
    /// `samples_per_prompt`. `null` changes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diversity: Option<GroupDiversity>,
    /// The entropy bonus. `null` adds none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entropy: Option<EntropyBonus>,
    /// What is made of scores before they are rewards.
    #[serde(default, skip_serializing_if = "RewardScaling::is_default")]
    pub reward_scaling: RewardScaling,
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
    /// Steps, from 1, that the artefact keeps all of that a replay needs: the state before the
    /// step, and its responses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub record: Vec<usize>,
    /// One recorded step of another run, which is taken again with the settings of this stage
    /// instead of training. `null` trains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplayConfig>,
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

fn split() -> String {
    dataset::PROMPTS.into()
}

fn one() -> usize {
    1
}

fn is_one(number: &usize) -> bool {
    *number == 1
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
        held_out: &[("validation.by.reward_model", &["policy", "reward_model", "rewards"])],
        ..KindInfo::on_device("ppo", 3, "policy")
    };

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        let conventions = self.conventions();
        let Advantages::Gae { gamma, lambda } = conventions.advantages;
        let responses = self.batch_size.saturating_mul(self.samples_per_prompt);
        let share = |x: f64| (0.0..=1.0).contains(&x);
        checks
            .positive(self.steps, "steps")
            .positive(self.batch_size, "batch_size")
            .positive(self.samples_per_prompt, "samples_per_prompt")
            .positive(self.epochs, "epochs")
            .require(
                (1..=responses.max(1)).contains(&self.minibatches),
                "minibatches",
                "expected at least 1, at most `batch_size` times `samples_per_prompt`",
            )
            .require(
                self.temperature > 0.0,
                "temperature",
                "expected above 0: a greedy policy has no gradient",
            )
            .positive(self.max_new_tokens, "max_new_tokens")
            .positive_or_null(self.max_prompt_tokens, "max_prompt_tokens")
            .fraction(self.frozen, "frozen", "the blocks")
            .require(share(gamma), "conventions.gamma", "expected a discount from 0 to 1")
            .require(share(lambda), "conventions.lambda", "expected a number from 0 to 1")
            .require(
                conventions.missing_eos.is_finite(),
                "conventions.missing_eos",
                "expected a finite number",
            )
            .require(
                self.value.critic == Critic::Shared || self.rewards.is_empty(),
                "value.critic",
                "a separate critic begins as the reward model: expected `reward_model`, or \
                 `shared`",
            );
        self.kl.check(&mut checks);
        self.value.check(&mut checks);
        self.check_options(&mut checks);
        self.reward().check(&mut checks);
        if let Some(validation) = &self.validation {
            validation.check(&mut checks, &self.split);
        }
        let idle = [("validation", self.validation.is_some())];
        replay::check(&mut checks, self.replays(), self.steps, &idle);
        sentinels::check(&mut checks, Self::INFO.name, &self.sentinels);
        let mut problems = checks.done();
        problems.extend(self.optimiser.problems());
        problems
    }

    fn constraints(&self) -> Vec<Constraint> {
        let (replay, reward_model) = (self.replay.as_ref(), self.reward_model.as_ref());
        replay::constraints(replay, &self.policy, &self.dataset, reward_model)
    }

    fn makes(&self, shapes: &ArtefactShapes) -> Option<ArtefactShape> {
        let (_, head) = shapes.model(&self.policy)?;
        shapes.trained(&self.policy, head, self.frozen)
    }

    fn memory(&self, shapes: &ArtefactShapes) -> Option<Memory> {
        let policy = shapes.model(&self.policy)?;
        let rewards = self.read_reward().shapes(shapes, &self.policy)?;
        let responses = (self.batch_size, self.samples_per_prompt);
        let sizes = (responses, self.minibatches, self.max_prompt_tokens, self.max_new_tokens);
        let trains = (self.frozen, self.recompute, self.value.critic, self.conventions().scope);
        let trains = (trains, self.options(), self.replay.is_some());
        let judge = match self.validation.as_ref().and_then(PolicyValidation::judge) {
            Some(judge) => Some((shapes.model(judge)?.0, shapes.shared(&self.policy, judge))),
            None => None,
        };
        let kinship = match &self.diversity {
            Some(diversity) => diversity.model(shapes)?,
            None => None,
        };
        let keep = self.validation.as_ref().map(|validation| validation.keep);
        let measured = (keep, &judge, &kinship);
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
            let kinship = kinship.as_ref().map(|(spec, head)| memory::model(b, spec, *head));
            kinship.iter().for_each(|model| footprint::score(b, model));
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
        let alone = match self.read_reward().model {
            None => None,
            Some(model) => {
                let loaded = model_files::load_beside(b, model.path(), &from, self.policy.path())?;
                model_files::check_same_tokenizer(self.policy.path(), model.path())?;
                Some((loaded, normalisation(model.path())?))
            }
        };
        let parts = Reward { model: None, parts: self.read_reward().parts };
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
        let mut ppo = ppo.with_masters_of(self.policy.path(), reward_folder)?;
        let (common, vocabulary) = (self.common(), from.model.spec.vocabulary);
        let replayed = self.replay.as_ref();
        let replayed = replayed.map(|replay| common.replayed(replay, &prompts, vocabulary));
        let replayed = replayed.transpose()?;
        if let Some(replayed) = &replayed {
            replayed.begin(|archive, continues| ppo.begin_as(archive, continues))?;
        }
        let records = Records::new(context, &self.record, || common.settings())?;
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
        // A replay has the recorded scores.
        let reward = reward.filter(|_| replayed.is_none());
        let frozen = FrozenModels { reference: &from.model, reward };
        let settings = self.settings(from.tokenizer.pad().unwrap_or(from.tokenizer.eos()));
        let sampler = Sampler {
            purpose: "rollouts",
            samples: self.samples_per_prompt,
            temperature: settings.rollouts.temperature,
            max_new_tokens: self.max_new_tokens,
            ends: from.tokenizer.ends(),
            seed: self.seed,
        };
        let files = RolloutFiles::new(context)?;
        let kinship = Kinship::load(context, b, self.diversity.as_ref())?;

        let span = self.replays().span(self.steps);
        let (first, end) = (span.start, span.end);
        let watch = Watch::new(Self::INFO.name, end, &self.sentinels);
        let steps = steps::watched(context, watch, &mut ppo, span, |ppo, step| {
            records.before(step, &ppo.run)?;
            let policy = &ppo.run.policy.model;
            let (batch, mut rollouts, changed) = match &replayed {
                Some(Replayed { responses, .. }) => {
                    let rollouts = responses.rollouts.clone();
                    let changed =
                        replay::compared(b, context, policy, &rollouts, sampler.temperature);
                    (responses.prompts.clone(), rollouts, changed)
                }
                None => {
                    let batch = self.batch(&prompts, step);
                    let rollouts = sampler.rollouts(b, context, policy, &batch, step)?;
                    let each = batch.iter().flat_map(|prompt| vec![*prompt; sampler.samples]);
                    (each.collect(), rollouts, Metrics::new())
                }
            };
            let (mut judged, mut scored): (Vec<Vec<u32>>, Option<Scored>) = (Vec::new(), None);
            match (&alone, &replayed) {
                (_, Some(Replayed { responses, .. })) => {
                    responses.scored.of_each(&rollouts::answers(&batch, &rollouts))?;
                    scored = Some(responses.scored.clone());
                }
                (Some((reward, _)), None) => {
                    let eos = reward.tokenizer.eos();
                    let read = |it: &Rollout| reward_sequence(&[], &it.tokens, eos);
                    judged = rollouts.iter().map(read).collect();
                }
                (None, None) => {
                    let answers = rollouts::answers(&batch, &rollouts);
                    let found = scorer.score(b, context, &from.tokenizer, &answers)?;
                    let scores = found.of_each(&answers)?;
                    rollouts.iter_mut().zip(scores).for_each(|(it, score)| it.score = score);
                    scored = Some(found);
                }
            }
            let kin = kinship.of(&batch, &rollouts, sampler.samples, &from.tokenizer)?;
            let read = (judged.as_slice(), kin.as_slice());
            let mut metrics = ppo.run.step(step, &mut rollouts, read, &frozen, &settings)?;
            replay::explain(&mut metrics, changed);
            metrics.extend(scored.iter().flat_map(|scored| names.metrics(scored)));
            let reached = settings.options.reached(&metrics);
            if let Some(reached) = reached {
                context.warn(reached.message(step, self.steps));
            }
            if let Some(validator) = &validator {
                let last = if reached.is_some() { step + 1 } else { self.steps };
                let steps = (step + 1, last);
                metrics.extend(ppo.after(b, validator, |run| &run.policy, steps)?);
            }
            let missing_eos = settings.rollouts.conventions.missing_eos;
            let scored = scored.as_ref();
            records.after(step, &Taken { prompts: &batch, rollouts: &rollouts, scored })?;
            let observed =
                files.write(step, &from.tokenizer, &batch, &rollouts, scored, missing_eos)?;
            if step + 1 == end || reached.is_some() {
                metrics.extend(ppo.run.frozen_movement()?);
            }
            let tokens = rollouts.iter().map(|rollout| rollout.tokens.len()).sum();
            let is_last = reached.is_some();
            Ok(StepReport { metrics, shown: SHOWN, tokens, observed, is_last })
        })?;

        scorer.finish(context)?;
        files.publish(first..steps)?;
        records.publish(steps)?;
        let (ppo, kept) = ppo.finish(b, |run| &mut run.policy);
        let model = ppo.policy.finished();
        model_files::save(b, context.out(), &model, &from.origin, self.policy.path())?;
        if let Some(replay) = &self.replay {
            // The recorded run was trained on the prompts of this step, and on more.
            return Lineage::read(replay.of.path())?.write(context.out());
        }
        let used: BTreeSet<String> = (0..steps)
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

    /// The part of the reward that a run reads: of a replay only the reward model that a separate
    /// critic begins as.
    pub(super) fn read_reward(&self) -> Reward<'_> {
        match (&self.replay, self.value.critic) {
            (None, _) | (Some(_), Critic::Separate) => self.reward(),
            (Some(_), Critic::Shared) => Reward::NONE,
        }
    }

    fn replays(&self) -> Replays<'_> {
        Replays { record: &self.record, replay: self.replay.as_ref() }
    }

    /// What is recorded of it with each step.
    fn common(&self) -> Common<'_> {
        let reset_every = self.reference.map(|reference| reference.reset_every);
        Common {
            kind: Self::INFO.name,
            policy: self.policy.path(),
            reward: self.reward(),
            split: &self.split,
            batch_size: self.batch_size,
            samples: self.samples_per_prompt,
            temperature: self.temperature,
            max_new_tokens: self.max_new_tokens,
            max_prompt_tokens: self.max_prompt_tokens,
            frozen: self.frozen,
            more: vec![
                ("value.critic", json!(self.value.critic)),
                ("reference.reset_every", json!(reset_every)),
            ],
            kl: Some(Coefficient { first: self.kl.coef, controlled: self.kl.adaptive.is_some() }),
            entropy: self.entropy,
        }
    }

    fn room(&self, policy: usize, reward_model: Option<usize>) -> Room {
        Room::of(policy, reward_model, self.max_new_tokens)
    }

    /// Those of the preset, with what is said otherwise.
    fn conventions(&self) -> Conventions {
        self.conventions.over(self.compat.map(Compat::conventions).unwrap_or_default())
    }

    pub(super) fn kl_stops(&self) -> KlStops {
        KlStops { epochs: self.epoch_stop_kl, training: self.stop_at_kl }
    }

    pub(super) fn options(&self) -> Options {
        Options {
            kl_in_loss: self.kl.in_loss(),
            reward_scaling: self.reward_scaling,
            value_fit: self.value.fit,
            kl_stops: self.kl_stops(),
            reset_every: self.reference.map(|reference| reference.reset_every),
            anneal: self.kl.anneal,
            entropy: self.entropy,
            diversity: self
                .diversity
                .as_ref()
                .map(|diversity| (diversity.rules(self.kl.coef), self.samples_per_prompt)),
        }
    }

    pub(super) fn settings(&self, pad: u32) -> Settings<'_> {
        Settings {
            steps: self.steps,
            minibatches: self.minibatches,
            epochs: self.epochs,
            rollouts: RolloutSettings {
                temperature: self.temperature as f32,
                max_new_tokens: self.max_new_tokens,
                pad,
                conventions: match self.kl.r#in {
                    KlPlace::Reward => self.conventions(),
                    // What is reported of the charged KL is then k1.
                    KlPlace::Loss => Conventions { kl: Kl::default(), ..self.conventions() },
                },
            },
            adaptive: self.kl.adaptive,
            policy_clip: self.policy_clip,
            value_clip: self.value.clip,
            value_warmup: self.value.warmup,
            value_head_ratio: self.value.head_ratio,
            optimiser: &self.optimiser,
            seed: self.seed,
            options: self.options(),
        }
    }

    /// Policy and critic at the start.
    pub(super) fn begin<'a, B: Backend>(
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
        Ok(Ppo::new(b, policy, critic, self.kl.coef, self.entropy))
    }

    /// The prompts of a step.
    fn batch<'a>(&self, prompts: &'a [Prompt], step: usize) -> Vec<&'a Prompt> {
        rollouts::batch(prompts, self.batch_size, self.seed, step)
    }
}
