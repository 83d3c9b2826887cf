//! Log-probabilities, entropies and their gradient.

use posttrain::backend::cpu::Cpu;
use posttrain::backend::ops;
use posttrain::backend::prelude::*;

use super::{below, bits, check_gradient, close, dirty, dot, normals, oracle};

/// Log-probabilities, normalisers and entropies by the textbook: p = exp(z) / sum exp(z), H = -sum
/// p ln p.
fn formula(logits: &[f64], targets: &[u32], temperature: f64, v: usize) -> [Vec<f64>; 3] {
    let mut results = [vec![], vec![], vec![]];
    for (row, &target) in logits.chunks(v).zip(targets) {
        let z: Vec<f64> = row.iter().map(|x| x / temperature).collect();
        let sum: f64 = z.iter().map(|z| z.exp()).sum();
        let p: Vec<f64> = z.iter().map(|z| z.exp() / sum).collect();
        results[0].push(p[target as usize].ln());
        results[1].push(sum.ln());
        results[2].push(-p.iter().map(|p| p * p.ln()).sum::<f64>());
    }
    results
}

fn run<B: Backend>(
    b: &B,
    logits: &B::Buf,
    targets: &[u32],
    temperature: f32,
    v: usize,
) -> [B::Buf; 3] {
    let m = targets.len();
    let (mut logprob, mut lse, mut entropy) = (dirty(b, m), dirty(b, m), dirty(b, m));
    b.token_logprobs(ops::TokenLogprobs {
        logprob: &mut logprob,
        lse: &mut lse,
        entropy: &mut entropy,
        logits,
        targets,
        temperature,
        v,
    });
    [logprob, lse, entropy]
}

#[test]
fn forward_is_the_formula() {
    for (m, v) in [(1, 2), (4, 16), (3, 17), (6, 131)] {
        for temperature in [1.0f32, 0.75] {
            let (logits, targets) = (normals("logits", m * v), below("targets", m, v));
            let expected = formula(&logits, &targets, f64::from(temperature), v);
            // In single precision logits of size 3 are rounded by 1e-7, and ln of about 100 terms
            // adds a few units.
            let single = Cpu::<f32>::new();
            let got = run(&single, &single.upload_f64(&logits), &targets, temperature, v)
                .map(|x| single.download_f64(&x));
            for ((double, single), expected) in
                run(&oracle(), &logits, &targets, temperature, v).iter().zip(&got).zip(&expected)
            {
                close("f64", double, expected, 1e-14);
                close("f32", single, expected, 5e-7);
            }
        }
    }
}

#[test]
fn backward_is_the_gradient_of_the_log_probability() {
    let (m, v, temperature) = (3, 21, 0.8f32);
    let (logits, targets, dlogprob) =
        (normals("logits", m * v), below("targets", m, v), normals("dlogprob", m));
    let b = oracle();
    let [_, lse, _] = run(&b, &logits, &targets, temperature, v);
    let mut dlogits = dirty(&b, m * v);
    b.token_logprobs_backward(ops::TokenLogprobsBackward {
        dlogits: &mut dlogits,
        logits: &logits,
        dlogprob: &dlogprob,
        lse: &lse,
        targets: &targets,
        temperature,
        v,
    });
    check_gradient("dlogits", &dlogits, &logits, |x| {
        dot(&formula(x, &targets, f64::from(temperature), v)[0], &dlogprob)
    });
    let single = Cpu::<f32>::new();
    let logits = single.upload_f64(&logits);
    let [_, lse, _] = run(&single, &logits, &targets, temperature, v);
    let mut got = dirty(&single, m * v);
    single.token_logprobs_backward(ops::TokenLogprobsBackward {
        dlogits: &mut got,
        logits: &logits,
        dlogprob: &single.upload_f64(&dlogprob),
        lse: &lse,
        targets: &targets,
        temperature,
        v,
    });
    close("f32", &single.download_f64(&got), &dlogits, 1e-6);
}

