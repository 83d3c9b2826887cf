//! A command of a queue, run to its end within a time limit. Uses nothing of what it says.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::error::{Context, Result, environment, no_thread};
use crate::processes;

/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(60);

/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(5);

/// What a command has printed, and how it ended.
pub(super) struct Said {
    pub(super) status: ExitStatus,
    pub(super) out: String,
    pub(super) err: String,
}

impl Said {
    /// What it printed, if it has succeeded.
    ///
    /// # Errors
    /// The machine's, with what the command printed.
    pub(super) fn good(self, what: &str) -> Result<String> {
        if self.status.success() {
            return Ok(self.out);
        }
        let words = [self.err.trim(), self.out.trim()].join(" ");
        Err(environment(format!("{what} failed ({}): {}", self.status, words.trim())).into())
    }
}

/// Runs a command.
///
/// # Errors
/// The machine's, if it cannot be started or takes too long.
pub(super) fn run(words: &[String]) -> Result<Said> {
    let (program, arguments) = words.split_first().context("a command has a word")?;
    let mut command = Command::new(program);
    // In a separate group, so that Ctrl-C does not end it, and all of it can be ended.
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut child = processes::start(&mut command)
        .map_err(|error| environment(format!("cannot start {program}: {error}")))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let status = std::thread::scope(|scope| -> Result<(ExitStatus, String, String)> {
        let read = |pipe: Option<Box<dyn Read + Send>>| {
            std::thread::Builder::new()
                .spawn_scoped(scope, move || {
                    let mut bytes = Vec::new();
                    if let Some(mut pipe) = pipe {
                        let _ = pipe.read_to_end(&mut bytes);
                    }
                    String::from_utf8_lossy(&bytes).into_owned()
                })
                .map_err(|error| no_thread("a thread", error))
        };
        let readers = (
            read(out.map(|pipe| Box::new(pipe) as Box<dyn Read + Send>)),
            read(err.map(|pipe| Box::new(pipe) as Box<dyn Read + Send>)),
        );
        let start = Instant::now();
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break Ok(status),
                Ok(None) if start.elapsed() > LIMIT => {
                    let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
                    let _ = child.wait();
                    let seconds = LIMIT.as_secs();
                    let message = format!("{program} did not end within {seconds} s");
                    break Err(environment(message).into());
                }
                Ok(None) => std::thread::sleep(LOOK),
                Err(error) => {
                    break Err(error).with_context(|| format!("cannot wait for {program}"));
                }
            }
        };
        let words = |reader: std::thread::ScopedJoinHandle<'_, String>| {
            reader.join().expect("reading a pipe does not panic")
        };
        let (out, err) = (words(readers.0?), words(readers.1?));
        Ok((status?, out, err))
    });
    processes::forget(&child);
    let (status, out, err) = status?;
    Ok(Said { status, out, err })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_prints_is_an_answer_or_an_error() {
        let run = |script: &str| run(&["sh", "-c", script].map(str::to_owned)).expect("it runs");
        assert_eq!(run("echo 7; echo no >&2").good("it").expect("it succeeds"), "7\n");
        let error = run("echo no >&2; exit 4").good("sbatch").expect_err("it fails");
        assert_eq!(error.to_string(), "sbatch failed (exit status: 4): no");
    }
}
