//! Clipped losses of tokens on the emulated device: gradients and sums against double precision, in
//! both storage types, in every order of threads.

use posttrain::backend::DType;
use posttrain::backend::prelude::*;

use super::agree::{Agreement, agree};
use super::emulated::{cuda, cuda_bf16};
use super::launched::{Argument, Emulator, Options};
use crate::ops::loss::{ratio, ratio_losses, ratios, square, square_losses, values};
use crate::ops::{bits, close, normals};

use Argument::{At, Float, Size};

/// One, less than a warp, a block and not, more than a thread has at a time.
const TOKENS: [usize; 6] = [1, 3, 33, 512, 513, 1337];

#[test]
fn clipped_losses_agree() {
    for n in TOKENS {
        for loss in ratio_losses(n) {
            let x = ratios(n);
            // The exponential is off by two units in the last place, its product with the advantage
            // and their share of the count by one more each.
            agree!(format!("{n} {loss:?}"), Agreement::Within(6e-7), |b| {
                let (dlogprob, sums) = ratio(b, &x, loss);
                let sum = |at: usize| b.upload_wide_f64(&sums[at..=at]);
                let of = [sum(0), sum(1), sum(2), sum(3), sum(4)];
                ["loss", "squares", "clipped", "ratio", "ratio squared"]
                    .into_iter()
                    .zip(of)
                    .chain([("dlogprob", dlogprob)])
                    .collect()
            });
        }
        for loss in square_losses(n) {
            let x = values(n);
            agree!(format!("{n} {loss:?}"), Agreement::Within(3e-7), |b| {
                let (dvalue, sums) = square(b, &x, loss);
                let of = [&sums[..1], &sums[1..]].map(|sum| b.upload_wide_f64(sum));
                ["loss", "clipped"].into_iter().zip(of).chain([("dvalue", dvalue)]).collect()
            });
        }
        agree!(format!("{n}"), Agreement::Within(1e-7), |b| {
            let mut sums = b.sums(1);
            let x: Vec<f64> =
                normals("x", n).into_iter().map(|x| f64::from(x.abs() as f32)).collect();
            [&x[..], &x[..n / 2]]
                .into_iter()
                .for_each(|x| b.add_sum(&mut sums, &b.upload_wide_f64(x)));
            vec![("sum", b.upload_wide_f64(&b.download_sums(&sums)))]
        });
    }
}

#[test]
fn ratios_near_one_keep_their_digits_and_those_of_one_are_told_exactly() {
    let (n, loss) = (700, ratio_losses(700)[0]);
    let [_, old, advantage] = ratios(n);
    let near: Vec<f64> = old
        .iter()
        .zip(normals("near", n))
        .map(|(old, x)| f64::from((old + 1e-4 * x.abs()) as f32))
        .collect();
    let near = [near, old.clone(), advantage.clone()];
    agree!("near one", Agreement::Within(1e-6), |b| {
        let (_, sums) = ratio(b, &near, loss);
        ["ratio", "ratio squared"]
            .into_iter()
            .zip([&sums[3..4], &sums[4..]].map(|sum| b.upload_wide_f64(sum)))
            .collect()
    });
    let Some(b) = cuda() else { return };
    let (gradient, sums) = ratio(&b, &[old.clone(), old, advantage.clone()], loss);
    assert_eq!(sums[1..], [0.0; 4]);
    let expected: Vec<f32> =
        advantage.iter().map(|advantage| -*advantage as f32 / n as f32).collect();
    assert_eq!(b.download(&gradient), expected);
}

#[test]
fn a_gradient_of_values_is_stored_rounded_and_one_of_log_probabilities_is_wide() {
    let (Some(single), Some(stored)) = (cuda(), cuda_bf16()) else { return };
    let n = 600;
    for loss in square_losses(n) {
        let (wide, narrow) = (square(&single, &values(n), loss), square(&stored, &values(n), loss));
        let rounded: Vec<f32> = single
            .download(&wide.0)
            .into_iter()
            .map(|x| half::bf16::from_f32(x).to_f32())
            .collect();
        assert_eq!((stored.download(&narrow.0), narrow.1), (rounded, wide.1), "{loss:?}");
    }
    for loss in ratio_losses(n) {
        let [(one, ones), (other, others)] = [&single, &stored].map(|b| ratio(b, &ratios(n), loss));
        assert_eq!((bits(&single, &one), ones), (bits(&stored, &other), others), "{loss:?}");
    }
}

#[test]
fn the_order_of_threads_changes_no_bit() {
    let Some(e) = Emulator::open() else { return };
    let (n, x, y) = (1337, ratios(1337), values(1337));
    for kind in [DType::F32, DType::Bf16] {
        let [ratios, values] = [&x, &y].map(|x| x.each_ref().map(|x| e.numbers(DType::F32, x)));
        let mut first = None;
        for options in Options::ALL {
            let (dlogprob, dvalue) = (e.room(DType::F32, n), e.room(kind, n));
            let sums = [vec![0.5f64; 5], vec![-0.25; 2], vec![3.0]].map(|sums| e.plain(&sums));
            let launch = |kernel: &str, of: &[Argument<'_>]| {
                e.launch(kind, "loss", kernel, [1, 1, 1], 512, 0, options, of)
            };
            let [logprob, old, advantage] = &ratios;
            let set = [Float(0.8), Float(1.2), Float(1.5), Float(2000.0), Size(n)];
            let given = [At(&dlogprob), At(&sums[0]), At(logprob), At(old), At(advantage)];
            launch("clipped_ratio_loss", &given.into_iter().chain(set).collect::<Vec<_>>());
            let [value, old, target] = &values;
            let set = [Float(0.2), Float(0.1), Float(2000.0), Size(n)];
            let given = [At(&dvalue), At(&sums[1]), At(value), At(old), At(target)];
            launch("clipped_square_loss", &given.into_iter().chain(set).collect::<Vec<_>>());
            launch("add_sum", &[At(&sums[2]), At(logprob), Size(n)]);
            let [a, b, c] = [(&sums[0], 5), (&sums[1], 2), (&sums[2], 1)]
                .map(|(sums, len)| sums.read::<f64>(len));
            let got = [dlogprob.numbers(DType::F32, n), dvalue.numbers(kind, n), a, b, c];
            close("what was there is added to", &got[4], &[3.0 + x[0].iter().sum::<f64>()], 1e-12);
            assert!(got.iter().flatten().all(|x| x.is_finite()));
            let expected = first.get_or_insert_with(|| got.clone());
            assert!(got == *expected, "{kind:?} {options:?}");
        }
    }
}

#[test]
fn what_is_not_a_number_stays_so() {
    let Some(b) = cuda() else { return };
    for loss in ratio_losses(3) {
        let (gradient, sums) =
            ratio(&b, &[vec![-1.0, f64::NAN, -2.0], vec![-1.0; 3], vec![1.0, -1.0, 0.5]], loss);
        assert!(
            b.download(&gradient).iter().map(|x| x.is_nan()).eq([false, true, false])
                && sums[0].is_nan()
                && sums[1].is_nan()
        );
    }
    for loss in square_losses(3) {
        let (gradient, sums) =
            square(&b, &[vec![0.5, f64::NAN, 1.0], vec![0.0; 3], vec![1.0; 3]], loss);
        assert!(
            b.download(&gradient).iter().map(|x| x.is_nan()).eq([false, true, false])
                && sums[0].is_nan()
        );
    }
    assert_eq!(ratio(&b, &[0; 3].map(|_| Vec::new()), ratio_losses(0)[0]).1, [0.0; 5]);
}
