//! Launches kernels/rotary.cu. Knows nothing of how the angles came about.

use super::buffer::Buf;
use super::kernels::Kernels;

/// Rotates the first `rotated` channels of the heads of `x[n,heads,c]` in place by the angles at `positions[n]`; back when `inverse`.
#[allow(clippy::too_many_arguments)]
pub fn rotary(
    kernels: &Kernels,
    x: &mut Buf,
    cos: &Buf,
    sin: &Buf,
    positions: &[u32],
    heads: usize,
    channels: usize,
    rotated: usize,
    inverse: bool,
) {
    let (n, sign) = (positions.len(), if inverse { -1.0 } else { 1.0 });
    let call = kernels.call("rotary", "rotary", x.kind()).out(x).floats(cos).floats(sin).host(positions);
    call.size(n).size(heads).size(channels).size(rotated).float(sign).over(n * heads * rotated / 2, 256, 256);
}
