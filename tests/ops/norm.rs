//! Root-mean-square normalisation.

use posttrain::backend::cpu::Cpu;
use posttrain::backend::ops;
use posttrain::backend::prelude::*;

use super::{bits, check_gradient, close, dirty, dot, normals, oracle};

const EPSILON: f64 = 1e-2;

fn formula(x: &[f64], weight: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let d = weight.len();
    let rstd: Vec<f64> = x
        .chunks(d)
        .map(|row| 1.0 / (row.iter().map(|x| x * x).sum::<f64>() / d as f64 + EPSILON).sqrt())
        .collect();
    let out = x.iter().enumerate().map(|(at, x)| x * rstd[at / d] * weight[at % d]).collect();
    (out, rstd)
}

#[test]
fn forward_is_the_formula() {
    let b = oracle();
    for (n, d) in [(1, 1), (2, 3), (5, 16), (4, 17), (3, 100)] {
        let (x, weight) = (normals("x", n * d), normals("weight", d));
        let (mut out, mut rstd) = (dirty(&b, n * d), dirty(&b, n));
        b.rms_norm(ops::RmsNorm {
            out: &mut out,
            rstd: &mut rstd,
            x: &x,
            weight: &weight,
            n,
            d,
            epsilon: EPSILON,
        });
        let (expected, expected_rstd) = formula(&x, &weight);
        close("out", &out, &expected, 1e-14);
        close("rstd", &rstd, &expected_rstd, 1e-14);
    }
}

#[test]
fn backward_adds_the_gradient_of_forward() {
    let b = oracle();
    let (n, d) = (3, 19);
    let (x, weight, dout) = (normals("x", n * d), normals("weight", d), normals("dout", n * d));
    let (mut out, mut rstd) = (b.zeros(n * d), b.zeros(n));
    b.rms_norm(ops::RmsNorm {
        out: &mut out,
        rstd: &mut rstd,
        x: &x,
        weight: &weight,
        n,
        d,
        epsilon: EPSILON,
    });
    let (start, start_weight) = (normals("start", n * d), normals("start weight", d));
    let (mut dx, mut dweight) = (start.clone(), start_weight.clone());
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
    let less = |x: &[f64], start: &[f64]| {
        x.iter().zip(start).map(|(x, start)| x - start).collect::<Vec<_>>()
    };
    check_gradient("dx", &less(&dx, &start), &x, |x| dot(&formula(x, &weight).0, &dout));
    check_gradient("dweight", &less(&dweight, &start_weight), &weight, |weight| {
        dot(&formula(&x, weight).0, &dout)
    });
}

#[test]
fn single_precision_is_close_to_double() {
    // A few roundings each; the backward pass subtracts a mean, which costs two more bits.
    let (n, d) = (20, 77);
    let (single, double) = (Cpu::<f32>::new(), oracle());
    let names = ["x", "dout", "weight"];
    let lens = [n * d, n * d, d];
    let inputs: Vec<Vec<f32>> =
        names.iter().zip(lens).map(|(name, len)| single.upload_f64(&normals(name, len))).collect();
    fn run<B: Backend>(b: &B, inputs: &[Vec<f32>], n: usize, d: usize) -> [Vec<f64>; 3] {
        let [x, dout, weight] = [0, 1, 2].map(|at| b.upload(&inputs[at]));
        let (mut out, mut rstd, mut dx, mut dweight) =
            (b.zeros(n * d), b.zeros(n), b.zeros(n * d), b.zeros(d));
        b.rms_norm(ops::RmsNorm {
            out: &mut out,
            rstd: &mut rstd,
            x: &x,
            weight: &weight,
            n,
            d,
            epsilon: EPSILON,
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
        [out, dx, dweight].map(|x| b.download_f64(&x))
    }
    for (got, expected) in run(&single, &inputs, n, d).iter().zip(run(&double, &inputs, n, d)) {
        close("rms_norm", got, &expected, 5e-7);
    }
}

#[test]
fn weight_gradients_of_two_halves_have_the_bits_of_the_whole() {
    let (n, d, cut) = (50, 33, 17);
    let b = Cpu::<f32>::new();
    let [x, dout, weight] = [("x", n * d), ("dout", n * d), ("weight", d)]
        .map(|(name, len)| b.upload_f64(&normals(name, len)));
    let (mut out, mut rstd) = (b.zeros(n * d), b.zeros(n));
    b.rms_norm(ops::RmsNorm {
        out: &mut out,
        rstd: &mut rstd,
        x: &x,
        weight: &weight,
        n,
        d,
        epsilon: EPSILON,
    });
    let (mut dx, mut whole) = (b.zeros(n * d), b.zeros(d));
    b.rms_norm_backward(ops::RmsNormBackward {
        dx: &mut dx,
        dweight: Some(&mut whole),
        dout: &dout,
        x: &x,
        weight: &weight,
        rstd: &rstd,
        n,
        d,
    });
    let mut halves = b.zeros(d);
    for rows in [0..cut, cut..n] {
        let part = |x: &[f32]| x[rows.start * d..rows.end * d].to_vec();
        let mut dx = b.zeros(rows.len() * d);
        let rstd = rstd[rows.clone()].to_vec();
        b.rms_norm_backward(ops::RmsNormBackward {
            dx: &mut dx,
            dweight: Some(&mut halves),
            dout: &part(&dout),
            x: &part(&x),
            weight: &weight,
            rstd: &rstd,
            n: rows.len(),
            d,
        });
    }
    assert_eq!(bits(&b, &halves), bits(&b, &whole));
}
