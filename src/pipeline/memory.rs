//! What the nodes of a pipeline will take of the device's memory, from their configs and the config files that these name. Does not run
//! or load anything.

use std::collections::BTreeMap;

use serde_json::Value;

use super::registry::Registry;
use crate::dag::node::Graph;
use crate::model::memory::Memory;
use crate::stages::models::{Form, Forms};
use crate::stages::{Stage, Visitor};

/// What can be done where a node does not fit.
pub const HINT: &str = "freeze more blocks with `frozen`, take a smaller model, or a machine with more memory";

/// The nodes whose models are known, and what each will take, where the cache of generation may take `cache` bytes.
pub fn estimate(graph: &Graph, registry: &impl Registry, cache: u64) -> BTreeMap<String, Memory> {
    let mut forms = Forms::new(cache);
    // Nodes stand in the order of the file, which may name later ones: once more as long as that told something new.
    let mut known = usize::MAX;
    while known != forms.made.len() {
        known = forms.made.len();
        for node in &graph.nodes {
            if let Some(Some(form)) = registry.visit(&node.stage, Makes { config: &node.config, forms: &forms }) {
                forms.made.insert(node.name.clone(), form);
            }
        }
    }
    let taken = |config| Takes { config, forms: &forms };
    let nodes = graph.nodes.iter();
    nodes.filter_map(|node| Some((node.name.clone(), registry.visit(&node.stage, taken(&node.config))??))).collect()
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
