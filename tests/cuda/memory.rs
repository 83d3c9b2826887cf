//! What is said to be taken of a device's memory, against the most that the back end held at a time, on the emulated device.

use posttrain::backend::Sampling;
use posttrain::backend::cuda::{Cuda, Type};
use posttrain::backend::{BLOCK, Backend};
use posttrain::data::tokenised::Tokenised;
use posttrain::model::heads::{Scored, token_logprobs};
use posttrain::model::memory::Memory;
use posttrain::model::params::{Top, Trainable};
use posttrain::model::spec::{Activation, Norm, Position, Spec, Wiring};
use posttrain::model::transformer::{self, Batch};
use posttrain::model::weights::Model;
use posttrain::sample::{GenerateOptions, Limits, generate};
use posttrain::train::language;
use posttrain::train::optimiser::{Learner, OptimiserConfig};
use posttrain::train::schedule::Schedule;

use super::emulated::alone;
use super::models::options;
use crate::model::{model, next_tokens, sequences};

/// Models whose buffers are large beside ids and alignment: of LLaMA's form with grouped heads; of OPT's, with a vocabulary larger than all else;
/// parallel, with norms of heads.
fn specs() -> [Spec; 3] {
    let plain = Spec::decoder(128, 64, 3, 4, 160, 160);
    let grouped = Spec { key_value_heads: 2, tied: false, ..plain.clone() };
    let learned = Spec {
        vocabulary: 2048,
        position: Position::Learned,
        norm: Norm::Layer,
        gated: false,
        activation: Activation::Relu,
        feed_forward_bias: true,
        layers: 2,
        ..plain.clone()
    };
    [grouped, learned, Spec { wiring: Wiring::Parallel, query_key_norm: true, ..plain }]
}

/// Panics unless what was said is within 5% of what `b` held.
#[track_caller]
fn check(what: &str, b: &Cuda, said: Memory) {
    let (held, said_bytes) = (b.most_memory() as f64, said.bytes(b.sizes()) as f64);
    let ratio = said_bytes / held;
    assert!((ratio - 1.0).abs() < 0.05, "{what}: {}, and {held} bytes were held: {ratio:.3}", said.words(b.sizes()));
}

#[test]
fn a_forward_pass_takes_what_is_said() {
    for kind in [Type::Bf16, Type::F32] {
        for (at, spec) in specs().iter().enumerate() {
            let Some(b) = alone(kind) else { return };
            let model = model(&b, spec, Top::Language);
            let batch = Batch::new(&sequences(spec, &[100, 28]));
            let hidden = transformer::hidden(&b, &model, &batch);
            let (rows, targets) = next_tokens(&batch);
            token_logprobs(&b, &model, &hidden, Scored { rows: &rows, targets: &targets, temperature: 1.0 }, false);
            check(&format!("model {at} in {kind:?}"), &b, Memory::weights(spec, Top::Language).forward(spec, 128, 126));
        }
    }
}

#[test]
fn training_takes_what_is_said() {
    for kind in [Type::Bf16, Type::F32] {
        for (at, spec) in specs().iter().enumerate() {
            for trainable in [Trainable::ALL, Trainable { first_layer: spec.layers - 1, embeddings: false }] {
                let Some(b) = alone(kind) else { return };
                let model: Model<Cuda> = model(&b, spec, Top::Language);
                let mut learner = Learner::new(&b, &model, trainable).unwrap();
                let rows: Vec<Tokenised> =
                    sequences(spec, &[100, 28]).into_iter().map(|tokens| Tokenised { tokens, ..Tokenised::default() }).collect();
                language::accumulate(&b, &mut learner, &rows.iter().collect::<Vec<_>>());
                let config = OptimiserConfig {
                    learning_rate: 1e-3,
                    schedule: Schedule::default(),
                    beta1: 0.9,
                    beta2: 0.95,
                    epsilon: 1e-8,
                    weight_decay: 0.1,
                    clip_norm: Some(1.0),
                };
                learner.update(&b, &config, 1e-3, 1.0, |_| true);
                let said = Memory::weights(spec, Top::Language).training(spec, Top::Language, trainable, 128, 126);
                check(&format!("model {at} in {kind:?}, {trainable:?}"), &b, said);
            }
        }
    }
}

#[test]
fn generation_takes_what_is_said() {
    for kind in [Type::Bf16, Type::F32] {
        for (at, spec) in specs().iter().enumerate() {
            for samples in [1, 4] {
                let Some(b) = alone(kind) else { return };
                let model = model(&b, spec, Top::Language);
                let prompts = sequences(spec, &vec![2 * BLOCK; 16 / samples]);
                // A sample goes on in a block of its own, which is the third of its text.
                let positions = prompts.len() * (2 + samples) * BLOCK;
                let options = GenerateOptions {
                    samples_per_prompt: samples,
                    max_new_tokens: 3,
                    sampling: Sampling::plain(1.0),
                    eos: None,
                    limits: Limits { rows: 16, positions },
                    ..options()
                };
                generate(&b, &model, &prompts, &options, &mut |_, _| Ok(())).unwrap();
                let memory = Memory::weights(spec, Top::Language).generation(spec, prompts.len() * 2 * BLOCK, 16, samples);
                check(&format!("model {at} in {kind:?}, {samples} samples"), &b, memory.cached(spec, positions));
            }
        }
    }
}
