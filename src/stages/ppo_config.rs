//! Parts of the config of the stage `ppo`, with the checks of each: the KL penalty, its reference,
//! the value function.

use serde::{Deserialize, Serialize};

use super::Checks;
use super::policy_options::check_anneal;
use crate::rl::critic_free::KlEstimator;
use crate::rl::kl::{Adaptive, Anneal};
use crate::rl::policy_loss::LossKl;
use crate::rl::ppo::{ValueClip, ValueFit};

/// The KL penalty. A coefficient means something else under another estimator, and in another
/// place.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KlConfig {
    /// Coefficient of the KL penalty; with `adaptive` or `anneal`, its first value.
    pub coef: f64,
    /// Adaptive control of the coefficient, so that `objective/kl` approaches a target.
    #[serde(default)]
    pub adaptive: Option<Adaptive>,
    /// Change of the coefficient over the steps. `null` keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anneal: Option<Anneal>,
    /// Place where it is charged.
    #[serde(default, skip_serializing_if = "KlPlace::is_default")]
    pub r#in: KlPlace,
    /// Estimator of the KL of a token in the loss; `null` is k3. That in the reward is a field of
    /// `conventions`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimator: Option<KlEstimator>,
}

/// Where KL is charged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlPlace {
    /// In the reward of each token, from which advantages are made.
    #[default]
    Reward,
    /// In the policy loss of each token; rewards are without it.
    Loss,
}

impl KlPlace {
    fn is_default(&self) -> bool {
        *self == KlPlace::default()
    }
}

impl KlConfig {
    /// The estimator in the loss, if KL is there.
    pub(super) fn in_loss(&self) -> Option<LossKl> {
        match self.r#in {
            KlPlace::Reward => None,
            KlPlace::Loss => self.estimator.unwrap_or(KlEstimator::K3).in_loss(),
        }
    }

    /// Notes values out of range, or that do not go together.
    pub(super) fn check(&self, checks: &mut Checks) {
        let KlConfig { coef, adaptive, anneal, r#in, estimator } = *self;
        check_anneal(checks, anneal);
        checks
            .require(coef >= 0.0, "kl.coef", format!("expected 0 or more, found {coef}"))
            .require(
                adaptive.is_none() || coef > 0.0,
                "kl.adaptive",
                "a coefficient of 0 stays 0: expected `kl.coef` above 0",
            )
            .require(
                adaptive.is_none_or(|a| a.target > 0.0),
                "kl.adaptive.target",
                "expected above 0",
            )
            .require(
                adaptive.is_none_or(|a| a.horizon > 0.0),
                "kl.adaptive.horizon",
                "expected above 0",
            )
            .require(
                adaptive.is_none() || anneal.is_none(),
                "kl.anneal",
                "`adaptive` sets the coefficient: expected one of them",
            )
            .require(
                r#in == KlPlace::Loss || estimator.is_none(),
                "kl.estimator",
                "it is of KL in the loss: expected `in: loss`; the estimator in the reward is \
                 `conventions.kl.estimator`",
            )
            .require(
                r#in == KlPlace::Reward || estimator.is_none_or(|it| it.in_loss().is_some()),
                "kl.estimator",
                "k1 in the loss has the same gradient whatever the policies are: expected k2, k3 \
                 or k3_plus, or another `in`",
            );
    }
}

/// Replacement of the reference of the KL penalty.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceConfig {
    /// Number of steps after which the policy, as it is then, becomes the reference, again and
    /// again.
    pub reset_every: usize,
}

/// The value function.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ValueConfig {
    /// Network that has the value function.
    pub critic: Critic,
    /// Clipping and weight of the value loss.
    pub clip: ValueClip,
    /// Learning rate of the value head, divided by that of the trunk.
    pub head_ratio: f64,
    /// Number of first steps in which only the value function learns.
    pub warmup: usize,
    /// Times at which values, and the advantages and returns that follow from them, are computed.
    #[serde(skip_serializing_if = "ValueFit::is_default")]
    pub fit: ValueFit,
}

impl Default for ValueConfig {
    fn default() -> Self {
        ValueConfig {
            critic: Critic::Shared,
            clip: ValueClip::default(),
            head_ratio: 1.0,
            warmup: 0,
            fit: ValueFit::default(),
        }
    }
}

impl ValueConfig {
    /// Notes values out of range.
    pub(super) fn check(&self, checks: &mut Checks) {
        checks
            .require(
                self.clip.range.is_none_or(|range| range > 0.0),
                "value.clip.range",
                "expected above 0, or null",
            )
            .require(self.clip.coef >= 0.0, "value.clip.coef", "expected 0 or more")
            .require(self.head_ratio > 0.0, "value.head_ratio", "expected above 0");
    }
}

/// Where the value function is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Critic {
    /// A new head on the policy's trunk.
    Shared,
    /// A separate network, which begins as the reward model.
    Separate,
}
