//! A tiny LLaMA computed by PyTorch and transformers (golden/make.py): logits, loss, gradients, greedy tokens.

use std::collections::BTreeMap;

use serde::Deserialize;

use posttrain::backend::{Backend, Sampling};
use posttrain::model::arch::{self, Origin};
use posttrain::model::heads::{self, Scored};
use posttrain::model::params::{Params, Trainable};
use posttrain::model::transformer::{self, Batch};
use posttrain::model::weights::{Gradients, Model};
use posttrain::random::Stream;
use posttrain::sample::{GenerateOptions, Limits, generate};

use super::{Double, Single, next_tokens};

#[derive(Deserialize)]
struct Golden {
    config: serde_json::Value,
    tensors: BTreeMap<String, Tensor>,
    tokens: Vec<Vec<u32>>,
    /// Of the first sequence.
    logits: Vec<f64>,
    logprobs: Vec<f64>,
    loss: f64,
    gradients: BTreeMap<String, Vec<f64>>,
    greedy: Greedy,
}

#[derive(Deserialize)]
struct Tensor {
    shape: Vec<usize>,
    over_1024: Vec<i32>,
}

#[derive(Deserialize)]
struct Greedy {
    prompt: Vec<u32>,
    tokens: Vec<u32>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/llama.json")).expect("the golden file is JSON")
}

fn load<B: Backend>(b: &B, golden: &Golden) -> (Origin, Model<B>) {
    let description = arch::read(&golden.config.to_string(), "golden").expect("the configuration is a LLaMA's");
    let params = Params::slots(&description.spec, description.top).map(|slot| {
        let tensor = &golden.tensors[&arch::stored(&description.origin, &description.spec, &slot).name];
        assert_eq!(tensor.shape, slot.shape);
        tensor.over_1024.iter().map(|&x| x as f32 / 1024.0).collect::<Vec<f32>>()
    });
    assert_eq!(params.iter().count(), golden.tensors.len());
    (description.origin, Model::upload(b, description.spec, params))
}

#[track_caller]
fn close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    let scale = expected.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= tolerance * scale, "{what}[{index}]: {found}, expected {expected}");
    }
}

fn agrees<B: Backend>(b: &B, tolerance: f64) {
    let golden = golden();
    let (origin, model) = load(b, &golden);
    let batch = Batch::new(&golden.tokens);
    let activations = transformer::forward(b, &model, transformer::trunk(b, &model, &batch, 0), &batch, 0, true);
    let mut first = b.zeros(golden.tokens[0].len() * model.spec.width);
    let rows: Vec<u32> = (0..golden.tokens[0].len() as u32).collect();
    b.gather_rows(&mut first, &activations.hidden, &rows, model.spec.width);
    close(&b.download_f64(&heads::logits(b, &model, &first, rows.len())), &golden.logits, tolerance, "logits");

    let (rows, targets) = next_tokens(&batch);
    let scored = Scored { rows: &rows, targets: &targets, temperature: 1.0 };
    let scores = heads::token_logprobs(b, &model, &activations.hidden, scored, true);
    close(&scores.logprobs, &golden.logprobs, tolerance, "logprobs");
    let loss = -scores.logprobs.iter().sum::<f64>() / rows.len() as f64;
    close(&[loss], &[golden.loss], tolerance, "loss");

    let (mut gradients, mut dhidden) = (Gradients::zeros(b, &model, Trainable::ALL), b.zeros(batch.rows() * model.spec.width));
    let dlogprobs = vec![-1.0 / rows.len() as f64; rows.len()];
    heads::token_logprobs_backward(b, &model, &mut dhidden, &mut gradients, &activations.hidden, scored, scores, &dlogprobs);
    transformer::backward(b, &model, &batch, &activations, &dhidden, &mut gradients, Trainable::ALL);
    let mut compared = 0;
    for (slot, gradient) in model.weights.slots_of(&model.spec).zip(gradients.total(b).as_ref()).into_vec() {
        let name = arch::stored(&origin, &model.spec, &slot).name;
        if let Some(expected) = golden.gradients.get(&name) {
            close(&b.download_f64(gradient.as_ref().expect("all train")), expected, tolerance, &name);
            compared += 1;
        }
    }
    assert_eq!(compared, golden.gradients.len());

    let options = GenerateOptions {
        samples_per_prompt: 1,
        max_new_tokens: golden.greedy.tokens.len(),
        sampling: Sampling { temperature: 0.0, top_k: 0, top_p: 1.0 },
        eos: None,
        stream: Stream::new(0, "unused"),
        first_row: 0,
        limits: Limits::default(),
    };
    let samples = generate(b, &model, &[golden.greedy.prompt], &options, &mut |_, _| Ok(())).expect("the prompt fits");
    assert_eq!(samples[0][0].tokens, golden.greedy.tokens);
}

#[test]
fn double_precision_matches_the_reference_implementation() {
    agrees(&Double::new(), 1e-9);
}

#[test]
fn single_precision_matches_the_reference_implementation() {
    agrees(&Single::new(), 2e-5);
}
