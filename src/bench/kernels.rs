//! Every operation of the back end at sizes that fill a device, with its operations and bytes; and
//! the device's own ceilings.

use super::harness::Kernels;
use super::{Bench, Ceilings, Row, Source, products};
use crate::backend::{
    Activation, AdamW, BLOCK, Backend, CacheView, Heads, Mask, Sampling, Sizes, ops,
};

/// Measures all of them. The ceilings are the speeds of a copy and of the fastest product of this
/// run.
pub fn run<B: Backend>(bench: &Bench<'_, B>) -> (Ceilings, Vec<Row>) {
    let mut kernels = Kernels::new(bench);
    elements(&mut kernels);
    norms(&mut kernels);
    rows(&mut kernels);
    tokens(&mut kernels);
    attention(&mut kernels);
    decode(&mut kernels);
    products::few_rows(&mut kernels);
    products::whole_batches(&mut kernels);
    let rate = |what: &str, amount: fn(&Row) -> f64| {
        let rates = kernels
            .rows
            .iter()
            .filter(|row| row.what.starts_with(what))
            .map(|row| amount(row) / row.timing.seconds);
        rates.fold(0.0, f64::max)
    };
    let ceilings = Ceilings {
        operations: rate("linear", |row| row.operations),
        bytes: rate("copy", |row| row.bytes),
    };
    (ceilings, kernels.rows)
}

/// Bytes a second of a large copy, read and written.
pub fn copy_rate<B: Backend>(bench: &Bench<'_, B>) -> f64 {
    let len = if bench.options.quick { 1 << 14 } else { 1 << 28 };
    let (x, mut out) = (bench.b.zeros(len), bench.b.zeros(len));
    bench.b.fill(&mut out, 0.3);
    let timing = bench.time(&mut || bench.b.copy(&mut out, &x));
    (2 * bench.b.sizes().stored * len) as f64 / timing.seconds
}

/// Operations on one number at a time, and the optimiser's.
fn elements<B: Backend>(kernels: &mut Kernels<'_, B>) {
    let (b, size, n) =
        (kernels.bench.b, kernels.bench.b.sizes().stored, kernels.pick(1 << 28, 1 << 12));
    let shape = format!("{n}");
    let (x, y, mut out) = (kernels.random(n), kernels.random(n), kernels.random(n));
    let bytes = |arrays: usize| (arrays * size * n) as f64;
    kernels.row("copy", &shape, 0.0, bytes(2), &mut || b.copy(&mut out, &x));
    kernels.row("fill", &shape, 0.0, bytes(1), &mut || b.fill(&mut out, 0.1));
    kernels.row("add", &shape, 0.0, bytes(3), &mut || b.add(&mut out, &x));
    kernels.row("activation", &shape, 0.0, bytes(2), &mut || {
        b.activation(&mut out, &x, Activation::GeluTanh)
    });
    kernels.row("activation_backward", &shape, 0.0, bytes(3), &mut || {
        b.activation_backward(&mut out, &y, &x, Activation::GeluTanh)
    });
    kernels.row("swiglu", &shape, 0.0, bytes(3), &mut || b.swiglu(&mut out, &x, &y));
    let mut dup = kernels.random(n);
    kernels.row("swiglu_backward", &shape, 0.0, bytes(5), &mut || {
        b.swiglu_backward(&mut out, &mut dup, &x, &x, &y);
    });
    drop((x, y, out, dup));

    let n = kernels.pick(1 << 27, 1 << 12);
    let shape = format!("{n}");
    let [mut master, mut first, mut second, mut gradient] = [(); 4].map(|()| kernels.floats(n));
    b.fill(&mut gradient, 1e-3);
    let wide = b.sizes().wide;
    kernels.row("sum_squares", &shape, 0.0, (wide * n) as f64, &mut || {
        b.sum_squares(&gradient);
    });
    let step = AdamW {
        learning_rate: 1e-4,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        step: 1,
        gradient_scale: 0.5,
    };
    // Four arrays are read, three of them written; and the copy, where there is one.
    let mut copy = b.sizes().is_narrow().then(|| kernels.random(n));
    let bytes = 7 * wide + if copy.is_some() { size } else { 0 };
    kernels.row("adamw", &shape, 0.0, (bytes * n) as f64, &mut || {
        b.adamw(&mut master, copy.as_mut(), &mut first, &mut second, &gradient, step);
    });
}

