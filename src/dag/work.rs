//! Work: claiming a key, the folder in which it is made, and publishing what was made. Whoever claims a key that nobody has made and
//! nobody is making gets a ticket; only a ticket can publish, so nothing is made twice and nothing is published unasked.
//!
//! A work folder holds `order.json`, `out/` (emptied at every attempt), `checkpoints/` (kept between attempts) and `log`. The log is
//! locked as well, and a node's process inherits that lock as its standard error: should the runner die and leave the process
//! behind, the key is busy until the process has ended, and no second process writes into the same folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::dag::action::{Entry, Lookup};
use crate::dag::key::{ActionKey, ObjectId};
use crate::dag::lock::Lock;
use crate::dag::store::Store;
use crate::error::{Context, Result, environment};

/// What comes of claiming a key.
pub enum Claim<'a> {
    /// It is made already.
    Hit(ObjectId),
    /// It is to be made by whoever holds the ticket.
    Miss(Ticket<'a>),
    /// Somebody else is making it.
    Busy,
}

/// The right to make what a key stands for. Dropping it gives the right up; the work folder stays.
pub struct Ticket<'a> {
    store: &'a Store,
    key: ActionKey,
    folder: PathBuf,
    log: File,
    resumed: bool,
    set_aside: Option<String>,
    lock: Lock,
}

/// What a node's process is told: `order.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// The action key.
    pub key: ActionKey,
    /// The stage kind.
    pub stage: String,
    /// The config, references and inputs replaced by `{"$path": PATH}`.
    pub config: Value,
    /// What it computes on, in the words of the stages.
    pub device: Value,
    /// Threads it may use.
    pub threads: usize,
    /// The folder of its event files, if it is to write any.
    pub events: Option<PathBuf>,
}

impl Store {
    /// Claims a key. Never waits for another process.
    pub fn claim(&self, key: ActionKey) -> Result<Claim<'_>> {
        if let Lookup::Hit(object) = self.lookup(key)? {
            return Ok(Claim::Hit(object));
        }
        let Some(lock) = Lock::try_acquire(&self.at("locks").join(key.to_string()))? else {
            tracing::debug!(%key, "busy: another run makes it");
            return Ok(Claim::Busy);
        };
        // Another may have made it between the look and the lock.
        let set_aside = loop {
            match self.lookup(key)? {
                Lookup::Hit(object) => return Ok(Claim::Hit(object)),
                Lookup::Absent | Lookup::Gone(_) => break None,
                Lookup::Corrupted(object, what) => {
                    // If there was nothing to set aside, another run has done so meanwhile, and may have made it again.
                    if let Some(bad) = self.set_aside(object)? {
                        let (object, bad) = (object.short(), bad.display());
                        break Some(format!("the object {object} is corrupted ({what}); it was set aside as {bad} and is made again"));
                    }
                }
            }
        };
        let folder = self.work_path(key);
        for part in ["out", "checkpoints"] {
            crate::fs::create_dir_all(&folder.join(part))?;
        }
        let Some(log) = lock_log(&folder.join("log"))? else {
            tracing::debug!(%key, "busy: a process that was left behind has its log");
            return Ok(Claim::Busy);
        };
        let resumed = !crate::fs::list(&folder.join("checkpoints"))?.is_empty();
        crate::fs::remove_all(&folder.join("out"))?;
        crate::fs::create_dir_all(&folder.join("out"))?;
        tracing::debug!(%key, resumed, "claimed");
        Ok(Claim::Miss(Ticket { store: self, key, folder, log, resumed, set_aside, lock }))
    }
}

/// An emptied log, locked by its open file; `None` if a process that was left behind still has it.
fn lock_log(path: &Path) -> Result<Option<File>> {
    let open = || OpenOptions::new().append(true).create(true).open(path);
    let log = open().with_context(|| format!("cannot open {}", path.display()))?;
    match log.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
    log.set_len(0).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Some(log))
}

impl Ticket<'_> {
    /// The key to be made.
    pub fn key(&self) -> ActionKey {
        self.key
    }

    /// The work folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The log, open for appending, for a process to inherit.
    pub fn log(&self) -> Result<File> {
        self.log.try_clone().with_context(|| format!("cannot open {}", self.folder.join("log").display()))
    }

    /// True if an earlier attempt left checkpoints.
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// What to tell the user, if a corrupted object was set aside for this.
    pub fn set_aside(&self) -> Option<&str> {
        self.set_aside.as_deref()
    }

    /// Writes the order for the node's process.
    pub fn give(&self, order: &Order) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(order).expect("an order is plain data");
        crate::fs::write_atomic(&self.folder.join("order.json"), &bytes)
    }

    /// Publishes what lies in `out/`, and clears the work away. `entry` is asked for the entry of the object that it became.
    ///
    /// # Errors
    /// Nothing is published if anything goes wrong, or if the lock was taken away meanwhile.
    pub fn publish(self, entry: impl FnOnce(ActionKey, ObjectId) -> Entry) -> Result<ObjectId> {
        let object = self.store.put_object(&self.folder.join("out"))?;
        let entry = entry(self.key, object);
        assert!(entry.key == self.key && entry.object == object, "an entry speaks of what was made");
        if !self.lock.is_held()? {
            let message = format!("the lock of {} was removed while it was being made", self.key.short());
            return Err(environment(message).hint("leave the folder `locks` of the cache alone while a run is going on").into());
        }
        self.store.put_entry(&entry)?;
        tracing::debug!(key = %self.key, %object, "published");
        // From here on it is made; what cannot be cleared away now is cleared by `gc`.
        let _ = crate::fs::remove_all(&self.folder);
        Ok(object)
    }
}
