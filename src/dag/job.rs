//! One node being made, on a separate thread: run, what it read checked once more, published.
//! Uses nothing of other nodes.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::task::Poll;
use std::thread::Scope;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cancellation::{Cancel, Cancellation};
use crate::clock::now;
use crate::context::Report;
use crate::digest::{ActionKey, ObjectId};
use crate::entry::Entry;
use crate::error::{Context as _, Failure, Kind, Result, kind_of};
use crate::executor::Executor;
use crate::node::{Node, PATH_TAG, Reference, Reporter, not_here, references, replace_references};
use crate::object_store::Integrity;
use crate::order::Order;
use crate::outcome::NodeFailure;
use crate::prepared::Prepared;
use crate::reports::Tail;
use crate::store::Store;
use crate::work::Ticket;

/// Messages of the threads of a run, about the nodes at these positions.
pub(super) enum Message {
    Said(usize, Report),
    /// The key of a node, and the object that there is for it.
    LookedUp(usize, std::result::Result<(ActionKey, Option<ObjectId>), NodeFailure>),
    Ended(usize, std::result::Result<Made, NodeFailure>),
    /// What a node made was sent to the remote, this many bytes, or need not be.
    Pushed(usize, Option<u64>),
}

/// What has become of a job that went well.
pub(super) struct Made {
    pub(super) object: ObjectId,
    /// If the object came from the remote: the bytes that came.
    pub(super) pulled: Option<u64>,
}

/// One node to be made.
pub(super) struct Job<'a, E> {
    pub(super) store: &'a Store,
    pub(super) executor: &'a E,
    pub(super) node: &'a Node,
    pub(super) needs: BTreeMap<&'a str, ObjectId>,
    pub(super) prepared: Prepared,
    pub(super) device: &'a Value,
    pub(super) threads: usize,
    pub(super) at: usize,
    /// Where what it printed is kept, once it is made.
    pub(super) log: PathBuf,
}

impl<'a, E: Executor> Job<'a, E> {
    /// Makes it, or pulls it, if the remote has it by now. Reports go to `said`.
    pub(super) fn make<'scope>(
        self,
        scope: &'scope Scope<'scope, '_>,
        ticket: Ticket<'_>,
        cancellation: &Cancellation,
        said: Sender<Message>,
    ) -> Result<Made>
    where
        'a: 'scope,
    {
        let start = Instant::now();
        let Job { store, node, at, .. } = self;
        if let Some(remote) = store.remote()
            && let Some(entry) = remote.entry_now(self.prepared.key)
            && let Some(bytes) = remote.pull(&entry, &ticket.out(), &|| cancellation.is_requested())
        {
            return Ok(Made { object: ticket.publish_pulled(entry)?, pulled: Some(bytes) });
        }
        let config = config_with_paths(node, |name| store.get_object(self.needs[name]))?;
        let events = node
            .report_to
            .contains(&Reporter::Tensorboard)
            .then(|| store.events_path(&node.name, self.prepared.key));
        let (key, device) = (self.prepared.key, self.device.clone());
        let order = Order {
            key,
            stage: node.stage.clone(),
            stage_version: node.version,
            numerics: self.prepared.preimage.numerics.clone(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            queued: false,
            config,
            device,
            threads: self.threads,
            events,
        };
        // The scheduler listens until every node has ended.
        let say = |report| drop(said.send(Message::Said(at, report)));
        execute(self.executor, scope, &ticket, (node, &order), cancellation, &say)?;
        self.check_what_was_read()?;
        let earlier = store.entry(ticket.key())?.map(|entry| entry.object);
        let sources = references(&node.config)?
            .into_iter()
            .map(|(path, reference)| (path, reference.to_string()))
            .collect();
        let entry = |key, object| Entry {
            key,
            object,
            node: node.name.clone(),
            output: node.output.clone(),
            finished_at: (now() / 1_000_000_000) as u64,
            place: store.next_place(),
            seconds: start.elapsed().as_secs_f64(),
            sources,
            preimage: self.prepared.preimage,
            renewed_from: None,
            accepted: None,
        };
        let object = ticket.publish(&self.log, entry)?;
        if let Some(earlier) = earlier.filter(|earlier| *earlier != object) {
            let message = format!(
                "made {} where it made {} before, of the same key: the stage is not deterministic",
                object.short(),
                earlier.short()
            );
            let _ = said.send(Message::Said(at, Report::Warning { message }));
        }
        Ok(Made { object, pulled: None })
    }

    /// What was read must still be what the key says, or the result belongs to neither content.
    fn check_what_was_read(&self) -> Result<()> {
        for snapshot in self.prepared.snapshots.iter() {
            if !snapshot.still_holds().unwrap_or(false) {
                let message = format!(
                    "{} changed while the stage ran, so its result is not kept",
                    snapshot.path.display()
                );
                return Err(Failure::new(Kind::Stage, message).hint("run again").into());
            }
        }
        for (name, object) in &self.needs {
            if self.store.recheck_object(*object)? != Integrity::Sound {
                let path = self.store.object_path(*object);
                let message = format!(
                    "the artefact of `{name}` in {} changed while the stage ran, so its result is \
                     not kept",
                    path.display()
                );
                return Err(Failure::new(Kind::Stage, message)
                    .hint("run again: it will be made again")
                    .into());
            }
        }
        Ok(())
    }
}

