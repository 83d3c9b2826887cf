//! `extends: FILE`: a pipeline that says only what it changes of another. Merges trees before any
//! section is read; a node keeps the place where it is written.
//!
//! 1. `params`, `profiles` and `matrix`: the value of a name replaces that of the other pipeline;
//!    a new name comes after its names.
//! 2. `stages`: the fields of a stage that both have replace those of the other pipeline, whole;
//!    with another `uses`, the stage is replaced.
//! 3. `cache` replaces that of the other pipeline, whole. `name` and `description` are not
//!    inherited.
//! 4. A relative path starts from the folder of the file that it is written in.

use std::path::{Path, PathBuf};

use super::diagnostic::{Mistake, Source, Sources};
use super::yaml::{self, Entry, Node, Value};

/// The section.
pub const EXTENDS: &str = "extends";
/// Sections whose names are merged one by one.
const NAMED: [&str; 3] = ["params", "profiles", "matrix"];
const STAGES: &str = "stages";
const USES: &str = "uses";

/// The tree of a file, merged with that of the pipeline that it extends, if it does.
///
/// # Errors
/// The other file cannot be read, extends this one, or has a mistake of YAML.
pub fn merged(
    root: Option<Node>,
    source: usize,
    sources: &mut Sources,
) -> Result<Option<Node>, Vec<Mistake>> {
    merge_into(root, source, sources, &mut Vec::new())
}

/// The files that a pipeline extends, absolute, the nearest first: those that can be read.
pub fn files(path: &Path) -> Vec<PathBuf> {
    let mut sources = Sources::default();
    let Ok(text) = crate::fs::read_to_string(path) else { return Vec::new() };
    let folder = path.parent().map_or_else(PathBuf::new, PathBuf::from);
    let name = path.display().to_string();
    let source = sources.add(Source { name, text, folder, lines: true });
    let mut above = Vec::new();
    // Mistakes were told when the pipeline was read.
    if let Ok(root) = yaml::parse(&sources, source) {
        let _ = merge_into(root, source, &mut sources, &mut above);
    }
    above.drain(..).skip(1).collect()
}

/// `above` are the files that led here.
fn merge_into(
    root: Option<Node>,
    source: usize,
    sources: &mut Sources,
    above: &mut Vec<PathBuf>,
) -> Result<Option<Node>, Vec<Mistake>> {
    let Some(Node { span, used_at, value: Value::Mapping(mut own) }) = root else {
        return Ok(root);
    };
    let Some(at) = own.iter().position(|entry| entry.key == EXTENDS) else {
        return Ok(Some(Node { span, used_at, value: Value::Mapping(own) }));
    };
    let Entry { value: file, .. } = own.remove(at);
    let base = base(&file, source, sources, above).map_err(|mistakes| mistakes.0)?;
    let inherited = base.into_iter().filter(|entry| !matches!(&*entry.key, "name" | "description"));
    Ok(Some(Node { span, used_at, value: Value::Mapping(sections(inherited.collect(), own)) }))
}

/// Mistakes of a file that is extended.
struct Mistakes(Vec<Mistake>);

impl From<Mistake> for Mistakes {
    fn from(mistake: Mistake) -> Self {
        Mistakes(vec![mistake])
    }
}

impl From<Vec<Mistake>> for Mistakes {
    fn from(mistakes: Vec<Mistake>) -> Self {
        Mistakes(mistakes)
    }
}

/// The sections of the pipeline that is extended.
fn base(
    file: &Node,
    source: usize,
    sources: &mut Sources,
    above: &mut Vec<PathBuf>,
) -> Result<Vec<Entry>, Mistakes> {
    let Some(scalar) = file.scalar().filter(|scalar| !scalar.is_null()) else {
        let message = format!("expected the path of a pipeline, found {}", file.describe());
        return Err(file.mistake(message).help("write `extends: summarisation.yaml`").into());
    };
    let Source { name, folder, .. } = sources.get(source);
    let path = folder.join(&scalar.text);
    let shown = PathBuf::from(name).with_file_name(&scalar.text).display().to_string();
    let known = path.canonicalize().map_err(|error| {
        let message = format!("cannot read the pipeline {shown}: {error}");
        file.mistake(message).help("the path starts from the folder of this file")
    })?;
    if above.is_empty() {
        above.extend(folder.join(file_name(name)).canonicalize());
    }
    if above.contains(&known) {
        let message = format!("{shown} is extended in a circle");
        return Err(file.mistake(message).help("let one of the files be complete").into());
    }
    above.push(known);
    let text = crate::fs::read(&path)
        .map_err(|error| file.mistake(format!("cannot read the pipeline {shown}: {error:#}")))?;
    let text = String::from_utf8(text)
        .map_err(|_| file.mistake(format!("{shown} is not a text in UTF-8")))?;
    let text = text.strip_prefix('\u{feff}').map_or(text.clone(), str::to_owned);
    let folder = path.parent().map_or_else(PathBuf::new, PathBuf::from);
    let next = sources.add(Source { name: shown.clone(), text, folder, lines: true });
    let root = yaml::parse(sources, next)?;
    match merge_into(root, next, sources, above)?.map(|root| root.value) {
        Some(Value::Mapping(sections)) => Ok(sections),
        _ => Err(file.mistake(format!("{shown} is not a pipeline: it has no sections")).into()),
    }
}

/// The last part of a path as the user gave it.
fn file_name(name: &str) -> PathBuf {
    PathBuf::from(name).file_name().map_or_else(PathBuf::new, PathBuf::from)
}

fn sections(base: Vec<Entry>, own: Vec<Entry>) -> Vec<Entry> {
    over(base, own, |name, base, own| match name {
        _ if NAMED.contains(&name) => mapping(base, own, |_, _, own| own),
        STAGES => mapping(base, own, |_, base, own| stage(base, own)),
        _ => own,
    })
}

fn stage(base: Node, own: Node) -> Node {
    let kind = |node: &Node| node.get(USES).and_then(Node::scalar).map(|kind| kind.text.clone());
    match kind(&own).is_none_or(|own| Some(own) == kind(&base)) {
        true => mapping(base, own, |_, _, own| own),
        false => own,
    }
}

/// Two mappings as one; what is none replaces the other, so that the reader of sections refuses it.
fn mapping(base: Node, own: Node, both: impl Fn(&str, Node, Node) -> Node) -> Node {
    let Node { span, used_at, .. } = own;
    match (base.value, own.value) {
        (Value::Mapping(base), Value::Mapping(own)) => {
            Node { span, used_at, value: Value::Mapping(over(base, own, both)) }
        }
        (_, value) => Node { span, used_at, value },
    }
}

/// Entries of `base` in their order, then the new ones of `own`; of a name that both have, what
/// `both` makes of the two values.
fn over(
    base: Vec<Entry>,
    mut own: Vec<Entry>,
    both: impl Fn(&str, Node, Node) -> Node,
) -> Vec<Entry> {
    let mut entries = Vec::with_capacity(base.len() + own.len());
    for entry in base {
        entries.push(match own.iter().position(|other| other.key == entry.key) {
            Some(at) => {
                let Entry { key, key_span, value } = own.remove(at);
                Entry { value: both(&key, entry.value, value), key, key_span }
            }
            None => entry,
        });
    }
    entries.extend(own);
    entries
}
