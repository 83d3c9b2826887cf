//! Whole tiny models that are stored in bf16, on the emulated device: against double precision on
//! the same rounded weights, ten steps of training with masters, sampling and scoring, stopping and
//! going on.
//!
//! Tolerances. A number that is stored in bf16 is off by up to 2^-9 of itself, one in single
//! precision by up to 2^-24. How much of that comes through depends on the model: a gradient that
//! is a small sum of large parts is mostly rounding. So the CPU's single precision says it, which
//! rounds where bf16 rounds and in sums beside: by D, 2^15 times what it is off by from double
//! precision, in the root mean square of 8 models whose weights differ a little. Any tensor may be
//! off by 3 D, all of them in the mean by 1.5 D.

use posttrain::backend::Sampling;
use posttrain::backend::cpu::Cpu;
use posttrain::backend::cuda::Cuda;
use posttrain::backend::prelude::*;
use posttrain::model::arch::{Origin, SpecialTokens};
use posttrain::model::batch::Batch;
use posttrain::model::checkpoint::{self, Checkpoint};
use posttrain::model::heads::{self, TargetTokens};
use posttrain::model::init::{self, ScalarInit};
use posttrain::model::params::{HeadKind, Params, Trainable};
use posttrain::model::score;
use posttrain::model::spec::{Activation, Spec, Wiring};
use posttrain::model::transformer;
use posttrain::model::weights::{Gradients, Model};
use posttrain::random::Stream;
use posttrain::sample::generate;
use posttrain::train::archive::Archive;
use posttrain::train::optimiser::{OptimiserConfig, TrainState};
use posttrain::train::schedule::Schedule;

use super::emulated::cuda_bf16;
use super::models::{options, specs};
use crate::model::gradients::{add_gradient, gradient, layer_norm_spec, loss};
use crate::model::{next_tokens, params, scoring, sequences, spec};
use crate::ops::{close, normals, oracle};

/// By so much are roundings to bf16 larger than those to single precision.
const DIGITS: f64 = 32768.0;

/// Root of the sum of squared differences.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}

fn round(x: f32) -> f32 {
    half::bf16::from_f32(x).to_f32()
}

/// Weights that are numbers of bf16 on every back end.
fn stored(spec: &Spec, head: HeadKind) -> Params<Vec<f32>> {
    params(spec, head, 5).map(|tensor| tensor.into_iter().map(round).collect())
}

fn model<B: Backend>(b: &B, spec: &Spec, head: HeadKind) -> Model<B> {
    Model::upload(b, spec.clone(), head, stored(spec, head))
}

/// All that a model says of a batch: hidden states, log-probabilities of next tokens, scalar scores
/// of all rows, gradients.
fn said<B: Backend>(b: &B, model: &Model<B>, batch: &Batch) -> Vec<(String, Vec<f64>)> {
    let hidden = transformer::hidden(b, model, batch);
    let (rows, targets) = next_tokens(batch);
    let scored = TargetTokens { rows: &rows, targets: &targets, temperature: 1.0 };
    let all: Vec<u32> = (0..batch.rows() as u32).collect();
    let scores = b.download_f64(&heads::token_logprobs(b, model, &hidden, scored, false).logprobs);
    let scalars = heads::scalar_scores(b, model, &hidden, &all);
    let gradients = gradient(b, model, batch, &Trainable::ALL)
        .into_iter()
        .map(|(slot, gradient)| (slot.name, gradient.unwrap()));
    let forward = [
        ("hidden", b.download_f64(&hidden)),
        ("log-probabilities", scores),
        ("scalar scores", scalars),
    ];
    forward.into_iter().map(|(name, numbers)| (name.to_owned(), numbers)).chain(gradients).collect()
}

