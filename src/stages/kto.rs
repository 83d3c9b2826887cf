//! `kto`: a policy that learns from single answers, each desirable or undesirable, by
//! Kahneman-Tversky optimisation.
//!
//! 1. A step takes `batch_size` rows, whatever their labels. The loss is the mean over them.
//! 2. A split of preference pairs gives its chosen answers as desirable rows and its rejected ones
//!    as undesirable rows; a split of prompts with completions gives its completions.
//! 3. Reference log-probabilities, also those of the mismatched rows, are an artefact of the stage
//!    `reference_logprobs`.
//! 4. The policy learns from the reference's numbers, so what the reference was trained on belongs
//!    to what the policy was trained on.

use serde::{Deserialize, Serialize};

use super::answer_rows::{self, Answers};
use super::footprint::Training;
use super::models::{ArtefactShape, ArtefactShapes};
use super::reading::{Part, Reading};
use super::{
    Checks, Constraint, KindInfo, Problem, Rule, Stage, model_files, sentinels, validation,
};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::batches::batches;
use crate::data::dataset::{self, Dataset};
use crate::data::lineage::Lineage;
use crate::data::rows::{Preference, Rows};
use crate::data::tokenised::Limits;
use crate::error::{Result, user};
use crate::model::memory::Memory;
use crate::model::params::Trainable;
use crate::model::transformer::Recompute;
use crate::reference::{Dataset as DatasetArtefact, Place, Policy, Ref, ReferenceLogprobs};
use crate::rl::kto::{KtoLoss, ReferencePoint};
use crate::rl::sentinels::settings::Sentinels;
use crate::tokenizer::tokens::Tokenizer;
use crate::train::average::AverageConfig;
use crate::train::kto::{self, LabelledRow, Referenced};
use crate::train::minimise::Minimise;
use crate::train::optimiser::{OptimiserConfig, TrainState};
use crate::train::validation::{LOSS, ValidationConfig, Validator};

/// The config of `uses: kto`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KtoStage {
    /// Policy that is trained.
    pub policy: Ref<Policy>,
    /// Log-probabilities of the rows under the reference policy, with `mismatched: true` unless
    /// `z0` is `none`.
    pub reference: Ref<ReferenceLogprobs>,
    /// Dataset with preference pairs, or with prompts and completions.
    pub dataset: Ref<DatasetArtefact>,
    /// Split of the desirable answers: the chosen ones of pairs, or all completions.
    #[serde(default = "split")]
    pub desirable: String,
    /// Split of the undesirable answers: the rejected ones of pairs, or all completions.
    #[serde(default = "split")]
    pub undesirable: String,
    /// Seed of the order of rows.
    #[serde(default)]
    pub seed: u64,
    /// Rows of a step.
    pub batch_size: usize,
    /// Passes over all rows.
    #[serde(default = "one")]
    pub epochs: usize,
    /// Fraction of the lowest blocks that is frozen, and with them the embedding; 0 trains
    /// everything.
    #[serde(default)]
    pub frozen: f64,
    /// Longest prompt in tokens; a longer prompt loses its beginning. `null` cuts nothing.
    #[serde(default)]
    pub max_prompt_tokens: Option<usize>,
    /// Strength of the pull to the reference.
    pub beta: f64,
    /// Weight of the loss of desirable rows.
    #[serde(default = "weight")]
    pub desirable_weight: f64,
    /// Weight of the loss of undesirable rows.
    #[serde(default = "weight")]
    pub undesirable_weight: f64,
    /// Reference point of the log-ratios.
    #[serde(default)]
    pub z0: ReferencePoint,
    /// Measurement of the model on preference pairs during training, and the step that is kept.
    /// `null` measures nothing and keeps the last step.
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

fn weight() -> f64 {
    1.0
}

impl KtoStage {
    fn loss(&self) -> KtoLoss {
        KtoLoss {
            beta: self.beta,
            desirable_weight: self.desirable_weight,
            undesirable_weight: self.undesirable_weight,
        }
    }

    /// The splits that are trained on, each once.
    fn trained(&self) -> Vec<&String> {
        let mut splits = vec![&self.desirable, &self.undesirable];
        splits.dedup();
        splits
    }

    /// The rows of a split: of each pair the chosen answer, which is desirable, and the rejected
    /// one; of each prompt with a completion the completion, desirable or not as `desirable` says.
    fn rows(
        &self,
        (rows, split): (&Rows, &str),
        tokenizer: &Tokenizer,
        limits: Limits,
        desirable: bool,
    ) -> Result<Vec<LabelledRow>> {
        let with_mismatched = self.z0.has_mismatched_rows();
        let answers = answer_rows::answers(rows, tokenizer, limits, split, with_mismatched)?;
        let known = answer_rows::read(self.reference.path(), split, &answers)?;
        let are_pairs = matches!(rows, Rows::Preferences(_));
        let referenced = |(answer, reference)| Referenced { answer, reference };
        let mut found = Vec::new();
        for (Answers { own, mismatched, .. }, (logprobs, others)) in answers.into_iter().zip(known)
        {
            let mut mismatched = mismatched.into_iter().zip(others).map(referenced);
            for (side, own) in own.into_iter().zip(logprobs).map(referenced).enumerate() {
                let desirable = if are_pairs { side == 0 } else { desirable };
                found.push(LabelledRow { own, mismatched: mismatched.next(), desirable });
            }
        }
        Ok(found)
    }

