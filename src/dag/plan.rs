//! What a run would do: three states a node, in the order in which it would happen. Keys come from
//! the same function as in a run.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};

use crate::action::Lookup;
use crate::error::{Context, Result};
use crate::inputs::{Snapshot, snapshot};
use crate::key::{ActionKey, ContentHash, ObjectId, Preimage};
use crate::node::{
    Graph, Node, Numerics, OwnedReference, PATH_TAG, Reference, not_here, references,
    replace_references,
};
use crate::store::Store;
use crate::topology::Topology;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// All nodes of the pipeline.
    pub graph: &'a Graph,
    /// Names of the nodes wanted, with all they need; empty means every node.
    pub targets: &'a [String],
    /// The numerics classes.
    pub numerics: Numerics<'a>,
}

/// What would happen to a node.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// It would run.
    Run {
        /// Its key.
        key: ActionKey,
        /// Why, one sentence each; filled in by [`crate::explain::add_reasons`].
        reasons: Vec<String>,
    },
    /// It is there already.
    Cached {
        /// Its key.
        key: ActionKey,
        /// What it made.
        object: ObjectId,
    },
    /// Not known before other nodes have finished (if they make what they made before, this one
    /// need not run), or before something that is elsewhere has been fetched.
    Unknown {
        /// The names of those nodes, then of what must be fetched.
        until: Vec<String>,
    },
}

/// One node of a plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// The node's name.
    pub name: String,
    /// Its stage kind.
    pub stage: String,
    /// Names of the nodes it refers to.
    pub needs: Vec<String>,
    /// What would happen to it.
    #[serde(flatten)]
    pub state: State,
}

/// What a run would do, in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Plan {
    /// The nodes wanted and all they need, each after what it needs, otherwise in the order of the
    /// file.
    pub steps: Vec<Step>,
}

/// What a run would do now. Nothing is written but the remembered hashes of input files.
pub fn plan(store: &Store, request: Request<'_>) -> Result<Plan> {
    let topology = Topology::of(request)?;
    let mut snapshots = Snapshots::default();
    let mut made: HashMap<&str, ObjectId> = HashMap::new();
    let mut runs: HashMap<ActionKey, usize> = HashMap::new();
    let mut plan = Plan { steps: Vec::with_capacity(topology.order.len()) };
    for (at, &index) in topology.order.iter().enumerate() {
        let node = &request.graph.nodes[index];
        let name = |&at: &usize| request.graph.nodes[topology.order[at]].name.clone();
        let needs: Vec<String> = topology.needs[at].iter().map(name).collect();
        let mut until: Vec<String> =
            needs.iter().filter(|name| !made.contains_key(name.as_str())).cloned().collect();
        // Inputs are looked at even if the key must wait, so that a missing file is found before
        // anything runs.
        snapshots.take_all(store, node)?;
        until.extend(references(&node.config)?.into_iter().filter_map(|(_, reference)| {
            match reference {
                OwnedReference::Fetch(name) => Some(name),
                OwnedReference::Stage(_) | OwnedReference::Input(_) => None,
            }
        }));
        let state = if !until.is_empty() {
            State::Unknown { until }
        } else {
            let key = Preimage::of(
                node,
                request.numerics,
                |name| Ok(made[name]),
                |path| Ok(snapshots.content(path)),
            )?
            .key();
            match (store.lookup(key)?, runs.get(&key)) {
                (Lookup::Hit(object), _) => State::Cached { key, object },
                // The same work under another name: it waits, and finds it made.
                (_, Some(other)) => State::Unknown { until: vec![name(other)] },
                (_, None) => {
                    runs.insert(key, at);
                    State::Run { key, reasons: Vec::new() }
                }
            }
        };
        if let State::Cached { object, .. } = state {
            made.insert(&node.name, object);
        }
        plan.steps.push(Step { name: node.name.clone(), stage: node.stage.clone(), needs, state });
    }
    Ok(plan)
}

/// What the inputs of some nodes held when each was first asked for.
#[derive(Default)]
pub struct Snapshots(BTreeMap<PathBuf, Snapshot>);

impl Snapshots {
    /// Takes a snapshot of every input of a node that has none yet.
    pub fn take_all(&mut self, store: &Store, node: &Node) -> Result<()> {
        for (field, reference) in references(&node.config)? {
            if let OwnedReference::Input(path) = reference
                && !self.0.contains_key(&path)
            {
                let taken = snapshot(store, &path)
                    .with_context(|| format!("`{}` of `{}`", field, node.name))?;
                self.0.insert(path, taken);
            }
        }
        Ok(())
    }

    /// The content of an input.
    ///
    /// # Panics
    /// If no snapshot of it was taken.
    pub fn content(&self, path: &Path) -> ContentHash {
        self.0[path].content
    }

    /// All snapshots, by path.
    pub fn iter(&self) -> impl Iterator<Item = &Snapshot> {
        self.0.values()
    }
}

/// The config for the stage itself: references and inputs as absolute paths.
pub fn config_with_paths(node: &Node, folder: impl Fn(&str) -> PathBuf) -> Result<Value> {
    replace_references(&node.config, &mut |_, reference| {
        let path = match reference {
            Reference::Stage(name) => folder(name),
            Reference::Input(path) => std::path::absolute(path)
                .with_context(|| format!("cannot find {}", path.display()))?,
            Reference::Fetch(name) => return Err(not_here(name)),
        };
        Ok(json!({ PATH_TAG: path }))
    })
}
