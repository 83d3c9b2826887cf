//! A program of the user's that a stage runs: its arguments, what it sees, how it ends. Knows
//! nothing of what it computes.
//!
//! 1. It sees the artefacts and files that it is given, by environment variables that hold their
//!    paths and by `{name}` in its arguments.
//! 2. Its environment is empty except for `PATH`, `HOME`, `TMPDIR`, `LC_ALL=C`, `TZ=UTC` and what
//!    it is given.
//! 3. It ends with the stage, and all that it has started does.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::{Checks, sandbox};
use crate::dag::context::Context;
use crate::dag::processes::signal_tree;
use crate::error::{Context as _, Failure, Result, environment, user};
use crate::fs;
use crate::reference::{AnyRef, Input};

/// The longest time between two looks at the program while it runs.
const TICK: Duration = Duration::from_millis(5);
/// The shortest.
const FIRST_TICK: Duration = Duration::from_micros(100);
/// How long a program that was asked to stop may take before it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// What the program may see of the environment.
const PASSED_ON: [&str; 3] = ["PATH", "HOME", "TMPDIR"];

/// No lists of artefacts.
pub(super) static NONE_GATHERED: BTreeMap<String, Vec<AnyRef>> = BTreeMap::new();

/// A program with what it is given; the fields are those of a stage's config.
pub(super) struct Program<'a> {
    /// The program and its arguments.
    pub(super) run: &'a [String],
    /// Artefacts by the names of their variables.
    pub(super) inputs: &'a BTreeMap<String, AnyRef>,
    /// Lists of artefacts by the names of their variables.
    pub(super) gather: &'a BTreeMap<String, Vec<AnyRef>>,
    /// Files and folders from outside by the names of their variables.
    pub(super) files: &'a BTreeMap<String, Input>,
    /// Further variables.
    pub(super) env: &'a BTreeMap<String, String>,
    /// Whether it sees nothing but what it is given.
    pub(super) sandbox: bool,
}

/// Files that are a program's standard streams.
#[derive(Clone, Copy)]
pub(super) struct Streams<'a> {
    /// What it reads; the file exists.
    pub(super) input: &'a Path,
    /// What it prints; the file is replaced.
    pub(super) output: &'a Path,
}

