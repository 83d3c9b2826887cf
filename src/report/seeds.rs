//! How figures over seeds of training are shown. Knows neither how a figure came about nor what a
//! seed changed.

use super::layout::{Cell, Line, Listing, Verdict, decimals, distinct, number};
use super::metrics::{is_part, is_spread};
use super::run::Evaluation;
use super::significance::{p, pair};
use crate::artefacts::seeds::Figure;

/// Every seed's value.
fn values(figure: &Figure, decimals: usize) -> Cell {
    let values: Vec<String> =
        figure.over.values.iter().map(|value| number(*value, decimals)).collect();
    Cell(vec![values.join(", ")])
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
                values(figure, decimals),
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
            values(figure, decimals),
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
