//! `seeds.json` of an evaluation over seeds of training: figures with each seed's value.

use serde::{Deserialize, Serialize};

use crate::eval::seeds::OverSeeds;

/// The file.
pub const SEEDS: &str = "seeds.json";

/// One figure over seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The method.
    pub method: String,
    /// What `method` is compared with, where this is a difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<String>,
    /// The test set.
    pub test_set: String,
    /// The metric.
    pub metric: String,
    /// Mean, interval and deviation over seeds, and each seed's value.
    #[serde(flatten)]
    pub over: OverSeeds,
    /// Of a difference: p, Holm-corrected over all differences in this metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_holm: Option<f64>,
    /// Of a figure of one method: the low and high ends of each seed's own 95% interval over
    /// inputs, of the seeds that have one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub over_inputs: Vec<[f64; 2]>,
}

/// Half a 95% interval of a normal distribution, in standard deviations.
const REACH: f64 = 1.96;

impl Figure {
    /// The standard error of one seed's figure over inputs, as its interval has it: half the width
    /// over 1.96, mean over seeds. None of a difference.
    pub fn error_over_inputs(&self) -> Option<f64> {
        let widths: Vec<f64> =
            self.over_inputs.iter().map(|[low, high]| (high - low) / 2.0 / REACH).collect();
        (!widths.is_empty()).then(|| widths.iter().sum::<f64>() / widths.len() as f64)
    }
}
