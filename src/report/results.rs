//! Figures of the evaluations of many runs in one table: rows that a query chooses, as text, CSV
//! and JSON, or with a column a value of one axis. Knows evaluations and the names of their runs,
//! not where these are kept.
//!
//! 1. A row is a figure of an evaluation of a run. An axis of a row is an axis of the sweep that
//!    the evaluation or the method has in its name, or a param that `--set` gave to the run; in
//!    this order where several have it, the method's first.
//! 2. Rows have the order of runs, of evaluations in a run, and of figures in an evaluation.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::Serialize;

use super::csv::{AXIS, COLUMNS, behind, columns, field, values};
use super::figures::{Figure, RESULTS, figures};
use super::layout::{Cell, decimals, distinct, ordered};
use super::query::{Comparison, Term};
use super::run::Evaluation;
use crate::artefacts::points::family;
use crate::eval::interval::Interval;

/// An evaluation of a run.
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// The name of the pipeline.
    pub pipeline: String,
    /// The name of its file, without its ending.
    pub file: String,
    /// The id of the run.
    pub run: String,
    /// The options of the run that give params: `--profile x`, `--set kl=0.1`.
    pub options: Vec<String>,
    /// The id of the artefact.
    pub object: String,
    /// What it found.
    pub evaluation: Rc<Evaluation>,
}

/// Why nothing can be shown: what is wrong, and what there is instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// What a term, or a column, is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Pipeline,
    Run,
    Evaluation,
    Method,
    TestSet,
    Metric,
    Kind,
    With,
    Axis(String),
}

/// The names that are not axes.
const NAMES: [(&str, Name); 8] = [
    ("pipeline", Name::Pipeline),
    ("run", Name::Run),
    ("evaluation", Name::Evaluation),
    ("method", Name::Method),
    ("set", Name::TestSet),
    ("metric", Name::Metric),
    ("kind", Name::Kind),
    ("with", Name::With),
];

/// A figure of a run.
struct Row<'a> {
    of: &'a Evaluated,
    figure: Figure<'a>,
    axes: Vec<(String, String)>,
}

/// The rows that a query chooses.
pub struct Results<'a> {
    rows: Vec<Row<'a>>,
}

impl Name {
    fn read(text: &str, axes: &[&str]) -> Result<Name, Mistake> {
        let text = if text == "test_set" { "set" } else { text };
        if let Some((_, name)) = NAMES.iter().find(|(name, _)| *name == text) {
            return Ok(name.clone());
        }
        let axis = text.strip_prefix(AXIS).filter(|axis| axes.contains(axis)).unwrap_or(text);
        if axes.contains(&axis) {
            return Ok(Name::Axis(axis.to_owned()));
        }
        let names = NAMES.iter().map(|(name, _)| *name);
        let hint = match axes {
            [] => "no evaluation has an axis".to_owned(),
            axes => format!("axes are {}", axes.join(", ")),
        };
        Err(Mistake {
            message: format!("there is no name `{text}`"),
            hint: format!("names are {}; {hint}", names.collect::<Vec<&str>>().join(", ")),
        })
    }

    fn text(&self) -> &str {
        match self {
            Name::Axis(axis) => axis,
            own => NAMES.iter().find(|(_, name)| name == own).map_or("", |(name, _)| name),
        }
    }

    /// The name of the column in CSV.
    fn column(&self) -> String {
        match self {
            Name::Axis(axis) => format!("{AXIS}{axis}"),
            Name::TestSet => "test_set".into(),
            other => other.text().into(),
        }
    }
}

impl<'a> Row<'a> {
    fn new(of: &'a Evaluated, figure: Figure<'a>) -> Self {
        let own = |(axis, value): (&str, &str)| (axis.to_owned(), value.to_owned());
        let mut axes: Vec<(String, String)> = figure.point().into_iter().map(own).collect();
        for option in &of.options {
            let given = option.strip_prefix("--set ").and_then(|set| set.split_once('='));
            // `--set matrix.kl=[…]` gives an axis, whose values are in the names of nodes.
            let given = given.filter(|(param, _)| !param.starts_with("matrix."));
            if let Some((param, value)) = given
                && axes.iter().all(|(axis, _)| axis != param)
            {
                axes.push((param.to_owned(), value.trim().to_owned()));
            }
        }
        Row { of, figure, axes }
    }

