//! Operations on shapes that are cut into pieces for threads give the bits of the same operation on
//! parts so small that they are not.

use posttrain::backend::cpu::Cpu;
use posttrain::backend::ops;
use posttrain::backend::prelude::*;
use posttrain::backend::{Activation, AdamW};

use super::{below, bits, normals};

const N: usize = 1500;
const D: usize = 104;
/// Rows of a part; 1500 is not a multiple of it.
const PART: usize = 64;

fn input(name: &str, len: usize) -> Vec<f32> {
    Cpu::<f32>::new().upload_f64(&normals(name, len))
}

/// Compares `whole` with what `run` makes of each part of the rows; `run` gets the first row and
/// the count of rows.
#[track_caller]
fn by_parts(what: &str, whole: &[f32], width: usize, run: impl Fn(usize, usize) -> Vec<f32>) {
    let b = Cpu::<f32>::new();
    let rows = whole.len() / width;
    for first in (0..rows).step_by(PART) {
        let count = PART.min(rows - first);
        let part = run(first, count);
        assert!(
            bits(&b, &part) == bits(&b, &whole[first * width..][..count * width].to_vec()),
            "{what}: rows {first} to {}",
            first + count
        );
    }
}

fn rows(x: &[f32], width: usize, first: usize, count: usize) -> Vec<f32> {
    x[first * width..][..count * width].to_vec()
}

#[test]
fn sums_of_buffers() {
    let b = Cpu::<f32>::new();
    let (x, y) = (input("x", N * D), input("y", N * D));
    let mut whole = x.clone();
    b.add(&mut whole, &y);
    by_parts("add", &whole, D, |first, count| {
        let mut part = rows(&x, D, first, count);
        b.add(&mut part, &rows(&y, D, first, count));
        part
    });
}

#[test]
fn gathered_and_scattered_rows() {
    let b = Cpu::<f32>::new();
    let (x, y, ids) = (input("x", N * D), input("y", N * D), below("ids", N, N));
    let (mut gathered, mut scattered) = (b.zeros(N * D), x.clone());
    b.gather_rows(&mut gathered, &x, &ids, D);
    by_parts("gather_rows", &gathered, D, |first, count| {
        let mut part = b.zeros(count * D);
        b.gather_rows(&mut part, &x, &ids[first..first + count], D);
        part
    });
    // Parts of the rows that are added, one after the other, are the whole.
    b.scatter_add_rows(&mut scattered, &y, &ids, D);
    let mut parts = x.clone();
    for (y, ids) in y.chunks(PART * D).zip(ids.chunks(PART)) {
        b.scatter_add_rows(&mut parts, &y.to_vec(), ids, D);
    }
    assert!(bits(&b, &parts) == bits(&b, &scattered));
}

