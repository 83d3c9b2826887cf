//! Rollouts of a policy's training: a folder with a file of lines for each step, from 1.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::rl::Metrics;
use crate::rl::sentinels::responses::{self, Response};

/// The folder.
pub const ROLLOUTS: &str = "rollouts";

/// The file of step `step`, from 0.
pub fn name(step: usize) -> String {
    format!("step-{:05}.jsonl", step + 1)
}

/// The step, from 1, of a file of this name; `None` if it is no such file.
pub fn step_of(name: &str) -> Option<usize> {
    name.strip_prefix("step-")?.strip_suffix(".jsonl")?.parse().ok()
}

/// A response that was sampled for a step, before its updates; fields by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// Whether it ended by itself.
    pub ended: bool,
    /// The prompt's row.
    pub id: String,
    /// log p - log p_reference, summed over the response, in nats; where training replaces the
    /// reference, that is the one at the start.
    pub kl: f64,
    /// What was asked.
    pub prompt: String,
    /// The score before the missing-EOS rule; `null` where no reward applies.
    pub raw_score: Option<f64>,
    /// What was answered.
    pub response: String,
    /// The parts of the score by name, without their weights, where `rewards` has parts; `null`
    /// where a part does not apply.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rewards: BTreeMap<String, Option<f64>>,
    /// The score that is optimised, after that rule; `null` where no reward applies.
    pub score: Option<f64>,
}

impl<'a> From<&'a Rollout> for Response<'a> {
    fn from(rollout: &'a Rollout) -> Self {
        Response {
            id: &rollout.id,
            prompt: &rollout.prompt,
            text: &rollout.response,
            score: rollout.score,
            kl: rollout.kl,
        }
    }
}

/// The figures of the rollouts of a step that sentinels read.
pub fn figures(rollouts: &[Rollout]) -> Metrics {
    responses::figures(&rollouts.iter().map(Response::from).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_its_step() {
        let steps = [0, 11, 99_998, 123_455];
        assert_eq!(steps.map(|step| step_of(&name(step))), steps.map(|step| Some(step + 1)));
        assert_eq!(name(11), "step-00012.jsonl");
        for other in ["step-.jsonl", "step-00012", "00012.jsonl", "step-x.jsonl"] {
            assert_eq!(step_of(other), None, "{other}");
        }
    }
}
