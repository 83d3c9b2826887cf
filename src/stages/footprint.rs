//! The memory that stages take of a device: their own passes, run on the counting back end with
//! batches as large as they can be. Where several stages run one thing, it is counted here.

use super::models::{ArtefactShapes, limits};
use crate::backend::counting::Counting;
use crate::data::tokenised::Tokenised;
use crate::error::{Context, Result};
use crate::model::batch::MICRO_BATCH_TOKENS;
use crate::model::init::{self, ScalarInit};
use crate::model::memory::{self, Memory, Use, sequences};
use crate::model::params::{HeadKind, Trainable};
use crate::model::spec::Spec;
use crate::model::transformer::Recompute;
use crate::model::weights::Model;
use crate::rl::direct::{DirectLoss, Objective};
use crate::rl::kto::KtoLoss;
use crate::rl::preference::PairLoss;
use crate::sample::PREFILL;
use crate::sample::footprint::first_tokens;
use crate::train::answers::Answered;
use crate::train::direct::{self, Pair};
use crate::train::kto::{self, LabelledRow, Referenced};
use crate::train::language;
use crate::train::optimiser::TrainState;
use crate::train::preference::PreferenceGroup;
use crate::train::reward;

/// A model, what of it trains, and what its backward passes compute again.
#[derive(Clone, Debug)]
pub(super) struct Training {
    pub(super) spec: Spec,
    /// The heads that it is loaded with.
    pub(super) head: HeadKind,
    pub(super) trainable: Trainable,
    pub(super) recompute: Recompute,
    /// Whether the trained tensors of the best step are kept on the host.
    pub(super) keeps_best: bool,
    /// Whether an average of the trained tensors is kept there.
    pub(super) averages: bool,
}

impl Training {
    /// Supervised training of a language model.
    pub(super) fn supervised(&self, shapes: &ArtefactShapes) -> Option<Memory> {
        shapes.counted(("supervised", self), |b| {
            let from = memory::model(b, &self.spec, self.head);
            let mut state = TrainState::new(b, &from, self.trainable.clone())?.with(self.recompute);
            let row = |tokens| Tokenised { tokens, ..Tokenised::default() };
            let rows: Vec<Tokenised> = self.pass().into_iter().map(row).collect();
            let rows: Vec<&Tokenised> = rows.iter().collect();
            // The gradient of a tied head is there from the end of the first pass on.
            for _ in 0..2 {
                language::accumulate(b, &mut state, &rows);
            }
            Ok(self.memory(b, &state))
        })
    }

    /// Training of a reward model on pairs.
    pub(super) fn preferences(&self, shapes: &ArtefactShapes) -> Option<Memory> {
        shapes.counted(("preferences", self), |b| {
            let from = memory::model(b, &self.spec, self.head);
            let head = init::scalar_head(&self.spec, HeadKind::Reward, ScalarInit::Zero, 0);
            let model = from.with_scalar(b, head.context("a reward model has a scalar head")?);
            let mut state =
                TrainState::new(b, &model, self.trainable.clone())?.with(self.recompute);
            let group = |text: Vec<u32>| PreferenceGroup {
                sequences: vec![text.clone(), text],
                pairs: vec![(0, 1)],
                margins: vec![0.0],
            };
            let longest = self.spec.context.min(MICRO_BATCH_TOKENS / 2);
            let groups: Vec<PreferenceGroup> =
                sequences(MICRO_BATCH_TOKENS / 2, longest).into_iter().map(group).collect();
            let groups: Vec<&PreferenceGroup> = groups.iter().collect();
            reward::accumulate(b, &mut state, &groups, PairLoss::default());
            Ok(self.memory(b, &state))
        })
    }

