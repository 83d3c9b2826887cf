//! Records of training steps: all that a step began with, so that it can be taken again. The
//! folder `recorded/step-NNNNN/` of an artefact, with three files.
//!
//! 1. `state.safetensors`: the training state before the step, as a checkpoint has it.
//! 2. `responses.jsonl`: the responses that the step learned from, prompt after prompt, with their
//!    scores. Numbers have as many digits as give back their bits.
//! 3. `settings.json`: what a replay must have in common with the run, and what it may go on with.
//!
//! Records are written among the checkpoints, so that they survive an interruption, and copied into
//! the artefact at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::generation::Prompt;
use super::rewards::{Rewards, Scored};
use crate::dag::context::Context;
use crate::data::rows::{read_jsonl, write_jsonl};
use crate::error::{Error, Kind, Result, kind_of, user};
use crate::fs;
use crate::train::archive::Archive;
use crate::train::rollouts::Rollout;
use crate::train::steps::State;

/// The folder of an artefact with its records.
const RECORDED: &str = "recorded";
/// The files of a record.
const STATE: &str = "state.safetensors";
const RESPONSES: &str = "responses.jsonl";
const SETTINGS: &str = "settings.json";

/// The folder of the record of step `step`, from 1, of the artefact in `folder`.
fn folder_of(folder: &Path, step: usize) -> PathBuf {
    folder.join(RECORDED).join(format!("step-{step:05}"))
}

/// What a run and the replay of one of its steps are compared by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// The stage kind.
    pub(super) kind: String,
    /// Fields of the config that must be the same, by name, with their values; artefacts by
    /// digests.
    pub(super) fields: BTreeMap<String, Value>,
    /// The coefficient of the KL penalty, where it is part of the state.
    pub(super) kl: Option<Coefficient>,
    /// The coefficient of the entropy bonus, where there is one.
    pub(super) entropy: Option<Coefficient>,
}

/// A coefficient that the steps of a run may change.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Coefficient {
    /// Its first value.
    pub(super) first: f64,
    /// Whether each step changes it by what it measures.
    pub(super) controlled: bool,
}

/// A response of a recorded step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Response {
    /// The prompt's row.
    id: String,
    /// Tokens of the prompt.
    prompt: Vec<u32>,
    /// `[T]`: tokens of the response, EOS included where it ended.
    response: Vec<u32>,
    /// `[T]`: their log-probabilities at sampling, in nats.
    logprobs: Vec<f32>,
    /// Whether it ended by itself.
    ended: bool,
    /// The score before the missing-EOS rule; `null` where no reward applies.
    score: Option<f64>,
    /// The parts of the score by name, without their weights; `null` where a part does not apply.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    rewards: BTreeMap<String, Option<f64>>,
    /// Of each part whose reward models read text: whether the policy's tokenizer encodes it to
    /// other tokens.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    reencoded: BTreeMap<String, bool>,
}

/// What a step has taken: one entry of each list for each response.
pub(super) struct Taken<'a> {
    pub(super) prompts: &'a [&'a Prompt],
    pub(super) rollouts: &'a [Rollout],
    /// `None` where the scores of the rollouts are all that there is.
    pub(super) scored: Option<&'a Scored>,
}

/// The records of a run in the making.
pub(super) struct Records<'a> {
    context: &'a Context,
    /// Numbers of steps, from 1.
    steps: &'a [usize],
    /// `None` where no step is recorded.
    settings: Option<Settings>,
}

impl<'a> Records<'a> {
    /// Of `steps`, from 1. `settings` is called where there are any.
    ///
    /// # Errors
    /// Those of `settings`.
    pub(super) fn new(
        context: &'a Context,
        steps: &'a [usize],
        settings: impl FnOnce() -> Result<Settings>,
    ) -> Result<Self> {
        let settings = (!steps.is_empty()).then(settings).transpose()?;
        Ok(Records { context, steps, settings })
    }

    /// The settings, if step number `step` (0 is the first) is recorded, and its folder.
    fn of_step(&self, step: usize) -> Option<(&Settings, PathBuf)> {
        let settings = self.settings.as_ref().filter(|_| self.steps.contains(&(step + 1)))?;
        Some((settings, folder_of(self.context.checkpoints(), step + 1)))
    }

