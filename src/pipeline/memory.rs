//! What the nodes of a pipeline will take of the device's memory, from their configs and the config
//! files that these name. Does not run or load anything.

use std::collections::BTreeMap;

use serde_json::Value;

use super::registry::Registry;
use crate::dag::node::Graph;
use crate::device::{Device, Precision};
use crate::error::Result;
use crate::model::memory::Memory;
use crate::stages::models::{Form, Forms};
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
    Ok(estimate_in(forms(device)?, graph, registry))
}

/// [`estimate`], where forms of what is outside of the graph, and the device, are known.
pub fn estimate_in(
    forms: Forms,
    graph: &Graph,
    registry: &impl Registry,
) -> BTreeMap<String, Memory> {
    let forms = all_forms(forms, graph, registry);
    let taken = |config| Takes { config, forms: &forms };
    let nodes = graph.nodes.iter();
    nodes
        .filter_map(|node| {
            Some((node.name.clone(), registry.visit(&node.stage, taken(&node.config))??))
        })
        .collect()
}

/// The forms with those of what the nodes of a graph make, where they are known.
pub fn all_forms(mut forms: Forms, graph: &Graph, registry: &impl Registry) -> Forms {
    // Nodes are in the order of the file, which may name later ones: once more as long as that
    // given something new.
    let mut known = usize::MAX;
    while known != forms.made.len() {
        known = forms.made.len();
        for node in &graph.nodes {
            if let Some(Some(form)) =
                registry.visit(&node.stage, Makes { config: &node.config, forms: &forms })
            {
                forms.made.insert(node.name.clone(), form.of_stage(&node.name));
            }
        }
    }
    forms
}

/// Where nothing is made yet, on a device.
///
/// # Errors
/// The machine's, if there is no such device.
pub fn forms(device: &Device) -> Result<Forms> {
    Ok(Forms::new(device.free_memory()?, device.sizes(Precision::Single)))
}

struct Makes<'a> {
    config: &'a Value,
    forms: &'a Forms,
}

impl Visitor for Makes<'_> {
    type Output = Option<Form>;

    fn visit<S: Stage>(self) -> Option<Form> {
        S::deserialize(self.config).ok()?.makes(self.forms)
    }
}

struct Takes<'a> {
    config: &'a Value,
    forms: &'a Forms,
}

impl Visitor for Takes<'_> {
    type Output = Option<Memory>;

    fn visit<S: Stage>(self) -> Option<Memory> {
        S::deserialize(self.config).ok()?.memory(self.forms)
    }
}
