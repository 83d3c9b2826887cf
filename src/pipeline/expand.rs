//! Stages to nodes: every stage at every matrix point that it depends on, decoded by its kind,
//! references resolved.
//!
//! 1. A stage depends on the axes whose params it uses, and on those that the stages it refers to
//!    depend on. It becomes one node for each combination of these, not more: what two points share
//!    is one node.
//! 2. A reference means the node of that stage at the same point. `{all: stage}`, in a list, means
//!    every node of that stage that agrees with the axes that the referring stage has otherwise;
//!    `{all: stage, over: axis}` adds the other axes of that stage to these. In a field of an item
//!    of a list it repeats the item, once for each value of the axis ([`rewrite`]).
//! 3. A stage may also name one node: `ppo[kl=0.1]`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use super::cache_section::{self, CacheSection};
use super::defaults::Defaults;
use super::diagnostic::{self, Mistake, Source, Sources, Span};
use super::document::{self, Document};
use super::extends;
use super::held_out;
use super::matrix::{self, Matrix, Point};
use super::overrides::{self, Overrides};
use super::params;
use super::registry::Registry;
use super::rewrite::{self, Resolve};
use super::typed::{self, Stages, Target, Typed};
use super::yaml::{self, Entry};
use crate::dag::node::{Graph, Node};
use crate::error::{Context, Failure, Result, user};

/// A pipeline, expanded.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// Its name: what it says itself, else the file's.
    pub name: String,
    /// What it says about itself.
    pub description: Option<String>,
    /// The remote cache that it names.
    pub cache: CacheSection,
    /// Its nodes in the order of the file.
    pub graph: Graph,
    /// For each stage, in the order of the file, the names of its nodes.
    pub stages: Vec<(String, Vec<String>)>,
    /// The names of all nodes.
    pub names: HashSet<String>,
    /// Of each node that depends on axes, these and its values, as its name has them.
    pub points: BTreeMap<String, Values>,
}

/// Names of axes and the values of a node, as in its name.
pub type Values = Vec<(String, String)>;

/// Reads a pipeline file and expands it.
pub fn load(path: &Path, overrides: &Overrides, registry: &impl Registry) -> Result<Pipeline> {
    let Some(bytes) = crate::fs::read_if_exists(path)? else {
        return Err(user(format!("there is no file {}", path.display()))
            .hint("give the path of a pipeline")
            .into());
    };
    let text = String::from_utf8(bytes)
        .map_err(|_| user(format!("{} is not a text in UTF-8", path.display())))?;
    let absolute = std::path::absolute(path)
        .with_context(|| format!("cannot tell the folder of {}", path.display()))?;
    let folder = absolute.parent().unwrap_or(Path::new("/"));
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut pipeline = parse(&path.display().to_string(), text, folder, overrides, registry)?;
    if pipeline.name.is_empty() {
        pipeline.name = stem;
    }
    Ok(pipeline)
}

/// Expands the text of a pipeline; `name` is what errors call it, relative paths start from
/// `folder`.
pub fn parse(
    name: &str,
    text: String,
    folder: &Path,
    overrides: &Overrides,
    registry: &impl Registry,
) -> Result<Pipeline, Failure> {
    let mut sources = Sources::default();
    let text = text.strip_prefix('\u{feff}').map_or(text.clone(), str::to_owned);
    let last_line = text.lines().count().max(1);
    let source =
        sources.add(Source { name: name.to_owned(), text, folder: folder.to_owned(), lines: true });
    let end = Span { source, line: last_line, column: 1, width: 1 };
    expand(source, end, overrides, &mut sources, registry)
        .map_err(|mistakes| diagnostic::failure(mistakes, &sources))
}

