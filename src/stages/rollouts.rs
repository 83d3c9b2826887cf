//! What stages that train on sampled responses share: the prompts of a step, one response to each,
//! and the files `rollouts/step-NNNNN.jsonl` of the artefact.

use std::path::PathBuf;

use serde_json::json;

use super::generation::Prompt;
use super::models;
use crate::backend::{Backend, Sampling};
use crate::dag::context::Context;
use crate::data::tokens::Tokenizer;
use crate::error::Result;
use crate::fs;
use crate::model::weights::Model;
use crate::random::Stream;
use crate::rl::advantage::MissingEos;
use crate::sample::{GenerateOptions, Sample, generate};
use crate::train::rollouts::Rollout;

/// The name of the folder, in the artefact and among checkpoints.
const FOLDER: &str = "rollouts";

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
pub(super) struct Sampler<'a> {
    pub(super) temperature: f32,
    pub(super) max_new_tokens: usize,
    /// Tokens that end a response.
    pub(super) ends: &'a [u32],
    pub(super) seed: u64,
}

impl Sampler<'_> {
    /// One response to each prompt of step `step`, not yet scored.
    pub(super) fn rollouts<B: Backend>(
        &self,
        b: &B,
        context: &Context,
        policy: &Model<B>,
        batch: &[&Prompt],
        step: usize,
    ) -> Result<Vec<Rollout>> {
        let tokens: Vec<Vec<u32>> = batch.iter().map(|prompt| prompt.tokens.clone()).collect();
        let options = GenerateOptions {
            samples_per_prompt: 1,
            max_new_tokens: self.max_new_tokens,
            sampling: Sampling::plain(self.temperature),
            ends: self.ends,
            stream: Stream::new(self.seed, "rollouts"),
            first_row: (step * batch.len()) as u64,
            limits: models::limits(b, &policy.spec),
        };
        let mut go_on =
            |_, _| if context.stop_requested() { context.interrupted() } else { Ok(()) };
        let samples = generate(b, policy, &tokens, &options, &mut go_on)?;
        let rollout = |(prompt, mut samples): (&Vec<u32>, Vec<Sample>)| {
            let Sample { tokens, logprobs, ended } = samples.pop().expect("one sample a prompt");
            Rollout::sampled(prompt, &tokens, logprobs, ended)
        };
        Ok(tokens.iter().zip(samples).map(rollout).collect())
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
        let folder = context.checkpoints().join(FOLDER);
        fs::create_dir_all(&folder)?;
        Ok(RolloutFiles { context, folder })
    }

    /// Writes the file of step `step`: scored rollouts of `batch`.
    pub(super) fn write(
        &self,
        step: usize,
        tokenizer: &Tokenizer,
        batch: &[&Prompt],
        rollouts: &[Rollout],
        missing_eos: MissingEos,
    ) -> Result<()> {
        let mut lines = String::new();
        for (prompt, rollout) in batch.iter().zip(rollouts) {
            let response =
                &rollout.tokens[rollout.prompt..rollout.tokens.len() - usize::from(rollout.ended)];
            let kl: f64 = rollout
                .logprobs
                .iter()
                .zip(&rollout.reference)
                .map(|(policy, reference)| f64::from(policy - reference))
                .sum();
            lines += &json!({"id": prompt.example.id, "prompt": prompt.example.prompt,
                "response": tokenizer.decode_after(&prompt.tokens, response)?,
                "ended": rollout.ended,
                "score": missing_eos.apply(rollout.score, rollout.ended),
                "raw_score": rollout.score, "kl": kl})
            .to_string();
            lines.push('\n');
        }
        fs::write_atomic(&self.folder.join(name(step)), lines.as_bytes())
    }

    /// Copies the files of all `steps` into the artefact.
    pub(super) fn publish(&self, steps: usize) -> Result<()> {
        let out = self.context.out().join(FOLDER);
        fs::create_dir_all(&out)?;
        for name in (0..steps).map(name) {
            fs::write_atomic(&out.join(&name), &fs::read(&self.folder.join(&name))?)?;
        }
        Ok(())
    }
}

fn name(step: usize) -> String {
    format!("step-{:05}.jsonl", step + 1)
}
