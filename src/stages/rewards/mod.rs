//! Rewards of responses, for every stage that optimises or chooses by one: a reward model, or a
//! weighted sum of reward models, ensembles, rules, the synthetic world's gold, programs and
//! language models behind an API.
//!
//! 1. The reward of a response is the sum of weight times reward over the parts that apply to it. A
//!    part that does not apply is left out, not 0. Where no part applies there is no reward.
//! 2. Parts are added up in the order of their names.
//! 3. A reward model's score is normalised as its own stage measured; a model from outside has no
//!    normalisation, and its scores are taken as they are.
//! 4. The missing-EOS rule of a stage acts on the sum.

mod command;
mod grader;
mod judge;
mod rules;
mod scored;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::command::{Asked, Command, Server};
use self::grader::{Grader, Grades};
use self::judge::Judge;
use self::rules::{ExactMatch, Format, Length, NumberMatch};
pub(super) use self::scored::{Answer, Names, Scored};
use super::generation::Prompt;
use super::model_files::Loaded;
use super::models::ArtefactShapes;
use super::source::Source as DataSource;
use super::{Checks, lineage};
use crate::backend::Backend;
use crate::check::unfit_as_name;
use crate::dag::context::Context;
use crate::data::lineage::Lineage;
use crate::error::{Context as _, Result, user};
use crate::model::spec::Spec;
use crate::reference::{Ref, RewardModel};
use crate::rl::rewards::{Combine, overlong};
use crate::tokenizer::tokens::Tokenizer;
use crate::world;

/// The name of the part that a stage's lone `reward_model` is.
const REWARD_MODEL: &str = "reward_model";

/// The `rewards:` part of a stage: parts of the reward by name.
pub type Rewards = BTreeMap<String, Part>;

/// A part of the reward.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// What gives it.
    pub by: By,
    /// Factor of the reward in the sum; below 0 it is a penalty.
    #[serde(default = "one")]
    pub weight: f64,
}

fn one() -> f64 {
    1.0
}

/// What gives a reward.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Normalised score of a reward model. One with another tokenizer than the policy's reads the
    /// response as text.
    RewardModel(Ref<RewardModel>),
    /// Scores of several reward models as one.
    Ensemble(Ensemble),
    /// Exact score of the synthetic world.
    Gold,
    /// 1 where the response is as long as it should be, else 0.
    Length(Length),
    /// Soft penalty of responses near the longest, 0 to -1.
    Overlong(Overlong),
    /// 1 where the response has a form, else 0.
    Format(Format),
    /// 1 where a regular expression matches somewhere in the response, else 0.
    Regex(String),
    /// 1 where the response is the row's completion, else 0.
    ExactMatch(ExactMatch),
    /// 1 where the response's last number is that of the row's completion, else 0.
    NumberMatch(NumberMatch),
    /// Score by a program of the user's.
    Command(Command),
    /// Grade by a language model behind OpenAI's API, from 0 for the worst to 1 for the best.
    Llm(Grader),
}

/// Several reward models.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ensemble {
    /// The reward models.
    pub models: Vec<Ref<RewardModel>>,
    /// How their scores become one.
    #[serde(default)]
    pub combine: Combine,
}

/// The penalty of long responses (Yu et al. 2025, eq. 13).
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overlong {
    /// Tokens, EOS included, from which the penalty is -1; `null` takes `max_new_tokens`.
    #[serde(default)]
    pub limit: Option<usize>,
    /// Tokens below `limit` over which the penalty grows from 0 to -1.
    pub buffer: usize,
}

impl By {
    /// The reward models that it reads.
    fn models(&self) -> &[Ref<RewardModel>] {
        match self {
            By::RewardModel(model) => std::slice::from_ref(model),
            By::Ensemble(ensemble) => &ensemble.models,
            _ => &[],
        }
    }

