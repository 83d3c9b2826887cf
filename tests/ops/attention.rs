//! Attention with every mask, forward and backward.

use posttrain::backend::cpu::{Cache, Cpu, Number};
use posttrain::backend::ops;
use posttrain::backend::prelude::*;
use posttrain::backend::{Heads, Mask};

use super::{bits, check_gradient, close, dirty, dot, levels, normals, oracle};

fn heads(query: usize, key_value: usize, channels: usize) -> Heads {
    Heads { query, key_value, channels }
}

/// Sequence lengths, one empty, and heads: single, grouped, odd channels, wide.
fn cases() -> Vec<(Vec<usize>, Heads)> {
    vec![
        (vec![0, 1], heads(1, 1, 1)),
        (vec![0, 3, 3, 10], heads(2, 2, 4)),
        (vec![0, 17, 18], heads(4, 2, 5)),
        (vec![0, 16, 49], heads(6, 2, 16)),
        (vec![0, 33, 40], heads(3, 1, 33)),
        (vec![0, 100, 150], heads(4, 4, 32)),
        (vec![0, 60], heads(2, 1, 64)),
        (vec![0, 260], heads(2, 1, 20)),
    ]
}

fn causal(window: usize) -> Mask {
    Mask::Causal { window: Some(window) }
}

const CAUSAL: Mask = Mask::Causal { window: None };

/// Windows about a lane, a block and a tile, longer ones, and one that holds everything.
fn masks() -> Vec<Mask> {
    [1, 2, 3, 15, 16, 17, 50, 1000]
        .map(causal)
        .into_iter()
        .chain([CAUSAL, Mask::Bidirectional])
        .collect()
}

/// Whether row `i` of a sequence attends to row `j`.
fn attends(mask: Mask, i: usize, j: usize) -> bool {
    match mask {
        Mask::Causal { window } => j <= i && window.is_none_or(|window| j + window > i),
        Mask::Bidirectional => true,
    }
}

/// The rows of the packed sequence that `row` of it attends to.
fn seen(mask: Mask, sequence: &[usize], row: usize) -> Vec<usize> {
    (sequence[0]..sequence[1]).filter(|&j| attends(mask, row, j)).collect()
}

/// By the definition, one row at a time: softmax of q k / sqrt(c) over the positions that the row
/// attends to.
fn formula(
    q: &[f64],
    k: &[f64],
    v: &[f64],
    starts: &[usize],
    heads: Heads,
    mask: Mask,
) -> (Vec<f64>, Vec<f64>) {
    let Heads { query: h, key_value: g, channels: c } = heads;
    let (mut out, mut lse) = (vec![0.0; q.len()], vec![0.0; q.len() / c]);
    for sequence in starts.windows(2) {
        for row in sequence[0]..sequence[1] {
            for head in 0..h {
                let at = |row: usize| (row * g + head * g / h) * c;
                let q = &q[(row * h + head) * c..][..c];
                let seen = seen(mask, sequence, row);
                let scores: Vec<f64> =
                    seen.iter().map(|&j| dot(q, &k[at(j)..][..c]) / (c as f64).sqrt()).collect();
                let sum: f64 = scores.iter().map(|s| s.exp()).sum();
                lse[row * h + head] = sum.ln();
                for (j, score) in seen.into_iter().zip(&scores) {
                    for channel in 0..c {
                        out[(row * h + head) * c + channel] +=
                            score.exp() / sum * v[at(j) + channel];
                    }
                }
            }
        }
    }
    (out, lse)
}

struct Inputs {
    q: Vec<f64>,
    k: Vec<f64>,
    v: Vec<f64>,
    dout: Vec<f64>,
}

fn inputs(starts: &[usize], heads: Heads) -> Inputs {
    let n = starts[starts.len() - 1];
    let (queries, keys) = (n * heads.query * heads.channels, n * heads.key_value * heads.channels);
    Inputs {
        q: normals("q", queries),
        k: normals("k", keys),
        v: normals("v", keys),
        dout: normals("dout", queries),
    }
}

