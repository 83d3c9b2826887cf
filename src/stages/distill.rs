//! `distill`: a policy learns a teacher's distribution on its own responses (reverse KL), on the
//! teacher's (forward KL), or on both. The arithmetic is in `train/distill.rs`.
//!
//! 1. A step samples `samples_per_prompt` responses of the policy to each of `batch_size` prompts
//!    and, where `forward` is above 0, as many of the teacher, at `temperature`.
//! 2. The teacher has the policy's tokenizer; the files have to be the same.
//! 3. `objective/kl` is from the policy at its start, as of the other methods.

use serde::{Deserialize, Serialize};

use super::model_files::{self, Loaded, have_one_tokenizer};
use super::models::{ArtefactShape, ArtefactShapes};
use super::on_policy::{Drawing, Drawn, Method, OnPolicy, Turn};
use super::policy_validation::PolicyValidation;
use super::reading::Reading;
use super::replay::Replays;
use super::rewards::Reward;
use super::{Checks, KindInfo, Problem, Stage, sentinels};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::dataset;
use crate::error::{Result, user};
use crate::model::batch::MICRO_BATCH_TOKENS;
use crate::model::memory::Memory;
use crate::model::transformer::Recompute;
use crate::reference::{Dataset as DatasetArtefact, Policy, Ref};
use crate::rl::Metrics;
use crate::rl::advantage::MissingEos;
use crate::rl::sentinels::settings::Sentinels;
use crate::sample::scoring::{self, Group};
use crate::train::distill::Settings;
use crate::train::kl_stops::KlStops;
use crate::train::optimiser::OptimiserConfig;
use crate::train::policy_training::PolicyTraining;
use crate::train::rollouts::Rollout;

/// The config of `uses: distill`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistillStage {
    /// Policy to begin with: the student.
    pub policy: Ref<Policy>,
    /// Policy that is learned from, with the same tokenizer: a stage's, a folder's or a hub's.
    pub teacher: Ref<Policy>,
    /// Dataset with the prompts.
    pub dataset: Ref<DatasetArtefact>,
    /// Split of `dataset` with the prompts.
    #[serde(default = "split")]
    pub split: String,
    /// Seed of the order of prompts and of sampling.
    #[serde(default)]
    pub seed: u64,
    /// Number of steps.
    pub steps: usize,
    /// Prompts of a step.
    pub batch_size: usize,
    /// Responses to each prompt, of the policy and, for the forward KL, of the teacher.
    #[serde(default = "one")]
    pub samples_per_prompt: usize,
    /// Weight of the forward KL, on the teacher's responses; the reverse KL, on the policy's, has
    /// the rest of 1.
    #[serde(default)]
    pub forward: f64,
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
    /// Optimiser and learning rate.
    pub optimiser: OptimiserConfig,
}

fn split() -> String {
    dataset::PROMPTS.into()
}

fn one() -> usize {
    1
}

fn unit() -> f64 {
    1.0
}

impl Stage for DistillStage {
    const INFO: KindInfo = KindInfo {
        byte_neutral: &["recompute", "sentinels"],
        trains: true,
        held_out: &[("validation.by.reward_model", &["policy", "teacher"])],
        ..KindInfo::on_device("distill", 1, "policy")
    };

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        self.on_policy().check(&mut checks);
        checks.require(
            (0.0..=1.0).contains(&self.forward),
            "forward",
            format!("expected a weight from 0 to 1, found {}", self.forward),
        );
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
        let own = self.on_policy();
        own.memory(shapes, ("distill", self.forward > 0.0), |b, policy, mut rollouts| {
            let mut training = PolicyTraining::new(b, own.state(b, policy)?, None);
            let teacher: Vec<Vec<f32>> =
                rollouts.iter().map(|rollout| vec![0.0; rollout.length()]).collect();
            let mut taught = Vec::new();
            if self.forward > 0.0 {
                let sampled = |rollout: &Rollout| {
                    let (prompt, response) = rollout.tokens.split_at(rollout.prompt);
                    Rollout::sampled(prompt, response, rollout.logprobs.clone(), false)
                };
                taught = rollouts.iter().map(sampled).collect();
            }
            // The gradient of a tied head is there from the end of the first step on.
            for step in 0..2 {
                let both = (rollouts.as_mut_slice(), taught.as_mut_slice());
                training.learn_teacher(step, both, &teacher, policy, &self.settings(0))?;
            }
            Ok(training.policy)
        })
    }

    fn readings(&self, shapes: &ArtefactShapes) -> Vec<Reading> {
        self.on_policy().readings(shapes)
    }

    fn run<B: Backend>(&self, b: &B, context: &Context) -> Result<()> {
        let (policy, teacher) = (self.policy.path(), self.teacher.path());
        if !have_one_tokenizer(policy, teacher)? {
            return Err(user("policy and teacher have different tokenizers")
                .hint("the teacher scores the policy's tokens: take one with the same tokenizer")
                .into());
        }
        self.on_policy().run(b, context, |from| {
            let teacher = model_files::load_beside(b, teacher, from, policy)?;
            let settings = self.settings(from.tokenizer.pad().unwrap_or(from.tokenizer.eos()));
            Ok(Distill { teacher, settings })
        })
    }
}

