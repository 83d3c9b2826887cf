//! The loop behind `generate`: admit prompts, draw a token for every row, step the rows that go on.

use crate::backend::{BLOCK, Backend, CacheView};
use crate::error::Result;
use crate::model::heads;
use crate::model::weights::Model;

use super::paged::Paged;
use super::pages::own_blocks;
use super::{GenerateOptions, Sample};

/// Tokens prefilled at a time, if it is more than one prompt.
pub const PREFILL: usize = 1 << 13;

/// One sample being made.
struct Row {
    prompt: usize,
    sample: usize,
    /// Cache blocks for all positions it may reach.
    blocks: Vec<u32>,
    /// Positions in the cache.
    length: usize,
}

/// The state of one call to `generate`.
pub(super) struct Engine<'a, B: Backend> {
    paged: Paged<'a, B>,
    prompts: &'a [Vec<u32>],
    options: &'a GenerateOptions<'a>,
    stop: &'a dyn Fn(usize, &[u32]) -> bool,
    rows: Vec<Row>,
    /// The first prompt that has not been admitted.
    next: usize,
    samples: Vec<Vec<Sample>>,
    done: usize,
    /// CUDA graphs of decoding steps.
    graphs: B::GraphCache,
}

impl<'a, B: Backend> Engine<'a, B> {
    pub(super) fn new(
        b: &'a B,
        model: &'a Model<B>,
        prompts: &'a [Vec<u32>],
        options: &'a GenerateOptions<'a>,
        stop: &'a dyn Fn(usize, &[u32]) -> bool,
    ) -> Self {
        let needs = || prompts.iter().map(|prompt| blocks_needed(prompt.len(), options));
        let (all, largest) = (needs().sum::<usize>(), needs().max().unwrap_or(0));
        let capacity = (options.limits.positions / BLOCK).clamp(largest, all.max(largest));
        Engine {
            paged: Paged::new(b, model, capacity),
            prompts,
            options,
            stop,
            rows: Vec::new(),
            next: 0,
            samples: prompts
                .iter()
                .map(|_| vec![Sample::default(); options.samples_per_prompt])
                .collect(),
            done: 0,
            graphs: B::GraphCache::default(),
        }
    }

