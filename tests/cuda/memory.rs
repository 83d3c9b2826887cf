//! What is said to be taken of a device's memory, against the most that the back end held at a
//! time, on the emulated device.

use posttrain::backend::BLOCK;
use posttrain::backend::DType;
use posttrain::backend::Sampling;
use posttrain::backend::cuda::Cuda;
use posttrain::backend::prelude::*;
use posttrain::data::tokenised::Tokenised;
use posttrain::model::batch::Batch;
use posttrain::model::heads::{TargetTokens, scalar_scores_backward, token_logprobs};
use posttrain::model::init::{ScalarInit, scalar_head};
use posttrain::model::memory::Memory;
use posttrain::model::params::{HeadKind, Trainable};
use posttrain::model::spec::{Activation, FeedForward, Norm, Spec, Wiring};
use posttrain::model::transformer::{self, Recompute};
use posttrain::model::weights::Model;
use posttrain::rl::ppo::{PolicyClip, ValueClip};
use posttrain::rl::preference::Normalisation;
use posttrain::sample::{GenerateOptions, Limits, Sample, generate};
use posttrain::stages::models::Reinforced;
use posttrain::train::critic::Critic;
use posttrain::train::language;
use posttrain::train::optimiser::{OptimiserConfig, TrainState};
use posttrain::train::ppo::{Ppo, Settings};
use posttrain::train::rollouts::{FrozenModels, Rollout, RolloutSettings};
use posttrain::train::schedule::Schedule;

use super::emulated::alone;
use super::models::options;
use crate::model::{model, next_tokens, sequences};

/// Models whose buffers are large beside ids and alignment: of LLaMA's form with grouped heads; of
/// OPT's, with a vocabulary larger than all else; parallel, with norms of heads.
fn specs() -> [Spec; 3] {
    let plain = Spec::decoder(128, 64, 3, 4, 160, 160);
    let grouped = Spec { key_value_heads: 2, tied: false, ..plain.clone() };
    let learned = Spec {
        vocabulary: 2048,
        norm: Norm::Layer,
        feed_forward: FeedForward::Plain(Activation::Relu),
        feed_forward_bias: true,
        layers: 2,
        ..plain.clone().with_learned_positions()
    };
    [grouped, learned, Spec { wiring: Wiring::Parallel, query_key_norm: true, ..plain }]
}

/// Panics unless what was said is within 5% of what `b` held.
#[track_caller]
fn check(what: &str, b: &Cuda, said: Memory) {
    let (held, said_bytes) = (b.most_memory() as f64, said.bytes(b.sizes()) as f64);
    let ratio = said_bytes / held;
    assert!(
        (ratio - 1.0).abs() < 0.05,
        "{what}: {}, and {held} bytes were held: {ratio:.3}",
        said.words(b.sizes())
    );
}

#[test]
fn a_forward_pass_takes_what_is_said() {
    for kind in [DType::Bf16, DType::F32] {
        for (at, spec) in specs().iter().enumerate() {
            let Some(b) = alone(kind) else { return };
            let model = model(&b, spec, HeadKind::Language);
            let batch = Batch::new(&sequences(spec, &[100, 28]));
            let hidden = transformer::hidden(&b, &model, &batch);
            let (rows, targets) = next_tokens(&batch);
            token_logprobs(
                &b,
                &model,
                &hidden,
                TargetTokens { rows: &rows, targets: &targets, temperature: 1.0 },
                false,
            );
            check(
                &format!("model {at} in {kind:?}"),
                &b,
                Memory::weights(spec, HeadKind::Language).forward(spec, 128, 126),
            );
        }
    }
}

fn optimiser() -> OptimiserConfig {
    OptimiserConfig {
        learning_rate: 1e-3,
        schedule: Schedule::default(),
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        clip_norm: Some(1.0),
    }
}

