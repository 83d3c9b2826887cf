//! Whole-model gradients: against central differences in float64, and with frozen layers.

use std::sync::Arc;

use posttrain::backend::prelude::*;
use posttrain::model::batch::Batch;
use posttrain::model::heads::{self, TargetTokens};
use posttrain::model::params::{HeadKind, Params, Role, Slot, Trainable};
use posttrain::model::spec::{
    Activation, FeedForward, LayerSpec, Mask, Norm, Rotary, Scaling, Spec, Wiring,
};
use posttrain::model::transformer::{self, Recompute};
use posttrain::model::weights::{Gradients, Model, unique};

use super::{Double, Single, model, next_tokens, params, sequences, spec};

const TEMPERATURE: f32 = 0.75;

/// Uneven weights, so that an exchange of two positions changes the loss.
fn weight(index: usize) -> f64 {
    (1.3 + index as f64).sin()
}

fn has_language_head<B: Backend>(model: &Model<B>) -> bool {
    matches!(model.head, HeadKind::Language | HeadKind::LanguageAndValue)
}

/// A loss through all heads, and through hidden states where there is none: a weighted sum of
/// log-probabilities (where the model has a language head) and of scalar scores.
pub fn loss<B: Backend>(b: &B, model: &Model<B>, batch: &Batch) -> f64 {
    let hidden = transformer::hidden(b, model, batch);
    let mut loss = 0.0;
    if has_language_head(model) {
        let (rows, targets) = next_tokens(batch);
        let scored = TargetTokens { rows: &rows, targets: &targets, temperature: TEMPERATURE };
        let scores = heads::token_logprobs(b, model, &hidden, scored, false);
        loss += b
            .download_f64(&scores.logprobs)
            .iter()
            .enumerate()
            .map(|(index, logprob)| weight(index) * logprob)
            .sum::<f64>();
    }
    if model.weights.scalar.is_some() {
        let rows: Vec<u32> = (0..batch.rows() as u32).rev().step_by(2).collect();
        let scores = heads::scalar_scores(b, model, &hidden, &rows);
        loss +=
            scores.iter().enumerate().map(|(index, score)| weight(index + 50) * score).sum::<f64>();
    }
    if model.weights.classifier.is_some() {
        let logits = heads::class_logits(b, model, &hidden, &batch.firsts()).logits;
        loss +=
            logits.iter().enumerate().map(|(index, logit)| weight(index + 90) * logit).sum::<f64>();
    }
    if model.head == HeadKind::Encoder {
        loss += b
            .download_f64(&hidden)
            .iter()
            .enumerate()
            .map(|(index, x)| weight(index) * x)
            .sum::<f64>();
    }
    loss
}

/// The offset of a part of a batch in the whole: the indices of its first scored row and of its
/// first scalar score.
type Place = (usize, usize);

/// Adds the gradient of [`loss`] on a part of a batch.
fn accumulate<B: Backend>(
    b: &B,
    model: &Model<B>,
    (batch, scalar_rows): (&Batch, &[u32]),
    gradients: &mut Gradients<B>,
    trainable: &Trainable,
    (first, first_scalar): Place,
    recompute: Recompute,
) {
    let x = transformer::trunk(b, model, batch, trainable.first_layer());
    let activations =
        transformer::forward(b, model, x, batch, trainable.first_layer(), Some(recompute));
    let mut dhidden = b.zeros(batch.rows() * model.spec.embedding_width);
    if has_language_head(model) {
        let (rows, targets) = next_tokens(batch);
        let scored = TargetTokens { rows: &rows, targets: &targets, temperature: TEMPERATURE };
        let scores = heads::token_logprobs(b, model, &activations.hidden, scored, true);
        let dlogprobs: Vec<f64> = (0..rows.len()).map(|index| weight(first + index)).collect();
        heads::token_logprobs_backward(
            b,
            model,
            &mut dhidden,
            gradients,
            &activations.hidden,
            scored,
            scores,
            &b.upload_wide_f64(&dlogprobs),
        );
    }
    if model.weights.scalar.is_some() {
        let dscores: Vec<f64> =
            (0..scalar_rows.len()).map(|index| weight(first_scalar + index + 50)).collect();
        heads::scalar_scores_backward(
            b,
            model,
            &mut dhidden,
            gradients,
            &activations.hidden,
            scalar_rows,
            &b.upload_f64(&dscores),
        );
    }
    if model.weights.classifier.is_some() {
        let rows = batch.firsts();
        let classified = heads::class_logits(b, model, &activations.hidden, &rows);
        let dlogits: Vec<f64> =
            (0..classified.logits.len()).map(|index| weight(index + 90)).collect();
        heads::class_logits_backward(
            b,
            model,
            &mut dhidden,
            gradients,
            &rows,
            &classified,
            &dlogits,
        );
    }
    if model.head == HeadKind::Encoder {
        let weights: Vec<f64> = (0..b.len(&dhidden)).map(weight).collect();
        dhidden = b.upload_f64(&weights);
    }
    transformer::backward(b, model, batch, &activations, &dhidden, gradients, trainable);
}