fn forward<B: Backend>(
    b: &B,
    q: &B::Buf,
    k: &B::Buf,
    v: &B::Buf,
    starts: &[usize],
    heads: Heads,
    mask: Mask,
) -> (B::Buf, B::Buf) {
    let (mut out, mut lse) = (dirty(b, b.len(q)), dirty(b, b.len(q) / heads.channels));
    b.attention(ops::Attention { out: &mut out, lse: &mut lse, q, k, v, starts, heads, mask });
    (out, lse)
}

fn backward<B: Backend>(
    b: &B,
    x: &Inputs,
    starts: &[usize],
    heads: Heads,
    mask: Mask,
) -> [B::Buf; 3] {
    let [q, k, v, dout] = [&x.q, &x.k, &x.v, &x.dout].map(|x| b.upload_f64(x));
    let (out, lse) = forward(b, &q, &k, &v, starts, heads, mask);
    let (mut dq, mut dk, mut dv) = (dirty(b, b.len(&q)), dirty(b, b.len(&k)), dirty(b, b.len(&v)));
    b.attention_backward(ops::AttentionBackward {
        dq: &mut dq,
        dk: &mut dk,
        dv: &mut dv,
        dout: &dout,
        out: &out,
        lse: &lse,
        q: &q,
        k: &k,
        v: &v,
        starts,
        heads,
        mask,
    });
    [dq, dk, dv]
}

#[test]
fn forward_is_the_definition() {
    for ((starts, heads), mask) in cases()
        .into_iter()
        .flat_map(|case| masks().into_iter().map(move |mask| (case.clone(), mask)))
    {
        let what = format!("{heads:?} {mask:?}");
        let x = inputs(&starts, heads);
        let (out, lse) = formula(&x.q, &x.k, &x.v, &starts, heads, mask);
        let double = oracle();
        let got = forward(&double, &x.q, &x.k, &x.v, &starts, heads, mask);
        close(&format!("{what} out"), &got.0, &out, 1e-14);
        close(&format!("{what} lse"), &got.1, &lse, 1e-14);
        // Scores of size 5 are rounded by 3e-7, so that probabilities are off by as much of
        // themselves, and more for many channels.
        let single = Cpu::<f32>::new();
        let [q, k, v] = [&x.q, &x.k, &x.v].map(|x| single.upload_f64(x));
        let got = forward(&single, &q, &k, &v, &starts, heads, mask);
        close(&format!("{what} out in f32"), &single.download_f64(&got.0), &out, 2e-6);
        close(&format!("{what} lse in f32"), &single.download_f64(&got.1), &lse, 1e-6);
    }
}

#[test]
fn backward_is_the_gradient_of_forward() {
    for mask in [CAUSAL, Mask::Bidirectional, causal(2), causal(4), causal(17)] {
        for (starts, heads) in [
            (vec![0, 1, 8], heads(2, 1, 3)),
            (vec![0, 9], heads(2, 2, 4)),
            (vec![0, 19], heads(1, 1, 2)),
        ] {
            let x = inputs(&starts, heads);
            let [dq, dk, dv] = backward(&oracle(), &x, &starts, heads, mask);
            check_gradient("dq", &dq, &x.q, |q| {
                dot(&formula(q, &x.k, &x.v, &starts, heads, mask).0, &x.dout)
            });
            check_gradient("dk", &dk, &x.k, |k| {
                dot(&formula(&x.q, k, &x.v, &starts, heads, mask).0, &x.dout)
            });
            check_gradient("dv", &dv, &x.v, |v| {
                dot(&formula(&x.q, &x.k, v, &starts, heads, mask).0, &x.dout)
            });
        }
    }
}

