//! What a run would do: three states a node, in the order in which it would happen. Keys come from
//! the same function as in a run.

use std::collections::HashMap;

use serde::Serialize;

use crate::action::Lookup;
use crate::digest::{ActionKey, ObjectId};
use crate::error::Result;
use crate::inputs::Snapshots;
use crate::key::Preimage;
use crate::node::{OwnedReference, references};
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
            match (store.lookup(key)?, runs.get(&key)) {
                (Lookup::Hit(object), _) => State::Cached { key, object },
                // The same work under another name: it waits, and finds it made.
                (_, Some(other)) => {
                    State::Unknown { until: vec![name(other)], needs_device: false }
                }
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
