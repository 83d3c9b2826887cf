//! Two graphs of one pipeline, before and after an edit: the nodes whose keys differ, and why.
//! Needs nothing that was made: instead of the content of an artefact, a digest of all that its
//! node depends on.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use serde::Serialize;
use serde_json::json;

use crate::error::Result;
use crate::explain::{Difference, Fields, defaults_of, differences, fields};
use crate::inputs::Snapshots;
use crate::key::{CONTENT_TAG, OBJECT_TAG, Preimage};
use crate::node::{Graph, Node, Numerics, OwnedReference, Reference, references};
use crate::request::Request;
use crate::store::Store;
use crate::topology::Topology;

/// What differs between two graphs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Comparison {
    /// Nodes whose own configs or files differ, in the order of the later graph; the ones with the
    /// fewest differences first.
    pub changed: Vec<Changed>,
    /// Nodes that the later graph has alone, in its order.
    pub added: Vec<String>,
    /// Nodes that the earlier graph has alone, in its order.
    pub removed: Vec<String>,
    /// Nodes that the earlier graph has under another name, with that name: they keep their keys.
    pub renamed: Vec<(String, String)>,
    /// How many nodes of the later graph keep their keys.
    pub kept: usize,
}

/// A node whose own config or files differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Changed {
    /// The node's name.
    pub node: String,
    /// What differs in its config and its files.
    pub differences: Vec<Difference>,
    /// Nodes whose keys differ since they need it, directly or not, and no node before it in the
    /// list.
    pub needed_by: Vec<String>,
}

/// Compares an earlier graph with a later one.
///
/// # Errors
/// An input cannot be read, or a reference names no node.
pub fn compare(store: &Store, earlier: &Graph, later: &Graph) -> Result<Comparison> {
    let (before, after) = (Described::of(store, earlier)?, Described::of(store, later)?);
    let names = |graph: &Described| -> HashMap<String, String> {
        graph.nodes.iter().map(|(name, node)| (node.digest.clone(), name.clone())).collect()
    };
    let (earlier_names, mut found) = (names(&before), Comparison::default());
    let mut open = Vec::new();
    for node in &later.nodes {
        let now = &after.nodes[&node.name];
        match before.nodes.get(&node.name) {
            Some(then) if then.digest == now.digest => found.kept += 1,
            Some(then) => {
                let differences = now.differences_from(then, node);
                open.push((node.name.clone(), differences));
            }
            None => match earlier_names.get(&now.digest) {
                Some(other) => {
                    found.kept += 1;
                    found.renamed.push((node.name.clone(), other.clone()));
                }
                None => found.added.push(node.name.clone()),
            },
        }
    }
    let renamed: HashSet<&String> = found.renamed.iter().map(|(_, from)| from).collect();
    found.removed = earlier
        .nodes
        .iter()
        .filter(|node| !after.nodes.contains_key(&node.name) && !renamed.contains(&node.name))
        .map(|node| node.name.clone())
        .collect();
    let (mut changed, inherited): (Vec<_>, Vec<_>) =
        open.into_iter().partition(|(_, differences)| !differences.is_empty());
    changed.sort_by_key(|(_, differences)| differences.len());
    let mut left: Vec<String> = inherited.into_iter().map(|(name, _)| name).collect();
    for (node, differences) in changed {
        let below = after.below(&node);
        let (needed_by, rest) = left.into_iter().partition(|name| below.contains(name));
        left = rest;
        found.changed.push(Changed { node, differences, needed_by });
    }
    Ok(found)
}

/// A graph with a digest of each node.
struct Described {
    nodes: HashMap<String, DescribedNode>,
    /// For each node, those that refer to it.
    feeds: HashMap<String, Vec<String>>,
}

struct DescribedNode {
    /// Of its config, its files and all that it needs: equal digests are equal keys.
    digest: String,
    /// The fields of its key, references by the digests of their nodes.
    fields: Fields,
    /// For every reference and input, by dotted path, what it names.
    sources: BTreeMap<String, String>,
    /// The paths of the sources that are nodes.
    of_nodes: HashSet<String>,
}

impl Described {
    fn of(store: &Store, graph: &Graph) -> Result<Self> {
        let numerics = Numerics { device: Some(""), host: "" };
        let topology = Topology::of(Request { graph, targets: &[], numerics })?;
        let mut described = Described { nodes: HashMap::new(), feeds: HashMap::new() };
        for (at, &index) in topology.order.iter().enumerate() {
            let node = &graph.nodes[index];
            for need in topology.needs[at].iter().map(|&need| topology.order[need]) {
                let name = graph.nodes[need].name.clone();
                described.feeds.entry(name).or_default().push(node.name.clone());
            }
            let made = DescribedNode::of(store, node, &described.nodes)?;
            described.nodes.insert(node.name.clone(), made);
        }
        Ok(described)
    }

    /// All nodes that need this one, directly or not.
    fn below(&self, name: &str) -> HashSet<String> {
        let (mut below, mut open) = (HashSet::new(), vec![name]);
        while let Some(next) = open.pop() {
            for fed in self.feeds.get(next).into_iter().flatten() {
                if below.insert(fed.clone()) {
                    open.push(fed);
                }
            }
        }
        below
    }
}

impl DescribedNode {
    fn of(store: &Store, node: &Node, made: &HashMap<String, DescribedNode>) -> Result<Self> {
        let mut snapshots = Snapshots::default();
        snapshots.take_all(store, node)?;
        let content = |path: &Path| json!({ CONTENT_TAG: snapshots.content(path) });
        let config = node.config_in_key(&mut |_, reference| {
            Ok(match reference {
                Reference::Stage(name) => json!({ OBJECT_TAG: made[name].digest }),
                Reference::Input(path) => content(path),
                Reference::Fetch(name) => json!({ CONTENT_TAG: name }),
            })
        })?;
        let (mut sources, mut of_nodes) = (BTreeMap::new(), HashSet::new());
        for (path, reference) in references(&node.config)? {
            if matches!(reference, OwnedReference::Stage(_)) {
                of_nodes.insert(path.clone());
            }
            sources.insert(path, reference.to_string());
        }
        let mut fields = fields(&config, node.version, json!(""));
        fields.insert("uses".into(), json!(node.stage));
        let preimage = Preimage {
            stage: node.stage.clone(),
            version: node.version,
            numerics: String::new(),
            config,
        };
        Ok(DescribedNode { digest: preimage.key().to_string(), fields, sources, of_nodes })
    }

    /// What differs in the node itself: a reference to the same node differs only by what that
    /// depends on.
    fn differences_from(&self, earlier: &DescribedNode, node: &Node) -> Vec<Difference> {
        let mut all = differences(&earlier.fields, &self.fields, &self.sources, &defaults_of(node));
        all.retain(|it| {
            let (then, now) = (earlier.sources.get(&it.field), self.sources.get(&it.field));
            !self.of_nodes.contains(&it.field) || then != now
        });
        for difference in &mut all {
            let (then, now) =
                (earlier.sources.get(&difference.field), self.sources.get(&difference.field));
            if let (Some(then), Some(now)) = (then, now)
                && self.of_nodes.contains(&difference.field)
            {
                (difference.old, difference.new) = (Some(json!(then)), Some(json!(now)));
                difference.source = None;
            }
        }
        all
    }
}
