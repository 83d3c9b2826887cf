//! Rollouts: sampled responses with everything that policy optimisation reads of them, and their
//! scoring by the models of a step. Works on token ids; the caller samples.
//!
//! 1. Log-probabilities of a rollout are those of sampling. The reference, the reward model and
//!    the critic score it afterwards, over one shared pass of the frozen blocks (`trunk.rs`).
//! 2. Values of positions behind a response's end come from one pass of the critic over responses
//!    that are filled up with pad tokens, if conventions let such positions take part
//!    (`Scope::Padded`). They take part in GAE and whitening, and are not fitted.

use std::ops::Range;

use super::critic::{Critic, value_rows};
use super::optimiser::TrainState;
use super::steps::diverged;
use super::trunk::{Member, Members, Trunk};
use crate::backend::Backend;
use crate::error::Result;
use crate::model::batch::{Batch, micro_batches, scored_tokens, split};
use crate::model::heads::{self, TargetTokens};
use crate::model::transformer;
use crate::model::weights::Model;
use crate::rl::advantage::{Conventions, Response, Scope};
use crate::rl::preference::Normalisation;

/// The rules of a step's responses, the same in every step.
#[derive(Clone, Copy, Debug)]
pub struct RolloutSettings {
    /// Temperature of sampling, and so of every log-probability.
    pub temperature: f32,
    /// Largest number of tokens of a response, EOS included.
    pub max_new_tokens: usize,
    /// Token that fills up responses if conventions let positions behind their end take part.
    pub pad: u32,
    /// Rules by which rewards become advantages.
    pub conventions: Conventions,
}

/// One sampled response; T tokens, EOS included where it ended.
#[derive(Clone, Debug)]
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
    /// `[T]` under the policy at its start, where that is not the reference.
    pub initial: Option<Vec<f32>>,
    /// `[P]`: the value before each position that GAE runs over ([`Conventions::positions`]); 0
    /// without a critic.
    pub values: Vec<f32>,
    /// The score before the missing-EOS rule: the reward model's, normalised, which is known after
    /// the step; or what the caller has filled in.
    pub score: f64,
}

impl Rollout {
    /// A response that is sampled and not yet scored: `response [T]` after `prompt`, with the
    /// log-probabilities `[T]` of its tokens.
    pub fn sampled(prompt: &[u32], response: &[u32], logprobs: Vec<f32>, ended: bool) -> Self {
        Rollout {
            tokens: [prompt, response].concat(),
            prompt: prompt.len(),
            ended,
            logprobs,
            reference: Vec::new(),
            initial: None,
            values: Vec::new(),
            score: 0.0,
        }
    }

    /// `[T]` under the policy at its start.
    pub fn under_initial(&self) -> &[f32] {
        self.initial.as_ref().unwrap_or(&self.reference)
    }

    /// `T`: tokens of the response.
    pub fn length(&self) -> usize {
        self.tokens.len() - self.prompt
    }

    /// Its numbers for advantages.
    pub(super) fn response(&self, settings: &RolloutSettings) -> Response<'_> {
        let Rollout { logprobs, reference, values, score, ended, .. } = self;
        Response {
            log_probs: logprobs,
            reference,
            values,
            score: *score,
            ended: *ended,
            limit: settings.max_new_tokens,
        }
    }

    /// Positions whose values are fitted.
    pub(super) fn fitted(&self, settings: &RolloutSettings) -> usize {
        settings.conventions.fitted(self.length(), settings.max_new_tokens)
    }

    /// Refuses numbers that are not finite; `row` is its place in the step, and errors call its
    /// score `score`.
    fn check(&self, row: usize, score: &str) -> Result<()> {
        let lists = [
            ("log-probability", &self.logprobs),
            ("reference log-probability", &self.reference),
            ("value", &self.values),
        ];
        let initial = self.initial.iter().map(|own| ("log-probability at the start", own));
        for (name, numbers) in lists.into_iter().chain(initial) {
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
            false => {
                let message = format!("{score} of response {} is {}", row + 1, self.score);
                Err(diverged(message).into())
            }
        }
    }

    /// Its tokens, followed by the pad tokens that complete its response.
    fn filled(&self, settings: &RolloutSettings) -> Vec<u32> {
        let mut tokens = self.tokens.clone();
        tokens.resize(self.prompt + settings.max_new_tokens, settings.pad);
        tokens
    }
}

