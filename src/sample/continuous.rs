//! Continuous batching, the one loop of generation: requests are admitted and retired between
//! decoding steps, each with its own settings. Works on token ids; texts and clients are the
//! server's.
//!
//! 1. A row's bits depend on that row alone, so a sample is the same whatever runs next to it.
//! 2. A decoding step runs through `with_graph`: on CUDA, a step that recurs is one
//!    graph.
//! 3. Rows with the same [`Sampling`] are drawn by one call.

use std::iter::Peekable;
use std::ops::ControlFlow;
use std::rc::Rc;

use crate::backend::{BLOCK, Backend, CacheView, NO_TOKEN, Sampling};
use crate::model::heads;
use crate::model::weights::Model;
use crate::random::Stream;

use super::Limits;
use super::paged::Paged;
use super::pages::own_blocks;

/// Tokens prefilled at a time, if it is more than one prompt.
pub const PREFILL: usize = 1 << 13;

/// A prompt and what to generate from it.
#[derive(Clone, Debug)]
pub struct GenerationRequest {
    /// Its tokens: at least one, all of the vocabulary.
    pub prompt: Vec<u32>,
    /// Samples, at least one.
    pub samples: usize,
    /// Tokens of a sample at most, at least one; with the prompt's within the context.
    pub max_new_tokens: usize,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Tokens that end a sample.
    pub ends: Vec<u32>,
    /// Where draws come from: token `t` of sample `s` is draw `(first_row + s, t)`.
    pub stream: Stream,
    /// Row of the first sample's draws.
    pub first_row: u64,
}

impl GenerationRequest {
    /// Blocks of the cache that the prompt and all samples take.
    fn blocks(&self) -> usize {
        blocks_needed(self.prompt.len(), self.samples, self.max_new_tokens)
    }
}

/// A token that was drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenEvent {
    /// The number under which its request was admitted.
    pub request: u64,
    /// Which of the request's samples.
    pub sample: usize,
    /// The token.
    pub token: u32,
    /// Its log-probability under the distribution it was drawn from, in nats; NaN, with no token,
    /// if the logits were not finite.
    pub logprob: f32,
    /// Whether the sample ends with it.
    pub last: bool,
}

/// Takes each token that was drawn; `Break` stops its sample.
pub type OnToken<'a> = &'a mut dyn FnMut(TokenEvent) -> ControlFlow<()>;

/// One sample being made.
struct Row {
    request: u64,
    sample: usize,
    /// Cache blocks for all positions it may reach.
    blocks: Vec<u32>,
    /// Positions in the cache.
    length: usize,
    /// The token drawn last, which is not in the cache yet.
    token: u32,
    drawn: usize,
    settings: Rc<Settings>,
}

/// The settings of a request's samples.
struct Settings {
    max_new_tokens: usize,
    sampling: Sampling,
    ends: Vec<u32>,
    stream: Stream,
    first_row: u64,
}

/// Samples being made.
pub struct ContinuousBatch<'a, B: Backend> {
    paged: Paged<'a, B>,
    /// Rows at once.
    limit: usize,
    rows: Vec<Row>,
    /// CUDA graphs of decoding steps.
    graphs: B::GraphCache,
}

impl<'a, B: Backend> ContinuousBatch<'a, B> {
    /// No samples yet; room for `limit` of them, and for `blocks` blocks of the cache, which are
    /// allocated at once.
    pub(super) fn new(b: &'a B, model: &'a Model<B>, limit: usize, blocks: usize) -> Self {
        let paged = Paged::new(b, model, blocks);
        ContinuousBatch { paged, limit, rows: Vec::new(), graphs: B::GraphCache::default() }
    }

    /// Within `limits`, but with room for at least one sequence of the whole context.
    pub fn within(b: &'a B, model: &'a Model<B>, limits: Limits) -> Self {
        ContinuousBatch::new(b, model, limits.rows, capacity(model.spec.context, limits))
    }

    /// Samples being made.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is room for a request now.
    pub fn has_room(&self, request: &GenerationRequest) -> bool {
        self.rows.len() + request.samples <= self.limit
            && request.blocks() <= self.paged.pages.free()
    }

