//! The gradient of softmax attention. Independent of layers.
//!
//! 1. With p = exp(score - lse) made again, D_i = sum over channels of dout out (by lanes): dp_ij =
//!    dout_i v_j, ds = p (dp - D) / sqrt(c), dq_i = chain over the j that i attends to of ds_ij
//!    k_j; dv_j and dk_j = chains over the query heads of the group, within one over the rows i
//!    that attend to j, of p_ij dout_i and ds_ij q_i (Dao et al. 2022, appendix B.2).
//! 2. One (sequence, key/value head) is one piece of work with separate outputs, which are then
//!    copied to their places, so that the order of every sum depends on the sequence alone.
//! 3. Queries go in blocks of `ROWS`, so that p and ds of a block stay in the second cache; each
//!    block continues the chains of dk, dv.

use super::lanes::{self, LANES};
use super::mask::{band, span};
use super::number::Number;
use super::scores::{scale, score, score_stride};
use super::scratch::Scratch;
use super::simd::{Kernel, Simd};
use super::threads::{for_rows, for_sequences, matrix};
use super::tile::{self, ACROSS, Band, Panel};
use super::vector::Vector;
use crate::ops::{AttentionBackward, Heads, Mask};

/// Query rows of a block: a multiple of every `M`.
const ROWS: usize = 48;

/// The forward pass's tensors and the gradient of its output, of one sequence.
#[derive(Clone, Copy)]
struct Forward<'a, T> {
    /// `[n,h,c]`.
    dout: &'a [T],
    /// `[n,h,c]`.
    out: &'a [T],
    /// `[n,h]`.
    lse: &'a [T],
    /// `[n,h,c]`.
    q: &'a [T],
    /// `[n,g,c]`.
    k: &'a [T],
    /// `[n,g,c]`.
    v: &'a [T],
}

/// `dq[n,h,c]`, `dk[n,g,c]`, `dv[n,g,c]`.
pub fn attention_backward<T: Number>(simd: Simd, attention: AttentionBackward<'_, Vec<T>>) {
    let AttentionBackward { dq, dk, dv, dout, out, lse, q, k, v, starts, heads, mask } = attention;
    let Heads { query: h, key_value: g, channels: c } = heads;
    let longest = starts.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
    let outputs = (matrix(dq, h * c), matrix(dk, g * c), matrix(dv, g * c));
    for_sequences(outputs, starts, h * c * span(mask, longest) / 8, &|sequence, (dq, dk, dv)| {
        let (start, end) = (starts[sequence], starts[sequence + 1]);
        let (queries, keys) = (start * h * c..end * h * c, start * g * c..end * g * c);
        let forward = Forward {
            dout: &dout[queries.clone()],
            out: &out[queries.clone()],
            lse: &lse[start * h..end * h],
            q: &q[queries],
            k: &k[keys.clone()],
            v: &v[keys],
        };
        let gradients = [dq.data, dk.data, dv.data];
        backward_sequence(simd, gradients, forward, end - start, heads, mask);
    });
}

/// One sequence: its heads on threads, each with separate outputs.
fn backward_sequence<T: Number>(
    simd: Simd,
    [dq, dk, dv]: [&mut [T]; 3],
    forward: Forward<'_, T>,
    len: usize,
    heads: Heads,
    mask: Mask,
) {
    let Heads { query: h, key_value: g, channels: c } = heads;
    let group = h / g;
    let width = (group + 2) * len * c;
    let mut gradients = Scratch::new(g * width);
    for_rows(
        matrix(&mut gradients, width),
        g,
        group * c * len * span(mask, len) / 8,
        |first, gradients| {
            for (head, gradients) in (first..).zip(gradients.data.chunks_exact_mut(width)) {
                let (dq, rest) = gradients.split_at_mut(group * len * c);
                let (dk, dv) = rest.split_at_mut(len * c);
                let lanes = simd.width::<T>();
                let mut scratch = Scratch::new(Spaces::<T>::len(len, c, lanes));
                let spaces = Spaces::cut(&mut scratch, len, c, lanes);
                simd.run_tiled(Head {
                    dq,
                    dk,
                    dv,
                    forward,
                    spaces,
                    head,
                    len,
                    heads,
                    band: band(mask, len),
                });
            }
        },
    );
    for (head, gradients) in gradients.chunks_exact(width).enumerate() {
        let mut parts = gradients.chunks_exact(len * c);
        for query in head * group..(head + 1) * group {
            place(dq, parts.next().expect("one part a query head"), query, h, c);
        }
        place(dk, parts.next().expect("then keys"), head, g, c);
        place(dv, parts.next().expect("then values"), head, g, c);
    }
}

/// `out[len,heads,c]` of one head from `x[len,c]`.
fn place<T: Number>(out: &mut [T], x: &[T], head: usize, heads: usize, c: usize) {
    for (out, x) in out.chunks_exact_mut(heads * c).zip(x.chunks_exact(c)) {
        out[head * c..][..c].copy_from_slice(x);
    }
}