    /// What it is called by a name in a table: evaluations and methods without their points.
    fn text(&self, name: &Name) -> &str {
        match name {
            Name::Pipeline => &self.of.pipeline,
            Name::Run => &self.of.run,
            Name::Evaluation => family(self.figure.evaluation),
            Name::Method => self.figure.family(),
            Name::TestSet => self.figure.test_set,
            Name::Metric => &self.figure.metric,
            Name::Kind => self.figure.kind,
            Name::With => &self.figure.with,
            Name::Axis(axis) => self.axis(axis),
        }
    }

    fn axis(&self, axis: &str) -> &str {
        self.axes.iter().find(|(own, _)| own == axis).map_or("", |(_, value)| value)
    }

    fn holds(&self, name: &Name, term: &Term) -> bool {
        let own = self.text(name);
        match name {
            Name::Pipeline => term.holds(&[own, &self.of.file]),
            Name::Evaluation => term.holds(&[own, self.figure.evaluation]),
            Name::Method => term.holds(&[own, &self.figure.method]),
            Name::With => term.holds(&[own, family(own)]),
            // A run is known by the beginning of its id, too.
            Name::Run if !term.value.is_empty() && own.starts_with(&term.value) => {
                term.holds(&[own, &term.value])
            }
            _ => term.holds(&[own]),
        }
    }

    /// Its axes as pairs of borrowed text.
    fn point(&self) -> Vec<(&str, &str)> {
        self.axes.iter().map(|(axis, value)| (axis.as_str(), value.as_str())).collect()
    }
}

