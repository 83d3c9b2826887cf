//! How a node is run: in a separate process, or on a thread of this one. Uses orders and
//! reports; no keys, no graph.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::context::{Report, last_lines};
use crate::dispatch::Dispatch;
use crate::error::{Context, Failure, Kind, Result, environment, no_thread};
use crate::exec::{left_running, perform};
use crate::processes;
use crate::work::{LOG, Order, Ticket};

/// How a node is run.
pub enum Executor<'a> {
    /// `<program> exec <work folder>`, in a separate process group.
    Process(PathBuf),
    /// On a thread of this process: for tests and for embedding.
    InProcess(&'a dyn Dispatch),
}

/// How hard a node is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Urge {
    /// Not at all.
    #[default]
    None,
    /// Write a checkpoint and end.
    Stop,
    /// End now.
    Kill,
}

/// A running node, as seen by who may have to stop it.
#[derive(Default)]
pub(super) struct Handle(Mutex<(Urge, Option<Target>)>);

enum Target {
    Group(Pid),
    Flag(Arc<AtomicBool>),
}

impl Handle {
    /// Asks the node to stop, now or as soon as it runs. Asking less than before changes nothing.
    pub(super) fn urge(&self, urge: Urge) {
        let mut state = self.0.lock().expect("nothing panics while it holds a handle");
        if urge > state.0 {
            state.0 = urge;
            pass_on(urge, state.1.as_ref());
        }
    }

    /// Whether the node was asked to stop.
    pub(super) fn is_urged(&self) -> bool {
        self.0.lock().expect("nothing panics while it holds a handle").0 > Urge::None
    }

    fn attach(&self, target: Target) {
        let mut state = self.0.lock().expect("nothing panics while it holds a handle");
        pass_on(state.0, Some(&target));
        state.1 = Some(target);
    }

    /// Ends whatever is left of the node's process group. Afterwards its number may be another's,
    /// and is forgotten.
    fn detach(&self) {
        let mut state = self.0.lock().expect("nothing panics while it holds a handle");
        pass_on(Urge::Kill, state.1.take().as_ref());
    }
}

fn pass_on(urge: Urge, target: Option<&Target>) {
    match (urge, target) {
        (Urge::None, _) | (_, None) => {}
        (_, Some(Target::Flag(flag))) => flag.store(true, Ordering::SeqCst),
        // The group may have ended by itself a moment ago.
        (Urge::Stop, Some(Target::Group(group))) => {
            let _ = kill_process_group(*group, Signal::TERM);
            // One that was stopped would not receive it.
            let _ = kill_process_group(*group, Signal::CONT);
        }
        (Urge::Kill, Some(Target::Group(group))) => drop(kill_process_group(*group, Signal::KILL)),
    }
}

impl Executor<'_> {
    /// Runs an order to its end. Progress and warnings go to `report`; failure is the error.
    pub(super) fn execute(
        &self,
        ticket: &Ticket<'_>,
        order: &Order,
        handle: &Handle,
        report: Box<dyn Fn(Report) + Send>,
    ) -> Result<()> {
        match self {
            Executor::Process(program) => {
                ticket.give(order)?;
                let child = spawn(program, ticket, order)?;
                attend(child, ticket, handle, report)
            }
            Executor::InProcess(dispatch) => {
                let stop = Arc::new(AtomicBool::new(false));
                handle.attach(Target::Flag(stop.clone()));
                perform(
                    ticket.folder(),
                    order,
                    *dispatch,
                    Box::new(Lines { report, line: Vec::new() }),
                    stop,
                )
            }
        }
    }
}

fn spawn(program: &PathBuf, ticket: &Ticket<'_>, order: &Order) -> Result<Child> {
    let mut command = Command::new(program);
    command
        .arg("exec")
        .arg(ticket.folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(ticket.log()?))
        .env("RAYON_NUM_THREADS", order.threads.to_string())
        // A node takes and gives back the same buffers all the time; glibc would hand each back to
        // the system and fetch it anew.
        .env("MALLOC_MMAP_THRESHOLD_", (32 << 20).to_string())
        .env("MALLOC_TRIM_THRESHOLD_", (1 << 30).to_string())
        .process_group(0);
    processes::start(&mut command).map_err(|error| {
        let program = program.display().to_string();
        match error.kind() {
            std::io::ErrorKind::WouldBlock => no_thread(&program, error).into(),
            _ => environment(format!("cannot start {program}: {error}")).into(),
        }
    })
}

/// How long to wait for a line before looking whether the process has ended.
const WAIT: Duration = Duration::from_millis(50);
/// Bytes that are still read from a process that has ended: more than a pipe holds.
const REST: usize = 1 << 20;

