//! What a run would do: three states a node, in the order in which it would happen. Keys come from
//! the same function as in a run.

use std::collections::HashMap;
use std::path::Path;

use serde::Serialize;

use crate::action::Lookup;
use crate::digest::{ActionKey, ObjectId};
use crate::error::Result;
use crate::inputs::Snapshots;
use crate::key::Preimage;
use crate::node::{Node, OwnedReference, references};
use crate::request::Request;
use crate::store::Store;
use crate::topology::Topology;

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
    /// The remote of the store has it.
    Remote {
        /// Its key.
        key: ActionKey,
        /// What was made.
        object: ObjectId,
    },
    /// Not known before other nodes have finished (if they make what they made before, this one
    /// need not run), before something that is elsewhere has been fetched, or before the device is
    /// open.
    Unknown {
        /// The names of those nodes, then of what must be fetched.
        until: Vec<String>,
        /// Whether the device must be open first: it decides the numerics class.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        needs_device: bool,
    },
}

impl State {
    /// What was made, here or elsewhere.
    pub fn object(&self) -> Option<ObjectId> {
        match self {
            State::Cached { object, .. } | State::Remote { object, .. } => Some(*object),
            State::Run { .. } | State::Unknown { .. } => None,
        }
    }
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

/// The key of a node, given what is made; `None` where it is unknown yet.
fn known_key(
    request: Request<'_>,
    node: &Node,
    needs: &[&str],
    made: &HashMap<&str, ObjectId>,
    snapshots: &Snapshots,
) -> Result<Option<ActionKey>> {
    let is_fetched = |reference: &OwnedReference| matches!(reference, OwnedReference::Fetch(_));
    if node.numerics(request.numerics).is_none()
        || needs.iter().any(|name| !made.contains_key(name))
        || references(&node.config)?.iter().any(|(_, reference)| is_fetched(reference))
    {
        return Ok(None);
    }
    let content = |path: &Path| Ok(snapshots.content(path));
    Ok(Some(Preimage::of(node, request.numerics, |name| Ok(made[name]), content)?.key()))
}

/// Asks the remote for the entries of all nodes that the store does not have, level by level of
/// the graph, several at once.
fn ask_remote(store: &Store, request: Request<'_>, topology: &Topology) -> Result<()> {
    let Some(remote) = store.remote() else { return Ok(()) };
    let node = |at: usize| &request.graph.nodes[topology.order[at]];
    let mut levels: Vec<Vec<usize>> = Vec::new();
    let mut level = vec![0; topology.order.len()];
    for at in 0..level.len() {
        level[at] = topology.needs[at].iter().map(|need| level[*need] + 1).max().unwrap_or(0);
        levels.resize_with(levels.len().max(level[at] + 1), Vec::new);
        levels[level[at]].push(at);
    }
    let mut made: HashMap<&str, ObjectId> = HashMap::new();
    let mut snapshots = Snapshots::default();
    for level in levels {
        let mut missing = Vec::new();
        for at in level {
            let needs: Vec<&str> =
                topology.needs[at].iter().map(|need| node(*need).name.as_str()).collect();
            snapshots.take_all(store, node(at))?;
            let key = known_key(request, node(at), &needs, &made, &snapshots)?;
            let Some(key) = key else { continue };
            match store.lookup(key)? {
                Lookup::Hit(object) => drop(made.insert(&node(at).name, object)),
                _ => missing.push((at, key)),
            }
        }
        let keys: Vec<ActionKey> = missing.iter().map(|(_, key)| *key).collect();
        remote.ask_all(&keys);
        let found = |(at, key): (usize, ActionKey)| {
            Some((node(at).name.as_str(), remote.entry(key)?.object))
        };
        made.extend(missing.into_iter().filter_map(found));
    }
    Ok(())
}

/// What a run would do now. Nothing is written but the remembered hashes of input files.
pub fn plan(store: &Store, request: Request<'_>) -> Result<Plan> {
    let topology = Topology::of(request)?;
    ask_remote(store, request, &topology)?;
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
        let needs_device = node.numerics(request.numerics).is_none();
        let state = if needs_device || !until.is_empty() {
            State::Unknown { until, needs_device }
        } else {
            let key = Preimage::of(
                node,
                request.numerics,
                |name| Ok(made[name]),
                |path| Ok(snapshots.content(path)),
            )?
            .key();
            let found = store.lookup(key)?;
            let remote = || store.remote()?.entry(key);
            match (found, runs.get(&key)) {
                (Lookup::Hit(object), _) => State::Cached { key, object },
                // The same work under another name: it waits, and finds it made.
                (_, Some(other)) => {
                    State::Unknown { until: vec![name(other)], needs_device: false }
                }
                (_, None) => match remote() {
                    Some(entry) => State::Remote { key, object: entry.object },
                    None => {
                        runs.insert(key, at);
                        State::Run { key, reasons: Vec::new() }
                    }
                },
            }
        };
        if let Some(object) = state.object() {
            made.insert(&node.name, object);
        }
        plan.steps.push(Step { name: node.name.clone(), stage: node.stage.clone(), needs, state });
    }
    Ok(plan)
}
