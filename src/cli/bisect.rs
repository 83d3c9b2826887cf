//! `bisect`: which of the edits between two runs moved a figure. Between the two pipelines are
//! others, with some of the edits: each is run, what is there already is not made again, and its
//! figures are compared with those of its neighbour as `diff` compares runs.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::common::{Cache, DeviceAndDtype, print, print_json, request, tell};
use super::events::Plain;
use super::load_run::load_run;
use super::names;
use super::number_format::{count, figure};
use super::price::{Places, Prices};
use super::tally::Tally;
use crate::dag::node::{Graph, Node};
use crate::dag::options::Options;
use crate::dag::plan::plan;
use crate::dag::process::ProcessExecutor;
use crate::dag::processes::adopt_orphans;
use crate::dag::record::{Invocation, PIPELINE, Record};
use crate::dag::run::run;
use crate::dag::stop::Stop;
use crate::dag::store::Store;
use crate::device::{Classes, Device};
use crate::error::{Context, Result, user};
use crate::eval::interval::Interval;
use crate::eval::seeds::over_seeds;
use crate::pipeline::edits::{Edit, edits, with_edits};
use crate::pipeline::expand::{Pipeline, parse};
use crate::pipeline::overrides::Overrides;
use crate::pipeline::registry::Builtin;
use crate::reference::{Artefact, Evaluation};
use crate::report::diff::{Figure, figures};
use crate::report::run::Run;

/// Find which of the edits between two runs moved a figure, by runs in between
#[derive(Args)]
#[command(after_help = "\
The edits are put in the order of the pipeline and halved: a half in which the figure moves is
halved again, one in which it does not is left. So edits that cancel each other within a half that
does not move are not found; `--each` tries every edit by itself. A figure moves if the interval of
its difference excludes 0: over inputs that both have answered, or over seeds where the evaluation
has several.")]
pub struct Arguments {
    /// The earlier run: its number, its id, a tag
    a: String,
    /// The later run
    b: String,
    /// The metric of an evaluation
    #[arg(long, value_name = "NAME")]
    metric: String,
    /// A method of the evaluation [default: all that move from A to B]
    #[arg(long, value_name = "NAME")]
    method: Option<String>,
    /// A test set [default: all that move from A to B]
    #[arg(long, value_name = "NAME")]
    test_set: Option<String>,
    /// Try every edit by itself, one after the other
    #[arg(long)]
    each: bool,
    /// List the edits, and run nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cache: Cache,
    #[command(flatten)]
    device: DeviceAndDtype,
    #[command(flatten)]
    places: Places,
}

/// What was found.
#[derive(Serialize)]
struct Found {
    /// The id of A.
    a: String,
    /// The id of B.
    b: String,
    metric: String,
    /// Every edit, in the order in which they are made.
    edits: Vec<Edit>,
    /// How many pipelines were run.
    runs: usize,
    /// How the figures move from A to B.
    whole: Vec<Moved>,
    /// How they move with each group of edits, in order.
    steps: Vec<Step>,
}

/// How one figure moves.
#[derive(Clone, Serialize)]
struct Moved {
    /// The stage of the evaluation.
    evaluation: String,
    method: String,
    test_set: String,
    /// The mean before, over seeds.
    a: f64,
    /// The mean after.
    b: f64,
    /// After minus before.
    difference: Interval,
    /// Whether the interval excludes 0.
    moves: bool,
}

/// A group of edits, and what it moves.
#[derive(Serialize)]
struct Step {
    /// The first of the edits, from 0.
    first: usize,
    /// How many.
    count: usize,
    /// How the figures move.
    moved: Vec<Moved>,
    /// Whether any moves.
    moves: bool,
    /// Why the group is not halved, if it moves a figure and has several edits.
    whole: Option<String>,
}

