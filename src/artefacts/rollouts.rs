//! Rollouts of a policy's training: a folder with a file of lines for each step, from 1.

use serde::{Deserialize, Serialize};

/// The folder.
pub const ROLLOUTS: &str = "rollouts";

/// A response that was sampled for a step, before its updates; fields by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// Whether it ended by itself.
    pub ended: bool,
    /// The prompt's row.
    pub id: String,
    /// log p - log p_reference, summed over the response, in nats.
    pub kl: f64,
    /// What was asked.
    pub prompt: String,
    /// The score before the missing-EOS rule.
    pub raw_score: f64,
    /// What was answered.
    pub response: String,
    /// The score that is optimised, after that rule.
    pub score: f64,
}
