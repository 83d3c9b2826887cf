//! The judgements of a `judge` stage as other stages read them: the score of every pair, and the
//! summary. Independent of judges.

use std::collections::BTreeMap;
use std::path::Path;

use crate::artefacts::judgements::{JUDGEMENTS, Judgement, SUMMARY, Summary};
use crate::data::rows::read_jsonl;
use crate::error::{Context, Result};
use crate::eval::verdict::Verdict;
use crate::fs;

/// The verdicts of one judge on the answers of one method.
pub struct Judgements {
    /// By split and row: 1 where `a` wins, 0 where it loses, 0.5 for a tie; the mean, where several
    /// verdicts were given.
    pub scores: BTreeMap<String, BTreeMap<String, f64>>,
    /// Who judged what, and the figures.
    pub summary: Summary,
}

impl Judgements {
    /// Reads the artefact in a folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(SUMMARY);
        let summary = serde_json::from_str(&fs::read_to_string(&path)?)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let mut verdicts: BTreeMap<String, BTreeMap<String, Vec<Verdict>>> = BTreeMap::new();
        for Judgement { split, id, verdict, .. } in read_jsonl(&folder.join(JUDGEMENTS))? {
            verdicts.entry(split).or_default().entry(id).or_default().push(verdict);
        }
        let score = |all: Vec<Verdict>| {
            all.iter().map(|verdict| verdict.score()).sum::<f64>() / all.len() as f64
        };
        let split = |rows: BTreeMap<String, Vec<Verdict>>| {
            rows.into_iter().map(|(id, all)| (id, score(all))).collect()
        };
        let scores = verdicts.into_iter().map(|(name, rows)| (name, split(rows))).collect();
        Ok(Judgements { scores, summary })
    }
}
