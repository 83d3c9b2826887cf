//! The memory that a computation takes on a device: counted, by running it on the counting back
//! end ([`Counting`]), which needs neither the device nor a weight. Independent of devices.
//!
//! ```
//! use posttrain_backend::counting::Counting;
//! use posttrain_backend::{Sizes, cpu::Cpu, prelude::*};
//! use posttrain_model::memory::{Memory, Use, forward, model};
//! use posttrain_model::params::HeadKind;
//! use posttrain_model::spec::Spec;
//! let spec = Spec::decoder(16, 8, 1, 2, 16, 32);
//! let b = Counting::new(Cpu::<f32>::new().sizes(), None);
//! let model = model(&b, &spec, HeadKind::Language);
//! forward(&b, &model, &[vec![0; 32]], Use::Head);
//! let memory = Memory::of(&b, Memory::default());
//! assert!(memory.weights > 0 && memory.activations > 0 && memory.cache == 0);
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::batch::Batch;
use super::heads::{self, TargetTokens};
use super::params::{HeadKind, Params, Slot};
use super::spec::Spec;
use super::transformer;
use super::weights::{Model, Weight};
use crate::backend::Buffers;
use crate::backend::counting::Counting;
use crate::error::{Result, environment};

/// Bytes that a computation takes, by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The tensors of all models, each once, with their rotary angles.
    pub weights: u64,
    /// Masters of the tensors that train, where stored numbers are narrower.
    pub masters: u64,
    /// Gradients of weights.
    pub gradients: u64,
    /// Both moments of the optimiser.
    pub moments: u64,
    /// What is held beside all else at the fullest moment.
    pub activations: u64,
    /// Keys and values of all blocks at that moment.
    pub cache: u64,
    /// What a checkpoint holds in the host's memory while it is written, where that is the
    /// device's.
    pub checkpoint: u64,
    /// Channels of the widest head: they too decide whether a device takes the models.
    pub channels: usize,
    /// The most channels of a head that the device takes.
    pub most_channels: usize,
}

impl Memory {
    /// What has been counted on `b`, while all models and training states are there. `training` has
    /// the parts of the training states.
    pub fn of(b: &Counting, training: Memory) -> Self {
        let (held, most) = (b.held().buffers, b.most());
        Memory {
            weights: held - training.masters - training.gradients - training.moments,
            activations: most.buffers.saturating_sub(held),
            cache: most.caches,
            channels: b.channels(),
            most_channels: b.sizes().channels,
            ..training
        }
    }

    /// The parts of two training states.
    pub fn and(self, other: Memory) -> Self {
        Memory {
            masters: self.masters + other.masters,
            gradients: self.gradients + other.gradients,
            moments: self.moments + other.moments,
            checkpoint: self.checkpoint + other.checkpoint,
            ..self
        }
    }

