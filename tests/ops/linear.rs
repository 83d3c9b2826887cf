//! The linear layer and its two backward products.

use posttrain::backend::cpu::{Cache, Cpu, Number};
use posttrain::backend::ops;
use posttrain::backend::prelude::*;
use posttrain::backend::{Activation, Epilogue, Projection};

use super::{bits, check_gradient, close, dirty, dot, levels, normals, oracle};

/// Rows, input and output widths around every edge of tiles, panels and blocks.
const SHAPES: [(usize, usize, usize); 23] = [
    (1, 1, 1),
    (1, 3, 2),
    (2, 16, 16),
    (3, 17, 5),
    (5, 4, 33),
    (7, 31, 15),
    (8, 32, 32),
    (9, 1050, 34),
    (9, 33, 31),
    (13, 1, 40),
    (15, 8, 1),
    (16, 64, 48),
    (17, 5, 47),
    (24, 65, 63),
    (25, 40, 1030),
    (31, 257, 9),
    (33, 300, 17),
    (40, 7, 129),
    (47, 100, 64),
    (48, 16, 96),
    (64, 513, 3),
    (300, 19, 21),
    (530, 10, 12),
];

/// The chain that the back end promises: ascending, fused, from `start`.
fn chain<T: Number>(start: T, depth: usize, a: impl Fn(usize) -> T, b: impl Fn(usize) -> T) -> T {
    (0..depth).fold(start, |sum, k| a(k).mul_add(b(k), sum))
}

fn inputs<T: Number>(name: &str, len: usize) -> Vec<T> {
    normals(name, len).into_iter().map(T::from_f64).collect()
}

#[track_caller]
fn same<T: Number>(what: &str, got: &[T], expected: &[T]) {
    let equal = got.iter().zip(expected).all(|(a, b)| a.to_f64().to_bits() == b.to_f64().to_bits());
    assert!(equal && got.len() == expected.len(), "{what}: bits differ from the scalar chain");
}

fn every_product_is_the_scalar_chain<T: Number>(b: &Cpu<T>, what: &str)
where
    Cpu<T>: Backend<Buf = Vec<T>, Cache = Cache<T>>,
{
    for (n, i, o) in SHAPES {
        let what = format!("{what}, n {n}, i {i}, o {o}");
        let (x, w, bias) =
            (inputs::<T>("x", n * i), inputs::<T>("w", o * i), inputs::<T>("bias", o));
        let (dout, dx, dw) =
            (inputs::<T>("dout", n * o), inputs::<T>("dx", n * i), inputs::<T>("dw", o * i));

        let plain: Vec<T> = (0..n * o)
            .map(|at| chain(T::ZERO, i, |k| x[at / o * i + k], |k| w[at % o * i + k]))
            .collect();
        let mut got = dirty(b, n * o);
        b.linear(ops::Linear { out: &mut got, x: &x, weight: &w, bias: None, n, i, o });
        same(&format!("{what}, linear"), &got, &plain);
        let biased: Vec<T> =
            plain.iter().enumerate().map(|(at, &sum)| sum + bias[at % o]).collect();
        b.linear(ops::Linear { out: &mut got, x: &x, weight: &w, bias: Some(&bias), n, i, o });
        same(&format!("{what}, linear with bias"), &got, &biased);

        let expected: Vec<T> = (0..n * i)
            .map(|at| chain(dx[at], o, |k| dout[at / i * o + k], |k| w[k * i + at % i]))
            .collect();
        let mut got = dx.clone();
        b.linear_backward_input(ops::LinearBackwardInput {
            dx: &mut got,
            dout: &dout,
            weight: &w,
            n,
            i,
            o,
        });
        same(&format!("{what}, backward input"), &got, &expected);

        let expected: Vec<T> = (0..o * i)
            .map(|at| chain(dw[at], n, |k| dout[k * o + at / i], |k| x[k * i + at % i]))
            .collect();
        let mut got = dw.clone();
        let mut dbias = bias.clone();
        b.linear_backward_weight(ops::LinearBackwardWeight {
            dweight: &mut got,
            dbias: Some(&mut dbias),
            dout: &dout,
            x: &x,
            n,
            i,
            o,
        });
        same(&format!("{what}, backward weight"), &got, &expected);
        let expected: Vec<T> =
            (0..o).map(|at| (0..n).fold(bias[at], |sum, k| sum + dout[k * o + at])).collect();
        same(&format!("{what}, backward bias"), &dbias, &expected);
    }
}

#[test]
fn products_in_single_precision_are_the_scalar_chain_bit_for_bit_on_every_instruction_set() {
    for (level, b) in levels() {
        every_product_is_the_scalar_chain(&b, &format!("{level:?}"));
    }
}

#[test]
fn products_in_double_precision_are_the_scalar_chain_bit_for_bit_on_every_instruction_set() {
    for (level, _) in levels() {
        every_product_is_the_scalar_chain(
            &Cpu::<f64>::with_level(level),
            &format!("{level:?} in f64"),
        );
    }
}

