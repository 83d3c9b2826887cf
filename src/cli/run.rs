//! `run`: makes what is not there yet.

use std::collections::{HashMap, HashSet};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::budget::{stop_after, time};
use super::common::{
    Cache, DeviceAndDtype, NumericsOption, Source, Targets, print, request, tell, terminal_width,
};
use super::confirm::confirm;
use super::events::{self, Event, JsonLines, Plain};
use super::executor::{self, ExecutorOption, Target};
use super::fetch::{Manner, fetch};
use super::fired;
use super::load_run;
use super::number_format::{count, duration, size};
use super::page::page;
use super::plan::{check, refuse_taints};
use super::price::{Places, Prices};
use super::remote::RemoteOptions;
use super::sequential::{Look, Sweep};
use super::tally::Tally;
use super::terminal::TerminalLines;
use crate::artefacts::names::METRICS;
use crate::artefacts::table::TABLE;
use crate::dag::cluster::ClusterExecutor;
use crate::dag::digest::ObjectId;
use crate::dag::events::Events;
use crate::dag::inputs::snapshot;
use crate::dag::node::{Node, Reporter};
use crate::dag::observer::Observer;
use crate::dag::options::{Gate, Options};
use crate::dag::outcome::Outcome;
use crate::dag::plan::{Plan, State, plan};
use crate::dag::process::ProcessExecutor;
use crate::dag::processes::adopt_orphans;
use crate::dag::record::Ending;
use crate::dag::run::run;
use crate::dag::stop::Stop;
use crate::dag::store::Store;
use crate::device::Device;
use crate::error::{Context, Result, kind_of, user};
use crate::pipeline::expand::Pipeline;
use crate::pipeline::lengths;
use crate::pipeline::memory::{HINT, all_shapes, estimate, shapes};
use crate::pipeline::registry::Builtin;
use crate::reference::{Artefact, Evaluation};
use crate::report::run::Run as Known;
use crate::report::sentinels;
use crate::report::summary::summary;
use crate::report::text::text;
use crate::rl::sentinels::watch::Fired;

/// Run a pipeline: what is there already is not made again
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    targets: Targets,
    #[command(flatten)]
    cache: Cache,
    #[command(flatten)]
    device: DeviceAndDtype,
    #[command(flatten)]
    numerics: NumericsOption,
    #[command(flatten)]
    executor: ExecutorOption,
    #[command(flatten)]
    places: Places,
    #[command(flatten)]
    remote: RemoteOptions,
    /// Add the seeds of a sweep one at a time, until the comparisons that an `over_seeds` has under
    /// `sequential` are decided
    #[arg(long, conflicts_with = "canary")]
    sequential: bool,
    /// Time after which the run stops as by Ctrl-C, to go on by the same command (`30m`, `2h`,
    /// `90s`; a number is minutes); with `--sequential`, node time after which no seed is added
    #[arg(long, value_name = "TIME", value_parser = time)]
    budget: Option<f64>,
    /// After a failure, go on with what does not depend on it
    #[arg(long)]
    keep_going: bool,
    /// Make one point of the sweep first, and the others only if it succeeds
    #[arg(long)]
    canary: bool,
    /// Show the plan and ask before it is carried out; a plan that has changed meanwhile is not
    #[arg(long, conflicts_with_all = ["canary", "sequential"])]
    confirm: bool,
    /// Print only warnings, failures and the result table
    #[arg(long)]
    quiet: bool,
    /// What to print while it runs
    #[arg(long, value_enum, default_value_t = Log::Text)]
    log: Log,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Log {
    /// Lines for people
    Text,
    /// One JSON object a line, the last of them the outcome
    Json,
}

