//! Losses of tokens, with their gradients and sums. Independent of models and of the source of
//! advantages and targets.
//!
//! 1. Everything is computed in double precision, for numbers of either precision, token by token;
//!    a gradient is rounded once.
//! 2. A sum continues from its old value, in the order of the tokens; the losses of one call are
//!    summed separately first.
//! 3. `exp` and `exp_m1` are the C library's: there are few tokens, and these are the only
//!    operations that call it.

use super::Cpu;
use super::number::Number;
use crate::{Losses, RatioLoss, SquareLoss};

in_both_precisions! {
    impl Losses for Cpu<T> {
        type Sums = Vec<f64>;

        fn sums(&self, len: usize) -> Vec<f64> {
            vec![0.0; len]
        }

        fn sums_len(&self, sums: &Vec<f64>) -> usize {
            sums.len()
        }

        fn download_sums(&self, sums: &Vec<f64>) -> Vec<f64> {
            sums.clone()
        }

        fn add_sum_unchecked(&self, sums: &mut Vec<f64>, x: &Vec<T>) {
            sums[0] += sum(x);
        }

        fn clipped_ratio_loss_unchecked(
            &self,
            dlogprob: &mut Vec<T>,
            sums: &mut Vec<f64>,
            logprob: &Vec<T>,
            old: &Vec<T>,
            advantage: &Vec<T>,
            loss: RatioLoss,
        ) {
            clipped_ratio(dlogprob, sums, logprob, old, advantage, loss);
        }

        fn clipped_square_loss_unchecked(
            &self,
            dvalue: &mut Vec<T>,
            sums: &mut Vec<f64>,
            value: &Vec<T>,
            old: &Vec<T>,
            target: &Vec<T>,
            loss: SquareLoss,
        ) {
            clipped_square(dvalue, sums, value, old, target, loss);
        }
    }
}

/// The clipped loss of ratios: see [`Losses::clipped_ratio_loss`].
fn clipped_ratio<T: Number>(
    dlogprob: &mut [T],
    sums: &mut [f64],
    logprob: &[T],
    old: &[T],
    advantage: &[T],
    loss: RatioLoss,
) {
    let RatioLoss { low, high, dual, count } = loss;
    let mut total = 0.0;
    for i in 0..dlogprob.len() {
        let log_ratio = logprob[i].to_f64() - old[i].to_f64();
        let advantage = advantage[i].to_f64();
        let ratio = log_ratio.exp();
        let free = -advantage * ratio;
        let held = -advantage * ratio.clamp(1.0 - low, 1.0 + high);
        let (mut loss, mut gradient) = if held > free { (held, 0.0) } else { (free, free) };
        if let Some(dual) = dual.filter(|dual| advantage < 0.0 && loss > -advantage * dual) {
            (loss, gradient) = (-advantage * dual, 0.0);
        }
        dlogprob[i] = T::from_f64(gradient / count as f64);
        total += loss;
        sums[1] += log_ratio * log_ratio;
        sums[2] += f64::from(u8::from(held > free));
        sums[3] += log_ratio.exp_m1();
        sums[4] += log_ratio.exp_m1() * log_ratio.exp_m1();
    }
    sums[0] += total;
}

/// The clipped loss of squares: see [`Losses::clipped_square_loss`].
fn clipped_square<T: Number>(
    dvalue: &mut [T],
    sums: &mut [f64],
    value: &[T],
    old: &[T],
    target: &[T],
    loss: SquareLoss,
) {
    let SquareLoss { range, coef, count } = loss;
    let range = range.unwrap_or(f64::INFINITY);
    let mut total = 0.0;
    for i in 0..dvalue.len() {
        let (value, old, target) = (value[i].to_f64(), old[i].to_f64(), target[i].to_f64());
        let free = value - target;
        let held = value.max(old - range).min(old + range) - target;
        let clipped = held * held > free * free;
        let (loss, gradient) =
            if clipped { (0.5 * held * held, 0.0) } else { (0.5 * free * free, free) };
        dvalue[i] = T::from_f64(coef * gradient / count as f64);
        total += loss;
        sums[1] += f64::from(u8::from(clipped));
    }
    sums[0] += total;
}

/// The sum of numbers, in double precision and in their order.
fn sum<T: Number>(x: &[T]) -> f64 {
    x.iter().map(|x| x.to_f64()).sum()
}
