//! Softmax attention over packed sequences, forward; each query row as in `cached.rs`, bit for bit.
//! Independent of layers.
//!
//! 1. For a query row i and the keys j that it attends to (`mask.rs`): score_j = (chain over
//!    channels of q k) / sqrt(c), max, e_j = exp(score_j - max), denominator = sum of e by lanes
//!    over j, out = (chain over j of e_j v_j) times the reciprocal of the denominator, lse = max +
//!    ln denominator.
//! 2. The positions that all rows of a tile attend to are processed together. The first and last
//!    few positions, which only some rows of a tile attend to, are added row by row, so that a
//!    masked position is never read for the output of a row. Panels of keys that all rows of a tile
//!    mask are skipped. The lane of a position in a sum is given by its index in the sequence, for
//!    any mask.
//! 3. Adding +0 at the end makes the sign of a zero independent of the order of the additions.
//! 4. Keys are packed transposed, so that scores vectorise over positions; values as they are, so
//!    that outputs vectorise over channels. One packing serves all query heads of a group.

use super::Cpu;
use super::attention_backward::attention_backward;
use super::mask::{band, span};
use super::number::Number;
use super::scores::{scale, score, score_stride, softmax};
use super::scratch::Scratch;
use super::simd::{Kernel, Simd};
use super::threads::{for_pieces, for_sequences, matrix};
use super::tile::{self, ACROSS, Band, Panel};
use super::vector::Vector;
use crate::ops::{Attention, AttentionBackward, AttentionOps, Heads};

in_both_precisions! {
    impl AttentionOps for Cpu<T> {
        fn attention_unchecked(&self, attention: Attention<'_, Vec<T>>) {
            self::attention(self.simd, attention);
        }

        fn attention_backward_unchecked(&self, attention: AttentionBackward<'_, Vec<T>>) {
            attention_backward(self.simd, attention);
        }
    }
}

/// Rows in a piece of work are a multiple of this: of every `M`.
const ROWS: usize = 24;

/// `out`, `lse` of every row; see [`AttentionOps::attention`].
fn attention<T: Number>(simd: Simd, attention: Attention<'_, Vec<T>>) {
    let Attention { out, lse, q, k, v, starts, heads, mask } = attention;
    let Heads { query: h, key_value: g, channels: c } = heads;
    let outputs = (matrix(out, h * c), matrix(lse, h));
    let longest = starts.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
    for_sequences(outputs, starts, h * c * span(mask, longest) / 16, &|sequence, outputs| {
        let (start, end) = (starts[sequence], starts[sequence + 1]);
        let len = end - start;
        let (k, v, q) = (
            &k[start * g * c..end * g * c],
            &v[start * g * c..end * g * c],
            &q[start * h * c..end * h * c],
        );
        let lanes = simd.width::<T>();
        let key_len = c * tile::padded(len, lanes);
        let value_len = len * tile::padded(c, lanes);
        let mut packed = Scratch::new(g * (key_len + value_len));
        let (keys, values) = packed.split_at_mut(g * key_len);
        simd.run(
            #[inline(always)]
            || {
                for head in 0..g {
                    let keys = &mut keys[head * key_len..][..key_len];
                    for panel in tile::panels(len, lanes) {
                        tile::pack_transposed(
                            &mut keys[panel.range(c)],
                            &k[head * c..],
                            g * c,
                            c,
                            panel,
                        );
                    }
                    let values = &mut values[head * value_len..][..value_len];
                    for panel in tile::panels(c, lanes) {
                        tile::pack(&mut values[panel.range(len)], &v[head * c..], g * c, panel);
                    }
                }
            },
        );
        let (keys, values) = (&*keys, &*values);
        for_pieces(outputs, len, h * c * span(mask, len) / 16, ROWS, |first, (out, lse)| {
            let mut scores = Scratch::new(8 * score_stride(len, lanes));
            let mut maxima = Scratch::new(lse.data.len());
            let (out, lse, scores, maxima) = (out.data, lse.data, &mut *scores, &mut *maxima);
            simd.run_tiled(Rows {
                out,
                lse,
                q,
                keys,
                values,
                scores,
                maxima,
                first,
                len,
                heads,
                band: band(mask, len),
            });
        });
    });
}

