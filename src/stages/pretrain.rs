//! `pretrain`: a new language model, trained on all tokens of documents. Its phases follow one
//! another in one learning-rate schedule.

use serde::{Deserialize, Serialize};

use super::footprint::Training;
use super::models::{ArtefactShape, ArtefactShapes, BlockLineage, ModelShape};
use super::reading::{Part, Reading, Splits};
use super::source::Source;
use super::supervised::rows_of;
use super::{Checks, KindInfo, Problem, Stage, model_files, validation};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::dataset::Dataset;
use crate::data::lineage::Lineage;
use crate::data::tokenised::{Limits, MODEL, Tokenised};
use crate::error::Result;
use crate::model::arch::{Origin, SpecialTokens};
use crate::model::init::{self, Init};
use crate::model::memory::Memory;
use crate::model::params::{HeadKind, Trainable};
use crate::model::spec::Spec;
use crate::model::transformer::Recompute;
use crate::model::weights::Model;
use crate::reference::{Dataset as DatasetArtefact, Ref, Tokenizer as TokenizerArtefact};
use crate::tokenizer::tokens::Tokenizer;
use crate::train::average::AverageConfig;
use crate::train::optimiser::OptimiserConfig;
use crate::train::supervised::Supervised;
use crate::train::validation::ValidationConfig;

/// The config of `uses: pretrain`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainStage {
    /// Dataset with the documents.
    pub dataset: Ref<DatasetArtefact>,
    /// Tokenizer of the model.
    pub tokenizer: Ref<TokenizerArtefact>,
    /// Splits of `dataset`, trained on one after the other.
    pub phases: Vec<String>,
    /// Sizes of the model.
    pub model: Form,
    /// Seed of the initial weights and of the order of rows.
    #[serde(default)]
    pub seed: u64,
    /// Documents of a step.
    pub batch_size: usize,
    /// Measurement of the model on other rows during training, and the step that is kept. `null`
    /// measures nothing and keeps the last step.
    #[serde(default)]
    pub validation: Option<ValidationConfig>,
    /// Exponential moving average of the weights, which is measured and saved instead of the last
    /// weights. `null` saves the last weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average: Option<AverageConfig>,
    /// Activations that the backward pass computes again instead of keeping them.
    #[serde(default)]
    pub recompute: Recompute,
    /// Optimiser and learning rate.
    pub optimiser: OptimiserConfig,
}

/// The form of a new model: LLaMA's, with the embedding as its language head.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Form {
    /// Width of the residual stream.
    pub width: usize,
    /// Number of transformer blocks.
    pub layers: usize,
    /// Number of attention heads.
    pub heads: usize,
    /// Inner width of the feed-forward network.
    pub feed_forward: usize,
    /// Longest sequence in tokens.
    pub context: usize,
    /// Initial weights.
    #[serde(default = "Form::init")]
    pub init: Init,
}

impl Form {
    fn init() -> Init {
        Init::Copying
    }

    fn spec(&self, vocabulary: usize) -> Spec {
        Spec::decoder(
            vocabulary,
            self.width,
            self.layers,
            self.heads,
            self.feed_forward,
            self.context,
        )
    }
}

