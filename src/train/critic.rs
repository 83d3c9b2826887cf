//! The critic of policy optimisation: the model of the value function, if there is one.

use super::archive::Archive;
use super::optimiser::TrainState;
use crate::backend::Backend;
use crate::error::{Context, Result};
use crate::model::batch::Batch;
use crate::model::init::{self, ScalarInit};
use crate::model::params::{Affine, HeadKind};
use crate::model::weights::Model;
use crate::rl::preference::Normalisation;

/// The model of the value function.
pub enum Critic<B: Backend> {
    /// No value function: every value is 0 and none is fitted, for advantages that need none.
    None,
    /// A value head on the policy's trunk (Kirk et al. 2024, appendix F).
    Shared,
    /// A separate network (Huang et al. 2024, which begins it as the reward model).
    Separate(Box<TrainState<B>>),
}

impl<B: Backend> Critic<B> {
    /// The network, if it is separate.
    pub fn separate(&self) -> Option<&TrainState<B>> {
        match self {
            Critic::None | Critic::Shared => None,
            Critic::Separate(state) => Some(state),
        }
    }

    /// The model with the value head; `None` without a value function.
    pub fn model<'a>(&'a self, policy: &'a Model<B>) -> Option<&'a Model<B>> {
        match self {
            Critic::None => None,
            Critic::Shared => Some(policy),
            Critic::Separate(state) => Some(&state.model),
        }
    }

    /// Sets the gradients of a separate network to zero; those of a shared one are the policy's.
    pub(super) fn clear_gradients(&mut self, b: &B) {
        if let Critic::Separate(state) = self {
            state.clear_gradients(b);
        }
    }

    pub(super) fn save(&self, b: &B, archive: &mut Archive) {
        if let Critic::Separate(state) = self {
            state.save(b, "critic", archive);
        }
    }

    pub(super) fn load(&mut self, b: &B, archive: &Archive) -> Result<()> {
        match self {
            Critic::None | Critic::Shared => Ok(()),
            Critic::Separate(state) => state.load(b, "critic", archive),
        }
    }
}

/// `policy` with a new value head, which is 0: the start of a shared critic.
///
/// # Errors
/// A bug, if the head has no form for this model.
pub fn with_value_head<B: Backend>(b: &B, policy: &Model<B>, seed: u64) -> Result<Model<B>> {
    let head = init::scalar_head(&policy.spec, HeadKind::LanguageAndValue, ScalarInit::Zero, seed);
    Ok(policy.with_scalar(b, head.context("a value head was asked for")?))
}

/// A copy of the reward model whose values are its normalised scores: the start of a separate
/// critic.
///
/// # Errors
/// A bug, if `reward` has no scalar head.
pub fn of_reward_model<B: Backend>(
    b: &B,
    reward: &Model<B>,
    normalisation: &Normalisation,
) -> Result<Model<B>> {
    let Normalisation { mean, std } = *normalisation;
    let raw = reward.weights.scalar.as_ref().context("a reward model has a scalar head")?;
    let weight = b.download(&raw.weight);
    let weight = weight.into_iter().map(|weight| (f64::from(weight) / std) as f32).collect();
    let bias = Some(vec![(-mean / std) as f32]);
    Ok(reward.with_scalar(b, Affine { weight, bias }))
}

/// The rows of a batch whose hidden states give values: for each sequence (tokens of its prompt,
/// positions), those before its positions.
pub(super) fn value_rows(
    batch: &Batch,
    sequences: impl Iterator<Item = (usize, usize)>,
) -> Vec<u32> {
    let rows = |(start, (prompt, positions)): (&usize, (usize, usize))| {
        let first = start + prompt - 1;
        first as u32..(first + positions) as u32
    };
    batch.starts.iter().zip(sequences).flat_map(rows).collect()
}
