//! Fields of the config that need others, and fields that nothing would read. Knows no value.

use super::{EvaluateStage, Judge};
use crate::stages::Checks;

impl EvaluateStage {
    /// Notes fields that need another one, or that nothing would read.
    pub(super) fn check_fields(&self, checks: &mut Checks) {
        let diversity = &self.diversity;
        let (outputs, samples) = (
            self.methods.iter().any(|method| method.outputs.is_some()),
            self.methods.iter().any(|method| method.samples.is_some()),
        );
        if let Some((metric, field)) = diversity.lacks(self.reference_policy.is_some()) {
            checks.require(
                false,
                "diversity.metrics",
                format!("`{}` needs `{field}`", metric.name()),
            );
        }
        let compared = self.similarity.as_ref().is_some_and(|of| of.is_of_embeddings());
        for field in diversity.unused(compared) {
            checks.require(
                false,
                &format!("diversity.{field}"),
                "no metric of `diversity.metrics` reads it: remove it, or add one",
            );
        }
        let both = diversity.nli.is_some() && diversity.classifier.is_some();
        let models = self.reward_model.is_some()
            || self.reference_policy.is_some()
            || self.distributions.is_some();
        let forward = self.distributions.as_ref().is_some_and(|of| of.reference_samples.is_some());
        let by_reward = self.judge == Some(Judge::RewardModel);
        let graded = self.quality.as_ref().is_some_and(|of| of.by == Judge::RewardModel);
        checks
            .require(!both, "diversity.classifier", "expected `nli` or `classifier`, not both")
            .require(
                samples || diversity.is_default(),
                "diversity",
                "no method has `samples`, so no diversity is measured: remove it, or add some",
            )
            .require(
                outputs || self.judge.is_none(),
                "judge",
                "no method has `outputs`, so nothing is judged: remove it, or add some",
            )
            .require(
                samples || self.quality.is_none(),
                "quality",
                "no method has `samples`, so none is graded: remove it, or add some",
            )
            .require(
                !graded || self.reward_model.is_some(),
                "quality.by",
                "expected a `reward_model` as well",
            )
            .require(
                !by_reward || self.reward_model.is_some(),
                "judge",
                "expected a `reward_model` as well",
            )
            .require(
                outputs
                    || self.preferences.is_some()
                    || self.optimum.is_some()
                    || graded
                    || self.reward_model.is_none(),
                "reward_model",
                "no method has `outputs`, and there are no `preferences`: it has nothing to score",
            )
            .require(
                samples || forward || self.reference_policy.is_none(),
                "reference_policy",
                "no method has `samples`, so no KL is measured: remove it, or add some",
            )
            .require(
                self.reward_model.is_some() || self.preferences.is_none(),
                "preferences",
                "expected a `reward_model` as well: its accuracy is what they measure",
            )
            .require(
                models || self.max_prompt_tokens.is_none(),
                "max_prompt_tokens",
                "there is no `reward_model` and no `reference_policy` that is given a prompt: \
                 remove it",
            );
    }
}
