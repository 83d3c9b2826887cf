//! The record of each invocation.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::dag::key::{ActionKey, ObjectId};
use crate::dag::store::Store;
use crate::error::Result;

/// What was asked for on the command line. Runs with the same `pipeline` and `options` are runs of the same thing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invocation {
    /// The pipeline file, absolute.
    pub pipeline: PathBuf,
    /// The hash of its bytes.
    pub pipeline_hash: String,
    /// Options that choose other params (`--profile x`, `--set k=v`), sorted.
    pub options: Vec<String>,
}

/// How a node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It ran.
    Ran,
    /// It was there already.
    Cached,
    /// It ran and failed.
    Failed,
    /// It did not run, because something failed or the run was stopped.
    Skipped,
    /// It was stopped; its checkpoints are kept.
    Interrupted,
}

/// One node of a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// The node's name.
    pub name: String,
    /// Its stage kind.
    pub stage: String,
    /// How it ended.
    pub ending: Ending,
    /// Its key, if it came to be known.
    pub key: Option<ActionKey>,
    /// What it made.
    pub object: Option<ObjectId>,
    /// How long it took.
    pub seconds: f64,
}

/// The record of one invocation: `runs/<id>/record.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Sorts by time.
    pub id: String,
    /// When it started, in seconds since 1970.
    pub started_at: u64,
    /// What was asked for.
    pub invocation: Invocation,
    /// Every node of the pipeline, in the order of the file, whether wanted or not.
    pub graph: Vec<String>,
    /// The nodes that were wanted, in the order of the plan.
    pub nodes: Vec<NodeRecord>,
    /// Wall time of the whole.
    pub seconds: f64,
}

/// An artefact of a node that the pipeline no longer has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Orphan {
    /// The node's name.
    pub name: String,
    /// What it made.
    pub object: ObjectId,
    /// Its size.
    pub bytes: u64,
}

impl Store {
    /// All records, oldest first.
    pub fn records(&self) -> Result<Vec<Record>> {
        unimplemented!()
    }

    /// Artefacts of earlier runs of the same invocation whose nodes are not in `names` (all node names of the pipeline now).
    pub fn orphans(&self, invocation: &Invocation, names: &[String]) -> Result<Vec<Orphan>> {
        let _ = (invocation, names);
        unimplemented!()
    }
}