/// Temporary matrices of one head.
struct Spaces<'a, T> {
    /// `[c,len]` in panels: keys transposed, values transposed.
    keys_transposed: &'a mut [T],
    values_transposed: &'a mut [T],
    /// `[len,c]` in panels.
    keys: &'a mut [T],
    /// `[ROWS,c]` in panels.
    queries: &'a mut [T],
    douts: &'a mut [T],
    /// `[ROWS, score_stride]`.
    p: &'a mut [T],
    ds: &'a mut [T],
    /// `[len, ROWS]`.
    p_transposed: &'a mut [T],
    ds_transposed: &'a mut [T],
}

impl<'a, T> Spaces<'a, T> {
    fn len(len: usize, c: usize, lanes: usize) -> usize {
        let (positions, channels) = (tile::padded(len, lanes), tile::padded(c, lanes));
        2 * c * positions
            + len * channels
            + 2 * ROWS * channels
            + 2 * ROWS * score_stride(len, lanes)
            + 2 * len * ROWS
    }

    fn cut(mut all: &'a mut [T], len: usize, c: usize, lanes: usize) -> Self {
        let (positions, channels) = (tile::padded(len, lanes), tile::padded(c, lanes));
        let mut next = |len: usize| {
            all.split_off_mut(..len).expect("the scratch has room for all of its parts")
        };
        Spaces {
            keys_transposed: next(c * positions),
            values_transposed: next(c * positions),
            keys: next(len * channels),
            queries: next(ROWS * channels),
            douts: next(ROWS * channels),
            p: next(ROWS * score_stride(len, lanes)),
            ds: next(ROWS * score_stride(len, lanes)),
            p_transposed: next(len * ROWS),
            ds_transposed: next(len * ROWS),
        }
    }
}

/// One key/value head of one sequence and its query heads.
struct Head<'a, T> {
    /// `[h/g,len,c]`.
    dq: &'a mut [T],
    /// `[len,c]`.
    dk: &'a mut [T],
    /// `[len,c]`.
    dv: &'a mut [T],
    forward: Forward<'a, T>,
    spaces: Spaces<'a, T>,
    head: usize,
    len: usize,
    heads: Heads,
    /// Which keys each query attends to.
    band: Band,
}

impl<T: Number> Kernel<T> for Head<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<T>, const M: usize>(mut self, proof: V::Proof) {
        let Heads { query: h, key_value: g, channels: c } = self.heads;
        let (k, v) = (&self.forward.k[self.head * c..], &self.forward.v[self.head * c..]);
        for panel in tile::panels(self.len, V::WIDTH) {
            tile::pack_transposed(
                &mut self.spaces.keys_transposed[panel.range(c)],
                k,
                g * c,
                c,
                panel,
            );
            tile::pack_transposed(
                &mut self.spaces.values_transposed[panel.range(c)],
                v,
                g * c,
                c,
                panel,
            );
        }
        for panel in tile::panels(c, V::WIDTH) {
            tile::pack(&mut self.spaces.keys[panel.range(self.len)], k, g * c, panel);
        }
        self.dk.fill(T::ZERO);
        self.dv.fill(T::ZERO);
        for query in 0..h / g {
            for first in (0..self.len).step_by(ROWS) {
                self.block::<V, M>(proof, query, first, ROWS.min(self.len - first));
            }
        }
        // The sign of a zero must not depend on how rows fell into tiles.
        for gradient in [self.dq, self.dk, self.dv] {
            gradient.iter_mut().for_each(|x| *x += T::ZERO);
        }
    }
}

