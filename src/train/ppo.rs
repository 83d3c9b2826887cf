//! Proximal policy optimisation (Schulman et al. 2017) of a language model: rollouts, advantages,
//! clipped updates. Knows tokens, not texts.
//!
//! 1. A step samples one response a prompt and scores it under policy, reference and reward model.
//!    Old log-probabilities are those of sampling: the same kernels sample and score, so the ratio
//!    of the first minibatch is exactly 1, which is checked at every step.
//! 2. Frozen blocks run once a step for all models that share them, and what comes of them is kept
//!    for every epoch (`trunk.rs`).
//! 3. Advantages are estimated over the whole batch of the step; `rl::advantage` says how.
//! 4. Values of positions behind a response's end are made by one pass of the separate critic,
//!    where conventions let them take part
//!    (`Scope::Padded`): the response is filled up with pad tokens. They take part in GAE and
//!    whitening, and are not fitted.
//! 5. An epoch goes through the responses in a new random order, in `minibatches` parts of about
//!    one size, one optimiser step each. The
//!    policy loss is averaged over the response tokens of the minibatch, the value loss over these
//!    and the positions past the end that carry a score.
//! 6. The critic is a value head on the policy's trunk (`shared`, Kirk et al. 2024, appendix F) or
//!    a separate network that begins as the reward model (`separate`, Huang et al. 2024).
//! 7. Log-probabilities and values of an update, their losses and the sums that metrics are made of
//!    stay on the device until the step ends.
//! 8. In the first `value_warmup` steps only the value function learns, by the loss that it has
//!    later; a shared one then learns through
//!    its head alone, and the trunk's tensors have no update.

use super::archive::Archive;
use super::optimiser::{OptimiserConfig, TrainState};
use super::steps::{State, diverged};
use super::trunk::{Members, Trunk};
use crate::backend::{Backend, RATIO_SUMS, RatioLoss, SQUARE_SUMS, SquareLoss};
use crate::error::{Context, Failure, Kind, Result};
use crate::model::batch::{Batch, micro_batches, scored_tokens, split};
use crate::model::heads::{self, TargetTokens};
use crate::model::params::{Role, Slot};
use crate::model::transformer;
use crate::model::weights::Model;
use crate::random::Stream;
use crate::rl::Metrics;
use crate::rl::advantage::{self, Conventions, Estimate, Response, Scope};
use crate::rl::kl::{self, Adaptive};
use crate::rl::ppo::{
    PolicyClip, PolicyStatistics, ValueClip, ValueStatistics, explained_variance,
};
use crate::rl::preference::Normalisation;

/// What does not change from step to step.
pub struct Settings<'a> {
    /// Steps in all.
    pub steps: usize,
    /// Optimiser steps an epoch.
    pub minibatches: usize,
    /// Times through the responses of a step.
    pub epochs: usize,
    /// Temperature of sampling, and so of every log-probability.
    pub temperature: f32,
    /// Tokens that a response may have, EOS included.
    pub max_new_tokens: usize,
    /// What fills up responses where conventions let positions behind their end take part.
    pub pad: u32,
    /// How rewards become advantages.
    pub conventions: Conventions,
    /// How the KL coefficient changes, if it does.
    pub adaptive: Option<Adaptive>,
    /// Clipping of the policy's ratio.
    pub policy_clip: PolicyClip,
    /// Clipping and weight of the value loss, whichever model makes values.
    pub value_clip: ValueClip,
    /// Steps in which only the value function learns.
    pub value_warmup: usize,
    /// Learning rate of the value head over that of the trunk.
    pub value_head_ratio: f64,
    /// The optimiser of policy and critic.
    pub optimiser: &'a OptimiserConfig,
    /// Seed of the order of responses.
    pub seed: u64,
}

