//! The scheduler: which node is looked at, started, waited for, skipped, and when. Uses nothing of
//! how a node runs.
//!
//! 1. Each node has one state (`NodeState` of `states`), which says what it waits for.
//! 2. Ready nodes are looked up at once, whatever is running: a hit needs no place. A thread does
//!    that, one node at a time, since an object may have to be read.
//! 3. Others start in the order of the plan, within `jobs` and the threads there are. A node that
//!    wants more threads than there are gets all there are, so that it can start once nothing else
//!    runs.
//! 4. A key that is being made in this run already is waited for; one that another run is making is
//!    asked for again every so often.
//! 5. A failure skips what depends on it. Without `keep_going` nothing else starts; what runs may
//!    finish.
//! 6. A wish to stop is passed on to what runs. What finishes all the same is kept.
//! 7. A node that has GPUs alone starts when they are free; a run has one, unless more are given.
//! 8. Estimates of memory of the nodes that run at once add up to no more than there is; a node
//!    that needs more runs alone.
//! 9. A gate, where there is one, is closed until the nodes that are made first have ended; then
//!    its check opens it, or ends the run.
//! 10. A node that exceeds its timeout is asked to stop, and killed if it does not.
//! 11. What is made is sent to the remote in the background; the run ends when all is sent.
//! 12. A node that fails is put back into the queue as often as it says; then nothing has failed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::Scope;
use std::time::{Duration, Instant};

use crate::cancellation::{Cancel, Cancellation};
use crate::context::Report;
use crate::digest::{ActionKey, ObjectId};
use crate::error::{Error, Kind, Result, no_thread};
use crate::executor::Executor;
use crate::job::{Job, Made, Message, contained_bug, out_of_time};
use crate::logs::kept_log;
use crate::node::{Node, Retry};
use crate::observer::Observer;
use crate::options::{Gate, Options};
use crate::outcome::{NodeFailure, NodeOutcome};
use crate::placement::{has_room, place};
use crate::prepared::{Prepared, look_up};
use crate::pushes::Pushes;
use crate::record::{Ending, Journal};
use crate::request::Request;
use crate::states::{Held, NodeState, Phase, Running, States};
use crate::store::Store;
use crate::topology::Topology;
use crate::work::{Claim, LOG, Ticket};

/// How often signals and other runs are looked at.
const TICK: Duration = Duration::from_millis(50);
/// How long a node that was asked to stop may take to write its checkpoint.
const GRACE: Duration = Duration::from_secs(30);

/// How long one may take that was asked because its time is up: it may hang.
const LATE: Duration = Duration::from_secs(10);

/// A node that is to be looked up.
struct Wanted<'a> {
    at: usize,
    node: &'a Node,
    needs: BTreeMap<&'a str, ObjectId>,
}

/// A gate that has not opened.
struct Closed<'a> {
    gate: Gate<'a>,
    /// For each position, whether it is made first.
    first: Vec<bool>,
    /// How many of these have not ended.
    left: usize,
}

pub(super) struct Scheduler<'a, E> {
    store: &'a Store,
    request: Request<'a>,
    options: &'a Options,
    executor: &'a E,
    observer: &'a mut dyn Observer,
    journal: Journal,
    topology: Topology,
    states: States,
    /// Whether a node has failed.
    failed: bool,
    /// How often nodes have failed and were put back into the queue.
    tries: HashMap<usize, u32>,
    stopping: Option<Instant>,
    /// What is sent to the remote, if there is one.
    pushes: Option<Pushes>,
    closed: Option<Closed<'a>>,
    /// Why the gate ended the run.
    refusal: Option<Error>,
}

impl<'a, E: Executor> Scheduler<'a, E> {
    pub(super) fn new(
        store: &'a Store,
        request: Request<'a>,
        options: &'a Options,
        executor: &'a E,
        observer: &'a mut dyn Observer,
        journal: Journal,
    ) -> Result<Self> {
        let topology = Topology::of(request)?;
        Ok(Scheduler {
            store,
            request,
            options,
            executor,
            observer,
            journal,
            states: States::new(topology.needs.iter().map(Vec::len)),
            topology,
            failed: false,
            tries: HashMap::new(),
            stopping: None,
            pushes: None,
            closed: None,
            refusal: None,
        })
    }

