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
//! 4. `diversity` acts on the scores of a group, after the missing-EOS rule and before the KL;
//!    `dynamic_sampling` looks at scores as they were before it.
//! 5. A response to which no reward applies has the advantage 0 and takes part in no baseline.
//! 6. With `advantages.parts: normalise_each` advantages compare sums of normalised parts of the
//!    reward; `dynamic_sampling` looks at these sums. Scores in figures and files are plain sums.

use serde::{Deserialize, Serialize};

use super::group_diversity::{GroupDiversity, Kinship};
use super::models::{ArtefactShape, ArtefactShapes};
use super::on_policy::{Drawing, Drawn, Group, Method, OnPolicy, Turn};
use super::policy_options::check_kl_stops;
use super::policy_validation::PolicyValidation;
use super::reading::Reading;
use super::replay::{self, ReplayConfig, Replays};
use super::rewards::{Reward, Rewards};
use super::{Checks, Constraint, KindInfo, Problem, Stage, sentinels};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::dataset;
use crate::error::Result;
use crate::model::memory::Memory;
use crate::model::transformer::Recompute;
use crate::model::weights::Model;
use crate::reference::{Dataset as DatasetArtefact, Policy, Ref, RewardModel};
use crate::rl::Metrics;
use crate::rl::advantage::{Conventions, MissingEos};
use crate::rl::critic_free::{Algorithm, KlEstimator, KlIn, Rules};
use crate::rl::entropy::EntropyBonus;
use crate::rl::group::{Baseline, Parts, Scale};
use crate::rl::kl::{Anneal, Estimator, Kl};
use crate::rl::policy_loss::{Average, Bounds, Form, PolicyLoss, Ratio};
use crate::rl::sentinels::settings::Sentinels;
use crate::train::group::{Member, Settings};
use crate::train::kl_stops::KlStops;
use crate::train::optimiser::OptimiserConfig;
use crate::train::policy_training::PolicyTraining;
use crate::train::rollouts::RolloutSettings;

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
    /// Change of the rewards or advantages of a group for the sake of diversity. `null` changes
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diversity: Option<GroupDiversity>,
    /// The entropy bonus. `null` adds none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entropy: Option<EntropyBonus>,
    /// Replacement of prompts whose responses all have one reward. `null` replaces none.
    #[serde(default)]
    pub dynamic_sampling: Option<DynamicSampling>,
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
    /// Optimiser and learning rate.
    pub optimiser: OptimiserConfig,
}

/// The KL penalty of a critic-free algorithm.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupKl {
    /// Coefficient of the KL penalty; 0 charges nothing. With `anneal`, that of the first step.
    pub coef: f64,
    /// Change of the coefficient over the steps. `null` keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anneal: Option<Anneal>,
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
    /// How the parts of `rewards` become one number. With `normalise_each` there is no other
    /// `baseline` and `scale`.
    #[serde(skip_serializing_if = "Parts::is_sum")]
    pub parts: Parts,
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
        byte_neutral: &["recompute", "sentinels"],
        trains: true,
        held_out: &[("validation.by.reward_model", &["policy", "reward_model", "rewards"])],
        ..KindInfo::on_device("grpo", 1, "policy")
    };

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        let responses = self.batch_size * self.samples_per_prompt;
        checks
            .positive(self.epochs, "epochs")
            .require(
                (1..=responses.max(1)).contains(&self.minibatches),
                "minibatches",
                "expected at least 1, at most `batch_size` times `samples_per_prompt`",
            )
            .require(
                self.dynamic_sampling.is_none_or(|sampling| sampling.tries >= 2),
                "dynamic_sampling.tries",
                "expected at least 2, or `dynamic_sampling: null`",
            );
        self.on_policy().check(&mut checks);
        self.reward().check(&mut checks);
        self.check_rules(&mut checks);
        check_kl_stops(&mut checks, self.kl_stops(), self.epochs);
        self.check_parts(&mut checks);
        self.check_diversity(&mut checks);
        let idle = [
            ("validation", self.validation.is_some()),
            ("dynamic_sampling", self.dynamic_sampling.is_some()),
        ];
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
        let own = self.on_policy();
        own.memory(shapes, ("grpo", self.minibatches), |b, policy, mut rollouts| {
            let mut training = PolicyTraining::new(b, own.state(b, policy)?, self.entropy);
            let member = |at: usize| Member {
                group: at / self.samples_per_prompt,
                has_reward: true,
                compared: None,
            };
            let members: Vec<Member> = (0..rollouts.len()).map(member).collect();
            // The gradient of a tied head is there from the end of the first epoch on. How
            // responses are alike takes no memory.
            let settings = Settings { epochs: 2, diversity: None, ..self.settings(0) };
            training.learn_groups(0, &mut rollouts, (&members, &[]), policy, &settings)?;
            Ok(training.policy)
        })
    }

    fn readings(&self, shapes: &ArtefactShapes) -> Vec<Reading> {
        self.on_policy().readings(shapes)
    }

    fn run<B: Backend>(&self, b: &B, context: &Context) -> Result<()> {
        self.on_policy().run(b, context, |from| {
            let settings = self.settings(from.tokenizer.pad().unwrap_or(from.tokenizer.eos()));
            let kinship = Kinship::load(context, b, self.diversity.as_ref())?;
            Ok(Grpo { stage: self, settings, kinship })
        })
    }
}

/// The method at work.
struct Grpo<'a, B: Backend> {
    stage: &'a GrpoStage,
    settings: Settings<'a>,
    kinship: Kinship<B>,
}

