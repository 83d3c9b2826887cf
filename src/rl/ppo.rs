//! The losses of the policy and of the value function, per token, with their gradients and statistics. Knows no model: the inputs are the
//! tokens of any part of an update batch, one after the other.
//!
//! 1. Losses are summed over the tokens given and divided by the token count of the WHOLE update batch, so neither micro-batching nor
//!    accumulation nor the order of responses changes a loss or a gradient.
//! 2. Gradients are ADDED to their slices, so that several terms share one.
//! 3. Policy (Schulman et al. 2017, "Proximal policy optimization algorithms", eq. 7): max(-A r, -A clip(r, 1-e, 1+e)), r = e^(new - old).
//! 4. Dual clip (Ye et al. 2020, "Mastering complex control in MOBA games with deep RL", eq. 5): for A < 0, at most -A c.
//! 5. Value: 0.5 max((V - R)^2, (clip(V, old - e, old + e) - R)^2).
//! 6. Where a clip acts, the gradient is 0; on the kink itself it is that of the unclipped term.
//! 7. `policy/approxkl_avg` is 0.5 mean (new - old)^2. All statistics are over valid tokens only; TRL's own are over padded ones too.

use serde::{Deserialize, Serialize};

use super::kl::Kl;
use super::{Metrics, ratio_or_zero};

/// How far the policy may go from the one that sampled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyClip {
    /// The ratio is clipped to 1 minus and plus this.
    pub range: f64,
    /// For negative advantages the loss is at most this many times -A; must be above 1.
    pub dual: Option<f64>,
}

impl Default for PolicyClip {
    fn default() -> Self {
        PolicyClip { range: 0.2, dual: None }
    }
}

/// Sums over tokens that the policy's metrics are made of; those of micro-batches add up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PolicyStatistics {
    tokens: usize,
    loss: f64,
    squared_log_ratio: f64,
    clipped: usize,
    // Around 1, where the sums keep their digits.
    ratio_less_one: f64,
    ratio_less_one_squared: f64,
}

impl PolicyStatistics {
    /// `policy/approxkl_avg`, `policy/clipfrac_avg`, `loss/policy_avg`, `val/ratio`, `val/ratio_var` (biased, over tokens: TRL's is
    /// between minibatch means). All 0, and the ratio 1, before any token.
    pub fn metrics(&self) -> Metrics {
        let mean = |sum: f64| ratio_or_zero(sum, self.tokens);
        let ratio = mean(self.ratio_less_one);
        vec![
            ("policy/approxkl_avg", 0.5 * mean(self.squared_log_ratio)),
            ("policy/clipfrac_avg", mean(self.clipped as f64)),
            ("loss/policy_avg", mean(self.loss)),
            ("val/ratio", 1.0 + ratio),
            ("val/ratio_var", (mean(self.ratio_less_one_squared) - ratio * ratio).max(0.0)),
        ]
    }
}

/// The clipped policy loss of some tokens of an update batch of `tokens` tokens; all slices are of one length.
///
/// # Panics
/// If they are not.
pub fn policy_loss(
    dlog_probs: &mut [f32],
    statistics: &mut PolicyStatistics,
    log_probs: &[f32],
    old_log_probs: &[f32],
    advantages: &[f32],
    clip: &PolicyClip,
    tokens: usize,
) -> f64 {
    let n = log_probs.len();
    assert!(dlog_probs.len() == n && old_log_probs.len() == n && advantages.len() == n, "one of each a token");
    let mut sum = 0.0;
    for i in 0..n {
        let log_ratio = f64::from(log_probs[i]) - f64::from(old_log_probs[i]);
        let advantage = f64::from(advantages[i]);
        let ratio = log_ratio.exp();
        let free = -advantage * ratio;
        let held = -advantage * ratio.clamp(1.0 - clip.range, 1.0 + clip.range);
        let (mut loss, mut gradient) = if held > free { (held, 0.0) } else { (free, free) };
        if let Some(dual) = clip.dual.filter(|dual| advantage < 0.0 && loss > -advantage * dual) {
            (loss, gradient) = (-advantage * dual, 0.0);
        }
        dlog_probs[i] += ratio_or_zero(gradient, tokens) as f32;
        sum += loss;
        statistics.squared_log_ratio += log_ratio * log_ratio;
        statistics.clipped += usize::from(held > free);
        statistics.ratio_less_one += log_ratio.exp_m1();
        statistics.ratio_less_one_squared += log_ratio.exp_m1() * log_ratio.exp_m1();
    }
    statistics.tokens += n;
    statistics.loss += sum;
    ratio_or_zero(sum, tokens)
}

