//! The memory that a model takes on a device, computed from its sizes alone. Independent of
//! devices.
//!
//! 1. Counts numbers as the runtime holds them at the fullest moment of a run (`transformer.rs`,
//!    `heads.rs`, `optimiser.rs`, the caches of `sample`), so that the estimate before a run equals
//!    its use of memory. Temporary buffers (activations, statistics, the cache) count at the
//!    fullest moment; permanent ones add up.
//! 2. Numbers are of two kinds, stored and wide, as the back end's contract has them. Buffers of a
//!    few numbers a row are left out.

use std::fmt;

use super::heads::chunk_rows;
use super::params::{HeadKind, Params, Slot, Trainable};
use super::spec::{Norm, Spec, Wiring};
use super::transformer::Recompute;
use crate::backend::{BLOCK, Sizes};
use crate::error::{Result, environment};

/// Numbers that a model takes, by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The tensors of a model, or of several that share some.
    pub weights: usize,
    /// Wide: their rotary angles.
    pub angles: usize,
    /// Wide: those of the tensors that train, where stored ones are narrower.
    pub masters: usize,
    /// Wide: their gradients.
    pub gradients: usize,
    /// Wide: both moments of the optimiser.
    pub moments: usize,
    /// What forward and backward passes hold at the fullest moment of the blocks.
    pub activations: usize,
    /// Wide: statistics that they hold beside.
    pub statistics: usize,
    /// What they hold at the fullest moment of the heads.
    pub head_activations: usize,
    /// Wide: statistics and logits that they hold beside.
    pub head_logits: usize,
    /// Keys and values of all blocks.
    pub cache: usize,
    /// What a checkpoint holds in the host's memory while it is written.
    pub checkpoint: usize,
    /// No numbers, but channels of the widest head: they too decide whether a device takes the
    /// models.
    pub channels: usize,
}

impl Memory {
    /// A model at rest.
    pub fn weights(spec: &Spec, head: HeadKind) -> Self {
        let angles = spec.rotaries().iter().map(|rotary| spec.context * rotary.channels).sum();
        Memory {
            weights: Params::slots(spec, head).count(),
            angles,
            channels: spec.channels,
            ..Memory::default()
        }
    }

    /// Without what it shares with another model: the embeddings and the lowest `blocks` blocks.
    pub fn sharing(self, spec: &Spec, blocks: Option<usize>) -> Self {
        let Some(blocks) = blocks else { return self };
        let slots = Params::slots(spec, HeadKind::Reward);
        let is_low =
            |slot: &&Slot| slot.layer.map_or(slot.role.is_embedding(), |layer| layer < blocks);
        let shared: usize = slots.iter().filter(is_low).map(Slot::count).sum();
        Memory { weights: self.weights - shared, ..self }
    }

    /// With a fullest moment of the blocks that holds these numbers.
    fn moment(self, activations: usize, statistics: usize) -> Self {
        self.beside(Memory { activations, statistics, ..Memory::default() })
    }

    /// With `numbers` more at its fullest moment.
    pub fn holding(self, numbers: usize) -> Self {
        Memory {
            activations: self.activations + numbers,
            head_activations: self.head_activations + numbers,
            ..self
        }
    }

    /// The permanent part.
    pub fn resting(self) -> Self {
        Memory {
            activations: 0,
            statistics: 0,
            head_activations: 0,
            head_logits: 0,
            cache: 0,
            checkpoint: 0,
            ..self
        }
    }

    /// What is there at the fullest moment of the blocks. A wide number counts as two: it is where
    /// the kinds differ.
    fn blocks_fullness(&self) -> usize {
        self.activations + 2 * self.statistics
    }

    /// What is there at the fullest moment of the heads.
    fn heads_fullness(&self) -> usize {
        self.head_activations + 2 * self.head_logits
    }

    /// The temporary part.
    fn fullness(&self) -> usize {
        self.cache + self.blocks_fullness().max(self.heads_fullness())
    }

    /// With heads that hold these numbers at their fullest moment.
    fn heads(self, head_activations: usize, head_logits: usize) -> Self {
        self.beside(Memory { head_activations, head_logits, ..Memory::default() })
    }

    /// With a forward pass over `tokens` at a time that keeps nothing, and logits of `scored` of
    /// them.
    pub fn forward(self, spec: &Spec, tokens: usize, scored: usize) -> Self {
        let (d, e) = (spec.width, spec.embedding_width);
        // A block and the stream; then hidden states, and a chunk of those that are scored with
        // their logits.
        let chunk = scored.min(chunk_rows(spec.vocabulary));
        self.moment(tokens * (passing(spec) + d), tokens * block_statistics(spec))
            .heads((tokens + chunk) * e, chunk * spec.vocabulary)
    }

