//! Matrix products, attention, the cache, token distributions and draws on the emulated device,
//! with odd sizes, against the CPU.

use posttrain::backend::cpu::Cpu;
use posttrain::backend::ops;
use posttrain::backend::prelude::*;
use posttrain::backend::{
    Activation, BLOCK, CacheView, Epilogue, Heads, Mask, NO_TOKEN, Projection, Sampling,
};

use super::agree::{Agreement, agree, buffer, numbers};
use super::emulated::cuda;
use crate::ops::{below, bits, dirty};

#[test]
fn matrix_products_have_the_bits_of_the_cpu() {
    let sizes = [
        (1, 1, 1),
        (3, 5, 7),
        (64, 64, 64),
        (65, 33, 70),
        (130, 20, 129),
        (1, 300, 10),
        (200, 17, 3),
        (7, 1, 140),
        (2, 136, 260),
    ];
    for (n, i, o) in sizes {
        agree!(format!("{n} x {i} x {o}"), Agreement::Bits, |b| {
            let [x, weight, bias, dout] =
                [("x", n * i), ("weight", o * i), ("bias", o), ("dout", n * o)]
                    .map(|(name, len)| buffer(b, name, len));
            let (mut out, mut biased) = (dirty(b, n * o), dirty(b, n * o));
            b.linear(ops::Linear { out: &mut out, x: &x, weight: &weight, bias: None, n, i, o });
            b.linear(ops::Linear {
                out: &mut biased,
                x: &x,
                weight: &weight,
                bias: Some(&bias),
                n,
                i,
                o,
            });
            let [mut dx, mut dweight, mut dbias, mut alone] =
                [("dx", n * i), ("dw", o * i), ("db", o), ("dw", o * i)]
                    .map(|(name, len)| buffer(b, name, len));
            b.linear_backward_input(ops::LinearBackwardInput {
                dx: &mut dx,
                dout: &dout,
                weight: &weight,
                n,
                i,
                o,
            });
            b.linear_backward_weight(ops::LinearBackwardWeight {
                dweight: &mut dweight,
                dbias: Some(&mut dbias),
                dout: &dout,
                x: &x,
                n,
                i,
                o,
            });
            b.linear_backward_weight(ops::LinearBackwardWeight {
                dweight: &mut alone,
                dbias: None,
                dout: &dout,
                x: &x,
                n,
                i,
                o,
            });
            vec![
                ("out", out),
                ("biased", biased),
                ("dx", dx),
                ("dweight", dweight),
                ("dbias", dbias),
                ("dweight alone", alone),
            ]
        });
    }
}

#[test]
fn linear_layers_with_what_follows_have_the_bits_of_the_cpu() {
    for (n, i, o) in [(1, 1, 1), (3, 5, 7), (65, 33, 70), (130, 20, 129), (7, 1, 140)] {
        agree!(format!("{n} x {i} x {o}"), Agreement::Bits, |b| {
            let [x, weight, bias, beside] =
                [("x", n * i), ("weight", o * i), ("bias", o), ("beside", n * o)]
                    .map(|(name, len)| buffer(b, name, len));
            let [mut added, mut f, mut f_alone, mut gated, mut gated_alone, mut f_kept, mut gate] =
                [0; 7].map(|_| dirty(b, n * o));
            b.linear_with(
                ops::Linear { out: &mut added, x: &x, weight: &weight, bias: Some(&bias), n, i, o },
                Epilogue::Add(&beside),
            );
            let activation = Activation::Gelu;
            for (out, kept) in [(&mut f, Some(&mut f_kept)), (&mut f_alone, None)] {
                b.linear_with(
                    ops::Linear { out, x: &x, weight: &weight, bias: Some(&bias), n, i, o },
                    Epilogue::Activate { kept, activation },
                );
            }
            for (out, kept) in [(&mut gated, Some(&mut gate)), (&mut gated_alone, None)] {
                b.linear_with(
                    ops::Linear { out, x: &x, weight: &weight, bias: None, n, i, o },
                    Epilogue::Gate { kept, up: &beside },
                );
            }
            let (mut query, mut key, mut value, mut dx) =
                (dirty(b, n * o), dirty(b, n * n), dirty(b, n * o), dirty(b, n * i));
            let mut layers = [
                Projection { out: &mut query, weight: &weight, bias: Some(&bias), width: o },
                Projection { out: &mut key, weight: &x, bias: None, width: n },
                Projection { out: &mut value, weight: &weight, bias: None, width: o },
            ];
            b.linears(&mut layers, &x, n, i);
            b.linear_backward_input_first(ops::LinearBackwardInput {
                dx: &mut dx,
                dout: &beside,
                weight: &weight,
                n,
                i,
                o,
            });
            let functions = [
                ("f", f),
                ("f alone", f_alone),
                ("f kept", f_kept),
                ("gated", gated),
                ("gated alone", gated_alone),
            ];
            let rest =
                [("gate", gate), ("query", query), ("key", key), ("value", value), ("dx", dx)];
            [("added", added)].into_iter().chain(functions).chain(rest).collect()
        });
    }
}

