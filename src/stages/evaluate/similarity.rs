//! How alike the samples of one input are, within a method and between two methods: whether
//! methods give the same few answers. Knows no score.
//!
//! 1. Within a method it is measured on the inputs of which it has two samples, between two methods
//!    on the inputs that both have samples of.
//! 2. How far two methods are apart is of the inputs that have all three similarities.
//! 3. Methods of several seeds are methods like others: the samples of each seed's policy.

use serde::{Deserialize, Serialize};

use super::Found;
use super::measuring::Answers;
use crate::artefacts::comparisons::{Between, EMBEDDING_SIMILARITY, HIGH, NGRAM_SIMILARITY};
use crate::artefacts::table::Row;
use crate::backend::Backend;
use crate::data::rows::Example;
use crate::data::samples::Sampled;
use crate::error::Result;
use crate::eval::compare::{Measured, of_values};
use crate::eval::diversity::words;
use crate::eval::interval::{of_mean, of_share};
use crate::eval::similarity::{Similarities, apart};
use crate::eval::vendi::ngram_similarities;
use crate::stages::Checks;
use crate::stages::diversity::Measures;

/// Similarity of samples within and between methods.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimilarityConfig {
    /// What is compared.
    #[serde(default)]
    pub by: By,
    /// Mean similarity of an input's samples above which they count as alike.
    #[serde(default = "high")]
    pub threshold: f64,
}

/// That of Infinity-Chat's figures.
fn high() -> f64 {
    0.8
}

/// Vectors of texts whose cosine is their similarity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Counts of n-grams, n = 1 and 2: the mean of the two cosines.
    #[default]
    Ngrams,
    /// Sentence embeddings by `diversity.encoder`.
    Embeddings,
}

impl By {
    /// The metric.
    fn name(self) -> &'static str {
        match self {
            By::Ngrams => NGRAM_SIMILARITY,
            By::Embeddings => EMBEDDING_SIMILARITY,
        }
    }
}

impl SimilarityConfig {
    /// Whether it reads sentence embeddings.
    pub(super) fn is_of_embeddings(&self) -> bool {
        self.by == By::Embeddings
    }

    /// Notes values out of range, and fields that lack what they need.
    pub(super) fn check(&self, checks: &mut Checks, samples: bool, encoder: bool) {
        checks
            .require(
                samples,
                "similarity",
                "no method has `samples`, so none are compared: remove it, or add some",
            )
            .require(
                encoder || !self.is_of_embeddings(),
                "similarity.by",
                "expected a `diversity.encoder` as well",
            )
            .require(
                (-1.0..=1.0).contains(&self.threshold),
                "similarity.threshold",
                format!("expected from -1 to 1, found {}", self.threshold),
            );
    }

    /// The similarities on a test set.
    pub(super) fn test_set<B: Backend>(
        &self,
        found: &mut Found,
        measures: &Measures<'_, B>,
        (test_set, examples): (&str, &[Example]),
        methods: &[(&Answers, Vec<&Sampled>)],
    ) -> Result<()> {
        let of_input = |example: &Example| -> Vec<Vec<&str>> {
            methods.iter().map(|(_, rows)| texts_of(rows, &example.id)).collect()
        };
        let texts: Vec<Vec<Vec<&str>>> = examples.iter().map(of_input).collect();
        let inputs = self.of_inputs(measures, &texts)?;
        let name = self.by.name();
        for (at, (method, _)) in methods.iter().enumerate() {
            found.within(self, (&method.name, test_set), &inputs, at);
        }
        // Within a method, on the inputs of which every method has two samples.
        let all = |input: &&Similarities| (0..methods.len()).all(|at| input.within(at).is_some());
        let common: Vec<&Similarities> = inputs.iter().filter(all).collect();
        for (at, (method, _)) in methods.iter().enumerate().filter(|_| !common.is_empty()) {
            found.measured.push(Measured {
                metric: name.into(),
                test_set: test_set.into(),
                method: method.name.clone(),
                values: common.iter().filter_map(|input| input.within(at)).collect(),
            });
        }
        for (with, (other, _)) in methods.iter().enumerate() {
            for (at, (method, _)) in methods.iter().enumerate().skip(with + 1) {
                let values: Vec<f64> =
                    inputs.iter().filter_map(|input| input.between(at, with)).collect();
                if values.is_empty() {
                    continue;
                }
                let of_apart = |input: &Similarities| {
                    Some(apart(input.within(at)?, input.within(with)?, input.between(at, with)?))
                };
                let distances: Vec<f64> = inputs.iter().filter_map(of_apart).collect();
                found.between.push(Between {
                    metric: name.into(),
                    test_set: test_set.into(),
                    method: method.name.clone(),
                    with: other.name.clone(),
                    similarity: of_mean(&values),
                    high: of_share(&self.above(&values)),
                    apart: (!distances.is_empty()).then(|| of_mean(&distances)),
                });
            }
        }
        Ok(())
    }

    /// 1 of each value above the threshold, else 0.
    fn above(&self, values: &[f64]) -> Vec<f64> {
        values.iter().map(|value| f64::from(u8::from(*value > self.threshold))).collect()
    }

    /// The similarities of all methods' texts, of each input; texts are by input and method.
    fn of_inputs<B: Backend>(
        &self,
        measures: &Measures<'_, B>,
        texts: &[Vec<Vec<&str>>],
    ) -> Result<Vec<Similarities>> {
        let matrices: Vec<Vec<f64>> = match self.by {
            By::Ngrams => texts
                .iter()
                .map(|input| {
                    let own: Vec<Vec<String>> =
                        input.iter().flatten().map(|text| words(text)).collect();
                    ngram_similarities(&own)
                })
                .collect(),
            By::Embeddings => {
                let flat: Vec<Vec<&str>> = texts.iter().map(|input| input.concat()).collect();
                measures.cosines(&flat)?
            }
        };
        let counts = |input: &Vec<Vec<&str>>| input.iter().map(Vec::len).collect::<Vec<usize>>();
        let own = matrices.into_iter().zip(texts);
        Ok(own.map(|(values, input)| Similarities::new(values, &counts(input))).collect())
    }
}

/// The texts of a method's samples of an input.
fn texts_of<'a>(rows: &[&'a Sampled], id: &str) -> Vec<&'a str> {
    let row = rows.iter().find(|row| row.id == id);
    row.into_iter().flat_map(|row| &row.outputs).map(|output| output.text.as_str()).collect()
}

impl Found {
    /// The rows of one method: mean similarity of its samples, and the share of inputs that are
    /// above the threshold.
    fn within(
        &mut self,
        config: &SimilarityConfig,
        (method, test_set): (&str, &str),
        inputs: &[Similarities],
        at: usize,
    ) {
        let name = config.by.name();
        let values: Vec<f64> = inputs.iter().filter_map(|input| input.within(at)).collect();
        let high = format!("{name}{HIGH}");
        if values.is_empty() {
            let why = "no input has two of its samples";
            self.left_out.note(&[name, &high], Some(method), test_set, why);
            return;
        }
        self.table.rows.push(Row::new(method, test_set, name, of_values(name, &values)));
        let share = of_share(&config.above(&values));
        self.table.rows.push(Row::new(method, test_set, &high, share));
    }
}
