//! Figures over seeds of training: what `over_seeds` writes in `seeds.json`, and how it is shown.
//! Knows neither how a figure came about nor what a seed changed.

use serde::{Deserialize, Serialize};

use super::layout::{Cell, Line, Listing, Verdict, decimals};
use super::metrics::{is_part, is_spread};
use super::run::Evaluation;
use super::significance::{p, pair};
use super::table::distinct;
use crate::eval::seeds::OverSeeds;

/// One figure over seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The method.
    pub method: String,
    /// What `method` is compared with, where this is a difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<String>,
    /// The test set.
    pub test_set: String,
    /// The metric.
    pub metric: String,
    /// Mean, interval and deviation over seeds, and each seed's value.
    #[serde(flatten)]
    pub over: OverSeeds,
    /// Of a difference: p, Holm-corrected over all differences in this metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_holm: Option<f64>,
    /// Of a figure of one method: the low and high ends of each seed's own 95% interval over
    /// inputs, of the seeds that have one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub over_inputs: Vec<[f64; 2]>,
}

/// Half a 95% interval of a normal distribution, in standard deviations.
const REACH: f64 = 1.96;

impl Figure {
    /// The standard error of one seed's figure over inputs, as its interval has it: half the width
    /// over 1.96, mean over seeds. None of a difference.
    pub fn error_over_inputs(&self) -> Option<f64> {
        let widths: Vec<f64> =
            self.over_inputs.iter().map(|[low, high]| (high - low) / 2.0 / REACH).collect();
        (!widths.is_empty()).then(|| widths.iter().sum::<f64>() / widths.len() as f64)
    }

    /// Every seed's value.
    fn values(&self, decimals: usize) -> Cell {
        let values: Vec<String> =
            self.over.values.iter().map(|value| super::layout::number(*value, decimals)).collect();
        Cell(vec![values.join(", ")])
    }
}

/// The figures of every method and what a seed changes: a listing a metric. The parts of gold and
/// the measures of diversity beside EAD are left to CSV and JSON.
pub(super) fn figures(evaluation: &Evaluation) -> Vec<Listing> {
    let meaning = "mean over seeds with its 95% interval by Student's t; the standard deviation \
        over seeds, and the standard error of a single seed's figure over inputs: where the first \
        is the larger, the interval over inputs is too narrow for another seed";
    let line = |figure: &Figure, decimals: usize| {
        let inputs = figure.error_over_inputs();
        let ratio = inputs.filter(|inputs| *inputs > 0.0).map(|inputs| figure.over.std / inputs);
        let shown =
            |x: Option<f64>, decimals| x.map_or(Cell(vec![]), |x| Cell::number(x, decimals));
        Line {
            name: figure.method.clone(),
            test_set: figure.test_set.clone(),
            cells: vec![
                Cell::interval(&figure.over.interval, decimals),
                Cell::number(figure.over.std, decimals),
                shown(inputs, decimals),
                shown(ratio, 1),
                figure.values(decimals),
            ],
            verdict: None,
        }
    };
    let columns = ["method", "mean", "std, seeds", "error, inputs", "ratio", "each seed"];
    listings(evaluation, |figure| figure.with.is_none(), "every seed", meaning, &columns, line)
}

/// The differences of methods over seeds: a listing a metric.
pub(super) fn differences(evaluation: &Evaluation) -> Vec<Listing> {
    let meaning = "one method minus another, seed by seed, with its 95% interval by Student's t; p \
        of the paired t test, and Holm-corrected over all of this table";
    let line = |figure: &Figure, decimals: usize| Line {
        name: pair(&figure.method, figure.with.as_deref().unwrap_or_default()),
        test_set: figure.test_set.clone(),
        cells: vec![
            Cell::interval(&figure.over.interval, decimals),
            p(figure.over.p),
            figure.p_holm.map_or(Cell(vec![]), p),
            Cell::number(figure.over.std, decimals),
            figure.values(decimals),
        ],
        verdict: figure.p_holm.map(|p| Verdict::of(figure.over.interval.mean, p)),
    };
    let columns = ["methods", "difference", "p", "p, Holm", "std, seeds", "each seed"];
    listings(
        evaluation,
        |figure| figure.with.is_some(),
        "differences over seeds",
        meaning,
        &columns,
        line,
    )
}

fn listings(
    evaluation: &Evaluation,
    wanted: impl Fn(&Figure) -> bool,
    title: &str,
    meaning: &str,
    columns: &[&'static str],
    line: impl Fn(&Figure, usize) -> Line,
) -> Vec<Listing> {
    let all: Vec<&Figure> = evaluation
        .seeds
        .iter()
        .filter(|figure| wanted(figure) && !is_part(&figure.metric) && !is_spread(&figure.metric))
        .collect();
    let metrics = distinct(all.iter().map(|figure| figure.metric.as_str()));
    let listing = |metric: &str| {
        let own: Vec<&&Figure> = all.iter().filter(|figure| figure.metric == metric).collect();
        let decimals = decimals(own.iter().map(|figure| figure.over.interval.mean));
        Listing {
            title: format!("{metric}: {title}"),
            metric: metric.into(),
            meaning: meaning.into(),
            columns: columns.into(),
            lines: own.iter().map(|figure| line(figure, decimals)).collect(),
        }
    };
    metrics.into_iter().map(listing).collect()
}