    /// Admits a request under a number, and draws the first token of each of its samples.
    ///
    /// # Panics
    /// If there is no room for it.
    pub fn admit(&mut self, number: u64, request: GenerationRequest, on_token: OnToken<'_>) {
        assert!(self.has_room(&request), "the caller has asked for room");
        self.prefill(vec![(number, request)], on_token);
    }

    /// Admits waiting requests, in their order, as many as there is room for in one prefill, and
    /// draws the first token of each of their samples. False if no request was admitted.
    pub(super) fn admit_waiting(
        &mut self,
        waiting: &mut Peekable<impl Iterator<Item = (u64, GenerationRequest)>>,
        on_token: OnToken<'_>,
    ) -> bool {
        let mut admitted = Vec::new();
        let (mut rows, mut free, mut tokens) = (self.rows.len(), self.paged.pages.free(), 0);
        while let Some((number, request)) = waiting.next_if(|(_, request)| {
            rows + request.samples <= self.limit
                && request.blocks() <= free
                && (tokens == 0 || tokens + request.prompt.len() <= PREFILL)
        }) {
            rows += request.samples;
            free -= request.blocks();
            tokens += request.prompt.len();
            admitted.push((number, request));
        }
        let any = !admitted.is_empty();
        if any {
            self.prefill(admitted, on_token);
        }
        any
    }

    /// Prefills the prompts of requests together and draws the first token of each sample.
    fn prefill(&mut self, requests: Vec<(u64, GenerationRequest)>, on_token: OnToken<'_>) {
        let prompts: Vec<&[u32]> =
            requests.iter().map(|(_, request)| request.prompt.as_slice()).collect();
        let (prefilled, last) = self.paged.prefill(&prompts);

        // Logits once for each prompt, then copied for each further sample of it.
        let (b, model) = (self.paged.b, self.paged.model);
        let mut logits = heads::logits(b, model, &last, prompts.len());
        let repeated: Vec<u32> = (0..)
            .zip(&requests)
            .flat_map(|(row, (_, request))| std::iter::repeat_n(row, request.samples))
            .collect();
        if repeated.len() > prompts.len() {
            let mut copies = b.wide(repeated.len() * model.spec.vocabulary);
            b.gather_rows(&mut copies, &logits, &repeated, model.spec.vocabulary);
            logits = copies;
        }
        let (mut rows, mut copies) = (Vec::with_capacity(repeated.len()), Vec::new());
        for ((number, request), blocks) in requests.into_iter().zip(prefilled) {
            self.fork(number, request, blocks, &mut rows, &mut copies);
        }
        self.paged.copy(&copies);
        let drawn = draw(b, &rows, &logits, model.spec.vocabulary);
        self.retire(rows, drawn, on_token);
    }

    /// Gives every sample of a request its blocks, with room for all its tokens. The first sample
    /// keeps the prompt's own blocks.
    fn fork(
        &mut self,
        number: u64,
        request: GenerationRequest,
        prefilled: Vec<u32>,
        rows: &mut Vec<Row>,
        copies: &mut Vec<(u32, u32)>,
    ) {
        let (length, samples) = (request.prompt.len(), request.samples);
        let GenerationRequest { max_new_tokens, sampling, ends, stream, first_row, .. } = request;
        let settings = Rc::new(Settings { max_new_tokens, sampling, ends, stream, first_row });
        let positions = positions_for(length, max_new_tokens);
        let pages = &mut self.paged.pages;
        let others = (1..samples).map(|_| pages.fork(&prefilled, length, positions, copies));
        let others: Vec<Vec<u32>> = others.collect();
        let room = pages.take(positions.div_ceil(BLOCK) - prefilled.len());
        let first = [prefilled, room].concat();
        rows.extend(std::iter::once(first).chain(others).enumerate().map(|(sample, blocks)| Row {
            request: number,
            sample,
            blocks,
            length,
            token: NO_TOKEN,
            drawn: 0,
            settings: Rc::clone(&settings),
        }));
    }

