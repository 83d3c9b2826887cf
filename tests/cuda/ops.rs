//! Rows, norms, activations and the optimiser on the emulated device, with odd sizes, against the
//! double-precision back end; and against the single-precision one to the bit, where the order of
//! sums is the same. Outputs that are overwritten are NaN before.

use posttrain::backend::cpu::Cpu;
use posttrain::backend::ops;
use posttrain::backend::prelude::*;
use posttrain::backend::{Activation, AdamW, Heads};

use super::agree::{Agreement, agree, buffer, numbers};
use super::emulated::cuda;
use crate::ops::{below, dirty, normals};

/// One, less than a vector, a whole number of vectors and not, more than a warp's lanes have at a
/// time, one long row.
const SHAPES: [(usize, usize); 8] =
    [(1, 1), (3, 7), (9, 32), (2, 100), (17, 129), (5, 768), (1, 5000), (70, 36)];

#[test]
fn buffers_go_there_and_back() {
    let Some(b) = cuda() else { return };
    for len in [0, 1, 5, 1000] {
        let host: Vec<f32> = normals("x", len).into_iter().map(|x| x as f32).collect();
        assert_eq!(b.download(&b.upload(&host)), host);
        assert_eq!(b.download_f64(&b.upload_f64(&numbers("x", len))), numbers("x", len));
        assert_eq!((b.download(&b.zeros(len)), b.len(&b.zeros(len))), (vec![0.0; len], len));
    }
}

#[test]
fn whole_buffers_are_copied_filled_added_and_squared() {
    for len in [0, 1, 3, 1024, 4099, 70_000] {
        agree!(format!("{len}"), Agreement::Bits, |b| {
            let (mut copied, mut filled, mut added) =
                (dirty(b, len), dirty(b, len), buffer(b, "out", len));
            b.copy(&mut copied, &buffer(b, "x", len));
            b.fill(&mut filled, 0.1);
            b.add(&mut added, &buffer(b, "x", len));
            vec![("copy", copied), ("fill", b.upload(&b.download(&filled))), ("add", added)]
        });
        agree!(format!("{len}"), Agreement::Within(1e-7), |b| {
            vec![("sum of squares", b.upload_f64(&[b.sum_squares(&buffer(b, "x", len))]))]
        });
    }
    let Some(device) = cuda() else { return };
    let (x, single) = (buffer(&device, "x", 70_000), Cpu::<f32>::new());
    let (got, expected) =
        (device.sum_squares(&x), single.sum_squares(&single.upload(&device.download(&x))));
    assert!((got - expected).abs() <= 1e-13 * expected, "double precision: {got} and {expected}");
}

#[test]
fn rows_are_gathered_and_scattered_in_row_order() {
    for (n, d) in SHAPES {
        for m in [0, 1, 40] {
            let rows = below("rows", m, n);
            agree!(format!("{m} of {n} x {d}"), Agreement::Bits, |b| {
                let (mut gathered, mut looked_up) = (dirty(b, m * d), dirty(b, m * d));
                b.gather_rows(&mut gathered, &buffer(b, "x", n * d), &rows, d);
                b.embedding(&mut looked_up, &buffer(b, "x", n * d), &rows, d);
                let (mut scattered, mut table) =
                    (buffer(b, "start", n * d), buffer(b, "start", n * d));
                b.scatter_add_rows(&mut scattered, &buffer(b, "dout", m * d), &rows, d);
                b.embedding_backward(&mut table, &buffer(b, "dout", m * d), &rows, d);
                vec![
                    ("gathered", gathered),
                    ("looked up", looked_up),
                    ("scattered", scattered),
                    ("table", table),
                ]
            });
        }
    }
}

#[test]
fn rms_norm_agrees() {
    for (n, d) in SHAPES {
        agree!(format!("{n} x {d}"), Agreement::Within(2e-6), |b| {
            let [x, weight, dout] = [("x", n * d), ("weight", d), ("dout", n * d)]
                .map(|(name, len)| buffer(b, name, len));
            let (mut out, mut rstd) = (dirty(b, n * d), dirty(b, n));
            b.rms_norm(ops::RmsNorm {
                out: &mut out,
                rstd: &mut rstd,
                x: &x,
                weight: &weight,
                n,
                d,
                epsilon: 1e-3,
            });
            let (mut dx, mut dweight) = (buffer(b, "start", n * d), buffer(b, "weight start", d));
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
            let mut frozen = buffer(b, "start", n * d);
            b.rms_norm_backward(ops::RmsNormBackward {
                dx: &mut frozen,
                dweight: None,
                dout: &dout,
                x: &x,
                weight: &weight,
                rstd: &rstd,
                n,
                d,
            });
            let (mut stream, mut normed, mut normed_rstd) =
                (buffer(b, "x", n * d), dirty(b, n * d), dirty(b, n));
            b.rms_norm_residual(ops::RmsNormResidual {
                out: &mut normed,
                rstd: &mut normed_rstd,
                x: &mut stream,
                delta: &dout,
                weight: &weight,
                n,
                d,
                epsilon: 1e-3,
            });
            let sums = [
                ("stream", stream),
                ("normed stream", normed),
                ("rstd of the stream", normed_rstd),
            ];
            let mut all = vec![
                ("out", out),
                ("rstd", rstd),
                ("dx", dx),
                ("dweight", dweight),
                ("dx, frozen", frozen),
            ];
            all.extend(sums);
            all
        });
    }
}

