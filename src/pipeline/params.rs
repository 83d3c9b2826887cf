//! `${param}`: what overrides a param, what a param's text means, which params a text uses.
//!
//! 1. A scalar that is nothing but `${x}` becomes the param's value, whatever its type; inside
//!    other text, `${x}` is replaced by the param's text. `$${` means `${`.
//! 2. `${x.y}` is the field `y` of a param that is a mapping.
//! 3. Params may use params, but not in a circle.
//! 4. A path keeps the folder of the text that its beginning was written in.
//! 5. The size of all params, and of a stage, with params replaced, is bounded ([`PARAM_BYTES`]):
//!    params that use params can double at each step.

use std::collections::{BTreeMap, BTreeSet};

use super::diagnostic::{Mistake, Span, advice};
use super::document::{Document, Param};
use super::matrix_section::Axis;
use super::scalar::{self, Class, class};
use super::yaml::{Entry, Node, Scalar, Value};
use crate::error::Failure;
use crate::limits::PARAM_BYTES;

/// A part of a text.
#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    /// Name and fields.
    Param(Vec<String>),
}

/// The value of every param at one point, with nothing left to replace.
pub type Environment = BTreeMap<String, Node>;

/// Whether an override keeps the type of a param's default.
pub fn misfit(param: &Param, value: &Node) -> Option<Mistake> {
    misfit_at(&param.name, &param.default, value)
}

fn misfit_at(name: &str, default: &Node, value: &Node) -> Option<Mistake> {
    let (expected, found) = (class(default), class(value));
    let free = |node: &Node, class: Class| {
        class == Class::Null || class == Class::Text && uses_params(node)
    };
    let scalar_as_text = expected == Class::Text && matches!(found, Class::Number | Class::Truth);
    if expected == found || free(default, expected) || free(value, found) || scalar_as_text {
        return None;
    }
    let unfit = match (expected, value.scalar()) {
        (Class::Number, Some(scalar)) => scalar::number(scalar).err(),
        (Class::Truth, Some(scalar)) => scalar::truth(scalar).err(),
        _ => None,
    };
    let message = match &unfit {
        Some(unfit) => unfit.message.clone(),
        None => format!("expected {}, found {}", expected.name(), value.describe()),
    };
    let mistake = value
        .mistake(format!("`{name}`: {message}"))
        .note(default.span, "an override keeps the type of the default");
    Some(mistake.maybe_help(unfit.and_then(|unfit| unfit.help)))
}

/// Replaces a param, or a field of it, by `value` (`path` is what follows the param's
/// name).
pub fn set(param: &mut Param, path: &[&str], key_span: Span, value: Node) -> Result<(), Mistake> {
    let (mut slot, mut default, mut name) = (&mut param.value, &param.default, param.name.clone());
    for field in path {
        let Value::Mapping(entries) = &mut slot.value else {
            return Err(Mistake::new(
                key_span,
                format!("`{name}` has no fields: it is {}", class(default).name()),
            ));
        };
        let keys: Vec<String> = entries.iter().map(|entry| entry.key.clone()).collect();
        let Some(entry) = entries.iter_mut().find(|entry| entry.key == *field) else {
            let help = advice(field, keys.iter().map(String::as_str), "fields");
            return Err(
                Mistake::new(key_span, format!("`{name}` has no field `{field}`")).help(help)
            );
        };
        slot = &mut entry.value;
        default = default.get(field).unwrap_or(default);
        name = format!("{name}.{field}");
    }
    match misfit_at(&name, default, &value) {
        Some(mistake) => Err(mistake),
        None => {
            *slot = value;
            Ok(())
        }
    }
}

/// The parts of a text, or what is wrong with it.
fn parts(text: &str) -> Result<Vec<Part>, String> {
    let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            plain.push_str(&rest[..at - 1]);
            plain.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        plain.push_str(&rest[..at]);
        let Some(end) = rest[at..].find('}') else {
            return Err(format!("`{}` has no `}}`", &rest[at..]));
        };
        let name = &rest[at + 2..at + end];
        let fits = |word: &str| {
            !word.is_empty()
                && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
        };
        if !name.split('.').all(fits) {
            return Err(format!("`${{{name}}}` does not name a param"));
        }
        if !plain.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut plain)));
        }
        parts.push(Part::Param(name.split('.').map(str::to_owned).collect()));
        rest = &rest[at + end + 1..];
    }
    plain.push_str(rest);
    if !plain.is_empty() || parts.is_empty() {
        parts.push(Part::Text(plain));
    }
    Ok(parts)
}

fn uses_params(node: &Node) -> bool {
    let mut names = BTreeSet::new();
    used(node, &mut names);
    !names.is_empty()
}