/// A loss of log-probabilities and entropies; the oracle's gradient is the slope of the textbook's
/// numbers, and single precision has the oracle's.
#[test]
fn backward_is_the_gradient_of_the_log_probability_and_the_entropy() {
    let (m, v, temperature) = (3, 21, 0.8f32);
    let (logits, targets) = (normals("logits", m * v), below("targets", m, v));
    let (dlogprob, dentropy) = (normals("dlogprob", m), normals("dentropy", m));
    fn gradient<B: Backend>(
        b: &B,
        [logits, dlogprob, dentropy]: [&[f64]; 3],
        targets: &[u32],
        (temperature, v): (f32, usize),
    ) -> Vec<f64> {
        let logits = b.upload_f64(logits);
        let [_, lse, entropy] = run(b, &logits, targets, temperature, v);
        let mut dlogits = dirty(b, targets.len() * v);
        b.token_scores_backward(ops::TokenScoresBackward {
            dlogits: &mut dlogits,
            logits: &logits,
            dlogprob: &b.upload_f64(dlogprob),
            dentropy: &b.upload_f64(dentropy),
            lse: &lse,
            entropy: &entropy,
            targets,
            temperature,
            v,
        });
        b.download_f64(&dlogits)
    }
    let given = [&logits[..], &dlogprob, &dentropy];
    let double = gradient(&oracle(), given, &targets, (temperature, v));
    check_gradient("dlogits", &double, &logits, |x| {
        let [logprobs, _, entropies] = formula(x, &targets, f64::from(temperature), v);
        dot(&logprobs, &dlogprob) + dot(&entropies, &dentropy)
    });
    let single = gradient(&Cpu::<f32>::new(), given, &targets, (temperature, v));
    close("f32", &single, &double, 1e-6);

    // Entropy is greatest where probabilities are equal; a forbidden token has no gradient.
    let no = f64::NEG_INFINITY;
    let flat = [&[0.5, 0.5, no, 0.5][..], &[0.0], &[1.0]];
    let found = gradient(&oracle(), flat, &[0], (1.0, 4));
    assert!(found.iter().all(|x| x.abs() < 1e-15), "{found:?}");
}

#[test]
fn forbidden_tokens_have_no_probability_and_add_no_entropy() {
    let b = Cpu::<f32>::new();
    let no = f32::NEG_INFINITY;
    let [logprob, lse, entropy] =
        run(&b, &vec![1.0, no, 1.0, no, 5.0, no, no, no], &[2, 0], 1.0, 4);
    close("logprob", &b.download_f64(&logprob), &[-(2f64.ln()), 0.0], 1e-7);
    close("lse", &b.download_f64(&lse), &[1.0 + 2f64.ln(), 5.0], 1e-7);
    close("entropy", &b.download_f64(&entropy), &[2f64.ln(), 0.0], 1e-7);
}

#[test]
fn great_logits_keep_their_digits() {
    let b = Cpu::<f32>::new();
    let [logprob, lse, entropy] = run(&b, &vec![3e4, 3e4 - 1.0, -3e4], &[1], 1.0, 3);
    let expected = formula(&[0.0, -1.0, -700.0], &[1], 1.0, 3);
    close("logprob", &b.download_f64(&logprob), &expected[0], 1e-6);
    close("entropy", &b.download_f64(&entropy), &[expected[2][0]], 1e-6);
    assert_eq!(lse[0], 3e4 + expected[1][0] as f32);
}

#[test]
fn nan_shows_in_its_own_row_only() {
    let b = Cpu::<f32>::new();
    let results = run(&b, &vec![0.0, f32::NAN, 0.0, 0.0], &[0, 1], 1.0, 2);
    assert!(results.iter().all(|x| x[0].is_nan() && !x[1].is_nan()));
}

#[test]
fn a_row_alone_gives_the_bits_it_gives_in_a_batch() {
    let (m, v) = (200, 67);
    let b = Cpu::<f32>::new();
    let (logits, targets) = (b.upload_f64(&normals("logits", m * v)), below("targets", m, v));
    let whole = run(&b, &logits, &targets, 0.7, v);
    for row in 0..m {
        let alone = run(&b, &logits[row * v..][..v].to_vec(), &targets[row..=row], 0.7, v);
        for (alone, whole) in alone.iter().zip(&whole) {
            assert_eq!(bits(&b, alone)[0], bits(&b, whole)[row]);
        }
    }
}
