//! What a stage `judge` writes: `judgements.jsonl`, every verdict; `summary.json`, what they amount
//! to; of people `items.jsonl`, what they say of each item.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::eval::interval::Interval;
use crate::eval::verdict::Verdict;

/// The file with every verdict, a [`Judgement`] a line.
pub const JUDGEMENTS: &str = "judgements.jsonl";
/// The file with the figures of every split, a [`Summary`].
pub const SUMMARY: &str = "summary.json";

/// The file with what people say of each item, a [`JudgedItem`] a line.
pub const ITEMS: &str = "items.jsonl";

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
    /// Who they are, what they were asked, how far they agree, with intervals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub people: Option<OfPeople>,
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

/// What people said, all splits together where nothing else is said.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OfPeople {
    /// `better` (which answer is), or `more_varied` (which set of answers is).
    pub question: String,
    /// Answers in a set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<usize>,
    /// Those who judged, by name.
    pub annotators: Vec<Annotator>,
    /// Items that one at least has judged.
    pub items: usize,
    /// Items that two at least have judged.
    pub by_several: usize,
    /// Majorities, by split.
    pub majority: BTreeMap<String, Majority>,
    /// Krippendorff's alpha with the verdicts as categories; none where no item has two judges, or
    /// all say one thing.
    pub alpha_nominal: Option<Interval>,
    /// The same with the verdicts in the order b, tie, a.
    pub alpha_ordinal: Option<Interval>,
    /// Every two who have judged an item in common.
    pub pairs: Vec<TwoAnnotators>,
}

/// One person.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Annotator {
    /// The name in the sheets.
    pub name: String,
    /// Items judged.
    pub items: usize,
    /// Of these, ties.
    pub ties: usize,
    /// Of the verdicts that decide, the share for what was shown first; 0.5 is no bias of position.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_share: Option<f64>,
}

/// What most people say of the items of a split.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Majority {
    /// Items with more than half of the verdicts for `a`.
    pub a: usize,
    /// Those with more than half for `b`.
    pub b: usize,
    /// All others.
    pub tie: usize,
    /// The share of items with a majority for `a`, a tie counting half.
    pub win_rate: Interval,
}

/// Two people.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TwoAnnotators {
    /// Their names.
    pub annotators: [String; 2],
    /// Share of the items that both have judged on which they say the same.
    pub agreement: Interval,
    /// Cohen's kappa on these; none where both always say one thing.
    pub cohen_kappa: Option<f64>,
}

/// One item: a line of `items.jsonl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JudgedItem {
    /// The split of its row.
    pub split: String,
    /// The row.
    pub id: String,
    /// A digest of question and texts: `posttrain_data::study::Item::key`.
    pub key: String,
    /// How many say what.
    pub votes: Votes,
    /// The mean of the scores of the verdicts.
    pub score: f64,
    /// What more than half say, else a tie.
    pub majority: Verdict,
}

/// How many say what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Votes {
    /// For `a`.
    pub a: usize,
    /// For `b`.
    pub b: usize,
    /// Neither.
    pub tie: usize,
}