    /// Writes the state before step number `step` (0 is the first), if that is recorded.
    ///
    /// # Errors
    /// The machine's.
    pub(super) fn before(&self, step: usize, state: &impl State) -> Result<()> {
        let Some((_, folder)) = self.of_step(step) else { return Ok(()) };
        fs::create_dir_all(&folder)?;
        let mut archive = Archive::default();
        state.save(&mut archive);
        archive.write(&folder.join(STATE))
    }

    /// Writes what step number `step` (0 is the first) has taken, if that is recorded.
    ///
    /// # Errors
    /// The machine's.
    pub(super) fn after(&self, step: usize, taken: &Taken<'_>) -> Result<()> {
        let Some((settings, folder)) = self.of_step(step) else { return Ok(()) };
        let Taken { prompts, rollouts, scored } = taken;
        let response = |(at, (prompt, rollout)): (usize, (&&Prompt, &Rollout))| {
            let parts = scored.iter().flat_map(|scored| &scored.parts);
            let reencoded = scored.iter().flat_map(|scored| &scored.reencoded);
            Response {
                id: prompt.example.id.clone(),
                prompt: rollout.tokens[..rollout.prompt].to_vec(),
                response: rollout.tokens[rollout.prompt..].to_vec(),
                logprobs: rollout.logprobs.clone(),
                ended: rollout.ended,
                score: scored.map_or(Some(rollout.score), |scored| scored.total[at]),
                rewards: parts.map(|(name, rewards)| (name.clone(), rewards[at])).collect(),
                reencoded: reencoded.map(|(name, flags)| (name.clone(), flags[at])).collect(),
            }
        };
        let rows: Vec<Response> = prompts.iter().zip(*rollouts).enumerate().map(response).collect();
        write_jsonl(&folder.join(RESPONSES), &rows)?;
        fs::write_atomic(&folder.join(SETTINGS), &serde_json::to_vec_pretty(settings)?)
    }

    /// Copies the records into the artefact of a run that ended with step number `last`, from 1,
    /// and warns of steps that it did not reach.
    ///
    /// # Errors
    /// The machine's.
    pub(super) fn publish(&self, last: usize) -> Result<()> {
        let (reached, missed): (Vec<usize>, Vec<usize>) =
            self.steps.iter().partition(|step| **step <= last);
        for step in reached {
            let out = folder_of(self.context.out(), step);
            fs::create_dir_all(&out)?;
            fs::copy_all(&folder_of(self.context.checkpoints(), step), &out)?;
        }
        if !missed.is_empty() {
            let missed = listed(&missed);
            self.context.warn(format!(
                "training ended in step {last}: of `record`, {missed} have no record"
            ));
        }
        Ok(())
    }
}

fn listed(steps: &[usize]) -> String {
    let numbers: Vec<String> = steps.iter().map(usize::to_string).collect();
    format!("steps {}", numbers.join(", "))
}

/// The record of a step, read.
pub(super) struct Recorded {
    /// The state before the step.
    pub(super) state: Archive,
    /// Of the run.
    pub(super) settings: Settings,
    folder: PathBuf,
    responses: Vec<Response>,
}

/// What the responses of a record are checked against.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// Prompts of a step.
    pub(super) batch_size: usize,
    /// Responses to each.
    pub(super) samples: usize,
    /// Tokens of a response at most.
    pub(super) max_new_tokens: usize,
    /// Tokens of the policy.
    pub(super) vocabulary: usize,
}

/// The responses of a record: one entry of each list for each.
pub(super) struct Responses<'a> {
    pub(super) prompts: Vec<&'a Prompt>,
    pub(super) rollouts: Vec<Rollout>,
    pub(super) scored: Scored,
}

impl Recorded {
    /// The record of step `step`, from 1, of the artefact in `of`, whose settings must be `own`
    /// where these are compared.
    ///
    /// # Errors
    /// The user's: there is no such record, it is of other settings, or it cannot be read.
    pub(super) fn read(of: &Path, step: usize, own: &Settings) -> Result<Self> {
        let folder = folder_of(of, step);
        let Some(settings) = fs::read_if_exists(&folder.join(SETTINGS))? else {
            return Err(missing(of, step)?);
        };
        let settings: Settings =
            serde_json::from_slice(&settings).map_err(|error| damaged(&folder, error.into()))?;
        compare(&settings, own, step)?;
        let state = Archive::read(&folder.join(STATE)).map_err(|error| damaged(&folder, error))?;
        let responses =
            read_jsonl(&folder.join(RESPONSES)).map_err(|error| damaged(&folder, error))?;
        Ok(Recorded { state, settings, folder, responses })
    }

