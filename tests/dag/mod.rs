//! The engine, on toy stages: what a run makes, keeps, refuses and survives.

mod cache;
mod faults;
mod inputs;
mod key;
mod leases;
mod objects;
mod oracle;
mod process;
mod schedule;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use posttrain::dag::context::{Context, Report};
use posttrain::dag::digest::ActionKey;
use posttrain::dag::dispatch::Dispatch;
use posttrain::dag::executor::Executor;
use posttrain::dag::in_process::InProcessExecutor;
use posttrain::dag::node::{Graph, Node, Numerics, Resources};
use posttrain::dag::observer::Observer;
use posttrain::dag::options::{Gate, Options};
use posttrain::dag::outcome::{NodeOutcome, Outcome};
use posttrain::dag::plan::{Plan, State, plan};
use posttrain::dag::process::ProcessExecutor;
use posttrain::dag::record::{Ending, Invocation};
use posttrain::dag::request::Request;
use posttrain::dag::run::run;
use posttrain::dag::stop::Stop;
use posttrain::dag::store::Store;
use posttrain::error::Result;
use serde_json::{Value, json};

/// What a toy stage does beside writing its file; called with its `text`.
type Hook<'a> = &'a (dyn Fn(&str, &Context) -> Result<()> + Sync);

/// A stage that writes its `text`, what it `reads` and the first `keep` bytes of what it is made
/// `from` into one file.
struct Toy<'a> {
    hook: Hook<'a>,
}

impl Dispatch for Toy<'_> {
    fn execute(
        &self,
        _stage: &str,
        _device: &Value,
        config: Value,
        context: &Context,
    ) -> Result<()> {
        let text = config["text"].as_str().expect("a toy has a text").to_owned();
        let mut made = text.clone();
        let keep = config["keep"].as_u64().unwrap_or(u64::MAX) as usize;
        for part in config["from"].as_array().into_iter().flatten() {
            let folder = Path::new(part["$path"].as_str().expect("a resolved reference"));
            let bytes = std::fs::read_to_string(folder.join("file"))?;
            made += &format!("({})", &bytes[..keep.min(bytes.len())]);
        }
        if let Some(path) = config["reads"]["$path"].as_str() {
            made += &std::fs::read_to_string(path)?;
        }
        (self.hook)(&text, context)?;
        std::fs::write(context.out().join("file"), made)?;
        Ok(())
    }
}

/// A toy node; what it is made `from` are names of nodes.
pub fn node(name: &str, text: &str, from: &[&str]) -> Node {
    let from: Vec<Value> =
        from.iter().map(|name| json!({ "$stage": name, "kind": "file" })).collect();
    Node {
        output: "file".into(),
        neutral: &["pace"],
        on_device: true,
        resources: Resources { threads: Some(1), ..Resources::default() },
        ..Node::new(name, "toy", json!({ "text": text, "from": from }))
    }
}

/// A toy node that reads a file from outside.
fn reader(name: &str, text: &str, path: &Path) -> Node {
    let mut node = node(name, text, &[]);
    node.config["reads"] = json!({ "$input": path });
    node
}

pub fn graph(nodes: impl IntoIterator<Item = Node>) -> Graph {
    Graph { nodes: nodes.into_iter().collect() }
}

/// a -> b -> c, and d beside them.
fn chain() -> Graph {
    graph([
        node("a", "A", &[]),
        node("b", "B", &["a"]),
        node("c", "C", &["b"]),
        node("d", "D", &[]),
    ])
}

/// A store in a separate folder, and how runs are made on it.
pub struct Bench {
    folder: tempfile::TempDir,
    options: Options,
}

