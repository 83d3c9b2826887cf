//! What stages share that train a policy on its own responses: the prompts of a step and groups of
//! responses to each, scored; the loop of steps with validation, rollouts and lineage. Knows no
//! loss.

use super::generation::{Prompt, Room};
use super::group_diversity::{self, GroupDiversity};
use super::model_files::{self, Loaded};
use super::models::{self, ArtefactShapes};
use super::policy_validation::{Measured, PolicyScorer, PolicyValidation};
use super::reading::{Part, Reading, Splits};
use super::recorded::{Records, Taken};
use super::replay::{self, Common, Replayed, Replays};
use super::rewards::{Names, Reward, Rewards, Scored, Scorer};
use super::rollouts::{self, RolloutFiles, Sampler};
use super::source::Source;
use super::{Checks, footprint, validation};
use crate::backend::Backend;
use crate::backend::counting::Counting;
use crate::dag::context::Context;
use crate::data::lineage::Lineage;
use crate::data::tokenised::Limits;
use crate::error::{Context as _, Result};
use crate::model::checkpoint;
use crate::model::memory::{self, Memory};
use crate::model::params::{HeadKind, Trainable};
use crate::model::spec::Spec;
use crate::model::transformer::Recompute;
use crate::model::weights::Model;
use crate::reference::{Dataset as DatasetArtefact, Policy, Ref};
use crate::rl::Metrics;
use crate::rl::advantage::{Conventions, MissingEos};
use crate::rl::entropy::EntropyBonus;
use crate::rl::group::Rewarded;
use crate::rl::sentinels::settings::Sentinels;
use crate::rl::sentinels::watch::Watch;
use crate::sample::footprint::first_tokens;
use crate::tokenizer::tokens::Tokenizer;
use crate::train::kl_stops::{KL, KlStops};
use crate::train::optimiser::TrainState;
use crate::train::policy_training::PolicyTraining;
use crate::train::rollouts::{Rollout, RolloutSettings};
use crate::train::steps::{self, StepReport};
use crate::train::validation::{Keep, SCORE, Validator, WithBest};

/// Figures that are shown as they come.
const SHOWN: &[&str] = &["objective/scores", "objective/kl", "loss", SCORE];

/// The fields that such stages have, as their configs say.
pub(super) struct OnPolicy<'a> {
    pub(super) policy: &'a Ref<Policy>,
    pub(super) reward: Reward<'a>,
    /// A model that the method learns from besides.
    pub(super) teacher: Option<&'a Ref<Policy>>,
    pub(super) dataset: &'a Ref<DatasetArtefact>,
    pub(super) split: &'a String,
    pub(super) seed: u64,
    pub(super) steps: usize,
    /// Prompts of a step.
    pub(super) batch_size: usize,
    /// Responses to each prompt.
    pub(super) samples: usize,
    pub(super) temperature: f64,
    pub(super) max_new_tokens: usize,
    pub(super) max_prompt_tokens: Option<usize>,
    pub(super) missing_eos: MissingEos,
    pub(super) frozen: f64,
    pub(super) recompute: Recompute,
    pub(super) validation: Option<&'a PolicyValidation>,
    /// What reads the responses to a prompt for the sake of diversity.
    pub(super) diversity: Option<&'a GroupDiversity>,
    /// The stage kind, and the settings of its sentinels.
    pub(super) sentinels: (&'static str, &'a Sentinels),
    /// Steps that are recorded, or the recorded step that is taken again.
    pub(super) replays: Replays<'a>,
    /// Where KL ends training; the method makes no update in such a step.
    pub(super) kl_stops: KlStops,
}

/// A method that trains on its policy's responses.
pub(super) trait Method<B: Backend> {
    /// Draws the responses of a step and learns from them. Rollouts come back with their
    /// log-probabilities under the reference.
    ///
    /// # Errors
    /// Those of drawing; the user's, if training diverged.
    fn step<'a>(
        &self,
        training: &mut PolicyTraining<'_, B>,
        turn: Turn<'_, B>,
        drawing: &mut Drawing<'a, B>,
    ) -> Result<(Metrics, Drawn<'a>)>;

    /// The entropy bonus of its loss.
    fn entropy(&self) -> Option<EntropyBonus> {
        None
    }
}

