//! The executor that runs each node on a thread of this process: for tests and for embedding. A
//! panic of a stage fails its node; what ends the process ends the run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::task::Poll;
use std::thread::Scope;

use crate::cancellation::Cancel;
use crate::dispatch::Dispatch;
use crate::error::{Failure, Kind, Result, no_thread};
use crate::exec::perform;
use crate::executor::Executor;
use crate::node::Node;
use crate::order::Order;
use crate::work::Ticket;

/// Runs the stages of a program on threads of this process.
pub struct InProcessExecutor<'a>(pub &'a dyn Dispatch);

/// A node on a thread.
pub struct ThreadJob {
    stop: Arc<AtomicBool>,
    end: Receiver<Result<()>>,
}

impl Executor for InProcessExecutor<'_> {
    type Job = ThreadJob;

    fn submit<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        attempt: &Ticket<'_>,
        _: &Node,
        order: &Order,
    ) -> Result<ThreadJob> {
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, end) = channel();
        let (folder, order, requested) = (attempt.folder().to_owned(), order.clone(), stop.clone());
        let work = move || {
            // There is no receiver if the run itself has failed.
            let _ = sender.send(perform(&folder, &order, self.0, requested));
        };
        std::thread::Builder::new()
            .spawn_scoped(scope, work)
            .map_err(|error| no_thread("a thread", error))?;
        Ok(ThreadJob { stop, end })
    }

    fn poll(&self, job: &mut ThreadJob, _: &dyn Fn(String)) -> Poll<Result<()>> {
        match job.end.try_recv() {
            Ok(end) => Poll::Ready(end),
            Err(TryRecvError::Empty) => Poll::Pending,
            Err(TryRecvError::Disconnected) => {
                let bug = Failure::new(Kind::Bug, "a bug: the thread of a node panicked");
                Poll::Ready(Err(bug.into()))
            }
        }
    }

    /// A thread cannot be killed: both requests ask the stage to stop.
    fn cancel(&self, job: &mut ThreadJob, _: Cancel) {
        job.stop.store(true, Ordering::SeqCst);
    }
}
