//! `best_of_n`: of N samples of a policy, the one with the highest reward. All candidates are kept.
//!
//! The reward is the one that `ppo` optimises: the reward model's normalised score, or the weighted
//! sum of `rewards` (`rewards/mod.rs`), after the missing-EOS rule.
//!
//! More than one output a prompt, for best-of-N's own diversity per input: each output is the best
//! of N separate samples. With a `pool`, which is cheaper, each is the best of N drawn from the
//! same pool without replacement (Kirk et al. 2024, released code); outputs then share candidates
//! and look less diverse than they are, the more the smaller the pool.

use serde::{Deserialize, Serialize};

use super::footprint;
use super::generation::{self, Room, SamplingConfig};
use super::lineage::{Guard, OnLeak};
use super::model_files;
use super::models::ArtefactShapes;
use super::reading::{Part, Reading, Splits};
use super::rewards::{Answer, Names, Reward, Rewards, Scored};
use super::source::Source;
use super::{Checks, KindInfo, Problem, Stage};
use crate::artefacts::names::METRICS;
use crate::backend::Backend;
use crate::backend::counting::Counting;
use crate::dag::context::Context;
use crate::data::lineage::Lineage;
use crate::data::samples::{self, Output, Sampled};
use crate::data::tokenised::Limits;
use crate::error::Result;
use crate::eval::best_of_n;
use crate::model::batch::MICRO_BATCH_TOKENS;
use crate::model::memory::{self, Memory};
use crate::model::params::HeadKind;
use crate::model::spec::Spec;
use crate::model::weights::Model;
use crate::random::Stream;
use crate::reference::{Dataset as DatasetArtefact, Policy, Ref, RewardModel};
use crate::rl::advantage::MissingEos;
use crate::sample::Sample;
use crate::sample::scoring::{self, Group};
use crate::{fs, train::steps};

/// The config of `uses: best_of_n`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BestOfNStage {
    /// Policy that answers the prompts.
    pub policy: Ref<Policy>,
    /// Reward model that chooses among the samples of a prompt; `null` where `rewards` do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward_model: Option<Ref<RewardModel>>,
    /// Parts of the reward by name, instead of `reward_model`: the reward is their weighted sum.
    #[serde(default, skip_serializing_if = "Rewards::is_empty")]
    pub rewards: Rewards,
    /// Dataset with the prompts.
    pub dataset: Ref<DatasetArtefact>,
    /// Splits of `dataset`; an empty list means all test sets.
    #[serde(default)]
    pub splits: Vec<String>,
    /// Largest number of rows of each split, which are the first; `null` takes all.
    #[serde(default)]
    pub limit: Option<usize>,
    /// Number of samples, N, of which the best is chosen.
    #[serde(default = "sixteen")]
    pub n: usize,
    /// Samples of each prompt, from which the N of each output are drawn; with `null` each output
    /// has N separate samples.
    #[serde(default)]
    pub pool: Option<usize>,
    /// Outputs for each prompt.
    #[serde(default = "one")]
    pub outputs: usize,
    /// Score of a candidate without EOS: as `conventions.missing_eos` of `ppo`, with the same
    /// default.
    #[serde(default)]
    pub missing_eos: MissingEos,
    /// Distribution that candidates are drawn from.
    pub sampling: SamplingConfig,
    /// Longest prompt in tokens; a longer prompt loses its beginning. `null` cuts nothing.
    #[serde(default)]
    pub max_prompt_tokens: Option<usize>,
    /// Treatment of rows of held-out splits that a model was trained on.
    #[serde(default)]
    pub on_leak: OnLeak,
    /// Seed of sampling.
    #[serde(default)]
    pub seed: u64,
}

fn one() -> usize {
    1
}

fn sixteen() -> usize {
    16
}

