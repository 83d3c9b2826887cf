//! `reward_model`: a scalar head on a policy, trained on preference pairs (Bradley-Terry).
//!
//! 1. The head begins at N(0, 1/sqrt(d+1)) and has no bias, which pairs cannot determine.
//! 2. A step takes `batch_size` prompts with all their pairs, or `batch_size` pairs; `num_prompts`
//!    and `num_pairs` say how many a step has. The loss that is logged is the one that is
//!    optimised.
//! 3. The pairs of the first `normalisation_prompts` prompts decide the normalisation of scores, or
//!    reference completions do.

use serde::{Deserialize, Serialize};

use super::footprint::Training;
use super::models::{ArtefactShape, ArtefactShapes};
use super::reading::{Part, Reading};
use super::{Checks, KindInfo, Problem, Stage, lineage, model_files, sentinels, validation};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::batches::batches;
use crate::data::dataset::{self, Dataset};
use crate::data::lineage::Lineage;
use crate::data::rows::{Example, Preference, Rows};
use crate::data::tokenised::{Limits, MODEL, tokenise};
use crate::error::Result;
use crate::model::init::{self, ScalarInit};
use crate::model::memory::Memory;
use crate::model::params::{HeadKind, Trainable};
use crate::model::transformer::Recompute;
use crate::reference::{Dataset as DatasetArtefact, Policy, Ref};
use crate::rl::preference::{Normalisation, PairLoss};
use crate::rl::sentinels::settings::Sentinels;
use crate::train::average::AverageConfig;
use crate::train::minimise::Minimise;
use crate::train::optimiser::{OptimiserConfig, TrainState};
use crate::train::preference::{BatchOf, Margin, PreferenceGroup, groups};
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
    /// Prompts of a step, each with all its pairs; or pairs of a step.
    pub batch_size: usize,
    /// What `batch_size` counts.
    #[serde(default, skip_serializing_if = "BatchOf::is_prompts")]
    pub batch_of: BatchOf,
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
    /// By how much the scores of a pair are to differ (Touvron et al. 2023, eq. 2).
    #[serde(default, skip_serializing_if = "Margin::is_none")]
    pub margin: Margin,
    /// Chance that a label is wrong; the loss is then the mean over both labels.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub label_smoothing: f64,
    /// What the scores of the trained model are normalised by.
    #[serde(default, skip_serializing_if = "Normalise::is_pairs")]
    pub normalise: Normalise,
    /// Number of training prompts whose pairs decide the normalisation of scores, with `normalise:
    /// pairs`.
    #[serde(default = "normalisation_prompts")]
    pub normalisation_prompts: usize,
    /// Measurement of the model on other rows during training, and the step that is kept. `null`
    /// measures nothing and keeps the last step.
    #[serde(default)]
    pub validation: Option<ValidationConfig>,
    /// Exponential moving average of the weights, which is measured and saved instead of the last
    /// weights. `null` saves the last weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average: Option<AverageConfig>,
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

/// What the scores of a reward model are normalised by.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalise {
    /// Mean 0 and standard deviation 1 over both texts of pairs of the first training prompts (Kirk
    /// et al. 2024, released code).
    #[default]
    Pairs,
    /// Mean 0 over reference completions; the scale stays (Huang et al. 2024, detail 15).
    References(References),
    /// Scores stay as they are.
    None,
}

/// Rows whose completions are to have a mean score of 0.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct References {
    /// Dataset with prompts and completions.
    pub dataset: Ref<DatasetArtefact>,
    /// Split of `dataset`.
    #[serde(default = "references")]
    pub split: String,
    /// Largest number of rows, which are the first; `null` takes all.
    #[serde(default)]
    pub rows: Option<usize>,
}

impl Normalise {
    fn is_pairs(&self) -> bool {
        matches!(self, Normalise::Pairs)
    }

    fn references(&self) -> Option<&References> {
        match self {
            Normalise::References(references) => Some(references),
            Normalise::Pairs | Normalise::None => None,
        }
    }
}

fn references() -> String {
    dataset::SFT.into()
}

