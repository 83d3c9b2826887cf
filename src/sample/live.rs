//! Generation that goes on: sequences join and leave between steps, each with its own settings.
//! Knows no text and no client.
//!
//! A row's bits depend on that row alone, so a sample is what [`super::generate`] makes of its
//! prompt alone, whatever runs beside it.

use crate::backend::{BLOCK, Backend, CacheView, NO_TOKEN, Sampling};
use crate::model::heads;
use crate::model::weights::Model;
use crate::random::Stream;

use super::Limits;
use super::engine::positions_for;
use super::paged::Paged;
use super::pages::own_blocks;

/// A prompt and what is wanted of it.
#[derive(Clone, Debug)]
pub struct Order {
    /// Its tokens: at least one, all of the vocabulary.
    pub prompt: Vec<u32>,
    /// Samples, at least one.
    pub samples: usize,
    /// Tokens of a sample at most, at least one; with the prompt's within the context.
    pub max_new_tokens: usize,
    /// How they are drawn.
    pub sampling: Sampling,
    /// Tokens that end a sample.
    pub ends: Vec<u32>,
    /// Where draws come from: that of a sample's token is (sample, place).
    pub stream: Stream,
}

impl Order {
    /// Blocks of the cache that the prompt and all samples take.
    fn blocks(&self) -> usize {
        let length = self.prompt.len();
        length / BLOCK
            + self.samples * own_blocks(length, positions_for(length, self.max_new_tokens))
    }
}

/// A token that was drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drawn {
    /// Under which number its order was admitted.
    pub order: u64,
    /// Which of the order's samples.
    pub sample: usize,
    /// The token.
    pub token: u32,
    /// Its log-probability under the distribution it was drawn from, in nats; NaN, with no token,
    /// where the logits were not finite.
    pub logprob: f32,
    /// Whether the sample ends with it.
    pub last: bool,
}

struct Row {
    order: u64,
    sample: usize,
    blocks: Vec<u32>,
    /// Positions in the cache.
    length: usize,
    /// The token drawn last, which is not in the cache yet.
    token: u32,
    drawn: usize,
    settings: Settings,
}

#[derive(Clone)]
struct Settings {
    max_new_tokens: usize,
    sampling: Sampling,
    ends: Vec<u32>,
    stream: Stream,
}

/// Sequences at work.
pub struct Live<'a, B: Backend> {
    paged: Paged<'a, B>,
    limits: Limits,
    rows: Vec<Row>,
}

impl<'a, B: Backend> Live<'a, B> {
    /// Nothing at work yet. The cache is taken at once, and holds one sequence of the whole context
    /// at least.
    pub fn new(b: &'a B, model: &'a Model<B>, limits: Limits) -> Self {
        Live {
            paged: Paged::new(b, model, capacity(model.spec.context, limits)),
            limits,
            rows: Vec::new(),
        }
    }

    /// Whether there is room for an order now.
    pub fn has_room(&self, order: &Order) -> bool {
        self.rows.len() + order.samples <= self.limits.rows
            && order.blocks() <= self.paged.pages.free()
    }

    /// Whether nothing is at work.
    pub fn is_idle(&self) -> bool {
        self.rows.is_empty()
    }