#[test]
fn normalised_rows_and_their_gradients() {
    let b = Cpu::<f32>::new();
    let (x, dout, weight) = (input("x", N * D), input("dout", N * D), input("weight", D));
    let (mut out, mut rstd) = (b.zeros(N * D), b.zeros(N));
    b.rms_norm(ops::RmsNorm {
        out: &mut out,
        rstd: &mut rstd,
        x: &x,
        weight: &weight,
        n: N,
        d: D,
        epsilon: 1e-5,
    });
    let run = |first, count| {
        let (mut out, mut rstd) = (b.zeros(count * D), b.zeros(count));
        b.rms_norm(ops::RmsNorm {
            out: &mut out,
            rstd: &mut rstd,
            x: &rows(&x, D, first, count),
            weight: &weight,
            n: count,
            d: D,
            epsilon: 1e-5,
        });
        (out, rstd)
    };
    by_parts("rms_norm out", &out, D, |first, count| run(first, count).0);
    by_parts("rms_norm rstd", &rstd, 1, |first, count| run(first, count).1);

    let (mut dx, mut dweight) = (x.clone(), weight.clone());
    b.rms_norm_backward(ops::RmsNormBackward {
        dx: &mut dx,
        dweight: Some(&mut dweight),
        dout: &dout,
        x: &x,
        weight: &weight,
        rstd: &rstd,
        n: N,
        d: D,
    });
    by_parts("rms_norm_backward dx", &dx, D, |first, count| {
        let (mut dx, part) =
            (rows(&x, D, first, count), |x: &[f32], width| rows(x, width, first, count));
        b.rms_norm_backward(ops::RmsNormBackward {
            dx: &mut dx,
            dweight: None,
            dout: &part(&dout, D),
            x: &part(&x, D),
            weight: &weight,
            rstd: &part(&rstd, 1),
            n: count,
            d: D,
        });
        dx
    });
    // A column of dweight depends on that column and on rstd alone.
    for column in 0..D {
        let part = |x: &[f32]| x.iter().skip(column).step_by(D).copied().collect::<Vec<f32>>();
        let (mut dx, mut one) = (b.zeros(N), vec![weight[column]]);
        b.rms_norm_backward(ops::RmsNormBackward {
            dx: &mut dx,
            dweight: Some(&mut one),
            dout: &part(&dout),
            x: &part(&x),
            weight: &vec![1.0],
            rstd: &rstd,
            n: N,
            d: 1,
        });
        assert_eq!(
            one[0].to_bits(),
            dweight[column].to_bits(),
            "rms_norm_backward dweight, column {column}"
        );
    }
}

#[test]
fn rows_normalised_with_their_mean_and_their_gradients() {
    let b = Cpu::<f32>::new();
    let (x, dout, weight, bias) =
        (input("x", N * D), input("dout", N * D), input("weight", D), input("bias", D));
    let run = |first, count| {
        let (mut out, mut mean, mut rstd) = (b.zeros(count * D), b.zeros(count), b.zeros(count));
        b.layer_norm(ops::LayerNorm {
            out: &mut out,
            mean: &mut mean,
            rstd: &mut rstd,
            x: &rows(&x, D, first, count),
            weight: &weight,
            bias: &bias,
            n: count,
            d: D,
            epsilon: 1e-5,
        });
        [out, mean, rstd]
    };
    let whole = run(0, N);
    for ((at, whole), width) in whole.iter().enumerate().zip([D, 1, 1]) {
        by_parts("layer_norm", whole, width, |first, count| run(first, count)[at].clone());
    }
    let [_, mean, rstd] = whole;
    let (mut dx, mut dweight, mut dbias) = (x.clone(), weight.clone(), bias.clone());
    b.layer_norm_backward(ops::LayerNormBackward {
        dx: &mut dx,
        dweight: Some(&mut dweight),
        dbias: Some(&mut dbias),
        dout: &dout,
        x: &x,
        weight: &weight,
        mean: &mean,
        rstd: &rstd,
        n: N,
        d: D,
    });
    by_parts("layer_norm_backward dx", &dx, D, |first, count| {
        let (mut dx, part) =
            (rows(&x, D, first, count), |x: &[f32], width| rows(x, width, first, count));
        b.layer_norm_backward(ops::LayerNormBackward {
            dx: &mut dx,
            dweight: None,
            dbias: None,
            dout: &part(&dout, D),
            x: &part(&x, D),
            weight: &weight,
            mean: &part(&mean, 1),
            rstd: &part(&rstd, 1),
            n: count,
            d: D,
        });
        dx
    });
    // A column of dweight and dbias depends on that column and on the rows' statistics alone.
    for column in 0..D {
        let part = |x: &[f32]| x.iter().skip(column).step_by(D).copied().collect::<Vec<f32>>();
        let (mut dx, mut one, mut other) = (b.zeros(N), vec![weight[column]], vec![bias[column]]);
        b.layer_norm_backward(ops::LayerNormBackward {
            dx: &mut dx,
            dweight: Some(&mut one),
            dbias: Some(&mut other),
            dout: &part(&dout),
            x: &part(&x),
            weight: &vec![1.0],
            mean: &mean,
            rstd: &rstd,
            n: N,
            d: 1,
        });
        assert_eq!(
            one[0].to_bits(),
            dweight[column].to_bits(),
            "layer_norm_backward dweight, column {column}"
        );
        assert_eq!(
            other[0].to_bits(),
            dbias[column].to_bits(),
            "layer_norm_backward dbias, column {column}"
        );
    }
}