#[test]
fn training_takes_what_is_said() {
    for kind in [DType::Bf16, DType::F32] {
        for (at, spec) in specs().iter().enumerate() {
            for trainable in [Trainable::ALL, Trainable::above(spec, spec.layers - 1)] {
                for recompute in [Recompute::None, Recompute::Block] {
                    let Some(b) = alone(kind) else { return };
                    let model: Model<Cuda> = model(&b, spec, HeadKind::Language);
                    let mut state =
                        TrainState::new(&b, &model, trainable.clone()).unwrap().with(recompute);
                    let rows: Vec<Tokenised> = sequences(spec, &[100, 28])
                        .into_iter()
                        .map(|tokens| Tokenised { tokens, ..Tokenised::default() })
                        .collect();
                    // The gradient of a tied head is there from the end of the first pass on.
                    let passes = if spec.tied && trainable.embeddings() { 2 } else { 1 };
                    for _ in 0..passes {
                        language::accumulate(&b, &mut state, &rows.iter().collect::<Vec<_>>());
                    }
                    state.update(&b, &optimiser(), 1e-3, 1.0, |_| true);
                    let said = Memory::weights(spec, HeadKind::Language).training(
                        spec,
                        HeadKind::Language,
                        &trainable,
                        recompute,
                        128,
                        126,
                    );
                    check(
                        &format!("model {at} in {kind:?}, {trainable:?}, {recompute:?}"),
                        &b,
                        said,
                    );
                }
            }
        }
    }
}

#[test]
fn training_of_a_reward_model_takes_what_is_said() {
    for (at, spec) in specs().iter().enumerate() {
        for recompute in [Recompute::None, Recompute::Block] {
            let Some(b) = alone(DType::Bf16) else { return };
            let trainable = Trainable::above(spec, 1);
            let head = scalar_head(spec, HeadKind::Reward, ScalarInit::Normal, 1).unwrap();
            let from: Model<Cuda> = model(&b, spec, HeadKind::Language);
            let mut state = TrainState::new(&b, &from.with_scalar(&b, head), trainable.clone())
                .unwrap()
                .with(recompute);
            let batch = Batch::new(&sequences(spec, &[100, 28]));
            let x = transformer::trunk(&b, &state.model, &batch, 1);
            let activations = transformer::forward(&b, &state.model, x, &batch, 1, Some(recompute));
            let mut dhidden = b.zeros(batch.rows() * spec.embedding_width);
            let TrainState { model, gradients, .. } = &mut state;
            scalar_scores_backward(
                &b,
                model,
                &mut dhidden,
                gradients,
                &activations.hidden,
                &batch.lasts(),
                &b.upload(&[1.0, -1.0]),
            );
            transformer::backward(&b, model, &batch, &activations, &dhidden, gradients, &trainable);
            let said = Memory::weights(spec, HeadKind::Reward).training(
                spec,
                HeadKind::Reward,
                &trainable,
                recompute,
                128,
                0,
            );
            // The policy that it began as is there too, with the language head that a reward model
            // lacks.
            let head = Memory {
                weights: if spec.tied { 0 } else { spec.vocabulary * spec.width },
                ..Memory::default()
            };
            check(&format!("model {at}, {recompute:?}"), &b, said.beside(head));
        }
    }
}

