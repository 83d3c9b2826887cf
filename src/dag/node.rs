//! A node: a stage with every value known. What it needs, and what its config refers to, are read
//! off the config alone.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Result, user};

/// In a config, the object `{"$stage": NAME, "kind": KIND}` refers to the artefact of another node.
pub const STAGE_TAG: &str = "$stage";
/// In a config, the object `{"$input": PATH}` names a file or folder from outside, which enters the
/// key by its bytes.
pub const INPUT_TAG: &str = "$input";
/// In a config, the object `{"$fetch": NAME}` names something that is elsewhere. Nothing can be
/// known of its bytes, nor run, before it has been brought here and has become an input.
pub const FETCH_TAG: &str = "$fetch";
/// In an order, a reference or an input has become `{"$path": PATH}`.
pub const PATH_TAG: &str = "$path";

/// The numerics classes of a run: what may give other bits has another name. Each is a part of the
/// keys of its nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numerics<'a> {
    /// Of nodes that compute on the device; `None` where the device cannot be opened, so that the
    /// keys of these nodes are unknown.
    pub device: Option<&'a str>,
    /// Of the others.
    pub host: &'a str,
}

/// What a node needs of the machine while it runs. Never part of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Resources {
    /// Threads; `None` means all threads of the run.
    pub threads: Option<usize>,
    /// GPUs of the run that no other node uses meanwhile; 0 shares the first one. `None` means 1
    /// for a node that computes on the run's device, if that is a GPU, and else 0.
    pub gpus: Option<usize>,
    /// Bytes of the memory of what it computes on, where an estimate is known.
    pub memory: Option<u64>,
    /// Megabytes of main memory that its job asks the queue of a cluster for; on this host it
    /// limits nothing.
    pub memory_mb: Option<u64>,
    /// Seconds after which it is stopped; `None` means no limit.
    pub time: Option<f64>,
    /// Whether it is tried again when it fails.
    pub retry: Retry,
}

/// When a node that has failed is tried again; it goes on from its last checkpoint. A bug is none
/// of these.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Retry {
    /// How often at most.
    pub times: u32,
    /// After a fault of the machine: a process that was killed, a server that does not answer.
    pub on_environment: bool,
    /// After its timeout.
    pub on_timeout: bool,
    /// After an error of the stage itself.
    pub on_failure: bool,
    /// Seconds from a failure to the next try.
    pub wait: f64,
}

/// Where a node's figures go while it runs, beside its `metrics.jsonl`. Never part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reporter {
    /// Event files of TensorBoard, in the cache's folder `tensorboard`.
    Tensorboard,
}

/// One vertex of the graph.
#[derive(Clone, Debug)]
pub struct Node {
    /// Unique in the graph: the stage's name in the pipeline, with its matrix point, if any:
    /// `ppo[kl=0.1,seed=1]`.
    pub name: String,
    /// The stage kind (`ppo`).
    pub stage: String,
    /// The stage kind's VERSION.
    pub version: u32,
    /// The kind of artefact it makes (`policy`).
    pub output: String,
    /// Typed config with defaults filled in, references and inputs as tagged objects.
    pub config: Value,
    /// Fields of the config that change no byte of what it makes.
    pub neutral: &'static [&'static str],
    /// The defaults of fields of the config, by JSON pointer: a field at its default is in no key.
    pub defaults: BTreeMap<String, Value>,
    /// Whether it computes on the device of the run: if not, what it makes does not depend on which
    /// that is.
    pub on_device: bool,
    /// What it needs while it runs.
    pub resources: Resources,
    /// Where its figures go as well.
    pub report_to: Vec<Reporter>,
}

impl Node {
    /// A node of version 1 that makes files and computes on no device.
    pub fn new(name: &str, stage: &str, config: Value) -> Self {
        Node {
            name: name.into(),
            stage: stage.into(),
            version: 1,
            output: "files".into(),
            config,
            neutral: &[],
            defaults: BTreeMap::new(),
            on_device: false,
            resources: Resources::default(),
            report_to: Vec::new(),
        }
    }

    /// The numerics class of what it makes, in a run of these classes; `None` where it is unknown.
    pub fn numerics<'a>(&self, numerics: Numerics<'a>) -> Option<&'a str> {
        if self.on_device { numerics.device } else { Some(numerics.host) }
    }

    /// The config as a key has it: without what changes no byte, without fields at their defaults,
    /// and with every reference and input replaced as [`replace_references`] does.
    pub fn config_in_key(
        &self,
        replace: &mut dyn FnMut(&str, Reference<'_>) -> Result<Value>,
    ) -> Result<Value> {
        let mut config = replace_references(&self.config, replace)?;
        leave_out(&mut config, &at_default(&self.config, &self.defaults));
        if let Some(fields) = config.as_object_mut() {
            fields.retain(|field, _| !self.neutral.contains(&field.as_str()));
        }
        Ok(config)
    }
}

/// The JSON pointers of the fields of a config that are at their defaults.
pub fn at_default(config: &Value, defaults: &BTreeMap<String, Value>) -> Vec<String> {
    let is_at = |field: &(&String, &Value)| config.pointer(field.0) == Some(field.1);
    defaults.iter().filter(is_at).map(|(pointer, _)| pointer.clone()).collect()
}

/// Removes fields from a config, by their JSON pointers.
pub fn leave_out(config: &mut Value, pointers: &[String]) {
    for pointer in pointers {
        let (object, name) = pointer.rsplit_once('/').unwrap_or_default();
        let name = name.replace("~1", "/").replace("~0", "~");
        if let Some(fields) = config.pointer_mut(object).and_then(Value::as_object_mut) {
            fields.remove(&name);
        }
    }
}

