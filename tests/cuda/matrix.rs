//! Matrix products, attention and token distributions on the emulated device, in single precision: against double precision, and against
//! themselves where two ways must give the same bits. Outputs that are overwritten are NaN before.

use posttrain::backend::cpu::Cpu;
use posttrain::backend::cuda::Cuda;
use posttrain::backend::{BLOCK, Backend, CacheView, Heads, Mask, Sampling};

use super::emulated::cuda;
use super::ops::{Agreement, agree, buffer, numbers};
use crate::ops::{below, bits, close, dirty, normals, oracle};

/// `n`, `i`, `o`: ones, less than a tile, a tile and a bit, one long row, a column.
const LAYERS: [(usize, usize, usize); 8] =
    [(1, 1, 1), (3, 5, 7), (130, 20, 133), (17, 64, 40), (33, 9, 64), (1, 3000, 33), (65, 24, 1), (0, 4, 3)];

#[test]
fn linear_has_the_bits_of_the_cpu() {
    for (n, i, o) in LAYERS {
        agree!(format!("{n} x {i} to {o}"), Agreement::Bits, |b| {
            let [x, weight, bias, dout] =
                [("x", n * i), ("weight", o * i), ("bias", o), ("dout", n * o)].map(|(name, len)| buffer(b, name, len));
            let (mut out, mut plain) = (dirty(b, n * o), dirty(b, n * o));
            b.linear(&mut out, &x, &weight, Some(&bias), n, i, o);
            b.linear(&mut plain, &x, &weight, None, n, i, o);
            let [mut dx, mut dweight, mut dbias] = [("dx", n * i), ("dw", o * i), ("db", o)].map(|(name, len)| buffer(b, name, len));
            b.linear_backward_input(&mut dx, &dout, &weight, n, i, o);
            b.linear_backward_weight(&mut dweight, Some(&mut dbias), &dout, &x, n, i, o);
            vec![("out", out), ("without bias", plain), ("dx", dx), ("dweight", dweight), ("dbias", dbias)]
        });
    }
}

const CAUSAL: Mask = Mask::Causal { window: None };

/// Sequences, one of them empty or single; heads plain, grouped, of one key/value head; channels odd, wide, of real models.
fn batches() -> Vec<(Vec<usize>, Heads)> {
    let heads = |query, key_value, channels| Heads { query, key_value, channels };
    vec![
        (vec![0, 1], heads(1, 1, 1)),
        (vec![0, 3, 3, 10], heads(2, 2, 4)),
        (vec![0, 17, 18], heads(4, 2, 5)),
        (vec![0, 33, 103], heads(3, 1, 33)),
        (vec![0, 70], heads(2, 1, 80)),
        (vec![0, 66], heads(1, 1, 128)),
        (vec![0, 200], heads(1, 1, 20)),
    ]
}

fn masks() -> [Mask; 5] {
    [CAUSAL, Mask::Causal { window: Some(2) }, Mask::Causal { window: Some(17) }, Mask::Causal { window: Some(64) }, Mask::Bidirectional]
}

/// q, k, v, dout of a batch.
fn tensors<B: Backend>(b: &B, n: usize, heads: Heads) -> [B::Buf; 4] {
    let (queries, keys) = (n * heads.query * heads.channels, n * heads.key_value * heads.channels);
    [("q", queries), ("k", keys), ("v", keys), ("dout", queries)].map(|(name, len)| buffer(b, name, len))
}

#[test]
fn attention_and_its_gradient_agree() {
    for (starts, heads) in batches() {
        let n = *starts.last().unwrap();
        for mask in masks() {
            agree!(format!("{starts:?} {heads:?} {mask:?}"), Agreement::Within(2e-5), |b| {
                let [q, k, v, dout] = tensors(b, n, heads);
                let (mut out, mut lse) = (dirty(b, b.len(&q)), dirty(b, n * heads.query));
                b.attention(&mut out, &mut lse, &q, &k, &v, &starts, heads, mask);
                let [mut dq, mut dk, mut dv] = [&q, &k, &v].map(|x| dirty(b, b.len(x)));
                b.attention_backward(&mut dq, &mut dk, &mut dv, &dout, &out, &lse, &q, &k, &v, &starts, heads, mask);
                vec![("out", out), ("lse", lse), ("dq", dq), ("dk", dk), ("dv", dv)]
            });
        }
    }
}

