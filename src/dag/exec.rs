//! A node's own process: reads its order, runs the stage, reports. Knows nothing of graphs and stores.
//!
//! The process is told to stop by SIGTERM or SIGINT, or by the end of its standard input, which its runner holds open as long as it
//! lives. Left behind like that, it has [`ORPHAN_GRACE`] to write a checkpoint.

use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::dag::context::{Context, Report};
use crate::dag::node::Dispatch;
use crate::dag::work::Order;
use crate::error::{Context as _, Failure, Kind, Result, caught, kind_of};

/// How long a process goes on after its runner has died.
pub const ORPHAN_GRACE: Duration = Duration::from_secs(10);

/// Where the last panic happened and what it said, for the report.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Runs the order in a work folder and returns the process's exit code. For `posttrain exec <work folder>`, which must do nothing
/// else: standard output belongs to the reports, standard input to the runner, standard error to the log.
pub fn exec(work: &Path, dispatch: &dyn Dispatch) -> u8 {
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("{panic}\n{}", std::backtrace::Backtrace::capture());
        *PANIC.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(panic.to_string());
    }));
    let attempt = || -> Result<()> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            signal_hook::flag::register(signal, stop.clone()).context("cannot listen to signals")?;
        }
        let heard = stop.clone();
        std::thread::Builder::new().name("runner".into()).spawn(move || outlive_runner(&heard)).context("cannot start a thread")?;
        let bytes = crate::fs::read(&work.join("order.json"))?;
        let order: Order = serde_json::from_slice(&bytes).context("the order cannot be understood")?;
        perform(work, &order, dispatch, Box::new(std::io::stdout()), stop)
    };
    let Err(error) = attempt() else { return 0 };
    let exit_code = kind_of(&error).exit_code();
    eprintln!("{error:?}");
    let mut line = serde_json::to_vec(&Report::Failed { exit_code, message: format!("{error:#}") }).expect("a report is plain data");
    line.push(b'\n');
    // If nobody listens, the exit code still tells.
    let _ = std::io::stdout().write_all(&line).and_then(|()| std::io::stdout().flush());
    exit_code
}

/// Runs an order here and now; a panic becomes a bug's error.
pub(super) fn perform(
    work: &Path,
    order: &Order,
    dispatch: &dyn Dispatch,
    reports: Box<dyn Write + Send>,
    stop: Arc<AtomicBool>,
) -> Result<()> {
    // A work folder lies in `work/` of the store.
    let kept = work.parent().and_then(Path::parent).unwrap_or(work).join("kept");
    let mut context = Context::new(work.join("out"), work.join("checkpoints"), reports, stop).keeping(kept);
    if let Some(folder) = &order.events {
        context.write_events(folder);
    }
    match catch_unwind(AssertUnwindSafe(|| {
        caught(|| dispatch.execute(&order.stage, &order.device, order.config.clone(), &context)).flatten()
    })) {
        Ok(result) => result,
        Err(payload) => {
            let said = payload.downcast_ref::<&str>().map(|text| text.to_string()).or_else(|| payload.downcast_ref::<String>().cloned());
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
    std::process::exit(Kind::Interrupted.exit_code().into());
}
