//! The wish to stop, shared by the listener to Ctrl-C and what runs. Uses nothing of what
//! is stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Context, Result, no_thread};

/// How often a stop was asked for: once means "finish what you hold and stop", twice means "now".
/// Clones share the count.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicUsize>);

impl Stop {
    /// Not asked for yet.
    pub fn new() -> Self {
        Stop::default()
    }

    /// A stop that SIGINT and SIGTERM ask for, each time they arrive. Call it once in a process.
    pub fn on_signals() -> Result<Self> {
        let stop = Stop::new();
        let mut signals = signal_hook::iterator::Signals::new([
            signal_hook::consts::SIGINT,
            signal_hook::consts::SIGTERM,
        ])
        .context("cannot listen to SIGINT and SIGTERM")?;
        let heard = stop.clone();
        let listen = move || signals.forever().for_each(|_| heard.request());
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(listen)
            .map_err(|error| no_thread("a thread", error))?;
        Ok(stop)
    }

    /// Asks (again).
    pub fn request(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// True once asked.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }

    /// True once asked twice.
    pub fn urgent(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 1
    }
}
