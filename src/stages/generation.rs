//! What `generate` and `best_of_n` share: prompts of a dataset's splits as tokens, and samples of a
//! policy as rows.

use serde::{Deserialize, Serialize};

use super::lineage::Guard;
use super::model_files::Loaded;
use super::{Checks, models};
use crate::backend::{Backend, Sampling};
use crate::dag::context::Context;
use crate::data::dataset::{Dataset, test_split};
use crate::data::rows::Example;
use crate::data::samples::Output;
use crate::data::tokenised::TooLong;
use crate::error::{Context as _, Result};
use crate::random::Stream;
use crate::sample::{GenerateOptions, Sample, generate};
use crate::tokenizer::tokens::Tokenizer;

/// How texts are drawn: the `sampling:` part of a stage.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingConfig {
    /// Temperature of sampling; 0 is greedy.
    #[serde(default = "one")]
    pub temperature: f64,
    /// Number of likeliest tokens that are kept; 0 keeps all.
    #[serde(default)]
    pub top_k: usize,
    /// Probability mass; the likeliest tokens that together reach it are kept. 1 keeps all.
    #[serde(default = "one")]
    pub top_p: f64,
    /// Fraction of the likeliest token's probability; tokens of at least that probability are kept.
    /// 0 keeps all.
    #[serde(default)]
    pub min_p: f64,
    /// Longest text in tokens, EOS included.
    pub max_new_tokens: usize,
}

fn one() -> f64 {
    1.0
}

impl SamplingConfig {
    /// Notes values out of range, below `sampling`.
    pub fn check(&self, checks: &mut Checks) {
        checks
            .require(self.temperature >= 0.0, "sampling.temperature", "expected 0 (greedy) or more")
            .require(
                self.top_p > 0.0 && self.top_p <= 1.0,
                "sampling.top_p",
                "expected a mass above 0, at most 1",
            )
            .require(
                (0.0..=1.0).contains(&self.min_p),
                "sampling.min_p",
                "expected a number from 0 to 1",
            )
            .positive(self.max_new_tokens, "sampling.max_new_tokens");
        for (field, cuts) in
            [("top_k", self.top_k > 0), ("top_p", self.top_p < 1.0), ("min_p", self.min_p > 0.0)]
        {
            let message = "a temperature of 0 takes the likeliest token, whatever is cut: remove \
                one of the two";
            checks.require(!cuts || self.temperature != 0.0, &format!("sampling.{field}"), message);
        }
    }

    /// The temperature, where the whole distribution is sampled.
    pub fn whole(&self) -> Option<f64> {
        (self.temperature > 0.0 && self.top_k == 0 && self.top_p == 1.0 && self.min_p == 0.0)
            .then_some(self.temperature)
    }

    /// As the back end wants it.
    pub fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature as f32,
            top_k: self.top_k,
            top_p: self.top_p as f32,
            min_p: self.min_p as f32,
        }
    }
}

/// A prompt to answer.
pub struct Prompt {
    /// The split its row is from.
    pub split: String,
    /// The row.
    pub example: Example,
    /// The prompt's tokens.
    pub tokens: Vec<u32>,
}

/// The prompts of some splits (of all test sets, where none are named), the first `limit` of each;
/// prompts longer than `max_tokens` lose their beginning.
pub fn prompts(
    folder: &std::path::Path,
    splits: &[String],
    limit: Option<usize>,
    max_tokens: Option<usize>,
    tokenizer: &Tokenizer,
) -> Result<Vec<Prompt>> {
    let dataset = Dataset::open(folder)?;
    let tests: Vec<String> = dataset.tests().into_iter().map(test_split).collect();
    let mut prompts = Vec::new();
    for split in if splits.is_empty() { &tests } else { splits } {
        let rows: Vec<Example> = dataset.split(split)?;
        for example in rows.into_iter().take(limit.unwrap_or(usize::MAX)) {
            let place = || format!("the prompt of row `{}` of split `{split}`", example.id);
            let mut tokens =
                tokenizer.encode_row_prompt(&example.prompt, example.chat).with_context(place)?;
            if let Some(most) = max_tokens {
                tokens.drain(..tokens.len().saturating_sub(most));
            }
            prompts.push(Prompt { split: split.clone(), example, tokens });
        }
    }
    Ok(prompts)
}

