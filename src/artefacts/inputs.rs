//! `inputs.jsonl` of an evaluation: one input of a test set a line, with what every method answered
//! and what was measured of each answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The file.
pub const INPUTS: &str = "inputs.jsonl";

/// One input: a line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// `id`, `ood_forum`, ….
    pub test_set: String,
    /// The row's name.
    pub id: String,
    /// What was asked.
    pub prompt: String,
    /// In the order of the table; the reference is the last.
    pub answers: Vec<Answer>,
}

/// What one method answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The method.
    pub method: String,
    /// Its output.
    pub text: String,
    /// By metric; `null` where a score is no number.
    pub scores: BTreeMap<String, Option<f64>>,
    /// Its samples of this input, where it was sampled for diversity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<String>,
}

impl Input {
    /// An input without answers.
    pub fn new(test_set: &str, id: &str, prompt: &str) -> Self {
        Input {
            test_set: test_set.into(),
            id: id.into(),
            prompt: prompt.into(),
            answers: Vec::new(),
        }
    }

    /// The answer of a method.
    pub fn answer(&self, method: &str) -> Option<&Answer> {
        self.answers.iter().find(|answer| answer.method == method)
    }
}
