//! Similarity of samples within and between methods: a line for each method and for every two, a
//! chart for each test set and metric.

use serde_json::{Value, json};

use super::{Chart, around, find, label, methods, test_sets};
use crate::artefacts::comparisons::{Between, EMBEDDING_SIMILARITY, NGRAM_SIMILARITY};
use crate::eval::interval::Interval;
use crate::run::Evaluation;

/// One chart for each metric and test set by which two methods are compared.
pub(super) fn within_and_between(evaluation: &Evaluation) -> Vec<Chart> {
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
    let within = methods(evaluation).into_iter().filter_map(|method| {
        Some((label(method), find(evaluation, method, test_set, metric)?.figure))
    });
    let within: Vec<(String, Interval)> = within.collect();
    let between: Vec<(String, Interval)> = own
        .iter()
        .map(|of| (label(&format!("{} with {}", of.method, of.with)), of.similarity))
        .collect();
    let order: Vec<&String> = within.iter().chain(&between).map(|(name, _)| name).collect();
    let layout = json!({"xaxis": {"title": {"text": evaluation.axis(metric)}},
        "yaxis": {"type": "category", "autorange": "reversed", "automargin": true,
            "categoryorder": "array", "categoryarray": order}});
    let note = "Mean similarity of two samples of one input, both of one method or one of each. \
        Where that between two methods is as high as within both, they give the same answers.";
    Some(Chart {
        id: format!("{metric} {test_set}"),
        title: format!("{metric} within and between methods on {test_set}"),
        note: note.into(),
        data: vec![
            points("within a method", &within, "#0072b2", "circle"),
            points("between two methods", &between, "#d55e00", "diamond"),
        ],
        layout,
        height: 420,
    })
}

/// Points with the bars of their intervals, a line each.
fn points(name: &str, own: &[(String, Interval)], colour: &str, shape: &str) -> Value {
    let (names, figures): (Vec<&String>, Vec<Interval>) =
        own.iter().map(|(name, figure)| (name, *figure)).unzip();
    json!({"type": "scatter", "mode": "markers", "name": name, "y": names,
        "x": figures.iter().map(|figure| figure.mean).collect::<Vec<f64>>(),
        "error_x": around(figures.iter().copied()), "hovertemplate": "%{y}: %{x:.3f}",
        "marker": {"color": colour, "size": 10, "symbol": shape}})
}
