//! A request: the nodes that are asked for, and the numerics classes of their keys.

use crate::node::{Graph, Numerics};

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// All nodes of the pipeline.
    pub graph: &'a Graph,
    /// Names of the nodes wanted, with all they need; empty means every node.
    pub targets: &'a [String],
    /// The numerics classes.
    pub numerics: Numerics<'a>,
}
