//! `distributions.json` of an evaluation: measures of methods' models by position of the response.
//! There is no such file where the evaluation has no `distributions`, or where no position has
//! enough inputs.

use serde::{Deserialize, Serialize};

use crate::eval::interval::Interval;

/// The file: a list of [`ByPosition`].
pub const DISTRIBUTIONS: &str = "distributions.json";

/// Mean entropy of the next-token distribution over the tokens of samples, in nats.
pub const TOKEN_ENTROPY: &str = "token_entropy";
/// exp of a mean entropy.
pub const BRANCHING_FACTOR: &str = "branching_factor";
/// KL of a method's model from the reference policy, by samples of the latter, in nats.
pub const FORWARD_KL: &str = "forward_kl";

/// A measure of a method's model at each position of the response.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ByPosition {
    /// The method.
    pub method: String,
    /// The test set.
    pub test_set: String,
    /// [`BRANCHING_FACTOR`].
    pub metric: String,
    /// The temperature of the samples, which the distributions are at.
    pub temperature: f64,
    /// For positions 1, 2, ...; means over the inputs that reach them, as far as eight do.
    pub by_position: Vec<Interval>,
}
