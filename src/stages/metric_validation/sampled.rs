//! Samples of models beside the truth: how many of the right contents of an input they cover, how
//! they are spread over them, how many are right; and whether metrics order methods and inputs as
//! this truth does.
//!
//! 1. All is of the first k samples of the rows of which every method has samples, k being the
//!    fewest that any of these rows has of a method.
//! 2. Agreement is Kendall's tau-b over all methods and rows together, with the jackknife over
//!    rows; and, of several methods, over the methods within a row, mean over rows.

use std::collections::BTreeMap;

use serde::Serialize;

use super::config::Method;
use super::values::{Set, Values, values};
use crate::backend::Backend;
use crate::data::dataset::test_split;
use crate::data::rows::Example;
use crate::data::samples::{self, Sampled};
use crate::error::{Result, user};
use crate::eval::classes::distinct;
use crate::eval::interval::{FEWEST, Interval, of_mean, of_set};
use crate::eval::ranks::tau_b;
use crate::eval::richness::chao_shen;
use crate::stages::diversity::Measures;
use crate::world::answers::RightAnswers;

/// Groups of rows that the jackknife leaves out, one after another.
const GROUPS: usize = 40;

/// A method's samples.
pub(super) struct Read<'a> {
    name: &'a str,
    rows: Vec<Sampled>,
}

/// What a method's samples cover.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Counted {
    pub(super) method: String,
    pub(super) test_set: String,
    /// Samples of a row.
    pub(super) k: usize,
    /// By name: coverage, classes, share and entropy of right samples.
    pub(super) figures: BTreeMap<&'static str, Interval>,
    /// Means of the metrics of these samples.
    pub(super) metrics: BTreeMap<String, Interval>,
}

/// How a metric orders methods and rows.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Ordered {
    pub(super) metric: String,
    pub(super) test_set: String,
    pub(super) k: usize,
    /// With the coverage, over methods and rows together.
    pub(super) coverage: Interval,
    /// With the entropy of right samples' classes, likewise.
    pub(super) class_entropy: Interval,
    /// With the coverage, over the methods within a row, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) coverage_within: Option<Interval>,
}

/// The names of the figures.
pub(super) const COVERAGE: &str = "right_coverage";
const CLASSES: &str = "right_classes";
const SHARE: &str = "right_share";
pub(super) const ENTROPY: &str = "right_class_entropy";

/// Reads the samples of all methods.
pub(super) fn read(methods: &[Method]) -> Result<Vec<Read<'_>>> {
    let one = |method: &'_ Method| -> Result<Vec<Sampled>> { samples::read(method.samples.path()) };
    methods.iter().map(|method| Ok(Read { name: &method.name, rows: one(method)? })).collect()
}

