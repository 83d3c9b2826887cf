//! `grpo`: critic-free reinforcement learning of a policy: several responses to each prompt, and
//! advantages from how their rewards compare. One stage for GRPO, RLOO, REINFORCE and their
//! relatives; `algorithm` names one, and each rule can be set otherwise.
//!
//! 1. A step takes `batch_size` prompts with `samples_per_prompt` responses each.
//! 2. The KL penalty is towards the policy it began as. `objective/kl` is measured whatever the
//!    coefficient is, so that methods can be compared at one KL.
//! 3. With `dynamic_sampling` prompts are drawn until `batch_size` of them have responses of
//!    different rewards; if tries do not suffice, the first prompts without such responses fill up
//!    the batch.
//! 4. A response to which no reward applies has the advantage 0 and takes part in no baseline.

use serde::{Deserialize, Serialize};

use super::generation::{Prompt, Room};
use super::model_files;
use super::models::{self, ArtefactShape, ArtefactShapes};
use super::policy_validation::{Measured, PolicyScorer, PolicyValidation};
use super::reading::{Part, Reading, Splits};
use super::rewards::{Names, Reward, Rewards, Scored, Scorer};
use super::rollouts::{self, RolloutFiles, Sampler};
use super::source::Source;
use super::{Checks, KindInfo, Problem, Stage, footprint, validation};
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
use crate::rl::advantage::{Conventions, MissingEos};
use crate::rl::critic_free::{Algorithm, KlEstimator, KlIn, Rules};
use crate::rl::group::{Baseline, Scale};
use crate::rl::kl::{Estimator, Kl};
use crate::rl::policy_loss::{Average, Bounds, Form, PolicyLoss, Ratio};
use crate::sample::footprint::first_tokens;
use crate::tokenizer::tokens::Tokenizer;
use crate::train::group::{GroupPolicy, Member, Settings};
use crate::train::optimiser::{OptimiserConfig, TrainState};
use crate::train::rollouts::{Rollout, RolloutSettings};
use crate::train::steps::{self, StepReport};
use crate::train::validation::{Keep, SCORE, Validator, WithBest};

/// Figures that are shown as they come.
const SHOWN: &[&str] = &["objective/scores", "objective/kl", SCORE];

/// The config of `uses: grpo`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpoStage {
    /// Policy to begin with, which is also the reference of the KL penalty.
    pub policy: Ref<Policy>,
    /// Reward model that scores responses; `null` where `rewards` do.
    #[serde(default)]
    pub reward_model: Option<Ref<RewardModel>>,
    /// Parts of the reward by name, instead of `reward_model`: the reward is their weighted sum.
    #[serde(default)]
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
    /// Responses to each prompt: the group.
    #[serde(default = "eight")]
    pub samples_per_prompt: usize,
    /// Minibatches that the responses of a step are split into: optimiser steps of an epoch.
    #[serde(default = "one")]
    pub minibatches: usize,
    /// Passes over the responses of a step.
    #[serde(default = "one")]
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
    /// Algorithm whose rules hold where no field says otherwise.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// The KL penalty.
    pub kl: GroupKl,
    /// Rules by which rewards become advantages. Each key that is given here replaces that of
    /// `algorithm`.
    #[serde(default)]
    pub advantages: GroupAdvantages,
    /// The policy loss. Each key that is given here replaces that of `algorithm`.
    #[serde(default)]
    pub loss: GroupLoss,
    /// Score of a response without EOS: as `conventions.missing_eos` of `ppo`, with the same
    /// default.
    #[serde(default)]
    pub missing_eos: MissingEos,
    /// Replacement of prompts whose responses all have one reward. `null` replaces none.
    #[serde(default)]
    pub dynamic_sampling: Option<DynamicSampling>,
    /// Measurement of the policy on other prompts during training, and the step that is kept.
    /// `null` measures nothing and keeps the last step.
    #[serde(default)]
    pub validation: Option<PolicyValidation>,
    /// Activations that the backward pass computes again instead of keeping them.
    #[serde(default)]
    pub recompute: Recompute,
    /// Optimiser and learning rate.
    pub optimiser: OptimiserConfig,
}

