//! One stage, its params replaced, as its kind understands it; and the references between stages:
//! they name a stage, it makes what is wanted, and no stage waits for itself.

use std::path::Path;

use petgraph::graph::{DiGraph, NodeIndex};
use serde::Deserialize;
use serde_json::Value as Json;

use super::decode;
use super::diagnostic::{Mistake, Sources, Span, advice};
use super::registry::Registry;
use super::yaml::{Entry, Node, Value};
use crate::dag::node::{FETCH_TAG, INPUT_TAG, Reporter, Resources, STAGE_TAG};
use crate::reference::{Any, Artefact, of_every_point};
use crate::stages::{KindInfo, Problem, Stage, Visitor};

/// A decoded stage.
#[derive(Clone, Debug)]
pub struct Typed {
    /// The stage kind.
    pub kind: KindInfo,
    /// Where the kind is named.
    pub kind_span: Span,
    /// Its config: references name stages of the file, or nodes.
    pub config: Json,
    /// What it needs while it runs.
    pub resources: Resources,
    /// Where its figures go as well.
    pub report_to: Vec<Reporter>,
    /// The references in its config.
    pub references: Vec<Reference>,
}

/// A reference in a config.
#[derive(Clone, Debug)]
pub struct Reference {
    /// What it names: a stage, every point of a stage (see [`crate::reference::every_point`]), or a
    /// node.
    pub name: String,
    /// The kind of artefact that is wanted.
    pub kind: String,
    /// Where it is written.
    pub span: Span,
    /// Where the param is used that it is written in.
    pub used_at: Option<Span>,
}

/// What a reference's name refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// The node of a stage at the same point.
    Same(&'a str),
    /// All nodes of a stage, or those that differ along these axes alone.
    All(&'a str, Vec<&'a str>),
    /// The one node of this name, and the stage that it would be of.
    Node(&'a str, &'a str),
}

impl<'a> Target<'a> {
    /// Reads a reference's name; `is_stage` tells the stages of the file, whose names may
    /// themselves end in a point.
    pub fn of(name: &'a str, is_stage: impl Fn(&str) -> bool) -> Self {
        match (of_every_point(name), name.split_once('[')) {
            (Some((stage, over)), _) => Target::All(stage, over),
            (None, Some((stage, _))) if !is_stage(name) => Target::Node(name, stage),
            _ => Target::Same(name),
        }
    }

    /// The stage meant.
    pub fn stage(&self) -> &'a str {
        match self {
            Target::Same(stage) | Target::All(stage, _) | Target::Node(_, stage) => stage,
        }
    }
}

/// Decodes the stage `stage`, whose text with params replaced is `node`.
pub fn decode(
    stage: &Entry,
    node: &Node,
    sources: &Sources,
    registry: &impl Registry,
) -> Result<Typed, Vec<Mistake>> {
    let Value::Mapping(entries) = &node.value else {
        unreachable!("stages were checked to be mappings")
    };
    let kinds = registry.names();
    let list = || kinds.iter().copied();
    let Some(uses) = node.get("uses") else {
        let mistake = Mistake::new(
            stage.key_span,
            format!("the stage `{}` does not say what it is", stage.key),
        );
        return Err(vec![
            mistake.help(format!("add `uses: <kind>`; stage kinds: {}", kinds.join(", "))),
        ]);
    };
    let Some(kind) = uses.scalar().filter(|scalar| !scalar.is_null()) else {
        return Err(vec![
            uses.mistake(format!("expected the name of a stage kind, found {}", uses.describe())),
        ]);
    };
    let rest = entries
        .iter()
        .filter(|entry| {
            !matches!(entry.key.as_str(), "uses" | "resources" | "report_to" | "timeout")
        })
        .cloned()
        .collect();
    let rest = Node { span: stage.key_span, used_at: None, value: Value::Mapping(rest) };
    let visitor = Decode { node: &rest, kind_span: uses.span, sources };
    let decoded = registry.visit(&kind.text, visitor).unwrap_or_else(|| {
        Err(vec![uses.mistake(format!("there is no stage kind `{}`", kind.text)).help(advice(
            &kind.text,
            list(),
            "stage kinds",
        ))])
    });
    let resources = match node.get("resources") {
        None => Ok(None),
        Some(node) if node.is_null() => Ok(None),
        Some(node) => decode_resources(node, sources).map(Some),
    };
    let report_to = match node.get("report_to") {
        None => Ok(Vec::new()),
        Some(node) if node.is_null() => Ok(Vec::new()),
        Some(node) => decode_reporters(node, decoded.as_ref().ok(), sources),
    };
    let timeout = match node.get("timeout") {
        None => Ok(None),
        Some(node) if node.is_null() => Ok(None),
        Some(node) => decode_timeout(node, sources).map(Some),
    };
    match (decoded, resources, report_to, timeout) {
        (Ok(typed), Ok(resources), Ok(report_to), Ok(timeout)) => {
            let given = resources.unwrap_or_default();
            let threads = given.threads.or(typed.resources.threads);
            let resources = Resources { threads, gpus: given.gpus, memory: None, time: timeout };
            Ok(Typed { resources, report_to, ..typed })
        }
        (decoded, resources, report_to, timeout) => {
            Err([decoded.err(), resources.err(), report_to.err(), timeout.err()]
                .into_iter()
                .flatten()
                .flatten()
                .collect())
        }
    }
}

