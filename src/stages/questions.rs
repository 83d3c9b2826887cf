//! Questions to a language model behind OpenAI's chat API, many at a time, each once. Knows nothing
//! of what is asked.
//!
//! 1. An answer is kept on disk by the address and the whole question, and a question that was
//!    answered is not asked again; nor are equal questions asked twice.
//! 2. Answers are those of temperature 0. They come in the order of the questions, however many
//!    are on their way at a time.
//! 3. An answer that cannot be used is not kept. It is asked for again, as often as a request that
//!    fails, and is an error then.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::Checks;
use crate::dag::context::Context;
use crate::endpoint::answers::{Answers, Reply};
use crate::endpoint::client::Client;
use crate::error::Result;

/// Who is asked, and how, as a config says.
#[derive(Clone, Copy)]
pub(super) struct Access<'a> {
    pub(super) endpoint: &'a str,
    pub(super) model: &'a str,
    pub(super) max_tokens: usize,
    pub(super) rpm: Option<f64>,
    pub(super) concurrency: usize,
    pub(super) max_retries: u32,
    pub(super) timeout: f64,
    pub(super) api_key_env: Option<&'a str>,
}

impl Access<'_> {
    /// Notes values out of range, below the field `place`.
    pub(super) fn check(&self, checks: &mut Checks, place: &str) {
        let at = |name: &str| format!("{place}.{name}");
        let address = self.endpoint.starts_with("http://") || self.endpoint.starts_with("https://");
        let rpm = self.rpm.is_none_or(|rpm| rpm > 0.0 && rpm.is_finite());
        checks
            .require(
                address,
                &at("endpoint"),
                "expected an address that begins with http:// or https://",
            )
            .require(
                !self.endpoint.contains(['@', '?']),
                &at("endpoint"),
                "expected no key in the address: `api_key_env` names the variable with it",
            )
            .require(!self.model.is_empty(), &at("model"), "expected the name of a model")
            .positive(self.max_tokens, &at("max_tokens"))
            .require(rpm, &at("rpm"), "expected a number above 0, or null")
            .require((1..=64).contains(&self.concurrency), &at("concurrency"), "expected 1 to 64")
            .require(
                self.timeout > 0.0 && self.timeout <= 86400.0,
                &at("timeout"),
                "expected seconds above 0, at most a day",
            );
    }
}

/// What asks. It keeps to one pace as long as it exists.
pub(super) struct Asker<'a> {
    access: Access<'a>,
    answers: Answers,
    client: Client,
}

/// The answers to some questions.
pub(super) struct Answered {
    /// One for each question that differs from those before it.
    pub(super) replies: Vec<Reply>,
    /// For each question the place of its answer in `replies`.
    pub(super) places: Vec<usize>,
}

impl<'a> Asker<'a> {
    pub(super) fn new(access: Access<'a>, context: &Context) -> Self {
        let Access { endpoint, rpm, max_retries, timeout, api_key_env, .. } = access;
        Asker {
            access,
            answers: Answers::new(&context.kept().join("answers")),
            client: Client::new(endpoint, api_key_env, rpm, max_retries, timeout),
        }
    }

    /// The answers to `questions`, each the text of a message. `read` says whether an answer to
    /// question number `at` can be used. `tell` hears after each answer how many there are, of how
    /// many, and how many of these were asked now.
    ///
    /// # Errors
    /// Those of [`Client::ask`] and of `read`, if the last answer that was asked for could not be
    /// used. The request to stop.
    pub(super) fn ask(
        &self,
        context: &Context,
        questions: &[String],
        read: &(dyn Fn(usize, &str) -> Result<()> + Sync),
        tell: &(dyn Fn(usize, usize, usize) + Sync),
    ) -> Result<Answered> {
        let (mut asked, mut known) = (Vec::new(), BTreeMap::new());
        let places = questions.iter().enumerate().map(|(at, question)| {
            *known.entry(question.as_str()).or_insert_with(|| {
                asked.push((at, self.body(question)));
                asked.len() - 1
            })
        });
        let places: Vec<usize> = places.collect();

        let (next, done, new, failed) =
            (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        let replies: Vec<Mutex<Option<Reply>>> = asked.iter().map(|_| Mutex::default()).collect();
        let stop = || context.stop_requested() || failed.load(Ordering::SeqCst);
        let one = |number: usize| -> Result<()> {
            let (at, body) = &asked[number];
            let kept = self.answers.find(self.access.endpoint, body)?;
            let reply = match kept.filter(|kept| read(*at, &kept.text).is_ok()) {
                Some(reply) => reply,
                None => {
                    let Some(reply) = self.new_answer(body, &|text| read(*at, text), &stop)? else {
                        return Ok(());
                    };
                    new.fetch_add(1, Ordering::SeqCst);
                    reply
                }
            };
            *replies[number].lock().expect("no one panics while it is held") = Some(reply);
            let done = done.fetch_add(1, Ordering::SeqCst) + 1;
            tell(done, asked.len(), new.load(Ordering::SeqCst));
            Ok(())
        };
        let work = || -> Result<()> {
            while !stop() {
                let number = next.fetch_add(1, Ordering::SeqCst);
                if number >= asked.len() {
                    break;
                }
                one(number).inspect_err(|_| failed.store(true, Ordering::SeqCst))?;
            }
            Ok(())
        };
        std::thread::scope(|scope| -> Result<()> {
            // Where the machine has no more threads, fewer must do, or this one.
            let start = |_| std::thread::Builder::new().spawn_scoped(scope, work).ok();
            let count = self.access.concurrency.min(asked.len());
            let threads: Vec<_> = (0..count).map_while(start).collect();
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
        Ok(Answered { replies: replies.into_iter().map(taken).collect(), places })
    }

    /// An answer that can be used, which is kept; `None` if `stop` said so before there was one.
    fn new_answer(
        &self,
        body: &Value,
        read: &dyn Fn(&str) -> Result<()>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Reply>> {
        let mut retries = 0;
        loop {
            let Some(reply) = self.client.ask(body, stop)? else { return Ok(None) };
            match read(&reply.text) {
                Ok(()) => {
                    self.answers.keep(self.access.endpoint, body, &reply)?;
                    return Ok(Some(reply));
                }
                Err(error) if retries == self.access.max_retries => return Err(error),
                Err(_) => retries += 1,
            }
        }
    }

    fn body(&self, question: &str) -> Value {
        json!({"model": self.access.model, "messages": [{"role": "user", "content": question}],
            "temperature": 0, "max_tokens": self.access.max_tokens})
    }
}