/// A step of a run.
#[derive(Clone, Copy)]
pub(super) struct Turn<'a, B: Backend> {
    pub(super) context: &'a Context,
    /// Its number, from 0.
    pub(super) step: usize,
    /// The policy at its start, with its tokenizer.
    pub(super) from: &'a Loaded<B>,
}

impl<'a> OnPolicy<'a> {
    /// Notes values out of range.
    pub(super) fn check(&self, checks: &mut Checks) {
        self.check_as(checks, ("steps", "batch_size"));
    }

    /// The same where the config has other names for the number of steps, and for that of prompts
    /// of a step.
    pub(super) fn check_as(&self, checks: &mut Checks, (steps, batch_size): (&str, &str)) {
        checks
            .positive(self.steps, steps)
            .positive(self.batch_size, batch_size)
            .positive(self.samples, "samples_per_prompt")
            .require(
                self.temperature > 0.0,
                "temperature",
                "expected above 0: a greedy policy has no gradient",
            )
            .positive(self.max_new_tokens, "max_new_tokens")
            .positive_or_null(self.max_prompt_tokens, "max_prompt_tokens")
            .fraction(self.frozen, "frozen", "the blocks")
            .require(self.missing_eos.is_finite(), "missing_eos", "expected a finite number");
        if let Some(validation) = self.validation {
            validation.check(checks, self.split);
        }
    }

    /// Rules of responses whose KL is measured by k1; `pad` fills up responses.
    pub(super) fn rollouts(&self, pad: u32) -> RolloutSettings {
        RolloutSettings {
            temperature: self.temperature as f32,
            max_new_tokens: self.max_new_tokens,
            pad,
            conventions: Conventions { missing_eos: self.missing_eos, ..Conventions::default() },
        }
    }

    /// Equal rewards of the responses of a step, for counting.
    pub(super) fn all_rewarded(&self, rollouts: &[Rollout]) -> Vec<Rewarded> {
        let response = |(at, rollout): (usize, &Rollout)| Rewarded {
            group: at / self.samples,
            reward: Some(0.0),
            tokens: rollout.length(),
        };
        rollouts.iter().enumerate().map(response).collect()
    }

    /// What is read of the dataset.
    pub(super) fn readings(&self, shapes: &ArtefactShapes) -> Vec<Reading> {
        let Some((tokenizer, policy)) = shapes.reader(self.policy) else { return Vec::new() };
        let Some(reward_model) = self.reward.reader(shapes, &tokenizer) else { return Vec::new() };
        let policy = match self.teacher.map(|teacher| shapes.reader(teacher)) {
            None => policy,
            Some(Some((_, teacher))) => policy.min(teacher),
            Some(None) => return Vec::new(),
        };
        let Room { context, response, reader } =
            Room::of(policy, reward_model, self.max_new_tokens);
        let reading = |split: &String, rows| Reading {
            dataset: Source::from(self.dataset),
            splits: Splits::Named(vec![split.clone()]),
            rows,
            tokenizer: tokenizer.clone(),
            limits: Limits::of_stage(context, self.max_prompt_tokens),
            reader,
            part: Part::Prompt(response),
        };
        let validation = self.validation.iter().map(|it| reading(&it.split, it.rows));
        validation.chain([reading(self.split, None)]).collect()
    }

