//! Charts of an evaluation, as what plotly.js takes: data and layout. One function a chart; the
//! list of them is [`charts`]. Colours and fonts of the page's theme are laid over them by the
//! page.
//!
//! 1. A method has one colour everywhere, of the palette of Okabe and Ito, which the colour-blind
//!    tell apart; a test set has one shape, the first (in distribution) filled, the others open.
//! 2. Every figure is drawn with its 95% interval.

mod at_k;
mod attribution;
mod by_position;
mod frontier;
mod optimum;
mod similarity;
pub(crate) mod sweeps;

use serde_json::{Value, json};

use crate::artefacts::curves::{BestOfN, Training};
use crate::artefacts::seeds::{Figure, Quantity};
use crate::artefacts::table::{DIVERSITY, Row};
use crate::eval::interval::Interval;
use crate::layout::distinct;
use crate::metrics::{DIFFERENCE, define_in, is_part};
use crate::run::Evaluation;

/// A chart.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Unique on the page.
    pub id: String,
    /// Its heading.
    pub title: String,
    /// What there is to see, in a sentence.
    pub note: String,
    /// Traces.
    pub data: Vec<Value>,
    /// Axes and the like.
    pub layout: Value,
    /// Pixels.
    pub height: usize,
}

/// Okabe and Ito's colours, yellow left out: it is lost on white.
const PALETTE: [&str; 7] =
    ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8c8c8c"];
const SHAPES: [&str; 6] =
    ["circle", "square-open", "diamond-open", "triangle-up-open", "cross-open", "star-open"];
/// Dashes of lines that a test set or a metric tells apart.
const DASHES: [&str; 4] = ["solid", "dash", "dot", "dashdot"];

/// The colour of the item at `at`.
pub fn colour(at: usize) -> &'static str {
    PALETTE[at % PALETTE.len()]
}

/// A colour that lets others through.
fn faint(colour: &str) -> String {
    format!("{colour}33")
}

/// A name as plotly.js shows it: it reads a little HTML.
pub fn label(name: &str) -> String {
    name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Every chart of an evaluation that its artefact has figures for.
pub fn charts(evaluation: &Evaluation) -> Vec<Chart> {
    let mut charts = Vec::new();
    charts.extend(against(
        evaluation,
        DIVERSITY,
        "Performance against diversity of one input's samples",
    ));
    charts.extend(against(
        evaluation,
        "ead_across_inputs",
        "Performance against diversity across inputs",
    ));
    charts.extend(against(evaluation, "kl", "Performance against KL from the reference policy"));
    charts.extend(every_seed(evaluation));
    charts.extend(what_a_seed_changes(evaluation));
    charts.extend(gaps(evaluation));
    charts.extend(best_of_n(evaluation));
    charts.extend(frontier::frontiers(evaluation));
    charts.extend(attribution::charts(evaluation));
    charts.extend(at_k::over_k(evaluation));
    charts.extend(by_position::over_positions(evaluation));
    charts.extend(similarity::within_and_between(evaluation));
    charts.extend(optimum::charts(evaluation));
    charts.extend(evaluation.over_optimisation.iter().filter_map(over_optimisation));
    charts.extend(calibration(evaluation));
    let drawn = |metric: &&str| !is_part(metric) && !metric.ends_with(DIFFERENCE);
    let metrics =
        distinct(evaluation.table.rows.iter().map(|row| row.metric.as_str()).filter(drawn));
    charts.extend(metrics.into_iter().map(|metric| bars(evaluation, metric)));
    for chart in &mut charts {
        chart.id = format!("{}: {}", evaluation.node, chart.id);
    }
    charts
}

/// What a metric is, where it is known.
fn meaning(evaluation: &Evaluation, metric: &str) -> String {
    define_in(&evaluation.table, metric)
        .map_or_else(String::new, |definition| definition.sentence())
}

/// The methods in the order of the table; a method's place gives its colour.
fn methods(evaluation: &Evaluation) -> Vec<&str> {
    distinct(evaluation.table.rows.iter().map(|row| row.method.as_str()))
}

fn test_sets(evaluation: &Evaluation) -> Vec<&str> {
    distinct(evaluation.table.rows.iter().map(|row| row.test_set.as_str()))
}

fn find<'a>(
    evaluation: &'a Evaluation,
    method: &str,
    test_set: &str,
    metric: &str,
) -> Option<&'a Row> {
    let rows = evaluation.table.rows.iter();
    rows.filter(|row| row.figure.n > 0)
        .find(|row| row.method == method && row.test_set == test_set && row.metric == metric)
}

