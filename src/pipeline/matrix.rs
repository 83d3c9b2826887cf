//! Points of a sweep: the product of the axes that are used, those that vary together taken row by
//! row, less what is excluded, and then what is included. A point is what it holds, never its
//! ordinal.

use std::collections::{BTreeSet, HashSet};

use super::diagnostic::{Mistake, Span};
use super::document::Document;
use super::matrix_section::{Axis, EXCLUDE, INCLUDE};
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

/// Axes that vary together, as the product takes them: a row has a value of each, by index.
struct Factor {
    axes: Vec<usize>,
    rows: Vec<Vec<usize>>,
}

impl Factor {
    /// Its axes among `wanted`, and their values in its rows, each once.
    fn over(&self, wanted: &BTreeSet<usize>) -> Factor {
        let kept = |at: &usize| wanted.contains(&self.axes[*at]);
        let columns: Vec<usize> = (0..self.axes.len()).filter(kept).collect();
        let mut seen = HashSet::new();
        let rows = self.rows.iter().map(|row| columns.iter().map(|at| row[*at]).collect());
        Factor {
            axes: columns.iter().map(|at| self.axes[*at]).collect(),
            rows: rows.filter(|row: &Vec<usize>| seen.insert(row.clone())).collect(),
        }
    }
}

/// Axes and values of them, by index: the points that have all of these.
type Part = Vec<(usize, usize)>;

