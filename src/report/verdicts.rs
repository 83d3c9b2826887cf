//! What the verdicts of a judge amount to, as a stage `judge` writes it and a report reads it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::eval::interval::Interval;

/// All of them.
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
