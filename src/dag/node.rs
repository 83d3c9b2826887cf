//! A node: a stage with every value known. What it needs, and what its config refers to, are read off the config alone.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// In a config, the object `{"$stage": NAME, "kind": KIND}` refers to the artefact of another node.
pub const STAGE_TAG: &str = "$stage";
/// In a config, the object `{"$input": PATH}` names a file or folder from outside, which enters the key by its bytes.
pub const INPUT_TAG: &str = "$input";
/// In an order, a reference or an input has become `{"$path": PATH}`.
pub const PATH_TAG: &str = "$path";

/// What a node may use of the machine while it runs. Never part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Threads; `None` means all that the run has.
    pub threads: Option<usize>,
}

/// One vertex of the graph.
#[derive(Clone, Debug)]
pub struct Node {
    /// Unique in the graph: the stage's name in the pipeline, with its matrix point, if any: `ppo[kl=0.1,seed=1]`.
    pub name: String,
    /// The stage kind (`ppo`).
    pub stage: String,
    /// The stage kind's VERSION.
    pub version: u32,
    /// The kind of artefact it makes (`policy`).
    pub output: String,
    /// Typed config with defaults filled in, references and inputs as tagged objects.
    pub config: Value,
    /// What it may use.
    pub resources: Resources,
}

/// All nodes of an expanded pipeline, in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// The nodes; names are unique and every reference names one of them.
    pub nodes: Vec<Node>,
}

/// The stage kinds a binary can run, as the engine sees them.
pub trait Dispatch: Sync {
    /// Runs the stage kind `stage` with a config whose references and inputs have become paths.
    fn execute(&self, stage: &str, config: Value, context: &super::context::Context) -> crate::error::Result<()>;
}
