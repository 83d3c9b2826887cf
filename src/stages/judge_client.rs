//! A language model as a judge: every pair asked in both orders, many questions at a time, each
//! once. Knows nothing of win rates.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Checks;
use super::judgements::Judgement;
use crate::dag::context::Context;
use crate::data::versus::Versus;
use crate::endpoint::answers::{Answers, Reply};
use crate::endpoint::client::Client;
use crate::error::{Result, user};
use crate::eval::verdict::{self, Verdict};
use crate::fs;
use crate::reference::Input;
use crate::report::verdicts::Usage;

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

fn hundred() -> usize {
    100
}

fn four() -> usize {
    4
}

fn six() -> u32 {
    6
}

fn two_minutes() -> f64 {
    120.0
}

impl Model {
    /// Notes values out of range, below `judge.llm`.
    pub(super) fn check(&self, checks: &mut Checks) {
        let address = self.endpoint.starts_with("http://") || self.endpoint.starts_with("https://");
        let rpm = self.rpm.is_none_or(|rpm| rpm > 0.0 && rpm.is_finite());
        checks
            .require(
                address,
                "judge.llm.endpoint",
                "expected an address that begins with http:// or https://",
            )
            .require(
                !self.endpoint.contains(['@', '?']),
                "judge.llm.endpoint",
                "expected no key in the address: `api_key_env` names the variable with it",
            )
            .require(!self.model.is_empty(), "judge.llm.model", "expected the name of a model")
            .positive(self.max_tokens, "judge.llm.max_tokens")
            .require(rpm, "judge.llm.rpm", "expected a number above 0, or null")
            .require(
                (1..=64).contains(&self.concurrency),
                "judge.llm.concurrency",
                "expected 1 to 64",
            )
            .require(
                self.timeout > 0.0 && self.timeout <= 86400.0,
                "judge.llm.timeout",
                "expected seconds above 0, at most a day",
            )
            .require(
                self.prompt.is_none() || self.task == Task::default(),
                "judge.llm.task",
                "the file `prompt` says what is judged: remove one of the two",
            );
    }

    fn question_file(&self) -> Result<String> {
        let Some(file) = &self.prompt else {
            return Ok(match self.task {
                Task::Summarisation => verdict::SUMMARISATION,
                Task::Instructions => verdict::INSTRUCTIONS,
            }
            .to_owned());
        };
        let text = fs::read_to_string(file.path())?;
        match verdict::missing_places(&text).as_slice() {
            [] => Ok(text),
            missing => {
                Err(user(format!("{} has no {}", file.path().display(), missing.join(", "))).into())
            }
        }
    }

    fn question(&self, file: &str, pair: &Versus, a_first: bool) -> Value {
        let (a, b) = (pair.a.text.as_str(), pair.b.text.as_str());
        let (first, second) = if a_first { (a, b) } else { (b, a) };
        let content = verdict::fill(file, &pair.prompt, first, second);
        json!({"model": self.model, "messages": [{"role": "user", "content": content}],
            "temperature": 0, "max_tokens": self.max_tokens})
    }
}

/// Asks about all pairs, each in both orders; what was answered before is not asked again.
pub(super) fn ask(
    model: &Model,
    context: &Context,
    pairs: &[Versus],
    seed: u64,
) -> Result<(Vec<Judgement>, Usage)> {
    let file = model.question_file()?;
    let answers = Answers::new(&context.kept().join("answers"));
    let client = Client::new(
        &model.endpoint,
        model.api_key_env.as_deref(),
        model.rpm,
        model.max_retries,
        model.timeout,
    );
    let orders = |pair: &Versus| if pair.a_first(seed) { [true, false] } else { [false, true] };
    let shown: Vec<(&Versus, bool)> =
        pairs.iter().flat_map(|pair| orders(pair).map(|a_first| (pair, a_first))).collect();
    // Where two texts are the same, so are the questions of both orders: it is asked once, and what
    // it says makes a tie.
    let (mut asked, mut places) = (Vec::new(), BTreeMap::new());
    let question_of = |(pair, a_first): &(&Versus, bool)| {
        let question = model.question(&file, pair, *a_first);
        *places.entry(question.to_string()).or_insert_with(|| {
            asked.push(question);
            asked.len() - 1
        })
    };
    let answered_by: Vec<usize> = shown.iter().map(question_of).collect();

    let (next, done, new, failed) =
        (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let replies: Vec<Mutex<Option<Reply>>> = asked.iter().map(|_| Mutex::default()).collect();
    let stop = || context.stop_requested() || failed.load(Ordering::SeqCst);
    let one = |at: usize| -> Result<()> {
        let question = &asked[at];
        let reply = match answers.find(&model.endpoint, question)? {
            Some(reply) => reply,
            None => {
                let Some(reply) = client.ask(question, &stop)? else { return Ok(()) };
                answers.keep(&model.endpoint, question, &reply)?;
                new.fetch_add(1, Ordering::SeqCst);
                reply
            }
        };
        *replies[at].lock().expect("no one panics while it is held") = Some(reply);
        let (done, new) = (done.fetch_add(1, Ordering::SeqCst) + 1, new.load(Ordering::SeqCst));
        context.progress(done as u64, asked.len() as u64, &[("asked", new as f64)]);
        Ok(())
    };
    let work = || -> Result<()> {
        while !stop() {
            let at = next.fetch_add(1, Ordering::SeqCst);
            if at >= asked.len() {
                break;
            }
            one(at).inspect_err(|_| failed.store(true, Ordering::SeqCst))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| -> Result<()> {
        // Where the machine has no more threads, fewer must do, or this one.
        let start = |_| std::thread::Builder::new().spawn_scoped(scope, work).ok();
        let threads: Vec<_> = (0..model.concurrency).map_while(start).collect();
        if threads.is_empty() {
            work()?;
        }
        threads.into_iter().try_for_each(|thread| thread.join().expect("no question panics"))
    })?;
    if context.stop_requested() {
        return context.interrupted();
    }

    let taken = |reply: Mutex<Option<Reply>>| {
        reply.into_inner().expect("no one panics while it is held").expect("all were answered")
    };
    let replies: Vec<Reply> = replies.into_iter().map(taken).collect();
    let mut usage = Usage { questions: asked.len(), ..Usage::default() };
    for reply in &replies {
        usage.prompt_tokens += reply.prompt_tokens;
        usage.completion_tokens += reply.completion_tokens;
    }
    let judgement = |((pair, a_first), at): ((&Versus, bool), usize)| Judgement {
        order: Judgement::order(a_first),
        raw: Some(replies[at].text.clone()),
        prompt_tokens: Some(replies[at].prompt_tokens),
        completion_tokens: Some(replies[at].completion_tokens),
        ..Judgement::new(pair, Verdict::of_choice(verdict::choice(&replies[at].text), a_first))
    };
    let judgements = shown.into_iter().zip(answered_by).map(judgement).collect();
    let cost = |price: Price| {
        (usage.prompt_tokens as f64 * price.prompt
            + usage.completion_tokens as f64 * price.completion)
            / 1e6
    };
    usage.cost = model.price.map(cost);
    Ok((judgements, usage))
}
