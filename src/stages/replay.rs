//! Replay of a recorded step with other update settings: what the config says, what must hold of
//! it, and how a stage begins with a record (`recorded.rs`). Knows no loss.
//!
//! 1. A replay samples nothing and scores nothing: it takes one step on the recorded responses,
//!    from the recorded state. Prompts, models, sampling and the sources of rewards are those of
//!    the run that recorded it, and compared with them.
//! 2. The policy scores the recorded tokens before its first update. On the back end and in the
//!    type of the recorded run the numbers have the bits of sampling; where they have not, the
//!    ratio does not begin at 1, and the step has figures that say so.
//! 3. A coefficient that the steps of the run have changed goes on from the recorded one if the
//!    replay has the same first value and changes it too; else it begins as the replay says.

use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::generation::Prompt;
use super::lineage;
use super::recorded::{Bounds, Coefficient, Recorded, Responses, Settings};
use super::rewards::Reward;
use super::{Checks, Constraint, Rule};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::error::Result;
use crate::fs;
use crate::model::score::response_logprobs;
use crate::model::weights::Model;
use crate::reference::{Dataset, Place, Policy, Ref, RewardModel};
use crate::rl::Metrics;
use crate::rl::entropy::EntropyBonus;
use crate::rl::sentinels::table::{FIRST_RATIO_ERROR, LOGPROB_GAP};
use crate::train::archive::Archive;
use crate::train::ppo::Continues;
use crate::train::rollouts::Rollout;

/// The `replay:` part of a stage.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayConfig {
    /// Artefact of a stage of the same kind, which has the step under `record`.
    pub of: Ref<Policy>,
    /// Number of the step, from 1.
    pub step: usize,
}

/// What `record` and `replay` of a stage say.
#[derive(Clone, Copy, Default)]
pub(super) struct Replays<'a> {
    /// Numbers of steps that are recorded, from 1.
    pub(super) record: &'a [usize],
    pub(super) replay: Option<&'a ReplayConfig>,
}

impl Replays<'_> {
    /// The steps of a stage, from 0: all of `total`, or the one that is taken again.
    pub(super) fn span(&self, total: usize) -> Range<usize> {
        self.replay.map_or(0..total, |replay| replay.step - 1..replay.step)
    }
}

/// The share of tokens whose log-probability is not that of sampling.
const CHANGED: &str = "replay/changed_logprobs";
/// The largest difference of one, in nats.
const DIFFERENCE: &str = "replay/max_logprob_difference";

/// Notes what is out of range of `record` and `replay` in a stage of `steps` steps. `idle` are
/// fields that a replay has no use for, with whether they are given.
pub(super) fn check(
    checks: &mut Checks,
    Replays { record, replay }: Replays<'_>,
    steps: usize,
    idle: &[(&str, bool)],
) {
    let last = record.last().is_none_or(|last| *last <= steps);
    let is_ascending = record.first() != Some(&0) && record.is_sorted_by(|a, b| a < b);
    checks.require(
        is_ascending && last,
        "record",
        "expected numbers of steps from 1 to `steps`, ascending, each once",
    );
    let Some(replay) = replay else { return };
    checks
        .require(
            (1..=steps).contains(&replay.step),
            "replay.step",
            "expected at least 1, at most `steps`",
        )
        .require(
            record.is_empty(),
            "record",
            "a replay takes a step that is recorded: expected no steps",
        );
    for (field, is_given) in idle {
        checks.require(!is_given, field, "a replay samples nothing: expected null");
    }
}

/// What must hold of the stage that recorded the step: that it records, and that its policy,
/// dataset and reward model are those of the replay.
pub(super) fn constraints(
    replay: Option<&ReplayConfig>,
    policy: &Ref<Policy>,
    dataset: &Ref<Dataset>,
    reward_model: Option<&Ref<RewardModel>>,
) -> Vec<Constraint> {
    let Some(Place::Stage(node)) = replay.map(|replay| replay.of.place()) else {
        return Vec::new();
    };
    let constraint = |inner: &str, rule| Constraint {
        field: "replay.of".into(),
        node: node.to_owned(),
        inner: inner.to_owned(),
        rule,
    };
    let places = [
        ("policy", Some(policy.place())),
        ("dataset", Some(dataset.place())),
        ("reward_model", reward_model.map(Ref::place)),
    ];
    let same = places.iter().filter_map(|(inner, place)| match place {
        Some(Place::Stage(own)) => Some(constraint(inner, Rule::Is((*own).to_owned()))),
        _ => None,
    });
    [constraint("record", Rule::IsSet)].into_iter().chain(same).collect()
}

/// What a stage has in common with its replays.
pub(super) struct Common<'a> {
    pub(super) kind: &'a str,
    pub(super) policy: &'a Path,
    pub(super) reward: Reward<'a>,
    pub(super) split: &'a str,
    pub(super) batch_size: usize,
    pub(super) samples: usize,
    pub(super) temperature: f64,
    pub(super) max_new_tokens: usize,
    pub(super) max_prompt_tokens: Option<usize>,
    pub(super) frozen: f64,
    /// Fields of the kind alone.
    pub(super) more: Vec<(&'a str, Value)>,
    /// Of the KL penalty, where it is part of the training state.
    pub(super) kl: Option<Coefficient>,
    pub(super) entropy: Option<EntropyBonus>,
}