    pub(super) fn run(
        mut self,
        progress: &mut dyn FnMut(usize, usize) -> Result<()>,
    ) -> Result<Vec<Vec<Sample>>> {
        let total = self.prompts.len() * self.options.samples_per_prompt;
        let limit = self.options.limits.rows.max(self.options.samples_per_prompt);
        while self.done < total {
            // A small prefill is a poor use of the machine: wait until a quarter of the batch is
            // free.
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

    /// Prefills as many waiting prompts as there is room for, and draws the first token of each of
    /// their samples. False if there is no room or no prompt.
    fn admit(&mut self, limit: usize) -> bool {
        let (first, count) = (self.next, self.options.samples_per_prompt);
        let (mut rows, mut free, mut tokens) = (self.rows.len(), self.paged.pages.free(), 0);
        while let Some(prompt) = self.prompts.get(self.next) {
            let blocks = blocks_needed(prompt.len(), self.options);
            if rows + count > limit
                || blocks > free
                || tokens > 0 && tokens + prompt.len() > PREFILL
            {
                break;
            }
            (rows, free, tokens, self.next) =
                (rows + count, free - blocks, tokens + prompt.len(), self.next + 1);
        }
        if self.next == first {
            return false;
        }
        let prompts = &self.prompts[first..self.next];
        let (prefilled, last) = self.paged.prefill(prompts);

        // Logits once a prompt, then once more for each further sample of it.
        let (b, model) = (self.paged.b, self.paged.model);
        let mut logits = heads::logits(b, model, &last, prompts.len());
        if count > 1 {
            let repeated: Vec<u32> =
                (0..prompts.len() * count).map(|row| (row / count) as u32).collect();
            let mut copies = b.wide(repeated.len() * model.spec.vocabulary);
            b.gather_rows(&mut copies, &logits, &repeated, model.spec.vocabulary);
            logits = copies;
        }
        let mut rows = Vec::new();
        let mut copies = Vec::new();
        for (index, blocks) in prefilled.into_iter().enumerate() {
            self.branch(first + index, blocks, &mut rows, &mut copies);
        }
        self.paged.copy(&copies);
        let mut rows = self.draw(rows, &logits);
        self.rows.append(&mut rows);
        true
    }

    /// Gives every sample of a prompt its blocks, with room for what is to come. The first sample
    /// keeps the prompt's own.
    fn branch(
        &mut self,
        prompt: usize,
        prefilled: Vec<u32>,
        rows: &mut Vec<Row>,
        copies: &mut Vec<(u32, u32)>,
    ) {
        let length = self.prompts[prompt].len();
        let positions = positions_for(length, self.options.max_new_tokens);
        let pages = &mut self.paged.pages;
        let others = (1..self.options.samples_per_prompt)
            .map(|_| pages.branch(&prefilled, length, positions, copies));
        let others: Vec<Vec<u32>> = others.collect();
        let room = pages.take(positions.div_ceil(BLOCK) - prefilled.len());
        let first = [prefilled, room].concat();
        let all = std::iter::once(first).chain(others).enumerate();
        rows.extend(all.map(|(sample, blocks)| Row { prompt, sample, blocks, length }));
    }

    /// One more token for every row: the last one drawn goes through the model, the next is drawn
    /// from what comes out.
    fn step(&mut self) {
        let mut rows = std::mem::take(&mut self.rows);
        let last = |row: &Row| self.samples[row.prompt][row.sample].tokens.last().copied();
        let tokens: Vec<u32> = rows
            .iter()
            .map(|row| last(row).expect("a row in the batch has drawn a token"))
            .collect();
        rows.iter_mut().for_each(|row| row.length += 1);
        let views: Vec<CacheView<'_>> =
            rows.iter().map(|row| CacheView { blocks: &row.blocks, length: row.length }).collect();
        let b = self.paged.b;
        let uniforms = self.uniforms(&rows);
        let (vocabulary, paged) = (self.paged.model.spec.vocabulary, &mut self.paged);
        let drawn = b.with_graph(&mut self.graphs, || {
            let hidden = paged.extend(&tokens, &views);
            let logits = heads::logits(b, paged.model, &hidden, tokens.len());
            b.sample(&logits, &uniforms, self.options.sampling, vocabulary)
        });
        self.rows = self.go_on(rows, drawn);
    }

    /// The number that draws the next token of each row.
    fn uniforms(&self, rows: &[Row]) -> Vec<f64> {
        let GenerateOptions { samples_per_prompt, stream, first_row, .. } = *self.options;
        let uniform = |row: &Row| {
            let global =
                (first_row + row.prompt as u64) * samples_per_prompt as u64 + row.sample as u64;
            stream.uniform(global, self.samples[row.prompt][row.sample].tokens.len() as u64)
        };
        rows.iter().map(uniform).collect()
    }

    /// Draws a token for each row from `logits[rows,v]`; gives back the rows that go on.
    fn draw(&mut self, rows: Vec<Row>, logits: &B::Buf) -> Vec<Row> {
        let drawn = self.paged.b.sample(
            logits,
            &self.uniforms(&rows),
            self.options.sampling,
            self.paged.model.spec.vocabulary,
        );
        self.go_on(rows, drawn)
    }

    /// Takes the tokens and log-probabilities that were drawn for rows; gives back the rows that go
    /// on.
    fn go_on(&mut self, rows: Vec<Row>, (tokens, logprobs): (Vec<u32>, Vec<f32>)) -> Vec<Row> {
        let GenerateOptions { max_new_tokens, ends, .. } = *self.options;
        let mut going = Vec::with_capacity(rows.len());
        for ((row, token), logprob) in rows.into_iter().zip(tokens).zip(logprobs) {
            let sample = &mut self.samples[row.prompt][row.sample];
            sample.tokens.push(token);
            sample.logprobs.push(logprob);
            sample.ended = ends.contains(&token);
            let over = sample.ended || sample.tokens.len() == max_new_tokens || sample.has_failed();
            if over || (self.stop)(row.prompt, &sample.tokens) {
                self.paged.pages.release(&row.blocks);
                self.done += 1;
            } else {
                going.push(row);
            }
        }
        going
    }
}

/// Positions that one sample takes at most. The last token drawn never enters the cache.
pub(super) fn positions_for(prompt: usize, new: usize) -> usize {
    prompt + new - 1
}

/// Blocks that a prompt and all its samples take.
fn blocks_needed(prompt: usize, options: &GenerateOptions<'_>) -> usize {
    prompt / BLOCK
        + options.samples_per_prompt
            * own_blocks(prompt, positions_for(prompt, options.max_new_tokens))
}
