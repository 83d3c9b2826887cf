//! Validation of a policy while it is optimised: its greedy responses to prompts that it does not
//! learn from, scored by something that it is not optimised against.

use serde::{Deserialize, Serialize};

use super::Checks;
use super::generation::{self, Prompt, Room};
use super::lineage::{self, OnLeak};
use super::model_files::{self, Loaded, check_same_tokenizer, normalisation};
use super::models;
use crate::backend::{Backend, Sampling};
use crate::dag::context::Context;
use crate::data::lineage::Lineage;
use crate::data::rows::Example;
use crate::error::{Context as _, Result, user};
use crate::model::batch::MICRO_BATCH_TOKENS;
use crate::model::weights::Model;
use crate::random::Stream;
use crate::reference::{Ref, RewardModel};
use crate::rl::preference::Normalisation;
use crate::sample::scoring::{self, Group};
use crate::sample::{GenerateOptions, Sample, generate};
use crate::train::reward::reward_sequence;
use crate::train::validation::Keep;
use crate::world;

/// The `validation:` part of a stage that optimises a policy.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyValidation {
    /// Split of `dataset` whose prompts are answered, and never learned from.
    pub split: String,
    /// Number of its first rows that are answered; `null` answers all.
    #[serde(default)]
    pub rows: Option<usize>,
    /// Number of steps from one measurement to the next; the last step is always measured.
    pub every: usize,
    /// Step whose policy is the artefact.
    #[serde(default)]
    pub keep: Keep,
    /// Score of the responses.
    pub by: ScoredBy,
}

/// What scores a policy's responses to validation prompts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoredBy {
    /// Exact score of the synthetic world.
    Gold,
    /// Normalised score of a reward model that had no part in the policy, nor in the reward model
    /// that it is optimised against.
    RewardModel(Ref<RewardModel>),
}

impl PolicyValidation {
    /// Notes values out of range; `trained` is the split with the prompts of training.
    pub(super) fn check(&self, checks: &mut Checks, trained: &str) {
        checks
            .positive(self.every, "validation.every")
            .positive_or_null(self.rows, "validation.rows")
            .require(
                self.split != trained,
                "validation.split",
                format!("expected a split that is not trained on, found `{trained}`"),
            );
    }

    /// The reward model, if it is one that scores.
    pub(super) fn judge(&self) -> Option<&Ref<RewardModel>> {
        match &self.by {
            ScoredBy::Gold => None,
            ScoredBy::RewardModel(judge) => Some(judge),
        }
    }
}

/// The policy that is measured, and what it is optimised against.
pub(super) struct Measured<'a, B: Backend> {
    pub(super) policy: &'a Loaded<B>,
    pub(super) folder: &'a std::path::Path,
    /// The lineage of its reward models, if there are any.
    pub(super) rewards: Option<&'a Lineage>,
    pub(super) dataset: &'a std::path::Path,
    pub(super) max_prompt_tokens: Option<usize>,
    pub(super) max_new_tokens: usize,
}

/// What is needed to score a policy.
pub(super) struct PolicyScorer<'a, B: Backend> {
    b: &'a B,
    measured: &'a Measured<'a, B>,
    prompts: Vec<Prompt>,
    judge: Option<(Loaded<B>, Normalisation)>,
}