fn expand(
    source: usize,
    end: Span,
    overrides: &Overrides,
    sources: &mut Sources,
    registry: &impl Registry,
) -> Result<Pipeline, Vec<Mistake>> {
    let root = extends::merged(yaml::parse(sources, source)?, source, sources)?;
    let mut document = document::read(root, end)?;
    let mut mistakes = unused_params(&document);
    let cache = cache_section::read(document.cache.as_ref(), sources);
    let cache = cache.unwrap_or_else(|found| {
        mistakes.extend(found);
        CacheSection::default()
    });
    mistakes.extend(matrix::check(&document));
    mistakes.extend(overrides::apply(&mut document, overrides, sources));
    let (matrix, is_empty) =
        match Matrix::of(&document).and_then(|matrix| Ok((matrix.is_empty()?, matrix))) {
            Ok((is_empty, matrix)) => (matrix, is_empty),
            Err(mistake) => {
                mistakes.push(mistake);
                return Err(mistakes);
            }
        };
    if is_empty {
        let span = document.matrix.axes.first().map_or(end, |axis| axis.span);
        mistakes.push(
            Mistake::new(span, "every point of the matrix is excluded")
                .help("remove an item of `exclude`"),
        );
    }
    let axes = document.stages.iter().map(|stage| own_axes(&document, stage)).collect();
    let mut expander = Expander {
        document: &document,
        matrix,
        axes,
        stages: Stages::new(&document.stages),
        choices: vec![HashMap::new(); document.stages.len()],
    };
    if let Err(more) = expander.decode(sources, registry) {
        mistakes.extend(more);
    }
    mistakes.extend(expander.stages.check_references());
    mistakes.extend(unknown_axes(&document, &expander.stages));
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let order = expander.stages.order().map_err(|mistake| vec![mistake])?;
    let Expanded { graph, stages, points } = expander.nodes(&order, registry)?;
    let relatives = |error| vec![Mistake::new(end, format!("{error:#}"))];
    let place = |node: &String| {
        let stage = stages.iter().find(|(_, nodes)| nodes.contains(node)).map(|(stage, _)| stage);
        stage.and_then(|stage| document.stage(stage)).map_or(end, |stage| stage.key_span)
    };
    let leaked = held_out::leaks(&graph, registry).map_err(relatives)?.into_iter().map(|leak| {
        let held_out::Leak { node, field, held_out, known_to } = leak;
        Mistake::new(
            place(&node),
            format!(
                "`{field}` of `{node}`: `{known_to}` was made with the help of `{held_out}`, which \
                 is to judge it"
            ),
        )
        .help("take one that was trained on other data and had no part in it")
    });
    let violations = held_out::violations(&graph, registry).map_err(relatives)?.into_iter();
    let violations = violations.map(|held_out::Violation { node, message, hint }| {
        Mistake::new(place(&node), message).help(hint)
    });
    let mistakes: Vec<Mistake> = leaked.chain(violations).collect();
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    Ok(Pipeline {
        name: document.name.clone().unwrap_or_default(),
        description: document.description.clone(),
        cache,
        names: graph.nodes.iter().map(|node| node.name.clone()).collect(),
        graph,
        stages,
        points,
    })
}

fn unused_params(document: &Document) -> Vec<Mistake> {
    let mut names = BTreeSet::new();
    document.stages.iter().for_each(|stage| params::used(&stage.value, &mut names));
    let used = params::closure(document, names);
    let unused = document.params.iter().filter(|param| !used.contains(&param.name));
    let mistake = |param: &document::Param| {
        let mistake =
            Mistake::new(param.key_span, format!("no stage uses the param `{}`", param.name));
        mistake.help(format!("write ${{{}}} where it belongs, or remove it", param.name))
    };
    unused.map(mistake).collect()
}

/// What is under `over` and is no param: a param that is no axis has one value.
fn unknown_axes(document: &Document, stages: &Stages<'_>) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    for reference in stages.references() {
        if let Target::All(_, over) = stages.target(&reference.name) {
            let unknown = over.into_iter().filter(|axis| document.param(axis).is_none());
            mistakes.extend(unknown.map(|axis| document.unknown_param(axis, reference.span)));
        }
    }
    mistakes
}

struct Expander<'a> {
    document: &'a Document,
    matrix: Matrix<'a>,
    /// For each stage, the axes whose params it uses itself.
    axes: Vec<BTreeSet<usize>>,
    /// Stages as decoded at every combination of those axes.
    stages: Stages<'a>,
    /// For each stage, values of its axes to an index into what it was decoded to.
    choices: Vec<HashMap<Vec<usize>, usize>>,
}

/// The nodes of a pipeline, as [`Pipeline`] has them.
struct Expanded {
    graph: Graph,
    stages: Vec<(String, Vec<String>)>,
    points: BTreeMap<String, Values>,
}

