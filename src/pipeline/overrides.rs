//! What the command line lays over a pipeline: `--profile NAME` and `--set KEY=VALUE`, in this
//! order.
//!
//! `--set` takes a param (`kl=0.1`), a field of one (`optimiser.rate=1e-3`), an axis or another key
//! of the matrix (`matrix.seed=[0, 1]`, `matrix.exclude=[…]`) or a field of a stage
//! (`stages.ppo.kl.coef=0.1`). The value is YAML. A param that a profile or `--set` gives a value
//! has this value alone: its axis, if it has one, is gone.

use super::diagnostic::{Mistake, Source, Sources, Span, advice};
use super::document::Document;
use super::matrix;
use super::matrix_section::{EXCLUDE, INCLUDE, RESERVED};
use super::params;
use super::yaml::{self, Entry, Node, Value};

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Profiles, the later the stronger.
    pub profiles: Vec<String>,
    /// `KEY=VALUE`, the later the stronger; all stronger than profiles.
    pub sets: Vec<String>,
}

/// Lays the overrides over the document.
pub fn apply(
    document: &mut Document,
    overrides: &Overrides,
    sources: &mut Sources,
) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    // All profiles are looked at, so that a mistake in one does not wait for the day it is used.
    let values = document.profiles.iter().flat_map(|(_, values)| values);
    mistakes.extend(values.filter_map(|value| check_profile_value(document, value)));
    if !mistakes.is_empty() {
        return mistakes;
    }
    for name in &overrides.profiles {
        match document.profiles.iter().find(|(entry, _)| entry.key == *name) {
            Some((_, values)) => values
                .clone()
                .into_iter()
                .for_each(|entry| set_param(document, &entry.key, entry.value)),
            None => {
                let span = add_option(sources, format!("--profile {name}"), name.clone());
                let names = document.profiles.iter().map(|(entry, _)| entry.key.as_str());
                let help = advice(name, names, "profiles");
                mistakes
                    .push(Mistake::new(span, format!("there is no profile `{name}`")).help(help));
            }
        }
    }
    for set in &overrides.sets {
        mistakes.extend(apply_set(document, set, sources).err().into_iter().flatten());
    }
    mistakes
}

fn check_profile_value(document: &Document, entry: &Entry) -> Option<Mistake> {
    match document.param(&entry.key) {
        Some(param) => params::misfit(param, &entry.value),
        None => Some(document.unknown_param(&entry.key, entry.key_span)),
    }
}

/// The value of a param that is known to exist; its axis goes.
fn set_param(document: &mut Document, name: &str, value: Node) {
    document.matrix.remove(name);
    if let Some(param) = document.params.iter_mut().find(|param| param.name == name) {
        param.value = value;
    }
}

fn add_option(sources: &mut Sources, name: String, text: String) -> Span {
    let width = text.chars().count();
    // Paths on the command line start from where the command was given.
    let folder = std::env::current_dir().unwrap_or_default();
    let source = sources.add(Source { name, text, folder, lines: false });
    Span { source, line: 1, column: 1, width }
}

fn apply_set(
    document: &mut Document,
    set: &str,
    sources: &mut Sources,
) -> Result<(), Vec<Mistake>> {
    let (key, text) = set.split_once('=').unwrap_or((set, ""));
    let span = add_option(sources, format!("--set {set}"), text.to_owned());
    if !set.contains('=') {
        return Err(vec![
            Mistake::new(span, "expected KEY=VALUE").help("for example --set seed=1"),
        ]);
    }
    let value = match yaml::parse(sources, span.source)? {
        Some(value) => value,
        None => Node {
            span,
            used_at: None,
            value: Value::Scalar(yaml::Scalar {
                text: String::new(),
                plain: true,
                folder_of: span.source,
            }),
        },
    };
    let one = |mistake: Mistake| vec![mistake];
    if let Some(path) = key.strip_prefix("stages.") {
        return set_stage_field(document, path, span, value).map_err(one);
    }
    if let Some(name) = key.strip_prefix("matrix.") {
        return set_axis(document, name, span, value);
    }
    let mut path = key.split('.');
    let name = path.next().unwrap_or_default();
    let fields: Vec<&str> = path.collect();
    let is_list = matches!(value.value, Value::Sequence(_));
    let Some(param) = document.params.iter_mut().find(|param| param.name == name) else {
        return Err(one(unknown_key(document, name, span)));
    };
    params::set(param, &fields, span, value).map_err(|mistake| {
        match is_list && fields.is_empty() {
            true => one(mistake.help(format!(
                "several values are an axis of the matrix: --set 'matrix.{name}={text}'"
            ))),
            false => one(mistake),
        }
    })?;
    document.matrix.remove(name);
    Ok(())
}

fn unknown_key(document: &Document, name: &str, span: Span) -> Mistake {
    let mistake = document.unknown_param(name, span);
    match document.stage(name) {
        Some(_) => mistake.help(format!(
            "a field of the stage `{name}` is set by --set stages.{name}.FIELD=VALUE"
        )),
        None => mistake,
    }
}

/// An axis, or another key of the matrix.
fn set_axis(
    document: &mut Document,
    name: &str,
    span: Span,
    value: Node,
) -> Result<(), Vec<Mistake>> {
    let is_param = document.param(name).is_some();
    if !is_param && !RESERVED.contains(&name) {
        return Err(vec![document.unknown_param(name, span)]);
    }
    document.matrix.replace(Entry { key: name.to_owned(), key_span: span, value })?;
    let mut mistakes = matrix::check_axes(document);
    if matches!(name, EXCLUDE | INCLUDE) {
        mistakes.extend(matrix::check_points(document, name));
    }
    if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
}

fn set_stage_field(
    document: &mut Document,
    path: &str,
    span: Span,
    value: Node,
) -> Result<(), Mistake> {
    // A stage of a resolved pipeline has its point in its name, dots and all: the longest name that
    // fits is meant.
    let after = |name: &str| {
        path.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')).map(str::to_owned)
    };
    let found = document
        .stages
        .iter()
        .filter_map(|stage| Some((stage.key.clone(), after(&stage.key)?)))
        .max_by_key(|(name, _)| name.len());
    let Some((stage, fields)) = found else {
        let name = path.split('.').next().unwrap_or_default();
        if document.stage(path).is_some() {
            return Err(Mistake::new(span, format!("expected a field of the stage `{path}`"))
                .help(format!("--set stages.{path}.FIELD=VALUE")));
        }
        let help = advice(name, document.stages.iter().map(|stage| stage.key.as_str()), "stages");
        return Err(Mistake::new(span, format!("there is no stage `{name}`")).help(help));
    };
    let mut slot = document.stage_mut(&stage).expect("it was just found");
    for field in fields.split('.') {
        if slot.is_null() {
            slot.value = Value::Mapping(Vec::new());
        }
        let found = slot.describe();
        let Value::Mapping(entries) = &mut slot.value else {
            return Err(Mistake::new(span, format!("`{field}` cannot be set in {found}")));
        };
        let at = entries.iter().position(|entry| entry.key == field).unwrap_or_else(|| {
            entries.push(Entry {
                key: field.to_owned(),
                key_span: span,
                value: Node::mapping(span, Vec::new()),
            });
            entries.len() - 1
        });
        slot = &mut entries[at].value;
    }
    *slot = value;
    Ok(())
}
