//! What must hold of a node's relatives: what had no part in something (a judge in what it judges),
//! and what a referred node must itself refer to. Uses nodes and their references, and which rules
//! a kind names. Two nodes are one by their configs, or by what they have made already.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::registry::Registry;
use crate::dag::node::{Graph, Node, OwnedReference, replace_references};
use crate::error::{Result, user};
use crate::stages::{Constraint, Rule, Stage, Visitor};

/// A node whose `field` refers to what had a part in something that must not have known it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leak {
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
pub fn leaks(graph: &Graph, registry: &impl Registry) -> Result<Vec<Leak>> {
    found(graph, registry, BTreeMap::new())
}

/// Those that show by what nodes have made: `objects` has the id of each node's artefact that is
/// there.
///
/// # Errors
/// The user's, if there is one.
pub fn refuse_taints_of_objects(
    graph: &Graph,
    registry: &impl Registry,
    objects: &BTreeMap<String, String>,
) -> Result<()> {
    let identity = |(name, object): (&String, &String)| {
        (name.clone(), *blake3::hash(object.as_bytes()).as_bytes())
    };
    match found(graph, registry, objects.iter().map(identity).collect())?.first() {
        None => Ok(()),
        Some(Leak { node, field, held_out, known_to }) => {
            let message = format!(
                "`{field}` of `{node}`: what `{held_out}` made had a part in `{known_to}`, which \
                 it is to judge: another stage made the same"
            );
            Err(user(message).hint("give its data another seed, or train it on other data").into())
        }
    }
}

fn found(
    graph: &Graph,
    registry: &impl Registry,
    identities: BTreeMap<String, [u8; 32]>,
) -> Result<Vec<Leak>> {
    let nodes: BTreeMap<&str, &Node> =
        graph.nodes.iter().map(|node| (node.name.as_str(), node)).collect();
    let mut made = Made { nodes, identities };
    let mut leaks = Vec::new();
    for node in &graph.nodes {
        for (field, judged) in
            registry.visit(&node.stage, Rules(&node.config)).transpose()?.unwrap_or_default()
        {
            for held_out in stages_at(&node.config, &field)? {
                let own = made.identity(&held_out)?;
                for known_to in judged
                    .iter()
                    .map(|judged| stages_at(&node.config, judged))
                    .collect::<Result<Vec<_>>>()?
                    .concat()
                {
                    if made.parts(&known_to)?.contains(&own) {
                        let (node, field, held_out) =
                            (node.name.clone(), field.clone(), held_out.clone());
                        leaks.push(Leak { node, field, held_out, known_to });
                    }
                }
            }
        }
    }
    Ok(leaks)
}

/// A constraint of a node that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The node.
    pub node: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: &'static str,
}

/// All constraints of a graph that do not hold.
pub fn violations(graph: &Graph, registry: &impl Registry) -> Result<Vec<Violation>> {
    let nodes: BTreeMap<&str, &Node> =
        graph.nodes.iter().map(|node| (node.name.as_str(), node)).collect();
    let mut made = Made { nodes, identities: BTreeMap::new() };
    let mut found = Vec::new();
    for node in &graph.nodes {
        for constraint in
            registry.visit(&node.stage, Bonds(&node.config)).transpose()?.unwrap_or_default()
        {
            let wrong = made.violated(&constraint)?;
            let Constraint { field, .. } = constraint;
            found.extend(wrong.map(|(message, hint)| Violation {
                node: node.name.clone(),
                message: format!("`{field}` of `{}`: {message}", node.name),
                hint,
            }));
        }
    }
    Ok(found)
}

struct Bonds<'a>(&'a Value);

impl Visitor for Bonds<'_> {
    type Output = Result<Vec<Constraint>>;

    fn visit<S: Stage>(self) -> Self::Output {
        Ok(S::deserialize(self.0)?.constraints())
    }
}

struct Rules<'a>(&'a Value);

impl Visitor for Rules<'_> {
    type Output = Result<Vec<(String, Vec<String>)>>;

    fn visit<S: Stage>(self) -> Self::Output {
        let held_out = S::INFO.held_out;
        if held_out.is_empty() || S::deserialize(self.0)?.allows_taints() {
            return Ok(Vec::new());
        }
        let rule = |(field, judged): &(&str, &[&str])| {
            (field.to_string(), judged.iter().map(|name| name.to_string()).collect())
        };
        Ok(held_out.iter().map(rule).collect())
    }
}

