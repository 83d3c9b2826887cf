//! The place of one of the model's matrices in a matrix of a file: which of the file's rows are
//! ours, and whether the file's matrix is transposed. Independent of families and files.
//!
//! Files fuse, interleave, pad and transpose matrices. Only a [`Form`] describes this, in numbers:
//! code that reads finds a row of ours by [`Form::stored`], code that writes puts rows back with
//! [`assemble`].

use std::borrow::Cow;
use std::ops::Range;

/// What part of a file's matrix one of ours is. A vector is a matrix of one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Which rows are ours.
    pub rows: Rows,
    /// Rows in the file are columns of ours.
    pub transposed: bool,
}

/// Which rows of a matrix are ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// All of them.
    All,
    /// All except the first ones, which are never read and are written as zeros.
    After(usize),
    /// One of several matrices, stacked one below the other, each as high as ours.
    Part {
        /// Which of them is ours.
        index: usize,
        /// How many there are.
        of: usize,
    },
    /// One of several matrices of which `group` rows at a time alternate.
    Alternating {
        /// Which of them is ours.
        index: usize,
        /// How many there are.
        of: usize,
        /// Rows at a time.
        group: usize,
    },
}

impl Form {
    /// The file's matrix is ours.
    pub const WHOLE: Form = Form { rows: Rows::All, transposed: false };

    /// The file's matrix, with `transposed` set.
    pub fn transposed(self) -> Self {
        Form { transposed: true, ..self }
    }

    /// Rows in the file's matrix (columns, where it is transposed), where ours has `rows`.
    pub fn height(self, rows: usize) -> usize {
        match self.rows {
            Rows::All => rows,
            Rows::After(unread) => unread + rows,
            Rows::Part { of, .. } | Rows::Alternating { of, .. } => of * rows,
        }
    }

    /// Sizes of the file's tensor that holds one of ours.
    pub fn shape(self, ours: &[usize]) -> Vec<usize> {
        let mut shape = ours.to_vec();
        shape[0] = self.height(ours[0]);
        if self.transposed {
            shape.reverse();
        }
        shape
    }

    /// The index in the file's matrix of a row of ours, of `rows`, and the number of our rows that
    /// follow one another from there on.
    pub fn stored(self, row: usize, rows: usize) -> (usize, usize) {
        match self.rows {
            Rows::All => (row, rows - row),
            Rows::After(unread) => (unread + row, rows - row),
            Rows::Part { index, .. } => (index * rows + row, rows - row),
            Rows::Alternating { index, of, group } => {
                (((row / group) * of + index) * group + row % group, group - row % group)
            }
        }
    }
}

/// A matrix or vector of ours, with its place in a file's.
pub struct Part<'a> {
    /// What part it is.
    pub form: Form,
    /// Its sizes.
    pub shape: Vec<usize>,
    /// Its numbers.
    pub numbers: Cow<'a, [f32]>,
}

