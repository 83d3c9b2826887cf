//! `command`: runs a program, like a rule of a Makefile; for work that no other kind does.
//!
//! 1. The program starts in an empty folder; what it leaves there is the artefact. It gets nothing
//!    else to write to.
//! 2. Each of `inputs` (artefacts) and `files` (from outside) is an environment variable that holds
//!    a path, and `{name}` in an argument is replaced by the same path, whatever that holds: it is
//!    not looked at again. They enter the key by their bytes, as everywhere.
//! 3. The environment is empty except for `PATH`, `HOME`, `TMPDIR`, `LC_ALL=C`, `TZ=UTC` and `env`.
//!    The program itself, and whatever it reads besides its inputs, is not in the key: name a
//!    script under `files` if a change to it matters.
//! 4. What it prints goes to the node's log. An exit status other than 0 fails the stage; its last
//!    lines are in the error.
//! 5. It ends with the stage, and all that it has started does: when it is asked to stop, when the
//!    run is killed, and when it is done. It may do anything else that its user may: there is no
//!    sandbox.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use super::{Checks, KindInfo, Problem, Stage};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::dag::processes::signal_tree;
use crate::error::{Context as _, Failure, Result, environment, user};
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
pub struct CommandStage {
    /// Program and its arguments.
    run: Vec<String>,
    /// Artefacts of other stages, by the name under which the program finds their paths.
    #[serde(default)]
    inputs: BTreeMap<String, AnyRef>,
    /// Files and folders from outside, by the name under which the program finds their paths.
    #[serde(default)]
    files: BTreeMap<String, Input>,
    /// Further environment variables.
    #[serde(default)]
    env: BTreeMap<String, String>,
}

impl Stage for CommandStage {
    const INFO: KindInfo = KindInfo::on_host("command", 2, Files::KIND);

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        checks.require(
            self.run.first().is_some_and(|program| !program.is_empty()),
            "run",
            "expected a program and its arguments",
        );
        let groups = [
            ("inputs", self.inputs.keys().collect::<Vec<_>>()),
            ("files", self.files.keys().collect()),
            ("env", self.env.keys().collect()),
        ];
        let mut seen = BTreeMap::new();
        for (group, names) in groups {
            for name in names {
                let field = format!("{group}.{name}");
                checks.require(
                    is_variable(name),
                    &field,
                    "expected a name of letters, digits and `_`, as environment variables have",
                );
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
        let mut process = Process::new(&self.run[0]);
        process
            .args(self.run[1..].iter().map(|argument| fill(argument, &paths)))
            .current_dir(context.out())
            .env_clear()
            .envs(PASSED_ON.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))))
            .envs([("LC_ALL", "C"), ("TZ", "UTC")])
            .envs(&paths)
            .envs(&self.env)
            .stdin(Stdio::null())
            // Into the log, in the order in which it prints.
            .stdout(std::io::stderr());
        end_with_this_thread(&mut process);
        match process.spawn() {
            Ok(child) => attend(child, context, &self.run[0]),
            Err(error) => Err(not_started(&self.run[0], &error).into()),
        }
    }
}

/// The argument with every `{name}` replaced by the path of that name. What is put in is not looked
/// at again, and braces around anything else stay.
fn fill(argument: &str, paths: &BTreeMap<&str, &Path>) -> String {
    let (mut filled, mut rest) = (String::new(), argument);
    while let Some(open) = rest.find('{') {
        let named = rest[open + 1..]
            .split_once('}')
            .and_then(|(name, after)| Some((paths.get(name)?, after)));
        let Some((path, after)) = named else {
            filled.push_str(&rest[..=open]);
            rest = &rest[open + 1..];
            continue;
        };
        filled.push_str(&rest[..open]);
        filled.push_str(&path.to_string_lossy());
        rest = after;
    }
    filled + rest
}

/// Has the system kill the program when this process ends, however that comes about.
#[cfg(target_os = "linux")]
fn end_with_this_thread(process: &mut Process) {
    use std::os::unix::process::CommandExt;
    let ask = || Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?);
    // SAFETY: between fork and exec it makes one system call; it takes no lock and no memory.
    unsafe {
        process.pre_exec(ask);
    }
}

/// Only Linux has such a wish. Elsewhere what is left behind ends when it is done.
#[cfg(not(target_os = "linux"))]
fn end_with_this_thread(_: &mut Process) {}

fn not_started(program: &str, error: &std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            user(format!("there is no program `{program}`")).hint("it is looked for in $PATH")
        }
        std::io::ErrorKind::PermissionDenied => {
            user(format!("`{program}` may not be executed")).hint(NOT_EXECUTABLE)
        }
        std::io::ErrorKind::WouldBlock => environment(format!("cannot start `{program}`: {error}"))
            .hint("raise the limit of processes (`ulimit -u`), or end some"),
        _ => environment(format!("cannot start `{program}`: {error}")),
    }
}

/// What to do about a file that should be a program and is none.
const NOT_EXECUTABLE: &str = "files of artefacts are read-only and cannot be executed: call an \
    interpreter (`sh $tool/run.sh`), or copy the file and `chmod +x` the copy";
/// A shell's exit status where a program may not be executed.
const STATUS_NOT_EXECUTABLE: i32 = 126;

/// Why the program failed: its status and the last lines it printed; or a full disk, if there is
/// one.
fn failed(status: std::process::ExitStatus, context: &Context, program: &str) -> Failure {
    let lines = context.last_printed();
    let printed = match lines.is_empty() {
        true => "; it printed nothing".to_owned(),
        false => format!("; the last that it printed:\n    {}", lines.join("\n    ")),
    };
    let message = format!("`{program}` failed: {status}{printed}");
    if crate::fs::is_full(context.out()) {
        let out = context.out().display();
        return environment(format!("{message}\n    and no space left on the disk of {out}"))
            .hint("free some space there");
    }
    let failure = user(message);
    match status.code() {
        Some(STATUS_NOT_EXECUTABLE) => failure.hint(NOT_EXECUTABLE),
        _ => failure,
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
                (false, false) => Err(failed(status, context, program).into()),
            };
        }
        match asked {
            None if context.stop_requested() => {
                signal_tree(Pid::from_child(&child), Signal::TERM);
                asked = Some(Instant::now());
            }
            Some(since) if since.elapsed() > GRACE => {
                signal_tree(Pid::from_child(&child), Signal::KILL)
            }
            _ => {}
        }
        std::thread::sleep(TICK);
    }
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_an_argument_are_replaced_in_one_pass() {
        let paths = BTreeMap::from([("a", Path::new("d{b}/fa")), ("b", Path::new("fb"))]);
        for (argument, filled) in [
            ("{a}", "d{b}/fa"),
            ("{b}{a}{b}", "fbd{b}/fafb"),
            ("x{a}y{c}z", "xd{b}/fay{c}z"),
            ("{{a}}", "{d{b}/fa}"),
            ("{}{", "{}{"),
            ("awk '{print $1}' {b}", "awk '{print $1}' fb"),
            ("{a{b}", "{afb"),
        ] {
            assert_eq!(fill(argument, &paths), filled, "{argument}");
        }
    }
}