/// Listens to a process until it has ended, and says how it ended. Its standard input stays open as
/// long as this process lives. What another process, left behind, would still say is not waited
/// for.
fn attend(
    mut child: Child,
    ticket: &Ticket<'_>,
    handle: &Handle,
    report: Box<dyn Fn(Report) + Send>,
) -> Result<()> {
    let pid = Pid::from_child(&child);
    let output = child.stdout.take().expect("it was asked for");
    handle.attach(Target::Group(pid));
    let mut listener =
        Listener { output, open: true, line: Vec::new(), failed: None, log: ticket.log()?, report };
    let (mut stopped, mut waits) = (false, 0u32);
    // Not reaped yet: its number, and so its group's, is still its own when the rest of the group
    // is ended.
    let options = WaitIdOptions::EXITED
        | WaitIdOptions::STOPPED
        | WaitIdOptions::NOWAIT
        | WaitIdOptions::NOHANG;
    loop {
        match waitid(WaitId::Pid(pid), options) {
            Ok(Some(status)) if status.exited() || status.killed() || status.dumped() => break,
            Ok(status) => {
                let is_stopped = status.is_some_and(|status| status.stopped());
                if is_stopped && !stopped {
                    let message = format!(
                        "its process {} was stopped by a signal; `kill -CONT {0}` lets it go on",
                        pid.as_raw_nonzero()
                    );
                    (listener.report)(Report::Warning { message });
                }
                stopped = is_stopped;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                return Err(std::io::Error::from(error))
                    .context("cannot wait for a node's process");
            }
        }
        if listener.open {
            listener.listen(WAIT);
        } else {
            // It has closed its output: it is about to end.
            waits += 1;
            std::thread::sleep(if waits < 100 { Duration::from_millis(1) } else { WAIT });
        }
    }
    handle.detach();
    let status = child.wait();
    processes::forget(&child);
    let status = status.context("cannot wait for a node's process")?;
    let mut rest = 0;
    while listener.open && rest < REST {
        match listener.listen(Duration::ZERO) {
            0 => break,
            read => rest += read,
        }
    }
    let left = processes::end_adopted();
    if !left.is_empty() {
        (listener.report)(Report::Warning { message: left_running(&left) });
    }
    match (status.success(), listener.failed) {
        (true, None) => Ok(()),
        (_, Some((exit_code, message))) => {
            Err(Failure::new(kind_of_exit(exit_code.into()), message).into())
        }
        (false, None) => Err(died(status, ticket).into()),
    }
}

/// What a process says, line by line.
struct Listener {
    output: ChildStdout,
    open: bool,
    line: Vec<u8>,
    failed: Option<(u8, String)>,
    log: File,
    report: Box<dyn Fn(Report) + Send>,
}

impl Listener {
    /// Waits for something to be said, and passes it on. Gives the bytes that were read.
    fn listen(&mut self, wait: Duration) -> usize {
        let wait = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
        let mut files = [PollFd::new(&self.output, PollFlags::IN)];
        if !matches!(poll(&mut files, Some(&wait)), Ok(count) if count > 0) {
            return 0;
        }
        let mut bytes = [0; 8 << 10];
        match self.output.read(&mut bytes) {
            Ok(0) => {
                self.open = false;
                0
            }
            Ok(count) => {
                for &byte in &bytes[..count] {
                    match byte {
                        b'\n' => self.hear(),
                        byte => self.line.push(byte),
                    }
                }
                count
            }
            Err(error) => {
                self.open = error.kind() == std::io::ErrorKind::Interrupted;
                0
            }
        }
    }

    fn hear(&mut self) {
        let line = std::mem::take(&mut self.line);
        match serde_json::from_slice(&line) {
            Ok(Report::Failed { exit_code, message }) => self.failed = Some((exit_code, message)),
            Ok(said) => (self.report)(said),
            // Not ours: something the stage printed. A log that cannot be written is no reason to
            // fail.
            Err(_) => drop(self.log.write_all(&[&line[..], b"\n"].concat())),
        }
    }
}

/// The failure of a process that ended without a word.
fn died(status: ExitStatus, ticket: &Ticket<'_>) -> Failure {
    let printed = last_lines(&ticket.folder().join(LOG));
    let last = if printed.is_empty() {
        String::new()
    } else {
        format!("; its last words:\n    {}", printed.join("\n    "))
    };
    if let Some(signal) = status.signal() {
        let failure = environment(format!("its process was ended by signal {signal}{last}"));
        return match signal {
            9 => failure
                .hint("on Linux this is how a machine that runs out of memory ends a process"),
            _ => failure,
        };
    }
    let code = status.code().unwrap_or(101);
    Failure::new(kind_of_exit(code), format!("its process ended with exit code {code}{last}"))
}

fn kind_of_exit(code: i32) -> Kind {
    let kinds = [Kind::Stage, Kind::User, Kind::Environment, Kind::Interrupted];
    kinds.into_iter().find(|kind| i32::from(kind.exit_code()) == code).unwrap_or(Kind::Bug)
}

/// Turns the lines that a context writes back into reports.
struct Lines {
    report: Box<dyn Fn(Report) + Send>,
    line: Vec<u8>,
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for &byte in bytes {
            match byte {
                b'\n' => {
                    if let Ok(report) = serde_json::from_slice(&std::mem::take(&mut self.line)) {
                        (self.report)(report);
                    }
                }
                byte => self.line.push(byte),
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