    /// The memory of `step(b, policy, rollouts)`, which takes a step on responses of the greatest
    /// length and gives the training state, and of what is there besides. `more` is all that the
    /// step depends on beyond the fields here.
    pub(super) fn memory<S>(
        &self,
        shapes: &ArtefactShapes,
        more: impl std::fmt::Debug,
        step: S,
    ) -> Option<Memory>
    where
        S: FnOnce(&Counting, &Model<Counting>, Vec<Rollout>) -> Result<TrainState<Counting>>,
    {
        let policy = shapes.model(self.policy)?;
        let replays = self.replays.replay.is_some();
        let reward = if replays { Reward::NONE } else { self.reward };
        let rewards = reward.shapes(shapes, self.policy)?;
        let teacher = match self.teacher {
            Some(teacher) => Some((shapes.model(teacher)?, shapes.shared(self.policy, teacher))),
            None => None,
        };
        let judge = match self.validation.and_then(PolicyValidation::judge) {
            Some(judge) => Some((shapes.model(judge)?.0, shapes.shared(self.policy, judge))),
            None => None,
        };
        let kinship = match self.diversity {
            Some(diversity) => diversity.model(shapes)?,
            None => None,
        };
        let sizes = (self.batch_size, self.samples, self.max_prompt_tokens, self.max_new_tokens);
        let keep = self.validation.map(|validation| validation.keep);
        let trains = (self.frozen, self.recompute, keep);
        let models = (&policy, &rewards, &teacher, &judge, &kinship);
        shapes.counted((models, sizes, trains, replays, more), |b| {
            let policy = memory::model(b, &policy.0, policy.1);
            let beside = |(spec, shared): &(Spec, Option<usize>)| {
                memory::model_beside(b, spec, HeadKind::Reward, &policy, *shared)
            };
            let judges: Vec<Model<Counting>> = rewards.iter().chain(&judge).map(beside).collect();
            judges.iter().for_each(|judge| footprint::score(b, judge));
            let kinship = kinship.as_ref().map(|(spec, head)| memory::model(b, spec, *head));
            kinship.iter().for_each(|model| footprint::score(b, model));
            let teacher = teacher.as_ref().map(|((spec, head), shared)| {
                memory::model_beside(b, spec, *head, &policy, *shared)
            });
            if let Some(teacher) = &teacher {
                self.longest(b, teacher)?;
            }
            let rollouts = self.longest(b, &policy)?;
            // It has to be there while all is counted.
            let state = step(b, &policy, rollouts)?;
            let own = state.memory(b);
            let keeps_best = keep == Some(Keep::Best);
            Ok(Memory::of(b, if keeps_best { footprint::with_best(own, own) } else { own }))
        })
    }

    /// The responses of a step, all of the greatest length.
    fn longest(&self, b: &Counting, policy: &Model<Counting>) -> Result<Vec<Rollout>> {
        let (context, new) = (policy.spec.context, self.max_new_tokens);
        let longest = context.saturating_sub(new).max(1);
        let prompt = self.max_prompt_tokens.map_or(longest, |most| most.min(longest));
        let prompts = vec![vec![0; prompt]; self.batch_size];
        let limits = models::limits(b, &policy.spec);
        if self.replays.replay.is_none() {
            first_tokens(b, policy, &prompts, (self.samples, new), limits)?;
        }
        let response = vec![0; new];
        let rollout =
            |prompt: &Vec<u32>| Rollout::sampled(prompt, &response, vec![0.0; new], false);
        let each = |prompt| std::iter::repeat_n(prompt, self.samples);
        Ok(prompts.iter().flat_map(each).map(rollout).collect())
    }