/// Finds, and prints what was found.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let store = arguments.cache.open()?;
    let (a, b) = (names::run(&store, &arguments.a)?, names::run(&store, &arguments.b)?);
    let (earlier, later) = (pipeline_of(&store, &a)?, pipeline_of(&store, &b)?);
    let edits = edits(&earlier.graph, &later.graph);
    if edits.is_empty() {
        return Err(user("nothing differs in the configs of nodes that both runs have")
            .hint("files and artefacts from outside are compared by `posttrain diff`")
            .into());
    }
    if arguments.dry_run {
        let lines = edits.iter().enumerate().map(|(at, edit)| format!("{at}  {edit}\n"));
        print(&lines.collect::<String>())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut bisection = Bisection {
        arguments,
        device: arguments.device.device(&store)?,
        store,
        stop: Stop::on_signals()?,
        earlier,
        later,
        edits: &edits,
        name: format!("{} {}", a.id, b.id),
        known: HashMap::new(),
    };
    adopt_orphans();
    let wanted = bisection.wanted()?;
    let whole = bisection.moved(0, edits.len(), &wanted)?;
    let moving: Vec<Moved> = whole.iter().filter(|it| it.moves).cloned().collect();
    // What does not move as a whole is followed only if it was named.
    let followed = match arguments.method.is_some() && arguments.test_set.is_some() {
        true => whole.clone(),
        false => moving,
    };
    let mut steps = Vec::new();
    if !followed.is_empty() {
        bisection.search(0, edits.len(), &followed, &mut steps)?;
    }
    let runs = bisection.known.len();
    let found =
        Found { a: a.id, b: b.id, metric: arguments.metric.clone(), edits, runs, whole, steps };
    match arguments.json {
        true => print_json(&found)?,
        false => print(&text(&found))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The pipeline of a run as it was, with the options that it was run with.
///
/// # Errors
/// The user's: the record has no copy of it, or a file that it extends has changed since.
fn pipeline_of(store: &Store, record: &Record) -> Result<Pipeline> {
    let folder = store.run_path(&record.id);
    let (copy, own) = (folder.join(PIPELINE), &record.invocation.pipeline);
    let text = crate::fs::read_if_exists(&copy)?;
    let text = text.ok_or_else(|| {
        user(format!("the run {} has no copy of its pipeline", record.id))
            .hint("it was changed while the run began; run it again")
    })?;
    for (at, path) in record.invocation.extended.iter().enumerate() {
        let then = crate::fs::read_if_exists(&folder.join(crate::dag::record::extended(at)))?;
        if crate::fs::read_if_exists(path)? != then {
            let message = format!("{} has changed since the run {}", path.display(), record.id);
            return Err(user(message).hint("bring it back for the time of the search").into());
        }
    }
    let mut overrides = Overrides::default();
    for option in &record.invocation.options {
        match option.split_once(' ') {
            Some(("--profile", name)) => overrides.profiles.push(name.to_owned()),
            Some(("--set", set)) => overrides.sets.push(set.to_owned()),
            _ => {}
        }
    }
    let text = String::from_utf8(text)
        .map_err(|_| user(format!("the pipeline of the run {} is no text", record.id)))?;
    // Relative paths in it start from the folder in which it was.
    let folder = own.parent().unwrap_or(Path::new("/"));
    let loaded = parse(&copy.display().to_string(), text, folder, &overrides, &Builtin);
    loaded.map_err(|failure| failure.into())
}

/// A figure that is followed: the stage of its evaluation, its method and its test set.
type Row = (String, String, String);

/// The search.
struct Bisection<'a> {
    arguments: &'a Arguments,
    device: Device,
    store: Store,
    stop: Stop,
    earlier: Pipeline,
    later: Pipeline,
    edits: &'a [Edit],
    /// The two runs, for the records of the runs in between.
    name: String,
    /// What is known of the pipeline with this number of first edits.
    known: HashMap<usize, Run>,
}

impl Bisection<'_> {
    /// The evaluations of both pipelines.
    fn wanted(&self) -> Result<Vec<String>> {
        let is_evaluation = |node: &&Node| node.output == Evaluation::KIND;
        let later: Vec<&str> = self
            .later
            .graph
            .nodes
            .iter()
            .filter(is_evaluation)
            .map(|it| it.name.as_str())
            .collect();
        let both = self.earlier.graph.nodes.iter().filter(is_evaluation);
        let both: Vec<String> = both
            .filter(|node| later.contains(&node.name.as_str()))
            .map(|node| node.name.clone())
            .collect();
        match both.is_empty() {
            true => Err(user("the two pipelines have no evaluation of one name").into()),
            false => Ok(both),
        }
    }

    /// The graph with this number of first edits.
    fn graph(&self, edits: usize) -> std::result::Result<Graph, String> {
        let own: Vec<&Edit> = self.edits[..edits].iter().collect();
        with_edits(&self.earlier.graph, &self.later.graph, &own, &Builtin)
    }

    /// Runs the pipeline with this number of first edits, unless it was.
    fn run(&mut self, edits: usize, wanted: &[String]) -> Result<()> {
        if self.known.contains_key(&edits) {
            return Ok(());
        }
        let graph = self.graph(edits).map_err(|why| user(format!("with {edits} edits: {why}")))?;
        let pipeline = Pipeline { graph, ..self.later.clone() };
        let of = self.edits.len();
        tell(&format!("with {edits} of {}", count(of, "edit")));
        let classes = Classes::here(Some(self.device.numerics()));
        let wanted = request(&pipeline, wanted, &classes);
        let planned = plan(&self.store, wanted)?;
        let places = self.arguments.places;
        let prices = Prices::of(&self.store, wanted, &planned, &pipeline, places)?;
        let options = Options {
            jobs: places.jobs(),
            threads: places.threads(),
            devices: vec![serde_json::to_value(&self.device)?],
            gpu: self.device.is_gpu(),
            memory: self.device.free_memory()?,
            stop: self.stop.clone(),
            invocation: Invocation {
                options: vec![format!("bisect {} {edits}", self.name)],
                ..Invocation::default()
            },
            ..Options::default()
        };
        let program = std::env::current_exe().context("cannot tell where this program is")?;
        let mut observer = Plain::new(self.arguments.json, Tally::new(prices));
        let executor = ProcessExecutor { program };
        let outcome = run(&self.store, wanted, &options, &executor, &mut observer, None)?;
        if let Some(kind) = outcome.kind() {
            let failed = outcome.nodes.iter().find_map(|node| {
                Some(format!("`{}`: {}", node.name, node.failure.as_ref()?.message))
            });
            let why = failed.unwrap_or_else(|| "it was stopped".into());
            let message = format!("the run with {edits} of {of} edits failed: {why}");
            return Err(crate::error::Failure::new(kind, message)
                .hint("the same command goes on from here")
                .into());
        }
        let folder = outcome.record.context("the run has a record")?;
        let id = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let record = self.store.record(&id)?.context("the record of the run cannot be read")?;
        self.known.insert(edits, load_run(&self.store, &record)?);
        Ok(())
    }

    /// How the figures move from one number of first edits to a larger one.
    fn moved(&mut self, from: usize, to: usize, wanted: &[String]) -> Result<Vec<Moved>> {
        self.run(from, wanted)?;
        self.run(to, wanted)?;
        let found = moved(&self.known[&from], &self.known[&to], self.arguments);
        match found.is_empty() {
            true => Err(user(format!("no evaluation of both has `{}`", self.arguments.metric))
                .hint("`posttrain results` lists metrics, methods and test sets")
                .into()),
            false => Ok(found),
        }
    }

    /// Searches the edits from one to another; `followed` are the figures that matter.
    fn search(
        &mut self,
        from: usize,
        to: usize,
        followed: &[Moved],
        steps: &mut Vec<Step>,
    ) -> Result<()> {
        let wanted = self.wanted()?;
        let rows: Vec<Row> = followed.iter().map(row).collect();
        let mut moved = self.moved(from, to, &wanted)?;
        moved.retain(|it| rows.contains(&row(it)));
        let moves = moved.iter().any(|it| it.moves);
        let count = to - from;
        let mut whole = None;
        if count > 1 && (moves || self.arguments.each) {
            match self.between(from, to) {
                Ok(at) => {
                    self.search(from, at, followed, steps)?;
                    return self.search(at, to, followed, steps);
                }
                Err(why) => whole = Some(why),
            }
        }
        steps.push(Step { first: from, count, moved, moves, whole });
        Ok(())
    }

    /// The place between two at which the pipeline is one, nearest to the middle.
    fn between(&self, from: usize, to: usize) -> std::result::Result<usize, String> {
        let middle = (from + to) / 2;
        let mut places: Vec<usize> = (from + 1..to).collect();
        places.sort_by_key(|at| at.abs_diff(middle));
        let mut why = String::new();
        for at in places {
            match self.graph(at) {
                Ok(_) => return Ok(at),
                Err(refused) if why.is_empty() => why = refused,
                Err(_) => {}
            }
        }
        Err(why)
    }
}

