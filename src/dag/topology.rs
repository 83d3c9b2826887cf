//! Edges, order, targets, cycles.

use crate::dag::node::Graph;

/// The names along one cycle of the graph, each referring to the next and the last to the first; `None` if there is no cycle.
/// References to unknown names are skipped.
pub fn cycle(graph: &Graph) -> Option<Vec<String>> {
    let _ = graph;
    unimplemented!()
}