impl Bench {
    pub fn new() -> Self {
        let invocation = Invocation { pipeline: "/pipeline.yaml".into(), ..Invocation::default() };
        let options = Options { jobs: 2, threads: 2, invocation, ..Options::default() };
        // In memory where there is such a folder: there `fsync`, of which a run makes many, costs
        // nothing.
        let folder = tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .expect("a temporary folder");
        Bench { folder, options }
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// A store as a new process would open it.
    fn store(&self) -> Store {
        Store::open(&self.root()).expect("opening reads nothing")
    }

    fn plan(&self, graph: &Graph) -> Plan {
        plan(&self.store(), request(graph)).expect("a sound graph")
    }

    /// The key of a node that would run.
    fn key(&self, graph: &Graph, name: &str) -> ActionKey {
        let plan = self.plan(graph);
        match &plan.steps.iter().find(|step| step.name == name).expect("it is in the plan").state {
            State::Run { key, .. } => *key,
            other => panic!("{other:?}"),
        }
    }

    /// The states of a plan as `name:r` (run), `c` (cached), `e` (elsewhere) or `u` (unknown).
    fn states(&self, graph: &Graph) -> String {
        let letter = |state: &State| match state {
            State::Run { .. } => 'r',
            State::Cached { .. } => 'c',
            State::Remote { .. } => 'e',
            State::Unknown { .. } => 'u',
        };
        let steps = self.plan(graph).steps;
        steps
            .iter()
            .map(|step| format!("{}:{}", step.name, letter(&step.state)))
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn run(&self, graph: &Graph) -> Ran {
        self.run_with(graph, &|_, _| Ok(()))
    }

    fn run_with(&self, graph: &Graph, hook: Hook<'_>) -> Ran {
        self.try_run_with(graph, hook).expect("the run itself goes well")
    }

    fn try_run_with(&self, graph: &Graph, hook: Hook<'_>) -> Result<Ran> {
        self.execute(graph, &InProcessExecutor(&Toy { hook }))
    }

    pub fn execute(&self, graph: &Graph, executor: &impl Executor) -> Result<Ran> {
        self.execute_behind(graph, executor, None)
    }

    fn execute_behind(
        &self,
        graph: &Graph,
        executor: &impl Executor,
        gate: Option<Gate<'_>>,
    ) -> Result<Ran> {
        let mut seen = Seen::default();
        let (store, options) = (self.store(), &self.options);
        let outcome = run(&store, request(graph), options, executor, &mut seen, gate)?;
        Ok(Ran { outcome, seen })
    }

    /// What a node's artefact says.
    pub fn text(&self, ran: &Ran, name: &str) -> String {
        let node = ran.node(name);
        let object = node.object.unwrap_or_else(|| panic!("it was made: {node:?}"));
        std::fs::read_to_string(self.store().object_path(object).join("file")).expect("it is there")
    }

    /// Every object in the store is what its id says, and every entry has its object.
    fn assert_sound(&self) {
        use posttrain::dag::object_store::Integrity;
        let store = self.store();
        for entry in store.entries().expect("readable") {
            assert_eq!(
                store.recheck_object(entry.object).expect("readable"),
                Integrity::Sound,
                "{}",
                entry.node
            );
        }
        for name in posttrain::fs::list(&self.root().join("v1/objects")).expect("readable") {
            let object = name.parse().expect("objects are named by their ids");
            assert_eq!(store.recheck_object(object).expect("readable"), Integrity::Sound, "{name}");
        }
    }
}

fn request(graph: &Graph) -> Request<'_> {
    Request { graph, targets: &[], numerics: Numerics { device: Some("toy"), host: "host" } }
}

/// A run that has ended.
pub struct Ran {
    outcome: Outcome,
    pub seen: Seen,
}

impl Ran {
    fn node(&self, name: &str) -> &NodeOutcome {
        self.outcome.nodes.iter().find(|node| node.name == name).expect("it was wanted")
    }

    /// Names of the nodes that ended so, in the order of the plan.
    fn ended(&self, ending: Ending) -> Vec<&str> {
        self.outcome
            .nodes
            .iter()
            .filter(|node| node.ending == ending)
            .map(|node| node.name.as_str())
            .collect()
    }

    fn ran(&self) -> Vec<&str> {
        self.ended(Ending::Ran)
    }

    fn failure(&self, name: &str) -> &str {
        &self.node(name).failure.as_ref().expect("it failed").message
    }
}

/// All that an observer was told.
#[derive(Default)]
pub struct Seen {
    started: Vec<String>,
    resumed: Vec<String>,
    pub warnings: Vec<String>,
    reports: Vec<Report>,
    finished: Vec<String>,
}

impl Observer for Seen {
    fn started(&mut self, node: &str, resumed: bool) {
        self.started.push(node.into());
        self.resumed.extend(resumed.then(|| node.into()));
    }
    fn progress(&mut self, _node: &str, report: &Report) {
        self.reports.push(report.clone());
    }
    fn warning(&mut self, _node: Option<&str>, message: &str) {
        self.warnings.push(message.into());
    }
    fn finished(&mut self, node: &NodeOutcome) {
        self.finished.push(node.name.clone());
    }
}

/// Counts calls, for hooks.
#[derive(Default)]
struct Calls(Mutex<Vec<String>>);

impl Calls {
    fn note(&self, call: &str) {
        self.0.lock().expect("no one panics while noting").push(call.into());
    }
    fn list(&self) -> Vec<String> {
        let mut calls = self.0.lock().expect("no one panics while noting").clone();
        calls.sort();
        calls
    }
}