/// Adds the names of all params that a node's texts use, directly.
pub fn used(node: &Node, names: &mut BTreeSet<String>) {
    match &node.value {
        Value::Sequence(items) => items.iter().for_each(|item| used(item, names)),
        Value::Mapping(entries) => entries.iter().for_each(|entry| used(&entry.value, names)),
        // A malformed text is reported where it is replaced.
        Value::Scalar(scalar) => {
            names.extend(parts(&scalar.text).unwrap_or_default().into_iter().filter_map(|part| {
                match part {
                    Part::Param(path) => path.into_iter().next(),
                    Part::Text(_) => None,
                }
            }))
        }
    }
}

/// The names that follow from `names` through the params that params use.
pub fn closure(document: &Document, names: BTreeSet<String>) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut open: Vec<String> = names.into_iter().collect();
    while let Some(name) = open.pop() {
        if let (Some(param), true) = (document.param(&name), all.insert(name.clone())) {
            let mut next = BTreeSet::new();
            used(&param.value, &mut next);
            // The default counts too: an override must not make a param unused.
            used(&param.default, &mut next);
            let axis = document.matrix.axes.iter().find(|axis| axis.name == name);
            axis.into_iter().flat_map(Axis::all).for_each(|value| used(value, &mut next));
            open.extend(next);
        }
    }
    all
}

/// The value of every param, where `at_point` gives the values of the axes.
pub fn environment(
    document: &Document,
    at_point: &BTreeMap<&str, &Node>,
) -> Result<Environment, Vec<Mistake>> {
    let mut resolver = Resolver {
        document,
        at_point,
        done: Environment::new(),
        open: Vec::new(),
        failed: BTreeSet::new(),
        mistakes: Vec::new(),
        room: room(),
    };
    for param in &document.params {
        resolver.param(&param.name);
    }
    match resolver.mistakes.is_empty() {
        true => Ok(resolver.done),
        false => Err(resolver.mistakes),
    }
}

struct Resolver<'a> {
    document: &'a Document,
    at_point: &'a BTreeMap<&'a str, &'a Node>,
    done: Environment,
    /// Names on the way, for the circle.
    open: Vec<String>,
    /// Names whose mistake has been noted.
    failed: BTreeSet<String>,
    mistakes: Vec<Mistake>,
    /// Bytes that the params may still come to.
    room: Result<Room, Failure>,
}

impl Resolver<'_> {
    /// Resolves a param; `false` if a mistake has been noted instead.
    fn param(&mut self, name: &str) -> bool {
        let Some(param) = self.document.param(name) else { return true };
        if self.done.contains_key(name) || self.failed.contains(name) {
            return self.done.contains_key(name);
        }
        if let Some(start) = self.open.iter().position(|open| open == name) {
            let circle: Vec<&str> =
                self.open[start..].iter().map(String::as_str).chain([name]).collect();
            self.mistakes.push(Mistake::new(
                param.key_span,
                format!("params in a circle: {}", circle.join(" -> ")),
            ));
            return false;
        }
        let value = self.at_point.get(name).copied().unwrap_or(&param.value);
        let mut names = BTreeSet::new();
        used(value, &mut names);
        self.open.push(name.to_owned());
        // All of them, so that every mistake is noted.
        let whole = names.iter().filter(|name| !self.param(name)).count() == 0;
        self.open.pop();
        let replaced = if whole {
            replace_all(value, &self.done, self.document, &mut self.room)
        } else {
            Err(Vec::new())
        };
        match replaced {
            Ok(value) => {
                self.done.insert(name.to_owned(), value);
            }
            Err(mistakes) => {
                self.mistakes.extend(mistakes);
                self.failed.insert(name.to_owned());
            }
        }
        self.done.contains_key(name)
    }
}

/// The node with every `${param}` replaced.
pub fn substitute(
    node: &Node,
    environment: &Environment,
    document: &Document,
) -> Result<Node, Vec<Mistake>> {
    replace_all(node, environment, document, &mut room())
}

fn replace_all(
    node: &Node,
    environment: &Environment,
    document: &Document,
    room: &mut Result<Room, Failure>,
) -> Result<Node, Vec<Mistake>> {
    let room =
        room.as_mut().map_err(|failure| vec![Mistake::new(node.span, failure.message.clone())])?;
    let mut replacing = Replacing { environment, document, room, mistakes: Vec::new() };
    let replaced = replacing.node(node);
    if replacing.mistakes.is_empty() { Ok(replaced) } else { Err(replacing.mistakes) }
}

/// Bytes that nodes may still take, of a limit.
struct Room {
    left: u64,
    whole: u64,
}

fn room() -> Result<Room, Failure> {
    PARAM_BYTES.value().map(|whole| Room { left: whole, whole })
}

impl Room {
    /// Takes what a node and all below it need. Stops where there is no more.
    fn take(&mut self, node: &Node) -> Option<()> {
        self.take_bytes(size_of::<Entry>())?;
        match &node.value {
            Value::Scalar(scalar) => self.take_bytes(scalar.text.len()),
            Value::Sequence(items) => items.iter().try_for_each(|item| self.take(item)),
            Value::Mapping(entries) => entries.iter().try_for_each(|entry| {
                self.take_bytes(entry.key.len())?;
                self.take(&entry.value)
            }),
        }
    }

