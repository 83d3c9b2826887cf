//! `reward_model`: a scalar head on a policy, trained on preference pairs (Bradley-Terry).
//!
//! 1. The head begins at N(0, 1/sqrt(d+1)) and has no bias, which pairs cannot determine.
//! 2. A step takes `batch_size` prompts with all their pairs; `num_prompts` and `num_pairs` say how
//!    many a step has. The loss that is logged is the one that is optimised.
//! 3. The first `normalisation_prompts` prompts decide the normalisation of scores.

use serde::{Deserialize, Serialize};

use super::footprint::Training;
use super::models::{ArtefactShape, ArtefactShapes};
use super::reading::{Part, Reading};
use super::{Checks, KindInfo, Problem, Stage, lineage, model_files, validation};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::batches::batches;
use crate::data::dataset::{self, Dataset};
use crate::data::lineage::Lineage;
use crate::data::rows::{Preference, Rows};
use crate::data::tokenised::{Limits, MODEL};
use crate::error::Result;
use crate::model::init::{self, ScalarInit};
use crate::model::memory::Memory;
use crate::model::params::{HeadKind, Trainable};
use crate::model::transformer::Recompute;
use crate::reference::{Dataset as DatasetArtefact, Policy, Ref};
use crate::train::minimise::Minimise;
use crate::train::optimiser::{OptimiserConfig, TrainState};
use crate::train::preference::{PreferenceGroup, groups};
use crate::train::reward;
use crate::train::validation::{LOSS, ValidationConfig, Validator};

/// The config of `uses: reward_model`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardModelStage {
    /// Policy that the head is put on.
    pub policy: Ref<Policy>,
    /// Dataset with preference pairs.
    pub dataset: Ref<DatasetArtefact>,
    /// Split of `dataset` that is trained on.
    #[serde(default = "split")]
    pub split: String,
    /// Seed of the initial head and of the order of rows.
    #[serde(default)]
    pub seed: u64,
    /// Prompts of a step, each with all its pairs.
    pub batch_size: usize,
    /// Passes over all prompts.
    #[serde(default = "one")]
    pub epochs: usize,
    /// Fraction of the lowest blocks that is frozen, and with them the embedding; 0 trains
    /// everything.
    #[serde(default)]
    pub frozen: f64,
    /// Longest prompt in tokens; a longer prompt loses its beginning. `null` cuts nothing.
    #[serde(default)]
    pub max_prompt_tokens: Option<usize>,
    /// Weight of (chosen + rejected)^2 in the loss of a pair, of raw scores, which keeps their mean
    /// near 0 (Eisenstein et al. 2023, eq. 2).
    #[serde(default)]
    pub center_rewards_coefficient: f64,
    /// Number of training prompts whose pairs decide the normalisation of scores.
    #[serde(default = "normalisation_prompts")]
    pub normalisation_prompts: usize,
    /// Measurement of the model on other rows during training, and the step that is kept. `null`
    /// measures nothing and keeps the last step.
    #[serde(default)]
    pub validation: Option<ValidationConfig>,
    /// Activations that the backward pass computes again instead of keeping them.
    #[serde(default)]
    pub recompute: Recompute,
    /// Optimiser and learning rate.
    pub optimiser: OptimiserConfig,
}

fn split() -> String {
    dataset::PREFERENCES.into()
}

fn one() -> usize {
    1
}

fn normalisation_prompts() -> usize {
    500
}

