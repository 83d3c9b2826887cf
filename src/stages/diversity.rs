//! What stages measure of the diversity of samples, and the models that are asked. Several stage
//! kinds share it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::models::{ArtefactShapes, ModelShape};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::device::Precision;
use crate::error::{Context as _, Result};
use crate::eval::pairs::{Pairs, released};
use crate::eval::spread::{Inputs, OfSet, Spread, of_vectors};
use crate::eval::vendi::normalised;
use crate::inference::diversity::{Metric, Need, Samples, inferred_pairs};
use crate::inference::pairs::PairModel;
use crate::inference::{Reader, Subject, embed};
use crate::model::params::HeadKind;
use crate::model::spec::Spec;
use crate::reference::{Classifier, ModelFolder, Ref};

/// Texts that a model reads at a time; no result depends on it.
const BATCH: usize = 32;

/// Measures of the diversity of samples.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiversityConfig {
    /// Metrics, in the order of the table; docs/evaluation.md defines them.
    pub metrics: Vec<Metric>,
    /// Sentence encoder, for `embedding` and `embedding_vendi`.
    pub encoder: Option<ModelFolder>,
    /// Classifier of entailment, neutral and contradiction, for `nli` and its variants.
    pub nli: Option<ModelFolder>,
    /// Classifier that a stage `classifier` trained, instead of `nli`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classifier: Option<Ref<Classifier>>,
}

impl Default for DiversityConfig {
    fn default() -> Self {
        DiversityConfig { metrics: vec![Metric::Ead], encoder: None, nli: None, classifier: None }
    }
}

impl DiversityConfig {
    /// A metric whose model is not given, with the name of the field that gives it. `tokenizer` if
    /// there is one to count tokens of.
    pub(in crate::stages) fn lacks(&self, tokenizer: bool) -> Option<(Metric, &'static str)> {
        self.metrics.iter().find_map(|metric| match metric.need() {
            Some(Need::Tokenizer) if !tokenizer => Some((*metric, "reference_policy")),
            Some(Need::Encoder) if self.encoder.is_none() => Some((*metric, "encoder")),
            Some(Need::Nli) if self.nli.is_none() && self.classifier.is_none() => {
                Some((*metric, "nli"))
            }
            _ => None,
        })
    }

    /// The fields of models that no metric takes; `compared` if similarities take the encoder.
    pub(in crate::stages) fn unused(&self, compared: bool) -> Vec<&'static str> {
        let unused = |need: Need| self.metrics.iter().all(|metric| metric.need() != Some(need));
        let fields = [
            ("encoder", self.encoder.is_some() && unused(Need::Encoder) && !compared),
            ("nli", self.nli.is_some() && unused(Need::Nli)),
            ("classifier", self.classifier.is_some() && unused(Need::Nli)),
        ];
        fields.into_iter().filter(|(_, unused)| *unused).map(|(field, _)| field).collect()
    }

    /// Whether it names a model.
    pub(in crate::stages) fn has_models(&self) -> bool {
        self.encoder.is_some() || self.nli.is_some() || self.classifier.is_some()
    }

    /// The sizes of its models; `None` if one is not known yet.
    pub(in crate::stages) fn models(
        &self,
        shapes: &ArtefactShapes,
    ) -> Option<Vec<(Spec, HeadKind)>> {
        let mut models = Vec::new();
        for folder in [&self.encoder, &self.nli].into_iter().flatten() {
            let ModelShape { spec, head, .. } = shapes.folder(folder)?;
            models.push((spec, head));
        }
        if let Some(classifier) = &self.classifier {
            models.push(shapes.model(classifier)?);
        }
        Some(models)
    }

    /// Whether it says nothing but the defaults.
    pub(in crate::stages) fn is_default(&self) -> bool {
        self.metrics == DiversityConfig::default().metrics && !self.has_models()
    }
}

/// The models that are asked, and what for.
pub(in crate::stages) struct Measures<'a, B: Backend> {
    metrics: &'a [Metric],
    encoder: Option<Subject<B>>,
    nli: Option<PairModel<B>>,
    /// Tokens of the reference policy's tokenizer, where there is one.
    tokens: Option<usize>,
    seed: u64,
}

impl<'a, B: Backend> Measures<'a, B> {
    /// Loads the models.
    pub(in crate::stages) fn load(
        context: &Context,
        b: &B,
        config: &'a DiversityConfig,
        tokens: Option<usize>,
        seed: u64,
    ) -> Result<Self> {
        let open = |folder: &Path| -> Result<Reader> {
            let reader = Reader::open(folder)?;
            reader.remark().into_iter().for_each(|remark| context.warn(remark));
            Ok(reader)
        };
        let encoder = config.encoder.as_ref();
        let encoder =
            encoder.map(|folder| Subject::load(b.clone(), Precision::Single, open(folder.path())?));
        let nli = config
            .nli
            .as_ref()
            .map(ModelFolder::path)
            .or(config.classifier.as_ref().map(Ref::path));
        let nli = nli.map(|folder| PairModel::load(b.clone(), Precision::Single, open(folder)?));
        Ok(Measures {
            metrics: &config.metrics,
            encoder: encoder.transpose()?,
            nli: nli.transpose()?,
            tokens,
            seed,
        })
    }

