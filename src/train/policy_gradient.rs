//! Gradients of an update of policy and critic: the clipped policy loss and the clipped value loss
//! of some responses, and the sums that their metrics are made of.
//!
//! 1. The policy loss is averaged over the response tokens of the whole minibatch, the value loss
//!    over these and the positions past the end that carry a score; the cut into micro-batches
//!    changes neither.
//! 2. Log-probabilities, values, losses and sums stay on the device until the step ends. KL in the
//!    loss is an exception: it is computed on the host, in `f64`, a number a token.
//! 3. While only the value function learns, the policy has no gradient; a shared critic then learns
//!    through its head.

use super::critic::{Critic, value_rows};
use super::optimiser::TrainState;
use super::rollouts::{CRITIC, Rollout, RolloutSettings};
use super::trunk::Trunk;
use crate::backend::{Backend, RATIO_SUMS, RatioLoss, SQUARE_SUMS, SquareLoss};
use crate::model::batch::{Batch, scored_tokens};
use crate::model::heads::{self, ScoreGradients, TargetTokens};
use crate::rl::advantage::Estimate;
use crate::rl::policy_loss::LossKl;
use crate::rl::ppo::{PolicyClip, PolicyStatistics, ValueClip, ValueStatistics};
use crate::rl::{Metrics, ratio_or_zero};

/// Entropy of the policy, mean over the tokens of the updates.
pub(super) const ENTROPY: &str = "policy/entropy_avg";

/// The losses of a minibatch.
#[derive(Clone, Copy)]
pub(super) struct Losses {
    /// Temperature of all log-probabilities.
    pub(super) temperature: f32,
    pub(super) policy: PolicyClip,
    /// KL that is added to the policy loss, with its coefficient.
    pub(super) kl: Option<(LossKl, f64)>,
    /// Coefficient of the entropy bonus.
    pub(super) entropy: f64,
    pub(super) value: ValueClip,
    /// Whether only the value function learns.
    pub(super) warming: bool,
    /// Response tokens of the minibatch: the policy loss is averaged over them.
    pub(super) tokens: usize,
    /// Positions of the minibatch whose values are fitted: the value loss is averaged over them.
    pub(super) positions: usize,
}

/// Some responses of a minibatch, packed for one pass.
pub(super) struct MicroBatch {
    /// Places of the responses in the step.
    members: Vec<usize>,
    batch: Batch,
    /// Of response tokens: the rows that predict them, the tokens, and the numbers of each.
    rows: Vec<u32>,
    targets: Vec<u32>,
    logprobs: Vec<f32>,
    reference: Vec<f32>,
    advantages: Vec<f32>,
    /// Of positions whose values are fitted: their rows, and the numbers of each.
    value_rows: Vec<u32>,
    values: Vec<f32>,
    returns: Vec<f32>,
}

impl MicroBatch {
    pub(super) fn new(
        rollouts: &[Rollout],
        estimates: &[Estimate],
        members: &[usize],
        settings: &RolloutSettings,
    ) -> Self {
        let chosen = || members.iter().map(|member| &rollouts[*member]);
        let sequences: Vec<&[u32]> = chosen().map(|rollout| rollout.tokens.as_slice()).collect();
        let from: Vec<usize> = chosen().map(|rollout| rollout.prompt).collect();
        let (rows, targets) = scored_tokens(&sequences, &from);
        let batch = Batch::new(&sequences);
        let fitted = |rollout: &Rollout| rollout.fitted(settings);
        MicroBatch {
            members: members.to_vec(),
            rows,
            targets,
            logprobs: chosen().flat_map(|rollout| rollout.logprobs.iter().copied()).collect(),
            reference: chosen().flat_map(|rollout| rollout.reference.iter().copied()).collect(),
            advantages: members
                .iter()
                .flat_map(|member| estimates[*member].advantages.iter().copied())
                .collect(),
            value_rows: value_rows(
                &batch,
                chosen().map(|rollout| (rollout.prompt, fitted(rollout))),
            ),
            values: chosen()
                .flat_map(|rollout| rollout.values[..fitted(rollout)].iter().copied())
                .collect(),
            returns: members
                .iter()
                .flat_map(|member| estimates[*member].returns.iter().copied())
                .collect(),
            batch,
        }
    }
}

