//! Curves of training: every figure of every stage that takes steps, and how far PPO went for what
//! it got. Knows figures by their names alone.

use serde_json::{Value, json};

use super::charts::{Chart, colour, label, sentence};
use super::layout::distinct;
use super::metrics::define_step;
use super::run::{Curve, Node, Run};

/// Points that a chart has at most, as far as [`LEAST_POINTS`] allows; of more, every k-th is
/// drawn.
pub const POINTS: usize = 1000;
/// Points of a line that a chart has at least, where there are as many.
pub const LEAST_POINTS: usize = 100;

/// What comes first, in this order; the rest follows in the order of the file.
const FIRST: [&str; 9] = [
    "loss",
    "validation/loss",
    "accuracy",
    "validation/accuracy",
    "validation/score",
    "objective/scores",
    "objective/kl",
    "objective/rlhf_reward",
    "objective/entropy",
];

/// The nodes of a stage that have curves.
fn nodes<'a>(run: &'a Run, family: &str) -> Vec<&'a Node> {
    let has_curves = |node: &&Node| node.family() == family && !node.curves.is_empty();
    run.nodes.iter().filter(has_curves).collect()
}

/// Whether the charts of a stage have fewer points than its files.
pub fn is_thinned(run: &Run, family: &str) -> bool {
    let nodes = nodes(run, family);
    let mut curves = nodes.iter().flat_map(|node| &node.curves);
    curves.any(|curve| curve.points.len() > most(nodes.len()))
}

/// Points of a line of a chart of `lines`.
fn most(lines: usize) -> usize {
    (POINTS / lines.max(1)).max(LEAST_POINTS)
}

/// The charts of a stage: one a figure, a line a node of a sweep.
pub fn charts(run: &Run, family: &str) -> Vec<Chart> {
    let nodes = nodes(run, family);
    let mut metrics =
        distinct(nodes.iter().flat_map(|node| &node.curves).map(|curve| curve.metric.as_str()));
    metrics.sort_by_key(|metric| {
        FIRST.iter().position(|first| first == metric).unwrap_or(FIRST.len())
    });
    optimisation(&nodes, family)
        .into_iter()
        .chain(metrics.into_iter().map(|metric| figure(&nodes, family, metric)))
        .collect()
}

/// The stages that have curves, in the order of the file.
pub fn families(run: &Run) -> Vec<&str> {
    distinct(run.nodes.iter().filter(|node| !node.curves.is_empty()).map(Node::family))
}

fn figure(nodes: &[&Node], family: &str, metric: &str) -> Chart {
    let trace = |(at, node): (usize, &&Node)| {
        let points = thinned(node.curve(metric)?, nodes.len());
        Some(json!({
            "type": "scatter", "mode": if points.len() < 30 { "lines+markers" } else { "lines" },
            "name": label(&node.name),
            "x": points.iter().map(|point| point.0).collect::<Vec<u64>>(),
            "y": points.iter().map(|point| point.1).collect::<Vec<Option<f64>>>(),
            "line": {"color": colour(at), "width": 1.5}, "marker": {"size": 4},
            "hovertemplate": "step %{x}: %{y:.4g}",
        }))
    };
    let data: Vec<Value> = nodes.iter().enumerate().filter_map(trace).collect();
    // Of a few steps no tick is between two.
    let steps = nodes
        .iter()
        .filter_map(|node| node.curve(metric)?.points.last())
        .map(|point| point.0)
        .max()
        .unwrap_or(0);
    let across = if steps < 8 {
        json!({"title": {"text": "step"}, "dtick": 1})
    } else {
        json!({"title": {"text": "step"}})
    };
    let definition = define_step(metric);
    let unit = definition.as_ref().map_or(String::new(), |definition| definition.unit.clone());
    let note = definition.map_or_else(String::new, |definition| sentence(&definition.sentence()));
    let layout =
        json!({"showlegend": nodes.len() > 1, "xaxis": across, "yaxis": {"title": {"text": unit}}});
    Chart {
        id: format!("{family} {metric}"),
        title: metric.into(),
        note,
        data,
        layout,
        height: 240,
    }
}

/// Score and reward over KL, step by step: the frontier that a policy walks as it is optimised.
fn optimisation(nodes: &[&Node], family: &str) -> Option<Chart> {
    let mut data = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        let Some((kl, scores)) = node.curve("objective/kl").zip(node.curve("objective/scores"))
        else {
            continue;
        };
        let both: Vec<(u64, Option<f64>, Option<f64>)> = thinned(kl, nodes.len())
            .into_iter()
            .zip(thinned(scores, nodes.len()))
            .map(|(kl, score)| (kl.0, kl.1, score.1))
            .collect();
        data.push(json!({
            "type": "scatter", "mode": "lines+markers", "name": label(&node.name),
            "x": both.iter().map(|point| point.1).collect::<Vec<_>>(),
            "y": both.iter().map(|point| point.2).collect::<Vec<_>>(),
            "text": both.iter().map(|point| format!("step {}", point.0)).collect::<Vec<String>>(),
            "hovertemplate": "%{text}: %{x:.3f}, %{y:.3f}",
            "line": {"color": colour(at), "width": 1}, "marker": {"size": 5, "color": colour(at)},
        }));
    }
    let layout = json!({"showlegend": data.len() > 1, "xaxis": {"title": {"text": "KL, nats"}},
        "yaxis": {"title": {"text": "score"}}});
    let note =
        "Each point is a step: what the reward model gives for how far the policy has gone.".into();
    let chart = Chart {
        id: format!("{family} optimisation"),
        title: "Score against KL".into(),
        note,
        data,
        layout,
        height: 240,
    };
    (!chart.data.is_empty()).then_some(chart)
}

/// Every k-th point, and the last, of one of `lines`.
fn thinned(curve: &Curve, lines: usize) -> Vec<(u64, Option<f64>)> {
    let every = curve.points.len().div_ceil(most(lines)).max(1);
    let last = curve.points.len().saturating_sub(1);
    curve
        .points
        .iter()
        .enumerate()
        .filter(|(at, _)| at % every == 0 || *at == last)
        .map(|(_, point)| *point)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_curves_keep_their_first_and_last_points() {
        let curve = Curve {
            metric: "loss".into(),
            points: (1..=25_001).map(|step| (step, Some(step as f64))).collect(),
        };
        let thin = thinned(&curve, 1);
        assert!(thin.len() <= POINTS + 1 && thin.len() > POINTS / 2, "{}", thin.len());
        assert_eq!((thin[0].0, thin.last().unwrap().0), (1, 25_001));
        let of_four = thinned(&curve, 4).len();
        assert!(of_four <= POINTS / 4 + 1 && of_four > POINTS / 8, "{of_four}");
        assert!(thinned(&curve, 100).len() >= LEAST_POINTS);
        assert_eq!(thinned(&Curve { points: curve.points[..7].to_vec(), ..curve }, 1).len(), 7);
    }
}
