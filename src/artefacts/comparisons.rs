//! `comparisons.json` of an evaluation: what is compared with what.

use serde::{Deserialize, Serialize};

use crate::eval::compare::{Difference, GainGap, Gap, Matched, Wins};

/// The file.
pub const COMPARISONS: &str = "comparisons.json";

/// All comparisons of an evaluation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Comparisons {
    /// Between methods on the same inputs.
    pub differences: Vec<Difference>,
    /// How often one method is scored above another.
    #[serde(default)]
    pub head_to_head: Vec<Wins>,
    /// Between test sets of one method.
    pub gaps: Vec<Gap>,
    /// Between test sets of what one method gains over another; artefacts of earlier versions have
    /// none.
    #[serde(default)]
    pub gains: Vec<GainGap>,
    /// Policies beside best-of-n at their distance from the reference policy.
    #[serde(default)]
    pub matched: Vec<Matched>,
}
