//! How tables look: a block of methods down and test sets across, or a listing of one figure a
//! line; numbers of equal decimals; text for a terminal, and Markdown. What is in them is laid
//! out by [`super::table`] and others; other languages are [`super::formats`].

use std::fmt::Write;

use super::metrics::{Direction, define};
use super::query::number as parsed;
use crate::artefacts::table::Row;
use crate::eval::interval::Interval;
use crate::eval::seeds::Decision;

/// A heading with cells of equal decimals under it: what both renderers lay out.
pub(super) struct Block<'a> {
    pub(super) title: String,
    /// What it shows, without a full stop; may be empty.
    pub(super) meaning: String,
    pub(super) columns: Vec<&'a str>,
    /// A method and its cells, one a column.
    pub(super) lines: Vec<(&'a str, Vec<Cell>)>,
    /// Which way its figures point.
    pub(super) directions: Directions,
}

/// Which way the figures of a block point: all of them, where the title is a metric, or each
/// column's, where these are metrics.
pub(super) struct Directions {
    pub(super) title: Direction,
    /// One a column, or none.
    pub(super) columns: Vec<Direction>,
}

impl Directions {
    /// Of columns that are metrics.
    pub(super) fn of(metrics: &[&str]) -> Self {
        let direction =
            |metric: &&str| define(metric).map_or(Direction::Neither, |of| of.direction);
        Directions { title: Direction::Neither, columns: metrics.iter().map(direction).collect() }
    }
}

/// The numbers of a cell, formatted: mean, low and high, or the mean alone, or none.
pub(super) struct Cell(pub(super) Vec<String>);

impl Cell {
    /// With every number right-aligned in `digits` columns, so that decimal points are below each
    /// other.
    pub(super) fn text(&self, digits: usize) -> String {
        match self.0.as_slice() {
            [mean, low, high] => format!("{mean:>digits$} [{low:>digits$}, {high:>digits$}]"),
            [mean] => format!("{mean:>digits$}"),
            _ => format!("{:>digits$}", "-"),
        }
    }

    /// A mean with its interval, where it has one.
    pub(super) fn interval(interval: &Interval, decimals: usize) -> Self {
        match interval.has_ends() {
            true => Cell(
                [interval.mean, interval.low, interval.high].map(|x| number(x, decimals)).into(),
            ),
            false => Cell::number(interval.mean, decimals),
        }
    }

    /// One number.
    pub(super) fn number(x: f64, decimals: usize) -> Self {
        Cell(vec![number(x, decimals)])
    }
}

/// One metric as a figure a line, where a line has more to say than a cell of a block can: names
/// first, then cells.
pub(super) struct Listing {
    pub(super) title: String,
    pub(super) metric: String,
    /// What it shows, in a sentence without its full stop.
    pub(super) meaning: String,
    /// What its lines are called, and then a heading a cell.
    pub(super) columns: Vec<&'static str>,
    /// In the order of test sets; those of one test set follow one another.
    pub(super) lines: Vec<Line>,
}

/// One line of a listing.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) test_set: String,
    pub(super) cells: Vec<Cell>,
    /// Whether it is significant, where that was tested.
    pub(super) verdict: Option<Verdict>,
}

/// The result of a test against chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Higher,
    Lower,
    Equivalent,
    Unclear,
}

impl Verdict {
    /// The level that corrected p values are held against.
    pub(super) const LEVEL: f64 = 0.05;

    /// Of a mean difference and its corrected p value.
    pub(super) fn of(mean: f64, p: f64) -> Self {
        match p < Self::LEVEL {
            true if mean > 0.0 => Verdict::Higher,
            true => Verdict::Lower,
            false => Verdict::Unclear,
        }
    }

    /// Of a comparison over seeds.
    pub(super) fn decided(decision: Decision) -> Self {
        match decision {
            Decision::Greater => Verdict::Higher,
            Decision::Less => Verdict::Lower,
            Decision::Equivalent => Verdict::Equivalent,
            Decision::Open => Verdict::Unclear,
        }
    }

    /// Of the same difference the other way round.
    pub(super) fn negated(self) -> Self {
        match self {
            Verdict::Higher => Verdict::Lower,
            Verdict::Lower => Verdict::Higher,
            other => other,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Verdict::Higher => "higher",
            Verdict::Lower => "lower",
            Verdict::Equivalent => "equivalent",
            Verdict::Unclear => "unclear",
        }
    }
}