/// The models of a step that do not train.
pub struct FrozenModels<'a, B: Backend> {
    /// The policy at its start, or as it was later, whose frozen trunk the policy shares.
    pub reference: &'a Model<B>,
    /// The model that scores responses, and the normalisation of its raw scores; `None` where the
    /// caller has filled in scores.
    pub reward: Option<(&'a Model<B>, Normalisation)>,
}

/// The models that score rollouts.
pub(super) struct Scoring<'a, B: Backend> {
    pub(super) b: &'a B,
    pub(super) policy: &'a TrainState<B>,
    pub(super) critic: &'a Critic<B>,
    pub(super) frozen: FrozenModels<'a, B>,
    /// The policy at its start, where that is not the reference.
    pub(super) initial: Option<&'a Model<B>>,
    pub(super) settings: &'a RolloutSettings,
}

impl<B: Backend> Scoring<'_, B> {
    /// Fills in score, reference log-probabilities and values of `rollouts`; `judged` are the
    /// sequences that the reward model reads, each of which begins with the rollout's, and none
    /// without one. Returns the frozen trunk, which serves the updates as well.
    ///
    /// # Errors
    /// The user's, if a number is not finite: training diverged.
    pub(super) fn score(&self, rollouts: &mut [Rollout], judged: &[Vec<u32>]) -> Result<Trunk<B>> {
        let Scoring { b, policy, critic, frozen, settings, .. } = self;
        let members = Members {
            lead: Member::from(*policy),
            others: critic.separate().map(Member::from).into_iter().collect(),
            readers: frozen.reward.iter().map(|(model, _)| *model).collect(),
        };
        let sequences = sequences(rollouts);
        let judged: Vec<&[u32]> = judged.iter().map(Vec::as_slice).collect();
        let mut raw = Vec::with_capacity(rollouts.len());
        let longer = if frozen.reward.is_some() { &judged } else { &sequences };
        let trunk = Trunk::new(*b, &members, &sequences, longer, |reader, batch, hidden| {
            raw.extend(heads::scalar_scores(*b, members.readers[reader], hidden, &batch.lasts()));
        });
        if let Some((_, normalisation)) = &frozen.reward {
            for (rollout, raw) in rollouts.iter_mut().zip(raw) {
                rollout.score = normalisation.apply(f64::from(raw as f32));
            }
        }
        self.reference_and_values(rollouts, &trunk);
        if settings.conventions.scope == Scope::Padded {
            self.padded_values(rollouts);
        }
        let score = match frozen.reward {
            Some(_) => "the reward model's score",
            None => "the score",
        };
        rollouts.iter().enumerate().try_for_each(|(row, rollout)| rollout.check(row, score))?;
        Ok(trunk)
    }

    /// Fills in log-probabilities under the reference and the policy at its start, and values.
    fn reference_and_values(&self, rollouts: &mut [Rollout], trunk: &Trunk<B>) {
        for (run, batch) in batches(rollouts) {
            let members: Vec<usize> = run.clone().collect();
            let part = &mut rollouts[run];
            let logprobs = self.under(self.frozen.reference, part, &batch, trunk, &members);
            let initial = self.initial.map(|it| self.under(it, part, &batch, trunk, &members));
            let values = self.values(part, &batch, trunk, &members);
            for (rollout, (logprobs, values)) in
                part.iter_mut().zip(logprobs.into_iter().zip(values))
            {
                (rollout.reference, rollout.values) = (logprobs, values);
            }
            for (rollout, logprobs) in part.iter_mut().zip(initial.into_iter().flatten()) {
                rollout.initial = Some(logprobs);
            }
        }
    }

    /// Computes the values of scored rollouts anew, by the critic as it is now.
    ///
    /// # Errors
    /// The user's, if a number is not finite: training diverged.
    pub(super) fn values_anew(&self, rollouts: &mut [Rollout], trunk: &Trunk<B>) -> Result<()> {
        if self.settings.conventions.scope == Scope::Padded {
            self.padded_values(rollouts);
        } else {
            for (run, batch) in batches(rollouts) {
                let members: Vec<usize> = run.clone().collect();
                let part = &mut rollouts[run];
                let values = self.values(part, &batch, trunk, &members);
                part.iter_mut().zip(values).for_each(|(rollout, own)| rollout.values = own);
            }
        }
        rollouts.iter().enumerate().try_for_each(|(row, rollout)| rollout.check(row, "the score"))
    }

    /// Log-probabilities `[T]` of each of `part` under `model`, which has the frozen blocks of the
    /// policy.
    fn under(
        &self,
        model: &Model<B>,
        part: &[Rollout],
        batch: &Batch,
        trunk: &Trunk<B>,
        members: &[usize],
    ) -> Vec<Vec<f32>> {
        let b = self.b;
        let sequences = sequences(part);
        let from: Vec<usize> = part.iter().map(|rollout| rollout.prompt).collect();
        let (rows, targets) = scored_tokens(&sequences, &from);
        let x = trunk.input(b, model, batch, members);
        let first_layer = self.policy.trainable.first_layer();
        let hidden = transformer::forward(b, model, x, batch, first_layer, None).hidden;
        let scored =
            TargetTokens { rows: &rows, targets: &targets, temperature: self.settings.temperature };
        let logprobs =
            b.download_f64(&heads::token_logprobs(b, model, &hidden, scored, false).logprobs);
        split(&logprobs, part.iter().map(Rollout::length))
    }

    /// The values of each of `part` at its fitted positions.
    fn values(
        &self,
        part: &[Rollout],
        batch: &Batch,
        trunk: &Trunk<B>,
        members: &[usize],
    ) -> Vec<Vec<f32>> {
        let (b, policy) = (self.b, self.policy);
        let fitted = || part.iter().map(|rollout| rollout.fitted(self.settings));
        let (model, x, first_layer) = match self.critic {
            Critic::None => return fitted().map(|fitted| vec![0.0; fitted]).collect(),
            Critic::Shared => {
                let x = trunk.input(b, &policy.model, batch, members);
                (&policy.model, x, policy.trainable.first_layer())
            }
            Critic::Separate(critic) => {
                let x = trunk.input_of(b, CRITIC, &critic.model, batch, members);
                (&critic.model, x, critic.trainable.first_layer())
            }
        };
        let hidden = transformer::forward(b, model, x, batch, first_layer, None).hidden;
        let rows = value_rows(batch, part.iter().map(|rollout| rollout.prompt).zip(fitted()));
        split(&heads::scalar_scores(b, model, &hidden, &rows), fitted())
    }

    /// Fills in the values of all positions that a response might have had, behind its end too.
    fn padded_values(&self, rollouts: &mut [Rollout]) {
        let (b, most) = (self.b, self.settings.max_new_tokens);
        let Some(model) = self.critic.model(&self.policy.model) else {
            rollouts.iter_mut().for_each(|rollout| rollout.values.resize(most, 0.0));
            return;
        };
        let filled: Vec<Vec<u32>> =
            rollouts.iter().map(|rollout| rollout.filled(self.settings)).collect();
        for run in micro_batches(filled.iter().map(Vec::len)) {
            let sequences: Vec<&[u32]> = filled[run.clone()].iter().map(Vec::as_slice).collect();
            let batch = Batch::new(&sequences);
            let x = transformer::trunk(b, model, &batch, 0);
            let hidden = transformer::forward(b, model, x, &batch, 0, None).hidden;
            let part = &mut rollouts[run];
            let rows = value_rows(&batch, part.iter().map(|rollout| (rollout.prompt, most)));
            let values = heads::scalar_scores(b, model, &hidden, &rows);
            for (rollout, values) in
                part.iter_mut().zip(split(&values, vec![most; sequences.len()]))
            {
                rollout.values = values;
            }
        }
    }
}

