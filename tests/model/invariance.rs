//! Bits must not depend on the other sequences of the batch, on threads and on chunks; precision
//! may change few.

use posttrain::backend::Backend;
use posttrain::model::batch::Batch;
use posttrain::model::heads;
use posttrain::model::init::{self, Init, ScalarInit};
use posttrain::model::params::HeadKind;
use posttrain::model::spec::{Activation, Spec, Wiring};
use posttrain::model::transformer::{self, Recompute};
use posttrain::model::weights::Model;

use super::gradients::layer_norm_spec;
use super::heads::{Case, How};
use super::{Double, Single, bits, model, next_tokens, on_threads, sequences, spec};

#[test]
fn a_sequence_has_the_same_bits_alone_and_in_any_batch_on_any_threads() {
    let b = Single::new();
    let spec = spec(false);
    let model = model(&b, &spec, HeadKind::Language);
    let sequences = sequences(&spec, &[40, 1, 17, 64, 3, 9]);
    let batch = Batch::new(&sequences);
    let together = on_threads(2, || transformer::hidden(&b, &model, &batch));
    for (index, sequence) in sequences.iter().enumerate() {
        let alone = on_threads(1, || transformer::hidden(&b, &model, &Batch::new(&[sequence])));
        let rows = batch.starts[index] * spec.width..batch.starts[index + 1] * spec.width;
        assert_eq!(bits(&alone), bits(&together[rows]), "sequence {index}");
    }
}

#[test]
fn a_trunk_and_its_continuation_have_the_bits_of_the_whole() {
    let b = Single::new();
    let spec = spec(true);
    let model = model(&b, &spec, HeadKind::Language);
    let batch = Batch::new(&sequences(&spec, &[12, 5]));
    let whole = transformer::hidden(&b, &model, &batch);
    for first_layer in 0..=spec.layers {
        for keep in [None, Some(Recompute::None), Some(Recompute::Block)] {
            let x = transformer::trunk(&b, &model, &batch, first_layer);
            let parts = transformer::forward(&b, &model, x, &batch, first_layer, keep);
            assert_eq!(
                bits(&parts.hidden),
                bits(&whole),
                "first layer {first_layer}, keep {keep:?}"
            );
        }
    }
}

/// Sequences with a token more have the same rows, bit for bit, and one row more: the end of a text
/// in the reward model's tokens does not affect the policy. Lengths are of whole tiles of attention
/// and of others.
pub fn a_token_more_changes_no_row<B: Backend>(b: &B) {
    for spec in [
        spec(true),
        layer_norm_spec(Wiring::Pre, Activation::Gelu),
        Spec { wiring: Wiring::Parallel, ..spec(false) },
    ] {
        let spec = Spec { context: 96, ..spec };
        let model = model(b, &spec, HeadKind::Language);
        let sequences = sequences(&spec, &[1, 15, 16, 63, 64]);
        let longer: Vec<Vec<u32>> =
            sequences.iter().map(|tokens| [tokens.as_slice(), &[3]].concat()).collect();
        let (short, long) = (Batch::new(&sequences), Batch::new(&longer));
        let hidden =
            |batch: &Batch| b.download_f64(&transformer::trunk(b, &model, batch, spec.layers));
        let (of_short, of_long) = (hidden(&short), hidden(&long));
        for (index, tokens) in sequences.iter().enumerate() {
            let rows = |all: &[f64], start: usize| {
                all[start * spec.width..][..tokens.len() * spec.width].to_vec()
            };
            assert!(
                rows(&of_short, short.starts[index]) == rows(&of_long, long.starts[index]),
                "sequence {index}"
            );
        }
        // What is kept for a backward pass changes nothing either.
        for keep in [None, Some(Recompute::None), Some(Recompute::Block)] {
            let x = transformer::trunk(b, &model, &short, 1);
            let hidden = transformer::forward(b, &model, x, &short, 1, keep).hidden;
            assert!(
                b.download_f64(&hidden) == b.download_f64(&transformer::hidden(b, &model, &short)),
                "{keep:?}"
            );
        }
    }
}

#[test]
fn what_follows_a_token_changes_no_bit_of_it() {
    a_token_more_changes_no_row(&Single::new());
}

#[test]
fn single_precision_agrees_with_double() {
    let (single, double) = (Single::new(), Double::new());
    for tied in [false, true] {
        let spec = spec(tied);
        let batch = Batch::new(&sequences(&spec, &[50, 7]));
        let f32s = transformer::hidden(&single, &model(&single, &spec, HeadKind::Language), &batch);
        let f64s = transformer::hidden(&double, &model(&double, &spec, HeadKind::Language), &batch);
        let scale = f64s.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
        for (a, b) in f32s.iter().zip(&f64s) {
            assert!((f64::from(*a) - b).abs() < 5e-6 * scale, "{a} {b}");
        }
    }
}

/// With two million tokens, 16 rows make a chunk, and the logits of more are not kept.
#[test]
fn chunks_of_rows_change_no_bit_of_scores_and_gradients() {
    let b = Single::new();
    let spec = Spec::decoder(1 << 21, 2, 1, 1, 10, 96);
    let model = Model::upload(
        &b,
        spec.clone(),
        HeadKind::Language,
        init::language_model(&spec, Init::Normal { std: 1.0 }, 1),
    );
    let batch = Batch::new(&sequences(&spec, &[18]));
    let hidden = transformer::hidden(&b, &model, &batch);
    let (rows, targets) = next_tokens(&batch);
    let case = Case { model: &model, hidden: &hidden, rows: &rows, targets: &targets };
    let kept = case.run(&b, How::InTurn, 9);
    assert!(kept == case.run(&b, How::InTurn, 17), "logits that were made again");
    assert!(kept == case.run(&b, How::AtOnce, 17), "in one pass");
    let kept = case.run(&b, How::WithEntropies, 9);
    assert!(kept == case.run(&b, How::WithEntropies, 17), "entropies");
}

#[test]
fn scalar_scores_are_the_dot_products_of_the_head() {
    let b = Double::new();
    let spec = spec(true);
    let language = model(&b, &spec, HeadKind::Language);
    let batch = Batch::new(&sequences(&spec, &[6, 4]));
    let hidden = transformer::hidden(&b, &language, &batch);
    let zero = init::scalar_head(&spec, HeadKind::LanguageAndValue, ScalarInit::Zero, 0)
        .expect("a value head");
    assert_eq!(
        heads::scalar_scores(&b, &language.with_scalar(&b, zero), &hidden, &[5, 9]),
        [0.0, 0.0]
    );
    let head =
        init::scalar_head(&spec, HeadKind::Reward, ScalarInit::Normal, 3).expect("a reward head");
    assert!(head.bias.is_none());
    let reward = language.with_scalar(&b, head.clone());
    for (score, row) in heads::scalar_scores(&b, &reward, &hidden, &[5, 9]).iter().zip([5, 9]) {
        let states = &hidden[row * spec.width..(row + 1) * spec.width];
        let expected: f64 = states.iter().zip(&head.weight).map(|(x, w)| x * f64::from(*w)).sum();
        assert!((score - expected).abs() < 1e-12, "{score} {expected}");
    }
}