impl Listing {
    /// The names of test sets with their lines.
    pub(super) fn groups(&self) -> Vec<(&str, Vec<&Line>)> {
        let sets = distinct(self.lines.iter().map(|line| line.test_set.as_str()));
        sets.into_iter()
            .map(|set| (set, self.lines.iter().filter(|line| line.test_set == set).collect()))
            .collect()
    }

    /// Whether lines have a verdict.
    pub(super) fn judged(&self) -> bool {
        self.lines.iter().any(|line| line.verdict.is_some())
    }

    /// For a terminal of `width` columns: a line a line, with its test set, and its verdict after
    /// the first cell. Cells that do not fit go below, under names and test sets again.
    pub(super) fn write_text(&self, out: &mut String, width: usize) {
        let heading = format!("{}: {}", self.title, self.meaning);
        let _ = writeln!(out, "{}", wrapped(&heading, width));
        let mut heads = vec![self.columns[0], "test set"];
        heads.extend(&self.columns[1..]);
        let mut rows: Vec<Vec<String>> = vec![heads.into_iter().map(str::to_owned).collect()];
        for line in &self.lines {
            let names = [line.name.clone(), line.test_set.clone()].into_iter();
            rows.push(names.chain(line.cells.iter().map(|cell| cell.text(0))).collect());
        }
        if self.judged() {
            let word = |line: &Line| line.verdict.map_or("-", |verdict| verdict.word());
            let words = std::iter::once("verdict").chain(self.lines.iter().map(word));
            rows.iter_mut().zip(words).for_each(|(row, word)| row.insert(3, word.to_owned()));
        }
        let widest = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..rows[0].len()).map(widest).collect();
        let mut from = 2;
        while from < widths.len() {
            let (mut to, mut used) = (from + 1, widths[0] + widths[1] + widths[from] + 6);
            while to < widths.len() && used + 2 + widths[to] <= width {
                used += 2 + widths[to];
                to += 1;
            }
            let shown: Vec<usize> = std::iter::once(1).chain(from..to).collect();
            let of_shown: Vec<usize> = shown.iter().map(|at| widths[*at]).collect();
            for row in &rows {
                let cells = shown.iter().map(|at| row[*at].clone());
                write_line(out, &row[0], widths[0], cells, &of_shown);
            }
            out.push('\n');
            from = to;
        }
    }

    pub(super) fn write_markdown(&self, out: &mut String) {
        let _ = writeln!(out, "### {}\n\n{}.\n", self.title, self.meaning);
        let judged = if self.judged() { " |" } else { "" };
        let (name, columns) = (self.columns[0], self.columns[1..].join(" | "));
        let _ = writeln!(out, "| {name} | test set | {columns} |{judged}");
        let _ = writeln!(
            out,
            "|---|---|{}{}",
            "---:|".repeat(self.columns.len() - 1),
            if self.judged() { "---|" } else { "" }
        );
        for (test_set, lines) in self.groups() {
            for line in lines {
                let cells: Vec<String> = line.cells.iter().map(|cell| cell.text(0)).collect();
                let verdict =
                    line.verdict.map_or(String::new(), |verdict| format!(" {} |", verdict.word()));
                let _ = writeln!(
                    out,
                    "| {} | {test_set} | {} |{verdict}",
                    line.name,
                    cells.join(" | ")
                );
            }
        }
        out.push('\n');
    }
}

/// The different items, in the order they first come.
pub(super) fn distinct<'a>(items: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for item in items {
        if !seen.contains(&item) {
            seen.push(item);
        }
    }
    seen
}

/// Values in ascending order where all of them are numbers, else as they are; empty ones first.
pub(super) fn ordered(mut values: Vec<&str>) -> Vec<&str> {
    if values.iter().all(|value| value.is_empty() || parsed(value).is_some()) {
        let key = |value: &&str| parsed(value).unwrap_or(f64::NEG_INFINITY);
        values.sort_by(|one, other| key(one).total_cmp(&key(other)));
    }
    values
}

/// A line a method: the cells of its rows, under the columns that `column` finds them in.
pub(super) fn lines<'a>(
    rows: &[&'a Row],
    columns: &[&str],
    column: impl Fn(&Row) -> &str,
    intervals: bool,
) -> Vec<(&'a str, Vec<Cell>)> {
    let shown = |row: &&&Row| row.figure.n > 0;
    let decimals = decimals(rows.iter().filter(shown).map(|row| row.figure.mean));
    let cell = |row: Option<&&Row>| match row {
        Some(row) if intervals => Cell::interval(&row.figure, decimals),
        Some(row) => Cell::number(row.figure.mean, decimals),
        None => Cell(vec![]),
    };
    let methods = distinct(rows.iter().map(|row| row.method.as_str()));
    let line = |method: &'a str| {
        let find = |name: &&str| {
            rows.iter().filter(shown).find(|row| row.method == method && column(row) == *name)
        };
        (method, columns.iter().map(|name| cell(find(name))).collect())
    };
    methods.into_iter().map(line).collect()
}

