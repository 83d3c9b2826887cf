//! Launches kernels/rotary.cu. Independent of the computation of the angles.

use super::Cuda;
use super::buffer::Buf;
use crate::ops::{Rotary, RotaryOps, RotaryPair};

impl RotaryOps for Cuda {
    fn rotary_unchecked(&self, rotary: Rotary<'_, Buf>) {
        self.rotary_and(rotary, None);
    }

    fn rotary_pair_unchecked(&self, pair: RotaryPair<'_, Buf>) {
        let RotaryPair { q, k, cos, sin, positions, heads, rotated, inverse } = pair;
        let (query, channels) = (heads.query, heads.channels);
        let first = Rotary { x: q, cos, sin, positions, heads: query, channels, rotated, inverse };
        self.rotary_and(first, Some((k, heads.key_value)));
    }
}

impl Cuda {
    /// Rotates `rotary.x` and, by the same angles, a second `[n,heads,c]` with its heads.
    fn rotary_and(&self, rotary: Rotary<'_, Buf>, second: Option<(&mut Buf, usize)>) {
        let Rotary { x, cos, sin, positions, heads, channels, rotated, inverse } = rotary;
        let (n, sign) = (positions.len(), if inverse { -1.0 } else { 1.0 });
        let (second, others) = match second {
            Some((x, heads)) => (Some(&*x), heads),
            None => (None, 0),
        };
        let call = self
            .kernels
            .call("rotary", "rotary", x.kind())
            .out(x)
            .optional(second)
            .floats(cos)
            .floats(sin)
            .host(positions);
        let call = call.size(n).size(heads).size(others).size(channels).size(rotated).float(sign);
        call.over(n * (heads + others) * rotated / 2, 256, 256);
    }
}
