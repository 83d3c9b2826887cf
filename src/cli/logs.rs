//! `logs`: what nodes printed, or print.
//!
//! A node that was made has its log beside the record of the run that made it; another has it in
//! the folder of its latest attempt. While a log is followed it moves from there to the record, and
//! what was shown is not shown again: the bytes are the same.

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::common::{Cache, print, print_json, tell};
use super::load_run::find;
use super::names;
use crate::dag::logs::{Printed, kept_log};
use crate::dag::record::{Ending, NodeRecord, Record, sequence};
use crate::dag::store::Store;
use crate::error::{Result, user};
use crate::pipeline::names::{listed, nodes};

/// How often it is looked for more.
const LOOK: Duration = Duration::from_millis(100);
/// How long a run without an end may have no node that goes on before it counts as killed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Print what a node printed, or follow what it prints
#[derive(Args)]
pub struct Arguments {
    /// A stage or a node of the run
    node: String,
    /// Print what comes until the node ends; one that has not started is waited for
    #[arg(short, long)]
    follow: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "follow")]
    json: bool,
    /// `latest`, a run's number, its id or the beginning of it, or the folder of its record
    #[arg(long, value_name = "RUN", default_value = names::LATEST)]
    run: String,
    #[command(flatten)]
    cache: Cache,
}

/// Prints the logs.
pub fn main(arguments: &Arguments) -> Result<()> {
    let (store, record) = find(&arguments.cache, &arguments.run)?;
    let place = format!("the run {}", sequence(&record.id));
    let names = nodes(&arguments.node, &names::stages(&record), &place)?;
    if arguments.json {
        return print_json(&json(&store, &record, &names)?);
    }
    if !arguments.follow {
        for name in &names {
            if names.len() > 1 {
                print(&format!("== {name}\n"))?;
            }
            show(&store, &record, name)?;
        }
        return Ok(());
    }
    match names.as_slice() {
        [name] => follow(&store, &record.id, name),
        several => {
            Err(user(format!("--follow takes one node, and `{}` has several", arguments.node))
                .hint(format!("give one of {}", listed(several)))
                .into())
        }
    }
}

fn node_of<'a>(record: &'a Record, name: &str) -> Option<&'a NodeRecord> {
    record.nodes.iter().find(|node| node.name == name)
}

/// What a node has printed so far.
struct Log {
    bytes: Vec<u8>,
    /// The run that made what the node has, and the node's name there.
    made_in: Option<(String, String)>,
}

/// The log of a node; none if it did not start in the run.
fn log_of(store: &Store, record: &Record, name: &str) -> Result<Option<Log>> {
    let Some((node, key)) = node_of(record, name).and_then(|node| Some((node, node.key?))) else {
        return Ok(None);
    };
    let own = crate::fs::read_if_exists(&kept_log(&store.run_path(&record.id), name, key))?;
    if let Some(bytes) = own {
        return Ok(Some(Log { bytes, made_in: None }));
    }
    if node.ending == Ending::Cached || node.ending == Ending::Ran {
        // What made the key may have had another name, in an earlier run.
        for earlier in store.records()?.iter().rev() {
            let mut made = earlier.nodes.iter().filter(|node| node.key == Some(key));
            if let Some(made) = made.find(|node| node.ending == Ending::Ran) {
                let path = kept_log(&store.run_path(&earlier.id), &made.name, key);
                let bytes = crate::fs::read_if_exists(&path)?.unwrap_or_default();
                return Ok(Some(Log {
                    bytes,
                    made_in: Some((earlier.id.clone(), made.name.clone())),
                }));
            }
        }
        return Ok(Some(Log { bytes: Vec::new(), made_in: None }));
    }
    let printed = store.printed(key)?.map(|printed| crate::fs::read_if_exists(&printed.path));
    let bytes = printed.transpose()?.flatten().unwrap_or_default();
    Ok(Some(Log { bytes, made_in: None }))
}

/// Prints what a node has printed so far.
fn show(store: &Store, record: &Record, name: &str) -> Result<()> {
    let Some(log) = log_of(store, record, name)? else {
        tell(&format!("{name} did not start in the run {}", sequence(&record.id)));
        return Ok(());
    };
    let mut shown = Shown::default();
    shown.more(Some(log.bytes))?;
    if let Some((run, node)) = log.made_in.filter(|(run, _)| *run != record.id) {
        tell(&format!("{name} was made in the run {}, as {node}", sequence(&run)));
    }
    shown.end(name)
}