/// The prompts that may be answered: not those of held-out splits that a model was trained on. What
/// was found is written into the artefact.
pub fn guarded(prompts: Vec<Prompt>, mut guard: Guard, context: &Context) -> Result<Vec<Prompt>> {
    let mut keep = Vec::with_capacity(prompts.len());
    for part in prompts.chunk_by(|one, other| one.split == other.split) {
        let rows: Vec<Example> = part.iter().map(|prompt| prompt.example.clone()).collect();
        keep.extend(guard.rows(&part[0].split, &rows));
    }
    guard.finish(context)?.write(context.out())?;
    Ok(prompts.into_iter().zip(keep).filter(|(_, keep)| *keep).map(|(prompt, _)| prompt).collect())
}

/// The room of a prompt: in the context of the model that leaves it least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Tokens of that model's context.
    pub context: usize,
    /// Tokens that follow a prompt.
    pub response: usize,
    /// What errors call that model.
    pub reader: &'static str,
}

impl Room {
    /// Where a policy answers with up to `new` tokens. A reward model may read an answer with the
    /// end-of-text token that it lacks. Arguments are contexts.
    pub fn of(policy: usize, reward_model: Option<usize>, new: usize) -> Self {
        let room = Room { context: policy, response: new, reader: "the policy" };
        match reward_model {
            Some(context) if context <= policy => {
                Room { context, response: new + 1, reader: "the reward model" }
            }
            _ => room,
        }
    }

    /// Refuses prompts that do not fit: all of a split at once.
    ///
    /// # Errors
    /// The user's, with the rows.
    pub fn check(&self, prompts: &[Prompt]) -> Result<()> {
        let Room { context, response, reader } = *self;
        for own in prompts.chunk_by(|a, b| a.split == b.split) {
            let mut long = TooLong::new(context, &own[0].split, reader, Some("max_prompt_tokens"));
            for Prompt { example, tokens, .. } in own {
                let origin = example.origin.as_ref();
                long.pair(&example.id, origin, tokens.len(), response, "response");
            }
            long.check()?;
        }
        Ok(())
    }
}

/// `n` samples of every prompt; a sample depends on its row's place, the seed and the policy alone.
pub fn sample<B: Backend>(
    b: &B,
    context: &Context,
    policy: &Loaded<B>,
    prompts: &[Prompt],
    n: usize,
    config: &SamplingConfig,
    seed: u64,
) -> Result<Vec<Vec<Sample>>> {
    let tokens: Vec<Vec<u32>> = prompts.iter().map(|prompt| prompt.tokens.clone()).collect();
    let options = GenerateOptions {
        samples_per_prompt: n,
        max_new_tokens: config.max_new_tokens,
        sampling: config.sampling(),
        ends: policy.tokenizer.ends(),
        stream: Stream::new(seed, "generate"),
        first_row: 0,
        limits: models::limits(b, &policy.model.spec),
    };
    generate(b, &policy.model, &tokens, &options, &mut |done, total| {
        context.progress(
            done as u64,
            total as u64,
            &[("samples_per_second", done as f64 / context.seconds().max(1e-9))],
        );
        if context.stop_requested() { context.interrupted() } else { Ok(()) }
    })
}

/// A sample of a prompt as a row's output, not yet scored.
pub fn output(tokenizer: &Tokenizer, prompt: &Prompt, sample: &Sample) -> Result<Output> {
    let text = tokenizer.decode_after(
        &prompt.tokens,
        &sample.tokens[..sample.tokens.len() - usize::from(sample.ended)],
    )?;
    let logprob = sample.logprobs.iter().map(|logprob| f64::from(*logprob)).sum();
    Ok(Output {
        text,
        tokens: sample.tokens.clone(),
        logprob,
        ended: sample.ended,
        reward: None,
        raw_reward: None,
    })
}

/// Figures of generated texts for `metrics.jsonl`: `response_length/mean`,
/// `response_length/clip_ratio`, `num_samples`.
pub fn metrics<'a>(samples: impl Iterator<Item = &'a Sample> + Clone) -> crate::rl::Metrics {
    let count = samples.clone().count() as f64;
    let tokens: usize = samples.clone().map(|sample| sample.tokens.len()).sum();
    let cut = samples.filter(|sample| !sample.ended).count() as f64;
    vec![
        ("response_length/mean", tokens as f64 / count),
        ("response_length/clip_ratio", cut / count),
        ("num_samples", count),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_that_leaves_a_prompt_least_room_decides() {
        let room = |reader, context, response| Room { context, response, reader };
        assert_eq!(Room::of(64, None, 8), room("the policy", 64, 8));
        assert_eq!(Room::of(64, Some(64), 8), room("the reward model", 64, 9));
        assert_eq!(Room::of(64, Some(32), 8), room("the reward model", 32, 9));
        assert_eq!(Room::of(64, Some(65), 8), room("the policy", 64, 8));
    }
}
