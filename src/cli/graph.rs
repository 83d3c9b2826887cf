//! `graph`: the pipeline as a drawing, in the languages of Graphviz and Mermaid.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::common::{Source, print, print_json};
use crate::dag::node::{OwnedReference, references};
use crate::error::Result;
use crate::pipeline::expand::Pipeline;

/// Draw the graph
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    source: Source,
    /// The language of the drawing
    #[arg(long, value_enum, default_value_t = Format::Dot)]
    format: Format,
    /// Draw every node of a sweep, not one box a stage
    #[arg(long)]
    nodes: bool,
    /// Print JSON: every node
    #[arg(long, conflicts_with_all = ["format", "nodes"])]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// Graphviz
    Dot,
    /// Mermaid
    Mermaid,
}

#[derive(Serialize)]
struct Json<'a> {
    pipeline: &'a str,
    /// In the order of the file.
    nodes: Vec<JsonNode<'a>>,
}

#[derive(Serialize)]
struct JsonNode<'a> {
    name: &'a str,
    /// Its stage in the file.
    of: &'a str,
    /// Its stage kind.
    stage: &'a str,
    /// The kind of its artefact.
    output: &'a str,
    /// Its values of the axes that it depends on.
    point: BTreeMap<&'a str, &'a str>,
    /// The nodes that it refers to.
    needs: BTreeSet<String>,
}

impl<'a> Json<'a> {
    fn of(pipeline: &'a Pipeline) -> Result<Self> {
        let mut stages: BTreeMap<&str, &str> = BTreeMap::new();
        for (stage, nodes) in &pipeline.stages {
            stages.extend(nodes.iter().map(|node| (node.as_str(), stage.as_str())));
        }
        let mut nodes = Vec::new();
        for node in &pipeline.graph.nodes {
            let mut needs = BTreeSet::new();
            for (_, reference) in references(&node.config)? {
                if let OwnedReference::Stage(needed) = reference {
                    needs.insert(needed);
                }
            }
            let values = pipeline.points.get(&node.name).into_iter().flatten();
            nodes.push(JsonNode {
                name: &node.name,
                of: stages.get(node.name.as_str()).copied().unwrap_or_default(),
                stage: &node.stage,
                output: &node.output,
                point: values.map(|(axis, value)| (axis.as_str(), value.as_str())).collect(),
                needs,
            });
        }
        Ok(Json { pipeline: &pipeline.name, nodes })
    }
}

struct Drawing {
    /// Name and label.
    boxes: Vec<(String, String)>,
    /// From what is needed to what needs it.
    arrows: BTreeSet<(usize, usize)>,
}

/// Prints the drawing.
pub fn main(arguments: &Arguments) -> Result<()> {
    let pipeline = arguments.source.load()?;
    if arguments.json {
        return print_json(&Json::of(&pipeline)?);
    }
    let drawing = draw(&pipeline, arguments.nodes)?;
    print(&match arguments.format {
        Format::Dot => dot(&drawing),
        Format::Mermaid => mermaid(&drawing),
    })
}

fn draw(pipeline: &Pipeline, each_node: bool) -> Result<Drawing> {
    let mut place: BTreeMap<&str, usize> = BTreeMap::new();
    let mut boxes = Vec::new();
    for (stage, nodes) in &pipeline.stages {
        for name in nodes {
            place.insert(name, boxes.len());
            if each_node {
                boxes.push((name.clone(), name.clone()));
            }
        }
        if !each_node {
            let times = if nodes.len() > 1 { format!(" ×{}", nodes.len()) } else { String::new() };
            boxes.push((stage.clone(), format!("{stage}{times}")));
        }
    }
    let mut arrows = BTreeSet::new();
    for node in &pipeline.graph.nodes {
        for (_, reference) in references(&node.config)? {
            if let OwnedReference::Stage(needed) = reference {
                arrows.insert((place[needed.as_str()], place[node.name.as_str()]));
            }
        }
    }
    Ok(Drawing { boxes, arrows })
}

fn dot(drawing: &Drawing) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut text =
        "digraph pipeline {\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n"
            .to_owned();
    for (name, label) in &drawing.boxes {
        text.push_str(&format!("  {} [label={}];\n", quoted(name), quoted(label)));
    }
    for (from, to) in &drawing.arrows {
        text.push_str(&format!(
            "  {} -> {};\n",
            quoted(&drawing.boxes[*from].0),
            quoted(&drawing.boxes[*to].0)
        ));
    }
    text + "}\n"
}

fn mermaid(drawing: &Drawing) -> String {
    let mut text = "flowchart LR\n".to_owned();
    for (index, (_, label)) in drawing.boxes.iter().enumerate() {
        text.push_str(&format!("  n{index}[\"{}\"]\n", label.replace('"', "#quot;")));
    }
    for (from, to) in &drawing.arrows {
        text.push_str(&format!("  n{from} --> n{to}\n"));
    }
    text
}
