//! Edges, order, targets, cycles: all that follows from which node refers to which. Uses no keys
//! and no states.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use petgraph::Direction;
use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::error::{Result, user};
use crate::node::{Graph, OwnedReference, references};
use crate::request::Request;

/// The nodes wanted and all they need, in the order in which they can run. A node is known by its
/// position in that order.
pub struct Topology {
    /// For each position, the node's index in the graph.
    pub order: Vec<usize>,
    /// For each position, the positions of the nodes it refers to, ascending, each once.
    pub needs: Vec<Vec<usize>>,
    /// For each position, the positions of the nodes that refer to it, ascending, each once.
    pub feeds: Vec<Vec<usize>>,
}

impl Topology {
    /// The topology of what is asked for. Among nodes that could come next, the first in the file
    /// comes first.
    ///
    /// # Errors
    /// A target or reference that names no node, a name that two nodes have, a cycle.
    pub fn of(request: Request<'_>) -> Result<Self> {
        let positions = names(request.graph)?;
        let edges = edges(request.graph, &positions)?;
        if let Some(names) = cycle(request.graph) {
            return Err(user(format!(
                "the stages need each other in a circle: {} -> {}",
                names.join(" -> "),
                names[0]
            ))
            .into());
        }
        let wanted = wanted(request, &positions, &edges)?;
        let order = order(&edges, &wanted);
        let mut position = vec![usize::MAX; request.graph.nodes.len()];
        order.iter().enumerate().for_each(|(at, &index)| position[index] = at);
        let ascending = |direction| {
            let neighbours = |&index: &usize| {
                let mut found: Vec<usize> = edges
                    .neighbors_directed(NodeIndex::new(index), direction)
                    .map(|n| position[n.index()])
                    .collect();
                found.retain(|&at| at != usize::MAX);
                found.sort_unstable();
                found
            };
            order.iter().map(neighbours).collect::<Vec<_>>()
        };
        let (needs, feeds) = (ascending(Direction::Incoming), ascending(Direction::Outgoing));
        Ok(Topology { order, needs, feeds })
    }
}

/// The names along one cycle of the graph, each needing the next and the last needing the first,
/// beginning with the one that comes first in the file; `None` if there is no cycle. References to
/// unknown names are skipped.
pub fn cycle(graph: &Graph) -> Option<Vec<String>> {
    let positions: HashMap<&str, usize> =
        graph.nodes.iter().enumerate().map(|(index, node)| (node.name.as_str(), index)).collect();
    let mut edges = vertices(graph);
    for (index, node) in graph.nodes.iter().enumerate() {
        for (_, reference) in references(&node.config).ok()? {
            if let OwnedReference::Stage(name) = reference
                && let Some(&needed) = positions.get(name.as_str())
            {
                edges.add_edge(NodeIndex::new(index), NodeIndex::new(needed), ());
            }
        }
    }
    let circular = |component: &Vec<NodeIndex>| {
        component.len() > 1 || edges.contains_edge(component[0], component[0])
    };
    let component = tarjan_scc(&edges)
        .into_iter()
        .filter(circular)
        .min_by_key(|component| component.iter().min().copied())?;
    let inside: HashSet<NodeIndex> = component.iter().copied().collect();
    // Every node of the component needs another of it: walking along must come back to where it has
    // been.
    let mut trail = vec![*component.iter().min().expect("a component has a node")];
    let mut places = HashMap::from([(trail[0], 0)]);
    loop {
        let last = *trail.last().expect("it starts with one");
        let next = edges
            .neighbors(last)
            .filter(|node| inside.contains(node))
            .min()
            .expect("it is on a cycle");
        if let Some(&start) = places.get(&next) {
            let mut names: Vec<String> =
                trail[start..].iter().map(|node| graph.nodes[node.index()].name.clone()).collect();
            let first = (0..names.len())
                .min_by_key(|&at| positions[names[at].as_str()])
                .expect("a cycle has a node");
            names.rotate_left(first);
            return Some(names);
        }
        places.insert(next, trail.len());
        trail.push(next);
    }
}

fn names(graph: &Graph) -> Result<HashMap<&str, usize>> {
    let mut positions = HashMap::with_capacity(graph.nodes.len());
    for (index, node) in graph.nodes.iter().enumerate() {
        if positions.insert(node.name.as_str(), index).is_some() {
            return Err(user(format!("two stages are called `{}`", node.name)).into());
        }
    }
    Ok(positions)
}

fn vertices(graph: &Graph) -> DiGraph<(), ()> {
    let mut vertices = DiGraph::with_capacity(graph.nodes.len(), graph.nodes.len());
    for _ in &graph.nodes {
        vertices.add_node(());
    }
    vertices
}

