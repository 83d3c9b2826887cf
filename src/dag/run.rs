//! A run: its options, its observer, its outcome. The scheduler decides the order of nodes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::Value;

use crate::context::Report;
use crate::error::{Kind, Result};
use crate::executor::Executor;
use crate::key::{ActionKey, ObjectId};
use crate::node::Node;
use crate::plan::{Plan, Request, State, plan};
use crate::record::{Beginning, Ending, Invocation, NodeRecord, Orphan};
use crate::scheduler::Scheduler;
use crate::stop::Stop;
use crate::store::Store;

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Nodes at once; at least 1.
    pub jobs: usize,
    /// Threads that all nodes together may use; at least 1.
    pub threads: usize,
    /// What nodes compute on, in the words of the stages: handed on as it is.
    pub device: Value,
    /// Whether that is a GPU: then one node computes on it at a time, unless the pipeline says
    /// otherwise.
    pub gpu: bool,
    /// After a failure, go on with what does not depend on it.
    pub keep_going: bool,
    /// Asked once: nodes are asked to stop and given time. Asked twice: they are killed.
    pub stop: Stop,
    /// What was asked for, for the record.
    pub invocation: Invocation,
}

impl Default for Options {
    /// One node at a time, on one thread.
    fn default() -> Self {
        Options {
            jobs: 1,
            threads: 1,
            device: Value::Null,
            gpu: false,
            keep_going: false,
            stop: Stop::new(),
            invocation: Invocation::default(),
        }
    }
}

/// A check of the whole run, between the nodes that are made first and all others.
pub struct Gate<'a> {
    /// Whether a node is made first, if all that it needs is.
    pub first: fn(&Node) -> bool,
    /// Called at most once, before another node starts, with the nodes that are not made yet and
    /// the objects of those that are. An error ends the run.
    pub check: &'a Check<'a>,
}

/// The check of a [`Gate`].
pub type Check<'a> = dyn Fn(&[&Node], &HashMap<&str, ObjectId>) -> Result<()> + 'a;

/// Receives what happens, on the caller's thread. Every method does nothing by default.
pub trait Observer {
    /// Before anything starts; reasons are not filled in.
    fn planned(&mut self, plan: &Plan) {
        let _ = plan;
    }
    /// The node starts to run; `resumed` if an earlier attempt left checkpoints.
    fn started(&mut self, node: &str, resumed: bool) {
        let _ = (node, resumed);
    }
    /// Another run is making this node; this one waits for it.
    fn waiting(&mut self, node: &str) {
        let _ = node;
    }
    /// Progress of a running node ([`Report::Progress`]).
    fn progress(&mut self, node: &str, report: &Report) {
        let _ = (node, report);
    }
    /// Something the user should know, of a node or of the whole.
    fn warning(&mut self, node: Option<&str>, message: &str) {
        let _ = (node, message);
    }
    /// The node has ended.
    fn finished(&mut self, node: &NodeOutcome) {
        let _ = node;
    }
}

/// Why a node failed.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeFailure {
    /// Whose fault it is, as the stage saw it.
    pub kind: Kind,
    /// The whole chain of the error.
    pub message: String,
    /// The node's log, if there is one.
    pub log: Option<PathBuf>,
}

/// How a node ended.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeOutcome {
    /// The node's name.
    pub name: String,
    /// Its stage kind.
    pub stage: String,
    /// How it ended.
    pub ending: Ending,
    /// Its key, if it is known.
    pub key: Option<ActionKey>,
    /// What it made.
    pub object: Option<ObjectId>,
    /// Why it failed; for an interrupted node, what it said.
    pub failure: Option<NodeFailure>,
    /// For a skipped node, the failed node that it depends on, if that is why.
    pub because: Option<String>,
    /// How long it took.
    pub seconds: f64,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The nodes wanted, in the order of the plan.
    pub nodes: Vec<NodeOutcome>,
    /// Wall time of the whole.
    pub seconds: f64,
    /// True if it was asked to stop before all was done.
    pub interrupted: bool,
    /// The folder of its record, for what the caller wants to keep with it; none where the cache
    /// may not be written.
    pub record: Option<PathBuf>,
    /// Artefacts of earlier runs whose nodes the pipeline no longer has.
    pub orphans: Vec<Orphan>,
}

impl Outcome {
    /// Count of nodes that ended so.
    pub fn count(&self, ending: Ending) -> usize {
        self.nodes.iter().filter(|node| node.ending == ending).count()
    }

    /// The kind of error the whole amounts to: `None` if all went well, [`Kind::Interrupted`] if it
    /// was stopped, [`Kind::Environment`] if every failure was the machine's, else [`Kind::Stage`].
    pub fn kind(&self) -> Option<Kind> {
        let failures: Vec<&NodeOutcome> =
            self.nodes.iter().filter(|node| node.ending == Ending::Failed).collect();
        let is_machines = |node: &&NodeOutcome| {
            node.failure.as_ref().is_some_and(|failure| failure.kind == Kind::Environment)
        };
        match (self.interrupted, failures.is_empty()) {
            (true, _) => Some(Kind::Interrupted),
            (false, true) => None,
            (false, false) if failures.iter().all(is_machines) => Some(Kind::Environment),
            (false, false) => Some(Kind::Stage),
        }
    }
}

impl NodeOutcome {
    /// The part of it that is kept.
    pub fn record(&self) -> NodeRecord {
        let NodeOutcome { name, stage, ending, key, object, seconds, .. } = self.clone();
        NodeRecord { name, stage, ending, key, object, seconds }
    }
}

/// Runs what is asked for. An error means that the run itself could not begin or go on; failed
/// nodes are in the outcome.
pub fn run(
    store: &Store,
    request: Request<'_>,
    options: &Options,
    executor: &Executor<'_>,
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
    let plan = plan(store, request)?;
    observer.planned(&plan);
    let names: Vec<String> = request.graph.nodes.iter().map(|node| node.name.clone()).collect();
    let before = store.latest_record(&options.invocation)?;
    let orphans = match before.is_some_and(|record| record.graph != names) {
        true => store.orphans(&options.invocation, &names)?,
        false => Vec::new(),
    };
    let beginning = Beginning {
        invocation: &options.invocation,
        graph: request.graph,
        device: &options.device,
        threads: options.threads,
    };
    let journal = store.begin_record(beginning)?;
    let record = Some(journal.folder().to_owned());
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