/// The gradient by its formulas, for shapes that are too large for finite differences.
fn backward_formula(x: &Inputs, starts: &[usize], heads: Heads, mask: Mask) -> [Vec<f64>; 3] {
    let Heads { query: h, key_value: g, channels: c } = heads;
    let (_, lse) = formula(&x.q, &x.k, &x.v, starts, heads, mask);
    let (mut dq, mut dk, mut dv) =
        (vec![0.0; x.q.len()], vec![0.0; x.k.len()], vec![0.0; x.v.len()]);
    for sequence in starts.windows(2) {
        for row in sequence[0]..sequence[1] {
            let seen = seen(mask, sequence, row);
            for head in 0..h {
                let (at, i) = (|j: usize| (j * g + head * g / h) * c, (row * h + head) * c);
                let (q, dout) = (&x.q[i..][..c], &x.dout[i..][..c]);
                let p = |j: usize| {
                    (dot(q, &x.k[at(j)..][..c]) / (c as f64).sqrt() - lse[row * h + head]).exp()
                };
                let dp = |j: usize| dot(dout, &x.v[at(j)..][..c]);
                let mean: f64 = seen.iter().map(|&j| p(j) * dp(j)).sum();
                for &j in &seen {
                    let ds = p(j) * (dp(j) - mean) / (c as f64).sqrt();
                    for channel in 0..c {
                        dq[i + channel] += ds * x.k[at(j) + channel];
                        dk[at(j) + channel] += ds * q[channel];
                        dv[at(j) + channel] += p(j) * dout[channel];
                    }
                }
            }
        }
    }
    [dq, dk, dv]
}

#[test]
fn backward_is_the_formula_on_larger_shapes() {
    for ((starts, heads), mask) in cases()
        .into_iter()
        .flat_map(|case| masks().into_iter().map(move |mask| (case.clone(), mask)))
    {
        let x = inputs(&starts, heads);
        let expected = backward_formula(&x, &starts, heads, mask);
        let single = Cpu::<f32>::new();
        let in_single =
            backward(&single, &x, &starts, heads, mask).map(|x| single.download_f64(&x));
        for ((double, single), expected) in
            backward(&oracle(), &x, &starts, heads, mask).iter().zip(&in_single).zip(&expected)
        {
            // A row of one position has gradients of exactly 0 for q and k, up to rounding of dp -
            // D.
            let size = expected.iter().fold(0.0f64, |size, x| size.max(x.abs())).max(1.0);
            let share = |x: &[f64]| x.iter().map(|x| x / size).collect::<Vec<_>>();
            let off = |x: &[f64]| {
                share(x)
                    .iter()
                    .zip(share(expected))
                    .fold(0.0f64, |worst, (a, b)| worst.max((a - b).abs()))
            };
            assert!(
                off(double) < 1e-13 && double.iter().all(|x| x.is_finite()),
                "{heads:?} {mask:?}: {:e}",
                off(double)
            );
            assert!(
                off(single) < 3e-6 && single.iter().all(|x| x.is_finite()),
                "{heads:?} {mask:?} in f32: {:e}",
                off(single)
            );
        }
    }
}

#[test]
fn a_sequence_alone_gives_the_bits_it_gives_in_a_batch() {
    // Long enough for its rows, heads and sequences to be spread over threads.
    let (starts, heads) = (vec![0, 250, 251, 283], heads(4, 2, 20));
    let x = inputs(&starts, heads);
    let b = Cpu::<f32>::new();
    for mask in [CAUSAL, causal(5), causal(40), Mask::Bidirectional] {
        let whole = backward(&b, &x, &starts, heads, mask);
        let whole_out = forward(
            &b,
            &b.upload_f64(&x.q),
            &b.upload_f64(&x.k),
            &b.upload_f64(&x.v),
            &starts,
            heads,
            mask,
        );
        for sequence in starts.windows(2) {
            let part =
                |x: &[f64], width: usize| x[sequence[0] * width..sequence[1] * width].to_vec();
            let (wide, narrow) = (heads.query * heads.channels, heads.key_value * heads.channels);
            let alone = Inputs {
                q: part(&x.q, wide),
                k: part(&x.k, narrow),
                v: part(&x.v, narrow),
                dout: part(&x.dout, wide),
            };
            let starts = [0, sequence[1] - sequence[0]];
            let out = forward(
                &b,
                &b.upload_f64(&alone.q),
                &b.upload_f64(&alone.k),
                &b.upload_f64(&alone.v),
                &starts,
                heads,
                mask,
            );
            assert_eq!(
                bits(&b, &out.0),
                bits(&b, &whole_out.0)[sequence[0] * wide..sequence[1] * wide]
            );
            assert_eq!(
                bits(&b, &out.1),
                bits(&b, &whole_out.1)[sequence[0] * heads.query..sequence[1] * heads.query]
            );
            for ((alone, whole), width) in backward(&b, &alone, &starts, heads, mask)
                .iter()
                .zip(&whole)
                .zip([wide, narrow, narrow])
            {
                assert_eq!(
                    bits(&b, alone),
                    bits(&b, whole)[sequence[0] * width..sequence[1] * width]
                );
            }
        }
    }
}

