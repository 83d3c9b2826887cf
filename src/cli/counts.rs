//! How many nodes of a plan are in each state.

use serde::Serialize;

use crate::dag::plan::{Plan, State};

/// How many nodes are in each state.
#[derive(Clone, Copy, Default, Serialize)]
pub struct Counts {
    /// Nodes to run.
    pub run: usize,
    /// Cache hits.
    pub cached: usize,
    /// What the remote cache has.
    pub remote: usize,
    /// Depend on what others make, or on what must be fetched.
    pub unknown: usize,
}

impl Counts {
    /// Counts a plan.
    pub fn of(plan: &Plan) -> Self {
        let mut counts = Counts::default();
        for step in &plan.steps {
            match step.state {
                State::Run { .. } => counts.run += 1,
                State::Cached { .. } => counts.cached += 1,
                State::Remote { .. } => counts.remote += 1,
                State::Unknown { .. } => counts.unknown += 1,
            }
        }
        counts
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to run, {} cached", self.run, self.cached)?;
        if self.remote > 0 {
            write!(f, ", {} in the remote cache", self.remote)?;
        }
        if self.unknown > 0 {
            write!(f, ", {} unknown until others finish", self.unknown)?;
        }
        Ok(())
    }
}
