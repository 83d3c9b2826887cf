//! The config of measures of methods' own distributions, and its conditions on other stages.

use serde::{Deserialize, Serialize};

use crate::data::dataset::TEST;
use crate::reference::{Dataset, Ref, Samples};
use crate::stages::{Checks, Constraint, Rule};

/// Measures of methods' own distributions, which need their models.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistributionsConfig {
    /// Samples of a stage `generate` whose policy is the reference, for the forward KL; without
    /// them there is no `forward_kl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_samples: Option<Ref<Samples>>,
    /// Held-out texts of earlier phases of training, each with a loss of every method's model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retention: Vec<Retention>,
}

/// Held-out texts of an earlier phase of training.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Name of the phase; the metric is `loss_NAME`.
    pub name: String,
    /// Dataset with the texts.
    pub dataset: Ref<Dataset>,
    /// Split with documents, or with prompts whose completions count.
    pub split: String,
}

impl Retention {
    /// The metric.
    pub(super) fn metric(&self) -> String {
        format!("loss_{}", self.name)
    }

    /// What the table calls the split.
    pub(super) fn test_set(&self) -> &str {
        let test = self.split.strip_prefix(TEST).and_then(|rest| rest.strip_prefix('/'));
        test.unwrap_or(&self.split)
    }
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
        for (at, Retention { name, .. }) in self.retention.iter().enumerate() {
            let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-".contains(letter);
            let twice = self.retention[..at].iter().any(|other| other.name == *name);
            checks
                .require(
                    !name.is_empty() && name.chars().all(plain),
                    &format!("distributions.retention.{at}.name"),
                    format!("expected letters, digits, `_` and `-`, found `{name}`"),
                )
                .require(
                    !twice,
                    &format!("distributions.retention.{at}.name"),
                    format!("the table already has `loss_{name}`"),
                );
        }
    }

    /// The samples of the stage `samples`, which `field` refers to, are of `policy`.
    pub(super) fn constraint(field: String, samples: String, policy: String) -> Constraint {
        Constraint { field, node: samples, inner: "policy".into(), rule: Rule::Is(policy) }
    }
}