/// What the samples of a test set cover, and how the metrics order them.
///
/// # Errors
/// The user's: no row has samples of every method, a row has one sample only, or a row is of no
/// built-in world.
pub(super) fn counted<B: Backend>(
    measures: &Measures<'_, B>,
    test_set: &str,
    examples: &[Example],
    methods: &[Read<'_>],
) -> Result<(Vec<Counted>, Vec<Ordered>)> {
    let split = test_split(test_set);
    let by_id: Vec<BTreeMap<&str, &Sampled>> = methods
        .iter()
        .map(|method| {
            let own = method.rows.iter().filter(|row| row.split == split);
            own.map(|row| (row.id.as_str(), row)).collect()
        })
        .collect();
    let has_all = |row: &&Example| by_id.iter().all(|own| own.contains_key(row.id.as_str()));
    let rows: Vec<&Example> = examples.iter().filter(has_all).collect();
    let k = rows.iter().flat_map(|row| by_id.iter().map(|own| own[row.id.as_str()].outputs.len()));
    let Some(k) = k.min() else {
        return Err(user(format!("no row of test set `{test_set}` has samples of every method"))
            .hint("name in `test_sets` those that all of `methods` have sampled")
            .into());
    };
    if k < 2 {
        let message = format!("a row of test set `{test_set}` has {k} samples of a method");
        return Err(user(message).hint("diversity is of two samples or more of a row").into());
    }
    // By row, then by method.
    let (mut figures, mut metrics) = (Vec::new(), Vec::new());
    for row in &rows {
        let answers = super::right_answers(test_set, row)?;
        let sets: Vec<Set> =
            by_id.iter().map(|own| read_by(&answers, own[row.id.as_str()], k)).collect();
        figures.push(sets.iter().map(|set| truth(set, k, &answers)).collect::<Vec<_>>());
        metrics.push(values(measures, &sets, &[k])?);
    }
    let counted = methods.iter().enumerate().map(|(at, method)| Counted {
        method: method.name.to_owned(),
        test_set: test_set.to_owned(),
        k,
        figures: [COVERAGE, CLASSES, SHARE, ENTROPY]
            .map(|name| {
                let own: Vec<f64> = figures.iter().map(|row| row[at][name]).collect();
                (name, of_mean(&own))
            })
            .into(),
        metrics: (0..metrics[0].len())
            .map(|metric| {
                let own: Vec<f64> = metrics.iter().map(|row| row[metric].by_k[0][at]).collect();
                (metrics[0][metric].name.clone(), of_mean(&own))
            })
            .collect(),
    });
    let ordered =
        (0..metrics[0].len()).map(|metric| order(test_set, k, &figures, &metrics, metric));
    Ok((counted.collect(), ordered.collect()))
}

/// The first k samples with the class of each that is right.
fn read_by(answers: &RightAnswers, row: &Sampled, k: usize) -> Set {
    let outputs = &row.outputs[..k];
    Set {
        texts: outputs.iter().map(|output| output.text.clone()).collect(),
        classes: outputs
            .iter()
            .map(|output| answers.class_of(&output.text, output.ended))
            .collect(),
    }
}

/// The figures of one method on one row.
fn truth(set: &Set, k: usize, answers: &RightAnswers) -> BTreeMap<&'static str, f64> {
    let right = set.right(k);
    let classes = distinct(&right, right.len()) as f64;
    [
        (COVERAGE, classes / answers.contents().len() as f64),
        (CLASSES, classes),
        (SHARE, right.len() as f64 / k as f64),
        (ENTROPY, chao_shen(&right)),
    ]
    .into()
}

/// How one metric orders methods and rows.
fn order(
    test_set: &str,
    k: usize,
    figures: &[Vec<BTreeMap<&'static str, f64>>],
    metrics: &[Vec<Values>],
    metric: usize,
) -> Ordered {
    let own = &metrics[0][metric];
    let sign = if own.falls { -1.0 } else { 1.0 };
    let value = |row: usize| metrics[row][metric].by_k[0].iter().map(move |value| sign * value);
    let truth = |row: usize, name: &'static str| figures[row].iter().map(move |own| own[name]);
    let n = figures.len();
    let pooled = |name: &'static str| -> Interval {
        let tau = |rows: &[usize]| {
            let values: Vec<f64> = rows.iter().flat_map(|row| value(*row)).collect();
            let truths: Vec<f64> = rows.iter().flat_map(|row| truth(*row, name)).collect();
            tau_b(&values, &truths)
        };
        let whole = tau(&(0..n).collect::<Vec<usize>>());
        of_set(n, GROUPS, FEWEST, tau).around(whole, n)
    };
    let within = |row: usize| {
        tau_b(&value(row).collect::<Vec<f64>>(), &truth(row, COVERAGE).collect::<Vec<f64>>())
    };
    Ordered {
        metric: own.name.clone(),
        test_set: test_set.to_owned(),
        k,
        coverage: pooled(COVERAGE),
        class_entropy: pooled(ENTROPY),
        coverage_within: (figures[0].len() > 1)
            .then(|| of_mean(&(0..n).map(within).collect::<Vec<f64>>())),
    }
}
