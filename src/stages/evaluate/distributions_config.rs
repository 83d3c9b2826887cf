//! The config of measures of methods' own distributions, and its conditions on other stages.

use serde::{Deserialize, Serialize};

use crate::reference::{Ref, Samples};
use crate::stages::{Checks, Constraint, Rule};

/// Measures of methods' own distributions, which need their models.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistributionsConfig {
    /// Samples of a stage `generate` whose policy is the reference, for the forward KL; without
    /// them there is no `forward_kl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_samples: Option<Ref<Samples>>,
}

impl DistributionsConfig {
    /// Notes fields that lack what they need; `models` if a method names a model, `reference` if
    /// there is a reference policy.
    pub(super) fn check(&self, checks: &mut Checks, models: bool, reference: bool) {
        checks
            .require(
                models,
                "distributions",
                "no method has a `model` or a `policy`, so nothing is measured: remove it, or name \
                 some",
            )
            .require(
                reference || self.reference_samples.is_none(),
                "distributions.reference_samples",
                "expected a `reference_policy` as well: it is what they are samples of",
            );
    }

    /// The samples of the stage `samples`, which `field` refers to, are of `policy`.
    pub(super) fn constraint(field: String, samples: String, policy: String) -> Constraint {
        Constraint { field, node: samples, inner: "policy", rule: Rule::Is(policy) }
    }
}