/// The KL penalty of a critic-free algorithm.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupKl {
    /// Coefficient of the KL penalty; 0 charges nothing.
    pub coef: f64,
    /// Place where it is charged; `null` is that of `algorithm`.
    #[serde(default)]
    pub r#in: Option<KlIn>,
    /// Estimator of the KL of a token; `null` is that of `algorithm`, or, where `in` is another
    /// place than there, k3 in the loss and k1 elsewhere.
    #[serde(default)]
    pub estimator: Option<KlEstimator>,
}

/// From rewards to advantages; what is `null` is that of `algorithm`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GroupAdvantages {
    /// What is taken off the reward of a response.
    pub baseline: Option<Baseline>,
    /// What the difference is divided by.
    pub scale: Option<Scale>,
}

/// The policy loss; what is `null` is that of `algorithm`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GroupLoss {
    /// Probability ratio of a token.
    pub ratio: Option<Ratio>,
    /// Form of the loss.
    pub form: Option<Form>,
    /// What token losses are divided by.
    pub average: Option<Average>,
    /// Bounds of the ratio.
    pub clip: GroupClip,
}

/// Bounds of the ratio; what is `null` is that of `algorithm`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GroupClip {
    /// Largest distance below 1.
    pub low: Option<f64>,
    /// Largest distance above 1.
    pub high: Option<f64>,
    /// Dual clip: for a negative advantage A the loss is at most this multiple of -A. `null` does
    /// not bound it.
    pub dual: Option<f64>,
}

/// Replacement of prompts whose responses all have one reward (DAPO, Yu et al. 2025, section 3.2).
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DynamicSampling {
    /// Largest number of batches of prompts that are drawn for a step.
    pub tries: usize,
}

fn split() -> String {
    dataset::PROMPTS.into()
}

fn one() -> usize {
    1
}

fn eight() -> usize {
    8
}

fn unit() -> f64 {
    1.0
}

