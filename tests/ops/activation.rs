//! Functions of one number, and SwiGLU.

use posttrain::backend::Activation;
use posttrain::backend::cpu::{Cache, Cpu, Number};
use posttrain::backend::prelude::*;

use super::{bits, check_gradient, close, dirty, dot, levels, normals, oracle};

const ALL: [Activation; 5] =
    [Activation::Relu, Activation::Gelu, Activation::GeluTanh, Activation::Silu, Activation::Tanh];

/// x, then value and derivative of gelu, its tanh form, silu and tanh, to 17 digits: made by
/// `special.py` with mpmath.
fn table() -> Vec<[f64; 9]> {
    let number = |text: &str| text.parse::<f64>().expect("golden numbers are numbers");
    let line = |line: &str| {
        line.split(' ')
            .map(number)
            .collect::<Vec<_>>()
            .try_into()
            .expect("golden lines have as many numbers")
    };
    include_str!("special.txt").lines().map(line).collect()
}

/// The columns of the table.
const COLUMNS: [(Activation, usize); 4] = [
    (Activation::Gelu, 1),
    (Activation::GeluTanh, 3),
    (Activation::Silu, 5),
    (Activation::Tanh, 7),
];

fn both<T: Number>(b: &Cpu<T>, x: &[T], activation: Activation) -> [Vec<T>; 2]
where
    Cpu<T>: Backend<Buf = Vec<T>, Cache = Cache<T>>,
{
    let (x, ones) = (x.to_vec(), vec![T::ONE; x.len()]);
    let (mut out, mut dx) = (dirty(b, x.len()), dirty(b, x.len()));
    b.activation(&mut out, &x, activation);
    b.activation_backward(&mut dx, &ones, &x, activation);
    [out, dx]
}

/// The greatest error over the table, in epsilons of the value. A value below `least` may also be
/// 0, or have fewer digits, as it is made of subnormal numbers; a derivative is compared relative
/// to its larger term, the value over x, since it has zeros itself.
fn worst<T: Number>(
    b: &Cpu<T>,
    (activation, column): (Activation, usize),
    epsilon: f64,
    least: f64,
) -> [f64; 2]
where
    Cpu<T>: Backend<Buf = Vec<T>, Cache = Cache<T>>,
{
    let table = table();
    let x: Vec<T> = table.iter().map(|line| T::from_f64(line[0])).collect();
    assert!(x.iter().zip(&table).all(|(x, line)| x.to_f64() == line[0]), "every x is exact");
    let got = both(b, &x, activation);
    [0, 1].map(|at| {
        let errors = table.iter().zip(&got[at]).map(|(line, got)| {
            let (exact, got) = (line[column + at], got.to_f64());
            let size = if at == 1 && line[0] != 0.0 {
                exact.abs().max((line[column] / line[0]).abs())
            } else {
                exact.abs()
            };
            let error = (got - exact).abs() / size.max(least) / epsilon;
            if got == 0.0 && size < least || got == exact { 0.0 } else { error }
        });
        errors.fold(0.0, |worst, error| if error <= worst { worst } else { error })
    })
}

#[test]
fn values_and_derivatives_keep_their_digits_over_the_whole_axis() {
    // The exponent of the tanh form is rounded, which exp multiplies by its size: at most 90 and
    // 710 before the value is 0. For gelu a factor corrects it.
    for (column, [single, double]) in
        COLUMNS.into_iter().zip([[3.0, 3.0], [60.0, 300.0], [3.0, 3.0], [3.0, 3.0]])
    {
        for (level, b) in levels() {
            let [out, dx] = worst(&b, column, f64::from(f32::EPSILON), 1e-36);
            assert!(
                out <= single && dx <= single,
                "{level:?} {column:?}: {out} and {dx} epsilons of f32"
            );
            let [out, dx] = worst(&Cpu::<f64>::with_level(level), column, f64::EPSILON, 1e-304);
            assert!(
                out <= double && dx <= double,
                "{level:?} {column:?}: {out} and {dx} epsilons of f64"
            );
        }
    }
}

