//! The stages that a program can run, as the engine calls them.

use serde_json::Value;

use crate::context::Context;
use crate::error::Result;

/// The stage kinds a binary can run, as the engine sees them.
pub trait Dispatch: Sync {
    /// Runs the stage kind `stage` on `device` (one of [`crate::options::Options::devices`])
    /// with a config whose references and inputs have become paths.
    fn execute(&self, stage: &str, device: &Value, config: Value, context: &Context) -> Result<()>;
}
