//! The judgements of a `judge` stage: one as it is written, and the artefact as other stages read
//! it, with the score of every pair and the summary. Independent of judges.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::data::rows::read_jsonl;
use crate::data::versus::Versus;
use crate::error::{Context, Result};
use crate::eval::verdict::Verdict;
use crate::fs;

/// The file with every verdict, a line each.
pub const JUDGEMENTS: &str = "judgements.jsonl";
/// The file with the figures of every split.
pub const SUMMARY: &str = "summary.json";

/// One line of `judgements.jsonl`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Judgement {
    pub(super) split: String,
    pub(super) id: String,
    /// Which text was shown first: `ab` or `ba`; none where the judge sees one text at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) order: Option<&'static str>,
    pub(super) verdict: Verdict,
    /// What the judge said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) raw: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) annotator: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prompt_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) completion_tokens: Option<u64>,
    /// Score of `a` minus that of `b`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) margin: Option<f64>,
}

impl Judgement {
    pub(super) fn new(pair: &Versus, verdict: Verdict) -> Self {
        Judgement {
            split: pair.split.clone(),
            id: pair.id.clone(),
            order: None,
            verdict,
            raw: None,
            annotator: None,
            prompt_tokens: None,
            completion_tokens: None,
            margin: None,
        }
    }

    pub(super) fn order(a_first: bool) -> Option<&'static str> {
        Some(if a_first { "ab" } else { "ba" })
    }
}

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
