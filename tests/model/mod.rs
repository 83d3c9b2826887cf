//! The transformer, its heads, checkpoints and generation, on the CPU back end.

#![allow(clippy::unwrap_used)]

mod checkpoint;
mod generation;
mod golden;
mod gradients;
mod invariance;
mod scoring;

use posttrain::backend::Backend;
use posttrain::backend::cpu::Cpu;
use posttrain::model::init::{self, Init};
use posttrain::model::params::{Params, Role, Scalar, Top};
use posttrain::model::spec::Spec;
use posttrain::model::transformer::Batch;
use posttrain::model::weights::Model;
use posttrain::random::Stream;

/// A tiny model that has every part: grouped heads, biases, heads that are not width / heads wide.
fn spec(tied: bool) -> Spec {
    Spec {
        vocabulary: 11,
        width: 8,
        layers: 3,
        query_heads: 4,
        key_value_heads: 2,
        channels: 6,
        feed_forward: 10,
        context: 96,
        norm_epsilon: 1e-5,
        rotary_theta: 100.0,
        tied,
        attention_bias: true,
    }
}

/// Weights of which none is trivial: norms near 1, biases and scalar head not 0.
fn params(spec: &Spec, top: Top, seed: u64) -> Params<Vec<f32>> {
    let mut params = init::language_model(spec, Init::Normal { std: 0.4 }, seed);
    if top == Top::Reward {
        params.lm_head = None;
    }
    params.scalar = Params::slots(spec, top)
        .scalar
        .map(|scalar| Scalar { weight: vec![0.0; scalar.weight.count()], bias: scalar.bias.map(|bias| vec![0.0; bias.count()]) });
    let mut draws = Stream::new(seed, "perturbation").sequence(0);
    Params::slots(spec, top).zip(params).map(|(slot, tensor)| {
        let scalar = matches!(slot.role, Role::ScalarWeight | Role::ScalarBias);
        let shifted = scalar || slot.shape.len() == 1;
        tensor.iter().map(|x| x + if shifted { 0.3 * draws.normal() as f32 } else { 0.0 }).collect()
    })
}

fn model<B: Backend>(b: &B, spec: &Spec, top: Top) -> Model<B> {
    Model::upload(b, spec.clone(), params(spec, top, 5))
}

/// Sequences of the given lengths, of random tokens.
fn sequences(spec: &Spec, lengths: &[usize]) -> Vec<Vec<u32>> {
    let mut draws = Stream::new(9, "tokens").sequence(0);
    lengths.iter().map(|&length| (0..length).map(|_| draws.below(spec.vocabulary) as u32).collect()).collect()
}

/// The rows of a batch that have a next token, and these tokens.
fn next_tokens(batch: &Batch) -> (Vec<u32>, Vec<u32>) {
    let rows = batch.starts.windows(2).flat_map(|range| range[0]..range[1] - 1);
    rows.map(|row| (row as u32, batch.tokens[row + 1])).unzip()
}

/// Runs `f` on a pool of so many threads.
fn on_threads<T: Send>(threads: usize, f: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be started").install(f)
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

type Single = Cpu<f32>;
type Double = Cpu<f64>;