/// Norms and rotary positions.
fn norms<B: Backend>(kernels: &mut Kernels<'_, B>) {
    let (b, size) = (kernels.bench.b, kernels.bench.b.sizes().stored);
    for (n, d) in if kernels.quick() { vec![(7, 40)] } else { vec![(16_384, 2048), (16_384, 4096)] }
    {
        let shape = format!("{n} x {d}");
        let (x, dout, weight, bias) =
            (kernels.random(n * d), kernels.random(n * d), kernels.random(d), kernels.random(d));
        let (mut out, mut dx) = (kernels.random(n * d), kernels.random(n * d));
        let [mut mean, mut rstd] = [(); 2].map(|()| kernels.floats(n));
        let [mut dweight, mut dbias] = [(); 2].map(|()| kernels.floats(d));
        let bytes = |arrays: usize| (arrays * size * n * d) as f64;
        kernels.row("rms_norm", &shape, 0.0, bytes(2), &mut || {
            b.rms_norm(ops::RmsNorm {
                out: &mut out,
                rstd: &mut rstd,
                x: &x,
                weight: &weight,
                n,
                d,
                epsilon: 1e-5,
            })
        });
        kernels.row("rms_norm_backward", &shape, 0.0, bytes(4), &mut || {
            b.rms_norm_backward(ops::RmsNormBackward {
                dx: &mut dx,
                dweight: Some(&mut dweight),
                dout: &dout,
                x: &x,
                weight: &weight,
                rstd: &rstd,
                n,
                d,
            });
        });
        kernels.row("layer_norm", &shape, 0.0, bytes(2), &mut || {
            b.layer_norm(ops::LayerNorm {
                out: &mut out,
                mean: &mut mean,
                rstd: &mut rstd,
                x: &x,
                weight: &weight,
                bias: &bias,
                n,
                d,
                epsilon: 1e-5,
            });
        });
        kernels.row("layer_norm_backward", &shape, 0.0, bytes(4), &mut || {
            b.layer_norm_backward(ops::LayerNormBackward {
                dx: &mut dx,
                dweight: Some(&mut dweight),
                dbias: Some(&mut dbias),
                dout: &dout,
                x: &x,
                weight: &weight,
                mean: &mean,
                rstd: &rstd,
                n,
                d,
            });
        });
        let (heads, c) = if kernels.quick() { (5, 8) } else { (d / 128, 128) };
        let positions: Vec<u32> = (0..n as u32).map(|row| row % 1024).collect();
        let [mut cos, mut sin] = [(); 2].map(|()| kernels.floats(1024 * c / 2));
        b.fill(&mut cos, 0.8);
        b.fill(&mut sin, 0.6);
        kernels.row("rotary", &shape, 0.0, bytes(2), &mut || {
            b.rotary(ops::Rotary {
                x: &mut dx,
                cos: &cos,
                sin: &sin,
                positions: &positions,
                heads,
                channels: c,
                rotated: c,
                inverse: false,
            })
        });
    }
}

/// Rows by their numbers.
fn rows<B: Backend>(kernels: &mut Kernels<'_, B>) {
    let (b, size) = (kernels.bench.b, kernels.bench.b.sizes().stored);
    let (n, d, v) = (kernels.pick(16_384, 9), kernels.pick(4096, 24), kernels.pick(32_000, 11));
    let ids: Vec<u32> =
        (0..n as u32).map(|row| row.wrapping_mul(2_654_435_761) % v as u32).collect();
    let (table, mut out, shape) =
        (kernels.random(v * d), kernels.random(n * d), format!("{n} of {v} x {d}"));
    let bytes = (size * n * d) as f64;
    kernels
        .row("embedding", &shape, 0.0, 2.0 * bytes, &mut || b.embedding(&mut out, &table, &ids, d));
    let mut dtable = kernels.floats(v * d);
    kernels.row(
        "embedding_backward",
        &shape,
        0.0,
        bytes + (2 * b.sizes().wide * n * d) as f64,
        &mut || b.embedding_backward(&mut dtable, &out, &ids, d),
    );
    let mut dx = kernels.random(v * d);
    kernels.row("scatter_add_rows", &shape, 0.0, 3.0 * bytes, &mut || {
        b.scatter_add_rows(&mut dx, &out, &ids, d)
    });
}

