//! Layer normalisation.

use posttrain::backend::cpu::Cpu;
use posttrain::backend::ops;
use posttrain::backend::prelude::*;

use super::{bits, check_gradient, close, dirty, dot, normals, oracle};

const EPSILON: f64 = 1e-2;

fn formula(x: &[f64], weight: &[f64], bias: &[f64], epsilon: f64) -> [Vec<f64>; 3] {
    let d = weight.len();
    let mean: Vec<f64> = x.chunks(d).map(|row| row.iter().sum::<f64>() / d as f64).collect();
    let variance = |(row, mean): (&[f64], &f64)| {
        row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / d as f64
    };
    let rstd: Vec<f64> =
        x.chunks(d).zip(&mean).map(|row| 1.0 / (variance(row) + epsilon).sqrt()).collect();
    let out = x
        .iter()
        .enumerate()
        .map(|(at, x)| (x - mean[at / d]) * rstd[at / d] * weight[at % d] + bias[at % d])
        .collect();
    [out, mean, rstd]
}

struct Case {
    x: Vec<f64>,
    weight: Vec<f64>,
    bias: Vec<f64>,
    dout: Vec<f64>,
    n: usize,
    d: usize,
}

fn case(n: usize, d: usize) -> Case {
    let [x, weight, bias, dout] = [("x", n * d), ("weight", d), ("bias", d), ("dout", n * d)]
        .map(|(name, len)| normals(name, len));
    Case { x, weight, bias, dout, n, d }
}

fn forward<B: Backend>(b: &B, case: &Case, epsilon: f64) -> [B::Buf; 3] {
    let Case { n, d, .. } = *case;
    let [x, weight, bias] = [&case.x, &case.weight, &case.bias].map(|x| b.upload_f64(x));
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
        epsilon,
    });
    [out, mean, rstd]
}

/// dx, dweight and dbias, added to `start`.
fn backward<B: Backend>(b: &B, case: &Case, start: [&[f64]; 3]) -> [B::Buf; 3] {
    let Case { n, d, .. } = *case;
    let [_, mean, rstd] = forward(b, case, EPSILON);
    let [x, weight, dout] = [&case.x, &case.weight, &case.dout].map(|x| b.upload_f64(x));
    let [mut dx, mut dweight, mut dbias] = start.map(|x| b.upload_f64(x));
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
    [dx, dweight, dbias]
}

#[test]
fn forward_is_the_formula() {
    for (n, d) in [(1, 1), (2, 3), (5, 16), (4, 17), (3, 100), (2, 768)] {
        let case = case(n, d);
        for (got, expected) in forward(&oracle(), &case, EPSILON).iter().zip(formula(
            &case.x,
            &case.weight,
            &case.bias,
            EPSILON,
        )) {
            close(&format!("{n} x {d}"), got, &expected, 1e-14);
        }
    }
}

#[test]
fn backward_adds_the_gradient_of_forward() {
    let case = case(3, 19);
    let Case { x, weight, bias, dout, .. } = &case;
    let start = [("start", 57), ("start weight", 19), ("start bias", 19)]
        .map(|(name, len)| normals(name, len));
    let got = backward(&oracle(), &case, [&start[0], &start[1], &start[2]]);
    let less =
        |at: usize| got[at].iter().zip(&start[at]).map(|(x, start)| x - start).collect::<Vec<_>>();
    let out =
        |x: &[f64], weight: &[f64], bias: &[f64]| dot(&formula(x, weight, bias, EPSILON)[0], dout);
    check_gradient("dx", &less(0), x, |x| out(x, weight, bias));
    check_gradient("dweight", &less(1), weight, |weight| out(x, weight, bias));
    check_gradient("dbias", &less(2), bias, |bias| out(x, weight, bias));
}

#[test]
fn single_precision_is_close_to_double() {
    // A few roundings each; the backward pass subtracts two means, which costs two more bits.
    let case = case(20, 77);
    let zeros: [&[f64]; 3] = [&[0.0; 20 * 77], &[0.0; 77], &[0.0; 77]];
    let (single, double) = (Cpu::<f32>::new(), oracle());
    for (got, expected) in
        forward(&single, &case, EPSILON).iter().zip(forward(&double, &case, EPSILON))
    {
        close("forward", &single.download_f64(got), &expected, 5e-7);
    }
    for (got, expected) in
        backward(&single, &case, zeros).iter().zip(backward(&double, &case, zeros))
    {
        close("backward", &single.download_f64(got), &expected, 1e-6);
    }
}

