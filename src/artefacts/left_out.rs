//! `left_out.json` of an evaluation: figures that it does not have, and why. There is no such file
//! where all figures are there.

use serde::{Deserialize, Serialize};

/// The file: a list.
pub const LEFT_OUT: &str = "left_out.json";

/// Figures that are left out for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Metrics of the table; `diversity`: all measures of samples; `diversity_of_good`: all of good
    /// ones; `optimum`: the optimum of the objective.
    pub figures: Vec<String>,
    /// Of which method, or difference `a - b`; of all, where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// On which test sets; on all, where none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub test_sets: Vec<String>,
    /// The reason.
    pub why: String,
    /// All of it as a sentence.
    pub note: String,
}