#[test]
fn hidden_states_scores_and_gradients_of_a_stored_model_agree_with_double_precision() {
    let (Some(b), single, double) = (cuda_bf16(), Cpu::<f32>::new(), oracle()) else { return };
    let head = HeadKind::LanguageAndValue;
    let wirings = [Wiring::Parallel, Wiring::Post]
        .map(|wiring| layer_norm_spec(wiring, Activation::GeluTanh));
    for spec in
        specs().into_iter().chain(wirings).chain([Spec { query_key_norm: true, ..spec(true) }])
    {
        let batch = Batch::new(&sequences(&spec, &[7, 1, 4]));
        let (got, expected) = (
            said(&b, &model(&b, &spec, head), &batch),
            said(&double, &model(&double, &spec, head), &batch),
        );
        let mut draws = Stream::new(3, "changes of weights").sequence(0);
        let mut change = |x: f32| x * (1.0 + (2.0 * draws.uniform() as f32 - 1.0) / 256.0);
        let pairs: Vec<_> = (0..8)
            .map(|_| {
                let params = stored(&spec, head)
                    .map(|tensor| tensor.into_iter().map(&mut change).collect::<Vec<f32>>());
                let single = said(
                    &single,
                    &Model::upload(&single, spec.clone(), head, params.clone()),
                    &batch,
                );
                (single, said(&double, &Model::upload(&double, spec.clone(), head, params), &batch))
            })
            .collect();
        let mut shares = Vec::new();
        for (at, ((name, got), (_, expected))) in got.iter().zip(&expected).enumerate() {
            // A gradient that vanishes is nothing but roundings.
            if expected.iter().all(|x| x.abs() < 1e-9) {
                continue;
            }
            let squares =
                pairs.iter().map(|(single, double)| distance(&single[at].1, &double[at].1).powi(2));
            let (off, range) = (
                distance(got, expected),
                DIGITS * (squares.sum::<f64>() / pairs.len() as f64).sqrt(),
            );
            shares.push(off / range);
            // NaN never passes.
            assert!(
                off <= 3.0 * range,
                "{name} of {spec:?}: off by {off:e}, and {range:e} was to be expected"
            );
        }
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        assert!(mean <= 1.5, "{spec:?}: off by {mean} of what was to be expected");
    }
}

#[test]
fn passes_and_parts_of_the_token_head_change_no_bit_in_bf16() {
    if let Some(b) = cuda_bf16() {
        crate::model::heads::agrees(&b);
    }
}

/// Heads alone: hidden states that are numbers of bf16, so that all that is rounded to bf16 is the
/// gradient of logits and what comes of it.
#[test]
fn heads_lose_no_digit_of_scores_and_few_of_gradients() {
    let (Some(b), double) = (cuda_bf16(), oracle()) else { return };
    let (spec, head) = (Spec { vocabulary: 300, ..spec(false) }, HeadKind::LanguageAndValue);
    let (device, exact) = (model(&b, &spec, head), model(&double, &spec, head));
    let host: Vec<f32> =
        normals("hidden", 48 * spec.width).into_iter().map(|x| round(4.0 * x as f32)).collect();
    let (rows, targets): (Vec<u32>, Vec<u32>) = (0..48).map(|row| (row, row * 5)).unzip();
    let scored = TargetTokens { rows: &rows, targets: &targets, temperature: 1.0 };
    fn run<B: Backend>(
        b: &B,
        model: &Model<B>,
        host: &[f32],
        scored: TargetTokens<'_>,
    ) -> [Vec<f64>; 5] {
        let (hidden, mut dhidden) = (b.upload(host), b.zeros(host.len()));
        let mut gradients = Gradients::zeros(b, model, &Trainable::ALL);
        let scores =
            heads::token_gradients(b, model, &mut dhidden, &mut gradients, &hidden, scored, 1.0);
        let scalars = heads::scalar_scores(b, model, &hidden, scored.rows);
        let dhead = b.download_f64(gradients.total(b).lm_head.as_ref().unwrap().as_ref().unwrap());
        let [logprobs, entropies] =
            [&scores.logprobs, &scores.entropies].map(|x| b.download_f64(x));
        [logprobs, entropies, scalars, b.download_f64(&dhidden), dhead]
    }
    let (got, expected) = (run(&b, &device, &host, scored), run(&double, &exact, &host, scored));
    // Where a logit is stored in bf16, it is off by up to 1/32 from 4 on.
    assert!(expected[0].iter().filter(|logprob| **logprob < -6.0).count() > 12, "logits are large");
    for (got, expected) in got[..3].iter().zip(&expected) {
        close("scores", got, expected, 2e-6);
    }
    // In the mean, rounding to bf16 is off by 2^-9 / sqrt(3) of the numbers just above a power of
    // two, and by half of that below the next.
    for (what, roundings, at) in [("dhidden", 3.0f64, 3), ("dhead", 1.0, 4)] {
        let share = distance(&got[at], &expected[at])
            / distance(&expected[at], &vec![0.0; expected[at].len()]);
        assert!(share <= (roundings / 3.0).sqrt() / 512.0, "{what} is off by {share:e}");
    }
}

/// Adam without decay, clipping or a schedule.
fn config() -> OptimiserConfig {
    OptimiserConfig {
        learning_rate: 1e-3,
        schedule: Schedule::default(),
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.0,
        clip_norm: None,
    }
}

/// The blocks from the second on.
fn trainable(spec: &Spec) -> Trainable {
    Trainable::above(spec, 1)
}

