//! A reward that a language model behind OpenAI's chat API gives: a grade of each response to its
//! prompt.
//!
//! 1. A response is graded once by one question; equal questions are asked once, and answers are
//!    kept in the cache by address and question, as those of a `judge` stage are
//!    (`questions.rs`). With the same cache the rewards are the same.
//! 2. The reward is (grade - from) / (to - from): 0 for the worst grade, 1 for the best, so that it
//!    has the range of the rules.
//! 3. An answer without a grade is asked for again `max_retries` times, and is an error then; it is
//!    no reward.
//! 4. The model reads the prompt's text as it is in the dataset, and the response without special
//!    tokens, both without space at both ends.

use serde::{Deserialize, Serialize};

use super::Answer;
use crate::dag::context::Context;
use crate::error::{Result, user};
use crate::eval::grade::{self, Place, Scale};
use crate::reference::Input;
use crate::stages::Checks;
use crate::stages::judge_client::{self, Task, template};
use crate::stages::questions::{Access, Answered, Asker};

/// Characters of an answer that an error shows.
const SHOWN: usize = 200;

/// A language model that grades responses.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grader {
    /// Address of the API, up to and including `/v1`.
    pub endpoint: String,
    /// Name of the model at the endpoint.
    pub model: String,
    /// Texts that the built-in question is about; not with `prompt`.
    #[serde(default)]
    pub task: Task,
    /// File with a question to use instead, in which `{prompt}` and `{response}` are replaced by
    /// the texts, `{from}` and `{to}` by the ends of the scale.
    #[serde(default)]
    pub prompt: Option<Input>,
    /// Grades that the model may give.
    #[serde(default)]
    pub scale: Scale,
    /// Place of the grade in the model's answer.
    #[serde(default)]
    pub grade: Place,
    /// Longest answer of the model in tokens.
    #[serde(default = "judge_client::hundred")]
    pub max_tokens: usize,
    /// Largest number of requests a minute; `null` sets no limit.
    #[serde(default)]
    pub rpm: Option<f64>,
    /// Largest number of requests in flight.
    #[serde(default = "judge_client::four")]
    pub concurrency: usize,
    /// Number of retries after a failure, and after an answer without a grade.
    #[serde(default = "judge_client::six")]
    pub max_retries: u32,
    /// Seconds after which a request counts as failed.
    #[serde(default = "judge_client::two_minutes")]
    pub timeout: f64,
    /// Environment variable that holds the key of the API.
    #[serde(default)]
    pub api_key_env: Option<String>,
}

impl Grader {
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

    /// Notes values out of range, below the field `place`.
    pub(super) fn check(&self, checks: &mut Checks, place: &str) {
        let at = |name: &str| format!("{place}.{name}");
        self.access().check(checks, place);
        checks
            .require(
                self.prompt.is_none() || self.task == Task::default(),
                &at("task"),
                "the file `prompt` says what is graded: remove one of the two",
            )
            .require(
                self.scale.is_in_range(),
                &at("scale"),
                "expected two finite numbers, `to` above `from`",
            )
            .require(
                self.grade != Place::Field(String::new()),
                &at("grade.field"),
                "expected the name of a field",
            );
    }
}

/// A grader at work.
pub(super) struct Grades<'a> {
    config: &'a Grader,
    template: String,
    asker: Asker<'a>,
}

impl<'a> Grades<'a> {
    /// # Errors
    /// The user's: a template that cannot be read, or has no place for a text.
    pub(super) fn new(config: &'a Grader, context: &Context) -> Result<Self> {
        let built_in = match config.task {
            Task::Summarisation => grade::SUMMARISATION,
            Task::Instructions => grade::INSTRUCTIONS,
        };
        let template = template(config.prompt.as_ref(), built_in, grade::missing_places)?;
        Ok(Grades { config, template, asker: Asker::new(config.access(), context) })
    }

    /// The reward of each answer. `texts` are their responses as text.
    ///
    /// # Errors
    /// The user's, with the row and the model's answer: one without a grade. Those of asking. The
    /// request to stop.
    pub(super) fn rewards(
        &self,
        context: &Context,
        answers: &[Answer<'_>],
        texts: &[String],
    ) -> Result<Vec<f64>> {
        let Grader { scale, grade, .. } = self.config;
        let question = |(answer, text): (&Answer<'_>, &String)| {
            grade::fill(&self.template, &answer.prompt.example.prompt, text, *scale)
        };
        let questions: Vec<String> = answers.iter().zip(texts).map(question).collect();
        let read = |at: usize, said: &str| match grade.grade(said, *scale) {
            Some(_) => Ok(()),
            None => Err(self.unreadable(&answers[at], said)),
        };
        let Answered { replies, places } =
            self.asker.ask(context, &questions, &read, &|_, _, _| {})?;
        let reward = |(at, place): (usize, usize)| {
            let said = &replies[place].text;
            let grade =
                grade.grade(said, *scale).ok_or_else(|| self.unreadable(&answers[at], said))?;
            Ok(scale.reward(grade))
        };
        places.into_iter().enumerate().map(reward).collect()
    }

    fn unreadable(&self, answer: &Answer<'_>, said: &str) -> crate::error::Error {
        let Grader { model, scale: Scale { from, to }, grade, max_retries, .. } = self.config;
        let place = match grade {
            Place::Field(name) => format!("in the field `{name}` of a JSON object"),
            Place::LastWord => "as its last word".to_owned(),
        };
        let mut shown: String = said.chars().take(SHOWN).collect();
        if shown.len() < said.len() {
            shown.push('…');
        }
        let message = format!(
            "the model `{model}` was asked {} times to grade {}, and its last answer has no number \
             from {from} to {to} {place}: {shown:?}",
            u64::from(*max_retries) + 1,
            answer.called(),
        );
        user(message)
            .hint("look at the question (`prompt`), at `grade` and `scale`, and at `max_tokens`")
            .into()
    }
}
