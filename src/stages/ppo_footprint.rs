//! The memory of a step of `ppo`, on the counting back end.

use super::footprint;
use super::models;
use super::ppo::PpoStage;
use crate::backend::counting::Counting;
use crate::error::Result;
use crate::model::memory::Memory;
use crate::model::weights::Model;
use crate::rl::preference::Normalisation;
use crate::sample::footprint::first_tokens;
use crate::train::ppo::Settings;
use crate::train::ppo_options::Options;
use crate::train::reward::reward_sequence;
use crate::train::rollouts::{FrozenModels, Rollout};
use crate::train::validation::Keep;

impl PpoStage {
    /// What a step takes, with prompts and responses of the greatest length.
    pub(super) fn count(
        &self,
        b: &Counting,
        policy: &Model<Counting>,
        rewards: &[Model<Counting>],
    ) -> Result<Memory> {
        // A replay samples nothing, and its scores are recorded.
        let replays = self.replay.is_some();
        let alone = self.reward_model.as_ref().and(rewards.first());
        let reward = alone.map(|reward| (reward, Normalisation::IDENTITY));
        let mut ppo = self.begin(b, policy, reward)?;
        let (context, new) = (policy.spec.context, self.max_new_tokens);
        let longest = context.saturating_sub(new).max(1);
        let prompt = self.max_prompt_tokens.map_or(longest, |most| most.min(longest));
        let prompts = vec![vec![0; prompt]; self.batch_size];
        let limits = models::limits(b, &policy.spec);
        let samples = self.samples_per_prompt;
        if !replays {
            first_tokens(b, &ppo.policy.model, &prompts, (samples, new), limits)?;
        }

        let response = vec![0; new];
        let rollout =
            |prompt: &Vec<u32>| Rollout::sampled(prompt, &response, vec![0.0; new], false);
        let each = |prompt| std::iter::repeat_n(prompt, samples);
        let mut rollouts: Vec<Rollout> = prompts.iter().flat_map(each).map(rollout).collect();
        let judged: Vec<Vec<u32>> =
            rollouts.iter().map(|rollout| reward_sequence(&[], &rollout.tokens, 0)).collect();
        let reward = reward.filter(|_| !replays);
        let frozen = FrozenModels { reference: policy, reward };
        if reward.is_none() {
            rewards.iter().for_each(|reward| footprint::score(b, reward));
        }
        if self.reference.is_some() {
            ppo.replace_reference();
        }
        // The gradient of a tied head is there from the end of the first epoch on.
        let own = self.settings(0);
        // How responses are alike takes no memory.
        let options = Options { diversity: None, ..own.options };
        let settings = Settings { epochs: 2, options, ..own };
        ppo.step(self.value.warmup, &mut rollouts, (&judged, &[]), &frozen, &settings)?;
        let mut training = ppo.memory();
        if self.reference.is_some() {
            training = footprint::with_copy(training, ppo.policy.memory(b));
        }
        if self.validation.as_ref().is_some_and(|validation| validation.keep == Keep::Best) {
            training = footprint::with_best(training, ppo.policy.memory(b));
        }
        Ok(Memory::of(b, training))
    }
}