/// Rows of sequences, one of them empty; query heads, key/value heads, channels.
const ATTENTION: [(&[usize], [usize; 3]); 9] = [
    (&[0, 1], [1, 1, 1]),
    (&[0, 3, 3, 10], [2, 2, 4]),
    (&[0, 17, 18], [4, 2, 5]),
    (&[0, 33, 40], [3, 1, 33]),
    (&[0, 60], [2, 1, 64]),
    (&[0, 65, 195], [2, 2, 16]),
    (&[0, 20], [1, 1, 128]),
    (&[0, 17, 37], [2, 1, 130]),
    (&[0, 35], [1, 1, 256]),
];

fn masks() -> impl Iterator<Item = Mask> {
    let windows = [1, 3, 16, 50, 1000].map(|window| Mask::Causal { window: Some(window) });
    windows.into_iter().chain([Mask::Causal { window: None }, Mask::Bidirectional])
}

#[test]
fn attention_agrees_forward_and_backward_for_every_mask() {
    for (starts, [query, key_value, channels]) in ATTENTION {
        let (n, heads) = (*starts.last().unwrap(), Heads { query, key_value, channels });
        for mask in masks() {
            // Softmax and its gradient in single precision: roundings grow with the square root of
            // the positions.
            agree!(format!("{starts:?} {heads:?} {mask:?}"), Agreement::Within(3e-6), |b| {
                let [q, dout] = ["q", "dout"].map(|name| buffer(b, name, n * query * channels));
                let [k, v] = ["k", "v"].map(|name| buffer(b, name, n * key_value * channels));
                let (mut out, mut lse) = (dirty(b, n * query * channels), dirty(b, n * query));
                b.attention(ops::Attention {
                    out: &mut out,
                    lse: &mut lse,
                    q: &q,
                    k: &k,
                    v: &v,
                    starts,
                    heads,
                    mask,
                });
                let [mut dq, mut dk, mut dv] =
                    [query, key_value, key_value].map(|heads| dirty(b, n * heads * channels));
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
                // Where a row sees itself alone its scores have no gradient, so that one 1 is what
                // differences are weighed against.
                let beside_one = |x: &_| b.upload_f64(&[&b.download_f64(x)[..], &[1.0]].concat());
                vec![
                    ("out", out),
                    ("lse", lse),
                    ("dq", beside_one(&dq)),
                    ("dk", beside_one(&dk)),
                    ("dv", dv),
                ]
            });
        }
    }
}

/// Blocks of three sequences, out of order, as an allocator that reuses blocks would hand them out.
const BLOCKS: [&[u32]; 3] = [&[5, 0, 9], &[3], &[8, 1, 2, 7]];
const LENGTHS: [usize; 3] = [37, 16, 50];

