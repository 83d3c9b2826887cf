//! The edits between two graphs of a pipeline, and graphs that have some of them. Knows configs,
//! not what they mean.
//!
//! 1. An edit is one place of the configs of a stage, at which both graphs have other values: a
//!    field, an item of a list of one length, or else the whole list. Nodes of one stage with the
//!    same edit have it together.
//! 2. A stage of another kind is one edit. Nodes that one graph has alone are there in every
//!    graph: what refers to them decides whether they are needed.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;
use serde_json::Value;

use super::defaults::Defaults;
use super::rebuild::kind_of;
use super::registry::Registry;
use super::typed;
use crate::dag::node::{Graph, Node};

/// One edit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Edit {
    /// The stage.
    pub stage: String,
    /// The field, dotted; `uses` if the kind differs.
    pub field: String,
    /// The earlier value; none if the field is new.
    pub old: Option<Value>,
    /// The later value; none if the field is gone.
    pub new: Option<Value>,
    /// The nodes that have it.
    pub nodes: Vec<String>,
    /// The place in their configs.
    #[serde(skip)]
    pointer: Vec<String>,
}

impl std::fmt::Display for Edit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Edit { stage, field, old, new, .. } = self;
        match (old.as_ref().map(plain), new.as_ref().map(plain)) {
            (Some(old), Some(new)) => write!(f, "{stage}: `{field}` was {old}, is {new}"),
            (None, Some(new)) => write!(f, "{stage}: `{field}` is new: {new}"),
            (Some(old), None) => write!(f, "{stage}: `{field}` is gone: it was {old}"),
            (None, None) => write!(f, "{stage}: `{field}`"),
        }
    }
}

/// A value as people read it: of a reference or an input its name.
fn plain(value: &Value) -> String {
    let named = |tag: &str| value.get(tag).and_then(Value::as_str);
    match named("$stage").or_else(|| named("$input")).or_else(|| named("$fetch")) {
        Some(name) => format!("`{name}`"),
        None => value.to_string(),
    }
}

/// The edits from one graph to another, in the order of the later graph.
pub fn edits(earlier: &Graph, later: &Graph) -> Vec<Edit> {
    let before: HashMap<&str, &Node> =
        earlier.nodes.iter().map(|node| (node.name.as_str(), node)).collect();
    let mut all: Vec<Edit> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for node in &later.nodes {
        let Some(then) = before.get(node.name.as_str()) else { continue };
        let stage = node.name.split('[').next().unwrap_or_default();
        let mut found = Vec::new();
        if then.stage != node.stage {
            let (old, new) = (Value::from(then.stage.as_str()), Value::from(node.stage.as_str()));
            found.push((Vec::new(), Some(old), Some(new)));
        } else {
            differ(&then.config, &node.config, &mut Vec::new(), &mut found);
        }
        for (pointer, old, new) in found {
            let identity = format!("{stage} {pointer:?} {old:?} {new:?}");
            match places.get(&identity) {
                Some(&at) => all[at].nodes.push(node.name.clone()),
                None => {
                    places.insert(identity, all.len());
                    let field = if pointer.is_empty() { "uses".into() } else { dotted(&pointer) };
                    let nodes = vec![node.name.clone()];
                    all.push(Edit { stage: stage.to_owned(), field, old, new, nodes, pointer });
                }
            }
        }
    }
    all
}

fn dotted(pointer: &[String]) -> String {
    let mut path = String::new();
    for part in pointer {
        match part.parse::<usize>() {
            Ok(index) => path += &format!("[{index}]"),
            Err(_) if path.is_empty() => path += part,
            Err(_) => path += &format!(".{part}"),
        }
    }
    path
}

type Found = Vec<(Vec<String>, Option<Value>, Option<Value>)>;

fn differ(old: &Value, new: &Value, pointer: &mut Vec<String>, found: &mut Found) {
    let is_tagged = |value: &Value| {
        value.as_object().is_some_and(|map| map.keys().any(|key| key.starts_with('$')))
    };
    match (old, new) {
        _ if old == new => {}
        (Value::Object(then), Value::Object(now)) if !is_tagged(old) && !is_tagged(new) => {
            let keys: BTreeMap<&String, ()> =
                then.keys().chain(now.keys()).map(|key| (key, ())).collect();
            for key in keys.into_keys() {
                pointer.push(key.clone());
                match (then.get(key), now.get(key)) {
                    (Some(then), Some(now)) => differ(then, now, pointer, found),
                    (then, now) => found.push((pointer.clone(), then.cloned(), now.cloned())),
                }
                pointer.pop();
            }
        }
        (Value::Array(then), Value::Array(now)) if then.len() == now.len() => {
            for (at, (then, now)) in then.iter().zip(now).enumerate() {
                pointer.push(at.to_string());
                differ(then, now, pointer, found);
                pointer.pop();
            }
        }
        _ => found.push((pointer.clone(), Some(old.clone()), Some(new.clone()))),
    }
}

