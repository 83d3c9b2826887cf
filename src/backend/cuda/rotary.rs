//! Checks shapes and launches kernels/rotary.cu. Knows nothing of how the angles came about.

use super::buffer::Buf;
use super::kernels::Kernels;
use crate::shapes::{below, length, turned};

/// Rotates the first `rotated` channels of the heads of one `x[n,heads,c]` or of two, each with its
/// heads, in place by the angles at `positions[n]`; back when `inverse`.
#[expect(clippy::too_many_arguments)]
#[track_caller]
pub fn rotary(
    kernels: &Kernels,
    xs: &mut [(&mut Buf, usize)],
    cos: &Buf,
    sin: &Buf,
    positions: &[u32],
    channels: usize,
    rotated: usize,
    inverse: bool,
) {
    let (n, sign) = (positions.len(), if inverse { -1.0 } else { 1.0 });
    xs.iter().for_each(|(x, heads)| length(x.len(), n * heads * channels, "x [n,heads,c]"));
    turned(rotated, channels);
    length(sin.len(), cos.len(), "sin [positions,r/2]");
    below(positions, cos.len() / (rotated / 2), "positions");
    let [first, second] = [xs.first(), xs.get(1)];
    let [heads, others] = [first, second].map(|x| x.map_or(0, |(_, heads)| *heads));
    let [first, second] = [first, second].map(|x| x.map(|(x, _)| &**x));
    let kind = first.expect("something is rotated").kind();
    let call = kernels
        .call("rotary", "rotary", kind)
        .optional(first)
        .optional(second)
        .floats(cos)
        .floats(sin)
        .host(positions);
    let call = call.size(n).size(heads).size(others).size(channels).size(rotated).float(sign);
    call.over(n * (heads + others) * rotated / 2, 256, 256);
}
