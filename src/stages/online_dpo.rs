//! `online_dpo`: direct preference optimisation of a policy's own responses, of which a reward
//! chooses the better one at every step.
//!
//! 1. A step takes `batch_size` prompts with `samples_per_prompt` responses each. Best and worst of
//!    each prompt are a pair; one optimiser step learns from the pairs (`train/online.rs`).
//! 2. The reference is the policy at its start.

use serde::{Deserialize, Serialize};

use super::models::{ArtefactShape, ArtefactShapes};
use super::on_policy::{Drawing, Drawn, Method, OnPolicy, Turn};
use super::pair_choice::{Diverse, DiverseBy, Pairs, novelties};
use super::policy_options::check_kl_stops;
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
use crate::rl::direct::{DirectLoss, Objective};
use crate::rl::sentinels::settings::Sentinels;
use crate::train::kl_stops::KlStops;
use crate::train::online::{Choice, Settings};
use crate::train::optimiser::OptimiserConfig;
use crate::train::policy_training::PolicyTraining;
use crate::train::rollouts::Rollout;

/// The config of `uses: online_dpo`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnlineDpoStage {
    /// Policy to begin with, which is also the reference.
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
    /// Seed of the order of prompts and of sampling.
    #[serde(default)]
    pub seed: u64,
    /// Number of steps.
    pub steps: usize,
    /// Prompts of a step, each of which gives a pair.
    pub batch_size: usize,
    /// Responses to each prompt, of which two are compared.
    #[serde(default = "two")]
    pub samples_per_prompt: usize,
    /// KL of responses from the policy at its start, in nats, at which training ends: the artefact
    /// is the policy that sampled them. `null` takes all steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_at_kl: Option<f64>,
    /// How the pair of a prompt is chosen.
    #[serde(default, skip_serializing_if = "Pairs::is_default")]
    pub pairs: Pairs,
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
    /// Loss of a pair: one of `dpo` that has a reference and no further option.
    #[serde(default)]
    pub loss: Objective,
    /// Strength of the pull to the reference.
    pub beta: f64,
    /// Score of a response without EOS: as `conventions.missing_eos` of `ppo`, with the same
    /// default.
    #[serde(default)]
    pub missing_eos: MissingEos,
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

fn two() -> usize {
    2
}

fn unit() -> f64 {
    1.0
}

impl Stage for OnlineDpoStage {
    const INFO: KindInfo = KindInfo {
        byte_neutral: &["recompute", "sentinels"],
        trains: true,
        held_out: &[("validation.by.reward_model", &["policy", "reward_model", "rewards"])],
        ..KindInfo::on_device("online_dpo", 1, "policy")
    };

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        self.on_policy().check(&mut checks);
        self.reward().check(&mut checks);
        checks
            .require(
                self.samples_per_prompt >= 2,
                "samples_per_prompt",
                "expected at least 2: a pair is of two responses",
            )
            .require(self.pairs.is_in_range(), "pairs.diverse.pool", "expected above 0, at most 1")
            .require(self.beta.is_finite() && self.beta > 0.0, "beta", "expected above 0")
            .require(
                self.loss.has_reference()
                    && !self.loss.is_smoothed()
                    && self.loss != Objective::Decoupled,
                "loss",
                "expected sigmoid, hinge, ipo, ipo_sum, sigmoid_norm, apo_zero or apo_down",
            );
        check_kl_stops(&mut checks, self.kl_stops(), 1);
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
        own.memory(shapes, "online_dpo", |b, policy, mut rollouts| {
            let mut training = PolicyTraining::new(b, own.state(b, policy)?, None);
            let rewarded = own.all_rewarded(&rollouts);
            // The gradient of a tied head is there from the end of the first step on.
            for step in 0..2 {
                let settings = self.settings(0);
                let of_groups = (rewarded.as_slice(), Choice::BestAndWorst);
                training.learn_pairs(step, &mut rollouts, of_groups, policy, &settings)?;
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
            Ok(OnlineDpo { stage: self, settings })
        })
    }
}

/// The method at work.
struct OnlineDpo<'a> {
    stage: &'a OnlineDpoStage,
    settings: Settings<'a>,
}

impl<B: Backend> Method<B> for OnlineDpo<'_> {
    fn step<'a>(
        &self,
        training: &mut PolicyTraining<'_, B>,
        Turn { step, from, .. }: Turn<'_, B>,
        drawing: &mut Drawing<'a, B>,
    ) -> Result<(Metrics, Drawn<'a>)> {
        let mut drawn = Drawn::of(drawing.batch(&training.policy.model, step)?);
        let rewarded = drawn.rewarded(self.stage.missing_eos);
        let diversity = match self.stage.pairs {
            Pairs::BestAndWorst => None,
            Pairs::Diverse(Diverse { pool, by: DiverseBy::Likelihood }) => {
                Some((unlikelihoods(&drawn.rollouts), pool))
            }
            Pairs::Diverse(Diverse { pool, by: DiverseBy::Novelty }) => {
                let samples = self.stage.samples_per_prompt;
                let groups = drawn.texts(samples, &from.tokenizer)?;
                Some((groups.iter().flat_map(|(_, texts)| novelties(texts)).collect(), pool))
            }
        };
        let choice = match &diversity {
            None => Choice::BestAndWorst,
            Some((diversity, pool)) => Choice::Diverse { diversity, pool: *pool },
        };
        let (reference, settings) = (&from.model, &self.settings);
        let of_groups = (rewarded.as_slice(), choice);
        let metrics =
            training.learn_pairs(step, &mut drawn.rollouts, of_groups, reference, settings)?;
        Ok((metrics, drawn))
    }
}

/// -log p of each response under the policy that sampled it.
fn unlikelihoods(rollouts: &[Rollout]) -> Vec<f64> {
    let own = |rollout: &Rollout| -rollout.logprobs.iter().map(|x| f64::from(*x)).sum::<f64>();
    rollouts.iter().map(own).collect()
}

impl OnlineDpoStage {
    fn reward(&self) -> Reward<'_> {
        Reward { model: self.reward_model.as_ref(), parts: &self.rewards }
    }

    fn kl_stops(&self) -> KlStops {
        KlStops { training: self.stop_at_kl, ..KlStops::default() }
    }

    fn on_policy(&self) -> OnPolicy<'_> {
        OnPolicy {
            policy: &self.policy,
            reward: self.reward(),
            teacher: None,
            dataset: &self.dataset,
            split: &self.split,
            seed: self.seed,
            steps: self.steps,
            batch_size: self.batch_size,
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
            kl_stops: self.kl_stops(),
        }
    }

    fn settings(&self, pad: u32) -> Settings<'_> {
        Settings {
            steps: self.steps,
            rollouts: self.on_policy().rollouts(pad),
            loss: DirectLoss {
                objective: self.loss,
                beta: self.beta,
                smoothing: 0.0,
                gamma_over_beta: 0.0,
                entropy: 0.0,
                likelihood: 0.0,
            },
            optimiser: &self.optimiser,
            kl_stops: self.kl_stops(),
        }
    }
}
