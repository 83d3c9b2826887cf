//! An observer of a run: the calls that it receives, and when. Prints nothing.

use crate::context::Report;
use crate::outcome::NodeOutcome;
use crate::plan::Plan;

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
    /// This many artefacts are pulled from the remote before anything starts.
    fn pulling(&mut self, count: usize) {
        let _ = count;
    }
    /// The artefact of a node came from the remote, this many bytes.
    fn pulled(&mut self, node: &str, bytes: u64) {
        let _ = (node, bytes);
    }
    /// The artefact of a node was sent to the remote, this many bytes.
    fn pushed(&mut self, node: &str, bytes: u64) {
        let _ = (node, bytes);
    }
    /// All nodes have ended; this many artefacts are still to be sent to the remote.
    fn pushing(&mut self, count: usize) {
        let _ = count;
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

/// Ignores what happens.
impl Observer for () {}