/// Bars of intervals' ends around their means.
fn around(intervals: impl Iterator<Item = Interval> + Clone) -> Value {
    let above: Vec<f64> = intervals.clone().map(|interval| interval.high - interval.mean).collect();
    let below: Vec<f64> = intervals.map(|interval| interval.mean - interval.low).collect();
    json!({"type": "data", "symmetric": false, "array": above, "arrayminus": below,
        "thickness": 1.5, "width": 4})
}

/// The same for rows of the table.
fn errors<'a>(rows: impl Iterator<Item = &'a Row> + Clone) -> Value {
    around(rows.map(|row| row.figure))
}

/// What the shapes of test sets mean: points of no place, for the legend.
fn shapes(evaluation: &Evaluation) -> Vec<Value> {
    let point = |(at, set): (usize, &str)| {
        json!({"type": "scatter", "mode": "markers", "name": label(set), "x": [null], "y": [null],
            "hoverinfo": "skip",
            "marker": {"color": "#8c8c8c", "size": 10, "symbol": SHAPES[at % SHAPES.len()],
                "line": {"width": 2, "color": "#8c8c8c"}}})
    };
    test_sets(evaluation).into_iter().enumerate().map(point).collect()
}

/// Performance over another metric: a point for each method and test set.
fn against(evaluation: &Evaluation, metric: &str, title: &str) -> Option<Chart> {
    let performance = evaluation.performance()?;
    let mut data = Vec::new();
    for (place, method) in methods(evaluation).into_iter().enumerate() {
        let points: Vec<(usize, &Row, &Row)> = test_sets(evaluation)
            .into_iter()
            .enumerate()
            .filter_map(|(at, set)| {
                Some((
                    at,
                    find(evaluation, method, set, metric)?,
                    find(evaluation, method, set, performance)?,
                ))
            })
            .collect();
        if points.is_empty() {
            continue;
        }
        let (x, y) = (points.iter().map(|point| point.1), points.iter().map(|point| point.2));
        data.push(json!({
            "type": "scatter", "mode": "markers", "name": label(method),
            "x": x.clone().map(|row| row.figure.mean).collect::<Vec<f64>>(),
            "y": y.clone().map(|row| row.figure.mean).collect::<Vec<f64>>(),
            "error_x": errors(x), "error_y": errors(y.clone()),
            "text": y.map(|row| label(&row.test_set)).collect::<Vec<String>>(),
            "hovertemplate": "%{text}<br>%{x:.3f}, %{y:.3f}",
            "marker": {"color": colour(place), "size": 10,
                "line": {"width": 2, "color": colour(place)},
                "symbol": points.iter().map(|point| SHAPES[point.0 % SHAPES.len()])
                    .collect::<Vec<&str>>()},
        }));
    }
    if data.is_empty() {
        return None;
    }
    data.extend(shapes(evaluation));
    let layout = json!({"xaxis": {"title": {"text": evaluation.axis(metric)}},
        "yaxis": {"title": {"text": evaluation.axis(performance)}}});
    let note = format!(
        "Each point is a method on a test set. Across: {}. Up: {}.",
        meaning(evaluation, metric),
        meaning(evaluation, performance)
    );
    Some(Chart {
        id: format!("against {metric}"),
        title: title.into(),
        note,
        data,
        layout,
        height: 420,
    })
}