/// One sampled response; T tokens, EOS included where it ended.
pub struct Rollout {
    /// Prompt and response.
    pub tokens: Vec<u32>,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Whether EOS came in time.
    pub ended: bool,
    /// `[T]` at sampling.
    pub logprobs: Vec<f32>,
    /// `[T]` under the reference.
    pub reference: Vec<f32>,
    /// `[P]`: the value before each position that GAE runs over ([`Conventions::positions`]).
    pub values: Vec<f32>,
    /// The reward model's normalised score, before the missing-EOS rule; known after the step.
    pub score: f64,
}

impl Rollout {
    fn length(&self) -> usize {
        self.tokens.len() - self.prompt
    }

    fn response(&self, limit: usize) -> Response<'_> {
        let Rollout { logprobs, reference, values, score, ended, .. } = self;
        Response { log_probs: logprobs, reference, values, score: *score, ended: *ended, limit }
    }

    /// Positions whose values are fitted.
    fn fitted(&self, settings: &Settings<'_>) -> usize {
        settings.conventions.fitted(self.length(), settings.max_new_tokens)
    }

    /// Refuses numbers that are none; `row` is its place in the step.
    fn check(&self, row: usize) -> Result<()> {
        let lists = [
            ("log-probability", &self.logprobs),
            ("reference log-probability", &self.reference),
            ("value", &self.values),
        ];
        for (name, numbers) in lists {
            if let Some(at) = numbers.iter().position(|x| !x.is_finite()) {
                return Err(diverged(format!(
                    "the {name} of token {} of response {} is {}",
                    at + 1,
                    row + 1,
                    numbers[at]
                ))
                .into());
            }
        }
        match self.score.is_finite() {
            true => Ok(()),
            false => Err(diverged(format!(
                "the reward model's score of response {} is {}",
                row + 1,
                self.score
            ))
            .into()),
        }
    }

    /// Its tokens, followed by as many pad tokens as it lacks.
    fn filled(&self, settings: &Settings<'_>) -> Vec<u32> {
        let mut tokens = self.tokens.clone();
        tokens.resize(self.prompt + settings.max_new_tokens, settings.pad);
        tokens
    }
}

/// Policy, critic and KL coefficient.
pub struct Ppo<'a, B: Backend> {
    /// The back end.
    pub b: &'a B,
    /// The policy; with a shared critic it carries the value head.
    pub policy: TrainState<B>,
    /// The critic, where it is a separate network.
    pub critic: Option<TrainState<B>>,
    /// Coefficient of the KL penalty.
    pub coef: f64,
}

impl<B: Backend> State for Ppo<'_, B> {
    fn save(&self, archive: &mut Archive) {
        self.policy.save(self.b, "policy", archive);
        if let Some(critic) = &self.critic {
            critic.save(self.b, "critic", archive);
        }
        archive.put_text("coef", self.coef.to_bits().to_string());
    }

    fn load(&mut self, archive: &Archive) -> Result<()> {
        self.policy.load(self.b, "policy", archive)?;
        if let Some(critic) = &mut self.critic {
            critic.load(self.b, "critic", archive)?;
        }
        self.coef = f64::from_bits(
            archive.text("coef")?.parse().context("a checkpoint's coefficient is a number")?,
        );
        Ok(())
    }
}

/// The models of a step that learn nothing.
pub struct Judges<'a, B: Backend> {
    /// What the policy began as, whose frozen trunk it shares.
    pub reference: &'a Model<B>,
    /// What scores responses.
    pub reward: &'a Model<B>,
    /// What makes its raw scores comparable.
    pub normalisation: Normalisation,
}