/// Adds the gradient of [`loss`].
pub fn add_gradient<B: Backend>(
    b: &B,
    model: &Model<B>,
    batch: &Batch,
    gradients: &mut Gradients<B>,
    trainable: &Trainable,
) {
    let scalar_rows: Vec<u32> = (0..batch.rows() as u32).rev().step_by(2).collect();
    accumulate(b, model, (batch, &scalar_rows), gradients, trainable, (0, 0), Recompute::None);
}

/// Blocks that are run again give the gradients of blocks that kept all, to the bit, in every
/// wiring and above frozen blocks.
pub fn recomputed_gradients_have_the_same_bits<B: Backend>(b: &B) {
    let rms = Spec { query_key_norm: true, ..spec(false) };
    let wirings = [Wiring::Pre, Wiring::Parallel, Wiring::Post];
    let specs = wirings.into_iter().flat_map(|wiring| {
        [layer_norm_spec(wiring, Activation::Gelu), Spec { wiring, ..rms.clone() }]
    });
    for (at, spec) in specs.enumerate() {
        let model = model(b, &spec, HeadKind::LanguageAndValue);
        let batch = Batch::new(&sequences(&spec, &[7, 1, 4]));
        for trainable in [
            &Trainable::ALL,
            &Trainable::above(&spec, 1),
            &Trainable::above(&spec, 3),
            &scattered(&spec),
        ] {
            let [kept, again] = [Recompute::None, Recompute::Block].map(|recompute| {
                let mut gradients = Gradients::zeros(b, &model, trainable);
                accumulate(
                    b,
                    &model,
                    (&batch, &[3, 8]),
                    &mut gradients,
                    trainable,
                    (0, 0),
                    recompute,
                );
                gradients
                    .total(b)
                    .as_ref()
                    .map(|gradient| gradient.as_ref().map(|gradient| b.download_f64(gradient)))
            });
            assert!(kept.iter().flatten().flatten().any(|x| *x != 0.0));
            assert!(kept == again, "spec {at}, {trainable:?}");
        }
    }
}

#[test]
fn blocks_that_are_run_again_give_the_bits_of_blocks_that_kept_all() {
    recomputed_gradients_have_the_same_bits(&Single::new());
    recomputed_gradients_have_the_same_bits(&Double::new());
}

/// The gradient of [`loss`] for every slot.
pub fn gradient<B: Backend>(
    b: &B,
    model: &Model<B>,
    batch: &Batch,
    trainable: &Trainable,
) -> Vec<(Slot, Option<Vec<f64>>)> {
    let mut gradients = Gradients::zeros(b, model, trainable);
    add_gradient(b, model, batch, &mut gradients, trainable);
    let total = gradients
        .total(b)
        .as_ref()
        .map(|gradient| gradient.as_ref().map(|gradient| b.download_f64(gradient)));
    model.slots().zip(total).into_vec()
}

/// Compares every number of every gradient with a central difference.
fn check_against_differences(spec: &Spec, head: HeadKind, trainable: &Trainable) {
    check(spec, head, trainable, 1e-5, loss, gradient);
}

/// The gradient of each tensor that trains.
type OfTensors = Vec<(Slot, Option<Vec<f64>>)>;

