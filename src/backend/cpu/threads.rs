//! Spreads rows of outputs over threads. Which thread computes a row, and with which neighbours, never changes its bits.
//! Knows nothing of what is computed.

/// Work below which a second thread costs more than it gives, in elementary operations (about ten microseconds).
const GRAIN: usize = 1 << 16;

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

/// Calls `kernel(first row, rows of that piece)` for pieces that cover `n` rows of outputs, on several threads where `n` rows of
/// `work` elementary operations each are worth it.
pub fn for_rows<R: Rows>(outputs: R, n: usize, work: usize, kernel: impl Fn(usize, R) + Sync) {
    for_pieces(outputs, n, work, 1, kernel);
}

/// [`for_rows`] with pieces of a multiple of `unit` rows (but for the last).
pub fn for_pieces<R: Rows>(outputs: R, n: usize, work: usize, unit: usize, kernel: impl Fn(usize, R) + Sync) {
    if n == 0 {
        return;
    }
    // Four pieces a thread, so that a thread that was held up does not hold up all.
    let rows = match n * work.max(1) < 2 * GRAIN {
        true => n,
        false => GRAIN.div_ceil(work.max(1)).max(n.div_ceil(4 * rayon::current_num_threads())),
    };
    halve(outputs, 0, n, rows.next_multiple_of(unit), &kernel);
}

/// Calls `kernel(sequence, its rows)` for the sequences, but for empty ones, that `starts` cuts the rows of outputs into, on several threads where rows of
/// `work` elementary operations each are worth it.
pub fn for_sequences<R: Rows>(outputs: R, starts: &[usize], work: usize, kernel: &(impl Fn(usize, R) + Sync)) {
    halve_sequences(outputs, 0, starts, work.max(1), kernel);
}

fn halve_sequences<R: Rows>(outputs: R, first: usize, starts: &[usize], work: usize, kernel: &(impl Fn(usize, R) + Sync)) {
    let sequences = starts.len() - 1;
    if starts[sequences] == starts[0] {
        return;
    }
    if sequences == 1 {
        return kernel(first, outputs);
    }
    let middle = sequences / 2;
    let (left, right) = (&starts[..=middle], &starts[middle..]);
    let (a, b) = outputs.cut(right[0] - starts[0]);
    let run_left = || halve_sequences(a, first, left, work, kernel);
    let run_right = || halve_sequences(b, first + middle, right, work, kernel);
    if (starts[sequences] - starts[0]) * work < 2 * GRAIN {
        run_left();
        run_right();
    } else {
        rayon::join(run_left, run_right);
    }
}

fn halve<R: Rows>(outputs: R, first: usize, n: usize, piece: usize, kernel: &(impl Fn(usize, R) + Sync)) {
    if n <= piece {
        return kernel(first, outputs);
    }
    let left = n.div_ceil(piece).div_ceil(2) * piece;
    let (a, b) = outputs.cut(left);
    rayon::join(|| halve(a, first, left, piece, kernel), || halve(b, first + left, n - left, piece, kernel));
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
                    for_pieces((matrix(&mut a, 1), matrix(&mut b, 2)), n, work, unit, |first, (a, b)| {
                        assert!(first.is_multiple_of(unit) && b.data.len() == 2 * a.data.len());
                        a.data.iter_mut().enumerate().for_each(|(i, x)| *x += first + i + 1);
                        b.data.iter_mut().enumerate().for_each(|(i, x)| *x += 2 * first + i + 1);
                    });
                    assert!(a.iter().enumerate().all(|(i, &x)| x == i + 1));
                    assert!(b.iter().enumerate().all(|(i, &x)| x == i + 1));
                }
            }
        }
    }
}
