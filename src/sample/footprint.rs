//! The memory of generation, counted: what is allocated does not depend on the tokens that are
//! drawn.

use std::ops::ControlFlow;

use crate::backend::Sampling;
use crate::backend::counting::Counting;
use crate::error::Result;
use crate::model::weights::Model;
use crate::random::Stream;

use super::continuous::{ContinuousBatch, GenerationRequest};
use super::{GenerateOptions, Limits, generate_until};

/// The first two tokens of `samples` samples of each prompt: all that is allocated for `new` tokens
/// is there then.
///
/// # Errors
/// Those of [`generate_until`].
pub fn first_tokens(
    b: &Counting,
    model: &Model<Counting>,
    prompts: &[Vec<u32>],
    (samples, new): (usize, usize),
    limits: Limits,
) -> Result<()> {
    let options = GenerateOptions {
        samples_per_prompt: samples,
        max_new_tokens: new,
        sampling: Sampling::plain(1.0),
        ends: &[],
        stream: Stream::new(0, "memory"),
        first_row: 0,
        limits,
    };
    let stop = |_, tokens: &[u32]| tokens.len() > 1;
    generate_until(b, model, prompts, &options, &stop, &mut |_, _| Ok(())).map(drop)
}

/// A server's batch at its fullest: one prompt of the whole context, then as many requests as there
/// is room for, then one request of as many samples.
pub fn serving(b: &Counting, model: &Model<Counting>, limits: Limits) {
    let request = |prompt: usize, samples: usize| GenerationRequest {
        prompt: vec![0; prompt],
        samples,
        max_new_tokens: 2,
        sampling: Sampling::plain(1.0),
        ends: Vec::new(),
        stream: Stream::new(0, "memory"),
        first_row: 0,
    };
    let mut batch = ContinuousBatch::within(b, model, limits);
    let mut all_tokens = |_| ControlFlow::Continue(());
    let long = request(model.spec.context.saturating_sub(2).max(1), 1);
    let (one, many) = (request(1, 1), request(1, limits.rows));
    for requests in [vec![long], vec![one; limits.rows], vec![many]] {
        for request in requests {
            if batch.has_room(&request) {
                batch.admit(0, request, &mut all_tokens);
            }
        }
        while batch.rows() > 0 {
            batch.step(&mut all_tokens);
        }
    }
}
