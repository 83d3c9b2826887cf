//! Clipped losses of tokens: against formulas, differences, and themselves in parts.

use posttrain::backend::cpu::{Cpu, Number};
use posttrain::backend::prelude::*;
use posttrain::backend::{RATIO_SUMS, RatioLoss, SQUARE_SUMS, SquareLoss};

use super::{bits, check_gradient, close, dirty, normals, oracle};

/// Log-probabilities, old ones and advantages of `n` tokens, as single precision has them: most
/// ratios within any clip, some far beyond, some exactly 1.
pub fn ratios(n: usize) -> [Vec<f64>; 3] {
    let [old, moved, advantages] = ["old", "moved", "advantages"].map(|name| normals(name, n));
    let round = |x: f64| f64::from(x as f32);
    let old: Vec<f64> = old.iter().map(|x| round(-3.0 * x.abs())).collect();
    let moved = moved
        .iter()
        .enumerate()
        .map(|(i, x)| if i % 5 == 4 { 0.0 } else { x * [0.01, 0.1, 0.5, 3.0][i % 4] });
    [
        old.iter().zip(moved).map(|(old, moved)| round(old + moved)).collect(),
        old,
        advantages.into_iter().map(round).collect(),
    ]
}

/// Values, old ones and targets of `n` tokens.
pub fn values(n: usize) -> [Vec<f64>; 3] {
    let [old, moved, targets] =
        ["old values", "moved values", "targets"].map(|name| normals(name, n));
    let round = |x: f64| f64::from(x as f32);
    [
        old.iter().zip(moved).map(|(old, moved)| round(old + 0.4 * moved)).collect(),
        old.iter().map(|x| round(*x)).collect(),
        targets.into_iter().map(round).collect(),
    ]
}

/// The losses' forms: `count` is more than the tokens of a part.
pub fn ratio_losses(n: usize) -> [RatioLoss; 4] {
    let plain = RatioLoss { low: 0.2, high: 0.2, dual: None, count: n };
    [
        plain,
        RatioLoss { dual: Some(1.5), ..plain },
        RatioLoss { low: 0.05, high: 0.05, dual: Some(3.0), count: 7 * n + 1 },
        RatioLoss { low: 0.1, high: 0.4, dual: Some(2.0), ..plain },
    ]
}

pub fn square_losses(n: usize) -> [SquareLoss; 3] {
    let plain = SquareLoss { range: Some(0.2), coef: 1.0, count: n };
    [
        plain,
        SquareLoss { range: None, coef: 0.1, ..plain },
        SquareLoss { coef: 0.5, count: 3 * n + 2, ..plain },
    ]
}

/// The results for all tokens: gradients, and sums that begin at 0.
pub fn ratio<B: Backend>(
    b: &B,
    [logprob, old, advantage]: &[Vec<f64>; 3],
    loss: RatioLoss,
) -> (B::Buf, Vec<f64>) {
    let (mut dlogprob, mut sums) = (b.upload_wide(&vec![f32::NAN; old.len()]), b.sums(RATIO_SUMS));
    let [logprob, old, advantage] = [logprob, old, advantage].map(|x| b.upload_wide_f64(x));
    b.clipped_ratio_loss(&mut dlogprob, &mut sums, &logprob, &old, &advantage, loss);
    (dlogprob, b.download_sums(&sums))
}

pub fn square<B: Backend>(
    b: &B,
    [value, old, target]: &[Vec<f64>; 3],
    loss: SquareLoss,
) -> (B::Buf, Vec<f64>) {
    let (mut dvalue, mut sums) = (dirty(b, old.len()), b.sums(SQUARE_SUMS));
    let [value, old, target] = [value, old, target].map(|x| b.upload_wide_f64(x));
    b.clipped_square_loss(&mut dvalue, &mut sums, &value, &old, &target, loss);
    (dvalue, b.download_sums(&sums))
}

/// The clipped loss of one ratio by its cases.
fn ratio_formula(logprob: f64, old: f64, advantage: f64, loss: RatioLoss) -> f64 {
    let r = (logprob - old).exp();
    match loss.dual {
        _ if advantage >= 0.0 => -advantage * r.min(1.0 + loss.high),
        Some(dual) => -advantage * r.max(1.0 - loss.low).min(dual),
        None => -advantage * r.max(1.0 - loss.low),
    }
}

