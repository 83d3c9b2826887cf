//! Performance against diversity of one input's samples: best-of-n as a line over n, and the
//! policies as points, each joined with the point of the line at the policy's KL.

use serde_json::{Value, json};

use super::{Chart, SHAPES, around, colour, errors, find, label, methods, test_sets};
use crate::artefacts::curves::BestOfN;
use crate::artefacts::table::DIVERSITY;
use crate::eval::compare::Matched;
use crate::run::Evaluation;

/// One chart per test set and best-of-n method.
pub(super) fn frontiers(evaluation: &Evaluation) -> Vec<Chart> {
    let of_diversity = evaluation.best_of_n.iter().filter(|curve| curve.metric == DIVERSITY);
    of_diversity
        .filter_map(|diversity| Frontier::of(evaluation, diversity))
        .map(|frontier| frontier.chart())
        .collect()
}

/// The two curves of a best-of-n method on a test set.
struct Frontier<'a> {
    evaluation: &'a Evaluation,
    diversity: &'a BestOfN,
    performance: &'a BestOfN,
}

impl<'a> Frontier<'a> {
    /// By gold, otherwise by the reward model; `None` without either.
    fn of(evaluation: &'a Evaluation, diversity: &'a BestOfN) -> Option<Self> {
        let curve = |metric: &str| {
            let same = |curve: &&BestOfN| {
                (&curve.method, &curve.test_set, curve.metric.as_str())
                    == (&diversity.method, &diversity.test_set, metric)
            };
            evaluation.best_of_n.iter().find(same)
        };
        let performance = ["gold", "rm"].into_iter().find_map(curve)?;
        Some(Frontier { evaluation, diversity, performance })
    }

    fn colour(&self, method: &str) -> &'static str {
        let all = methods(self.evaluation);
        colour(all.iter().position(|other| *other == method).unwrap_or(0))
    }

    /// Best-of-n over n.
    fn line(&self) -> Value {
        let (diversity, performance) = (self.diversity, self.performance);
        let thin = |curve: &BestOfN| {
            let mut bars = around(curve.by_n.iter().copied());
            bars["thickness"] = json!(0.75);
            bars["width"] = json!(0);
            bars
        };
        let text = |(at, kl): (usize, &f64)| format!("n = {}, at most {kl:.2} nats", at + 1);
        let colour = self.colour(&diversity.method);
        json!({
            "type": "scatter", "mode": "lines+markers", "name": label(&diversity.method),
            "x": diversity.by_n.iter().map(|point| point.mean).collect::<Vec<f64>>(),
            "y": performance.by_n.iter().map(|point| point.mean).collect::<Vec<f64>>(),
            "error_x": thin(diversity), "error_y": thin(performance),
            "text": diversity.kl_bound.iter().enumerate().map(text).collect::<Vec<String>>(),
            "hovertemplate": "%{text}<br>%{x:.3f}, %{y:.3f}",
            "line": {"color": colour}, "marker": {"color": colour, "size": 6},
        })
    }

    /// The point of another method; `None` if one of its two figures is absent.
    fn point(&self, name: &str) -> Option<Value> {
        let test_set = &self.diversity.test_set;
        let row = |metric: &str| find(self.evaluation, name, test_set, metric);
        let (x, y) = (row(DIVERSITY)?, row(&self.performance.metric)?);
        let kl =
            row("kl").map_or_else(String::new, |row| format!("{:.2} nats<br>", row.figure.mean));
        let sets = test_sets(self.evaluation);
        let at = sets.iter().position(|set| set == test_set).unwrap_or(0);
        let colour = self.colour(name);
        Some(json!({
            "type": "scatter", "mode": "markers", "name": label(name), "legendgroup": name,
            "x": [x.figure.mean], "y": [y.figure.mean],
            "error_x": errors([x].into_iter()), "error_y": errors([y].into_iter()),
            "hovertemplate": format!("{kl}%{{x:.3f}}, %{{y:.3f}}"),
            "marker": {"color": colour, "size": 10, "symbol": SHAPES[at % SHAPES.len()],
                "line": {"width": 2, "color": colour}},
        }))
    }

    /// From a policy to best-of-n at its KL; `None` where n does not go that far.
    fn join(&self, name: &str) -> Option<Value> {
        let BestOfN { method, test_set, .. } = self.diversity;
        let matched = |metric: &str| {
            let own = |matched: &&Matched| {
                let found = &matched.difference;
                (&found.metric[..], &found.test_set, &found.method[..], &found.with)
                    == (metric, test_set, name, method)
            };
            let mut matched = self.evaluation.comparisons.matched.iter();
            matched.find(own).map(|found| (found.own, found.best))
        };
        let (across, down) = (matched(DIVERSITY)?, matched(&self.performance.metric)?);
        Some(json!({
            "type": "scatter", "mode": "lines", "legendgroup": name, "showlegend": false,
            "x": [across.0, across.1], "y": [down.0, down.1],
            "hoverinfo": "skip", "line": {"color": self.colour(name), "dash": "dot",
                "width": 1.5},
        }))
    }

    fn chart(&self) -> Chart {
        let BestOfN { method, test_set, .. } = self.diversity;
        let performance = &self.performance.metric;
        let mut data = vec![self.line()];
        for name in methods(self.evaluation).into_iter().filter(|name| *name != method) {
            if let Some(point) = self.point(name) {
                data.push(point);
                data.extend(self.join(name));
            }
        }
        let axis = |metric: &str| json!({"title": {"text": self.evaluation.axis(metric)}});
        let matched = self.evaluation.comparisons.matched.first();
        let samples = matched
            .map_or_else(String::new, |matched| format!(" at temperature {}", matched.temperature));
        let note = format!(
            "The line is best-of-n for n = 1, 2, …; it and the points have the temperatures of \
             the axes. A dotted line leads from a policy to best-of-n at its KL, where n goes that \
             far: both its ends are of samples{samples}, in {performance} too."
        );
        Chart {
            id: format!("frontier {method} {test_set}"),
            title: format!("Performance against diversity at equal KL, {test_set}"),
            note,
            data,
            layout: json!({"xaxis": axis(DIVERSITY), "yaxis": axis(performance)}),
            height: 420,
        }
    }
}
