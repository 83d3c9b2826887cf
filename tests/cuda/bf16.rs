//! Operations on buffers stored in bf16, against double precision on the same rounded inputs. What
//! is stored in bf16 is off by its rounding; statistics and gradients of weights, which are float,
//! by little.

use posttrain::backend::DType;
use posttrain::backend::cpu::Cpu;
use posttrain::backend::cuda::{Buf, Cuda};
use posttrain::backend::ops;
use posttrain::backend::prelude::*;
use posttrain::backend::{Activation, Epilogue, Heads, Mask, Projection};

use super::emulated::cuda;
use super::recorded::record;
use crate::ops::{close, normals, oracle};

/// Half of the distance between numbers of 8 bits, and a little for what rounding inputs of sums
/// twice adds.
const STORED: f64 = 5e-3;
/// Sums in float of some hundred terms.
const SUMMED: f64 = 5e-6;

/// The same numbers, exact in bf16, on both back ends.
struct Pair<'a> {
    device: &'a Cuda,
    double: Cpu<f64>,
}

impl Pair<'_> {
    fn stored(&self, name: &str, len: usize) -> (Buf, Vec<f64>) {
        let host: Vec<f32> =
            normals(name, len).into_iter().map(|x| half::bf16::from_f64(x).to_f32()).collect();
        (self.device.upload_as(&host, DType::Bf16), self.double.upload(&host))
    }

    fn float(&self, name: &str, len: usize) -> (Buf, Vec<f64>) {
        let host: Vec<f32> = normals(name, len).into_iter().map(|x| x as f32).collect();
        (self.device.upload(&host), self.double.upload(&host))
    }

    /// Outputs that hold NaN.
    fn dirty(&self, len: usize, kind: DType) -> (Buf, Vec<f64>) {
        (self.device.upload_as(&vec![f32::NAN; len], kind), vec![f64::NAN; len])
    }

    fn close(&self, what: &str, (got, expected): &(Buf, Vec<f64>)) {
        let tolerance = if got.kind() == DType::Bf16 { STORED } else { SUMMED };
        let (suffix, got) = (got.kind().name(), self.device.download_f64(got));
        record(what, suffix, &got);
        close(what, &got, expected, tolerance);
    }
}

fn pair() -> Option<(Cuda, Cpu<f64>)> {
    Some((cuda()?, oracle()))
}

const SHAPES: [(usize, usize); 6] = [(1, 1), (3, 7), (9, 64), (2, 100), (17, 264), (70, 36)];

#[test]
fn rms_norms_agree() {
    let Some((device, double)) = pair() else { return };
    let on = Pair { device: &device, double };
    for (n, d) in SHAPES {
        let [x, dout, weight] =
            [("x", n * d), ("dout", n * d), ("weight", d)].map(|(name, len)| on.stored(name, len));
        let (mut out, mut rstd) = (on.dirty(n * d, DType::Bf16), on.dirty(n, DType::F32));
        let (mut dx, mut dweight) = (on.stored("start", n * d), on.float("dweight", d));
        device.rms_norm(ops::RmsNorm {
            out: &mut out.0,
            rstd: &mut rstd.0,
            x: &x.0,
            weight: &weight.0,
            n,
            d,
            epsilon: 1e-2,
        });
        double.rms_norm(ops::RmsNorm {
            out: &mut out.1,
            rstd: &mut rstd.1,
            x: &x.1,
            weight: &weight.1,
            n,
            d,
            epsilon: 1e-2,
        });
        device.rms_norm_backward(ops::RmsNormBackward {
            dx: &mut dx.0,
            dweight: Some(&mut dweight.0),
            dout: &dout.0,
            x: &x.0,
            weight: &weight.0,
            rstd: &rstd.0,
            n,
            d,
        });
        double.rms_norm_backward(ops::RmsNormBackward {
            dx: &mut dx.1,
            dweight: Some(&mut dweight.1),
            dout: &dout.1,
            x: &x.1,
            weight: &weight.1,
            rstd: &rstd.1,
            n,
            d,
        });
        for (what, pair) in
            [("rms out", &out), ("rms rstd", &rstd), ("rms dx", &dx), ("rms dweight", &dweight)]
        {
            on.close(&format!("{n} x {d}: {what}"), pair);
        }
        // In one pass or in two, the sum is stored, and the norm is of that.
        let [mut stream, mut apart, mut normed, mut expected] =
            ["x", "x", "out", "out"].map(|name| on.stored(name, n * d).0);
        let mut rstds = on.dirty(n, DType::F32).0;
        device.add(&mut apart, &dout.0);
        device.rms_norm_residual(ops::RmsNormResidual {
            out: &mut normed,
            rstd: &mut rstds,
            x: &mut stream,
            delta: &dout.0,
            weight: &weight.0,
            n,
            d,
            epsilon: 1e-2,
        });
        device.rms_norm(ops::RmsNorm {
            out: &mut expected,
            rstd: &mut rstd.0,
            x: &apart,
            weight: &weight.0,
            n,
            d,
            epsilon: 1e-2,
        });
        let all = |buffers: [&Buf; 4]| buffers.map(|x| device.download(x));
        assert_eq!(
            all([&stream, &normed, &rstds, &dout.0]),
            all([&apart, &expected, &rstd.0, &dout.0]),
            "{n} x {d}"
        );
    }
}

