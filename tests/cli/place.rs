//! A temporary folder with a pipeline and a cache, and the real program run in it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A folder to work in.
pub struct Place(tempfile::TempDir);

/// What a run said and how it ended.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Place {
    /// A folder with this pipeline, in which `LOG` means the path of a file outside of the
    /// cache.
    pub fn new(pipeline: &str) -> Self {
        let place = Place(tempfile::tempdir().unwrap());
        place.pipeline(pipeline);
        place
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes the pipeline.
    pub fn pipeline(&self, text: &str) {
        self.write("p.yaml", &text.replace("LOG", &self.path("log").display().to_string()));
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The lines that stages have written to `LOG`.
    pub fn log(&self) -> Vec<String> {
        self.read("log").lines().map(str::to_owned).collect()
    }

    /// The program, not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_posttrain"));
        command
            .args(arguments)
            .current_dir(self.0.path())
            .env_remove("POSTTRAIN_CACHE")
            .stdin(Stdio::null());
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

    /// Runs the pipeline and gives the last line.
    pub fn run(&self, more: &[&str]) -> Value {
        self.say(&[&["run", "p.yaml", "--log", "json"], more].concat()).last()
    }

    /// How many nodes ran and how many were cached in a run that must succeed.
    pub fn counts(&self, more: &[&str]) -> (u64, u64) {
        let last = self.run(more);
        assert_eq!(last["ok"], true, "{last}");
        (last["ran"].as_u64().unwrap(), last["cached"].as_u64().unwrap())
    }

    /// The state of every node in the plan: `run`, `cached` or `unknown`, with the name.
    pub fn plan(&self, more: &[&str]) -> Vec<String> {
        let plan: Value =
            serde_json::from_str(&self.good(&[&["plan", "p.yaml", "--json"], more].concat()).out)
                .unwrap();
        let step = |step: &Value| {
            format!("{} {}", step["state"].as_str().unwrap(), step["name"].as_str().unwrap())
        };
        plan["steps"].as_array().unwrap().iter().map(step).collect()
    }

    /// The folder of a node's artefact.
    pub fn artefact(&self, node: &str) -> PathBuf {
        let shown: Value =
            serde_json::from_str(&self.good(&["show", "p.yaml", node, "--json"]).out).unwrap();
        PathBuf::from(shown[0]["path"].as_str().unwrap())
    }

    /// A file of a node's artefact.
    pub fn made(&self, node: &str, file: &str) -> String {
        std::fs::read_to_string(self.artefact(node).join(file)).unwrap()
    }

    /// Starts a run in the background.
    pub fn start(&self, more: &[&str]) -> Child {
        self.command(&[&["run", "p.yaml", "--log", "json"], more].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Waits for a file.
    pub fn await_file(&self, name: &str) {
        wait_until(&format!("{name} is there"), || self.path(name).exists());
    }

    /// The object ids of all artefacts in the cache, by node.
    pub fn objects(&self) -> Vec<(String, String)> {
        let entries: Value = serde_json::from_str(&self.good(&["ls", "--json"]).out).unwrap();
        let pair = |entry: &Value| {
            (
                entry["node"].as_str().unwrap().to_owned(),
                entry["object"].as_str().unwrap().to_owned(),
            )
        };
        let mut pairs: Vec<_> = entries.as_array().unwrap().iter().map(pair).collect();
        pairs.sort();
        pairs
    }
}

impl Said {
    /// The last line of what was said, as JSON.
    pub fn last(&self) -> Value {
        let line =
            self.out.lines().last().unwrap_or_else(|| panic!("nothing was said\n{}", self.err));
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }
}

/// Waits for a child.
pub fn finish(child: Child) -> Said {
    said(child.wait_with_output().unwrap())
}

/// How a program's output reads.
pub fn said(output: Output) -> Said {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// Waits for what must come, up to a limit that only a failure reaches.
pub fn wait_until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(30), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sets a file's times.
pub fn set_time(path: &Path, time: std::time::SystemTime) {
    std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}