#[test]
fn layer_norm_agrees() {
    for (n, d) in SHAPES {
        agree!(format!("{n} x {d}"), Agreement::Within(4e-6), |b| {
            let [x, weight, bias, dout] =
                [("x", n * d), ("weight", d), ("bias", d), ("dout", n * d)]
                    .map(|(name, len)| buffer(b, name, len));
            let (mut out, mut mean, mut rstd) = (dirty(b, n * d), dirty(b, n), dirty(b, n));
            b.layer_norm(ops::LayerNorm {
                out: &mut out,
                mean: &mut mean,
                rstd: &mut rstd,
                x: &x,
                weight: &weight,
                bias: &bias,
                n,
                d,
                epsilon: 1e-2,
            });
            let [mut dx, mut dweight, mut dbias] =
                [("start", n * d), ("b", d), ("c", d)].map(|(name, len)| buffer(b, name, len));
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
            let (mut stream, mut normed, mut normed_mean, mut normed_rstd) =
                (buffer(b, "x", n * d), dirty(b, n * d), dirty(b, n), dirty(b, n));
            b.layer_norm_residual(ops::LayerNormResidual {
                out: &mut normed,
                mean: &mut normed_mean,
                rstd: &mut normed_rstd,
                x: &mut stream,
                delta: &dout,
                weight: &weight,
                bias: &bias,
                n,
                d,
                epsilon: 1e-2,
            });
            let forward = [("out", out), ("mean", mean), ("rstd", rstd)];
            let sums = [
                ("stream", stream),
                ("normed stream", normed),
                ("its mean", normed_mean),
                ("its rstd", normed_rstd),
            ];
            forward
                .into_iter()
                .chain(sums)
                .chain([("dx", dx), ("dweight", dweight), ("dbias", dbias)])
                .collect()
        });
    }
}

#[test]
fn a_mean_that_is_large_beside_the_deviations_costs_no_digits() {
    let (n, d) = (4, 200);
    let x: Vec<f64> =
        normals("x", n * d).iter().map(|x| 1000.0 + (x * 16.0).round() / 16.0).collect();
    // The mean is rounded to 3e-5, a share of 3e-5 of the deviations.
    agree!("offset", Agreement::Within(3e-5), |b| {
        let (mut out, mut mean, mut rstd) = (dirty(b, n * d), dirty(b, n), dirty(b, n));
        let (weight, bias) = (buffer(b, "weight", d), buffer(b, "bias", d));
        b.layer_norm(ops::LayerNorm {
            out: &mut out,
            mean: &mut mean,
            rstd: &mut rstd,
            x: &b.upload_f64(&x),
            weight: &weight,
            bias: &bias,
            n,
            d,
            epsilon: 1e-5,
        });
        vec![("out", out), ("mean", mean), ("rstd", rstd)]
    });
}

#[test]
fn weight_gradients_of_two_halves_have_the_bits_of_the_whole() {
    let Some(b) = cuda() else { return };
    let (n, d, cut) = (50, 33, 17);
    let [x, dout, weight] =
        [("x", n * d), ("dout", n * d), ("weight", d)].map(|(name, len)| buffer(&b, name, len));
    let (mut out, mut mean, mut rstd) = (dirty(&b, n * d), dirty(&b, n), dirty(&b, n));
    b.layer_norm(ops::LayerNorm {
        out: &mut out,
        mean: &mut mean,
        rstd: &mut rstd,
        x: &x,
        weight: &weight,
        bias: &weight,
        n,
        d,
        epsilon: 1e-5,
    });
    let part = |x: &_, rows: &std::ops::Range<usize>, width: usize| {
        let host: Vec<f32> = b.download(x);
        b.upload(&host[rows.start * width..rows.end * width])
    };
    let (mut whole, mut halves) =
        ([b.zeros(d), b.zeros(d), b.zeros(d)], [b.zeros(d), b.zeros(d), b.zeros(d)]);
    for (sums, parts) in [(&mut whole, [(0, n), (n, n)]), (&mut halves, [(0, cut), (cut, n)])] {
        for (start, end) in parts {
            let (rows, n) = (start..end, end - start);
            let (mut dx, [a, b_, c]) = (b.zeros(n * d), &mut *sums);
            let (dout, x, mean, rstd) = (
                part(&dout, &rows, d),
                part(&x, &rows, d),
                part(&mean, &rows, 1),
                part(&rstd, &rows, 1),
            );
            b.layer_norm_backward(ops::LayerNormBackward {
                dx: &mut dx,
                dweight: Some(a),
                dbias: Some(b_),
                dout: &dout,
                x: &x,
                weight: &weight,
                mean: &mean,
                rstd: &rstd,
                n,
                d,
            });
            b.rms_norm_backward(ops::RmsNormBackward {
                dx: &mut dx,
                dweight: Some(c),
                dout: &dout,
                x: &x,
                weight: &weight,
                rstd: &rstd,
                n,
                d,
            });
        }
    }
    for (whole, halves) in whole.iter().zip(&halves) {
        assert_eq!(b.download(whole), b.download(halves));
    }
}