/// Runs, and gives the exit code.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let result = match arguments.sequential {
        true => sequential(arguments),
        false => whole(arguments),
    };
    match (&result, arguments.log) {
        (Err(error), Log::Json) => {
            Event::Error { exit_code: kind_of(error).exit_code(), message: format!("{error:#}") }
                .say();
            Event::Finished {
                ok: false,
                ran: 0,
                cached: 0,
                failed: 0,
                skipped: 0,
                seconds: 0.0,
                table: None,
                report: None,
            }
            .say();
        }
        (Ok((store, pipeline, outcome)), Log::Json) => {
            let table =
                tables(store, pipeline, outcome).pop().map(|(_, folder)| folder.join(TABLE));
            let event = Event::Finished {
                ok: outcome.kind().is_none(),
                ran: outcome.count(Ending::Ran),
                cached: outcome.count(Ending::Cached),
                failed: outcome.count(Ending::Failed),
                skipped: outcome.count(Ending::Skipped) + outcome.count(Ending::Interrupted),
                seconds: outcome.seconds,
                table,
                report: page(store, outcome).map(|page| page.path),
            };
            event.say();
        }
        (Ok((store, pipeline, outcome)), Log::Text) => {
            conclude(arguments, store, pipeline, outcome)?
        }
        (Err(_), Log::Text) => {}
    }
    if let Ok((store, pipeline, outcome)) = &result {
        write_events(store, pipeline, outcome);
        link_by_name(store, pipeline, outcome);
    }
    let (_, _, outcome) = result?;
    Ok(ExitCode::from(outcome.kind().map_or(0, |kind| kind.exit_code())))
}

/// Runs once, after the canary if there is one, and gives the last run.
fn whole(arguments: &Arguments) -> Result<(Store, Pipeline, Outcome)> {
    let (source, mut stop) = (&arguments.source, None);
    if arguments.canary {
        let targets = arguments.targets.canary(&source.load()?)?;
        if arguments.log == Log::Text && !arguments.quiet {
            tell(&format!("canary: {}", targets.join(", ")));
        }
        let canary = attempt(arguments, source, Some(&targets), &mut stop)?;
        if canary.2.kind().is_some() {
            return Ok(canary);
        }
    }
    attempt(arguments, source, None, &mut stop)
}

/// Runs with more and more seeds, and gives the last run.
fn sequential(arguments: &Arguments) -> Result<(Store, Pipeline, Outcome)> {
    let pipeline = arguments.source.load()?;
    let sweep = Sweep::of(&pipeline, &arguments.targets.of(&pipeline)?)?;
    let budget = arguments.budget;
    let (mut stop, mut before) = (None, None::<Look>);
    for seeds in sweep.looks() {
        let source = sweep.first(&arguments.source, seeds);
        let (store, pipeline, outcome) = attempt(arguments, &source, None, &mut stop)?;
        if outcome.kind().is_some() {
            return Ok((store, pipeline, outcome));
        }
        let look = sweep.look(&store, &outcome, seeds, before.as_ref())?;
        // The next seed costs as much as the last one.
        let spent = look.spent + look.last.unwrap_or(0.0);
        let is_dear = budget.is_some_and(|budget| spent > budget) && !look.open.is_empty();
        tell_look(arguments, &look, is_dear);
        if look.open.is_empty() || is_dear || look.seeds == look.of {
            return Ok((store, pipeline, outcome));
        }
        before = Some(look);
    }
    Err(user("the sweep has no seeds").into())
}

/// What a look has shown.
fn tell_look(arguments: &Arguments, look: &Look, is_dear: bool) {
    if arguments.log == Log::Json {
        return Event::Look {
            seeds: look.seeds,
            of: look.of,
            decided: look.decided,
            open: &look.open,
            needed: look.needed,
            seconds: look.spent,
        }
        .say();
    }
    if !arguments.quiet {
        eprintln!("{}", look.words());
    }
    if is_dear {
        eprintln!("the budget does not allow another seed; a larger --budget goes on from here");
    }
}

