//! Scoring many responses to the same prompt: what [`crate::model::score`] gives, to the bit,
//! without the prompt once for each. Knows no text.
//!
//! Details that matter:
//! 1. A prompt is prefilled once; each response gets separate cache blocks behind the prompt's
//!    full ones.
//! 2. All tokens of some responses then go through the model in one pass: their keys and values are
//!    in the cache before any of them attends, and each attends up to itself. That this is
//!    attention on the whole sequence, to the bit, is the back end's contract.
//! 3. A number at the prompt's last token is read from the prompt's own hidden state; the tokens
//!    behind the last number wanted never run.

use std::ops::Range;

use crate::backend::{BLOCK, Backend, CacheView};
use crate::model::batch::pack_by_tokens;
use crate::model::heads::{self, TargetTokens};
use crate::model::weights::Model;

use super::paged::Paged;
use super::pages::own_blocks;

/// A prompt with responses to it.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    /// At least one token.
    pub prompt: &'a [u32],
    /// Each of any length.
    pub responses: Vec<&'a [u32]>,
}

/// For each response of each group, the log-probabilities of its tokens at `temperature`, in nats.
/// `pass` is how many tokens one pass takes, about; no bit depends on it.
pub fn response_logprobs<B: Backend>(
    b: &B,
    model: &Model<B>,
    groups: &[Group<'_>],
    temperature: f32,
    pass: usize,
) -> Vec<Vec<Vec<f32>>> {
    let scores = response_scores(b, model, groups, temperature, pass);
    let logprobs = |tokens: Vec<TokenScore>| tokens.iter().map(|token| token.logprob).collect();
    scores.into_iter().map(|group| group.into_iter().map(logprobs).collect()).collect()
}

/// What a model says of a token of a response.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenScore {
    /// Its log-probability, in nats.
    pub logprob: f32,
    /// Entropy of the distribution that it is drawn from, in nats.
    pub entropy: f32,
}

/// [`response_logprobs`], with the exact entropy of each token's distribution at `temperature`.
pub fn response_scores<B: Backend>(
    b: &B,
    model: &Model<B>,
    groups: &[Group<'_>],
    temperature: f32,
    pass: usize,
) -> Vec<Vec<Vec<TokenScore>>> {
    let read = |hidden: &B::Buf, places: &Places| {
        let scored = TargetTokens { rows: &places.rows, targets: &places.next, temperature };
        let scores = heads::token_logprobs(b, model, hidden, scored, false);
        let (logprobs, entropies) =
            (b.download_f64(&scores.logprobs), b.download_f64(&scores.entropies));
        let both = logprobs.into_iter().zip(entropies);
        both.map(|(logprob, entropy)| TokenScore {
            logprob: logprob as f32,
            entropy: entropy as f32,
        })
        .collect()
    };
    score(b, model, groups, Wanted { places: |length| 0..length, read: &read, pass })
}

/// For each response of each group, the scalar head's number at its last token; at the prompt's,
/// where the response is empty. `pass` is how many tokens one pass takes, about; no bit depends on
/// it.
///
/// # Panics
/// Where the model has no scalar head.
pub fn last_scalars<B: Backend>(
    b: &B,
    model: &Model<B>,
    groups: &[Group<'_>],
    pass: usize,
) -> Vec<Vec<f32>> {
    let read = |hidden: &B::Buf, places: &Places| {
        let scores = heads::scalar_scores(b, model, hidden, &places.rows);
        scores.into_iter().map(|score| score as f32).collect()
    };
    let numbers =
        score(b, model, groups, Wanted { places: |length| length..length + 1, read: &read, pass });
    numbers.into_iter().map(|group| group.concat()).collect()
}

/// Where numbers are read: rows of hidden states, and the response tokens that follow them, where
/// one does.
#[derive(Default)]
struct Places {
    rows: Vec<u32>,
    next: Vec<u32>,
}

/// What is wanted of every response.
struct Wanted<'a, B: Backend, T> {
    /// From a response's length to the places whose numbers are wanted: place 0 is the prompt's
    /// last token, place i the response's i-th.
    places: fn(usize) -> Range<usize>,
    /// What is read at some rows of hidden states.
    read: &'a dyn Fn(&B::Buf, &Places) -> Vec<T>,
    /// Tokens that one pass takes, about.
    pass: usize,
}

impl<B: Backend, T> Wanted<'_, B, T> {
    /// The tokens of a response that have to run.
    fn run<'r>(&self, response: &'r [u32]) -> &'r [u32] {
        &response[..(self.places)(response.len()).end.saturating_sub(1)]
    }

    fn read(&self, hidden: &B::Buf, places: &Places) -> impl Iterator<Item = T> {
        let numbers = if places.rows.is_empty() { Vec::new() } else { (self.read)(hidden, places) };
        numbers.into_iter()
    }
}

