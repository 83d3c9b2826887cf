//! What k samples of an input reach, over k: pass@k, best@k and the win rate of the best of k of
//! every method, a chart a metric and test set.

use serde_json::{Value, json};

use super::{Chart, band, colour, label, methods, test_sets};
use crate::artefacts::quality::{AtK, BEST_AT_K, PASS_AT_K, WIN_AT_K};
use crate::run::Evaluation;

/// One chart for each metric and test set that has more than one k.
pub(super) fn over_k(evaluation: &Evaluation) -> Vec<Chart> {
    let all =
        [(PASS_AT_K, "pass@k"), (BEST_AT_K, "best@k"), (WIN_AT_K, "win rate of the best of k")];
    let one = |(metric, name)| {
        test_sets(evaluation)
            .into_iter()
            .filter_map(move |test_set| chart(evaluation, metric, name, test_set))
    };
    all.into_iter().flat_map(one).collect()
}

fn chart(evaluation: &Evaluation, metric: &str, name: &str, test_set: &str) -> Option<Chart> {
    let of = |curve: &&AtK| curve.metric == metric && curve.test_set == test_set;
    let curves: Vec<&AtK> = evaluation.at_k.iter().filter(of).collect();
    let most = curves.iter().map(|curve| curve.by_k.len()).max().unwrap_or(0);
    if most < 2 {
        return None;
    }
    let all = methods(evaluation);
    let place = |curve: &AtK| all.iter().position(|method| *method == curve.method).unwrap_or(0);
    let data = curves.iter().flat_map(|curve| line(curve, colour(place(curve)))).collect();
    let powers: Vec<usize> =
        std::iter::successors(Some(1), |k| Some(2 * k)).take_while(|k| *k <= most).collect();
    let names: Vec<String> = powers.iter().map(usize::to_string).collect();
    let layout = json!({"yaxis": {"title": {"text": evaluation.axis(metric)}},
        "xaxis": {"title": {"text": "k, samples of an input"}, "type": "log",
            "tickvals": powers, "ticktext": names}});
    let note = "Where the lines of two methods cross, the one that is ahead with few samples reaches \
        less with many.";
    Some(Chart {
        id: format!("{metric} {test_set}"),
        title: format!("{name} on {test_set}"),
        note: note.into(),
        data,
        layout,
        height: 420,
    })
}

/// A method's line with its band.
fn line(curve: &AtK, colour: &str) -> [Value; 2] {
    let k: Vec<f64> = (1..=curve.by_k.len()).map(|k| k as f64).collect();
    let means: Vec<f64> = curve.by_k.iter().map(|point| point.mean).collect();
    [
        band(&k, &curve.by_k, colour, &curve.method),
        json!({"type": "scatter", "mode": "lines+markers", "name": label(&curve.method),
            "legendgroup": curve.method, "x": k, "y": means, "hovertemplate": "k = %{x}: %{y:.3f}",
            "line": {"color": colour}, "marker": {"color": colour, "size": 6}}),
    ]
}
