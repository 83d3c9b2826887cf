//! One question to an endpoint over HTTP: how fast, how often again, how long. Uses nothing of
//! what is asked.
//!
//! 1. Worth another try: no connection, a connection that breaks off, time that is up, 408, 409,
//!    429 and 5xx. After the k-th failure it waits 0.5 s times 2^(k-1), or what `Retry-After` asks
//!    for, and a minute at most.
//! 2. The key is sent in `Authorization` to the endpoint itself, and is in no error.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::Agent;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};

use super::answers::Reply;
use crate::error::{Failure, Result, environment, user};

/// After the first failure; doubled after each further one.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How often a wait looks whether it should end.
const TICK: Duration = Duration::from_millis(50);
/// Bytes of an answer.
const LONGEST_ANSWER: u64 = 4 << 20;

/// Who asks.
pub struct Client {
    endpoint: String,
    key_variable: Option<String>,
    max_retries: u32,
    /// Between two questions; and when the next may be asked.
    pace: Duration,
    next: Mutex<Instant>,
    agent: Agent,
}

impl Client {
    /// A client of the API at `endpoint` (`http://host:port/v1`). `key_variable` names the
    /// environment variable with the key, `rpm` limits the questions a minute, and after `timeout`
    /// seconds a try has failed.
    pub fn new(
        endpoint: &str,
        key_variable: Option<&str>,
        rpm: Option<f64>,
        max_retries: u32,
        timeout: f64,
    ) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("posttrain/", env!("CARGO_PKG_VERSION")))
            .timeout_global(Some(Duration::from_secs_f64(timeout)))
            .build();
        let pace = rpm.map_or(Duration::ZERO, |rpm| Duration::from_secs_f64(60.0 / rpm));
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let key_variable = key_variable.map(str::to_owned);
        Client {
            endpoint,
            key_variable,
            max_retries,
            pace,
            next: Mutex::new(Instant::now()),
            agent: agent.into(),
        }
    }

    /// The answer to a chat; `None` if `stop` said so before there was one.
    ///
    /// # Errors
    /// The user's, if the endpoint refuses the question; the machine's, if it has failed too often.
    pub fn ask(&self, question: &Value, stop: &dyn Fn() -> bool) -> Result<Option<Reply>> {
        let mut failures = 0;
        loop {
            if !self.wait_for_turn(stop) {
                return Ok(None);
            }
            let (why, again_in) = match self.attempt(question)? {
                Attempt::Answered(reply) => return Ok(Some(reply)),
                Attempt::Failed(why, again_in) => (why, again_in),
            };
            failures += 1;
            if failures > self.max_retries {
                let message = format!(
                    "{} has failed {failures} times, the last time so: {why}",
                    self.endpoint
                );
                return Err(environment(message)
                    .hint("answers until now are kept: run again, and only the rest is asked")
                    .into());
            }
            let wait =
                again_in.unwrap_or(FIRST_WAIT * 2u32.pow((failures - 1).min(10))).min(LONGEST_WAIT);
            if !sleep(Instant::now() + wait, stop) {
                return Ok(None);
            }
        }
    }

    /// The key. Read when something is asked: where every answer is kept already, none is needed.
    fn key(&self) -> Result<Option<String>> {
        let Some(name) = &self.key_variable else { return Ok(None) };
        let value = std::env::var(name).ok().map(|value| value.trim().to_owned());
        let usable = value
            .filter(|value| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic()));
        let missing = || {
            user(format!("the environment variable {name} holds no key"))
                .hint("set it, or leave `api_key_env` out")
        };
        Ok(Some(usable.ok_or_else(missing)?))
    }

    fn attempt(&self, question: &Value) -> Result<Attempt> {
        let key = self.key()?;
        let mut request = self
            .agent
            .post(format!("{}/chat/completions", self.endpoint))
            .header(CONTENT_TYPE, "application/json");
        if let Some(key) = &key {
            request = request.header(AUTHORIZATION, format!("Bearer {key}"));
        }
        let failed = |why: String| Ok(Attempt::Failed(why, None));
        let mut response = match request.send(question.to_string()) {
            Ok(response) => response,
            Err(error) => return failed(error.to_string()),
        };
        let status = response.status();
        let again_in = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let body = match response.body_mut().with_config().limit(LONGEST_ANSWER).read_to_vec() {
            Ok(body) => body,
            Err(error) => return failed(error.to_string()),
        };
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let said = body["error"]["message"].as_str().unwrap_or("it says no more");
        // Some endpoints repeat the key that they refuse.
        let said = key.map_or(said.to_owned(), |key| said.replace(&key, "…"));
        match status.as_u16() {
            200 => match reply(&body) {
                Some(reply) => Ok(Attempt::Answered(reply)),
                None => failed("its answer has no message".into()),
            },
            408 | 409 | 429 | 500.. => Ok(Attempt::Failed(format!("{status}: {said}"), again_in)),
            _ => Err(self.refused(status.as_u16(), &said).into()),
        }
    }

    fn refused(&self, status: u16, said: &str) -> Failure {
        let refused = user(format!("{} refuses the question ({status}): {said}", self.endpoint));
        match status {
            401 | 403 => refused
                .hint("set `api_key_env` to the environment variable that holds the right key"),
            404 => refused.hint("look at `endpoint`, which ends in /v1 as a rule, and `model`"),
            _ => refused,
        }
    }

    /// Takes the next place in the pace, and waits for it.
    fn wait_for_turn(&self, stop: &dyn Fn() -> bool) -> bool {
        let mut next = self.next.lock().expect("no one panics while it is held");
        let turn = (*next).max(Instant::now());
        *next = turn + self.pace;
        drop(next);
        sleep(turn, stop)
    }
}

enum Attempt {
    Answered(Reply),
    Failed(String, Option<Duration>),
}

fn reply(body: &Value) -> Option<Reply> {
    let count = |name: &str| body["usage"][name].as_u64().unwrap_or(0);
    let text = body["choices"][0]["message"]["content"].as_str()?.to_owned();
    Some(Reply {
        text,
        prompt_tokens: count("prompt_tokens"),
        completion_tokens: count("completion_tokens"),
    })
}

/// Sleeps until then. False if it was to end.
fn sleep(until: Instant, stop: &dyn Fn() -> bool) -> bool {
    loop {
        if stop() {
            return false;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(TICK));
    }
}
