//! Launches kernels/token.cu. Independent of the meaning of a token.

use super::Cuda;
use super::buffer::Buf;
use crate::ops::{TokenLogprobs, TokenLogprobsBackward, TokenOps, TokenScoresBackward};

/// 1/T as every operation on token distributions uses it.
fn inverse_temperature(temperature: f32) -> f64 {
    f64::from(1.0 / temperature)
}

impl TokenOps for Cuda {
    fn token_logprobs_unchecked(&self, tokens: TokenLogprobs<'_, Buf>) {
        let TokenLogprobs { logprob, lse, entropy, logits, targets, temperature, v } = tokens;
        let call = self
            .kernels
            .call("token", "token_logprobs", self.kind)
            .out_floats(logprob)
            .out_floats(lse)
            .out_floats(entropy);
        let call = call.floats(logits).host(targets).float(inverse_temperature(temperature));
        call.size(v).over(targets.len(), 1, 256);
    }

    fn token_logprobs_backward_unchecked(&self, tokens: TokenLogprobsBackward<'_, Buf>) {
        let TokenLogprobsBackward { dlogits, logits, dlogprob, lse, targets, temperature, v } =
            tokens;
        let call = self.kernels.call("token", "token_logprobs_backward", dlogits.kind());
        let call = call.out(dlogits).floats(logits).floats(dlogprob).floats(lse);
        let call = call.host(targets).float(inverse_temperature(temperature)).size(v);
        // Eight logits to a thread.
        call.launch([targets.len(), v.div_ceil(8 * 256), 1], 256);
    }

    fn token_scores_backward_unchecked(&self, tokens: TokenScoresBackward<'_, Buf>) {
        let TokenScoresBackward { dlogits, logits, dlogprob, dentropy, lse, entropy, .. } = tokens;
        let TokenScoresBackward { targets, temperature, v, .. } = tokens;
        let call = self.kernels.call("token", "token_scores_backward", dlogits.kind());
        let call = call.out(dlogits).floats(logits).floats(dlogprob).floats(dentropy);
        let call = call.floats(lse).floats(entropy).host(targets);
        let call = call.float(inverse_temperature(temperature)).size(v);
        // Eight logits to a thread.
        call.launch([targets.len(), v.div_ceil(8 * 256), 1], 256);
    }
}
