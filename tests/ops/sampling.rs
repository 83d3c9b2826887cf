//! Drawing tokens.

use std::collections::BTreeSet;

use posttrain::backend::cpu::Cpu;
use posttrain::backend::ops;
use posttrain::backend::prelude::*;
use posttrain::backend::{NO_TOKEN, Sampling};
use posttrain::random::Stream;

use super::{bits, normals, oracle};

const PLAIN: Sampling = Sampling::plain(0.7);

fn uniforms(n: usize) -> Vec<f64> {
    let mut sequence = Stream::new(5, "uniforms").sequence(0);
    (0..n).map(|_| sequence.uniform()).collect()
}

/// Probabilities by the documented rule, from scratch: rank, cut to k, renormalise, cut to p,
/// renormalise.
fn probabilities(logits: &[f32], sampling: Sampling) -> Vec<f64> {
    let e: Vec<f64> =
        logits.iter().map(|&x| (f64::from(x) / f64::from(sampling.temperature)).exp()).collect();
    let mut ranked: Vec<usize> = (0..e.len()).collect();
    ranked.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    if sampling.top_k > 0 {
        ranked.truncate(sampling.top_k);
    }
    let total: f64 = ranked.iter().map(|&id| e[id]).sum();
    let mut mass = 0.0;
    let enough = ranked.iter().position(|&id| {
        mass += e[id] / total;
        mass >= f64::from(sampling.top_p) - 1e-12
    });
    ranked.truncate(enough.map_or(ranked.len(), |at| at + 1));
    let total: f64 = ranked.iter().map(|&id| e[id]).sum();
    let mut p = vec![0.0; e.len()];
    ranked.iter().for_each(|&id| p[id] = e[id] / total);
    p
}

#[test]
fn draws_are_the_inverse_of_the_cumulative_distribution() {
    for (v, sampling) in [
        (5, PLAIN),
        (64, PLAIN),
        (200, PLAIN),
        (200, Sampling { top_k: 17, ..PLAIN }),
        (200, Sampling { top_p: 0.8, ..PLAIN }),
        (300, Sampling { top_k: 150, top_p: 0.97, temperature: 1.3, min_p: 0.0 }),
    ] {
        let b = Cpu::<f32>::new();
        let row = b.upload_f64(&normals("logits", v));
        let p = probabilities(&row, sampling);
        let draws = uniforms(300);
        let (ids, logprobs) = b.sample(&row.repeat(draws.len()), &draws, sampling, v);
        for ((id, logprob), u) in ids.into_iter().zip(logprobs).zip(draws) {
            let before: f64 = p[..id as usize].iter().sum();
            let inside = before - 1e-6 <= u && u < before + p[id as usize] + 1e-6;
            assert!(
                inside && p[id as usize] > 0.0,
                "{u} gave {id}, whose probability is in the range from {before}"
            );
            assert!(
                (f64::from(logprob) - p[id as usize].ln()).abs() < 2e-6,
                "{logprob} is not ln {}",
                p[id as usize]
            );
        }
    }
}

#[test]
fn frequencies_pass_a_chi_square_test() {
    let (v, n) = (40, 40_000);
    let b = Cpu::<f32>::new();
    let row = b.upload_f64(&normals("logits", v));
    for sampling in [PLAIN, Sampling { top_k: 12, ..PLAIN }, Sampling { top_p: 0.9, ..PLAIN }] {
        let p = probabilities(&row, sampling);
        let (ids, _) = b.sample(&row.repeat(n), &uniforms(n), sampling, v);
        let mut counts = vec![0.0; v];
        ids.iter().for_each(|&id| counts[id as usize] += 1.0);
        let support: Vec<usize> = (0..v).filter(|&id| p[id] > 0.0).collect();
        assert!(
            (0..v).all(|id| p[id] > 0.0 || counts[id] == 0.0),
            "a token beyond the truncation was drawn"
        );
        let statistic: f64 = support
            .iter()
            .map(|&id| (counts[id] - n as f64 * p[id]).powi(2) / (n as f64 * p[id]))
            .sum();
        // Mean df, variance 2 df: four standard deviations on either side.
        let freedom = (support.len() - 1) as f64;
        let spread = 4.0 * (2.0 * freedom).sqrt();
        assert!(
            statistic < freedom + spread && statistic > freedom - spread,
            "chi square {statistic} at {freedom} degrees of freedom"
        );
    }
}

