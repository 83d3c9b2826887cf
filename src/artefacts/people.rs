//! `people.json` of an evaluation: how often each measure picks what people picked.

use serde::{Deserialize, Serialize};

use crate::eval::interval::Interval;

/// The file.
pub const PEOPLE: &str = "people.json";

/// A measure beside people, on a test set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BesidePeople {
    /// The name of the judgements in the evaluation.
    pub name: String,
    /// `better` (which answer is), or `more_varied` (which set of answers is).
    pub question: String,
    /// The method of one side.
    pub a: String,
    /// The method of the other.
    pub b: String,
    /// The test set.
    pub test_set: String,
    /// The measure.
    pub metric: String,
    /// Items that people have judged and the measure has values of, ties of people included.
    pub judged: usize,
    /// Of those on which more than half of the people pick one side, the share on which the measure
    /// picks the same, its ties counting half; n counts them.
    pub agreement: Interval,
    /// Kendall's tau-b of the two over all that are judged, -1 to 1.
    pub tau_b: Interval,
}
