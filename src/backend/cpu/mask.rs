//! Which positions of a sequence see which. Knows nothing of scores.

use std::ops::Range;

use crate::backend::Mask;

/// The positions that `position` of a sequence of `len` sees. Both ends rise with `position`.
#[inline(always)]
pub fn seen(mask: Mask, position: usize, len: usize) -> Range<usize> {
    match mask {
        Mask::Causal { window } => window.map_or(0, |window| (position + 1).saturating_sub(window))..position + 1,
        Mask::Bidirectional => 0..len,
    }
}

/// The positions of a sequence of `len` that see `position`. Both ends rise with `position`.
#[inline(always)]
pub fn seers(mask: Mask, position: usize, len: usize) -> Range<usize> {
    match mask {
        Mask::Causal { window } => position..window.map_or(len, |window| position.saturating_add(window).min(len)),
        Mask::Bidirectional => 0..len,
    }
}

/// The most positions that one position of a sequence of `len` sees.
pub fn span(mask: Mask, len: usize) -> usize {
    match mask {
        Mask::Causal { window: Some(window) } => window.min(len),
        _ => len,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_seen_and_who_sees_are_two_views_of_one_relation() {
        let causal = [None, Some(1), Some(2), Some(5), Some(9), Some(usize::MAX)].map(|window| Mask::Causal { window });
        for mask in [&causal[..], &[Mask::Bidirectional]].concat() {
            for len in 1..9 {
                for (i, j) in (0..len).flat_map(|i| (0..len).map(move |j| (i, j))) {
                    let expected = match mask {
                        Mask::Causal { window } => j <= i && window.is_none_or(|window| i - j < window),
                        Mask::Bidirectional => true,
                    };
                    assert_eq!(seen(mask, i, len).contains(&j), expected);
                    assert_eq!(seers(mask, j, len).contains(&i), expected);
                    assert!(seen(mask, i, len).len() <= span(mask, len));
                }
            }
        }
    }
}