#[test]
fn layer_norms_agree() {
    let Some((device, double)) = pair() else { return };
    let on = Pair { device: &device, double };
    for (n, d) in SHAPES {
        let [x, dout, weight, bias] = [("x", n * d), ("dout", n * d), ("weight", d), ("bias", d)]
            .map(|(name, len)| on.stored(name, len));
        let (mut out, mut mean, mut rstd) =
            (on.dirty(n * d, DType::Bf16), on.dirty(n, DType::F32), on.dirty(n, DType::F32));
        let mut dbias = on.float("dbias", d);
        device.layer_norm(ops::LayerNorm {
            out: &mut out.0,
            mean: &mut mean.0,
            rstd: &mut rstd.0,
            x: &x.0,
            weight: &weight.0,
            bias: &bias.0,
            n,
            d,
            epsilon: 1e-2,
        });
        double.layer_norm(ops::LayerNorm {
            out: &mut out.1,
            mean: &mut mean.1,
            rstd: &mut rstd.1,
            x: &x.1,
            weight: &weight.1,
            bias: &bias.1,
            n,
            d,
            epsilon: 1e-2,
        });
        // In one pass or in two, the sum is stored, and the norm is of that.
        let [mut stream, mut apart, mut normed, mut expected] =
            ["x", "x", "out", "out"].map(|name| on.stored(name, n * d).0);
        let [mut means, mut rstds] = [0; 2].map(|_| on.dirty(n, DType::F32).0);
        device.add(&mut apart, &dout.0);
        let all = |buffers: [&Buf; 4]| buffers.map(|x| device.download(x));
        device.layer_norm_residual(ops::LayerNormResidual {
            out: &mut normed,
            mean: &mut means,
            rstd: &mut rstds,
            x: &mut stream,
            delta: &dout.0,
            weight: &weight.0,
            bias: &bias.0,
            n,
            d,
            epsilon: 1e-2,
        });
        let mut whole = [on.dirty(n, DType::F32).0, on.dirty(n, DType::F32).0];
        let [mean_apart, rstd_apart] = &mut whole;
        device.layer_norm(ops::LayerNorm {
            out: &mut expected,
            mean: mean_apart,
            rstd: rstd_apart,
            x: &apart,
            weight: &weight.0,
            bias: &bias.0,
            n,
            d,
            epsilon: 1e-2,
        });
        assert_eq!(
            all([&stream, &normed, &means, &rstds]),
            all([&apart, &expected, &*mean_apart, &*rstd_apart]),
            "{n} x {d}"
        );
        let (mut dx, mut dweight) = (on.stored("start", n * d), on.float("dweight", d));
        let (device_sums, double_sums) = (
            (Some(&mut dweight.0), Some(&mut dbias.0)),
            (Some(&mut dweight.1), Some(&mut dbias.1)),
        );
        device.layer_norm_backward(ops::LayerNormBackward {
            dx: &mut dx.0,
            dweight: device_sums.0,
            dbias: device_sums.1,
            dout: &dout.0,
            x: &x.0,
            weight: &weight.0,
            mean: &mean.0,
            rstd: &rstd.0,
            n,
            d,
        });
        double.layer_norm_backward(ops::LayerNormBackward {
            dx: &mut dx.1,
            dweight: double_sums.0,
            dbias: double_sums.1,
            dout: &dout.1,
            x: &x.1,
            weight: &weight.1,
            mean: &mean.1,
            rstd: &rstd.1,
            n,
            d,
        });
        for (what, pair) in [
            ("out", &out),
            ("mean", &mean),
            ("rstd", &rstd),
            ("dx", &dx),
            ("dweight", &dweight),
            ("dbias", &dbias),
        ] {
            on.close(&format!("{n} x {d}: {what}"), pair);
        }
    }
}