impl<B: Backend> Ppo<'_, B> {
    /// Fills in log-probabilities under `reference`, which shares the policy's frozen trunk, and
    /// values.
    fn score_rollouts(
        &self,
        rollouts: &mut [Rollout],
        reference: &Model<B>,
        trunk: &Trunk<B>,
        settings: &Settings<'_>,
    ) {
        let first_layer = self.policy.trainable.first_layer();
        for run in
            micro_batches(rollouts.iter().map(|rollout| rollout.tokens.len()).collect::<Vec<_>>())
        {
            let members: Vec<usize> = run.clone().collect();
            let part = &rollouts[run.clone()];
            let sequences: Vec<&[u32]> =
                part.iter().map(|rollout| rollout.tokens.as_slice()).collect();
            let from: Vec<usize> = part.iter().map(|rollout| rollout.prompt).collect();
            let batch = Batch::new(&sequences);
            let (rows, targets) = scored_tokens(&sequences, &from);

            let logprobs = {
                let x = trunk.policy_input(self.b, reference, &batch, &members);
                let hidden =
                    transformer::forward(self.b, reference, x, &batch, first_layer, None).hidden;
                let scored = TargetTokens {
                    rows: &rows,
                    targets: &targets,
                    temperature: settings.temperature,
                };
                self.b.download_f64(
                    &heads::token_logprobs(self.b, reference, &hidden, scored, false).logprobs,
                )
            };
            let logprobs = split(&logprobs, part.iter().map(Rollout::length));

            let hidden = match &self.critic {
                Some(critic) => {
                    let x = trunk.critic_input(self.b, &critic.model, &batch, &members);
                    transformer::forward(
                        self.b,
                        &critic.model,
                        x,
                        &batch,
                        critic.trainable.first_layer(),
                        None,
                    )
                    .hidden
                }
                None => {
                    let x = trunk.policy_input(self.b, &self.policy.model, &batch, &members);
                    transformer::forward(self.b, &self.policy.model, x, &batch, first_layer, None)
                        .hidden
                }
            };
            let fitted: Vec<usize> = part.iter().map(|rollout| rollout.fitted(settings)).collect();
            let value_rows = value_rows(
                &batch,
                part.iter().map(|rollout| rollout.prompt).zip(fitted.iter().copied()),
            );
            let values =
                split(&heads::scalar_scores(self.b, self.critic(), &hidden, &value_rows), fitted);
            for (rollout, (logprobs, values)) in
                rollouts[run].iter_mut().zip(logprobs.into_iter().zip(values))
            {
                (rollout.reference, rollout.values) = (logprobs, values);
            }
        }
        if settings.conventions.scope == Scope::Padded {
            self.value_padding(rollouts, settings);
        }
    }

    /// Fills in the values of all positions that a response might have had, behind its end too.
    fn value_padding(&self, rollouts: &mut [Rollout], settings: &Settings<'_>) {
        let filled: Vec<Vec<u32>> =
            rollouts.iter().map(|rollout| rollout.filled(settings)).collect();
        for run in micro_batches(filled.iter().map(Vec::len)) {
            let sequences: Vec<&[u32]> = filled[run.clone()].iter().map(Vec::as_slice).collect();
            let batch = Batch::new(&sequences);
            let x = transformer::trunk(self.b, self.critic(), &batch, 0);
            let hidden = transformer::forward(self.b, self.critic(), x, &batch, 0, None).hidden;
            let part = &mut rollouts[run];
            let value_rows = value_rows(
                &batch,
                part.iter().map(|rollout| (rollout.prompt, settings.max_new_tokens)),
            );
            let values = heads::scalar_scores(self.b, self.critic(), &hidden, &value_rows);
            for (rollout, values) in
                part.iter_mut().zip(split(&values, vec![settings.max_new_tokens; sequences.len()]))
            {
                rollout.values = values;
            }
        }
    }

    /// What makes values: the critic, or the policy with its value head.
    fn critic(&self) -> &Model<B> {
        self.critic.as_ref().map_or(&self.policy.model, |critic| &critic.model)
    }

    /// One PPO step on sampled responses, whose `score`, `reference` and `values` are filled in
    /// here. `judged` are the sequences that the reward model reads, each a rollout's and what else
    /// it is to see behind it.
    pub fn step(
        &mut self,
        step: usize,
        rollouts: &mut [Rollout],
        judged: &[Vec<u32>],
        judges: &Judges<'_, B>,
        settings: &Settings<'_>,
    ) -> Result<Metrics> {
        let judged: Vec<&[u32]> = judged.iter().map(Vec::as_slice).collect();
        let members =
            Members { policy: &self.policy, critic: self.critic.as_ref(), reward: judges.reward };
        let sequences: Vec<&[u32]> =
            rollouts.iter().map(|rollout| rollout.tokens.as_slice()).collect();
        let (trunk, scores) = Trunk::new(self.b, &members, &sequences, &judged);
        for (rollout, raw) in rollouts.iter_mut().zip(scores) {
            rollout.score = judges.normalisation.apply(f64::from(raw));
        }
        self.score_rollouts(rollouts, judges.reference, &trunk, settings);
        rollouts.iter().enumerate().try_for_each(|(row, rollout)| rollout.check(row))?;

        let responses: Vec<Response<'_>> =
            rollouts.iter().map(|rollout| rollout.response(settings.max_new_tokens)).collect();
        let estimates = advantage::estimate(&responses, self.coef, &settings.conventions);
        let mut metrics = advantage::objective(&responses, self.coef, &settings.conventions);
        let values: Vec<f32> = rollouts
            .iter()
            .flat_map(|rollout| rollout.values[..rollout.fitted(settings)].to_vec())
            .collect();
        let returns: Vec<f32> =
            estimates.iter().flat_map(|estimate| estimate.returns.clone()).collect();
        metrics.push(("critic/vf_explained_var", explained_variance(&values, &returns)));

        let rate = settings.optimiser.rate(step, settings.steps);
        let warming = step < settings.value_warmup;
        let orders = Stream::new(settings.seed, "minibatches");
        let mut tally = Tally::new(self.b);
        for epoch in 0..settings.epochs {
            let mut order: Vec<usize> = (0..rollouts.len()).collect();
            orders.sequence((step * settings.epochs + epoch) as u64).shuffle(&mut order);
            for part in 0..settings.minibatches {
                let size = |part: usize| part * order.len() / settings.minibatches;
                let members = &order[size(part)..size(part + 1)];
                let first = epoch == 0 && part == 0;
                self.update(
                    &mut tally, rollouts, &estimates, members, &trunk, settings, rate, warming,
                    first,
                )?;
            }
        }
        metrics.extend(tally.policy(self.b).metrics());
        metrics.extend(tally.value(self.b).metrics());
        metrics.extend([
            (
                "policy/entropy_avg",
                self.b.download_sums(&tally.entropy)[0] / tally.tokens.max(1) as f64,
            ),
            ("grad_norm", tally.norm / (settings.epochs * settings.minibatches) as f64),
            ("learning_rate", rate),
            ("episode", ((step + 1) * rollouts.len()) as f64),
        ]);
        if let Some(adaptive) = &settings.adaptive {
            let (_, kl) = metrics
                .iter()
                .find(|metric| metric.0 == "objective/kl")
                .expect("the objective has its KL");
            self.coef = kl::adapt(self.coef, *kl, rollouts.len(), adaptive);
        }
        Ok(metrics)
    }

    /// One optimiser step on the responses `members`.
    #[expect(clippy::too_many_arguments)]
    fn update(
        &mut self,
        tally: &mut Tally<B>,
        rollouts: &[Rollout],
        estimates: &[Estimate],
        members: &[usize],
        trunk: &Trunk<B>,
        settings: &Settings<'_>,
        rate: f64,
        warming: bool,
        first: bool,
    ) -> Result<()> {
        let counts = Counts {
            tokens: members.iter().map(|member| rollouts[*member].length()).sum(),
            positions: members.iter().map(|member| rollouts[*member].fitted(settings)).sum(),
        };
        self.policy.clear_gradients(self.b);
        if let Some(critic) = &mut self.critic {
            critic.clear_gradients(self.b);
        }
        for run in micro_batches(members.iter().map(|member| rollouts[*member].tokens.len())) {
            let members = &members[run];
            let part = Part::new(rollouts, estimates, members, settings);
            self.accumulate(tally, &part, members, trunk, settings, warming, counts);
        }
        if first && !tally.policy(self.b).is_unmoved() {
            let message = "the first minibatch scores other log-probabilities than were sampled: \
                the ratio is not 1";
            return Err(Failure::new(Kind::Bug, message).into());
        }
        let is_head = |slot: &Slot| slot.role == Role::Scalar;
        let shared = self.critic.is_none();
        if !warming || shared {
            tally.norm += self.policy.update(
                self.b,
                settings.optimiser,
                rate,
                settings.value_head_ratio,
                |slot| !warming || is_head(slot),
            );
        }
        if let Some(critic) = &mut self.critic {
            let norm =
                critic
                    .update(self.b, settings.optimiser, rate, settings.value_head_ratio, |_| true);
            if !norm.is_finite() {
                return Err(diverged(format!("the norm of the critic's gradient is {norm}")).into());
            }
        }
        Ok(())
    }

    /// Adds the gradients of some responses of a minibatch with `counts`.
    #[expect(clippy::too_many_arguments)]
    fn accumulate(
        &mut self,
        tally: &mut Tally<B>,
        part: &Part,
        members: &[usize],
        trunk: &Trunk<B>,
        settings: &Settings<'_>,
        warming: bool,
        counts: Counts,
    ) {
        let b = self.b;
        let TrainState { model, gradients, trainable, recompute, .. } = &mut self.policy;
        let x = trunk.policy_input(b, model, &part.batch, members);
        let activations = transformer::forward(
            b,
            model,
            x,
            &part.batch,
            trainable.first_layer(),
            Some(*recompute),
        );
        let mut dhidden = b.zeros(part.batch.rows() * model.spec.embedding_width);

        let scored = TargetTokens {
            rows: &part.rows,
            targets: &part.targets,
            temperature: settings.temperature,
        };
        let scores = heads::token_logprobs(b, model, &activations.hidden, scored, !warming);
        let n = part.rows.len();
        b.add_sum(&mut tally.entropy, &scores.entropies);
        tally.tokens += n;
        let (mut dlogprobs, old, advantages) =
            (b.wide(n), b.upload_wide(&part.logprobs), b.upload_wide(&part.advantages));
        let PolicyClip { range, dual } = settings.policy_clip;
        let loss = RatioLoss { range, dual, count: counts.tokens };
        b.clipped_ratio_loss(
            &mut dlogprobs,
            &mut tally.policy,
            &scores.logprobs,
            &old,
            &advantages,
            loss,
        );
        if !warming {
            heads::token_logprobs_backward(
                b,
                model,
                &mut dhidden,
                gradients,
                &activations.hidden,
                scored,
                scores,
                &dlogprobs,
            );
        }

        let ValueClip { range, coef } = settings.value_clip;
        let loss = SquareLoss { range, coef, count: counts.positions };
        tally.positions += part.value_rows.len();
        let mut fit = |values: &B::Buf| -> B::Buf {
            let (mut dvalues, old, returns) = (
                b.zeros(part.values.len()),
                b.upload_wide(&part.values),
                b.upload_wide(&part.returns),
            );
            b.clipped_square_loss(&mut dvalues, &mut tally.value, values, &old, &returns, loss);
            dvalues
        };
        match &mut self.critic {
            None => {
                let dvalues = fit(&heads::scalars(b, model, &activations.hidden, &part.value_rows));
                heads::scalar_scores_backward(
                    b,
                    model,
                    &mut dhidden,
                    gradients,
                    &activations.hidden,
                    &part.value_rows,
                    &dvalues,
                );
            }
            Some(critic) => {
                let TrainState { model, gradients, trainable, recompute, .. } = critic;
                let x = trunk.critic_input(b, model, &part.batch, members);
                let activations = transformer::forward(
                    b,
                    model,
                    x,
                    &part.batch,
                    trainable.first_layer(),
                    Some(*recompute),
                );
                let dvalues = fit(&heads::scalars(b, model, &activations.hidden, &part.value_rows));
                let mut dhidden = b.zeros(part.batch.rows() * model.spec.embedding_width);
                heads::scalar_scores_backward(
                    b,
                    model,
                    &mut dhidden,
                    gradients,
                    &activations.hidden,
                    &part.value_rows,
                    &dvalues,
                );
                transformer::backward(
                    b,
                    model,
                    &part.batch,
                    &activations,
                    &dhidden,
                    gradients,
                    trainable,
                );
            }
        }
        if !warming {
            transformer::backward(
                b,
                model,
                &part.batch,
                &activations,
                &dhidden,
                gradients,
                trainable,
            );
        }
    }
}