    fn parts(&self) -> [(&'static str, u64); 7] {
        [
            ("weights", self.weights),
            ("master weights", self.masters),
            ("gradients", self.gradients),
            ("optimiser", self.moments),
            ("activations", self.activations),
            ("key/value cache", self.cache),
            ("checkpoint", self.checkpoint),
        ]
    }

    /// All of it.
    pub fn bytes(&self) -> u64 {
        self.parts().iter().map(|(_, bytes)| bytes).sum()
    }

    /// Refuses heads that are too wide for the device, and memory beyond its `free` bytes; `name`
    /// is what would take the memory, `hint` the advice against it.
    ///
    /// # Errors
    /// The machine's.
    pub fn check(&self, name: &str, free: Option<u64>, hint: &str) -> Result<()> {
        if self.channels > self.most_channels {
            let what = format!(
                "{name} has attention heads of {} channels, and this device takes up to {}",
                self.channels, self.most_channels
            );
            return Err(environment(what)
                .hint("add --device cpu, or take a model with narrower heads")
                .into());
        }
        match free {
            Some(free) if self.bytes() > free => Err(environment(format!(
                "{name} would take {}, and only {} are free",
                self.words(),
                Bytes(free)
            ))
            .hint(hint)
            .into()),
            _ => Ok(()),
        }
    }

    /// In words: the whole and its parts.
    pub fn words(&self) -> String {
        let parts = self.parts();
        let parts = parts
            .iter()
            .filter(|(_, bytes)| *bytes > 0)
            .map(|(name, bytes)| format!("{name} {}", Bytes(*bytes)));
        format!("{}: {}", Bytes(self.bytes()), parts.collect::<Vec<_>>().join(", "))
    }
}

/// A model of which only the sizes are known.
pub fn model(b: &Counting, spec: &Spec, head: HeadKind) -> Model<Counting> {
    b.note(spec.heads());
    let weights = Params::slots(spec, head).map(|slot| Arc::new(b.zeros(slot.count())));
    Model::of_sizes(b, spec.clone(), head, weights)
}

/// The same, which shares its embeddings and its lowest `blocks` blocks with `other`, a model of
/// the same trunk; nothing where `blocks` is `None`.
pub fn model_beside(
    b: &Counting,
    spec: &Spec,
    head: HeadKind,
    other: &Model<Counting>,
    blocks: Option<usize>,
) -> Model<Counting> {
    let Some(blocks) = blocks else { return model(b, spec, head) };
    b.note(spec.heads());
    let is_low = |slot: &Slot| slot.layer.map_or(slot.role.is_embedding(), |layer| layer < blocks);
    let others = other.slots().into_vec().into_iter().zip(other.weights.iter());
    let shared: BTreeMap<String, &Weight<Counting>> =
        others.filter(|(slot, _)| is_low(slot)).map(|(slot, weight)| (slot.name, weight)).collect();
    let weights = Params::slots(spec, head).map(|slot| match shared.get(&slot.name) {
        Some(weight) => Arc::clone(weight),
        None => Arc::new(b.zeros(slot.count())),
    });
    Model::of_sizes(b, spec.clone(), head, weights)
}

/// `tokens` tokens as sequences, none longer than `longest`.
///
/// # Panics
/// If `longest` is 0.
pub fn sequences(tokens: usize, longest: usize) -> Vec<Vec<u32>> {
    let mut lengths = vec![longest; tokens / longest];
    lengths.extend(Some(tokens % longest).filter(|rest| *rest > 0));
    lengths.into_iter().map(|length| vec![0; length]).collect()
}

/// What is read of a forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// What the model's head gives: log-probabilities of all tokens, scores or classes.
    Head,
    /// Hidden states.
    Hidden,
}

/// One forward pass over sequences that keeps nothing for a backward pass.
pub fn forward<S: AsRef<[u32]>>(
    b: &Counting,
    model: &Model<Counting>,
    sequences: &[S],
    wanted: Use,
) {
    let batch = Batch::new(sequences);
    let hidden = transformer::hidden(b, model, &batch);
    match model.head {
        _ if wanted == Use::Hidden => {}
        HeadKind::Language | HeadKind::LanguageAndValue => {
            let rows: Vec<u32> = (0..batch.rows() as u32).collect();
            let targets = vec![0; rows.len()];
            let scored = TargetTokens { rows: &rows, targets: &targets, temperature: 1.0 };
            heads::token_logprobs(b, model, &hidden, scored, false);
        }
        HeadKind::Value | HeadKind::Reward => {
            heads::scalar_scores(b, model, &hidden, &batch.lasts());
        }
        HeadKind::Classifier => {
            heads::class_logits(b, model, &hidden, &batch.firsts());
        }
        HeadKind::Encoder => {}
    }
}

/// What a model takes that runs one of `batches` at a time, forward alone.
pub fn of_forward<S: AsRef<[u32]>, P: AsRef<[S]>>(
    b: &Counting,
    spec: &Spec,
    head: HeadKind,
    batches: impl Iterator<Item = P>,
    wanted: Use,
) -> Memory {
    let tokens =
        |batch: &P| batch.as_ref().iter().map(|sequence| sequence.as_ref().len()).sum::<usize>();
    let model = model(b, spec, head);
    if let Some(largest) = batches.max_by_key(tokens) {
        forward(b, &model, largest.as_ref(), wanted);
    }
    Memory::of(b, Memory::default())
}

/// A count of bytes, for people.
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        for unit in ["B", "KiB", "MiB", "GiB"] {
            if value < 1024.0 || unit == "GiB" {
                let digits = if value < 10.0 && unit != "B" { 1 } else { 0 };
                return write!(f, "{value:.digits$} {unit}");
            }
            value /= 1024.0;
        }
        Ok(())
    }
}
