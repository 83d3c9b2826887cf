//! Losses of tokens, forward and backward in one, and the sums that they add to. The tokens of an
//! update may come in parts.
//!
//! Losses are not operations: a new one is added here, with its kernels, and changes no family of
//! `ops`. A loss of few numbers needs no method: it is a function on host numbers.

use crate::buffers::Buffers;
use crate::shapes::length;

/// A clipped loss of ratios of probabilities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatioLoss {
    /// A ratio is clipped to at least 1 minus this.
    pub low: f64,
    /// A ratio is clipped to at most 1 plus this.
    pub high: f64,
    /// Where an advantage A is negative, the loss is at most this multiple of -A.
    pub dual: Option<f64>,
    /// Tokens of the whole update, over which the loss is averaged.
    pub count: usize,
}

/// A clipped loss of squared distances.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SquareLoss {
    /// A value is clipped to what it was minus and plus this, if it is.
    pub range: Option<f64>,
    /// The weight of the loss next to others.
    pub coef: f64,
    /// Tokens of the whole update, over which the loss is averaged.
    pub count: usize,
}

/// Sums of [`Losses::clipped_ratio_loss`].
pub const RATIO_SUMS: usize = 5;
/// Sums of [`Losses::clipped_square_loss`].
pub const SQUARE_SUMS: usize = 2;

/// Panics unless every input has `n` numbers, one per token, the update's `count` of tokens is at
/// least `n`, and `sums` is `wanted`.
#[track_caller]
fn check(n: usize, inputs: [(usize, &str); 3], count: usize, sums: usize, wanted: usize) {
    inputs.into_iter().for_each(|(len, what)| length(len, n, what));
    length(sums, wanted, "sums");
    assert!(n <= count, "{n} tokens are not a part of {count}");
}

/// Losses of tokens.
pub trait Losses: Buffers {
    /// Sums in double precision, which stay where they are added up.
    type Sums: Send;

    /// `len` sums, 0.
    fn sums(&self, len: usize) -> Self::Sums;
    /// Count of sums.
    fn sums_len(&self, sums: &Self::Sums) -> usize;
    /// A copy of them on the host.
    fn download_sums(&self, sums: &Self::Sums) -> Vec<f64>;
    /// `sums[0] += ` the sum of `x`, wide.
    fn add_sum(&self, sums: &mut Self::Sums, x: &Self::Buf) {
        length(self.sums_len(sums), 1, "sums");
        self.add_sum_unchecked(sums, x);
    }
    /// [`Losses::add_sum`] of checked arguments.
    fn add_sum_unchecked(&self, sums: &mut Self::Sums, x: &Self::Buf);

    /// For each of `n` tokens, with r = exp(logprob - old) and advantage A:
    /// max(-A r, -A clip(r, 1 - low, 1 + high)), and at most -A dual where A is negative and there
    /// is a `dual` (Schulman et al. 2017, eq. 7; Yu et al. 2025, arXiv 2503.14476, section 3.1, for
    /// two bounds; Ye et al. 2020, eq. 5). `dlogprob[n]` is its derivative over
    /// `count`: 0 where a clip acts, and on the kink itself that of the unclipped term.
    /// `sums[RATIO_SUMS] += ` over the tokens: the loss, (logprob - old)^2, 1 where r was clipped,
    /// r - 1, (r - 1)^2.
    fn clipped_ratio_loss(
        &self,
        dlogprob: &mut Self::Buf,
        sums: &mut Self::Sums,
        logprob: &Self::Buf,
        old: &Self::Buf,
        advantage: &Self::Buf,
        loss: RatioLoss,
    ) {
        let inputs = [(logprob, "logprob [n]"), (old, "old [n]"), (advantage, "advantage [n]")];
        let inputs = inputs.map(|(x, what)| (self.len(x), what));
        let (n, len) = (self.len(dlogprob), self.sums_len(sums));
        check(n, inputs, loss.count, len, RATIO_SUMS);
        self.clipped_ratio_loss_unchecked(dlogprob, sums, logprob, old, advantage, loss);
    }
    /// [`Losses::clipped_ratio_loss`] of checked arguments.
    fn clipped_ratio_loss_unchecked(
        &self,
        dlogprob: &mut Self::Buf,
        sums: &mut Self::Sums,
        logprob: &Self::Buf,
        old: &Self::Buf,
        advantage: &Self::Buf,
        loss: RatioLoss,
    );

    /// For each of `n` tokens: max((value - target)^2, (clip(value, old - range, old + range) -
    /// target)^2) / 2, without a `range` only the first. `dvalue[n]`, stored, is its derivative
    /// times `coef` over `count`, with kinks as above. `sums[SQUARE_SUMS] += ` over the tokens: the
    /// loss, without `coef`; 1 where the value was clipped.
    fn clipped_square_loss(
        &self,
        dvalue: &mut Self::Buf,
        sums: &mut Self::Sums,
        value: &Self::Buf,
        old: &Self::Buf,
        target: &Self::Buf,
        loss: SquareLoss,
    ) {
        let inputs = [(value, "value [n]"), (old, "old [n]"), (target, "target [n]")];
        let inputs = inputs.map(|(x, what)| (self.len(x), what));
        let (n, len) = (self.len(dvalue), self.sums_len(sums));
        check(n, inputs, loss.count, len, SQUARE_SUMS);
        self.clipped_square_loss_unchecked(dvalue, sums, value, old, target, loss);
    }
    /// [`Losses::clipped_square_loss`] of checked arguments.
    fn clipped_square_loss_unchecked(
        &self,
        dvalue: &mut Self::Buf,
        sums: &mut Self::Sums,
        value: &Self::Buf,
        old: &Self::Buf,
        target: &Self::Buf,
        loss: SquareLoss,
    );
}