    /// With generation: prompts of `tokens` in all prefilled at a time, `samples` of each prompt,
    /// and `rows` samples at work at once.
    pub fn generation(self, spec: &Spec, tokens: usize, rows: usize, samples: usize) -> Self {
        let (e, v) = (spec.embedding_width, spec.vocabulary);
        let prompts = rows.div_ceil(samples.max(1)).min(tokens);
        // The last hidden states of the prompts and their logits, which are repeated for every
        // sample.
        let first = prompts * v + if samples > 1 { rows * v } else { 0 };
        self.forward(spec, tokens, 0)
            .forward(spec, rows, 0)
            .heads(prompts * e, first)
            .heads(rows * e, rows * v)
    }

    /// With a key/value cache of `positions`.
    pub fn cached(self, spec: &Spec, positions: usize) -> Self {
        let positions = positions.next_multiple_of(BLOCK);
        Memory { cache: self.cache + 2 * spec.layers * positions * spec.key_value_width(), ..self }
    }

    /// What a forward pass over `tokens` keeps for the way back, and the hidden states' gradient.
    pub fn kept(spec: &Spec, trainable: &Trainable, recompute: Recompute, tokens: usize) -> Self {
        let (d, e, layers) =
            (spec.width, spec.embedding_width, spec.layers - trainable.first_layer());
        let (numbers, statistics) = match recompute {
            Recompute::None => (layers * block(spec), layers * block_statistics(spec)),
            Recompute::Block => (layers * d, 0),
        };
        // What is normed and projected above the blocks, hidden states and their gradient.
        let above = if spec.final_norm { d } else { 0 } + if e != d { d } else { 0 } + 2 * e;
        let (activations, statistics) = (tokens * (numbers + above), tokens * statistics);
        Memory {
            activations,
            statistics,
            head_activations: activations,
            head_logits: statistics,
            ..Memory::default()
        }
    }

    /// With what training takes: the trained tensors' copies (the model that they were is kept),
    /// masters, gradients and moments, a pass forward and backward over `tokens` at a time, of
    /// which `scored` are scored, and checkpoints of all that is trained.
    pub fn training(
        self,
        spec: &Spec,
        head: HeadKind,
        trainable: &Trainable,
        recompute: Recompute,
        tokens: usize,
        scored: usize,
    ) -> Self {
        let slots = Params::slots(spec, head);
        let trained: usize =
            slots.iter().filter(|slot| trainable.trains(slot)).map(|slot| slot.count()).sum();
        let has_logits = head.has_language();
        let tied_head = if spec.tied && trainable.trains(&slots.embedding) && has_logits {
            slots.embedding.count()
        } else {
            0
        };
        let (d, e) = (spec.width, spec.embedding_width);
        let kept = Memory::kept(spec, trainable, recompute, tokens);
        // Heads: a chunk of scored states with its logits and their gradient, or of states with
        // theirs.
        let chunk = scored.min(chunk_rows(spec.vocabulary));
        let logits = if has_logits { chunk * spec.vocabulary } else { 0 };
        // Blocks: one set of gradients of activations, and the stream's; the block that was run
        // again; below them, what embeddings are made of again.
        let (again, statistics) = match recompute {
            Recompute::Block if trainable.first_layer() < spec.layers => {
                (block(spec), block_statistics(spec))
            }
            _ => (0, 0),
        };
        let below = match trainable.embeddings() {
            true if slots.embedding_norm.is_some() => 3 * d,
            true if slots.project_in.is_some() => 2 * e,
            _ => 0,
        };
        // Of attention's way back.
        let statistics = statistics + spec.query_heads;
        let all = Memory {
            weights: self.weights + trained,
            masters: self.masters + trained,
            checkpoint: self.checkpoint.max(3 * trained),
            gradients: self.gradients + trained + tied_head,
            moments: self.moments + 2 * trained,
            ..self
        };
        let all = match trainable.first_layer() {
            0 => all,
            _ => all.moment(tokens * (passing(spec) + d), tokens * block_statistics(spec)),
        };
        all.heads(
            kept.head_activations + chunk * e + logits.max(chunk * e),
            kept.head_logits + logits,
        )
        .moment(
            kept.activations + tokens * (d + backward_buffers(spec) + again.max(below)),
            kept.statistics + tokens * statistics,
        )
    }