/// What follows a layer, against the operations one after the other.
fn what_follows_has_the_bits_of_operations_apart<T: Number>(b: &Cpu<T>)
where
    Cpu<T>: Backend<Buf = Vec<T>, Cache = Cache<T>>,
{
    for (n, i, o) in SHAPES {
        let what = format!("n {n}, i {i}, o {o}");
        let [x, w, bias, beside] = [("x", n * i), ("w", o * i), ("bias", o), ("beside", n * o)]
            .map(|(name, len)| inputs::<T>(name, len));
        let mut plain = dirty(b, n * o);
        b.linear(ops::Linear { out: &mut plain, x: &x, weight: &w, bias: Some(&bias), n, i, o });
        let [mut got, mut expected] = [0; 2].map(|_| dirty(b, n * o));
        b.linear_with(
            ops::Linear { out: &mut got, x: &x, weight: &w, bias: Some(&bias), n, i, o },
            Epilogue::Add(&beside),
        );
        same(
            &format!("{what}, residual"),
            &got,
            &plain.iter().zip(&beside).map(|(&x, &y)| x + y).collect::<Vec<T>>(),
        );
        for activation in [
            Activation::Relu,
            Activation::Gelu,
            Activation::GeluTanh,
            Activation::Silu,
            Activation::Tanh,
        ] {
            b.activation(&mut expected, &plain, activation);
            for keeps in [true, false] {
                let mut kept = dirty(b, n * o);
                let epilogue = Epilogue::Activate { kept: keeps.then_some(&mut kept), activation };
                b.linear_with(
                    ops::Linear { out: &mut got, x: &x, weight: &w, bias: Some(&bias), n, i, o },
                    epilogue,
                );
                same(&format!("{what}, {activation:?}, kept: {keeps}"), &got, &expected);
                if keeps {
                    same(&format!("{what}, {activation:?}"), &kept, &plain);
                }
            }
        }
        b.swiglu(&mut expected, &plain, &beside);
        for keeps in [true, false] {
            let mut kept = dirty(b, n * o);
            let epilogue = Epilogue::Gate { kept: keeps.then_some(&mut kept), up: &beside };
            b.linear_with(
                ops::Linear { out: &mut got, x: &x, weight: &w, bias: Some(&bias), n, i, o },
                epilogue,
            );
            same(&format!("{what}, gated, kept: {keeps}"), &got, &expected);
        }
        let [mut first, mut second] = [0; 2].map(|_| dirty(b, n * o));
        let mut layers = [
            Projection { out: &mut first, weight: &w, bias: Some(&bias), width: o },
            Projection { out: &mut second, weight: &w, bias: None, width: o },
        ];
        b.linears(&mut layers, &x, n, i);
        same(&format!("{what}, the first of several"), &first, &plain);
        b.linear(ops::Linear { out: &mut plain, x: &x, weight: &w, bias: None, n, i, o });
        same(&format!("{what}, the second of several"), &second, &plain);
        let (mut dx, mut added) = (dirty(b, n * i), b.zeros(n * i));
        b.linear_backward_input_first(ops::LinearBackwardInput {
            dx: &mut dx,
            dout: &beside,
            weight: &w,
            n,
            i,
            o,
        });
        b.linear_backward_input(ops::LinearBackwardInput {
            dx: &mut added,
            dout: &beside,
            weight: &w,
            n,
            i,
            o,
        });
        same(&format!("{what}, backward input"), &dx, &added);
    }
}

#[test]
fn what_follows_a_layer_in_one_pass_has_the_bits_of_operations_one_after_the_other() {
    what_follows_has_the_bits_of_operations_apart(&Cpu::<f32>::new());
    what_follows_has_the_bits_of_operations_apart(&oracle());
}

#[test]
#[should_panic(expected = "up [n,o]: 3 elements, not 2")]
fn a_gate_of_another_shape_is_refused() {
    let b = Cpu::<f32>::new();
    let epilogue = Epilogue::Gate { kept: None, up: &vec![0.0; 3] };
    b.linear_with(
        ops::Linear {
            out: &mut vec![0.0; 2],
            x: &vec![0.0; 3],
            weight: &vec![0.0; 6],
            bias: None,
            n: 1,
            i: 3,
            o: 2,
        },
        epilogue,
    );
}

#[test]
fn a_row_alone_gives_the_bits_it_gives_in_a_batch() {
    // 80 rows take the way of many rows, 1 and 20 that of few.
    let (n, i, o) = (80, 48, 72);
    let b = Cpu::<f32>::new();
    let (x, w) = (inputs::<f32>("x", n * i), inputs::<f32>("w", o * i));
    let mut whole = b.zeros(n * o);
    b.linear(ops::Linear { out: &mut whole, x: &x, weight: &w, bias: None, n, i, o });
    for rows in [1, 20] {
        for first in (0..n).step_by(rows) {
            let mut part = b.zeros(rows * o);
            b.linear(ops::Linear {
                out: &mut part,
                x: &x[first * i..(first + rows) * i].to_vec(),
                weight: &w,
                bias: None,
                n: rows,
                i,
                o,
            });
            same("rows alone", &part, &whole[first * o..(first + rows) * o]);
        }
    }
}