    /// Training of a policy on pairs.
    pub(super) fn direct(&self, shapes: &ArtefactShapes) -> Option<Memory> {
        shapes.counted(("direct", self), |b| {
            let from = memory::model(b, &self.spec, self.head);
            let mut state = TrainState::new(b, &from, self.trainable.clone())?.with(self.recompute);
            let pair = |tokens: Vec<u32>| {
                let side = Answered { tokens, prompt: 0 };
                Pair { id: String::new(), sides: [side.clone(), side] }
            };
            let longest = self.spec.context.min(MICRO_BATCH_TOKENS / 2);
            let pairs: Vec<Pair> =
                sequences(MICRO_BATCH_TOKENS / 2, longest).into_iter().map(pair).collect();
            let loss = DirectLoss {
                objective: Objective::Sigmoid,
                beta: 1.0,
                smoothing: 0.0,
                gamma_over_beta: 0.0,
                entropy: 0.0,
                likelihood: 0.0,
            };
            let (pairs, reference) =
                (pairs.iter().collect::<Vec<&Pair>>(), vec![[0.0; 2]; pairs.len()]);
            // The gradient of a tied head is there from the end of the first pass on.
            for _ in 0..2 {
                direct::accumulate(b, &mut state, &pairs, &reference, &loss);
            }
            Ok(self.memory(b, &state))
        })
    }

    /// Training of a policy on single answers with a label, each with a mismatched row.
    pub(super) fn labelled(&self, shapes: &ArtefactShapes) -> Option<Memory> {
        shapes.counted(("labelled", self), |b| {
            let from = memory::model(b, &self.spec, self.head);
            let mut state = TrainState::new(b, &from, self.trainable.clone())?.with(self.recompute);
            let row = |tokens: Vec<u32>| {
                let own = Referenced { answer: Answered { tokens, prompt: 0 }, reference: 0.0 };
                LabelledRow { own: own.clone(), mismatched: Some(own), desirable: true }
            };
            let rows: Vec<LabelledRow> = self.pass().into_iter().map(row).collect();
            let rows: Vec<&LabelledRow> = rows.iter().collect();
            let loss = KtoLoss { beta: 1.0, desirable_weight: 1.0, undesirable_weight: 1.0 };
            // The gradient of a tied head is there from the end of the first pass on.
            for _ in 0..2 {
                kto::accumulate(b, &mut state, &rows, &loss);
            }
            Ok(self.memory(b, &state))
        })
    }

    /// What is counted.
    fn memory(&self, b: &Counting, state: &TrainState<Counting>) -> Memory {
        let own = state.memory(b);
        let copies = usize::from(self.keeps_best) + usize::from(self.averages);
        Memory::of(b, (0..copies).fold(own, |training, _| with_best(training, own)))
    }

    /// The sequences of one pass.
    fn pass(&self) -> Vec<Vec<u32>> {
        sequences(MICRO_BATCH_TOKENS, self.spec.context)
    }
}

/// `training` with the best step's tensors, or the averages, of the training state `own`. They are
/// on the host all the time, and in a checkpoint next to the last step's, of which it has three
/// with the moments.
pub(super) fn with_best(training: Memory, own: Memory) -> Memory {
    Memory { checkpoint: training.checkpoint + 2 * own.checkpoint / 3, ..training }
}

/// `training` with a copy of the tensors that train in `own` on the device: a checkpoint has three
/// of them of `own`, and then one more.
pub(super) fn with_copy(training: Memory, own: Memory) -> Memory {
    Memory { checkpoint: training.checkpoint + own.checkpoint / 3, ..training }
}

/// A model that only scores.
pub(super) fn scoring(shapes: &ArtefactShapes, spec: &Spec, head: HeadKind) -> Option<Memory> {
    shapes.counted(("scoring", spec, head), |b| {
        let model = memory::model(b, spec, head);
        score(b, &model);
        Ok(Memory::of(b, Memory::default()))
    })
}

/// One pass of a model that scores.
pub(super) fn score(b: &Counting, model: &Model<Counting>) {
    memory::forward(b, model, &sequences(MICRO_BATCH_TOKENS, model.spec.context), Use::Head);
}

/// Generation of `samples` samples, of up to `new` tokens, for prompts of which nothing is known:
/// as many as the limits take.
pub(super) fn generate(
    b: &Counting,
    model: &Model<Counting>,
    samples: usize,
    new: usize,
) -> Result<()> {
    let limits = limits(b, &model.spec);
    let at_once = (limits.rows / samples).max(1);
    let longest = model.spec.context.saturating_sub(new).max(1);
    let length = (PREFILL / at_once).clamp(1, longest);
    // Blocks of a prompt are shared by its samples: only new tokens are sure to take positions.
    let prompts = limits.positions.div_ceil(samples * new.max(1)).max(at_once);
    first_tokens(b, model, &vec![vec![0; length]; prompts], (samples, new), limits)
}