/// That of one value: the worse of two.
fn square_formula(value: f64, old: f64, target: f64, loss: SquareLoss) -> f64 {
    let held = loss.range.map_or(value, |range| value.clamp(old - range, old + range));
    0.5 * (value - target).abs().max((held - target).abs()).powi(2)
}

#[test]
fn sums_are_the_formulas() {
    for n in [1, 3, 512, 513, 1337] {
        let x = ratios(n);
        for loss in ratio_losses(n) {
            let each: Vec<f64> =
                (0..n).map(|i| ratio_formula(x[0][i], x[1][i], x[2][i], loss)).collect();
            let less_one: Vec<f64> = (0..n).map(|i| (x[0][i] - x[1][i]).exp() - 1.0).collect();
            // Where the clip decides, another ratio has the same loss.
            let clipped = (0..n).filter(|&i| {
                let r = 1.0 + less_one[i];
                if x[2][i] > 0.0 { r > 1.0 + loss.high } else { r < 1.0 - loss.low }
            });
            let squares = |of: &dyn Fn(usize) -> f64| (0..n).map(|i| of(i) * of(i)).sum::<f64>();
            let expected = [
                each.iter().sum(),
                squares(&|i| x[0][i] - x[1][i]),
                clipped.count() as f64,
                less_one.iter().sum(),
                squares(&|i| less_one[i]),
            ];
            for (at, (got, expected)) in
                ratio(&oracle(), &x, loss).1.iter().zip(expected).enumerate()
            {
                assert!(
                    (got - expected).abs() <= 1e-12 * (1.0 + expected.abs()),
                    "{n} {loss:?}: sum {at} is {got}, not {expected}"
                );
            }
        }
        let x = values(n);
        for loss in square_losses(n) {
            let expected: f64 =
                (0..n).map(|i| square_formula(x[0][i], x[1][i], x[2][i], loss)).sum();
            let free = SquareLoss { range: None, ..loss };
            let worse = (0..n).filter(|&i| {
                square_formula(x[0][i], x[1][i], x[2][i], loss)
                    > square_formula(x[0][i], x[1][i], x[2][i], free)
            });
            let (_, sums) = square(&oracle(), &x, loss);
            assert!(
                (sums[0] - expected).abs() <= 1e-12 * expected && sums[1] == worse.count() as f64,
                "{n} {loss:?}: {sums:?}"
            );
        }
    }
}

#[test]
fn gradients_are_the_slopes() {
    let n = 200;
    for loss in ratio_losses(n) {
        let mut x = ratios(n);
        // Away from kinks, where there is no slope: by more than the differences' steps reach.
        let kinks = [1.0 - loss.low, 1.0 + loss.high, loss.dual.unwrap_or(1.0)].map(f64::ln);
        let old = x[1].clone();
        let near = |new: f64, old: f64| kinks.iter().any(|kink| (new - old - kink).abs() < 1e-2);
        x[0].iter_mut()
            .zip(old)
            .filter(|(new, old)| near(**new, *old))
            .for_each(|(new, _)| *new += 2e-2);
        let (gradient, _) = ratio(&oracle(), &x, loss);
        assert!(gradient.contains(&0.0) && gradient.iter().any(|x| *x > 0.0));
        let gradient: Vec<f64> = gradient.iter().map(|x| x * loss.count as f64).collect();
        check_gradient(&format!("{loss:?}"), &gradient, &x[0], |logprob| {
            (0..n).map(|i| ratio_formula(logprob[i], x[1][i], x[2][i], loss)).sum()
        });
    }
    for loss in square_losses(n) {
        let mut x = values(n);
        let range = loss.range.unwrap_or(1e9);
        let (old, target) = (x[1].clone(), x[2].clone());
        for ((value, old), target) in x[0].iter_mut().zip(old).zip(target) {
            let held = value.clamp(old - range, old + range);
            let even = held != *value && (0.5 * (*value + held) - target).abs() < 1e-2;
            if even || ((*value - old).abs() - range).abs() < 1e-2 {
                *value += 3e-2;
            }
        }
        let (gradient, _) = square(&oracle(), &x, loss);
        assert!(loss.range.is_none() || gradient.contains(&0.0));
        let gradient: Vec<f64> =
            gradient.iter().map(|x| x * loss.count as f64 / loss.coef).collect();
        check_gradient(&format!("{loss:?}"), &gradient, &x[0], |value| {
            (0..n).map(|i| square_formula(value[i], x[1][i], x[2][i], loss)).sum()
        });
    }
}

