//! Runs one stage kind in this process, in a separate folder, and reads what it made.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use posttrain::backend::Backend;
use posttrain::backend::cpu::Cpu;
use posttrain::dag::context::{Context, Report};
use posttrain::dag::tree::{Links, hash_files, hash_tree, walk};
use posttrain::error::{Kind, Result, kind_of};
use posttrain::model::checkpoint::{self, Checkpoint};
use posttrain::stages::{self, Problem, Stage, Visitor};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A stage's work folder: `out` and `checkpoints`.
pub struct Work(tempfile::TempDir);

impl Work {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("checkpoints")).unwrap();
        Work(folder)
    }

    /// Runs the stage, on what earlier attempts have left in `checkpoints`. It is asked to stop as
    /// soon as it tells its progress for the `stop_at`th time; progress is told at the first step
    /// always, and later too often for a test to rely on.
    pub fn attempt(
        &self,
        kind: &str,
        config: Value,
        stop_at: Option<usize>,
    ) -> Result<Vec<Report>> {
        self.attempt_with(kind, config, stop_at, Arc::default())
    }

    /// The same, which `stop` asks to stop too.
    pub fn attempt_with(
        &self,
        kind: &str,
        config: Value,
        stop_at: Option<usize>,
        stop: Arc<AtomicBool>,
    ) -> Result<Vec<Report>> {
        let (out, checkpoints) = (self.0.path().join("out"), self.0.path().join("checkpoints"));
        let _ = std::fs::remove_dir_all(&out);
        std::fs::create_dir(&out).unwrap();
        let (sender, reports) = std::sync::mpsc::channel();
        let ear = Ear { sender, stop: stop.clone(), stop_at, heard: 0 };
        let result = {
            let context = Context::new(out, checkpoints, Box::new(ear), stop);
            stages::visit(kind, Execute { config, context: &context }).expect("the kind exists")
        };
        result.map(|()| reports.iter().collect())
    }

    /// The object id that the artefact gets in a store.
    pub fn object(&self) -> String {
        let root = self.out("");
        let files: Vec<String> =
            walk(&root, Links::Refuse).unwrap().into_iter().map(|file| file.0).collect();
        hash_tree(&hash_files(&root, &files).unwrap().unwrap()).to_hex().to_string()
    }

    pub fn folder(&self) -> &std::path::Path {
        self.0.path()
    }

    fn out(&self, file: &str) -> PathBuf {
        self.0.path().join("out").join(file)
    }
}

/// What a stage made.
pub struct Made {
    work: Work,
    pub reports: Vec<Report>,
}

/// Runs a stage, undisturbed.
pub fn make(kind: &str, config: Value) -> Made {
    let work = Work::new();
    let reports =
        work.attempt(kind, config, None).unwrap_or_else(|error| panic!("{kind}: {error:#}"));
    Made { work, reports }
}

/// Runs a stage that must fail by the user's mistake, and gives the message.
pub fn refusal(kind: &str, config: Value) -> String {
    let error = Work::new().attempt(kind, config, None).expect_err("it is refused");
    assert_eq!(kind_of(&error), Kind::User, "{error:#}");
    format!("{error:#}")
}

/// Runs a stage again and again, each time asked to stop after its first step, until it has ended.
/// Gives how often it was stopped.
pub fn make_with_stops(kind: &str, config: Value) -> (Made, usize) {
    let work = Work::new();
    for stops in 0..100 {
        match work.attempt(kind, config.clone(), Some(1)) {
            Ok(reports) => return (Made { work, reports }, stops),
            Err(error) => assert_eq!(kind_of(&error), Kind::Interrupted, "{error:#}"),
        }
    }
    panic!("{kind} makes no headway");
}

/// The fields of a config that a stage kind finds out of range.
pub fn problems(kind: &str, config: Value) -> Vec<Problem> {
    stages::visit(kind, Check(config)).expect("the kind exists")
}

/// Runs a stage on a back end, undisturbed.
pub fn run_on<B: Backend>(b: &B, kind: &str, config: Value) {
    make_on(b, kind, config);
}

