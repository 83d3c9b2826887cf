//! `reward_model.json` of an evaluation: how well the reward model orders held-out pairs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::eval::interval::Interval;
use crate::eval::reward::{Bin, Calibration};

/// The file: a list.
pub const REWARD_MODEL: &str = "reward_model.json";

/// What is known of the reward model on a test set. Fields that a report does not need may be
/// absent in artefacts of earlier versions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Accuracy {
    /// The test set.
    pub test_set: String,
    /// Number of prompts of the pairs: pairs of one prompt share texts, so intervals are over
    /// prompts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<usize>,
    /// Share of pairs ordered as labelled, a tie counting half.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<Interval>,
    /// Fifths of the pairs, least confident first.
    pub by_confidence: Vec<Bin>,
    /// How far confidence is accuracy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// Accuracy by where pairs come from, where they say so.
    #[serde(default)]
    pub by_source: BTreeMap<String, Interval>,
}