    /// Every metric of some texts, in the order that was asked for.
    pub(in crate::stages) fn of(
        &self,
        inputs: &Inputs,
        texts: &[&str],
    ) -> Result<Vec<(Metric, Spread)>> {
        let samples = Samples { inputs, texts, seed: self.seed };
        let quiet = &mut |_, _| Ok(());
        let mut by_model = Vec::new();
        if let Some(encoder) = &self.encoder {
            by_model.extend(samples.embedded(encoder, BATCH, quiet)?);
        }
        if let Some(nli) = &self.nli {
            by_model.extend(samples.inferred(nli, BATCH, quiet)?);
        }
        let one = |metric: &Metric| match metric.measure(self.tokens) {
            Some(measure) => Some((*metric, inputs.spread(measure, texts))),
            None => by_model.iter().find(|(by, _)| by == metric).cloned(),
        };
        Ok(self.metrics.iter().filter_map(one).collect())
    }

    /// Every metric except those of inference, of samples of some inputs: for each input the
    /// measure of the samples at some places, for each n where it is by n.
    pub(in crate::stages) fn of_parts<'t>(
        &self,
        inputs: &'t [Vec<&'t str>],
    ) -> Result<Vec<(Metric, Vec<OfSet<'t>>)>> {
        let mut found: Vec<(Metric, Vec<OfSet<'t>>)> = Vec::new();
        for metric in self.metrics {
            if let Some(measure) = metric.measure(self.tokens) {
                found.push((*metric, inputs.iter().map(|texts| measure.prepare(texts)).collect()));
            }
            if let (Some(Need::Encoder), Some(encoder)) = (metric.need(), &self.encoder) {
                let vendi = *metric == Metric::EmbeddingVendi;
                found.push((*metric, embedded(encoder, inputs, vendi)?));
            }
        }
        Ok(found)
    }
}

impl<B: Backend> Measures<'_, B> {
    /// The cosines of the sentence embeddings of every two texts of each input, `[n,n]`.
    pub(in crate::stages) fn cosines(&self, inputs: &[Vec<&str>]) -> Result<Vec<Vec<f64>>> {
        cosines(self.encoder.as_ref().context("similarity has an encoder")?, inputs)
    }

    /// The same of `nli` and `nli_released`, of pairs of an input's samples.
    pub(in crate::stages) fn of_pairs<'t>(
        &self,
        inputs: &'t [Vec<&'t str>],
    ) -> Result<Vec<(Metric, Vec<OfSet<'t>>)>> {
        let asked: Vec<Metric> =
            self.metrics.iter().filter(|metric| is_of_pairs(**metric)).copied().collect();
        let Some(nli) = self.nli.as_ref().filter(|_| !asked.is_empty()) else {
            return Ok(Vec::new());
        };
        let pairs = inferred_pairs(nli, inputs, BATCH, &mut |_, _| Ok(()))?;
        let of = |metric: Metric| {
            let own = |pairs: &Pairs| {
                let pairs = pairs.clone();
                let value = move |places: &[usize]| match metric {
                    Metric::NliReleased => vec![released(pairs.mean(places))],
                    _ => vec![pairs.mean(places)],
                };
                Box::new(value) as OfSet<'t>
            };
            (metric, pairs.iter().map(own).collect())
        };
        Ok(asked.into_iter().map(of).collect())
    }
}

/// The cosines of the sentence embeddings of every two texts of each input, `[n,n]`.
pub(in crate::stages) fn cosines<B: Backend>(
    encoder: &Subject<B>,
    inputs: &[Vec<&str>],
) -> Result<Vec<Vec<f64>>> {
    let options = embed::defaults(&encoder.reader)?;
    let vectors = embed::vectors(encoder, &inputs.concat(), options, BATCH, &mut |_, _| Ok(()))?;
    let mut vectors = vectors.into_iter().map(|vector| normalised(&vector));
    let of_input = |texts: &Vec<&str>| {
        let own: Vec<Vec<f64>> = vectors.by_ref().take(texts.len()).collect();
        let row = |a: &Vec<f64>| own.iter().map(|b| dot(a, b)).collect::<Vec<f64>>();
        own.iter().flat_map(row).collect()
    };
    Ok(inputs.iter().map(of_input).collect())
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Whether a metric is a mean over pairs that a classifier of inference judges.
fn is_of_pairs(metric: Metric) -> bool {
    matches!(metric, Metric::Nli | Metric::NliReleased)
}

/// The distances of each input's samples, or their Vendi score, by sentence embeddings.
fn embedded<'t, B: Backend>(
    encoder: &Subject<B>,
    inputs: &'t [Vec<&'t str>],
    vendi: bool,
) -> Result<Vec<OfSet<'t>>> {
    let options = embed::defaults(&encoder.reader)?;
    let quiet = &mut |_, _| Ok(());
    let vectors = embed::vectors(encoder, &inputs.concat(), options, BATCH, quiet)?;
    let mut vectors = vectors.into_iter();
    let own = |texts: &Vec<&str>| {
        let own: Vec<Vec<f64>> = vectors.by_ref().take(texts.len()).collect();
        let measure = move |places: &[usize]| {
            let all: Vec<&[f64]> = own.iter().map(Vec::as_slice).collect();
            of_vectors(all, vendi)(places)
        };
        Box::new(measure) as OfSet<'t>
    };
    Ok(inputs.iter().map(own).collect())
}
