//! One pass of a policy over responses, and its gradient for a loss with a derivative by each
//! token's log-probability. Knows no loss.

use super::optimiser::TrainState;
use super::rollouts::Rollout;
use super::trunk::Trunk;
use crate::backend::Backend;
use crate::error::Result;
use crate::model::batch::{Batch, scored_tokens};
use crate::model::heads::{self, ScoreGradients, TargetTokens};
use crate::rl::Metrics;
use crate::rl::ppo::gaps;

/// What a policy says of the response tokens of a pass, response after response.
pub(super) struct TokenFigures {
    /// Log-probabilities at the temperature of the pass, in nats.
    pub(super) logprobs: Vec<f64>,
    /// Entropies of the distributions that they are of, in nats.
    pub(super) entropies: Vec<f64>,
}

/// The derivatives of a loss by the figures of each token.
pub(super) struct Derivatives {
    /// By log-probabilities.
    pub(super) logprobs: Vec<f64>,
    /// By entropies: the same of every token; `None` where the loss has none.
    pub(super) entropy: Option<f64>,
}

impl From<Vec<f64>> for Derivatives {
    /// Of a loss without entropies.
    fn from(logprobs: Vec<f64>) -> Self {
        Derivatives { logprobs, entropy: None }
    }
}

/// Adds to the gradients of `policy` that of a loss of the response tokens of the rollouts
/// `members`, of which `trunk` has the inputs. `derivatives` is given the figures of the tokens,
/// and returns the derivatives of the loss.
///
/// # Errors
/// Those of `derivatives`.
pub(super) fn accumulate<B: Backend, D: Into<Derivatives>>(
    b: &B,
    policy: &mut TrainState<B>,
    trunk: &Trunk<B>,
    (rollouts, members): (&[Rollout], &[usize]),
    temperature: f32,
    derivatives: impl FnOnce(&TokenFigures) -> Result<D>,
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
    let Derivatives { logprobs, entropy } = derivatives(&figures)?.into();
    let dentropies = entropy.map(|own| b.upload_wide_f64(&vec![own; logprobs.len()]));
    let loss =
        ScoreGradients { logprobs: &b.upload_wide_f64(&logprobs), entropies: dentropies.as_ref() };
    let (hidden, dhidden_of) = (&activations.hidden, &mut dhidden);
    heads::token_scores_backward(b, model, dhidden_of, gradients, hidden, scored, scores, loss);
    policy.backward(b, &batch, &activations, &dhidden);
    Ok(())
}

/// How the log-probabilities that a policy scores differ from those of sampling, before it moves.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct FirstPass {
    squared_log_ratio: f64,
    ratio_less_one: f64,
    tokens: usize,
}

impl FirstPass {
    /// Adds tokens with these scored and sampled log-probabilities. A scored one counts as the
    /// number of 32 bits that sampling would have kept.
    pub(super) fn add(&mut self, new: &[f64], old: &[f64]) {
        for (new, old) in new.iter().zip(old) {
            let log_ratio = f64::from(*new as f32) - old;
            self.squared_log_ratio += log_ratio * log_ratio;
            self.ratio_less_one += log_ratio.exp_m1();
            self.tokens += 1;
        }
    }

    /// [`gaps`] of its tokens.
    pub(super) fn metrics(&self) -> Metrics {
        gaps(self.squared_log_ratio, self.ratio_less_one, self.tokens)
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
