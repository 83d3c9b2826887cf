//! A node's own process: reads its order, runs the stage, reports.

use std::path::Path;

use crate::dag::node::Dispatch;

/// Runs the order in a work folder and returns the process's exit code. For `posttrain exec <work folder>`, which must call nothing
/// else: standard output belongs to the reports, standard input to the runner.
pub fn exec(work: &Path, dispatch: &dyn Dispatch) -> u8 {
    let _ = (work, dispatch);
    unimplemented!()
}