/// The tokens of prompts and responses.
fn sequences(rollouts: &[Rollout]) -> Vec<&[u32]> {
    rollouts.iter().map(|rollout| rollout.tokens.as_slice()).collect()
}

/// The cut of rollouts into passes: the places of each, and its batch.
fn batches(rollouts: &[Rollout]) -> Vec<(Range<usize>, Batch)> {
    let lengths: Vec<usize> = rollouts.iter().map(|rollout| rollout.tokens.len()).collect();
    let batch = |run: Range<usize>| (run.clone(), Batch::new(&sequences(&rollouts[run])));
    micro_batches(lengths).into_iter().map(batch).collect()
}

/// Fills in the log-probabilities of `rollouts` under the reference, for methods without a critic
/// whose scores the caller has filled in.
///
/// # Errors
/// The user's, if a number is not finite: training diverged.
pub(super) fn score_reference<B: Backend>(
    b: &B,
    policy: &TrainState<B>,
    reference: &Model<B>,
    rollouts: &mut [Rollout],
    settings: &RolloutSettings,
) -> Result<Trunk<B>> {
    let frozen = FrozenModels { reference, reward: None };
    let critic = &Critic::None;
    Scoring { b, policy, critic, frozen, initial: None, settings }.score(rollouts, &[])
}

/// The place of a separate critic among the other models of the trunk.
pub(super) const CRITIC: usize = 0;
