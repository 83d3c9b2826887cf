//! `command`: runs a program, like a rule of a Makefile. An escape hatch for what no other kind does. Knows nothing of what it runs.
//!
//! 1. The program starts in an empty folder; what it leaves there is the artefact. It gets nothing else to write to.
//! 2. Each of `inputs` (artefacts) and `files` (from outside) is an environment variable that holds a path, and `{name}` in an argument
//!    stands for the same path. They enter the key by their bytes, as everywhere.
//! 3. The environment is empty but for `PATH`, `HOME`, `TMPDIR`, `LC_ALL=C`, `TZ=UTC` and `env`. The program itself, and whatever it
//!    reads besides its inputs, is not in the key: name a script under `files` if a change to it matters.
//! 4. What it prints goes to the node's log. An exit status other than 0 fails the stage.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::{Checks, Problem, Stage};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::error::{Context as _, Result, user};
use crate::reference::{AnyRef, Artefact, Files, Input};

/// How often the program is looked at while it runs.
const TICK: Duration = Duration::from_millis(5);
/// How long a program that was asked to stop may take before it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// What the program may see of the environment.
const PASSED_ON: [&str; 3] = ["PATH", "HOME", "TMPDIR"];

/// Runs a program; its folder is the artefact.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// The program and its arguments.
    run: Vec<String>,
    /// Artefacts of other stages, by the name under which the program finds their paths.
    #[serde(default)]
    inputs: BTreeMap<String, AnyRef>,
    /// Files and folders from outside, likewise.
    #[serde(default)]
    files: BTreeMap<String, Input>,
    /// Further environment variables.
    #[serde(default)]
    env: BTreeMap<String, String>,
}

impl Stage for Command {
    const NAME: &'static str = "command";
    const VERSION: u32 = 1;
    const OUTPUT: &'static str = Files::KIND;
    const THREADS: Option<usize> = Some(1);
    const ON_DEVICE: bool = false;

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        checks.require(self.run.first().is_some_and(|program| !program.is_empty()), "run", "expected a program and its arguments");
        let groups = [
            ("inputs", self.inputs.keys().collect::<Vec<_>>()),
            ("files", self.files.keys().collect()),
            ("env", self.env.keys().collect()),
        ];
        let mut seen = BTreeMap::new();
        for (group, names) in groups {
            for name in names {
                let field = format!("{group}.{name}");
                checks.require(is_variable(name), &field, "expected a name of letters, digits and `_`, as environment variables have");
                if let Some(other) = seen.insert(name, group) {
                    checks.require(false, &field, format!("the name is taken by `{other}.{name}`"));
                }
            }
        }
        checks.done()
    }

    fn run<B: Backend>(&self, _: &B, context: &Context) -> Result<()> {
        let paths: BTreeMap<&str, &Path> = self
            .inputs
            .iter()
            .map(|(name, input)| (name.as_str(), input.path()))
            .chain(self.files.iter().map(|(name, file)| (name.as_str(), file.path())))
            .collect();
        let argument = |text: &String| {
            paths.iter().fold(text.clone(), |text, (name, path)| text.replace(&format!("{{{name}}}"), &path.to_string_lossy()))
        };
        let child = Process::new(&self.run[0])
            .args(self.run[1..].iter().map(argument))
            .current_dir(context.out())
            .env_clear()
            .envs(PASSED_ON.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))))
            .envs([("LC_ALL", "C"), ("TZ", "UTC")])
            .envs(&paths)
            .envs(&self.env)
            .stdin(Stdio::null())
            // Standard output belongs to the reports of the stage.
            .stdout(std::io::stderr())
            .spawn();
        let child = match child {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(user(format!("there is no program `{}`", self.run[0])).hint("it is looked for in $PATH").into());
            }
            child => child.with_context(|| format!("cannot start `{}`", self.run[0]))?,
        };
        attend(child, context, &self.run[0])
    }
}

/// Waits for the program; passes on a request to stop.
fn attend(mut child: Child, context: &Context, program: &str) -> Result<()> {
    let mut asked: Option<Instant> = None;
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for the program")? {
            return match (status.success(), context.stop_requested()) {
                (true, _) => Ok(()),
                (false, true) => context.interrupted(),
                (false, false) => Err(user(format!("`{program}` failed: {status}")).hint("what it printed is in the node's log").into()),
            };
        }
        match asked {
            None if context.stop_requested() => {
                // It may have ended by itself a moment ago.
                let _ = kill_process(Pid::from_child(&child), Signal::TERM);
                asked = Some(Instant::now());
            }
            Some(since) if since.elapsed() > GRACE => child.kill().context("cannot end the program")?,
            _ => {}
        }
        std::thread::sleep(TICK);
    }
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