/// Seconds at most: ten years.
pub(super) const LONGEST: f64 = 315_360_000.0;

fn decode_timeout(node: &Node, sources: &Sources) -> Result<f64, Vec<Mistake>> {
    let seconds: f64 = decode::decode(node, sources)?;
    match seconds > 0.0 && seconds <= LONGEST {
        true => Ok(seconds),
        false => Err(vec![node.mistake(format!(
            "expected `timeout` in seconds, above 0 and at most {LONGEST}, found `{seconds}`"
        ))]),
    }
}

fn decode_reporters(
    node: &Node,
    typed: Option<&Typed>,
    sources: &Sources,
) -> Result<Vec<Reporter>, Vec<Mistake>> {
    let reporters: Vec<Reporter> = decode::decode(node, sources)?;
    match typed {
        Some(typed) if !typed.kind.trains && !reporters.is_empty() => {
            let mistake = node.mistake(format!(
                "`report_to`: a stage of the kind `{}` takes no steps to report",
                typed.kind.name
            ));
            Err(vec![mistake.help("give it to a stage that trains")])
        }
        _ => Ok(reporters),
    }
}

/// The field `resources` of a stage.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenResources {
    threads: Option<usize>,
    gpus: Option<usize>,
}

fn decode_resources(node: &Node, sources: &Sources) -> Result<GivenResources, Vec<Mistake>> {
    let resources: GivenResources = decode::decode(node, sources)?;
    if resources.threads == Some(0) {
        return Err(vec![node.find("threads").mistake("expected at least 1 thread, found `0`")]);
    }
    match resources.gpus {
        Some(gpus @ 2..) => {
            let mistake = node
                .find("gpus")
                .mistake(format!("a run computes on one GPU: expected 1 or 0, found `{gpus}`"));
            Err(vec![
                mistake.help("write 1 for a stage that has it alone, 0 for one that shares it"),
            ])
        }
        _ => Ok(resources),
    }
}

struct Decode<'a> {
    node: &'a Node,
    kind_span: Span,
    sources: &'a Sources,
}

impl Visitor for Decode<'_> {
    type Output = Result<Typed, Vec<Mistake>>;

    fn visit<S: Stage>(self) -> Self::Output {
        let stage: S = decode::decode(self.node, self.sources)?;
        let problems = stage.problems();
        if !problems.is_empty() {
            let mistake = |problem: Problem| {
                self.node
                    .find(&problem.field)
                    .mistake(format!("`{}`: {}", problem.field, problem.message))
            };
            return Err(problems.into_iter().map(mistake).collect());
        }
        let config =
            serde_json::to_value(&stage).expect("a config is plain data with text for keys");
        let mut walk = Walk { references: Vec::new(), mistakes: Vec::new() };
        walk.value(&config, self.node);
        if !walk.mistakes.is_empty() {
            return Err(walk.mistakes);
        }
        Ok(Typed {
            kind: KindInfo { on_device: stage.computes_on_device(), ..S::INFO },
            kind_span: self.kind_span,
            config,
            resources: Resources { threads: S::INFO.threads, ..Resources::default() },
            report_to: Vec::new(),
            references: walk.references,
        })
    }
}

/// Checks the config of a node whose items were repeated, as its stage was checked before.
///
/// # Errors
/// What is out of range, by field.
pub fn check(kind: &str, config: &Json, registry: &impl Registry) -> Result<(), String> {
    let visited = registry.visit(kind, Problems(config));
    let problems = visited.unwrap_or_else(|| Err(format!("there is no stage kind `{kind}`")))?;
    let message = |problem: &Problem| format!("`{}`: {}", problem.field, problem.message);
    match problems.is_empty() {
        true => Ok(()),
        false => Err(problems.iter().map(message).collect::<Vec<_>>().join("; ")),
    }
}