fn row(moved: &Moved) -> Row {
    (moved.evaluation.clone(), moved.method.clone(), moved.test_set.clone())
}

/// How the figures that the arguments name move from one run to another: of evaluations of several
/// points the mean over these, with Student's interval; else the mean over inputs with its own.
fn moved(from: &Run, to: &Run, arguments: &Arguments) -> Vec<Moved> {
    let is_wanted = |figure: &&Figure| {
        let fits =
            |wanted: &Option<String>, own: &str| wanted.as_deref().is_none_or(|it| it == own);
        figure.metric == arguments.metric
            && fits(&arguments.method, &figure.method)
            && fits(&arguments.test_set, &figure.test_set)
    };
    let all = figures(from, to);
    let stage = |node: &str| node.split('[').next().unwrap_or_default().to_owned();
    let mut rows: BTreeMap<Row, Vec<&Figure>> = BTreeMap::new();
    for figure in all.iter().filter(is_wanted) {
        let row = (stage(&figure.evaluation), figure.method.clone(), figure.test_set.clone());
        rows.entry(row).or_default().push(figure);
    }
    let one = |((evaluation, method, test_set), own): (Row, Vec<&Figure>)| {
        let mean = |of: fn(&Figure) -> f64| {
            own.iter().map(|figure| of(figure)).sum::<f64>() / own.len() as f64
        };
        let (a, b) = (mean(|figure| figure.a), mean(|figure| figure.b));
        let differences: Vec<f64> = own.iter().map(|figure| figure.b - figure.a).collect();
        let difference = match (differences.as_slice(), own[0].paired) {
            ([_, _, ..], _) => over_seeds(differences).interval,
            (_, Some(paired)) => paired.interval,
            (_, None) => Interval::none(b - a, 0, crate::eval::interval::Kind::Unsaid),
        };
        let excludes = difference.low > 0.0 || difference.high < 0.0;
        // Seeds that all differ by the same have no interval, and so has a figure without inputs.
        let moves = excludes || (difference.low.is_nan() && a != b);
        Moved { evaluation, method, test_set, a, b, difference, moves }
    };
    rows.into_iter().map(one).collect()
}