    /// What is recorded of it with each step; the entropy bonus is `entropy`.
    fn common(&self, entropy: Option<EntropyBonus>) -> Common<'_> {
        Common {
            kind: self.sentinels.0,
            policy: self.policy.path(),
            reward: self.reward,
            split: self.split,
            batch_size: self.batch_size,
            samples: self.samples,
            temperature: self.temperature,
            max_new_tokens: self.max_new_tokens,
            max_prompt_tokens: self.max_prompt_tokens,
            frozen: self.frozen,
            more: Vec::new(),
            kl: None,
            entropy,
        }
    }

    /// A training state that begins as the policy.
    pub(super) fn state<B: Backend>(&self, b: &B, policy: &Model<B>) -> Result<TrainState<B>> {
        let trainable = Trainable::frozen_fraction(&policy.spec, self.frozen);
        Ok(TrainState::new(b, policy, trainable)?.with(self.recompute))
    }

    /// Trains, and writes the artefact. `begin` makes the method of the loaded policy.
    ///
    /// # Errors
    /// The user's: prompts that are too few or too long, what scorers and the method find; the
    /// request to stop.
    pub(super) fn run<B: Backend, M: Method<B>>(
        &self,
        b: &B,
        context: &Context,
        begin: impl FnOnce(&Loaded<B>) -> Result<M>,
    ) -> Result<()> {
        let from = model_files::load(b, self.policy.path())?;
        let new = self.max_new_tokens;
        let replay = self.replays.replay;
        let reward = if replay.is_some() { Reward::NONE } else { self.reward };
        let scorer = reward.scorer(b, context, &from, self.policy.path(), new)?;
        let sizes = (self.batch_size, self.max_prompt_tokens);
        let prompts = rollouts::prompts(self.dataset.path(), self.split, sizes, &from.tokenizer)?;
        let own = from.model.spec.context;
        let least = match self.teacher {
            None => own,
            Some(teacher) => own.min(checkpoint::describe(teacher.path())?.spec.context),
        };
        Room::of(least, scorer.context(), new).check(&prompts)?;
        let optimised = self.reward.lineage()?;
        let measured = Measured {
            policy: &from,
            folder: self.policy.path(),
            rewards: optimised.as_ref(),
            dataset: self.dataset.path(),
            max_prompt_tokens: self.max_prompt_tokens,
            max_new_tokens: new,
        };
        let by = self.validation.map(|config| PolicyScorer::load(b, config, &measured));
        let by = by.transpose()?;
        let measure = |state: &TrainState<B>| {
            let by = by.as_ref().context("a validator has prompts")?;
            Ok(vec![(SCORE, by.score(context, &state.model)?)])
        };
        let validator = self.validation.map(|config| Validator {
            every: config.every,
            keep: config.keep,
            by: SCORE,
            measure: &measure,
        });
        let method = begin(&from)?;
        let policy = self.state(b, &from.model)?.with_masters_of(b, self.policy.path())?;
        let mut training = PolicyTraining::new(b, policy, method.entropy());
        let common = self.common(method.entropy());
        let vocabulary = from.model.spec.vocabulary;
        let replayed = replay.map(|replay| common.replayed(replay, &prompts, vocabulary));
        let replayed = replayed.transpose()?;
        if let Some(replayed) = &replayed {
            replayed.begin(|archive, continues| training.begin_as(archive, continues.entropy))?;
        }
        let records = Records::new(context, self.replays.record, || common.settings())?;
        let mut training = WithBest::new(training);
        let names = Names::new(self.reward.parts);
        let files = RolloutFiles::new(context)?;
        let sampler = Sampler {
            purpose: "rollouts",
            samples: self.samples,
            temperature: self.temperature as f32,
            max_new_tokens: new,
            ends: from.tokenizer.ends(),
            seed: self.seed,
        };
        let (batch_size, seed) = (self.batch_size, self.seed);
        let tokenizer = &from.tokenizer;
        let (prompts, replayed) = (prompts.as_slice(), replayed.as_ref());
        let mut drawing =
            Drawing { b, context, tokenizer, prompts, batch_size, seed, sampler, scorer, replayed };
        let (kind, own) = self.sentinels;
        let span = self.replays.span(self.steps);
        let (first, end) = (span.start, span.end);
        let watch = Watch::new(kind, end, own);
        let steps = steps::watched(context, watch, &mut training, span, |training, step| {
            records.before(step, &training.run)?;
            let changed = drawing.compared(&training.run.policy.model);
            let turn = Turn { context, step, from: &from };
            let (mut metrics, drawn) = method.step(&mut training.run, turn, &mut drawing)?;
            replay::explain(&mut metrics, changed);
            metrics.extend(names.metrics(&drawn.scored));
            let reached = self.kl_stops.reached(&metrics, KL);
            if let Some(reached) = reached {
                context.warn(reached.message(step, self.steps));
            }
            if let Some(validator) = &validator {
                let last = if reached.is_some() { step + 1 } else { self.steps };
                let steps = (step + 1, last);
                metrics.extend(training.after(b, validator, |run| &run.policy, steps)?);
            }
            let Drawn { prompts, rollouts, scored, .. } = &drawn;
            records.after(step, &Taken { prompts, rollouts, scored: Some(scored) })?;
            let observed =
                files.write(step, tokenizer, prompts, rollouts, Some(scored), self.missing_eos)?;
            if step + 1 == end || reached.is_some() {
                metrics.extend(training.run.policy.frozen_movement(b)?);
            }
            let tokens = rollouts.iter().map(|rollout| rollout.tokens.len()).sum();
            let is_last = reached.is_some();
            Ok(StepReport { metrics, shown: SHOWN, tokens, observed, is_last })
        })?;

        drawing.scorer.finish(context)?;
        files.publish(first..steps)?;
        records.publish(steps)?;
        let used = files.ids(first..steps)?;
        let (training, kept) = training.finish(b, |run| &mut run.policy);
        let model = training.policy.finished();
        model_files::save(b, context.out(), &model, &from.origin, self.policy.path())?;
        if let Some(replay) = replay {
            // The recorded run was trained on the prompts of this step, and on more.
            return Lineage::read(replay.of.path())?.write(context.out());
        }
        let policys = Lineage::read(self.policy.path())?;
        let teachers = self.teacher.map(|teacher| Lineage::read(teacher.path())).transpose()?;
        let made_of =
            optimised.iter().chain(&teachers).fold(policys, |all, own| all.with(own.clone()));
        let mut learned = made_of.with(rollouts::lineage_of(prompts, &used));
        if let (Some(config), Some(by), Some(kept)) = (self.validation, &by, kept) {
            validation::save(context, (&config.split, config.keep), SCORE, kept)?;
            if config.keep == Keep::Best {
                learned = learned.with(by.lineage());
            }
        }
        learned.write(context.out())
    }
}

