//! What a stage `judge` writes: `judgements.jsonl`, every verdict, and `summary.json`, what they
//! amount to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::eval::interval::Interval;
use crate::eval::verdict::Verdict;

/// The file with every verdict, a [`Judgement`] a line.
pub const JUDGEMENTS: &str = "judgements.jsonl";
/// The file with the figures of every split, a [`Summary`].
pub const SUMMARY: &str = "summary.json";

/// Which of two texts was shown first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// `a`.
    Ab,
    /// `b`.
    Ba,
}

impl Order {
    /// By whether `a` was shown first.
    pub fn of(a_first: bool) -> Self {
        if a_first { Order::Ab } else { Order::Ba }
    }
}

/// One verdict.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Judgement {
    /// The split of the pair's row.
    pub split: String,
    /// The row.
    pub id: String,
    /// Which text was shown first; none where the judge sees one text at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// What was decided.
    pub verdict: Verdict,
    /// What the judge said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
    /// The person who judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotator: Option<String>,
    /// Tokens of the question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u64>,
    /// Tokens of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<u64>,
    /// Score of `a` minus that of `b`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
}

impl Judgement {
    /// A verdict on the pair of a row, of which no more is known.
    pub fn new(split: &str, id: &str, verdict: Verdict) -> Self {
        Judgement {
            split: split.into(),
            id: id.into(),
            order: None,
            verdict,
            raw: None,
            annotator: None,
            prompt_tokens: None,
            completion_tokens: None,
            margin: None,
        }
    }
}

/// What a judge found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// Who judged: `gold`, `reward_model`, `llm`, `human`.
    pub judge: String,
    /// What was judged: `a`, or `chosen` of preference pairs.
    pub a: String,
    /// What it was compared with: `reference`, `b`, or `rejected` of preference pairs.
    pub b: String,
    /// Of a reward model: that it had no part in what it judged, and hardly any pair in common with
    /// one that had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out: Option<bool>,
    /// Why it is not held out, or what it has in common with one that had a part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
    /// The figures.
    #[serde(flatten)]
    pub verdicts: Verdicts,
}

/// What verdicts amount to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Verdicts {
    /// By split of the dataset.
    pub splits: BTreeMap<String, OfSplit>,
    /// What it took to ask a language model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// How far people agree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement: Option<Agreement>,
}

/// Those on a split.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OfSplit {
    /// The mean score of the first of two texts; for preference pairs the judge's agreement with
    /// their labels.
    pub win_rate: Interval,
    /// Pairs whose score is one half.
    pub ties: usize,
    /// Verdicts that cannot be read.
    pub unclear: usize,
    /// Of the verdicts that decide, the share for the text shown first; none where the judge sees
    /// one text at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_share: Option<f64>,
    /// Share of pairs with the same verdict in both orders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_agreement: Option<Interval>,
    /// The win rate among thirds of the pairs by how sure the judge is (low to high), or where both
    /// orders agree.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_confidence: BTreeMap<String, Interval>,
}

/// What all answers of a language model took, whenever they were given.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Questions.
    pub questions: usize,
    /// Tokens of them.
    pub prompt_tokens: u64,
    /// Tokens of its answers.
    pub completion_tokens: u64,
    /// By the price in the config.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
}

/// How far people agree with each other; 0 is chance, 1 perfect.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Agreement {
    /// How many they are.
    pub annotators: usize,
    /// None where no pair has two judges.
    pub krippendorff_alpha: Option<f64>,
    /// Of two annotators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cohen_kappa: Option<f64>,
}
