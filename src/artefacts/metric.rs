//! What a stage `metric` writes: `values.jsonl`, the numbers that a program of the user's gives for
//! the rows of samples, and `metric.json`, what they are. Tables that have such numbers say what
//! they are as well ([`OwnMetric`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::eval::interval::Interval;

/// The file with the numbers: a [`Valued`] a line.
pub const VALUES: &str = "values.jsonl";
/// The file that says what they are: a [`Summary`].
pub const METRIC: &str = "metric.json";

/// How the name of a number begins that is an outcome of an input (0, 1) or a share of several: its
/// interval is that of a share.
pub const SHARE: &str = "share_";

/// Which numbers are better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// High numbers.
    Higher,
    /// Low numbers.
    Lower,
    /// No direction is better.
    #[default]
    Neither,
}

/// What the program gives a number of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// A number for each input, of all its samples.
    #[default]
    Input,
    /// A number for each sample; that of an input is the mean over its samples.
    Sample,
}

impl Per {
    /// Whether it is an input.
    pub fn is_input(&self) -> bool {
        *self == Per::Input
    }
}

/// The numbers of one row of samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Valued {
    /// The split of the row.
    pub split: String,
    /// The row.
    pub id: String,
    /// How many samples it has.
    pub samples: usize,
    /// By name; `null` where the row has no such number.
    pub values: BTreeMap<String, Option<f64>>,
    /// By name, the number of each sample, where there is one for each: `values` has the mean of
    /// those that are not `null`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub each: BTreeMap<String, Vec<Option<f64>>>,
}

/// What the numbers are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// What the program gives a number of.
    pub per: Per,
    /// By name.
    pub values: BTreeMap<String, Number>,
}

/// What one number is, and its mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Number {
    /// What it measures, a phrase without a full stop.
    pub description: String,
    /// What it is counted in; may be empty.
    pub unit: String,
    /// Which values are better.
    pub better: Better,
    /// By split of the samples.
    pub splits: BTreeMap<String, OfSplit>,
}

/// One number on a split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OfSplit {
    /// The mean over the inputs that have it; none where no input has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<Interval>,
    /// Inputs without it.
    pub inputs_without: usize,
    /// With a number for each sample: samples without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples_without: Option<usize>,
}

/// What a metric of a table is whose numbers a program of the user's gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OwnMetric {
    /// The metric.
    pub metric: String,
    /// What it measures, a phrase without a full stop.
    pub description: String,
    /// What it is counted in; may be empty.
    pub unit: String,
    /// Which values are better.
    pub better: Better,
    /// Whether it is of the methods' samples rather than of their outputs.
    pub of_samples: bool,
    /// Test sets on which methods are compared over fewer inputs than a figure of one of them is
    /// over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partial: Vec<String>,
}
