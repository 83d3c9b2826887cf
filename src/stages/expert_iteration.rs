//! `expert_iteration`: rounds of best-of-N and supervised fine-tuning: a policy samples N responses
//! to each prompt, and learns those that a reward says are best.
//!
//! 1. A round takes `prompts_per_round` prompts with `samples_per_prompt` responses each, and goes
//!    through the winners `epochs` times in batches of `batch_size` (`train/winners.rs`).
//! 2. The policy of a round samples; what learns begins with it, or with the original model.
//! 3. The reference of `objective/kl` is the policy at its start. No KL is charged.

use serde::{Deserialize, Serialize};

use super::models::{ArtefactShape, ArtefactShapes};
use super::on_policy::{Drawing, Drawn, Method, OnPolicy, Turn};
use super::policy_validation::PolicyValidation;
use super::reading::Reading;
use super::replay::Replays;
use super::rewards::{Reward, Rewards};
use super::{Checks, KindInfo, Problem, Stage, sentinels};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::dataset;
use crate::error::Result;
use crate::model::memory::Memory;
use crate::model::transformer::Recompute;
use crate::reference::{Dataset as DatasetArtefact, Policy, Ref, RewardModel};
use crate::rl::Metrics;
use crate::rl::advantage::MissingEos;
use crate::rl::sentinels::settings::Sentinels;
use crate::train::kl_stops::KlStops;
use crate::train::optimiser::OptimiserConfig;
use crate::train::policy_training::PolicyTraining;
use crate::train::winners::Settings;

/// The config of `uses: expert_iteration`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpertIterationStage {
    /// Policy to begin with.
    pub policy: Ref<Policy>,
    /// Reward model that chooses winners; `null` where `rewards` do.
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
    /// Seed of the orders of prompts and winners, and of sampling.
    #[serde(default)]
    pub seed: u64,
    /// Number of rounds.
    pub rounds: usize,
    /// Prompts of a round.
    pub prompts_per_round: usize,
    /// Responses to each prompt, N, of which the best is learned.
    #[serde(default = "sixteen")]
    pub samples_per_prompt: usize,
    /// Model that a round's training begins with.
    #[serde(default)]
    pub begin: Begin,
    /// Least reward of a winner, after the rule for a missing EOS; `null` takes the best response
    /// to every prompt.
    #[serde(default)]
    pub least_reward: Option<f64>,
    /// Winners of an optimiser step.
    pub batch_size: usize,
    /// Passes over the winners of a round.
    #[serde(default = "one")]
    pub epochs: usize,
    /// Temperature of sampling.
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
    /// Score of a response without EOS: as `conventions.missing_eos` of `ppo`, with the same
    /// default.
    #[serde(default)]
    pub missing_eos: MissingEos,
    /// Measurement of the policy on other prompts after rounds, and the round that is kept. `null`
    /// measures nothing and keeps the last round.
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

/// Model that a round's training begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Begin {
    /// Policy that the last round made (RAFT).
    #[default]
    Last,
    /// Policy before the first round (ReST-EM); the schedule begins anew in every round.
    Original,
}

fn split() -> String {
    dataset::PROMPTS.into()
}

fn one() -> usize {
    1
}

fn sixteen() -> usize {
    16
}

fn unit() -> f64 {
    1.0
}

impl Stage for ExpertIterationStage {
    const INFO: KindInfo = KindInfo {
        byte_neutral: &["recompute", "sentinels"],
        trains: true,
        held_out: &[("validation.by.reward_model", &["policy", "reward_model", "rewards"])],
        ..KindInfo::on_device("expert_iteration", 1, "policy")
    };

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        self.on_policy().check_as(&mut checks, ("rounds", "prompts_per_round"));
        self.reward().check(&mut checks);
        checks.positive(self.batch_size, "batch_size").positive(self.epochs, "epochs").require(
            self.least_reward.is_none_or(f64::is_finite),
            "least_reward",
            "expected a finite number, or null",
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
        own.memory(shapes, ("expert_iteration", self.batch_size), |b, policy, mut rollouts| {
            let mut training = PolicyTraining::new(b, own.state(b, policy)?, None);
            let rewarded = own.all_rewarded(&rollouts);
            // The gradient of a tied head is there from the end of the first round on.
            for round in 0..2 {
                let scored = (rollouts.as_mut_slice(), rewarded.as_slice());
                let settings = Settings { rounds: 2, from_original: false, ..self.settings(0) };
                let original = || own.state(b, policy);
                training.learn_winners(round, scored, policy, original, &settings, &|| Ok(()))?;
            }
            Ok(training.policy)
        })
    }

    fn readings(&self, shapes: &ArtefactShapes) -> Vec<Reading> {
        self.on_policy().readings(shapes)
    }

    fn run<B: Backend>(&self, b: &B, context: &Context) -> Result<()> {
        self.on_policy().run(b, context, |from| {
            let settings = self.settings(from.tokenizer.pad().unwrap_or(from.tokenizer.eos()));
            Ok(ExpertIteration { stage: self, settings })
        })
    }
}

/// The method at work.
struct ExpertIteration<'a> {
    stage: &'a ExpertIterationStage,
    settings: Settings<'a>,
}

impl<B: Backend> Method<B> for ExpertIteration<'_> {
    fn step<'a>(
        &self,
        training: &mut PolicyTraining<'_, B>,
        Turn { context, step, from }: Turn<'_, B>,
        drawing: &mut Drawing<'a, B>,
    ) -> Result<(Metrics, Drawn<'a>)> {
        let stage = self.stage;
        let mut drawn = Drawn::of(drawing.batch(&training.policy.model, step)?);
        let rewarded = drawn.rewarded(stage.missing_eos);
        let go_on = || if context.stop_requested() { context.interrupted() } else { Ok(()) };
        let b = training.b;
        let original = || {
            let state = stage.on_policy().state(b, &from.model)?;
            state.with_masters_of(b, stage.policy.path())
        };
        let scored = (drawn.rollouts.as_mut_slice(), rewarded.as_slice());
        let (reference, settings) = (&from.model, &self.settings);
        let metrics =
            training.learn_winners(step, scored, reference, original, settings, &go_on)?;
        Ok((metrics, drawn))
    }
}

impl ExpertIterationStage {
    fn reward(&self) -> Reward<'_> {
        Reward { model: self.reward_model.as_ref(), parts: &self.rewards }
    }

    fn on_policy(&self) -> OnPolicy<'_> {
        OnPolicy {
            policy: &self.policy,
            reward: self.reward(),
            teacher: None,
            dataset: &self.dataset,
            split: &self.split,
            seed: self.seed,
            steps: self.rounds,
            batch_size: self.prompts_per_round,
            samples: self.samples_per_prompt,
            temperature: self.temperature,
            max_new_tokens: self.max_new_tokens,
            max_prompt_tokens: self.max_prompt_tokens,
            missing_eos: self.missing_eos,
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
            rounds: self.rounds,
            prompts: self.prompts_per_round,
            batch_size: self.batch_size,
            epochs: self.epochs,
            least_reward: self.least_reward,
            from_original: self.begin == Begin::Original,
            rollouts: self.on_policy().rollouts(pad),
            optimiser: &self.optimiser,
            seed: self.seed,
        }
    }
}
