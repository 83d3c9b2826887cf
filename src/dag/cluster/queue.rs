//! A queue of a cluster as its commands: how a job is submitted, asked for, stopped and cancelled,
//! and what the queue's words for states mean. Uses nothing of jobs that run.
//!
//! The set for Slurm is a file in the same form as a user's ([`Settings`]), so the form is enough
//! for a queue.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::error::{Failure, Result, user};

/// Placeholders that every job has a value for, or none where its node says nothing.
const OF_A_JOB: [&str; 9] =
    ["name", "stage", "key", "folder", "script", "log", "threads", "gpus", "time_min"];

/// The placeholder of the memory of a job.
pub(super) const MEMORY: &str = "memory_mb";

/// The placeholder of the ids of the jobs that are asked for.
pub(super) const JOBS: &str = "jobs";
/// The placeholder of the id of one job.
pub(super) const JOB: &str = "job";

/// Jobs in the queue at once, where the file says nothing.
const MOST_JOBS: usize = 100;
/// How often a lost job is submitted again, where the file says nothing.
const RESUBMIT: u32 = 3;
/// Seconds between two questions to the queue, where the file says nothing.
const POLL: f64 = 2.0;

/// A word of a command, or several that are left out together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word(Vec<String>);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Words;
        impl<'de> Visitor<'de> for Words {
            type Value = Word;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a word of a command, or a list of words")
            }
            fn visit_str<E: Error>(self, word: &str) -> std::result::Result<Word, E> {
                Ok(Word(vec![word.to_owned()]))
            }
            fn visit_i64<E: Error>(self, word: i64) -> std::result::Result<Word, E> {
                Ok(Word(vec![word.to_string()]))
            }
            fn visit_u64<E: Error>(self, word: u64) -> std::result::Result<Word, E> {
                Ok(Word(vec![word.to_string()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut words: A,
            ) -> std::result::Result<Word, A::Error> {
                let mut all = Vec::new();
                while let Some(word) = words.next_element::<String>()? {
                    all.push(word);
                }
                Ok(Word(all))
            }
        }
        deserializer.deserialize_any(Words)
    }
}

/// What a queue's word for the state of a job means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// It waits, for the first time or again.
    Pending,
    /// It runs, or its processes are being ended.
    Running,
    /// It has ended with exit code 0.
    Done,
    /// It has ended with another exit code.
    Failed,
    /// Somebody has cancelled it.
    Cancelled,
    /// It took longer than it was given.
    Timeout,
    /// It took more memory than it was given.
    OutOfMemory,
    /// Another job took its place, and the queue does not run it again.
    Preempted,
    /// Its host failed, and the queue does not run it again.
    Lost,
}

/// What a text is between.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Between {
    /// It begins after the first occurrence of this; at the start where this is empty.
    pub after: String,
    /// It ends before the next occurrence of this; at the end where this is empty.
    pub before: String,
}

impl Between {
    /// The part of a text, without blanks around it; `None` where it is empty or not there.
    pub(super) fn of<'a>(&self, text: &'a str) -> Option<&'a str> {
        let rest = text
            .split_once(self.after.as_str())
            .map_or(if self.after.is_empty() { Some(text) } else { None }, |(_, rest)| {
                Some(rest)
            })?;
        let part = match self.before.is_empty() {
            true => rest,
            false => rest.split(self.before.as_str()).next().unwrap_or_default(),
        };
        Some(part.trim()).filter(|part| !part.is_empty())
    }
}

/// Values of placeholders.
pub type Values = BTreeMap<String, String>;

/// The same as a file has them: a name without a value may be in a command, and may get one for a
/// stage kind.
pub type Options = BTreeMap<String, Option<String>>;

