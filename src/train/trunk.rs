//! The blocks that do not learn, run once for all models of a PPO step as far as these are the same
//! tensors. Knows no reward and no loss.
//!
//! 1. Policy and reference share the frozen blocks by construction. A reward model, and a critic of
//!    its own, share with them the lowest blocks that are the same buffers
//!    (`Model::shared_blocks`): one pass goes up the policy's, and each of the others leaves it
//!    where its own blocks begin.
//! 2. The pass reads what the reward model is to read, which may have one token more than the
//!    policy's sequence: the end of a text that lacks one. A row knows nothing of rows after it, so
//!    those of the policy's tokens have the bits that they have without it.
//! 3. What goes into the first block that trains is kept for all epochs of the step.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::optimiser::TrainState;
use crate::backend::Backend;
use crate::model::batch::{Batch, micro_batches};
use crate::model::heads;
use crate::model::score::last_scalars;
use crate::model::transformer;
use crate::model::weights::Model;

/// The models of a step, except for the reference, whose frozen blocks are the policy's.
pub(super) struct Members<'a, B: Backend> {
    /// The policy.
    pub(super) policy: &'a TrainState<B>,
    /// The critic, where it is a separate network.
    pub(super) critic: Option<&'a TrainState<B>>,
    /// The reward model.
    pub(super) reward: &'a Model<B>,
}

impl<B: Backend> Members<'_, B> {
    /// The block at which `model`, which has no use for the pass above block `most`, leaves the
    /// policy's; `None` where it goes alone.
    fn leaves(&self, model: &Model<B>, most: usize) -> Option<usize> {
        let frozen = self.policy.trainable.first_layer();
        (frozen > 0)
            .then(|| model.shared_blocks(&self.policy.model))
            .flatten()
            .map(|shared| shared.min(most).min(frozen))
    }
}

/// Sequences of a step with what the frozen blocks make of them.
pub(super) struct Trunk<B: Backend> {
    /// `[n,d]` over all sequences, where blocks of the policy are frozen.
    policy: Option<Arc<B::Buf>>,
    /// The same of a separate critic.
    critic: Option<Arc<B::Buf>>,
    /// Where each sequence begins in them.
    starts: Vec<usize>,
    /// Its tokens: those of the policy.
    lengths: Vec<usize>,
}

impl<B: Backend> Trunk<B> {
    /// The pass over `sequences`, and the reward model's raw score of each of `judged`, which are
    /// the same or go on from them.
    pub(super) fn new(
        b: &B,
        members: &Members<'_, B>,
        sequences: &[&[u32]],
        judged: &[&[u32]],
    ) -> (Self, Vec<f32>) {
        let Members { policy, critic, reward } = members;
        let lengths: Vec<usize> = sequences.iter().map(|tokens| tokens.len()).collect();
        assert!(
            sequences.iter().zip(judged).all(|(tokens, judged)| judged.starts_with(tokens)),
            "what is judged begins as the sequence"
        );
        let judge_leaves = members.leaves(reward, usize::MAX);
        // The policy may have no room for a token more, unless the reward model is of its form.
        let sequences = if judge_leaves.is_some() { judged } else { sequences };
        let starts = Batch::new(sequences).starts;

        let frozen = policy.trainable.first_layer();
        let critic_frozen = critic.map_or(0, |critic| critic.trainable.first_layer());
        let critic_leaves = critic.and_then(|critic| members.leaves(&critic.model, critic_frozen));
        let goes_along = critic_leaves == Some(frozen) && critic_frozen == frozen;
        let room = |model: &Model<B>, there: bool| {
            there.then(|| b.zeros(starts[sequences.len()] * model.spec.width))
        };
        let mut policy_kept = room(&policy.model, frozen > 0);
        let mut critic_kept =
            critic.and_then(|critic| room(&critic.model, critic_frozen > 0 && !goes_along));

        // Where somebody leaves, in order; the last is where the policy begins to learn.
        let stops: BTreeSet<usize> =
            [judge_leaves, critic_leaves, Some(frozen)].into_iter().flatten().collect();
        let mut scores = Vec::with_capacity(sequences.len());
        for run in micro_batches(sequences.iter().map(|tokens| tokens.len())) {
            let batch = Batch::new(&sequences[run.clone()]);
            let rows: Vec<u32> = (starts[run.start] as u32..starts[run.end] as u32).collect();
            if let Some(kept) = &mut policy_kept {
                let (mut at, mut x) = (0, transformer::trunk(b, &policy.model, &batch, 0));
                for stop in &stops {
                    x = transformer::higher(b, &policy.model, x, &batch, at..*stop);
                    at = *stop;
                    if judge_leaves == Some(at) {
                        let hidden =
                            transformer::forward(b, reward, copied(b, &x), &batch, at, None).hidden;
                        scores.extend(
                            heads::scalar_scores(b, reward, &hidden, &batch.lasts())
                                .into_iter()
                                .map(|score| score as f32),
                        );
                    }
                    if let (Some(kept), Some(critic), true) =
                        (&mut critic_kept, critic, critic_leaves == Some(at))
                    {
                        let x = transformer::higher(
                            b,
                            &critic.model,
                            copied(b, &x),
                            &batch,
                            at..critic_frozen,
                        );
                        b.scatter_add_rows(kept, &x, &rows, critic.model.spec.width);
                    }
                }
                b.scatter_add_rows(kept, &x, &rows, policy.model.spec.width);
            }
            if let (Some(kept), Some(critic), None) = (&mut critic_kept, critic, critic_leaves) {
                let x = transformer::trunk(b, &critic.model, &batch, critic_frozen);
                b.scatter_add_rows(kept, &x, &rows, critic.model.spec.width);
            }
        }
        if judge_leaves.is_none() {
            scores = last_scalars(b, reward, judged);
        }
        let policy = policy_kept.map(Arc::new);
        let critic = if goes_along { policy.clone() } else { critic_kept.map(Arc::new) };
        (Trunk { policy, critic, starts, lengths }, scores)
    }

    /// The input of the first block that learns, for some of the sequences: for the policy or,
    /// where `model` is that, the reference.
    pub(super) fn policy_input(
        &self,
        b: &B,
        model: &Model<B>,
        batch: &Batch,
        members: &[usize],
    ) -> B::Buf {
        self.input(b, self.policy.as_deref(), model, batch, members)
    }

    /// The same of a separate critic.
    pub(super) fn critic_input(
        &self,
        b: &B,
        model: &Model<B>,
        batch: &Batch,
        members: &[usize],
    ) -> B::Buf {
        self.input(b, self.critic.as_deref(), model, batch, members)
    }

    fn input(
        &self,
        b: &B,
        kept: Option<&B::Buf>,
        model: &Model<B>,
        batch: &Batch,
        members: &[usize],
    ) -> B::Buf {
        // Nothing is kept where no block is frozen, and where the embeddings may be each model's
        // own.
        let Some(kept) = kept else { return transformer::trunk(b, model, batch, 0) };
        let d = model.spec.width;
        let rows = |member: &usize| {
            self.starts[*member] as u32..(self.starts[*member] + self.lengths[*member]) as u32
        };
        let rows: Vec<u32> = members.iter().flat_map(rows).collect();
        let mut input = b.zeros(rows.len() * d);
        b.gather_rows(&mut input, kept, &rows, d);
        input
    }
}

fn copied<B: Backend>(b: &B, x: &B::Buf) -> B::Buf {
    let mut copy = b.zeros(b.len(x));
    b.copy(&mut copy, x);
    copy
}