#[test]
fn attention_over_the_cache_has_the_bits_of_attention_over_the_sequence() {
    let Some(b) = cuda() else { return };
    let positions: Vec<(usize, usize)> = LENGTHS
        .into_iter()
        .enumerate()
        .flat_map(|(sequence, length)| (0..length).map(move |position| (sequence, position)))
        .collect();
    let slots: Vec<u32> = positions
        .iter()
        .map(|&(s, p)| BLOCKS[s][p / BLOCK] * BLOCK as u32 + (p % BLOCK) as u32)
        .collect();
    let (starts, n) = ([0, 37, 53, 103], 103);
    for [query, key_value, channels] in
        [[1, 1, 1], [4, 2, 8], [3, 1, 17], [2, 1, 50], [2, 1, 129], [1, 1, 256]]
    {
        let heads = Heads { query, key_value, channels };
        let q = buffer(&b, "q", n * query * channels);
        let [k, v] = ["k", "v"].map(|name| buffer(&b, name, n * key_value * channels));
        let mut cache = b.cache(10, heads);
        b.cache_write(&mut cache, &k, &v, &slots);
        let views: Vec<CacheView<'_>> = positions
            .iter()
            .map(|&(sequence, position)| CacheView {
                blocks: BLOCKS[sequence],
                length: position + 1,
            })
            .collect();
        for window in [None, Some(1), Some(16), Some(33), Some(100)] {
            let (mut whole, mut lse, mut out) =
                (dirty(&b, b.len(&q)), dirty(&b, n * query), dirty(&b, b.len(&q)));
            b.attention(ops::Attention {
                out: &mut whole,
                lse: &mut lse,
                q: &q,
                k: &k,
                v: &v,
                starts: &starts,
                heads,
                mask: Mask::Causal { window },
            });
            b.attention_cached(&mut out, &q, &cache, &views, window);
            assert_eq!(bits(&b, &out), bits(&b, &whole), "{heads:?} {window:?}");
            let (row, width) = (40, query * channels);
            let (alone, mut single) =
                (b.upload(&b.download(&q)[row * width..][..width]), dirty(&b, width));
            b.attention_cached(&mut single, &alone, &cache, &views[row..=row], window);
            assert_eq!(
                bits(&b, &single),
                bits(&b, &whole)[row * width..][..width],
                "row {row} alone"
            );
        }
        // Copies of blocks, one over another that was itself copied before.
        b.cache_copy_blocks(&mut cache, &[(4, 5), (5, 3), (6, 4)]);
        let view = |blocks| CacheView { blocks, length: 16 };
        let (alone, mut first, mut copied) = (
            b.upload(&b.download(&q)[..query * channels]),
            dirty(&b, query * channels),
            dirty(&b, query * channels),
        );
        for (out, blocks) in [(&mut first, &[4]), (&mut copied, &[6])] {
            b.attention_cached(out, &alone, &cache, &[view(blocks)], None);
        }
        assert_eq!(bits(&b, &first), bits(&b, &copied));
    }
}

/// Logits from sharp to flat, with ties and minus infinity.
fn logits(m: usize, v: usize) -> Vec<f64> {
    let spread = |(at, x): (usize, f64)| match at % 37 {
        36 => f64::NEG_INFINITY,
        35 => 1.0,
        _ => x * [0.1, 1.0, 8.0][at / v % 3],
    };
    let mut logits: Vec<f64> = numbers("logits", m * v)
        .into_iter()
        .enumerate()
        .map(spread)
        .map(|x| f64::from(x as f32))
        .collect();
    logits.iter_mut().step_by(v).for_each(|x| *x = x.max(-3.0));
    logits
}

#[test]
fn log_probabilities_and_their_gradient_agree() {
    for (m, v) in [(1, 1), (3, 5), (5, 100), (2, 2049), (1, 50_257)] {
        let (logits, targets) = (logits(m, v), vec![0; m]);
        for temperature in [0.7, 1.0] {
            agree!(format!("{m} x {v} at {temperature}"), Agreement::Within(2e-6), |b| {
                let (x, mut dx) = (b.upload_f64(&logits), dirty(b, m * v));
                let [mut logprob, mut lse, mut entropy] = [0; 3].map(|_| dirty(b, m));
                b.token_logprobs(ops::TokenLogprobs {
                    logprob: &mut logprob,
                    lse: &mut lse,
                    entropy: &mut entropy,
                    logits: &x,
                    targets: &targets,
                    temperature,
                    v,
                });
                b.token_logprobs_backward(ops::TokenLogprobsBackward {
                    dlogits: &mut dx,
                    logits: &x,
                    dlogprob: &buffer(b, "dlogprob", m),
                    lse: &lse,
                    targets: &targets,
                    temperature,
                    v,
                });
                let mut dscores = dirty(b, m * v);
                b.token_scores_backward(ops::TokenScoresBackward {
                    dlogits: &mut dscores,
                    logits: &x,
                    dlogprob: &buffer(b, "dlogprob", m),
                    dentropy: &buffer(b, "dentropy", m),
                    lse: &lse,
                    entropy: &entropy,
                    targets: &targets,
                    temperature,
                    v,
                });
                // An offset keeps what is near 0 from being weighed against itself.
                let shifted = |x: &_| {
                    b.upload_f64(
                        &b.download_f64(x)
                            .into_iter()
                            .map(|x| x + 1.0)
                            .chain([8.0])
                            .collect::<Vec<_>>(),
                    )
                };
                vec![
                    ("logprob", shifted(&logprob)),
                    ("lse", shifted(&lse)),
                    ("entropy", shifted(&entropy)),
                    ("dlogits", dx),
                    ("dlogits of entropies", dscores),
                ]
            });
        }
    }
}

