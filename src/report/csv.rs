//! Figures as CSV (RFC 4180): one line a figure, under a line of names.
//!
//! The columns of a figure are [`COLUMNS`]. Where a figure has a point of a sweep, two more things
//! are behind them: `family`, the method without its point, and one column an axis, `axis_kl`,
//! which is empty where a figure does not have the axis. No other column begins with `axis_`, so an
//! axis may have the name of another column, such as `kl`.

use std::fmt::Write;

use super::figures::{Figure, of_run};
use super::layout::distinct;
use super::run::Run;
use crate::eval::interval::Interval;

/// The columns that every figure has.
pub(super) const COLUMNS: &str = "evaluation,method,test_set,metric,mean,low,high,n,kind,with,p,\
    p_holm,kl,std_over_seeds,error_over_inputs,each_seed,unit,direction";
/// What the name of the column of an axis begins with.
pub(super) const AXIS: &str = "axis_";

/// All figures of a run. `kind` says what a figure is; docs/report.md lists the kinds.
pub fn csv(run: &Run) -> String {
    let figures = of_run(run);
    let points: Vec<Vec<(&str, &str)>> = figures.iter().map(Figure::point).collect();
    let axes = distinct(points.iter().flatten().map(|(axis, _)| *axis));
    let mut out = COLUMNS.to_owned();
    if !axes.is_empty() {
        out += &behind(&axes);
    }
    out.push('\n');
    for (figure, point) in figures.iter().zip(&points) {
        out += &columns(figure);
        if !axes.is_empty() {
            out += &values(figure.family(), &axes, point);
        }
        out.push('\n');
    }
    out
}

/// The names of the columns behind [`COLUMNS`].
pub(super) fn behind(axes: &[&str]) -> String {
    let names = axes.iter().map(|axis| format!(",{}", field(&format!("{AXIS}{axis}"))));
    format!(",family{}", names.collect::<String>())
}

/// What these columns have.
pub(super) fn values(family: &str, axes: &[&str], point: &[(&str, &str)]) -> String {
    let value = |axis: &str| point.iter().find(|(other, _)| *other == axis);
    let value = |axis: &&str| format!(",{}", field(value(axis).map_or("", |(_, value)| value)));
    format!(",{}{}", field(family), axes.iter().map(value).collect::<String>())
}

/// What [`COLUMNS`] have.
pub(super) fn columns(figure: &Figure<'_>) -> String {
    let mut out = String::new();
    for name in [figure.evaluation, &figure.method, figure.test_set, &figure.metric] {
        let _ = write!(out, "{},", field(name));
    }
    let Interval { mean, low, high, n, .. } = figure.interval;
    let [low, high] = [low, high].map(|end| optional((!end.is_nan()).then_some(end)));
    let _ = write!(out, "{mean},{low},{high},{n},{},{},", figure.kind, field(&figure.with));
    let Figure { p, p_holm, kl, std_over_seeds, error_over_inputs, .. } = figure;
    for number in [p, p_holm, kl, std_over_seeds, error_over_inputs] {
        let _ = write!(out, "{},", optional(*number));
    }
    let each: Vec<String> = figure.each_seed.iter().map(f64::to_string).collect();
    let (unit, direction) = figure.unit_and_direction();
    let _ = write!(out, "{},{},{direction}", each.join(" "), field(&unit));
    out
}

/// A number, or nothing.
pub(super) fn optional(x: Option<f64>) -> String {
    x.map(|x| x.to_string()).unwrap_or_default()
}

/// A field, between quotes where it needs them.
pub(super) fn field(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artefacts::table::{Row, Table};
    use crate::eval::interval::Kind;
    use crate::run::Evaluation;

    fn run(node: &str, methods: &[&str]) -> Run {
        let figure = Interval { mean: 0.125, low: -0.375, high: 0.375, n: 9, kind: Kind::Unsaid };
        let rows = methods.iter().map(|method| Row::new(method, "id_1", "gold", figure)).collect();
        let table = Table { rows, ..Table::default() };
        let evaluation = Evaluation { node: node.into(), table, ..Evaluation::default() };
        Run { evaluations: vec![evaluation], ..Run::default() }
    }

    #[test]
    fn commas_and_quotes_stay_in_their_field() {
        let csv = csv(&run("report", &["a, \"b\""]));
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines[0], COLUMNS);
        assert_eq!(
            lines[1],
            "report,\"a, \"\"b\"\"\",id_1,gold,0.125,-0.375,0.375,9,result,,,,,,,,score,higher is \
             better"
        );
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn each_axis_of_the_node_and_of_a_method_is_a_column_behind_the_others() {
        let csv = csv(&run("report[seed=1,kl=9]", &["sft", "ppo[kl=0.02]", "ppo[words=x, y]"]));
        let names = csv.lines().next().unwrap();
        assert_eq!(names, format!("{COLUMNS},family,axis_seed,axis_kl,axis_words"));
        let behind =
            |line: &str| line.split_once("higher is better,").map(|(_, end)| end.to_owned());
        let ends: Vec<String> = csv.lines().filter_map(behind).collect();
        assert_eq!(ends, ["sft,1,9,", "ppo,1,0.02,", "ppo,1,9,\"x, y\""]);
    }
}
