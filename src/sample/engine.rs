//! The loop behind `generate`: admit prompts, draw a token for every row, step the rows that go on.

use crate::backend::{BLOCK, Backend, CacheView};
use crate::error::Result;
use crate::model::heads;
use crate::model::transformer::{self, Attend, Batch, WholeSequences};
use crate::model::weights::Model;

use super::pages::Pages;
use super::{GenerateOptions, Sample};

/// Tokens prefilled at a time, if it is more than one prompt.
const PREFILL: usize = 1 << 13;

/// One sample being made.
struct Row {
    prompt: usize,
    sample: usize,
    /// Cache blocks for all positions it may come to.
    blocks: Vec<u32>,
    /// Positions in the cache.
    length: usize,
}

/// The state of one call to `generate`.
pub(super) struct Engine<'a, B: Backend> {
    b: &'a B,
    model: &'a Model<B>,
    prompts: &'a [Vec<u32>],
    options: &'a GenerateOptions,
    caches: Vec<B::Cache>,
    pages: Pages,
    rows: Vec<Row>,
    /// The first prompt that has not been admitted.
    next: usize,
    samples: Vec<Vec<Sample>>,
    done: usize,
}

impl<'a, B: Backend> Engine<'a, B> {
    pub(super) fn new(b: &'a B, model: &'a Model<B>, prompts: &'a [Vec<u32>], options: &'a GenerateOptions) -> Self {
        let needs = || prompts.iter().map(|prompt| blocks_needed(prompt.len(), options));
        let (all, largest) = (needs().sum::<usize>(), needs().max().unwrap_or(0));
        let capacity = (options.limits.positions / BLOCK).clamp(largest, all.max(largest));
        Engine {
            b,
            model,
            prompts,
            options,
            caches: (0..model.spec.layers).map(|_| b.cache(capacity, model.spec.heads())).collect(),
            pages: Pages::new(capacity),
            rows: Vec::new(),
            next: 0,
            samples: prompts.iter().map(|_| vec![Sample::default(); options.samples_per_prompt]).collect(),
            done: 0,
        }
    }

    pub(super) fn run(mut self, progress: &mut dyn FnMut(usize, usize) -> Result<()>) -> Result<Vec<Vec<Sample>>> {
        let total = self.prompts.len() * self.options.samples_per_prompt;
        let limit = self.options.limits.rows.max(self.options.samples_per_prompt);
        while self.done < total {
            // A small prefill is a poor use of the machine: wait until a quarter of the batch is free.
            let before = self.done;
            while self.rows.len() <= limit - limit.div_ceil(4) && self.admit(limit) {}
            if !self.rows.is_empty() {
                self.step();
            }
            if self.done > before {
                progress(self.done, total)?;
            }
        }
        Ok(self.samples)
    }

    /// Prefills as many waiting prompts as there is room for, and draws the first token of each of their samples. False if there is
    /// no room or no prompt.
    fn admit(&mut self, limit: usize) -> bool {
        let (first, count) = (self.next, self.options.samples_per_prompt);
        let (mut rows, mut free, mut tokens) = (self.rows.len(), self.pages.free(), 0);
        while let Some(prompt) = self.prompts.get(self.next) {
            let blocks = blocks_needed(prompt.len(), self.options);
            if rows + count > limit || blocks > free || tokens > 0 && tokens + prompt.len() > PREFILL {
                break;
            }
            (rows, free, tokens, self.next) = (rows + count, free - blocks, tokens + prompt.len(), self.next + 1);
        }
        if self.next == first {
            return false;
        }
        let prompts = &self.prompts[first..self.next];
        let batch = Batch::new(prompts);
        let prefilled: Vec<Vec<u32>> = prompts.iter().map(|prompt| self.pages.take(prompt.len().div_ceil(BLOCK))).collect();
        let hidden = self.prefill(&batch, &prefilled);

        // Logits once a prompt, then once more for each further sample of it.
        let (v, d) = (self.model.spec.vocabulary, self.model.spec.width);
        let last_rows: Vec<u32> = batch.starts[1..].iter().map(|&end| end as u32 - 1).collect();
        let mut last = self.b.zeros(prompts.len() * d);
        self.b.gather_rows(&mut last, &hidden, &last_rows, d);
        let mut logits = heads::logits(self.b, self.model, &last, prompts.len());
        if count > 1 {
            let repeated: Vec<u32> = (0..prompts.len() * count).map(|row| (row / count) as u32).collect();
            let mut copies = self.b.zeros(repeated.len() * v);
            self.b.gather_rows(&mut copies, &logits, &repeated, v);
            logits = copies;
        }
        let mut rows = Vec::new();
        let mut copies = Vec::new();
        for (index, blocks) in prefilled.into_iter().enumerate() {
            self.branch(first + index, blocks, &mut rows, &mut copies);
        }
        for cache in &mut self.caches {
            self.b.cache_copy_blocks(cache, &copies);
        }
        let mut rows = self.draw(rows, &logits);
        self.rows.append(&mut rows);
        true
    }

    /// Runs prompts through the ordinary forward pass, and their keys and values into `blocks` of the cache: `[n,d]`.
    fn prefill(&mut self, batch: &Batch, blocks: &[Vec<u32>]) -> B::Buf {
        let (b, model) = (self.b, self.model);
        let slots: Vec<u32> = blocks
            .iter()
            .zip(batch.starts.windows(2))
            .flat_map(|(blocks, range)| (0..range[1] - range[0]).map(move |position| slot(blocks, position)))
            .collect();
        let sequences = WholeSequences { starts: &batch.starts, heads: model.spec.heads() };
        let mut attend = Prefill { caches: &mut self.caches, slots: &slots, sequences };
        let x = transformer::embed(b, model, &batch.tokens);
        let x = transformer::blocks(b, model, x, &batch.positions, 0..model.spec.layers, &mut attend);
        transformer::final_norm(b, model, &x, batch.rows()).0
    }

