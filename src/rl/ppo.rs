//! Settings and statistics of PPO's losses. The losses are operations of the back end, so that
//! log-probabilities and values stay on their device: this file has their numbers only.
//!
//! 1. Losses are summed over the tokens given and divided by the token count of the WHOLE update
//!    batch, so neither micro-batching nor accumulation nor the order of responses changes a loss
//!    or a gradient.
//! 2. `policy/approxkl_avg` is 0.5 mean (new - old)^2. All statistics are over valid tokens only;
//!    TRL's own are over padded ones too.

use serde::{Deserialize, Serialize};

use super::sentinels::table::{FIRST_RATIO_ERROR, LOGPROB_GAP};
use super::{Metrics, ratio_or_zero};

/// How far the policy may go from the one that sampled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyClip {
    /// Largest distance of the probability ratio from 1.
    pub range: f64,
    /// Largest distance above 1, where it is another than below (clip-higher). `null` is `range`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
    /// Dual clip: for a negative advantage A the loss is at most this multiple of -A.
    pub dual: Option<f64>,
}

impl Default for PolicyClip {
    fn default() -> Self {
        PolicyClip { range: 0.2, high: None, dual: None }
    }
}

impl PolicyClip {
    /// Largest distance of the ratio above 1.
    pub fn upper(&self) -> f64 {
        self.high.unwrap_or(self.range)
    }
}

/// [`LOGPROB_GAP`] and [`FIRST_RATIO_ERROR`] of the first minibatch of a step, from its sums over
/// tokens of squared log-ratios and of ratios less 1. Nothing where every ratio is exactly 1, as it
/// is where sampling and scoring agree.
pub fn gaps(squared_log_ratio: f64, ratio_less_one: f64, tokens: usize) -> Metrics {
    if squared_log_ratio == 0.0 {
        return Vec::new();
    }
    let mean = |sum: f64| ratio_or_zero(sum, tokens);
    vec![
        (LOGPROB_GAP, mean(squared_log_ratio).sqrt()),
        (FIRST_RATIO_ERROR, mean(ratio_less_one).abs()),
    ]
}

/// Sums over tokens that the policy's metrics are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PolicyStatistics {
    tokens: usize,
    loss: f64,
    squared_log_ratio: f64,
    clipped: f64,
    // Around 1, where the sums keep their digits.
    ratio_less_one: f64,
    ratio_less_one_squared: f64,
}

impl PolicyStatistics {
    /// From the sums over `tokens`: the loss, (new - old)^2, 1 where the ratio was clipped, the
    /// ratio less 1, its square.
    pub fn new(tokens: usize, sums: [f64; 5]) -> Self {
        let [loss, squared_log_ratio, clipped, ratio_less_one, ratio_less_one_squared] = sums;
        PolicyStatistics {
            tokens,
            loss,
            squared_log_ratio,
            clipped,
            ratio_less_one,
            ratio_less_one_squared,
        }
    }

    /// `policy/approxkl_avg` of the tokens that came after `before` was noted; 0 of none.
    pub fn approximate_kl_since(&self, before: &PolicyStatistics) -> f64 {
        let squares = self.squared_log_ratio - before.squared_log_ratio;
        0.5 * ratio_or_zero(squares, self.tokens - before.tokens)
    }

    /// [`gaps`] of its tokens, where they are those of the first minibatch of a step.
    pub fn gaps(&self) -> Metrics {
        gaps(self.squared_log_ratio, self.ratio_less_one, self.tokens)
    }

    /// `policy/approxkl_avg`, `policy/clipfrac_avg`, `loss/policy_avg`, `val/ratio`,
    /// `val/ratio_var` (biased, over tokens: TRL's is between minibatch means). All 0, and the
    /// ratio 1, before any token.
    pub fn metrics(&self) -> Metrics {
        let mean = |sum: f64| ratio_or_zero(sum, self.tokens);
        let ratio = mean(self.ratio_less_one);
        vec![
            ("policy/approxkl_avg", 0.5 * mean(self.squared_log_ratio)),
            ("policy/clipfrac_avg", mean(self.clipped)),
            ("loss/policy_avg", mean(self.loss)),
            ("val/ratio", 1.0 + ratio),
            ("val/ratio_var", (mean(self.ratio_less_one_squared) - ratio * ratio).max(0.0)),
        ]
    }
}

/// When values, and the advantages and returns that follow from them, are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueFit {
    /// Once a step, before its first epoch.
    #[default]
    Once,
    /// Again before every later epoch, by the value function as it is then.
    EveryEpoch,
}

impl ValueFit {
    /// Whether it is the default.
    pub fn is_default(&self) -> bool {
        *self == ValueFit::default()
    }
}

/// How the value function is fitted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ValueClip {
    /// Largest distance of a value from that at sampling; `null` does not clip.
    pub range: Option<f64>,
    /// Weight of the value loss; the policy loss has 1.
    pub coef: f64,
}

impl Default for ValueClip {
    fn default() -> Self {
        ValueClip { range: Some(0.2), coef: 0.1 }
    }
}

/// Sums over tokens that the value function's metrics are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ValueStatistics {
    tokens: usize,
    loss: f64,
    clipped: f64,
}

impl ValueStatistics {
    /// From the sums over `tokens`: the loss without its coefficient, 1 where the value was
    /// clipped.
    pub fn new(tokens: usize, [loss, clipped]: [f64; 2]) -> Self {
        ValueStatistics { tokens, loss, clipped }
    }

    /// `loss/value_avg` (without the coefficient) and `val/clipfrac_avg`; 0 before any token.
    pub fn metrics(&self) -> Metrics {
        vec![
            ("loss/value_avg", ratio_or_zero(self.loss, self.tokens)),
            ("val/clipfrac_avg", ratio_or_zero(self.clipped, self.tokens)),
        ]
    }
}

/// Explained variance of the returns by the values that were predicted: 1 - Var(R - V) / Var(R); 0
/// where the returns do not vary.
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
