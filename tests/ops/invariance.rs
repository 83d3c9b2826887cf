//! Every operation on shapes large enough to be spread over threads: the same bits for any number
//! of threads and instruction set.

use posttrain::backend::cpu::{Cache, Cpu, Level, Number};
use posttrain::backend::ops;
use posttrain::backend::prelude::*;
use posttrain::backend::{Activation, AdamW, BLOCK, CacheView, Epilogue, Heads, Mask, Sampling};

use super::{below, bits, normals};

const HEADS: Heads = Heads { query: 4, key_value: 2, channels: 16 };

/// The bits of everything, by name.
fn everything<T: Number>(b: &Cpu<T>) -> Vec<(String, Vec<u64>)>
where
    Cpu<T>: Backend<Buf = Vec<T>, Cache = Cache<T>>,
{
    let mut results = vec![];
    rows_and_layers(b, &mut results);
    rotary_and_adamw(b, &mut results);
    attention(b, &mut results);
    tokens(b, &mut results);
    results
}

fn rows_and_layers<T: Number>(b: &Cpu<T>, results: &mut Vec<(String, Vec<u64>)>)
where
    Cpu<T>: Backend<Buf = Vec<T>, Cache = Cache<T>>,
{
    let (n, d, o) = (1300, 104, 110);
    let [x, dout, weight, w, dout_o] =
        [("x", n * d), ("dout", n * d), ("weight", d), ("w", o * d), ("dout o", n * o)]
            .map(|(name, len)| b.upload_f64(&normals(name, len)));
    let mut push = |name: &str, x: &Vec<T>| results.push((name.into(), bits(b, x)));

    let mut sum = x.clone();
    b.add(&mut sum, &dout);
    push("add", &sum);
    push("sum_squares", &b.upload_f64(&[b.sum_squares(&x)]));

    let ids = below("ids", n, 50);
    let (mut embedded, mut dtable) = (b.zeros(n * d), b.zeros(50 * d));
    b.embedding(&mut embedded, &x, &ids, d);
    b.embedding_backward(&mut dtable, &dout, &ids, d);
    push("embedding", &embedded);
    push("embedding_backward", &dtable);

    let (mut out, mut rstd, mut dx, mut dweight) =
        (b.zeros(n * d), b.zeros(n), b.zeros(n * d), b.zeros(d));
    b.rms_norm(ops::RmsNorm {
        out: &mut out,
        rstd: &mut rstd,
        x: &x,
        weight: &weight,
        n,
        d,
        epsilon: 1e-5,
    });
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
    push("rms_norm", &out);
    push("rms_norm_backward dx", &dx);
    push("rms_norm_backward dweight", &dweight);

    let bias = embedded[..d].to_vec();
    let (mut out, mut mean, mut rstd) = (b.zeros(n * d), b.zeros(n), b.zeros(n));
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
    let (mut dx, mut dweight, mut dbias) = (b.zeros(n * d), b.zeros(d), b.zeros(d));
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
    push("layer_norm", &out);
    push("layer_norm mean", &mean);
    push("layer_norm rstd", &rstd);
    push("layer_norm_backward dx", &dx);
    push("layer_norm_backward dweight", &dweight);
    push("layer_norm_backward dbias", &dbias);

    let (mut out, mut few) = (b.zeros(n * o), b.zeros(9 * o));
    b.linear(ops::Linear { out: &mut out, x: &x, weight: &w, bias: None, n, i: d, o });
    b.linear(ops::Linear {
        out: &mut few,
        x: &x[..9 * d].to_vec(),
        weight: &w,
        bias: None,
        n: 9,
        i: d,
        o,
    });
    push("linear", &out);
    push("linear, few rows", &few);
    let epilogues = [
        ("linear with a residual", Epilogue::Add(&dout_o)),
        (
            "linear with an activation",
            Epilogue::Activate { kept: None, activation: Activation::Silu },
        ),
        ("linear with a gate", Epilogue::Gate { kept: None, up: &dout_o }),
    ];
    for (what, epilogue) in epilogues {
        b.linear_with(
            ops::Linear { out: &mut out, x: &x, weight: &w, bias: None, n, i: d, o },
            epilogue,
        );
        push(what, &out);
    }
    let (mut dx, mut dw, mut dbias) = (x.clone(), w.clone(), b.zeros(o));
    b.linear_backward_input(ops::LinearBackwardInput {
        dx: &mut dx,
        dout: &dout_o,
        weight: &w,
        n,
        i: d,
        o,
    });
    b.linear_backward_weight(ops::LinearBackwardWeight {
        dweight: &mut dw,
        dbias: Some(&mut dbias),
        dout: &dout_o,
        x: &x,
        n,
        i: d,
        o,
    });
    push("linear_backward_input", &dx);
    push("linear_backward_weight dweight", &dw);
    push("linear_backward_weight dbias", &dbias);

    let (mut out, mut dgate, mut dup) = (b.zeros(n * d), b.zeros(n * d), b.zeros(n * d));
    b.swiglu(&mut out, &x, &dout);
    b.swiglu_backward(&mut dgate, &mut dup, &embedded, &x, &dout);
    push("swiglu", &out);
    push("swiglu_backward dgate", &dgate);
    push("swiglu_backward dup", &dup);

    // From deep in the tails to near 0.
    let spread: Vec<T> = x.iter().zip(&dout).map(|(&x, &y)| x * y * y * y).collect();
    for activation in [
        Activation::Relu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Silu,
        Activation::Tanh,
    ] {
        let (mut out, mut dx) = (b.zeros(n * d), b.zeros(n * d));
        b.activation(&mut out, &spread, activation);
        b.activation_backward(&mut dx, &dout, &spread, activation);
        push(&format!("{activation:?}"), &out);
        push(&format!("{activation:?} backward"), &dx);
    }
}