    fn take_bytes(&mut self, bytes: usize) -> Option<()> {
        let left = self.left.checked_sub(bytes as u64);
        self.left = left.unwrap_or(0);
        left.map(|_| ())
    }
}

/// A replacement of every `${param}` in a node.
struct Replacing<'a> {
    environment: &'a Environment,
    document: &'a Document,
    room: &'a mut Room,
    mistakes: Vec<Mistake>,
}

impl Replacing<'_> {
    fn node(&mut self, node: &Node) -> Node {
        let value = match &node.value {
            Value::Sequence(items) => {
                Value::Sequence(items.iter().map(|item| self.node(item)).collect())
            }
            Value::Mapping(entries) => {
                let replaced = |Entry { key, key_span, value }: &Entry| Entry {
                    key: key.clone(),
                    key_span: *key_span,
                    value: self.node(value),
                };
                Value::Mapping(entries.iter().map(replaced).collect())
            }
            Value::Scalar(scalar) => {
                match replace_scalar(node, scalar, self.environment, self.document, self.room) {
                    Ok(node) => return node,
                    Err(mistake) => {
                        // Once there is no room, every further text would say so.
                        if self.room.left > 0 || self.mistakes.is_empty() {
                            self.mistakes.push(mistake);
                        }
                        return node.clone();
                    }
                }
            }
        };
        Node { span: node.span, used_at: node.used_at, value }
    }
}

/// What params come to is more than it may be.
fn too_large(node: &Node, room: &Room) -> Mistake {
    let message =
        format!("with all params in their places, this has more than {} bytes", room.whole);
    node.mistake(message)
        .help(format!("write it without params that double; {}", PARAM_BYTES.hint()))
}

fn replace_scalar(
    node: &Node,
    scalar: &Scalar,
    environment: &Environment,
    document: &Document,
    room: &mut Room,
) -> Result<Node, Mistake> {
    let parts = parts(&scalar.text)
        .map_err(|message| node.mistake(message).help("write ${name}; `$${` means `${`"))?;
    let mut text = String::new();
    let mut folder_of = scalar.folder_of;
    for (index, part) in parts.iter().enumerate() {
        let path = match part {
            Part::Text(part) => {
                text.push_str(part);
                continue;
            }
            Part::Param(path) => path,
        };
        let value = lookup(path, node, environment, document)?;
        if parts.len() == 1 {
            room.take(value).ok_or_else(|| too_large(node, room))?;
            return Ok(Node { used_at: Some(node.span), ..value.clone() });
        }
        match value.scalar() {
            Some(inner) if !inner.is_null() => {
                room.take_bytes(inner.text.len()).ok_or_else(|| too_large(node, room))?;
                text.push_str(&inner.text);
                if index == 0 {
                    folder_of = inner.folder_of;
                }
            }
            _ => {
                let name = path.join(".");
                let message = format!(
                    "`${{{name}}}` is {}, which cannot be inside other text",
                    value.describe()
                );
                return Err(node
                    .mistake(message)
                    .note(value.span, format!("`{name}` is given here")));
            }
        }
    }
    Ok(Node {
        value: Value::Scalar(Scalar { text, plain: scalar.plain, folder_of }),
        ..node.clone()
    })
}

fn lookup<'a>(
    path: &[String],
    node: &Node,
    environment: &'a Environment,
    document: &Document,
) -> Result<&'a Node, Mistake> {
    let Some(mut value) = environment.get(&path[0]) else {
        return Err(document.unknown_param(&path[0], node.span));
    };
    for (depth, field) in path.iter().enumerate().skip(1) {
        let name = path[..depth].join(".");
        value = match (value.get(field), &value.value) {
            (Some(value), _) => value,
            (None, Value::Mapping(entries)) => {
                let help = advice(field, entries.iter().map(|entry| entry.key.as_str()), "fields");
                return Err(node
                    .mistake(format!("the param `{name}` has no field `{field}`"))
                    .help(help));
            }
            (None, _) => {
                return Err(node.mistake(format!(
                    "the param `{name}` has no fields: it is {}",
                    value.describe()
                )));
            }
        };
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_falls_into_words_and_params() {
        let text = |text: &str| Part::Text(text.into());
        let param = |path: &[&str]| Part::Param(path.iter().map(|part| part.to_string()).collect());
        assert_eq!(parts("${a}"), Ok(vec![param(&["a"])]));
        assert_eq!(
            parts("x/${a.b}-${c}.txt"),
            Ok(vec![text("x/"), param(&["a", "b"]), text("-"), param(&["c"]), text(".txt")])
        );
        assert_eq!(parts("costs $5, $${a} and $$"), Ok(vec![text("costs $5, ${a} and $$")]));
        assert_eq!(parts(""), Ok(vec![text("")]));
        assert!(parts("${a").is_err() && parts("${}").is_err() && parts("${a b}").is_err());
    }
}
