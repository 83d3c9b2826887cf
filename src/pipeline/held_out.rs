//! What must have had no part in something: a judge in what it judges. Knows nodes and their references, and which fields a kind names.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::registry::Registry;
use crate::dag::node::{Graph, Node, OwnedReference, replace_references};
use crate::error::Result;
use crate::stages::{Stage, Visitor};

/// A node whose `field` refers to what had a part in something that must not have known it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taint {
    /// The node.
    pub node: String,
    /// The field.
    pub field: String,
    /// What the field refers to.
    pub held_out: String,
    /// What it had a part in: the artefact of this node.
    pub known_to: String,
}

/// All such nodes of a graph.
pub fn taints(graph: &Graph, registry: &impl Registry) -> Result<Vec<Taint>> {
    let nodes: BTreeMap<&str, &Node> = graph.nodes.iter().map(|node| (node.name.as_str(), node)).collect();
    let mut made = Made { nodes, identities: BTreeMap::new() };
    let mut taints = Vec::new();
    for node in &graph.nodes {
        for (field, judged) in registry.visit(&node.stage, Rules).unwrap_or_default() {
            for held_out in stages_at(&node.config, &field)? {
                let own = made.identity(&held_out)?;
                for known_to in judged.iter().map(|judged| stages_at(&node.config, judged)).collect::<Result<Vec<_>>>()?.concat() {
                    if made.parts(&known_to)?.contains(&own) {
                        let (node, field, held_out) = (node.name.clone(), field.clone(), held_out.clone());
                        taints.push(Taint { node, field, held_out, known_to });
                    }
                }
            }
        }
    }
    Ok(taints)
}

struct Rules;

impl Visitor for Rules {
    type Output = Vec<(String, Vec<String>)>;

    fn visit<S: Stage>(self) -> Self::Output {
        let rule = |(field, judged): &(&str, &[&str])| (field.to_string(), judged.iter().map(|name| name.to_string()).collect());
        S::HELD_OUT.iter().map(rule).collect()
    }
}

/// What nodes are made of. Two nodes that would make the same, under whatever names, are one identity.
struct Made<'a> {
    nodes: BTreeMap<&'a str, &'a Node>,
    identities: BTreeMap<String, [u8; 32]>,
}

impl Made<'_> {
    fn identity(&mut self, name: &str) -> Result<[u8; 32]> {
        if let Some(known) = self.identities.get(name) {
            return Ok(*known);
        }
        let node = self.nodes[name];
        let config = replace_references(&node.config, &mut |_, reference| {
            Ok(match OwnedReference::from(reference) {
                OwnedReference::Stage(name) => json!(blake3::Hash::from(self.identity(&name)?).to_hex().as_str()),
                OwnedReference::Input(path) => json!(path),
                OwnedReference::Fetch(name) => json!(name),
            })
        })?;
        let identity = *blake3::hash(json!([node.stage, node.version, config]).to_string().as_bytes()).as_bytes();
        self.identities.insert(name.to_owned(), identity);
        Ok(identity)
    }

    /// A node and all that it is made of.
    fn parts(&mut self, name: &str) -> Result<BTreeSet<[u8; 32]>> {
        let (mut parts, mut seen, mut open) = (BTreeSet::new(), BTreeSet::new(), vec![name.to_owned()]);
        while let Some(name) = open.pop() {
            if seen.insert(name.clone()) {
                parts.insert(self.identity(&name)?);
                open.extend(stages_at(&self.nodes[name.as_str()].config, "")?);
            }
        }
        Ok(parts)
    }
}

/// The nodes that a field of a config, or what is in it, refers to.
fn stages_at(config: &Value, field: &str) -> Result<Vec<String>> {
    let within = field.split('.').filter(|part| !part.is_empty()).try_fold(config, |value, part| value.get(part));
    let mut names = Vec::new();
    if let Some(value) = within {
        replace_references(value, &mut |_, reference| {
            if let OwnedReference::Stage(name) = OwnedReference::from(reference) {
                names.push(name);
            }
            Ok(Value::Null)
        })?;
    }
    Ok(names)
}
