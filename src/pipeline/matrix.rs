//! Points of a sweep: the product of the axes that are used, less what is excluded. A point is what
//! it holds, never its ordinal.

use std::collections::BTreeSet;

use super::diagnostic::{Mistake, Span};
use super::document::{Axis, Document};
use super::scalar::{integer, number, same};
use super::yaml::{Entry, Node, Value};
use crate::limits::POINTS;

/// Which value each axis has: an index into its values, in the order of the axes.
pub type Point = Vec<usize>;

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

/// The axes of a document and what is excluded of their product, which is never built as a whole:
/// points are made over the axes that a stage depends on.
pub struct Matrix<'a> {
    document: &'a Document,
    /// What is excluded: every point with all of these values, each an axis and a value of it.
    excluded: Vec<Vec<(usize, usize)>>,
    /// For each axis, the number of its group: of the axes that exclusions tie to it.
    groups: Vec<usize>,
    /// Points of a stage at most.
    most: u64,
}

impl<'a> Matrix<'a> {
    /// The matrix of a document, its options applied.
    ///
    /// # Errors
    /// The limit is no number.
    pub fn of(document: &'a Document) -> Result<Self, Mistake> {
        let most = POINTS
            .value()
            .map_err(|failure| Mistake::new(first_axis(document), failure.message))?;
        let excluded: Vec<Vec<(usize, usize)>> =
            document.exclude.iter().filter_map(|entries| exclusion(document, entries)).collect();
        let mut groups: Vec<usize> = (0..document.axes.len()).collect();
        for item in &excluded {
            for pair in item.windows(2) {
                let (one, other) = (groups[pair[0].0], groups[pair[1].0]);
                groups.iter_mut().filter(|group| **group == other).for_each(|group| *group = one);
            }
        }
        Ok(Matrix { document, excluded, groups, most })
    }

    /// These axes and all that exclusions tie to them: whether a point over these is excluded
    /// depends on no other axis.
    pub fn tied(&self, axes: &BTreeSet<usize>) -> BTreeSet<usize> {
        let groups: BTreeSet<usize> = axes.iter().map(|axis| self.groups[*axis]).collect();
        (0..self.groups.len()).filter(|axis| groups.contains(&self.groups[*axis])).collect()
    }

    /// The points over these axes ([`Matrix::tied`] gave them) that are left, the first axis
    /// varying slowest; other axes have their first value. `owner` (its name and place) depends on
    /// them.
    ///
    /// # Errors
    /// There are more of them than may be ([`POINTS`]).
    pub fn points(
        &self,
        axes: &BTreeSet<usize>,
        (owner, span): (&str, Span),
    ) -> Result<Vec<Point>, Mistake> {
        let lengths = || axes.iter().map(|axis| self.document.axes[*axis].values.len());
        let size = lengths().fold(1u64, |size, length| size.saturating_mul(length as u64));
        if size > self.most {
            let lengths: Vec<String> = lengths().map(|length| length.to_string()).collect();
            let message = format!(
                "{owner} has {} points of the matrix, more than {}",
                lengths.join(" x "),
                self.most
            );
            return Err(
                Mistake::new(span, message).help(format!("take fewer values; {}", POINTS.hint()))
            );
        }
        let mut points: Vec<Point> = vec![vec![0; self.document.axes.len()]];
        for axis in axes {
            let values = 0..self.document.axes[*axis].values.len();
            let with = |point: &Point, value| {
                let mut point = point.clone();
                point[*axis] = value;
                point
            };
            points = points
                .iter()
                .flat_map(|point| values.clone().map(move |value| with(point, value)))
                .collect();
        }
        let within: Vec<_> = self
            .excluded
            .iter()
            .filter(|item| item.iter().all(|(axis, _)| axes.contains(axis)))
            .collect();
        points.retain(|point| {
            !within.iter().any(|item| item.iter().all(|(axis, value)| point[*axis] == *value))
        });
        Ok(points)
    }

    /// Whether every point is excluded.
    ///
    /// # Errors
    /// Exclusions tie more points together than may be.
    pub fn is_empty(&self) -> Result<bool, Mistake> {
        if self.excluded.iter().any(Vec::is_empty) {
            return Ok(true);
        }
        let groups: BTreeSet<usize> =
            self.excluded.iter().flatten().map(|(axis, _)| self.groups[*axis]).collect();
        for group in groups {
            let axes = (0..self.groups.len()).filter(|axis| self.groups[*axis] == group).collect();
            if self.points(&axes, ("`exclude`", first_axis(self.document)))?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Where the first axis is given; without one there is one point, and no mistake.
fn first_axis(document: &Document) -> Span {
    document.axes.first().map_or(Span { source: 0, line: 1, column: 1, width: 1 }, |axis| axis.span)
}

/// An item of `exclude` as axes and values; `None` if it holds at no point. Where an option or a
/// profile has taken an axis away, the param has one value.
fn exclusion(document: &Document, entries: &[Entry]) -> Option<Vec<(usize, usize)>> {
    let mut item = Vec::new();
    for entry in entries {
        match document.axes.iter().position(|axis| axis.name == entry.key) {
            Some(axis) => {
                let values = &document.axes[axis].values;
                item.push((axis, values.iter().position(|value| same(value, &entry.value))?));
            }
            None => {
                let param = document.param(&entry.key)?;
                same(&param.value, &entry.value).then_some(())?;
            }
        }
    }
    Some(item)
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
