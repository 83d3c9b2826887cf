//! The shared frozen trunk: one pass through blocks that do not train, for all models that have
//! them in common. Independent of rewards, losses and the roles of the models.
//!
//! 1. The pass goes up the frozen blocks of one model, the lead. A model with the same buffers in
//!    its lowest blocks (`Model::shared_blocks`) leaves the pass at its first block that differs. A
//!    model that shares nothing runs its blocks itself.
//! 2. Of a model that trains, the input of its first trained block is kept, for all epochs of a
//!    step. A twin with the same frozen blocks (the reference of a policy) uses the same input.
//! 3. A reader is a model that no epoch needs again (a reward model): it runs to its top during
//!    the pass, and its last hidden states go to a function of the caller.
//! 4. The readers' sequences may be longer than the lead's: a reward model reads the end-of-text
//!    token that a response may lack. The pass then runs over the longer ones. A row depends on no
//!    later row, so the rows of the lead's tokens have the same bits.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::optimiser::TrainState;
use crate::backend::Backend;
use crate::model::batch::{Batch, micro_batches};
use crate::model::transformer;
use crate::model::weights::Model;

/// A model, and the number of its lowest blocks that are frozen.
pub struct Member<'a, B: Backend> {
    /// The model.
    pub model: &'a Model<B>,
    /// Its first block that trains.
    pub frozen: usize,
}

impl<'a, B: Backend> From<&'a TrainState<B>> for Member<'a, B> {
    fn from(state: &'a TrainState<B>) -> Self {
        Member { model: &state.model, frozen: state.trainable.first_layer() }
    }
}

impl<B: Backend> Member<'_, B> {
    /// The block at which `model`, which has no use for the pass above block `most`, leaves the
    /// pass of this lead; `None` if it runs by itself.
    fn leaves(&self, model: &Model<B>, most: usize) -> Option<usize> {
        (self.frozen > 0)
            .then(|| model.shared_blocks(self.model))
            .flatten()
            .map(|shared| shared.min(most).min(self.frozen))
    }
}

/// The models of a pass.
pub struct Members<'a, B: Backend> {
    /// The model whose frozen blocks the pass runs.
    pub lead: Member<'a, B>,
    /// Other models that train.
    pub others: Vec<Member<'a, B>>,
    /// Models whose last hidden states are read once.
    pub readers: Vec<&'a Model<B>>,
}

/// The inputs of the first trained blocks, for all sequences of a step.
pub struct Trunk<B: Backend> {
    /// `[n,d]` over all sequences, if blocks of the lead are frozen.
    lead: Option<Arc<B::Buf>>,
    /// The same of each of the other models.
    others: Vec<Option<Arc<B::Buf>>>,
    /// Where each sequence begins in them.
    starts: Vec<usize>,
    /// Its tokens: those of the lead.
    lengths: Vec<usize>,
}

/// Where each model leaves the pass, if it takes part.
struct Leaves {
    readers: Vec<Option<usize>>,
    others: Vec<Option<usize>>,
}

impl Leaves {
    fn of<B: Backend>(Members { lead, others, readers }: &Members<'_, B>) -> Self {
        Leaves {
            readers: readers.iter().map(|model| lead.leaves(model, usize::MAX)).collect(),
            others: others.iter().map(|other| lead.leaves(other.model, other.frozen)).collect(),
        }
    }

    /// Whether the input of the other model `at` is that of the lead.
    fn goes_along<B: Backend>(
        &self,
        Members { lead, others, .. }: &Members<'_, B>,
        at: usize,
    ) -> bool {
        self.others[at] == Some(lead.frozen) && others[at].frozen == lead.frozen
    }
}