/// Runs once; `targets` are the names of nodes, if not those of the arguments.
fn attempt(
    arguments: &Arguments,
    source: &Source,
    targets: Option<&[String]>,
    signals: &mut Option<Stop>,
) -> Result<(Store, Pipeline, Outcome)> {
    let queue = arguments.executor.queue()?;
    let mut pipeline = source.load()?;
    let targets = match targets {
        Some(targets) => targets.to_vec(),
        None => arguments.targets.of(&pipeline)?,
    };
    let manner = match arguments.log {
        Log::Json => Manner::Json,
        Log::Text if arguments.quiet => Manner::Quiet,
        Log::Text => Manner::Text,
    };
    // A signal ends it as it ends any program: what has come is kept, and nothing else has begun.
    fetch(&mut pipeline, &targets, manner)?;
    let stop = match signals {
        Some(stop) => stop.clone(),
        None => {
            let stop = signals.insert(Stop::on_signals()?).clone();
            if let Some(seconds) = arguments.budget.filter(|_| !arguments.sequential) {
                stop_after(seconds, &stop, arguments.log == Log::Text)?;
            }
            stop
        }
    };
    adopt_orphans();
    let store = arguments.remote.attach(arguments.cache.open()?, &pipeline.cache)?;
    let Target { device, classes } =
        executor::target(&arguments.numerics, &arguments.device, queue.as_ref(), &store)?;
    let planned = plan(&store, request(&pipeline, &targets, &classes))?;
    refuse_taints(&pipeline, &planned)?;
    let (memory, free) = match &queue {
        Some(_) => (HashMap::new(), None),
        None => refuse_what_does_not_fit(&planned, &pipeline, &device)?,
    };
    for node in &mut pipeline.graph.nodes {
        node.resources.memory = memory.get(&node.name).copied();
        if let Some(queue) = &queue {
            executor::ask(node, queue, arguments.places, device.is_gpu())?;
        }
    }
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let mut options = Options {
        jobs: arguments.places.jobs(),
        threads: arguments.places.threads(),
        devices: vec![serde_json::to_value(&device)?],
        gpu: device.is_gpu(),
        memory: free,
        queued: false,
        keep_going: arguments.keep_going,
        stop,
        invocation: source.invocation()?,
        build: Some(snapshot(&store, &program)?.content.to_string()),
        planned: None,
    };
    if let Some(queue) = &queue {
        executor::in_queue(&mut options, queue, arguments.places);
    }
    let wanted = request(&pipeline, &targets, &classes);
    let places = match &queue {
        Some(queue) => arguments.places.in_queue(queue),
        None => arguments.places,
    };
    let prices = Prices::of(&store, wanted, &planned, &pipeline, places)?;
    if arguments.confirm {
        let memory = estimate(&pipeline.graph, &Builtin, &device)?;
        confirm(&store, wanted, &planned, &memory, &prices, &source.invocation()?)?;
    }
    options.planned = Some(planned);
    let tally = Tally::new(prices);
    let mut observer: Box<dyn Observer> = match arguments.log {
        Log::Json => Box::new(JsonLines),
        Log::Text if !arguments.quiet && std::io::stderr().is_terminal() => {
            Box::new(TerminalLines::new(tally))
        }
        Log::Text => Box::new(Plain::new(arguments.quiet, tally)),
    };
    let stop = options.stop.clone();
    let check = |nodes: &[&Node], made: &HashMap<&str, ObjectId>| {
        let shapes = all_shapes(shapes(&device)?, &pipeline.graph, &Builtin);
        let folder = |name: &str| made.get(name).map(|object| store.object_path(*object));
        lengths::check(nodes, &Builtin, &shapes, &folder, &|| stop.requested())
    };
    let gate = Gate { first: lengths::is_first, check: &check };
    let (observer, gate) = (&mut *observer, Some(gate));
    let outcome = match queue {
        None => run(&store, wanted, &options, &ProcessExecutor { program }, observer, gate)?,
        Some(queue) => {
            let executor = ClusterExecutor::new(queue, program);
            run(&store, wanted, &options, &executor, observer, gate)?
        }
    };
    Ok((store, pipeline, outcome))
}

/// Refuses a run that does not fit the memory, before anything runs. Returns the estimated bytes of
/// each node whose models are known, and the bytes that are free.
fn refuse_what_does_not_fit(
    planned: &Plan,
    pipeline: &Pipeline,
    device: &Device,
) -> Result<(HashMap<String, u64>, Option<u64>)> {
    let free = device.free_memory()?;
    if planned.steps.iter().all(|step| matches!(step.state, State::Cached { .. })) {
        return Ok((HashMap::new(), free));
    }
    let memory = estimate(&pipeline.graph, &Builtin, device)?;
    if memory.iter().any(|(name, memory)| memory.check(name, free, HINT).is_err()) {
        check(planned, &memory, free)?;
    }
    let bytes = memory.into_iter().map(|(name, memory)| (name, memory.bytes()));
    Ok((bytes.collect(), free))
}

/// The evaluations that were made or found, and their folders.
fn tables(store: &Store, pipeline: &Pipeline, outcome: &Outcome) -> Vec<(String, PathBuf)> {
    let evaluations: HashSet<&str> = pipeline
        .graph
        .nodes
        .iter()
        .filter(|node| node.output == Evaluation::KIND)
        .map(|node| node.name.as_str())
        .collect();
    let made = outcome.nodes.iter().filter(|node| evaluations.contains(node.name.as_str()));
    let folders =
        made.filter_map(|node| Some((node.name.clone(), store.object_path(node.object?))));
    folders.filter(|(_, folder)| folder.join(TABLE).exists()).collect()
}