/// What the losses of a minibatch are averaged over.
#[derive(Clone, Copy)]
struct Counts {
    /// Response tokens: the policy loss.
    tokens: usize,
    /// Positions whose values are fitted: the value loss.
    positions: usize,
}

/// Sums over the updates of a step.
struct Tally<B: Backend> {
    policy: B::Sums,
    value: B::Sums,
    entropy: B::Sums,
    tokens: usize,
    positions: usize,
    norm: f64,
}

impl<B: Backend> Tally<B> {
    fn new(b: &B) -> Self {
        Tally {
            policy: b.sums(RATIO_SUMS),
            value: b.sums(SQUARE_SUMS),
            entropy: b.sums(1),
            tokens: 0,
            positions: 0,
            norm: 0.0,
        }
    }

    /// The policy's, so far.
    fn policy(&self, b: &B) -> PolicyStatistics {
        PolicyStatistics::new(
            self.tokens,
            b.download_sums(&self.policy).try_into().expect("as many as are added up"),
        )
    }

    /// The value function's, so far.
    fn value(&self, b: &B) -> ValueStatistics {
        ValueStatistics::new(
            self.positions,
            b.download_sums(&self.value).try_into().expect("as many as are added up"),
        )
    }
}

/// Some responses, packed.
struct Part {
    batch: Batch,
    /// Of response tokens: the rows that predict them, the tokens, what belongs to each.
    rows: Vec<u32>,
    targets: Vec<u32>,
    logprobs: Vec<f32>,
    advantages: Vec<f32>,
    /// Of positions whose values are fitted: their rows, what belongs to each.
    value_rows: Vec<u32>,
    values: Vec<f32>,
    returns: Vec<f32>,
}

