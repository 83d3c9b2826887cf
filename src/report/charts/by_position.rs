//! The branching factor of every method's model over the position of the response, a chart a test
//! set.

use serde_json::{Value, json};

use super::{Chart, band, colour, label, methods, test_sets};
use crate::artefacts::distributions::{BRANCHING_FACTOR, ByPosition};
use crate::run::Evaluation;

/// One chart for each test set that has more than one position.
pub(super) fn over_positions(evaluation: &Evaluation) -> Vec<Chart> {
    let sets = test_sets(evaluation).into_iter();
    sets.filter_map(|test_set| chart(evaluation, test_set)).collect()
}

fn chart(evaluation: &Evaluation, test_set: &str) -> Option<Chart> {
    let of = |curve: &&ByPosition| curve.test_set == test_set && curve.metric == BRANCHING_FACTOR;
    let curves: Vec<&ByPosition> = evaluation.by_position.iter().filter(of).collect();
    if curves.iter().all(|curve| curve.by_position.len() < 2) {
        return None;
    }
    let all = methods(evaluation);
    let place =
        |curve: &ByPosition| all.iter().position(|method| *method == curve.method).unwrap_or(0);
    let data = curves.iter().flat_map(|curve| line(curve, colour(place(curve)))).collect();
    let layout = json!({"yaxis": {"title": {"text": evaluation.axis(BRANCHING_FACTOR)},
            "type": "log"},
        "xaxis": {"title": {"text": "position of the response, tokens"}}});
    let note = "The number of equally likely next tokens of the same entropy. At a position it is \
        of the inputs of which some sample is as long, so later positions are of longer responses.";
    Some(Chart {
        id: format!("{BRANCHING_FACTOR} {test_set}"),
        title: format!("Branching factor by position on {test_set}"),
        note: note.into(),
        data,
        layout,
        height: 420,
    })
}

/// A method's line with its band.
fn line(curve: &ByPosition, colour: &str) -> [Value; 2] {
    let points = &curve.by_position;
    let positions: Vec<f64> = (1..=points.len()).map(|position| position as f64).collect();
    let means: Vec<f64> = points.iter().map(|point| point.mean).collect();
    [
        band(&positions, points, colour, &curve.method),
        json!({"type": "scatter", "mode": "lines", "name": label(&curve.method),
            "legendgroup": curve.method, "x": positions, "y": means,
            "hovertemplate": "token %{x}: %{y:.3f}", "line": {"color": colour}}),
    ]
}