    /// What an error in a part of the record is.
    pub(super) fn damaged(&self, error: Error) -> Error {
        damaged(&self.folder, error)
    }

    /// The responses, to these prompts. The score of a response whose reward has parts is their sum
    /// by the weights of `rewards`.
    ///
    /// # Errors
    /// The user's: a prompt is not among `prompts`, or a response is out of `bounds`.
    pub(super) fn responses<'p>(
        &self,
        prompts: &'p [Prompt],
        rewards: &Rewards,
        bounds: Bounds,
    ) -> Result<Responses<'p>> {
        let by_id: BTreeMap<&str, &Prompt> =
            prompts.iter().map(|prompt| (prompt.example.id.as_str(), prompt)).collect();
        self.check(bounds).map_err(|message| damaged(&self.folder, user(message).into()))?;
        let mut own = Vec::with_capacity(self.responses.len());
        for response in &self.responses {
            let found = by_id.get(response.id.as_str());
            let found = found.filter(|prompt| prompt.tokens == response.prompt);
            own.push(*found.ok_or_else(|| {
                let message = format!(
                    "the recorded prompt of row `{}` is not in the split of the replay, or has \
                     other tokens there",
                    response.id
                );
                user(message).hint("give the replay the dataset and the split of the recorded run")
            })?);
        }
        let scored = self.scored(rewards);
        let rollout = |(response, total): (&Response, &Option<f64>)| {
            let Response { prompt, response, logprobs, ended, .. } = response;
            let sampled = Rollout::sampled(prompt, response, logprobs.clone(), *ended);
            // Without a reward the number is never read.
            Rollout { score: total.unwrap_or(0.0), ..sampled }
        };
        let rollouts = self.responses.iter().zip(&scored.total).map(rollout).collect();
        Ok(Responses { prompts: own, rollouts, scored })
    }

    /// The rewards of the responses.
    fn scored(&self, rewards: &Rewards) -> Scored {
        let first = &self.responses[0];
        let part = |name: &String| {
            let own = self.responses.iter().map(|response| response.rewards[name]);
            (name.clone(), own.collect::<Vec<Option<f64>>>())
        };
        let flags = |name: &String| {
            let own = self.responses.iter().map(|response| response.reencoded[name]);
            (name.clone(), own.collect::<Vec<bool>>())
        };
        let parts = first.rewards.keys().map(part).collect();
        let reencoded = first.reencoded.keys().map(flags).collect();
        let total = self.responses.iter().map(|response| response.score).collect();
        let scored = Scored { total, parts, reencoded };
        if rewards.is_empty() { scored } else { scored.weighed(rewards) }
    }

    /// Says what of the responses is out of bounds.
    fn check(&self, bounds: Bounds) -> std::result::Result<(), String> {
        let Bounds { batch_size, samples, max_new_tokens, vocabulary } = bounds;
        let all = &self.responses;
        if all.len() != batch_size * samples {
            return Err(format!("it has {} responses, not {}", all.len(), batch_size * samples));
        }
        for (at, response) in all.iter().enumerate() {
            let Response { prompt, response: tokens, logprobs, score, rewards, .. } = response;
            let leader = &all[at - at % samples];
            let names = |response: &Response| {
                let parts = response.rewards.keys().cloned().collect::<Vec<String>>();
                (parts, response.reencoded.keys().cloned().collect::<Vec<String>>())
            };
            let wrong = if prompt.is_empty() || tokens.is_empty() {
                "has no tokens"
            } else if tokens.len() > max_new_tokens {
                "is longer than `max_new_tokens`"
            } else if prompt.iter().chain(tokens).any(|token| *token as usize >= vocabulary) {
                "has a token that the policy does not have"
            } else if logprobs.len() != tokens.len() {
                "has not one log-probability a token"
            } else if logprobs.iter().any(|logprob| !logprob.is_finite())
                || score.iter().chain(rewards.values().flatten()).any(|own| !own.is_finite())
            {
                "has a number that is not finite"
            } else if (&leader.id, &leader.prompt) != (&response.id, prompt) {
                "is to another prompt than those of its group"
            } else if names(response) != names(&all[0]) {
                "has other parts of the reward than the first"
            } else {
                continue;
            };
            return Err(format!("response {} {wrong}", at + 1));
        }
        Ok(())
    }
}

