//! `comparisons.json` of an evaluation: what is compared with what.

use serde::{Deserialize, Serialize};

use crate::eval::compare::{Difference, Gap, Matched, Wins};
use crate::eval::gains::GainGap;
use crate::eval::interval::Interval;

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
    /// Policies beside best-of-n at their mean score.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matched_quality: Vec<MatchedQuality>,
    /// How alike the samples of every two methods are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub between: Vec<Between>,
}

/// A policy against best-of-n at the policy's mean score, by the diversity of samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MatchedQuality {
    /// The score: `gold` or `rm`.
    pub by: String,
    /// Its mean over the samples of the policy, and over inputs, with its interval.
    pub quality: Interval,
    /// The n of best-of-n with that score, between two whole ones.
    pub best_of: f64,
    /// The temperature of both methods' samples.
    pub temperature: f64,
    /// The mean of `method`.
    pub own: f64,
    /// The mean of best-of-n at that n.
    pub best: f64,
    /// `method` minus `with`, which is best-of-n; its interval has the error of the score.
    #[serde(flatten)]
    pub difference: Difference,
}

/// Similarity by the counts of n-grams.
pub const NGRAM_SIMILARITY: &str = "ngram_similarity";
/// Similarity by sentence embeddings.
pub const EMBEDDING_SIMILARITY: &str = "embedding_similarity";
/// Ending of the share of inputs whose similarity is above the threshold.
pub const HIGH: &str = "_high";

/// How alike the samples of two methods are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Between {
    /// [`NGRAM_SIMILARITY`] or [`EMBEDDING_SIMILARITY`].
    pub metric: String,
    /// The test set.
    pub test_set: String,
    /// One method.
    pub method: String,
    /// The other.
    pub with: String,
    /// Mean over inputs of the mean over the pairs of a sample of each.
    pub similarity: Interval,
    /// Share of inputs whose mean is above the threshold.
    pub high: Interval,
    /// Mean over inputs of the mean within the two less that between them, of the inputs that have
    /// two samples of both; none where no input has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apart: Option<Interval>,
}