#[test]
fn truncation_keeps_exactly_the_documented_tokens() {
    // Probabilities 0.4, 0.3, 0.2, 0.1 at ids 2, 0, 3, 1.
    let logits: Vec<f32> = [0.3f32, 0.1, 0.4, 0.2].map(f32::ln).to_vec();
    let support = |temperature: f32, top_k, top_p| {
        let draws: Vec<f64> = (0..200).map(|i| f64::from(i) / 200.0).collect();
        let (ids, _) = oracle().sample(
            &oracle().upload(&logits).repeat(200),
            &draws,
            Sampling { temperature, top_k, top_p, min_p: 0.0 },
            4,
        );
        assert!(ids.is_sorted(), "inversion is in id order");
        ids.into_iter().collect::<BTreeSet<u32>>().into_iter().collect::<Vec<_>>()
    };
    assert_eq!(support(1.0, 0, 1.0), [0, 1, 2, 3]);
    assert_eq!(support(1.0, 4, 1.0), [0, 1, 2, 3]);
    assert_eq!(support(1.0, 100, 1.0), [0, 1, 2, 3]);
    assert_eq!(support(1.0, 2, 1.0), [0, 2]);
    assert_eq!(support(1.0, 1, 1.0), [2]);
    assert_eq!(support(1.0, 0, 0.39), [2]);
    assert_eq!(support(1.0, 0, 0.41), [0, 2]);
    assert_eq!(support(1.0, 0, 0.89), [0, 2, 3]);
    assert_eq!(support(1.0, 0, 1e-9), [2]);
    // Of the two that top-k leaves, the first has mass 4/7.
    assert_eq!(support(1.0, 2, 0.57), [2]);
    assert_eq!(support(1.0, 2, 0.58), [0, 2]);
    // A low temperature sharpens before the cut: 0.4^4 / (sum of fourth powers) = 0.72.
    assert_eq!(support(0.25, 0, 0.7), [2]);
}

