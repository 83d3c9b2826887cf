//! `temperatures.json` of an evaluation: at which temperature each method was sampled.

use serde::{Deserialize, Serialize};

/// The file: a list.
pub const TEMPERATURES: &str = "temperatures.json";

/// At which temperature a method was sampled; none where it is not one
/// and the same for all rows, or none is known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Temperatures {
    /// The method.
    pub method: String,
    /// Of the first output of each input.
    pub outputs: Option<f64>,
    /// Of the samples that diversity and KL are measured on.
    pub samples: Option<f64>,
    /// Whether it has no outputs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_outputs: bool,
    /// Whether it has no samples.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_samples: bool,
}
