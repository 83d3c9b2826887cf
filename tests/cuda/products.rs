//! The ways to multiply matrices: NVIDIA's library, emulated by its rules, against double
//! precision; what it may compute; what a wish means.

use posttrain::backend::DType;
use posttrain::backend::cuda::{Buf, Cuda, GemmRequest};
use posttrain::backend::ops;
use posttrain::backend::prelude::*;
use posttrain::error::{Kind, kind_of};
use posttrain::model::params::HeadKind;
use posttrain::sample::generate;

use super::emulated::{cuda, load, real};
use super::models::{options, specs};
use crate::model::{model, sequences};
use crate::ops::{bits, close, normals, oracle};

const SIZES: [(usize, usize, usize); 7] =
    [(1, 1, 1), (3, 5, 7), (64, 64, 64), (65, 33, 70), (7, 1, 140), (130, 24, 8), (2, 136, 72)];

/// The device with the library in this way; `None` where a real machine lacks the library.
fn multiplying(gemm: GemmRequest, kind: DType) -> Option<Cuda> {
    match cuda()?.storing(kind).multiplying(gemm) {
        Err(error) if real().is_some() && kind_of(&error) == Kind::Environment => {
            eprintln!("skipped: {error:#}");
            None
        }
        device => Some(device.unwrap()),
    }
}

/// Numbers that the device stores without rounding, as a stored or a wide buffer.
fn numbers(b: &Cuda, name: &str, len: usize, wide: bool) -> (Buf, Vec<f64>) {
    let narrow = b.sizes().is_narrow() && !wide;
    let host: Vec<f32> = normals(name, len)
        .into_iter()
        .map(|x| if narrow { half::bf16::from_f64(x).to_f32() } else { x as f32 })
        .collect();
    let buffer = if wide { b.upload_wide(&host) } else { b.upload(&host) };
    (buffer, host.into_iter().map(f64::from).collect())
}

/// What the three products give: `out`, `out` with a bias, `dx`, `dweight`, `dbias`; in double
/// precision too.
fn products(b: &Cuda, n: usize, i: usize, o: usize) -> Vec<(&'static str, Buf, Vec<f64>)> {
    let double = oracle();
    let [x, weight, bias, dout] = [("x", n * i), ("weight", o * i), ("bias", o), ("dout", n * o)]
        .map(|(name, len)| numbers(b, name, len, false));
    let dirty = |len| (b.upload(&vec![f32::NAN; len]), vec![f64::NAN; len]);
    let (mut out, mut biased, mut dx) =
        (dirty(n * o), dirty(n * o), numbers(b, "dx", n * i, false));
    let (mut dweight, mut dbias) =
        (numbers(b, "dweight", o * i, true), numbers(b, "dbias", o, true));
    b.linear(ops::Linear { out: &mut out.0, x: &x.0, weight: &weight.0, bias: None, n, i, o });
    double.linear(ops::Linear { out: &mut out.1, x: &x.1, weight: &weight.1, bias: None, n, i, o });
    b.linear(ops::Linear {
        out: &mut biased.0,
        x: &x.0,
        weight: &weight.0,
        bias: Some(&bias.0),
        n,
        i,
        o,
    });
    double.linear(ops::Linear {
        out: &mut biased.1,
        x: &x.1,
        weight: &weight.1,
        bias: Some(&bias.1),
        n,
        i,
        o,
    });
    b.linear_backward_input(ops::LinearBackwardInput {
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
    b.linear_backward_weight(ops::LinearBackwardWeight {
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
    [("out", out), ("biased", biased), ("dx", dx), ("dweight", dweight), ("dbias", dbias)]
        .map(|(name, (got, exact))| (name, got, exact))
        .into()
}

#[test]
fn products_of_the_library_agree_with_double_precision() {
    for kind in [DType::F32, DType::Bf16] {
        let Some(b) = multiplying(GemmRequest::CublasltAlone, kind) else { return };
        for (n, i, o) in SIZES {
            for (name, got, exact) in products(&b, n, i, o) {
                // What is stored in bf16 is rounded to 8 bits once.
                let tolerance = if got.kind() == DType::Bf16 { 5e-3 } else { 5e-6 };
                close(
                    &format!("{name} of {n} x {i} x {o} in {kind:?}"),
                    &b.download_f64(&got),
                    &exact,
                    tolerance,
                );
            }
        }
    }
}

#[test]
fn the_library_is_given_gradients_alone_and_they_are_the_same_from_run_to_run() {
    for kind in [DType::F32, DType::Bf16] {
        let Some(ours) = cuda().map(|b| b.storing(kind)) else { return };
        let Some(library) = multiplying(GemmRequest::Cublaslt, kind) else { return };
        let Some(again) = multiplying(GemmRequest::Cublaslt, kind) else { return };
        let mut others = 0;
        for (n, i, o) in SIZES {
            let got = [&ours, &library, &again].map(|b| {
                products(b, n, i, o)
                    .into_iter()
                    .map(|(name, x, _)| (name, bits(b, &x)))
                    .collect::<Vec<_>>()
            });
            let [ours, library, again] = got;
            assert_eq!(library, again, "{n} x {i} x {o} in {kind:?}");
            for ((name, ours), (_, library)) in ours.into_iter().zip(library) {
                match name {
                    "dx" | "dweight" => others += usize::from(ours != library),
                    _ => assert_eq!(ours, library, "{name} of {n} x {i} x {o} in {kind:?}"),
                }
            }
        }
        assert!(others > 0, "nothing shows that gradients come from the library");
    }
}

#[test]
fn samples_are_the_same_whatever_computes_gradients() {
    let Some(ours) = cuda() else { return };
    let Some(library) = multiplying(GemmRequest::Cublaslt, DType::F32) else { return };
    let spec = &specs()[0];
    let prompts = sequences(spec, &[1, 15]);
    let samples = [&ours, &library].map(|b| {
        generate(b, &model(b, spec, HeadKind::Language), &prompts, &options(), &mut |_, _| Ok(()))
            .unwrap()
    });
    assert!(samples[0] == samples[1]);
}

#[test]
fn the_class_names_what_decides_bits() {
    // On a real device nothing of the emulator is there.
    let Some(folder) = real().is_none().then(load).flatten() else { return };
    let class = |kind, gemm| Cuda::gemm_class(0, kind, gemm, &folder.join("kernels")).unwrap();
    assert_eq!(class(DType::Bf16, GemmRequest::Auto), " hopper attention hopper sm_90");
    assert_eq!(class(DType::Bf16, GemmRequest::Hopper), " hopper attention hopper sm_90");
    assert_eq!(class(DType::Bf16, GemmRequest::Plain), " plain sm_90");
    assert_eq!(
        class(DType::Bf16, GemmRequest::Cublaslt),
        " hopper attention hopper cublaslt 13.1.0 sm_90"
    );
    assert_eq!(
        [GemmRequest::Auto, GemmRequest::Plain, GemmRequest::Hopper]
            .map(|gemm| class(DType::F32, gemm)),
        ["", "", ""]
    );
    assert_eq!(class(DType::F32, GemmRequest::Cublaslt), " cublaslt 13.1.0 sm_90");
}