impl Common<'_> {
    /// As a record has it.
    ///
    /// # Errors
    /// Those of reading the models' files.
    pub(super) fn settings(&self) -> Result<Settings> {
        let tokenizer = fs::read(&self.policy.join("tokenizer.json"))?;
        let policy = json!({
            "weights": lineage::identity(self.policy)?,
            "tokenizer": blake3::hash(&tokenizer).to_hex().as_str(),
        });
        let (reward_model, rewards) = self.reward.sources()?;
        let own = [
            ("policy", policy),
            ("reward_model", reward_model),
            ("rewards", rewards),
            ("split", json!(self.split)),
            ("batch_size", json!(self.batch_size)),
            ("samples_per_prompt", json!(self.samples)),
            ("temperature", json!(self.temperature)),
            ("max_new_tokens", json!(self.max_new_tokens)),
            ("max_prompt_tokens", json!(self.max_prompt_tokens)),
            ("frozen", json!(self.frozen)),
        ];
        let entropy = self
            .entropy
            .map(|bonus| Coefficient { first: bonus.coef, controlled: bonus.target.is_some() });
        Ok(Settings {
            kind: self.kind.to_owned(),
            fields: own
                .into_iter()
                .chain(self.more.iter().cloned())
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            kl: self.kl,
            entropy,
        })
    }

    /// Reads the record that `replay` names, and its responses to `prompts`, of a policy with
    /// `vocabulary` tokens.
    ///
    /// # Errors
    /// As of [`Recorded::read`] and [`Recorded::responses`].
    pub(super) fn replayed<'p>(
        &self,
        replay: &ReplayConfig,
        prompts: &'p [Prompt],
        vocabulary: usize,
    ) -> Result<Replayed<'p>> {
        let own = self.settings()?;
        let recorded = Recorded::read(replay.of.path(), replay.step, &own)?;
        let bounds = Bounds {
            batch_size: self.batch_size,
            samples: self.samples,
            max_new_tokens: self.max_new_tokens,
            vocabulary,
        };
        let responses = recorded.responses(prompts, self.reward.parts, bounds)?;
        let continues = Continues {
            kl: recorded.settings.kl == own.kl,
            entropy: recorded.settings.entropy == own.entropy,
        };
        Ok(Replayed { recorded, continues, responses })
    }
}

/// A recorded step that a stage takes again.
pub(super) struct Replayed<'p> {
    recorded: Recorded,
    continues: Continues,
    /// What it learns from.
    pub(super) responses: Responses<'p>,
}

impl Replayed<'_> {
    /// Gives a training state what was recorded of it, by `begin`.
    ///
    /// # Errors
    /// The user's, if the record lacks a part.
    pub(super) fn begin(
        &self,
        begin: impl FnOnce(&Archive, Continues) -> Result<()>,
    ) -> Result<()> {
        let Replayed { recorded, continues, .. } = self;
        begin(&recorded.state, *continues).map_err(|error| recorded.damaged(error))
    }
}

/// Adds to the metrics of a step the figures of [`compared`]. Where it has some, figures of the gap
/// between sampling and scoring give way to them: the program that samples is not at fault.
pub(super) fn explain(metrics: &mut Metrics, compared: Metrics) {
    if !compared.is_empty() {
        metrics.retain(|(name, _)| ![LOGPROB_GAP, FIRST_RATIO_ERROR].contains(name));
        metrics.extend(compared);
    }
}

/// How the log-probabilities of the tokens of `rollouts` under `policy` differ from those of
/// sampling: figures and a warning where one does.
pub(super) fn compared<B: Backend>(
    b: &B,
    context: &Context,
    policy: &Model<B>,
    rollouts: &[Rollout],
    temperature: f32,
) -> Metrics {
    let sequences: Vec<&[u32]> = rollouts.iter().map(|own| own.tokens.as_slice()).collect();
    let from: Vec<usize> = rollouts.iter().map(|own| own.prompt).collect();
    let scored = response_logprobs(b, policy, &sequences, &from, temperature);
    let sampled = rollouts.iter().flat_map(|own| &own.logprobs);
    let (mut tokens, mut changed, mut most) = (0, 0, 0.0_f64);
    for (scored, sampled) in scored.iter().flatten().zip(sampled) {
        tokens += 1;
        if scored.to_bits() != sampled.to_bits() {
            changed += 1;
            most = most.max((f64::from(*scored) - f64::from(*sampled)).abs());
        }
    }
    if changed == 0 {
        return Metrics::new();
    }
    context.warn(format!(
        "{changed} of {tokens} tokens have another log-probability than at sampling, by up to \
         {most:.3e} nats: the step was recorded on another back end or in another type of number, \
         and the ratio does not begin at 1"
    ));
    vec![(CHANGED, changed as f64 / tokens as f64), (DIFFERENCE, most)]
}
