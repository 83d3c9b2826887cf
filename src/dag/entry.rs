//! What is known of a node that was made. Uses nothing of where that is kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::{ActionKey, ObjectId};
use crate::key::Preimage;

/// What is known of a node that was made: `actions/<key>.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The action key, which is also the file's name.
    pub key: ActionKey,
    /// What was made.
    pub object: ObjectId,
    /// The name the node had when it was made. A hint for people and for `explain`.
    pub node: String,
    /// The kind of artefact.
    pub output: String,
    /// When it was finished, in seconds since 1970, by the clock of its host: for people.
    pub finished_at: u64,
    /// The number of the run that made it, and how many artefacts that run had made before: what
    /// orders entries.
    #[serde(default)]
    pub place: (u64, u64),
    /// How long it took (this attempt alone, if it was resumed).
    pub seconds: f64,
    /// For every reference and input of the config, by dotted path: the node's name or the path
    /// from outside. Hints.
    pub sources: BTreeMap<String, String>,
    /// What the key is made of.
    pub preimage: Preimage,
    /// The key of the earlier form whose entry this one was made of: records of runs have that key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewed_from: Option<ActionKey>,
    /// Set if the user has declared the object to be what this key would make.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Accepted>,
}

/// The declaration that an earlier result is what a key would make, without it being made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accepted {
    /// The key of the entry whose object it is.
    pub from: ActionKey,
    /// The user's reason.
    pub because: String,
    /// What differs between the two keys, a sentence each.
    pub differences: Vec<String>,
    /// When it was declared, in seconds since 1970, by the clock of its host: for people.
    pub at: u64,
}