/// Says which results the user has accepted without their being made.
fn tell_accepted(store: &Store, outcome: &Outcome) -> Result<()> {
    let accepted = store.accepted()?;
    let by_key: HashMap<_, _> = accepted.iter().map(|entry| (Some(entry.key), entry)).collect();
    for node in &outcome.nodes {
        let entry = by_key.get(&node.key).and_then(|entry| entry.accepted.as_ref());
        if let Some(accepted) = entry {
            let why = load_run::acceptance(accepted);
            eprintln!("{} is an accepted result: {why}", node.name);
        }
    }
    Ok(())
}

/// Event files of nodes that were cached: who trains writes its own, but what was made before
/// `report_to` was asked for has none.
fn write_events(store: &Store, pipeline: &Pipeline, outcome: &Outcome) {
    let asked: HashSet<&str> = pipeline
        .graph
        .nodes
        .iter()
        .filter(|node| node.report_to.contains(&Reporter::Tensorboard))
        .map(|node| node.name.as_str())
        .collect();
    let cached = outcome.nodes.iter().filter(|node| node.ending == Ending::Cached);
    for node in cached.filter(|node| asked.contains(node.name.as_str())) {
        let Some((key, object)) = node.key.zip(node.object) else { continue };
        let (folder, metrics) =
            (store.events_path(&node.name, key), store.object_path(object).join(METRICS));
        let written = || {
            if folder.exists() {
                Ok(())
            } else {
                Events::copy(&folder, &crate::fs::read_to_string(&metrics)?)
            }
        };
        if let Err(error) = written() {
            eprintln!(
                "{}",
                events::warning(
                    Some(&node.name),
                    &format!("its figures go to no event file: {error:#}")
                )
            );
        }
    }
}

/// Makes the links to what a run has made or found. A run is no worse for the lack of them.
fn link_by_name(store: &Store, pipeline: &Pipeline, outcome: &Outcome) {
    if outcome.record.is_none() {
        return;
    }
    let made = outcome.nodes.iter().filter_map(|node| Some((node.name.as_str(), node.object?)));
    if let Err(error) = store.link_by_name(&pipeline.name, made) {
        let message = format!("the links by name were not made: {error:#}");
        eprintln!("{}", events::warning(None, &message));
    }
}

/// The sentinels that fire on what nodes have recorded, each with its node; from the report, where
/// there is one.
fn fired_in(
    store: &Store,
    pipeline: &Pipeline,
    outcome: &Outcome,
    known: Option<&Known>,
) -> Result<Vec<(String, Fired)>> {
    if let Some(run) = known {
        return Ok(sentinels::fired(run));
    }
    let of_graph: HashMap<&str, &Node> =
        pipeline.graph.nodes.iter().map(|node| (node.name.as_str(), node)).collect();
    let mut all = Vec::new();
    for node in &outcome.nodes {
        let own = of_graph.get(node.name.as_str());
        let Some((own, object)) = own.zip(node.object) else { continue };
        let settings = fired::settings(Some(&own.config))?;
        let found = fired::verdict(store, &node.stage, object, &settings)?;
        let own = found.into_iter().flat_map(|found| found.fired);
        all.extend(own.map(|fired| (node.name.clone(), fired)));
    }
    Ok(all)
}

/// Lines of an evaluation's figures that a terminal shows after a run, about.
const FIGURE_LINES: usize = 40;

/// The first paragraphs of `text` that `most` lines have room for, at least one, and the lines that
/// are left out.
fn beginning(text: &str, most: usize) -> (String, usize) {
    let paragraphs: Vec<&str> = text.split("\n\n").collect();
    let lines = |paragraph: &&str| paragraph.lines().count();
    let (mut shown, mut height) = (0, 0);
    for paragraph in &paragraphs {
        height += lines(paragraph) + 1;
        if shown > 0 && height > most {
            break;
        }
        shown += 1;
    }
    (paragraphs[..shown].join("\n\n"), paragraphs[shown..].iter().map(lines).sum())
}

