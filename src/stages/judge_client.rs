//! A language model as a judge: every pair asked in both orders. Knows nothing of win rates.

use serde::{Deserialize, Serialize};

use super::Checks;
use super::questions::{Access, Answered, Asker};
use crate::artefacts::judgements::{Judgement, Order, Usage};
use crate::dag::context::Context;
use crate::data::answer_pairs::AnswerPair;
use crate::error::{Result, user};
use crate::eval::verdict::{self, Verdict};
use crate::fs;
use crate::reference::Input;

/// Who is asked, and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Address of the API, up to and including `/v1`.
    pub endpoint: String,
    /// Name of the model at the endpoint.
    pub model: String,
    /// Texts that the built-in question is about; not with `prompt`.
    #[serde(default)]
    pub task: Task,
    /// File with a question to use instead, in which `{prompt}`, `{first}` and `{second}` are
    /// replaced by the texts.
    #[serde(default)]
    pub prompt: Option<Input>,
    /// Longest reply of the judge in tokens.
    #[serde(default = "hundred")]
    pub max_tokens: usize,
    /// Largest number of requests a minute; `null` sets no limit.
    #[serde(default)]
    pub rpm: Option<f64>,
    /// Largest number of requests in flight.
    #[serde(default = "four")]
    pub concurrency: usize,
    /// Number of retries after a failure.
    #[serde(default = "six")]
    pub max_retries: u32,
    /// Seconds after which a request counts as failed.
    #[serde(default = "two_minutes")]
    pub timeout: f64,
    /// Environment variable that holds the key of the API.
    #[serde(default)]
    pub api_key_env: Option<String>,
    /// Price of a million tokens.
    #[serde(default)]
    pub price: Option<Price>,
}

/// What is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Summaries of texts.
    #[default]
    Summarisation,
    /// Responses to instructions.
    Instructions,
}

/// What a million tokens cost, in any currency.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Price of a million tokens of requests, in any currency.
    pub prompt: f64,
    /// Price of a million tokens of replies, in the same currency.
    pub completion: f64,
}

pub(super) fn hundred() -> usize {
    100
}

pub(super) fn four() -> usize {
    4
}

pub(super) fn six() -> u32 {
    6
}

pub(super) fn two_minutes() -> f64 {
    120.0
}

impl Model {
    fn access(&self) -> Access<'_> {
        Access {
            endpoint: &self.endpoint,
            model: &self.model,
            max_tokens: self.max_tokens,
            rpm: self.rpm,
            concurrency: self.concurrency,
            max_retries: self.max_retries,
            timeout: self.timeout,
            api_key_env: self.api_key_env.as_deref(),
        }
    }

    /// Notes values out of range, below `judge.llm`.
    pub(super) fn check(&self, checks: &mut Checks) {
        self.access().check(checks, "judge.llm");
        checks.require(
            self.prompt.is_none() || self.task == Task::default(),
            "judge.llm.task",
            "the file `prompt` says what is judged: remove one of the two",
        );
    }

    fn question_file(&self) -> Result<String> {
        let built_in = match self.task {
            Task::Summarisation => verdict::SUMMARISATION,
            Task::Instructions => verdict::INSTRUCTIONS,
        };
        template(self.prompt.as_ref(), built_in, verdict::missing_places)
    }
}

/// The template in a file, or the built-in one; `missing` names the places that one has not.
pub(super) fn template(
    file: Option<&Input>,
    built_in: &str,
    missing: fn(&str) -> Vec<&'static str>,
) -> Result<String> {
    let Some(file) = file else { return Ok(built_in.to_owned()) };
    let text = fs::read_to_string(file.path())?;
    match missing(&text).as_slice() {
        [] => Ok(text),
        missing => {
            Err(user(format!("{} has no {}", file.path().display(), missing.join(", "))).into())
        }
    }
}

/// Asks about all pairs, each in both orders; what was answered before is not asked again.
pub(super) fn ask(
    model: &Model,
    context: &Context,
    pairs: &[AnswerPair],
    seed: u64,
) -> Result<(Vec<Judgement>, Usage)> {
    let file = model.question_file()?;
    let orders = |pair: &AnswerPair| if pair.a_first(seed) { [true, false] } else { [false, true] };
    let shown: Vec<(&AnswerPair, bool)> =
        pairs.iter().flat_map(|pair| orders(pair).map(|a_first| (pair, a_first))).collect();
    // Where two texts are the same, so are the questions of both orders: it is asked once, and what
    // it says makes a tie.
    let question = |(pair, a_first): &(&AnswerPair, bool)| {
        let (a, b) = (pair.a.text.as_str(), pair.b.text.as_str());
        let (first, second) = if *a_first { (a, b) } else { (b, a) };
        verdict::fill(&file, &pair.prompt, first, second)
    };
    let questions: Vec<String> = shown.iter().map(question).collect();
    let tell = |done: usize, all: usize, new: usize| {
        context.progress(done as u64, all as u64, &[("asked", new as f64)]);
    };
    // What cannot be read is a verdict as well.
    let asker = Asker::new(model.access(), context);
    let Answered { replies, places } = asker.ask(context, &questions, &|_, _| Ok(()), &tell)?;
    let mut usage = Usage { questions: replies.len(), ..Usage::default() };
    for reply in &replies {
        usage.prompt_tokens += reply.prompt_tokens;
        usage.completion_tokens += reply.completion_tokens;
    }
    let judgement = |((pair, a_first), at): ((&AnswerPair, bool), usize)| Judgement {
        order: Some(Order::of(a_first)),
        raw: Some(replies[at].text.clone()),
        prompt_tokens: Some(replies[at].prompt_tokens),
        completion_tokens: Some(replies[at].completion_tokens),
        ..Judgement::new(
            &pair.split,
            &pair.id,
            Verdict::of_choice(verdict::choice(&replies[at].text), a_first),
        )
    };
    let judgements = shown.into_iter().zip(places).map(judgement).collect();
    let cost = |price: Price| {
        (usage.prompt_tokens as f64 * price.prompt
            + usage.completion_tokens as f64 * price.completion)
            / 1e6
    };
    usage.cost = model.price.map(cost);
    Ok((judgements, usage))
}