/// `x[n, width]` with what is not a number, or infinite, in all rows but those that are `kept`.
fn spoilt<T: Number>(x: &[T], width: usize, kept: impl Fn(usize) -> bool) -> Vec<T> {
    let spoil = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(T::from_f64);
    x.iter()
        .enumerate()
        .map(|(at, &x)| if kept(at / width) { x } else { spoil[at / width % 3] })
        .collect()
}

#[test]
fn a_row_does_not_see_what_is_masked_even_if_it_is_not_a_number() {
    fn check<T: Number>(b: &Cpu<T>)
    where
        Cpu<T>: Backend<Buf = Vec<T>, Cache = Cache<T>>,
    {
        let (n, heads) = (70, heads(2, 1, 18));
        let x = inputs(&[0, n], heads);
        let [q, k, v, dout] = [&x.q, &x.k, &x.v, &x.dout].map(|x| b.upload_f64(x));
        for mask in masks() {
            let (out, lse) = forward(b, &q, &k, &v, &[0, n], heads, mask);
            let gradients =
                |q: &Vec<T>, k: &Vec<T>, v: &Vec<T>, dout: &Vec<T>, out: &Vec<T>, lse: &Vec<T>| {
                    let (mut dq, mut dk, mut dv) =
                        (dirty(b, q.len()), dirty(b, k.len()), dirty(b, v.len()));
                    b.attention_backward(ops::AttentionBackward {
                        dq: &mut dq,
                        dk: &mut dk,
                        dv: &mut dv,
                        dout,
                        out,
                        lse,
                        q,
                        k,
                        v,
                        starts: &[0, n],
                        heads,
                        mask,
                    });
                    [dq, dk, dv].map(|x| bits(b, &x))
                };
            let [dq, dk, dv] = gradients(&q, &k, &v, &dout, &out, &lse);
            for row in [0, 1, 7, 16, 33, 47, 48, 69] {
                let of = |x: &[u64], width: usize| x[row * width..][..width].to_vec();
                let (k_seen, v_seen) = (
                    spoilt(&k, 18, |j| attends(mask, row, j)),
                    spoilt(&v, 18, |j| attends(mask, row, j)),
                );
                let (blind_out, blind_lse) = forward(b, &q, &k_seen, &v_seen, &[0, n], heads, mask);
                assert_eq!(
                    of(&bits(b, &blind_out), 36),
                    of(&bits(b, &out), 36),
                    "{mask:?}, out of row {row}"
                );
                assert_eq!(
                    of(&bits(b, &blind_lse), 2),
                    of(&bits(b, &lse), 2),
                    "{mask:?}, lse of row {row}"
                );
                let [blind, _, _] = gradients(&q, &k_seen, &v_seen, &dout, &out, &lse);
                assert_eq!(of(&blind, 36), of(&dq, 36), "{mask:?}, dq of row {row}");
                // The same from the other side: a row that does not attend to a position adds
                // nothing to its gradients.
                let seers = |x: &[T], width: usize| spoilt(x, width, |i| attends(mask, i, row));
                let [_, blind_dk, blind_dv] = gradients(
                    &seers(&q, 36),
                    &k,
                    &v,
                    &seers(&dout, 36),
                    &seers(&out, 36),
                    &seers(&lse, 2),
                );
                assert_eq!(of(&blind_dk, 18), of(&dk, 18), "{mask:?}, dk of row {row}");
                assert_eq!(of(&blind_dv, 18), of(&dv, 18), "{mask:?}, dv of row {row}");
            }
        }
    }
    for (level, b) in levels() {
        check(&b);
        check(&Cpu::<f64>::with_level(level));
    }
}