    /// Takes an order in, and draws the first token of each of its samples.
    ///
    /// # Panics
    /// If there is no room for it.
    pub fn admit(&mut self, number: u64, order: Order) -> Vec<Drawn> {
        assert!(self.has_room(&order), "the caller has asked for room");
        let (length, count) = (order.prompt.len(), order.samples);
        let positions = positions_for(length, order.max_new_tokens);
        let (mut prefilled, last) = self.paged.prefill(std::slice::from_ref(&order.prompt));
        let prompt = prefilled.pop().expect("blocks for one prompt");

        let (b, model) = (self.paged.b, self.paged.model);
        let one = heads::logits(b, model, &last, 1);
        let mut logits = b.wide(count * model.spec.vocabulary);
        b.gather_rows(&mut logits, &one, &vec![0; count], model.spec.vocabulary);

        // The first sample keeps the prompt's own blocks.
        let (pages, mut copies) = (&mut self.paged.pages, Vec::new());
        let others: Vec<Vec<u32>> =
            (1..count).map(|_| pages.branch(&prompt, length, positions, &mut copies)).collect();
        let room = pages.take(positions.div_ceil(BLOCK) - prompt.len());
        self.paged.copy(&copies);

        let Order { max_new_tokens, sampling, ends, stream, .. } = order;
        let settings = Settings { max_new_tokens, sampling, ends, stream };
        let row = |(sample, blocks)| Row {
            order: number,
            sample,
            blocks,
            length,
            token: 0,
            drawn: 0,
            settings: settings.clone(),
        };
        let rows =
            std::iter::once([prompt, room].concat()).chain(others).enumerate().map(row).collect();
        self.draw(rows, &logits)
    }

    /// Lets an order go, whatever is left of it to do.
    pub fn leave(&mut self, number: u64) {
        let (gone, going): (Vec<Row>, Vec<Row>) =
            std::mem::take(&mut self.rows).into_iter().partition(|row| row.order == number);
        gone.iter().for_each(|row| self.paged.pages.release(&row.blocks));
        self.rows = going;
    }

    /// One more token for every sequence.
    pub fn step(&mut self) -> Vec<Drawn> {
        let mut rows = std::mem::take(&mut self.rows);
        let tokens: Vec<u32> = rows.iter().map(|row| row.token).collect();
        rows.iter_mut().for_each(|row| row.length += 1);
        let views: Vec<CacheView<'_>> =
            rows.iter().map(|row| CacheView { blocks: &row.blocks, length: row.length }).collect();
        let hidden = self.paged.extend(&tokens, &views);
        let logits = heads::logits(self.paged.b, self.paged.model, &hidden, rows.len());
        self.draw(rows, &logits)
    }

    /// Draws a token for each row from `logits[rows,v]`; rows that go on join those at work.
    fn draw(&mut self, mut rows: Vec<Row>, logits: &B::Buf) -> Vec<Drawn> {
        let (b, v) = (self.paged.b, self.paged.model.spec.vocabulary);
        let mut found = vec![(0, 0.0); rows.len()];
        let mut open: Vec<usize> = (0..rows.len()).collect();
        // One call for all rows that draw alike.
        while let Some(&first) = open.first() {
            let sampling = rows[first].settings.sampling;
            let (alike, rest): (Vec<usize>, Vec<usize>) =
                open.iter().partition(|&&row| rows[row].settings.sampling == sampling);
            let uniform = |&at: &usize| {
                rows[at].settings.stream.uniform(rows[at].sample as u64, rows[at].drawn as u64)
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
            alike
                .iter()
                .zip(tokens.into_iter().zip(logprobs))
                .for_each(|(&row, drawn)| found[row] = drawn);
            open = rest;
        }
        let mut all = Vec::with_capacity(rows.len());
        for (mut row, (token, logprob)) in rows.drain(..).zip(found) {
            (row.token, row.drawn) = (token, row.drawn + 1);
            let last = row.settings.ends.contains(&token)
                || row.drawn == row.settings.max_new_tokens
                || token == NO_TOKEN;
            all.push(Drawn { order: row.order, sample: row.sample, token, logprob, last });
            match last {
                true => self.paged.pages.release(&row.blocks),
                false => self.rows.push(row),
            }
        }
        all
    }
}

/// Whether an order can ever have room in what works within `limits`, for a model of this context.
pub fn can_fit(order: &Order, context: usize, limits: Limits) -> bool {
    order.samples <= limits.rows && order.blocks() <= capacity(context, limits)
}

/// Blocks of the cache.
fn capacity(context: usize, limits: Limits) -> usize {
    limits.positions.max(context).div_ceil(BLOCK)
}