#[test]
fn linear_layers_with_bias() {
    let b = Cpu::<f32>::new();
    let o = 95;
    let (x, w, bias, dout) =
        (input("x", N * D), input("w", o * D), input("bias", o), input("dout", N * o));
    let mut out = b.zeros(N * o);
    b.linear(ops::Linear { out: &mut out, x: &x, weight: &w, bias: Some(&bias), n: N, i: D, o });
    by_parts("linear", &out, o, |first, count| {
        let mut part = b.zeros(count * o);
        b.linear(ops::Linear {
            out: &mut part,
            x: &rows(&x, D, first, count),
            weight: &w,
            bias: Some(&bias),
            n: count,
            i: D,
            o,
        });
        part
    });
    let mut dx = x.clone();
    b.linear_backward_input(ops::LinearBackwardInput {
        dx: &mut dx,
        dout: &dout,
        weight: &w,
        n: N,
        i: D,
        o,
    });
    by_parts("linear_backward_input", &dx, D, |first, count| {
        let mut part = rows(&x, D, first, count);
        b.linear_backward_input(ops::LinearBackwardInput {
            dx: &mut part,
            dout: &rows(&dout, o, first, count),
            weight: &w,
            n: count,
            i: D,
            o,
        });
        part
    });
    let (mut dw, mut dbias, mut dw_parts, mut dbias_parts) =
        (w.clone(), bias.clone(), w.clone(), bias.clone());
    b.linear_backward_weight(ops::LinearBackwardWeight {
        dweight: &mut dw,
        dbias: Some(&mut dbias),
        dout: &dout,
        x: &x,
        n: N,
        i: D,
        o,
    });
    for (dout, x) in dout.chunks(PART * o).zip(x.chunks(PART * D)) {
        b.linear_backward_weight(ops::LinearBackwardWeight {
            dweight: &mut dw_parts,
            dbias: Some(&mut dbias_parts),
            dout: &dout.to_vec(),
            x: &x.to_vec(),
            n: x.len() / D,
            i: D,
            o,
        });
    }
    assert!(bits(&b, &dw_parts) == bits(&b, &dw), "dweight");
    assert!(bits(&b, &dbias_parts) == bits(&b, &dbias), "dbias");
}

#[test]
fn linear_layers_of_few_rows() {
    // Few beside the widths, but enough for the output to be transposed by several threads.
    let b = Cpu::<f32>::new();
    let (n, i, o) = (140, 200, 1000);
    let (x, w) = (input("x", n * i), input("w", o * i));
    let mut out = b.zeros(n * o);
    b.linear(ops::Linear { out: &mut out, x: &x, weight: &w, bias: None, n, i, o });
    by_parts("linear", &out, o, |first, count| {
        let mut part = b.zeros(count * o);
        b.linear(ops::Linear {
            out: &mut part,
            x: &rows(&x, i, first, count),
            weight: &w,
            bias: None,
            n: count,
            i,
            o,
        });
        part
    });
}

#[test]
fn rotated_rows() {
    let b = Cpu::<f32>::new();
    let (x, cos, sin, positions) =
        (input("x", N * D), input("cos", 50 * 4), input("sin", 50 * 4), below("positions", N, 50));
    let mut whole = x.clone();
    b.rotary(ops::Rotary {
        x: &mut whole,
        cos: &cos,
        sin: &sin,
        positions: &positions,
        heads: D / 8,
        channels: 8,
        rotated: 8,
        inverse: false,
    });
    by_parts("rotary", &whole, D, |first, count| {
        let mut part = rows(&x, D, first, count);
        b.rotary(ops::Rotary {
            x: &mut part,
            cos: &cos,
            sin: &sin,
            positions: &positions[first..first + count],
            heads: D / 8,
            channels: 8,
            rotated: 8,
            inverse: false,
        });
        part
    });
}

