//! What stages know of models and tokenizers before anything has run: shapes and sizes, from
//! configs and config files and, where two models are on disk, their first norms. Knows no tensor
//! on a device.

use std::collections::BTreeMap;
use std::path::Path;

use super::source::Source;
use crate::backend::{Backend, Sizes};
use crate::data::tokens::Tokenizer;
use crate::device::{cache_budget, cache_share};
use crate::model::arch::Description;
use crate::model::batch::MICRO_BATCH_TOKENS;
use crate::model::checkpoint::{self, Opened};
use crate::model::memory::Memory;
use crate::model::params::{HeadKind, Layer, Params, Slot, Trainable};
use crate::model::spec::Spec;
use crate::model::transformer::Recompute;
use crate::reference::{self, Artefact, ModelFolder, Place, Ref};
use crate::sample::{Limits, PREFILL};

/// What a stage makes, as far as the stages after it need to know it for their sizes.
#[derive(Clone, Debug, PartialEq)]
pub enum ArtefactShape {
    /// A model.
    Model(ModelShape),
    /// A tokenizer, by its number of tokens.
    Tokenizer(usize),
}

/// The shape of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelShape {
    /// Its sizes.
    pub spec: Spec,
    /// Its heads.
    pub head: HeadKind,
    /// The stages with whose models it still shares its lowest blocks.
    pub lineage: BlockLineage,
    /// The folder of its tokenizer.
    pub tokenizer: Source,
}

/// Names of stages whose models have the same embeddings and lowest blocks, and how many.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BlockLineage(BTreeMap<String, usize>);

impl BlockLineage {
    /// After training that changes what is trainable.
    fn trained(mut self, trainable: &Trainable) -> Self {
        self.0.retain(|_, _| !trainable.embeddings());
        self.0.values_mut().for_each(|blocks| *blocks = trainable.first_layer().min(*blocks));
        self
    }

    /// The lowest blocks that two models have in common with the same third, or with each other.
    fn common(&self, other: &BlockLineage) -> Option<usize> {
        self.0.iter().filter_map(|(name, blocks)| Some(*blocks.min(other.0.get(name)?))).max()
    }
}

impl ArtefactShape {
    /// The shape of what the stage `name` makes.
    pub fn of_stage(mut self, name: &str) -> Self {
        if let ArtefactShape::Model(ModelShape { spec, lineage, .. }) = &mut self {
            lineage.0.insert(name.into(), spec.layers);
        }
        self
    }
}

/// The shapes of what stages refer to: those of other stages by name, those on disk from their
/// files.
#[derive(Clone, Debug)]
pub struct ArtefactShapes {
    /// What the stage of a name makes, where it is known.
    pub made: BTreeMap<String, ArtefactShape>,
    /// Bytes of the device's memory that are free before anything is there, if something says how
    /// many.
    pub free: Option<u64>,
    /// Bytes of its numbers.
    pub sizes: Sizes,
}

impl ArtefactShapes {
    /// Where nothing is made yet.
    pub fn new(free: Option<u64>, sizes: Sizes) -> Self {
        ArtefactShapes { made: BTreeMap::new(), free, sizes }
    }

    /// The model that is referred to; `None` where it is not known yet.
    pub fn model<A: Artefact>(&self, reference: &Ref<A>) -> Option<(Spec, HeadKind)> {
        let ModelShape { spec, head, .. } = self.shape(reference)?;
        Some((spec, head))
    }

    fn shape<A: Artefact>(&self, reference: &Ref<A>) -> Option<ModelShape> {
        match reference.place() {
            Place::Stage(name) => match self.made.get(name) {
                Some(ArtefactShape::Model(shape)) => Some(shape.clone()),
                _ => None,
            },
            Place::Path(folder) => on_disk(folder),
        }
    }

    /// The tokenizer of the model that is referred to, and the tokens of its context; `None` where
    /// they are not known yet.
    pub fn reader<A: Artefact>(&self, reference: &Ref<A>) -> Option<(Source, usize)> {
        let ModelShape { spec, tokenizer, .. } = self.shape(reference)?;
        Some((tokenizer, spec.context))
    }

    /// What a stage makes that trains the model that is referred to, and puts `head` on it.
    pub fn trained<A: Artefact>(
        &self,
        reference: &Ref<A>,
        head: HeadKind,
        frozen: f64,
    ) -> Option<ArtefactShape> {
        let shape = self.shape(reference)?;
        let trainable = Trainable::frozen_fraction(&shape.spec, frozen);
        Some(ArtefactShape::Model(ModelShape {
            head,
            lineage: shape.lineage.trained(&trainable),
            ..shape
        }))
    }

    fn lineage<A: Artefact>(&self, reference: &Ref<A>) -> BlockLineage {
        self.shape(reference).map(|shape| shape.lineage).unwrap_or_default()
    }

    /// The lowest blocks, and with them the embeddings, that are the same in two models; `None`
    /// where not even these are, or nothing tells.
    pub fn shared<A: Artefact, C: Artefact>(&self, one: &Ref<A>, other: &Ref<C>) -> Option<usize> {
        match (one.place(), other.place()) {
            (Place::Path(one), Place::Path(other)) => alike(one, other),
            _ => self.lineage(one).common(&self.lineage(other)),
        }
    }

    /// The number of tokens of the tokenizer that is referred to; `None` where it is not known yet.
    pub fn vocabulary(&self, reference: &Ref<reference::Tokenizer>) -> Option<usize> {
        match reference.place() {
            Place::Stage(name) => match self.made.get(name) {
                Some(ArtefactShape::Tokenizer(size)) => Some(*size),
                _ => None,
            },
            Place::Path(folder) => Tokenizer::open(folder).ok().map(|tokenizer| tokenizer.size()),
        }
    }