    /// The same, behind a gate.
    pub(super) fn behind(mut self, gate: Option<Gate<'a>>) -> Self {
        self.closed = gate.map(|gate| {
            let mut first = vec![false; self.topology.order.len()];
            for at in 0..first.len() {
                let needs = &self.topology.needs[at];
                first[at] = (gate.first)(self.node(at)) && needs.iter().all(|need| first[*need]);
            }
            let left = first.iter().filter(|first| **first).count();
            Closed { gate, first, left }
        });
        self
    }

    /// Whether the gate lets a node start.
    fn passes(&mut self, at: usize) -> bool {
        if self.closed.as_ref().is_some_and(|closed| closed.first[at] || closed.left > 0) {
            return self.closed.as_ref().is_some_and(|closed| closed.first[at]);
        }
        let Some(Closed { gate, .. }) = self.closed.take() else { return true };
        let all = 0..self.topology.order.len();
        let left = all.clone().filter(|at| !self.states.has_ended(*at));
        let left: Vec<&Node> = left.map(|at| self.node(at)).collect();
        let made: HashMap<&str, ObjectId> = self.made_among(all).collect();
        self.refusal = (gate.check)(&left, &made).err();
        self.refusal.is_none()
    }

    /// Runs to the end. Returns the outcomes in the order of the plan, and whether it was stopped
    /// before all was done.
    pub(super) fn run(mut self, start: Instant) -> Result<(Vec<NodeOutcome>, bool)> {
        let (sender, receiver) = channel();
        std::thread::scope(|scope| -> Result<()> {
            // Its thread ends when this end of it is dropped.
            let lookups = self.start_lookups(scope, &sender)?;
            self.pushes = Pushes::start(scope, self.store, &self.options.stop, &sender)?;
            let mut told = false;
            loop {
                self.heed_stop();
                self.heed_timeouts();
                self.go_on(scope, &sender, &lookups);
                let count = |phase| self.states.count(phase);
                let open = count(Phase::Ready) + count(Phase::Queued) + count(Phase::Busy);
                let active = count(Phase::Running) + count(Phase::LookingUp);
                if active == 0 && (self.held() || open == 0) {
                    let left = self.pushes.as_ref().map_or(0, Pushes::open);
                    if left == 0 {
                        // Its threads end.
                        self.pushes = None;
                        return Ok(());
                    }
                    if !std::mem::replace(&mut told, true) {
                        self.observer.pushing(left);
                    }
                }
                self.listen(&receiver);
                self.pass_on_warnings();
            }
        })?;
        self.pass_on_warnings();
        for at in 0..self.topology.order.len() {
            if !self.states.has_ended(at) {
                let outcome = NodeOutcome { ending: Ending::Skipped, ..self.blank(at) };
                self.end(at, outcome);
            }
        }
        self.journal.finish(start.elapsed().as_secs_f64())?;
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        let outcomes = self.states.into_outcomes();
        let made = |node: &NodeOutcome| matches!(node.ending, Ending::Ran | Ending::Cached);
        let interrupted = self.stopping.is_some() && !outcomes.iter().all(made);
        Ok((outcomes, interrupted))
    }

