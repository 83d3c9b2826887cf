//! The executor whose jobs are those of a cluster's queue: Slurm, or any queue that a file
//! describes. Uses orders and the queue's commands; no keys, no graph, no reports.
//!
//! 1. The job of an attempt is a script in its folder, which all hosts share. It runs `<program>
//!    exec <folder>` and leaves the exit code in a file. That file says that a job has succeeded,
//!    whatever the queue still knows of it.
//! 2. Any other end is the queue's to tell: a job that has stopped with a checkpoint may be one
//!    that the queue runs again. All jobs are asked for in one call.
//! 3. A job that was preempted or lost its host, and that the queue does not run again, is
//!    submitted again a few times, in the same folder: it goes on from its checkpoint.
//! 4. A job outlives the run that has submitted it. Its id is in the folder, and a later run goes
//!    on with it: it adopts the attempt and asks the queue for that job.
//! 5. A job begins when all that its node needs is made: the key of a node, and with it the folder
//!    of its attempt, is not known before. So the queue gets no dependencies.

mod board;
mod end;
mod queue;
mod run_command;
mod script;

pub mod attend;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::task::Poll;
use std::thread::Scope;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use self::queue::{Between, JobState, Options, Queue, Settings, Values, Word};

use self::board::{Board, Look};
use self::end::{End, over};
use self::queue::MEMORY;
use self::run_command::run;
use crate::cancellation::Cancel;
use crate::error::{Failure, Kind, Result, environment};
use crate::executor::Executor;
use crate::node::Node;
use crate::order::Order;
use crate::work::{LOG, Ticket};

/// The file of an attempt that says which job runs it; there until the job is known to be over.
const RECORD: &str = "job.json";

/// Answers in a row in which a job is absent until it counts as gone.
const ABSENT: u32 = 3;

/// How late what one host has written may reach another.
const LAG: Duration = Duration::from_secs(20);

/// How long a job that was cancelled is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// Which job runs an attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    /// The name of the queue.
    queue: String,
    /// The job's id there.
    job: String,
    /// How often the attempt was submitted.
    submitted: u32,
}

impl Record {
    fn of(attempt: &Path) -> Option<Self> {
        let bytes = crate::fs::read_if_exists(&attempt.join(RECORD)).ok().flatten()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn write(&self, attempt: &Path) -> Result<()> {
        let bytes = serde_json::to_vec(self).expect("a record is plain data");
        crate::fs::write_atomic(&attempt.join(RECORD), &bytes)
    }
}

/// Runs nodes as jobs of a queue.
pub struct ClusterExecutor {
    queue: Queue,
    program: PathBuf,
    board: Board,
    /// Words for states that the user was told of, since the queue's file does not have them.
    unknown: Mutex<BTreeSet<String>>,
}

/// A node in the queue.
pub struct ClusterJob {
    folder: PathBuf,
    record: Record,
    /// The command that submits it.
    submit: Vec<String>,
    /// Warnings for the next poll.
    notes: Vec<String>,
    looked: Option<Instant>,
    /// Questions to the queue that were asked before the exit code was seen.
    since: Option<u64>,
    /// The last question to whose answer it was absent, and how many there were in a row.
    absent: (u64, u32),
    /// Since when it is known to be over, while what it has written is waited for.
    over: Option<Instant>,
    /// Whether it was seen to run.
    is_running: bool,
    cancelled: Option<(Cancel, Instant)>,
}

impl ClusterExecutor {
    /// Jobs of a queue that run `program`, unless the queue names another one.
    pub fn new(queue: Queue, program: PathBuf) -> Self {
        let program = queue.program.clone().unwrap_or(program);
        ClusterExecutor { queue, program, board: Board::default(), unknown: Mutex::default() }
    }

    /// Submits the script of an attempt for the `submitted`-th time, and notes its job.
    fn send(&self, folder: &Path, submit: &[String], submitted: u32) -> Result<Record> {
        let command = submit.first().map_or("", String::as_str);
        let hint = "try the command by hand; `docs/cluster.md` says how a file changes it";
        let failed = |error: anyhow::Error| {
            let message = format!("{error:#}; the command was: {}", submit.join(" "));
            environment(message).hint(hint)
        };
        let printed = run(submit).and_then(|said| said.good(command)).map_err(failed)?;
        let Some(job) = self.queue.id.of(&printed) else {
            let message = format!("{command} printed no id of a job: {}", printed.trim());
            return Err(environment(message).hint("correct `id` in the file of the queue").into());
        };
        let record = Record { queue: self.queue.name.clone(), job: job.to_owned(), submitted };
        self.board.add(&record.job);
        record.write(folder)?;
        Ok(record)
    }

