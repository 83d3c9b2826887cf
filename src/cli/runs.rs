//! `runs`: the runs that a cache has records of.

use clap::Args;
use serde::Serialize;

use super::common::{Cache, columns, print, print_json};
use super::load_run::pipeline_name;
use super::number_format::{count, duration};
use crate::dag::record::{Ending, Record, date, sequence};
use crate::dag::store::Store;
use crate::error::Result;

/// List the runs that the cache has records of, latest last
#[derive(Args)]
pub struct Arguments {
    /// The last N runs alone
    #[arg(long, value_name = "N")]
    last: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cache: Cache,
}

/// How a run is.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// All that was wanted was made or there.
    Done,
    /// A node failed.
    Failed,
    /// It was stopped before all was done.
    Stopped,
    /// A node of it is being made.
    Running,
    /// Its record has no end, and none of its nodes is being made: it was killed, or is between two
    /// nodes.
    Unfinished,
}

impl State {
    fn of(store: &Store, record: &Record) -> Result<State> {
        let has =
            |endings: &[Ending]| record.nodes.iter().any(|node| endings.contains(&node.ending));
        if record.seconds.is_some() {
            return Ok(if has(&[Ending::Failed]) {
                State::Failed
            } else if has(&[Ending::Interrupted, Ending::Skipped]) {
                State::Stopped
            } else {
                State::Done
            });
        }
        for node in record.nodes.iter().filter(|node| node.ending == Ending::Interrupted) {
            let printed = node.key.map(|key| store.printed(key)).transpose()?.flatten();
            if printed.is_some_and(|printed| printed.goes_on) {
                return Ok(State::Running);
            }
        }
        Ok(State::Unfinished)
    }

    fn word(self) -> &'static str {
        match self {
            State::Done => "done",
            State::Failed => "failed",
            State::Stopped => "stopped",
            State::Running => "running",
            State::Unfinished => "unfinished",
        }
    }
}

/// A run.
#[derive(Serialize)]
struct Run {
    /// The number at the end of its id.
    number: u64,
    id: String,
    /// The name of the pipeline.
    pipeline: String,
    /// The pipeline file.
    file: String,
    /// `--profile` and `--set`.
    options: Vec<String>,
    /// Seconds since 1970.
    started_at: u64,
    /// Wall time; absent without an end.
    seconds: Option<f64>,
    state: State,
    ran: usize,
    cached: usize,
    failed: usize,
    skipped: usize,
    interrupted: usize,
}

impl Run {
    fn of(store: &Store, record: &Record) -> Result<Run> {
        let count = |ending| record.nodes.iter().filter(|node| node.ending == ending).count();
        Ok(Run {
            number: sequence(&record.id),
            id: record.id.clone(),
            pipeline: pipeline_name(store, record),
            file: record.invocation.pipeline.display().to_string(),
            options: record.invocation.options.clone(),
            started_at: record.started_at,
            seconds: record.seconds,
            state: State::of(store, record)?,
            ran: count(Ending::Ran),
            cached: count(Ending::Cached),
            failed: count(Ending::Failed),
            skipped: count(Ending::Skipped),
            interrupted: count(Ending::Interrupted),
        })
    }

    fn row(&self) -> Vec<String> {
        let going_on = matches!(self.state, State::Running);
        let counts = [
            (self.ran, "ran"),
            (self.cached, "cached"),
            (self.failed, "failed"),
            (self.skipped, "skipped"),
            (self.interrupted, if going_on { "being made" } else { "interrupted" }),
        ];
        let counts = counts.iter().filter(|(count, _)| *count > 0);
        let counts: Vec<String> = counts.map(|(count, word)| format!("{count} {word}")).collect();
        vec![
            self.number.to_string(),
            date(self.started_at),
            self.state.word().to_owned(),
            self.seconds.map_or_else(String::new, duration),
            self.pipeline.clone(),
            counts.join(", "),
            self.options.join(" "),
        ]
    }
}

/// Prints the list.
pub fn main(arguments: &Arguments) -> Result<()> {
    let store = arguments.cache.open()?;
    let records = store.records()?;
    let first = arguments.last.map_or(0, |last| records.len().saturating_sub(last));
    let runs: Vec<Run> =
        records[first..].iter().map(|record| Run::of(&store, record)).collect::<Result<_>>()?;
    if arguments.json {
        return print_json(&runs);
    }
    let rows: Vec<Vec<String>> = runs.iter().map(Run::row).collect();
    let total = count(records.len(), "run");
    print(&format!("{}{total} in {}\n", columns(&rows), store.root().display()))
}
