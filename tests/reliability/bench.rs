//! A store on toy stages that write through the layer of faults, and what must hold of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use posttrain::dag::action::Lookup;
use posttrain::dag::context::Context;
use posttrain::dag::digest::{ActionKey, ObjectId};
use posttrain::dag::dispatch::Dispatch;
use posttrain::dag::gc::gc;
use posttrain::dag::in_process::InProcessExecutor;
use posttrain::dag::node::{Graph, Node, Numerics, Resources};
use posttrain::dag::object_store::Integrity;
use posttrain::dag::options::Options;
use posttrain::dag::outcome::Outcome;
use posttrain::dag::record::{Ending, Invocation};
use posttrain::dag::request::Request;
use posttrain::dag::run::run;
use posttrain::dag::store::Store;
use posttrain::error::Result;
use posttrain::fs;
use serde_json::{Value, json};

/// A stage that makes a checkpoint, a small file, and one of several writes in a folder.
pub struct Toy;

impl Dispatch for Toy {
    fn execute(&self, _: &str, _: &Value, config: Value, context: &Context) -> Result<()> {
        let mut text = config["text"].as_str().expect("a toy has a text").to_owned();
        for part in config["from"].as_array().into_iter().flatten() {
            let folder = Path::new(part["$path"].as_str().expect("a resolved reference"));
            text += &format!("({})", fs::read_to_string(&folder.join("file"))?);
        }
        context.checkpoint(|| {
            fs::write_atomic(&context.checkpoints().join("step"), text.as_bytes())
        })?;
        context.progress(1, 1, &[]);
        fs::write_new(&context.out().join("file"), text.as_bytes())?;
        fs::create_dir_all(&context.out().join("deep/er"))?;
        let line = text.repeat(4000 / text.len());
        fs::write_atomic_with(&context.out().join("deep/er/large"), |file| {
            (0..40).try_for_each(|_| file.write_all(line.as_bytes()))
        })
    }
}

/// A toy node; what it is made `from` are names of nodes.
pub fn node(name: &str, from: &[&str]) -> Node {
    let from: Vec<Value> =
        from.iter().map(|name| json!({ "$stage": name, "kind": "file" })).collect();
    Node {
        output: "file".into(),
        on_device: true,
        resources: Resources { threads: Some(1), ..Resources::default() },
        ..Node::new(name, "toy", json!({ "text": name, "from": from }))
    }
}

/// A diamond, a chain behind it, and a node beside them.
pub fn study() -> Graph {
    let nodes = vec![
        node("a", &[]),
        node("b", &["a"]),
        node("c", &["a"]),
        node("d", &["b", "c"]),
        node("e", &["d"]),
        node("beside", &[]),
    ];
    Graph { nodes }
}

/// What was made before.
pub fn earlier() -> Graph {
    Graph { nodes: vec![node("one", &[]), node("two", &["one"])] }
}

/// What every key of both graphs makes.
pub type Expected = BTreeMap<ActionKey, ObjectId>;

/// What the keys make on a disk that is well.
pub fn expected() -> Expected {
    let bench = Bench::new();
    let mut made = bench.run(&earlier(), "earlier", true).unwrap().nodes;
    made.extend(bench.run(&study(), "study", true).unwrap().nodes);
    made.into_iter().map(|node| (node.key.unwrap(), node.object.unwrap())).collect()
}

/// A folder that is taken for a disk, with a cache.
pub struct Bench {
    folder: tempfile::TempDir,
    pub jobs: usize,
}

impl Bench {
    pub fn new() -> Self {
        // In memory where there is such a folder: there `fsync` costs nothing.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let bench = Bench { folder: folder.unwrap(), jobs: 2 };
        std::fs::create_dir(bench.disk()).unwrap();
        bench
    }

    /// The folder below which faults happen.
    pub fn disk(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Where what a power cut may bring back is kept.
    pub fn grave(&self) -> PathBuf {
        self.folder.path().join("grave")
    }

    pub fn cache(&self) -> PathBuf {
        self.disk().join("cache")
    }

    /// A store as a new process would open it. It waits briefly for what cannot be told to be dead.
    pub fn store(&self) -> Store {
        Store::open(&self.cache()).unwrap().with_patience(Duration::from_millis(20))
    }

    /// Runs a graph as the pipeline of this name.
    pub fn run(&self, graph: &Graph, pipeline: &str, keep_going: bool) -> Result<Outcome> {
        let invocation =
            Invocation { pipeline: format!("/{pipeline}.yaml").into(), ..Invocation::default() };
        let (jobs, threads) = (self.jobs, self.jobs);
        let options = Options { jobs, threads, invocation, keep_going, ..Options::default() };
        let executor = InProcessExecutor(&Toy);
        run(&self.store(), request(graph), &options, &executor, &mut (), None)
    }

    /// The keys whose artefacts a run would find.
    pub fn visible(&self, expected: &Expected) -> Vec<ActionKey> {
        let store = self.store();
        let is_hit = |key: &ActionKey| matches!(store.lookup(*key).unwrap(), Lookup::Hit(_));
        expected.keys().copied().filter(is_hit).collect()
    }

    /// Every entry is whole and has a whole object with the bytes that its key makes, and no object
    /// is anything else than what its id says.
    pub fn assert_sound(&self, expected: &Expected, what: &str) {
        let store = self.store();
        let actions = self.cache().join("v1/actions");
        for name in fs::list(&actions).unwrap() {
            let Some(key) = name.strip_suffix(".json") else { continue };
            let entry = store.entry(key.parse().unwrap()).unwrap();
            let entry = entry.unwrap_or_else(|| panic!("{what}: the entry {name} is partial"));
            assert_eq!(entry.object, expected[&entry.key], "{what}: {}", entry.node);
        }
        for name in fs::list(&self.cache().join("v1/objects")).unwrap() {
            let integrity = store.recheck_object(name.parse().unwrap()).unwrap();
            assert_eq!(integrity, Integrity::Sound, "{what}: the object {name}");
        }
    }

    /// A run on a disk that is well makes what is not visible, and nothing else; all is then as it
    /// was expected, and after `gc` nothing is left of what failed.
    pub fn assert_recovers(&self, expected: &Expected, what: &str) {
        let visible = self.visible(expected);
        for (graph, pipeline) in [(earlier(), "earlier"), (study(), "study")] {
            let outcome = self.run(&graph, pipeline, false);
            let outcome = outcome.unwrap_or_else(|error| panic!("{what}: {error:#}"));
            for node in outcome.nodes {
                let key = node.key.unwrap_or_else(|| panic!("{what}: {node:?}"));
                assert_eq!(node.object, Some(expected[&key]), "{what}: {node:?}");
                let again = node.ending == Ending::Ran && visible.contains(&key);
                assert!(!again, "{what}: {} was made again", node.name);
            }
        }
        self.assert_sound(expected, what);
        gc(&self.store(), false).unwrap_or_else(|error| panic!("{what}: {error:#}"));
        assert_eq!(self.visible(expected).len(), expected.len(), "{what}: gc has lost something");
        for folder in ["work", "runners", "locks", "bad"] {
            let left = fs::list(&self.cache().join("v1").join(folder)).unwrap();
            assert_eq!(left, [""; 0], "{what}: {folder}");
        }
    }
}

pub fn request(graph: &Graph) -> Request<'_> {
    Request { graph, targets: &[], numerics: Numerics { device: Some("toy"), host: "host" } }
}
