//! What of a `grpo` config is out of range, or does not go together.

use super::Checks;
use super::group_diversity::GroupDiversity;
use super::grpo::GrpoStage;
use super::policy_options::{check_anneal, check_entropy};
use crate::rl::advantage::MissingEos;
use crate::rl::critic_free::KlIn;
use crate::rl::group::{Baseline, Scale};
use crate::rl::policy_loss::{Form, Ratio};

impl GrpoStage {
    /// Notes rules that are out of range, or that do not go together.
    pub(super) fn check_rules(&self, checks: &mut Checks) {
        let rules = self.rules();
        let compares = !matches!(rules.baseline, Baseline::Batch | Baseline::None)
            || rules.scale == Scale::Group
            || self.normalised().is_some();
        checks
            .require(
                self.samples_per_prompt >= 2 || !compares,
                "samples_per_prompt",
                "expected at least 2: advantages compare the responses to one prompt",
            )
            .require(
                self.kl.coef.is_finite() && self.kl.coef >= 0.0,
                "kl.coef",
                format!("expected 0 or more, found {}", self.kl.coef),
            )
            .require(
                rules.kl_in != KlIn::Loss || rules.estimator.in_loss().is_some(),
                "kl.estimator",
                "k1 in the loss has the same gradient whatever the policies are: expected k2, k3 \
                 or k3_plus, or another `in`",
            )
            .require(
                rules.kl_in == KlIn::Loss || rules.estimator.in_reward().is_some(),
                "kl.estimator",
                "k3_plus is of the loss: expected k1, k2 or k3, or `in: loss`",
            )
            .require(
                rules.bounds.low > 0.0 && rules.bounds.low <= 1.0,
                "loss.clip.low",
                "expected above 0, at most 1",
            )
            .require(
                rules.bounds.high > 0.0 && rules.bounds.high.is_finite(),
                "loss.clip.high",
                "expected a finite number above 0",
            )
            .require(
                rules.bounds.dual.is_none_or(|dual| dual > 1.0),
                "loss.clip.dual",
                "expected above 1, or null",
            );
        if rules.form == Form::Cispo {
            checks
                .require(
                    rules.ratio == Ratio::Token,
                    "loss.ratio",
                    "`cispo` weighs log-probabilities of tokens: expected `token`",
                )
                .require(
                    self.loss.clip.low.is_none(),
                    "loss.clip.low",
                    "`cispo` has an upper bound alone: remove it",
                )
                .require(
                    self.loss.clip.dual.is_none(),
                    "loss.clip.dual",
                    "`cispo` has an upper bound alone: remove it",
                );
        }
    }

    /// Notes what does not go together with normalised parts of the reward.
    pub(super) fn check_parts(&self, checks: &mut Checks) {
        if self.advantages.parts.is_sum() {
            return;
        }
        checks
            .require(
                !self.rewards.is_empty(),
                "advantages.parts",
                "`normalise_each` is of the parts of `rewards`: expected `rewards`, or `sum`",
            )
            .require(
                self.advantages.baseline.is_none(),
                "advantages.baseline",
                "`normalise_each` takes the mean of each part in its group off: remove it",
            )
            .require(
                self.advantages.scale.is_none(),
                "advantages.scale",
                "`normalise_each` divides by deviations of each part and of the batch: remove it",
            )
            .require(
                self.missing_eos == MissingEos::Keep,
                "missing_eos",
                "acts on the sum of rewards, which `normalise_each` does not compare: expected \
                 `keep`; a part of `rewards` can be a penalty",
            )
            .require(
                self.diversity.is_none(),
                "diversity",
                "acts on the sum of rewards, which `normalise_each` does not compare: expected null",
            )
            .require(
                self.rules().kl_in != KlIn::Reward,
                "kl.in",
                "KL in the reward would be of no part that `normalise_each` compares: expected \
                 `loss` or `returns`",
            );
    }

    /// Notes what is out of range of the parts that keep a policy varied.
    pub(super) fn check_diversity(&self, checks: &mut Checks) {
        if let Some(diversity) = &self.diversity {
            diversity.check(checks, self.samples_per_prompt, self.kl.coef);
            checks.require(
                !matches!(diversity, GroupDiversity::MaxAtK(_))
                    || self.advantages.baseline.is_none(),
                "advantages.baseline",
                "`max_at_k` has advantages without a baseline: remove it",
            );
        }
        check_entropy(checks, self.entropy);
        check_anneal(checks, self.kl.anneal);
    }
}