    fn check(&self, checks: &mut Checks, field: &str) {
        let at = |name: &str| format!("{field}.by.{name}");
        match self {
            By::RewardModel(_)
            | By::Gold
            | By::Format(_)
            | By::ExactMatch(_)
            | By::NumberMatch(_) => {}
            By::Ensemble(Ensemble { models, combine }) => {
                checks
                    .require(
                        models.len() >= 2,
                        &at("ensemble.models"),
                        "expected at least 2 reward models",
                    )
                    .require(
                        combine.is_in_range(),
                        &at("ensemble.combine"),
                        "expected a coefficient of 0 or more",
                    );
            }
            By::Length(Length { least, most, .. }) => {
                checks
                    .require(
                        least.is_some() || most.is_some(),
                        &at("length"),
                        "expected `least` or `most`",
                    )
                    .require(
                        least.zip(*most).is_none_or(|(least, most)| least <= most),
                        &at("length.most"),
                        "expected at least `least`",
                    );
            }
            By::Overlong(Overlong { limit, buffer }) => {
                checks.positive(*buffer, &at("overlong.buffer")).require(
                    limit.is_none_or(|limit| limit >= *buffer),
                    &at("overlong.limit"),
                    "expected at least `buffer`, or null",
                );
            }
            By::Llm(grader) => grader.check(checks, &at("llm")),
            By::Regex(pattern) => {
                let read = regex::Regex::new(pattern);
                let message = read.err().map_or_else(String::new, |error| error.to_string());
                checks.require(message.is_empty(), &at("regex"), message);
            }
            By::Command(command) => {
                let mut own = Checks::default();
                command.program().check(&mut own);
                for problem in own.done() {
                    checks.require(
                        false,
                        &at(&format!("command.{}", problem.field)),
                        problem.message,
                    );
                }
            }
        }
    }
}

/// The reward of a stage, which has a reward model under `reward_model`, or parts under `rewards`.
#[derive(Clone, Copy)]
pub(super) struct Reward<'a> {
    pub(super) model: Option<&'a Ref<RewardModel>>,
    pub(super) parts: &'a Rewards,
}

impl<'a> Reward<'a> {
    /// That of a stage that asks for none.
    pub(super) const NONE: Reward<'static> = {
        static NO_PARTS: Rewards = Rewards::new();
        Reward { model: None, parts: &NO_PARTS }
    };

    /// Notes what is missing, given twice or out of range.
    pub(super) fn check(&self, checks: &mut Checks) {
        checks
            .require(
                self.model.is_some() || !self.parts.is_empty(),
                "reward_model",
                "expected a reward model, or parts of a reward under `rewards`",
            )
            .require(
                self.model.is_none() || self.parts.is_empty(),
                "rewards",
                "expected `reward_model` or `rewards`, not both: a reward model may be a part",
            );
        for (name, part) in self.parts {
            let field = format!("rewards.{name}");
            checks
                .require(
                    unfit_as_name(name).is_none(),
                    &field,
                    "expected a short name without a slash or control characters that does not \
                     begin with a dot",
                )
                .require(
                    part.weight.is_finite() && part.weight != 0.0,
                    &format!("{field}.weight"),
                    "expected a finite number other than 0",
                );
            part.by.check(checks, &field);
        }
    }

    /// The reward models that it reads, in the order in which they are loaded.
    pub(super) fn models(&self) -> Vec<&'a Ref<RewardModel>> {
        let parts = self.parts.values().flat_map(|part| part.by.models());
        self.model.into_iter().chain(parts).collect()
    }

    /// The sizes of its reward models, and the lowest blocks that each shares with the policy;
    /// `None` where one is not known yet.
    pub(super) fn shapes<A: crate::reference::Artefact>(
        &self,
        shapes: &ArtefactShapes,
        policy: &Ref<A>,
    ) -> Option<Vec<(Spec, Option<usize>)>> {
        let shape = |model: &&Ref<RewardModel>| {
            Some((shapes.model(model)?.0, shapes.shared(policy, model)))
        };
        self.models().iter().map(shape).collect()
    }

    /// The least context of its reward models that have the policy's tokenizer; an inner `None`
    /// where there is none. The outer `None` says that a model is not known yet.
    pub(super) fn reader(
        &self,
        shapes: &ArtefactShapes,
        policys: &DataSource,
    ) -> Option<Option<usize>> {
        let readers: Option<Vec<(DataSource, usize)>> =
            self.models().into_iter().map(|model| shapes.reader(model)).collect();
        // A model under `reward_model` is taken to have the policy's; the run compares the two.
        let reads = |tokenizer: &DataSource| self.model.is_some() || tokenizer == policys;
        let own = readers?.into_iter().filter(|(tokenizer, _)| reads(tokenizer));
        Some(own.map(|(_, context)| context).min())
    }

    /// The lineages of its reward models, as one; `None` where there is no reward model.
    pub(super) fn lineage(&self) -> Result<Option<Lineage>> {
        let mut all: Option<Lineage> = None;
        for model in self.models() {
            let own = lineage::of_reward_model(model.path())?;
            all = Some(match all {
                None => own,
                Some(all) => all.with(own),
            });
        }
        Ok(all)
    }

    /// What gives it, apart from weights: the identity of the reward model under `reward_model`,
    /// and of each of `rewards` by name its kind with the identities of its reward models.
    ///
    /// # Errors
    /// Those of reading the models' files.
    pub(super) fn sources(&self) -> Result<(Value, Value)> {
        let identity = |model: &Ref<RewardModel>| Ok(lineage::of_reward_model(model.path())?.own);
        let part = |(name, part): (&String, &Part)| -> Result<(String, Value)> {
            let models: Vec<Option<String>> =
                part.by.models().iter().map(identity).collect::<Result<_>>()?;
            let kind = match serde_json::to_value(&part.by)? {
                Value::Object(own) => own.keys().next().map(|kind| json!(kind)),
                own => Some(own),
            };
            Ok((name.clone(), json!({"by": kind, "models": models})))
        };
        let parts: BTreeMap<String, Value> = self.parts.iter().map(part).collect::<Result<_>>()?;
        Ok((json!(self.model.map(identity).transpose()?), json!(parts)))
    }

    /// Loads what scores the responses of the policy in `folder`, of up to `most` tokens.
    ///
    /// # Errors
    /// Those of loading the models, and of a grader's template.
    pub(super) fn scorer<B: Backend>(
        &self,
        b: &B,
        context: &Context,
        policy: &Loaded<B>,
        folder: &Path,
        most: usize,
    ) -> Result<Scorer<'a, B>> {
        let load = |model: &Ref<RewardModel>| Judge::load(b, model.path(), policy, folder);
        let mut parts = Vec::new();
        if let Some(model) = self.model {
            parts.push((REWARD_MODEL.to_owned(), 1.0, Source::Model(Box::new(load(model)?))));
        }
        for (name, part) in self.parts {
            let source = match &part.by {
                By::RewardModel(model) => Source::Model(Box::new(load(model)?)),
                By::Ensemble(Ensemble { models, combine }) => {
                    Source::Ensemble(models.iter().map(load).collect::<Result<_>>()?, *combine)
                }
                By::Gold => Source::Gold,
                By::Length(rule) => Source::Length(*rule),
                By::Overlong(Overlong { limit, buffer }) => {
                    Source::Overlong(limit.unwrap_or(most), *buffer)
                }
                By::Format(format) => Source::Format(*format),
                By::Regex(pattern) => Source::Regex(regex::Regex::new(pattern)?),
                By::ExactMatch(rule) => Source::ExactMatch(*rule),
                By::NumberMatch(rule) => Source::NumberMatch(rule.clone()),
                By::Command(command) => {
                    Source::Command(Server::new(command.program(), context, name)?)
                }
                By::Llm(grader) => {
                    let place = || format!("reward `{name}`");
                    Source::Llm(Box::new(Grades::new(grader, context).with_context(place)?))
                }
            };
            parts.push((name.clone(), part.weight, source));
        }
        Ok(Scorer { parts })
    }
}