#[test]
fn rotary_has_the_bits_of_the_cpu_and_is_undone() {
    for (heads, c, r) in [(1, 2, 2), (2, 6, 6), (3, 32, 32), (2, 7, 4), (3, 32, 8), (1, 5, 2)] {
        let positions = [0, 1, 19, 7, 7];
        agree!(format!("{heads} x {c}, {r}"), Agreement::Bits, |b| {
            let [cos, sin] = ["cos", "sin"].map(|name| buffer(b, name, 20 * r / 2));
            let mut x = buffer(b, "x", positions.len() * heads * c);
            b.rotary(ops::Rotary {
                x: &mut x,
                cos: &cos,
                sin: &sin,
                positions: &positions,
                heads,
                channels: c,
                rotated: r,
                inverse: false,
            });
            let mut back = buffer(b, "x", positions.len() * heads * c);
            b.rotary(ops::Rotary {
                x: &mut back,
                cos: &cos,
                sin: &sin,
                positions: &positions,
                heads,
                channels: c,
                rotated: r,
                inverse: true,
            });
            let (mut q, mut k) = (
                buffer(b, "q", positions.len() * 2 * heads * c),
                buffer(b, "k", positions.len() * heads * c),
            );
            let both = Heads { query: 2 * heads, key_value: heads, channels: c };
            b.rotary_pair(ops::RotaryPair {
                q: &mut q,
                k: &mut k,
                cos: &cos,
                sin: &sin,
                positions: &positions,
                heads: both,
                rotated: r,
                inverse: true,
            });
            vec![("there", x), ("back", back), ("q", q), ("k", k)]
        });
    }
}

#[test]
fn activations_have_the_bits_of_the_cpu() {
    for activation in [
        Activation::Relu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Silu,
        Activation::Tanh,
    ] {
        for n in [0, 1, 1023, 5000] {
            // Among them what exceeds every range.
            let x: Vec<f64> = (0..n)
                .map(|i| {
                    if i < 100 {
                        f64::from((i as f32 - 50.0).powi(9))
                    } else {
                        (i as f64 - 2500.0) / 256.0
                    }
                })
                .collect();
            agree!(format!("{activation:?} of {n}"), Agreement::Bits, |b| {
                let x = b.upload_f64(&x);
                let (mut out, mut dx) = (dirty(b, n), dirty(b, n));
                b.activation(&mut out, &x, activation);
                b.activation_backward(&mut dx, &buffer(b, "dout", n), &x, activation);
                vec![("out", out), ("dx", dx)]
            });
        }
    }
}

#[test]
fn swiglu_has_the_bits_of_the_cpu() {
    for n in [0, 1, 1025] {
        agree!(format!("{n}"), Agreement::Bits, |b| {
            let [gate, up, dout] = ["gate", "up", "dout"].map(|name| buffer(b, name, n));
            let [mut out, mut dgate, mut dup] = [0; 3].map(|_| dirty(b, n));
            b.swiglu(&mut out, &gate, &up);
            b.swiglu_backward(&mut dgate, &mut dup, &dout, &gate, &up);
            vec![("out", out), ("dgate", dgate), ("dup", dup)]
        });
    }
}

#[test]
fn what_is_not_a_number_stays_so() {
    let Some(b) = cuda() else { return };
    let x = b.upload(&[f32::NAN; 7]);
    for activation in [
        Activation::Relu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Silu,
        Activation::Tanh,
    ] {
        let (mut out, mut dx) = (b.zeros(7), b.zeros(7));
        b.activation(&mut out, &x, activation);
        b.activation_backward(&mut dx, &b.upload(&[1.0; 7]), &x, activation);
        assert!(
            b.download(&out).iter().chain(&b.download(&dx)).all(|x| x.is_nan()),
            "{activation:?}"
        );
    }
}

#[test]
fn adamw_has_the_bits_of_the_cpu() {
    for len in [1, 300, 1025] {
        agree!(format!("{len}"), Agreement::Bits, |b| {
            let (mut weight, mut first, mut second) =
                (buffer(b, "weight", len), b.zeros(len), b.zeros(len));
            for step in 1..4 {
                let gradient = buffer(b, &format!("gradient {step}"), len);
                let adamw = AdamW {
                    learning_rate: 3e-2,
                    beta1: 0.9,
                    beta2: 0.95,
                    epsilon: 1e-8,
                    weight_decay: 0.1,
                    step,
                    gradient_scale: 0.5,
                };
                b.adamw(&mut weight, None, &mut first, &mut second, &gradient, adamw);
            }
            vec![("weight", weight), ("first", first), ("second", second)]
        });
    }
}
