//! A machine: a folder with a pipeline and a cache, and the variables of its user.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::cli::place::{Place, Said, said};

/// A sweep of seven nodes; some of their files are empty, some in folders.
pub const SWEEP: &str = "\
name: sweep
params: {n: 0}
matrix: {n: [1, 2, 3]}
stages:
  root:
    uses: command
    run: [sh, -ec, \"echo root > x; mkdir -p d/e; : > d/empty; seq 1 20000 > d/e/numbers\"]
  point:
    uses: command
    run: [sh, -ec, \"cat $root/x > y; echo ${n} >> y\"]
    inputs: {root: root}
  last: {uses: command, run: [sh, -ec, \"sed s/^/x/ $point/y > z\"], inputs: {point: point}}
";

/// The folders of the objects in a cache, and all names in them with their bytes.
pub type Objects = Vec<(String, Vec<u8>)>;

/// A machine.
pub struct Machine {
    pub place: Place,
    variables: Vec<(String, String)>,
}

impl Machine {
    /// A machine that shares through this remote.
    pub fn new(pipeline: &str, remote: &str) -> Self {
        Machine { place: Place::new(pipeline), variables: Vec::new() }
            .with("POSTTRAIN_REMOTE", remote)
    }

    /// The same, with a variable.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(own, _)| own != name);
        self.variables.push((name.into(), value.into()));
        self
    }

    /// The program, not started yet. It sees no variable of the remote but the machine's.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.place.command(arguments);
        for name in ["REMOTE", "REMOTE_MODE", "REMOTE_TRUST", "CACHE_KEY", "REMOTE_TIMEOUT"] {
            command.env_remove(format!("POSTTRAIN_{name}"));
        }
        command.env("HOME", self.place.path("")).envs(self.variables.iter().cloned());
        command
    }

    /// Runs the program to its end.
    pub fn say(&self, arguments: &[&str]) -> Said {
        said(self.command(arguments).output().unwrap())
    }

    /// Runs the program, which must succeed.
    pub fn good(&self, arguments: &[&str]) -> Said {
        let said = self.say(arguments);
        assert_eq!(said.code, 0, "{arguments:?}\n{}\n{}", said.out, said.err);
        said
    }

    /// What a command that must succeed prints with `--json`.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let said = self.good(&[arguments, &["--json"]].concat());
        serde_json::from_str(&said.out).unwrap()
    }

    /// Runs the pipeline, which must go well.
    pub fn run(&self, more: &[&str]) -> Ran {
        let said = self.say(&[&["run", "p.yaml", "--log", "json", "--jobs", "2"], more].concat());
        let events: Vec<Value> =
            said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let ran = Ran { events, err: said.err };
        assert_eq!((said.code, &ran.last()["ok"]), (0, &true.into()), "{:#?}", ran.events);
        ran
    }

    /// Starts a run in the background.
    pub fn start(&self) -> Child {
        self.command(&["run", "p.yaml", "--log", "json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// How many objects are in its cache.
    pub fn count(&self) -> usize {
        std::fs::read_dir(self.place.path("cache/v1/objects")).map_or(0, Iterator::count)
    }

    /// All files of all objects in its cache.
    pub fn objects(&self) -> Objects {
        let mut files = Vec::new();
        collect(&self.place.path("cache/v1/objects"), "", &mut files);
        files.sort();
        files
    }
}

fn collect(folder: &Path, prefix: &str, files: &mut Objects) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}/{}", path.file_name().unwrap().to_str().unwrap());
        match path.is_dir() {
            true => collect(&path, &name, files),
            false => files.push((name, std::fs::read(&path).unwrap())),
        }
    }
}

/// What a run said.
pub struct Ran {
    pub events: Vec<Value>,
    pub err: String,
}

impl Ran {
    fn last(&self) -> &Value {
        self.events.last().unwrap_or_else(|| panic!("nothing was said\n{}", self.err))
    }

    /// How many nodes ran, and how many were cached.
    pub fn counts(&self) -> (u64, u64) {
        let count = |name: &str| self.last()[name].as_u64().unwrap();
        (count("ran"), count("cached"))
    }

    /// The events of a kind.
    pub fn of(&self, kind: &str) -> Vec<&Value> {
        self.events.iter().filter(|event| event["event"] == kind).collect()
    }

    /// The nodes of the events of a kind, sorted.
    pub fn nodes(&self, kind: &str) -> Vec<&str> {
        let mut nodes: Vec<&str> =
            self.of(kind).into_iter().map(|event| event["node"].as_str().unwrap()).collect();
        nodes.sort_unstable();
        nodes
    }

    /// All warnings.
    pub fn warnings(&self) -> Vec<&str> {
        let texts = self.of("warning").into_iter();
        texts.map(|event| event["message"].as_str().unwrap()).collect()
    }
}
