//! The stages that a program can run, as the engine calls them.

use serde_json::Value;

use crate::context::Context;
use crate::error::Result;
use crate::order::Order;

/// The stage kinds a binary can run, as the engine sees them.
pub trait Dispatch: Sync {
    /// Runs the stage kind `stage` on `device` (one of [`crate::options::Options::devices`])
    /// with a config whose references and inputs have become paths.
    fn execute(&self, stage: &str, device: &Value, config: Value, context: &Context) -> Result<()>;

    /// Sees to it that this program on this host makes what the key of the order names: it has the
    /// stage kind in that VERSION, and computes with that numerics class. Asked in jobs of a
    /// cluster's queue alone: elsewhere the program and the host are those of the run.
    ///
    /// # Errors
    /// The machine's, if it does not.
    fn verify(&self, order: &Order) -> Result<()> {
        let _ = order;
        Ok(())
    }
}
