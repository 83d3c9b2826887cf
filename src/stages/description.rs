//! The fields of a stage kind: type, default, range, meaning. Everything is found in the kind
//! itself: types through its `Deserialize` ([`super::fields`]); a default by leaving the field out;
//! a range by giving values and reading what `problems` says of them; meanings in the doc comments
//! of its config ([`super::meanings`]).

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::Stage;
use super::fields::{self, Answer, KEY, Node, Script, Shape, Trace};
use super::meanings::Meanings;

/// Values that a number is tried with.
const NUMBERS: [f64; 9] =
    [f64::NAN, f64::NEG_INFINITY, -1.0, 0.0, 0.5, 1.0, 2.0, 1e300, f64::INFINITY];
/// Values that a whole number is tried with.
const INTEGERS: [u64; 8] = [0, 1, 2, 64, 65, 258, 1 << 32, u64::MAX];
/// Values that a text is tried with.
const TEXTS: [&str; 4] = ["", "/", "http://x", "http://x@x"];
/// Names that a map is tried with.
const KEYS: [&str; 2] = ["/", "-"];
/// Where the message of a problem tells what was found.
const FOUND: [&str; 2] = [", found", ", it is"];
/// How the message of a problem begins that states a range; others are about fields that exclude
/// each other.
const RANGE: [&str; 2] = ["expected", "must be"];

/// A field of a stage kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Field {
    /// Its path in a config: `kl.coef`, `methods[].name`, `source.files.NAME.path`.
    pub field: String,
    /// Its type, in words.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether a config without it is refused. A key of an enum has none: it is a choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required: Option<bool>,
    /// Its value in a config without it, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// What the checks of the kind expect of it: messages of `problems`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expected: Vec<String>,
    /// Its doc comment.
    pub meaning: String,
    /// The values of an enum; those that hold something are fields as well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<Choice>,
}

/// A value of an enum.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Choice {
    /// Its name.
    pub value: String,
    /// Its doc comment.
    pub meaning: String,
    /// Whether it is a key, with a field of its name.
    pub is_key: bool,
}

/// The meaning of the stage kind `S`.
///
/// # Errors
/// The source of the kind has none.
pub fn meaning<S: Stage>() -> Result<String, String> {
    let name = S::INFO.name;
    Meanings::read().kind(name).ok_or_else(|| {
        format!("`{name}` has no meaning; is its file in SOURCES of src/stages/meanings.rs?")
    })
}

/// All fields of the stage kind `S`, each after the one that it is part of.
///
/// # Errors
/// A bug of the kind: a field that no value fits, or that has no doc comment.
pub fn fields<S: Stage>() -> Result<Vec<Field>, String> {
    examined::<S, _>(|described, _| {
        let mut out = Vec::new();
        described.members("", "", &mut out)?;
        Ok(out)
    })
}

/// Finds all that is known of the fields of `S`, and gives what `use_it` makes of it.
///
/// # Errors
/// As of [`fields`], and of `use_it`.
pub(super) fn examined<S: Stage, T>(
    use_it: impl FnOnce(&Described, &Trace) -> Result<T, String>,
) -> Result<T, String> {
    let (trace, complete) = fields::trace::<S>();
    complete?;
    let examples = trace
        .scripts
        .iter()
        .map(|script| serde_json::to_value(script.config::<S>()?).map_err(|e| e.to_string()))
        .collect::<Result<Vec<Value>, String>>()?;
    let decode = |config: &Value| {
        let stage = S::deserialize(config).ok()?;
        serde_json::to_value(stage).ok()
    };
    let described = Described {
        expected: expected::<S>(&trace),
        nodes: trace.nodes.iter().map(|node| (node.path.as_str(), node)).collect(),
        examples,
        meanings: Meanings::read(),
        decode: &decode,
    };
    use_it(&described, &trace)
}