impl<'a> Results<'a> {
    /// The rows of all evaluations that a query chooses. Terms with `=` of one name are
    /// alternatives; all else has to hold. Without a term of `kind`, figures of one method on one
    /// test set ([`RESULTS`]).
    ///
    /// # Errors
    /// A name that there is not, a term that holds of no row, or terms that hold of none together.
    pub fn of(all: &'a [Evaluated], terms: &[Term]) -> Result<Self, Mistake> {
        let every_kind = terms.iter().any(|term| term.name == "kind");
        let rows = all.iter().flat_map(|of| {
            let figures = figures(&of.evaluation).into_iter();
            let shown = figures.filter(|one| every_kind || RESULTS.contains(&one.kind));
            shown.map(|figure| Row::new(of, figure))
        });
        let mut results = Results { rows: rows.collect() };
        let named = results.named(terms)?;
        let mut by_name: BTreeMap<&Name, Vec<&Term>> = BTreeMap::new();
        for (name, term) in &named {
            by_name.entry(name).or_default().push(term);
        }
        let wanted = |row: &Row<'_>| {
            by_name.iter().all(|(name, terms)| {
                let is = |term: &&&Term| term.comparison == Comparison::Is;
                let mut alternatives = terms.iter().filter(is).peekable();
                let one =
                    alternatives.peek().is_none() || alternatives.any(|term| row.holds(name, term));
                one && terms.iter().all(|term| is(&term) || row.holds(name, term))
            })
        };
        results.rows.retain(wanted);
        if results.rows.is_empty() && !terms.is_empty() {
            let terms: Vec<String> = terms.iter().map(Term::to_string).collect();
            return Err(Mistake {
                message: format!("no figure has all of {}", terms.join(", ")),
                hint: "each term alone holds of some figures: leave one out".into(),
            });
        }
        Ok(results)
    }

    /// Each term with its name, where it holds of some row.
    fn named<'t>(&self, terms: &'t [Term]) -> Result<Vec<(Name, &'t Term)>, Mistake> {
        let axes = self.axes();
        let named = |term: &'t Term| {
            let name = Name::read(&term.name, &axes)?;
            if self.rows.iter().any(|row| row.holds(&name, term)) {
                return Ok((name, term));
            }
            let known = distinct(self.rows.iter().map(|row| row.text(&name)));
            let known: Vec<&str> = known.into_iter().filter(|text| !text.is_empty()).collect();
            let hint = match known.as_slice() {
                [] => "comparisons have it: add `kind=difference`, or `kind=*`".to_owned(),
                known => format!("there are: {}", known.join(", ")),
            };
            Err(Mistake { message: format!("no figure has {term}"), hint })
        };
        terms.iter().map(named).collect()
    }

    /// The axes of all rows, in the order in which they appear.
    fn axes(&self) -> Vec<&str> {
        distinct(self.rows.iter().flat_map(|row| &row.axes).map(|(axis, _)| axis.as_str()))
    }

    /// How many artefacts have rows of several evaluations, of one run or of several.
    pub fn repeated(&self) -> usize {
        let last = self.last();
        let again = self.rows.iter().filter(|row| !std::ptr::eq(row.of, last[row.object()]));
        distinct(again.map(Row::object)).len()
    }

    /// Leaves the rows of every artefact to the last evaluation that has it.
    pub fn latest(mut self) -> Self {
        let last: BTreeMap<String, *const Evaluated> = self
            .last()
            .into_iter()
            .map(|(object, of)| (object.to_owned(), std::ptr::from_ref(of)))
            .collect();
        self.rows.retain(|row| last[row.object()] == std::ptr::from_ref(row.of));
        self
    }

    fn last(&self) -> BTreeMap<&str, &'a Evaluated> {
        self.rows.iter().map(|row| (row.of.object.as_str(), row.of)).collect()
    }

    /// One line a figure for a terminal, under names; before them a line of what all have in
    /// common.
    pub fn table(&self) -> (String, Vec<Vec<String>>) {
        let names = self.labels();
        let labels = |row: &Row<'_>| names.iter().map(|name| row.text(name).to_owned()).collect();
        let tested = self.rows.iter().any(|row| row.figure.p.is_some());
        let decimals = self.decimals();
        let line = |row: &Row<'_>| {
            let Figure { interval, p_holm, .. } = &row.figure;
            let mut cells = vec![shown(interval, decimals[&*row.figure.metric])];
            cells.push(interval.n.to_string());
            cells.extend(tested.then(|| p_holm.map_or_else(String::new, |p| format!("{p:.4}"))));
            (labels(row), cells)
        };
        let mut figures = vec!["mean [low, high]".to_owned(), "n".to_owned()];
        figures.extend(tested.then(|| "p, Holm".to_owned()));
        folded(&names, figures, self.rows.iter().map(line).collect())
    }

    /// All figures as CSV: `pipeline`, `run`, `options`, `object`, then the columns of
    /// [`super::csv`], with `family` and a column an axis.
    pub fn csv(&self) -> String {
        let axes = self.axes();
        let mut out = format!("pipeline,run,options,object,{COLUMNS}{}\n", behind(&axes));
        for row in &self.rows {
            let Evaluated { pipeline, run, options, object, .. } = row.of;
            for name in [pipeline, run, &options.join(" "), object] {
                out += &field(name);
                out.push(',');
            }
            out += &columns(&row.figure);
            out += &values(row.figure.family(), &axes, &row.point());
            out.push('\n');
        }
        out
    }

    /// All figures as a list in JSON.
    pub fn json(&self) -> String {
        let of = |row: &'_ Row<'a>| -> serde_json::Value {
            let Row { of, figure, axes } = row;
            let (unit, direction) = figure.unit_and_direction();
            let axes: BTreeMap<&str, &str> =
                axes.iter().map(|(axis, value)| (axis.as_str(), value.as_str())).collect();
            let line = Line {
                pipeline: &of.pipeline,
                run: &of.run,
                options: &of.options,
                object: &of.object,
                evaluation: figure.evaluation,
                method: &figure.method,
                family: figure.family(),
                axes,
                test_set: figure.test_set,
                metric: &figure.metric,
                interval: figure.interval,
                kind: figure.kind,
                with: &figure.with,
                p: figure.p,
                p_holm: figure.p_holm,
                unit: &unit,
                direction,
            };
            serde_json::to_value(line).expect("a figure is plain data")
        };
        let all: Vec<serde_json::Value> = self.rows.iter().map(of).collect();
        format!("{}\n", serde_json::to_string_pretty(&all).expect("figures are plain data"))
    }

    /// A line for the rows that differ in one name alone, a column a value of it. Runs are left
    /// out, unless they are the columns.
    ///
    /// # Errors
    /// A name that there is not, or two evaluations that have different figures for one cell.
    pub fn pivot(&self, name: &str) -> Result<Pivot, Mistake> {
        let name = Name::read(name, &self.axes())?;
        let names: Vec<Name> = self
            .labels()
            .into_iter()
            .filter(|label| *label != name && *label != Name::Run)
            .collect();
        let columns = ordered(distinct(self.rows.iter().map(|row| row.text(&name))));
        let mut lines: Vec<PivotLine<'_>> = Vec::new();
        let mut places: BTreeMap<Vec<&str>, usize> = BTreeMap::new();
        for row in &self.rows {
            let labels: Vec<&str> = names.iter().map(|label| row.text(label)).collect();
            let place = *places.entry(labels.clone()).or_insert_with(|| {
                lines.push(PivotLine { labels, cells: vec![None; columns.len()] });
                lines.len() - 1
            });
            let at = columns.iter().position(|value| *value == row.text(&name)).unwrap_or(0);
            let cell = &mut lines[place].cells[at];
            match cell {
                Some(other) if !other.is_same(row) => {
                    let [one, two] = [*other, row].map(|row| {
                        let Figure { method, evaluation, .. } = &row.figure;
                        format!("{method} in {evaluation} of run {}", row.of.run)
                    });
                    return Err(Mistake {
                        message: format!(
                            "{one} and {two} have different figures for one cell ({})",
                            lines[place].words(&names)
                        ),
                        hint: "choose one of them, as by `run=ID`".into(),
                    });
                }
                _ => *cell = Some(row),
            }
        }
        let decimals = self.decimals();
        let metric = names.iter().position(|label| *label == Name::Metric);
        let line = |line: PivotLine<'_>| {
            let decimals = match metric.map(|at| line.labels[at]) {
                Some(metric) => decimals[metric],
                // Metrics are the columns.
                None => 3,
            };
            let labels = line.labels.into_iter().map(str::to_owned).collect();
            let cells = line.cells.iter().map(|cell| cell.map(|row| row.figure.interval)).collect();
            (labels, cells, decimals)
        };
        let heads = columns.iter().map(|value| format!("{}={value}", name.text())).collect();
        Ok(Pivot { names, heads, lines: lines.into_iter().map(line).collect() })
    }

    /// The names that a line of a table has. Of options those are shown that are axes.
    fn labels(&self) -> Vec<Name> {
        let axes = self.axes().into_iter().map(|axis| Name::Axis(axis.to_owned()));
        let before = [Name::Pipeline, Name::Run, Name::Evaluation].into_iter().chain(axes);
        let behind = [Name::Method, Name::TestSet, Name::Metric, Name::Kind, Name::With];
        before.chain(behind).collect()
    }

    /// The decimals of each metric.
    fn decimals(&self) -> BTreeMap<&str, usize> {
        let mut means: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for row in &self.rows {
            means.entry(&row.figure.metric).or_default().push(row.figure.interval.mean);
        }
        means.into_iter().map(|(metric, means)| (metric, decimals(means.into_iter()))).collect()
    }
}

