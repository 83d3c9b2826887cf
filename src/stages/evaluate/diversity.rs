//! How much every method's samples vary on a test set: rows of the table, and everything that was
//! measured. Knows no reward.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::measuring::Answers;
use super::{Found, REFERENCE};
use crate::artefacts::table::Row;
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::rows::Example;
use crate::data::samples::Sampled;
use crate::device::Precision;
use crate::error::{Context as _, Result};
use crate::eval::compare::Measured;
use crate::eval::diversity::common_length;
use crate::eval::interval::{Interval, Kind};
use crate::eval::spread::{Inputs, OfSet, Spread, cut, of_vectors};
use crate::eval::vendi::normalised;
use crate::inference::diversity::{Metric, Need, Samples};
use crate::inference::pairs::PairModel;
use crate::inference::{Reader, Subject, embed};
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
    pub(super) fn lacks(&self, tokenizer: bool) -> Option<(Metric, &'static str)> {
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
    pub(super) fn unused(&self, compared: bool) -> Vec<&'static str> {
        let unused = |need: Need| self.metrics.iter().all(|metric| metric.need() != Some(need));
        let fields = [
            ("encoder", self.encoder.is_some() && unused(Need::Encoder) && !compared),
            ("nli", self.nli.is_some() && unused(Need::Nli)),
            ("classifier", self.classifier.is_some() && unused(Need::Nli)),
        ];
        fields.into_iter().filter(|(_, unused)| *unused).map(|(field, _)| field).collect()
    }

    /// Whether it says nothing but the defaults.
    pub(super) fn is_default(&self) -> bool {
        let models = self.encoder.is_some() || self.nli.is_some() || self.classifier.is_some();
        self.metrics == DiversityConfig::default().metrics && !models
    }
}

/// The models that are asked, and what for.
pub(super) struct Measures<'a, B: Backend> {
    metrics: &'a [Metric],
    encoder: Option<Subject<B>>,
    nli: Option<PairModel<B>>,
    /// Tokens of the reference policy's tokenizer, where there is one.
    tokens: Option<usize>,
    seed: u64,
}

impl<'a, B: Backend> Measures<'a, B> {
    /// Loads the models.
    pub(super) fn load(
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
    fn of(&self, inputs: &Inputs, texts: &[&str]) -> Result<Vec<(Metric, Spread)>> {
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
    pub(super) fn of_parts<'t>(
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

    /// The cosines of the sentence embeddings of every two texts of each input, `[n,n]`.
    pub(super) fn cosines(&self, inputs: &[Vec<&str>]) -> Result<Vec<Vec<f64>>> {
        let encoder = self.encoder.as_ref().context("similarity has an encoder")?;
        let options = embed::defaults(&encoder.reader)?;
        let vectors =
            embed::vectors(encoder, &inputs.concat(), options, BATCH, &mut |_, _| Ok(()))?;
        let mut vectors = vectors.into_iter().map(|vector| normalised(&vector));
        let of_input = |texts: &Vec<&str>| {
            let own: Vec<Vec<f64>> = vectors.by_ref().take(texts.len()).collect();
            let row = |a: &Vec<f64>| own.iter().map(|b| dot(a, b)).collect::<Vec<f64>>();
            own.iter().flat_map(row).collect()
        };
        Ok(inputs.iter().map(of_input).collect())
    }

    /// Whole texts, and texts cut to the length that at least half of every method's texts reach.
    /// References, of which an input has one, vary across the inputs that the first method has
    /// samples of. What is measured per input is compared on the inputs named in `common`.
    pub(super) fn test_set(
        &self,
        found: &mut Found,
        test_set: &str,
        examples: &[Example],
        methods: &[(&Answers, Vec<&Sampled>)],
        common: &BTreeSet<&str>,
    ) -> Result<()> {
        if methods.is_empty() {
            return Ok(());
        }
        let sampled: BTreeSet<&str> = methods
            .iter()
            .take(1)
            .flat_map(|(_, rows)| rows.iter().map(|row| row.id.as_str()))
            .collect();
        let references = examples.iter().filter(|example| sampled.contains(example.id.as_str()));
        let mut sets: Vec<(&str, Inputs, Vec<&str>, Vec<String>)> = Vec::new();
        for (method, rows) in methods {
            let rows = rows.iter().filter(|row| !row.outputs.is_empty());
            let inputs = Inputs::new(rows.clone().map(|row| row.outputs.len()));
            let texts =
                rows.clone().flat_map(|row| row.outputs.iter().map(|output| output.text.clone()));
            sets.push((
                &method.name,
                inputs,
                rows.clone().map(|row| row.id.as_str()).collect(),
                texts.collect(),
            ));
        }
        let texts: Vec<String> = references.map(|example| example.completion.clone()).collect();
        sets.push((REFERENCE, Inputs::new(texts.iter().map(|_| 1)), Vec::new(), texts));
        let length =
            common_length(&sets.iter().map(|(.., texts)| texts.as_slice()).collect::<Vec<_>>());
        for (name, inputs, ids, texts) in &sets {
            let cut: Vec<String> = texts.iter().map(|text| cut(text, length)).collect();
            let mut all = BTreeMap::new();
            for (suffix, texts) in [("", texts), ("_matched", &cut)] {
                for (metric, spread) in
                    self.of(inputs, &texts.iter().map(String::as_str).collect::<Vec<&str>>())?
                {
                    let (each, across, n) = (spread.per_input, spread.across_inputs, inputs.len());
                    let mut push = |way: &str, mean: f64, low: f64, high: f64, kind: Kind| {
                        let metric = format!("{}_{way}{suffix}", metric.name());
                        found.table.rows.push(Row::new(
                            name,
                            test_set,
                            &metric,
                            Interval { mean, low, high, n, kind },
                        ));
                    };
                    if *name != REFERENCE {
                        push("per_input", each.mean, each.low, each.high, each.interval);
                        let values = ids
                            .iter()
                            .zip(&spread.each)
                            .filter(|(id, _)| common.contains(*id))
                            .map(|(_, value)| *value);
                        let (metric, values) = (
                            format!("{}_per_input{suffix}", metric.name()),
                            values.collect::<Vec<f64>>(),
                        );
                        if !values.is_empty() {
                            found.measured.push(Measured {
                                metric,
                                test_set: test_set.into(),
                                method: name.to_string(),
                                values,
                            });
                        }
                    }
                    push("across_inputs", across.mean, across.low, across.high, across.interval);
                    push(
                        "across_inputs_first",
                        across.first,
                        across.first_low,
                        across.first_high,
                        across.first_interval,
                    );
                    all.insert(format!("{}{suffix}", metric.name()), spread);
                }
            }
            found.diversity.push(Diversity {
                method: name.to_string(),
                test_set: test_set.into(),
                matched_length: length,
                metrics: all,
            });
        }
        Ok(())
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
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

/// All that was measured of a method's samples on a test set: one of `diversity.json`.
#[derive(Serialize)]
pub(super) struct Diversity {
    method: String,
    test_set: String,
    /// Words that `_matched` metrics are cut to.
    matched_length: usize,
    metrics: BTreeMap<String, Spread>,
}
