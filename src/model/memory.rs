//! What a model takes of a device's memory, computed from its sizes alone. Knows no device.
//!
//! Counts numbers as the runtime holds them (`transformer.rs`, `heads.rs`, `optimiser.rs`, the caches of `sample`), so that what is said
//! before a run is what the run takes; small buffers of a row's length or less than a block are left out.

use std::fmt;

use super::heads::{CHUNK, KEEP};
use super::params::{Params, Top, Trainable};
use super::spec::{Norm, Spec};
use crate::backend::BLOCK;
use crate::error::{Result, environment};

/// Numbers that a model takes, by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The tensors of a model, or of several that share some.
    pub weights: usize,
    /// Their gradients.
    pub gradients: usize,
    /// Both moments of the optimiser.
    pub moments: usize,
    /// What forward and backward passes hold at a time.
    pub activations: usize,
    /// Keys and values of all blocks.
    pub cache: usize,
    /// What a checkpoint holds in the host's memory while it is written.
    pub checkpoint: usize,
}

impl Memory {
    /// A model at rest.
    pub fn weights(spec: &Spec, top: Top) -> Self {
        Memory { weights: Params::slots(spec, top).count(), ..Memory::default() }
    }

    /// With a forward pass over `tokens` at a time that keeps nothing, and logits of `scored` of them.
    pub fn forward(self, spec: &Spec, tokens: usize, scored: usize) -> Self {
        let stream = tokens * (2 * spec.width + spec.embedding_width);
        let logits = (scored * spec.vocabulary).min(CHUNK.max(spec.vocabulary));
        Memory { activations: self.activations.max(stream + tokens * block(spec) + logits), ..self }
    }

    /// With a key/value cache of `positions`.
    pub fn cached(self, spec: &Spec, positions: usize) -> Self {
        let positions = positions.next_multiple_of(BLOCK);
        Memory { cache: self.cache + 2 * spec.layers * positions * spec.key_value_width(), ..self }
    }

    /// With what training takes: the trained tensors' copies (the model that they were is kept), gradients and moments, a pass forward and
    /// backward over `tokens` at a time, and checkpoints of all that is trained.
    pub fn training(self, spec: &Spec, top: Top, trainable: Trainable, tokens: usize) -> Self {
        let slots = Params::slots(spec, top);
        let trained: usize = slots.iter().filter(|slot| trainable.trains(slot)).map(|slot| slot.count()).sum();
        let tied_head = if spec.tied && trainable.embeddings && top != Top::Reward { slots.embedding.count() } else { 0 };
        let (d, f) = (spec.width, spec.feed_forward);
        let kept = (spec.layers - trainable.first_layer) * block(spec);
        // One set of gradients in flight, and the stream's own.
        let flight = 3 * d + 2 * spec.query_width() + 2 * spec.key_value_width() + 2 * f + if spec.gated { f } else { 0 };
        let logits = match top {
            Top::Language | Top::LanguageAndValue => 2 * (tokens * spec.vocabulary).min(KEEP.max(spec.vocabulary)),
            Top::Reward | Top::Encoder | Top::Classifier => 0,
        };
        let pass = tokens * (kept + flight + 2 * d + 2 * spec.embedding_width) + logits;
        Memory {
            weights: self.weights + trained,
            checkpoint: self.checkpoint.max(3 * trained),
            gradients: self.gradients + trained + tied_head,
            moments: self.moments + 2 * trained,
            activations: self.activations.max(pass),
            ..self
        }
    }

    /// Two models side by side, which run one after the other.
    pub fn beside(self, other: Memory) -> Self {
        Memory {
            weights: self.weights + other.weights,
            gradients: self.gradients + other.gradients,
            moments: self.moments + other.moments,
            activations: self.activations.max(other.activations),
            cache: self.cache + other.cache,
            checkpoint: self.checkpoint + other.checkpoint,
        }
    }

    /// All of it, in bytes, where a number has `size`.
    pub fn bytes(&self, size: usize) -> u64 {
        ((self.weights + self.gradients + self.moments + self.activations + self.cache + self.checkpoint) * size) as u64
    }

    /// Refuses what exceeds the `free` bytes; `name` is who would take it, `hint` what to do about it.
    pub fn check(&self, name: &str, size: usize, free: Option<u64>, hint: &str) -> Result<()> {
        match free {
            Some(free) if self.bytes(size) > free => {
                Err(environment(format!("{name} would take {}, and only {} are free", self.words(size), Bytes(free))).hint(hint).into())
            }
            _ => Ok(()),
        }
    }

    /// In words: the whole and its parts.
    pub fn words(&self, size: usize) -> String {
        let parts = [
            ("weights", self.weights),
            ("gradients", self.gradients),
            ("optimiser", self.moments),
            ("activations", self.activations),
            ("key/value cache", self.cache),
            ("checkpoint", self.checkpoint),
        ];
        let parts = parts.iter().filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name} {}", Bytes((count * size) as u64)));
        format!("{}: {}", Bytes(self.bytes(size)), parts.collect::<Vec<_>>().join(", "))
    }
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

/// Numbers of a token in one block's buffers.
fn block(spec: &Spec) -> usize {
    let (d, f, hc, gc) = (spec.width, spec.feed_forward, spec.query_width(), spec.key_value_width());
    let statistics = 2 * if spec.norm == Norm::Layer { 2 } else { 1 };
    let raw = if spec.query_key_norm { hc + gc + spec.query_heads + spec.key_value_heads } else { 0 };
    // x, a, y and, by the wiring, e or z.
    4 * d + statistics + raw + 2 * hc + 2 * gc + spec.query_heads + (2 + usize::from(spec.gated)) * f
}