    /// The command that submits the attempt at a node.
    fn submit_command(&self, folder: &Path, node: &Node, order: &Order) -> Vec<String> {
        let path = |name: &str| folder.join(name).display().to_string();
        let mut values = Values::from([
            ("name".to_owned(), crate::fs::name_like(&node.name)),
            ("stage".to_owned(), node.stage.clone()),
            ("key".to_owned(), order.key.short()),
            ("folder".to_owned(), folder.display().to_string()),
            ("script".to_owned(), path(script::SCRIPT)),
            ("log".to_owned(), path(LOG)),
            ("threads".to_owned(), order.threads.to_string()),
        ]);
        let minutes = |seconds: f64| (seconds / 60.0).ceil().max(1.0) as u64;
        let of_node = [
            ("gpus", node.resources.gpus.filter(|gpus| *gpus > 0).map(|gpus| gpus as u64)),
            (MEMORY, node.resources.memory_mb),
            ("time_min", node.resources.time.map(minutes)),
        ];
        let given = of_node.into_iter().filter_map(|(name, value)| Some((name, value?)));
        values.extend(given.map(|(name, value)| (name.to_owned(), value.to_string())));
        self.queue.submit(&node.stage, values)
    }

    /// What the queue's word for a state means. One that the queue's file does not have is that of
    /// a job that goes on, and said once.
    fn state(&self, word: &str, warn: &dyn Fn(String)) -> JobState {
        if let Some(state) = self.queue.state(word) {
            return state;
        }
        let mut unknown = self.unknown.lock().expect("nothing panics while it holds the list");
        if unknown.insert(word.to_owned()) {
            warn(format!(
                "the queue `{}` says `{word}`, which its `states` do not have; it is taken for \
                 `running`",
                self.queue.name
            ));
        }
        JobState::Running
    }

    /// Whether a job has ended, as far as is known: what the queue says of it, and its exit code.
    fn look(
        &self,
        job: &mut ClusterJob,
        warn: &dyn Fn(String),
    ) -> Result<Option<(Option<JobState>, Option<i32>)>> {
        let code = script::exit_code(&job.folder)?;
        if code == Some(0) {
            return Ok(Some((None, code)));
        }
        // An answer on its way may be older than the exit code.
        job.since = code.map(|_| job.since.unwrap_or_else(|| self.board.questions()));
        let (answered, look) = self.board.look(&self.queue, &job.record.job, warn);
        if job.since.is_some_and(|since| answered <= since) {
            return Ok(None);
        }
        let state = match look {
            Look::Unknown => return Ok(None),
            Look::Word(word) => {
                job.absent.1 = 0;
                Some(self.state(&word, warn))
            }
            Look::Absent => {
                if job.absent.0 < answered {
                    job.absent = (answered, job.absent.1 + 1);
                }
                if job.absent.1 < ABSENT && code.is_none() {
                    return Ok(None);
                }
                None
            }
        };
        match state {
            Some(JobState::Pending) => job.is_running = false,
            Some(JobState::Running) => job.is_running = true,
            // Before the answer the job may have begun again, and ended in another way.
            _ if script::exit_code(&job.folder)? != code => return Ok(None),
            _ => return Ok(Some((state, code))),
        }
        job.over = None;
        Ok(None)
    }

    /// Submits a lost job again.
    fn again(&self, job: &mut ClusterJob, why: &str, warn: &dyn Fn(String)) -> Result<()> {
        let Record { job: id, submitted, .. } = job.record.clone();
        self.board.remove(&id);
        if submitted > self.queue.resubmit {
            let message = format!("its job {id} {why}; it was submitted {submitted} times");
            let hint = "look at the hosts of the queue; the next run goes on from the checkpoint";
            return Err(environment(message).hint(hint).into());
        }
        script::clear(&job.folder)?;
        job.record = self.send(&job.folder, &job.submit, submitted + 1)?;
        (job.since, job.absent, job.over, job.is_running) = (None, (0, 0), None, false);
        warn(format!(
            "its job {id} {why}; it was submitted again as {}, and goes on from its checkpoint",
            job.record.job
        ));
        Ok(())
    }