    /// The model in a folder from outside; `None` where it is not here, or cannot be read: the
    /// stage that loads it says why.
    pub fn folder(&self, folder: &ModelFolder) -> Option<ModelShape> {
        folder.here().and_then(on_disk)
    }
}

fn on_disk(folder: &Path) -> Option<ModelShape> {
    let Description { spec, head, .. } = checkpoint::describe(folder).ok()?;
    let tokenizer = Source::Folder(folder.into());
    Some(ModelShape { spec, head, lineage: BlockLineage::default(), tokenizer })
}

/// The lowest blocks whose first norms hold the same numbers in two folders: a guess, but one that
/// reads little. Training moves every norm that it may move. Who loads the models compares every
/// tensor.
fn alike(one: &Path, other: &Path) -> Option<usize> {
    let (one, other) = (Opened::new(one).ok()?, Opened::new(other).ok()?);
    let spec = &one.description.spec;
    let norm = |layer: Layer<Slot>| layer.attention_norm.weight;
    let norms = Params::slots(spec, one.description.head).layers.into_iter().map(norm);
    let is_same = |slot: &Slot| {
        matches!((one.tensor(slot), other.tensor(slot)),
        (Ok(Some(one)), Ok(Some(other))) if one == other)
    };
    let blocks = norms.take_while(is_same).count();
    (*spec == other.description.spec && blocks > 0).then_some(blocks)
}

/// A model in training beside the one that it began as.
pub fn training(
    from: &Spec,
    head: HeadKind,
    trainable: &Trainable,
    recompute: Recompute,
) -> Memory {
    Memory::weights(from, head).training(
        from,
        head,
        trainable,
        recompute,
        MICRO_BATCH_TOKENS,
        MICRO_BATCH_TOKENS,
    )
}

/// A model that only scores.
pub fn scoring(spec: &Spec, head: HeadKind) -> Memory {
    let scored = if head == HeadKind::Reward { 0 } else { MICRO_BATCH_TOKENS };
    Memory::weights(spec, head).forward(spec, MICRO_BATCH_TOKENS, scored)
}

/// The sizes that decide what PPO takes, except for its generation.
pub struct Reinforced<'a> {
    /// The policy's.
    pub policy: &'a Spec,
    /// The reward model's, and the critic's, where it is a separate network.
    pub reward: &'a Spec,
    /// Lowest blocks that the two share; `None` where they do not share even their embeddings.
    pub shared: Option<usize>,
    /// What of the policy trains.
    pub trainable: Trainable,
    /// What of a critic that is a separate network trains.
    pub critic: Option<Trainable>,
    /// What backward passes make again.
    pub recompute: Recompute,
    /// Tokens of a step; of them at most in one pass; of these at most in responses.
    pub tokens: [usize; 3],
}

impl Reinforced<'_> {
    /// Policy, reference, value function and reward model.
    pub fn memory(&self) -> Memory {
        let Reinforced { policy, reward, shared, trainable, recompute, tokens, .. } = self;
        let (shared, recompute, [all, pass, scored]) = (*shared, *recompute, *tokens);
        let frozen = trainable.first_layer();
        let shared = shared.filter(|_| frozen > 0);
        let critic_frozen = self.critic.as_ref().map_or(0, |critic| critic.first_layer());
        let goes_along = critic_frozen == frozen && shared.is_some_and(|shared| shared >= frozen);
        // What goes into the first blocks that train, for all epochs of a step.
        let inputs = if frozen > 0 { all * policy.width } else { 0 };
        let inputs = inputs + if critic_frozen > 0 && !goes_along { all * reward.width } else { 0 };

        let head = HeadKind::LanguageAndValue;
        let learns = Memory::weights(policy, head)
            .training(policy, head, trainable, recompute, pass, scored)
            .forward(policy, pass, scored);
        // It leaves the policy's pass with a separate copy.
        let copy = if shared.is_some() { pass * reward.width } else { 0 };
        let judge = Memory::weights(reward, HeadKind::Reward).sharing(reward, self.shared);
        let judge = judge.beside(Memory::default().forward(reward, pass, 0).holding(copy));
        let Some(critic) = &self.critic else { return learns.beside(judge).holding(inputs) };
        // It runs forward and back while the policy waits for its own way back. The model that it
        // began as still judges.
        let fits = Memory::default().training(reward, HeadKind::Value, critic, recompute, pass, 0);
        learns
            .beside(judge)
            .beside(fits.within(Memory::kept(policy, trainable, recompute, pass)))
            .holding(inputs)
    }
}

/// How much of a model's generation is done at a time; changes no sample.
pub fn limits<B: Backend>(b: &B, spec: &Spec) -> Limits {
    Limits::within(spec, cache_budget(b), b.sizes().stored)
}

/// A model that also generates: `samples` of a prompt, `positions` of the cache in all, if there is
/// room for them.
pub fn generating(
    shapes: &ArtefactShapes,
    memory: Memory,
    spec: &Spec,
    samples: usize,
    positions: usize,
) -> Memory {
    // A run looks at what is free when its models are there.
    let left = shapes.free.map(|free| free.saturating_sub(memory.resting().bytes(shapes.sizes)));
    let limits = Limits::within(spec, cache_share(left), shapes.sizes.stored);
    let (tokens, rows) = (PREFILL.min(positions), limits.rows.max(samples));
    memory.beside(
        Memory::default()
            .generation(spec, tokens, rows, samples)
            .cached(spec, positions.min(limits.positions)),
    )
}