impl Stage for PretrainStage {
    const INFO: KindInfo = KindInfo {
        byte_neutral: &["recompute"],
        trains: true,
        ..KindInfo::on_device("pretrain", 3, "policy")
    };

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        let form = &self.model;
        checks
            .require(!self.phases.is_empty(), "phases", "expected at least one split")
            .positive(self.batch_size, "batch_size")
            .require(
                form.heads > 0 && form.width.is_multiple_of(form.heads.max(1).saturating_mul(2)),
                "model.heads",
                "expected heads of an even number of channels: `width` must be a multiple of twice \
                 `heads`",
            );
        for (field, message) in form.spec(1).problems() {
            let field = if field == "feed_forward_width" { "feed_forward" } else { field };
            if ["width", "layers", "feed_forward", "context"].contains(&field) {
                checks.require(false, &format!("model.{field}"), message);
            }
        }
        validation::check(&mut checks, &self.validation, &self.phases);
        AverageConfig::check(&self.average, &mut checks);
        let mut problems = checks.done();
        problems.extend(self.optimiser.problems());
        problems
    }

    fn makes(&self, shapes: &ArtefactShapes) -> Option<ArtefactShape> {
        Some(ArtefactShape::Model(ModelShape {
            spec: self.model.spec(shapes.vocabulary(&self.tokenizer)?),
            head: HeadKind::Language,
            lineage: BlockLineage::default(),
            tokenizer: Source::from(&self.tokenizer),
        }))
    }

    fn memory(&self, shapes: &ArtefactShapes) -> Option<Memory> {
        let training = Training {
            spec: self.model.spec(shapes.vocabulary(&self.tokenizer)?),
            head: HeadKind::Language,
            trainable: Trainable::ALL,
            recompute: self.recompute,
            keeps_best: validation::keeps_best(&self.validation),
            averages: self.average.is_some(),
        };
        training.supervised(shapes)
    }

    fn readings(&self, _: &ArtefactShapes) -> Vec<Reading> {
        vec![Reading {
            dataset: Source::from(&self.dataset),
            splits: Splits::Named(validation::splits(
                &self.phases.iter().collect::<Vec<_>>(),
                &self.validation,
            )),
            rows: None,
            tokenizer: Source::from(&self.tokenizer),
            limits: self.limits(),
            reader: MODEL,
            part: Part::Completion,
        }]
    }

    fn run<B: Backend>(&self, b: &B, context: &Context) -> Result<()> {
        let tokenizer = Tokenizer::open(self.tokenizer.path())?;
        let spec = self.model.spec(tokenizer.size());
        let dataset = Dataset::open(self.dataset.path())?;
        let (mut rows, mut phases): (Vec<Tokenised>, Vec<std::ops::Range<usize>>) =
            (Vec::new(), Vec::new());
        let read = |split: &String| -> Result<Vec<Tokenised>> {
            let mut warn = |message| context.warn(message);
            let folder = self.tokenizer.path();
            let read = rows_of(&mut warn, &dataset, split, &tokenizer, self.limits(), folder)?;
            Ok(read.into_iter().map(Tokenised::whole).collect())
        };
        for split in &self.phases {
            let start = rows.len();
            rows.extend(read(split)?);
            phases.push(start..rows.len());
        }
        let mut measured = Vec::new();
        if let Some(ValidationConfig { split, .. }) = &self.validation {
            measured = read(split)?;
            validation::check_rows(measured.len(), split)?;
        }
        let params = init::language_model(&spec, self.model.init, self.seed);
        let model = Model::upload(b, spec, HeadKind::Language, params);
        let training = Supervised {
            rows: &rows,
            phases: &phases,
            batch_size: self.batch_size,
            epochs: 1,
            seed: self.seed,
            optimiser: &self.optimiser,
            recompute: self.recompute,
            trainable: Trainable::ALL,
            from: None,
            validation: self.validation.as_ref().zip(Some(measured.as_slice())),
            average: self.average,
            sentinels: None,
            of_rows: &[],
        };
        let (model, kept) = training.run(b, context, &model)?;
        let special = SpecialTokens { bos: None, eos: Some(tokenizer.eos()), pad: tokenizer.pad() };
        model_files::save(
            b,
            context.out(),
            &model,
            &Origin::new(&model.spec, special),
            self.tokenizer.path(),
        )?;
        if let Some((config, kept)) = self.validation.as_ref().zip(kept) {
            validation::save_loss(context, config, kept)?;
        }
        let learned = self.phases.iter().map(|split| Ok(Lineage::of_rows(&dataset.rows(split)?)));
        let learned: Vec<Lineage> = learned.collect::<Result<_>>()?;
        let learned = learned.into_iter().fold(Lineage::default(), Lineage::with);
        validation::with_dataset(learned, &dataset, &self.validation)?.write(context.out())
    }
}

impl PretrainStage {
    fn limits(&self) -> Limits {
        Limits { context: self.model.context, prompt: None, field: None }
    }
}