/// A file about a queue, as it is written. What is absent is that of the base.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The name of the queue; that of a built-in set is the set to start from.
    pub queue: String,
    /// Values of placeholders for all jobs.
    #[serde(default)]
    pub options: Options,
    /// The same for jobs of a stage kind.
    #[serde(default)]
    pub stages: BTreeMap<String, Options>,
    /// Further words of the submit command, before the script.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// The program on the hosts of the cluster, where it is elsewhere than here.
    pub program: Option<PathBuf>,
    /// The numerics class of the device of these hosts.
    pub numerics: Option<String>,
    /// Jobs in the queue at once.
    pub jobs: Option<usize>,
    /// Seconds between two questions to the queue.
    pub poll: Option<f64>,
    /// How often a job is submitted again that was preempted or lost its host.
    pub resubmit: Option<u32>,
    /// Submits a job.
    pub submit: Option<Vec<Word>>,
    /// Where its id is in what that prints.
    pub id: Option<Between>,
    /// Prints the id and the state of each job, one a line.
    pub status: Option<Vec<Word>>,
    /// Asks a job that runs to write a checkpoint and to end.
    pub stop: Option<Vec<Word>>,
    /// Cancels a job.
    pub cancel: Option<Vec<Word>>,
    /// The queue's words for each state.
    pub states: Option<BTreeMap<JobState, Vec<String>>>,
}

/// A queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// The program on its hosts, where it is elsewhere than here.
    pub program: Option<PathBuf>,
    /// The numerics class of the device of its hosts, if it was declared.
    pub numerics: Option<String>,
    /// Jobs in it at once.
    pub jobs: usize,
    pub(super) poll: Duration,
    pub(super) resubmit: u32,
    options: Options,
    stages: BTreeMap<String, Options>,
    submit: Vec<Word>,
    pub(super) id: Between,
    status: Vec<Word>,
    stop: Option<Vec<Word>>,
    cancel: Vec<Word>,
    states: BTreeMap<String, JobState>,
}

impl Queue {
    /// The queue of some settings, over a base if they have one.
    ///
    /// # Errors
    /// The user's: what is absent, or cannot be.
    pub fn of(own: Settings, base: Option<Settings>) -> Result<Self> {
        let base = base.unwrap_or_default();
        let mut options = base.options;
        options.extend(own.options);
        let mut stages = base.stages;
        for (stage, values) in own.stages {
            stages.entry(stage).or_default().extend(values);
        }
        let mut submit = required("submit", own.submit.or(base.submit))?;
        let arguments = base.arguments.into_iter().chain(own.arguments);
        let is_script = |word: &Word| word.0.iter().any(|part| part.contains("{script}"));
        let at = submit.iter().position(is_script).unwrap_or(submit.len());
        submit.splice(at..at, arguments.map(|word| Word(vec![word])));
        let mut states = BTreeMap::new();
        for (state, words) in required("states", own.states.or(base.states))? {
            for word in words {
                if let Some(other) = states.insert(word.clone(), state) {
                    let message = format!("`states` has the word `{word}` twice");
                    let both = format!("it cannot mean both {other:?} and {state:?}");
                    return Err(user(message).hint(both.to_lowercase()).into());
                }
            }
        }
        let poll = own.poll.or(base.poll).unwrap_or(POLL);
        if !(0.01..=3600.0).contains(&poll) {
            return Err(user(format!("`poll`: expected 0.01 to 3600 seconds, found {poll}")).into());
        }
        let jobs = own.jobs.or(base.jobs).unwrap_or(MOST_JOBS);
        if jobs == 0 {
            return Err(user("`jobs`: expected at least 1 job, found 0").into());
        }
        let queue = Queue {
            name: own.queue,
            program: own.program.or(base.program),
            numerics: own.numerics.or(base.numerics),
            jobs,
            poll: Duration::from_secs_f64(poll),
            resubmit: own.resubmit.or(base.resubmit).unwrap_or(RESUBMIT),
            options,
            stages,
            submit,
            id: own.id.or(base.id).unwrap_or_default(),
            status: required("status", own.status.or(base.status))?,
            stop: own.stop.or(base.stop),
            cancel: required("cancel", own.cancel.or(base.cancel))?,
            states,
        };
        queue.check()?;
        Ok(queue)
    }