    /// Whether a job that was cancelled is waited for no longer.
    fn gives_up(&self, job: &ClusterJob) -> bool {
        let waits = |limit: Duration| {
            job.cancelled.is_some_and(|(cancel, at)| cancel == Cancel::Kill && at.elapsed() > limit)
        };
        waits(PATIENCE) || (waits(LAG) && self.board.is_silent())
    }

    fn step(&self, job: &mut ClusterJob, warn: &dyn Fn(String)) -> Poll<Result<()>> {
        let ended = match self.look(job, warn) {
            Ok(Some(ended)) => ended,
            Ok(None) if self.gives_up(job) => {
                self.board.remove(&job.record.job);
                let message = format!(
                    "its job {} was cancelled, and the queue does not say that it has ended",
                    job.record.job
                );
                let hint = "the next run goes on with that job, if it still is there";
                return Poll::Ready(Err(Failure::new(Kind::Interrupted, message)
                    .hint(hint)
                    .into()));
            }
            Ok(None) => return Poll::Pending,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let waited = job.over.get_or_insert_with(Instant::now).elapsed();
        let is_late = waited >= LAG;
        let over = over(&job.folder, &job.record.job, ended, job.cancelled.is_some(), is_late);
        let result = match over {
            End::NotSeen => return Poll::Pending,
            End::Again(why) => match self.again(job, why, warn) {
                Ok(()) => return Poll::Pending,
                Err(error) => Err(error),
            },
            End::Over(result) => result,
        };
        self.board.remove(&job.record.job);
        // Left there, it leads a later run to a job that is over.
        let _ = crate::fs::remove_all(&job.folder.join(RECORD));
        Poll::Ready(result)
    }
}

impl Executor for ClusterExecutor {
    type Job = ClusterJob;

    fn adopts(&self, attempt: &Path) -> bool {
        Record::of(attempt).is_some_and(|record| record.queue == self.queue.name)
    }

    fn submit<'scope>(
        &'scope self,
        _: &'scope Scope<'scope, '_>,
        attempt: &Ticket<'_>,
        node: &Node,
        order: &Order,
    ) -> Result<ClusterJob> {
        let folder = attempt.folder().to_owned();
        let submit = self.submit_command(&folder, node, order);
        let mut notes = Vec::new();
        let record = match Record::of(&folder).filter(|record| record.queue == self.queue.name) {
            Some(record) => {
                notes.push(format!(
                    "an earlier run has submitted its job {}; this run goes on with it",
                    record.job
                ));
                self.board.add(&record.job);
                record
            }
            None => {
                let order = Order { queued: true, ..order.clone() };
                attempt.give(&order)?;
                script::write(&folder, &self.program, &order)?;
                self.send(&folder, &submit, 1)?
            }
        };
        Ok(ClusterJob {
            folder,
            record,
            submit,
            notes,
            looked: None,
            since: None,
            absent: (0, 0),
            over: None,
            is_running: false,
            cancelled: None,
        })
    }

    fn poll(&self, job: &mut ClusterJob, warn: &dyn Fn(String)) -> Poll<Result<()>> {
        job.notes.drain(..).for_each(warn);
        if job.looked.is_some_and(|looked| looked.elapsed() < self.queue.poll / 8) {
            return Poll::Pending;
        }
        job.looked = Some(Instant::now());
        self.step(job, warn)
    }

    fn cancel(&self, job: &mut ClusterJob, cancel: Cancel) {
        job.cancelled = Some((cancel, Instant::now()));
        // One that waits has nothing to write.
        let gently = cancel == Cancel::Stop && job.is_running;
        let command = self.queue.end(&job.record.job, gently);
        if let Err(error) = run(&command).and_then(|said| said.good(&command[0])) {
            job.notes.push(format!("its job {} is not cancelled: {error:#}", job.record.job));
        }
        job.looked = None;
    }
}
