//! On-policy distillation: a policy learns a teacher's distribution on its own responses, and on
//! the teacher's (Agarwal et al. 2024, "On-policy distillation of language models", arXiv
//! 2306.13649). Works on token ids.
//!
//! 1. Reverse KL: of each token of the policy's responses log p - log q, q being the teacher. Its
//!    derivative is that of the policy gradient with the advantage log q - log p of each token
//!    alone: no token is charged for later ones.
//! 2. Forward KL: the negative log-likelihood of the teacher's responses, which is the forward KL
//!    and the teacher's entropy, which no weight changes.
//! 3. The loss is (1 - forward) times the mean of the first over tokens, and forward times the mean
//!    of the second. A step is one optimiser step, so every ratio is exactly 1. Where it is not,
//!    the step has figures that say so.

use super::optimiser::OptimiserConfig;
use super::policy_pass::{FirstPass, accumulate, by_response, wide};
use super::policy_training::PolicyTraining;
use super::rollouts::{Rollout, RolloutSettings, score_reference};
use super::trunk::Trunk;
use crate::backend::Backend;
use crate::error::Result;
use crate::model::batch::micro_batches;
use crate::model::weights::Model;
use crate::rl::advantage::{self, Response};
use crate::rl::{Metrics, ratio_or_zero};

/// The values that are the same in every step.
pub struct Settings<'a> {
    /// Number of steps.
    pub steps: usize,
    /// Rules of responses.
    pub rollouts: RolloutSettings,
    /// Weight of the forward KL, from 0 to 1.
    pub forward: f64,
    /// The optimiser.
    pub optimiser: &'a OptimiserConfig,
}

impl<B: Backend> PolicyTraining<'_, B> {
    /// Step number `step` (0 is the first) on the policy's responses `own`, whose `reference` it
    /// fills in, and on the teacher's responses `taught`, of which there are none where the weight
    /// of the forward KL is 0. `teacher` has the teacher's log-probabilities `[T]` of each of
    /// `own`.
    ///
    /// # Errors
    /// The user's, if training diverged.
    pub fn learn_teacher(
        &mut self,
        step: usize,
        (own, taught): (&mut [Rollout], &mut [Rollout]),
        teacher: &[Vec<f32>],
        reference: &Model<B>,
        settings: &Settings<'_>,
    ) -> Result<Metrics> {
        let (b, rules) = (self.b, &settings.rollouts);
        let trunk = score_reference(b, &self.policy, reference, own, rules)?;
        let taught_trunk = match taught.is_empty() {
            true => None,
            false => Some(score_reference(b, &self.policy, reference, taught, rules)?),
        };
        self.policy.clear_gradients(b);
        let reverse = self.reverse(own, teacher, &trunk, settings)?;
        let likelihood = match taught_trunk {
            None => 0.0,
            Some(trunk) => self.forward(taught, &trunk, settings)?,
        };
        let rate = settings.optimiser.rate(step, settings.steps);
        let norm = self.policy.update(b, settings.optimiser, rate, 1.0, |_| true);
        let mut metrics = described(own, rules);
        metrics.extend([
            ("loss", (1.0 - settings.forward) * reverse.token + settings.forward * likelihood),
            ("distill/reverse_kl", reverse.sequence),
            ("distill/reverse_kl_token", reverse.token),
            ("policy/entropy_avg", reverse.entropy),
        ]);
        if settings.forward > 0.0 {
            metrics.push(("distill/teacher_loss", likelihood));
        }
        metrics.extend([
            ("grad_norm", norm),
            ("learning_rate", rate),
            ("episode", ((step + 1) * own.len()) as f64),
        ]);
        metrics.extend(reverse.gaps);
        Ok(metrics)
    }

    /// Adds the gradient of the reverse KL.
    fn reverse(
        &mut self,
        own: &[Rollout],
        teacher: &[Vec<f32>],
        trunk: &Trunk<B>,
        settings: &Settings<'_>,
    ) -> Result<Reverse> {
        let count: usize = own.iter().map(Rollout::length).sum();
        let weight = (1.0 - settings.forward) / count as f64;
        let (mut sum, mut entropy, mut first) = (0.0, 0.0, FirstPass::default());
        for run in micro_batches(own.iter().map(|rollout| rollout.tokens.len())) {
            let members: Vec<usize> = run.collect();
            let (policy, temperature) = (&mut self.policy, settings.rollouts.temperature);
            accumulate(self.b, policy, trunk, (own, &members), temperature, |figures| {
                let lengths = members.iter().map(|member| own[*member].length());
                let mut derivatives = Vec::with_capacity(figures.logprobs.len());
                for (new, member) in by_response(&figures.logprobs, lengths).iter().zip(&members) {
                    let (old, teacher) = (wide(&own[*member].logprobs), wide(&teacher[*member]));
                    first.add(new, &old);
                    let gaps = old.iter().zip(&teacher).map(|(own, teacher)| own - teacher);
                    sum += gaps.clone().sum::<f64>();
                    derivatives.extend(gaps.map(|gap| weight * gap));
                }
                entropy += figures.entropies.iter().sum::<f64>();
                Ok(derivatives)
            })?;
        }
        Ok(Reverse {
            sequence: ratio_or_zero(sum, own.len()),
            token: ratio_or_zero(sum, count),
            entropy: ratio_or_zero(entropy, count),
            gaps: first.metrics(),
        })
    }

    /// Adds the gradient of the teacher's responses, and gives their mean loss a token.
    fn forward(
        &mut self,
        taught: &[Rollout],
        trunk: &Trunk<B>,
        settings: &Settings<'_>,
    ) -> Result<f64> {
        let count: usize = taught.iter().map(Rollout::length).sum();
        let weight = settings.forward / count as f64;
        let mut sum = 0.0;
        for run in micro_batches(taught.iter().map(|rollout| rollout.tokens.len())) {
            let members: Vec<usize> = run.collect();
            let (policy, temperature) = (&mut self.policy, settings.rollouts.temperature);
            accumulate(self.b, policy, trunk, (taught, &members), temperature, |figures| {
                sum -= figures.logprobs.iter().sum::<f64>();
                Ok(vec![-weight; figures.logprobs.len()])
            })?;
        }
        Ok(ratio_or_zero(sum, count))
    }
}

/// The reverse KL of the policy from the teacher, in nats.
struct Reverse {
    /// Summed over the response, mean over responses.
    sequence: f64,
    /// Mean over tokens.
    token: f64,
    /// Entropy of the policy, mean over tokens.
    entropy: f64,
    /// How sampling and scoring differ.
    gaps: Metrics,
}

/// What the responses are like: the metrics of the objective that are of no reward.
fn described(own: &[Rollout], settings: &RolloutSettings) -> Metrics {
    let responses: Vec<Response<'_>> =
        own.iter().map(|rollout| rollout.response(settings)).collect();
    let mut metrics = advantage::objective(&responses, 0.0, &settings.conventions);
    let of_reward = |name: &str| name.contains("score") || name.contains("reward");
    metrics.retain(|(name, _)| !of_reward(name) && *name != "objective/kl_coef");
    metrics
}