#[test]
fn rows_and_functions_of_one_number_agree() {
    let Some((device, double)) = pair() else { return };
    let on = Pair { device: &device, double };
    for (n, d) in SHAPES {
        let what = |name: &str| format!("{n} x {d}: {name}");
        let rows: Vec<u32> = (0..2 * n as u32).map(|row| row * row % n as u32).collect();
        let (x, mut gathered) = (on.stored("x", n * d), on.dirty(2 * n * d, DType::Bf16));
        device.gather_rows(&mut gathered.0, &x.0, &rows, d);
        double.gather_rows(&mut gathered.1, &x.1, &rows, d);
        on.close(&what("gathered"), &gathered);
        let (mut scattered, mut table) = (on.stored("start", n * d), on.float("table", n * d));
        device.scatter_add_rows(&mut scattered.0, &gathered.0, &rows, d);
        double.scatter_add_rows(&mut scattered.1, &gathered.1, &rows, d);
        device.embedding_backward(&mut table.0, &gathered.0, &rows, d);
        double.embedding_backward(&mut table.1, &gathered.1, &rows, d);
        on.close(&what("scattered"), &scattered);
        on.close(&what("table"), &table);
        let [gate, up, dout] = ["gate", "up", "dout"].map(|name| on.stored(name, n * d));
        let [mut out, mut dgate, mut dup] = [0; 3].map(|_| on.dirty(n * d, DType::Bf16));
        device.swiglu(&mut out.0, &gate.0, &up.0);
        double.swiglu(&mut out.1, &gate.1, &up.1);
        device.swiglu_backward(&mut dgate.0, &mut dup.0, &dout.0, &gate.0, &up.0);
        double.swiglu_backward(&mut dgate.1, &mut dup.1, &dout.1, &gate.1, &up.1);
        for (name, pair) in [("swiglu", &out), ("dgate", &dgate), ("dup", &dup)] {
            on.close(&what(name), pair);
        }
        for activation in [
            Activation::Relu,
            Activation::Gelu,
            Activation::GeluTanh,
            Activation::Silu,
            Activation::Tanh,
        ] {
            device.activation(&mut out.0, &gate.0, activation);
            double.activation(&mut out.1, &gate.1, activation);
            device.activation_backward(&mut dup.0, &dout.0, &gate.0, activation);
            double.activation_backward(&mut dup.1, &dout.1, &gate.1, activation);
            on.close(&what(&format!("{activation:?}")), &out);
            on.close(&what(&format!("{activation:?} backward")), &dup);
        }
        let (mut sum, mut squares) = (on.stored("sum", n * d), (0.0, 0.0));
        device.add(&mut sum.0, &x.0);
        double.add(&mut sum.1, &x.1);
        on.close(&what("sum"), &sum);
        (squares.0, squares.1) = (device.sum_squares(&x.0), double.sum_squares(&x.1));
        close(&what("squares"), &[squares.0], &[squares.1], 1e-12);
    }
}

