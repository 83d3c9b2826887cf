//! What is pulled before a run starts anything: the artefacts of the remote that the run reads or
//! was asked for. The others stay there. Uses nothing of how nodes run.
//!
//! 1. The plan says which nodes the remote has. The objects of those that are targets, or that a
//!    node needs which is made here, are pulled, several at once.
//! 2. One that is refused or does not arrive is made here, so what it needs is pulled too: from 1
//!    on again, until nothing is left to pull.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use crate::digest::{ActionKey, ObjectId};
use crate::entry::Entry;
use crate::error::{Result, no_thread};
use crate::observer::Observer;
use crate::plan::{Plan, State, plan};
use crate::remote_cache::Link;
use crate::request::Request;
use crate::stop::Stop;
use crate::store::Store;
use crate::work::Claim;

/// Objects that are pulled at once; each of them in several parts at once.
const AT_ONCE: usize = 4;

/// Pulls what a run would read of the remote, and makes nothing; returns the plan as it is then.
///
/// # Errors
/// The machine's, or of a node's inputs. What the remote does wrong is a warning.
pub fn pull_for(
    store: &Store,
    request: Request<'_>,
    stop: &Stop,
    observer: &mut dyn Observer,
) -> Result<Plan> {
    let _presence = store.begin()?;
    let first = plan(store, request)?;
    pull_what_is_read(store, request, &first, stop, observer)?;
    plan(store, request)
}

/// Pulls what the run reads, and notes what stays in the remote. `first` is the plan as it is.
pub(super) fn pull_what_is_read(
    store: &Store,
    request: Request<'_>,
    first: &Plan,
    stop: &Stop,
    observer: &mut dyn Observer,
) -> Result<()> {
    let Some(link) = store.remote() else { return Ok(()) };
    let (mut tried, mut latest) = (HashSet::new(), None);
    loop {
        let (read, left) = divide(latest.as_ref().unwrap_or(first), request.targets, &tried);
        let new: Vec<(&str, Entry)> = read
            .into_iter()
            .filter(|(_, key)| tried.insert(*key))
            .filter_map(|(name, key)| Some((name, link.entry(key)?)))
            .collect();
        if new.is_empty() || stop.requested() {
            link.leave(left);
            return Ok(());
        }
        observer.pulling(new.len());
        pull_all(store, link, new, stop, observer)?;
        for warning in link.take_warnings() {
            observer.warning(None, &warning);
        }
        latest = Some(plan(store, request)?);
    }
}

/// Of the nodes that the remote has: those whose objects the run reads, and the keys and objects of
/// the others. What was tried and is not here counts as made here.
fn divide<'p>(
    plan: &'p Plan,
    targets: &[String],
    tried: &HashSet<ActionKey>,
) -> (Vec<(&'p str, ActionKey)>, HashMap<ActionKey, ObjectId>) {
    let targets: HashSet<&str> = targets.iter().map(String::as_str).collect();
    let mut read: HashSet<&str> = HashSet::new();
    for step in &plan.steps {
        let is_here = match step.state {
            State::Cached { .. } => true,
            State::Remote { key, .. } => !tried.contains(&key),
            State::Run { .. } | State::Unknown { .. } => false,
        };
        if !is_here {
            read.extend(step.needs.iter().map(String::as_str));
        }
    }
    let (mut pulled, mut left) = (Vec::new(), HashMap::new());
    for step in &plan.steps {
        let State::Remote { key, object } = step.state else { continue };
        let name = step.name.as_str();
        match targets.is_empty() || targets.contains(name) || read.contains(name) {
            true => pulled.push((name, key)),
            false => drop(left.insert(key, object)),
        }
    }
    // Nodes of one key are one artefact.
    let keys: HashSet<ActionKey> = pulled.iter().map(|(_, key)| *key).collect();
    left.retain(|key, _| !keys.contains(key));
    (pulled, left)
}

/// Pulls objects, several at once. Those that do not arrive are warnings of the link.
fn pull_all(
    store: &Store,
    link: &Link,
    wanted: Vec<(&str, Entry)>,
    stop: &Stop,
    observer: &mut dyn Observer,
) -> Result<()> {
    let count = wanted.len();
    let wanted = Mutex::new(wanted.into_iter());
    let next = || wanted.lock().expect("nothing panics while it takes the next").next();
    let (sender, pulled) = channel();
    let work = |sender: Sender<_>| {
        while let Some((name, entry)) = next().filter(|_| !stop.requested()) {
            // The receiver listens until all senders are gone.
            let _ = sender.send(pull(store, link, &entry, stop).map(|bytes| (name, bytes)));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..AT_ONCE.min(count) {
            let sender = sender.clone();
            // Where no thread can be started, the others pull.
            let _ = std::thread::Builder::new().spawn_scoped(scope, || work(sender));
        }
        let last = std::thread::Builder::new().spawn_scoped(scope, || work(sender));
        last.map_err(|error| no_thread("a thread", error))?;
        for result in pulled {
            if let (name, Some(bytes)) = result? {
                observer.pulled(name, bytes);
            }
        }
        Ok(())
    })
}

/// Pulls the object of an entry into the store; the bytes that came, or `None` if it is here
/// already, another run makes it, or it did not arrive.
///
/// # Errors
/// The machine's.
fn pull(store: &Store, link: &Link, entry: &Entry, stop: &Stop) -> Result<Option<u64>> {
    let Claim::Miss(ticket) = store.claim(entry.key, &|_| false)? else { return Ok(None) };
    let pulled = link.pull(entry, &ticket.out(), &|| stop.requested());
    if pulled.is_some() {
        ticket.publish_pulled(entry.clone())?;
    }
    Ok(pulled)
}