#[test]
fn single_precision_rounds_gradients_alone() {
    let (n, b) = (777, Cpu::<f32>::new());
    for loss in ratio_losses(n) {
        let (got, expected) = (ratio(&b, &ratios(n), loss), ratio(&oracle(), &ratios(n), loss));
        assert_eq!(
            (got.1, bits(&b, &got.0)),
            (expected.1, expected.0.iter().map(|x| f64::from(*x as f32).to_bits()).collect())
        );
    }
    for loss in square_losses(n) {
        let (got, expected) = (square(&b, &values(n), loss), square(&oracle(), &values(n), loss));
        assert_eq!(
            (got.1, bits(&b, &got.0)),
            (expected.1, expected.0.iter().map(|x| f64::from(*x as f32).to_bits()).collect())
        );
    }
}

#[test]
fn parts_have_the_gradients_of_the_whole_and_go_on_with_its_sums() {
    fn check<T: Number>(b: &Cpu<T>)
    where
        Cpu<T>: Backend<Buf = Vec<T>, Sums = Vec<f64>>,
    {
        let n = 40;
        let (x, loss) = (ratios(n).map(|x| b.upload_f64(&x)), ratio_losses(n)[1]);
        let (mut whole, mut sums, mut in_parts, mut parts_sums) =
            (dirty(b, n), b.sums(RATIO_SUMS), Vec::new(), b.sums(RATIO_SUMS));
        b.clipped_ratio_loss(&mut whole, &mut sums, &x[0], &x[1], &x[2], loss);
        for range in [0..13, 13..13, 13..n] {
            let [logprob, old, advantage] = x.each_ref().map(|x| x[range.clone()].to_vec());
            let mut part = dirty(b, range.len());
            b.clipped_ratio_loss(&mut part, &mut parts_sums, &logprob, &old, &advantage, loss);
            in_parts.extend(part);
        }
        assert_eq!(bits(b, &in_parts), bits(b, &whole));
        close("sums", &parts_sums, &sums, 1e-14);
        let (mut entropy, numbers) = (b.sums(1), b.upload_f64(&normals("entropy", n)));
        b.add_sum(&mut entropy, &numbers);
        b.add_sum(&mut entropy, &numbers);
        close("sum", &entropy, &[2.0 * b.download_f64(&numbers).iter().sum::<f64>()], 1e-14);
    }
    check(&Cpu::<f32>::new());
    check(&Cpu::<f64>::new());
}

#[test]
fn what_is_not_a_number_stays_so() {
    let b = Cpu::<f32>::new();
    for loss in ratio_losses(3) {
        let (gradient, sums) =
            ratio(&b, &[vec![-1.0, f64::NAN, -2.0], vec![-1.0; 3], vec![1.0, -1.0, 0.5]], loss);
        assert!(
            gradient.iter().map(|x| x.is_nan()).eq([false, true, false])
                && sums[0].is_nan()
                && sums[1].is_nan()
        );
    }
    for loss in square_losses(3) {
        let (gradient, sums) =
            square(&b, &[vec![0.5, f64::NAN, 1.0], vec![0.0; 3], vec![1.0; 3]], loss);
        assert!(
            gradient.iter().map(|x| x.is_nan()).eq([false, true, false]) && sums[0].is_nan(),
            "{gradient:?}"
        );
    }
}

#[test]
fn no_tokens_are_fine() {
    let none = || [0; 3].map(|_| Vec::new());
    assert_eq!(ratio(&oracle(), &none(), ratio_losses(0)[0]), (vec![], vec![0.0; RATIO_SUMS]));
    assert_eq!(square(&oracle(), &none(), square_losses(0)[0]), (vec![], vec![0.0; SQUARE_SUMS]));
}

#[test]
#[should_panic(expected = "5 tokens are not a part of 4")]
fn more_tokens_than_the_update_has_are_refused() {
    ratio(&oracle(), &ratios(5), ratio_losses(4)[0]);
}

#[test]
#[should_panic(expected = "old [n]: 2 elements, not 3")]
fn inputs_of_other_lengths_are_refused() {
    let b = oracle();
    b.clipped_square_loss(
        &mut vec![0.0; 3],
        &mut vec![0.0; SQUARE_SUMS],
        &vec![0.0; 3],
        &vec![0.0; 2],
        &vec![0.0; 3],
        square_losses(3)[0],
    );
}
