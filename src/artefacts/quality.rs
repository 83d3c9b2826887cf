//! Quality beside diversity in an evaluation: `quality.json` and `quality.jsonl`. There are no such
//! files where the evaluation has no `quality`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::eval::interval::Interval;

/// The file with pass@k and best@k for every k: a list of [`AtK`].
pub const QUALITY: &str = "quality.json";
/// The file with every input's samples: a [`Graded`] a line.
pub const QUALITY_INPUTS: &str = "quality.jsonl";

/// The share of good samples.
pub const GOOD_SHARE: &str = "good_share";
/// Functional classes of the first k samples.
pub const DISTINCT_K: &str = "distinct_k";
/// Utility of the first k samples.
pub const UTILITY_K: &str = "utility_k";
/// pass@k.
pub const PASS_AT_K: &str = "pass_at_k";
/// best@k.
pub const BEST_AT_K: &str = "best_at_k";
/// Win rate of the best of k samples against the reference.
pub const WIN_AT_K: &str = "win_at_k";
/// Mean over pairs of samples that are good and of two classes.
pub const EFFECTIVE: &str = "effective_semantic_diversity";
/// Entropy of the samples' classes.
pub const CLASS_ENTROPY: &str = "class_entropy";

/// The measure of diversity that needs classes alone; it has the endings below.
pub const SIMPSON: &str = "simpson";

/// Ending of a measure of all samples of the inputs that have two good ones.
pub const TOTAL: &str = "_per_input_total";
/// Ending of a measure of the good samples of these inputs.
pub const GOOD: &str = "_per_input_good";
/// Ending of the first minus the second.
pub const QUALITY_CONTROL: &str = "_per_input_quality_control";

/// Whether a metric is of the diversity of good samples: of inputs that are others for each method,
/// and that a method may have none of.
pub fn is_of_good(metric: &str) -> bool {
    [TOTAL, GOOD, QUALITY_CONTROL].iter().any(|ending| metric.ends_with(ending))
}

/// What a method reaches with k samples, for every k.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AtK {
    /// The method.
    pub method: String,
    /// The test set.
    pub test_set: String,
    /// [`PASS_AT_K`], [`BEST_AT_K`] or [`WIN_AT_K`].
    pub metric: String,
    /// For k = 1, 2, …; means over inputs.
    pub by_k: Vec<Interval>,
}

/// The samples of one method for one input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Graded {
    /// The test set.
    pub test_set: String,
    /// The row's name.
    pub id: String,
    /// The method.
    pub method: String,
    /// The score of each sample.
    pub scores: Vec<f64>,
    /// The class of each sample, from 0 in the order of their first members.
    pub classes: Vec<usize>,
    /// What was measured of them, by metric; diversity of good samples only where there are two.
    pub figures: BTreeMap<String, f64>,
}