    /// Refuses prompts with completions that are both desirable and undesirable.
    fn check_labels(&self, rows: &Rows) -> Result<()> {
        let both = self.desirable == self.undesirable;
        match rows {
            Rows::Examples(_) if both => Err(user(format!(
                "the split `{}` has {}: `desirable` and `undesirable` cannot both be it",
                self.desirable,
                rows.kind()
            ))
            .hint("name a split for each, or one of preference pairs for both")
            .into()),
            _ => Ok(()),
        }
    }
}

impl Stage for KtoStage {
    const INFO: KindInfo = KindInfo {
        byte_neutral: &["recompute", "sentinels"],
        trains: true,
        ..KindInfo::on_device("kto", 1, "policy")
    };

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        let is_positive = |number: f64| number.is_finite() && number > 0.0;
        checks
            .positive(self.batch_size, "batch_size")
            .positive(self.epochs, "epochs")
            .fraction(self.frozen, "frozen", "the blocks")
            .positive_or_null(self.max_prompt_tokens, "max_prompt_tokens")
            .require(is_positive(self.beta), "beta", "expected above 0")
            .require(is_positive(self.desirable_weight), "desirable_weight", "expected above 0")
            .require(
                is_positive(self.undesirable_weight),
                "undesirable_weight",
                "expected above 0",
            );
        let trained: Vec<String> = self.trained().into_iter().cloned().collect();
        validation::check(&mut checks, &self.validation, &trained);
        AverageConfig::check(&self.average, &mut checks);
        sentinels::check(&mut checks, Self::INFO.name, &self.sentinels);
        let mut problems = checks.done();
        problems.extend(self.optimiser.problems());
        problems
    }

    fn constraints(&self) -> Vec<Constraint> {
        match self.reference.place() {
            Place::Stage(node) if self.z0.has_mismatched_rows() => vec![Constraint {
                field: "reference".into(),
                node: node.to_owned(),
                inner: "mismatched".into(),
                rule: Rule::IsSet,
            }],
            _ => Vec::new(),
        }
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
        Training { spec, head, trainable, recompute, keeps_best, averages }.labelled(shapes)
    }

    fn readings(&self, shapes: &ArtefactShapes) -> Vec<Reading> {
        let Some(reader) = shapes.reader(&self.policy) else { return Vec::new() };
        let measured = self.validation.iter().map(|config| config.split.clone()).collect();
        let trained = self.trained().into_iter().cloned().collect();
        [(trained, Part::Answers), (measured, Part::Pair)]
            .into_iter()
            .filter(|(splits, _): &(Vec<String>, Part)| !splits.is_empty())
            .map(|(splits, part)| {
                let reader = reader.clone();
                Reading::of_model(reader, &self.dataset, splits, self.max_prompt_tokens, part)
            })
            .collect()
    }

    fn run<B: Backend>(&self, b: &B, context: &Context) -> Result<()> {
        let from = model_files::load(b, self.policy.path())?;
        let dataset = Dataset::open(self.dataset.path())?;
        let limits = Limits::of_stage(from.model.spec.context, self.max_prompt_tokens);
        let (mut rows, mut own) = (Vec::new(), Lineage::default());
        for split in self.trained() {
            let of_split = dataset.rows(split)?;
            self.check_labels(&of_split)?;
            let is_desirable = *split == self.desirable;
            let are_both = self.desirable == self.undesirable;
            let found = self.rows((&of_split, split), &from.tokenizer, limits, is_desirable)?;
            rows.extend(found.into_iter().filter(|row| are_both || row.desirable == is_desirable));
            own = own.with(Lineage::of_rows(&of_split));
        }
        let mut measured = Vec::new();
        if let Some(ValidationConfig { split, .. }) = &self.validation {
            let pairs = Rows::Preferences(dataset.split::<Preference>(split)?);
            measured = self.rows((&pairs, split), &from.tokenizer, limits, true)?;
            validation::check_rows(measured.len(), split)?;
        }

        let loss = self.loss();
        let trainable = Trainable::frozen_fraction(&from.model.spec, self.frozen);
        let state = TrainState::new(b, &from.model, trainable)?
            .with(self.recompute)
            .with_masters_of(b, self.policy.path())?;
        let lengths: Vec<usize> = rows.iter().map(LabelledRow::tokens).collect();
        let batches: Vec<Vec<usize>> = (0..self.epochs)
            .flat_map(|epoch| batches(&lengths, self.batch_size, self.seed, epoch as u64))
            .collect();
        let measure = |state: &TrainState<B>| Ok(kto::measure(b, &state.model, &measured, &loss));
        let validator = self.validation.as_ref().map(|config| Validator {
            every: config.every,
            keep: config.keep,
            by: LOSS,
            measure: &measure,
        });
        let shown = &["loss", "kl", "validation/loss"];
        let minimise = Minimise {
            batches: &batches,
            optimiser: &self.optimiser,
            shown,
            validator,
            average: self.average,
            sentinels: Some((Self::INFO.name, &self.sentinels)),
        };
        let (state, kept) = minimise.run(b, context, state, |state, batch| {
            let own: Vec<&LabelledRow> = batch.iter().map(|row| &rows[*row]).collect();
            let metrics = kto::accumulate(b, state, &own, &loss);
            (metrics, own.iter().map(|row| row.tokens()).sum())
        })?;
        if let Some((config, kept)) = self.validation.as_ref().zip(kept) {
            validation::save_loss(context, config, kept)?;
        }
        model_files::save(b, context.out(), &state.finished(), &from.origin, self.policy.path())?;
        let own = validation::with_dataset(own, &dataset, &self.validation)?;
        Lineage::read(self.policy.path())?
            .with(own)
            .with(Lineage::read(self.reference.path())?)
            .write(context.out())
    }
}