/// The earlier graph with some edits, and with the nodes that the later one has alone.
///
/// # Errors
/// A config that has some of the edits is out of range: the node, and why.
pub fn with_edits(
    earlier: &Graph,
    later: &Graph,
    edits: &[&Edit],
    registry: &impl Registry,
) -> Result<Graph, String> {
    let after: HashMap<&str, &Node> =
        later.nodes.iter().map(|node| (node.name.as_str(), node)).collect();
    let mut by_node: HashMap<&str, Vec<&Edit>> = HashMap::new();
    for &edit in edits {
        edit.nodes.iter().for_each(|node| by_node.entry(node).or_default().push(edit));
    }
    let mut defaults = Defaults::default();
    let mut graph = Graph { nodes: Vec::new() };
    for node in &earlier.nodes {
        let own = by_node.remove(node.name.as_str()).unwrap_or_default();
        graph.nodes.push(match own.as_slice() {
            [] => node.clone(),
            own => {
                let later = after[node.name.as_str()];
                let edited = edited(node, later, own, registry, &mut defaults);
                edited.map_err(|why| format!("`{}`: {why}", node.name))?
            }
        });
    }
    let names: HashSet<&str> = earlier.nodes.iter().map(|node| node.name.as_str()).collect();
    let new = later.nodes.iter().filter(|node| !names.contains(node.name.as_str()));
    graph.nodes.extend(new.cloned());
    Ok(graph)
}

fn edited(
    node: &Node,
    later: &Node,
    edits: &[&Edit],
    registry: &impl Registry,
    defaults: &mut Defaults,
) -> Result<Node, String> {
    if edits.iter().any(|edit| edit.pointer.is_empty()) {
        return Ok(later.clone());
    }
    let mut config = node.config.clone();
    edits.iter().for_each(|edit| put(&mut config, &edit.pointer, edit.new.as_ref()));
    typed::check(&node.stage, &config, registry)?;
    let kind = kind_of(&node.stage, &config, registry)
        .ok_or_else(|| format!("there is no stage kind `{}`", node.stage))??;
    Ok(Node {
        defaults: defaults.of(&node.stage, &config, registry)?,
        on_device: kind.on_device,
        output: kind.output.to_owned(),
        config,
        ..node.clone()
    })
}

/// Sets a place of a config, or removes it.
fn put(config: &mut Value, pointer: &[String], value: Option<&Value>) {
    let [first, rest @ ..] = pointer else { return };
    match config {
        Value::Object(fields) if rest.is_empty() => match value {
            Some(value) => drop(fields.insert(first.clone(), value.clone())),
            None => drop(fields.remove(first)),
        },
        Value::Object(fields) => {
            if let Some(inner) = fields.get_mut(first) {
                put(inner, rest, value);
            }
        }
        Value::Array(items) => {
            let item = first.parse::<usize>().ok().and_then(|at| items.get_mut(at));
            match (item, value) {
                (Some(item), Some(value)) if rest.is_empty() => *item = value.clone(),
                (Some(item), _) => put(item, rest, value),
                (None, _) => {}
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pipeline::registry::Builtin;

    fn graph(words: [&str; 2], more: Value) -> Graph {
        let node = |name: &str, word: &str| {
            let mut config = json!({"run": ["echo", word], "inputs": {}, "gather": {}, "files": {},
                "env": {}, "makes": "files", "sandbox": false});
            config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            Node::new(name, "command", config)
        };
        Graph { nodes: vec![node("a[seed=0]", words[0]), node("a[seed=1]", words[1])] }
    }

    #[test]
    fn nodes_of_a_stage_have_an_edit_together_and_each_can_be_made_alone() {
        let before = graph(["x", "x"], json!({}));
        let after = graph(["y", "y"], json!({"env": {"k": "v"}, "sandbox": true}));
        let all = edits(&before, &after);
        let words: Vec<String> = all.iter().map(Edit::to_string).collect();
        assert_eq!(
            words,
            [
                "a: `env.k` is new: \"v\"",
                "a: `run[1]` was \"x\", is \"y\"",
                "a: `sandbox` was false, is true"
            ]
        );
        assert!(all.iter().all(|edit| edit.nodes.len() == 2));
        let made = |edits: &[&Edit]| with_edits(&before, &after, edits, &Builtin).unwrap();
        assert_eq!(made(&[]).nodes[0].config, before.nodes[0].config);
        let whole: Vec<&Edit> = all.iter().collect();
        assert_eq!(made(&whole).nodes[1].config, after.nodes[1].config);
        let one = made(&whole[1..2]);
        assert_eq!(one.nodes[1].config["run"][1], "y");
        assert_eq!(one.nodes[1].config["sandbox"], false);
    }

    #[test]
    fn values_of_one_point_alone_are_an_edit_of_that_point() {
        let all = edits(&graph(["x", "x"], json!({})), &graph(["x", "z"], json!({})));
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].nodes, ["a[seed=1]"]);
    }
}
