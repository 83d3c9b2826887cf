//! Log-probability and entropy of tokens under rows of logits, and the gradient.

use crate::buffers::Buffers;
use crate::shapes::{below, divisor, length};

/// Arguments of [`TokenOps::token_logprobs`].
#[derive(Debug)]
pub struct TokenLogprobs<'a, Buf> {
    /// `[m]`, wide: overwritten.
    pub logprob: &'a mut Buf,
    /// `[m]`, wide: overwritten.
    pub lse: &'a mut Buf,
    /// `[m]`, wide: overwritten.
    pub entropy: &'a mut Buf,
    /// `[m,v]`, wide.
    pub logits: &'a Buf,
    /// `[m]`.
    pub targets: &'a [u32],
    /// By which logits are divided.
    pub temperature: f32,
    /// Size of the vocabulary.
    pub v: usize,
}

impl<Buf> TokenLogprobs<'_, Buf> {
    #[track_caller]
    fn check<B: Buffers<Buf = Buf>>(&self, b: &B) {
        let (m, v) = (self.targets.len(), self.v);
        length(b.len(self.logprob), m, "logprob [m]");
        length(b.len(self.lse), m, "lse [m]");
        length(b.len(self.entropy), m, "entropy [m]");
        length(b.len(self.logits), m * v, "logits [m,v]");
        below(self.targets, v, "targets");
        divisor(self.temperature);
    }
}

/// Arguments of [`TokenOps::token_logprobs_backward`].
#[derive(Debug)]
pub struct TokenLogprobsBackward<'a, Buf> {
    /// `[m,v]`, stored: overwritten.
    pub dlogits: &'a mut Buf,
    /// `[m,v]`, wide.
    pub logits: &'a Buf,
    /// `[m]`, wide.
    pub dlogprob: &'a Buf,
    /// `[m]`, wide, of the forward pass.
    pub lse: &'a Buf,
    /// `[m]`.
    pub targets: &'a [u32],
    /// By which logits are divided.
    pub temperature: f32,
    /// Size of the vocabulary.
    pub v: usize,
}

impl<Buf> TokenLogprobsBackward<'_, Buf> {
    #[track_caller]
    fn check<B: Buffers<Buf = Buf>>(&self, b: &B) {
        let (m, v) = (self.targets.len(), self.v);
        length(b.len(self.dlogits), m * v, "dlogits [m,v]");
        length(b.len(self.logits), m * v, "logits [m,v]");
        length(b.len(self.dlogprob), m, "dlogprob [m]");
        length(b.len(self.lse), m, "lse [m]");
        below(self.targets, v, "targets");
        divisor(self.temperature);
    }
}

/// Arguments of [`TokenOps::token_scores_backward`].
#[derive(Debug)]
pub struct TokenScoresBackward<'a, Buf> {
    /// `[m,v]`, stored: overwritten.
    pub dlogits: &'a mut Buf,
    /// `[m,v]`, wide.
    pub logits: &'a Buf,
    /// `[m]`, wide.
    pub dlogprob: &'a Buf,
    /// `[m]`, wide.
    pub dentropy: &'a Buf,
    /// `[m]`, wide, of the forward pass.
    pub lse: &'a Buf,
    /// `[m]`, wide, of the forward pass.
    pub entropy: &'a Buf,
    /// `[m]`.
    pub targets: &'a [u32],
    /// By which logits are divided.
    pub temperature: f32,
    /// Size of the vocabulary.
    pub v: usize,
}

impl<Buf> TokenScoresBackward<'_, Buf> {
    #[track_caller]
    fn check<B: Buffers<Buf = Buf>>(&self, b: &B) {
        let (m, v) = (self.targets.len(), self.v);
        length(b.len(self.dlogits), m * v, "dlogits [m,v]");
        length(b.len(self.logits), m * v, "logits [m,v]");
        length(b.len(self.dlogprob), m, "dlogprob [m]");
        length(b.len(self.dentropy), m, "dentropy [m]");
        length(b.len(self.lse), m, "lse [m]");
        length(b.len(self.entropy), m, "entropy [m]");
        below(self.targets, v, "targets");
        divisor(self.temperature);
    }
}

/// Distributions of tokens.
pub trait TokenOps: Buffers {
    /// For each row of `logits`, at `temperature`: `logprob` of its target, `lse` (of the scaled
    /// logits) and `entropy` in nats.
    fn token_logprobs(&self, tokens: TokenLogprobs<'_, Self::Buf>) {
        tokens.check(self);
        self.token_logprobs_unchecked(tokens);
    }
    /// [`TokenOps::token_logprobs`] of checked arguments.
    fn token_logprobs_unchecked(&self, tokens: TokenLogprobs<'_, Self::Buf>);

    /// `dlogits[m,v] = dlogprob[m] * (onehot(target) - softmax) / temperature`, stored: a factor of
    /// matrix products.
    fn token_logprobs_backward(&self, tokens: TokenLogprobsBackward<'_, Self::Buf>) {
        tokens.check(self);
        self.token_logprobs_backward_unchecked(tokens);
    }
    /// [`TokenOps::token_logprobs_backward`] of checked arguments.
    fn token_logprobs_backward_unchecked(&self, tokens: TokenLogprobsBackward<'_, Self::Buf>);

    /// `dlogits[m,v] = (dlogprob[m] * (onehot(target) - p) - dentropy[m] * p (ln p + entropy[m])) /
    /// temperature` with p the softmax, stored: the gradient of a loss of log-probabilities and
    /// entropies. What has probability 0 has no gradient.
    fn token_scores_backward(&self, tokens: TokenScoresBackward<'_, Self::Buf>) {
        tokens.check(self);
        self.token_scores_backward_unchecked(tokens);
    }
    /// [`TokenOps::token_scores_backward`] of checked arguments.
    fn token_scores_backward_unchecked(&self, tokens: TokenScoresBackward<'_, Self::Buf>);
}