/// How the value function is fitted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ValueClip {
    /// A value is clipped to that at sampling minus and plus this; `None` fits it freely.
    pub range: Option<f64>,
    /// The weight of the value loss beside the policy loss.
    pub coef: f64,
}

impl Default for ValueClip {
    fn default() -> Self {
        ValueClip { range: Some(0.2), coef: 0.1 }
    }
}

/// Sums over tokens that the value function's metrics are made of; those of micro-batches add up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ValueStatistics {
    tokens: usize,
    loss: f64,
    clipped: usize,
}

impl ValueStatistics {
    /// `loss/value_avg` (without the coefficient) and `val/clipfrac_avg`; 0 before any token.
    pub fn metrics(&self) -> Metrics {
        vec![
            ("loss/value_avg", ratio_or_zero(self.loss, self.tokens)),
            ("val/clipfrac_avg", ratio_or_zero(self.clipped as f64, self.tokens)),
        ]
    }
}

/// The clipped value loss times its coefficient, for some tokens of an update batch of `tokens` tokens; all slices are of one length.
///
/// # Panics
/// If they are not.
pub fn value_loss(
    dvalues: &mut [f32],
    statistics: &mut ValueStatistics,
    values: &[f32],
    old_values: &[f32],
    returns: &[f32],
    clip: &ValueClip,
    tokens: usize,
) -> f64 {
    let n = values.len();
    assert!(dvalues.len() == n && old_values.len() == n && returns.len() == n, "one of each a token");
    let range = clip.range.unwrap_or(f64::INFINITY);
    let mut sum = 0.0;
    for i in 0..n {
        let (value, old, target) = (f64::from(values[i]), f64::from(old_values[i]), f64::from(returns[i]));
        let free = value - target;
        let held = value.max(old - range).min(old + range) - target;
        let clipped = held * held > free * free;
        let (loss, gradient) = if clipped { (0.5 * held * held, 0.0) } else { (0.5 * free * free, free) };
        dvalues[i] += ratio_or_zero(clip.coef * gradient, tokens) as f32;
        sum += loss;
        statistics.clipped += usize::from(clipped);
    }
    statistics.tokens += n;
    statistics.loss += sum;
    ratio_or_zero(clip.coef * sum, tokens)
}

/// REINFORCE: -A log p, for some tokens of an update batch of `tokens` tokens.
///
/// # Panics
/// If the slices differ in length.
pub fn reinforce_loss(dlog_probs: &mut [f32], log_probs: &[f32], advantages: &[f32], tokens: usize) -> f64 {
    assert!(dlog_probs.len() == log_probs.len() && advantages.len() == log_probs.len(), "one of each a token");
    let mut sum = 0.0;
    for ((dlog_prob, &log_prob), &advantage) in dlog_probs.iter_mut().zip(log_probs).zip(advantages) {
        *dlog_prob += ratio_or_zero(-f64::from(advantage), tokens) as f32;
        sum -= f64::from(advantage) * f64::from(log_prob);
    }
    ratio_or_zero(sum, tokens)
}

/// A KL penalty as a loss term (instead of in the reward): coef * KL, with the derivative of the estimate itself ([`Kl::gradient`]).
///
/// # Panics
/// If the slices differ in length.
pub fn kl_loss(dlog_probs: &mut [f32], log_probs: &[f32], reference: &[f32], kl: &Kl, coef: f64, tokens: usize) -> f64 {
    assert!(dlog_probs.len() == log_probs.len() && reference.len() == log_probs.len(), "one of each a token");
    let mut sum = 0.0;
    for ((dlog_prob, &log_prob), &reference) in dlog_probs.iter_mut().zip(log_probs).zip(reference) {
        let (log_prob, reference) = (f64::from(log_prob), f64::from(reference));
        *dlog_prob += ratio_or_zero(coef * kl.gradient(log_prob, reference), tokens) as f32;
        sum += kl.value(log_prob, reference);
    }
    ratio_or_zero(coef * sum, tokens)
}

/// Explained variance of the returns by the values that were predicted: 1 - Var(R - V) / Var(R); 0 where the returns do not vary.
///
/// # Panics
/// If there is not one value a return.
pub fn explained_variance(values: &[f32], returns: &[f32]) -> f64 {
    assert_eq!(values.len(), returns.len(), "one value a return");
    let squares = |of: &dyn Fn(usize) -> f64| {
        let mean = ratio_or_zero((0..returns.len()).map(of).sum(), returns.len());
        (0..returns.len()).map(|i| (of(i) - mean) * (of(i) - mean)).sum::<f64>()
    };
    let total = squares(&|i| f64::from(returns[i]));
    let left = squares(&|i| f64::from(returns[i]) - f64::from(values[i]));
    if total > 0.0 { 1.0 - left / total } else { 0.0 }
}
