//! The section `matrix` as it is written: axes, axes that vary together, points that are left out
//! or added. Does not know which stage depends on what.

use std::collections::{HashMap, HashSet};

use super::diagnostic::{Mistake, Span};
use super::scalar::{Meaning, meaning};
use super::yaml::{Entry, Node, Value};
use crate::limits::POINTS;

/// Points that are left out.
pub const EXCLUDE: &str = "exclude";
/// Points that are added.
pub const INCLUDE: &str = "include";
/// Axes whose values are taken side by side.
pub const ZIP: &str = "zip";
/// Axes whose values depend on those of other axes.
pub const NESTED: &str = "nested";
/// The keys that are no axis.
pub const RESERVED: [&str; 4] = [EXCLUDE, INCLUDE, ZIP, NESTED];

/// A matrix axis: the values that a param takes in turn.
#[derive(Clone, Debug)]
pub struct Axis {
    /// The param.
    pub name: String,
    /// Where it is declared.
    pub span: Span,
    /// The values of the product, at least one, no two the same.
    pub values: Vec<Node>,
    /// Further values, which only points under `include` have.
    pub included: Vec<Node>,
}

impl Axis {
    /// A value by its index: those of the product come first.
    pub fn value(&self, index: usize) -> &Node {
        self.values.get(index).unwrap_or_else(|| &self.included[index - self.values.len()])
    }

    /// All values, by index.
    pub fn all(&self) -> impl Iterator<Item = &Node> {
        self.values.iter().chain(&self.included)
    }

    /// The index of a value, however it is spelt.
    pub fn index_of(&self, value: &Node) -> Option<usize> {
        let wanted = meaning(value);
        self.all().position(|own| meaning(own) == wanted)
    }
}

/// Axes that vary together: the product takes a row at a time.
#[derive(Clone, Debug)]
pub struct Group {
    /// `zip` or `nested`.
    pub key: &'static str,
    /// The names of its axes.
    pub axes: Vec<String>,
    /// Values of these axes; no two rows are the same.
    pub rows: Vec<Vec<Node>>,
}

/// The section.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// All axes, in the order of the file.
    pub axes: Vec<Axis>,
    /// Those that do not vary alone.
    pub groups: Vec<Group>,
    /// Points that are left out of the product: every one that has all the values of one of these.
    pub exclude: Vec<Vec<Entry>>,
    /// Points that are added to it; an axis that one of them does not name takes its values in
    /// turn.
    pub include: Vec<Vec<Entry>>,
}

