//! A policy that trains on sampled responses: the state of runs that keep nothing else from step to
//! step. What a step learns is in the file of its method.

use super::archive::Archive;
use super::optimiser::TrainState;
use super::steps::State;
use crate::backend::Backend;
use crate::error::{Context, Result};
use crate::rl::entropy::{EntropyBonus, EntropyControl};

/// The policy in training, on its back end.
pub struct PolicyTraining<'a, B: Backend> {
    /// The back end.
    pub b: &'a B,
    /// The policy.
    pub policy: TrainState<B>,
    /// The entropy bonus, where the loss has one.
    pub entropy: Option<EntropyControl>,
}

impl<'a, B: Backend> PolicyTraining<'a, B> {
    /// Before the first step.
    pub fn new(b: &'a B, policy: TrainState<B>, entropy: Option<EntropyBonus>) -> Self {
        PolicyTraining { b, policy, entropy: entropy.map(EntropyControl::new) }
    }
}

impl<B: Backend> PolicyTraining<'_, B> {
    /// Takes up a state that another run has saved; the coefficient of its entropy bonus if
    /// `continues`.
    ///
    /// # Errors
    /// If the archive lacks a part, or has one of another size.
    pub fn begin_as(&mut self, archive: &Archive, continues: bool) -> Result<()> {
        let own = self.entropy;
        self.entropy = own.filter(|_| continues);
        self.load(archive)?;
        self.entropy = self.entropy.or(own);
        Ok(())
    }
}

impl<B: Backend> State for PolicyTraining<'_, B> {
    fn save(&self, archive: &mut Archive) {
        self.policy.save(self.b, "policy", archive);
        if let Some(control) = &self.entropy {
            save_entropy(control, archive);
        }
    }

    fn load(&mut self, archive: &Archive) -> Result<()> {
        self.policy.load(self.b, "policy", archive)?;
        match &mut self.entropy {
            Some(control) => load_entropy(control, archive),
            None => Ok(()),
        }
    }
}

/// Adds the state of an entropy bonus.
pub(super) fn save_entropy(control: &EntropyControl, archive: &mut Archive) {
    let (coef, last) = control.state();
    archive.put_text("entropy_coef", coef.to_bits().to_string());
    archive.put_text("entropy", last.map_or(String::new(), |last| last.to_bits().to_string()));
}

/// Takes up the state of an entropy bonus.
///
/// # Errors
/// If the checkpoint has none.
pub(super) fn load_entropy(control: &mut EntropyControl, archive: &Archive) -> Result<()> {
    let number = |text: &str| -> Result<f64> {
        Ok(f64::from_bits(text.parse().context("a checkpoint's entropy is a number")?))
    };
    let last = archive.text("entropy")?;
    let last = if last.is_empty() { None } else { Some(number(last)?) };
    control.resume((number(archive.text("entropy_coef")?)?, last));
    Ok(())
}
