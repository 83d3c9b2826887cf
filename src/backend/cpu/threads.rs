//! Spreads rows of outputs over threads. Which thread computes a row, and with which neighbours,
//! never changes its bits. Independent of the computation.

use std::sync::Mutex;

use super::pool;

/// Work below which a second thread costs more than it gives, in elementary operations (a few
/// microseconds).
const GRAIN: usize = 1 << 14;

/// Outputs that can be cut between two rows.
pub trait Rows: Send + Sized {
    /// The first `rows` rows and the others.
    fn cut(self, rows: usize) -> (Self, Self);
}

/// Rows of a contiguous matrix.
pub struct Matrix<'a, T> {
    /// `[rows, width]`.
    pub data: &'a mut [T],
    /// Elements of a row.
    pub width: usize,
}

/// `data[rows, width]` as rows.
pub fn matrix<T>(data: &mut [T], width: usize) -> Matrix<'_, T> {
    Matrix { data, width }
}

impl<T: Send> Rows for Matrix<'_, T> {
    fn cut(self, rows: usize) -> (Self, Self) {
        let (a, b) = self.data.split_at_mut(rows * self.width);
        (matrix(a, self.width), matrix(b, self.width))
    }
}

impl<A: Rows, B: Rows> Rows for (A, B) {
    fn cut(self, rows: usize) -> (Self, Self) {
        let (a0, a1) = self.0.cut(rows);
        let (b0, b1) = self.1.cut(rows);
        ((a0, b0), (a1, b1))
    }
}

impl<A: Rows, B: Rows, C: Rows> Rows for (A, B, C) {
    fn cut(self, rows: usize) -> (Self, Self) {
        let (a0, a1) = self.0.cut(rows);
        let (b0, b1) = self.1.cut(rows);
        let (c0, c1) = self.2.cut(rows);
        ((a0, b0, c0), (a1, b1, c1))
    }
}

/// Calls `kernel(first row, rows of that piece)` for pieces that cover `n` rows of outputs, on
/// several threads where `n` rows of `work` elementary operations each are worth it.
pub fn for_rows<R: Rows>(outputs: R, n: usize, work: usize, kernel: impl Fn(usize, R) + Sync) {
    for_pieces(outputs, n, work, 1, kernel);
}

/// [`for_rows`] with pieces of a multiple of `unit` rows (except the last).
pub fn for_pieces<R: Rows>(
    outputs: R,
    n: usize,
    work: usize,
    unit: usize,
    kernel: impl Fn(usize, R) + Sync,
) {
    if n == 0 {
        return;
    }
    if n * work.max(1) < 2 * GRAIN {
        return kernel(0, outputs);
    }
    // Four pieces a thread, so that one delayed thread does not delay the whole.
    let least = GRAIN.div_ceil(work.max(1)).max(n.div_ceil(4 * rayon::current_num_threads()));
    let piece = least.next_multiple_of(unit);
    let starts: Vec<usize> = (0..n).step_by(piece).chain([n]).collect();
    share_out(outputs, &starts, |piece, outputs| kernel(starts[piece], outputs));
}

/// Calls `kernel(sequence, its rows)` for each non-empty sequence; `starts` divides the rows of
/// outputs into sequences. Uses several threads if rows of `work` elementary operations each are
/// worth it: for the sequences in parallel if there are many, else inside `kernel`, for one
/// sequence after the other.
pub fn for_sequences<R: Rows>(
    outputs: R,
    starts: &[usize],
    work: usize,
    kernel: &(impl Fn(usize, R) + Sync),
) {
    let rows = starts[starts.len() - 1] - starts[0];
    let threads = rayon::current_num_threads();
    let few = starts.len() - 1 < 2 * threads;
    let least = match few || rows * work.max(1) < 2 * GRAIN {
        true => rows,
        false => GRAIN.div_ceil(work.max(1)).max(rows.div_ceil(8 * threads)),
    };
    // Neighbours go together until they have rows enough for a piece.
    let mut cuts = vec![0];
    let mut held = 0;
    for (sequence, pair) in starts.windows(2).enumerate() {
        held += pair[1] - pair[0];
        if held >= least || sequence + 2 == starts.len() {
            cuts.push(sequence + 1);
            held = 0;
        }
    }
    let piece_starts: Vec<usize> = cuts.iter().map(|&cut| starts[cut] - starts[0]).collect();
    share_out(outputs, &piece_starts, |piece, mut outputs| {
        for sequence in cuts[piece]..cuts[piece + 1] {
            let (own, rest) = outputs.cut(starts[sequence + 1] - starts[sequence]);
            if starts[sequence + 1] > starts[sequence] {
                kernel(sequence, own);
            }
            outputs = rest;
        }
    });
}

/// Calls `kernel(piece, its rows)` for each piece that `starts` cuts the rows of outputs into, on
/// several threads where there are several.
fn share_out<R: Rows>(outputs: R, starts: &[usize], kernel: impl Fn(usize, R) + Sync) {
    if starts.len() == 2 {
        return kernel(0, outputs);
    }
    let mut rest = outputs;
    let mut pieces = Vec::with_capacity(starts.len() - 1);
    for pair in starts.windows(2) {
        let (piece, others) = rest.cut(pair[1] - pair[0]);
        pieces.push(Mutex::new(Some(piece)));
        rest = others;
    }
    pool::share(pieces.len(), &|at| {
        let piece = pieces[at].lock().expect("held for a moment only").take();
        kernel(at, piece.expect("each piece is done once"));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_visited_once() {
        for n in [0, 1, 2, 3, 7, 64, 1000] {
            for work in [0, 1, 1000, 1 << 20] {
                for unit in [1, 4] {
                    let (mut a, mut b) = (vec![0; n], vec![0; 2 * n]);
                    for_pieces(
                        (matrix(&mut a, 1), matrix(&mut b, 2)),
                        n,
                        work,
                        unit,
                        |first, (a, b)| {
                            assert!(first.is_multiple_of(unit) && b.data.len() == 2 * a.data.len());
                            a.data.iter_mut().enumerate().for_each(|(i, x)| *x += first + i + 1);
                            b.data
                                .iter_mut()
                                .enumerate()
                                .for_each(|(i, x)| *x += 2 * first + i + 1);
                        },
                    );
                    assert!(a.iter().enumerate().all(|(i, &x)| x == i + 1));
                    assert!(b.iter().enumerate().all(|(i, &x)| x == i + 1));
                }
            }
        }
    }
}