/// What is known of the fields of a stage kind.
pub(super) struct Described<'a> {
    nodes: BTreeMap<&'a str, &'a Node>,
    /// Messages by path.
    expected: BTreeMap<String, Vec<String>>,
    /// The configs of the scripts.
    examples: Vec<Value>,
    meanings: Meanings,
    /// A config, decoded and written again.
    decode: &'a dyn Fn(&Value) -> Option<Value>,
}

impl Described<'_> {
    /// The place at `path`.
    pub(super) fn node(&self, path: &str) -> Result<&Node, String> {
        self.nodes.get(path).copied().ok_or_else(|| format!("`{path}` is not found"))
    }

    /// The fields within the value at `path`, which is shown as `shown`.
    fn members(&self, path: &str, shown: &str, out: &mut Vec<Field>) -> Result<(), String> {
        match &self.node(path)?.shape {
            Shape::Struct(name, fields) => {
                for field in *fields {
                    let inner = join(path, field);
                    let mut found = self.field(&inner, join(shown, field))?;
                    found.meaning = self.meaning(name, fields, field)?;
                    let default = self.default(path, &inner, field)?;
                    found.required = Some(matches!(default, Absence::Required));
                    if let Absence::Value(value) = default {
                        found.default = Some(value);
                    }
                    let shown = found.field.clone();
                    out.push(found);
                    self.members(&inner, &shown, out)?;
                }
                Ok(())
            }
            Shape::Choice(name, variants) => {
                for variant in *variants {
                    let inner = join(path, variant);
                    if self.nodes.contains_key(inner.as_str()) {
                        let mut found = self.field(&inner, join(shown, variant))?;
                        found.meaning = self.meaning(name, variants, variant)?;
                        let shown = found.field.clone();
                        out.push(found);
                        self.members(&inner, &shown, out)?;
                    }
                }
                Ok(())
            }
            Shape::List => self.members(&join(path, "0"), &format!("{shown}[]"), out),
            Shape::Map => self.members(&join(path, KEY), &join(shown, "NAME"), out),
            _ => Ok(()),
        }
    }

    /// The field at `path`, without its default and its meaning.
    fn field(&self, path: &str, shown: String) -> Result<Field, String> {
        let node = self.node(path)?;
        let null = if node.nullable { " or null" } else { "" };
        let mut expected = self.expected.get(path).cloned().unwrap_or_default();
        if expected.is_empty() && node.shape == (Shape::Integer { least: 0 }) {
            expected.push("expected 0 or more".into());
        }
        let (mut inner, mut inmost) = (path.to_owned(), node);
        while let Shape::List | Shape::Map = inmost.shape {
            inner = join(&inner, if inmost.shape == Shape::List { "0" } else { KEY });
            inmost = self.node(&inner)?;
            let messages = self.expected.get(&inner).into_iter().flatten();
            expected.extend(messages.map(|message| format!("each: {message}")));
        }
        let mut values = Vec::new();
        if let Shape::Choice(name, variants) = &inmost.shape {
            for variant in *variants {
                values.push(Choice {
                    value: (*variant).to_owned(),
                    meaning: self.meaning(name, variants, variant)?,
                    is_key: self.nodes.contains_key(join(&inner, variant).as_str()),
                });
            }
        }
        Ok(Field {
            kind: format!("{}{null}", self.kind(path, false)?),
            field: shown,
            required: None,
            default: None,
            expected,
            meaning: String::new(),
            values,
        })
    }

    /// The doc comment of a member of the type `name`.
    pub(super) fn meaning(
        &self,
        name: &str,
        members: &[&str],
        member: &str,
    ) -> Result<String, String> {
        let found = self.meanings.member(name, members, member);
        found.ok_or_else(|| {
            format!(
                "`{member}` of {name} has no doc comment; is its file in SOURCES of \
                 src/stages/meanings.rs?"
            )
        })
    }

    /// The type of the value at `path` in words, of one or of several.
    fn kind(&self, path: &str, several: bool) -> Result<String, String> {
        let number = |one: &str, more: &str| if several { more.into() } else { one.into() };
        Ok(match &self.node(path)?.shape {
            Shape::Boolean => "true or false".into(),
            Shape::Integer { .. } => number("whole number", "whole numbers"),
            Shape::Number => number("number", "numbers"),
            Shape::Text => number("text", "texts"),
            Shape::Path => number("path", "paths"),
            Shape::Model => number("path (or model of the hub)", "paths (or models of the hub)"),
            Shape::Struct(..) => number("mapping", "mappings"),
            Shape::Stage => {
                let kind = self.artefact(path)?;
                number(&format!("stage -> {kind}"), &format!("stages -> {kind}"))
            }
            Shape::List => {
                let items = self.kind(&join(path, "0"), true)?;
                number(&format!("list of {items}"), &format!("lists of {items}"))
            }
            Shape::Map => {
                let values = self.kind(&join(path, KEY), true)?;
                let of = format!("of names to {values}");
                number(&format!("mapping {of}"), &format!("mappings {of}"))
            }
            Shape::Choice(_, variants) => {
                let keys = variants
                    .iter()
                    .filter(|variant| self.nodes.contains_key(join(path, variant).as_str()));
                let below = match (keys.count(), variants.len()) {
                    (0, _) => "values below",
                    (keys, all) if keys == all => "keys below",
                    _ => "values and keys below",
                };
                number(&format!("one of the {below}"), &format!("the {below}"))
            }
        })
    }

    /// The kind of artefact that the reference at `path` takes.
    pub(super) fn artefact(&self, path: &str) -> Result<String, String> {
        let example = self.node(path)?.scripts.first().and_then(|at| self.examples.get(*at));
        let kind = example.and_then(|example| example.pointer(&pointer(path))?["kind"].as_str());
        kind.map(str::to_owned).ok_or_else(|| format!("`{path}` is no reference"))
    }

    /// The default of the field `name` of the struct at `parent`.
    pub(super) fn default(&self, parent: &str, path: &str, name: &str) -> Result<Absence, String> {
        let example = &self.examples[self.node(path)?.scripts[0]];
        let with = |value: Option<Value>| {
            let mut config = example.clone();
            let object = config.pointer_mut(&pointer(parent))?.as_object_mut()?;
            match value {
                Some(value) => object.insert(name.to_owned(), value),
                None => object.remove(name),
            };
            (self.decode)(&config)
        };
        let at = |config: &Value| config.pointer(&pointer(path)).cloned();
        let Some(without) = with(None) else { return Ok(Absence::Required) };
        let default = at(&without).or_else(|| {
            // A field that is not written at its default: its default is what is not written.
            let candidates = [json!(null), json!(1.0), json!({}), json!([])];
            candidates.into_iter().chain(self.variants(path)).find(|candidate| {
                with(Some(candidate.clone())).is_some_and(|config| at(&config).is_none())
            })
        });
        // A mapping whose fields are all at their defaults says no more than they do.
        let is_struct = matches!(self.node(path)?.shape, Shape::Struct(..));
        let empty = is_struct && with(Some(json!({}))).as_ref() == Some(&without);
        Ok(match default {
            Some(value) if !empty || value.is_null() => Absence::Value(value),
            _ => Absence::Unset,
        })
    }

    /// The messages of `problems` that state a range for the value at `path`.
    pub(super) fn expected(&self, path: &str) -> &[String] {
        self.expected.get(path).map_or(&[], Vec::as_slice)
    }

    /// Whether the variant at `path` may be written as a word: a config in which nothing is given
    /// for it is complete.
    pub(super) fn is_word(&self, path: &str) -> bool {
        let Some(node) = self.nodes.get(path) else { return true };
        let mut config = self.examples[node.scripts[0]].clone();
        match config.pointer_mut(&pointer(path)) {
            Some(content) => *content = json!({}),
            None => return false,
        }
        (self.decode)(&config).is_some()
    }

    /// The values of an enum that hold nothing.
    fn variants(&self, path: &str) -> Vec<Value> {
        match self.nodes.get(path).map(|node| &node.shape) {
            Some(Shape::Choice(_, variants)) => variants.iter().map(|name| json!(name)).collect(),
            _ => Vec::new(),
        }
    }
}