/// A step of PPO on four prompts, with the lowest four of five blocks frozen and shared by policy,
/// reference, reward model and critic.
fn ppo(b: &Cuda, spec: &Spec, separate: bool, recompute: Recompute) -> Memory {
    let (prompt, new) = (28, 4);
    let trainable = Trainable::frozen_fraction(spec, 0.8);
    let reference: Model<Cuda> = model(b, spec, HeadKind::Language);
    let head = |top| scalar_head(spec, top, ScalarInit::Normal, 1).unwrap();
    let reward = reference.trainable_copy(b, &trainable).with_scalar(b, head(HeadKind::Reward));
    let (policy, critic) = match separate {
        true => {
            let top = if spec.tied { HeadKind::LanguageAndValue } else { HeadKind::Value };
            let critic = reward.with_scalar(b, head(top));
            let state = TrainState::new(b, &critic, trainable.clone()).unwrap().with(recompute);
            (TrainState::new(b, &reference, trainable.clone()), Critic::Separate(Box::new(state)))
        }
        false => {
            let policy = reference.with_scalar(b, head(HeadKind::LanguageAndValue));
            (TrainState::new(b, &policy, trainable.clone()), Critic::Shared)
        }
    };
    let mut ppo = Ppo { b, policy: policy.unwrap().with(recompute), critic, coef: 0.1 };
    let prompts = sequences(spec, &[prompt; 4]);
    let options = GenerateOptions {
        samples_per_prompt: 1,
        max_new_tokens: new,
        sampling: Sampling::plain(1.0),
        ends: &[],
        limits: Limits { rows: 4, positions: 4 * 2 * BLOCK },
        ..options()
    };
    let samples = generate(b, &ppo.policy.model, &prompts, &options, &mut |_, _| Ok(())).unwrap();
    let rollout = |(prompt, mut samples): (Vec<u32>, Vec<Sample>)| {
        let Sample { tokens, logprobs, ended } = samples.pop().unwrap();
        Rollout::sampled(&prompt, &tokens, logprobs, ended)
    };
    let mut rollouts: Vec<Rollout> = prompts.into_iter().zip(samples).map(rollout).collect();
    let judged: Vec<Vec<u32>> =
        rollouts.iter().map(|rollout| [rollout.tokens.as_slice(), &[2]].concat()).collect();
    let config = optimiser();
    let settings = Settings {
        steps: 1,
        minibatches: 1,
        epochs: 2,
        rollouts: RolloutSettings {
            temperature: 1.0,
            max_new_tokens: new,
            pad: 0,
            conventions: Default::default(),
        },
        adaptive: None,
        policy_clip: PolicyClip::default(),
        value_clip: ValueClip::default(),
        value_warmup: 0,
        value_head_ratio: 1.0,
        optimiser: &config,
        seed: 0,
    };
    let normalisation = Normalisation::IDENTITY;
    let frozen = FrozenModels { reference: &reference, reward: &reward, normalisation };
    ppo.step(0, &mut rollouts, &judged, &frozen, &settings).unwrap();
    let sizes = Reinforced {
        policy: spec,
        reward: spec,
        shared: Some(trainable.first_layer()),
        trainable: trainable.clone(),
        critic: separate.then_some(trainable),
        recompute,
        tokens: [4 * (prompt + new + 1), 4 * (prompt + new), 4 * new],
    };
    sizes
        .memory()
        .beside(Memory::default().generation(spec, 4 * prompt, 4, 1).cached(spec, 4 * 2 * BLOCK))
}

#[test]
fn ppo_with_the_lowest_four_fifths_frozen_takes_what_is_said_and_holds_them_once() {
    for (at, spec) in specs().into_iter().enumerate() {
        let spec = Spec { layers: 5, ..spec };
        for (separate, recompute) in [
            (false, Recompute::None),
            (false, Recompute::Block),
            (true, Recompute::None),
            (true, Recompute::Block),
        ] {
            let Some(b) = alone(DType::Bf16) else { return };
            let said = ppo(&b, &spec, separate, recompute);
            check(&format!("model {at}, separate: {separate}, {recompute:?}"), &b, said);
            // A reward model with a separate trunk would take so much more that the two cannot be
            // mistaken for each other.
            let own = Memory::weights(&spec, HeadKind::Reward).weights
                - Memory::weights(&spec, HeadKind::Reward).sharing(&spec, Some(4)).weights;
            let bytes = own * b.sizes().stored;
            assert!(bytes as f64 > 0.05 * b.most_memory() as f64, "{bytes} of {}", b.most_memory());
        }
    }
}

#[test]
fn generation_takes_what_is_said() {
    for kind in [DType::Bf16, DType::F32] {
        for (at, spec) in specs().iter().enumerate() {
            for samples in [1, 4] {
                let Some(b) = alone(kind) else { return };
                let model = model(&b, spec, HeadKind::Language);
                let prompts = sequences(spec, &vec![2 * BLOCK; 16 / samples]);
                // A sample goes on in a separate block, which is the third of its text.
                let positions = prompts.len() * (2 + samples) * BLOCK;
                let options = GenerateOptions {
                    samples_per_prompt: samples,
                    max_new_tokens: 3,
                    sampling: Sampling::plain(1.0),
                    ends: &[],
                    limits: Limits { rows: 16, positions },
                    ..options()
                };
                generate(&b, &model, &prompts, &options, &mut |_, _| Ok(())).unwrap();
                let memory = Memory::weights(spec, HeadKind::Language).generation(
                    spec,
                    prompts.len() * 2 * BLOCK,
                    16,
                    samples,
                );
                check(
                    &format!("model {at} in {kind:?}, {samples} samples"),
                    &b,
                    memory.cached(spec, positions),
                );
            }
        }
    }
}
