//! The optimum of the KL-regularised objective as a line over beta, and best-of-n as a line over n,
//! by KL from the reference policy; the methods as points.

use serde_json::{Value, json};

use super::{Chart, PALETTE, around, colour, label, methods};
use crate::artefacts::optimum::{DISTANCE, Figures, Optimum};
use crate::artefacts::points::family;
use crate::eval::interval::Interval;
use crate::eval::over_optimisation::{Fit, Form, Parameters};
use crate::run::Evaluation;

/// The exact score.
const GOLD: &str = "gold";

/// One chart per test set and metric.
pub(super) fn charts(evaluation: &Evaluation) -> Vec<Chart> {
    let drawn = |one| [GOLD, reward(one), DISTANCE].map(|metric| (one, metric));
    let each = evaluation.optimum.iter().flat_map(drawn);
    each.filter_map(|(optimum, metric)| chart(evaluation, optimum, metric)).collect()
}

/// The metric that the objective has: the reward model's score, or what the missing-EOS rule makes
/// of it.
fn reward(optimum: &Optimum) -> &'static str {
    let ruled = optimum.points().any(|(_, figures)| figures.contains_key("reward"));
    if ruled { "reward" } else { "rm" }
}

/// What has both KL and the metric: its name, KL, the metric.
type Points = Vec<(String, Interval, Interval)>;

fn points<'a>(metric: &str, all: impl Iterator<Item = (String, &'a Figures)>) -> Points {
    all.filter_map(|(name, figures)| Some((name, *figures.get("kl")?, *figures.get(metric)?)))
        .collect()
}

/// `None` where no beta has an estimate of the metric.
fn chart(evaluation: &Evaluation, optimum: &Optimum, metric: &str) -> Option<Chart> {
    let Optimum { test_set, temperature, .. } = optimum;
    let by_beta = optimum.by_beta.iter();
    let by_beta = points(metric, by_beta.filter_map(|at| Some((at.name(), at.figures.as_ref()?))));
    if by_beta.is_empty() {
        return None;
    }
    let best = optimum.best_of_n.iter();
    let best = points(metric, best.map(|at| (at.name(), &at.figures)));
    let all = methods(evaluation);
    let [of_best, of_optimum] = free(optimum, &all);
    let mut data = vec![line("optimum", "solid", of_optimum, &by_beta)];
    if !best.is_empty() {
        data.push(line("best-of-n", "dash", of_best, &best));
    }
    for of in &optimum.methods {
        let own = points(metric, std::iter::once((of.method.clone(), &of.figures)));
        let place = all.iter().position(|name| *name == of.method).unwrap_or(0);
        data.extend((!own.is_empty()).then(|| markers(&of.method, colour(place), &own)));
    }
    if metric == GOLD {
        data.extend(optimum.fits.iter().filter_map(|fit| fitted(fit, optimum, of_best, &all)));
    }
    let axis = |name: &str, unit: &str| {
        let text = format!("{name}{unit}<br>(samples at temperature {temperature})");
        json!({"title": {"text": text}})
    };
    let reward = reward(optimum);
    let note = format!(
        "The solid line is the optimum of E[{reward}] - beta KL, beta falling from left to right: \
         no policy has more {reward} at the same KL. Where gold falls along this line, the \
         objective is the cause; where a policy has less {reward} than the line at its KL, its \
         training is."
    );
    Some(Chart {
        id: format!("optimum {metric} {test_set}"),
        title: format!("{metric} against KL: the optimum of the objective, {test_set}"),
        note,
        data,
        layout: json!({"xaxis": axis("KL", ", nats"), "yaxis": axis(metric, "")}),
        height: 420,
    })
}

/// A form as a dotted line, from the reference policy to the furthest point that it was fitted to;
/// `None` where gold of the reference policy is not known.
fn fitted(fit: &Fit, optimum: &Optimum, of_best: &str, all: &[&str]) -> Option<Value> {
    let of_one = optimum.best_of_n.iter().find(|at| at.n == 1)?;
    let base = of_one.figures.get(GOLD)?.mean;
    let kl = |figures: &Figures| figures.get("kl").map(|kl| kl.mean);
    let (colour, furthest) = match fit.form {
        Form::BestOfN => {
            let all = optimum.best_of_n.iter().filter_map(|at| kl(&at.figures));
            (of_best, all.fold(0.0, f64::max))
        }
        Form::Reinforcement => {
            let own = |name: &str| family(name) == fit.family;
            let points = optimum.methods.iter().filter(|of| own(&of.method));
            let place = all.iter().position(|name| own(name)).unwrap_or(0);
            (colour(place), points.filter_map(|of| kl(&of.figures)).fold(0.0, f64::max))
        }
    };
    let parameters = Parameters { a: fit.a.mean, b: fit.b.mean };
    let x: Vec<f64> = (0..=60).map(|at| furthest * (f64::from(at) / 60.0).powi(2)).collect();
    let y: Vec<f64> = x.iter().map(|kl| base + fit.form.gain(parameters, *kl)).collect();
    Some(json!({
        "type": "scatter", "mode": "lines", "name": label(&format!("fit, {}", fit.family)),
        "x": x, "y": y, "hoverinfo": "skip",
        "line": {"color": colour, "dash": "dot", "width": 1.5},
    }))
}

/// The first and the last colour that no method of the chart has.
fn free(optimum: &Optimum, all: &[&str]) -> [&'static str; 2] {
    let taken = |at: &usize| {
        let own = |name: &&str| optimum.methods.iter().any(|of| of.method == **name);
        all.iter().enumerate().any(|(place, name)| own(name) && colour(place) == colour(*at))
    };
    let mut free = (0..PALETTE.len()).filter(|at| !taken(at));
    let first = free.next().unwrap_or(0);
    [first, free.next_back().unwrap_or(first)].map(colour)
}

/// A trace with both intervals of each point.
fn trace(name: &str, mode: &str, points: &Points) -> Value {
    let (x, y) = (points.iter().map(|point| point.1), points.iter().map(|point| point.2));
    json!({
        "type": "scatter", "mode": mode, "name": label(name),
        "x": x.clone().map(|kl| kl.mean).collect::<Vec<f64>>(),
        "y": y.clone().map(|value| value.mean).collect::<Vec<f64>>(),
        "error_x": around(x), "error_y": around(y),
        "text": points.iter().map(|point| label(&point.0)).collect::<Vec<String>>(),
        "hovertemplate": "%{text}<br>%{x:.3f} nats, %{y:.3f}",
    })
}

fn line(name: &str, dash: &str, colour: &str, points: &Points) -> Value {
    let mut trace = trace(name, "lines+markers", points);
    trace["line"] = json!({"color": colour, "dash": dash});
    trace["marker"] = json!({"color": colour, "size": 6});
    trace
}

fn markers(name: &str, colour: &str, points: &Points) -> Value {
    let mut trace = trace(name, "markers", points);
    trace["marker"] = json!({"color": colour, "size": 10, "line": {"width": 2, "color": colour}});
    trace
}