#[test]
fn rotary_agrees() {
    let Some((device, double)) = pair() else { return };
    let on = Pair { device: &device, double };
    for (heads, c, r) in [(1, 2, 2), (3, 32, 8), (2, 7, 4)] {
        let (mut x, cos, sin) = (
            on.stored("x", 3 * heads * c),
            on.float("cos", 20 * r / 2),
            on.float("sin", 20 * r / 2),
        );
        device.rotary(ops::Rotary {
            x: &mut x.0,
            cos: &cos.0,
            sin: &sin.0,
            positions: &[0, 19, 7],
            heads,
            channels: c,
            rotated: r,
            inverse: false,
        });
        double.rotary(ops::Rotary {
            x: &mut x.1,
            cos: &cos.1,
            sin: &sin.1,
            positions: &[0, 19, 7],
            heads,
            channels: c,
            rotated: r,
            inverse: false,
        });
        on.close("rotary", &x);
        let (q, k) = (
            [on.stored("q", 6 * heads * c).0, on.stored("q", 6 * heads * c).0],
            [on.stored("k", 3 * heads * c).0, on.stored("k", 3 * heads * c).0],
        );
        let ([mut q, mut q_alone], [mut k, mut k_alone]) = (q, k);
        device.rotary_pair(ops::RotaryPair {
            q: &mut q,
            k: &mut k,
            cos: &cos.0,
            sin: &sin.0,
            positions: &[0, 19, 7],
            heads: Heads { query: 2 * heads, key_value: heads, channels: c },
            rotated: r,
            inverse: true,
        });
        device.rotary(ops::Rotary {
            x: &mut q_alone,
            cos: &cos.0,
            sin: &sin.0,
            positions: &[0, 19, 7],
            heads: 2 * heads,
            channels: c,
            rotated: r,
            inverse: true,
        });
        device.rotary(ops::Rotary {
            x: &mut k_alone,
            cos: &cos.0,
            sin: &sin.0,
            positions: &[0, 19, 7],
            heads,
            channels: c,
            rotated: r,
            inverse: true,
        });
        for (got, alone) in [(&q, &q_alone), (&k, &k_alone)] {
            assert_eq!(device.download(got), device.download(alone), "both at once");
        }
    }
}

#[test]
fn matrix_products_agree() {
    let Some((device, double)) = pair() else { return };
    let on = Pair { device: &device, double };
    let sizes = [
        (1, 1, 1),
        (3, 5, 7),
        (64, 64, 64),
        (65, 40, 72),
        (130, 24, 130),
        (1, 304, 16),
        (200, 17, 3),
        (40, 328, 200),
        (5, 1000, 16),
        (700, 16, 8),
    ];
    for (n, i, o) in sizes {
        let [x, weight, bias, dout] =
            [("x", n * i), ("weight", o * i), ("bias", o), ("dout", n * o)]
                .map(|(name, len)| on.stored(name, len));
        let (mut out, mut wide) = (on.dirty(n * o, DType::Bf16), on.dirty(n * o, DType::F32));
        device.linear(ops::Linear {
            out: &mut out.0,
            x: &x.0,
            weight: &weight.0,
            bias: Some(&bias.0),
            n,
            i,
            o,
        });
        double.linear(ops::Linear {
            out: &mut out.1,
            x: &x.1,
            weight: &weight.1,
            bias: Some(&bias.1),
            n,
            i,
            o,
        });
        device.linear(ops::Linear {
            out: &mut wide.0,
            x: &x.0,
            weight: &weight.0,
            bias: Some(&bias.0),
            n,
            i,
            o,
        });
        double.linear(ops::Linear {
            out: &mut wide.1,
            x: &x.1,
            weight: &weight.1,
            bias: Some(&bias.1),
            n,
            i,
            o,
        });
        let (mut dx, mut dweight, mut dbias) =
            (on.stored("dx", n * i), on.float("dweight", o * i), on.float("dbias", o));
        device.linear_backward_input(ops::LinearBackwardInput {
            dx: &mut dx.0,
            dout: &dout.0,
            weight: &weight.0,
            n,
            i,
            o,
        });
        double.linear_backward_input(ops::LinearBackwardInput {
            dx: &mut dx.1,
            dout: &dout.1,
            weight: &weight.1,
            n,
            i,
            o,
        });
        device.linear_backward_weight(ops::LinearBackwardWeight {
            dweight: &mut dweight.0,
            dbias: Some(&mut dbias.0),
            dout: &dout.0,
            x: &x.0,
            n,
            i,
            o,
        });
        double.linear_backward_weight(ops::LinearBackwardWeight {
            dweight: &mut dweight.1,
            dbias: Some(&mut dbias.1),
            dout: &dout.1,
            x: &x.1,
            n,
            i,
            o,
        });
        for (what, pair) in
            [("out", &out), ("wide", &wide), ("dx", &dx), ("dweight", &dweight), ("dbias", &dbias)]
        {
            on.close(&format!("{n} x {i} x {o}: {what}"), pair);
        }
    }
}

/// Few rows, a tile and a bit, several tiles; widths that whole pieces of 16 bytes make up, or not.
const LAYERS: [(usize, usize, usize); 7] = [
    (1, 304, 16),
    (3, 5, 7),
    (70, 9, 33),
    (17, 64, 64),
    (65, 40, 72),
    (130, 24, 130),
    (200, 16, 8),
];

