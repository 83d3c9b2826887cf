//! The arithmetic of RLHF: pure functions on host slices, `f32` or `f64` in, accumulated in `f64`.
//! Knows no tensor, no back end, no file.
//!
//! Everything is ragged: a response is the slice of its own tokens, EOS included, so no padding or
//! prompt position can enter a mean, a variance, a loss or a metric. Functions that take one flat
//! slice (the losses) take the responses one after the other, in any split into micro-batches: they
//! take the token count of the whole update, so the split changes nothing.
//!
//! ```
//! // Generalised advantage estimation (Schulman et al. 2016) of one response of three tokens.
//! let (rewards, values) = ([0.0, 0.0, 1.0], [0.5, 0.5, 0.5]);
//! let advantages = posttrain_rl::advantage::gae(&rewards, &values, 1.0, 1.0);
//! assert_eq!(advantages, [0.5, 0.5, 0.5]);
//! ```

pub mod advantage;
pub mod compat;
pub mod critic_free;
pub mod direct;
pub mod diversity;
pub mod entropy;
pub mod group;
pub mod group_diversity;
pub mod kl;
pub mod kto;
pub mod policy_loss;
pub mod ppo;
pub mod preference;
pub mod rewards;
pub mod sentinels;

/// Figures under the names the field uses, in the order they are written.
pub type Metrics = Vec<(&'static str, f64)>;

/// `sum / count`, and 0 for a count of 0: a mean over nothing is 0 here, never NaN.
pub fn ratio_or_zero(sum: f64, count: usize) -> f64 {
    match count {
        0 => 0.0,
        _ => sum / count as f64,
    }
}