/// A cache with the keys and values of every sequence, in blocks in no order, and the blocks of each.
fn filled(
    b: &Cuda,
    k: &<Cuda as Backend>::Buf,
    v: &<Cuda as Backend>::Buf,
    starts: &[usize],
    heads: Heads,
) -> (<Cuda as Backend>::Cache, Vec<Vec<u32>>) {
    let mut tables = Vec::new();
    let mut slots: Vec<u32> = Vec::new();
    let blocks: usize = starts.windows(2).map(|pair| (pair[1] - pair[0]).div_ceil(BLOCK)).sum();
    let mut free: Vec<u32> = (0..blocks as u32).map(|block| (block * 7 + 3) % blocks as u32).collect();
    free.sort_by_key(|block| (block % 3, std::cmp::Reverse(*block)));
    free.dedup();
    assert_eq!(free.len(), blocks, "7 and the count of blocks have no common divisor");
    for pair in starts.windows(2) {
        let length = pair[1] - pair[0];
        let table = free.split_off(free.len() - length.div_ceil(BLOCK));
        slots.extend((0..length).map(|position| table[position / BLOCK] * BLOCK as u32 + (position % BLOCK) as u32));
        tables.push(table);
    }
    let mut cache = b.cache(blocks + 1, heads);
    b.cache_write(&mut cache, k, v, &slots);
    (cache, tables)
}

#[test]
fn attention_over_the_cache_has_the_bits_of_whole_sequences_however_rows_are_batched() {
    let Some(b) = cuda() else { return };
    for (starts, heads) in batches() {
        let n = *starts.last().unwrap();
        for window in [None, Some(1), Some(17), Some(64)] {
            let [q, k, v, _] = tensors(&b, n, heads);
            let (mut out, mut lse) = (dirty(&b, b.len(&q)), dirty(&b, n * heads.query));
            b.attention(&mut out, &mut lse, &q, &k, &v, &starts, heads, Mask::Causal { window });
            let (cache, tables) = filled(&b, &k, &v, &starts, heads);
            let mut views = Vec::new();
            for (pair, table) in starts.windows(2).zip(&tables) {
                views.extend((1..=pair[1] - pair[0]).map(|length| CacheView { blocks: table, length }));
            }
            let mut cached = dirty(&b, b.len(&q));
            b.attention_cached(&mut cached, &q, &cache, &views, window);
            assert_eq!(bits(&b, &cached), bits(&b, &out), "{starts:?} {heads:?} {window:?}: a whole batch of rows");
            // The last row alone.
            let width = heads.query * heads.channels;
            let host = b.download(&q);
            let mut alone = dirty(&b, width);
            b.attention_cached(&mut alone, &b.upload(&host[(n - 1) * width..]), &cache, &views[n - 1..], window);
            assert_eq!(bits(&b, &alone), bits(&b, &out)[(n - 1) * width..], "{starts:?} {heads:?} {window:?}: one row");
        }
    }
}

#[test]
fn what_a_row_may_not_see_is_not_read_for_it() {
    let Some(b) = cuda() else { return };
    let (heads, starts) = (Heads { query: 2, key_value: 1, channels: 8 }, [0, 40, 90]);
    let [q, k, v, dout] = tensors(&b, 90, heads);
    let run = |k: &<Cuda as Backend>::Buf, v: &<Cuda as Backend>::Buf| {
        let (mut out, mut lse) = (dirty(&b, b.len(&q)), dirty(&b, 180));
        let mask = Mask::Causal { window: Some(20) };
        b.attention(&mut out, &mut lse, &q, k, v, &starts, heads, mask);
        let [mut dq, mut dk, mut dv] = [&q, k, v].map(|x| dirty(&b, b.len(x)));
        b.attention_backward(&mut dq, &mut dk, &mut dv, &dout, &out, &lse, &q, k, v, &starts, heads, mask);
        (bits(&b, &out), bits(&b, &dq))
    };
    let broken = |x: &<Cuda as Backend>::Buf| {
        let mut host = b.download(x);
        // Positions 5 to 7 of the second sequence; rows from 28 on do not see them any more.
        host[45 * 8..48 * 8].fill(f32::NAN);
        b.upload(&host)
    };
    let (whole, dq) = run(&k, &v);
    let (with_nan, dq_with_nan) = run(&broken(&k), &broken(&v));
    let unaffected = [0..45 * 16, 67 * 16..90 * 16];
    for range in unaffected {
        assert_eq!(whole[range.clone()], with_nan[range.clone()]);
        assert_eq!(dq[range.clone()], dq_with_nan[range]);
    }
    assert!(with_nan[45 * 16..67 * 16].iter().all(|bits| f64::from_bits(*bits).is_nan()));
}

