//! The outcome of a run and of each of its nodes. Uses nothing of how nodes run.

use std::fmt;
use std::path::PathBuf;

use crate::digest::{ActionKey, ObjectId};
use crate::error::{Kind, kind_of};
use crate::record::{Ending, NodeRecord, Orphan};

/// Why a node failed.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeFailure {
    /// Whose fault it is, as the stage saw it.
    pub kind: Kind,
    /// The whole chain of the error.
    pub message: String,
    /// The node's log, if there is one.
    pub log: Option<PathBuf>,
    /// Whether the queue of a cluster has ended it because its time was up.
    pub is_late: bool,
}

/// In the chain of an error: the queue of a cluster has ended the job because its time was up.
#[derive(Clone, Copy, Debug)]
pub struct OutOfTime;

impl fmt::Display for OutOfTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("out of time")
    }
}

impl NodeFailure {
    /// The failure that an error is, without a log.
    pub(super) fn of(error: &anyhow::Error) -> Self {
        NodeFailure {
            kind: kind_of(error),
            message: format!("{error:#}"),
            log: None,
            is_late: error.downcast_ref::<OutOfTime>().is_some(),
        }
    }
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

impl NodeOutcome {
    /// Of a node that did not run, of which nothing more is known.
    pub(super) fn skipped(name: &str, stage: &str) -> Self {
        NodeOutcome {
            name: name.to_owned(),
            stage: stage.to_owned(),
            ending: Ending::Skipped,
            key: None,
            object: None,
            failure: None,
            because: None,
            seconds: 0.0,
        }
    }
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