/// The responses of a step: one entry of each list for each, prompt after prompt.
pub(super) struct Drawn<'a> {
    pub(super) prompts: Vec<&'a Prompt>,
    pub(super) rollouts: Vec<Rollout>,
    /// Places of prompts.
    pub(super) groups: Vec<usize>,
    pub(super) scored: Scored,
}

impl<'a> Drawn<'a> {
    /// The responses of some groups.
    pub(super) fn of(groups: impl IntoIterator<Item = Group<'a>>) -> Self {
        let mut drawn = Drawn {
            prompts: Vec::new(),
            rollouts: Vec::new(),
            groups: Vec::new(),
            scored: Scored::default(),
        };
        for (at, Group { prompt, rollouts, scored }) in groups.into_iter().enumerate() {
            drawn.prompts.extend(vec![prompt; rollouts.len()]);
            drawn.groups.extend(vec![at; rollouts.len()]);
            drawn.rollouts.extend(rollouts);
            drawn.scored.append(scored);
        }
        drawn
    }

    /// The prompt of each group of `samples` responses, with these as text.
    pub(super) fn texts(
        &self,
        samples: usize,
        tokenizer: &Tokenizer,
    ) -> Result<Vec<(&'a Prompt, Vec<String>)>> {
        group_diversity::texts(&self.prompts, &self.rollouts, samples, tokenizer)
    }

    /// What is optimised of each response.
    pub(super) fn rewarded(&self, missing_eos: MissingEos) -> Vec<Rewarded> {
        let own = self.rollouts.iter().zip(&self.scored.total).zip(&self.groups);
        own.map(|((rollout, total), group)| Rewarded {
            group: *group,
            reward: total.map(|total| missing_eos.apply(total, rollout.ended)),
            tokens: rollout.length(),
        })
        .collect()
    }
}

/// The responses to one prompt.
pub(super) struct Group<'a> {
    prompt: &'a Prompt,
    rollouts: Vec<Rollout>,
    scored: Scored,
}

