//! A node's own process: reads its order, runs the stage, reports. Uses nothing of graphs and
//! stores.
//!
//! 1. The process is stopped by SIGTERM or SIGINT, or by the end of its standard input, which
//!    its runner holds open as long as it lives. Left behind like that, it has [`ORPHAN_GRACE`] to
//!    write a checkpoint. The job of a cluster's queue has no such input: see [`crate::cluster`].
//! 2. Programs that a stage has started do not outlive it, whatever process group or session they
//!    are in.
//! 3. What cannot be printed, since the log's disk is full, is not printed; the stage goes on.

use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::cluster::attend;
use crate::context::{Context, Report};
use crate::dispatch::Dispatch;
use crate::error::{Context as _, Failure, Kind, Result, caught, environment, kind_of, no_thread};
use crate::order::{ORDER, Order};
use crate::processes;
use crate::reports::ReportWriter;
use crate::tree::start_threads;
use crate::work::{LOG, sign};

/// How long a process goes on after its runner has died.
pub const ORPHAN_GRACE: Duration = Duration::from_secs(10);

/// Where the last panic happened and what it said, for the report.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Runs the order in the folder of an attempt and returns the process's exit code. For `posttrain
/// exec <folder>`, which must do nothing else: standard input belongs to the runner. The log takes
/// standard output and standard error; reports go to a file of the folder.
pub fn exec(work: &Path, dispatch: &dyn Dispatch) -> u8 {
    std::panic::set_hook(Box::new(|panic| {
        print(&format!("{panic}\n{}", std::backtrace::Backtrace::capture()));
        *PANIC.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(panic.to_string());
    }));
    // Opened first, to report a failure of what follows.
    let mut reports = ReportWriter::open(work);
    let mut attempt = || -> Result<()> {
        processes::adopt_orphans();
        let bytes = crate::fs::read(&work.join(ORDER))?;
        let order: Order =
            serde_json::from_slice(&bytes).context("the order cannot be understood")?;
        match order.queued {
            true => {
                if let Ok(reports) = &mut reports {
                    reports.last(&Report::Began);
                }
                attend::begin(work)?;
            }
            false => sign(work)?,
        }
        start_threads()?;
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            signal_hook::flag::register(signal, stop.clone())
                .context("cannot listen to signals")?;
        }
        let (heard, folder) = (stop.clone(), work.to_owned());
        let is_queued = order.queued;
        let attend = move || match is_queued {
            true => attend::attend(&folder),
            false => outlive_runner(&heard),
        };
        std::thread::Builder::new()
            .name("runner".into())
            .spawn(attend)
            .map_err(|error| no_thread("a thread", error))?;
        if order.queued {
            verify(&order, dispatch)?;
        }
        perform(work, &order, dispatch, stop)?;
        if order.queued {
            attend::finish(work)?;
        }
        Ok(())
    };
    let ended = attempt();
    let mut report = |report: &Report| {
        if let Ok(reports) = &mut reports {
            reports.last(report);
        }
    };
    let left = processes::end_descendants();
    if !left.is_empty() {
        report(&Report::Warning { message: processes::left_running(&left) });
    }
    let Err(error) = ended else { return 0 };
    let (kind, message) = (kind_of(&error), format!("{error:#}"));
    // A backtrace needs hundreds of megabytes for its symbols, which a process may not have, and
    // says nothing of a fault that is not ours.
    print(&if kind == Kind::Bug { format!("{error:?}") } else { message.clone() });
    report(&Report::Failed { exit_code: kind.exit_code(), message });
    kind.exit_code()
}

/// Sees to it that the order is for this program on this host.
fn verify(order: &Order, dispatch: &dyn Dispatch) -> Result<()> {
    let own = env!("CARGO_PKG_VERSION");
    if order.program != own {
        let message = format!(
            "the program on this host has the version {own}, the one that gave the order {}",
            order.program
        );
        let hint = "install one version on all hosts, or name it under `program` in the file of \
            the executor";
        return Err(environment(message).hint(hint).into());
    }
    dispatch.verify(order)
}

/// Prints a line into the log.
fn print(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Runs an order here and now; a panic becomes a bug's error.
pub(super) fn perform(
    work: &Path,
    order: &Order,
    dispatch: &dyn Dispatch,
    stop: Arc<AtomicBool>,
) -> Result<()> {
    // The folder of an attempt is `work/<key>/<number>` of the store.
    let kept = work.ancestors().nth(3).unwrap_or(work).join("kept");
    let reports = Box::new(ReportWriter::open(work)?);
    let context = Context::new(work.join("out"), work.join("checkpoints"), reports, stop);
    let mut context = context.keeping(kept).printing_to(work.join(LOG));
    if let Some(folder) = &order.events {
        context.write_events(folder);
    }
    match catch_unwind(AssertUnwindSafe(|| {
        caught(|| dispatch.execute(&order.stage, &order.device, order.config.clone(), &context))
            .flatten()
    })) {
        Ok(result) => result,
        Err(payload) => {
            let said = payload
                .downcast_ref::<&str>()
                .map(|text| text.to_string())
                .or_else(|| payload.downcast_ref::<String>().cloned());
            let noted = PANIC.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
            let message = noted.or(said).unwrap_or_else(|| "a panic without words".into());
            Err(Failure::new(Kind::Bug, format!("a bug: {message}")).into())
        }
    }
}

/// Waits until the runner is gone, asks the stage to stop, and ends the process if it does not.
fn outlive_runner(stop: &AtomicBool) {
    let mut byte = [0];
    let mut input = std::io::stdin().lock();
    loop {
        match input.read(&mut byte) {
            Ok(0) => break,
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => break,
            _ => {}
        }
    }
    stop.store(true, Ordering::SeqCst);
    std::thread::sleep(ORPHAN_GRACE);
    processes::end_descendants();
    std::process::exit(Kind::Interrupted.exit_code().into());
}