/// An edge leads from what is needed to what needs it.
fn edges(graph: &Graph, positions: &HashMap<&str, usize>) -> Result<DiGraph<(), ()>> {
    let mut edges = vertices(graph);
    for (index, node) in graph.nodes.iter().enumerate() {
        let mut needed = Vec::new();
        for (path, reference) in references(&node.config)? {
            if let OwnedReference::Stage(name) = reference {
                let missing = || {
                    user(format!(
                        "`{}` refers to `{name}` in `{path}`, but there is no such stage",
                        node.name
                    ))
                };
                needed.push(*positions.get(name.as_str()).ok_or_else(missing)?);
            }
        }
        needed.sort_unstable();
        needed.dedup();
        for needed in needed {
            edges.add_edge(NodeIndex::new(needed), NodeIndex::new(index), ());
        }
    }
    Ok(edges)
}

fn wanted(
    request: Request<'_>,
    positions: &HashMap<&str, usize>,
    edges: &DiGraph<(), ()>,
) -> Result<Vec<bool>> {
    if request.targets.is_empty() {
        return Ok(vec![true; request.graph.nodes.len()]);
    }
    let mut wanted = vec![false; request.graph.nodes.len()];
    let mut open = Vec::new();
    for target in request.targets {
        open.push(
            *positions
                .get(target.as_str())
                .ok_or_else(|| user(format!("there is no stage `{target}`")))?,
        );
    }
    while let Some(index) = open.pop() {
        if !std::mem::replace(&mut wanted[index], true) {
            open.extend(
                edges
                    .neighbors_directed(NodeIndex::new(index), Direction::Incoming)
                    .map(|node| node.index()),
            );
        }
    }
    Ok(wanted)
}

fn order(edges: &DiGraph<(), ()>, wanted: &[bool]) -> Vec<usize> {
    let mut missing: Vec<usize> = edges
        .node_indices()
        .map(|node| edges.neighbors_directed(node, Direction::Incoming).count())
        .collect();
    let mut ready: BinaryHeap<Reverse<usize>> =
        (0..wanted.len()).filter(|&at| wanted[at] && missing[at] == 0).map(Reverse).collect();
    let mut order = Vec::new();
    while let Some(Reverse(index)) = ready.pop() {
        order.push(index);
        for next in edges
            .neighbors(NodeIndex::new(index))
            .map(|node| node.index())
            .filter(|&next| wanted[next])
        {
            missing[next] -= 1;
            if missing[next] == 0 {
                ready.push(Reverse(next));
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::node::{Node, Numerics, Resources};

    fn graph(nodes: &[(&str, &[&str])]) -> Graph {
        let node = |(name, needs): &(&str, &[&str])| Node {
            name: name.to_string(),
            stage: "s".into(),
            version: 1,
            output: "o".into(),
            config: json!({ "needs": needs.iter().map(|need| json!({"$stage": need,
                "kind": "o"})).collect::<Vec<_>>() }),
            neutral: &[],
            defaults: Default::default(),
            on_device: true,
            resources: Resources::default(),
            report_to: Vec::new(),
        };
        Graph { nodes: nodes.iter().map(node).collect() }
    }

    fn ordered(graph: &Graph, targets: &[&str]) -> Vec<String> {
        let targets: Vec<String> = targets.iter().map(|name| name.to_string()).collect();
        let topology =
            Topology::of(Request { graph, targets: &targets, numerics: Numerics::default() })
                .expect("a sound graph");
        topology.order.iter().map(|&index| graph.nodes[index].name.clone()).collect()
    }

    #[test]
    fn what_is_needed_comes_first_and_else_the_order_of_the_file() {
        let graph =
            graph(&[("d", &["b", "c"]), ("c", &["a"]), ("b", &["a", "a"]), ("a", &[]), ("z", &[])]);
        assert_eq!(ordered(&graph, &[]), ["a", "c", "b", "d", "z"]);
        assert_eq!(ordered(&graph, &["b", "z"]), ["a", "b", "z"]);
    }

    #[test]
    fn a_cycle_is_named_from_its_first_node_on_and_without_what_leads_to_it() {
        let circular = graph(&[("x", &["b"]), ("c", &["b"]), ("a", &["c"]), ("b", &["a"])]);
        assert_eq!(cycle(&circular), Some(vec!["c".into(), "b".into(), "a".into()]));
        assert_eq!(cycle(&graph(&[("a", &["a"])])), Some(vec!["a".into()]));
        assert_eq!(cycle(&graph(&[("a", &[]), ("b", &["a"])])), None);
        let error =
            Topology::of(Request { graph: &circular, targets: &[], numerics: Numerics::default() })
                .err()
                .expect("a cycle");
        assert!(error.to_string().contains("c -> b -> a -> c"), "{error}");
    }

    #[test]
    fn unknown_names_and_doubled_names_are_errors() {
        for (graph, target) in [
            (graph(&[("a", &["b"])]), "a"),
            (graph(&[("a", &[]), ("a", &[])]), "a"),
            (graph(&[("a", &[])]), "b"),
        ] {
            assert!(
                Topology::of(Request {
                    graph: &graph,
                    targets: &[target.into()],
                    numerics: Numerics::default()
                })
                .is_err()
            );
        }
    }
}
