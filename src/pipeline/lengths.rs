//! The lengths of rows, checked for all stages at once as soon as datasets and tokenizers are made,
//! before anything trains. A stage whose models or rows are not known by then checks for itself
//! when it starts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use super::registry::Registry;
use crate::dag::node::Node;
use crate::error::{Failure, Kind, Result, user};
use crate::reference::{Artefact, Dataset, Tokenizer};
use crate::stages::models::ArtefactShapes;
use crate::stages::reading::Reading;
use crate::stages::source::Source;
use crate::stages::{Stage, Visitor};

/// Nodes that an error names of those with one problem.
const NAMED: usize = 4;

/// Whether a node is made before the check: it makes rows or a tokenizer without a device.
pub fn is_first(node: &Node) -> bool {
    !node.on_device && [Dataset::KIND, Tokenizer::KIND].contains(&node.output.as_str())
}

/// Refuses rows that are too long for the models of `nodes`. `made` is the folder of a node's
/// artefact, where it is made; `stop` ends the check early.
///
/// # Errors
/// The user's, with all rows; the machine's, where a dataset cannot be read.
pub fn check(
    nodes: &[&Node],
    registry: &impl Registry,
    shapes: &ArtefactShapes,
    made: &dyn Fn(&str) -> Option<PathBuf>,
    stop: &dyn Fn() -> bool,
) -> Result<()> {
    let folder = |source: &Source| match source {
        Source::Stage(name) => made(name),
        Source::Folder(folder) => Some(folder.clone()),
    };
    let mut readers: BTreeMap<(PathBuf, PathBuf, Reading), Vec<&str>> = BTreeMap::new();
    for node in nodes {
        for reading in readings(node, registry, shapes) {
            if let (Some(dataset), Some(tokenizer)) =
                (folder(&reading.dataset), folder(&reading.tokenizer))
            {
                readers.entry((dataset, tokenizer, reading)).or_default().push(&node.name);
            }
        }
    }
    let mut found: Vec<(Vec<&str>, Failure)> = Vec::new();
    for ((dataset, tokenizer, reading), names) in readers {
        if stop() {
            return Ok(());
        }
        for error in reading.problems(&dataset, &tokenizer) {
            let failure = match error.downcast::<Failure>() {
                Ok(failure) if failure.kind == Kind::User => failure,
                Ok(failure) => return Err(failure.into()),
                Err(error) => return Err(error),
            };
            let same = |(_, other): &&mut (Vec<&str>, Failure)| {
                (&other.message, &other.hint) == (&failure.message, &failure.hint)
            };
            match found.iter_mut().find(same) {
                Some((others, _)) => others.extend(&names),
                None => found.push((names.clone(), failure)),
            }
        }
    }
    match found.len() {
        0 => Ok(()),
        1 => {
            let (names, failure) = found.remove(0);
            let message = format!("{}: {}", listed(&names), failure.message);
            Err(Failure { message, ..failure }.into())
        }
        count => {
            let one = |(names, failure): &(Vec<&str>, Failure)| {
                format!("\n  {}: {}", listed(names), failure.to_string().replace('\n', "\n  "))
            };
            let all: String = found.iter().map(one).collect();
            Err(user(format!("{count} errors in rows that models read; nothing was trained:{all}"))
                .into())
        }
    }
}

/// What the models of a node read of datasets, as far as it is known.
pub fn readings(node: &Node, registry: &impl Registry, shapes: &ArtefactShapes) -> Vec<Reading> {
    registry.visit(&node.stage, Readings { config: &node.config, shapes }).unwrap_or_default()
}

fn listed(names: &[&str]) -> String {
    let shown = names.iter().take(NAMED).map(|name| format!("`{name}`")).collect::<Vec<_>>();
    match names.len().saturating_sub(NAMED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more stages", shown.join(", ")),
    }
}

struct Readings<'a> {
    config: &'a Value,
    shapes: &'a ArtefactShapes,
}

impl Visitor for Readings<'_> {
    type Output = Vec<Reading>;

    fn visit<S: Stage>(self) -> Vec<Reading> {
        S::deserialize(self.config).map(|stage| stage.readings(self.shapes)).unwrap_or_default()
    }
}
