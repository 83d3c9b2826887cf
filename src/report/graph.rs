//! The graph of a run as a chart: one node a row, from what is needed to what needs it, and how
//! long each took. Does not know what nodes do.
//!
//! Rows are in an order in which each node comes after all it needs; a node is as far to the
//! right as its longest chain of needs. An edge goes down from what is needed and then right, so
//! that only names are above lines.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};

use serde_json::{Value, json};

use super::charts::{Chart, label};
use super::run::{Node, Run};

/// How a node can end, with its colour and its shape.
const ENDINGS: [(&str, &str, &str); 5] = [
    ("ran", "#0072b2", "circle"),
    ("cached", "#009e73", "square"),
    ("failed", "#d55e00", "x"),
    ("interrupted", "#e69f00", "diamond"),
    ("skipped", "#8c8c8c", "circle-open"),
];

/// The drawing and the times.
pub fn charts(run: &Run) -> Vec<Chart> {
    if run.nodes.is_empty() {
        return Vec::new();
    }
    let rows = rows(&run.nodes);
    vec![drawing(run, &rows), times(run, &rows)]
}

/// For each row the node's place in the run and its depth.
fn rows(nodes: &[Node]) -> Vec<(usize, usize)> {
    let places: HashMap<&str, usize> =
        nodes.iter().enumerate().map(|(at, node)| (node.name.as_str(), at)).collect();
    let needs = |node: &Node| -> BTreeSet<usize> {
        node.needs.iter().filter_map(|name| places.get(name.as_str()).copied()).collect()
    };
    let mut missing = Vec::new();
    let mut feeds: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (at, node) in nodes.iter().enumerate() {
        let needs = needs(node);
        missing.push(needs.len());
        needs.into_iter().for_each(|need| feeds[need].push(at));
    }
    let mut depth = vec![0; nodes.len()];
    let mut ready: BinaryHeap<Reverse<usize>> =
        (0..nodes.len()).filter(|&at| missing[at] == 0).map(Reverse).collect();
    let mut rows = Vec::new();
    while let Some(Reverse(next)) = ready.pop() {
        rows.push((next, depth[next]));
        for &fed in &feeds[next] {
            depth[fed] = depth[fed].max(depth[next] + 1);
            missing[fed] -= 1;
            if missing[fed] == 0 {
                ready.push(Reverse(fed));
            }
        }
    }
    rows
}

fn drawing(run: &Run, rows: &[(usize, usize)]) -> Chart {
    let row_of: HashMap<&str, usize> =
        rows.iter().enumerate().map(|(at, row)| (run.nodes[row.0].name.as_str(), at)).collect();
    let (mut x, mut y): (Vec<Option<f64>>, Vec<Option<f64>>) = (Vec::new(), Vec::new());
    for (row, (at, depth)) in rows.iter().enumerate() {
        let needs = run.nodes[*at].needs.iter();
        for need in needs.filter_map(|name| row_of.get(name.as_str()).copied()) {
            let from = rows[need].1 as f64;
            x.extend([Some(from), Some(from), Some(*depth as f64), None]);
            y.extend([Some(need as f64), Some(row as f64), Some(row as f64), None]);
        }
    }
    let mut data = vec![json!({"type": "scatter", "mode": "lines", "x": x, "y": y,
            "line": {"color": "#8c8c8c", "width": 1}, "hoverinfo": "skip", "showlegend": false})];
    data.extend(ENDINGS.iter().filter_map(|ending| markers(run, rows, ending)));
    let names: Vec<Value> = rows
        .iter()
        .enumerate()
        .map(|(row, (at, depth))| {
            json!({"x": depth, "y": row, "text": label(&run.nodes[*at].name), "showarrow": false,
                "xanchor": "left", "xshift": 9, "bgcolor": "$paper",
                "borderpad": 1})
        })
        .collect();
    let deepest = rows.iter().map(|row| row.1).max().unwrap_or(0) as f64;
    let hidden = |range: [f64; 2]| json!({"range": range, "visible": false, "fixedrange": true});
    let layout = json!({"annotations": names, "xaxis": hidden([-0.3, deepest * 1.35 + 1.2]),
        "yaxis": hidden([rows.len() as f64 - 0.3, -0.7]),
        "hovermode": "closest", "showlegend": true, "margin": {"l": 8, "r": 8, "t": 8, "b": 8}});
    let note =
        "A node needs what lines lead to it from. Point at one for its times and its hash.".into();
    Chart {
        id: "graph".into(),
        title: "The graph".into(),
        note,
        data,
        layout,
        height: 110 + 26 * rows.len(),
    }
}