#[test]
fn weight_gradients_of_two_halves_have_the_bits_of_the_whole() {
    let (n, i, o) = (77, 20, 35);
    let b = Cpu::<f32>::new();
    let (x, dout) = (inputs::<f32>("x", n * i), inputs::<f32>("dout", n * o));
    let (mut whole, mut whole_bias) = (b.zeros(o * i), b.zeros(o));
    b.linear_backward_weight(ops::LinearBackwardWeight {
        dweight: &mut whole,
        dbias: Some(&mut whole_bias),
        dout: &dout,
        x: &x,
        n,
        i,
        o,
    });
    for cut in [1, 30, 76] {
        let (mut halves, mut bias) = (b.zeros(o * i), b.zeros(o));
        for (rows, x, dout) in
            [(cut, &x[..cut * i], &dout[..cut * o]), (n - cut, &x[cut * i..], &dout[cut * o..])]
        {
            b.linear_backward_weight(ops::LinearBackwardWeight {
                dweight: &mut halves,
                dbias: Some(&mut bias),
                dout: &dout.to_vec(),
                x: &x.to_vec(),
                n: rows,
                i,
                o,
            });
        }
        same("dweight", &halves, &whole);
        same("dbias", &bias, &whole_bias);
    }
}

#[test]
fn backward_is_the_gradient_of_forward() {
    let b = oracle();
    let (n, i, o) = (5, 7, 6);
    let (x, w, bias, dout) =
        (normals("x", n * i), normals("w", o * i), normals("bias", o), normals("dout", n * o));
    let loss = |x: &[f64], w: &[f64], bias: &[f64]| {
        let mut out = b.zeros(n * o);
        b.linear(ops::Linear {
            out: &mut out,
            x: &x.to_vec(),
            weight: &w.to_vec(),
            bias: Some(&bias.to_vec()),
            n,
            i,
            o,
        });
        dot(&out, &dout)
    };
    let (mut dx, mut dw, mut dbias) = (b.zeros(n * i), b.zeros(o * i), b.zeros(o));
    b.linear_backward_input(ops::LinearBackwardInput {
        dx: &mut dx,
        dout: &dout,
        weight: &w,
        n,
        i,
        o,
    });
    b.linear_backward_weight(ops::LinearBackwardWeight {
        dweight: &mut dw,
        dbias: Some(&mut dbias),
        dout: &dout,
        x: &x,
        n,
        i,
        o,
    });
    check_gradient("dx", &dx, &x, |x| loss(x, &w, &bias));
    check_gradient("dweight", &dw, &w, |w| loss(&x, w, &bias));
    check_gradient("dbias", &dbias, &bias, |bias| loss(&x, &w, bias));
}

#[test]
fn single_precision_is_close_to_double() {
    // Rounding of a chain of i = 300 terms grows like sqrt(i) half-units: 300^0.5 * 6e-8 = 1e-6.
    let (n, i, o) = (60, 300, 50);
    let (single, double) = (Cpu::<f32>::new(), oracle());
    let (x, w) = (inputs::<f32>("x", n * i), inputs::<f32>("w", o * i));
    let mut got = single.zeros(n * o);
    single.linear(ops::Linear { out: &mut got, x: &x, weight: &w, bias: None, n, i, o });
    let mut expected = double.zeros(n * o);
    double.linear(ops::Linear {
        out: &mut expected,
        x: &double.upload(&x),
        weight: &double.upload(&w),
        bias: None,
        n,
        i,
        o,
    });
    close("linear", &single.download_f64(&got), &expected, 1e-6);
}

#[test]
fn no_rows_and_no_depth_are_fine() {
    let b = Cpu::<f32>::new();
    let (mut none, mut dw) = (b.zeros(0), b.upload(&[1.0; 6]));
    b.linear(ops::Linear {
        out: &mut none,
        x: &vec![],
        weight: &vec![1.0; 6],
        bias: None,
        n: 0,
        i: 3,
        o: 2,
    });
    b.linear_backward_input(ops::LinearBackwardInput {
        dx: &mut none,
        dout: &vec![],
        weight: &vec![1.0; 6],
        n: 0,
        i: 3,
        o: 2,
    });
    let before = bits(&b, &dw);
    b.linear_backward_weight(ops::LinearBackwardWeight {
        dweight: &mut dw,
        dbias: None,
        dout: &vec![],
        x: &vec![],
        n: 0,
        i: 3,
        o: 2,
    });
    assert_eq!(bits(&b, &dw), before);
    let mut out = dirty(&b, 4);
    b.linear(ops::Linear {
        out: &mut out,
        x: &vec![],
        weight: &vec![],
        bias: None,
        n: 2,
        i: 0,
        o: 2,
    });
    assert_eq!(out, [0.0; 4]);
}

#[test]
#[should_panic(expected = "weight [o,i]: 5 elements, not 6")]
fn a_wrong_shape_is_refused() {
    let b = Cpu::<f32>::new();
    b.linear(ops::Linear {
        out: &mut vec![0.0; 2],
        x: &vec![0.0; 3],
        weight: &vec![0.0; 5],
        bias: None,
        n: 1,
        i: 3,
        o: 2,
    });
}