fn state<B: Backend>(b: &B, spec: &Spec) -> TrainState<B> {
    TrainState::new(b, &model(b, spec, HeadKind::LanguageAndValue), trainable(spec))
        .expect("the layers are there")
}

/// Steps at a rate: the loss before each.
fn train<B: Backend>(b: &B, state: &mut TrainState<B>, steps: usize, rate: f64) -> Vec<f64> {
    let batch = Batch::new(&sequences(&state.model.spec, &[8, 3]));
    let step = |_| {
        let before = loss(b, &state.model, &batch);
        step(b, state, &batch, rate);
        before
    };
    (0..steps).map(step).collect()
}

fn step<B: Backend>(b: &B, state: &mut TrainState<B>, batch: &Batch, rate: f64) {
    state.clear_gradients(b);
    add_gradient(b, &state.model, batch, &mut state.gradients, &state.trainable);
    state.update(b, &config(), rate, 1.0, |_| true);
}

/// Losses here are sums of some ten scores of 1 to 10, each of which has gone through 12 stored
/// buffers in each of 3 blocks: 6 times 2^-9 of it, and ten steps of weights that were off by as
/// much.
const WITHIN: f64 = 3.0 * 6.0 / 512.0;

#[test]
fn ten_steps_of_training_in_bf16_go_as_in_double_precision() {
    let (Some(b), double) = (cuda_bf16(), oracle()) else { return };
    for spec in specs() {
        let (got, expected) = (
            train(&b, &mut state(&b, &spec), 10, 1e-2),
            train(&double, &mut state(&double, &spec), 10, 1e-2),
        );
        let size = expected.iter().fold(0.0f64, |size, x| size.max(x.abs()));
        assert!(
            expected[0] - expected[9] > 4.0 * WITHIN * size,
            "the loss falls by more than roundings: {expected:?}"
        );
        close("losses", &got, &expected, WITHIN);
    }
}

/// All numbers of the tensors that train, in double precision.
fn trained<B: Backend>(b: &B, model: &Model<B>) -> Vec<f64> {
    let trainable = trainable(&model.spec);
    let tensors = model.slots().zip(model.weights.as_ref()).into_vec();
    tensors
        .into_iter()
        .filter(|(slot, _)| trainable.trains(slot))
        .flat_map(|(_, tensor)| b.download_f64(tensor))
        .collect()
}

#[test]
fn steps_too_small_to_change_a_stored_weight_are_kept_in_its_master() {
    let (Some(b), double) = (cuda_bf16(), oracle()) else { return };
    // From 1/4 on, numbers of bf16 are 2^-9 apart or more: a step of 2e-4 is a fifth of what
    // changes one, ten are twice that.
    let (spec, rate, steps) = (spec(false), 2e-4, 10);
    let batch = Batch::new(&sequences(&spec, &[8, 3]));
    let start = trained(&b, &state(&b, &spec).model);
    let large: Vec<usize> = (0..start.len()).filter(|at| start[*at].abs() >= 0.25).collect();
    assert!(large.len() > 300);
    let mut one = state(&b, &spec);
    step(&b, &mut one, &batch, rate);
    let stored = trained(&b, &one.model);
    assert!(
        large.iter().all(|at| stored[*at] == start[*at]),
        "no stored weight shows the first step"
    );
    let finished = trained(&b, &one.finished());
    // Adam's first step is the rate, whatever the gradient, where there is one.
    let moved = large
        .iter()
        .filter(|at| ((finished[**at] - start[**at]).abs() / rate - 1.0).abs() < 1e-2)
        .count();
    assert!(moved * 10 > large.len() * 9, "{moved} of {} masters show it", large.len());

    let (mut many, mut exact) = (state(&b, &spec), state(&double, &spec));
    for _ in 0..steps {
        step(&b, &mut many, &batch, rate);
        step(&double, &mut exact, &batch, rate);
    }
    let (stored, finished, exact) = (
        trained(&b, &many.model),
        trained(&b, &many.finished()),
        trained(&double, &exact.finished()),
    );
    assert!(
        stored
            .iter()
            .zip(&finished)
            .all(|(stored, master)| *stored == f64::from(round(*master as f32))),
        "a copy is its master, rounded"
    );
    let (along, all) = large.iter().fold((0.0, 0.0), |(along, all), at| {
        let expected = exact[*at] - start[*at];
        (along + (finished[*at] - start[*at]) * expected, all + expected * expected)
    });
    assert!(
        (along / all - 1.0).abs() < 0.02,
        "masters went {} of the way in double precision",
        along / all
    );
    let moved = large.iter().filter(|at| stored[**at] != start[**at]).count();
    assert!(moved * 2 > large.len(), "{moved} of {} copies show it in the end", large.len());
}

