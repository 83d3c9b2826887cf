//! `SPLIT.jsonl` of reference log-probabilities: what a reference policy says of both answers of
//! each preference pair of a split, or of the completion of each row.

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
    /// Of the prompt with answers to other prompts: one for the chosen answer, one for the
    /// rejected one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mismatched: Option<Mismatched>,
}

/// A prompt with its completion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceCompletion {
    /// Its row.
    pub id: String,
    /// Of the tokens that were read.
    pub digest: String,
    /// Log-probability of the completion, summed over its tokens, in nats.
    pub completion: f64,
    /// Of the prompt with the completion of another row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mismatched: Option<Mismatched>,
}

/// A prompt with answers to other prompts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mismatched {
    /// Of the tokens that were read.
    pub digest: String,
    /// Log-probability of each answer, summed over its tokens, in nats.
    pub logprobs: Vec<f64>,
}

/// The file of a split.
pub fn file(split: &str) -> String {
    format!("{split}.jsonl")
}