impl Section {
    /// Reads the section.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn read(entries: Vec<Entry>) -> Result<Self, Vec<Mistake>> {
        let (mut section, mut mistakes) = (Section::default(), Vec::new());
        for entry in entries {
            if let Err(more) = section.set(entry) {
                mistakes.extend(more);
            }
        }
        let mut seen: HashMap<&str, Span> = HashMap::new();
        for Axis { name, span, .. } in &section.axes {
            if let Some(first) = seen.insert(name, *span) {
                let mistake = Mistake::new(*span, format!("the axis `{name}` is given twice"));
                mistakes.push(mistake.note(first, "first given here"));
            }
        }
        section.complete();
        if mistakes.is_empty() { Ok(section) } else { Err(mistakes) }
    }

    /// Puts an entry into the section, in place of what it has under this key.
    ///
    /// # Errors
    /// The value does not fit the key.
    pub fn replace(&mut self, entry: Entry) -> Result<(), Vec<Mistake>> {
        let one = |mistake| vec![mistake];
        match entry.key.as_str() {
            EXCLUDE | INCLUDE => {}
            key @ (ZIP | NESTED) => {
                let gone: HashSet<String> = self
                    .groups
                    .extract_if(.., |group| group.key == key)
                    .flat_map(|group| group.axes)
                    .collect();
                self.axes.retain(|axis| !gone.contains(&axis.name));
            }
            name => {
                if let Some(group) = self.group_of(name) {
                    let message = format!("`{name}` is an axis under `{}`", group.key);
                    let help = format!("--set 'matrix.{}=…' changes all of them", group.key);
                    return Err(one(Mistake::new(entry.key_span, message).help(help)));
                }
                if let Some(axis) = self.axes.iter_mut().find(|axis| axis.name == name) {
                    axis.values = axis_values(name, entry.value).map_err(one)?;
                    self.complete();
                    return Ok(());
                }
            }
        }
        let set = self.set(entry);
        self.complete();
        set
    }

    /// Takes an axis away: its param has one value.
    pub fn remove(&mut self, name: &str) {
        self.axes.retain(|axis| axis.name != name);
        for group in &mut self.groups {
            let Some(at) = group.axes.iter().position(|axis| axis == name) else { continue };
            group.axes.remove(at);
            let mut seen = HashSet::new();
            group.rows.retain_mut(|row| {
                row.remove(at);
                seen.insert(row.iter().map(meaning).collect::<Vec<_>>())
            });
        }
        self.groups.retain(|group| !group.axes.is_empty());
    }

    /// The group that an axis belongs to.
    pub fn group_of(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.axes.iter().any(|axis| axis == name))
    }

    /// Finds the values that only added points have.
    fn complete(&mut self) {
        for axis in &mut self.axes {
            let mut known: HashSet<Meaning> = axis.values.iter().map(meaning).collect();
            let named = self.include.iter().flatten().filter(|entry| entry.key == axis.name);
            axis.included = named
                .filter(|entry| known.insert(meaning(&entry.value)))
                .map(|entry| entry.value.clone())
                .collect();
        }
    }

    fn set(&mut self, entry: Entry) -> Result<(), Vec<Mistake>> {
        match entry.key.as_str() {
            EXCLUDE => self.exclude = points(EXCLUDE, entry.value)?,
            INCLUDE => self.include = points(INCLUDE, entry.value)?,
            ZIP => {
                let items = match entry.value.value {
                    Value::Mapping(_) => vec![entry.value],
                    Value::Sequence(items) => items,
                    _ => return Err(unfit(&entry, "a mapping of lists", "{a: [1, 2], b: [3, 4]}")),
                };
                for item in items {
                    let (axes, rows) = zipped(item)?;
                    self.add_group(ZIP, axes, rows)?;
                }
            }
            NESTED => {
                let Value::Sequence(items) = entry.value.value else {
                    return Err(unfit(&entry, "a list of mappings", "[{a: 1, b: [3, 4]}]"));
                };
                let (axes, rows) = nested(items, entry.key_span)?;
                self.add_group(NESTED, axes, rows)?;
            }
            _ => {
                let values =
                    axis_values(&entry.key, entry.value).map_err(|mistake| vec![mistake])?;
                let (name, span) = (entry.key, entry.key_span);
                self.axes.push(Axis { name, span, values, included: Vec::new() });
            }
        }
        Ok(())
    }

    fn add_group(
        &mut self,
        key: &'static str,
        axes: Vec<(String, Span)>,
        rows: Vec<Vec<Node>>,
    ) -> Result<(), Vec<Mistake>> {
        let mut seen = HashMap::new();
        for row in &rows {
            let span = row.first().map_or(axes[0].1, |value| value.span);
            if let Some(first) = seen.insert(row.iter().map(meaning).collect::<Vec<_>>(), span) {
                let mistake = Mistake::new(span, "this point is given twice");
                return Err(vec![mistake.note(first, "first given here")]);
            }
        }
        for (at, (name, span)) in axes.iter().enumerate() {
            let mut known = HashSet::new();
            let column = rows.iter().map(|row| &row[at]);
            let values = column.filter(|value| known.insert(meaning(value))).cloned().collect();
            let (name, span) = (name.clone(), *span);
            self.axes.push(Axis { name, span, values, included: Vec::new() });
        }
        let axes = axes.into_iter().map(|(name, _)| name).collect();
        self.groups.push(Group { key, axes, rows });
        Ok(())
    }
}

/// A list of axis values, with the rules that hold for one.
fn axis_values(name: &str, list: Node) -> Result<Vec<Node>, Mistake> {
    let values = match list.value {
        Value::Sequence(values) if !values.is_empty() => values,
        _ => {
            let found = list.describe();
            return Err(list
                .mistake(format!("expected a list of values for `{name}`, found {found}"))
                .help("write [0, 1, 2]"));
        }
    };
    let mut given = HashMap::new();
    for value in &values {
        if let Some(first) = given.insert(meaning(value), value.span) {
            let mistake = value
                .mistake(format!("`{name}` has this value twice"))
                .note(first, "first given here");
            return Err(mistake);
        }
    }
    Ok(values)
}

fn unfit(entry: &Entry, expected: &str, example: &str) -> Vec<Mistake> {
    let found = entry.value.describe();
    let message = format!("expected {expected} for `{}`, found {found}", entry.key);
    vec![entry.value.mistake(message).help(format!("write `{}: {example}`", entry.key))]
}