/// Sums over the updates of a step.
pub(super) struct UpdateStats<B: Backend> {
    policy: B::Sums,
    value: B::Sums,
    entropy: B::Sums,
    /// Of the KL in the loss, without its coefficient.
    kl: f64,
    /// Response tokens, once for each update that they were in.
    tokens: usize,
    /// Fitted positions, likewise.
    positions: usize,
    /// Sum of the norms of the policy's gradients, before clipping.
    pub(super) norm: f64,
    /// How sampling and scoring differ, in the first minibatch.
    pub(super) gaps: Metrics,
}

impl<B: Backend> UpdateStats<B> {
    pub(super) fn new(b: &B) -> Self {
        UpdateStats {
            policy: b.sums(RATIO_SUMS),
            value: b.sums(SQUARE_SUMS),
            entropy: b.sums(1),
            kl: 0.0,
            tokens: 0,
            positions: 0,
            norm: 0.0,
            gaps: Vec::new(),
        }
    }

    /// Statistics of the policy so far.
    pub(super) fn policy(&self, b: &B) -> PolicyStatistics {
        PolicyStatistics::new(
            self.tokens,
            b.download_sums(&self.policy).try_into().expect("as many as are added up"),
        )
    }

    /// Statistics of the value function so far.
    fn value(&self, b: &B) -> ValueStatistics {
        ValueStatistics::new(
            self.positions,
            b.download_sums(&self.value).try_into().expect("as many as are added up"),
        )
    }

    /// The metrics of `updates` updates: the policy's, `loss/kl_avg` if KL is in the loss, the
    /// value function's if there is one, the policy's entropy and the mean norm of its gradients.
    pub(super) fn metrics(
        &self,
        b: &B,
        (has_kl, has_critic): (bool, bool),
        updates: usize,
    ) -> Metrics {
        let mut metrics = self.policy(b).metrics();
        if has_kl {
            metrics.push(("loss/kl_avg", ratio_or_zero(self.kl, self.tokens)));
        }
        if has_critic {
            metrics.extend(self.value(b).metrics());
        }
        let entropy = b.download_sums(&self.entropy)[0] / self.tokens.max(1) as f64;
        metrics.push((ENTROPY, entropy));
        metrics.push(("grad_norm", self.norm / updates as f64));
        metrics.extend(&self.gaps);
        metrics
    }
}

/// Adds the gradients of one micro-batch to those of policy and critic, and its sums to `stats`.
pub(super) fn accumulate<B: Backend>(
    b: &B,
    policy: &mut TrainState<B>,
    critic: &mut Critic<B>,
    stats: &mut UpdateStats<B>,
    part: &MicroBatch,
    trunk: &Trunk<B>,
    losses: &Losses,
) {
    let x = trunk.input(b, &policy.model, &part.batch, &part.members);
    let activations = policy.forward_from(b, x, &part.batch);
    let mut dhidden = policy.hidden_gradient(b, &part.batch);
    let loss = Loss { b, part, losses };
    loss.policy(stats, policy, &mut dhidden, &activations.hidden);
    match critic {
        Critic::None => {}
        Critic::Shared => loss.value(stats, policy, &mut dhidden, &activations.hidden),
        Critic::Separate(critic) => {
            let x = trunk.input_of(b, CRITIC, &critic.model, &part.batch, &part.members);
            let activations = critic.forward_from(b, x, &part.batch);
            let mut dhidden = critic.hidden_gradient(b, &part.batch);
            loss.value(stats, critic, &mut dhidden, &activations.hidden);
            critic.backward(b, &part.batch, &activations, &dhidden);
        }
    }
    if !losses.warming {
        policy.backward(b, &part.batch, &activations, &dhidden);
    }
}