/// The same of another loss, with differences over twice `size`.
fn check(
    spec: &Spec,
    head: HeadKind,
    trainable: &Trainable,
    size: f64,
    loss: fn(&Double, &Model<Double>, &Batch) -> f64,
    gradient: fn(&Double, &Model<Double>, &Batch, &Trainable) -> OfTensors,
) {
    let b = Double::new();
    let mut batch = Batch::new(&sequences(spec, &[7, 1, 4]));
    if spec.token_types > 0 {
        batch.types = (0..batch.rows()).map(|row| (row % spec.token_types) as u32).collect();
    }
    let host = params(spec, head, 5);
    let analytic = gradient(&b, &model(&b, spec, head), &batch, trainable);
    assert_eq!(analytic.len(), host.iter().count());
    for (index, (slot, analytic)) in analytic.iter().enumerate() {
        let Some(analytic) = analytic else {
            assert!(!trainable.trains(slot), "{} trains and has no gradient", slot.name);
            continue;
        };
        assert!(trainable.trains(slot), "{} is frozen and has a gradient", slot.name);
        let scale = analytic.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
        // Adding the same to all keys changes all scores of a query alike, unless keys are rotated
        // afterwards.
        let is_rotated = slot.layer.is_some_and(|layer| spec.layer(layer).rotary.is_some());
        let vanishes = slot.role == Role::Key && slot.bias && !is_rotated;
        assert!(vanishes == (scale < 1e-4), "{}: a gradient of {scale} shows nothing", slot.name);
        for (at, analytic) in analytic.iter().enumerate() {
            let shifted = |step: f64| {
                let mut model = Model::upload(&b, spec.clone(), head, host.clone());
                let tensor = model.weights.iter_mut().nth(index).expect("the slot's tensor");
                unique(tensor)[at] += step;
                loss(&b, &model, &batch)
            };
            let difference = (shifted(size) - shifted(-size)) / (2.0 * size);
            let error = (difference - analytic).abs();
            assert!(
                error < 1e-7 * scale.max(1.0),
                "{}[{at}]: {analytic} by hand, {difference} by difference",
                slot.name
            );
        }
    }
}

#[test]
fn gradients_of_an_untied_model_with_a_value_head_match_differences() {
    check_against_differences(&spec(false), HeadKind::LanguageAndValue, &Trainable::ALL);
}

#[test]
fn gradients_of_a_tied_model_match_differences() {
    check_against_differences(&spec(true), HeadKind::Language, &Trainable::ALL);
}

/// A weighted sum of log-probabilities and entropies.
fn entropy_loss(b: &Double, model: &Model<Double>, batch: &Batch) -> f64 {
    let hidden = transformer::hidden(b, model, batch);
    let (rows, targets) = next_tokens(batch);
    let scored = TargetTokens { rows: &rows, targets: &targets, temperature: TEMPERATURE };
    let scores = heads::token_logprobs(b, model, &hidden, scored, false);
    let of = |numbers: &[f64], first: usize| {
        numbers.iter().enumerate().map(|(at, x)| weight(first + at) * x).sum::<f64>()
    };
    of(&b.download_f64(&scores.logprobs), 0) + of(&b.download_f64(&scores.entropies), 20)
}

/// The gradient of [`entropy_loss`].
fn entropy_gradient(
    b: &Double,
    model: &Model<Double>,
    batch: &Batch,
    trainable: &Trainable,
) -> OfTensors {
    let mut gradients = Gradients::zeros(b, model, trainable);
    let x = transformer::trunk(b, model, batch, trainable.first_layer());
    let kept = Some(Recompute::default());
    let activations = transformer::forward(b, model, x, batch, trainable.first_layer(), kept);
    let mut dhidden = b.zeros(batch.rows() * model.spec.embedding_width);
    let (rows, targets) = next_tokens(batch);
    let scored = TargetTokens { rows: &rows, targets: &targets, temperature: TEMPERATURE };
    let hidden = &activations.hidden;
    let scores = heads::token_logprobs(b, model, hidden, scored, true);
    let weights = |first: usize| {
        let own: Vec<f64> = (0..rows.len()).map(|at| weight(first + at)).collect();
        b.upload_wide_f64(&own)
    };
    let (logprobs, entropies) = (weights(0), weights(20));
    let loss = heads::ScoreGradients { logprobs: &logprobs, entropies: Some(&entropies) };
    let own = &mut gradients;
    heads::token_scores_backward(b, model, &mut dhidden, own, hidden, scored, scores, loss);
    transformer::backward(b, model, batch, &activations, &dhidden, &mut gradients, trainable);
    let total = gradients.total(b);
    let total = total.as_ref().map(|own| own.as_ref().map(|own| b.download_f64(own)));
    model.slots().zip(total).into_vec()
}

/// Differences over 2e-5, as of the other losses, are off by 2e-6 here: third derivatives are
/// large.
#[test]
fn gradients_of_entropies_match_differences() {
    for tied in [true, false] {
        let (head, all) = (HeadKind::Language, &Trainable::ALL);
        check(&spec(tied), head, all, 2e-6, entropy_loss, entropy_gradient);
    }
}

#[test]
fn gradients_of_a_reward_model_match_differences() {
    check_against_differences(&spec(true), HeadKind::Reward, &Trainable::ALL);
    check_against_differences(&spec(false), HeadKind::Reward, &Trainable::ALL);
}

