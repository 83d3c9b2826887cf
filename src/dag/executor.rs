//! How a node is run: in a process of its own, or on a thread of this one.

use std::path::PathBuf;

use crate::dag::node::Dispatch;

/// How a node is run.
pub enum Executor<'a> {
    /// `<program> exec <work folder>`, in a process group of its own.
    Process(PathBuf),
    /// On a thread of this process: for tests and for embedding.
    InProcess(&'a dyn Dispatch),
}