/// What nodes are made of. Two nodes that would make the same, under whatever names, are one
/// identity.
struct Made<'a> {
    nodes: BTreeMap<&'a str, &'a Node>,
    identities: BTreeMap<String, [u8; 32]>,
}

impl Made<'_> {
    /// A value of a config, every reference replaced by what it refers to.
    fn resolved(&mut self, value: &Value) -> Result<Value> {
        replace_references(value, &mut |_, reference| {
            Ok(match OwnedReference::from(reference) {
                OwnedReference::Stage(name) => {
                    json!(blake3::Hash::from(self.identity(&name)?).to_hex().as_str())
                }
                OwnedReference::Input(path) => json!(path),
                OwnedReference::Fetch(name) => json!(name),
            })
        })
    }

    /// What is wrong with a constraint, and what to do.
    fn violated(&mut self, constraint: &Constraint) -> Result<Option<(String, &'static str)>> {
        let Constraint { node, inner, rule, .. } = constraint;
        let config = &self.nodes[node.as_str()].config;
        let own = stages_at(config, inner)?;
        match rule {
            Rule::IsSet => Ok(within(config, inner).is_none_or(Value::is_null).then(|| {
                (
                    format!("`{node}` has no `{inner}`"),
                    "it is needed here: add it to that stage, or name another stage",
                )
            })),
            Rule::Is(wanted) => {
                let is = own.len() == 1 && self.identity(&own[0])? == self.identity(wanted)?;
                let found =
                    own.first().map_or_else(|| "nothing".to_owned(), |name| format!("`{name}`"));
                Ok((!is).then(|| {
                    (
                        format!("`{inner}` of `{node}` is {found}, not `{wanted}`"),
                        "the two stages must be of the same thing",
                    )
                }))
            }
            Rule::AsIn(other) => {
                let others =
                    within(&self.nodes[other.as_str()].config, inner).cloned().unwrap_or_default();
                let own = within(config, inner).cloned().unwrap_or_default();
                let same = self.resolved(&own)? == self.resolved(&others)?;
                Ok((!same).then(|| {
                    (
                        format!("`{inner}` of `{node}` is not that of `{other}`"),
                        "give each another name",
                    )
                }))
            }
            Rule::NoPartIn(known_to) => {
                for name in own {
                    let identity = self.identity(&name)?;
                    for known_to in known_to {
                        if self.parts(known_to)?.contains(&identity) {
                            let message = format!(
                                "`{known_to}` was made with the help of `{name}`, by which \
                                 `{node}` judges"
                            );
                            return Ok(Some((
                                message,
                                "take one that was trained on other data and had no part in any of \
                                 them",
                            )));
                        }
                    }
                }
                Ok(None)
            }
        }
    }

    fn identity(&mut self, name: &str) -> Result<[u8; 32]> {
        if let Some(known) = self.identities.get(name) {
            return Ok(*known);
        }
        let node = self.nodes[name];
        let config = self.resolved(&node.config)?;
        let identity =
            *blake3::hash(json!([node.stage, node.version, config]).to_string().as_bytes())
                .as_bytes();
        self.identities.insert(name.to_owned(), identity);
        Ok(identity)
    }

    /// A node and all that it is made of.
    fn parts(&mut self, name: &str) -> Result<BTreeSet<[u8; 32]>> {
        let (mut parts, mut seen, mut open) =
            (BTreeSet::new(), BTreeSet::new(), vec![name.to_owned()]);
        while let Some(name) = open.pop() {
            if seen.insert(name.clone()) {
                parts.insert(self.identity(&name)?);
                open.extend(stages_at(&self.nodes[name.as_str()].config, "")?);
            }
        }
        Ok(parts)
    }
}

/// A field, dotted, of a config.
fn within<'a>(config: &'a Value, field: &str) -> Option<&'a Value> {
    field.split('.').filter(|part| !part.is_empty()).try_fold(config, |value, part| value.get(part))
}

/// The nodes that a field of a config, or what is in it, refers to.
fn stages_at(config: &Value, field: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    if let Some(value) = within(config, field) {
        replace_references(value, &mut |_, reference| {
            if let OwnedReference::Stage(name) = OwnedReference::from(reference) {
                names.push(name);
            }
            Ok(Value::Null)
        })?;
    }
    Ok(names)
}
