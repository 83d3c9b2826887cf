//! The states of all jobs of a run in a queue, asked for in one call, and not more often than the
//! queue's file says. Uses nothing of nodes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use super::queue::Queue;
use super::run_command::run;

/// Questions without an answer in a row before there is a warning.
const SILENT: u32 = 5;

/// What the queue says of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// It was not asked since the job was submitted.
    Unknown,
    /// It has no such job.
    Absent,
    /// Its word for the state.
    Word(String),
}

/// What the queue has said last.
#[derive(Default)]
pub(super) struct Board {
    known: Mutex<Known>,
    /// Held by the thread that asks.
    asks: Mutex<()>,
}

#[derive(Default)]
struct Known {
    asked: Option<Instant>,
    /// Questions so far.
    questions: u64,
    /// The number of the last one that was answered.
    answered: u64,
    /// The jobs that are asked for, each with the questions that were asked before it.
    jobs: BTreeMap<String, u64>,
    words: HashMap<String, String>,
    silent: u32,
}

impl Board {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nothing panics while it holds the board")
    }

    /// From now on, a job is asked for.
    pub(super) fn add(&self, job: &str) {
        let mut known = self.known();
        let before = known.questions;
        known.jobs.insert(job.to_owned(), before);
    }

    /// A job is not asked for any more.
    pub(super) fn remove(&self, job: &str) {
        self.known().jobs.remove(job);
    }

    /// Whether the queue has left the last questions without an answer.
    pub(super) fn is_silent(&self) -> bool {
        self.known().silent > 0
    }

    /// How often the queue was asked. An answer to a later question is later than this call.
    pub(super) fn questions(&self) -> u64 {
        self.known().questions
    }

    /// What the queue says of a job, and the number of the question that this answers. Asks the
    /// queue if it is time, unless another thread does that now.
    pub(super) fn look(&self, queue: &Queue, job: &str, warn: &dyn Fn(String)) -> (u64, Look) {
        if let Ok(_asks) = self.asks.try_lock()
            && self.known().asked.is_none_or(|asked| asked.elapsed() >= queue.poll)
        {
            self.ask(queue, warn);
        }
        let known = self.known();
        let look = match (known.words.get(job), known.jobs.get(job)) {
            (Some(word), _) => Look::Word(word.clone()),
            (None, Some(before)) if known.answered > *before => Look::Absent,
            (None, _) => Look::Unknown,
        };
        (known.answered, look)
    }

    fn ask(&self, queue: &Queue, warn: &dyn Fn(String)) {
        let (question, jobs) = {
            let mut known = self.known();
            known.questions += 1;
            (known.questions, known.jobs.keys().cloned().collect::<Vec<_>>())
        };
        let command = queue.status(jobs.iter().map(String::as_str));
        let answer = run(&command).and_then(|said| said.good(&command[0]));
        let mut known = self.known();
        known.asked = Some(Instant::now());
        match answer {
            Ok(text) => {
                let line = |line: &str| {
                    let mut words = line.split_whitespace();
                    Some((words.next()?.to_owned(), words.next()?.to_owned()))
                };
                known.words = text.lines().filter_map(line).collect();
                known.answered = question;
                if known.silent >= SILENT {
                    warn(format!("the queue `{}` answers again", queue.name));
                }
                known.silent = 0;
            }
            Err(error) => {
                known.silent += 1;
                if known.silent == SILENT {
                    warn(format!(
                        "the queue `{}` does not say how its jobs are, and is asked again: {error}",
                        queue.name
                    ));
                }
            }
        }
    }
}