impl Program<'_> {
    /// Notes fields out of range: no program, names that no variable can have, a name given twice.
    pub(super) fn check(&self, checks: &mut Checks) {
        checks.require(
            self.run.first().is_some_and(|program| !program.is_empty()),
            "run",
            "expected a program and its arguments",
        );
        let groups = [
            ("inputs", self.inputs.keys().collect::<Vec<_>>()),
            ("gather", self.gather.keys().collect()),
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
    }

    /// Runs it in `folder` and waits for its end. Without `streams` it reads nothing, and what it
    /// prints goes to the log.
    ///
    /// # Errors
    /// The user's: no such program, an exit status other than 0 (with the last lines of the log).
    /// Of the environment: it cannot be started, or the disk is full. The request to stop.
    pub(super) fn run(
        &self,
        context: &Context,
        folder: &Path,
        streams: Option<Streams<'_>>,
    ) -> Result<()> {
        if self.sandbox {
            sandbox::check()?;
        }
        let mut process = self.process(folder);
        match streams {
            // Into the log, in the order in which it prints.
            None => process.stdin(Stdio::null()).stdout(std::io::stderr()),
            Some(Streams { input, output }) => {
                process.stdin(fs::open(input)?).stdout(fs::create(output)?)
            }
        };
        end_with_this_thread(&mut process);
        match process.spawn() {
            Ok(child) => attend(child, context, &self.run[0], self.sandbox),
            Err(error) => Err(not_started(&self.run[0], &error).into()),
        }
    }

    /// The program with its arguments and environment, to be started in `folder`.
    fn process(&self, folder: &Path) -> Process {
        let inputs = self.inputs.iter().map(|(name, input)| (name.as_str(), input.path()));
        let files = self.files.iter().map(|(name, file)| (name.as_str(), file.path()));
        let one = |(name, path): (_, &Path)| (name, path.as_os_str().to_owned());
        let lists: BTreeMap<&str, Vec<OsString>> = self
            .gather
            .iter()
            .map(|(name, all)| {
                let paths = all.iter().map(|input| input.path().as_os_str().to_owned());
                (name.as_str(), paths.collect())
            })
            .collect();
        let lines = lists.iter().map(|(name, paths)| (*name, paths.join(OsStr::new("\n"))));
        let paths: BTreeMap<&str, OsString> = inputs.chain(files).map(one).chain(lines).collect();
        let expanded = |argument: &String| match list_of(argument, &lists) {
            Some(paths) => paths.clone(),
            None => vec![fill(argument, &paths).into()],
        };
        let mut process = match self.sandbox {
            true => Process::new(sandbox::PROGRAM),
            false => Process::new(&self.run[0]),
        };
        if self.sandbox {
            process.args(sandbox::arguments(folder, self.given())).arg(&self.run[0]);
        }
        process
            .args(self.run[1..].iter().flat_map(expanded))
            .current_dir(folder)
            .env_clear()
            .envs(PASSED_ON.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))))
            .envs([("LC_ALL", "C"), ("TZ", "UTC")])
            .envs(&paths)
            .envs(self.env);
        process
    }

    /// The paths of all that it is given.
    fn given(&self) -> impl Iterator<Item = &Path> {
        let artefacts = self.inputs.values().chain(self.gather.values().flatten());
        artefacts.map(|input| input.path()).chain(self.files.values().map(|file| file.path()))
    }

    /// Starts it in `folder`; the caller writes what it reads and reads what it prints.
    ///
    /// # Errors
    /// The user's: no such program. Of the environment: it cannot be started.
    pub(super) fn start(&self, folder: &Path) -> Result<Child> {
        let mut process = self.process(folder);
        process.stdin(Stdio::piped()).stdout(Stdio::piped());
        end_with_this_thread(&mut process);
        process.spawn().map_err(|error| not_started(&self.run[0], &error).into())
    }
}

/// The paths of a list, where the argument is its `{name}` and nothing else.
fn list_of<'a>(
    argument: &str,
    lists: &'a BTreeMap<&str, Vec<OsString>>,
) -> Option<&'a Vec<OsString>> {
    lists.get(argument.strip_prefix('{')?.strip_suffix('}')?)
}

/// The argument with every `{name}` replaced by the path of that name. What is put in is not looked
/// at again, and braces around anything else stay.
fn fill(argument: &str, paths: &BTreeMap<&str, OsString>) -> String {
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
fn failed(
    status: std::process::ExitStatus,
    context: &Context,
    program: &str,
    sandbox: bool,
) -> Failure {
    let lines = context.last_printed();
    let printed = match lines.is_empty() {
        true => "; it printed nothing".to_owned(),
        false => format!("; the last that it printed:\n    {}", lines.join("\n    ")),
    };
    let message = format!("`{program}` failed: {status}{printed}");
    if fs::is_full(context.out()) {
        let out = context.out().display();
        return environment(format!("{message}\n    and no space left on the disk of {out}"))
            .hint("free some space there");
    }
    let failure = user(message);
    match status.code() {
        Some(STATUS_NOT_EXECUTABLE) => failure.hint(NOT_EXECUTABLE),
        _ if sandbox => failure.hint(sandbox::VISIBLE),
        _ => failure,
    }
}

/// Waits for the program; passes on a request to stop.
fn attend(mut child: Child, context: &Context, program: &str, sandbox: bool) -> Result<()> {
    let (start, mut asked): (_, Option<Instant>) = (Instant::now(), None);
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for the program")? {
            return match (status.success(), context.stop_requested()) {
                // Its end is not to be trusted: the signal also ends what it has started, and a
                // shell may go on behind that as if it had been done.
                (_, true) => context.interrupted(),
                (true, false) => Ok(()),
                (false, false) => Err(failed(status, context, program, sandbox).into()),
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
        // A short program is not held up.
        std::thread::sleep((start.elapsed() / 16).clamp(FIRST_TICK, TICK));
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
        let path = |text: &str| OsString::from(text);
        let paths = BTreeMap::from([("a", path("d{b}/fa")), ("b", path("fb"))]);
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