    /// Sees to it that every placeholder of a command can have a value.
    fn check(&self) -> Result<()> {
        let mut known: BTreeSet<&str> = OF_A_JOB.into_iter().chain([MEMORY]).collect();
        let given = self.options.keys().chain(self.stages.values().flat_map(Options::keys));
        known.extend(given.map(String::as_str));
        let one = BTreeSet::from([JOB]);
        let commands = [
            ("submit", Some(&self.submit), &known),
            ("status", Some(&self.status), &BTreeSet::from([JOBS])),
            ("stop", self.stop.as_ref(), &one),
            ("cancel", Some(&self.cancel), &one),
        ];
        for (command, words, known) in commands {
            for word in words.into_iter().flatten().flat_map(|word| &word.0) {
                if let Some((_, name)) = placeholders(word).find(|name| !known.contains(name.1)) {
                    let names: Vec<&str> = known.iter().copied().collect();
                    return Err(unknown(command, name, &names).into());
                }
            }
        }
        let mentions = |words: &[Word], name: &str| {
            words
                .iter()
                .flat_map(|word| &word.0)
                .any(|word| placeholders(word).any(|(_, placeholder)| placeholder == name))
        };
        let needed = [
            ("submit", &self.submit, "script"),
            ("cancel", &self.cancel, JOB),
            ("stop", self.stop.as_ref().unwrap_or(&self.cancel), JOB),
        ];
        match needed.into_iter().find(|(_, words, name)| !mentions(words, name)) {
            Some((command, _, name)) => {
                let message = format!("`{command}` does not say where `{{{name}}}` goes");
                Err(user(message).hint(format!("add the word `{{{name}}}` to it")).into())
            }
            None => Ok(()),
        }
    }

    /// The command that submits a job of a stage kind; `of_job` are the values that its node gives.
    pub(super) fn submit(&self, stage: &str, of_job: Values) -> Vec<String> {
        let mut options = self.options.clone();
        options.extend(self.stages.get(stage).cloned().unwrap_or_default());
        let mut values: Values =
            options.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        values.extend(of_job);
        fill(&self.submit, &values)
    }

    /// The value of an option for a stage kind.
    pub fn option(&self, stage: &str, name: &str) -> Option<&str> {
        let own = self.stages.get(stage).and_then(|options| options.get(name));
        own.or_else(|| self.options.get(name))?.as_deref()
    }

    /// The command that asks for the states of jobs. A word that is `{jobs}` alone becomes a word a
    /// job; within a word the ids are separated by commas.
    pub(super) fn status<'a>(&self, jobs: impl Iterator<Item = &'a str>) -> Vec<String> {
        let jobs: Vec<String> = jobs.map(str::to_owned).collect();
        let whole = Values::from([(JOBS.to_owned(), jobs.join(","))]);
        let is_list = |word: &Word| word.0 == [format!("{{{JOBS}}}")];
        let words = self.status.iter().flat_map(|word| match is_list(word) {
            true => jobs.clone(),
            false => fill(std::slice::from_ref(word), &whole),
        });
        words.collect()
    }

    /// The command that cancels a job, or, where the queue has one, asks it to stop.
    pub(super) fn end(&self, job: &str, gently: bool) -> Vec<String> {
        let words = if gently { self.stop.as_ref() } else { None }.unwrap_or(&self.cancel);
        fill(words, &Values::from([(JOB.to_owned(), job.to_owned())]))
    }

    /// What a word of the queue means; `None` for one that the file does not have.
    pub(super) fn state(&self, word: &str) -> Option<JobState> {
        self.states.get(word).copied()
    }
}

fn required<T>(field: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| {
        let message = format!("`{field}` is missing");
        user(message).hint("add it, or write `queue: slurm` to start from the set for Slurm").into()
    })
}

fn unknown(command: &str, name: &str, known: &[&str]) -> Failure {
    let names: Vec<String> = known.iter().map(|name| format!("{{{name}}}")).collect();
    user(format!("`{command}` has `{{{name}}}`, which nothing gives a value")).hint(format!(
        "it may have {}; other names are those under `options` and `stages`",
        names.join(", ")
    ))
}

/// The places and names of the placeholders of a word. What a shell would replace (`${x}`) and what
/// is no name (`{print $1}`) is none.
fn placeholders(word: &str) -> impl Iterator<Item = (usize, &str)> {
    word.match_indices('{').filter_map(move |(at, _)| {
        let name = word[at + 1..].split_once('}')?.0;
        let is_name = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        (is_name && !word[..at].ends_with('$')).then_some((at, name))
    })
}