impl Stage for BestOfNStage {
    const INFO: KindInfo = KindInfo::on_device("best_of_n", 2, "samples");

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        checks
            .positive(self.n, "n")
            .positive(self.outputs, "outputs")
            .require(
                self.pool.is_none_or(|pool| pool >= self.n),
                "pool",
                format!("expected at least `n`, or null, found a number below {}", self.n),
            )
            .positive_or_null(self.limit, "limit")
            .positive_or_null(self.max_prompt_tokens, "max_prompt_tokens");
        checks.require(self.missing_eos.is_finite(), "missing_eos", "expected a finite number");
        self.sampling.check(&mut checks);
        self.reward().check(&mut checks);
        checks.done()
    }

    fn memory(&self, shapes: &ArtefactShapes) -> Option<Memory> {
        let (spec, head) = shapes.model(&self.policy)?;
        let rewards = self.reward().shapes(shapes, &self.policy)?;
        let (pool, new) =
            (self.pool.unwrap_or(self.n * self.outputs), self.sampling.max_new_tokens);
        shapes.counted(("best_of_n", &spec, head, &rewards, pool, new), |b| {
            let policy = memory::model(b, &spec, head);
            let beside = |(spec, shared): &(Spec, Option<usize>)| {
                memory::model_beside(b, spec, HeadKind::Reward, &policy, *shared)
            };
            let rewards: Vec<Model<Counting>> = rewards.iter().map(beside).collect();
            footprint::generate(b, &policy, pool, new)?;
            let prompt = vec![0; spec.context.saturating_sub(new).max(1)];
            let response = vec![0; new];
            let group = Group { prompt: &prompt, responses: vec![&response; pool] };
            for reward in &rewards {
                scoring::last_scalars(b, reward, std::slice::from_ref(&group), MICRO_BATCH_TOKENS);
            }
            Ok(Memory::of(b, Memory::default()))
        })
    }

    fn readings(&self, shapes: &ArtefactShapes) -> Vec<Reading> {
        let Some((tokenizer, policy)) = shapes.reader(&self.policy) else { return Vec::new() };
        let Some(reward_model) = self.reward().reader(shapes, &tokenizer) else {
            return Vec::new();
        };
        let Room { context, response, reader } = self.room(policy, reward_model);
        vec![Reading {
            dataset: Source::from(&self.dataset),
            splits: Splits::named_or_tests(&self.splits),
            rows: self.limit,
            tokenizer,
            limits: Limits::of_stage(context, self.max_prompt_tokens),
            reader,
            part: Part::Prompt(response),
        }]
    }

    fn run<B: Backend>(&self, b: &B, context: &Context) -> Result<()> {
        let policy = model_files::load(b, self.policy.path())?;
        let mut scorer = self.reward().scorer(
            b,
            context,
            &policy,
            self.policy.path(),
            self.sampling.max_new_tokens,
        )?;
        let prompts = generation::prompts(
            self.dataset.path(),
            &self.splits,
            self.limit,
            self.max_prompt_tokens,
            &policy.tokenizer,
        )?;
        self.room(policy.model.spec.context, scorer.context()).check(&prompts)?;
        let (policys, rewards) = (Lineage::read(self.policy.path())?, self.reward().lineage()?);
        let mut models = vec![("policy".into(), policys.clone())];
        models.extend(rewards.clone().map(|lineage| ("reward_model".into(), lineage)));
        let prompts = generation::guarded(prompts, Guard::new(self.on_leak, models), context)?;
        let pool = self.pool.unwrap_or(self.n * self.outputs);
        let sampled =
            generation::sample(b, context, &policy, &prompts, pool, &self.sampling, self.seed)?;
        let draws = Stream::new(self.seed, "best of n");
        let (mut rows, mut best) = (Vec::with_capacity(prompts.len()), [0.0; 2]);
        let mut all_scored = Scored::default();
        for (at, (prompt, samples)) in prompts.iter().zip(&sampled).enumerate() {
            let answers: Vec<Answer<'_>> = samples
                .iter()
                .map(|sample| Answer { prompt, tokens: &sample.tokens, ended: sample.ended })
                .collect();
            let found = scorer.score(b, context, &policy.tokenizer, &answers)?;
            let raw = found.of_each(&answers)?;
            all_scored.append(found);
            let scored = |(sample, raw): (&Sample, f64)| -> Result<Output> {
                let reward = self.missing_eos.apply(raw, sample.ended);
                let raw_reward = (reward != raw).then_some(raw);
                Ok(Output {
                    reward: Some(reward),
                    raw_reward,
                    ..generation::output(&policy.tokenizer, prompt, sample)?
                })
            };
            let candidates: Vec<Output> =
                samples.iter().zip(raw).map(scored).collect::<Result<_>>()?;
            let scores: Vec<f64> =
                candidates.iter().filter_map(|candidate| candidate.reward).collect();
            let chosen = match self.pool {
                Some(_) => {
                    best_of_n::draws(&scores, self.n, self.outputs, &mut draws.sequence(at as u64))
                }
                None => (0..self.outputs)
                    .map(|output| {
                        let own = output * self.n;
                        own + best_of_n::best(&scores[own..own + self.n]).expect("n is at least 1")
                    })
                    .collect(),
            };
            let outputs: Vec<Output> =
                chosen.into_iter().map(|at| candidates[at].clone()).collect();
            let mean = |of: fn(&Output) -> Option<f64>| {
                outputs.iter().filter_map(of).sum::<f64>() / outputs.len() as f64
            };
            best[0] += mean(|output| output.reward);
            best[1] += mean(Output::raw_reward);
            let (id, text) = (prompt.example.id.clone(), prompt.example.prompt.clone());
            let temperature = self.sampling.whole();
            let (split, chat) = (prompt.split.clone(), prompt.example.chat);
            rows.push(Sampled {
                split,
                id,
                prompt: text,
                chat,
                temperature,
                outputs,
                best_of: Some(self.n),
                candidates,
            });
            if context.stop_requested() {
                return context.interrupted();
            }
        }
        scorer.finish(context)?;
        samples::write(context.out(), &rows)?;
        let learned = match rewards {
            None => policys,
            Some(rewards) => policys.with(rewards),
        };
        learned.write(context.out())?;
        let mut metrics = generation::metrics(sampled.iter().flatten());
        let mean = best.map(|sum| sum / rows.len() as f64);
        metrics.extend([("objective/scores", mean[0]), ("objective/raw_scores", mean[1])]);
        metrics.extend(Names::new(&self.rewards).reencoded(&all_scored));
        fs::write_atomic(&context.out().join(METRICS), steps::line(1, &metrics).as_bytes())
    }
}

impl BestOfNStage {
    fn reward(&self) -> Reward<'_> {
        Reward { model: self.reward_model.as_ref(), parts: &self.rewards }
    }

    fn room(&self, policy: usize, reward_model: Option<usize>) -> Room {
        Room::of(policy, reward_model, self.sampling.max_new_tokens)
    }
}