#[test]
fn a_mean_that_is_large_beside_the_deviations_costs_no_digits() {
    // Deviations in sixteenths around 1000, exact in single precision: the formula in double
    // precision has them all.
    let (n, d) = (4, 200);
    let x: Vec<f64> =
        normals("x", n * d).iter().map(|x| 1000.0 + (x * 16.0).round() / 16.0).collect();
    let case = Case { x, ..case(n, d) };
    let b = Cpu::<f32>::new();
    for (got, expected) in
        forward(&b, &case, 1e-5).iter().zip(formula(&case.x, &case.weight, &case.bias, 1e-5))
    {
        // The mean is rounded to 3e-5, a share of 3e-5 of the deviations.
        close("offset", &b.download_f64(got), &expected, 3e-5);
    }
    let double = oracle();
    for (got, expected) in
        forward(&double, &case, 1e-5).iter().zip(formula(&case.x, &case.weight, &case.bias, 1e-5))
    {
        close("offset", got, &expected, 1e-12);
    }
}

#[test]
fn equal_numbers_become_the_bias() {
    let case = Case { x: vec![3.25; 2 * 37], ..case(2, 37) };
    let [out, mean, rstd] = forward(&oracle(), &case, 1e-4);
    assert_eq!(out, [&case.bias[..], &case.bias[..]].concat());
    assert_eq!(mean, [3.25; 2]);
    close("rstd", &rstd, &[100.0; 2], 1e-15);
}

#[test]
fn weight_gradients_of_two_halves_have_the_bits_of_the_whole() {
    let (case, cut) = (case(50, 33), 17);
    let b = Cpu::<f32>::new();
    let zeros = vec![0.0; 50 * 33];
    let [_, dweight, dbias] = backward(&b, &case, [&zeros, &zeros[..33], &zeros[..33]]);
    let mut halves = [vec![0.0; 33], vec![0.0; 33]];
    for rows in [0..cut, cut..50] {
        let part = |x: &[f64]| x[rows.start * 33..rows.end * 33].to_vec();
        let half = Case {
            x: part(&case.x),
            dout: part(&case.dout),
            weight: case.weight.clone(),
            bias: case.bias.clone(),
            n: rows.len(),
            d: 33,
        };
        let [_, dweight, dbias] =
            backward(&b, &half, [&zeros[..rows.len() * 33], &halves[0], &halves[1]]);
        halves = [dweight, dbias].map(|x| b.download_f64(&x));
    }
    assert_eq!(bits(&b, &dweight), bits(&b, &b.upload_f64(&halves[0])));
    assert_eq!(bits(&b, &dbias), bits(&b, &b.upload_f64(&halves[1])));
}

#[test]
fn frozen_weights_and_biases_change_nothing_else() {
    let case = case(5, 20);
    let b = oracle();
    let [_, mean, rstd] = forward(&b, &case, EPSILON);
    let Case { x, weight, dout, n, d, .. } = &case;
    let run = |with_weight: bool, with_bias: bool| {
        let (mut dx, mut dweight, mut dbias) = (b.zeros(n * d), b.zeros(*d), b.zeros(*d));
        let (weights, biases) =
            (with_weight.then_some(&mut dweight), with_bias.then_some(&mut dbias));
        b.layer_norm_backward(ops::LayerNormBackward {
            dx: &mut dx,
            dweight: weights,
            dbias: biases,
            dout,
            x,
            weight,
            mean: &mean,
            rstd: &rstd,
            n: *n,
            d: *d,
        });
        [dx, dweight, dbias]
    };
    let [dx, dweight, dbias] = run(true, true);
    assert_eq!(run(false, true), [dx.clone(), vec![0.0; *d], dbias.clone()]);
    assert_eq!(run(true, false), [dx.clone(), dweight, vec![0.0; *d]]);
    assert_eq!(run(false, false), [dx, vec![0.0; *d], vec![0.0; *d]]);
}

#[test]
#[should_panic(expected = "bias [d]: 2 elements, not 3")]
fn a_bias_of_another_width_is_refused() {
    let mut case = case(1, 3);
    case.bias.pop();
    forward(&oracle(), &case, EPSILON);
}