/// The words of a command with values for placeholders. What has a placeholder without a value is
/// left out.
fn fill(words: &[Word], values: &Values) -> Vec<String> {
    let mut filled = Vec::new();
    for Word(group) in words {
        let group: Option<Vec<String>> =
            group.iter().map(|word| filled_word(word, values)).collect();
        filled.extend(group.into_iter().flatten());
    }
    filled
}

/// A word in one pass: what a value holds is not replaced again.
fn filled_word(word: &str, values: &Values) -> Option<String> {
    let (mut filled, mut last) = (String::new(), 0);
    for (at, name) in placeholders(word) {
        filled.push_str(&word[last..at]);
        filled.push_str(values.get(name)?);
        last = at + name.len() + 2;
    }
    filled.push_str(&word[last..]);
    Some(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(words: &[&str]) -> Word {
        Word(words.iter().map(|word| word.to_string()).collect())
    }

    fn settings() -> Settings {
        Settings {
            queue: "toy".into(),
            submit: Some(vec![
                word(&["submit"]),
                word(&["-M", "{memory_mb}"]),
                word(&["{script}"]),
            ]),
            status: Some(vec![word(&["status"]), word(&["{jobs}"]), word(&["--all={jobs}"])]),
            cancel: Some(vec![word(&["cancel"]), word(&["{job}"])]),
            states: Some([(JobState::Done, vec!["OK".to_owned()])].into()),
            ..Settings::default()
        }
    }

    #[test]
    fn words_without_a_value_are_left_out_and_values_are_not_replaced_again() {
        let queue = Queue::of(settings(), None).expect("sound");
        let script = |path: &str| Values::from([("script".to_owned(), path.to_owned())]);
        assert_eq!(queue.submit("a", script("x {log} y")), ["submit", "x {log} y"]);
        let more = Settings {
            queue: "toy".into(),
            arguments: vec!["-q".into()],
            stages: [("ppo".to_owned(), Options::from([("memory_mb".into(), Some("7".into()))]))]
                .into(),
            ..Settings::default()
        };
        let queue = Queue::of(more, Some(settings())).expect("sound");
        assert_eq!(queue.submit("a", script("x")), ["submit", "-q", "x"]);
        assert_eq!(queue.submit("ppo", script("x")), ["submit", "-M", "7", "-q", "x"]);
        assert_eq!(queue.status(["1", "2"].into_iter()), ["status", "1", "2", "--all=1,2"]);
        assert_eq!(queue.end("3", true), ["cancel", "3"]);
        assert_eq!((queue.state("OK"), queue.state("no")), (Some(JobState::Done), None));
    }

    #[test]
    fn a_file_that_cannot_work_is_refused() {
        let says = |settings: Settings| {
            format!("{:#}", Queue::of(settings, None).expect_err("it cannot work"))
        };
        assert!(says(Settings::default()).contains("`submit` is missing"));
        let submit = Some(vec![word(&["submit", "{scrpt}"])]);
        assert!(says(Settings { submit, ..settings() }).contains("`{scrpt}`"));
        let submit = Some(vec![word(&["submit", "${HOME}"])]);
        assert!(says(Settings { submit, ..settings() }).contains("where `{script}` goes"));
        let twice = vec!["OK".to_owned(), "OK".to_owned()];
        let states = Some([(JobState::Done, twice)].into());
        assert!(says(Settings { states, ..settings() }).contains("twice"));
        assert!(says(Settings { poll: Some(0.0), ..settings() }).contains("`poll`"));
        assert!(says(Settings { jobs: Some(0), ..settings() }).contains("`jobs`"));
    }

    #[test]
    fn an_id_is_between_two_texts() {
        let between =
            |after: &str, before: &str| Between { after: after.into(), before: before.into() };
        assert_eq!(between("", "").of(" 7\n"), Some("7"));
        assert_eq!(between("", ";").of("7;main\n"), Some("7"));
        assert_eq!(between("Job <", ">").of("Job <7> is submitted"), Some("7"));
        assert_eq!(between("Job <", ">").of("no"), None);
        assert_eq!(between("", "").of("\n"), None);
    }
}