/// The method at work.
struct Distill<'a, B: Backend> {
    teacher: Loaded<B>,
    settings: Settings<'a>,
}

impl<B: Backend> Distill<'_, B> {
    /// The teacher's log-probabilities of each rollout's tokens.
    fn scored(&self, b: &B, drawn: &Drawn<'_>) -> Vec<Vec<f32>> {
        let mut groups: Vec<Group<'_>> = Vec::new();
        let mut last = None;
        for (rollout, group) in drawn.rollouts.iter().zip(&drawn.groups) {
            let (prompt, response) = rollout.tokens.split_at(rollout.prompt);
            match groups.last_mut().filter(|_| last == Some(group)) {
                Some(group) => group.responses.push(response),
                None => groups.push(Group { prompt, responses: vec![response] }),
            }
            last = Some(group);
        }
        let temperature = self.settings.rollouts.temperature;
        let model = &self.teacher.model;
        scoring::response_logprobs(b, model, &groups, temperature, MICRO_BATCH_TOKENS).concat()
    }
}

impl<B: Backend> Method<B> for Distill<'_, B> {
    fn step<'a>(
        &self,
        training: &mut PolicyTraining<'_, B>,
        Turn { step, from, .. }: Turn<'_, B>,
        drawing: &mut Drawing<'a, B>,
    ) -> Result<(Metrics, Drawn<'a>)> {
        let mut drawn = Drawn::of(drawing.batch(&training.policy.model, step)?);
        let mut taught = match self.settings.forward > 0.0 {
            true => drawing.of_model(&self.teacher.model, "teacher", step)?,
            false => Vec::new(),
        };
        let teacher = self.scored(training.b, &drawn);
        let both = (drawn.rollouts.as_mut_slice(), taught.as_mut_slice());
        let metrics = training.learn_teacher(step, both, &teacher, &from.model, &self.settings)?;
        Ok((metrics, drawn))
    }
}

impl DistillStage {
    fn on_policy(&self) -> OnPolicy<'_> {
        OnPolicy {
            policy: &self.policy,
            reward: Reward::NONE,
            teacher: Some(&self.teacher),
            dataset: &self.dataset,
            split: &self.split,
            seed: self.seed,
            steps: self.steps,
            batch_size: self.batch_size,
            samples: self.samples_per_prompt,
            temperature: self.temperature,
            max_new_tokens: self.max_new_tokens,
            max_prompt_tokens: self.max_prompt_tokens,
            missing_eos: MissingEos::Keep,
            frozen: self.frozen,
            recompute: self.recompute,
            validation: self.validation.as_ref(),
            diversity: None,
            sentinels: (Self::INFO.name, &self.sentinels),
            replays: Replays::default(),
            kl_stops: KlStops::default(),
        }
    }

    fn settings(&self, pad: u32) -> Settings<'_> {
        Settings {
            steps: self.steps,
            rollouts: self.on_policy().rollouts(pad),
            forward: self.forward,
            optimiser: &self.optimiser,
        }
    }
}
