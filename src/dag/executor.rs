//! The interface to what runs nodes: submit a job, ask for its state, cancel it. Uses nothing of
//! keys and graphs.
//!
//! The job of an attempt reads its order and writes into the folder of the attempt
//! ([`Ticket::folder`]): the artefact into `out/`, checkpoints into `checkpoints/`, reports into
//! the file of [`crate::reports`]. The engine reads the reports from that file, so an executor
//! transports none, and a job may run on another host that shares the folder.

use std::path::Path;
use std::task::Poll;
use std::thread::Scope;

use crate::cancellation::Cancel;
use crate::error::Result;
use crate::node::Node;
use crate::order::Order;
use crate::work::Ticket;

/// Something that runs the jobs of nodes: processes or threads of this host, or the queue of a
/// cluster.
pub trait Executor: Sync {
    /// A job that was submitted.
    type Job;

    /// Whether the folder is of an attempt whose job this executor can go on with, though the run
    /// that has submitted it is gone. Then [`Executor::submit`] is given that attempt.
    fn adopts(&self, attempt: &Path) -> bool {
        let _ = attempt;
        false
    }

    /// Starts the job of an attempt and returns without waiting for it. Threads that it needs are
    /// started in `scope`, which ends with the run. `node` says what the job needs.
    ///
    /// # Errors
    /// The job cannot be started.
    fn submit<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        attempt: &Ticket<'_>,
        node: &Node,
        order: &Order,
    ) -> Result<Self::Job>;

    /// The state of a job, without waiting: pending, or ready with its end. Once it is ready, the
    /// job writes nothing more, and it is not polled again. `warn` receives what the user should
    /// know.
    ///
    /// An error is the failure of the job. A failure that the job itself has reported is used
    /// instead of it.
    fn poll(&self, job: &mut Self::Job, warn: &dyn Fn(String)) -> Poll<Result<()>>;

    /// Asks a job to end, and returns without waiting. A job that has ended is left alone.
    fn cancel(&self, job: &mut Self::Job, cancel: Cancel);
}
