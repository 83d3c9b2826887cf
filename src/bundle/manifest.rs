//! The manifest of a bundle. Uses no archive.

use serde::{Deserialize, Serialize};

use crate::dag::digest::{ActionKey, ContentHash, ObjectId};

/// The form of bundles.
pub const FORMAT: u32 = 1;
/// The manifest's file in a bundle.
pub const MANIFEST: &str = "manifest.json";
/// The provenance's file in a bundle.
pub const PROVENANCE: &str = "prov.json";

/// What a bundle holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The program that made the run.
    pub program: Program,
    /// The id of the run.
    pub run: String,
    /// The name of the pipeline.
    pub pipeline: String,
    /// `--profile` and `--set`.
    pub options: Vec<String>,
    /// The command that does the run again.
    pub command: String,
    /// Every node, each after what it needs.
    pub nodes: Vec<Node>,
    /// What nodes have read from outside; its bytes are not in the bundle.
    pub inputs: Vec<Input>,
    /// All other files of the bundle outside of `objects/`, by path.
    pub files: Vec<File>,
}

/// A build of the program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// Its version.
    pub version: String,
    /// The BLAKE3 hash of the executable, where the run recorded it.
    pub build: Option<String>,
}

/// A node of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its stage kind.
    pub stage: String,
    /// The kind of its artefact.
    pub output: String,
    /// The numerics class that it was made under.
    pub numerics: String,
    /// Its key.
    pub key: ActionKey,
    /// Its artefact.
    pub object: ObjectId,
    /// Bytes of the artefact.
    pub bytes: u64,
    /// Whether the artefact's files are in the bundle.
    pub included: bool,
    /// Nodes that it needs.
    pub needs: Vec<String>,
}

/// A file or folder from outside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// The hash of its content.
    pub content: ContentHash,
    /// Where it was.
    pub path: String,
    /// Nodes that have read it.
    pub nodes: Vec<String>,
}

/// A file of the bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct File {
    /// Its path in the bundle.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// The BLAKE3 hash of its bytes.
    pub hash: String,
}
