//! What a run says while it goes on, for files and pipes: plain lines, or one JSON object a line.
//! What it says on a terminal is in `live`.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::counts::Counts;
use super::number_format::{count, duration, figure, size};
use super::tally::Tally;
use crate::dag::context::Report;
use crate::dag::digest::{ActionKey, ObjectId};
use crate::dag::observer::Observer;
use crate::dag::outcome::NodeOutcome;
use crate::dag::plan::Plan;
use crate::dag::record::Ending;

/// Plain progress lines of one node are at least so far apart.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// How fast a node goes.
pub struct Meter {
    started: Instant,
    /// When the first step was reported, and which it was: a resumed node does not start at 0.
    first: Option<(Instant, u64)>,
    /// When a line was last printed.
    said: Instant,
}

impl Meter {
    /// Starts now.
    pub fn new() -> Self {
        Meter { started: Instant::now(), first: None, said: Instant::now() }
    }

    /// `120/500  loss 1.234  3500 tokens/s  12.0 s left`.
    pub fn words(&mut self, step: u64, total: u64, values: &[(String, f64)]) -> String {
        let (since, first) = *self.first.get_or_insert((Instant::now(), step));
        let mut words = vec![format!("{step}/{total}")];
        for (name, value) in values {
            words.push(match name.as_str() {
                "tokens_per_second" => format!("{value:.0} tokens/s"),
                name => format!("{} {}", name.replace('_', " "), figure(*value)),
            });
        }
        let done = step.saturating_sub(first);
        if done > 0 && step < total {
            let left = since.elapsed().as_secs_f64() / done as f64 * (total - step) as f64;
            words.push(format!("{} left", duration(left)));
        }
        words.join("  ")
    }
}

/// How a node ended, in one line; `None` for what is not worth one.
pub fn ending(node: &NodeOutcome) -> Option<String> {
    let object = node.object.map(|object| object.short()).unwrap_or_default();
    Some(match node.ending {
        Ending::Ran => format!("{}  done in {}  {object}", node.name, duration(node.seconds)),
        Ending::Cached => return None,
        Ending::Failed => {
            let message = node.failure.as_ref().map_or("", |failure| failure.message.as_str());
            format!("{}  failed after {}: {message}", node.name, duration(node.seconds))
        }
        Ending::Skipped => {
            format!(
                "{}  skipped{}",
                node.name,
                node.because.as_ref().map(|name| format!(": it needs {name}")).unwrap_or_default()
            )
        }
        Ending::Interrupted => format!(
            "{}  stopped after {}; what it finished is kept",
            node.name,
            duration(node.seconds)
        ),
    })
}

/// What is to be done, and how long that will take.
pub fn beginning(plan: &Plan, tally: &mut Tally) -> String {
    let time = tally.planned(plan).map_or_else(String::new, |words| format!("; {words}"));
    format!("{}{time}", Counts::of(plan))
}

/// What is pulled before anything starts.
pub fn pulling(artefacts: usize) -> String {
    format!("pulling {} from the remote cache", count(artefacts, "artefact"))
}

/// What is sent after everything has ended.
pub fn pushing(artefacts: usize) -> String {
    format!("sending {} to the remote cache", count(artefacts, "artefact"))
}

/// A warning, in one line.
pub fn warning(node: Option<&str>, message: &str) -> String {
    match node {
        Some(node) => format!("warning: {node}: {message}"),
        None => format!("warning: {message}"),
    }
}

/// Plain lines on standard error.
pub struct Plain {
    quiet: bool,
    tally: Tally,
    meters: HashMap<String, Meter>,
}

impl Plain {
    /// If `quiet`, warnings and failures only.
    pub fn new(quiet: bool, tally: Tally) -> Self {
        Plain { quiet, tally, meters: HashMap::new() }
    }

    fn say(&self, line: &str) {
        if !self.quiet {
            eprintln!("{line}");
        }
    }
}

impl Observer for Plain {
    fn planned(&mut self, plan: &Plan) {
        let line = beginning(plan, &mut self.tally);
        self.say(&line);
    }

    fn started(&mut self, node: &str, resumed: bool) {
        self.meters.insert(node.to_owned(), Meter::new());
        self.say(&format!(
            "{node}  {}",
            if resumed { "goes on from its checkpoint" } else { "starts" }
        ));
    }

    fn pulling(&mut self, artefacts: usize) {
        self.say(&pulling(artefacts));
    }

    fn pulled(&mut self, node: &str, bytes: u64) {
        self.say(&format!("{node}  pulled from the remote cache, {}", size(bytes)));
    }

    fn pushing(&mut self, artefacts: usize) {
        self.say(&pushing(artefacts));
    }

    fn waiting(&mut self, node: &str) {
        self.say(&format!("{node}  waits for another run that is making it"));
    }

    fn progress(&mut self, node: &str, report: &Report) {
        let Report::Progress { step, total, values } = report else { return };
        let Some(meter) = self.meters.get_mut(node) else { return };
        let words = meter.words(*step, *total, values);
        if meter.said.elapsed() >= PLAIN_INTERVAL {
            meter.said = Instant::now();
            self.say(&format!(
                "{node}  {words}  after {}",
                duration(self.meters[node].started.elapsed().as_secs_f64())
            ));
        }
    }

    fn warning(&mut self, node: Option<&str>, message: &str) {
        eprintln!("{}", warning(node, message));
    }

