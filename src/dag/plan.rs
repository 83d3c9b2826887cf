//! What a run would do: three states a node, in the order in which it would happen.

use serde::Serialize;

use crate::dag::key::{ActionKey, ObjectId};
use crate::dag::node::Graph;
use crate::dag::store::Store;
use crate::error::Result;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// All nodes of the pipeline.
    pub graph: &'a Graph,
    /// Names of the nodes wanted, with all they need; empty means every node.
    pub targets: &'a [String],
    /// The numerics class: whatever of the back end changes bits. It is part of every key.
    pub numerics: &'a str,
}

/// What would happen to a node.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// It would run.
    Run {
        /// Its key.
        key: ActionKey,
        /// Why, one sentence each; filled in by [`crate::dag::explain::add_reasons`].
        reasons: Vec<String>,
    },
    /// It is there already.
    Cached {
        /// Its key.
        key: ActionKey,
        /// What it made.
        object: ObjectId,
    },
    /// Not known before other nodes have finished: if they make what they made before, this one need not run.
    Unknown {
        /// The names of those nodes.
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
    /// The nodes wanted and all they need, each after what it needs, otherwise in the order of the file.
    pub steps: Vec<Step>,
}

/// What a run would do now. Nothing is written.
pub fn plan(store: &Store, request: Request<'_>) -> Result<Plan> {
    let _ = (store, request);
    unimplemented!()
}