/// The items of `exclude` or `include`.
fn points(key: &str, list: Node) -> Result<Vec<Vec<Entry>>, Vec<Mistake>> {
    let (mut points, mut mistakes) = (Vec::new(), Vec::new());
    let found = list.describe();
    let mistake = list.mistake(format!("expected a list of mappings for `{key}`, found {found}"));
    let Value::Sequence(items) = list.value else {
        return Err(vec![mistake.help(format!("write `{key}: [{{seed: 1, kl: 0.1}}]`"))]);
    };
    for item in items {
        match item_entries(key, item) {
            Ok(entries) => points.push(entries),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    if mistakes.is_empty() { Ok(points) } else { Err(mistakes) }
}

fn item_entries(key: &str, item: Node) -> Result<Vec<Entry>, Mistake> {
    let found = item.describe();
    let mistake =
        item.mistake(format!("expected an item of `{key}` to be a mapping, found {found}"));
    match item.value {
        Value::Mapping(entries) => Ok(entries),
        _ if item.is_null() => Ok(Vec::new()),
        _ => Err(mistake),
    }
}

type Rows = (Vec<(String, Span)>, Vec<Vec<Node>>);

/// One item of `zip`: lists of one length, side by side.
fn zipped(item: Node) -> Result<Rows, Vec<Mistake>> {
    let span = item.span;
    let entries = item_entries(ZIP, item).map_err(|mistake| vec![mistake])?;
    let (mut axes, mut columns) = (Vec::new(), Vec::<Vec<Node>>::new());
    for Entry { key, key_span, value } in entries {
        let found = value.describe();
        let mistake =
            value.mistake(format!("expected a list of values for `{key}`, found {found}"));
        let values = match value.value {
            Value::Sequence(values) if !values.is_empty() => values,
            _ => return Err(vec![mistake.help("write [0, 1, 2]")]),
        };
        if let Some((first, length)) = axes.first().zip(columns.first().map(Vec::len))
            && values.len() != length
        {
            let (first, first_span): &(String, Span) = first;
            let message = format!(
                "`{key}` has {} values, but `{first}` beside it has {length}",
                values.len()
            );
            return Err(vec![Mistake::new(key_span, message).note(*first_span, "beside this")]);
        }
        axes.push((key, key_span));
        columns.push(values);
    }
    if axes.is_empty() {
        return Err(vec![Mistake::new(span, "an item of `zip` names no axis")]);
    }
    let rows = (0..columns[0].len())
        .map(|at| columns.iter().map(|column| column[at].clone()).collect())
        .collect();
    Ok((axes, rows))
}

/// The items of `nested`: each the product of the item's lists, all over the same axes.
fn nested(items: Vec<Node>, span: Span) -> Result<Rows, Vec<Mistake>> {
    let one = |mistake: Mistake| vec![mistake];
    let most = POINTS.value().map_err(|failure| one(Mistake::new(span, failure.message)))?;
    let mut axes: Vec<(String, Span)> = Vec::new();
    let mut rows: Vec<Vec<Node>> = Vec::new();
    for item in items {
        let here = item.span;
        let mut entries = item_entries(NESTED, item).map_err(one)?;
        if axes.is_empty() {
            axes = entries.iter().map(|entry| (entry.key.clone(), entry.key_span)).collect();
        }
        let mut own: Vec<Vec<Node>> = vec![Vec::new()];
        for (name, first) in &axes {
            let Some(at) = entries.iter().position(|entry| entry.key == *name) else {
                let mistake = Mistake::new(here, format!("this item of `nested` has no `{name}`"));
                return Err(one(mistake.note(*first, "every item names the axes of the first")));
            };
            let value = entries.remove(at).value;
            let values = match value.value {
                Value::Sequence(_) => axis_values(name, value).map_err(one)?,
                _ => vec![value],
            };
            if (own.len() as u64).saturating_mul(values.len() as u64) > most {
                let mistake = Mistake::new(here, format!("`nested` has more than {most} points"));
                return Err(one(mistake.help(POINTS.hint())));
            }
            let with = |row: &Vec<Node>, value: &Node| {
                row.iter().chain([value]).cloned().collect::<Vec<_>>()
            };
            own = own
                .iter()
                .flat_map(|row| values.iter().map(move |value| with(row, value)))
                .collect();
        }
        if let Some(Entry { key, key_span, .. }) = entries.first() {
            let message = format!("`{key}` is not an axis of the first item of `nested`");
            return Err(one(Mistake::new(*key_span, message).note(axes[0].1, "which begins here")));
        }
        rows.extend(own);
    }
    if axes.is_empty() {
        return Err(one(Mistake::new(span, "`nested` names no axis")));
    }
    Ok((axes, rows))
}
