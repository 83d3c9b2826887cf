//! Sizes of tiles, lists of tiles and sizes of arguments, which all launches of attention share.

use super::kernels::Call;
use crate::DType;
use crate::ops::{Heads, Mask};

/// The most channels of a head that the kernels take.
pub const CHANNELS: usize = 256;
/// Beyond this number of channels, kernels have other tiles.
pub const NARROW: usize = 128;
/// Positions of a step along the keys.
pub const STEP: usize = 64;

/// One size of tiles, and what a block needs for it.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The kernel.
    pub method: &'static str,
    /// Positions of a tile.
    pub rows: usize,
    /// Threads of a block.
    pub threads: usize,
    /// Dynamic shared memory in bytes.
    pub shared: usize,
}

/// The kernel for heads of `channels`: of those in single precision for up to 128 and 256 channels,
/// or of those in bf16 for up to 32, 64, 96, 128, 192 and 256; with the channels that a row of its
/// tiles has.
pub fn for_channels(
    kind: DType,
    channels: usize,
    single: [&'static str; 2],
    bf16: [&'static str; 6],
) -> (&'static str, usize) {
    assert!(
        channels <= CHANNELS,
        "heads of {channels} channels: the CUDA back end takes up to {CHANNELS}"
    );
    match kind {
        DType::F32 if channels <= NARROW => (single[0], NARROW),
        DType::F32 => (single[1], CHANNELS),
        DType::Bf16 if channels <= NARROW => {
            (bf16[channels.div_ceil(32) - 1], channels.next_multiple_of(32))
        }
        DType::Bf16 => (bf16[channels.div_ceil(64) + 1], channels.next_multiple_of(64)),
    }
}

/// Bytes of shared memory in single precision: `rows` rows of `width` channels, and `weights` rows
/// of a step.
pub const fn single_bytes(width: usize, rows: usize, weights: usize) -> usize {
    4 * (rows * (width + 4) + weights * (STEP + 4))
}

/// Steps of keys and values that a block has in shared memory in bf16.
pub fn stages(width: usize) -> usize {
    if width > NARROW { 1 } else { 2 }
}

/// Tiles of `rows` positions of every sequence: its first row, its length, the tile's first
/// position. Those with most to do come first.
pub fn tiles(starts: &[usize], rows: usize, latest_first: bool) -> Vec<[u32; 3]> {
    let number = |x: usize| u32::try_from(x).expect("a batch has fewer than 2^32 rows");
    let mut tiles: Vec<[u32; 3]> = Vec::new();
    for pair in starts.windows(2) {
        let length = pair[1] - pair[0];
        tiles.extend((0..length).step_by(rows).map(|first| [pair[0], length, first].map(number)));
    }
    if latest_first {
        tiles.sort_by_key(|&[start, _, first]| (std::cmp::Reverse(first), start));
    }
    tiles
}

/// `h`, `g`, `c`, whether causal, the window.
pub fn sizes<'a>(call: Call<'a>, heads: Heads, mask: Mask) -> Call<'a> {
    let number = |x: usize| i32::try_from(x).expect("heads and channels are few");
    let call = call
        .integer(number(heads.query))
        .integer(number(heads.key_value))
        .integer(number(heads.channels));
    match mask {
        // A window longer than every sequence is none; half of what 64 bits hold, so that positions
        // can be added.
        Mask::Causal { window } => call.integer(1).size(window.unwrap_or(usize::MAX).min(1 << 40)),
        Mask::Bidirectional => call.integer(0).size(1 << 40),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_every_position_of_every_sequence_once() {
        for latest_first in [false, true] {
            let mut rows: Vec<u32> = Vec::new();
            for [start, length, first] in tiles(&[0, 1, 1, 130, 194], 64, latest_first) {
                rows.extend(start + first..start + length.min(first + 64));
            }
            rows.sort_unstable();
            assert_eq!(rows, (0..194).collect::<Vec<u32>>());
        }
    }
}
