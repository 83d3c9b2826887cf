//! `SPLIT.jsonl` of reference log-probabilities: what a reference policy says of both answers of
//! each preference pair of a split.

use serde::{Deserialize, Serialize};

/// A pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferencePair {
    /// Its row.
    pub id: String,
    /// Of the tokens that were read: a loss on other tokens would be of another pair.
    pub digest: String,
    /// Log-probability of the chosen answer, summed over its tokens, in nats.
    pub chosen: f64,
    /// Of the rejected answer.
    pub rejected: f64,
}

/// The file of a split.
pub fn file(split: &str) -> String {
    format!("{split}.jsonl")
}