#[test]
fn a_longer_sequence_gives_its_first_rows_the_same_bits() {
    let (n, heads) = (70, heads(3, 3, 24));
    let x = inputs(&[0, n], heads);
    let b = Cpu::<f32>::new();
    let [q, k, v] = [&x.q, &x.k, &x.v].map(|x| b.upload_f64(x));
    for mask in [CAUSAL, causal(3), causal(16), causal(30)] {
        let (whole, _) = forward(&b, &q, &k, &v, &[0, n], heads, mask);
        for len in [1, 2, 15, 17, 48, 69] {
            let part = |x: &[f32]| x[..len * 72].to_vec();
            let (out, _) = forward(&b, &part(&q), &part(&k), &part(&v), &[0, len], heads, mask);
            assert_eq!(bits(&b, &out), bits(&b, &whole)[..len * 72]);
        }
    }
}

#[test]
fn a_window_that_holds_the_whole_sequence_is_none() {
    let (starts, heads) = (vec![0, 60, 100], heads(2, 1, 20));
    let x = inputs(&starts, heads);
    let b = Cpu::<f32>::new();
    let expected = backward(&b, &x, &starts, heads, CAUSAL).map(|x| bits(&b, &x));
    for window in [60, 61, usize::MAX] {
        assert_eq!(
            backward(&b, &x, &starts, heads, causal(window)).map(|x| bits(&b, &x)),
            expected
        );
    }
    assert_ne!(backward(&b, &x, &starts, heads, causal(59)).map(|x| bits(&b, &x)), expected);
}

#[test]
fn a_window_of_one_position_hands_on_its_value() {
    let (starts, heads) = (vec![0, 40], heads(2, 1, 5));
    let x = inputs(&starts, heads);
    let (out, _) = forward(&oracle(), &x.q, &x.k, &x.v, &starts, heads, causal(1));
    let expected: Vec<f64> = x.v.chunks(5).flat_map(|v| [v, v].concat()).collect();
    assert_eq!(out, expected);
}

#[test]
fn the_order_of_a_bidirectional_sequence_does_not_matter_but_for_rounding() {
    let (n, heads) = (37, heads(1, 1, 6));
    let x = inputs(&[0, n], heads);
    let reversed = |x: &[f64]| x.chunks(6).rev().flatten().copied().collect::<Vec<f64>>();
    let (out, _) = forward(&oracle(), &x.q, &x.k, &x.v, &[0, n], heads, Mask::Bidirectional);
    let (back, _) = forward(
        &oracle(),
        &reversed(&x.q),
        &reversed(&x.k),
        &reversed(&x.v),
        &[0, n],
        heads,
        Mask::Bidirectional,
    );
    close("reversed", &reversed(&back), &out, 1e-14);
}

#[test]
fn no_sequences_are_fine() {
    let b = oracle();
    for mask in masks() {
        let (out, lse) = forward(&b, &vec![], &vec![], &vec![], &[0], heads(2, 1, 4), mask);
        assert!(out.is_empty() && lse.is_empty());
    }
}

#[test]
#[should_panic(expected = "query heads must be a multiple of key/value heads")]
fn heads_that_do_not_divide_are_refused() {
    forward(
        &oracle(),
        &vec![0.0; 3],
        &vec![0.0; 2],
        &vec![0.0; 2],
        &[0, 1],
        heads(3, 2, 1),
        CAUSAL,
    );
}

#[test]
#[should_panic(expected = "sequence starts must rise from 0 to 2")]
fn starts_that_fall_are_refused() {
    forward(
        &oracle(),
        &vec![0.0; 2],
        &vec![0.0; 2],
        &vec![0.0; 2],
        &[0, 3, 2],
        heads(1, 1, 1),
        CAUSAL,
    );
}

#[test]
#[should_panic(expected = "a window of 0 positions does not hold the row's own")]
fn an_empty_window_is_refused() {
    forward(
        &oracle(),
        &vec![0.0; 2],
        &vec![0.0; 2],
        &vec![0.0; 2],
        &[0, 2],
        heads(1, 1, 1),
        causal(0),
    );
}