/// The axes of a document, what is excluded of their product and what is included. The product is
/// never built as a whole: points are made over the axes that a stage depends on.
pub struct Matrix<'a> {
    document: &'a Document,
    factors: Vec<Factor>,
    excluded: Vec<Part>,
    included: Vec<Part>,
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
        let section = &document.matrix;
        let parts = |items: &[Vec<Entry>]| -> Vec<Part> {
            items.iter().filter_map(|entries| part(document, entries)).collect()
        };
        let (excluded, included) = (parts(&section.exclude), parts(&section.include));
        let mut groups: Vec<usize> = (0..section.axes.len()).collect();
        for item in &excluded {
            for pair in item.windows(2) {
                let (one, other) = (groups[pair[0].0], groups[pair[1].0]);
                groups.iter_mut().filter(|group| **group == other).for_each(|group| *group = one);
            }
        }
        Ok(Matrix { document, factors: factors(document), excluded, included, groups, most })
    }

    /// These axes and all that exclusions tie to them: whether a point over these is excluded
    /// depends on no other axis.
    pub fn tied(&self, axes: &BTreeSet<usize>) -> BTreeSet<usize> {
        let groups: BTreeSet<usize> = axes.iter().map(|axis| self.groups[*axis]).collect();
        (0..self.groups.len()).filter(|axis| groups.contains(&self.groups[*axis])).collect()
    }

    /// The points over these axes ([`Matrix::tied`] gave them): what is left of the product, the
    /// first axis varying slowest, then what is included; other axes have their first value.
    /// `owner` (its name and place) depends on them.
    ///
    /// # Errors
    /// There are more of them than may be ([`POINTS`]).
    pub fn points(
        &self,
        axes: &BTreeSet<usize>,
        owner: (&str, Span),
    ) -> Result<Vec<Point>, Mistake> {
        let mut points = self.left(axes, owner)?;
        if self.included.is_empty() {
            return Ok(points);
        }
        let mut seen: HashSet<Point> = points.iter().cloned().collect();
        for item in &self.included {
            let named: BTreeSet<usize> = item.iter().map(|(axis, _)| *axis).collect();
            let free = axes.difference(&named).copied().collect();
            for mut point in self.product(&free, owner)? {
                let own = item.iter().filter(|(axis, _)| axes.contains(axis));
                own.for_each(|(axis, value)| point[*axis] = *value);
                if seen.insert(point.clone()) {
                    points.push(point);
                }
            }
        }
        Ok(points)
    }

    /// The points of the product over these axes that are not excluded.
    fn left(&self, axes: &BTreeSet<usize>, owner: (&str, Span)) -> Result<Vec<Point>, Mistake> {
        let mut points = self.product(axes, owner)?;
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

    fn product(
        &self,
        axes: &BTreeSet<usize>,
        (owner, span): (&str, Span),
    ) -> Result<Vec<Point>, Mistake> {
        let factors: Vec<Factor> = self
            .factors
            .iter()
            .map(|factor| factor.over(axes))
            .filter(|factor| !factor.axes.is_empty())
            .collect();
        let lengths = || factors.iter().map(|factor| factor.rows.len());
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
        let mut points: Vec<Point> = vec![vec![0; self.document.matrix.axes.len()]];
        for Factor { axes, rows } in &factors {
            let with = |point: &Point, row: &Vec<usize>| {
                let mut point = point.clone();
                axes.iter().zip(row).for_each(|(axis, value)| point[*axis] = *value);
                point
            };
            points = points
                .iter()
                .flat_map(|point| rows.iter().map(move |row| with(point, row)))
                .collect();
        }
        Ok(points)
    }

    /// Whether every point of the product is excluded.
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
            if self.left(&axes, ("`exclude`", first_axis(self.document)))?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The factors of the product, in the order of their first axes.
fn factors(document: &Document) -> Vec<Factor> {
    let section = &document.matrix;
    let mut factors = Vec::new();
    for (at, axis) in section.axes.iter().enumerate() {
        match section.group_of(&axis.name) {
            None => factors.push(Factor {
                axes: vec![at],
                rows: (0..axis.values.len()).map(|value| vec![value]).collect(),
            }),
            Some(group) if group.axes[0] == axis.name => {
                let place = |name: &String| section.axes.iter().position(|axis| axis.name == *name);
                let axes: Vec<usize> = group.axes.iter().filter_map(place).collect();
                let index = |(axis, value): (&usize, &Node)| {
                    section.axes[*axis].index_of(value).expect("an axis has the values of its rows")
                };
                let rows = group.rows.iter().map(|row| axes.iter().zip(row).map(index).collect());
                factors.push(Factor { rows: rows.collect(), axes });
            }
            Some(_) => {}
        }
    }
    factors
}

/// Where the first axis is given; without one there is one point, and no mistake.
fn first_axis(document: &Document) -> Span {
    let first = document.matrix.axes.first();
    first.map_or(Span { source: 0, line: 1, column: 1, width: 1 }, |axis| axis.span)
}

/// An item of `exclude` or `include` as axes and values; `None` if it holds at no point. Where an
/// option or a profile has taken an axis away, the param has one value.
fn part(document: &Document, entries: &[Entry]) -> Option<Part> {
    let axes = &document.matrix.axes;
    let mut item = Vec::new();
    for entry in entries {
        match axes.iter().position(|axis| axis.name == entry.key) {
            Some(axis) => item.push((axis, axes[axis].index_of(&entry.value)?)),
            None => {
                let param = document.param(&entry.key)?;
                same(&param.value, &entry.value).then_some(())?;
            }
        }
    }
    Some(item)
}

/// What is wrong with the axes and with what is excluded and included. To be asked before options
/// change the axes.
pub fn check(document: &Document) -> Vec<Mistake> {
    [check_axes(document), check_points(document, EXCLUDE), check_points(document, INCLUDE)]
        .concat()
}

/// Axes that are no params, or whose values do not fit theirs.
pub fn check_axes(document: &Document) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    for axis in &document.matrix.axes {
        match document.param(&axis.name) {
            None => mistakes.push(document.unknown_param(&axis.name, axis.span)),
            Some(param) => {
                mistakes.extend(axis.all().filter_map(|value| super::params::misfit(param, value)))
            }
        }
    }
    mistakes
}

/// Items of `exclude` (or `include`) that name no axis; of `exclude`, those that exclude nothing.
pub fn check_points(document: &Document, key: &str) -> Vec<Mistake> {
    let section = &document.matrix;
    let items = if key == EXCLUDE { &section.exclude } else { &section.include };
    let mut mistakes = Vec::new();
    for entry in items.iter().flatten() {
        let names = section.axes.iter().map(|axis| axis.name.as_str());
        match section.axes.iter().find(|axis| axis.name == entry.key) {
            None => {
                let help = super::diagnostic::advice(&entry.key, names, "axes");
                let message = format!("`{}` is not an axis of this matrix", entry.key);
                mistakes.push(Mistake::new(entry.key_span, message).help(help));
            }
            Some(axis) if key == EXCLUDE && !has_value(axis, &entry.value) => {
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

/// Whether the product has this value of an axis.
fn has_value(axis: &Axis, value: &Node) -> bool {
    axis.index_of(value).is_some_and(|index| index < axis.values.len())
}