/// Decimals that the largest of some numbers leaves room for.
pub(super) fn decimals(numbers: impl Iterator<Item = f64>) -> usize {
    match numbers.map(f64::abs).fold(0.0, f64::max) {
        x if x < 9.9995 => 3,
        x if x < 99.995 => 2,
        _ => 1,
    }
}

/// A number without the sign of a zero.
pub(super) fn number(x: f64, decimals: usize) -> String {
    let text = format!("{x:.decimals$}");
    match text.strip_prefix('-') {
        Some(digits) if digits.chars().all(|c| c == '0' || c == '.') => digits.to_string(),
        _ => text,
    }
}

impl Block<'_> {
    pub(super) fn write_text(&self, out: &mut String, width: usize) {
        const GAP: usize = 2;
        let methods = self.lines.iter().map(|line| line.0.len()).max().unwrap_or(0);
        let numbers = self.lines.iter().flat_map(|line| &line.1).flat_map(|cell| &cell.0);
        let digits = numbers.map(String::len).max().unwrap_or(1);
        let lines: Vec<Vec<String>> = self
            .lines
            .iter()
            .map(|line| line.1.iter().map(|cell| cell.text(digits)).collect())
            .collect();
        let cells = |at: usize| lines.iter().map(move |line| line[at].len());
        let arrow = |at: usize| self.directions.columns.get(at).map_or("", |one| one.arrow());
        let heads: Vec<String> = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, head)| format!("{:>digits$}", format!("{head}{}", arrow(at))))
            .collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|at| cells(at).max().unwrap_or(0).max(heads[at].chars().count()))
            .collect();
        let gap = if self.meaning.is_empty() { "" } else { ": " };
        let heading =
            format!("{}{}{gap}{}", self.title, self.directions.title.arrow(), self.meaning);
        let _ = writeln!(out, "{}", wrapped(&heading, width));
        let mut from = 0;
        while from < self.columns.len() {
            let mut to = from + 1;
            let mut used = GAP + methods + GAP + widths[from];
            while to < self.columns.len() && used + GAP + widths[to] <= width {
                used += GAP + widths[to];
                to += 1;
            }
            write_line(out, "", methods, heads[from..to].iter().cloned(), &widths[from..to]);
            for ((method, _), cells) in self.lines.iter().zip(&lines) {
                write_line(
                    out,
                    method,
                    methods,
                    cells[from..to].iter().cloned(),
                    &widths[from..to],
                );
            }
            out.push('\n');
            from = to;
        }
    }

    pub(super) fn write_markdown(&self, out: &mut String) {
        let _ = writeln!(out, "### {}\n", self.title);
        if !self.meaning.is_empty() {
            let _ = writeln!(out, "{}.\n", self.meaning);
        }
        let _ = writeln!(out, "| method | {} |", self.columns.join(" | "));
        let _ = writeln!(out, "|---|{}", "---:|".repeat(self.columns.len()));
        for (method, cells) in &self.lines {
            let cells: Vec<String> = cells.iter().map(|cell| cell.text(0)).collect();
            let _ = writeln!(out, "| {method} | {} |", cells.join(" | "));
        }
        out.push('\n');
    }
}

/// A text in lines of at most `width` columns, broken at blanks; further lines are indented by
/// four. A word that is longer stays whole.
pub(super) fn wrapped(text: &str, width: usize) -> String {
    let (mut out, mut used) = (String::new(), 0);
    for word in text.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width {
            out.push_str("\n    ");
            used = 4;
        } else if used > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += length;
    }
    out
}

/// A method and its cells, each padded to its width, without blanks at the end.
fn write_line(
    out: &mut String,
    head: &str,
    head_width: usize,
    cells: impl Iterator<Item = String>,
    widths: &[usize],
) {
    let mut line = format!("  {head:<head_width$}");
    for (cell, width) in cells.zip(widths) {
        let _ = write!(line, "  {cell:<width$}");
    }
    let _ = writeln!(out, "{}", line.trim_end());
}
