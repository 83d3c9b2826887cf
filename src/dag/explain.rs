//! Why a node runs: the fields and inputs that differ from the nearest earlier entry.

use serde::Serialize;
use serde_json::Value;

use crate::dag::key::ActionKey;
use crate::dag::plan::{Plan, Request, State};
use crate::dag::store::Store;
use crate::error::Result;

/// One field that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Dotted path in the config, or `stage version`, `numerics`.
    pub field: String,
    /// The earlier value; absent if the field is new.
    pub old: Option<Value>,
    /// The value now; absent if the field is gone, or not known before the node in `source` has finished.
    pub new: Option<Value>,
    /// For a reference, the node it names; for an input, its path.
    pub source: Option<String>,
}

/// What a node's key is compared with.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Earlier {
    /// Its key.
    pub key: ActionKey,
    /// The name the node had then.
    pub node: String,
    /// When it was finished, in seconds since 1970.
    pub finished_at: u64,
}

/// Why a node is in the state it is in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The node's name.
    pub node: String,
    /// What would happen to it.
    #[serde(flatten)]
    pub state: State,
    /// The nearest earlier entry of the same stage kind: the one with the fewest differences.
    pub earlier: Option<Earlier>,
    /// What differs from it.
    pub differences: Vec<Difference>,
}

/// Explains the node called `name`.
pub fn explain(store: &Store, request: Request<'_>, name: &str) -> Result<Explanation> {
    let _ = (store, request, name);
    unimplemented!()
}

/// Fills in why each node of the plan runs.
pub fn add_reasons(store: &Store, request: Request<'_>, plan: &mut Plan) -> Result<()> {
    let _ = (store, request, plan);
    unimplemented!()
}