/// The losses of one micro-batch.
struct Loss<'a, B: Backend> {
    b: &'a B,
    part: &'a MicroBatch,
    losses: &'a Losses,
}

impl<B: Backend> Loss<'_, B> {
    /// The clipped policy loss: adds to `dhidden[n,e]` and to the gradients of the language head,
    /// unless only the value function learns.
    fn policy(
        &self,
        stats: &mut UpdateStats<B>,
        TrainState { model, gradients, .. }: &mut TrainState<B>,
        dhidden: &mut B::Buf,
        hidden: &B::Buf,
    ) {
        let Loss { b, part, losses } = *self;
        let scored = TargetTokens {
            rows: &part.rows,
            targets: &part.targets,
            temperature: losses.temperature,
        };
        let scores = heads::token_logprobs(b, model, hidden, scored, !losses.warming);
        let n = part.rows.len();
        b.add_sum(&mut stats.entropy, &scores.entropies);
        stats.tokens += n;
        let (mut dlogprobs, old, advantages) =
            (b.wide(n), b.upload_wide(&part.logprobs), b.upload_wide(&part.advantages));
        let PolicyClip { range, dual, .. } = losses.policy;
        let loss =
            RatioLoss { low: range, high: losses.policy.upper(), dual, count: losses.tokens };
        let (sums, new) = (&mut stats.policy, &scores.logprobs);
        b.clipped_ratio_loss(&mut dlogprobs, sums, new, &old, &advantages, loss);
        if let Some(kl) = losses.kl {
            stats.kl += self.add_kl(&mut dlogprobs, new, kl);
        }
        if !losses.warming {
            let slope = -losses.entropy / losses.tokens as f64;
            let dentropies = (losses.entropy > 0.0).then(|| b.upload_wide_f64(&vec![slope; n]));
            let by = ScoreGradients { logprobs: &dlogprobs, entropies: dentropies.as_ref() };
            heads::token_scores_backward(b, model, dhidden, gradients, hidden, scored, scores, by);
        }
    }

    /// Adds to `dlogprobs[n]` the derivative of the KL in the loss; the sum of the KL over the
    /// tokens is returned, without its coefficient.
    fn add_kl(&self, dlogprobs: &mut B::Buf, new: &B::Buf, (kl, coef): (LossKl, f64)) -> f64 {
        let Loss { b, part, losses } = *self;
        let (new, mut slopes) = (b.download_f64(new), b.download_f64(dlogprobs));
        let mut sum = 0.0;
        for ((slope, new), reference) in slopes.iter_mut().zip(new).zip(&part.reference) {
            let (value, derivative) = kl.of(new, f64::from(*reference));
            sum += value;
            *slope += coef * derivative / losses.tokens as f64;
        }
        *dlogprobs = b.upload_wide_f64(&slopes);
        sum
    }

    /// The clipped value loss: adds to `dhidden[n,e]` and to the gradients of the value head.
    fn value(
        &self,
        stats: &mut UpdateStats<B>,
        TrainState { model, gradients, .. }: &mut TrainState<B>,
        dhidden: &mut B::Buf,
        hidden: &B::Buf,
    ) {
        let Loss { b, part, losses } = *self;
        let rows = &part.value_rows;
        let values = heads::scalars(b, model, hidden, rows);
        stats.positions += rows.len();
        let ValueClip { range, coef } = losses.value;
        let loss = SquareLoss { range, coef, count: losses.positions };
        let (mut dvalues, old, returns) =
            (b.zeros(part.values.len()), b.upload_wide(&part.values), b.upload_wide(&part.returns));
        b.clipped_square_loss(&mut dvalues, &mut stats.value, &values, &old, &returns, loss);
        heads::scalar_scores_backward(b, model, dhidden, gradients, hidden, rows, &dvalues);
    }
}