    /// One more token for every sample: the last one drawn goes through the model, the next is
    /// drawn from its logits.
    pub fn step(&mut self, on_token: OnToken<'_>) {
        if self.rows.is_empty() {
            return;
        }
        let mut rows = std::mem::take(&mut self.rows);
        rows.iter_mut().for_each(|row| row.length += 1);
        let tokens: Vec<u32> = rows.iter().map(|row| row.token).collect();
        let views: Vec<CacheView<'_>> =
            rows.iter().map(|row| CacheView { blocks: &row.blocks, length: row.length }).collect();
        let (b, model, paged) = (self.paged.b, self.paged.model, &mut self.paged);
        let drawn = b.with_graph(&mut self.graphs, || {
            let hidden = paged.extend(&tokens, &views);
            let logits = heads::logits(b, model, &hidden, tokens.len());
            draw(b, &rows, &logits, model.spec.vocabulary)
        });
        self.retire(rows, drawn, on_token);
    }

    /// Reports the tokens that were drawn for rows. Rows that go on join the batch; the blocks of
    /// the others are free.
    fn retire(&mut self, rows: Vec<Row>, drawn: Vec<(u32, f32)>, on_token: OnToken<'_>) {
        for (mut row, (token, logprob)) in rows.into_iter().zip(drawn) {
            (row.token, row.drawn) = (token, row.drawn + 1);
            let last = row.settings.ends.contains(&token)
                || row.drawn == row.settings.max_new_tokens
                || token == NO_TOKEN;
            let (request, sample) = (row.request, row.sample);
            let stopped = on_token(TokenEvent { request, sample, token, logprob, last }).is_break();
            match last || stopped {
                true => self.paged.pages.release(&row.blocks),
                false => self.rows.push(row),
            }
        }
    }
}

/// A token with its log-probability for each row, from `logits[rows,v]`.
fn draw<B: Backend>(b: &B, rows: &[Row], logits: &B::Buf, v: usize) -> Vec<(u32, f32)> {
    let mut drawn = vec![(NO_TOKEN, 0.0); rows.len()];
    let mut open: Vec<usize> = (0..rows.len()).collect();
    while let Some(&first) = open.first() {
        let sampling = rows[first].settings.sampling;
        let (alike, rest): (Vec<usize>, Vec<usize>) =
            open.iter().partition(|&&row| rows[row].settings.sampling == sampling);
        let uniform = |&at: &usize| {
            let Row { sample, drawn, settings, .. } = &rows[at];
            settings.stream.uniform(settings.first_row + *sample as u64, *drawn as u64)
        };
        let uniforms: Vec<f64> = alike.iter().map(uniform).collect();
        let (tokens, logprobs) = if alike.len() == rows.len() {
            b.sample(logits, &uniforms, sampling, v)
        } else {
            let indices: Vec<u32> = alike.iter().map(|&row| row as u32).collect();
            let mut own = b.wide(alike.len() * v);
            b.gather_rows(&mut own, logits, &indices, v);
            b.sample(&own, &uniforms, sampling, v)
        };
        for (&row, token) in alike.iter().zip(tokens.into_iter().zip(logprobs)) {
            drawn[row] = token;
        }
        open = rest;
    }
    drawn
}

/// Positions that one sample takes at most. The last token drawn never enters the cache.
fn positions_for(prompt: usize, new: usize) -> usize {
    prompt + new - 1
}

/// Blocks that a prompt of some tokens and all its samples take.
pub(super) fn blocks_needed(prompt: usize, samples: usize, new: usize) -> usize {
    prompt / BLOCK + samples * own_blocks(prompt, positions_for(prompt, new))
}

/// Whether a batch within `limits` can ever have room for a request, for a model of this context.
pub fn can_fit(request: &GenerationRequest, context: usize, limits: Limits) -> bool {
    request.samples <= limits.rows && request.blocks() <= capacity(context, limits)
}

/// Blocks of the cache.
fn capacity(context: usize, limits: Limits) -> usize {
    limits.positions.max(context).div_ceil(BLOCK)
}
