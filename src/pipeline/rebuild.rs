//! A node made of the entry of its artefact alone, without the pipeline: what it reads is given as
//! folders and files. For checks of what others have made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::defaults::whole_config;
use super::registry::Registry;
use crate::dag::entry::Entry;
use crate::dag::key::{CONTENT_TAG, OBJECT_TAG};
use crate::dag::node::{INPUT_TAG, Node, Resources};
use crate::error::{Failure, user};
use crate::stages::{KindInfo, Stage, Visitor};

/// Something that a node reads, by the hash of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read<'a> {
    /// The artefact of this id.
    Object(&'a str),
    /// The file or folder from outside with this content.
    Content(&'a str),
}

/// The node of an entry; `place` gives the path of what it reads.
///
/// # Errors
/// The user's: this program has no such stage kind, or another VERSION of it; those of `place`.
pub fn node(
    entry: &Entry,
    registry: &impl Registry,
    place: &dyn Fn(Read<'_>) -> Result<PathBuf, Failure>,
) -> Result<Node, Failure> {
    let stage = &entry.preimage.stage;
    let config = with_paths(&whole_config(&entry.preimage, registry), place)?;
    let unknown = || user(format!("this program has no stage kind `{stage}`"));
    let kind = kind_of(stage, &config, registry).ok_or_else(unknown)?;
    let kind = kind.map_err(|why| user(format!("the config of `{}`: {why}", entry.node)))?;
    if kind.version != entry.preimage.version {
        let (then, now) = (entry.preimage.version, kind.version);
        let message =
            format!("`{stage}` had version {then}, and has version {now} in this program");
        return Err(user(message).hint("use the program that made it"));
    }
    Ok(Node {
        name: entry.node.clone(),
        stage: stage.clone(),
        version: kind.version,
        output: kind.output.to_owned(),
        config,
        neutral: kind.byte_neutral,
        defaults: BTreeMap::new(),
        on_device: kind.on_device,
        resources: Resources { threads: kind.threads, ..Resources::default() },
        report_to: Vec::new(),
    })
}

/// A config whose hashes are paths.
fn with_paths(
    config: &Value,
    place: &dyn Fn(Read<'_>) -> Result<PathBuf, Failure>,
) -> Result<Value, Failure> {
    let input = |path: &Path| json!({ INPUT_TAG: path });
    match config {
        Value::Object(fields) => {
            let hash = |tag: &str| fields.get(tag).and_then(Value::as_str);
            match (hash(OBJECT_TAG), hash(CONTENT_TAG)) {
                (Some(object), _) => Ok(input(&place(Read::Object(object))?)),
                (None, Some(content)) => Ok(input(&place(Read::Content(content))?)),
                (None, None) => fields
                    .iter()
                    .map(|(name, value)| Ok((name.clone(), with_paths(value, place)?)))
                    .collect(),
            }
        }
        Value::Array(items) => items.iter().map(|item| with_paths(item, place)).collect(),
        leaf => Ok(leaf.clone()),
    }
}

/// The stage kind called `stage`, with what depends on the config; none if there is none.
pub(super) fn kind_of(
    stage: &str,
    config: &Value,
    registry: &impl Registry,
) -> Option<Result<KindInfo, String>> {
    registry.visit(stage, Kind(config))
}

/// The kind of a config.
struct Kind<'a>(&'a Value);

impl Visitor for Kind<'_> {
    type Output = Result<KindInfo, String>;

    fn visit<S: Stage>(self) -> Self::Output {
        let stage: S = serde_json::from_value(self.0.clone()).map_err(|error| error.to_string())?;
        let (on_device, output) = (stage.computes_on_device(), stage.output());
        Ok(KindInfo { on_device, output, ..S::INFO })
    }
}
