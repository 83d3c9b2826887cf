//! One stage, its params replaced, as its kind understands it; and the references between stages:
//! they name a stage, it makes what is wanted, and no stage waits for itself.

use std::collections::HashMap;
use std::path::Path;

use petgraph::graph::{DiGraph, NodeIndex};
use serde::Deserialize;
use serde_json::Value as Json;

use super::decode;
use super::diagnostic::{Mistake, Sources, Span, advice};
use super::registry::Registry;
use super::yaml::{Entry, Node, Value};
use crate::dag::node::{FETCH_TAG, INPUT_TAG, Reporter, Resources, Retry, STAGE_TAG};
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
            !matches!(entry.key.as_str(), "uses" | "resources" | "report_to" | "timeout" | "retry")
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
    let retry = match node.get("retry") {
        None => Ok(Retry::default()),
        Some(node) if node.is_null() => Ok(Retry::default()),
        Some(node) => decode_retry(node, sources),
    };
    match (decoded, resources, report_to, timeout, retry) {
        (Ok(typed), Ok(resources), Ok(report_to), Ok(time), Ok(retry)) => {
            let given = resources.unwrap_or_default();
            let threads = given.threads.or(typed.resources.threads);
            let GivenResources { gpus, memory_mb, .. } = given;
            let resources = Resources { threads, gpus, memory: None, memory_mb, time, retry };
            Ok(Typed { resources, report_to, ..typed })
        }
        (decoded, resources, report_to, timeout, retry) => {
            Err([decoded.err(), resources.err(), report_to.err(), timeout.err(), retry.err()]
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

/// The field `retry` of a stage: a number of times, or this.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenRetry {
    times: u32,
    #[serde(default = "faults")]
    on: Vec<RetryOn>,
    #[serde(default)]
    wait: f64,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RetryOn {
    Environment,
    Timeout,
    Failure,
}

/// What may be another time without a change of the pipeline.
fn faults() -> Vec<RetryOn> {
    vec![RetryOn::Environment, RetryOn::Timeout]
}

/// Tries at most: more are a mistake.
pub(super) const MOST_TRIES: u32 = 100;

fn decode_retry(node: &Node, sources: &Sources) -> Result<Retry, Vec<Mistake>> {
    let given = match node.scalar() {
        Some(_) => GivenRetry { times: decode::decode(node, sources)?, on: faults(), wait: 0.0 },
        None => decode::decode(node, sources)?,
    };
    if given.times > MOST_TRIES {
        let message = format!("expected at most {MOST_TRIES} tries, found `{}`", given.times);
        return Err(vec![node.find("times").mistake(message)]);
    }
    if !(0.0..=LONGEST).contains(&given.wait) {
        let message =
            format!("expected `wait` in seconds, from 0 to {LONGEST}, found `{}`", given.wait);
        return Err(vec![node.find("wait").mistake(message)]);
    }
    let on = |fault| given.on.contains(&fault);
    Ok(Retry {
        times: given.times,
        on_environment: on(RetryOn::Environment),
        on_timeout: on(RetryOn::Timeout),
        on_failure: on(RetryOn::Failure),
        wait: given.wait,
    })
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
    memory_mb: Option<u64>,
}

fn decode_resources(node: &Node, sources: &Sources) -> Result<GivenResources, Vec<Mistake>> {
    let resources: GivenResources = decode::decode(node, sources)?;
    if resources.threads == Some(0) {
        return Err(vec![node.find("threads").mistake("expected at least 1 thread, found `0`")]);
    }
    if resources.memory_mb == Some(0) {
        let place = node.find("memory_mb");
        return Err(vec![place.mistake("expected at least 1 megabyte, found `0`")]);
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
            kind: KindInfo {
                on_device: stage.computes_on_device(),
                output: stage.output(),
                ..S::INFO
            },
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

/// The stages of a file, each as often as it was decoded.
pub struct Stages<'a> {
    /// In the order of the file.
    entries: &'a [Entry],
    /// Index of a stage by name.
    index: HashMap<&'a str, usize>,
    /// For each stage, what it was decoded to: nothing for a stage with mistakes.
    decoded: Vec<Vec<Typed>>,
}

impl<'a> Stages<'a> {
    /// The stages of a file, none decoded.
    pub fn new(entries: &'a [Entry]) -> Self {
        let index =
            entries.iter().enumerate().map(|(at, stage)| (stage.key.as_str(), at)).collect();
        let mut decoded = Vec::new();
        decoded.resize_with(entries.len(), Vec::new);
        Stages { entries, index, decoded }
    }

    /// Adds a stage, by index, as it was decoded. Returns how often it was decoded before.
    pub fn add(&mut self, stage: usize, typed: Typed) -> usize {
        self.decoded[stage].push(typed);
        self.decoded[stage].len() - 1
    }

    /// What a stage, by index, was decoded to.
    pub fn decoded(&self, stage: usize) -> &[Typed] {
        &self.decoded[stage]
    }

    /// The index of the stage of this name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// What a reference's name refers to.
    pub fn target<'n>(&self, name: &'n str) -> Target<'n> {
        Target::of(name, |name| self.index.contains_key(name))
    }

    /// All references.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.decoded.iter().flatten().flat_map(|typed| &typed.references)
    }

    /// The stage that a reference means, by index.
    fn referred(&self, reference: &Reference) -> Option<usize> {
        self.position(self.target(&reference.name).stage())
    }

    /// The kind of artefact that a stage makes: of a stage that passes on what it is given, that of
    /// its first reference; [`Any`] where that is not known.
    pub fn output_of(&self, typed: &Typed) -> &'static str {
        let mut typed = typed;
        // A chain that is longer than the file has stages is a circle, which `order` finds.
        for _ in 0..=self.entries.len() {
            let first = match typed.references.first() {
                Some(first) if typed.kind.output == Any::KIND => first,
                _ => break,
            };
            match self.referred(first).and_then(|stage| self.decoded[stage].first()) {
                Some(next) => typed = next,
                None => break,
            }
        }
        typed.kind.output
    }

    /// References of a stage that passes on one of them, to artefacts of several kinds.
    fn mixed_kinds(&self, typed: &Typed) -> Option<Mistake> {
        let kinds = typed.references.iter().filter_map(|reference| {
            let stage = self.referred(reference)?;
            let other = self.decoded[stage].first()?;
            Some((reference, &self.entries[stage].key, self.output_of(other)))
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

    /// References to stages that do not exist or that make something else. A stage with mistakes
    /// was not decoded, and nothing is said of it.
    pub fn check_references(&self) -> Vec<Mistake> {
        let all = || self.decoded.iter().flatten();
        let passing = all().filter(|typed| typed.kind.output == Any::KIND);
        let mut mistakes: Vec<Mistake> =
            passing.filter_map(|typed| self.mixed_kinds(typed)).collect();
        mistakes.extend(self.references().filter_map(|reference| self.misfit(reference)));
        mistakes
    }

    /// What is wrong with a reference.
    fn misfit(&self, reference: &Reference) -> Option<Mistake> {
        let name = self.target(&reference.name).stage();
        let node = Node {
            span: reference.span,
            used_at: reference.used_at,
            value: Value::Sequence(Vec::new()),
        };
        let names = || self.entries.iter().map(|stage| stage.key.as_str());
        let Some(index) = self.position(name) else {
            let help = advice(name, names(), "stages");
            return Some(node.mistake(format!("there is no stage `{name}`")).help(help));
        };
        let wrong = |typed: &&Typed| {
            let made = self.output_of(typed);
            reference.kind != Any::KIND && made != Any::KIND && made != reference.kind
        };
        let typed = self.decoded[index].iter().find(wrong)?;
        let fits = |typed: &Typed| self.output_of(typed) == reference.kind;
        let stages = names().zip(&self.decoded);
        let fitting: Vec<&str> =
            stages.filter(|(_, decoded)| decoded.iter().any(fits)).map(|(name, _)| name).collect();
        let message = format!(
            "expected a stage that makes a `{}`, but `{name}` makes a `{}`",
            reference.kind,
            self.output_of(typed)
        );
        let help = match fitting.is_empty() {
            true => format!("no stage of this pipeline makes a `{}`", reference.kind),
            false => format!("stages that make a `{}`: {}", reference.kind, fitting.join(", ")),
        };
        let mistake = node
            .mistake(message)
            .note(typed.kind_span, format!("`{name}` is made here, by `{}`", typed.kind.name));
        Some(mistake.help(help))
    }

    /// The stages in an order in which each comes after what it refers to, by index; or the circle
    /// that makes this impossible.
    pub fn order(&self) -> Result<Vec<usize>, Mistake> {
        let mut graph: DiGraph<(), &Reference> = DiGraph::new();
        for _ in self.entries {
            graph.add_node(());
        }
        for (from, decoded) in self.decoded.iter().enumerate() {
            for reference in decoded.iter().flat_map(|typed| &typed.references) {
                if let Some(to) = self.referred(reference) {
                    graph.add_edge(NodeIndex::new(from), NodeIndex::new(to), reference);
                }
            }
        }
        // Components come with what they refer to first.
        let components = petgraph::algo::tarjan_scc(&graph);
        for component in &components {
            let start = *component.iter().min().expect("a component has a member");
            if component.len() > 1 || graph.contains_edge(start, start) {
                return Err(circle(self.entries, &graph, component, start));
            }
        }
        Ok(components.into_iter().flatten().map(NodeIndex::index).collect())
    }
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