/// Refuses settings of a run that a replay cannot have otherwise.
fn compare(recorded: &Settings, own: &Settings, step: usize) -> Result<()> {
    if recorded.kind != own.kind {
        let message = format!(
            "`replay.of` is an artefact of `{}`, and this stage is `{}`",
            recorded.kind, own.kind
        );
        return Err(user(message)
            .hint("a step is taken again by a stage of the kind that recorded it")
            .into());
    }
    let names: BTreeSet<&String> = recorded.fields.keys().chain(own.fields.keys()).collect();
    for name in names {
        let [theirs, ours] = [recorded, own].map(|it| it.fields.get(name).unwrap_or(&Value::Null));
        if theirs != ours {
            let message = format!(
                "`{name}` is {ours} here, and was {theirs} in the run that recorded step {step}"
            );
            let hint = "a replay has the models, the prompts and the sampling of the recorded \
                run: give it the same, or record the step in a run with these";
            return Err(user(message).hint(hint).into());
        }
    }
    Ok(())
}

/// That step `step` has no record in the artefact `of`, and which have.
fn missing(of: &Path, step: usize) -> Result<Error> {
    let names = fs::list(&of.join(RECORDED))?;
    let steps: Vec<usize> =
        names.iter().filter_map(|name| name.strip_prefix("step-")?.parse().ok()).collect();
    let known = match steps.is_empty() {
        true => "it has none".to_owned(),
        false => format!("it has those of {}", listed(&steps)),
    };
    let message = format!("`replay.of` has no record of step {step}: {known}");
    let hint = format!("give the stage of `replay.of` `record: [{step}]`, or replay another step");
    Ok(user(message).hint(hint).into())
}

/// What an error in a file of a record is: the user's, or the machine's.
fn damaged(folder: &Path, error: Error) -> Error {
    let is_absent = error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|cause| cause.kind() == std::io::ErrorKind::NotFound);
    match kind_of(&error) {
        Kind::Environment if !is_absent => error.context(format!("in {}", folder.display())),
        _ => {
            let message = format!("{} is no whole record of a step: {error:#}", folder.display());
            user(message).hint("make the artefact of `replay.of` again").into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn numbers_of_responses_come_back_bit_for_bit() {
        let draws = Stream::new(1, "numbers");
        let bits = (0..20_000).map(|at| (draws.uniform(at, 0) * 4_294_967_296.0) as u32);
        let edges = [-0.0, f32::MIN_POSITIVE / 3.0, f32::MAX, -1.0e-45, 0.1, -16_777_217.0];
        let logprobs: Vec<f32> =
            bits.map(f32::from_bits).chain(edges).filter(|x| x.is_finite()).collect();
        assert!(logprobs.len() > 19_000);
        let response = |score: f64| Response {
            id: "ü\n".into(),
            prompt: vec![3],
            response: vec![5; logprobs.len()],
            logprobs: logprobs.clone(),
            ended: true,
            score: Some(score),
            rewards: [("a".to_owned(), Some(score / 3.0)), ("b".to_owned(), None)].into(),
            reencoded: [("a".to_owned(), true)].into(),
        };
        let rows = [0.1 + 0.2, -0.0, f64::MIN_POSITIVE / 7.0, 1.0e300 / 3.0].map(response);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join(RESPONSES);
        write_jsonl(&path, &rows).expect("they are written");
        let back: Vec<Response> = read_jsonl(&path).expect("they are read");
        assert_eq!(back, rows);
        for (back, row) in back.iter().zip(&rows) {
            let bits =
                |own: &Response| own.logprobs.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(back), bits(row));
            assert_eq!(back.score.map(f64::to_bits), row.score.map(f64::to_bits));
        }
    }
}
