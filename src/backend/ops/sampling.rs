//! Draws of tokens from rows of logits.

use crate::buffers::Buffers;
use crate::shapes::{divisor, length};

/// The id that [`SamplingOps::sample`] gives a row that nothing can be drawn from.
pub const NO_TOKEN: u32 = u32::MAX;

/// How the next token is drawn from logits. Log-probabilities are of this distribution: temperature
/// and truncation belong to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// 0 means greedy (the lowest id among equals), whose log-probability is taken at temperature 1
    /// without truncation.
    pub temperature: f32,
    /// Keep the k likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the smallest set of likeliest tokens whose mass reaches this; 1 keeps all.
    pub top_p: f32,
    /// Keep tokens whose probability is at least this multiple of the largest; 0 keeps all.
    pub min_p: f32,
}

impl Sampling {
    /// The likeliest token, always.
    pub const GREEDY: Sampling = Sampling::plain(0.0);

    /// The whole distribution at a temperature.
    pub const fn plain(temperature: f32) -> Self {
        Sampling { temperature, top_k: 0, top_p: 1.0, min_p: 0.0 }
    }
}

/// Panics unless tokens can be drawn like this.
#[track_caller]
fn assert_drawable(uniforms: &[f64], sampling: Sampling, v: usize) {
    assert!(v > 0, "there is no token to sample");
    assert!(
        uniforms.iter().all(|u| (0.0..1.0).contains(u)),
        "uniform numbers must be in [0, 1): {uniforms:?}"
    );
    assert!(
        sampling.top_p > 0.0 && sampling.top_p <= 1.0,
        "top_p {} is not in (0, 1]",
        sampling.top_p
    );
    if sampling.temperature != 0.0 {
        divisor(sampling.temperature);
    }
}

/// Draws of tokens.
pub trait SamplingOps: Buffers {
    /// Draws one token a row of `logits[m,v]` by inversion: the first token, in id order, whose
    /// cumulative probability exceeds `uniforms[m]`. Returns ids and their log-probabilities;
    /// without truncation these equal [`super::TokenOps::token_logprobs`]'s bits. A row with NaN,
    /// +inf or no finite logit has no distribution: it gives [`NO_TOKEN`] and NaN.
    fn sample(
        &self,
        logits: &Self::Buf,
        uniforms: &[f64],
        sampling: Sampling,
        v: usize,
    ) -> (Vec<u32>, Vec<f32>) {
        length(self.len(logits), uniforms.len() * v, "logits [m,v]");
        assert_drawable(uniforms, sampling, v);
        self.sample_unchecked(logits, uniforms, sampling, v)
    }
    /// [`SamplingOps::sample`] of checked arguments.
    fn sample_unchecked(
        &self,
        logits: &Self::Buf,
        uniforms: &[f64],
        sampling: Sampling,
        v: usize,
    ) -> (Vec<u32>, Vec<f32>);
}
