//! All samples of a list of prompts: requests of one continuous batch that wait from the start.

use std::ops::ControlFlow;

use crate::backend::{BLOCK, Backend};
use crate::error::Result;
use crate::model::weights::Model;

use super::continuous::{ContinuousBatch, GenerationRequest, TokenEvent, blocks_needed};
use super::{GenerateOptions, Sample};

/// Samples of every prompt, in the prompts' order; see [`super::generate_until`].
pub(super) fn generate_all<B: Backend>(
    b: &B,
    model: &Model<B>,
    prompts: &[Vec<u32>],
    options: &GenerateOptions<'_>,
    stop: &dyn Fn(usize, &[u32]) -> bool,
    progress: &mut dyn FnMut(usize, usize) -> Result<()>,
) -> Result<Vec<Vec<Sample>>> {
    let count = options.samples_per_prompt;
    let limit = options.limits.rows.max(count);
    let mut batch = ContinuousBatch::new(b, model, limit, blocks(prompts, options));
    let mut waiting = (0..)
        .zip(prompts)
        .map(|(number, prompt)| (number, request(number, prompt, options)))
        .peekable();
    let mut samples = vec![vec![Sample::default(); count]; prompts.len()];
    let (mut done, total) = (0, prompts.len() * count);
    while done < total {
        let before = done;
        let mut on_token = |event: TokenEvent| {
            let sample = &mut samples[event.request as usize][event.sample];
            sample.tokens.push(event.token);
            sample.logprobs.push(event.logprob);
            sample.ended = options.ends.contains(&event.token);
            let stops = !event.last && stop(event.request as usize, &sample.tokens);
            done += usize::from(event.last || stops);
            if stops { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        // A small prefill is a poor use of the machine: wait until a quarter of the batch is free.
        while batch.rows() <= limit - limit.div_ceil(4)
            && batch.admit_waiting(&mut waiting, &mut on_token)
        {}
        batch.step(&mut on_token);
        if done > before {
            progress(done, total)?;
        }
    }
    Ok(samples)
}

/// The request of prompt `number`.
fn request(number: u64, prompt: &[u32], options: &GenerateOptions<'_>) -> GenerationRequest {
    let samples = options.samples_per_prompt;
    GenerationRequest {
        prompt: prompt.to_vec(),
        samples,
        max_new_tokens: options.max_new_tokens,
        sampling: options.sampling,
        ends: options.ends.to_vec(),
        stream: options.stream,
        first_row: (options.first_row + number) * samples as u64,
    }
}

/// Blocks of the cache: as many as the limits allow and the prompts need, and enough for each of
/// them.
fn blocks(prompts: &[Vec<u32>], options: &GenerateOptions<'_>) -> usize {
    let (samples, new) = (options.samples_per_prompt, options.max_new_tokens);
    let needs = || prompts.iter().map(|prompt| blocks_needed(prompt.len(), samples, new));
    let (all, largest) = (needs().sum::<usize>(), needs().max().unwrap_or(0));
    (options.limits.positions / BLOCK).clamp(largest, all.max(largest))
}