/// A part of the reward, ready to score.
enum Source<'a, B: Backend> {
    Model(Box<Judge<B>>),
    Ensemble(Vec<Judge<B>>, Combine),
    Gold,
    Length(Length),
    Overlong(usize, usize),
    Format(Format),
    Regex(regex::Regex),
    ExactMatch(ExactMatch),
    NumberMatch(NumberMatch),
    Command(Server<'a>),
    Llm(Box<Grades<'a>>),
}

/// What scores the responses of a stage.
pub(super) struct Scorer<'a, B: Backend> {
    parts: Vec<(String, f64, Source<'a, B>)>,
}

impl<B: Backend> Scorer<'_, B> {
    /// The least context of its models that read the policy's tokens.
    pub(super) fn context(&self) -> Option<usize> {
        let judges = self.parts.iter().flat_map(|(_, _, source)| source.judges());
        judges.filter_map(Judge::context).min()
    }

    /// The rewards of `answers`, whose tokens are of `tokenizer`.
    ///
    /// # Errors
    /// The user's, with the row: a score that is not finite, gold of a row of no synthetic world, a
    /// completion without a number where one is to be matched, a program's wrong answer, a language
    /// model's answer without a grade.
    pub(super) fn score(
        &mut self,
        b: &B,
        context: &Context,
        tokenizer: &Tokenizer,
        answers: &[Answer<'_>],
    ) -> Result<Scored> {
        let texts: Vec<String> =
            answers.iter().map(|answer| answer.text(tokenizer)).collect::<Result<_>>()?;
        let mut total: Vec<Option<f64>> = vec![None; answers.len()];
        let mut parts = Vec::with_capacity(self.parts.len());
        let of_text = |(_, _, source): &&(String, f64, Source<'_, B>)| {
            source.judges().iter().any(Judge::reads_text)
        };
        let of_text: Vec<String> =
            self.parts.iter().filter(of_text).map(|(name, ..)| name.clone()).collect();
        let flag = |(answer, text): (&Answer<'_>, &String)| answer.is_reencoded(tokenizer, text);
        let flags: Vec<bool> = match of_text.is_empty() {
            true => Vec::new(),
            false => answers.iter().zip(&texts).map(flag).collect(),
        };
        let reencoded = of_text.into_iter().map(|name| (name, flags.clone())).collect();
        for (name, weight, source) in &mut self.parts {
            let place = || format!("reward `{name}`");
            let rewards = source.rewards(b, context, answers, &texts).with_context(place)?;
            Scored::add(&mut total, *weight, &rewards);
            parts.push((name.clone(), rewards));
        }
        Ok(Scored { total, parts, reencoded })
    }
}

impl<B: Backend> Scorer<'_, B> {
    /// Ends what scores, after the last response.
    ///
    /// # Errors
    /// As of [`Server::finish`].
    pub(super) fn finish(&mut self, context: &Context) -> Result<()> {
        for (name, _, source) in &mut self.parts {
            if let Source::Command(server) = source {
                server.finish(context).with_context(|| format!("reward `{name}`"))?;
            }
        }
        Ok(())
    }
}

impl<B: Backend> Source<'_, B> {
    fn judges(&self) -> &[Judge<B>] {
        match self {
            Source::Model(judge) => std::slice::from_ref(judge),
            Source::Ensemble(judges, _) => judges,
            _ => &[],
        }
    }

    fn rewards(
        &mut self,
        b: &B,
        context: &Context,
        answers: &[Answer<'_>],
        texts: &[String],
    ) -> Result<Vec<Option<f64>>> {
        let both = || answers.iter().zip(texts);
        let of_text = |rule: &dyn Fn(&str) -> f64| {
            texts.iter().map(|text| Some(rule(text.trim()))).collect::<Vec<_>>()
        };
        Ok(match self {
            Source::Model(judge) => {
                judge.scores(b, answers, texts)?.into_iter().map(Some).collect()
            }
            Source::Ensemble(judges, combine) => {
                let scores: Vec<Vec<f64>> = judges
                    .iter()
                    .map(|judge| judge.scores(b, answers, texts))
                    .collect::<Result<_>>()?;
                let of = |at: usize| {
                    combine.of(&scores.iter().map(|scores| scores[at]).collect::<Vec<_>>())
                };
                (0..answers.len()).map(|at| Some(of(at))).collect()
            }
            Source::Gold => both().map(gold).collect::<Result<_>>()?,
            Source::Length(rule) => both()
                .map(|(answer, text)| Some(rule.reward(text.trim(), answer.tokens.len())))
                .collect(),
            Source::Overlong(limit, buffer) => answers
                .iter()
                .map(|answer| Some(overlong(answer.tokens.len(), *limit, *buffer)))
                .collect(),
            Source::Format(format) => of_text(&|text| format.reward(text)),
            Source::Regex(regex) => of_text(&|text| f64::from(u8::from(regex.is_match(text)))),
            Source::ExactMatch(rule) => both()
                .map(|(answer, text)| Some(rule.reward(text, &answer.prompt.example.completion)))
                .collect(),
            Source::NumberMatch(rule) => {
                let reward = |(answer, text): (&Answer<'_>, &String)| {
                    let completion = &answer.prompt.example.completion;
                    rule.reward(text, completion).map(Some).ok_or_else(|| no_number(answer))
                };
                both().map(reward).collect::<Result<_>>()?
            }
            Source::Command(server) => {
                let asked: Vec<Asked<'_>> = both()
                    .map(|(answer, text)| Asked {
                        split: &answer.prompt.split,
                        id: &answer.prompt.example.id,
                        prompt: &answer.prompt.example.prompt,
                        response: text,
                        ended: answer.ended,
                        reference: &answer.prompt.example.completion,
                    })
                    .collect();
                server.scores(context, &asked)?
            }
            Source::Llm(grades) => {
                grades.rewards(context, answers, texts)?.into_iter().map(Some).collect()
            }
        })
    }
}

fn gold((answer, text): (&Answer<'_>, &String)) -> Result<Option<f64>> {
    let Prompt { example, split, .. } = answer.prompt;
    match world::gold(example, text, answer.ended) {
        Some(grade) => Ok(Some(grade.score)),
        None => {
            let message =
                format!("row `{}` of split `{split}` is of no synthetic world", example.id);
            Err(user(message).hint("name another reward").into())
        }
    }
}

fn no_number(answer: &Answer<'_>) -> crate::error::Error {
    let Prompt { example, split, .. } = answer.prompt;
    user(format!("the completion of row `{}` of split `{split}` has no number", example.id))
        .hint("`number_match` compares with the last number of the row's completion")
        .into()
}
