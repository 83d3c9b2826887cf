//! Nodes as jobs of a queue: a fake one of this host, and a real Slurm where it is installed; and
//! one folder that two mounts share.

#![expect(clippy::unwrap_used)]

mod events;
mod jobs;
mod mounts;
mod refused;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use crate::cli::place::{Place, wait_until};
use crate::tools;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A queue that tests run on.
enum Queue {
    /// The script `queue.sh`, with its jobs in this folder.
    Fake(PathBuf),
    /// Slurm with this configuration.
    Slurm(PathBuf),
}

/// The configuration of a Slurm that runs as long as this process; `None` where it is not
/// installed.
fn slurm() -> Option<PathBuf> {
    static SLURM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let start = || {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let is_there = |program: &str| {
            let mut folders = std::env::split_paths(&paths);
            folders.any(|folder| folder.join(program).exists())
        };
        if !["sbatch", "slurmctld", "slurmd", "munged"].into_iter().all(is_there) {
            return None;
        }
        let folder = tempfile::tempdir().unwrap().keep();
        let output = Command::new(format!("{ROOT}/tests/cluster/start"))
            .arg(&folder)
            .arg(std::process::id().to_string())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "Slurm does not start: {why}");
        Some(PathBuf::from(said))
    };
    let slurm = SLURM.get_or_init(start).clone();
    if slurm.is_none() {
        tools::left_out("a real Slurm; tests/cluster/fetch installs it");
    }
    slurm
}

/// A pipeline, a cache, and the file `queue.yaml` about a queue.
struct Bench {
    place: Place,
    queue: Queue,
}

impl Bench {
    /// On the fake queue.
    fn fake(pipeline: &str) -> Self {
        let place = Place::new(pipeline);
        let jobs = place.path("jobs");
        std::fs::create_dir(&jobs).unwrap();
        let bench = Bench { place, queue: Queue::Fake(jobs) };
        bench.describe("");
        bench
    }

    /// On Slurm, if it is installed.
    fn slurm(pipeline: &str) -> Option<Self> {
        let bench = Bench { place: Place::new(pipeline), queue: Queue::Slurm(slurm()?) };
        bench.describe("");
        Some(bench)
    }

    /// On each queue there is.
    fn each(pipeline: &str) -> Vec<Self> {
        [Some(Bench::fake(pipeline)), Bench::slurm(pipeline)].into_iter().flatten().collect()
    }

    /// Writes the file about the queue, with more lines at its end.
    fn describe(&self, more: &str) {
        let base = match &self.queue {
            Queue::Slurm(_) => "queue: slurm\npoll: 0.2\n".to_owned(),
            Queue::Fake(jobs) => {
                let command = format!("{ROOT}/tests/cluster/queue.sh, {}", jobs.display());
                format!(
                    "queue: fake\n\
                     poll: 0.1\n\
                     submit: [{command}, submit, '--threads={{threads}}', \
                     [--memory, '{{memory_mb}}'], '--minutes={{time_min}}', '{{script}}']\n\
                     id: {{after: 'Job <', before: '>'}}\n\
                     status: [{command}, status]\n\
                     stop: [{command}, stop, '{{job}}']\n\
                     cancel: [{command}, end, '{{job}}', KILLED]\n\
                     states:\n\
                     \x20 pending: [WAITS]\n\
                     \x20 running: [RUNS]\n\
                     \x20 done: [DONE]\n\
                     \x20 failed: [FAILED]\n\
                     \x20 cancelled: [KILLED]\n\
                     \x20 timeout: [LATE]\n\
                     \x20 out_of_memory: [OOM]\n\
                     \x20 preempted: [PREEMPTED]\n\
                     \x20 lost: [LOST]\n"
                )
            }
        };
        self.place.write("queue.yaml", &(base + more));
    }

    /// The program, not started yet.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.place.command(arguments);
        if let Queue::Slurm(conf) = &self.queue {
            command.env("SLURM_CONF", conf);
        }
        command
    }

    /// Starts a run in the queue.
    fn start(&self, more: &[&str]) -> Child {
        let arguments = ["run", "p.yaml", "--executor", "queue.yaml"];
        self.command(&[&arguments, more].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Runs in the queue to the end.
    fn run(&self, more: &[&str]) -> crate::cli::place::Said {
        crate::cli::place::finish(self.start(more))
    }

    /// A command of the queue, which must succeed; what it prints.
    fn ask(&self, words: &[&str]) -> String {
        let mut command = match &self.queue {
            Queue::Fake(jobs) => {
                let mut command = Command::new(format!("{ROOT}/tests/cluster/queue.sh"));
                command.arg(jobs).args(words);
                command
            }
            Queue::Slurm(conf) => {
                let mut command = Command::new(words[0]);
                command.args(&words[1..]).env("SLURM_CONF", conf);
                command
            }
        };
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{words:?}: {text}{output:?}");
        text
    }

    /// The queue's word for the state of a job.
    fn state(&self, job: &str) -> String {
        let text = match self.queue {
            Queue::Fake(_) => self.ask(&["status"]),
            Queue::Slurm(_) => self.ask(&["squeue", "--states=all", "-h", "-o", "%i %T"]),
        };
        let word = |line: &str| line.strip_prefix(job)?.strip_prefix(' ').map(str::to_owned);
        text.lines().find_map(word).unwrap_or_default()
    }

    /// Jobs of the attempts in the cache that have an id.
    fn jobs(&self) -> Vec<String> {
        let mut jobs = Vec::new();
        let work = self.place.path("cache/v1/work");
        for key in posttrain::fs::list(&work).unwrap() {
            for number in posttrain::fs::list(&work.join(&key)).unwrap_or_default() {
                let path = work.join(&key).join(number).join("job.json");
                let Ok(Some(bytes)) = posttrain::fs::read_if_exists(&path) else { continue };
                let record: Value = serde_json::from_slice(&bytes).unwrap();
                jobs.push(record["job"].as_str().unwrap().to_owned());
            }
        }
        jobs
    }

    /// Waits until a run has submitted as many jobs, and gives their ids.
    fn await_jobs(&self, count: usize) -> Vec<String> {
        wait_until("jobs are submitted", || self.jobs().len() >= count);
        self.jobs()
    }

    /// Waits until a job is in this state.
    fn await_state(&self, job: &str, word: &str) {
        wait_until(&format!("job {job} is {word}"), || self.state(job) == word);
    }

    /// Has the queue run a job again.
    fn requeue(&self, job: &str) {
        match self.queue {
            Queue::Fake(_) => drop(self.ask(&["end", job, "REQUEUED"])),
            Queue::Slurm(_) => drop(self.ask(&["scontrol", "requeue", job])),
        }
    }
}

/// The lines of a text that hold a word.
fn lines_with<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.contains(word)).collect()
}

/// The folder of the only attempt of a cache.
fn attempt(cache: &Path) -> PathBuf {
    let work = cache.join("v1/work");
    let is_named = |name: &String| !name.starts_with('.');
    let key = posttrain::fs::list(&work).unwrap().into_iter().find(is_named).unwrap();
    let number = posttrain::fs::list(&work.join(&key)).unwrap().into_iter().find(is_named).unwrap();
    work.join(key).join(number)
}
