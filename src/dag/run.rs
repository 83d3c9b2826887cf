//! A run: its plan, its record, its nodes. The scheduler decides the order of nodes.

use std::time::Instant;

use crate::error::{Context, Result};
use crate::executor::Executor;
use crate::observer::Observer;
use crate::options::{Gate, Options};
use crate::outcome::{NodeOutcome, Outcome};
use crate::plan::{State, plan};
use crate::pulls::pull_what_is_read;
use crate::record::{Beginning, Ending};
use crate::request::Request;
use crate::scheduler::Scheduler;
use crate::store::Store;

/// Runs what is asked for. An error means that the run itself could not begin or go on; failed
/// nodes are in the outcome.
pub fn run<E: Executor>(
    store: &Store,
    request: Request<'_>,
    options: &Options,
    executor: &E,
    observer: &mut dyn Observer,
    gate: Option<Gate<'_>>,
) -> Result<Outcome> {
    let start = Instant::now();
    let _presence = match store.begin() {
        Ok(presence) => presence,
        Err(error) if crate::fs::is_denied(&error) => {
            return all_there(store, request, observer, start, error);
        }
        Err(error) => return Err(error),
    };
    let plan = match &options.planned {
        Some(plan) => plan.clone(),
        None => plan(store, request)?,
    };
    observer.planned(&plan);
    let names: Vec<String> = request.graph.nodes.iter().map(|node| node.name.clone()).collect();
    let before = store.latest_head(&options.invocation)?;
    let orphans = match before.is_some_and(|record| record.graph != names) {
        true => store.orphans(&options.invocation, &names)?,
        false => Vec::new(),
    };
    let beginning = Beginning {
        invocation: &options.invocation,
        graph: request.graph,
        device: options.devices.first().context("a run has a device")?,
        threads: options.threads,
        build: options.build.as_deref(),
    };
    let journal = store.begin_record(beginning)?;
    let record = Some(journal.folder().to_owned());
    pull_what_is_read(store, request, &plan, &options.stop, observer)?;
    let (nodes, interrupted) =
        Scheduler::new(store, request, options, executor, observer, journal)?
            .behind(gate)
            .run(start)?;
    Ok(Outcome { nodes, seconds: start.elapsed().as_secs_f64(), interrupted, record, orphans })
}

/// A run on a store that may not be written, if all is there already.
///
/// # Errors
/// If it is not: why the store may not be written.
fn all_there(
    store: &Store,
    request: Request<'_>,
    observer: &mut dyn Observer,
    start: Instant,
    why: anyhow::Error,
) -> Result<Outcome> {
    let plan = plan(store, request)?;
    let mut nodes = Vec::new();
    for step in &plan.steps {
        let State::Cached { key, object } = step.state else {
            let missing = plan
                .steps
                .iter()
                .filter(|step| !matches!(step.state, State::Cached { .. }))
                .count();
            return Err(why.context(format!(
                "{missing} nodes are not in the cache, which may not be written"
            )));
        };
        let (name, stage) = (step.name.clone(), step.stage.clone());
        let made = NodeOutcome {
            name,
            stage,
            ending: Ending::Cached,
            key: Some(key),
            object: Some(object),
            failure: None,
            because: None,
            seconds: 0.0,
        };
        nodes.push(made);
    }
    observer.planned(&plan);
    observer
        .warning(None, "the cache may not be written: all is there, but this run is not recorded");
    nodes.iter().for_each(|node| observer.finished(node));
    Ok(Outcome {
        nodes,
        seconds: start.elapsed().as_secs_f64(),
        interrupted: false,
        record: None,
        orphans: Vec::new(),
    })
}
