//! `dpo`: a policy that learns from preference pairs without a reward model, by direct preference
//! optimisation or a related loss.
//!
//! 1. A step takes `batch_size` pairs. The loss is the mean over them.
//! 2. Reference log-probabilities are an artefact of the stage `reference_logprobs`; losses without
//!    a reference take none.
//! 3. The policy learns from the reference's numbers, so what the reference was trained on belongs
//!    to what the policy was trained on.

use serde::{Deserialize, Serialize};

use super::footprint::Training;
use super::models::{ArtefactShape, ArtefactShapes};
use super::reading::{Part, Reading};
use super::{Checks, KindInfo, Problem, Stage, answer_rows, model_files, sentinels, validation};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::batches::batches;
use crate::data::dataset::{self, Dataset};
use crate::data::lineage::Lineage;
use crate::data::rows::{Preference, Rows};
use crate::data::tokenised::{Limits, MODEL};
use crate::error::Result;
use crate::model::memory::Memory;
use crate::model::params::Trainable;
use crate::model::transformer::Recompute;
use crate::reference::{Dataset as DatasetArtefact, Policy, Ref, ReferenceLogprobs};
use crate::rl::direct::{DirectLoss, Objective};
use crate::rl::sentinels::settings::Sentinels;
use crate::train::average::AverageConfig;
use crate::train::direct::{self, Pair, pairs};
use crate::train::minimise::Minimise;
use crate::train::optimiser::{OptimiserConfig, TrainState};
use crate::train::validation::{LOSS, ValidationConfig, Validator};

/// The config of `uses: dpo`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DpoStage {
    /// Policy that is trained.
    pub policy: Ref<Policy>,
    /// Log-probabilities of the pairs under the reference policy. `null` for `simpo`, `cpo` and
    /// `orpo`, which have no reference.
    #[serde(default)]
    pub reference: Option<Ref<ReferenceLogprobs>>,
    /// Dataset with preference pairs.
    pub dataset: Ref<DatasetArtefact>,
    /// Split of `dataset` that is trained on.
    #[serde(default = "split")]
    pub split: String,
    /// Seed of the order of rows.
    #[serde(default)]
    pub seed: u64,
    /// Pairs of a step.
    pub batch_size: usize,
    /// Passes over all pairs.
    #[serde(default = "one")]
    pub epochs: usize,
    /// Fraction of the lowest blocks that is frozen, and with them the embedding; 0 trains
    /// everything.
    #[serde(default)]
    pub frozen: f64,
    /// Longest prompt in tokens; a longer prompt loses its beginning. `null` cuts nothing.
    #[serde(default)]
    pub max_prompt_tokens: Option<usize>,
    /// Loss of a pair.
    #[serde(default)]
    pub loss: Objective,
    /// Strength of the pull to the reference; without a reference the scale of the margin, of
    /// `orpo` the weight of the odds ratio.
    pub beta: f64,
    /// Chance that a label is wrong, of `cdpo` and `robust`; in (0, 0.5).
    #[serde(default)]
    pub label_smoothing: Option<f64>,
    /// Target margin of `simpo` over `beta`; `null` is 0.5.
    #[serde(default)]
    pub gamma_over_beta: Option<f64>,
    /// Weight of entropy, alpha, of `decoupled`, whose `beta` weighs the cross-entropy with the
    /// reference alone.
    #[serde(default)]
    pub entropy_weight: Option<f64>,
    /// Weight of the mean negative log-likelihood of chosen answers that is added to the loss.
    /// `null` is 1 for `cpo` and `orpo`, as in their papers, and 0 for the others.
    #[serde(default)]
    pub sft_weight: Option<f64>,
    /// Measurement of the model on other pairs during training, and the step that is kept. `null`
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

fn split() -> String {
    dataset::PREFERENCES.into()
}

fn one() -> usize {
    1
}

impl DpoStage {
    fn loss(&self) -> DirectLoss {
        DirectLoss {
            objective: self.loss,
            beta: self.beta,
            smoothing: self.label_smoothing.unwrap_or(0.0),
            gamma_over_beta: self.gamma_over_beta.unwrap_or(0.5),
            entropy: self.entropy_weight.unwrap_or(0.0),
            likelihood: self.sft_weight.unwrap_or(self.loss.own_likelihood_weight()),
        }
    }