#[test]
fn a_sequence_has_the_same_bits_alone_and_in_a_batch() {
    let Some(b) = cuda() else { return };
    let heads = Heads { query: 4, key_value: 2, channels: 12 };
    let (starts, n) = ([0, 5, 75, 108], 108);
    let [q, k, v, dout] = tensors(&b, n, heads);
    let run = |[q, k, v, dout]: [&<Cuda as Backend>::Buf; 4], starts: &[usize]| {
        let (mut out, mut lse) = (dirty(&b, b.len(q)), dirty(&b, b.len(q) / heads.channels));
        b.attention(&mut out, &mut lse, q, k, v, starts, heads, CAUSAL);
        let [mut dq, mut dk, mut dv] = [q, k, v].map(|x| dirty(&b, b.len(x)));
        b.attention_backward(&mut dq, &mut dk, &mut dv, dout, &out, &lse, q, k, v, starts, heads, CAUSAL);
        [bits(&b, &out), bits(&b, &dq), bits(&b, &dk), bits(&b, &dv)]
    };
    let together = run([&q, &k, &v, &dout], &starts);
    let part = |x: &<Cuda as Backend>::Buf| {
        let width = b.len(x) / n;
        b.upload(&b.download(x)[5 * width..75 * width])
    };
    let alone = run([&part(&q), &part(&k), &part(&v), &part(&dout)], &[0, 70]);
    for (together, alone) in together.iter().zip(&alone) {
        let width = together.len() / n;
        assert_eq!(together[5 * width..75 * width], alone[..]);
    }
}

#[test]
fn blocks_of_the_cache_are_copied_in_the_order_of_the_pairs() {
    let Some(b) = cuda() else { return };
    let heads = Heads { query: 3, key_value: 3, channels: 5 };
    let n = 2 * BLOCK;
    let [q, k, v, _] = tensors(&b, n, heads);
    let mut cache = b.cache(5, heads);
    b.cache_write(&mut cache, &k, &v, &(0..n as u32).collect::<Vec<u32>>());
    // 0 to 2, 1 to 3, then 2, which is 0 by now, to 4.
    b.cache_copy_blocks(&mut cache, &[(2, 0), (3, 1), (4, 2)]);
    b.cache_copy_blocks(&mut cache, &[]);
    let view = |blocks| vec![CacheView { blocks, length: n }; n];
    let (mut original, mut copied) = (dirty(&b, b.len(&q)), dirty(&b, b.len(&q)));
    b.attention_cached(&mut original, &q, &cache, &view(&[0, 1]), None);
    b.attention_cached(&mut copied, &q, &cache, &view(&[4, 3]), None);
    assert_eq!(bits(&b, &original), bits(&b, &copied));
    assert!(bits(&b, &original).iter().all(|bits| f64::from_bits(*bits).is_finite()));
}

/// Rows and vocabularies: one token, less than a vector, several pieces, unaligned rows.
const VOCABULARIES: [(usize, usize); 6] = [(2, 1), (3, 5), (4, 257), (2, 5000), (5, 64), (1, 20_001)];

#[test]
fn log_probabilities_entropies_and_gradients_agree() {
    for (m, v) in VOCABULARIES {
        for temperature in [1.0, 0.7] {
            agree!(format!("{m} x {v} at {temperature}"), Agreement::Within(3e-6), |b| {
                let mut logits = numbers("logits", m * v);
                logits.iter_mut().for_each(|x| *x *= 4.0);
                if v > 4 {
                    logits[2] = f64::NEG_INFINITY;
                }
                let targets: Vec<u32> =
                    below("targets", m, v).into_iter().map(|id| if id == 2 { 3.min(v as u32 - 1) } else { id }).collect();
                let (mut logits, dlogprob) = (b.upload_f64(&logits), buffer(b, "dlogprob", m));
                let [mut logprob, mut lse, mut entropy] = [(); 3].map(|()| dirty(b, m));
                b.token_logprobs(&mut logprob, &mut lse, &mut entropy, &logits, &targets, temperature, v);
                b.token_logprobs_backward(&mut logits, &dlogprob, &lse, &targets, temperature, v);
                vec![("logprob", logprob), ("lse", lse), ("entropy", entropy), ("dlogits", logits)]
            });
        }
    }
}