impl Stage for RewardModelStage {
    const INFO: KindInfo = KindInfo {
        byte_neutral: &["recompute"],
        trains: true,
        ..KindInfo::on_device("reward_model", 3, "reward_model")
    };

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        checks
            .positive(self.batch_size, "batch_size")
            .positive(self.epochs, "epochs")
            .fraction(self.frozen, "frozen", "the blocks")
            .require(
                self.center_rewards_coefficient >= 0.0,
                "center_rewards_coefficient",
                "expected 0 or more",
            )
            .positive(self.normalisation_prompts, "normalisation_prompts")
            .positive_or_null(self.max_prompt_tokens, "max_prompt_tokens");
        validation::check(&mut checks, &self.validation, std::slice::from_ref(&self.split));
        let mut problems = checks.done();
        problems.extend(self.optimiser.problems());
        problems
    }

    fn makes(&self, shapes: &ArtefactShapes) -> Option<ArtefactShape> {
        shapes.trained(&self.policy, HeadKind::Reward, self.frozen)
    }

    fn memory(&self, shapes: &ArtefactShapes) -> Option<Memory> {
        let (spec, head) = shapes.model(&self.policy)?;
        let trainable = Trainable::frozen_fraction(&spec, self.frozen);
        let (recompute, keeps_best) = (self.recompute, validation::keeps_best(&self.validation));
        Training { spec, head, trainable, recompute, keeps_best }.preferences(shapes)
    }

    fn readings(&self, shapes: &ArtefactShapes) -> Vec<Reading> {
        let splits = || validation::splits(&[&self.split], &self.validation);
        let reading = |reader| {
            Reading::of_model(reader, &self.dataset, splits(), self.max_prompt_tokens, Part::Pair)
        };
        shapes.reader(&self.policy).map(reading).into_iter().collect()
    }

    fn run<B: Backend>(&self, b: &B, context: &Context) -> Result<()> {
        let from = model_files::load(b, self.policy.path())?;
        let dataset = Dataset::open(self.dataset.path())?;
        let rows: Vec<Preference> = dataset.split(&self.split)?;
        let limits = Limits::of_stage(from.model.spec.context, self.max_prompt_tokens);
        let groups_of =
            |rows: &[Preference], split: &str| groups(rows, &from.tokenizer, limits, MODEL, split);
        let groups = groups_of(&rows, &self.split)?;
        let mut measured = Vec::new();
        if let Some(ValidationConfig { split, .. }) = &self.validation {
            measured = groups_of(&dataset.split::<Preference>(split)?, split)?;
            validation::check_rows(measured.len(), split)?;
        }

        let head =
            init::scalar_head(&from.model.spec, HeadKind::Reward, ScalarInit::Normal, self.seed)
                .expect("a reward model has a scalar head");
        let trainable = Trainable::frozen_fraction(&from.model.spec, self.frozen);
        let state = TrainState::new(b, &from.model.with_scalar(b, head), trainable)?
            .with(self.recompute)
            .with_masters_of(b, self.policy.path())?;
        let lengths: Vec<usize> = groups.iter().map(PreferenceGroup::tokens).collect();
        let batches: Vec<Vec<usize>> = (0..self.epochs)
            .flat_map(|epoch| batches(&lengths, self.batch_size, self.seed, epoch as u64))
            .collect();
        let centre = self.center_rewards_coefficient;
        let measure =
            |state: &TrainState<B>| Ok(reward::measure(b, &state.model, &measured, centre));
        let validator = self.validation.as_ref().map(|config| Validator {
            every: config.every,
            keep: config.keep,
            by: LOSS,
            measure: &measure,
        });
        let shown = &["loss", "accuracy", "validation/loss"];
        let minimise = Minimise { batches: &batches, optimiser: &self.optimiser, shown, validator };
        let (state, kept) = minimise.run(b, context, state, |state, batch| {
            let batch: Vec<&PreferenceGroup> = batch.iter().map(|group| &groups[*group]).collect();
            let metrics = reward::accumulate(b, state, &batch, centre);
            (metrics, batch.iter().map(|group| group.tokens()).sum())
        })?;
        if let Some((config, kept)) = self.validation.as_ref().zip(kept) {
            validation::save_loss(context, config, kept)?;
        }

        let normalising = &groups[..self.normalisation_prompts.min(groups.len())];
        let normalisation = reward::normalisation(b, &state.model, normalising)?;
        model_files::save(b, context.out(), &state.finished(), &from.origin, self.policy.path())?;
        model_files::save_normalisation(context.out(), &normalisation)?;
        let own = Lineage::of_rows(&Rows::Preferences(rows));
        let own = validation::with_choice(own, &dataset, &self.validation)?;
        let learned = Lineage::read(self.policy.path())?.with(own);
        learned.of_reward_model(lineage::identity(context.out())?).write(context.out())
    }
}