/// Distributions over a vocabulary.
fn tokens<B: Backend>(kernels: &mut Kernels<'_, B>) {
    let (b, Sizes { stored, wide, .. }) = (kernels.bench.b, kernels.bench.b.sizes());
    let source = Source::new(|host| b.upload_wide(host), kernels.quick());
    let random = |len: usize| {
        let mut logits = b.wide(len);
        source.fill(b, &mut logits);
        logits
    };
    for (m, v) in if kernels.quick() {
        vec![(5, 130)]
    } else {
        vec![(8192, 32_000), (4096, 50_257), (4096, 50_272)]
    } {
        let (logits, mut dlogits, targets, shape) =
            (random(m * v), kernels.random(m * v), vec![1; m], format!("{m} x {v}"));
        let [mut logprob, mut lse, mut entropy, mut dlogprob] = [(); 4].map(|()| kernels.floats(m));
        b.fill(&mut dlogprob, 1e-3);
        kernels.row("token_logprobs", &shape, 0.0, (wide * m * v) as f64, &mut || {
            b.token_logprobs(ops::TokenLogprobs {
                logprob: &mut logprob,
                lse: &mut lse,
                entropy: &mut entropy,
                logits: &logits,
                targets: &targets,
                temperature: 1.0,
                v,
            });
        });
        kernels.row(
            "token_logprobs_backward",
            &shape,
            0.0,
            ((wide + stored) * m * v) as f64,
            &mut || {
                b.token_logprobs_backward(ops::TokenLogprobsBackward {
                    dlogits: &mut dlogits,
                    logits: &logits,
                    dlogprob: &dlogprob,
                    lse: &lse,
                    targets: &targets,
                    temperature: 1.0,
                    v,
                });
            },
        );
        let bytes = ((wide + stored) * m * v) as f64;
        kernels.row("token_scores_backward", &shape, 0.0, bytes, &mut || {
            b.token_scores_backward(ops::TokenScoresBackward {
                dlogits: &mut dlogits,
                logits: &logits,
                dlogprob: &dlogprob,
                dentropy: &dlogprob,
                lse: &lse,
                entropy: &entropy,
                targets: &targets,
                temperature: 1.0,
                v,
            });
        });
    }
    let (m, v) = (kernels.pick(64, 3), kernels.pick(50_272, 130));
    let (logits, uniforms, shape) = (random(m * v), vec![0.4; m], format!("{m} x {v}"));
    for (what, sampling) in [
        ("sample", Sampling::plain(1.0)),
        ("sample, top-k and top-p", Sampling { top_k: 50, top_p: 0.9, ..Sampling::plain(1.0) }),
    ] {
        kernels.row(what, &shape, 0.0, (wide * m * v) as f64, &mut || {
            b.sample(&logits, &uniforms, sampling, v);
        });
    }
}