#[test]
fn what_exceeds_the_range_is_the_limit() {
    fn check<T: Number>(b: &Cpu<T>, greatest: f64)
    where
        Cpu<T>: Backend<Buf = Vec<T>, Cache = Cache<T>>,
    {
        let x = [1e3, 1e19, 1e30, greatest, f64::INFINITY].map(T::from_f64);
        let minus = x.map(|x| -x);
        for activation in ALL {
            let [out, dx] = both(b, &x, activation);
            let bounded = activation == Activation::Tanh;
            assert!(
                out.iter().zip(&x).all(|(&out, &x)| out == if bounded { T::ONE } else { x }),
                "{activation:?}: {out:?}"
            );
            assert!(
                dx.iter().all(|&dx| dx == if bounded { T::ZERO } else { T::ONE }),
                "{activation:?}: {dx:?}"
            );
            let [out, dx] = both(b, &minus, activation);
            assert!(
                out.iter().all(|&out| out == if bounded { -T::ONE } else { T::ZERO }),
                "{activation:?}: {out:?}"
            );
            assert!(dx.iter().all(|&dx| dx == T::ZERO), "{activation:?}: {dx:?}");
        }
    }
    check(&Cpu::<f32>::new(), f64::from(f32::MAX));
    check(&oracle(), f64::MAX);
}

#[test]
fn what_is_not_a_number_stays_so_and_zero_is_zero() {
    for activation in ALL {
        let [out, dx] = both(&oracle(), &[f64::NAN, -f64::NAN], activation);
        assert!(out.iter().chain(&dx).all(|x| x.is_nan()), "{activation:?}");
        let [out, dx] = both(&Cpu::<f32>::new(), &[f32::NAN; 40], activation);
        assert!(out.iter().chain(&dx).all(|x| x.is_nan()), "{activation:?}");
        let [out, dx] = both(&oracle(), &[0.0, -0.0], activation);
        let slope = match activation {
            Activation::Relu => 0.0,
            Activation::Tanh => 1.0,
            _ => 0.5,
        };
        assert!(
            out == [0.0; 2] && dx.iter().all(|dx: &f64| (dx - slope).abs() <= f64::EPSILON),
            "{activation:?}: {out:?} {dx:?}"
        );
    }
}

#[test]
fn relu_is_the_positive_part() {
    let [out, dx] = both(&oracle(), &[-2.0, -1e-300, 1e-300, 3.0], Activation::Relu);
    assert_eq!((out, dx), (vec![0.0, 0.0, 1e-300, 3.0], vec![0.0, 0.0, 1.0, 1.0]));
}

#[test]
fn backward_is_the_gradient_of_forward() {
    let b = oracle();
    for activation in ALL {
        for n in [1, 15, 50] {
            // Away from 0, where the slope of relu jumps.
            let x: Vec<f64> = normals("x", n).iter().map(|x| x + 0.01 * x.signum()).collect();
            let dout = normals("dout", n);
            let mut dx = dirty(&b, n);
            b.activation_backward(&mut dx, &dout, &x, activation);
            check_gradient(&format!("{activation:?}"), &dx, &x, |x| {
                let mut out = dirty(&b, n);
                b.activation(&mut out, &x.to_vec(), activation);
                dot(&out, &dout)
            });
        }
    }
}

#[test]
fn single_precision_follows_double_between_the_points_of_the_table() {
    // As in the table, and a little more, as there are a thousand times as many.
    let x: Vec<f32> = (-100_000..100_000).map(|i| i as f32 * 1.3e-4 + 3e-6).collect();
    let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    for (activation, single) in [
        (Activation::Gelu, 4.0),
        (Activation::GeluTanh, 100.0),
        (Activation::Silu, 3.0),
        (Activation::Tanh, 3.0),
    ] {
        let [out, _] = both(&Cpu::<f32>::new(), &x, activation);
        let [exact, _] = both(&oracle(), &wide, activation);
        let off = out.iter().zip(&exact).map(|(&a, b)| {
            if a == 0.0 && b.abs() < 1e-36 { 0.0 } else { (f64::from(a) - b).abs() / b.abs() }
        });
        let worst = off.fold(0.0, |worst, off| if off <= worst { worst } else { off })
            / f64::from(f32::EPSILON);
        assert!(worst <= single, "{activation:?}: {worst} epsilons");
    }
}