impl Stage for GrpoStage {
    const INFO: KindInfo = KindInfo {
        byte_neutral: &["recompute"],
        trains: true,
        held_out: &[("validation.by.reward_model", &["policy", "reward_model"])],
        ..KindInfo::on_device("grpo", 1, "policy")
    };

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        let responses = self.batch_size * self.samples_per_prompt;
        checks
            .positive(self.steps, "steps")
            .positive(self.batch_size, "batch_size")
            .positive(self.epochs, "epochs")
            .positive(self.samples_per_prompt, "samples_per_prompt")
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
            .require(self.missing_eos.is_finite(), "missing_eos", "expected a finite number")
            .require(
                self.dynamic_sampling.is_none_or(|sampling| sampling.tries >= 2),
                "dynamic_sampling.tries",
                "expected at least 2, or `dynamic_sampling: null`",
            );
        self.check_rules(&mut checks);
        self.reward().check(&mut checks);
        if let Some(validation) = &self.validation {
            validation.check(&mut checks, &self.split);
        }
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
        let sizes = (self.batch_size, self.samples_per_prompt, self.minibatches);
        let lengths = (self.max_prompt_tokens, self.max_new_tokens);
        let judge = match self.validation.as_ref().and_then(PolicyValidation::judge) {
            Some(judge) => Some((shapes.model(judge)?.0, shapes.shared(&self.policy, judge))),
            None => None,
        };
        let measured = (self.validation.as_ref().map(|validation| validation.keep), &judge);
        let trains = (self.frozen, self.recompute);
        shapes.counted(("grpo", &policy, &rewards, sizes, lengths, trains, measured), |b| {
            let policy = memory::model(b, &policy.0, policy.1);
            let beside = |(spec, shared): &(Spec, Option<usize>)| {
                memory::model_beside(b, spec, HeadKind::Reward, &policy, *shared)
            };
            let judges: Vec<Model<Counting>> = rewards.iter().chain(&judge).map(beside).collect();
            judges.iter().for_each(|judge| footprint::score(b, judge));
            self.count(b, &policy)
        })
    }

    fn readings(&self, shapes: &ArtefactShapes) -> Vec<Reading> {
        let Some((tokenizer, policy)) = shapes.reader(&self.policy) else { return Vec::new() };
        let Some(reward_model) = self.reward().reader(shapes, &tokenizer) else {
            return Vec::new();
        };
        let Room { context, response, reader } =
            Room::of(policy, reward_model, self.max_new_tokens);
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
        let new = self.max_new_tokens;
        let scorer = self.reward().scorer(b, context, &from, self.policy.path(), new)?;
        let sizes = (self.batch_size, self.max_prompt_tokens);
        let prompts = rollouts::prompts(self.dataset.path(), &self.split, sizes, &from.tokenizer)?;
        Room::of(from.model.spec.context, scorer.context(), new).check(&prompts)?;
        let optimised = self.reward().lineage()?;
        let measured = Measured {
            policy: &from,
            folder: self.policy.path(),
            rewards: optimised.as_ref(),
            dataset: self.dataset.path(),
            max_prompt_tokens: self.max_prompt_tokens,
            max_new_tokens: new,
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
        let policy = self.begin(b, &from.model)?.with_masters_of(b, self.policy.path())?;
        let mut policy = WithBest::new(GroupPolicy { b, policy });
        let settings = self.settings(from.tokenizer.pad().unwrap_or(from.tokenizer.eos()));
        let names = Names::new(&self.rewards);
        let files = RolloutFiles::new(context)?;
        let sampler = Sampler {
            samples: self.samples_per_prompt,
            temperature: settings.rollouts.temperature,
            max_new_tokens: new,
            ends: from.tokenizer.ends(),
            seed: self.seed,
        };
        let mut drawing = Drawing { b, context, stage: self, prompts: &prompts, sampler, scorer };

        steps::run(context, &mut policy, self.steps, |policy, step| {
            let model = &policy.run.policy.model;
            let Drawn { prompts, mut rollouts, members, scored, batches } =
                drawing.draw(&from.tokenizer, model, step)?;
            let reference = &from.model;
            let mut metrics =
                policy.run.step(step, &mut rollouts, &members, reference, &settings)?;
            metrics.extend(names.metrics(&scored));
            if self.dynamic_sampling.is_some() {
                metrics.push(("dynamic_sampling/batches", batches as f64));
            }
            if let Some(validator) = &validator {
                let steps = (step + 1, self.steps);
                metrics.extend(policy.after(b, validator, |run| &run.policy, steps)?);
            }
            let (tokenizer, scored) = (&from.tokenizer, Some(&scored));
            files.write(step, tokenizer, &prompts, &rollouts, scored, self.missing_eos)?;
            let tokens = rollouts.iter().map(|rollout| rollout.tokens.len()).sum();
            Ok(StepReport { metrics, shown: SHOWN, tokens })
        })?;

        files.publish(self.steps)?;
        let used = files.ids(self.steps)?;
        let (policy, kept) = policy.finish(b, |run| &mut run.policy);
        let model = policy.policy.finished();
        model_files::save(b, context.out(), &model, &from.origin, self.policy.path())?;
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

/// The responses of a step: one entry of each list for each, prompt after prompt.
struct Drawn<'a> {
    prompts: Vec<&'a Prompt>,
    rollouts: Vec<Rollout>,
    members: Vec<Member>,
    scored: Scored,
    /// Batches of prompts that were drawn.
    batches: usize,
}

/// What draws the responses of steps.
struct Drawing<'a, B: Backend> {
    b: &'a B,
    context: &'a Context,
    stage: &'a GrpoStage,
    prompts: &'a [Prompt],
    sampler: Sampler<'a>,
    scorer: Scorer<'a, B>,
}