impl Part {
    fn new(
        rollouts: &[Rollout],
        estimates: &[Estimate],
        members: &[usize],
        settings: &Settings<'_>,
    ) -> Self {
        let sequences: Vec<&[u32]> =
            members.iter().map(|member| rollouts[*member].tokens.as_slice()).collect();
        let from: Vec<usize> = members.iter().map(|member| rollouts[*member].prompt).collect();
        let (rows, targets) = scored_tokens(&sequences, &from);
        let (batch, chosen) =
            (Batch::new(&sequences), || members.iter().map(|member| &rollouts[*member]));
        Part {
            rows,
            targets,
            logprobs: chosen().flat_map(|rollout| rollout.logprobs.iter().copied()).collect(),
            advantages: members
                .iter()
                .flat_map(|member| estimates[*member].advantages.clone())
                .collect(),
            value_rows: value_rows(
                &batch,
                chosen().map(|rollout| (rollout.prompt, rollout.fitted(settings))),
            ),
            values: chosen()
                .flat_map(|rollout| rollout.values[..rollout.fitted(settings)].iter().copied())
                .collect(),
            returns: members.iter().flat_map(|member| estimates[*member].returns.clone()).collect(),
            batch,
        }
    }
}

/// The rows of a batch whose hidden states give values: for each sequence (tokens of its prompt,
/// positions), those before its positions.
fn value_rows(batch: &Batch, sequences: impl Iterator<Item = (usize, usize)>) -> Vec<u32> {
    let rows = |(start, (prompt, positions)): (&usize, (usize, usize))| {
        let first = start + prompt - 1;
        first as u32..(first + positions) as u32
    };
    batch.starts.iter().zip(sequences).flat_map(rows).collect()
}
