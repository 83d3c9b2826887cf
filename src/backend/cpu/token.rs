//! Log-probability, entropy and gradient of one token under a row of logits. Independent of the
//! meaning of a token.
//!
//! Of the scaled logits z = logits / T, with z' = z - max(z): S = sum exp(z'), lse = max + ln S,
//! logprob = z'_target - ln S and entropy = ln S - sum(exp(z') z') / S. A logit of minus infinity
//! has probability 0 and adds nothing; NaN makes the row NaN.

use super::Cpu;
use super::lanes;
use super::number::Number;
use super::simd::Simd;
use super::threads::{for_rows, matrix};
use crate::ops::{TokenLogprobs, TokenLogprobsBackward, TokenOps, TokenScoresBackward};

in_both_precisions! {
    impl TokenOps for Cpu<T> {
        fn token_logprobs_unchecked(&self, tokens: TokenLogprobs<'_, Vec<T>>) {
            logprobs(self.simd, tokens);
        }

        fn token_logprobs_backward_unchecked(&self, tokens: TokenLogprobsBackward<'_, Vec<T>>) {
            logprobs_backward(self.simd, tokens);
        }

        fn token_scores_backward_unchecked(&self, tokens: TokenScoresBackward<'_, Vec<T>>) {
            scores_backward(self.simd, tokens);
        }
    }
}

/// 1/T as every op on token distributions uses it.
pub fn inverse_temperature<T: Number>(temperature: f32) -> T {
    T::ONE / T::from_f32(temperature)
}

/// Elementary operations of one logit.
pub const WORK: usize = 6;

/// The softmax of one row: what all its log-probabilities are made from.
pub struct Softmax<T> {
    /// The greatest scaled logit.
    pub max: T,
    /// ln sum exp(z - max).
    pub log_sum: T,
    /// In nats.
    pub entropy: T,
}

impl<T: Number> Softmax<T> {
    /// From a row of logits and 1/T.
    #[inline(always)]
    pub fn of(logits: &[T], inverse_temperature: T) -> Self {
        let max = lanes::max(logits) * inverse_temperature;
        let (sum, weighted) = lanes::fold_pair(logits, |(sum, weighted), logit| {
            let z = logit * inverse_temperature - max;
            let e = z.exp();
            // exp(-inf) * -inf would be NaN.
            let finite = if e == T::ZERO { T::ZERO } else { z };
            (sum + e, e.mul_add(finite, weighted))
        });
        let log_sum = sum.ln();
        Softmax { max, log_sum, entropy: log_sum - weighted / sum }
    }

    /// Log-probability of a token from its logit and 1/T.
    #[inline(always)]
    pub fn logprob(&self, logit: T, inverse_temperature: T) -> T {
        (logit * inverse_temperature - self.max) - self.log_sum
    }
}

/// `logprob[m]`, `lse[m]`, `entropy[m]` of `targets[m]` under `logits[m,v]`.
fn logprobs<T: Number>(simd: Simd, tokens: TokenLogprobs<'_, Vec<T>>) {
    let TokenLogprobs { logprob, lse, entropy, logits, targets, temperature, v } = tokens;
    let inverse_temperature: T = inverse_temperature(temperature);
    let outputs = (matrix(logprob, 1), matrix(lse, 1), matrix(entropy, 1));
    for_rows(outputs, targets.len(), v * WORK, |first, (logprob, lse, entropy)| {
        let rows = logits[first * v..].chunks_exact(v).zip(&targets[first..]);
        for (m, (logits, &target)) in rows.take(lse.data.len()).enumerate() {
            let softmax = simd.run(
                #[inline(always)]
                || Softmax::of(logits, inverse_temperature),
            );
            logprob.data[m] = softmax.logprob(logits[target as usize], inverse_temperature);
            lse.data[m] = softmax.max + softmax.log_sum;
            entropy.data[m] = softmax.entropy;
        }
    });
}

/// `dlogits[m,v] = dlogprob[m] * (onehot(target) - softmax) / T`.
fn logprobs_backward<T: Number>(simd: Simd, tokens: TokenLogprobsBackward<'_, Vec<T>>) {
    let TokenLogprobsBackward { dlogits, logits, dlogprob, lse, targets, temperature, v } = tokens;
    let inverse_temperature: T = inverse_temperature(temperature);
    for_rows(matrix(dlogits, v), targets.len(), v * WORK, |first, dlogits| {
        for ((m, dlogits), logits) in
            (first..).zip(dlogits.data.chunks_exact_mut(v)).zip(logits[first * v..].chunks_exact(v))
        {
            let scale = dlogprob[m] * inverse_temperature;
            let target = targets[m] as usize;
            let at_target =
                scale * (T::ONE - (logits[target] * inverse_temperature - lse[m]).exp());
            simd.run(
                #[inline(always)]
                || {
                    dlogits.iter_mut().zip(logits).for_each(|(dx, x)| {
                        *dx = -scale * (*x * inverse_temperature - lse[m]).exp()
                    })
                },
            );
            dlogits[target] = at_target;
        }
    });
}

/// `dlogits[m,v] = (dlogprob[m] * (onehot(target) - p) - dentropy[m] * p (ln p + entropy[m])) / T`.
fn scores_backward<T: Number>(simd: Simd, tokens: TokenScoresBackward<'_, Vec<T>>) {
    let TokenScoresBackward { dlogits, logits, dlogprob, dentropy, lse, entropy, .. } = tokens;
    let TokenScoresBackward { targets, temperature, v, .. } = tokens;
    let inverse_temperature: T = inverse_temperature(temperature);
    for_rows(matrix(dlogits, v), targets.len(), v * WORK, |first, dlogits| {
        for ((m, dlogits), logits) in
            (first..).zip(dlogits.data.chunks_exact_mut(v)).zip(logits[first * v..].chunks_exact(v))
        {
            let (scale, spread) =
                (dlogprob[m] * inverse_temperature, dentropy[m] * inverse_temperature);
            // -p of what both gradients have in common: scale + spread (ln p + entropy).
            let gradient = |x: T| {
                let logprob = x * inverse_temperature - lse[m];
                let p = logprob.exp();
                // exp(-inf) * -inf would be NaN.
                let logprob = if p == T::ZERO { T::ZERO } else { logprob };
                -p * spread.mul_add(logprob + entropy[m], scale)
            };
            simd.run(
                #[inline(always)]
                || dlogits.iter_mut().zip(logits).for_each(|(dx, x)| *dx = gradient(*x)),
            );
            let target = targets[m] as usize;
            dlogits[target] = scale + gradient(logits[target]);
        }
    });
}
