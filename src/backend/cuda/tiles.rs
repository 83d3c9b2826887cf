//! Tiles of matrix products, and what the launches of both files of kernels share.

use super::buffer::Buf;
use crate::DType;

/// Rows and columns of a block's tile, and its threads.
#[derive(Clone, Copy, Debug)]
pub struct Tile {
    /// Of the output.
    pub rows: usize,
    /// Of the output.
    pub columns: usize,
    /// Of a block.
    pub threads: usize,
    /// Dynamic shared memory in bytes.
    pub shared: usize,
}

impl Tile {
    /// How many of them cover an output.
    pub fn blocks(self, rows: usize, columns: usize) -> usize {
        rows.div_ceil(self.rows) * columns.div_ceil(self.columns)
    }

    /// How many of them cover several outputs side by side.
    pub fn blocks_of(self, rows: usize, widths: &[usize]) -> usize {
        widths.iter().map(|columns| self.blocks(rows, *columns)).sum()
    }
}

/// A forward kernel of large tiles, of small ones and of few rows.
pub type Names = [&'static str; 3];

/// Whether sums are written as they are where the operands are rounded.
pub fn is_wide(out: &Buf, x: &Buf) -> bool {
    out.kind() == DType::F32 && x.kind() == DType::Bf16
}

/// What a kernel applies to a sum, what it keeps of it, and what it multiplies with, of an epilogue
/// that is a function.
pub struct Function<'a> {
    /// As kernels/functions.cuh numbers them.
    pub which: i32,
    /// The sum, stored.
    pub kept: Option<&'a mut Buf>,
    /// `[n,o]`.
    pub factor: Option<&'a Buf>,
}
