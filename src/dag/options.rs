//! The options of a run, and its gate. Uses nothing of how nodes run.

use std::collections::HashMap;

use serde_json::Value;

use crate::digest::ObjectId;
use crate::error::Result;
use crate::node::Node;
use crate::plan::Plan;
use crate::record::Invocation;
use crate::stop::Stop;

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Nodes at once; at least 1.
    pub jobs: usize,
    /// Threads that all nodes together may use; at least 1.
    pub threads: usize,
    /// The devices that nodes compute on, in the words of the stages; at least one. All have one
    /// numerics class. A node is given the first of those that it holds, or the first of all.
    pub devices: Vec<Value>,
    /// Whether they are GPUs: then one node at a time computes on each, unless the pipeline says
    /// otherwise.
    pub gpu: bool,
    /// Bytes of memory that the estimates of all running nodes may add up to, if that is known. A
    /// node that needs more runs alone.
    pub memory: Option<u64>,
    /// Whether the queue of a cluster gives nodes their places: then `jobs` alone limits them here,
    /// a node that names no threads has `threads`, and the queue ends those that exceed their
    /// timeout, since it knows when they began.
    pub queued: bool,
    /// After a failure, go on with what does not depend on it.
    pub keep_going: bool,
    /// Asked once: nodes are asked to stop and given time. Asked twice: they are killed.
    pub stop: Stop,
    /// What was asked for, for the record.
    pub invocation: Invocation,
    /// The hash of the program's executable, for the record.
    pub build: Option<String>,
    /// The plan of the same request, where one was made just before; else the run makes one. It is
    /// shown, and says what to pull; what runs is decided anew.
    pub planned: Option<Plan>,
}

impl Default for Options {
    /// One node at a time, on one thread.
    fn default() -> Self {
        Options {
            jobs: 1,
            threads: 1,
            devices: vec![Value::Null],
            gpu: false,
            memory: None,
            queued: false,
            keep_going: false,
            stop: Stop::new(),
            invocation: Invocation::default(),
            build: None,
            planned: None,
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
