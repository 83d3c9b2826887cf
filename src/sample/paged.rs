//! Tokens through the model over a paged cache: whole prompts, then what continues them. Knows
//! nothing of who draws or scores.

use crate::backend::{BLOCK, Backend, CacheView, Mask};
use crate::model::attend::{Attend, WholeSequences};
use crate::model::batch::Batch;
use crate::model::spec::Spec;
use crate::model::weights::Model;
use crate::model::{embeddings, transformer};

use super::pages::Pages;

/// A model with a cache for each of its blocks, all paged alike.
pub(super) struct Paged<'a, B: Backend> {
    pub(super) b: &'a B,
    pub(super) model: &'a Model<B>,
    pub(super) pages: Pages,
    caches: Vec<B::Cache>,
}

impl<'a, B: Backend> Paged<'a, B> {
    /// Room for `capacity` blocks of positions.
    pub(super) fn new(b: &'a B, model: &'a Model<B>, capacity: usize) -> Self {
        let caches =
            (0..model.spec.layers).map(|_| b.cache(capacity, model.spec.heads())).collect();
        Paged { b, model, pages: Pages::new(capacity), caches }
    }

    /// Runs prompts through the ordinary forward pass, and their keys and values into blocks taken
    /// for them. Returns these blocks, and the hidden states at the prompts' last tokens:
    /// `[prompts,e]`.
    pub(super) fn prefill<S: AsRef<[u32]>>(&mut self, prompts: &[S]) -> (Vec<Vec<u32>>, B::Buf) {
        let (b, model, batch) = (self.b, self.model, Batch::new(prompts));
        let mut slots = Vec::with_capacity(batch.rows());
        let mut taken = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            let length = prompt.as_ref().len();
            let blocks = self.pages.take(length.div_ceil(BLOCK));
            slots.extend((0..length).map(|position| slot(&blocks, position)));
            taken.push(blocks);
        }
        let sequences = WholeSequences::new(&model.spec, &batch.starts);
        let mut attend = Prefill { caches: &mut self.caches, slots: &slots, sequences };
        let x = embeddings::embed(b, model, &batch.tokens, &batch.positions, &batch.types);
        let x =
            transformer::blocks(b, model, x, &batch.positions, 0..model.spec.layers, &mut attend);
        let hidden = transformer::above_blocks(b, model, x, batch.rows()).hidden;
        let ends: Vec<u32> = batch.starts[1..].iter().map(|&end| end as u32 - 1).collect();
        let mut last = b.zeros(prompts.len() * model.spec.embedding_width);
        b.gather_rows(&mut last, &hidden, &ends, model.spec.embedding_width);
        (taken, last)
    }

    /// Copies blocks, each over the first of its pair.
    pub(super) fn copy(&mut self, pairs: &[(u32, u32)]) {
        for cache in &mut self.caches {
            self.b.cache_copy_blocks(cache, pairs);
        }
    }

    /// Runs tokens through the model, each at the last position of its view; the cache holds what
    /// is before it, or other tokens of this call do. Returns their hidden states: `[n,e]`.
    pub(super) fn extend(&mut self, tokens: &[u32], views: &[CacheView<'_>]) -> B::Buf {
        let (b, model) = (self.b, self.model);
        if tokens.is_empty() {
            return b.zeros(0);
        }
        let positions: Vec<u32> = views.iter().map(|view| view.length as u32 - 1).collect();
        let slots: Vec<u32> = views.iter().map(|view| slot(view.blocks, view.length - 1)).collect();
        let mut attend =
            Extend { caches: &mut self.caches, slots: &slots, views, spec: &model.spec };
        let x = embeddings::embed(b, model, tokens, &positions, &vec![0; tokens.len()]);
        let x = transformer::blocks(b, model, x, &positions, 0..model.spec.layers, &mut attend);
        transformer::above_blocks(b, model, x, tokens.len()).hidden
    }
}

/// Prompts attend to themselves, and their keys and values go into the cache.
struct Prefill<'a, B: Backend> {
    caches: &'a mut [B::Cache],
    slots: &'a [u32],
    sequences: WholeSequences<'a>,
}

impl<B: Backend> Attend<B> for Prefill<'_, B> {
    fn attend(
        &mut self,
        b: &B,
        layer: usize,
        out: &mut B::Buf,
        lse: &mut B::Buf,
        qkv: [&B::Buf; 3],
    ) {
        b.cache_write(&mut self.caches[layer], qkv[1], qkv[2], self.slots);
        self.sequences.attend(b, layer, out, lse, qkv);
    }
}

/// New positions: all their keys and values go into the cache, then each attends to what the cache
/// holds of its sequence up to itself.
struct Extend<'a, B: Backend> {
    caches: &'a mut [B::Cache],
    slots: &'a [u32],
    views: &'a [CacheView<'a>],
    spec: &'a Spec,
}

impl<B: Backend> Attend<B> for Extend<'_, B> {
    fn attend(
        &mut self,
        b: &B,
        layer: usize,
        out: &mut B::Buf,
        _: &mut B::Buf,
        [q, k, v]: [&B::Buf; 3],
    ) {
        b.cache_write(&mut self.caches[layer], k, v, self.slots);
        let window = match self.spec.layer(layer).mask {
            Mask::Causal { window } => window,
            Mask::Bidirectional => panic!("an encoder generates nothing"),
        };
        b.attention_cached(out, q, &self.caches[layer], self.views, window);
    }
}

/// The cache slot of a sequence's position.
fn slot(blocks: &[u32], position: usize) -> u32 {
    blocks[position / BLOCK] * BLOCK as u32 + (position % BLOCK) as u32
}
