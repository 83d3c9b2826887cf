//! What of a `ppo` config is out of range, or does not go together.

use super::Checks;
use super::policy_options::{check_entropy, check_kl_stops};
use super::ppo::PpoStage;
use super::ppo_config::KlPlace;
use crate::rl::ppo::ValueFit;

impl PpoStage {
    /// Notes clips, bounds and options that are out of range, or that do not go together.
    pub(super) fn check_options(&self, checks: &mut Checks) {
        let is_positive = |number: Option<f64>| number.is_none_or(|it| it.is_finite() && it > 0.0);
        let charges_in_loss = self.kl.r#in == KlPlace::Loss;
        checks
            .require(self.policy_clip.range > 0.0, "policy_clip.range", "expected above 0")
            .require(
                is_positive(self.policy_clip.high),
                "policy_clip.high",
                "expected a finite number above 0, or null",
            )
            .require(
                self.policy_clip.dual.is_none_or(|dual| dual > 1.0),
                "policy_clip.dual",
                "expected above 1, or null",
            )
            .require(
                is_positive(self.reward_scaling.clip),
                "reward_scaling.clip",
                "expected a finite number above 0, or null",
            )
            .require(
                self.value.fit == ValueFit::Once || self.epochs >= 2,
                "value.fit",
                "values of a step of one epoch are computed once: expected `epochs` of at least 2, \
                 or `once`",
            )
            .require(
                !charges_in_loss || self.conventions.kl == Default::default(),
                "conventions.kl",
                "it is of KL in the reward, and `kl.in` is `loss`: remove it; the estimator in the \
                 loss is `kl.estimator`",
            );
        check_kl_stops(checks, self.kl_stops(), self.epochs);
        check_entropy(checks, self.entropy);
        if let Some(diversity) = &self.diversity {
            diversity.check(checks, self.samples_per_prompt, self.kl.coef);
            checks.require(
                !diversity.is_of_advantages(),
                "diversity",
                "`ucpo` and `max_at_k` make advantages of groups, and `ppo` has those of a value \
                 function: expected another method, or `grpo`",
            );
        }
        if let Some(reference) = &self.reference {
            let every = reference.reset_every;
            checks
                .require(
                    (1..self.steps).contains(&every),
                    "reference.reset_every",
                    format!("expected at least 1, below `steps`, found {every}"),
                )
                .require(
                    self.kl.coef > 0.0,
                    "reference",
                    "without a KL penalty the reference has no part in training: expected \
                     `kl.coef` above 0, or null",
                );
        }
    }
}
