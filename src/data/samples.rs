//! `samples.jsonl`: generated texts with what is known of them, one row a prompt. Uses no model.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::rows::{read_jsonl, write_jsonl};
use crate::error::Result;

/// The file in an artefact.
const FILE: &str = "samples.jsonl";

/// One generated text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The text, special tokens left out, those within it too.
    pub text: String,
    /// Its tokens, end-of-text token included where it ended.
    pub tokens: Vec<u32>,
    /// Log-probability of all tokens, of the distribution they were drawn from, in nats.
    pub logprob: f64,
    /// Whether it ended by itself.
    pub ended: bool,
    /// The reward that outputs are chosen by, where they are: the reward model's normalised score,
    /// after the missing-EOS rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<f64>,
    /// What the reward model said, where that rule made something else of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_reward: Option<f64>,
}

impl Output {
    /// The reward model's normalised score, before the missing-EOS rule.
    pub fn raw_reward(&self) -> Option<f64> {
        self.raw_reward.or(self.reward)
    }
}

/// One prompt with its outputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampled {
    /// The split its row is from.
    pub split: String,
    /// The row's name.
    pub id: String,
    /// The prompt.
    pub prompt: String,
    /// A chat template wrote the prompt: see [`Example::chat`](super::rows::Example::chat).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub chat: bool,
    /// The temperature that log-probabilities are of; none where the distribution was cut (greedy,
    /// top-k, top-p).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// What the method answers, one entry a sample.
    pub outputs: Vec<Output>,
    /// Each output is the best of this many candidates; none where outputs are samples themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_of: Option<usize>,
    /// What the outputs were chosen from, where they were: all of it, so that a smaller choice
    /// costs nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Output>,
}

/// The rows of a samples artefact.
pub fn read(folder: &Path) -> Result<Vec<Sampled>> {
    read_jsonl(&folder.join(FILE))
}

/// Writes the rows of a samples artefact.
pub fn write(folder: &Path, rows: &[Sampled]) -> Result<()> {
    write_jsonl(&folder.join(FILE), rows)
}
