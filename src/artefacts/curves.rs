//! Curves of an evaluation: `best_of_n.json` and `over_optimisation.json`.

use serde::{Deserialize, Serialize};

use crate::eval::interval::Interval;

/// The file with best-of-n for every n: a list of [`BestOfN`].
pub const BEST_OF_N: &str = "best_of_n.json";
/// The file with the training of policies by KL: a list of [`Training`].
pub const OVER_OPTIMISATION: &str = "over_optimisation.json";

/// What best-of-n gives for every n, from the same candidates.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BestOfN {
    /// The method.
    pub method: String,
    /// The test set.
    pub test_set: String,
    /// `rm`, the reward by which candidates are picked, `raw_rm`, what the reward model said where
    /// the missing-EOS rule made another reward of it, `gold`, or `ead_per_input` of samples.
    pub metric: String,
    /// For n = 1, 2, ….
    pub by_n: Vec<Interval>,
    /// The most nats that best-of-n is away from its policy, for n = 1, 2, ….
    pub kl_bound: Vec<f64>,
}

/// How a policy moved while it was trained.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Training {
    /// The method.
    pub method: String,
    /// Its steps, in order.
    pub steps: Vec<TrainingStep>,
}

/// The rollouts of a step, which were sampled before its updates.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrainingStep {
    /// From 1.
    pub step: usize,
    /// log p - log p_reference, summed over the response, in nats.
    pub kl: Interval,
    /// The score that was optimised, after the missing-EOS rule.
    pub rm: Interval,
    /// What the reward model said; artefacts of earlier versions have no such field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_rm: Option<Interval>,
    /// The exact score, where the prompts have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gold: Option<Interval>,
}