impl<'a, B: Backend> Drawing<'a, B> {
    /// The responses of a step, with scores.
    fn draw(&mut self, tokenizer: &Tokenizer, policy: &Model<B>, step: usize) -> Result<Drawn<'a>> {
        let stage = self.stage;
        let tries = stage.dynamic_sampling.map_or(1, |sampling| sampling.tries);
        let (mut kept, mut spare): (Vec<Group<'a>>, Vec<Group<'a>>) = (Vec::new(), Vec::new());
        let mut batches = 0;
        while batches < tries && kept.len() < stage.batch_size {
            let number = step * tries + batches;
            for group in self.batch(tokenizer, policy, number)? {
                let teaches = tries == 1 || group.has_signal(stage.missing_eos);
                let into = if teaches { &mut kept } else { &mut spare };
                into.push(group);
            }
            batches += 1;
        }
        kept.extend(spare);
        kept.truncate(stage.batch_size);
        let mut drawn = Drawn {
            prompts: Vec::new(),
            rollouts: Vec::new(),
            members: Vec::new(),
            scored: Scored::default(),
            batches,
        };
        for (at, Group { prompt, rollouts, scored }) in kept.into_iter().enumerate() {
            drawn.prompts.extend(vec![prompt; rollouts.len()]);
            let member = |total: &Option<f64>| Member { group: at, has_reward: total.is_some() };
            drawn.members.extend(scored.total.iter().map(member));
            drawn.rollouts.extend(rollouts);
            drawn.scored.append(scored);
        }
        Ok(drawn)
    }

    /// The groups of the batch of prompts number `number`.
    fn batch(
        &mut self,
        tokenizer: &Tokenizer,
        policy: &Model<B>,
        number: usize,
    ) -> Result<Vec<Group<'a>>> {
        let Drawing { b, context, stage, prompts, sampler, scorer } = self;
        let batch = rollouts::batch(prompts, stage.batch_size, stage.seed, number);
        let mut sampled = sampler.rollouts(*b, context, policy, &batch, number)?;
        let of_rollouts: Vec<&Prompt> =
            batch.iter().flat_map(|prompt| vec![*prompt; stage.samples_per_prompt]).collect();
        let answers = rollouts::answers(&of_rollouts, &sampled);
        let mut scored = scorer.score(*b, context, tokenizer, &answers)?;
        for (rollout, total) in sampled.iter_mut().zip(&scored.total) {
            // Without a reward the number is never read.
            rollout.score = total.unwrap_or(0.0);
        }
        let mut groups = Vec::with_capacity(batch.len());
        for prompt in batch {
            let others = sampled.split_off(stage.samples_per_prompt);
            let rest = scored.split_off(stage.samples_per_prompt);
            groups.push(Group { prompt, rollouts: sampled, scored });
            (sampled, scored) = (others, rest);
        }
        Ok(groups)
    }
}

/// The responses to one prompt.
struct Group<'a> {
    prompt: &'a Prompt,
    rollouts: Vec<Rollout>,
    scored: Scored,
}

impl Group<'_> {
    /// Whether two responses have different rewards.
    fn has_signal(&self, missing_eos: MissingEos) -> bool {
        let rewards: Vec<f64> = self
            .rollouts
            .iter()
            .zip(&self.scored.total)
            .filter_map(|(rollout, total)| Some(missing_eos.apply((*total)?, rollout.ended)))
            .collect();
        rewards.iter().any(|reward| *reward != rewards[0])
    }
}