/// Performance over seeds: each method's mean with its interval, and every seed's own value.
fn every_seed(evaluation: &Evaluation) -> Option<Chart> {
    let performance = evaluation.performance()?;
    let mut data = Vec::new();
    for (place, method) in methods(evaluation).into_iter().enumerate() {
        let figures: Vec<&Figure> = of_method(evaluation, method, performance).collect();
        if figures.is_empty() {
            continue;
        }
        let of_seeds = figures.iter().flat_map(|figure| {
            figure.over.values.iter().map(|value| (label(&figure.test_set), *value))
        });
        let (x, y): (Vec<String>, Vec<f64>) = of_seeds.unzip();
        data.push(json!({
            "type": "scatter", "mode": "markers", "name": label(method), "legendgroup": method,
            "offsetgroup": method,
            "x": figures.iter().map(|figure| label(&figure.test_set)).collect::<Vec<String>>(),
            "y": figures.iter().map(|figure| figure.over.interval.mean).collect::<Vec<f64>>(),
            "error_y": around(figures.iter().map(|figure| figure.over.interval)),
            "hovertemplate": "%{x}: %{y:.3f}",
            "marker": {"color": colour(place), "size": 10, "symbol": "line-ew-open",
                "line": {"width": 3, "color": colour(place)}},
        }));
        data.push(json!({
            "type": "scatter", "mode": "markers", "name": label(method), "legendgroup": method,
            "offsetgroup": method, "showlegend": false, "x": x, "y": y,
            "hovertemplate": "%{x}, one seed: \
                %{y:.3f}", "marker": {"color": colour(place), "size": 7, "symbol": "circle-open"},
        }));
    }
    let layout = json!({"scattermode": "group", "yaxis": {"title": {"text": performance}},
        "xaxis": {"type": "category"}});
    let note = "Circles are seeds, lines their mean with its interval by Student's t.".into();
    let title = format!("{performance}, every seed");
    (!data.is_empty()).then_some(Chart {
        id: "every seed".into(),
        title,
        note,
        data,
        layout,
        height: 420,
    })
}

/// The spread of performance over seeds beside what a seed's own interval over inputs speaks of.
fn what_a_seed_changes(evaluation: &Evaluation) -> Option<Chart> {
    let performance = evaluation.performance()?;
    let (mut data, mut most): (Vec<Value>, f64) = (Vec::new(), 0.0);
    for (place, method) in methods(evaluation).into_iter().enumerate() {
        let own = of_method(evaluation, method, performance)
            .filter_map(|figure| Some((figure, figure.error_over_inputs()?)));
        let own: Vec<(&Figure, f64)> = own.collect();
        if own.is_empty() {
            continue;
        }
        most = own.iter().map(|(figure, inputs)| figure.over.std.max(*inputs)).fold(most, f64::max);
        let shape = |set: &str| {
            SHAPES[test_sets(evaluation).iter().position(|other| *other == set).unwrap_or(0)
                % SHAPES.len()]
        };
        data.push(json!({
            "type": "scatter", "mode": "markers", "name": label(method),
            "x": own.iter().map(|point| point.1).collect::<Vec<f64>>(),
            "y": own.iter().map(|point| point.0.over.std).collect::<Vec<f64>>(),
            "text": own.iter().map(|point| label(&point.0.test_set)).collect::<Vec<String>>(),
            "hovertemplate": "%{text}<br>%{x:.3f}, %{y:.3f}",
            "marker": {"color": colour(place), "size": 10,
                "line": {"width": 2, "color": colour(place)},
                "symbol": own.iter().map(|point| shape(&point.0.test_set)).collect::<Vec<&str>>()},
        }));
    }
    if data.is_empty() {
        return None;
    }
    data.extend(shapes(evaluation));
    data.push(json!({"type": "scatter", "mode": "lines", "name": "equal", "x": [0.0, most],
        "y": [0.0, most], "hoverinfo": "skip",
        "line": {"color": "#8c8c8c", "dash": "dot"}}));
    let layout = json!({"xaxis": {"title": {"text": "standard error over \
        inputs"}, "rangemode": "tozero"}, "yaxis": {"title": {"text": "standard deviation over \
            seeds"}, "rangemode": "tozero"}});
    let note = format!(
        "{performance} of each method on each test set. Above the dotted line another seed moves a \
         mean further than its interval over inputs says."
    );
    Some(Chart {
        id: "what a seed changes".into(),
        title: "What a seed changes".into(),
        note,
        data,
        layout,
        height: 420,
    })
}

/// A method's figures over seeds in a metric, a test set each.
fn of_method<'a>(
    evaluation: &'a Evaluation,
    method: &'a str,
    metric: &'a str,
) -> impl Iterator<Item = &'a Figure> {
    evaluation.seeds.iter().filter(move |figure| {
        figure.quantity() == Quantity::Level && figure.method == method && figure.metric == metric
    })
}

