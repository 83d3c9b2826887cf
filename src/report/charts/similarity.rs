//! Similarity of samples within and between methods: a matrix of methods for each test set and
//! metric.

use serde_json::{Value, json};

use super::{Chart, find, label, methods, test_sets};
use crate::artefacts::comparisons::{Between, EMBEDDING_SIMILARITY, NGRAM_SIMILARITY};
use crate::eval::interval::Interval;
use crate::run::Evaluation;

/// One chart for each metric and test set by which two methods are compared.
pub(super) fn matrices(evaluation: &Evaluation) -> Vec<Chart> {
    let both = [NGRAM_SIMILARITY, EMBEDDING_SIMILARITY].into_iter();
    let one = |metric| {
        let sets = test_sets(evaluation).into_iter();
        sets.filter_map(move |test_set| chart(evaluation, metric, test_set))
    };
    both.flat_map(one).collect()
}

fn chart(evaluation: &Evaluation, metric: &str, test_set: &str) -> Option<Chart> {
    let of = |one: &&Between| one.metric == metric && one.test_set == test_set;
    let own: Vec<&Between> = evaluation.comparisons.between.iter().filter(of).collect();
    if own.is_empty() {
        return None;
    }
    let named = |one: &&str| own.iter().any(|of| of.method == **one || of.with == **one);
    let names: Vec<&str> = methods(evaluation).into_iter().filter(named).collect();
    let similarity = |row: &str, column: &str| -> Option<Interval> {
        if row == column {
            return Some(find(evaluation, row, test_set, metric)?.figure);
        }
        let pair = |of: &&&Between| {
            (of.method == row && of.with == column) || (of.method == column && of.with == row)
        };
        Some(own.iter().find(pair)?.similarity)
    };
    let cells = |show: &dyn Fn(Option<Interval>) -> Value| -> Vec<Vec<Value>> {
        let line = |row: &&str| names.iter().map(|column| show(similarity(row, column))).collect();
        names.iter().map(line).collect()
    };
    let labels: Vec<String> = names.iter().map(|name| label(name)).collect();
    let data = vec![json!({"type": "heatmap", "x": labels, "y": labels,
        "z": cells(&|of| json!(of.map(|of| of.mean))), "text": cells(&|of| json!(words(of))),
        "texttemplate": "%{text}", "hovertemplate": "%{y}, %{x}: %{z:.3f}<extra></extra>",
        "zmin": 0, "zmax": 1, "colorscale": "Blues", "reversescale": false,
        "colorbar": {"title": {"text": metric}}})];
    let layout = json!({"xaxis": {"type": "category"},
        "yaxis": {"type": "category", "autorange": "reversed"}});
    let note = "Mean similarity of two samples of one input: on the diagonal both of one method, \
        elsewhere one of each. Where a cell is as high as the two of its methods on the diagonal, \
        they give the same answers.";
    Some(Chart {
        id: format!("{metric} {test_set}"),
        title: format!("{metric} within and between methods on {test_set}"),
        note: note.into(),
        data,
        layout,
        height: 420,
    })
}

/// A mean with its interval, where it has one.
fn words(of: Option<Interval>) -> String {
    let ends = |of: Interval| match of.has_ends() {
        true => format!("{:.2}<br>[{:.2}, {:.2}]", of.mean, of.low, of.high),
        false => format!("{:.2}", of.mean),
    };
    of.map_or_else(String::new, ends)
}