#[test]
fn a_row_of_logits_has_the_same_bits_wherever_it_lies() {
    let Some(b) = cuda() else { return };
    let v = 1003;
    let row: Vec<f32> = numbers("logits", v).into_iter().map(|x| x as f32).collect();
    let mut several = numbers("others", 3 * v).into_iter().map(|x| x as f32).collect::<Vec<f32>>();
    several.extend(&row);
    let run = |logits: &[f32], m: usize| {
        let [mut logprob, mut lse, mut entropy] = [(); 3].map(|()| dirty(&b, m));
        b.token_logprobs(&mut logprob, &mut lse, &mut entropy, &b.upload(logits), &vec![77; m], 0.9, v);
        [logprob, lse, entropy].map(|x| *bits(&b, &x).last().unwrap())
    };
    assert_eq!(run(&row, 1), run(&several, 4));
}

fn uniforms(m: usize) -> Vec<f64> {
    (0..m).map(|at| (at as f64 + 0.37) / m as f64).collect()
}

#[test]
fn draws_are_those_of_the_cpu_and_their_log_probabilities_too() {
    let Some(b) = cuda() else { return };
    let plain = Sampling::plain(0.8);
    for (v, sampling) in [
        (1, plain),
        (5, plain),
        (300, plain),
        (5003, plain),
        (300, Sampling { top_k: 17, ..plain }),
        (300, Sampling { top_k: 300, ..plain }),
        (300, Sampling { top_p: 0.7, ..plain }),
        (300, Sampling { min_p: 0.05, ..plain }),
        (5003, Sampling { top_k: 900, top_p: 0.95, min_p: 0.001, temperature: 1.2 }),
        (300, Sampling { top_p: 1e-9, ..plain }),
        (300, Sampling::GREEDY),
    ] {
        let m = 25;
        let mut logits: Vec<f32> = normals("logits", m * v).into_iter().map(|x| (x * 8.0).round() as f32 / 4.0).collect();
        // Rounded logits have equals; this one is impossible.
        logits[v / 2] = if v > 1 { f32::NEG_INFINITY } else { 0.0 };
        let draws = uniforms(m);
        let (ids, logprobs) = b.sample(&b.upload(&logits), &draws, sampling, v);
        let cpu = oracle();
        let (expected, expected_logprobs) = cpu.sample(&cpu.upload(&logits), &draws, sampling, v);
        assert_eq!(ids, expected, "{v} {sampling:?}");
        for (got, expected) in logprobs.iter().zip(&expected_logprobs) {
            assert!((got - expected).abs() <= 3e-6, "{v} {sampling:?}: {got}, not {expected}");
        }
    }
}

#[test]
fn a_drawn_tokens_log_probability_is_to_the_bit_that_of_scoring_it() {
    let Some(b) = cuda() else { return };
    for (v, temperature) in [(5, 1.0), (1003, 0.6), (5000, 1.7)] {
        let m = 9;
        let logits = buffer(&b, "logits", m * v);
        let (ids, logprobs) = b.sample(&logits, &uniforms(m), Sampling::plain(temperature), v);
        let [mut scored, mut lse, mut entropy] = [(); 3].map(|()| dirty(&b, m));
        b.token_logprobs(&mut scored, &mut lse, &mut entropy, &logits, &ids, temperature, v);
        assert_eq!(bits(&b, &b.upload(&logprobs)), bits(&b, &scored));
    }
}

#[test]
#[should_panic(expected = "has NaN, +inf or no finite logit")]
fn a_row_of_nan_is_not_drawn_from() {
    let Some(b) = cuda() else { panic!("skipped, not: has NaN, +inf or no finite logit") };
    let mut logits = vec![0.0; 30];
    logits[14] = f32::NAN;
    b.sample(&b.upload(&logits), &uniforms(3), Sampling::plain(1.0), 10);
}