/// Puts together the rows `range`, by their index in the file, of the tensor that holds `parts`.
/// Rows of no part become zeros. `width` is the length of such a row: of ours or, where the parts
/// are transposed, of all their rows together.
pub fn assemble(out: &mut [f32], parts: &[Part<'_>], range: Range<usize>, width: usize) {
    assert_eq!(out.len(), range.len() * width, "size of the rows");
    out.fill(0.0);
    for part in parts {
        let (rows, columns) = (part.shape[0], part.shape.get(1).copied().unwrap_or(1));
        assert_eq!(part.numbers.len(), rows * columns, "size of a part");
        let mut row = 0;
        while row < rows {
            let (first, run) = part.form.stored(row, rows);
            match part.form.transposed {
                true => {
                    for (index, numbers) in
                        part.numbers[row * columns..].chunks_exact(columns).take(run).enumerate()
                    {
                        for (at, number) in numbers[range.clone()].iter().enumerate() {
                            out[at * width + first + index] = *number;
                        }
                    }
                }
                false => {
                    let (from, to) = (first.max(range.start), (first + run).min(range.end));
                    if from < to {
                        let ours = &part.numbers[(row + from - first) * columns..]
                            [..(to - from) * columns];
                        out[(from - range.start) * columns..][..ours.len()].copy_from_slice(ours);
                    }
                }
            }
            row += run;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: Rows) -> Form {
        Form { rows, transposed: false }
    }

    /// `[rows,2]` with numbers that tell matrix, row and column.
    fn matrix(form: Form, name: f32, rows: usize) -> Part<'static> {
        let numbers =
            (0..rows).flat_map(|row| [name + row as f32, name + row as f32 + 0.5]).collect();
        Part { form, shape: vec![rows, 2], numbers: Cow::Owned(numbers) }
    }

    /// All rows of the file's tensor, put together `step` rows at a time.
    fn whole(parts: &[Part<'_>], step: usize) -> Vec<f32> {
        let shape = parts[0].form.shape(&parts[0].shape);
        let mut out = Vec::new();
        for start in (0..shape[0]).step_by(step) {
            let range = start..(start + step).min(shape[0]);
            let mut rows = vec![f32::NAN; range.len() * shape[1]];
            assemble(&mut rows, parts, range, shape[1]);
            out.extend(rows);
        }
        out
    }

    #[test]
    fn parts_stand_one_below_the_other() {
        let parts = [0, 1, 2]
            .map(|index| matrix(rows(Rows::Part { index, of: 3 }), 100.0 * index as f32, 2));
        let expected = [0.0, 0.5, 1.0, 1.5, 100.0, 100.5, 101.0, 101.5, 200.0, 200.5, 201.0, 201.5];
        for step in [1, 2, 3, 4, 6] {
            assert_eq!(whole(&parts, step), expected);
        }
    }

    #[test]
    fn transposed_parts_stand_side_by_side() {
        let parts = [0, 1].map(|index| {
            matrix(rows(Rows::Part { index, of: 2 }).transposed(), 100.0 * index as f32, 3)
        });
        let expected = [0.0, 1.0, 2.0, 100.0, 101.0, 102.0, 0.5, 1.5, 2.5, 100.5, 101.5, 102.5];
        assert_eq!(parts[0].form.shape(&[3, 2]), [2, 6]);
        for step in [1, 2] {
            assert_eq!(whole(&parts, step), expected);
        }
    }

    #[test]
    fn alternating_rows_change_hands_in_groups() {
        let parts = [0, 1].map(|index| {
            matrix(rows(Rows::Alternating { index, of: 2, group: 2 }), 100.0 * index as f32, 4)
        });
        let firsts = [0.0, 1.0, 100.0, 101.0, 2.0, 3.0, 102.0, 103.0];
        for step in [1, 3, 8] {
            assert_eq!(whole(&parts, step).into_iter().step_by(2).collect::<Vec<_>>(), firsts);
        }
    }

    #[test]
    fn rows_that_nobody_reads_are_zeros() {
        let parts = [matrix(rows(Rows::After(2)), 7.0, 2)];
        for step in [1, 2, 3, 4] {
            assert_eq!(whole(&parts, step), [0.0, 0.0, 0.0, 0.0, 7.0, 7.5, 8.0, 8.5]);
        }
    }

    #[test]
    fn rows_of_ours_are_found_where_assembling_puts_them() {
        let forms = [
            Rows::All,
            Rows::After(3),
            Rows::Part { index: 1, of: 3 },
            Rows::Alternating { index: 2, of: 3, group: 4 },
        ]
        .map(rows);
        for form in forms {
            let part = [matrix(form, 1.0, 8)];
            let file = whole(&part, 5);
            assert_eq!(file.len(), 2 * form.height(8));
            for row in 0..8 {
                let (stored, run) = form.stored(row, 8);
                assert!(run >= 1 && row + run <= 8);
                assert_eq!(file[2 * stored], 1.0 + row as f32);
            }
        }
    }
}