impl<B: Backend> Method<B> for Grpo<'_, B> {
    fn step<'a>(
        &self,
        training: &mut PolicyTraining<'_, B>,
        Turn { step, from, .. }: Turn<'_, B>,
        drawing: &mut Drawing<'a, B>,
    ) -> Result<(Metrics, Drawn<'a>)> {
        let stage = self.stage;
        let (mut drawn, batches) = match drawing.replayed() {
            Some(drawn) => (drawn, 0),
            None => stage.drawn(&training.policy.model, step, drawing)?,
        };
        let compared = match stage.normalised() {
            None => vec![None; drawn.groups.len()],
            Some(parts) => drawn.scored.normalised(&drawn.groups, parts),
        };
        let member = |((group, total), compared): ((&usize, &Option<f64>), Option<f64>)| Member {
            group: *group,
            has_reward: total.is_some(),
            compared,
        };
        let scored = drawn.groups.iter().zip(&drawn.scored.total).zip(compared);
        let members: Vec<Member> = scored.map(member).collect();
        let (reference, settings) = (&from.model, &self.settings);
        let kin = self.kinship.of(
            &drawn.prompts,
            &drawn.rollouts,
            stage.samples_per_prompt,
            &from.tokenizer,
        )?;
        let of_groups = (members.as_slice(), kin.as_slice());
        let mut metrics =
            training.learn_groups(step, &mut drawn.rollouts, of_groups, reference, settings)?;
        if stage.dynamic_sampling.is_some() {
            metrics.push(("dynamic_sampling/batches", batches as f64));
        }
        Ok((metrics, drawn))
    }

    fn entropy(&self) -> Option<EntropyBonus> {
        self.stage.entropy
    }
}

impl GrpoStage {
    /// The responses of step number `step`, and the number of batches of prompts that were drawn.
    fn drawn<'a, B: Backend>(
        &self,
        policy: &Model<B>,
        step: usize,
        drawing: &mut Drawing<'a, B>,
    ) -> Result<(Drawn<'a>, usize)> {
        let tries = self.dynamic_sampling.map_or(1, |sampling| sampling.tries);
        let (mut kept, mut spare): (Vec<Group<'a>>, Vec<Group<'a>>) = (Vec::new(), Vec::new());
        let mut batches = 0;
        while batches < tries && kept.len() < self.batch_size {
            for group in drawing.batch(policy, step * tries + batches)? {
                let teaches = tries == 1 || group.has_signal(self.missing_eos, self.normalised());
                let into = if teaches { &mut kept } else { &mut spare };
                into.push(group);
            }
            batches += 1;
        }
        Ok((Drawn::of(kept.into_iter().chain(spare).take(self.batch_size)), batches))
    }

    fn reward(&self) -> Reward<'_> {
        Reward { model: self.reward_model.as_ref(), parts: &self.rewards }
    }

    fn kl_stops(&self) -> KlStops {
        KlStops { epochs: self.epoch_stop_kl, training: self.stop_at_kl }
    }

    fn replays(&self) -> Replays<'_> {
        Replays { record: &self.record, replay: self.replay.as_ref() }
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
            diversity: self.diversity.as_ref(),
            sentinels: (Self::INFO.name, &self.sentinels),
            replays: self.replays(),
            kl_stops: self.kl_stops(),
        }
    }

    /// The parts of the reward, where each is normalised.
    pub(super) fn normalised(&self) -> Option<&Rewards> {
        match self.advantages.parts {
            Parts::Sum => None,
            Parts::NormaliseEach => Some(&self.rewards),
        }
    }

    /// Those of the algorithm, with what is said otherwise.
    pub(super) fn rules(&self) -> Rules {
        let own = self.algorithm.rules();
        let (clip, loss) = (self.loss.clip, self.loss);
        let kl_in = self.kl.r#in.unwrap_or(own.kl_in);
        let estimator = match kl_in {
            _ if kl_in == own.kl_in => own.estimator,
            KlIn::Loss => KlEstimator::K3,
            KlIn::Reward | KlIn::Returns => KlEstimator::K1,
        };
        let (baseline, scale) = match self.advantages.parts {
            Parts::Sum => (
                self.advantages.baseline.unwrap_or(own.baseline),
                self.advantages.scale.unwrap_or(own.scale),
            ),
            Parts::NormaliseEach => (Baseline::None, Scale::Whiten),
        };
        Rules {
            baseline,
            scale,
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

    fn settings(&self, pad: u32) -> Settings<'_> {
        let rules = self.rules();
        let in_loss = rules.estimator.in_loss().filter(|_| rules.kl_in == KlIn::Loss);
        let charges = self.kl.coef > 0.0 || self.kl.anneal.is_some_and(|anneal| anneal.to > 0.0);
        let estimator = rules.estimator.in_reward().filter(|_| rules.kl_in != KlIn::Loss);
        let own = self.on_policy().rollouts(pad);
        let kl = Kl { estimator: estimator.unwrap_or(Estimator::K1), ..Kl::default() };
        Settings {
            steps: self.steps,
            minibatches: self.minibatches,
            epochs: self.epochs,
            rollouts: RolloutSettings { conventions: Conventions { kl, ..own.conventions }, ..own },
            baseline: rules.baseline,
            scale: rules.scale,
            kl_in: rules.kl_in,
            kl_coef: self.kl.coef,
            anneal: self.kl.anneal,
            diversity: self.diversity.as_ref().map(|own| own.rules(self.kl.coef)),
            loss: PolicyLoss {
                ratio: rules.ratio,
                form: rules.form,
                bounds: rules.bounds,
                average: rules.average,
                kl: in_loss.filter(|_| charges).map(|estimator| (estimator, self.kl.coef)),
            },
            optimiser: &self.optimiser,
            seed: self.seed,
            kl_stops: self.kl_stops(),
        }
    }
}
