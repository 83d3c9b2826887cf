//! One pass of a policy over responses, and its gradient for a loss with a derivative by each
//! token's log-probability. Knows no loss.

use super::optimiser::TrainState;
use super::rollouts::Rollout;
use super::trunk::Trunk;
use crate::backend::Backend;
use crate::error::Result;
use crate::model::batch::{Batch, scored_tokens};
use crate::model::heads::{self, TargetTokens};

/// What a policy says of the response tokens of a pass, response after response.
pub(super) struct TokenFigures {
    /// Log-probabilities at the temperature of the pass, in nats.
    pub(super) logprobs: Vec<f64>,
    /// Entropies of the distributions that they are of, in nats.
    pub(super) entropies: Vec<f64>,
}

/// Adds to the gradients of `policy` that of a loss of the response tokens of the rollouts
/// `members`, of which `trunk` has the inputs. `derivatives` is given the figures of the tokens,
/// and returns the derivative of the loss by each log-probability.
///
/// # Errors
/// Those of `derivatives`.
pub(super) fn accumulate<B: Backend>(
    b: &B,
    policy: &mut TrainState<B>,
    trunk: &Trunk<B>,
    (rollouts, members): (&[Rollout], &[usize]),
    temperature: f32,
    derivatives: impl FnOnce(&TokenFigures) -> Result<Vec<f64>>,
) -> Result<()> {
    let own = || members.iter().map(|member| &rollouts[*member]);
    let sequences: Vec<&[u32]> = own().map(|rollout| rollout.tokens.as_slice()).collect();
    let from: Vec<usize> = own().map(|rollout| rollout.prompt).collect();
    let (rows, targets) = scored_tokens(&sequences, &from);
    let scored = TargetTokens { rows: &rows, targets: &targets, temperature };
    let batch = Batch::new(&sequences);
    let x = trunk.input(b, &policy.model, &batch, members);
    let activations = policy.forward_from(b, x, &batch);
    let mut dhidden = policy.hidden_gradient(b, &batch);
    let TrainState { model, gradients, .. } = policy;
    let scores = heads::token_logprobs(b, model, &activations.hidden, scored, true);
    let figures = TokenFigures {
        logprobs: b.download_f64(&scores.logprobs),
        entropies: b.download_f64(&scores.entropies),
    };
    let dlogprobs = b.upload_wide_f64(&derivatives(&figures)?);
    let hidden = &activations.hidden;
    heads::token_logprobs_backward(
        b,
        model,
        &mut dhidden,
        gradients,
        hidden,
        scored,
        scores,
        &dlogprobs,
    );
    policy.backward(b, &batch, &activations, &dhidden);
    Ok(())
}

/// Refuses log-probabilities of a policy that are not those of sampling, `old`, to the bit.
///
/// # Errors
/// A bug: sampling and scoring disagree.
pub(super) fn check_unmoved(new: &[f64], old: &[f64]) -> Result<()> {
    match new.iter().zip(old).all(|(new, old)| f64::from(*new as f32) == *old) {
        true => Ok(()),
        false => {
            let message = "the first minibatch scores other log-probabilities than were sampled: \
                the ratio is not 1";
            Err(crate::error::Failure::new(crate::error::Kind::Bug, message).into())
        }
    }
}

/// `numbers` in pieces of these lengths.
pub(super) fn by_response(numbers: &[f64], lengths: impl Iterator<Item = usize>) -> Vec<&[f64]> {
    let mut rest = numbers;
    let piece = |length| {
        let (own, after) = rest.split_at(length);
        rest = after;
        own
    };
    lengths.map(piece).collect()
}

/// Numbers of a rollout in double precision.
pub(super) fn wide(numbers: &[f32]) -> Vec<f64> {
    numbers.iter().map(|x| f64::from(*x)).collect()
}