struct Problems<'a>(&'a Json);

impl Visitor for Problems<'_> {
    type Output = Result<Vec<Problem>, String>;

    fn visit<S: Stage>(self) -> Self::Output {
        S::deserialize(self.0).map(|stage| stage.problems()).map_err(|error| error.to_string())
    }
}

/// Goes through a config and the text that it came from side by side.
struct Walk {
    references: Vec<Reference>,
    mistakes: Vec<Mistake>,
}

impl Walk {
    /// `node` is where the value was written, or, if it was not, the nearest thing around it that
    /// was.
    fn value(&mut self, value: &Json, node: &Node) {
        match value {
            Json::Object(fields) => match (fields.get(STAGE_TAG), fields.get(INPUT_TAG)) {
                (Some(name), _) => {
                    let text = |value: Option<&Json>| {
                        value.and_then(Json::as_str).unwrap_or_default().to_owned()
                    };
                    let place = node.get("all").unwrap_or(node);
                    let (name, kind) = (text(Some(name)), text(fields.get("kind")));
                    self.references.push(Reference {
                        name,
                        kind,
                        span: place.span,
                        used_at: place.used_at,
                    });
                }
                (None, Some(path)) => {
                    let path = path.as_str().unwrap_or_default();
                    if let Err(error) = std::fs::metadata(Path::new(path)) {
                        let why = if error.kind() == std::io::ErrorKind::NotFound {
                            String::new()
                        } else {
                            format!(" ({error})")
                        };
                        self.mistakes
                            .push(node.mistake(format!("there is no file or folder {path}{why}")));
                    }
                }
                // A name in a hub: only the hub knows whether it exists.
                (None, None) if fields.contains_key(FETCH_TAG) && node.scalar().is_some() => {}
                (None, None) => fields.iter().for_each(|(key, value)| self.field(key, value, node)),
            },
            Json::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.value(item, node.find(&index.to_string()));
                }
            }
            _ => {}
        }
    }

    fn field(&mut self, key: &str, value: &Json, node: &Node) {
        let inner = node.get(key).unwrap_or(node);
        if key.starts_with('$') {
            self.mistakes.push(
                inner
                    .mistake(format!("the key `{key}` starts with `$`"))
                    .help("such keys are reserved; rename it"),
            );
        }
        self.value(value, inner);
    }
}

/// The kind of artefact that a stage makes: of a stage that passes on what it is given, that of its
/// first reference; [`Any`] where that is not known.
pub fn output_of(stages: &[Entry], decoded: &[(usize, Typed)], typed: &Typed) -> &'static str {
    let is_stage = |name: &str| stages.iter().any(|stage| stage.key == name);
    let mut typed = typed;
    // A chain that is longer than the file has stages is a circle, which `order` finds.
    for _ in 0..=stages.len() {
        let first = match typed.references.first() {
            Some(first) if typed.kind.output == Any::KIND => first,
            _ => break,
        };
        let name = Target::of(&first.name, is_stage).stage();
        match decoded.iter().find(|(stage, _)| stages[*stage].key == name) {
            Some((_, next)) => typed = next,
            None => break,
        }
    }
    typed.kind.output
}

/// References of a stage that passes on one of them, to artefacts of several kinds.
fn mixed_kinds(stages: &[Entry], decoded: &[(usize, Typed)], typed: &Typed) -> Option<Mistake> {
    let is_stage = |name: &str| stages.iter().any(|stage| stage.key == name);
    let kinds = typed.references.iter().filter_map(|reference| {
        let name = Target::of(&reference.name, is_stage).stage();
        let (_, other) = decoded.iter().find(|(stage, _)| stages[*stage].key == name)?;
        Some((reference, name, output_of(stages, decoded, other)))
    });
    let kinds: Vec<_> = kinds.filter(|(.., kind)| *kind != Any::KIND).collect();
    let (_, first, kind) = kinds.first()?;
    let (reference, name, other) = kinds.iter().find(|(_, _, other)| other != kind)?;
    let message = format!(
        "expected stages that make one kind of artefact, but `{first}` makes a `{kind}` and \
         `{name}` a `{other}`"
    );
    Some(Mistake::new(reference.span, message).help("name stages of one kind"))
}

