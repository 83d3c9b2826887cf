//! `sft`: supervised fine-tuning. The loss is on response tokens and EOS alone (Kirk et al. 2024,
//! released code), or on all tokens (Huang et al. 2024).

use serde::{Deserialize, Serialize};

use super::footprint::Training;
use super::models::{ArtefactShape, ArtefactShapes};
use super::reading::{Part, Reading};
use super::supervised::rows_of;
use super::{Checks, KindInfo, Problem, Stage, model_files, sentinels, validation};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::dataset::{self, Dataset};
use crate::data::fitting::{Fitted, LongRows};
use crate::data::lineage::Lineage;
use crate::data::tokenised::{Limits, Tokenised};
use crate::error::{Result, user};
use crate::model::memory::Memory;
use crate::model::params::Trainable;
use crate::model::transformer::Recompute;
use crate::reference::{Dataset as DatasetArtefact, Policy, Ref};
use crate::rl::sentinels::settings::Sentinels;
use crate::tokenizer::tokens::Tokenizer;
use crate::train::average::AverageConfig;
use crate::train::optimiser::OptimiserConfig;
use crate::train::supervised::Supervised;
use crate::train::validation::ValidationConfig;

/// The config of `uses: sft`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SftStage {
    /// Policy to begin with.
    pub policy: Ref<Policy>,
    /// Dataset with prompts and completions, or with conversations, of which the assistant's turns
    /// are learned.
    pub dataset: Ref<DatasetArtefact>,
    /// Split of `dataset` that is trained on.
    #[serde(default = "split")]
    pub split: String,
    /// Seed of the order of rows.
    #[serde(default)]
    pub seed: u64,
    /// Rows of a step.
    pub batch_size: usize,
    /// Passes over all rows.
    #[serde(default = "one")]
    pub epochs: usize,
    /// Fraction of the lowest blocks that is frozen, and with them the embedding and the language
    /// head; 0 trains everything.
    #[serde(default)]
    pub frozen: f64,
    /// Longest prompt in tokens; a longer prompt loses its beginning. `null` cuts nothing.
    #[serde(default)]
    pub max_prompt_tokens: Option<usize>,
    /// Tokens that are learned.
    #[serde(default, skip_serializing_if = "LossOn::is_completion")]
    pub loss_on: LossOn,
    /// Treatment of rows that are longer than the model's context.
    #[serde(default, skip_serializing_if = "LongRows::is_error")]
    pub too_long: LongRows,
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

/// Tokens that are learned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossOn {
    /// Those of completions, or of the assistant's turns, with the EOS of each.
    #[default]
    Completion,
    /// All but the first of a row: the prompt too, and all turns of a conversation (Huang et al.
    /// 2024).
    All,
}

impl LossOn {
    fn is_completion(&self) -> bool {
        *self == LossOn::Completion
    }
}

fn split() -> String {
    dataset::SFT.into()
}

fn one() -> usize {
    1
}

impl Stage for SftStage {
    const INFO: KindInfo = KindInfo {
        byte_neutral: &["recompute", "sentinels"],
        trains: true,
        ..KindInfo::on_device("sft", 3, "policy")
    };

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        checks
            .positive(self.batch_size, "batch_size")
            .positive(self.epochs, "epochs")
            .fraction(self.frozen, "frozen", "the blocks")
            .positive_or_null(self.max_prompt_tokens, "max_prompt_tokens");
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
        Training { spec, head, trainable, recompute, keeps_best, averages }.supervised(shapes)
    }

    fn readings(&self, shapes: &ArtefactShapes) -> Vec<Reading> {
        let splits = || validation::splits(&[&self.split], &self.validation);
        let reading = |reader| {
            let cut = self.max_prompt_tokens;
            let reading = Reading::of_model(reader, &self.dataset, splits(), cut, Part::Completion);
            Reading { limits: self.limits(reading.limits.context), ..reading }
        };
        shapes.reader(&self.policy).map(reading).into_iter().collect()
    }

    fn run<B: Backend>(&self, b: &B, context: &Context) -> Result<()> {
        let from = model_files::load(b, self.policy.path())?;
        let dataset = Dataset::open(self.dataset.path())?;
        let most = from.model.spec.context;
        let read = |split: &str| self.read(context, &dataset, split, &from.tokenizer, most);
        let Fitted { rows, cut, skipped } = read(&self.split)?;
        let mut of_rows = Vec::new();
        if !self.too_long.is_error() {
            of_rows.extend([("rows_cut", cut as f64), ("rows_skipped", skipped as f64)]);
        }
        let mut measured = Vec::new();
        if let Some(ValidationConfig { split, .. }) = &self.validation {
            measured = read(split)?.rows;
            validation::check_rows(measured.len(), split)?;
        }
        let phase = 0..rows.len();
        let training = Supervised {
            rows: &rows,
            phases: std::slice::from_ref(&phase),
            batch_size: self.batch_size,
            epochs: self.epochs,
            seed: self.seed,
            optimiser: &self.optimiser,
            recompute: self.recompute,
            trainable: Trainable::frozen_fraction(&from.model.spec, self.frozen),
            from: Some(self.policy.path()),
            validation: self.validation.as_ref().zip(Some(measured.as_slice())),
            average: self.average,
            sentinels: Some((Self::INFO.name, &self.sentinels)),
            of_rows: &of_rows,
        };
        let (model, kept) = training.run(b, context, &from.model)?;
        model_files::save(b, context.out(), &model, &from.origin, self.policy.path())?;
        if let Some((config, kept)) = self.validation.as_ref().zip(kept) {
            validation::save_loss(context, config, kept)?;
        }
        let learned = Lineage::of_rows(&dataset.rows(&self.split)?);
        let learned = validation::with_dataset(learned, &dataset, &self.validation)?;
        Lineage::read(self.policy.path())?.with(learned).write(context.out())
    }
}

impl SftStage {
    /// How long rows may be: where long rows are no errors, they are read whole first.
    fn limits(&self, context: usize) -> Limits {
        let context = if self.too_long.is_error() { context } else { usize::MAX };
        Limits::of_stage(context, self.max_prompt_tokens)
    }

    /// The rows of a split, of at most `most` tokens. Says how many were cut or left out.
    ///
    /// # Errors
    /// Those of [`rows_of`]; the user's if no row is left.
    fn read(
        &self,
        context: &Context,
        dataset: &Dataset,
        split: &str,
        tokenizer: &Tokenizer,
        most: usize,
    ) -> Result<Fitted> {
        let (mut warn, folder) = (|message| context.warn(message), self.policy.path());
        let mut rows = rows_of(&mut warn, dataset, split, tokenizer, self.limits(most), folder)?;
        if self.loss_on == LossOn::All {
            rows = rows.into_iter().map(Tokenised::whole).collect();
        }
        let fitted = self.too_long.fit(rows, most);
        let Fitted { rows, cut, skipped } = &fitted;
        if cut + skipped > 0 {
            let kept = rows.len();
            warn(format!(
                "split `{split}`: of the rows that are longer than the model's context of {most}, \
                 {cut} were cut and {skipped} left out; {kept} rows are left"
            ));
            if rows.is_empty() {
                let message =
                    format!("no row of split `{split}` fits the model's context of {most}");
                return Err(user(message).hint("cut prompts by `max_prompt_tokens`").into());
            }
        }
        Ok(fitted)
    }
}