/// The nodes of a stage: which one it is at each point over the axes that this depends on.
#[derive(Default)]
struct Placed {
    /// Those axes: its own and, of what it refers to, theirs.
    scope: BTreeSet<usize>,
    points: Vec<Point>,
    /// Values of `scope` to the index of the point.
    index: HashMap<Vec<usize>, usize>,
    /// For each point, the axes that the node depends on, and its name.
    nodes: Vec<(BTreeSet<usize>, String)>,
}

impl Placed {
    fn over(scope: BTreeSet<usize>, points: Vec<Point>) -> Self {
        let index =
            points.iter().enumerate().map(|(at, point)| (projected(point, &scope), at)).collect();
        Placed { scope, points, index, nodes: Vec::new() }
    }

    /// The node at a point over these axes or more.
    fn at(&self, point: &Point) -> &(BTreeSet<usize>, String) {
        &self.nodes[self.index[&projected(point, &self.scope)]]
    }
}

/// The values that a point has on these axes.
fn projected(point: &Point, axes: &BTreeSet<usize>) -> Vec<usize> {
    axes.iter().map(|axis| point[*axis]).collect()
}

impl Expander<'_> {
    fn decode(&mut self, sources: &Sources, registry: &impl Registry) -> Result<(), Vec<Mistake>> {
        let document = self.document;
        let mut mistakes = Vec::new();
        for (index, stage) in document.stages.iter().enumerate() {
            let points = match self.points(index, &self.matrix.tied(&self.axes[index])) {
                Ok(points) => points,
                Err(mistake) => {
                    mistakes.push(mistake);
                    continue;
                }
            };
            let mut seen = HashSet::new();
            for point in points {
                let own = projected(&point, &self.axes[index]);
                if !seen.insert(own.clone()) {
                    continue;
                }
                let values: BTreeMap<&str, &yaml::Node> = document
                    .matrix
                    .axes
                    .iter()
                    .zip(&point)
                    .map(|(axis, value)| (axis.name.as_str(), axis.value(*value)))
                    .collect();
                let environment = params::environment(document, &values)?;
                let replaced = params::substitute(&stage.value, &environment, document);
                match replaced.and_then(|node| typed::decode(stage, &node, sources, registry)) {
                    Ok(typed) => {
                        let at = self.stages.add(index, typed);
                        self.choices[index].insert(own, at);
                    }
                    Err(more) => mistakes.extend(more),
                }
            }
        }
        if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
    }

    /// The points of a stage over these axes.
    fn points(&self, stage: usize, axes: &BTreeSet<usize>) -> Result<Vec<Point>, Mistake> {
        let stage = &self.document.stages[stage];
        self.matrix.points(axes, (&format!("the stage `{}`", stage.key), stage.key_span))
    }

    /// The nodes, and the names of those of each stage. All stages have been decoded; `order` has
    /// each after what it refers to.
    fn nodes(&self, order: &[usize], registry: &impl Registry) -> Result<Expanded, Vec<Mistake>> {
        let stages = &self.document.stages;
        let mut placed: Vec<Placed> = Vec::new();
        placed.resize_with(stages.len(), Placed::default);
        for index in order {
            placed[*index] = self.place(*index, &placed).map_err(|mistake| vec![mistake])?;
        }
        let (mut graph, mut names, mut mistakes) =
            (Graph::default(), Vec::new(), self.mixtures(&placed));
        let mut values = BTreeMap::new();
        let mut defaults = Defaults::default();
        for (index, stage) in stages.iter().enumerate() {
            let (mut seen, mut own) = (HashSet::new(), Vec::new());
            let Placed { points, nodes, .. } = &placed[index];
            for (point, (axes, name)) in points.iter().zip(nodes) {
                if !seen.insert(name.as_str()) {
                    continue;
                }
                let typed = self.typed(index, point);
                let here = Here { expander: self, stage: index, point, axes, placed: &placed };
                let resolved = rewrite::rewrite(&typed.config, &here).and_then(|config| {
                    let defaults = defaults.of(typed.kind.name, &config, registry);
                    let mistake = |message| Mistake::new(typed.kind_span, message);
                    let defaults = defaults.map_err(mistake)?;
                    if rewrite::repeats(&typed.config) {
                        typed::check(typed.kind.name, &config, registry).map_err(mistake)?
                    }
                    Ok((defaults, config))
                });
                match resolved {
                    Ok((defaults, config)) => graph.nodes.push(Node {
                        name: name.clone(),
                        stage: typed.kind.name.to_owned(),
                        version: typed.kind.version,
                        output: self.stages.output_of(typed).to_owned(),
                        config,
                        neutral: typed.kind.byte_neutral,
                        defaults,
                        on_device: typed.kind.on_device,
                        resources: typed.resources,
                        report_to: typed.report_to.clone(),
                    }),
                    Err(mistake) => mistakes.push(mistake),
                }
                if !axes.is_empty() {
                    values.insert(name.clone(), self.values(axes, point));
                }
                own.push(name.clone());
            }
            names.push((stage.key.clone(), own));
        }
        match mistakes.is_empty() {
            true => Ok(Expanded { graph, stages: names, points: values }),
            false => Err(mistakes),
        }
    }

    /// Which node a stage is at each of its points, where those of what it refers to are placed.
    fn place(&self, stage: usize, placed: &[Placed]) -> Result<Placed, Mistake> {
        let mut scope = self.axes[stage].clone();
        for typed in self.stages.decoded(stage) {
            for reference in &typed.references {
                match self.stages.target(&reference.name) {
                    Target::All(_, over) if over.is_empty() => {}
                    Target::Node(..) => {}
                    target => scope.extend(&placed[self.stage(target.stage())].scope),
                }
            }
        }
        let scope = self.matrix.tied(&scope);
        let points = self.points(stage, &scope)?;
        let mut own = Placed::over(scope, points);
        for point in &own.points {
            let mut axes = self.axes[stage].clone();
            for reference in &self.typed(stage, point).references {
                let target = self.stages.target(&reference.name);
                match &target {
                    Target::Same(_) => {
                        axes.extend(&placed[self.stage(target.stage())].at(point).0);
                    }
                    Target::All(_, over) if !over.is_empty() => {
                        let others = &placed[self.stage(target.stage())].at(point).0;
                        axes.extend(others.iter().filter(|axis| {
                            !over.contains(&self.document.matrix.axes[**axis].name.as_str())
                        }));
                    }
                    Target::All(..) | Target::Node(..) => {}
                }
            }
            let name = self.name(&self.document.stages[stage].key, &axes, point);
            own.nodes.push((axes, name));
        }
        Ok(own)
    }

    /// References to repetitions of one thing that would mix it with others: to every point of a
    /// stage that differ along more than one axis.
    fn mixtures(&self, placed: &[Placed]) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        for (index, stage) in self
            .document
            .stages
            .iter()
            .enumerate()
            .filter(|(index, _)| self.typed(*index, &placed[*index].points[0]).kind.repetitions)
        {
            let own = &placed[index].nodes[0].0;
            for reference in &self.typed(index, &placed[index].points[0]).references {
                let Target::All(name, over) = self.stages.target(&reference.name) else { continue };
                let axes = placed[self.stage(name)].nodes[0]
                    .0
                    .difference(own)
                    .map(|axis| self.document.matrix.axes[*axis].name.as_str());
                let axes: Vec<&str> = axes.collect();
                if axes.len() < 2 || !over.is_empty() {
                    continue;
                }
                let seed = axes.iter().find(|axis| **axis == "seed").unwrap_or(&axes[0]);
                let message = format!(
                    "`{}` would take points of `{name}` for repetitions that differ in {}",
                    stage.key,
                    axes.join(" and ")
                );
                let help = format!(
                    "{{all: {name}, over: {seed}}} means those that differ in `{seed}` alone, \
                     once for each value of the others"
                );
                mistakes.push(Mistake::new(reference.span, message).help(help));
            }
        }
        mistakes
    }

    fn typed(&self, stage: usize, point: &Point) -> &Typed {
        let own = projected(point, &self.axes[stage]);
        &self.stages.decoded(stage)[self.choices[stage][&own]]
    }

    fn stage(&self, name: &str) -> usize {
        self.stages.position(name).expect("references were checked")
    }

    fn values(&self, axes: &BTreeSet<usize>, point: &Point) -> Values {
        let value = |axis: &usize| {
            let own = &self.document.matrix.axes[*axis];
            (own.name.clone(), matrix::label(own.value(point[*axis])))
        };
        axes.iter().map(value).collect()
    }

    fn name(&self, stage: &str, axes: &BTreeSet<usize>, point: &Point) -> String {
        let values = self.values(axes, point);
        let values: Vec<String> =
            values.into_iter().map(|(axis, value)| format!("{axis}={value}")).collect();
        match values.is_empty() {
            true => stage.to_owned(),
            false => format!("{stage}[{}]", values.join(",")),
        }
    }
}

