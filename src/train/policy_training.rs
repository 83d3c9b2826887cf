//! A policy that trains on sampled responses: the state of runs that keep nothing else from step to
//! step. What a step learns is in the file of its method.

use super::archive::Archive;
use super::optimiser::TrainState;
use super::steps::State;
use crate::backend::Backend;
use crate::error::Result;

/// The policy in training, on its back end.
pub struct PolicyTraining<'a, B: Backend> {
    /// The back end.
    pub b: &'a B,
    /// The policy.
    pub policy: TrainState<B>,
}

impl<B: Backend> State for PolicyTraining<'_, B> {
    fn save(&self, archive: &mut Archive) {
        self.policy.save(self.b, "policy", archive);
    }

    fn load(&mut self, archive: &Archive) -> Result<()> {
        self.policy.load(self.b, "policy", archive)
    }
}