#[test]
fn draws_are_those_of_the_cpu_and_their_log_probabilities_those_of_scoring() {
    let Some(b) = cuda() else { return };
    let cpu = Cpu::<f64>::new();
    let cases = [
        Sampling::GREEDY,
        Sampling::plain(1.0),
        Sampling::plain(0.7),
        Sampling { top_k: 3, ..Sampling::plain(1.0) },
        Sampling { top_p: 0.5, ..Sampling::plain(0.9) },
        Sampling { min_p: 0.2, ..Sampling::plain(1.3) },
        Sampling { top_k: 50, top_p: 0.9, min_p: 0.01, ..Sampling::plain(1.0) },
    ];
    for (m, v) in [(1, 1), (6, 5), (9, 100), (4, 2049)] {
        let host = logits(m, v);
        let uniforms: Vec<f64> = below("uniforms", m, 1000)
            .into_iter()
            .map(|x| (f64::from(x) + 0.37) / 1000.0)
            .collect();
        let logits = b.upload_f64(&host);
        for sampling in cases {
            let (ids, logprobs) = b.sample(&logits, &uniforms, sampling, v);
            let (expected, expected_logprobs) =
                cpu.sample(&cpu.upload_f64(&host), &uniforms, sampling, v);
            assert_eq!(ids, expected, "{m} x {v}, {sampling:?}");
            for (a, b) in logprobs.iter().zip(&expected_logprobs) {
                assert!(
                    (a - b).abs() <= 2e-6 * b.abs().max(1.0),
                    "{m} x {v}, {sampling:?}: {a} and {b}"
                );
            }
            let plain =
                sampling == Sampling::GREEDY || sampling == Sampling::plain(sampling.temperature);
            if plain {
                let [mut scored, mut lse, mut entropy] = [0; 3].map(|_| dirty(&b, m));
                let temperature =
                    if sampling == Sampling::GREEDY { 1.0 } else { sampling.temperature };
                b.token_logprobs(ops::TokenLogprobs {
                    logprob: &mut scored,
                    lse: &mut lse,
                    entropy: &mut entropy,
                    logits: &logits,
                    targets: &ids,
                    temperature,
                    v,
                });
                assert_eq!(b.download(&scored), logprobs, "{m} x {v}, {sampling:?}");
            }
        }
    }
}

#[test]
fn a_row_is_drawn_and_scored_alike_in_any_company() {
    let Some(b) = cuda() else { return };
    let (m, v) = (5, 300);
    let (host, uniforms) = (logits(m, v), [0.1, 0.5, 0.9, 0.3, 0.7]);
    let whole = b.sample(&b.upload_f64(&host), &uniforms, Sampling::plain(0.8), v);
    for row in 0..m {
        let alone = b.sample(
            &b.upload_f64(&host[row * v..][..v]),
            &uniforms[row..=row],
            Sampling::plain(0.8),
            v,
        );
        assert_eq!(alone, (vec![whole.0[row]], vec![whole.1[row]]));
    }
}

#[test]
fn a_row_that_nothing_can_be_drawn_from_gives_no_token() {
    let Some(b) = cuda() else { return };
    let (ids, logprobs) =
        b.sample(&b.upload(&[0.0, 1.0, f32::NAN, 1.0]), &[0.5, 0.5], Sampling::plain(1.0), 2);
    assert!(ids[0] < 2 && logprobs[0].is_finite());
    assert_eq!((ids[1], logprobs[1].is_nan()), (NO_TOKEN, true));
}