impl<T: Number> Head<'_, T> {
    /// Rows `first..first + rows` of query head `query` of the group.
    #[inline(always)]
    fn block<V: Vector<T>, const M: usize>(
        &mut self,
        proof: V::Proof,
        query: usize,
        first: usize,
        rows: usize,
    ) {
        let Heads { query: h, key_value: g, channels: c } = self.heads;
        let head = self.head * (h / g) + query;
        let offset = (first * h + head) * c;
        let (q, dout) = (&self.forward.q[offset..], &self.forward.dout[offset..]);
        for row in (0..rows).step_by(M) {
            self.probabilities::<V, M>(proof, head, first, row, M.min(rows - row));
        }
        let stride = score_stride(self.len, V::WIDTH);
        let len = self.len;
        // The keys that some row of the block attends to; the band of keys of each row, and the
        // band of rows of each key.
        let (start, end) = (self.band.range(first).start, self.band.range(first + rows - 1).end);
        let by_row = self.band.part(first, 0, len);
        let by_key = self.band.transposed(len).part(start, first, rows);
        let Spaces { keys, queries, douts, p, ds, p_transposed, ds_transposed, .. } =
            &mut self.spaces;
        tile::transpose(p_transposed, ROWS, &p[start..], stride, rows, end - start);
        tile::transpose(ds_transposed, ROWS, &ds[start..], stride, rows, end - start);
        let dq = &mut self.dq[(query * len + first) * c..];
        let (dk, dv) = (&mut self.dk[start * c..], &mut self.dv[start * c..]);
        for panel in tile::panels(c, V::WIDTH) {
            let part = panel.first * rows..(panel.first + panel.width) * rows;
            tile::pack(&mut queries[part.clone()], q, h * c, panel);
            tile::pack(&mut douts[part.clone()], dout, h * c, panel);
            let keys = &keys[panel.range(len)];
            let (queries, douts) = (&queries[part.clone()], &douts[part]);
            match panel.width == V::WIDTH {
                true => {
                    add_product::<T, V, M, 1>(
                        proof, dq, c, ds, stride, keys, by_row, rows, panel, true,
                    );
                    add_product::<T, V, M, 1>(
                        proof,
                        dk,
                        c,
                        ds_transposed,
                        ROWS,
                        queries,
                        by_key,
                        end - start,
                        panel,
                        false,
                    );
                    add_product::<T, V, M, 1>(
                        proof,
                        dv,
                        c,
                        p_transposed,
                        ROWS,
                        douts,
                        by_key,
                        end - start,
                        panel,
                        false,
                    );
                }
                false => {
                    add_product::<T, V, M, ACROSS>(
                        proof, dq, c, ds, stride, keys, by_row, rows, panel, true,
                    );
                    add_product::<T, V, M, ACROSS>(
                        proof,
                        dk,
                        c,
                        ds_transposed,
                        ROWS,
                        queries,
                        by_key,
                        end - start,
                        panel,
                        false,
                    );
                    add_product::<T, V, M, ACROSS>(
                        proof,
                        dv,
                        c,
                        p_transposed,
                        ROWS,
                        douts,
                        by_key,
                        end - start,
                        panel,
                        false,
                    );
                }
            }
        }
    }

    /// p and ds of rows `row..row + rows` of a block, where the mask allows.
    #[inline(always)]
    fn probabilities<V: Vector<T>, const M: usize>(
        &mut self,
        proof: V::Proof,
        head: usize,
        first: usize,
        row: usize,
        rows: usize,
    ) {
        let Heads { query: h, channels: c, .. } = self.heads;
        let stride = score_stride(self.len, V::WIDTH);
        let (position, Forward { dout, out, lse, q, .. }) = (first + row, self.forward);
        let offset = (position * h + head) * c;
        let q_rows = tile::rows::<T, M>(q, offset, h * c, rows, c);
        let dout_rows = tile::rows::<T, M>(dout, offset, h * c, rows, c);
        let Spaces { keys_transposed, values_transposed, p, ds, .. } = &mut self.spaces;
        let (p, ds) = (&mut p[row * stride..], &mut ds[row * stride..]);
        let (factor, one) = (V::splat(proof, scale(c)), V::splat(proof, T::ONE));
        let seen = self.band.range(position).start..self.band.range(position + rows - 1).end;
        for panel in tile::within(tile::panels(self.len, V::WIDTH), seen) {
            let (keys, values) =
                (&keys_transposed[panel.range(c)], &values_transposed[panel.range(c)]);
            let (p, ds) = (&mut p[panel.first..], &mut ds[panel.first..]);
            match panel.width == V::WIDTH {
                true => {
                    score::<T, V, M, 1>(proof, p, stride, q_rows, keys, factor);
                    score::<T, V, M, 1>(proof, ds, stride, dout_rows, values, one);
                }
                false => {
                    score::<T, V, M, ACROSS>(proof, p, stride, q_rows, keys, factor);
                    score::<T, V, M, ACROSS>(proof, ds, stride, dout_rows, values, one);
                }
            }
        }
        for r in 0..rows {
            let d = lanes::dot(dout_rows[r], &out[offset + r * h * c..][..c]);
            let (lse, seen, factor) =
                (lse[(position + r) * h + head], self.band.range(position + r), scale::<T>(c));
            // Whole lanes: what is too much is not read.
            let whole = r * stride + seen.start / LANES * LANES
                ..r * stride + seen.end.next_multiple_of(LANES);
            for (p, ds) in p[whole.clone()].iter_mut().zip(&mut ds[whole]) {
                *p = (*p - lse).exp();
                *ds = *p * (*ds - d) * factor;
            }
        }
    }
}

/// `c[rows, panel] = (0 or c) + a b`, over a band of `a[rows, depth]`.
#[expect(clippy::too_many_arguments)]
#[inline(always)]
fn add_product<T: Number, V: Vector<T>, const M: usize, const N: usize>(
    proof: V::Proof,
    c: &mut [T],
    c_stride: usize,
    a: &[T],
    a_stride: usize,
    b: &[T],
    band: Band,
    rows: usize,
    panel: Panel,
    from_zero: bool,
) {
    for row in (0..rows).step_by(M) {
        let rows = M.min(rows - row);
        let band = band.part(row, 0, band.depth);
        let a = tile::rows::<T, M>(a, row * a_stride, a_stride, rows, band.range(rows - 1).end);
        let c = &mut c[row * c_stride + panel.first..];
        let sums = match from_zero {
            true => [[V::splat(proof, T::ZERO); N]; M],
            false => tile::load::<T, V, M, N>(proof, c, c_stride, rows, panel.columns),
        };
        let sums = tile::banded(proof, sums, a, b, band, rows);
        tile::store(c, c_stride, rows, panel.columns, sums);
    }
}