/// What a config without a field has in its place.
pub(super) enum Absence {
    /// It is refused.
    Required,
    /// Nothing that could be written.
    Unset,
    /// This value.
    Value(Value),
}

/// What `problems` expects of each path: the messages that state a range, for values of all kinds,
/// up to what they say of the value. Every value is tried in every config that has its place, as a
/// check may depend on other fields.
fn expected<S: Stage>(trace: &Trace) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut note = |path: &str, message: &str| {
        let messages = found.entry(path.to_owned()).or_default();
        if messages.iter().all(|known| known != message) {
            messages.push(message.to_owned());
        }
    };
    for node in &trace.nodes {
        let scripts = node.scripts.iter().map(|at| &trace.scripts[*at]);
        for script in scripts.flat_map(|script| variations(node, script, trace)) {
            // A value that the type of the field does not take has no problems.
            let tried = script.config::<S>().map(|stage| problems(&stage)).unwrap_or_default();
            for (path, message) in tried {
                if RANGE.iter().any(|start| message.starts_with(start)) {
                    note(&path, &message);
                }
            }
        }
    }
    found
}

/// The paths and messages of the problems of a config.
pub(super) fn problems(stage: &impl Stage) -> Vec<(String, String)> {
    let general = |field: &str| {
        let segment = |name| if KEYS.contains(&name) { KEY } else { name };
        field.split('.').map(segment).collect::<Vec<_>>().join(".")
    };
    let before = |message: &str| {
        let end = FOUND.iter().filter_map(|found| message.find(found)).min();
        message[..end.unwrap_or(message.len())].to_owned()
    };
    let problems = stage.problems();
    problems.iter().map(|it| (general(&it.field), before(&it.message))).collect()
}