/// A node of the stage `stage` at a point; it depends on `axes`.
struct Here<'a> {
    expander: &'a Expander<'a>,
    stage: usize,
    point: &'a Point,
    axes: &'a BTreeSet<usize>,
    placed: &'a [Placed],
}

impl Here<'_> {
    /// The nodes of a stage, each once, that agree with this one in the axes that it depends on,
    /// and a point of each.
    fn agreeing<'a>(&self, there: &'a Placed) -> Vec<(&'a Point, &'a (BTreeSet<usize>, String))> {
        let shared: Vec<usize> = self.axes.intersection(&there.scope).copied().collect();
        let agrees = |other: &Point| shared.iter().all(|axis| other[*axis] == self.point[*axis]);
        let found = there.points.iter().zip(&there.nodes).filter(|(other, _)| agrees(other));
        let mut seen = HashSet::new();
        found.filter(|(_, (_, name))| seen.insert(name.as_str())).collect()
    }

    /// A mistake where a reference of this node is written.
    fn mistake(&self, reference: &str, message: String) -> Mistake {
        let Here { expander, stage, point, .. } = self;
        let references = &expander.typed(*stage, point).references;
        let written = references.iter().find(|found| found.name == reference);
        let otherwise = expander.document.stages[*stage].key_span;
        Mistake::new(written.map_or(otherwise, |found| found.span), message)
    }
}

