//! Masks as bands of the matrix of queries and keys. Independent of scores.

use super::tile::Band;
use crate::ops::Mask;

/// Which keys (depths) each query (row) of a sequence of `len` attends to.
pub fn band(mask: Mask, len: usize) -> Band {
    let (len, depth) = (len as isize, len);
    match mask {
        Mask::Causal { window } => Band {
            start: 1 - window.map_or(len, |window| window.min(depth) as isize),
            end: 1,
            depth,
        },
        Mask::Bidirectional => Band { start: -len, end: len, depth },
    }
}

/// The most positions that one position of a sequence of `len` attends to.
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
        let causal = [None, Some(1), Some(2), Some(5), Some(9), Some(usize::MAX)]
            .map(|window| Mask::Causal { window });
        for mask in [&causal[..], &[Mask::Bidirectional]].concat() {
            for len in 1..9 {
                for (i, j) in (0..len).flat_map(|i| (0..len).map(move |j| (i, j))) {
                    let expected = match mask {
                        Mask::Causal { window } => {
                            j <= i && window.is_none_or(|window| i - j < window)
                        }
                        Mask::Bidirectional => true,
                    };
                    let band = band(mask, len);
                    assert_eq!(band.range(i).contains(&j), expected);
                    assert_eq!(band.transposed(len).range(j).contains(&i), expected);
                    assert!(band.range(i).len() <= span(mask, len));
                    for (first, from) in [(i, 0), (i / 2, j / 2), (0, j)] {
                        assert_eq!(
                            band.part(first, from, len - from)
                                .range(i - first)
                                .contains(&(j - from)),
                            expected
                        );
                    }
                }
            }
        }
    }
}