impl Group<'_> {
    /// Whether two responses have different rewards, or, where `normalised` has the parts of the
    /// reward, different sums of normalised parts.
    pub(super) fn has_signal(&self, missing_eos: MissingEos, normalised: Option<&Rewards>) -> bool {
        let applied = |(rollout, total): (&Rollout, &Option<f64>)| {
            total.map(|total| missing_eos.apply(total, rollout.ended))
        };
        let rewards: Vec<Option<f64>> = match normalised {
            None => self.rollouts.iter().zip(&self.scored.total).map(applied).collect(),
            Some(parts) => self.scored.normalised(&vec![0; self.rollouts.len()], parts),
        };
        let rewards: Vec<f64> = rewards.into_iter().flatten().collect();
        rewards.iter().any(|reward| *reward != rewards[0])
    }
}

/// What draws the responses of steps.
pub(super) struct Drawing<'a, B: Backend> {
    b: &'a B,
    context: &'a Context,
    tokenizer: &'a Tokenizer,
    prompts: &'a [Prompt],
    batch_size: usize,
    seed: u64,
    sampler: Sampler<'a>,
    scorer: Scorer<'a, B>,
    replayed: Option<&'a Replayed<'a>>,
}

impl<'a, B: Backend> Drawing<'a, B> {
    /// The responses of the recorded step, where one is taken again.
    pub(super) fn replayed(&self) -> Option<Drawn<'a>> {
        let own = &self.replayed?.responses;
        Some(Drawn {
            prompts: own.prompts.clone(),
            rollouts: own.rollouts.clone(),
            groups: (0..own.rollouts.len()).map(|at| at / self.sampler.samples).collect(),
            scored: own.scored.clone(),
        })
    }

    /// [`replay::compared`] of the responses of the recorded step.
    fn compared(&self, policy: &Model<B>) -> Metrics {
        let Drawing { b, context, sampler, replayed, .. } = self;
        let figures = |replayed: &Replayed<'_>| {
            let rollouts = &replayed.responses.rollouts;
            replay::compared(*b, context, policy, rollouts, sampler.temperature)
        };
        replayed.map(figures).unwrap_or_default()
    }

    /// The responses of another model with the same tokenizer to the batch of prompts number
    /// `number`, drawn for `purpose`.
    pub(super) fn of_model(
        &self,
        model: &Model<B>,
        purpose: &'static str,
        number: usize,
    ) -> Result<Vec<Rollout>> {
        let batch = rollouts::batch(self.prompts, self.batch_size, self.seed, number);
        let sampler = Sampler { purpose, ..self.sampler };
        sampler.rollouts(self.b, self.context, model, &batch, number)
    }

    /// The responses of a policy to the batch of prompts number `number`, with scores.
    pub(super) fn batch(&mut self, policy: &Model<B>, number: usize) -> Result<Vec<Group<'a>>> {
        let Drawing { b, context, tokenizer, prompts, sampler, scorer, .. } = self;
        let batch = rollouts::batch(prompts, self.batch_size, self.seed, number);
        let mut sampled = sampler.rollouts(*b, context, policy, &batch, number)?;
        let of_rollouts: Vec<&Prompt> =
            batch.iter().flat_map(|prompt| vec![*prompt; sampler.samples]).collect();
        let answers = rollouts::answers(&of_rollouts, &sampled);
        let mut scored = scorer.score(*b, context, tokenizer, &answers)?;
        for (rollout, total) in sampled.iter_mut().zip(&scored.total) {
            // Without a reward the number is never read.
            rollout.score = total.unwrap_or(0.0);
        }
        let mut groups = Vec::with_capacity(batch.len());
        for prompt in batch {
            let others = sampled.split_off(sampler.samples);
            let rest = scored.split_off(sampler.samples);
            groups.push(Group { prompt, rollouts: sampled, scored });
            (sampled, scored) = (others, rest);
        }
        Ok(groups)
    }
}