/// Whole sequences. Operations are those of the products that a causal mask leaves; of the
/// gradient, of the five that must be.
fn attention<B: Backend>(kernels: &mut Kernels<'_, B>) {
    let (b, size, mask) =
        (kernels.bench.b, kernels.bench.b.sizes().stored, Mask::Causal { window: None });
    for channels in if kernels.quick() { [8, 16] } else { [64, 128] } {
        for length in if kernels.quick() { vec![17] } else { vec![512, 1024, 2048, 4096] } {
            let heads = if kernels.quick() { 2 } else { 2048 / channels };
            let sequences = if kernels.quick() { 2 } else { 16_384 / length };
            let (n, width) = (sequences * length, heads * channels);
            let starts: Vec<usize> = (0..=sequences).map(|at| at * length).collect();
            let [q, k, v, dout] = [(); 4].map(|()| kernels.random(n * width));
            let [mut out, mut dq, mut dk, mut dv] = [(); 4].map(|()| kernels.random(n * width));
            let (mut lse, heads) =
                (kernels.floats(n * heads), Heads { query: heads, key_value: heads, channels });
            let shape = format!("{sequences} x {length}, {} heads of {channels}", heads.query);
            let operations = 2.0 * (sequences * length * length * width) as f64;
            let bytes = |arrays: usize| (arrays * size * n * width) as f64;
            kernels.row("attention", &shape, operations, bytes(4), &mut || {
                b.attention(ops::Attention {
                    out: &mut out,
                    lse: &mut lse,
                    q: &q,
                    k: &k,
                    v: &v,
                    starts: &starts,
                    heads,
                    mask,
                })
            });
            kernels.row("attention_backward", &shape, 2.5 * operations, bytes(8), &mut || {
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
                    starts: &starts,
                    heads,
                    mask,
                });
            });
        }
    }
}

/// A step of decoding: one new position a row.
fn decode<B: Backend>(kernels: &mut Kernels<'_, B>) {
    let (b, size) = (kernels.bench.b, kernels.bench.b.sizes().stored);
    let (length, channels) = (kernels.pick(1024, 21), kernels.pick(128, 8));
    for (query, key_value) in if kernels.quick() { vec![(2, 1)] } else { vec![(32, 32), (32, 8)] } {
        for batch in if kernels.quick() { vec![1, 3] } else { vec![1, 16, 64] } {
            let heads = Heads { query, key_value, channels };
            let needed = length.div_ceil(BLOCK);
            let bytes = (size * 2 * batch * length * key_value * channels) as f64;
            // Of one row, a second cache would hold everything.
            let sets =
                if kernels.quick() { 2 } else { ((256u64 << 20) as f64 / bytes).ceil() as usize };
            let mut cache = b.cache(sets * batch * needed, heads);
            let blocks: Vec<Vec<u32>> = (0..sets * batch)
                .map(|row| (0..needed).map(|at| (row * needed + at) as u32).collect())
                .collect();
            for blocks in &blocks {
                let (k, v) = (
                    kernels.random(length * key_value * channels),
                    kernels.random(length * key_value * channels),
                );
                let slots: Vec<u32> = (0..length)
                    .map(|at| blocks[at / BLOCK] * BLOCK as u32 + (at % BLOCK) as u32)
                    .collect();
                b.cache_write(&mut cache, &k, &v, &slots);
            }
            let views = |set: usize| -> Vec<CacheView<'_>> {
                blocks[set * batch..(set + 1) * batch]
                    .iter()
                    .map(|blocks| CacheView { blocks, length })
                    .collect()
            };
            let views: Vec<Vec<CacheView<'_>>> = (0..sets).map(views).collect();
            let (q, mut out, mut turn) = (
                kernels.random(batch * query * channels),
                kernels.random(batch * query * channels),
                0,
            );
            let shape = format!("{batch} x {length}, {query} heads on {key_value} of {channels}");
            kernels.row(
                "attention_cached",
                &shape,
                4.0 * (batch * length * query * channels) as f64,
                bytes,
                &mut || {
                    turn += 1;
                    b.attention_cached(&mut out, &q, &cache, &views[turn % sets], None);
                },
            );
            let (k, v) = (
                kernels.random(batch * key_value * channels),
                kernels.random(batch * key_value * channels),
            );
            let slots: Vec<u32> = (0..batch).map(|row| blocks[row][0] * BLOCK as u32).collect();
            let bytes = (4 * size * batch * key_value * channels) as f64;
            kernels.row("cache_write", &shape, 0.0, bytes, &mut || {
                b.cache_write(&mut cache, &k, &v, &slots)
            });
            let pairs: Vec<(u32, u32)> =
                blocks[..batch].iter().map(|blocks| (blocks[1], blocks[0])).collect();
            let bytes = bytes * BLOCK as f64;
            kernels.row("cache_copy_blocks", &shape, 0.0, bytes, &mut || {
                b.cache_copy_blocks(&mut cache, &pairs)
            });
        }
    }
}