impl<'a, B: Backend> PolicyScorer<'a, B> {
    /// Reads the prompts, and loads the reward model that scores.
    ///
    /// # Errors
    /// The user's: no prompts, prompts that are too long, rows without gold where it scores, a
    /// reward model that is not held out.
    pub(super) fn load(
        b: &'a B,
        config: &PolicyValidation,
        measured: &'a Measured<'a, B>,
    ) -> Result<Self> {
        let Measured { policy, folder, rewards, dataset, max_prompt_tokens, .. } = *measured;
        let splits = [config.split.clone()];
        let prompts = generation::prompts(
            dataset,
            &splits,
            config.rows,
            max_prompt_tokens,
            &policy.tokenizer,
        )?;
        super::validation::check_rows(prompts.len(), &config.split)?;
        let stranger = prompts.iter().find(|it| world::gold(&it.example, "", true).is_none());
        if let (ScoredBy::Gold, Some(prompt)) = (&config.by, stranger) {
            let message = format!(
                "`validation.by` is gold, but row `{}` of split `{}` is of no synthetic world",
                prompt.example.id, config.split
            );
            return Err(user(message).hint("name a held-out reward model there").into());
        }
        let judge = match config.judge() {
            None => None,
            Some(judge) => {
                let loaded = model_files::load_beside(b, judge.path(), policy, folder)?;
                check_same_tokenizer(folder, judge.path())?;
                let own = lineage::of_reward_model(judge.path())?;
                let others: Vec<(String, &Lineage)> =
                    rewards.iter().map(|lineage| ("reward_model".to_owned(), *lineage)).collect();
                lineage::standing("`validation.by`", &own, &others, OnLeak::Refuse)?;
                Some((loaded, normalisation(judge.path())?))
            }
        };
        let reader = judge.as_ref().map(|(judge, _)| judge.model.spec.context);
        Room::of(policy.model.spec.context, reader, measured.max_new_tokens).check(&prompts)?;
        Ok(PolicyScorer { b, measured, prompts, judge })
    }

    /// The mean score of the policy's greedy responses.
    ///
    /// # Errors
    /// An interruption; the user's, where a score is not finite.
    pub(super) fn score(&self, context: &Context, policy: &Model<B>) -> Result<f64> {
        let tokenizer = &self.measured.policy.tokenizer;
        let tokens: Vec<Vec<u32>> = self.prompts.iter().map(|it| it.tokens.clone()).collect();
        let options = GenerateOptions {
            samples_per_prompt: 1,
            max_new_tokens: self.measured.max_new_tokens,
            sampling: Sampling::GREEDY,
            ends: tokenizer.ends(),
            stream: Stream::new(0, "greedy"),
            first_row: 0,
            limits: models::limits(self.b, &policy.spec),
        };
        let mut go_on =
            |_, _| if context.stop_requested() { context.interrupted() } else { Ok(()) };
        let samples = generate(self.b, policy, &tokens, &options, &mut go_on)?.concat();
        let scores: Vec<f64> = match &self.judge {
            None => self.golds(&samples)?,
            Some((judge, normalisation)) => {
                let read =
                    |sample: &Sample| reward_sequence(&[], &sample.tokens, judge.tokenizer.eos());
                let responses: Vec<Vec<u32>> = samples.iter().map(read).collect();
                let groups: Vec<Group<'_>> = tokens
                    .iter()
                    .zip(&responses)
                    .map(|(prompt, response)| Group { prompt, responses: vec![response] })
                    .collect();
                let raw = scoring::last_scalars(self.b, &judge.model, &groups, MICRO_BATCH_TOKENS);
                raw.concat().into_iter().map(|raw| normalisation.apply(f64::from(raw))).collect()
            }
        };
        Ok(scores.iter().sum::<f64>() / scores.len() as f64)
    }

    fn golds(&self, samples: &[Sample]) -> Result<Vec<f64>> {
        let tokenizer = &self.measured.policy.tokenizer;
        let gold = |(prompt, sample): (&Prompt, &Sample)| {
            let text = generation::output(tokenizer, prompt, sample)?.text;
            let grade = world::gold(&prompt.example, &text, sample.ended);
            Ok(grade.context("rows of a synthetic world have gold")?.score)
        };
        self.prompts.iter().zip(samples).map(gold).collect()
    }

    /// What chose the step: the prompts.
    pub(super) fn lineage(&self) -> Lineage {
        let rows: Vec<Example> = self.prompts.iter().map(|it| it.example.clone()).collect();
        Lineage::of_prompts(&rows)
    }
}