fn rotary_and_adamw<T: Number>(b: &Cpu<T>, results: &mut Vec<(String, Vec<u64>)>)
where
    Cpu<T>: Backend<Buf = Vec<T>, Cache = Cache<T>>,
{
    let (n, d) = (1300, 104);
    let [x, dout] = ["x", "dout"].map(|name| b.upload_f64(&normals(name, n * d)));
    let mut push = |name: &str, x: &Vec<T>| results.push((name.into(), bits(b, x)));
    let (cos, sin) =
        (b.upload_f64(&normals("cos", 400 * 4)), b.upload_f64(&normals("sin", 400 * 4)));
    let mut rotated = x.clone();
    b.rotary(ops::Rotary {
        x: &mut rotated,
        cos: &cos,
        sin: &sin,
        positions: &below("positions", n, 400),
        heads: 13,
        channels: 8,
        rotated: 8,
        inverse: false,
    });
    push("rotary", &rotated);
    b.rotary(ops::Rotary {
        x: &mut rotated,
        cos: &cos,
        sin: &sin,
        positions: &below("positions", n, 400),
        heads: 8,
        channels: 13,
        rotated: 8,
        inverse: true,
    });
    push("rotary of a part", &rotated);

    let (mut weight, mut first, mut second) = (x.clone(), b.zeros(n * d), b.zeros(n * d));
    let step = AdamW {
        learning_rate: 1e-2,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        step: 3,
        gradient_scale: 0.7,
    };
    b.adamw(&mut weight, None, &mut first, &mut second, &dout, step);
    push("adamw weight", &weight);
    push("adamw first", &first);
    push("adamw second", &second);
}

fn attention<T: Number>(b: &Cpu<T>, results: &mut Vec<(String, Vec<u64>)>)
where
    Cpu<T>: Backend<Buf = Vec<T>, Cache = Cache<T>>,
{
    let starts = [0, 200, 201, 220, 300];
    let n = 300;
    let Heads { query: h, key_value: g, channels: c } = HEADS;
    let [q, dout, k, v] =
        [("q", n * h * c), ("dout", n * h * c), ("k", n * g * c), ("v", n * g * c)]
            .map(|(name, len)| b.upload_f64(&normals(name, len)));
    let blocks: Vec<u32> = (0..n.div_ceil(BLOCK) as u32).collect();
    let mut cache = b.cache(blocks.len(), HEADS);
    b.cache_write(&mut cache, &k, &v, &(0..n as u32).collect::<Vec<_>>());
    let views: Vec<CacheView<'_>> =
        (0..n).map(|row| CacheView { blocks: &blocks, length: row + 1 }).collect();
    let mut push = |mask: Mask, name: &str, x: &Vec<T>| {
        results.push((format!("{name}, {mask:?}"), bits(b, x)))
    };
    for window in [None, Some(1), Some(21), Some(100)] {
        let mut cached = b.zeros(n * h * c);
        b.attention_cached(&mut cached, &q, &cache, &views, window);
        push(Mask::Causal { window }, "attention_cached", &cached);
    }
    let causal = [None, Some(1), Some(21), Some(100)].map(|window| Mask::Causal { window });
    for mask in causal.into_iter().chain([Mask::Bidirectional]) {
        let (mut out, mut lse) = (b.zeros(n * h * c), b.zeros(n * h));
        b.attention(ops::Attention {
            out: &mut out,
            lse: &mut lse,
            q: &q,
            k: &k,
            v: &v,
            starts: &starts,
            heads: HEADS,
            mask,
        });
        let (mut dq, mut dk, mut dv) = (q.clone(), k.clone(), v.clone());
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
            heads: HEADS,
            mask,
        });
        let names = [
            "attention out",
            "attention lse",
            "attention_backward dq",
            "attention_backward dk",
            "attention_backward dv",
        ];
        for (name, x) in names.into_iter().zip([&out, &lse, &dq, &dk, &dv]) {
            push(mask, name, x);
        }
    }
}