    /// Starts the thread that looks nodes up: a large object takes minutes to verify, in which the
    /// scheduler must see requests to stop, timeouts and reports.
    fn start_lookups<'scope>(
        &self,
        scope: &'scope Scope<'scope, '_>,
        sender: &Sender<Message>,
    ) -> Result<Sender<Wanted<'a>>>
    where
        'a: 'scope,
    {
        let (lookups, wanted) = channel::<Wanted<'a>>();
        let (store, numerics, sender) = (self.store, self.request.numerics, sender.clone());
        let work = move || {
            for Wanted { at, node, needs } in wanted {
                let look = || look_up(store, numerics, node, &needs);
                let found = contained_bug(look).map_err(|error| NodeFailure::of(&error));
                // The scheduler listens until the lookup has ended.
                let _ = sender.send(Message::LookedUp(at, found));
            }
        };
        std::thread::Builder::new()
            .name("lookups".into())
            .spawn_scoped(scope, work)
            .map_err(|error| no_thread("a thread", error))?;
        Ok(lookups)
    }

    /// True if nothing may start any more.
    fn held(&self) -> bool {
        self.stopping.is_some()
            || self.refusal.is_some()
            || (self.failed && !self.options.keep_going)
    }

    fn pass_on_warnings(&mut self) {
        for warning in self.store.remote().map(|remote| remote.take_warnings()).unwrap_or_default()
        {
            self.observer.warning(None, &warning);
        }
    }

    fn node(&self, at: usize) -> &'a Node {
        &self.request.graph.nodes[self.topology.order[at]]
    }

    fn heed_stop(&mut self) {
        if !self.options.stop.requested() {
            return;
        }
        let since = *self.stopping.get_or_insert_with(Instant::now);
        let cancel = if self.options.stop.urgent() || since.elapsed() > GRACE {
            Cancel::Kill
        } else {
            Cancel::Stop
        };
        self.states.running().for_each(|(_, running)| running.cancellation.request(cancel));
    }

    fn heed_timeouts(&self) {
        if self.options.queued {
            return;
        }
        for (at, running) in self.states.running() {
            let over = self.node(at).resources.time.and_then(|timeout| {
                running.start.elapsed().checked_sub(Duration::from_secs_f64(timeout))
            });
            if let Some(over) = over {
                running.cancellation.request(if over > LATE { Cancel::Kill } else { Cancel::Stop });
            }
        }
    }

    fn listen(&mut self, receiver: &Receiver<Message>) {
        match receiver.recv_timeout(TICK) {
            Ok(message) => self.hear(message),
            Err(RecvTimeoutError::Timeout) => return,
            Err(RecvTimeoutError::Disconnected) => unreachable!("the scheduler holds a sender"),
        }
        while let Ok(message) = receiver.try_recv() {
            self.hear(message);
        }
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Said(at, Report::Warning { message }) => {
                self.observer.warning(Some(&self.node(at).name), &message)
            }
            Message::Said(at, report) => self.observer.progress(&self.node(at).name, &report),
            Message::LookedUp(at, found) => self.looked_up(at, found),
            Message::Ended(at, result) => self.ended(at, result),
            Message::Pushed(at, sent) => {
                self.pushes.as_mut().expect("there are some that said so").one_less();
                if let Some(bytes) = sent {
                    self.observer.pushed(&self.node(at).name, bytes);
                }
            }
        }
    }

    /// Has the next node that is ready looked up; if there is none, starts what there is room for.
    fn go_on<'scope>(
        &mut self,
        scope: &'scope Scope<'scope, '_>,
        sender: &Sender<Message>,
        lookups: &Sender<Wanted<'a>>,
    ) where
        'a: 'scope,
    {
        while !self.held() && self.states.count(Phase::LookingUp) == 0 {
            if let Some(at) = self.states.first(Phase::Ready) {
                self.states.set(at, NodeState::LookingUp);
                let wanted = Wanted { at, node: self.node(at), needs: self.needs(at) };
                lookups.send(wanted).expect("the thread of lookups receives as long as the run");
                return;
            }
            let mut next = 0;
            while let Some(at) = self.states.waiting_from(next) {
                if self.held()
                    || self.states.count(Phase::Ready) > 0
                    || !has_room(&self.states, self.options)
                {
                    break;
                }
                next = at + 1;
                if self.states.again(at).is_none_or(|again| again <= Instant::now())
                    && let Some(held) = place(self.node(at), &self.states, self.options)
                    && self.passes(at)
                {
                    self.start(at, held, scope, sender);
                }
            }
            if self.states.count(Phase::Ready) == 0 {
                return;
            }
        }
    }

    /// The artefacts that a node needs, by the name of their nodes.
    fn needs(&self, at: usize) -> BTreeMap<&'a str, ObjectId> {
        self.made_among(self.topology.needs[at].iter().copied()).collect()
    }

    /// Of some positions, the nodes that were made, and what they made.
    fn made_among(
        &self,
        positions: impl Iterator<Item = usize>,
    ) -> impl Iterator<Item = (&'a str, ObjectId)> {
        positions.filter_map(|at| Some((self.node(at).name.as_str(), self.states.object(at)?)))
    }

    /// A node was looked up: ends it if it is made already, else puts it into the queue.
    fn looked_up(
        &mut self,
        at: usize,
        found: std::result::Result<(ActionKey, Option<ObjectId>), NodeFailure>,
    ) {
        match found {
            Ok((key, Some(object))) => self.cached(at, key, object),
            Ok(_) => drop(self.states.set(at, NodeState::Queued)),
            Err(failure) => self.failed(at, None, failure),
        }
    }

    fn start<'scope>(
        &mut self,
        at: usize,
        held: Held,
        scope: &'scope Scope<'scope, '_>,
        sender: &Sender<Message>,
    ) where
        'a: 'scope,
    {
        let (node, needs) = (self.node(at), self.needs(at));
        let prepared = match Prepared::of(self.store, self.request.numerics, node, &needs) {
            Ok(prepared) => prepared,
            Err(error) => return self.failed(at, None, NodeFailure::of(&error)),
        };
        let key = prepared.key;
        let leader = self.states.running().find(|(_, running)| running.key == key);
        if let Some((leader, _)) = leader {
            self.states.set(at, NodeState::Following { leader });
            return;
        }
        match self.store.claim(key, &|attempt| self.executor.adopts(attempt)) {
            Ok(Claim::Hit(object)) => self.cached(at, key, object),
            Ok(Claim::Busy) => {
                let before = self.states.set(at, NodeState::Busy { again: Instant::now() + TICK });
                if matches!(before, NodeState::Queued) {
                    self.observer.waiting(&self.node(at).name);
                }
            }
            Ok(Claim::Miss(ticket)) => self.launch(at, prepared, held, ticket, scope, sender),
            Err(error) => self.failed(at, Some(key), NodeFailure::of(&error)),
        }
    }

    fn launch<'scope>(
        &mut self,
        at: usize,
        prepared: Prepared,
        held: Held,
        ticket: Ticket<'a>,
        scope: &'scope Scope<'scope, '_>,
        sender: &Sender<Message>,
    ) where
        'a: 'scope,
    {
        let (node, key, threads) = (self.node(at), prepared.key, held.threads);
        for note in ticket.notes() {
            self.observer.warning(Some(&node.name), note);
        }
        self.observer.started(&node.name, ticket.resumed());
        // As interrupted, until it ends in another way: should this process be killed, the record
        // is true.
        let blank = NodeOutcome { ending: Ending::Interrupted, key: Some(key), ..self.blank(at) };
        let noted = self.journal.note_start(&blank.record());
        self.heed_note(noted);
        let cancellation = Arc::new(Cancellation::default());
        let (store, executor, said) = (self.store, self.executor, sender.clone());
        let needs = self.needs(at);
        let device = &self.options.devices[held.gpus.first().copied().unwrap_or(0)];
        let kept_log = kept_log(self.journal.folder(), &node.name, key);
        let job =
            Job { store, executor, node, needs, prepared, device, threads, at, log: kept_log };
        let (cancelled, sender, log) =
            (cancellation.clone(), sender.clone(), ticket.folder().join(LOG));
        let work = move || {
            let made = contained_bug(|| job.make(scope, ticket, &cancelled, said));
            let made = made.map_err(|error| NodeFailure {
                log: log.exists().then_some(log),
                ..NodeFailure::of(&error)
            });
            // The scheduler listens until every node has ended.
            let _ = sender.send(Message::Ended(at, made));
        };
        // Dropping the work gives the ticket up.
        if let Err(error) = std::thread::Builder::new().spawn_scoped(scope, work) {
            let error = no_thread(&format!("a thread for `{}`", node.name), error);
            return self.failed(at, Some(key), NodeFailure::of(&error.into()));
        }
        let running = Running { cancellation, key, held, start: Instant::now() };
        self.states.set(at, NodeState::Running(running));
    }

    fn ended(&mut self, at: usize, result: std::result::Result<Made, NodeFailure>) {
        let running = self.states.running().find(|(running, _)| *running == at);
        let (_, running) = running.expect("only a running node can end");
        let (key, seconds) = (running.key, running.start.elapsed().as_secs_f64());
        // Where the run goes on, nothing but its timeout asks a node to stop.
        let told = result.as_ref().is_err_and(|failure| failure.is_late);
        let is_late = (running.cancellation.is_requested() || told) && self.stopping.is_none();
        let result = match (result, self.node(at).resources.time) {
            (Err(failure), Some(timeout)) if is_late => {
                let failure =
                    NodeFailure { kind: Kind::Stage, message: out_of_time(timeout), ..failure };
                Err(failure)
            }
            (result, _) => result,
        };
        let blank = NodeOutcome { key: Some(key), seconds, ..self.blank(at) };
        let followers = self.states.followers(at);
        match result {
            Ok(Made { object, pulled }) => {
                let ending = if pulled.is_some() { Ending::Cached } else { Ending::Ran };
                match (pulled, &mut self.pushes) {
                    (Some(bytes), _) => self.observer.pulled(&self.node(at).name, bytes),
                    (None, Some(pushes)) => pushes.push(at, key),
                    (None, None) => {}
                }
                self.made(at, NodeOutcome { ending, object: Some(object), ..blank });
                for follower in followers {
                    self.cached(follower, key, object);
                }
            }
            Err(failure) if self.stopping.is_some() && failure.kind != Kind::Bug => {
                self.end(
                    at,
                    NodeOutcome { ending: Ending::Interrupted, failure: Some(failure), ..blank },
                );
            }
            Err(failure) if self.tries_again(at, &failure, is_late) => {}
            Err(failure) => {
                let same = format!("it is the same work as `{}`, which failed", self.node(at).name);
                self.fail(
                    at,
                    NodeOutcome { ending: Ending::Failed, failure: Some(failure.clone()), ..blank },
                );
                for follower in followers {
                    self.failed(
                        follower,
                        Some(key),
                        NodeFailure { message: same.clone(), ..failure.clone() },
                    );
                }
            }
        }
    }

    /// Puts a node that has failed back into the queue, if it is to be tried again.
    fn tries_again(&mut self, at: usize, failure: &NodeFailure, is_late: bool) -> bool {
        let Retry { times, on_environment, on_timeout, on_failure, wait } =
            self.node(at).resources.retry;
        let wanted = match failure.kind {
            Kind::Stage if is_late => on_timeout,
            Kind::Stage | Kind::User => on_failure,
            Kind::Environment => on_environment,
            Kind::Interrupted | Kind::Bug => false,
        };
        let tried = self.tries.entry(at).or_default();
        if !wanted || *tried >= times {
            return false;
        }
        *tried += 1;
        let again = if wait > 0.0 { format!(" in {wait} s") } else { String::new() };
        let message = format!("try {tried} of {} failed, the next begins{again}", times + 1);
        let message = format!("{message}: {}", failure.message);
        self.observer.warning(Some(&self.node(at).name), &message);
        let again = Instant::now() + Duration::from_secs_f64(wait);
        self.states.set(at, NodeState::Busy { again });
        true
    }

    fn cached(&mut self, at: usize, key: ActionKey, object: ObjectId) {
        self.made(
            at,
            NodeOutcome {
                ending: Ending::Cached,
                key: Some(key),
                object: Some(object),
                ..self.blank(at)
            },
        );
    }

    fn failed(&mut self, at: usize, key: Option<ActionKey>, failure: NodeFailure) {
        self.fail(
            at,
            NodeOutcome { ending: Ending::Failed, key, failure: Some(failure), ..self.blank(at) },
        );
    }

    fn made(&mut self, at: usize, outcome: NodeOutcome) {
        assert!(outcome.object.is_some(), "a node that is made has an object");
        self.end(at, outcome);
        for &fed in &self.topology.feeds[at] {
            // One that has ended needs a node that failed.
            if !self.states.has_ended(fed) {
                self.states.one_less_missing(fed);
            }
        }
    }

    fn fail(&mut self, at: usize, outcome: NodeOutcome) {
        self.failed = true;
        self.end(at, outcome);
        let mut open = self.topology.feeds[at].clone();
        while let Some(next) = open.pop() {
            if !self.states.has_ended(next) {
                let because = Some(self.node(at).name.clone());
                self.end(
                    next,
                    NodeOutcome { ending: Ending::Skipped, because, ..self.blank(next) },
                );
                open.extend(&self.topology.feeds[next]);
            }
        }
    }

    fn end(&mut self, at: usize, outcome: NodeOutcome) {
        if let Some(closed) = &mut self.closed
            && closed.first[at]
        {
            closed.left -= 1;
        }
        self.note(&outcome);
        self.observer.finished(&outcome);
        self.states.set(at, NodeState::Ended(outcome));
    }

    fn note(&mut self, outcome: &NodeOutcome) {
        let noted = self.journal.note(&outcome.record());
        self.heed_note(noted);
    }

    fn heed_note(&mut self, noted: Result<()>) {
        if let Err(error) = noted {
            self.observer
                .warning(None, &format!("the record of this run is incomplete: {error:#}"));
        }
    }

    fn blank(&self, at: usize) -> NodeOutcome {
        let node = self.node(at);
        NodeOutcome::skipped(&node.name, &node.stage)
    }
}