    /// Gives every sample of a prompt its blocks: full ones shared, the partly filled one copied (the first sample keeps the
    /// original), and room for what is to come.
    fn branch(&mut self, prompt: usize, prefilled: Vec<u32>, rows: &mut Vec<Row>, copies: &mut Vec<(u32, u32)>) {
        let length = self.prompts[prompt].len();
        let (shared, partial) = prefilled.split_at(length / BLOCK);
        for sample in 0..self.options.samples_per_prompt {
            let mut blocks = shared.to_vec();
            if sample == 0 {
                blocks.extend(partial);
            } else {
                self.pages.share(shared);
            }
            let own = self.pages.take(blocks_for(length, self.options) - blocks.len());
            if let (Some(&original), true) = (partial.first(), sample > 0) {
                copies.push((own[0], original));
            }
            blocks.extend(own);
            rows.push(Row { prompt, sample, blocks, length });
        }
    }

    /// One more token for every row: the last one drawn goes through the model, the next is drawn from what comes out.
    fn step(&mut self) {
        let (b, model) = (self.b, self.model);
        let mut rows = std::mem::take(&mut self.rows);
        let last = |row: &Row| self.samples[row.prompt][row.sample].tokens.last().copied();
        let tokens: Vec<u32> = rows.iter().map(|row| last(row).expect("a row in the batch has drawn a token")).collect();
        let positions: Vec<u32> = rows.iter().map(|row| row.length as u32).collect();
        let slots: Vec<u32> = rows.iter().map(|row| slot(&row.blocks, row.length)).collect();
        rows.iter_mut().for_each(|row| row.length += 1);
        let views: Vec<CacheView<'_>> = rows.iter().map(|row| CacheView { blocks: &row.blocks, length: row.length }).collect();
        let mut attend = Decode { caches: &mut self.caches, slots: &slots, views: &views };
        let x = transformer::embed(b, model, &tokens);
        let x = transformer::blocks(b, model, x, &positions, 0..model.spec.layers, &mut attend);
        let hidden = transformer::final_norm(b, model, &x, rows.len()).0;
        let logits = heads::logits(b, model, &hidden, rows.len());
        self.rows = self.draw(rows, &logits);
    }

    /// Draws a token for each row from `logits[rows,v]`; gives back the rows that go on.
    fn draw(&mut self, rows: Vec<Row>, logits: &B::Buf) -> Vec<Row> {
        let GenerateOptions { samples_per_prompt, max_new_tokens, sampling, eos, stream, first_row, .. } = *self.options;
        let uniform = |row: &Row| {
            let global = (first_row + row.prompt as u64) * samples_per_prompt as u64 + row.sample as u64;
            stream.uniform(global, self.samples[row.prompt][row.sample].tokens.len() as u64)
        };
        let uniforms: Vec<f64> = rows.iter().map(uniform).collect();
        let (tokens, logprobs) = self.b.sample(logits, &uniforms, sampling, self.model.spec.vocabulary);
        let mut going = Vec::with_capacity(rows.len());
        for ((row, token), logprob) in rows.into_iter().zip(tokens).zip(logprobs) {
            let sample = &mut self.samples[row.prompt][row.sample];
            sample.tokens.push(token);
            sample.logprobs.push(logprob);
            sample.ended = eos == Some(token);
            if sample.ended || sample.tokens.len() == max_new_tokens {
                self.pages.release(&row.blocks);
                self.done += 1;
            } else {
                going.push(row);
            }
        }
        going
    }
}

/// Prompts attend to themselves, and their keys and values go into the cache.
struct Prefill<'a, B: Backend> {
    caches: &'a mut [B::Cache],
    slots: &'a [u32],
    sequences: WholeSequences<'a>,
}

impl<B: Backend> Attend<B> for Prefill<'_, B> {
    fn attend(&mut self, b: &B, layer: usize, out: &mut B::Buf, lse: &mut B::Buf, qkv: [&B::Buf; 3]) {
        b.cache_write(&mut self.caches[layer], qkv[1], qkv[2], self.slots);
        self.sequences.attend(b, layer, out, lse, qkv);
    }
}

/// One new position a row, which attends to what the cache holds of the row.
struct Decode<'a, B: Backend> {
    caches: &'a mut [B::Cache],
    slots: &'a [u32],
    views: &'a [CacheView<'a>],
}

impl<B: Backend> Attend<B> for Decode<'_, B> {
    fn attend(&mut self, b: &B, layer: usize, out: &mut B::Buf, _: &mut B::Buf, [q, k, v]: [&B::Buf; 3]) {
        b.cache_write(&mut self.caches[layer], k, v, self.slots);
        b.attention_cached(out, q, &self.caches[layer], self.views);
    }
}

/// The cache slot of a row's position.
fn slot(blocks: &[u32], position: usize) -> u32 {
    blocks[position / BLOCK] * BLOCK as u32 + (position % BLOCK) as u32
}

/// Blocks that one sample refers to. The last token drawn never enters the cache.
fn blocks_for(prompt: usize, options: &GenerateOptions) -> usize {
    (prompt + options.max_new_tokens - 1).div_ceil(BLOCK)
}

/// Blocks that a prompt and all its samples take.
fn blocks_needed(prompt: usize, options: &GenerateOptions) -> usize {
    let shared = prompt / BLOCK;
    shared + options.samples_per_prompt * (blocks_for(prompt, options) - shared)
}
