//! Launches kernels/attention_backward.cu.

use super::buffer::Buf;
use super::kernels::Kernels;
use crate::backend::{Heads, Mask};

/// As the trait says.
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn attention_backward(
    kernels: &Kernels,
    dq: &mut Buf,
    dk: &mut Buf,
    dv: &mut Buf,
    dout: &Buf,
    out: &Buf,
    lse: &Buf,
    q: &Buf,
    k: &Buf,
    v: &Buf,
    starts: &[usize],
    heads: Heads,
    mask: Mask,
) {
    panic!("attention_backward is not built yet")
}
