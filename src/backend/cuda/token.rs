//! Launches kernels/token.cu.

use super::buffer::Buf;
use super::kernels::Kernels;

/// As the trait says.
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn logprobs(
    kernels: &Kernels,
    logprob: &mut Buf,
    lse: &mut Buf,
    entropy: &mut Buf,
    logits: &Buf,
    targets: &[u32],
    temperature: f32,
    v: usize,
) {
    panic!("logprobs is not built yet")
}

/// As the trait says.
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn logprobs_backward(kernels: &Kernels, logits: &mut Buf, dlogprob: &Buf, lse: &Buf, targets: &[u32], temperature: f32, v: usize) {
    panic!("logprobs_backward is not built yet")
}