#[test]
fn gradients_without_biases_and_with_one_head_a_group_match_differences() {
    let rotary = Rotary { theta: 100.0, channels: 2, scaling: Scaling::None };
    let spec = Spec {
        query_key_value_bias: false,
        output_bias: false,
        key_value_heads: 4,
        channels: 2,
        ..spec(true).with_each_layer(|layer| layer.rotary = Some(rotary))
    };
    check_against_differences(&spec, HeadKind::LanguageAndValue, &Trainable::ALL);
}

/// Layer norms, learned positions, one activation, biases everywhere.
pub fn layer_norm_spec(wiring: Wiring, activation: Activation) -> Spec {
    Spec {
        wiring,
        norm: Norm::Layer,
        context: 9,
        feed_forward: FeedForward::Plain(activation),
        feed_forward_bias: true,
        ..spec(true).with_learned_positions()
    }
}

#[test]
fn gradients_of_every_wiring_and_activation_match_differences() {
    for (wiring, activation) in [
        (Wiring::Pre, Activation::Gelu),
        (Wiring::Pre, Activation::GeluTanh),
        (Wiring::Parallel, Activation::Silu),
        (Wiring::Post, Activation::Tanh),
    ] {
        let spec = layer_norm_spec(wiring, activation);
        check_against_differences(&spec, HeadKind::Language, &Trainable::ALL);
        check_against_differences(&spec, HeadKind::Reward, &Trainable::above(&spec, 1));
    }
}

#[test]
fn gradients_through_rotation_windows_head_norms_and_all_wirings_match_differences() {
    let rotary = Rotary { theta: 50.0, channels: 4, scaling: Scaling::Linear { factor: 2.0 } };
    let layer = LayerSpec { mask: Mask::Causal { window: Some(3) }, rotary: Some(rotary) };
    let spec = Spec { pattern: vec![layer], query_key_norm: true, ..spec(false) };
    for wiring in [Wiring::Pre, Wiring::Parallel, Wiring::Post] {
        check_against_differences(
            &Spec { wiring, ..spec.clone() },
            HeadKind::LanguageAndValue,
            &Trainable::ALL,
        );
    }
}

/// Blocks that differ: a window and slow rotation, all before and no rotation, a window and fast
/// rotation.
pub fn mixed_spec() -> Spec {
    let rotary = |theta| Some(Rotary { theta, channels: 6, scaling: Scaling::None });
    let layer = |window, rotary| LayerSpec { mask: Mask::Causal { window }, rotary };
    let pattern =
        vec![layer(Some(3), rotary(100.0)), layer(None, None), layer(Some(2), rotary(10.0))];
    Spec { pattern, ..spec(true) }
}

#[test]
fn gradients_of_blocks_with_different_attention_match_differences() {
    check_against_differences(&mixed_spec(), HeadKind::Language, &Trainable::ALL);
}

#[test]
fn gradients_through_projected_embeddings_match_differences() {
    let spec = Spec {
        embedding_width: 5,
        final_norm: false,
        ..layer_norm_spec(Wiring::Post, Activation::Gelu)
    };
    for (tied, head) in
        [(true, HeadKind::LanguageAndValue), (false, HeadKind::Language), (true, HeadKind::Reward)]
    {
        check_against_differences(&Spec { tied, ..spec.clone() }, head, &Trainable::ALL);
    }
}

#[test]
fn gradients_of_encoders_match_differences() {
    let spec = layer_norm_spec(Wiring::Post, Activation::Gelu);
    let spec = Spec {
        final_norm: false,
        embedding_norm: true,
        token_types: 2,
        labels: 3,
        ..spec.with_each_layer(|layer| layer.mask = Mask::Bidirectional)
    };
    for head in [HeadKind::Encoder, HeadKind::Classifier] {
        check_against_differences(&spec, head, &Trainable::ALL);
    }
}

#[test]
fn gradients_above_frozen_layers_match_differences() {
    for first_layer in [0, 2, 3] {
        check_against_differences(
            &spec(true),
            HeadKind::LanguageAndValue,
            &Trainable::above(&spec(true), first_layer),
        );
    }
}

/// Tensors here and there: weights with and without their biases, a norm, a table of embeddings.
fn scattered(spec: &Spec) -> Trainable {
    Trainable::new(spec, |slot| match slot.role {
        Role::Positions | Role::AttentionNorm => true,
        Role::Value | Role::Down => slot.layer == Some(1),
        Role::Query | Role::Up => !slot.bias,
        _ => false,
    })
}