/// The same, and what it made.
pub fn make_on<B: Backend>(b: &B, kind: &str, config: Value) -> Made {
    let work = Work::new();
    std::fs::create_dir(work.out("")).unwrap();
    let context = Context::new(
        work.out(""),
        work.folder().join("checkpoints"),
        Box::new(std::io::sink()),
        Arc::default(),
    );
    stages::visit(kind, On { b, config, context: &context }).expect("the kind exists").unwrap();
    Made { work, reports: Vec::new() }
}

struct On<'a, B> {
    b: &'a B,
    config: Value,
    context: &'a Context,
}

impl<B: Backend> Visitor for On<'_, B> {
    type Output = Result<()>;
    fn visit<S: Stage>(self) -> Result<()> {
        S::deserialize(self.config)?.run(self.b, self.context)
    }
}

/// The fields of a kind's config that change no byte.
pub fn neutral(kind: &str) -> &'static [&'static str] {
    stages::visit(kind, Neutral).expect("the kind exists")
}

struct Neutral;

impl Visitor for Neutral {
    type Output = &'static [&'static str];
    fn visit<S: Stage>(self) -> Self::Output {
        S::INFO.byte_neutral
    }
}

/// A kind's VERSION.
pub fn version(kind: &str) -> u32 {
    stages::visit(kind, Version).expect("the kind exists")
}

impl Made {
    pub fn path(&self, file: &str) -> PathBuf {
        self.work.out(file)
    }

    /// The artefact's folder, as a reference in a config.
    pub fn reference(&self) -> Value {
        serde_json::json!({ "$path": self.work.out("") })
    }

    pub fn bytes(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    pub fn text(&self, file: &str) -> String {
        String::from_utf8(self.bytes(file)).unwrap()
    }

    /// The rows of a JSONL file.
    pub fn rows<T: DeserializeOwned>(&self, file: &str) -> Vec<T> {
        self.text(file).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// A figure of every line of `metrics.jsonl`.
    pub fn metric(&self, name: &str) -> Vec<f64> {
        let value = |row: &Map<String, Value>| {
            row[name].as_f64().unwrap_or_else(|| panic!("{name} of {row:?}"))
        };
        self.rows("metrics.jsonl").iter().map(value).collect()
    }

    pub fn checkpoint(&self) -> Checkpoint {
        checkpoint::load(&self.work.out("")).unwrap()
    }

    pub fn object(&self) -> String {
        self.work.object()
    }

    pub fn warnings(&self) -> Vec<&str> {
        fn message(report: &Report) -> Option<&String> {
            match report {
                Report::Warning { message } => Some(message),
                _ => None,
            }
        }
        self.reports.iter().filter_map(message).map(String::as_str).collect()
    }
}

/// Listens to reports; raises the stop flag when it has heard enough progress.
struct Ear {
    sender: std::sync::mpsc::Sender<Report>,
    stop: Arc<AtomicBool>,
    stop_at: Option<usize>,
    heard: usize,
}

impl Write for Ear {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let report: Report = serde_json::from_slice(bytes).expect("a report is one write");
        self.heard += usize::from(matches!(report, Report::Progress { .. }));
        if self.stop_at.is_some_and(|stop_at| self.heard >= stop_at) {
            self.stop.store(true, Ordering::SeqCst);
        }
        // The reports of a failed attempt are not read.
        let _ = self.sender.send(report);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Execute<'a> {
    config: Value,
    context: &'a Context,
}

impl Visitor for Execute<'_> {
    type Output = Result<()>;
    fn visit<S: Stage>(self) -> Result<()> {
        let stage = S::deserialize(self.config)?;
        assert_eq!(stage.problems(), []);
        stage.run(&Cpu::<f32>::new(), self.context)
    }
}

struct Check(Value);

impl Visitor for Check {
    type Output = Vec<Problem>;
    fn visit<S: Stage>(self) -> Vec<Problem> {
        S::deserialize(self.0).unwrap().problems()
    }
}

struct Version;

impl Visitor for Version {
    type Output = u32;
    fn visit<S: Stage>(self) -> u32 {
        S::INFO.version
    }
}