/// All nodes of an expanded pipeline, in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// The nodes; names are unique and every reference names one of them.
    pub nodes: Vec<Node>,
}

/// What a tagged object of a config points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference<'a> {
    /// The artefact of the node of this name.
    Stage(&'a str),
    /// A file or folder from outside.
    Input(&'a Path),
    /// Something that is elsewhere, by its name.
    Fetch(&'a str),
}

/// The config with every reference and input replaced by what `replace` gives for it; `replace` is
/// told the dotted path of the field. Negative zero becomes zero, so that two spellings of one
/// number are one value, in keys and in orders alike.
///
/// # Errors
/// A key that starts with `$` and is no reference: such keys are the engine's own.
pub fn replace_references(
    config: &Value,
    replace: &mut dyn FnMut(&str, Reference<'_>) -> Result<Value>,
) -> Result<Value> {
    replace_at(config, &mut String::new(), replace)
}

/// The references of a config in the order of its fields, each with its dotted path.
pub fn references(config: &Value) -> Result<Vec<(String, OwnedReference)>> {
    let mut found = Vec::new();
    find_at(config, &mut String::new(), &mut found)?;
    Ok(found)
}

/// Walks as [`replace_at`] does, and builds nothing.
fn find_at(
    value: &Value,
    path: &mut String,
    found: &mut Vec<(String, OwnedReference)>,
) -> Result<()> {
    let length = path.len();
    match value {
        Value::Object(map) => match reference_in(map, path)? {
            Some(reference) => found.push((path.clone(), reference.into())),
            None => {
                for (key, value) in map {
                    if matches!(value, Value::Object(_) | Value::Array(_)) {
                        step_into(path, key);
                        find_at(value, path, found)?;
                        path.truncate(length);
                    }
                }
            }
        },
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                if matches!(item, Value::Object(_) | Value::Array(_)) {
                    path.push_str(&format!("[{index}]"));
                    find_at(item, path, found)?;
                    path.truncate(length);
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// Appends the name of a field to a dotted path.
fn step_into(path: &mut String, field: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(field);
}

/// The error of a node that is to be worked on while something that it needs is elsewhere.
pub fn not_here(name: &str) -> anyhow::Error {
    user(format!("{name} has not been fetched"))
        .hint("run the pipeline: a run fetches what it needs first")
        .into()
}

/// A [`Reference`] that owns its name or path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OwnedReference {
    /// The artefact of the node of this name.
    Stage(String),
    /// A file or folder from outside.
    Input(PathBuf),
    /// Something that is elsewhere, by its name.
    Fetch(String),
}

impl fmt::Display for OwnedReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OwnedReference::Stage(name) | OwnedReference::Fetch(name) => f.write_str(name),
            OwnedReference::Input(path) => path.display().fmt(f),
        }
    }
}

impl From<Reference<'_>> for OwnedReference {
    fn from(reference: Reference<'_>) -> Self {
        match reference {
            Reference::Stage(name) => OwnedReference::Stage(name.to_owned()),
            Reference::Input(path) => OwnedReference::Input(path.to_owned()),
            Reference::Fetch(name) => OwnedReference::Fetch(name.to_owned()),
        }
    }
}

type Replace<'a> = &'a mut dyn FnMut(&str, Reference<'_>) -> Result<Value>;

fn replace_at(value: &Value, path: &mut String, replace: Replace<'_>) -> Result<Value> {
    Ok(match value {
        Value::Object(map) => match reference_in(map, path)? {
            Some(reference) => replace(path, reference)?,
            None => {
                let mut replaced = serde_json::Map::new();
                for (key, value) in map {
                    let length = path.len();
                    step_into(path, key);
                    replaced.insert(key.clone(), replace_at(value, path, replace)?);
                    path.truncate(length);
                }
                Value::Object(replaced)
            }
        },
        Value::Array(items) => {
            let mut replaced = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                let length = path.len();
                path.push_str(&format!("[{index}]"));
                replaced.push(replace_at(item, path, replace)?);
                path.truncate(length);
            }
            Value::Array(replaced)
        }
        // Equal to both zeros; only the positive one is left.
        Value::Number(number) if number.is_f64() && number.as_f64() == Some(0.0) => {
            Value::from(0.0)
        }
        plain => plain.clone(),
    })
}

/// Whether an object of a config is a reference or an input.
pub fn is_reference(map: &serde_json::Map<String, Value>) -> bool {
    map.keys().any(|key| key.starts_with('$'))
}

fn reference_in<'a>(
    map: &'a serde_json::Map<String, Value>,
    path: &str,
) -> Result<Option<Reference<'a>>> {
    let Some(tag) = map.keys().find(|key| key.starts_with('$')) else { return Ok(None) };
    let others_known = map.keys().all(|key| key == tag || (tag == STAGE_TAG && key == "kind"));
    match (tag.as_str(), map[tag.as_str()].as_str()) {
        (STAGE_TAG, Some(name)) if others_known => Ok(Some(Reference::Stage(name))),
        (INPUT_TAG, Some(input)) if others_known => Ok(Some(Reference::Input(Path::new(input)))),
        (FETCH_TAG, Some(name)) if others_known => Ok(Some(Reference::Fetch(name))),
        _ => Err(user(format!("`{path}` has a key `{tag}`"))
            .hint("keys that start with `$` are reserved; rename it")
            .into()),
    }
}
