//! Small multiples: a metric over the values of an axis, a panel a test set, a line a method, all
//! panels of a metric with the same scales.

use serde_json::{Value, json};

use super::{Chart, band, colour, label};
use crate::artefacts::points::family;
use crate::layout::distinct;
use crate::query::number;
use crate::sweeps::{Sweep, Track};

/// The panels of a sweep.
pub(crate) fn panels(sweep: &Sweep) -> Vec<Chart> {
    let panel = |set: &str| {
        let tracks = sweep.tracks.iter().filter(|track| track.test_set == set);
        let data =
            tracks.flat_map(|track| line(sweep, track, colour(place(sweep, track)))).collect();
        let title = format!("{}, {set}", sweep.metric);
        // Marks over one name are beside each other.
        let mode = if numbers(sweep).is_some() { "overlay" } else { "group" };
        let layout = json!({
            "scattermode": mode,
            "xaxis": across(sweep),
            "yaxis": {"title": {"text": label(&sweep.metric)}, "range": range(sweep)},
        });
        Chart {
            id: format!("{}: {title}", sweep.title()),
            title,
            note: String::new(),
            data,
            layout,
            // A legend of two names a line is below the panel.
            height: 240 + 20 * sweep.names().len().div_ceil(2),
        }
    };
    sweep.test_sets().into_iter().map(panel).collect()
}

/// The place of a line's colour: that of its method or of the first of its family among the
/// evaluation's methods; where lines are several of one family, of the line among lines.
fn place(sweep: &Sweep, track: &Track) -> usize {
    let names = sweep.names();
    let families = distinct(names.iter().map(|name| family(name)));
    let own = match families.len() == names.len() {
        true => sweep.methods.iter().position(|name| family(name) == family(&track.name)),
        false => sweep.methods.iter().position(|name| *name == track.name),
    };
    own.or_else(|| names.iter().position(|name| *name == track.name)).unwrap_or(0)
}

/// The values as numbers, where all of them are.
fn numbers(sweep: &Sweep) -> Option<Vec<f64>> {
    sweep.values.iter().map(|value| number(value)).collect()
}

/// The axis across: of numbers with a mark at each value, on a logarithmic scale where the highest
/// is ten times the lowest or more; else of names.
fn across(sweep: &Sweep) -> Value {
    let title = json!({"text": label(&sweep.axis)});
    let Some(values) = numbers(sweep) else {
        let names: Vec<String> = sweep.values.iter().map(|value| label(value)).collect();
        return json!({"title": title, "type": "category", "categoryorder": "array",
            "categoryarray": names});
    };
    // `sweeps` has them in ascending order.
    let (low, high) = (values[0], values[values.len() - 1]);
    let scale = if low > 0.0 && high >= 10.0 * low { "log" } else { "linear" };
    json!({"title": title, "type": scale, "tickvals": values, "ticktext": sweep.values})
}

/// From the lowest to the highest end of any interval of any panel, and a twentieth beyond.
fn range(sweep: &Sweep) -> [f64; 2] {
    let points = || sweep.tracks.iter().flat_map(|track| &track.points).map(|(_, point)| point);
    // The minimum of a number and NaN, the end of no interval, is the number.
    let low = points().fold(f64::INFINITY, |low, point| low.min(point.mean).min(point.low));
    let high = points().fold(f64::NEG_INFINITY, |high, point| high.max(point.mean).max(point.high));
    let beyond = if high > low { (high - low) / 20.0 } else { 0.5 };
    [low - beyond, high + beyond]
}

/// A line with its band over numbers; marks with bars over names, between which there is nothing.
fn line(sweep: &Sweep, track: &Track, colour: &str) -> Vec<Value> {
    let means: Vec<f64> = track.points.iter().map(|(_, point)| point.mean).collect();
    let mut trace = json!({"type": "scatter", "name": label(&track.name), "y": means,
        "legendgroup": track.name, "marker": {"color": colour, "size": 7}});
    match numbers(sweep) {
        Some(values) => {
            let x: Vec<f64> = track.points.iter().map(|(at, _)| values[*at]).collect();
            let points: Vec<_> = track.points.iter().map(|(_, point)| *point).collect();
            trace["mode"] = json!("lines+markers");
            trace["line"] = json!({"color": colour});
            trace["hovertemplate"] = json!("%{x}: %{y:.3f}");
            trace["x"] = json!(x);
            vec![band(&x, &points, colour, &track.name), trace]
        }
        None => {
            let x: Vec<String> =
                track.points.iter().map(|(at, _)| label(&sweep.values[*at])).collect();
            trace["mode"] = json!("markers");
            trace["hovertemplate"] = json!("%{x}: %{y:.3f}");
            trace["error_y"] = super::around(track.points.iter().map(|(_, point)| *point));
            trace["offsetgroup"] = json!(track.name);
            trace["x"] = json!(x);
            vec![trace]
        }
    }
}
