//! The request to stop a running node, shared by the scheduler and the thread that makes the node.
//! Uses nothing of how a node is stopped.

use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// How a job is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cancel {
    /// Write a checkpoint and end.
    Stop,
    /// End now.
    Kill,
}

/// Whether a node is to end, and how.
#[derive(Default)]
pub(super) struct Cancellation {
    requested: Mutex<Option<Cancel>>,
    changed: Condvar,
}

impl Cancellation {
    /// Requests the end of the node. A request that is weaker than an earlier one changes nothing.
    pub(super) fn request(&self, cancel: Cancel) {
        let mut requested = self.requested.lock().expect("nothing panics while it holds the lock");
        if *requested < Some(cancel) {
            *requested = Some(cancel);
            self.changed.notify_all();
        }
    }

    /// Whether the end was requested.
    pub(super) fn is_requested(&self) -> bool {
        self.requested.lock().expect("nothing panics while it holds the lock").is_some()
    }

    /// Waits until something other than `known` is requested, at most for `timeout`; returns what
    /// is requested then.
    pub(super) fn wait(&self, known: Option<Cancel>, timeout: Duration) -> Option<Cancel> {
        let requested = self.requested.lock().expect("nothing panics while it holds the lock");
        let (requested, _) = self
            .changed
            .wait_timeout_while(requested, timeout, |requested| *requested == known)
            .expect("nothing panics while it holds the lock");
        *requested
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_ends_a_wait_and_is_only_replaced_by_a_stronger_one() {
        let cancellation = Cancellation::default();
        let short = Duration::from_millis(1);
        assert_eq!(cancellation.wait(None, short), None);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| cancellation.wait(None, Duration::from_secs(600)));
            cancellation.request(Cancel::Stop);
            assert_eq!(waits.join().expect("no panic"), Some(Cancel::Stop));
        });
        assert_eq!(cancellation.wait(Some(Cancel::Stop), short), Some(Cancel::Stop));
        cancellation.request(Cancel::Kill);
        cancellation.request(Cancel::Stop);
        assert_eq!(cancellation.wait(Some(Cancel::Stop), short), Some(Cancel::Kill));
        assert!(cancellation.is_requested());
    }
}
