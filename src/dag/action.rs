//! Action entries.

use serde::{Deserialize, Serialize};

use crate::dag::key::{ActionKey, ObjectId, Preimage};
use crate::dag::store::Store;
use crate::error::Result;

/// What is known of a node that was made: one JSON file a key.
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
    /// When it was finished, in seconds since 1970.
    pub finished_at: u64,
    /// How long it took (this attempt alone, if it was resumed).
    pub seconds: f64,
    /// For every reference and input of the config, by dotted path: the node's name or the path from outside. Hints.
    pub sources: std::collections::BTreeMap<String, String>,
    /// What the key is made of.
    pub preimage: Preimage,
}

impl Store {
    /// The entry of a key, if there is one; its object is not looked at.
    pub fn entry(&self, key: ActionKey) -> Result<Option<Entry>> {
        let _ = key;
        unimplemented!()
    }

    /// All entries, in the order of their keys.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        unimplemented!()
    }
}