    /// Notes fields that the loss needs, or that it would not read.
    fn check_loss(&self, checks: &mut Checks) {
        let loss = self.loss;
        let needed = |is: bool| match is {
            true => "`loss` needs it: give a value",
            false => "`loss` does not use it: remove it",
        };
        let is_positive = |number: f64| number.is_finite() && number > 0.0;
        checks
            .require(
                self.reference.is_some() == loss.has_reference(),
                "reference",
                match loss.has_reference() {
                    true => "`loss` needs it: name a stage `reference_logprobs`",
                    false => "`loss` has no reference: remove it",
                },
            )
            .require(
                self.label_smoothing.is_some() == loss.is_smoothed(),
                "label_smoothing",
                needed(loss.is_smoothed()),
            )
            .require(
                self.entropy_weight.is_some() == (loss == Objective::Decoupled),
                "entropy_weight",
                needed(loss == Objective::Decoupled),
            )
            .require(
                self.gamma_over_beta.is_none() || loss == Objective::Simpo,
                "gamma_over_beta",
                needed(false),
            )
            .require(
                self.label_smoothing.is_none_or(|e| e > 0.0 && e < 0.5),
                "label_smoothing",
                "expected above 0 and below 0.5",
            )
            .require(is_positive(self.beta), "beta", "expected above 0")
            .require(
                self.entropy_weight.is_none_or(is_positive),
                "entropy_weight",
                "expected above 0",
            )
            .require(
                self.gamma_over_beta.is_none_or(|gamma| gamma.is_finite() && gamma >= 0.0),
                "gamma_over_beta",
                "expected 0 or more",
            )
            .require(
                self.sft_weight.is_none_or(|weight| weight.is_finite() && weight >= 0.0),
                "sft_weight",
                "expected 0 or more",
            );
    }
}

impl Stage for DpoStage {
    const INFO: KindInfo = KindInfo {
        byte_neutral: &["recompute", "sentinels"],
        trains: true,
        ..KindInfo::on_device("dpo", 1, "policy")
    };

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        checks
            .positive(self.batch_size, "batch_size")
            .positive(self.epochs, "epochs")
            .fraction(self.frozen, "frozen", "the blocks")
            .positive_or_null(self.max_prompt_tokens, "max_prompt_tokens");
        self.check_loss(&mut checks);
        validation::check(&mut checks, &self.validation, std::slice::from_ref(&self.split));
        AverageConfig::check(&self.average, &mut checks);
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
        let (spec, head) = shapes.model(&self.policy)?;
        let trainable = Trainable::frozen_fraction(&spec, self.frozen);
        let (recompute, keeps_best) = (self.recompute, validation::keeps_best(&self.validation));
        let averages = self.average.is_some();
        Training { spec, head, trainable, recompute, keeps_best, averages }.direct(shapes)
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
        let limits = Limits::of_stage(from.model.spec.context, self.max_prompt_tokens);
        let of_rows = |rows: &[Preference], split: &str| -> Result<(Vec<Pair>, Vec<[f64; 2]>)> {
            let pairs = pairs(rows, &from.tokenizer, limits, MODEL, split)?;
            let reference = match &self.reference {
                Some(reference) => answer_rows::read_pairs(reference.path(), split, &pairs)?,
                None => vec![[0.0; 2]; pairs.len()],
            };
            Ok((pairs, reference))
        };
        let rows: Vec<Preference> = dataset.split(&self.split)?;
        let (pairs, reference) = of_rows(&rows, &self.split)?;
        let mut measured = (Vec::new(), Vec::new());
        if let Some(ValidationConfig { split, .. }) = &self.validation {
            measured = of_rows(&dataset.split::<Preference>(split)?, split)?;
            validation::check_rows(measured.0.len(), split)?;
        }

        let loss = self.loss();
        let trainable = Trainable::frozen_fraction(&from.model.spec, self.frozen);
        let state = TrainState::new(b, &from.model, trainable)?
            .with(self.recompute)
            .with_masters_of(b, self.policy.path())?;
        let lengths: Vec<usize> = pairs.iter().map(Pair::tokens).collect();
        let batches: Vec<Vec<usize>> = (0..self.epochs)
            .flat_map(|epoch| batches(&lengths, self.batch_size, self.seed, epoch as u64))
            .collect();
        let measure = |state: &TrainState<B>| {
            Ok(direct::measure(b, &state.model, &measured.0, &measured.1, &loss))
        };
        let validator = self.validation.as_ref().map(|config| Validator {
            every: config.every,
            keep: config.keep,
            by: LOSS,
            measure: &measure,
        });
        let shown = &["loss", "rewards/accuracies", "validation/loss"];
        let minimise = Minimise {
            batches: &batches,
            optimiser: &self.optimiser,
            shown,
            validator,
            average: self.average,
            sentinels: Some((Self::INFO.name, &self.sentinels)),
        };
        let (state, kept) = minimise.run(b, context, state, |state, batch| {
            let own: Vec<&Pair> = batch.iter().map(|pair| &pairs[*pair]).collect();
            let of: Vec<[f64; 2]> = batch.iter().map(|pair| reference[*pair]).collect();
            let metrics = direct::accumulate(b, state, &own, &of, &loss);
            (metrics, own.iter().map(|pair| pair.tokens()).sum())
        })?;
        if let Some((config, kept)) = self.validation.as_ref().zip(kept) {
            validation::save_loss(context, config, kept)?;
        }
        model_files::save(b, context.out(), &state.finished(), &from.origin, self.policy.path())?;
        let own = Lineage::of_rows(&Rows::Preferences(rows));
        let own = validation::with_dataset(own, &dataset, &self.validation)?;
        let mut learned = Lineage::read(self.policy.path())?.with(own);
        if let Some(reference) = &self.reference {
            learned = learned.with(Lineage::read(reference.path())?);
        }
        learned.write(context.out())
    }
}
