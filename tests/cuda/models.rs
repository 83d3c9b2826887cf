//! A whole tiny model on the emulated device: forward, backward, ten steps of training, generation,
//! scoring.

use std::ops::ControlFlow;

use posttrain::backend::Sampling;
use posttrain::backend::cuda::Cuda;
use posttrain::backend::prelude::*;
use posttrain::model::batch::Batch;
use posttrain::model::params::{HeadKind, Trainable};
use posttrain::model::spec::{Activation, Spec, Wiring};
use posttrain::model::transformer;
use posttrain::random::Stream;
use posttrain::sample::continuous::{ContinuousBatch, GenerationRequest, TokenEvent};
use posttrain::sample::{GenerateOptions, Limits, generate};
use posttrain::train::optimiser::{OptimiserConfig, TrainState};
use posttrain::train::schedule::Schedule;

use super::emulated::{cuda, cuda_bf16};
use crate::model::gradients::{
    gradient, layer_norm_spec, loss, recomputed_gradients_have_the_same_bits,
};
use crate::model::invariance::a_token_more_changes_no_row;
use crate::model::{heads, model, scoring, sequences, spec};
use crate::ops::{close, oracle};

/// Both norms, both positions, gated and plain.
pub fn specs() -> [Spec; 2] {
    [spec(false), layer_norm_spec(Wiring::Pre, Activation::Gelu)]
}

#[test]
fn hidden_states_losses_and_gradients_of_a_model_agree_with_double_precision() {
    let Some(b) = cuda() else { return };
    let double = oracle();
    for spec in specs() {
        let batch = Batch::new(&sequences(&spec, &[7, 1, 4]));
        let (device, exact) = (
            model(&b, &spec, HeadKind::LanguageAndValue),
            model(&double, &spec, HeadKind::LanguageAndValue),
        );
        let hidden = transformer::hidden(&b, &device, &batch);
        close(
            "hidden",
            &b.download_f64(&hidden),
            &transformer::hidden(&double, &exact, &batch),
            5e-6,
        );
        close("loss", &[loss(&b, &device, &batch)], &[loss(&double, &exact, &batch)], 5e-6);
        let got = gradient(&b, &device, &batch, &Trainable::ALL);
        let expected = gradient(&double, &exact, &batch, &Trainable::ALL);
        for ((slot, got), (_, expected)) in got.iter().zip(&expected) {
            let (got, expected) = (got.as_ref().unwrap(), expected.as_ref().unwrap());
            // A gradient that vanishes is nothing but roundings.
            if expected.iter().any(|x| x.abs() > 1e-9) {
                close(&slot.name, got, expected, 3e-5);
            }
        }
    }
}

#[test]
fn blocks_that_are_run_again_give_the_bits_of_blocks_that_kept_all() {
    let (Some(single), Some(half)) = (cuda(), cuda_bf16()) else { return };
    recomputed_gradients_have_the_same_bits(&single);
    recomputed_gradients_have_the_same_bits(&half);
}

#[test]
fn what_follows_a_token_changes_no_bit_of_it() {
    let (Some(single), Some(half)) = (cuda(), cuda_bf16()) else { return };
    a_token_more_changes_no_row(&single);
    a_token_more_changes_no_row(&half);
}

/// Losses before each of ten steps.
fn train<B: Backend>(b: &B, spec: &Spec) -> Vec<f64> {
    let trainable = Trainable::above(spec, 1);
    let mut state =
        TrainState::new(b, &model(b, spec, HeadKind::LanguageAndValue), trainable.clone())
            .expect("the layers are there");
    let batch = Batch::new(&sequences(spec, &[8, 3]));
    let config = OptimiserConfig {
        learning_rate: 1e-3,
        schedule: Schedule::default(),
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        clip_norm: None,
    };
    let step = |_| {
        let before = loss(b, &state.model, &batch);
        state.clear_gradients(b);
        crate::model::gradients::add_gradient(
            b,
            &state.model,
            &batch,
            &mut state.gradients,
            &trainable,
        );
        state.update(b, &config, 1e-2, 1.0, |_| true);
        before
    };
    (0..10).map(step).collect()
}

