//! What stages know of models and tokenizers before anything has run: forms and sizes, from configs and config files alone. Knows no tensor.

use std::collections::BTreeMap;
use std::path::Path;

use crate::backend::Backend;
use crate::data::tokens::Tokenizer;
use crate::device::cache_budget;
use crate::model::arch::Description;
use crate::model::checkpoint;
use crate::model::memory::Memory;
use crate::model::params::{Top, Trainable};
use crate::model::score::MICRO_BATCH_TOKENS;
use crate::model::spec::Spec;
use crate::reference::{self, Artefact, ModelFolder, Place, Ref};
use crate::sample::{Limits, PREFILL};

/// What a stage makes, as far as the stages after it need to know it for their sizes.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// A model.
    Model(Spec, Top),
    /// A tokenizer of so many tokens.
    Tokenizer(usize),
}

/// The forms of what stages refer to: those of other stages by name, those on disk from their files.
#[derive(Clone, Debug)]
pub struct Forms {
    /// What the stage of a name makes, where it is known.
    pub made: BTreeMap<String, Form>,
    /// Bytes that the cache of generation may take.
    pub cache: u64,
    /// Bytes of a stored number.
    pub stored: usize,
}

impl Forms {
    /// Where nothing is made yet.
    pub fn new(cache: u64, stored: usize) -> Self {
        Forms { made: BTreeMap::new(), cache, stored }
    }

    /// The model that is referred to; `None` where it is not known yet.
    pub fn model<A: Artefact>(&self, reference: &Ref<A>) -> Option<(Spec, Top)> {
        match reference.place() {
            Place::Stage(name) => match self.made.get(name) {
                Some(Form::Model(spec, top)) => Some((spec.clone(), *top)),
                _ => None,
            },
            Place::Path(folder) => on_disk(folder),
        }
    }

    /// The number of tokens of the tokenizer that is referred to; `None` where it is not known yet.
    pub fn vocabulary(&self, reference: &Ref<reference::Tokenizer>) -> Option<usize> {
        match reference.place() {
            Place::Stage(name) => match self.made.get(name) {
                Some(Form::Tokenizer(size)) => Some(*size),
                _ => None,
            },
            Place::Path(folder) => Tokenizer::open(folder).ok().map(|tokenizer| tokenizer.size()),
        }
    }

    /// The model in a folder from outside; `None` where it is not here, or cannot be read: whoever loads it says why.
    pub fn folder(&self, folder: &ModelFolder) -> Option<(Spec, Top)> {
        folder.here().and_then(on_disk)
    }
}

fn on_disk(folder: &Path) -> Option<(Spec, Top)> {
    let Description { spec, top, .. } = checkpoint::describe(folder).ok()?;
    Some((spec, top))
}

/// A model in training beside the one that it began as.
pub fn training(from: &Spec, top: Top, trainable: Trainable) -> Memory {
    Memory::weights(from, top).training(from, top, trainable, MICRO_BATCH_TOKENS, MICRO_BATCH_TOKENS)
}

/// A model that only scores.
pub fn scoring(spec: &Spec, top: Top) -> Memory {
    Memory::weights(spec, top).forward(spec, MICRO_BATCH_TOKENS, MICRO_BATCH_TOKENS)
}

/// How much of a model's generation is done at a time; changes no sample.
pub fn limits<B: Backend>(b: &B, spec: &Spec) -> Limits {
    Limits::within(spec, cache_budget(b), b.bytes().0)
}

/// A model that also generates: `samples` of a prompt, `positions` of the cache in all, if there is room for so many.
pub fn generating(forms: &Forms, memory: Memory, spec: &Spec, samples: usize, positions: usize) -> Memory {
    let limits = Limits::within(spec, forms.cache, forms.stored);
    let (tokens, rows) = (PREFILL.min(positions), limits.rows.max(samples));
    memory.generation(spec, tokens, rows, samples).cached(spec, positions.min(limits.positions))
}