/// Prints what came of a run: failures in full, counts, orphans, tables.
fn conclude(
    arguments: &Arguments,
    store: &Store,
    pipeline: &Pipeline,
    outcome: &Outcome,
) -> Result<()> {
    for node in outcome.nodes.iter().filter(|node| node.ending == Ending::Failed) {
        let log = node.failure.as_ref().and_then(|failure| failure.log.as_ref());
        eprintln!(
            "{} failed{}",
            node.name,
            log.map(|log| format!("; its log: {}", log.display())).unwrap_or_default()
        );
    }
    if !arguments.quiet {
        let words = [
            ("ran", Ending::Ran),
            ("cached", Ending::Cached),
            ("failed", Ending::Failed),
            ("stopped", Ending::Interrupted),
            ("skipped", Ending::Skipped),
        ];
        let counts = words.map(|(word, ending)| (word, outcome.count(ending)));
        let counts =
            counts.iter().enumerate().filter(|(index, (_, count))| *index < 2 || *count > 0);
        let counts: Vec<String> =
            counts.map(|(_, (word, count))| format!("{count} {word}")).collect();
        eprintln!(
            "{} in {}: {}",
            count(outcome.nodes.len(), "node"),
            duration(outcome.seconds),
            counts.join(", ")
        );
        if outcome.interrupted {
            eprintln!("stopped on request; the same command goes on from here");
        }
        for orphan in &outcome.orphans {
            eprintln!(
                "{} is no longer in the pipeline; `posttrain gc` would free its {}",
                orphan.name,
                size(orphan.bytes)
            );
        }
    }
    let page = page(store, outcome);
    let known = page.as_ref().and_then(|page| page.known.as_ref());
    tell_accepted(store, outcome)?;
    let fired = fired_in(store, pipeline, outcome, known)?;
    let tables = tables(store, pipeline, outcome);
    let mut evaluations = Vec::new();
    for (name, folder) in &tables {
        let mut known = known.iter().flat_map(|known| &known.evaluations);
        match known.find(|evaluation| evaluation.node == *name) {
            Some(evaluation) => evaluations.push(evaluation.clone()),
            None => evaluations.extend(load_run::evaluation(name, folder)?),
        }
    }
    // Where there are figures over seeds, those of single seeds are left to the report.
    let all = evaluations.len();
    if evaluations.iter().any(|evaluation| !evaluation.seeds.is_empty()) {
        evaluations.retain(|evaluation| !evaluation.seeds.is_empty());
    }
    let left = all - evaluations.len();
    let width = terminal_width();
    let rest = tables.last().map(|(_, folder)| format!("figures: {}", folder.display()));
    let report = page.as_ref().map(|page| format!("report: {}", page.path.display()));
    let watched =
        (!fired.is_empty()).then(|| format!("sentinels: {} fired, listed at the end", fired.len()));
    let rest: Vec<String> = watched.into_iter().chain(rest).chain(report.clone()).collect();
    let found = summary(&evaluations, &rest, width);
    match &report {
        _ if !found.is_empty() => print(&format!("\n{found}"))?,
        Some(report) if !arguments.quiet => eprintln!("{report}"),
        _ => {}
    }
    for evaluation in &evaluations {
        let many = evaluations.len() > 1;
        let heading = if many { format!("{}\n", evaluation.node) } else { String::new() };
        let figures = text(evaluation, width);
        let (shown, left) = match std::io::stdout().is_terminal() {
            true => beginning(figures.trim_end(), FIGURE_LINES),
            false => (figures.trim_end().to_owned(), 0),
        };
        print(&format!("\n{heading}{shown}\n"))?;
        if left > 0 {
            print(&format!(
                "\nand {left} more lines of figures: posttrain show {} '{}', with the same options\n",
                arguments.source.pipeline.display(),
                evaluation.node
            ))?;
        }
    }
    if left > 0 {
        let what = count(left, "evaluation");
        print(&format!(
            "\n{what} of single seeds: by `posttrain show`, and `posttrain report --evaluations`\n"
        ))?;
    }
    if !fired.is_empty() {
        print(&format!("\nSentinels that fired\n{}", sentinels::lines(&fired, width)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_shows_whole_paragraphs_and_counts_the_lines_that_are_left() {
        let text = "a\nb\n\nc\n\nd\ne\nf";
        assert_eq!(beginning(text, 1), ("a\nb".to_owned(), 4));
        assert_eq!(beginning(text, 5), ("a\nb\n\nc".to_owned(), 3));
        assert_eq!(beginning(text, 9), (text.to_owned(), 0));
    }
}
