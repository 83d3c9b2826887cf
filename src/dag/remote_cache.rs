//! The interface to a cache that several hosts share, and what a run knows of it: what it has, what
//! it was refused, whether it still answers. Uses nothing of addresses and transfers.
//!
//! A run never fails because of the remote. What goes wrong there is a warning, once for each
//! cause, and the node is made here.
//!
//! 1. A remote that cannot be reached, or that denies access, is asked no more in this run.
//! 2. An entry or object that is not what it must be is refused; its key counts as absent there.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::digest::{ActionKey, ObjectId};
use crate::entry::Entry;

/// Questions that are asked at once.
const ASKED: usize = 16;

/// Why a remote did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It cannot be reached, or is in trouble itself.
    Away(String),
    /// It does not let this user do that.
    Denied(String),
    /// What it has is not what it must be, or has no signature that is trusted.
    Refused(String),
    /// The fault is of this machine: a full disk, a file that cannot be read.
    Here(String),
    /// The caller wanted it to stop.
    Stopped,
}

/// Whether the caller wants a transfer to stop.
pub type Stopped<'a> = dyn Fn() -> bool + Sync + 'a;

/// A cache on another host. All methods may be called by several threads at once.
pub trait Remote: Send + Sync {
    /// Its address, without secrets.
    fn address(&self) -> &str;

    /// Whether entries and objects may be sent to it.
    fn is_writable(&self) -> bool;

    /// The entry of a key; `None` if there is none. Its signature is checked.
    ///
    /// # Errors
    /// [`Trouble::Refused`] for an entry of another key, or one that may not be trusted.
    fn entry(&self, key: ActionKey) -> Result<Option<Entry>, Trouble>;

    /// Writes the files of an object into the empty folder `out`; returns the bytes that came.
    ///
    /// # Errors
    /// [`Trouble::Refused`] unless the hash of what was written is the object's id.
    fn pull(&self, object: ObjectId, out: &Path, stopped: &Stopped) -> Result<u64, Trouble>;

    /// Sends an object, whose files are in `files`, and then its entry; returns the bytes that were
    /// sent, or `None` if the remote has this entry already.
    ///
    /// # Errors
    /// [`Trouble::Refused`] if the remote has another object of the same key.
    fn push(&self, entry: &Entry, files: &Path, stopped: &Stopped) -> Result<Option<u64>, Trouble>;
}

/// What is known of the remote of a store.
pub struct Link {
    remote: Box<dyn Remote>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// What it answered.
    answers: HashMap<ActionKey, Option<Entry>>,
    /// Keys whose entry or object was refused.
    refused: HashSet<ActionKey>,
    /// Keys whose object nothing in this run reads: it stays there.
    left: HashMap<ActionKey, ObjectId>,
    /// It is asked no more.
    silent: bool,
    /// Nothing is sent any more.
    full: bool,
    /// Warnings that were not taken yet.
    warnings: Vec<String>,
    /// Warnings that were given.
    said: HashSet<String>,
    /// Causes for which something was refused.
    causes: HashSet<String>,
}

impl Link {
    pub(super) fn new(remote: Box<dyn Remote>) -> Self {
        Link { remote, known: Mutex::default() }
    }

    /// The address of the remote, without secrets.
    pub fn address(&self) -> &str {
        self.remote.address()
    }

    /// Whether entries and objects are sent to it.
    pub fn is_writable(&self) -> bool {
        self.remote.is_writable() && !self.known().full
    }

    /// The entry that it has for a key, by its answer if it was asked before.
    pub fn entry(&self, key: ActionKey) -> Option<Entry> {
        let answer = match self.is_open(key) {
            true => self.known().answers.get(&key).cloned(),
            false => Some(None),
        };
        answer.unwrap_or_else(|| self.entry_now(key))
    }

    /// The entry that it has for a key now.
    pub fn entry_now(&self, key: ActionKey) -> Option<Entry> {
        if !self.is_open(key) {
            return None;
        }
        let answer = self.remote.entry(key).and_then(|entry| match entry {
            Some(entry) if entry.key != key || entry.preimage.canonical_key() != Some(key) => {
                Err(Trouble::Refused("it is not of this key".into()))
            }
            entry => Ok(entry),
        });
        let answer = answer.unwrap_or_else(|trouble| {
            self.heed(key, trouble, "its entry");
            None
        });
        self.known().answers.insert(key, answer.clone());
        answer
    }