#[test]
fn activations_and_their_gradients() {
    let b = Cpu::<f32>::new();
    let (gate, up, dout) = (input("gate", N * D), input("up", N * D), input("dout", N * D));
    let run = |first, count| {
        let [gate, up, dout] = [&gate, &up, &dout].map(|x| rows(x, D, first, count));
        let (mut out, mut dgate, mut dup) =
            (b.zeros(count * D), b.zeros(count * D), b.zeros(count * D));
        b.swiglu(&mut out, &gate, &up);
        b.swiglu_backward(&mut dgate, &mut dup, &dout, &gate, &up);
        [out, dgate, dup]
    };
    for (at, whole) in run(0, N).iter().enumerate() {
        by_parts("swiglu", whole, D, |first, count| run(first, count)[at].clone());
    }
    for activation in [
        Activation::Relu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Silu,
        Activation::Tanh,
    ] {
        let run = |first, count| {
            let (mut out, mut dx) = (b.zeros(count * D), b.zeros(count * D));
            b.activation(&mut out, &rows(&gate, D, first, count), activation);
            b.activation_backward(
                &mut dx,
                &rows(&dout, D, first, count),
                &rows(&gate, D, first, count),
                activation,
            );
            [out, dx]
        };
        for (at, whole) in run(0, N).iter().enumerate() {
            by_parts(&format!("{activation:?}"), whole, D, |first, count| {
                run(first, count)[at].clone()
            });
        }
    }
}

#[test]
fn token_distributions_and_their_gradients() {
    let b = Cpu::<f32>::new();
    let (logits, targets, dlogprob) =
        (input("logits", N * D), below("targets", N, D), input("dlogprob", N));
    let run = |first, count| {
        let (logits, mut dlogits) = (rows(&logits, D, first, count), b.zeros(count * D));
        let mut dscores = b.zeros(count * D);
        let targets = &targets[first..first + count];
        let (mut logprob, mut lse, mut entropy) = (b.zeros(count), b.zeros(count), b.zeros(count));
        b.token_logprobs(ops::TokenLogprobs {
            logprob: &mut logprob,
            lse: &mut lse,
            entropy: &mut entropy,
            logits: &logits,
            targets,
            temperature: 0.8,
            v: D,
        });
        b.token_logprobs_backward(ops::TokenLogprobsBackward {
            dlogits: &mut dlogits,
            logits: &logits,
            dlogprob: &rows(&dlogprob, 1, first, count),
            lse: &lse,
            targets,
            temperature: 0.8,
            v: D,
        });
        b.token_scores_backward(ops::TokenScoresBackward {
            dlogits: &mut dscores,
            logits: &logits,
            dlogprob: &rows(&dlogprob, 1, first, count),
            dentropy: &logprob,
            lse: &lse,
            entropy: &entropy,
            targets,
            temperature: 0.8,
            v: D,
        });
        [dlogits, dscores, logprob, lse, entropy]
    };
    for ((at, whole), width) in run(0, N).iter().enumerate().zip([D, D, 1, 1, 1]) {
        by_parts("token_logprobs", whole, width, |first, count| run(first, count)[at].clone());
    }
}

#[test]
fn optimiser_steps() {
    let b = Cpu::<f32>::new();
    let step = AdamW {
        learning_rate: 0.1,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        step: 2,
        gradient_scale: 0.5,
    };
    let (weight, first, gradient) =
        (input("weight", N * D), input("first", N * D), input("gradient", N * D));
    let second: Vec<f32> = first.iter().map(|x| x * x).collect();
    let run = |start, count| {
        let [mut weight, mut first, mut second, gradient] =
            [&weight, &first, &second, &gradient].map(|x| rows(x, D, start, count));
        b.adamw(&mut weight, None, &mut first, &mut second, &gradient, step);
        [weight, first, second]
    };
    for (at, whole) in run(0, N).iter().enumerate() {
        by_parts("adamw", whole, D, |first, count| run(first, count)[at].clone());
    }
}