/// Runs the job of an attempt to its end. Progress and warnings go to `say`.
///
/// # Errors
/// The failure of the job: what it reported, else what the executor says.
fn execute<'scope, E: Executor>(
    executor: &'scope E,
    scope: &'scope Scope<'scope, '_>,
    ticket: &Ticket<'_>,
    (node, order): (&Node, &Order),
    cancellation: &Cancellation,
    say: &dyn Fn(Report),
) -> Result<()> {
    let warn = |message| say(Report::Warning { message });
    let (mut tail, mut failed) = (Tail::of(ticket.folder()), None);
    let mut job = executor.submit(scope, ticket, node, order)?;
    let (start, mut cancelled): (_, Option<Cancel>) = (Instant::now(), None);
    let mut began = false;
    let ended = loop {
        let polled = executor.poll(&mut job, &warn);
        // After the poll, so that nothing is missed of a job that has ended.
        for report in tail.read() {
            match report {
                Report::Failed { exit_code, message } => {
                    failed = Some((Kind::of_exit_code(exit_code.into()), message));
                }
                Report::Began => {
                    failed = None;
                    if std::mem::replace(&mut began, true) {
                        warn("the queue runs its job again; it goes on from its checkpoint".into());
                    }
                }
                report => say(report),
            }
        }
        if let Poll::Ready(ended) = polled {
            break ended;
        }
        let requested = cancellation.wait(cancelled, pause(start.elapsed()));
        if let Some(cancel) = requested
            && requested > cancelled
        {
            executor.cancel(&mut job, cancel);
            cancelled = requested;
        }
    };
    match (ended, failed) {
        (Ok(()), _) => Ok(()),
        // It has stopped because it was asked to; the executor knows why.
        (Err(error), Some((Kind::Interrupted, _))) if kind_of(&error) != Kind::Interrupted => {
            Err(error)
        }
        (Err(_), Some((kind, message))) => Err(Failure::new(kind, message).into()),
        (Err(error), None) => Err(error),
    }
}

/// How long to wait until a job is polled again: a small part of the time that it has run, so that
/// a short job is not held up and a long one costs nothing.
fn pause(elapsed: Duration) -> Duration {
    (elapsed / 16).clamp(Duration::from_micros(100), Duration::from_millis(50))
}

/// The config for the stage itself: references and inputs as absolute paths.
fn config_with_paths(node: &Node, folder: impl Fn(&str) -> Result<PathBuf>) -> Result<Value> {
    replace_references(&node.config, &mut |_, reference| {
        let path = match reference {
            Reference::Stage(name) => folder(name)?,
            Reference::Input(path) => std::path::absolute(path)
                .with_context(|| format!("cannot find {}", path.display()))?,
            Reference::Fetch(name) => return Err(not_here(name)),
        };
        Ok(json!({ PATH_TAG: path }))
    })
}

/// What `work` returns; a panic is an error, so that the scheduler does not wait for ever.
pub(super) fn contained_bug<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Failure::new(Kind::Bug, "a bug: the engine panicked").into()))
}

/// The message of a node that its timeout has ended.
pub(super) fn out_of_time(timeout: f64) -> String {
    format!(
        "took longer than its `timeout` of {timeout} s, and was ended\n  hint: raise `timeout`; a \
         run goes on from the last checkpoint"
    )
}
