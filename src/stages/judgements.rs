//! What a `judge` stage found, as other stages read it: the score of every pair, and its summary.
//! Knows no judge.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::data::rows::read_jsonl;
use crate::error::{Context, Result};
use crate::eval::verdict::Verdict;
use crate::fs;

/// The file with every verdict, a line each.
pub const JUDGEMENTS: &str = "judgements.jsonl";
/// The file with the figures of every split.
pub const SUMMARY: &str = "summary.json";

/// The verdicts of one judge on the answers of one method.
pub struct Judgements {
    /// Who judged: `gold`, `reward_model`, `llm`, `human`.
    pub judge: String,
    /// What was judged: `a`, or `chosen` of preference pairs.
    pub judged: String,
    /// What it was compared with: `reference`, `b`, or `rejected` of preference pairs.
    pub against: String,
    /// By split and row: 1 where `a` wins, 0 where it loses, 0.5 for a tie; the mean, where several
    /// verdicts were given.
    pub scores: BTreeMap<String, BTreeMap<String, f64>>,
    /// The summary as it was written.
    pub summary: Value,
}

/// A line of the file, as far as it is read here.
#[derive(Deserialize)]
struct Line {
    split: String,
    id: String,
    verdict: Verdict,
}

impl Judgements {
    /// Reads the artefact in a folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(SUMMARY);
        let summary: Value = serde_json::from_str(&fs::read_to_string(&path)?)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let word = |field: &str| -> Result<String> {
            let word = summary[field]
                .as_str()
                .with_context(|| format!("{} has no `{field}`", path.display()))?;
            Ok(word.to_owned())
        };
        let mut verdicts: BTreeMap<String, BTreeMap<String, Vec<Verdict>>> = BTreeMap::new();
        for Line { split, id, verdict } in read_jsonl::<Line>(&folder.join(JUDGEMENTS))? {
            verdicts.entry(split).or_default().entry(id).or_default().push(verdict);
        }
        let score = |all: Vec<Verdict>| {
            all.iter().map(|verdict| verdict.score()).sum::<f64>() / all.len() as f64
        };
        let split = |rows: BTreeMap<String, Vec<Verdict>>| {
            rows.into_iter().map(|(id, all)| (id, score(all))).collect()
        };
        let scores = verdicts.into_iter().map(|(name, rows)| (name, split(rows))).collect();
        Ok(Judgements {
            judge: word("judge")?,
            judged: word("a")?,
            against: word("b")?,
            scores,
            summary,
        })
    }
}