#[test]
fn equals_are_cut_by_id() {
    let b = Cpu::<f32>::new();
    let draws: Vec<f64> = (0..100).map(|i| f64::from(i) / 100.0).collect();
    for v in [6, 500] {
        let logits = vec![1.0; v * 100];
        let (ids, _) = b.sample(&logits, &draws, Sampling { top_k: 3, ..PLAIN }, v);
        assert_eq!(
            ids.into_iter().collect::<BTreeSet<u32>>().into_iter().collect::<Vec<_>>(),
            [0, 1, 2]
        );
    }
    let (ids, _) = b.sample(&vec![1.0; 400], &draws, Sampling { top_p: 0.5, ..PLAIN }, 4);
    assert_eq!(ids.into_iter().collect::<BTreeSet<u32>>().into_iter().collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn log_probabilities_without_truncation_are_those_of_token_logprobs_bit_for_bit() {
    fn check<B: Backend>(b: &B, v: usize) {
        let m = 40;
        let logits = b.upload_f64(&normals("logits", m * v));
        for sampling in [
            PLAIN,
            Sampling { temperature: 1.0, ..PLAIN },
            Sampling { temperature: 0.0, ..PLAIN },
            Sampling { top_k: v, ..PLAIN },
        ] {
            let (ids, logprobs) = b.sample(&logits, &uniforms(m), sampling, v);
            let temperature = if sampling.temperature == 0.0 { 1.0 } else { sampling.temperature };
            let (mut logprob, mut lse, mut entropy) = (b.zeros(m), b.zeros(m), b.zeros(m));
            b.token_logprobs(ops::TokenLogprobs {
                logprob: &mut logprob,
                lse: &mut lse,
                entropy: &mut entropy,
                logits: &logits,
                targets: &ids,
                temperature,
                v,
            });
            let expected: Vec<u32> = b.download(&logprob).into_iter().map(f32::to_bits).collect();
            assert_eq!(logprobs.into_iter().map(f32::to_bits).collect::<Vec<_>>(), expected);
        }
    }
    for v in [1, 3, 64, 100] {
        check(&Cpu::<f32>::new(), v);
        check(&oracle(), v);
    }
}

#[test]
fn greedy_takes_the_lowest_id_among_the_greatest_and_ignores_truncation() {
    let b = Cpu::<f32>::new();
    let greedy = Sampling { temperature: 0.0, top_k: 1, top_p: 0.5, min_p: 0.0 };
    let (ids, logprobs) =
        b.sample(&vec![0.0, 2.0, 2.0, -1.0, -3.0, -5.0, -4.0, -3.0], &[0.9, 0.99], greedy, 4);
    assert_eq!(ids, [1, 0]);
    let z = (0f64.exp() + 2.0 * 2f64.exp() + (-1f64).exp()).ln();
    assert!((f64::from(logprobs[0]) - (2.0 - z)).abs() < 1e-6);
}

#[test]
fn impossible_tokens_are_never_drawn_even_at_the_ends() {
    let b = Cpu::<f32>::new();
    let no = f32::NEG_INFINITY;
    for v in [4, 130, 200] {
        let mut row = vec![no; v];
        (row[1], row[v - 2]) = (0.3, 0.1);
        let last = 1.0 - f64::EPSILON / 2.0;
        for sampling in [PLAIN, Sampling { top_k: 3, ..PLAIN }, Sampling { top_p: 0.999, ..PLAIN }]
        {
            let (ids, logprobs) = b.sample(&row.repeat(2), &[0.0, last], sampling, v);
            assert_eq!(ids, [1, v as u32 - 2]);
            assert!(logprobs.iter().all(|x| x.is_finite()));
        }
    }
}

#[test]
fn a_row_alone_draws_what_it_draws_in_a_batch() {
    let (m, v) = (150, 90);
    let b = Cpu::<f32>::new();
    let (logits, draws) = (b.upload_f64(&normals("logits", m * v)), uniforms(m));
    for sampling in [PLAIN, Sampling { top_k: 9, top_p: 0.9, ..PLAIN }] {
        let (ids, logprobs) = b.sample(&logits, &draws, sampling, v);
        for row in 0..m {
            let (id, logprob) =
                b.sample(&logits[row * v..][..v].to_vec(), &draws[row..=row], sampling, v);
            assert_eq!((id[0], bits(&b, &logprob)), (ids[row], bits(&b, &vec![logprobs[row]])));
        }
    }
}

#[test]
fn a_row_without_a_distribution_gives_no_token_and_leaves_others_alone() {
    let b = Cpu::<f32>::new();
    let greedy = Sampling { temperature: 0.0, ..PLAIN };
    for sampling in [
        PLAIN,
        greedy,
        Sampling { top_k: 1, ..PLAIN },
        Sampling { top_p: 0.5, min_p: 0.1, ..PLAIN },
    ] {
        for row in [[f32::NAN, 1.0], [1.0, f32::NAN], [f32::INFINITY, 0.0], [f32::NEG_INFINITY; 2]]
        {
            let (ids, logprobs) =
                b.sample(&[[0.0, 1.0], row, [0.0, 1.0]].concat(), &[0.5; 3], sampling, 2);
            assert_eq!((ids[1], logprobs[1].is_nan()), (NO_TOKEN, true), "{row:?} {sampling:?}");
            assert!(
                ids[0] == ids[2]
                    && ids[0] < 2
                    && logprobs[0] == logprobs[2]
                    && logprobs[0].is_finite()
            );
        }
    }
}

#[test]
#[should_panic(expected = "uniform numbers must be in [0, 1)")]
fn a_uniform_number_of_one_is_refused() {
    Cpu::<f32>::new().sample(&vec![0.0; 2], &[1.0], PLAIN, 2);
}