/// References to stages that do not exist or that make something else. `decoded` holds each stage
/// of the file (by index) as often as it was decoded; a stage with mistakes is not in
/// it.
pub fn check_references(stages: &[Entry], decoded: &[(usize, Typed)]) -> Vec<Mistake> {
    let passing = decoded.iter().filter(|(_, typed)| typed.kind.output == Any::KIND);
    let mut mistakes: Vec<Mistake> =
        passing.filter_map(|(_, typed)| mixed_kinds(stages, decoded, typed)).collect();
    let is_stage = |name: &str| stages.iter().any(|stage| stage.key == name);
    for reference in decoded.iter().flat_map(|(_, typed)| &typed.references) {
        let name = Target::of(&reference.name, is_stage).stage();
        let node = Node {
            span: reference.span,
            used_at: reference.used_at,
            value: Value::Sequence(Vec::new()),
        };
        let Some(index) = stages.iter().position(|stage| stage.key == name) else {
            let help = advice(name, stages.iter().map(|stage| stage.key.as_str()), "stages");
            mistakes.push(node.mistake(format!("there is no stage `{name}`")).help(help));
            continue;
        };
        let output = |typed: &Typed| output_of(stages, decoded, typed);
        let misfit = |typed: &&Typed| {
            let made = output(typed);
            reference.kind != Any::KIND && made != Any::KIND && made != reference.kind
        };
        let Some(typed) = decoded
            .iter()
            .filter(|(stage, _)| *stage == index)
            .map(|(_, typed)| typed)
            .find(misfit)
        else {
            continue;
        };
        let fits = |(stage, typed): &(usize, Typed)| {
            (output(typed) == reference.kind).then_some(stages[*stage].key.as_str())
        };
        let mut fitting: Vec<&str> = decoded.iter().filter_map(fits).collect();
        fitting.dedup();
        let message = format!(
            "expected a stage that makes a `{}`, but `{name}` makes a `{}`",
            reference.kind,
            output(typed)
        );
        let help = match fitting.is_empty() {
            true => format!("no stage of this pipeline makes a `{}`", reference.kind),
            false => format!("stages that make a `{}`: {}", reference.kind, fitting.join(", ")),
        };
        mistakes.push(
            node.mistake(message)
                .note(typed.kind_span, format!("`{name}` is made here, by `{}`", typed.kind.name))
                .help(help),
        );
    }
    mistakes
}

/// The stages in an order in which each comes after what it refers to, by index; or the circle that
/// makes this impossible.
pub fn order(stages: &[Entry], decoded: &[(usize, Typed)]) -> Result<Vec<usize>, Mistake> {
    let is_stage = |name: &str| stages.iter().any(|stage| stage.key == name);
    let mut graph: DiGraph<(), &Reference> = DiGraph::new();
    for _ in stages {
        graph.add_node(());
    }
    for (from, typed) in decoded {
        for reference in &typed.references {
            let name = Target::of(&reference.name, is_stage).stage();
            if let Some(to) = stages.iter().position(|stage| stage.key == name) {
                graph.add_edge(NodeIndex::new(*from), NodeIndex::new(to), reference);
            }
        }
    }
    // Components come with what they refer to first.
    let components = petgraph::algo::tarjan_scc(&graph);
    for component in &components {
        let start = *component.iter().min().expect("a component has a member");
        if component.len() > 1 || graph.contains_edge(start, start) {
            return Err(circle(stages, &graph, component, start));
        }
    }
    Ok(components.into_iter().flatten().map(NodeIndex::index).collect())
}

fn circle(
    stages: &[Entry],
    graph: &DiGraph<(), &Reference>,
    component: &[NodeIndex],
    start: NodeIndex,
) -> Mistake {
    let mut path = vec![start];
    let end = loop {
        let last = *path.last().expect("it starts with one");
        let next = graph
            .neighbors(last)
            .filter(|next| component.contains(next))
            .min()
            .expect("every member has a neighbour in it");
        if let Some(at) = path.iter().position(|seen| *seen == next) {
            path.drain(..at);
            break next;
        }
        path.push(next);
    };
    path.push(end);
    let names: Vec<&str> = path.iter().map(|node| stages[node.index()].key.as_str()).collect();
    let reference = |from: NodeIndex, to: NodeIndex| {
        let edge = graph.find_edge(from, to).expect("the path follows edges");
        graph[edge]
    };
    let mistake = Mistake::new(
        reference(path[0], path[1]).span,
        format!("stages in a circle: {}", names.join(" -> ")),
    );
    let notes = path
        .windows(2)
        .skip(1)
        .map(|pair| (reference(pair[0], pair[1]).span, stages[pair[0].index()].key.as_str()));
    notes.fold(mistake, |mistake, (span, name)| {
        mistake.note(span, format!("`{name}` refers to the next here"))
    })
}