/// The nodes that ended in one way.
fn markers(
    run: &Run,
    rows: &[(usize, usize)],
    (ending, colour, shape): &(&str, &str, &str),
) -> Option<Value> {
    let own: Vec<(usize, &Node, usize)> = rows
        .iter()
        .enumerate()
        .map(|(row, (at, depth))| (row, &run.nodes[*at], *depth))
        .filter(|(_, node, _)| node.ending == *ending)
        .collect();
    let text = |node: &Node| {
        let object: String = node.object.as_deref().unwrap_or("nothing").chars().take(12).collect();
        let made = node
            .made
            .as_ref()
            .map(|made| format!("<br>made in {:.1} s on {}", made.seconds, label(&made.finished)));
        format!(
            "{} ({}, {ending})<br>{object}{}",
            label(&node.name),
            label(&node.stage),
            made.unwrap_or_default()
        )
    };
    (!own.is_empty()).then(|| {
        json!({
            "type": "scatter", "mode": "markers", "name": ending,
            "x": own.iter().map(|node| node.2).collect::<Vec<_>>(),
            "y": own.iter().map(|node| node.0).collect::<Vec<_>>(),
            "text": own.iter().map(|node| text(node.1)).collect::<Vec<_>>(),
            "hovertemplate": "%{text}<extra></extra>",
            "marker": {"size": 11, "color": colour, "symbol": shape,
                "line": {"width": 1, "color": colour}},
        })
    })
}

/// Seconds of every node: in this run, or, of one that was cached, when it was made.
fn times(run: &Run, rows: &[(usize, usize)]) -> Chart {
    let seconds = |node: &Node| match (&node.made, node.ending.as_str()) {
        (Some(made), "cached") => made.seconds,
        _ => node.seconds,
    };
    let trace = |(ending, colour, _): &(&str, &str, &str)| {
        let own: Vec<&Node> = rows
            .iter()
            .map(|row| &run.nodes[row.0])
            .filter(|node| node.ending == *ending)
            .collect();
        let name = if *ending == "cached" { "cached: when it was made" } else { ending };
        (!own.is_empty()).then(|| {
            json!({"type": "bar", "orientation": "h", "name": name,
                "y": own.iter().map(|node| label(&node.name)).collect::<Vec<_>>(),
                "x": own.iter().map(|node| seconds(node)).collect::<Vec<_>>(),
                "marker": {"color": colour}, "hovertemplate": "%{y}: %{x:.2f} s<extra></extra>"})
        })
    };
    let names: Vec<String> = rows.iter().map(|row| label(&run.nodes[row.0].name)).collect();
    let layout = json!({"barmode": "overlay", "showlegend": true,
        "xaxis": {"title": {"text": "seconds"}},
        "yaxis": {"type": "category", "categoryorder": "array", "categoryarray": names,
            "autorange": "reversed", "automargin": true}});
    let data = ENDINGS.iter().filter_map(trace).collect();
    let note = "Seconds that each node took.".into();
    Chart {
        id: "times".into(),
        title: "Times".into(),
        note,
        data,
        layout,
        height: 110 + 26 * rows.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_stands_below_and_to_the_right_of_all_it_needs() {
        let node = |name: &str, needs: &[&str]| Node {
            name: name.into(),
            needs: needs.iter().map(|need| need.to_string()).collect(),
            ..Node::default()
        };
        let nodes = [
            node("ppo", &["sft", "rm"]),
            node("sft", &["base"]),
            node("base", &["gone"]),
            node("rm", &["sft"]),
        ];
        assert_eq!(rows(&nodes), [(2, 0), (1, 1), (3, 2), (0, 3)]);
    }
}