    fn finished(&mut self, node: &NodeOutcome) {
        self.meters.remove(&node.name);
        self.tally.finished(node);
        match ending(node) {
            Some(line) if node.ending == Ending::Failed => eprintln!("{line}"),
            Some(line) if node.ending == Ending::Ran => {
                let so_far = self.tally.words();
                self.say(&format!("{line}  ({so_far})"));
            }
            Some(line) => self.say(&line),
            None => {}
        }
    }
}

/// One JSON object a line: what `--log json` prints.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    /// Part of a file of a model of the hub is here.
    Fetching {
        /// The model's name.
        model: &'a str,
        /// The file's path.
        file: &'a str,
        /// Bytes that are here.
        done: u64,
        /// Bytes of the whole.
        total: u64,
    },
    /// Before anything starts.
    Planned {
        /// Nodes in each state.
        #[serde(flatten)]
        counts: Counts,
    },
    /// A node starts.
    Started {
        /// Its name.
        node: &'a str,
        /// An earlier attempt left checkpoints.
        resumed: bool,
    },
    /// Another run is making this node.
    Waiting {
        /// Its name.
        node: &'a str,
    },
    /// Artefacts are pulled from the remote cache before anything starts.
    Pulling {
        /// How many.
        artefacts: usize,
    },
    /// A node's artefact came from the remote cache.
    Pulled {
        /// Its name.
        node: &'a str,
        /// Bytes that came.
        bytes: u64,
    },
    /// A node's artefact was sent to the remote cache.
    Pushed {
        /// Its name.
        node: &'a str,
        /// Bytes that were sent.
        bytes: u64,
    },
    /// Everything has ended; artefacts are still to be sent to the remote cache.
    Pushing {
        /// How many.
        artefacts: usize,
    },
    /// A running node got further.
    Progress {
        /// Its name.
        node: &'a str,
        /// Steps done.
        step: u64,
        /// Steps in all.
        total: u64,
        /// Named figures.
        values: BTreeMap<&'a str, f64>,
    },
    /// Something the user should know.
    Warning {
        /// The node it is about, if it is about one.
        node: Option<&'a str>,
        /// The sentence.
        message: &'a str,
    },
    /// A node has ended.
    Node {
        /// Its name.
        node: &'a str,
        /// Its stage kind.
        stage: &'a str,
        /// How it ended.
        ending: Ending,
        /// Its key.
        key: Option<ActionKey>,
        /// What it made.
        object: Option<ObjectId>,
        /// How long it took.
        seconds: f64,
        /// For a skipped node, the failed node it needs.
        because: Option<&'a str>,
        /// Why it failed.
        message: Option<&'a str>,
        /// Its log.
        log: Option<&'a Path>,
    },
    /// With `--sequential`, after the run with this number of seeds.
    Look {
        /// Seeds so far.
        seeds: usize,
        /// Seeds that there are.
        of: usize,
        /// Comparisons that are decided.
        decided: usize,
        /// Those that are not.
        open: &'a [String],
        /// How many seeds in all would decide, at the means and deviations so far.
        needed: Option<usize>,
        /// Node time so far.
        seconds: f64,
    },
    /// The run could not begin or go on.
    Error {
        /// The exit code.
        exit_code: u8,
        /// The whole chain of the error.
        message: String,
    },
    /// The last line.
    Finished {
        /// All went well.
        ok: bool,
        /// Nodes that ran.
        ran: usize,
        /// Nodes that were there.
        cached: usize,
        /// Nodes that failed.
        failed: usize,
        /// Nodes that were not come to, or were stopped.
        skipped: usize,
        /// Wall time.
        seconds: f64,
        /// The file of the result table.
        table: Option<PathBuf>,
        /// The page of the run.
        report: Option<PathBuf>,
    },
}

impl Event<'_> {
    /// Prints the event on standard output. A reader who has left changes nothing about the run.
    pub fn say(&self) {
        let line = serde_json::to_string(self).expect("an event is plain data");
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
}

/// Says every event as it comes.
pub struct JsonLines;

impl Observer for JsonLines {
    fn planned(&mut self, plan: &Plan) {
        Event::Planned { counts: Counts::of(plan) }.say();
    }

    fn started(&mut self, node: &str, resumed: bool) {
        Event::Started { node, resumed }.say();
    }

    fn pulling(&mut self, artefacts: usize) {
        Event::Pulling { artefacts }.say();
    }

    fn pulled(&mut self, node: &str, bytes: u64) {
        Event::Pulled { node, bytes }.say();
    }

    fn pushed(&mut self, node: &str, bytes: u64) {
        Event::Pushed { node, bytes }.say();
    }

    fn pushing(&mut self, artefacts: usize) {
        Event::Pushing { artefacts }.say();
    }

    fn waiting(&mut self, node: &str) {
        Event::Waiting { node }.say();
    }

    fn progress(&mut self, node: &str, report: &Report) {
        if let Report::Progress { step, total, values } = report {
            let values = values.iter().map(|(name, value)| (name.as_str(), *value)).collect();
            Event::Progress { node, step: *step, total: *total, values }.say();
        }
    }

    fn warning(&mut self, node: Option<&str>, message: &str) {
        Event::Warning { node, message }.say();
    }

    fn finished(&mut self, node: &NodeOutcome) {
        let failure = node.failure.as_ref();
        let event = Event::Node {
            node: &node.name,
            stage: &node.stage,
            ending: node.ending,
            key: node.key,
            object: node.object,
            seconds: node.seconds,
            because: node.because.as_deref(),
            message: failure.map(|failure| failure.message.as_str()),
            log: failure.and_then(|failure| failure.log.as_deref()),
        };
        event.say();
    }
}