#[test]
fn linear_layers_with_what_follows_agree_and_keep_or_not_with_the_same_bits() {
    let Some((device, double)) = pair() else { return };
    let on = Pair { device: &device, double };
    for (n, i, o) in LAYERS {
        let [x, weight, bias, beside] =
            [("x", n * i), ("weight", o * i), ("bias", o), ("beside", n * o)]
                .map(|(name, len)| on.stored(name, len));
        let [mut out, mut kept, mut alone, mut plain] =
            [0; 4].map(|_| on.dirty(n * o, DType::Bf16));
        device.linear(ops::Linear {
            out: &mut plain.0,
            x: &x.0,
            weight: &weight.0,
            bias: Some(&bias.0),
            n,
            i,
            o,
        });
        // Rounded once: as exact as what is stored can be, though the product alone has digits that
        // it lacks.
        device.linear_with(
            ops::Linear {
                out: &mut out.0,
                x: &x.0,
                weight: &weight.0,
                bias: Some(&bias.0),
                n,
                i,
                o,
            },
            Epilogue::Add(&beside.0),
        );
        double.linear_with(
            ops::Linear {
                out: &mut out.1,
                x: &x.1,
                weight: &weight.1,
                bias: Some(&bias.1),
                n,
                i,
                o,
            },
            Epilogue::Add(&beside.1),
        );
        on.close(&format!("{n} x {i} x {o}: added"), &out);
        for activation in [
            Activation::Relu,
            Activation::Gelu,
            Activation::GeluTanh,
            Activation::Silu,
            Activation::Tanh,
        ] {
            let what = format!("{n} x {i} x {o}: {activation:?}");
            let run = |out: &mut Buf, kept: Option<&mut Buf>| {
                device.linear_with(
                    ops::Linear { out, x: &x.0, weight: &weight.0, bias: Some(&bias.0), n, i, o },
                    Epilogue::Activate { kept, activation },
                );
            };
            run(&mut out.0, Some(&mut kept.0));
            run(&mut alone.0, None);
            // Of what is stored, so that a backward pass meets the number that the function was
            // applied to.
            let mut apart = on.dirty(n * o, DType::Bf16);
            device.activation(&mut apart.0, &plain.0, activation);
            for (got, expected) in [(&kept, &plain), (&out, &apart), (&alone, &apart)] {
                assert_eq!(device.download(&got.0), device.download(&expected.0), "{what}");
            }
            double.activation(&mut out.1, &device.download_f64(&plain.0), activation);
            on.close(&what, &out);
        }
        let mut apart = on.dirty(n * o, DType::Bf16);
        device.swiglu(&mut apart.0, &plain.0, &beside.0);
        for kept in [Some(&mut kept.0), None] {
            let keeps = kept.is_some();
            device.linear_with(
                ops::Linear {
                    out: &mut out.0,
                    x: &x.0,
                    weight: &weight.0,
                    bias: Some(&bias.0),
                    n,
                    i,
                    o,
                },
                Epilogue::Gate { kept, up: &beside.0 },
            );
            assert_eq!(
                device.download(&out.0),
                device.download(&apart.0),
                "{n} x {i} x {o}: gated, kept: {keeps}"
            );
        }
        assert_eq!(device.download(&kept.0), device.download(&plain.0), "{n} x {i} x {o}: gate");
    }
}

