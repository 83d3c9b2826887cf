//! Comparisons that seeds are added for until they are decided: tests that hold at any number of
//! seeds.

use serde::{Deserialize, Serialize};

use super::combine::Combined;
use crate::artefacts::seeds::{Figure, Quantity, Sequential};
use crate::error::{Result, user};
use crate::eval::correction::LEVEL;
use crate::eval::sequential::{anytime, seeds_to_decide};
use crate::stages::Checks;

/// What is decided by tests that hold at any number of seeds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SequentialConfig {
    /// Metric of the differences.
    pub metric: String,
    /// Methods that are compared.
    pub compare: Vec<Compared>,
    /// Test sets; an empty list takes all.
    #[serde(default)]
    pub test_sets: Vec<String>,
    /// A difference between minus this and this does not matter. `null` decides differences alone,
    /// and seeds never decide a difference of 0.
    #[serde(default)]
    pub margin: Option<f64>,
}

/// Two methods.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compared {
    /// One method.
    pub method: String,
    /// The other.
    pub with: String,
}

impl Compared {
    fn is(&self, figure: &Figure) -> bool {
        let Some(with) = &figure.with else { return false };
        let own = (self.method.as_str(), self.with.as_str());
        own == (figure.method.as_str(), with) || own == (with, figure.method.as_str())
    }
}

impl SequentialConfig {
    /// Notes values out of range.
    pub(super) fn out_of_range(&self, checks: &mut Checks) {
        checks
            .require(
                !self.compare.is_empty(),
                "sequential.compare",
                "expected at least one pair of methods",
            )
            .require(
                self.margin.is_none_or(|margin| margin.is_finite() && margin > 0.0),
                "sequential.margin",
                "expected a number above 0",
            );
    }

    /// Puts what is decided beside each figure that is named.
    ///
    /// # Errors
    /// The user's, if a comparison or a test set is not there.
    pub(super) fn decide(&self, all: &mut [Combined]) -> Result<()> {
        let is_difference = |figure: &Figure| {
            figure.quantity() == Quantity::Difference && figure.metric == self.metric
        };
        let known: Vec<&Figure> =
            all.iter().map(|one| &one.figure).filter(|figure| is_difference(figure)).collect();
        if known.is_empty() {
            let message =
                format!("`sequential.metric` is `{}`, and no methods differ in it", self.metric);
            return Err(user(message).hint("name a metric of the table").into());
        }
        for two in &self.compare {
            if !known.iter().any(|figure| two.is(figure)) {
                let mut pairs: Vec<String> = known.iter().map(|figure| pair(figure)).collect();
                pairs.dedup();
                let message = format!(
                    "`sequential.compare` has `{}` with `{}`, which are not compared by `{}`",
                    two.method, two.with, self.metric
                );
                return Err(user(message).hint(format!("there are: {}", pairs.join(", "))).into());
            }
        }
        let sets: Vec<&String> = known.iter().map(|figure| &figure.test_set).collect();
        if let Some(set) = self.test_sets.iter().find(|set| !sets.contains(set)) {
            let message = format!("`sequential.test_sets` has `{set}`, on which nothing differs");
            return Err(user(message).hint("name test sets of the evaluations").into());
        }
        let wanted: Vec<usize> = (0..all.len())
            .filter(|at| {
                let figure = &all[*at].figure;
                is_difference(figure)
                    && (self.test_sets.is_empty() || self.test_sets.contains(&figure.test_set))
                    && self.compare.iter().any(|two| two.is(figure))
            })
            .collect();
        let level = LEVEL / wanted.len() as f64;
        for at in &wanted {
            let figure = &mut all[*at].figure;
            let known = anytime(&figure.over.values, level);
            let (mean, std) = (figure.over.interval.mean, figure.over.std);
            figure.sequential = Some(Sequential {
                of: wanted.len(),
                level,
                known,
                margin: self.margin,
                verdict: known.decide(self.margin),
                seeds: seeds_to_decide(mean, std, level, self.margin),
            });
        }
        Ok(())
    }
}

fn pair(figure: &Figure) -> String {
    format!("{} with {}", figure.method, figure.with.as_deref().unwrap_or_default())
}