fn tokens<T: Number>(b: &Cpu<T>, results: &mut Vec<(String, Vec<u64>)>)
where
    Cpu<T>: Backend<Buf = Vec<T>, Cache = Cache<T>>,
{
    let (m, v) = (150, 333);
    let (logits, targets) = (b.upload_f64(&normals("logits", m * v)), below("targets", m, v));
    let (mut logprob, mut lse, mut entropy) = (b.zeros(m), b.zeros(m), b.zeros(m));
    b.token_logprobs(ops::TokenLogprobs {
        logprob: &mut logprob,
        lse: &mut lse,
        entropy: &mut entropy,
        logits: &logits,
        targets: &targets,
        temperature: 0.7,
        v,
    });
    let mut dlogits = b.zeros(m * v);
    b.token_logprobs_backward(ops::TokenLogprobsBackward {
        dlogits: &mut dlogits,
        logits: &logits,
        dlogprob: &entropy,
        lse: &lse,
        targets: &targets,
        temperature: 0.7,
        v,
    });
    let mut dscores = b.zeros(m * v);
    b.token_scores_backward(ops::TokenScoresBackward {
        dlogits: &mut dscores,
        logits: &logits,
        dlogprob: &logprob,
        dentropy: &entropy,
        lse: &lse,
        entropy: &entropy,
        targets: &targets,
        temperature: 0.7,
        v,
    });
    for (name, x) in [
        ("token_scores_backward", &dscores),
        ("logprob", &logprob),
        ("lse", &lse),
        ("entropy", &entropy),
        ("token_logprobs_backward", &dlogits),
    ] {
        results.push((name.into(), bits(b, x)));
    }
    let uniforms: Vec<f64> = (0..m).map(|row| row as f64 / m as f64).collect();
    for (name, top_k, top_p) in [("sample", 0, 1.0), ("sample, truncated", 40, 0.8)] {
        let (ids, logprobs) = b.sample(
            &logits,
            &uniforms,
            Sampling { temperature: 0.9, top_k, top_p, min_p: 0.0 },
            v,
        );
        results.push((name.into(), ids.into_iter().map(u64::from).collect()));
        results.push((name.into(), logprobs.into_iter().map(|x| u64::from(x.to_bits())).collect()));
    }
}

fn on_threads<R: Send>(threads: usize, run: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .expect("threads start")
        .install(run)
}

fn compare(what: &str, got: &[(String, Vec<u64>)], expected: &[(String, Vec<u64>)]) {
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        assert!(got == expected, "{}: {what} changes its bits", expected.0);
    }
}

fn check<T: Number>()
where
    Cpu<T>: Backend<Buf = Vec<T>, Cache = Cache<T>>,
{
    let levels = Level::available();
    let best = Cpu::<T>::with_level(levels[levels.len() - 1]);
    let expected = on_threads(1, || everything(&best));
    for threads in [2, 3] {
        compare(
            &format!("running on {threads} threads"),
            &on_threads(threads, || everything(&best)),
            &expected,
        );
    }
    for &level in &levels[..levels.len() - 1] {
        compare(
            &format!("{level:?}"),
            &on_threads(2, || everything(&Cpu::<T>::with_level(level))),
            &expected,
        );
    }
}

#[test]
fn single_precision_has_the_same_bits_on_any_threads_and_instruction_set() {
    check::<f32>();
}

#[test]
fn double_precision_has_the_same_bits_on_any_threads_and_instruction_set() {
    check::<f64>();
}