#[test]
fn layers_of_the_same_rows_and_gradients_from_nothing_have_their_own_bits() {
    let Some((device, double)) = pair() else { return };
    let on = Pair { device: &device, double };
    for (n, i, o) in LAYERS {
        let [x, weight, bias, dout] =
            [("x", n * i), ("weight", o * i), ("bias", o), ("dout", n * o)]
                .map(|(name, len)| on.stored(name, len).0);
        let [mut query, mut value, mut key, mut dx] =
            [n * o, n * o, n * n, n * i].map(|len| on.dirty(len, DType::Bf16).0);
        let mut layers = [
            Projection { out: &mut query, weight: &weight, bias: Some(&bias), width: o },
            Projection { out: &mut key, weight: &x, bias: None, width: n },
            Projection { out: &mut value, weight: &weight, bias: None, width: o },
        ];
        device.linears(&mut layers, &x, n, i);
        for (got, weight, bias, o) in
            [(&query, &weight, Some(&bias), o), (&key, &x, None, n), (&value, &weight, None, o)]
        {
            let mut alone = on.dirty(n * o, DType::Bf16).0;
            device.linear(ops::Linear { out: &mut alone, x: &x, weight, bias, n, i, o });
            assert_eq!(device.download(got), device.download(&alone), "{n} x {i} x {o}");
        }
        device.linear_backward_input_first(ops::LinearBackwardInput {
            dx: &mut dx,
            dout: &dout,
            weight: &weight,
            n,
            i,
            o,
        });
        let mut added = device.storing(DType::Bf16).zeros(n * i);
        device.linear_backward_input(ops::LinearBackwardInput {
            dx: &mut added,
            dout: &dout,
            weight: &weight,
            n,
            i,
            o,
        });
        assert_eq!(device.download(&dx), device.download(&added), "{n} x {i} x {o}: dx");
    }
}

#[test]
fn attention_agrees() {
    let Some((device, double)) = pair() else { return };
    let on = Pair { device: &device, double };
    // 80 and 96 channels: static and dynamic shared memory are above 48 KiB together, the dynamic
    // part alone is not.
    let cases: [(&[usize], [usize; 3]); 10] = [
        (&[0, 20], [2, 1, 80]),
        (&[0, 5, 22], [1, 1, 96]),
        (&[0, 3, 10], [2, 2, 4]),
        (&[0, 17, 18], [4, 2, 5]),
        (&[0, 33, 40], [3, 1, 33]),
        (&[0, 65, 195], [2, 1, 64]),
        (&[0, 20], [1, 1, 128]),
        (&[0, 70, 79], [2, 1, 133]),
        (&[0, 80], [2, 2, 160]),
        (&[0, 1, 67], [2, 1, 256]),
    ];
    for (starts, [query, key_value, channels]) in cases {
        let (n, heads) = (*starts.last().unwrap(), Heads { query, key_value, channels });
        for mask in
            [Mask::Causal { window: None }, Mask::Causal { window: Some(7) }, Mask::Bidirectional]
        {
            let [q, dout] = ["q", "dout"].map(|name| on.stored(name, n * query * channels));
            let [k, v] = ["k", "v"].map(|name| on.stored(name, n * key_value * channels));
            let (mut out, mut lse) =
                (on.dirty(n * query * channels, DType::Bf16), on.dirty(n * query, DType::F32));
            device.attention(ops::Attention {
                out: &mut out.0,
                lse: &mut lse.0,
                q: &q.0,
                k: &k.0,
                v: &v.0,
                starts,
                heads,
                mask,
            });
            double.attention(ops::Attention {
                out: &mut out.1,
                lse: &mut lse.1,
                q: &q.1,
                k: &k.1,
                v: &v.1,
                starts,
                heads,
                mask,
            });
            let [mut dq, mut dk, mut dv] = [query, key_value, key_value]
                .map(|heads| on.dirty(n * heads * channels, DType::Bf16));
            device.attention_backward(ops::AttentionBackward {
                dq: &mut dq.0,
                dk: &mut dk.0,
                dv: &mut dv.0,
                dout: &dout.0,
                out: &out.0,
                lse: &lse.0,
                q: &q.0,
                k: &k.0,
                v: &v.0,
                starts,
                heads,
                mask,
            });
            double.attention_backward(ops::AttentionBackward {
                dq: &mut dq.1,
                dk: &mut dk.1,
                dv: &mut dv.1,
                dout: &dout.1,
                out: &out.1,
                lse: &lse.1,
                q: &q.1,
                k: &k.1,
                v: &v.1,
                starts,
                heads,
                mask,
            });
            for (what, pair) in
                [("out", &out), ("lse", &lse), ("dq", &dq), ("dk", &dk), ("dv", &dv)]
            {
                // Weights are rounded to bf16 before they multiply values, and scores' gradients
                // before they multiply keys and queries.
                let got = device.download_f64(&pair.0);
                record(what, pair.0.kind().name(), &got);
                close(
                    &format!("{starts:?} {heads:?} {mask:?}: {what}"),
                    &got,
                    &pair.1,
                    4.0 * STORED,
                );
            }
        }
    }
}
