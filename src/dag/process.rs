//! The executor that runs each node in a separate process of this host. Uses orders; no keys, no
//! graph, no reports.
//!
//! 1. The process is `<program> exec <folder of the attempt>`, in a separate process group.
//! 2. This process holds the write end of its standard input as long as it lives: the end of the
//!    input tells the process that its runner is gone.
//! 3. Its standard output and standard error are the log of the attempt.
//! 4. When it has ended, the rest of its process group is killed before its number can be used
//!    again, and so is what this process has adopted from it. Nothing that is left keeps the run
//!    waiting, whatever files it holds open.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::task::Poll;
use std::thread::Scope;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::cancellation::Cancel;
use crate::context::last_lines;
use crate::error::{Context, Failure, Kind, Result, environment, no_thread};
use crate::executor::Executor;
use crate::node::Node;
use crate::order::Order;
use crate::processes;
use crate::work::{LOG, Ticket};

/// Runs nodes as processes of a program.
pub struct ProcessExecutor {
    /// The program; its command `exec` calls [`crate::exec::exec`].
    pub program: PathBuf,
}

/// A node in a process.
pub struct ProcessJob {
    child: Child,
    /// Its number, which is its group's as well.
    pid: Pid,
    /// Whether a signal has stopped it, so that it does not go on.
    is_stopped: bool,
    folder: PathBuf,
}

impl Executor for ProcessExecutor {
    type Job = ProcessJob;

    fn submit<'scope>(
        &'scope self,
        _: &'scope Scope<'scope, '_>,
        attempt: &Ticket<'_>,
        _: &Node,
        order: &Order,
    ) -> Result<ProcessJob> {
        attempt.give(order)?;
        let mut command = Command::new(&self.program);
        command
            .arg("exec")
            .arg(attempt.folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::from(attempt.log()?))
            .stderr(Stdio::from(attempt.log()?))
            .env("RAYON_NUM_THREADS", order.threads.to_string())
            // A node allocates and frees the same buffers again and again; glibc would return each
            // to the system.
            .env("MALLOC_MMAP_THRESHOLD_", (32 << 20).to_string())
            .env("MALLOC_TRIM_THRESHOLD_", (1 << 30).to_string())
            .process_group(0);
        let child = processes::start(&mut command).map_err(|error| {
            let program = self.program.display().to_string();
            match error.kind() {
                std::io::ErrorKind::WouldBlock => no_thread(&program, error),
                _ => environment(format!("cannot start {program}: {error}")),
            }
        })?;
        let (pid, folder) = (Pid::from_child(&child), attempt.folder().to_owned());
        Ok(ProcessJob { child, pid, is_stopped: false, folder })
    }

    fn poll(&self, job: &mut ProcessJob, warn: &dyn Fn(String)) -> Poll<Result<()>> {
        // The process is not reaped here: its number stays its own until its group was killed.
        let options = WaitIdOptions::EXITED
            | WaitIdOptions::STOPPED
            | WaitIdOptions::NOWAIT
            | WaitIdOptions::NOHANG;
        match waitid(WaitId::Pid(job.pid), options) {
            Ok(Some(status)) if status.exited() || status.killed() || status.dumped() => {
                Poll::Ready(conclude(job, warn))
            }
            Ok(status) => {
                let is_stopped = status.is_some_and(|status| status.stopped());
                if is_stopped && !job.is_stopped {
                    warn(format!(
                        "its process {} was stopped by a signal; `kill -CONT {0}` lets it go on",
                        job.pid.as_raw_nonzero()
                    ));
                }
                job.is_stopped = is_stopped;
                Poll::Pending
            }
            Err(rustix::io::Errno::INTR) => Poll::Pending,
            Err(error) => Poll::Ready(
                Err(std::io::Error::from(error)).context("cannot wait for a node's process"),
            ),
        }
    }

    fn cancel(&self, job: &mut ProcessJob, cancel: Cancel) {
        // The group may have ended by itself a moment ago.
        match cancel {
            Cancel::Stop => {
                let _ = kill_process_group(job.pid, Signal::TERM);
                // A process that a signal has stopped would not receive it.
                let _ = kill_process_group(job.pid, Signal::CONT);
            }
            Cancel::Kill => drop(kill_process_group(job.pid, Signal::KILL)),
        }
    }
}

/// Ends what is left of a process that has ended, and returns how it ended.
fn conclude(job: &mut ProcessJob, warn: &dyn Fn(String)) -> Result<()> {
    // The group may be empty.
    let _ = kill_process_group(job.pid, Signal::KILL);
    let status = job.child.wait();
    processes::forget(&job.child);
    let status = status.context("cannot wait for a node's process")?;
    let left = processes::end_adopted();
    if !left.is_empty() {
        warn(processes::left_running(&left));
    }
    match status.success() {
        true => Ok(()),
        false => Err(died(status.signal(), status.code().unwrap_or(101), &job.folder).into()),
    }
}

/// The failure of the process of an attempt that ended by a signal, or else with an exit code,
/// without a report of it.
pub(super) fn died(signal: Option<i32>, code: i32, folder: &Path) -> Failure {
    let printed = last_lines(&folder.join(LOG));
    let last = if printed.is_empty() {
        String::new()
    } else {
        format!("; its last words:\n    {}", printed.join("\n    "))
    };
    if let Some(signal) = signal {
        let failure = environment(format!("its process was ended by signal {signal}{last}"));
        return match signal {
            9 => failure
                .hint("on Linux this is how a machine that runs out of memory ends a process"),
            _ => failure,
        };
    }
    let kind = Kind::of_exit_code(code);
    let failure = Failure::new(kind, format!("its process ended with exit code {code}{last}"));
    // On a full disk neither its report nor its last words can be written.
    match kind == Kind::Environment && crate::fs::is_full(folder) {
        true => failure.hint(format!("free some space on the disk of {}", folder.display())),
        false => failure,
    }
}
