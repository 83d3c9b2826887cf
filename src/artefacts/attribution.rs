//! `attribution.json` of an evaluation: what each stage of training changed, from a first method
//! to the last one that was made from it. There is no such file where no method names the one
//! that it was made from.

use serde::{Deserialize, Serialize};

use crate::eval::compare::Difference;
use crate::eval::interval::Interval;

/// The file: a list of [`Attribution`].
pub const ATTRIBUTION: &str = "attribution.json";

/// The changes of one metric on one test set along one chain of methods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attribution {
    /// The metric.
    pub metric: String,
    /// The test set.
    pub test_set: String,
    /// The methods, each made from the one before it.
    pub chain: Vec<String>,
    /// The mean of the first method, over the inputs that all methods are compared on.
    pub start: f64,
    /// What each of the others changed, in order: their means add up to `total`.
    pub steps: Vec<Step>,
    /// The last method minus the first.
    pub total: Difference,
}

/// What a stage changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// A method minus the one that it was made from, paired over inputs.
    #[serde(flatten)]
    pub change: Difference,
    /// The change over the total change; none where the total is not significant after Holm's
    /// correction, or has no interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Interval>,
}
