//! Rows that are longer than a model's context: refused, cut or left out. Uses no tokenizer.

use serde::{Deserialize, Serialize};

use super::tokenised::Tokenised;

/// Treatment of rows that are longer than the model's context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LongRows {
    /// Such a row is an error.
    #[default]
    Error,
    /// Such a row loses its end, EOS included. A row of which nothing to learn is left is left out.
    Cut,
    /// Such a row is left out.
    Skip,
}

/// Rows that fit, in order, and how many did not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fitted {
    /// The rows.
    pub rows: Vec<Tokenised>,
    /// Rows that were cut.
    pub cut: usize,
    /// Rows that were left out.
    pub skipped: usize,
}

impl LongRows {
    /// Whether it is the default.
    pub fn is_error(&self) -> bool {
        *self == LongRows::Error
    }

    /// Brings rows to at most `context` tokens. Rows that are to be errors stay as they are:
    /// [`super::tokenised::TooLong`] refuses them.
    pub fn fit(self, rows: Vec<Tokenised>, context: usize) -> Fitted {
        let mut fitted = Fitted::default();
        for mut row in rows {
            if self == LongRows::Error || row.tokens.len() <= context {
                fitted.rows.push(row);
                continue;
            }
            row.tokens.truncate(context);
            row.others.retain(|range| range.start < context);
            row.others.iter_mut().for_each(|range| range.end = range.end.min(context));
            match self == LongRows::Cut && row.learned().next().is_some() {
                true => {
                    fitted.cut += 1;
                    fitted.rows.push(row);
                }
                false => fitted.skipped += 1,
            }
        }
        fitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(prompt: usize, tokens: usize, others: &[std::ops::Range<usize>]) -> Tokenised {
        Tokenised { tokens: (0..tokens as u32).collect(), prompt, others: others.to_vec() }
    }

    #[test]
    fn long_rows_are_cut_or_left_out_and_others_stay() {
        let rows = || vec![row(2, 4, &[]), row(2, 6, &[]), row(5, 6, &[]), row(0, 5, &[])];
        let error = LongRows::Error.fit(rows(), 5);
        assert_eq!((error.rows, error.cut, error.skipped), (rows(), 0, 0));
        let skip = LongRows::Skip.fit(rows(), 5);
        assert_eq!((skip.cut, skip.skipped), (0, 2));
        assert_eq!(skip.rows, [row(2, 4, &[]), row(0, 5, &[])]);
        // Of the third row, five tokens of a prompt are left, and nothing to learn.
        let cut = LongRows::Cut.fit(rows(), 5);
        assert_eq!((cut.cut, cut.skipped), (1, 1));
        assert_eq!(cut.rows, [row(2, 4, &[]), row(2, 5, &[]), row(0, 5, &[])]);
    }

    #[test]
    fn what_is_not_learned_of_a_conversation_is_cut_with_it() {
        let others = [2..4, 6..8];
        let cut = |context| LongRows::Cut.fit(vec![row(1, 9, &others)], context);
        assert_eq!(cut(7).rows, [row(1, 7, &[2..4, 6..7])]);
        assert_eq!(cut(5).rows, [row(1, 5, &others[..1])]);
        assert_eq!((cut(2).cut, cut(2).skipped), (1, 0));
        // Before 4 the model wrote position 1 alone; with 1 token there is none.
        assert_eq!((cut(1).cut, cut(1).skipped), (0, 1));
    }
}
