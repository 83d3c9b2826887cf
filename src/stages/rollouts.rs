//! What stages that train on sampled responses share: the prompts of a step, responses to each,
//! and the files `rollouts/step-NNNNN.jsonl` of the artefact.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::generation::{self, Prompt};
use super::models;
use super::rewards::{Answer, Scored};
use crate::artefacts::rollouts::{self, ROLLOUTS, name};
use crate::backend::{Backend, Sampling};
use crate::dag::context::Context;
use crate::data::lineage::Lineage;
use crate::data::rows::{Example, read_jsonl};
use crate::error::{Result, user};
use crate::fs;
use crate::model::weights::Model;
use crate::random::Stream;
use crate::rl::Metrics;
use crate::rl::advantage::MissingEos;
use crate::sample::{GenerateOptions, Sample, generate};
use crate::tokenizer::tokens::Tokenizer;
use crate::train::rollouts::Rollout;

/// The prompts of step `step`: whole batches of a new random order each time through, the rest of
/// an order left out. There are at least `size` prompts.
pub(super) fn batch(prompts: &[Prompt], size: usize, seed: u64, step: usize) -> Vec<&Prompt> {
    let steps_an_epoch = prompts.len() / size;
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    Stream::new(seed, "prompts").sequence((step / steps_an_epoch) as u64).shuffle(&mut order);
    let start = step % steps_an_epoch * size;
    order[start..start + size].iter().map(|row| &prompts[*row]).collect()
}

/// How the responses of a run are sampled.
#[derive(Clone, Copy)]
pub(super) struct Sampler<'a> {
    /// What the draws are for: other purposes have other draws.
    pub(super) purpose: &'static str,
    /// Responses to each prompt.
    pub(super) samples: usize,
    pub(super) temperature: f32,
    pub(super) max_new_tokens: usize,
    /// Tokens that end a response.
    pub(super) ends: &'a [u32],
    pub(super) seed: u64,
}

/// The prompts that a run learns from: of the split `split` of the dataset in `folder`.
///
/// # Errors
/// The user's: prompts that cannot be read, or fewer than one batch of `size`.
pub(super) fn prompts(
    folder: &Path,
    split: &str,
    (size, max_prompt_tokens): (usize, Option<usize>),
    tokenizer: &Tokenizer,
) -> Result<Vec<Prompt>> {
    let splits = [split.to_owned()];
    let prompts = generation::prompts(folder, &splits, None, max_prompt_tokens, tokenizer)?;
    match prompts.len() < size {
        false => Ok(prompts),
        true => {
            let found = prompts.len();
            let message =
                format!("the split `{split}` has {found} prompts, fewer than one batch of {size}");
            let hint = "lower `batch_size` (of `expert_iteration`: `prompts_per_round`), or give \
                more prompts";
            Err(user(message).hint(hint).into())
        }
    }
}

/// The lineage of the prompts with these ids, each once, in the order of the rows.
pub(super) fn lineage_of(prompts: &[Prompt], ids: &BTreeSet<String>) -> Lineage {
    let used: Vec<Example> = prompts
        .iter()
        .map(|prompt| &prompt.example)
        .filter(|row| ids.contains(&row.id))
        .cloned()
        .collect();
    Lineage::of_prompts(&used)
}

/// Rollouts as answers to the prompts of their step.
pub(super) fn answers<'a>(batch: &[&'a Prompt], rollouts: &'a [Rollout]) -> Vec<Answer<'a>> {
    let answer = |(prompt, rollout): (&&'a Prompt, &'a Rollout)| Answer {
        prompt,
        tokens: &rollout.tokens[rollout.prompt..],
        ended: rollout.ended,
    };
    batch.iter().zip(rollouts).map(answer).collect()
}

