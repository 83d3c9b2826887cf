//! The order of a node's job: `order.json` in the folder of its attempt.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::ActionKey;

/// The file of an order.
pub const ORDER: &str = "order.json";

/// What a job is to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// The action key.
    pub key: ActionKey,
    /// The stage kind.
    pub stage: String,
    /// The stage kind's VERSION.
    pub stage_version: u32,
    /// The numerics class that the key has.
    pub numerics: String,
    /// The version of the program that gives the order.
    pub program: String,
    /// Whether the job is one of a cluster's queue: it outlives the run that has submitted it, may
    /// begin again in the same folder, and checks that its host is one that the key is for.
    pub queued: bool,
    /// The config, references and inputs replaced by `{"$path": PATH}`.
    pub config: Value,
    /// What it computes on, in the words of the stages.
    pub device: Value,
    /// Threads it may use.
    pub threads: usize,
    /// The folder of its event files, if it is to write any.
    pub events: Option<PathBuf>,
}