/// A response, its group's place among those prefilled together, and its prompt's length.
#[derive(Clone, Copy)]
struct Response<'a> {
    group: usize,
    prompt: usize,
    tokens: &'a [u32],
}

/// The numbers wanted, for each response of each group.
fn score<B: Backend, T>(
    b: &B,
    model: &Model<B>,
    groups: &[Group<'_>],
    wanted: Wanted<'_, B, T>,
) -> Vec<Vec<Vec<T>>> {
    let tokens = |group: &Group<'_>| {
        group.prompt.len()
            + group.responses.iter().map(|response| wanted.run(response).len()).sum::<usize>()
    };
    let mut out = Vec::with_capacity(groups.len());
    for run in pack_by_tokens(groups.iter().map(tokens), wanted.pass) {
        let groups = &groups[run];
        let mut numbers = score_together(b, model, groups, &wanted).into_iter();
        out.extend(
            groups.iter().map(|group| numbers.by_ref().take(group.responses.len()).collect()),
        );
    }
    out
}

/// The numbers wanted of all responses of groups whose prompts are prefilled together.
fn score_together<B: Backend, T>(
    b: &B,
    model: &Model<B>,
    groups: &[Group<'_>],
    wanted: &Wanted<'_, B, T>,
) -> Vec<Vec<T>> {
    let responses = groups.iter().enumerate().flat_map(|(at, group)| {
        group.responses.iter().map(move |tokens| Response {
            group: at,
            prompt: group.prompt.len(),
            tokens,
        })
    });
    let responses: Vec<Response<'_>> = responses.collect();
    let passes = pack_by_tokens(
        responses.iter().map(|response| wanted.run(response.tokens).len()),
        wanted.pass,
    );
    let own = |response: &Response<'_>| {
        own_blocks(response.prompt, response.prompt + wanted.run(response.tokens).len())
    };
    let most = passes
        .iter()
        .map(|pass| responses[pass.clone()].iter().map(own).sum::<usize>())
        .max()
        .unwrap_or(0);
    let prompts: Vec<&[u32]> = groups.iter().map(|group| group.prompt).collect();
    let mut paged = Paged::new(
        b,
        model,
        most + prompts.iter().map(|prompt| prompt.len().div_ceil(BLOCK)).sum::<usize>(),
    );
    let (prefilled, last) = paged.prefill(&prompts);
    passes
        .into_iter()
        .flat_map(|pass| score_pass(&mut paged, &prefilled, &last, &responses[pass], wanted))
        .collect()
}

/// The numbers wanted of some responses, in one pass. `prefilled` are the blocks of each group's
/// prompt, `last[groups,d]` the hidden states at their last tokens.
fn score_pass<B: Backend, T>(
    paged: &mut Paged<'_, B>,
    prefilled: &[Vec<u32>],
    last: &B::Buf,
    responses: &[Response<'_>],
    wanted: &Wanted<'_, B, T>,
) -> Vec<Vec<T>> {
    let (mut tokens, mut blocks, mut copies) = (Vec::new(), Vec::new(), Vec::new());
    let (mut at_prompts, mut at_responses) = (Places::default(), Places::default());
    for response in responses {
        let (start, run) = (tokens.len(), wanted.run(response.tokens));
        for place in (wanted.places)(response.tokens.len()) {
            let (places, row) = if place == 0 {
                (&mut at_prompts, response.group)
            } else {
                (&mut at_responses, start + place - 1)
            };
            places.rows.push(row as u32);
            places.next.extend(response.tokens.get(place));
        }
        tokens.extend_from_slice(run);
        blocks.push(paged.pages.fork(
            &prefilled[response.group],
            response.prompt,
            response.prompt + run.len(),
            &mut copies,
        ));
    }
    paged.copy(&copies);
    let views = responses.iter().zip(&blocks).flat_map(|(response, blocks)| {
        (1..=wanted.run(response.tokens).len())
            .map(|place| CacheView { blocks, length: response.prompt + place })
    });
    let hidden = paged.extend(&tokens, &views.collect::<Vec<_>>());
    blocks.iter().for_each(|blocks| paged.pages.release(blocks));
    let (mut first, mut others) =
        (wanted.read(last, &at_prompts), wanted.read(&hidden, &at_responses));
    let mut number = |place| {
        if place == 0 { first.next() } else { others.next() }.expect("a number for every place")
    };
    responses
        .iter()
        .map(|response| (wanted.places)(response.tokens.len()).map(&mut number).collect())
        .collect()
}