impl Sampler<'_> {
    /// The responses to each prompt of the batch number `number`, not yet scored, prompt after
    /// prompt.
    pub(super) fn rollouts<B: Backend>(
        &self,
        b: &B,
        context: &Context,
        policy: &Model<B>,
        batch: &[&Prompt],
        number: usize,
    ) -> Result<Vec<Rollout>> {
        let tokens: Vec<Vec<u32>> = batch.iter().map(|prompt| prompt.tokens.clone()).collect();
        let options = GenerateOptions {
            samples_per_prompt: self.samples,
            max_new_tokens: self.max_new_tokens,
            sampling: Sampling::plain(self.temperature),
            ends: self.ends,
            stream: Stream::new(self.seed, self.purpose),
            first_row: (number * batch.len()) as u64,
            limits: models::limits(b, &policy.spec),
        };
        let mut go_on =
            |_, _| if context.stop_requested() { context.interrupted() } else { Ok(()) };
        let samples = generate(b, policy, &tokens, &options, &mut go_on)?;
        let rollouts = |(prompt, samples): (&Vec<u32>, Vec<Sample>)| {
            let rollout = |Sample { tokens, logprobs, ended }| {
                Rollout::sampled(prompt, &tokens, logprobs, ended)
            };
            samples.into_iter().map(rollout).collect::<Vec<_>>()
        };
        Ok(tokens.iter().zip(samples).flat_map(rollouts).collect())
    }
}

/// The files of a run's rollouts, one for each step. They are written among the checkpoints, so
/// that they survive an interruption, and copied into the artefact at the end.
pub(super) struct RolloutFiles<'a> {
    context: &'a Context,
    folder: PathBuf,
}

impl<'a> RolloutFiles<'a> {
    pub(super) fn new(context: &'a Context) -> Result<Self> {
        let folder = context.checkpoints().join(ROLLOUTS);
        fs::create_dir_all(&folder)?;
        Ok(RolloutFiles { context, folder })
    }

    /// Writes the file of step `step`: scored rollouts, the prompts of which are `batch`. `scored`
    /// has the parts of their rewards. Gives the figures that sentinels read of them.
    pub(super) fn write(
        &self,
        step: usize,
        tokenizer: &Tokenizer,
        batch: &[&Prompt],
        rollouts: &[Rollout],
        scored: Option<&Scored>,
        missing_eos: MissingEos,
    ) -> Result<Metrics> {
        let has_reward = |at: usize| scored.is_none_or(|scored| scored.total[at].is_some());
        let (mut rows, mut lines) = (Vec::with_capacity(rollouts.len()), String::new());
        for (at, (prompt, rollout)) in batch.iter().zip(rollouts).enumerate() {
            let parts = scored.iter().flat_map(|scored| &scored.parts);
            let response =
                &rollout.tokens[rollout.prompt..rollout.tokens.len() - usize::from(rollout.ended)];
            let kl: f64 = rollout
                .logprobs
                .iter()
                .zip(rollout.under_initial())
                .map(|(policy, initial)| f64::from(policy - initial))
                .sum();
            let row = rollouts::Rollout {
                ended: rollout.ended,
                id: prompt.example.id.clone(),
                kl,
                prompt: prompt.example.prompt.clone(),
                raw_score: has_reward(at).then_some(rollout.score),
                response: tokenizer.decode_after(&prompt.tokens, response)?,
                rewards: parts.map(|(name, rewards)| (name.clone(), rewards[at])).collect(),
                score: has_reward(at).then(|| missing_eos.apply(rollout.score, rollout.ended)),
            };
            lines += &serde_json::to_string(&row)?;
            lines.push('\n');
            rows.push(row);
        }
        fs::write_atomic(&self.folder.join(name(step)), lines.as_bytes())?;
        Ok(rollouts::figures(&rows))
    }

    /// The prompts' rows in the files of `steps`.
    pub(super) fn ids(&self, steps: Range<usize>) -> Result<BTreeSet<String>> {
        let mut ids = BTreeSet::new();
        for name in steps.map(name) {
            let rollouts: Vec<rollouts::Rollout> = read_jsonl(&self.folder.join(name))?;
            ids.extend(rollouts.into_iter().map(|rollout| rollout.id));
        }
        Ok(ids)
    }

    /// Copies the files of `steps` into the artefact.
    pub(super) fn publish(&self, steps: Range<usize>) -> Result<()> {
        let out = self.context.out().join(ROLLOUTS);
        fs::create_dir_all(&out)?;
        for name in steps.map(name) {
            fs::write_atomic(&out.join(&name), &fs::read(&self.folder.join(&name))?)?;
        }
        Ok(())
    }
}