#[test]
fn ten_steps_of_training_go_as_in_double_precision() {
    let Some(b) = cuda() else { return };
    for spec in specs() {
        let (got, expected) = (train(&b, &spec), train(&oracle(), &spec));
        assert!((expected[9] - expected[0]).abs() > 0.1, "training moves the loss: {expected:?}");
        // Adam's first steps have the size of the rate whatever the gradient's, so roundings of
        // small gradients show.
        close("losses", &got, &expected, 1e-3);
    }
}

pub fn options() -> GenerateOptions<'static> {
    GenerateOptions {
        samples_per_prompt: 2,
        max_new_tokens: 5,
        sampling: Sampling::plain(0.8),
        ends: &[4],
        stream: Stream::new(7, "generation"),
        first_row: 100,
        limits: Limits::default(),
    }
}

#[test]
fn passes_and_parts_of_the_token_head_change_no_bit() {
    if let Some(b) = cuda() {
        heads::agrees(&b);
    }
}

#[test]
fn samples_are_those_of_double_precision_and_the_same_in_any_company() {
    let Some(b) = cuda() else { return };
    let run = |b: &Cuda, prompts: &[Vec<u32>], options: &GenerateOptions, spec: &Spec| {
        generate(b, &model(b, spec, HeadKind::Language), prompts, options, &mut |_, _| Ok(()))
            .expect("prompts and options are right")
    };
    let spec = spec(true);
    let prompts = sequences(&spec, &[1, 15, 17]);
    let samples = run(&b, &prompts, &options(), &spec);
    let double = oracle();
    let expected = generate(
        &double,
        &model(&double, &spec, HeadKind::Language),
        &prompts,
        &options(),
        &mut |_, _| Ok(()),
    )
    .unwrap();
    let tokens = |samples: &[Vec<posttrain::sample::Sample>]| -> Vec<Vec<u32>> {
        samples.iter().flatten().map(|sample| sample.tokens.clone()).collect()
    };
    assert_eq!(tokens(&samples), tokens(&expected));
    for rows in [1, 4] {
        let options = GenerateOptions { limits: Limits { rows, positions: 0 }, ..options() };
        assert!(run(&b, &prompts, &options, &spec) == samples, "{rows} rows at a time");
    }
}

#[test]
fn scores_by_the_group_have_the_bits_of_scores_of_whole_sequences() {
    let Some(b) = cuda() else { return };
    scoring::agrees(&b, &scoring::texts(&[(1, &[1, 2]), (17, &[16, 0, 3]), (7, &[])]), &[20, 1000]);
}

/// Tokens of sequences that draw differently and run side by side.
fn side_by_side(b: &Cuda, spec: &Spec, requests: &[GenerationRequest]) -> Vec<Vec<u32>> {
    let model = model(b, spec, HeadKind::Language);
    let mut batch = ContinuousBatch::within(b, &model, Limits::default());
    let mut tokens = vec![Vec::new(); requests.len()];
    let mut on_token = |event: TokenEvent| {
        tokens[event.request as usize].push(event.token);
        ControlFlow::Continue(())
    };
    for (number, request) in (0..).zip(requests) {
        batch.admit(number, request.clone(), &mut on_token);
    }
    while batch.rows() > 0 {
        batch.step(&mut on_token);
    }
    tokens
}

#[test]
fn sequences_that_draw_differently_have_the_tokens_that_each_has_alone() {
    for b in [cuda(), cuda_bf16()] {
        let Some(b) = b else { return };
        let spec = spec(false);
        let request = |(prompt, temperature): (Vec<u32>, f32)| GenerationRequest {
            prompt,
            samples: 1,
            max_new_tokens: 4,
            sampling: Sampling::plain(temperature),
            ends: Vec::new(),
            stream: Stream::new(3, "generation"),
            first_row: 0,
        };
        let requests: Vec<GenerationRequest> =
            sequences(&spec, &[3, 5]).into_iter().zip([1.0, 0.7]).map(request).collect();
        let alone: Vec<Vec<u32>> = requests
            .iter()
            .flat_map(|request| side_by_side(&b, &spec, std::slice::from_ref(request)))
            .collect();
        assert!(alone.iter().all(|tokens| tokens.len() == 4), "{alone:?}");
        assert_eq!(side_by_side(&b, &spec, &requests), alone);
    }
}
