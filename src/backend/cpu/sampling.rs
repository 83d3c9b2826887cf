//! Draws tokens from rows of logits. Independent of the source of the uniform numbers.
//!
//! 1. Inversion: the first token, in id order, whose cumulative probability exceeds the uniform
//!    number. Sums of exp(z - max) are in double precision, over blocks of 64 ids by lanes and over
//!    the blocks in order, so that a row costs one pass and one block.
//! 2. Truncation: tokens ranked by (logit descending, id ascending); top-k first, then the smallest
//!    prefix of what is left whose renormalised mass reaches top-p, at least one token, then what
//!    has min-p times the probability of the likeliest. What is kept is renormalised and drawn from
//!    in id order.
//! 3. Temperature 0: the greatest logit, the lowest id among equals; its log-probability at
//!    temperature 1 without truncation.
//! 4. A row without a finite greatest logit, or with NaN in it, has no distribution: [`NO_TOKEN`]
//!    and NaN.

use std::cmp::Ordering;

use super::Cpu;
use super::lanes;
use super::number::Number;
use super::scratch::Scratch;
use super::simd::Simd;
use super::threads::{for_rows, matrix};
use super::token::{Softmax, WORK, inverse_temperature};
use crate::ops::{NO_TOKEN, Sampling, SamplingOps};

in_both_precisions! {
    impl SamplingOps for Cpu<T> {
        fn sample_unchecked(
            &self,
            logits: &Vec<T>,
            uniforms: &[f64],
            sampling: Sampling,
            v: usize,
        ) -> (Vec<u32>, Vec<f32>) {
            sample(self.simd, logits, uniforms, sampling, v)
        }
    }
}

/// Ids in one block of the cumulative sum.
const IDS: usize = 64;

/// One token and its log-probability for each row of `logits[m,v]`.
fn sample<T: Number>(
    simd: Simd,
    logits: &[T],
    uniforms: &[f64],
    sampling: Sampling,
    v: usize,
) -> (Vec<u32>, Vec<f32>) {
    let m = uniforms.len();
    let (mut ids, mut logprobs) = (vec![0u32; m], vec![0.0f32; m]);
    let greedily = sampling.temperature == 0.0;
    let truncated = !greedily
        && ((sampling.top_k > 0 && sampling.top_k < v)
            || sampling.top_p < 1.0
            || sampling.min_p > 0.0);
    let inverse = if greedily { T::ONE } else { inverse_temperature::<T>(sampling.temperature) };
    for_rows(
        (matrix(&mut ids, 1), matrix(&mut logprobs, 1)),
        m,
        2 * v * WORK,
        |first, (ids, logprobs)| {
            let mut weights = Scratch::<T>::new(v);
            for (row, (id, logprob)) in (first..).zip(ids.data.iter_mut().zip(logprobs.data)) {
                let logits = &logits[row * v..][..v];
                let softmax = simd.run(
                    #[inline(always)]
                    || Softmax::of(logits, inverse),
                );
                if !(softmax.max + softmax.log_sum).to_f64().is_finite() {
                    (*id, *logprob) = (NO_TOKEN, f32::NAN);
                    continue;
                }
                if greedily {
                    *id = greedy(logits);
                } else {
                    simd.run(
                        #[inline(always)]
                        || {
                            for (weight, &logit) in weights.iter_mut().zip(logits) {
                                *weight = (logit * inverse - softmax.max).exp();
                            }
                        },
                    );
                }
                if truncated {
                    let (drawn, mass) = draw_truncated(logits, &weights, uniforms[row], sampling);
                    *id = drawn;
                    *logprob = ((logits[drawn as usize] * inverse - softmax.max).to_f64()
                        - mass.ln()) as f32;
                    continue;
                }
                if !greedily {
                    *id = simd.run(
                        #[inline(always)]
                        || invert(&weights, uniforms[row]),
                    );
                }
                *logprob = softmax.logprob(logits[*id as usize], inverse).to_f32();
            }
        },
    );
    (ids, logprobs)
}