#[test]
fn masters_begin_with_all_digits_of_the_models_file() {
    let (Some(b), spec, folder) =
        (cuda_bf16(), Spec::decoder(11, 8, 2, 2, 10, 96), tempfile::tempdir().unwrap())
    else {
        return;
    };
    let origin = Origin::new(&spec, SpecialTokens { bos: None, eos: Some(1), pad: Some(0) });
    let params = params(&spec, HeadKind::Language, 5);
    checkpoint::save(
        folder.path(),
        &Checkpoint {
            origin,
            spec: spec.clone(),
            head: HeadKind::Language,
            params: params.clone(),
        },
    )
    .unwrap();
    let loaded: Model<Cuda> = Model::upload(&b, spec.clone(), HeadKind::Language, params.clone());
    for trainable in [Trainable::ALL, trainable(&spec)] {
        // A value head is in no file.
        let head =
            init::scalar_head(&spec, HeadKind::LanguageAndValue, ScalarInit::Zero, 1).unwrap();
        let state = TrainState::new(&b, &loaded.with_scalar(&b, head), trainable.clone())
            .unwrap()
            .with_masters_of(&b, folder.path())
            .unwrap();
        let (stored, finished) = (state.model.download(&b), state.finished().download(&b));
        for ((slot, exact), (stored, finished)) in Params::slots(&spec, HeadKind::Language)
            .iter()
            .zip(params.iter())
            .zip(stored.iter().zip(finished.iter()))
        {
            assert!(
                exact.iter().map(|x| round(*x)).eq(stored.iter().copied()),
                "{} is stored, rounded",
                slot.name
            );
            let expected: Vec<f32> =
                if trainable.trains(slot) { exact.clone() } else { stored.clone() };
            assert!(*finished == expected, "{} ends with its digits", slot.name);
        }
    }
}

#[test]
fn sampled_log_probabilities_are_the_scored_ones_bit_for_bit_in_bf16() {
    let Some(b) = cuda_bf16() else { return };
    for spec in [spec(true), Spec { context: 64, ..layer_norm_spec(Wiring::Pre, Activation::Relu) }]
    {
        let model = model(&b, &spec, HeadKind::Language);
        let prompts = sequences(&spec, &[1, 15, 17, 33]);
        let options = posttrain::sample::GenerateOptions {
            sampling: Sampling::plain(0.8),
            max_new_tokens: 9,
            ..options()
        };
        let samples = generate(&b, &model, &prompts, &options, &mut |_, _| Ok(())).unwrap();
        let pairs = prompts
            .iter()
            .zip(&samples)
            .flat_map(|(prompt, samples)| samples.iter().map(move |sample| (prompt, sample)));
        let (sequences, from): (Vec<Vec<u32>>, Vec<usize>) = pairs
            .map(|(prompt, sample)| ([&prompt[..], &sample.tokens].concat(), prompt.len()))
            .unzip();
        let sequences: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        let scored = score::response_logprobs(&b, &model, &sequences, &from, 0.8);
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        for (sample, scored) in samples.iter().flatten().zip(&scored) {
            assert_eq!(bits(&sample.logprobs), bits(scored));
        }
    }
    scoring::agrees(&b, &scoring::texts(&[(1, &[1, 2]), (17, &[16, 0, 3])]), &[20]);
}

#[test]
fn training_in_bf16_that_stops_and_goes_on_has_the_bits_of_training_undisturbed() {
    let Some(b) = cuda_bf16() else { return };
    let (spec, folder) = (spec(true), tempfile::tempdir().unwrap());
    let path = folder.path().join("state.safetensors");
    let host = |b: &Cuda, model: Model<Cuda>| -> Params<Vec<u32>> {
        model.download(b).map(|tensor| tensor.into_iter().map(f32::to_bits).collect())
    };
    let mut whole = state(&b, &spec);
    let losses = train(&b, &mut whole, 4, 1e-4);
    let mut before = state(&b, &spec);
    let mut found = train(&b, &mut before, 2, 1e-4);
    let mut archive = Archive::default();
    before.save(&b, "model", &mut archive);
    archive.write(&path).unwrap();
    let mut behind = state(&b, &spec);
    behind.load(&b, "model", &Archive::read(&path).unwrap()).unwrap();
    found.extend(train(&b, &mut behind, 2, 1e-4));
    assert_eq!(found, losses);
    assert_eq!(trained(&b, &behind.model), trained(&b, &whole.model));
    assert!(host(&b, behind.finished()) == host(&b, whole.finished()), "masters have other bits");
}
