//! SwiGLU.

use posttrain::backend::Backend;
use posttrain::backend::cpu::Cpu;

use super::{check_gradient, close, dirty, dot, normals, oracle};

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
    assert!(out.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-6 * b.abs().max(1e-30)), "{out:?}");
    assert!(dgate.iter().zip([0.0, 0.0, 0.0, 0.5, 1.0, 1.0, 1.0]).all(|(a, b)| (a - b).abs() < 1e-6), "{dgate:?}");
    assert!(dup.iter().zip(&out).all(|(a, b)| a == b));
}