/// A policy while it was trained: the score that was optimised and gold, step by step, over KL.
fn over_optimisation(training: &Training) -> Option<Chart> {
    let golds: Option<Vec<&Interval>> =
        training.steps.iter().map(|step| step.gold.as_ref()).collect();
    let of_rm: Vec<&Interval> = training.steps.iter().map(|step| &step.rm).collect();
    let kl: Vec<f64> = training.steps.iter().map(|step| step.kl.mean).collect();
    let steps: Vec<String> =
        training.steps.iter().map(|step| format!("step {}", step.step)).collect();
    let trace = |(at, (name, values)): (usize, (&str, Vec<&Interval>))| {
        json!({
            "type": "scatter", "mode": "markers", "name": name, "x": kl,
            "y": values.iter().map(|value| value.mean).collect::<Vec<f64>>(),
            "error_y": around(values.iter().copied().copied()), "text": steps,
            "hovertemplate": "%{text}<br>%{x:.3f} nats, %{y:.3f}",
            "marker": {"color": colour(at), "size": 7, "symbol": SHAPES[at]},
        })
    };
    let data = [Some(("rm", of_rm)), golds.map(|golds| ("gold", golds))]
        .into_iter()
        .flatten()
        .enumerate()
        .map(trace)
        .collect();
    let layout = json!({"xaxis": {"title": {"text": "KL, nats"}},
        "yaxis": {"title": {"text": "score of the step's rollouts"}}});
    let note = "Each point is a step of training: where gold falls while rm rises, the reward \
        model is over-optimised.";
    let title = format!("{} while it was trained", training.method);
    let id = format!("over optimisation {}", training.method);
    (!training.steps.is_empty()).then_some(Chart {
        id,
        title,
        note: note.into(),
        data,
        layout,
        height: 420,
    })
}

/// The reward model's accuracy over its confidence, of fifths of the pairs of each test set.
fn calibration(evaluation: &Evaluation) -> Option<Chart> {
    let mut data: Vec<Value> = evaluation
        .reward_model
        .iter()
        .enumerate()
        .map(|(at, accuracy)| {
            let bins = accuracy.by_confidence.iter();
            json!({
                "type": "scatter", "mode": "lines+markers", "name": label(&accuracy.test_set),
                "x": bins.clone().map(|bin| bin.confidence).collect::<Vec<f64>>(),
                "y": bins.clone().map(|bin| bin.accuracy.mean).collect::<Vec<f64>>(),
                "error_y": around(bins.map(|bin| bin.accuracy)), "hovertemplate": "%{x:.3f}, \
                    %{y:.3f}",
                "line": {"color": colour(at), "width": 1},
                "marker": {"color": colour(at), "size": 9, "symbol": SHAPES[at % SHAPES.len()]},
            })
        })
        .collect();
    if data.is_empty() {
        return None;
    }
    data.push(json!({"type": "scatter", "mode": "lines", "name": "calibrated", "x": [0.5, 1.0],
        "y": [0.5, 1.0], "hoverinfo": "skip",
        "line": {"color": "#8c8c8c", "dash": "dot"}}));
    let layout = json!({"xaxis": {"title": {"text": "confidence"}},
        "yaxis": {"title": {"text": "share of pairs in their labels' order"}}});
    let note = "Fifths of a test set's pairs, least confident first. Below the dotted line the \
        reward model is surer than it is right.";
    Some(Chart {
        id: "calibration".into(),
        title: "Reward model by confidence".into(),
        note: note.into(),
        data,
        layout,
        height: 420,
    })
}

/// One metric of every method on every test set.
fn bars(evaluation: &Evaluation, metric: &str) -> Chart {
    let mut data = Vec::new();
    for (place, method) in methods(evaluation).into_iter().enumerate() {
        let rows: Vec<&Row> = test_sets(evaluation)
            .into_iter()
            .filter_map(|set| find(evaluation, method, set, metric))
            .collect();
        if !rows.is_empty() {
            data.push(json!({
                "type": "bar", "name": label(method), "marker": {"color": colour(place)},
                "x": rows.iter().map(|row| label(&row.test_set)).collect::<Vec<String>>(),
                "y": rows.iter().map(|row| row.figure.mean).collect::<Vec<f64>>(),
                "error_y": errors(rows.iter().copied()), "hovertemplate": "%{x}: %{y:.3f}",
            }));
        }
    }
    let layout = json!({"barmode": "group", "yaxis": {"title": {"text": evaluation.axis(metric)}},
        "xaxis": {"type": "category"}});
    let heading = sentence(&meaning(evaluation, metric));
    Chart {
        id: format!("bars {metric}"),
        title: metric.into(),
        note: heading,
        data,
        layout,
        height: 320,
    }
}