fn is_zero(number: &f64) -> bool {
    *number == 0.0
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
        byte_neutral: &["recompute", "sentinels"],
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
            .require(
                !matches!(self.margin, Margin::Constant(m) if !(m.is_finite() && m > 0.0)),
                "margin.constant",
                "expected a number above 0",
            )
            .require(
                (0.0..0.5).contains(&self.label_smoothing),
                "label_smoothing",
                "expected at least 0 and below 0.5",
            )
            .positive(self.normalisation_prompts, "normalisation_prompts")
            .positive_or_null(
                self.normalise.references().and_then(|references| references.rows),
                "normalise.references.rows",
            )
            .positive_or_null(self.max_prompt_tokens, "max_prompt_tokens");
        validation::check(&mut checks, &self.validation, std::slice::from_ref(&self.split));
        AverageConfig::check(&self.average, &mut checks);
        sentinels::check(&mut checks, Self::INFO.name, &self.sentinels);
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
        let averages = self.average.is_some();
        Training { spec, head, trainable, recompute, keeps_best, averages }.preferences(shapes)
    }

    fn readings(&self, shapes: &ArtefactShapes) -> Vec<Reading> {
        let splits = || validation::splits(&[&self.split], &self.validation);
        let Some(reader) = shapes.reader(&self.policy) else { return Vec::new() };
        let cut = self.max_prompt_tokens;
        let of =
            |dataset, splits, part| Reading::of_model(reader.clone(), dataset, splits, cut, part);
        let references = self.normalise.references().map(|it| Reading {
            rows: it.rows,
            ..of(&it.dataset, vec![it.split.clone()], Part::Text)
        });
        let pairs = of(&self.dataset, splits(), Part::Pair);
        [pairs].into_iter().chain(references).collect()
    }

    fn run<B: Backend>(&self, b: &B, context: &Context) -> Result<()> {
        let from = model_files::load(b, self.policy.path())?;
        let dataset = Dataset::open(self.dataset.path())?;
        let rows: Vec<Preference> = dataset.split(&self.split)?;
        let limits = Limits::of_stage(from.model.spec.context, self.max_prompt_tokens);
        let groups_of = |rows: &[Preference], split: &str, of: BatchOf| {
            groups(rows, &from.tokenizer, limits, (MODEL, split), (of, self.margin))
        };
        let groups = groups_of(&rows, &self.split, self.batch_of)?;
        let references = match self.normalise.references() {
            Some(it) => {
                let mut rows: Vec<Example> = Dataset::open(it.dataset.path())?.split(&it.split)?;
                rows.truncate(it.rows.unwrap_or(usize::MAX));
                let texts = tokenise(&rows, &from.tokenizer, limits, &it.split)?;
                Some((rows, texts))
            }
            None => None,
        };
        let mut measured = Vec::new();
        if let Some(ValidationConfig { split, .. }) = &self.validation {
            measured = groups_of(&dataset.split::<Preference>(split)?, split, self.batch_of)?;
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
        let loss =
            PairLoss { centre: self.center_rewards_coefficient, smoothing: self.label_smoothing };
        let measure = |state: &TrainState<B>| Ok(reward::measure(b, &state.model, &measured, loss));
        let validator = self.validation.as_ref().map(|config| Validator {
            every: config.every,
            keep: config.keep,
            by: LOSS,
            measure: &measure,
        });
        let shown = &["loss", "accuracy", "validation/loss"];
        let minimise = Minimise {
            batches: &batches,
            optimiser: &self.optimiser,
            shown,
            validator,
            average: self.average,
            sentinels: Some((Self::INFO.name, &self.sentinels)),
        };
        let (state, kept) = minimise.run(b, context, state, |state, batch| {
            let batch: Vec<&PreferenceGroup> = batch.iter().map(|group| &groups[*group]).collect();
            let mut metrics = reward::accumulate(b, state, &batch, loss);
            if self.batch_of == BatchOf::Prompts {
                metrics.push(("num_prompts", batch.len() as f64));
            }
            (metrics, batch.iter().map(|group| group.tokens()).sum())
        })?;
        if let Some((config, kept)) = self.validation.as_ref().zip(kept) {
            validation::save_loss(context, config, kept)?;
        }

        let normalisation = match (&self.normalise, &references) {
            (_, Some((_, texts))) => {
                let texts: Vec<&[u32]> = texts.iter().map(|text| text.tokens.as_slice()).collect();
                reward::shift(b, &state.model, &texts)?
            }
            (Normalise::None, None) => Normalisation::IDENTITY,
            (_, None) => {
                let prompts = match self.batch_of {
                    BatchOf::Prompts => groups,
                    BatchOf::Pairs => groups_of(&rows, &self.split, BatchOf::Prompts)?,
                };
                let first = self.normalisation_prompts.min(prompts.len());
                reward::normalisation(b, &state.model, &prompts[..first])?
            }
        };
        model_files::save(b, context.out(), &state.finished(), &from.origin, self.policy.path())?;
        model_files::save_normalisation(context.out(), &normalisation)?;
        let own = Lineage::of_rows(&Rows::Preferences(rows));
        let own = validation::with_dataset(own, &dataset, &self.validation)?;
        let own = match references {
            Some((rows, _)) => own.with(Lineage::of_rows(&Rows::Examples(rows))),
            None => own,
        };
        let learned = Lineage::read(self.policy.path())?.with(own);
        learned.of_reward_model(lineage::identity(context.out())?).write(context.out())
    }
}
