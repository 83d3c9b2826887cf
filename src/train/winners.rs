//! Expert iteration: a policy samples responses and learns the best of them by likelihood. Works on
//! token ids.
//!
//! 1. Of the responses to each prompt the first of those with the greatest reward is learned,
//!    unless that is below the least reward.
//! 2. A round goes through the winners in batches as supervised fine-tuning does: the loss is the
//!    mean over response tokens, EOS included where the response has it.
//! 3. A round begins with the weights and moments of the last one (RAFT, Dong et al. 2023, arXiv
//!    2304.06767), or with the original model (ReST-EM, Singh et al. 2023, arXiv 2312.06585); then
//!    the schedule of the learning rate begins anew too.

use super::language;
use super::online::objective;
use super::optimiser::{OptimiserConfig, TrainState};
use super::policy_training::PolicyTraining;
use super::rollouts::{Rollout, RolloutSettings, score_reference};
use crate::backend::Backend;
use crate::data::batches::batches;
use crate::data::tokenised::Tokenised;
use crate::error::Result;
use crate::model::weights::Model;
use crate::rl::group::Rewarded;
use crate::rl::{Metrics, ratio_or_zero};

/// The values that are the same in every round.
pub struct Settings<'a> {
    /// Number of rounds.
    pub rounds: usize,
    /// Prompts of a round.
    pub prompts: usize,
    /// Winners of an optimiser step.
    pub batch_size: usize,
    /// Passes over the winners of a round.
    pub epochs: usize,
    /// Least reward of a winner; `None` takes the best of every prompt.
    pub least_reward: Option<f64>,
    /// Whether a round begins with the original model.
    pub from_original: bool,
    /// Rules of responses; `conventions` has the missing-EOS rule.
    pub rollouts: RolloutSettings,
    /// The optimiser.
    pub optimiser: &'a OptimiserConfig,
    /// Seed of the order of winners.
    pub seed: u64,
}

impl<B: Backend> PolicyTraining<'_, B> {
    /// Round number `round` (0 is the first) on sampled responses, whose `reference` it fills in.
    /// `rewarded` has one entry for each, after the missing-EOS rule. `original` gives a training
    /// state of the model that the run began with. `go_on` is asked before every optimiser step.
    ///
    /// # Errors
    /// The user's, if training diverged; those of `go_on`.
    pub fn learn_winners(
        &mut self,
        round: usize,
        (rollouts, rewarded): (&mut [Rollout], &[Rewarded]),
        reference: &Model<B>,
        original: impl FnOnce() -> Result<TrainState<B>>,
        settings: &Settings<'_>,
        go_on: &dyn Fn() -> Result<()>,
    ) -> Result<Metrics> {
        let (b, rules) = (self.b, &settings.rollouts);
        score_reference(b, &self.policy, reference, rollouts, rules)?;
        let mut metrics = objective(rollouts, rewarded, 0.0, rules);
        let chosen = winners(rewarded, settings.least_reward);
        let best: f64 = chosen.iter().filter_map(|at| rewarded[*at].reward).sum();
        metrics.extend([
            ("num_winners", chosen.len() as f64),
            ("objective/winners_scores", ratio_or_zero(best, chosen.len())),
        ]);
        let rows: Vec<Tokenised> = chosen
            .iter()
            .map(|at| Tokenised {
                tokens: rollouts[*at].tokens.clone(),
                prompt: rollouts[*at].prompt,
                ..Tokenised::default()
            })
            .collect();
        if settings.from_original {
            self.policy = original()?;
        }
        metrics.extend(self.learn(round, &rows, settings, go_on)?);
        metrics.push(("episode", ((round + 1) * rollouts.len()) as f64));
        Ok(metrics)
    }

    /// The updates of a round. Figures are means over its optimiser steps, the learning rate that
    /// of the last, `num_tokens` a sum; all are 0 without a winner.
    fn learn(
        &mut self,
        round: usize,
        rows: &[Tokenised],
        settings: &Settings<'_>,
        go_on: &dyn Fn() -> Result<()>,
    ) -> Result<Metrics> {
        let b = self.b;
        let lengths: Vec<usize> = rows.iter().map(|row| row.tokens.len()).collect();
        let order: Vec<Vec<usize>> = (0..settings.epochs)
            .flat_map(|epoch| {
                let number = (round * settings.epochs + epoch) as u64;
                batches(&lengths, settings.batch_size, settings.seed, number)
            })
            .collect();
        // As many as a winner of every prompt makes: a round has its place in the schedule however
        // many winners there are.
        let most = settings.epochs * settings.prompts.div_ceil(settings.batch_size);
        let (before, total) = match settings.from_original {
            true => (0, most),
            false => (round * most, settings.rounds * most),
        };
        let (mut sums, mut tokens, mut rate) = ([0.0; 3], 0.0, 0.0);
        for (at, batch) in order.iter().enumerate() {
            go_on()?;
            let batch: Vec<&Tokenised> = batch.iter().map(|row| &rows[*row]).collect();
            self.policy.clear_gradients(b);
            let figures = language::accumulate(b, &mut self.policy, &batch);
            rate = settings.optimiser.rate(before + at, total);
            let norm = self.policy.update(b, settings.optimiser, rate, 1.0, |_| true);
            let figure = |name| {
                let found = figures.iter().find(|(own, _)| *own == name);
                found.map_or(0.0, |(_, value)| *value)
            };
            for (sum, own) in sums.iter_mut().zip([figure("loss"), figure("entropy"), norm]) {
                *sum += own;
            }
            tokens += figure("num_tokens");
        }
        let [loss, entropy, norm] = sums.map(|sum| ratio_or_zero(sum, order.len()));
        Ok(vec![
            ("loss", loss),
            ("entropy", entropy),
            ("num_tokens", tokens),
            ("grad_norm", norm),
            ("learning_rate", rate),
        ])
    }
}

/// Places of the best response to each prompt: the first of those with the greatest reward, where
/// that is at least `least`.
fn winners(rewarded: &[Rewarded], least: Option<f64>) -> Vec<usize> {
    let mut found = Vec::new();
    let mut start = 0;
    for group in rewarded.chunk_by(|one, other| one.group == other.group) {
        let mut best: Option<(usize, f64)> = None;
        for (at, response) in group.iter().enumerate() {
            if let Some(reward) = response.reward
                && best.is_none_or(|(_, most)| reward > most)
            {
                best = Some((start + at, reward));
            }
        }
        start += group.len();
        let wins = |(_, reward): &(usize, f64)| least.is_none_or(|least| *reward >= least);
        found.extend(best.filter(wins).map(|(at, _)| at));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_best_wins_where_it_is_good_enough() {
        let response = |group, reward| Rewarded { group, reward, tokens: 3 };
        let rewarded = [
            response(0, Some(1.0)),
            response(0, Some(3.0)),
            response(0, Some(3.0)),
            response(1, None),
            response(1, Some(0.5)),
            response(2, None),
        ];
        assert_eq!(winners(&rewarded, None), [1, 4]);
        assert_eq!(winners(&rewarded, Some(3.0)), [1]);
    }
}
