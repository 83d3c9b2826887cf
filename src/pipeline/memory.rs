//! What the nodes of a pipeline will take of the device's memory, from their configs and the config
//! files that these name. Does not run or load anything.

use std::collections::BTreeMap;

use serde_json::Value;

use super::registry::Registry;
use crate::dag::node::Graph;
use crate::device::{Device, Precision};
use crate::error::Result;
use crate::model::memory::Memory;
use crate::stages::models::{ArtefactShape, ArtefactShapes};
use crate::stages::{Stage, Visitor};

/// What can be done where a node does not fit.
pub const HINT: &str = "freeze more blocks with `frozen`, set `recompute: block`, take a smaller \
    model, or a machine with more memory";

/// The nodes whose models are known, and what each will take of a device.
///
/// # Errors
/// The machine's, if there is no such device.
pub fn estimate(
    graph: &Graph,
    registry: &impl Registry,
    device: &Device,
) -> Result<BTreeMap<String, Memory>> {
    Ok(estimate_in(shapes(device)?, graph, registry))
}

/// [`estimate`], where shapes of what is outside of the graph, and the device, are known.
pub fn estimate_in(
    shapes: ArtefactShapes,
    graph: &Graph,
    registry: &impl Registry,
) -> BTreeMap<String, Memory> {
    let shapes = all_shapes(shapes, graph, registry);
    let taken = |config| Takes { config, shapes: &shapes };
    let nodes = graph.nodes.iter();
    nodes
        .filter_map(|node| {
            Some((node.name.clone(), registry.visit(&node.stage, taken(&node.config))??))
        })
        .collect()
}

/// The shapes with those of what the nodes of a graph make, where they are known.
pub fn all_shapes(
    mut shapes: ArtefactShapes,
    graph: &Graph,
    registry: &impl Registry,
) -> ArtefactShapes {
    // Nodes are in the order of the file, which may name later ones: once more as long as that
    // given something new.
    let mut known = usize::MAX;
    while known != shapes.made.len() {
        known = shapes.made.len();
        for node in &graph.nodes {
            if let Some(Some(shape)) =
                registry.visit(&node.stage, Makes { config: &node.config, shapes: &shapes })
            {
                shapes.made.insert(node.name.clone(), shape.of_stage(&node.name));
            }
        }
    }
    shapes
}

/// Where nothing is made yet, on a device.
///
/// # Errors
/// The machine's, if there is no such device.
pub fn shapes(device: &Device) -> Result<ArtefactShapes> {
    Ok(ArtefactShapes::new(device.free_memory()?, device.sizes(Precision::Single)))
}

struct Makes<'a> {
    config: &'a Value,
    shapes: &'a ArtefactShapes,
}

impl Visitor for Makes<'_> {
    type Output = Option<ArtefactShape>;

    fn visit<S: Stage>(self) -> Option<ArtefactShape> {
        S::deserialize(self.config).ok()?.makes(self.shapes)
    }
}

struct Takes<'a> {
    config: &'a Value,
    shapes: &'a ArtefactShapes,
}

impl Visitor for Takes<'_> {
    type Output = Option<Memory>;

    fn visit<S: Stage>(self) -> Option<Memory> {
        S::deserialize(self.config).ok()?.memory(self.shapes)
    }
}
