//! Points of a sweep: the product of the axes less what is excluded. A point is what it holds,
//! never its ordinal.

use super::diagnostic::{Mistake, Span};
use super::document::{Axis, Document};
use super::scalar::{Class, class, integer, number};
use super::yaml::{Node, Value};
use crate::limits::POINTS;

/// Which value each axis has: an index into its values, in the order of the axes.
pub type Point = Vec<usize>;

/// True if two values mean the same, however they are spelt.
pub fn same(a: &Node, b: &Node) -> bool {
    match (&a.value, &b.value) {
        (Value::Scalar(x), Value::Scalar(y)) => match (class(a), class(b)) {
            (Class::Number, Class::Number) => number(x) == number(y),
            (one, other) => one == other && (one == Class::Null || x.text == y.text),
        },
        (Value::Sequence(x), Value::Sequence(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y))
        }
        (Value::Mapping(x), Value::Mapping(y)) => {
            x.len() == y.len()
                && x.iter()
                    .all(|entry| b.get(&entry.key).is_some_and(|other| same(&entry.value, other)))
        }
        _ => false,
    }
}

/// A value in the name of a node: numbers in their one shortest spelling, text as it is.
pub fn label(node: &Node) -> String {
    match &node.value {
        Value::Scalar(scalar) if scalar.is_null() => "null".into(),
        Value::Scalar(scalar) => match (integer(scalar), number(scalar)) {
            (Ok(value), _) => value.to_string(),
            (_, Ok(value)) => format!("{value:?}").trim_end_matches(".0").to_owned(),
            _ => scalar.text.clone(),
        },
        Value::Sequence(items) => {
            format!("({})", items.iter().map(label).collect::<Vec<_>>().join(" "))
        }
        Value::Mapping(entries) => {
            let fields: Vec<String> = entries
                .iter()
                .map(|entry| format!("{}:{}", entry.key, label(&entry.value)))
                .collect();
            format!("({})", fields.join(" "))
        }
    }
}

/// The points that are left, the first axis varying slowest.
///
/// # Errors
/// The product of the axes has more points than may be ([`POINTS`]).
pub fn points(document: &Document) -> Result<Vec<Point>, Mistake> {
    let size =
        document.axes.iter().fold(1u64, |size, axis| size.saturating_mul(axis.values.len() as u64));
    let most =
        POINTS.value().map_err(|failure| Mistake::new(first_axis(document), failure.message))?;
    if size > most {
        let lengths: Vec<String> =
            document.axes.iter().map(|axis| axis.values.len().to_string()).collect();
        let message = format!("the matrix has {} points, more than {most}", lengths.join(" x "));
        return Err(Mistake::new(first_axis(document), message)
            .help(format!("take fewer values; {}", POINTS.hint())));
    }
    let mut points: Vec<Point> = vec![Vec::new()];
    for axis in &document.axes {
        points = points
            .into_iter()
            .flat_map(|point| {
                (0..axis.values.len())
                    .map(move |value| point.iter().copied().chain([value]).collect())
            })
            .collect();
    }
    points.retain(|point| {
        !document.exclude.iter().any(|entries| {
            entries.iter().all(|entry| holds(document, point, &entry.key, &entry.value))
        })
    });
    Ok(points)
}

/// Where the first axis is given; without one there is one point, and no mistake.
fn first_axis(document: &Document) -> Span {
    document.axes.first().map_or(Span { source: 0, line: 1, column: 1, width: 1 }, |axis| axis.span)
}

fn holds(document: &Document, point: &Point, name: &str, value: &Node) -> bool {
    match document.axes.iter().position(|axis| axis.name == name) {
        Some(axis) => same(&document.axes[axis].values[point[axis]], value),
        // An option or a profile has taken the axis away: the param has one value.
        None => document.param(name).is_some_and(|param| same(&param.value, value)),
    }
}

/// Axes that are no params, and exclusions that exclude nothing. To be asked before options change
/// the axes.
pub fn check(document: &Document) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    for Axis { name, span, values } in &document.axes {
        match document.param(name) {
            None => mistakes.push(document.unknown_param(name, *span)),
            Some(param) => mistakes
                .extend(values.iter().filter_map(|value| super::params::misfit(param, value))),
        }
    }
    for entry in document.exclude.iter().flatten() {
        let names = document.axes.iter().map(|axis| axis.name.as_str());
        match document.axes.iter().find(|axis| axis.name == entry.key) {
            None => {
                let help = super::diagnostic::advice(&entry.key, names, "axes");
                mistakes.push(
                    Mistake::new(
                        entry.key_span,
                        format!("`{}` is not an axis of this matrix", entry.key),
                    )
                    .help(help),
                );
            }
            Some(axis) if !axis.values.iter().any(|value| same(value, &entry.value)) => {
                let values: Vec<String> = axis.values.iter().map(label).collect();
                let message = format!(
                    "`{}` never is {}, so this excludes nothing",
                    entry.key,
                    entry.value.describe()
                );
                mistakes.push(
                    entry.value.mistake(message).help(format!("its values: {}", values.join(", "))),
                );
            }
            Some(_) => {}
        }
    }
    mistakes
}