/// The log of a node, for programs.
#[derive(Serialize)]
struct JsonLog<'a> {
    node: &'a str,
    /// Whether it started in the run, or was there.
    started: bool,
    /// The id of the run that made what it has; none if that is not known.
    made_in: Option<String>,
    /// What it printed; what is no UTF-8 is replaced.
    text: String,
}

fn json<'a>(store: &Store, record: &Record, names: &[&'a str]) -> Result<Vec<JsonLog<'a>>> {
    let one = |&node: &&'a str| {
        let log = log_of(store, record, node)?;
        Ok(JsonLog {
            node,
            started: log.is_some(),
            made_in: log.as_ref().and_then(|log| Some(log.made_in.as_ref()?.0.clone())),
            text: log
                .map_or_else(String::new, |log| String::from_utf8_lossy(&log.bytes).into_owned()),
        })
    };
    names.iter().map(one).collect()
}

/// Prints what a node prints, until it has ended.
fn follow(store: &Store, run: &str, name: &str) -> Result<()> {
    let (mut shown, mut alive) = (Shown::default(), Instant::now());
    loop {
        let Some(record) = store.record(run)? else {
            return Err(user(format!("the record of the run {run} is gone")).into());
        };
        let is_over = record.seconds.is_some();
        match node_of(&record, name).and_then(|node| Some((node, node.key?))) {
            Some((node, key)) => {
                // Before the log is read: what is printed before an end is read after it.
                let printed = store.printed(key)?;
                let own = kept_log(&store.run_path(run), name, key);
                if shown.more(crate::fs::read_if_exists(&own)?)? {
                    return shown.end(name);
                }
                if node.ending != Ending::Interrupted && shown.bytes == 0 {
                    return show(store, &record, name);
                }
                match printed {
                    Some(Printed { path, goes_on }) => {
                        shown.more(crate::fs::read_if_exists(&path)?)?;
                        if !goes_on && !own.exists() {
                            return shown.end(name);
                        }
                        alive = Instant::now();
                    }
                    None if is_over || node.ending != Ending::Interrupted => {
                        return shown.end(name);
                    }
                    None => {}
                }
            }
            None if is_over => return show(store, &record, name),
            None => {
                let goes_on = |node: &NodeRecord| -> Result<bool> {
                    let printed = node.key.map(|key| store.printed(key)).transpose()?.flatten();
                    Ok(printed.is_some_and(|printed| printed.goes_on))
                };
                for node in record.nodes.iter().filter(|node| node.ending == Ending::Interrupted) {
                    if goes_on(node)? {
                        alive = Instant::now();
                    }
                }
            }
        }
        if alive.elapsed() > PATIENCE {
            let run = sequence(run);
            let message = format!("nothing of the run {run} goes on, and `{name}` has not ended");
            return Err(user(message).hint("the run was killed; run again").into());
        }
        std::thread::sleep(LOOK);
    }
}

/// What was shown of a log.
#[derive(Default)]
struct Shown {
    /// Bytes that were printed, or are in `rest`.
    bytes: usize,
    /// A line whose end has not come yet.
    rest: Vec<u8>,
}

impl Shown {
    /// Prints the lines of a log that are new; whether there is a log.
    fn more(&mut self, log: Option<Vec<u8>>) -> Result<bool> {
        let Some(log) = log else { return Ok(false) };
        self.rest.extend(log.get(self.bytes..).unwrap_or_default());
        self.bytes = self.bytes.max(log.len());
        let lines = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.rest.drain(..lines).collect();
        print(&String::from_utf8_lossy(&lines))?;
        Ok(true)
    }

    /// Prints a last line without an end; says so if there was nothing.
    fn end(mut self, name: &str) -> Result<()> {
        if self.bytes == 0 {
            tell(&format!("{name} printed nothing"));
        }
        if !self.rest.is_empty() {
            self.rest.push(b'\n');
        }
        print(&String::from_utf8_lossy(&self.rest))
    }
}
