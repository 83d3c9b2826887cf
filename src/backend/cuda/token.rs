//! Launches kernels/token.cu. Knows nothing of what a token means.

use super::buffer::{Buf, Type};
use super::kernels::Kernels;

/// 1/T as every operation on token distributions uses it.
pub fn inverse_temperature(temperature: f32) -> f64 {
    f64::from(1.0 / temperature)
}

/// `logprob[m]`, `lse[m]`, `entropy[m]` of `targets[m]` under `logits[m,v]`; `kind` is what the
/// model is stored in.
#[expect(clippy::too_many_arguments)]
pub fn logprobs(
    kernels: &Kernels,
    kind: Type,
    logprob: &mut Buf,
    lse: &mut Buf,
    entropy: &mut Buf,
    logits: &Buf,
    targets: &[u32],
    temperature: f32,
    v: usize,
) {
    let call = kernels
        .call("token", "token_logprobs", kind)
        .out_floats(logprob)
        .out_floats(lse)
        .out_floats(entropy);
    call.floats(logits).host(targets).float(inverse_temperature(temperature)).size(v).over(
        targets.len(),
        1,
        256,
    );
}

/// `dlogits[m,v] = dlogprob[m] * (onehot(target) - softmax) / T`.
#[expect(clippy::too_many_arguments)]
pub fn logprobs_backward(
    kernels: &Kernels,
    dlogits: &mut Buf,
    logits: &Buf,
    dlogprob: &Buf,
    lse: &Buf,
    targets: &[u32],
    temperature: f32,
    v: usize,
) {
    let call = kernels.call("token", "token_logprobs_backward", dlogits.kind()).out(dlogits);
    let call = call.floats(logits).floats(dlogprob).floats(lse);
    let call = call.host(targets).float(inverse_temperature(temperature)).size(v);
    // Eight logits to a thread.
    call.launch([targets.len(), v.div_ceil(8 * 256), 1], 256);
}