/// The script with other values at a node.
fn variations(node: &Node, script: &Script, trace: &Trace) -> Vec<Script> {
    let with = |answer| script.with(&node.path, answer);
    let mut variations: Vec<Script> = match &node.shape {
        Shape::Integer { .. } => INTEGERS.map(|value| with(Answer::Integer(value))).to_vec(),
        Shape::Number => NUMBERS.map(|value| with(Answer::Number(value))).to_vec(),
        Shape::Text => TEXTS.map(|value| with(Answer::Text(value))).to_vec(),
        Shape::List => vec![with(Answer::Empty)],
        Shape::Map => {
            let keys = KEYS.map(|key| with(Answer::Key(key)));
            keys.into_iter().chain([with(Answer::Empty)]).collect()
        }
        Shape::Choice(_, variants) => {
            (0..variants.len()).map(|at| script.choosing(&node.path, at)).collect()
        }
        // None of the fields that may be null, and each of them alone.
        Shape::Struct(_, fields) => {
            let paths = fields.iter().map(|field| join(&node.path, field));
            let optional: Vec<String> = paths
                .filter(|path| trace.nodes.iter().any(|it| it.path == *path && it.nullable))
                .collect();
            let alone = |only: Option<&String>| {
                let others = optional.iter().filter(|path| Some(*path) != only);
                others.fold(script.clone(), |script, path| script.with(path, Answer::Null))
            };
            std::iter::once(None).chain(optional.iter().map(Some)).map(alone).collect()
        }
        Shape::Boolean | Shape::Stage | Shape::Path | Shape::Model => Vec::new(),
    };
    if node.nullable {
        variations.push(with(Answer::Null));
    }
    variations
}

/// The path of `name` within `path`.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// A dotted path as a JSON pointer.
fn pointer(path: &str) -> String {
    match path {
        "" => String::new(),
        _ => format!("/{}", path.replace('.', "/")),
    }
}