    /// Two models side by side, which run one after the other.
    pub fn beside(self, other: Memory) -> Self {
        let fuller = |fullness: fn(&Memory) -> usize| {
            if fullness(&self) >= fullness(&other) { self } else { other }
        };
        // A cache is there with its own blocks and heads alone; beside the same cache, which of
        // these are fuller depends on the back end's sizes.
        let (blocks, heads) = match self.cache == other.cache {
            true => (fuller(Memory::blocks_fullness), fuller(Memory::heads_fullness)),
            false => (fuller(Memory::fullness), fuller(Memory::fullness)),
        };
        Memory {
            weights: self.weights + other.weights,
            angles: self.angles + other.angles,
            masters: self.masters + other.masters,
            gradients: self.gradients + other.gradients,
            moments: self.moments + other.moments,
            checkpoint: self.checkpoint + other.checkpoint,
            channels: self.channels.max(other.channels),
            activations: blocks.activations,
            statistics: blocks.statistics,
            head_activations: heads.head_activations,
            head_logits: heads.head_logits,
            cache: blocks.cache,
        }
    }

    /// Two models side by side, one of which runs while the other keeps all its buffers.
    pub fn within(self, other: Memory) -> Self {
        Memory {
            activations: self.activations + other.activations,
            statistics: self.statistics + other.statistics,
            head_activations: self.head_activations + other.head_activations,
            head_logits: self.head_logits + other.head_logits,
            cache: self.cache + other.cache,
            ..self.beside(other)
        }
    }

    /// Bytes by what they are for.
    fn parts(&self, sizes: Sizes) -> [(&'static str, u64); 7] {
        let Sizes { stored, wide, host, .. } = sizes;
        let masters = if sizes.is_narrow() { self.masters } else { 0 };
        let blocks = stored * self.activations + wide * self.statistics;
        let heads = stored * self.head_activations + wide * self.head_logits;
        let parts = [
            ("weights", stored * self.weights + wide * self.angles),
            ("master weights", wide * masters),
            ("gradients", wide * self.gradients),
            ("optimiser", wide * self.moments),
            ("activations", blocks.max(heads)),
            ("key/value cache", stored * self.cache),
            ("checkpoint", host * self.checkpoint),
        ];
        parts.map(|(name, bytes)| (name, bytes as u64))
    }

    /// All of it, in bytes.
    pub fn bytes(&self, sizes: Sizes) -> u64 {
        self.parts(sizes).iter().map(|(_, bytes)| bytes).sum()
    }

    /// Refuses heads that are too wide for the device, and memory beyond its `free` bytes; `name`
    /// is what would take the memory, `hint` the advice against it.
    pub fn check(&self, name: &str, sizes: Sizes, free: Option<u64>, hint: &str) -> Result<()> {
        if self.channels > sizes.channels {
            let what = format!(
                "{name} has attention heads of {} channels, and this device takes up to {}",
                self.channels, sizes.channels
            );
            return Err(environment(what)
                .hint("add --device cpu, or take a model with narrower heads")
                .into());
        }
        match free {
            Some(free) if self.bytes(sizes) > free => Err(environment(format!(
                "{name} would take {}, and only {} are free",
                self.words(sizes),
                Bytes(free)
            ))
            .hint(hint)
            .into()),
            _ => Ok(()),
        }
    }

    /// In words: the whole and its parts.
    pub fn words(&self, sizes: Sizes) -> String {
        let parts = self.parts(sizes);
        let parts = parts
            .iter()
            .filter(|(_, bytes)| *bytes > 0)
            .map(|(name, bytes)| format!("{name} {}", Bytes(*bytes)));
        format!("{}: {}", Bytes(self.bytes(sizes)), parts.collect::<Vec<_>>().join(", "))
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
    let (d, f, hc, gc) =
        (spec.width, spec.feed_forward_width, spec.query_width(), spec.key_value_width());
    let raw = if spec.query_key_norm { hc + gc } else { 0 };
    // x, a, y and, by the wiring, e or z.
    4 * d + raw + 2 * hc + 2 * gc + (2 + usize::from(spec.feed_forward.is_gated())) * f
}

/// The same where there is no backward pass: what the activation is applied to is not stored.
fn passing(spec: &Spec) -> usize {
    block(spec) - spec.feed_forward_width
}

/// Wide numbers of a token beside them.
fn block_statistics(spec: &Spec) -> usize {
    let norms = 2 * if spec.norm == Norm::Layer { 2 } else { 1 };
    norms
        + spec.query_heads
        + if spec.query_key_norm { spec.query_heads + spec.key_value_heads } else { 0 }
}

/// Numbers of a token's gradients of activations in one block.
fn backward_buffers(spec: &Spec) -> usize {
    let (d, f, hc, gc) =
        (spec.width, spec.feed_forward_width, spec.query_width(), spec.key_value_width());
    let stream = if spec.wiring == Wiring::Pre { 0 } else { d };
    let raw = if spec.query_key_norm { hc + gc } else { 0 };
    d + stream + raw + 2 * hc + 2 * gc + (2 + usize::from(spec.feed_forward.is_gated())) * f
}