#[test]
fn gradients_of_scattered_tensors_match_differences() {
    for spec in [spec(false), layer_norm_spec(Wiring::Post, Activation::Gelu)] {
        check_against_differences(&spec, HeadKind::LanguageAndValue, &scattered(&spec));
    }
}

#[test]
fn freezing_changes_no_bit_of_the_gradients_that_remain() {
    let b = Single::new();
    let spec = spec(false);
    let batch = Batch::new(&sequences(&spec, &[9, 20, 3]));
    let model = model(&b, &spec, HeadKind::LanguageAndValue);
    let all = gradient(&b, &model, &batch, &Trainable::ALL);
    for first_layer in 0..=spec.layers {
        let trainable = Trainable::above(&spec, first_layer);
        let some = gradient(&b, &model, &batch, &trainable);
        for ((slot, whole), (_, part)) in all.iter().zip(&some) {
            match trainable.trains(slot) {
                true => assert_eq!(part, whole, "{}", slot.name),
                false => assert_eq!(part, &None, "{}", slot.name),
            }
        }
    }
}

/// Gradients of all sequences, `at_a_time` of them in one backward pass.
fn in_parts(
    b: &Single,
    model: &Model<Single>,
    sequences: &[Vec<u32>],
    at_a_time: usize,
) -> Params<Option<Vec<f32>>> {
    let mut gradients = Gradients::zeros(b, model, &Trainable::ALL);
    let (mut scored, mut scalars) = (0, 0);
    for part in sequences.chunks(at_a_time) {
        let batch = Batch::new(part);
        let scalar_rows: Vec<u32> = batch.starts[1..].iter().map(|&end| end as u32 - 1).collect();
        accumulate(
            b,
            model,
            (&batch, &scalar_rows),
            &mut gradients,
            &Trainable::ALL,
            (scored, scalars),
            Recompute::None,
        );
        (scored, scalars) =
            (scored + batch.rows() - batch.sequences(), scalars + scalar_rows.len());
    }
    gradients
        .total(b)
        .as_ref()
        .map(|gradient| gradient.as_ref().map(|gradient| b.download(gradient)))
}

#[test]
fn accumulation_over_parts_of_a_batch_gives_the_bits_of_the_whole() {
    let b = Single::new();
    for tied in [false, true] {
        let spec = spec(tied);
        let model = model(&b, &spec, HeadKind::LanguageAndValue);
        let sequences = sequences(&spec, &[5, 33, 2, 17, 8, 1, 40]);
        let whole = in_parts(&b, &model, &sequences, 7);
        for at_a_time in [1, 2, 4] {
            assert!(
                in_parts(&b, &model, &sequences, at_a_time) == whole,
                "{at_a_time} at a time, tied: {tied}"
            );
        }
    }
}

#[test]
fn gradients_can_be_cleared_and_used_again() {
    let b = Single::new();
    let spec = spec(true);
    let model = model(&b, &spec, HeadKind::Language);
    let batch = Batch::new(&sequences(&spec, &[6, 6]));
    let mut gradients = Gradients::zeros(&b, &model, &Trainable::ALL);
    let mut once = || {
        accumulate(
            &b,
            &model,
            (&batch, &[]),
            &mut gradients,
            &Trainable::ALL,
            (0, 0),
            Recompute::None,
        );
        let total = gradients.total(&b).clone();
        gradients.clear(&b);
        total
    };
    assert!(once() == once());
}

#[test]
fn thawing_copies_what_trains_and_shares_the_rest() {
    let b = Single::new();
    let spec = spec(true);
    let reference = model(&b, &spec, HeadKind::Language);
    let trainable = Trainable::above(&spec, 2);
    let mut policy = reference.trainable_copy(&b, &trainable);
    let slots = Params::slots(&spec, HeadKind::Language).into_vec();
    for ((slot, ours), theirs) in
        slots.iter().zip(policy.weights.iter()).zip(reference.weights.iter())
    {
        assert_eq!(Arc::ptr_eq(ours, theirs), !trainable.trains(slot), "{}", slot.name);
        assert_eq!(ours, theirs);
    }
    let before = reference.download(&b);
    for (slot, tensor) in slots.iter().zip(policy.weights.iter_mut()) {
        if trainable.trains(slot) {
            b.fill(unique(tensor), 7.0);
        }
    }
    assert!(reference.download(&b) == before);
}

#[test]
#[should_panic(expected = "belongs to one model")]
fn a_shared_tensor_cannot_be_changed() {
    let b = Single::new();
    let reference = model(&b, &spec(true), HeadKind::Language);
    let mut policy = reference.trainable_copy(&b, &Trainable::above(&spec(true), 1));
    unique(&mut policy.weights.embedding);
}
