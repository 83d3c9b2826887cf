//! `exec`: a node's own process. For the runner alone.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::pipeline::registry::Builtin;

/// Run one node in its work folder (used by `run`)
#[derive(Args)]
pub struct Arguments {
    work: PathBuf,
}

/// Runs the node.
pub fn main(arguments: &Arguments) -> ExitCode {
    ExitCode::from(crate::dag::exec::exec(&arguments.work, &Builtin))
}