impl Resolve for Here<'_> {
    fn nodes(&self, reference: &str) -> Result<Vec<String>, Mistake> {
        let target = self.expander.stages.target(reference);
        let there = &self.placed[self.expander.stage(target.stage())];
        match target {
            Target::Same(_) => Ok(vec![there.at(self.point).1.clone()]),
            Target::All(..) => {
                Ok(self.agreeing(there).into_iter().map(|(_, (_, name))| name.clone()).collect())
            }
            Target::Node(name, _) if there.nodes.iter().any(|(_, node)| node == name) => {
                Ok(vec![name.to_owned()])
            }
            Target::Node(name, _) => {
                let mut known: Vec<&str> = Vec::new();
                for (_, name) in &there.nodes {
                    if !known.contains(&name.as_str()) {
                        known.push(name);
                    }
                }
                let message = format!("there is no node `{name}`");
                let mistake = self.mistake(reference, message);
                Err(mistake.help(format!("nodes: {}", known.join(", "))))
            }
        }
    }

    fn along(&self, reference: &str) -> Result<Option<Vec<(String, String)>>, Mistake> {
        let Target::All(stage, over) = self.expander.stages.target(reference) else {
            return Ok(None);
        };
        let there = &self.placed[self.expander.stage(stage)];
        let axis = |name: &&str| {
            self.expander.document.matrix.axes.iter().position(|axis| axis.name == *name)
        };
        let along: BTreeSet<usize> = over.iter().filter_map(axis).collect();
        let mut found = Vec::new();
        for (point, (axes, node)) in self.agreeing(there) {
            if !along.is_subset(axes) {
                let message = format!("`{stage}` does not differ in {}", over.join(", "));
                let help = "name an axis of the matrix that the stage depends on, or the stage \
                            without `all`";
                return Err(self.mistake(reference, message).help(help));
            }
            // A param that is no axis has one value, which no name tells.
            found.push((self.expander.name("", &along, point), node.clone()));
        }
        Ok(Some(found))
    }

    fn mistake(&self, reference: &str, message: String) -> Mistake {
        Here::mistake(self, reference, message)
    }
}

/// The axes whose params a stage uses itself, by index.
fn own_axes(document: &Document, stage: &Entry) -> BTreeSet<usize> {
    let mut names = BTreeSet::new();
    params::used(&stage.value, &mut names);
    let names = params::closure(document, names);
    (0..document.matrix.axes.len())
        .filter(|axis| names.contains(&document.matrix.axes[*axis].name))
        .collect()
}