/// What every method loses out of distribution.
fn gaps(evaluation: &Evaluation) -> Option<Chart> {
    let performance = evaluation.performance()?;
    let gaps: Vec<_> =
        evaluation.comparisons.gaps.iter().filter(|gap| gap.metric == performance).collect();
    let from = gaps.first()?.from.clone();
    let all = methods(evaluation);
    let trace = |method: &str| {
        let own: Vec<_> = gaps.iter().filter(|gap| gap.method == method).collect();
        let place = all.iter().position(|name| *name == method).unwrap_or(0);
        json!({
            "type": "bar", "name": label(method), "marker": {"color": colour(place)},
            "x": own.iter().map(|gap| label(&gap.to)).collect::<Vec<String>>(),
            "y": own.iter().map(|gap| gap.interval.mean).collect::<Vec<f64>>(),
            "error_y": around(own.iter().map(|gap| gap.interval)),
            "hovertemplate": "%{x}: %{y:.3f}",
        })
    };
    let data =
        distinct(gaps.iter().map(|gap| gap.method.as_str())).into_iter().map(trace).collect();
    let layout = json!({"barmode": "group", "yaxis": {"title": {"text": format!("{performance}, \
        {from} minus other")}}, "xaxis": {"type": "category"}});
    let note = format!(
        "{performance} on {from} minus {performance} out of distribution: what generalises loses \
         little."
    );
    Some(Chart {
        id: "gaps".into(),
        title: "Generalisation gap".into(),
        note,
        data,
        layout,
        height: 420,
    })
}

/// Best-of-n by the score that picks and by gold, over the KL bound: a chart a test set and method.
/// Its diversity is no score: [`frontier`].
fn best_of_n(evaluation: &Evaluation) -> Vec<Chart> {
    let scores = || evaluation.best_of_n.iter().filter(|curve| curve.metric != DIVERSITY);
    let mut groups: Vec<(&str, &str)> = Vec::new();
    for curve in scores() {
        let group = (curve.method.as_str(), curve.test_set.as_str());
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    let chart = |(method, test_set): (&str, &str)| {
        let own = scores()
            .filter(|curve| (curve.method.as_str(), curve.test_set.as_str()) == (method, test_set));
        let data = own.enumerate().flat_map(|(at, curve)| curve_with_band(at, curve)).collect();
        let layout = json!({"xaxis": {"title": {"text": "KL bound, \
            nats"}}, "yaxis": {"title": {"text": "score"}}});
        let note = "From left to right n = 1, 2, …: where gold falls while rm rises, the reward \
            model is over-optimised.";
        let title = format!("{method} on {test_set}, for every n");
        Chart {
            id: format!("best of n {method} {test_set}"),
            title,
            note: note.into(),
            data,
            layout,
            height: 320,
        }
    };
    groups.into_iter().map(chart).collect()
}

fn curve_with_band(at: usize, curve: &BestOfN) -> [Value; 2] {
    let (x, colour) = (&curve.kl_bound, colour(at));
    let n: Vec<String> = (1..=curve.by_n.len()).map(|n| format!("n = {n}")).collect();
    [
        band(x, &curve.by_n, colour, &curve.metric),
        json!({"type": "scatter", "mode": "lines+markers", "name": label(&curve.metric),
            "legendgroup": curve.metric, "x": x,
            "y": curve.by_n.iter().map(|point| point.mean).collect::<Vec<f64>>(), "text": n,
            "hovertemplate": "%{text}: %{y:.3f}",
            "line": {"color": colour, "dash": DASHES[at % DASHES.len()]},
            "marker": {"color": colour, "size": 6}}),
    ]
}

/// The area between the ends of intervals over `x`, which is shown and hidden with the lines of its
/// group.
fn band(x: &[f64], points: &[Interval], colour: &str, group: &str) -> Value {
    let bounded = || x.iter().zip(points).filter(|(_, point)| point.has_ends());
    let there_and_back: Vec<f64> = bounded().chain(bounded().rev()).map(|(x, _)| *x).collect();
    let ends =
        bounded().map(|(_, point)| point.high).chain(bounded().rev().map(|(_, point)| point.low));
    json!({"type": "scatter", "mode": "lines", "x": there_and_back,
        "y": ends.collect::<Vec<f64>>(), "fill": "toself", "fillcolor": faint(colour),
        "line": {"width": 0}, "legendgroup": group, "showlegend": false, "hoverinfo": "skip"})
}

/// With a capital and a full stop.
pub fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    letters
        .next()
        .map_or(String::new(), |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}