impl Row<'_> {
    fn object(&self) -> &str {
        &self.of.object
    }

    /// Whether both are the same figure, bit by bit, as one artefact of two runs has it.
    fn is_same(&self, other: &Row<'_>) -> bool {
        let bits = |row: &Row<'_>| {
            let Interval { mean, low, high, n, .. } = row.figure.interval;
            ([mean, low, high].map(f64::to_bits), n)
        };
        bits(self) == bits(other)
    }
}

/// Rows that differ in one name alone, a line each.
pub struct Pivot {
    names: Vec<Name>,
    heads: Vec<String>,
    /// Labels, a figure a head, and decimals.
    lines: Vec<(Vec<String>, Vec<Option<Interval>>, usize)>,
}

struct PivotLine<'a> {
    labels: Vec<&'a str>,
    cells: Vec<Option<&'a Row<'a>>>,
}

impl PivotLine<'_> {
    fn words(&self, names: &[Name]) -> String {
        let words = names.iter().zip(&self.labels).filter(|(_, label)| !label.is_empty());
        let words = words.map(|(name, label)| format!("{} {label}", name.text()));
        words.collect::<Vec<String>>().join(", ")
    }
}

impl Pivot {
    /// For a terminal, as [`Results::table`].
    pub fn table(&self) -> (String, Vec<Vec<String>>) {
        let line = |(labels, cells, decimals): &(Vec<String>, Vec<Option<Interval>>, usize)| {
            let cell = |cell: &Option<Interval>| {
                cell.map_or_else(|| "-".to_owned(), |interval| shown(&interval, *decimals))
            };
            (labels.clone(), cells.iter().map(cell).collect())
        };
        folded(&self.names, self.heads.clone(), self.lines.iter().map(line).collect())
    }

