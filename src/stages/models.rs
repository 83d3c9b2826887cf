//! What stages know of models and tokenizers before anything has run: shapes and sizes, from
//! configs and config files and, where two models are on disk, their first norms. Knows no tensor
//! on a device.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::source::Source;
use crate::backend::counting::Counting;
use crate::backend::{Backend, Sizes};
use crate::device::cache_budget;
use crate::error::Result;
use crate::model::arch::Description;
use crate::model::checkpoint::{self, Opened};
use crate::model::memory::Memory;
use crate::model::params::{HeadKind, Layer, Params, Slot, Trainable};
use crate::model::spec::Spec;
use crate::reference::{self, Artefact, ModelFolder, Place, Ref};
use crate::sample::Limits;
use crate::tokenizer::tokens::Tokenizer;

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

    /// What both share, and of how many blocks both do.
    fn in_both(&self, other: &BlockLineage) -> BlockLineage {
        let least = |(name, blocks): (&String, &usize)| {
            Some((name.clone(), *blocks.min(other.0.get(name)?)))
        };
        BlockLineage(self.0.iter().filter_map(least).collect())
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
    /// What was counted, by what it was counted of: nodes of a sweep often have the same sizes.
    counts: Arc<Mutex<BTreeMap<String, Option<Memory>>>>,
}

impl ArtefactShapes {
    /// Where nothing is made yet.
    pub fn new(free: Option<u64>, sizes: Sizes) -> Self {
        ArtefactShapes { made: BTreeMap::new(), free, sizes, counts: Arc::default() }
    }

    /// The memory that `run` takes, counted once for each `what`, which names all that it depends
    /// on. `None` where it fails: the stage that runs it says why.
    pub fn counted(
        &self,
        what: impl Debug,
        run: impl FnOnce(&Counting) -> Result<Memory>,
    ) -> Option<Memory> {
        let what = format!("{what:?}");
        let counts = || self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = counts().get(&what) {
            return *known;
        }
        let memory = run(&Counting::new(self.sizes, self.free)).ok();
        counts().insert(what, memory);
        memory
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

    /// The shape of one of several models, which is not known yet: that of all, if they have one
    /// shape, with the blocks that each of them shares.
    pub fn one_of<A: Artefact>(&self, references: &[Ref<A>]) -> Option<ArtefactShape> {
        let mut shapes = references.iter().map(|reference| self.shape(reference));
        let first = shapes.next()??;
        let shape = shapes.try_fold(first, |all, own| {
            let own = own.filter(|own| own.spec == all.spec && own.head == all.head)?;
            Some(ModelShape { lineage: all.lineage.in_both(&own.lineage), ..all })
        })?;
        Some(ArtefactShape::Model(shape))
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

/// How much of a model's generation is done at a time; changes no sample.
pub fn limits<B: Backend>(b: &B, spec: &Spec) -> Limits {
    Limits::within(spec, cache_budget(b), b.sizes().stored)
}