#[test]
fn tanh_and_gelu_are_odd_in_their_bits_about_their_centres() {
    let x = normals("x", 500);
    let minus: Vec<f64> = x.iter().map(|x| -x).collect();
    let b = oracle();
    let ([plus, _], [negative, _]) =
        (both(&b, &x, Activation::Tanh), both(&b, &minus, Activation::Tanh));
    assert_eq!(bits(&b, &plus), bits(&b, &negative.iter().map(|x| -x).collect()));
    // Phi(x) + Phi(-x) = 1, and Phi rises.
    let ([plus, _], [negative, _]) =
        (both(&b, &x, Activation::Gelu), both(&b, &minus, Activation::Gelu));
    assert!(
        x.iter()
            .zip(plus.iter().zip(&negative))
            .all(|(x, (a, b))| (a / x - b / x - 1.0).abs() <= 4.0 * f64::EPSILON)
    );
}

fn formula(gate: &[f64], up: &[f64]) -> Vec<f64> {
    gate.iter().zip(up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect()
}

#[test]
fn forward_is_the_formula_and_backward_its_gradient() {
    let b = oracle();
    for n in [1, 15, 50] {
        let (gate, up, dout) = (normals("gate", n), normals("up", n), normals("dout", n));
        let mut out = dirty(&b, n);
        b.swiglu(&mut out, &gate, &up);
        close("out", &out, &formula(&gate, &up), 1e-15);
        let (mut dgate, mut dup) = (dirty(&b, n), dirty(&b, n));
        b.swiglu_backward(&mut dgate, &mut dup, &dout, &gate, &up);
        check_gradient("dgate", &dgate, &gate, |gate| dot(&formula(gate, &up), &dout));
        check_gradient("dup", &dup, &up, |up| dot(&formula(&gate, up), &dout));
    }
}

#[test]
fn single_precision_is_close_to_double() {
    // exp within two units in the last place, and four more roundings.
    let b = Cpu::<f32>::new();
    let n = 1000;
    let [gate, up, dout] = ["gate", "up", "dout"].map(|name| b.upload_f64(&normals(name, n)));
    let (mut out, mut dgate, mut dup) = (b.zeros(n), b.zeros(n), b.zeros(n));
    b.swiglu(&mut out, &gate, &up);
    b.swiglu_backward(&mut dgate, &mut dup, &dout, &gate, &up);
    let double = oracle();
    let [gate, up, dout] = [gate, up, dout].map(|x| double.upload(&x));
    let (mut dgate_expected, mut dup_expected) = (double.zeros(n), double.zeros(n));
    double.swiglu_backward(&mut dgate_expected, &mut dup_expected, &dout, &gate, &up);
    close("out", &b.download_f64(&out), &formula(&gate, &up), 3e-7);
    close("dgate", &b.download_f64(&dgate), &dgate_expected, 3e-7);
    close("dup", &b.download_f64(&dup), &dup_expected, 3e-7);
}

#[test]
fn great_magnitudes_neither_overflow_nor_become_nan() {
    let b = Cpu::<f32>::new();
    let gate = vec![-1e30, -200.0, -90.0, 0.0, 90.0, 200.0, 1e30];
    let one = vec![1.0; 7];
    let (mut out, mut dgate, mut dup) = (b.zeros(7), b.zeros(7), b.zeros(7));
    b.swiglu(&mut out, &gate, &one);
    b.swiglu_backward(&mut dgate, &mut dup, &one, &gate, &one);
    let expected = [0.0, 0.0, -90.0 * (-90.0f32).exp(), 0.0, 90.0, 200.0, 1e30];
    assert!(
        out.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-6 * b.abs().max(1e-30)),
        "{out:?}"
    );
    assert!(
        dgate.iter().zip([0.0, 0.0, 0.0, 0.5, 1.0, 1.0, 1.0]).all(|(a, b)| (a - b).abs() < 1e-6),
        "{dgate:?}"
    );
    assert!(dup.iter().zip(&out).all(|(a, b)| a == b));
}