    /// Asks for the entries of these keys, several at once, so that [`Link::entry`] has answers.
    pub fn ask_all(&self, keys: &[ActionKey]) {
        let next = AtomicUsize::new(0);
        let ask = || {
            while let Some(key) = keys.get(next.fetch_add(1, Ordering::SeqCst)) {
                self.entry(*key);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..ASKED.min(keys.len()) {
                // Where no thread can be started, the others ask.
                let _ = std::thread::Builder::new().spawn_scoped(scope, ask);
            }
            ask();
        });
    }

    /// Pulls the object of an entry into the empty folder `out`; returns the bytes that came, or
    /// `None` if it has to be made here: then the folder is empty again.
    pub(super) fn pull(&self, entry: &Entry, out: &Path, stopped: &Stopped) -> Option<u64> {
        let pulled = self.remote.pull(entry.object, out, stopped);
        pulled
            .inspect_err(|trouble| {
                self.heed(entry.key, trouble.clone(), "its object");
                let cleared =
                    crate::fs::remove_all(out).and_then(|()| crate::fs::create_dir_all(out));
                if let Err(error) = cleared {
                    self.warn(format!("{} cannot be cleared: {error:#}", out.display()));
                }
            })
            .ok()
    }

    /// Sends what was made; returns the bytes that were sent, if it was not there.
    pub fn push(&self, entry: &Entry, files: &Path, stopped: &Stopped) -> Option<u64> {
        if !self.is_writable() || stopped() {
            return None;
        }
        match self.remote.push(entry, files, stopped) {
            Ok(sent) => sent,
            Err(Trouble::Stopped) => None,
            Err(Trouble::Away(why) | Trouble::Denied(why)) => {
                self.known().full = true;
                let address = self.address();
                self.warn(format!(
                    "nothing more is sent to the remote cache {address}: {why}; `posttrain cache \
                     push` sends what is missing there"
                ));
                None
            }
            Err(Trouble::Refused(why) | Trouble::Here(why)) => {
                self.warn(format!("`{}` was not sent to the remote cache: {why}", entry.node));
                None
            }
        }
    }

    /// The warnings that came since this was last called.
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.known().warnings)
    }

    /// Notes the keys whose objects stay in the remote, since nothing in this run reads them.
    pub(super) fn leave(&self, left: HashMap<ActionKey, ObjectId>) {
        self.known().left = left;
    }

    /// The object of a key that stays in the remote.
    pub(super) fn left(&self, key: ActionKey) -> Option<ObjectId> {
        self.known().left.get(&key).copied()
    }

    /// Whether the remote may be asked for a key.
    fn is_open(&self, key: ActionKey) -> bool {
        let known = self.known();
        !known.silent && !known.refused.contains(&key)
    }

    fn heed(&self, key: ActionKey, trouble: Trouble, what: &str) {
        match trouble {
            Trouble::Stopped => {}
            Trouble::Away(why) => {
                self.close();
                let address = self.address();
                self.warn(format!(
                    "the remote cache {address} cannot be used: {why}; this run goes on without it"
                ));
            }
            Trouble::Denied(why) => {
                self.close();
                let address = self.address();
                self.warn(format!(
                    "the remote cache {address} denies access: {why}; this run goes on without it"
                ));
            }
            Trouble::Refused(why) => {
                self.known().refused.insert(key);
                let cause = format!("{what}: {why}");
                if self.known().causes.insert(cause.clone()) {
                    let key = key.short();
                    self.warn(format!(
                        "what the remote cache has for the key {key} is refused: {cause}; it is \
                         made here (said once for each cause; `posttrain cache verify` lists all)"
                    ));
                }
            }
            Trouble::Here(why) => {
                self.known().refused.insert(key);
                self.warn(format!("{} cannot be pulled: {why}; it is made here", key.short()));
            }
        }
    }

    /// Neither asks nor sends any more.
    fn close(&self) {
        let mut known = self.known();
        (known.silent, known.full) = (true, true);
    }

    fn warn(&self, warning: String) {
        let mut known = self.known();
        if known.said.insert(warning.clone()) {
            known.warnings.push(warning);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nothing panics while it holds what is known")
    }
}
