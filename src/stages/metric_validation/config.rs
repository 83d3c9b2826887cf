//! The config of `metric_validation`, with the values that are out of range.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::inference::diversity::Metric;
use crate::reference::{Dataset as DatasetArtefact, Ref, Samples};
use crate::stages::diversity::DiversityConfig;
use crate::stages::{Checks, Problem};

/// The config of `uses: metric_validation`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricValidationStage {
    /// Dataset of a synthetic world.
    pub dataset: Ref<DatasetArtefact>,
    /// Names of the test sets without `test/`, in the order of the table; an empty list means all.
    #[serde(default)]
    pub test_sets: Vec<String>,
    /// Inputs of each test set: the first whose right answers suffice for the populations.
    #[serde(default = "inputs")]
    pub inputs: usize,
    /// Samples that a population is measured by, ascending: each in turn.
    #[serde(default = "k")]
    pub k: Vec<usize>,
    /// Content classes of the populations that differ in content, ascending. The middle one is that
    /// of all other populations.
    #[serde(default = "classes")]
    pub classes: Vec<usize>,
    /// Texts of each content class, of the populations that differ in wording, ascending. The
    /// middle one is that of all other populations.
    #[serde(default = "wordings")]
    pub wordings: Vec<usize>,
    /// Shares of wrong answers, of the populations that differ in it, ascending. All other
    /// populations have none.
    #[serde(default = "wrong")]
    pub wrong: Vec<f64>,
    /// Metrics that are validated, and the models that they take.
    #[serde(default = "diversity")]
    pub diversity: DiversityConfig,
    /// Samples of models, whose true coverage is counted beside the metrics.
    #[serde(default)]
    pub methods: Vec<Method>,
    /// Seed of the populations and of the samples that are drawn from them.
    #[serde(default)]
    pub seed: u64,
}

/// Samples of a model.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Method {
    /// Name of the method in the table.
    pub name: String,
    /// Several samples for some rows of each test set.
    pub samples: Ref<Samples>,
}

fn inputs() -> usize {
    40
}

fn k() -> Vec<usize> {
    vec![4, 8, 16, 64]
}

fn classes() -> Vec<usize> {
    vec![1, 2, 4, 8, 16]
}

fn wordings() -> Vec<usize> {
    vec![1, 4, 16]
}

fn wrong() -> Vec<f64> {
    vec![0.25, 0.5]
}

/// Every metric of words.
fn diversity() -> DiversityConfig {
    let metrics = vec![
        Metric::Ead,
        Metric::Distinct,
        Metric::Entropy,
        Metric::SelfBleu,
        Metric::Vendi,
        Metric::Compression,
        Metric::Length,
    ];
    DiversityConfig { metrics, encoder: None, nli: None, classifier: None }
}

impl MetricValidationStage {
    /// Values out of range.
    pub(super) fn out_of_range(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        let ascends = |list: &[usize]| {
            list.first().is_some_and(|first| *first > 0)
                && list.windows(2).all(|two| two[0] < two[1])
        };
        let counts = "expected whole numbers from 1 on, each above the one before";
        let two = format!("{counts}, and two of them at least");
        let wrong = !self.wrong.is_empty()
            && self.wrong.iter().all(|share| *share > 0.0 && *share < 1.0)
            && self.wrong.windows(2).all(|two| two[0] < two[1]);
        checks
            .positive(self.inputs, "inputs")
            .require(
                ascends(&self.k) && self.k[0] > 1,
                "k",
                "expected whole numbers from 2 on, each above the one before",
            )
            .require(ascends(&self.classes) && self.classes.len() > 1, "classes", two.clone())
            .require(ascends(&self.wordings) && self.wordings.len() > 1, "wordings", two)
            .require(
                wrong,
                "wrong",
                "expected shares above 0 and below 1, each above the one before",
            );
        self.check_metrics(&mut checks);
        let names: BTreeSet<&str> =
            self.methods.iter().map(|method| method.name.as_str()).collect();
        checks.require(
            names.len() == self.methods.len() && !names.contains(""),
            "methods",
            "expected methods with names that differ",
        );
        checks.done()
    }

    fn check_metrics(&self, checks: &mut Checks) {
        let diversity = &self.diversity;
        let has = |metric: Metric| diversity.metrics.contains(&metric);
        let distinct: BTreeSet<Metric> = diversity.metrics.iter().copied().collect();
        checks
            .require(
                !diversity.metrics.is_empty() && distinct.len() == diversity.metrics.len(),
                "diversity.metrics",
                "expected at least one metric, and none twice",
            )
            .require(
                !has(Metric::EadTokenizer),
                "diversity.metrics",
                "`ead_tokenizer` has no tokenizer here: its order is that of `ead`",
            )
            .require(
                !has(Metric::NliReleasedSampled),
                "diversity.metrics",
                "`nli_released_sampled` says nothing of texts: remove it",
            );
        if let Some((metric, field)) = diversity.lacks(true) {
            let message = format!("`{}` needs `{field}`", metric.name());
            checks.require(false, "diversity.metrics", message);
        }
        for field in diversity.unused(false) {
            checks.require(
                false,
                &format!("diversity.{field}"),
                "no metric of `diversity.metrics` reads it: remove it, or add one",
            );
        }
        let both = diversity.nli.is_some() && diversity.classifier.is_some();
        checks.require(!both, "diversity.classifier", "expected `nli` or `classifier`, not both");
    }
}
