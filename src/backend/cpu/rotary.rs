//! Rotary position embedding (Su et al. 2021) in the Hugging Face layout: channel j pairs with j +
//! r/2. Independent of the computation of the angles.

use super::Cpu;
use super::number::Number;
use super::simd::Simd;
use super::threads::{for_rows, matrix};
use crate::ops::{Rotary, RotaryOps};

in_both_precisions! {
    impl RotaryOps for Cpu<T> {
        fn rotary_unchecked(&self, rotary: Rotary<'_, Vec<T>>) {
            self::rotary(self.simd, rotary);
        }
    }
}

/// Rotates the first `rotated` channels of the heads of `x[n,heads,c]` in place by row n of the
/// angles at `positions[n]`; back by them when `inverse`.
fn rotary<T: Number>(simd: Simd, rotary: Rotary<'_, Vec<T>>) {
    let Rotary { x, cos, sin, positions, channels, rotated, inverse, .. } = rotary;
    let (n, half) = (positions.len(), rotated / 2);
    let width = x.len() / n.max(1);
    let sign = if inverse { -T::ONE } else { T::ONE };
    for_rows(matrix(x, width), n, width, |first, x| {
        simd.run(
            #[inline(always)]
            || {
                for (x, &position) in x.data.chunks_exact_mut(width).zip(&positions[first..]) {
                    let angles = position as usize * half;
                    let (cos, sin) = (&cos[angles..][..half], &sin[angles..][..half]);
                    for head in x.chunks_exact_mut(channels) {
                        let (a, b) = head[..rotated].split_at_mut(half);
                        for ((a, b), (&cos, &sin)) in a.iter_mut().zip(b).zip(cos.iter().zip(sin)) {
                            let (x, y, sin) = (*a, *b, sin * sign);
                            *a = (-y).mul_add(sin, x * cos);
                            *b = x.mul_add(sin, y * cos);
                        }
                    }
                }
            },
        );
    });
}