impl<B: Backend> Trunk<B> {
    /// The pass over `sequences`. `longer` has one sequence for each, which begins with it: the
    /// readers' sequences. `read(reader, batch, hidden)` receives the last hidden states `[n,d]` of
    /// each reader, by its place in `members`, batch after batch in the order of the sequences.
    ///
    /// # Panics
    /// If a sequence is not the beginning of its longer one.
    pub fn new(
        b: &B,
        members: &Members<'_, B>,
        sequences: &[&[u32]],
        longer: &[&[u32]],
        mut read: impl FnMut(usize, &Batch, &B::Buf),
    ) -> Self {
        let lengths = sequences.iter().map(|tokens| tokens.len()).collect();
        assert!(
            sequences.iter().zip(longer).all(|(tokens, longer)| longer.starts_with(tokens)),
            "the sequence of a reader begins with that of the lead"
        );
        let leaves = Leaves::of(members);
        // The lead may have no room for one more token, unless a reader is of its shape.
        let shares = leaves.readers.iter().any(Option::is_some);
        let sequences = if shares { longer } else { sequences };
        let starts = Batch::new(sequences).starts;

        let room = |member: &Member<'_, B>| {
            (member.frozen > 0).then(|| b.zeros(starts[sequences.len()] * member.model.spec.width))
        };
        let mut lead = room(&members.lead);
        let mut others: Vec<Option<B::Buf>> = members
            .others
            .iter()
            .enumerate()
            .map(|(at, other)| if leaves.goes_along(members, at) { None } else { room(other) })
            .collect();
        for run in micro_batches(sequences.iter().map(|tokens| tokens.len())) {
            let batch = Batch::new(&sequences[run.clone()]);
            let rows: Vec<u32> = (starts[run.start] as u32..starts[run.end] as u32).collect();
            if let Some(lead) = &mut lead {
                let x = pass(b, members, &leaves, &batch, &rows, &mut others, &mut read);
                b.scatter_add_rows(lead, &x, &rows, members.lead.model.spec.width);
            }
            for ((kept, other), leaves) in
                others.iter_mut().zip(&members.others).zip(&leaves.others)
            {
                if let (Some(kept), None) = (kept, leaves) {
                    let x = transformer::trunk(b, other.model, &batch, other.frozen);
                    b.scatter_add_rows(kept, &x, &rows, other.model.spec.width);
                }
            }
        }
        for (at, model) in members.readers.iter().enumerate() {
            if leaves.readers[at].is_none() {
                for run in micro_batches(longer.iter().map(|tokens| tokens.len())) {
                    let batch = Batch::new(&longer[run]);
                    read(at, &batch, &transformer::hidden(b, model, &batch));
                }
            }
        }
        let lead = lead.map(Arc::new);
        let others = others.into_iter().enumerate().map(|(at, kept)| {
            if leaves.goes_along(members, at) { lead.clone() } else { kept.map(Arc::new) }
        });
        Trunk { others: others.collect(), lead, starts, lengths }
    }

    /// The input `[n,d]` of the lead's first trained block, for `batch`, which has the sequences
    /// `members` of the step. `model` is the lead, or a twin with the same frozen blocks.
    pub fn input(&self, b: &B, model: &Model<B>, batch: &Batch, members: &[usize]) -> B::Buf {
        self.rows(b, self.lead.as_deref(), model, batch, members)
    }

    /// The same of `model`, which is the other model of the place `other`.
    pub fn input_of(
        &self,
        b: &B,
        other: usize,
        model: &Model<B>,
        batch: &Batch,
        members: &[usize],
    ) -> B::Buf {
        self.rows(b, self.others[other].as_deref(), model, batch, members)
    }

    fn rows(
        &self,
        b: &B,
        kept: Option<&B::Buf>,
        model: &Model<B>,
        batch: &Batch,
        members: &[usize],
    ) -> B::Buf {
        // Nothing is kept if no block is frozen; the embeddings may then differ between models.
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

/// The pass over one batch: the input `[n,d]` of the lead's first trained block. What the others
/// keep is added to `others`, at `rows`.
fn pass<B: Backend>(
    b: &B,
    Members { lead, others: members, readers }: &Members<'_, B>,
    leaves: &Leaves,
    batch: &Batch,
    rows: &[u32],
    others: &mut [Option<B::Buf>],
    read: &mut impl FnMut(usize, &Batch, &B::Buf),
) -> B::Buf {
    let leave = leaves.readers.iter().chain(&leaves.others).copied().flatten();
    let stops: BTreeSet<usize> = leave.chain([lead.frozen]).collect();
    let (mut at, mut x) = (0, transformer::trunk(b, lead.model, batch, 0));
    for stop in stops {
        x = transformer::higher(b, lead.model, x, batch, at..stop);
        at = stop;
        for (place, (model, leaves)) in readers.iter().zip(&leaves.readers).enumerate() {
            if *leaves == Some(at) {
                let hidden = transformer::forward(b, model, copied(b, &x), batch, at, None).hidden;
                read(place, batch, &hidden);
            }
        }
        for ((kept, other), leaves) in others.iter_mut().zip(members).zip(&leaves.others) {
            if let (Some(kept), true) = (kept, *leaves == Some(at)) {
                let (model, above) = (other.model, at..other.frozen);
                let x = transformer::higher(b, model, copied(b, &x), batch, above);
                b.scatter_add_rows(kept, &x, rows, model.spec.width);
            }
        }
    }
    x
}

fn copied<B: Backend>(b: &B, x: &B::Buf) -> B::Buf {
    let mut copy = b.zeros(b.len(x));
    b.copy(&mut copy, x);
    copy
}