fn greedy<T: Number>(logits: &[T]) -> u32 {
    let max = lanes::max(logits);
    logits.iter().position(|&x| x == max).expect("the maximum is one of the row") as u32
}

/// The first id at which the cumulative weight exceeds `uniform` of the whole.
#[inline(always)]
fn invert<T: Number>(weights: &[T], uniform: f64) -> u32 {
    let mut total = 0.0;
    for block in weights.chunks(IDS) {
        total += lanes::sum_f64(block);
    }
    let threshold = uniform * total;
    let mut before = 0.0;
    for (first, block) in (0..).step_by(IDS).zip(weights.chunks(IDS)) {
        let after = before + lanes::sum_f64(block);
        if after > threshold {
            let mut cumulative = before;
            let crossing = block.iter().position(|&weight| {
                cumulative += weight.to_f64();
                cumulative > threshold
            });
            // One by one, a block's sum can round to less than by lanes.
            return (first + crossing.unwrap_or_else(|| last_possible(block))) as u32;
        }
        before = after;
    }
    // The product above can round up to the total.
    last_possible(weights) as u32
}

/// The last index whose weight is not zero.
fn last_possible<T: Number>(weights: &[T]) -> usize {
    weights.iter().rposition(|&weight| weight > T::ZERO).expect("the likeliest token has weight 1")
}

/// The token drawn from what truncation keeps, and the weight of all that it keeps.
fn draw_truncated<T: Number>(
    logits: &[T],
    weights: &[T],
    uniform: f64,
    sampling: Sampling,
) -> (u32, f64) {
    let weight = |id: u32| weights[id as usize].to_f64();
    let rank = |&a: &u32, &b: &u32| {
        let (x, y) = (logits[a as usize], logits[b as usize]);
        y.partial_cmp(&x).expect("a row with NaN was refused").then(a.cmp(&b))
    };
    let mut kept: Vec<u32> = (0..logits.len() as u32).collect();
    if sampling.top_k > 0 && sampling.top_k < kept.len() {
        kept.select_nth_unstable_by(sampling.top_k - 1, rank);
        kept.truncate(sampling.top_k);
    }
    if sampling.top_p < 1.0 {
        keep_mass(&mut kept, f64::from(sampling.top_p), weight, rank);
    }
    // The likeliest token has weight 1, before and after what other rules took away.
    kept.retain(|&id| weight(id) >= f64::from(sampling.min_p));
    kept.sort_unstable();
    let total: f64 = kept.iter().map(|&id| weight(id)).sum();
    let mut cumulative = 0.0;
    let crossing = kept.iter().find(|&&id| {
        cumulative += weight(id);
        cumulative > uniform * total
    });
    let last = || kept.iter().rev().find(|&&id| weight(id) > 0.0);
    (*crossing.or_else(last).expect("the likeliest token is kept"), total)
}

/// Keeps the smallest prefix in rank order whose mass, as a share of all of `kept`, reaches
/// `share`; at least one token.
fn keep_mass(
    kept: &mut Vec<u32>,
    share: f64,
    weight: impl Fn(u32) -> f64,
    rank: impl Fn(&u32, &u32) -> Ordering,
) {
    kept.sort_unstable();
    let wanted = share * kept.iter().map(|&id| weight(id)).sum::<f64>();
    // Few tokens hold nearly all the mass, so ever longer prefixes are ranked until one holds
    // enough.
    let mut prefix = 64;
    loop {
        let len = prefix.min(kept.len());
        if len < kept.len() {
            kept.select_nth_unstable_by(len - 1, &rank);
        }
        kept[..len].sort_unstable_by(&rank);
        let mut mass = 0.0;
        let enough = kept[..len].iter().position(|&id| {
            mass += weight(id);
            mass >= wanted
        });
        if let Some(at) = enough {
            return kept.truncate(at + 1);
        }
        if len == kept.len() {
            return;
        }
        prefix *= 4;
    }
}
