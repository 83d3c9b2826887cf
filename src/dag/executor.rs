//! How a node is run: in a process of its own, or on a thread of this one. Knows orders and reports; no keys, no graph.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::dag::context::Report;
use crate::dag::exec::perform;
use crate::dag::node::Dispatch;
use crate::dag::work::{Order, Ticket};
use crate::error::{Context, Failure, Kind, Result, environment};

/// How a node is run.
pub enum Executor<'a> {
    /// `<program> exec <work folder>`, in a process group of its own.
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

    fn attach(&self, target: Target) {
        let mut state = self.0.lock().expect("nothing panics while it holds a handle");
        pass_on(state.0, Some(&target));
        state.1 = Some(target);
    }

    /// Ends whatever is left of the node's process group. Afterwards its number may be another's, and is forgotten.
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
        (Urge::Stop, Some(Target::Group(group))) => drop(kill_process_group(*group, Signal::TERM)),
        (Urge::Kill, Some(Target::Group(group))) => drop(kill_process_group(*group, Signal::KILL)),
    }
}

impl Executor<'_> {
    /// Runs an order to its end. Progress and warnings go to `report`; failure is the error.
    pub(super) fn execute(&self, ticket: &Ticket<'_>, order: &Order, handle: &Handle, report: Box<dyn Fn(Report) + Send>) -> Result<()> {
        match self {
            Executor::Process(program) => {
                ticket.give(order)?;
                let child = spawn(program, ticket, order)?;
                attend(child, ticket, handle, report)
            }
            Executor::InProcess(dispatch) => {
                let stop = Arc::new(AtomicBool::new(false));
                handle.attach(Target::Flag(stop.clone()));
                perform(ticket.folder(), order, *dispatch, Box::new(Lines { report, line: Vec::new() }), stop)
            }
        }
    }
}

fn spawn(program: &PathBuf, ticket: &Ticket<'_>, order: &Order) -> Result<Child> {
    Command::new(program)
        .arg("exec")
        .arg(ticket.folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(ticket.log()?))
        .env("RAYON_NUM_THREADS", order.threads.to_string())
        // A node takes and gives back the same buffers all the time; glibc would hand each back to the system and fetch it anew.
        .env("MALLOC_MMAP_THRESHOLD_", (32 << 20).to_string())
        .env("MALLOC_TRIM_THRESHOLD_", (1 << 30).to_string())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))
}

/// Listens to a process until it has ended, and says how it ended. Its standard input stays open as long as this process lives.
fn attend(mut child: Child, ticket: &Ticket<'_>, handle: &Handle, report: Box<dyn Fn(Report) + Send>) -> Result<()> {
    let pid = Pid::from_child(&child);
    let output = child.stdout.take().expect("it was asked for");
    let mut log = ticket.log()?;
    handle.attach(Target::Group(pid));
    let (status, failed) = std::thread::scope(|scope| -> Result<_> {
        let listener = scope.spawn(move || {
            let mut failed = None;
            for line in BufReader::new(output).split(b'\n').map_while(std::io::Result::ok) {
                match serde_json::from_slice(&line) {
                    Ok(Report::Failed { exit_code, message }) => failed = Some((exit_code, message)),
                    Ok(said) => report(said),
                    // Not ours: something the stage printed. A log that cannot be written is no reason to fail.
                    Err(_) => drop(log.write_all(&[&line[..], b"\n"].concat())),
                }
            }
            failed
        });
        // Not reaped yet: its number, and so its group's, is still its own when the rest of the group is ended.
        while let Err(error) = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            if error != rustix::io::Errno::INTR {
                return Err(std::io::Error::from(error)).context("cannot wait for a node's process");
            }
        }
        handle.detach();
        let status = child.wait().context("cannot wait for a node's process")?;
        Ok((status, listener.join().expect("the listener does not panic")))
    })?;
    match (status.success(), failed) {
        (true, None) => Ok(()),
        (_, Some((exit_code, message))) => Err(Failure::new(kind_of_exit(exit_code.into()), message).into()),
        (false, None) => Err(died(status, ticket).into()),
    }
}

/// The failure of a process that ended without a word.
fn died(status: ExitStatus, ticket: &Ticket<'_>) -> Failure {
    if let Some(signal) = status.signal() {
        let failure = environment(format!("its process was ended by signal {signal}"));
        return match signal {
            9 => failure.hint("on Linux this is how a machine that runs out of memory ends a process"),
            _ => failure,
        };
    }
    let code = status.code().unwrap_or(101);
    let log = std::fs::read(ticket.folder().join("log")).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let last = log.lines().rev().find(|line| !line.trim().is_empty()).map(|line| format!("; its last words: {line}")).unwrap_or_default();
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