    /// As CSV: labels, and means.
    pub fn csv(&self) -> String {
        let names = self.names.iter().map(|name| field(&name.column()));
        let heads = self.heads.iter().map(|head| field(head));
        let mut out = names.chain(heads).collect::<Vec<String>>().join(",") + "\n";
        for (labels, cells, _) in &self.lines {
            let cell = |cell: &Option<Interval>| {
                cell.map_or_else(String::new, |interval| interval.mean.to_string())
            };
            let fields = labels.iter().map(|label| field(label)).chain(cells.iter().map(cell));
            out += &(fields.collect::<Vec<String>>().join(",") + "\n");
        }
        out
    }
}

/// A figure in JSON.
#[derive(Serialize)]
struct Line<'a> {
    pipeline: &'a str,
    run: &'a str,
    options: &'a [String],
    object: &'a str,
    evaluation: &'a str,
    method: &'a str,
    family: &'a str,
    axes: BTreeMap<&'a str, &'a str>,
    test_set: &'a str,
    metric: &'a str,
    #[serde(flatten)]
    interval: Interval,
    kind: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    with: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p_holm: Option<f64>,
    unit: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    direction: &'a str,
}

fn shown(interval: &Interval, decimals: usize) -> String {
    Cell::interval(interval, decimals).text(0)
}

/// A line of what all labels of a column have in common, a word and value each, and a table of the
/// other columns and of figures under their names.
fn folded(
    names: &[Name],
    figures: Vec<String>,
    lines: Vec<(Vec<String>, Vec<String>)>,
) -> (String, Vec<Vec<String>>) {
    let common = |at: usize| {
        let first = lines.first().map(|(labels, _)| labels[at].as_str())?;
        lines.iter().all(|(labels, _)| labels[at] == first).then_some(first)
    };
    let all = names.iter().enumerate().filter_map(|(at, name)| Some((name, common(at)?)));
    let all = all.filter(|(_, value)| !value.is_empty());
    let all: Vec<String> = all.map(|(name, value)| format!("{} {value}", name.text())).collect();
    let kept: Vec<usize> = (0..names.len()).filter(|at| common(*at).is_none()).collect();
    let mut rows = vec![
        kept.iter().map(|at| names[*at].text().to_owned()).chain(figures).collect::<Vec<String>>(),
    ];
    for (labels, cells) in &lines {
        let label = |at: &usize| match labels[*at].as_str() {
            "" => "-".to_owned(),
            label => label.to_owned(),
        };
        rows.push(kept.iter().map(label).chain(cells.iter().cloned()).collect());
    }
    (all.join(", "), rows)
}