/// Some query rows of one sequence, all heads.
struct Rows<'a, T> {
    /// `[rows,h,c]`.
    out: &'a mut [T],
    /// `[rows,h]`.
    lse: &'a mut [T],
    /// `[len,h,c]`: of the whole sequence.
    q: &'a [T],
    /// `[g]`, each `[c,len]` in panels.
    keys: &'a [T],
    /// `[g]`, each `[len,c]` in panels.
    values: &'a [T],
    /// `[8, score_stride]`.
    scores: &'a mut [T],
    /// `[rows,h]`.
    maxima: &'a mut [T],
    first: usize,
    len: usize,
    heads: Heads,
    /// Which keys each query attends to.
    band: Band,
}

impl<T: Number> Kernel<T> for Rows<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<T>, const M: usize>(mut self, proof: V::Proof) {
        let h = self.heads.query;
        let rows = self.lse.len() / h;
        for head in 0..h {
            for row in (0..rows).step_by(M) {
                self.tile::<V, M>(proof, head, row, M.min(rows - row));
            }
        }
        // So far the sums; logarithms of many are faster than of each.
        for (lse, &max) in self.lse.iter_mut().zip(&*self.maxima) {
            *lse = max + lse.ln();
        }
    }
}

impl<T: Number> Rows<'_, T> {
    /// Rows `row..row + rows` of one head.
    #[inline(always)]
    fn tile<V: Vector<T>, const M: usize>(
        &mut self,
        proof: V::Proof,
        head: usize,
        row: usize,
        rows: usize,
    ) {
        let Heads { query: h, key_value: g, channels: c } = self.heads;
        let group = head / (h / g);
        let position = self.first + row;
        let stride = score_stride(self.len, V::WIDTH);
        let key_len = c * tile::padded(self.len, V::WIDTH);
        let keys = &self.keys[group * key_len..][..key_len];
        let q = tile::rows::<T, M>(self.q, (position * h + head) * c, h * c, rows, c);
        let factor = V::splat(proof, scale(c));
        let seen = self.band.range(position).start..self.band.range(position + rows - 1).end;
        for panel in tile::within(tile::panels(self.len, V::WIDTH), seen) {
            let (keys, scores) = (&keys[panel.range(c)], &mut self.scores[panel.first..]);
            match panel.width == V::WIDTH {
                true => score::<T, V, M, 1>(proof, scores, stride, q, keys, factor),
                false => score::<T, V, M, ACROSS>(proof, scores, stride, q, keys, factor),
            }
        }
        let mut reciprocals = [T::ONE; M];
        for (r, reciprocal) in reciprocals[..rows].iter_mut().enumerate() {
            let (sum, max) = softmax(&mut self.scores[r * stride..], self.band.range(position + r));
            *reciprocal = T::ONE / sum;
            (self.lse[(row + r) * h + head], self.maxima[(row + r) * h + head]) = (sum, max);
        }
        for panel in tile::panels(c, V::WIDTH) {
            match panel.width == V::WIDTH {
                true => self.weigh::<V, M, 1>(proof, head, row, rows, panel, &reciprocals),
                false => self.weigh::<V, M, ACROSS>(proof, head, row, rows, panel, &reciprocals),
            }
        }
    }

    /// `out = (scores v) * reciprocal` for one panel of channels.
    #[inline(always)]
    fn weigh<V: Vector<T>, const M: usize, const N: usize>(
        &mut self,
        proof: V::Proof,
        head: usize,
        row: usize,
        rows: usize,
        panel: Panel,
        reciprocals: &[T; M],
    ) {
        let Heads { query: h, key_value: g, channels: c } = self.heads;
        let stride = score_stride(self.len, V::WIDTH);
        let values = &self.values[head / (h / g) * self.len * tile::padded(c, V::WIDTH)..]
            [panel.range(self.len)];
        let band = self.band.part(self.first + row, 0, self.len);
        let weights = tile::rows::<T, M>(self.scores, 0, stride, rows, band.range(rows - 1).end);
        let zeros = [[V::splat(proof, T::ZERO); N]; M];
        let mut sums = tile::banded(proof, zeros, weights, values, band, rows);
        for r in 0..rows {
            let (reciprocal, zero) = (V::splat(proof, reciprocals[r]), V::splat(proof, T::ZERO));
            for sum in &mut sums[r] {
                *sum = sum.mul(reciprocal).add(zero);
            }
        }
        tile::store(
            &mut self.out[(row * h + head) * c + panel.first..],
            h * c,
            rows,
            panel.columns,
            sums,
        );
    }
}