fn text(found: &Found) -> String {
    let words = |it: &Moved| {
        let interval = match it.difference.low.is_nan() {
            true => String::new(),
            false => format!(" [{}, {}]", figure(it.difference.low), figure(it.difference.high)),
        };
        format!("{}{interval}", figure(it.difference.mean))
    };
    let mut text = format!(
        "{}: {} from {} to {}, {} run\n",
        found.metric,
        count(found.edits.len(), "edit"),
        found.a,
        found.b,
        count(found.runs, "pipeline")
    );
    for it in &found.whole {
        let note = if it.moves { "" } else { "  does not move" };
        text.push_str(&format!(
            "{}, {}, {}: {} to {}, {}{note}\n",
            it.evaluation,
            it.method,
            it.test_set,
            figure(it.a),
            figure(it.b),
            words(it)
        ));
    }
    for step in &found.steps {
        let edits = &found.edits[step.first..step.first + step.count];
        let what = match (edits, step.moves) {
            ([edit], _) => edit.to_string(),
            (several, true) => {
                let all: Vec<String> = several.iter().map(Edit::to_string).collect();
                let why = step.whole.as_deref().unwrap_or_default();
                format!(
                    "together, since no pipeline has a part of them ({why}): {}",
                    all.join("; ")
                )
            }
            (several, false) => {
                let all: Vec<String> = several.iter().map(Edit::to_string).collect();
                format!("together: {}", all.join("; "))
            }
        };
        text.push_str(&format!("\n{what}\n"));
        for it in &step.moved {
            let note = if it.moves { "" } else { "  does not move" };
            text.push_str(&format!("  {}, {}: {}{note}\n", it.method, it.test_set, words(it)));
        }
    }
    text
}
