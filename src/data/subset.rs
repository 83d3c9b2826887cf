//! Rows of a dataset, picked: one half by a score, a share, the first ones. Uses no model and
//! not what a score means.
//!
//! 1. The median is that of the scores of all rows of the split that is picked from. The lower half
//!    is every row at or below it, the upper half every row above: together they are the split,
//!    they share no row, and neither depends on the order of rows. Rows of one score stay together,
//!    so halves are of one size only where the scores around the median differ.
//! 2. The half is taken first, then the share, then the order, then the limit.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::dataset::Dataset;
use super::rows::Rows;
use super::source::Share;
use crate::error::{Result, user};
use crate::reference::{Ref, Scores};

/// The score of a row: what an artefact of scores has for each, in a file a split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scored {
    /// The row's name.
    pub id: String,
    /// Its score.
    pub score: f64,
}

/// Which rows of a split are picked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pick {
    /// Split of `dataset` that the rows are taken from.
    pub from: String,
    /// The rows on one side of the median of a score.
    #[serde(default)]
    pub half: Option<Half>,
    /// The part of the rows to keep, by the hash of the prompt.
    #[serde(default)]
    pub share: Option<Share>,
    /// Seed of a random order of the rows; `null` keeps their order.
    #[serde(default)]
    pub shuffle: Option<u64>,
    /// Number of first rows to keep, after all other options; `null` keeps all.
    #[serde(default)]
    pub limit: Option<usize>,
}

/// The rows on one side of the median of a score.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Half {
    /// Scores of the rows of `dataset`.
    pub scores: Ref<Scores>,
    /// Side of the median that is kept.
    pub keep: Side,
}

/// A side of a median.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Rows at the median or below it.
    Lower,
    /// Rows above the median.
    Upper,
}

impl Pick {
    /// Options out of range: the field, and what was expected.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let share = self.share.and_then(|share| share.problem()).map(|message| ("share", message));
        let limit =
            (self.limit == Some(0)).then(|| ("limit", "expected at least 1, or null".to_owned()));
        share.into_iter().chain(limit).collect()
    }
}

/// The rows that are picked.
///
/// # Errors
/// The user's: there is no such split, or its scores are not those of its rows.
pub fn pick(dataset: &Dataset, pick: &Pick) -> Result<Rows> {
    let mut rows = dataset.rows(&pick.from)?;
    if let Some(half) = &pick.half {
        let scores = scores(half.scores.path(), &pick.from, &rows)?;
        let median = median(&scores);
        rows.retain(|row| (scores[row] <= median) == (half.keep == Side::Lower));
    }
    if let Some(share) = pick.share {
        let texts = rows.texts();
        rows.retain(|row| share.has(texts[row].content()));
    }
    rows.order(pick.shuffle, pick.limit);
    Ok(rows)
}

/// The scores of the rows of a split, in their order.
fn scores(folder: &Path, split: &str, rows: &Rows) -> Result<Vec<f64>> {
    let scored: Vec<Scored> = Dataset::open(folder)?.split(split)?;
    let by_id: BTreeMap<&str, f64> =
        scored.iter().map(|row| (row.id.as_str(), row.score)).collect();
    let ids = rows.ids();
    let other = |id: &str| {
        let hint = "scores are looked up by the ids of rows: score the dataset that is picked from";
        user(format!(
            "the scores of split `{split}` are of another dataset: none is of the row `{id}`"
        ))
        .hint(hint)
        .into()
    };
    let found = ids
        .iter()
        .map(|id| by_id.get(id).copied().ok_or_else(|| other(id)))
        .collect::<Result<Vec<f64>>>()?;
    match scored.len() == found.len() {
        true => Ok(found),
        false => {
            let message = format!(
                "split `{split}` has {} rows, and {} scores: they are of another dataset",
                found.len(),
                scored.len()
            );
            Err(user(message).into())
        }
    }
}

/// The middle score; of an even number, the lower of the two.
fn median(scores: &[f64]) -> f64 {
    let mut sorted = scores.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) / 2]
}
