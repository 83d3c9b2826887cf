//! The transformer, its heads, checkpoints and generation, on the CPU back end.

#![expect(clippy::unwrap_used)]

mod checkpoint;
mod configuration;
mod families;
mod fields;
pub mod generation;
pub mod golden;
pub mod gradients;
pub mod heads;
pub mod invariance;
mod layouts;
mod pairs;
mod pickled;
pub mod scoring;

use posttrain::backend::Backend;
use posttrain::backend::cpu::Cpu;
use posttrain::model::batch::Batch;
use posttrain::model::params::{HeadKind, Params};
use posttrain::model::spec::{Rotary, Scaling, Spec};
use posttrain::model::weights::Model;
use posttrain::random::Stream;

/// A tiny model of LLaMA's form that has every part: grouped heads, biases, heads that are not
/// width / heads wide.
pub fn spec(tied: bool) -> Spec {
    let rotary = Rotary { theta: 100.0, channels: 6, scaling: Scaling::None };
    Spec {
        query_heads: 4,
        key_value_heads: 2,
        channels: 6,
        query_key_value_bias: true,
        output_bias: true,
        tied,
        ..Spec::decoder(11, 8, 3, 4, 10, 96).with_each_layer(|layer| layer.rotary = Some(rotary))
    }
}

/// Nontrivial weights: norms near 1, biases and heads not 0.
pub fn params(spec: &Spec, head: HeadKind, seed: u64) -> Params<Vec<f32>> {
    Params::slots(spec, head).map(|slot| {
        let mut draws = Stream::new(seed, &slot.name).sequence(0);
        let (centre, spread) =
            if slot.role.is_norm() && !slot.bias { (1.0, 0.3) } else { (0.0, 0.4) };
        (0..slot.count()).map(|_| centre + spread * draws.normal() as f32).collect()
    })
}

pub fn model<B: Backend>(b: &B, spec: &Spec, head: HeadKind) -> Model<B> {
    Model::upload(b, spec.clone(), head, params(spec, head, 5))
}

/// Sequences of the given lengths, of random tokens.
pub fn sequences(spec: &Spec, lengths: &[usize]) -> Vec<Vec<u32>> {
    let mut draws = Stream::new(9, "tokens").sequence(0);
    lengths
        .iter()
        .map(|&length| (0..length).map(|_| draws.below(spec.vocabulary) as u32).collect())
        .collect()
}

/// The rows of a batch that have a next token, and these tokens.
pub fn next_tokens(batch: &Batch) -> (Vec<u32>, Vec<u32>) {
    let rows = batch.starts.windows(2).flat_map(|range| range[0]..range[1] - 1);
    rows.map(|row| (row as u32, batch.tokens[row + 1])).unzip()
}

/// Runs `f` on a pool of `threads` threads.
fn on_threads<T: Send>(threads: usize, f: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .expect("threads can be started")
        .install(f)
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

type Single = Cpu<f32>;
type Double = Cpu<f64>;