impl GrpoStage {
    fn reward(&self) -> Reward<'_> {
        Reward { model: self.reward_model.as_ref(), parts: &self.rewards }
    }

    /// Those of the algorithm, with what is said otherwise.
    fn rules(&self) -> Rules {
        let own = self.algorithm.rules();
        let (clip, loss) = (self.loss.clip, self.loss);
        let kl_in = self.kl.r#in.unwrap_or(own.kl_in);
        let estimator = match kl_in {
            _ if kl_in == own.kl_in => own.estimator,
            KlIn::Loss => KlEstimator::K3,
            KlIn::Reward | KlIn::Returns => KlEstimator::K1,
        };
        Rules {
            baseline: self.advantages.baseline.unwrap_or(own.baseline),
            scale: self.advantages.scale.unwrap_or(own.scale),
            ratio: loss.ratio.unwrap_or(own.ratio),
            form: loss.form.unwrap_or(own.form),
            bounds: Bounds {
                low: clip.low.unwrap_or(own.bounds.low),
                high: clip.high.unwrap_or(own.bounds.high),
                dual: clip.dual,
            },
            average: loss.average.unwrap_or(own.average),
            kl_in,
            estimator: self.kl.estimator.unwrap_or(estimator),
        }
    }

    /// Notes rules that are out of range, or that do not go together.
    fn check_rules(&self, checks: &mut Checks) {
        let rules = self.rules();
        let compares = !matches!(rules.baseline, Baseline::Batch | Baseline::None)
            || rules.scale == Scale::Group;
        checks
            .require(
                self.samples_per_prompt >= 2 || !compares,
                "samples_per_prompt",
                "expected at least 2: advantages compare the responses to one prompt",
            )
            .require(
                self.kl.coef.is_finite() && self.kl.coef >= 0.0,
                "kl.coef",
                format!("expected 0 or more, found {}", self.kl.coef),
            )
            .require(
                rules.kl_in != KlIn::Loss || rules.estimator.in_loss().is_some(),
                "kl.estimator",
                "k1 in the loss has the same gradient whatever the policies are: expected k2, k3 \
                 or k3_plus, or another `in`",
            )
            .require(
                rules.kl_in == KlIn::Loss || rules.estimator.in_reward().is_some(),
                "kl.estimator",
                "k3_plus is of the loss: expected k1, k2 or k3, or `in: loss`",
            )
            .require(
                rules.bounds.low > 0.0 && rules.bounds.low <= 1.0,
                "loss.clip.low",
                "expected above 0, at most 1",
            )
            .require(
                rules.bounds.high > 0.0 && rules.bounds.high.is_finite(),
                "loss.clip.high",
                "expected a finite number above 0",
            )
            .require(
                rules.bounds.dual.is_none_or(|dual| dual > 1.0),
                "loss.clip.dual",
                "expected above 1, or null",
            );
        if rules.form == Form::Cispo {
            checks
                .require(
                    rules.ratio == Ratio::Token,
                    "loss.ratio",
                    "`cispo` weighs log-probabilities of tokens: expected `token`",
                )
                .require(
                    self.loss.clip.low.is_none(),
                    "loss.clip.low",
                    "`cispo` has an upper bound alone: remove it",
                )
                .require(
                    self.loss.clip.dual.is_none(),
                    "loss.clip.dual",
                    "`cispo` has an upper bound alone: remove it",
                );
        }
    }

    fn settings(&self, pad: u32) -> Settings<'_> {
        let rules = self.rules();
        let in_loss = rules.estimator.in_loss().filter(|_| rules.kl_in == KlIn::Loss);
        let charges = self.kl.coef > 0.0;
        let estimator = rules.estimator.in_reward().filter(|_| rules.kl_in != KlIn::Loss);
        Settings {
            steps: self.steps,
            minibatches: self.minibatches,
            epochs: self.epochs,
            rollouts: RolloutSettings {
                temperature: self.temperature as f32,
                max_new_tokens: self.max_new_tokens,
                pad,
                conventions: Conventions {
                    kl: Kl { estimator: estimator.unwrap_or(Estimator::K1), ..Kl::default() },
                    missing_eos: self.missing_eos,
                    ..Conventions::default()
                },
            },
            baseline: rules.baseline,
            scale: rules.scale,
            kl_in: rules.kl_in,
            kl_coef: self.kl.coef,
            loss: PolicyLoss {
                ratio: rules.ratio,
                form: rules.form,
                bounds: rules.bounds,
                average: rules.average,
                kl: in_loss.filter(|_| charges).map(|estimator| (estimator, self.kl.coef)),
            },
            optimiser: &self.optimiser,
            seed: self.seed,
        }
    }

    /// The policy at the start.
    fn begin<B: Backend>(&self, b: &B, policy: &Model<B>) -> Result<TrainState<B>> {
        let trainable = Trainable::frozen_fraction(&policy.spec, self.frozen);
        Ok(TrainState::new(b, policy, trainable)?.with(self.recompute))
    }

    /// What a step takes, with prompts and responses of the greatest length.
    fn count(&self, b: &Counting, policy: &Model<Counting>) -> Result<Memory> {
        let mut training = GroupPolicy { b, policy: self.begin(b, policy)? };
        let (context, new) = (policy.spec.context, self.max_new_tokens);
        let longest = context.saturating_sub(new).max(1);
        let prompt = self.max_prompt_tokens.map_or(longest, |most| most.min(longest));
        let prompts = vec![vec![0; prompt]; self.batch_size];
        let limits = models::limits(b, &policy.spec);
        first_tokens(b, &training.policy.model, &prompts, (self.samples_per_prompt, new), limits)?;
        let response = vec![0; new];
        let rollout =
            |prompt: &Vec<u32>| Rollout::sampled(prompt, &response, vec![0.0; new], false);
        let each = |prompt| std::iter::repeat_n(prompt, self.samples_per_prompt);
        let mut rollouts: Vec<Rollout> = prompts.iter().flat_map(each).map(rollout).collect();
        let member = |at: usize| Member { group: at / self.samples_per_prompt, has_reward: true };
        let members: Vec<Member> = (0..rollouts.len()).map(member).collect();
        // The gradient of a tied head is there from the end of the first epoch on.
        let settings = Settings { epochs: 2, ..self.settings(0) };
        training.step(0, &mut rollouts, &members, policy, &settings)?;
        let own = training.policy.memory(b);
        let keeps_best =
            self.validation.as_ref().is_some_and(|validation| validation.keep == Keep::Best);
        Ok(Memory::of(b, if keeps_best { footprint::with_best(own, own) } else { own }))
    }
}
