//! Who is at work in a store: a file for every run, on this host or on another. Locks on files do
//! not hold between hosts on every shared file system, so they decide nothing here.
//!
//! 1. `runners/<id>` says which process a run is, and grows by a byte every [`BEAT`] as long as the
//!    run lives.
//! 2. On the host of the run (the same boot, the same namespace of processes) the process says
//!    whether the run lives: its number and the moment of its start.
//! 3. From elsewhere, a run counts as dead once its file has not grown for the store's patience
//!    ([`PATIENCE`] by default). The time is the observer's own, from when it first looked: no
//!    clock of one host is compared with that of another. Where a system tells nothing of
//!    processes, this holds for runs of the same host as well.
//! 4. A run whose file is gone is over.
//!
//! What is at stake if a run is taken for dead and is not: its work is done twice. Each attempt at
//! a node has a folder (see [`crate::dag::work`]), so two of them never write into one artefact.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::dag::lock::SharedLock;
use crate::dag::processes::Identity;
use crate::dag::store::Store;
use crate::error::{Context, Result, environment};

/// How often a run shows that it lives.
pub const BEAT: Duration = Duration::from_secs(5);
/// How long a run on another host may show nothing before it counts as dead: twelve beats, and as
/// long as network file systems keep what they have read of a file at most.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What to do where no thread can be started.
pub(super) const NO_THREADS: &str = "raise the limit of processes (`ulimit -u`), or end some";

/// Runs of this process that are going on.
static OWN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
static COUNT: AtomicU64 = AtomicU64::new(0);

/// What is known of whether a run lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// It does.
    Lives,
    /// It is on another host, and has not been watched for long enough.
    Unsure,
    /// It does not.
    Gone,
}

/// A run's presence in a store; it ends when this is dropped. While it lasts, `gc` deletes nothing.
pub struct Presence {
    path: PathBuf,
    id: String,
    over: Arc<AtomicBool>,
    beats: Option<JoinHandle<()>>,
    _in_use: SharedLock,
}

/// What was last seen of the runs of other hosts: how long the file was, and since when.
#[derive(Default)]
pub(super) struct Watched(Mutex<HashMap<String, (u64, Instant)>>);

impl Watched {
    /// What a look says at which the file of a run is `length` long.
    fn look(&self, id: &str, length: u64, patience: Duration) -> Life {
        let mut watched = self.0.lock().expect("nothing panics while it holds the list");
        match watched.get(id) {
            Some((seen, _)) if *seen != length => {
                watched.insert(id.to_owned(), (length, Instant::now()));
                Life::Lives
            }
            Some((_, since)) if since.elapsed() >= patience => Life::Gone,
            Some(_) => Life::Unsure,
            None => {
                watched.insert(id.to_owned(), (length, Instant::now()));
                Life::Unsure
            }
        }
    }
}

impl Store {
    /// Makes the folders, and begins the presence of a run. Every run does this first.
    pub fn begin(&self) -> Result<Presence> {
        self.mark_keys()?;
        for folder in [
            "actions",
            "objects",
            "work",
            "runs",
            "runners",
            "stat/inputs",
            "stat/objects",
            "bad",
            "locks",
        ] {
            crate::fs::create_dir_all(&self.at(folder))?;
        }
        let in_use = SharedLock::share(&self.at("in-use.lock"))?;
        self.clear_runners()?;
        let identity = Identity::own();
        let host = blake3::hash(identity.host.as_bytes()).to_hex();
        let (pid, started, count) =
            (identity.pid, identity.started, COUNT.fetch_add(1, Ordering::SeqCst));
        let id = format!("{}-{pid}-{started}-{count}", &host[..8]);
        let path = self.at("runners").join(&id);
        let mut line = serde_json::to_vec(&identity).expect("an identity is plain data");
        line.push(b'\n');
        // Known to this process before its file is there: to be taken for one that is over, it
        // would have to be unknown.
        OWN.lock().expect("nothing panics while it holds the list").insert(id.clone());
        let over = Arc::new(AtomicBool::new(false));
        let mut presence = Presence {
            path: path.clone(),
            id: id.clone(),
            over: over.clone(),
            beats: None,
            _in_use: in_use,
        };
        crate::fs::write_new(&path, &line)?;
        let beats =
            std::thread::Builder::new().name("presence".into()).spawn(move || beat(&path, &over));
        presence.beats = Some(beats.map_err(|error| {
            environment(format!("cannot start a thread: {error}")).hint(NO_THREADS)
        })?);
        *self.runner.lock().expect("nothing panics while it holds it") = Some(id);
        Ok(presence)
    }

    /// The id of the run that has begun on this store.
    pub(super) fn runner_id(&self) -> Result<String> {
        let runner = self.runner.lock().expect("nothing panics while it holds it").clone();
        runner.context("no run has begun on this store")
    }

    /// What is known of whether a run lives.
    pub(super) fn life(&self, id: &str) -> Result<Life> {
        let Some(bytes) = crate::fs::read_if_exists(&self.at("runners").join(id))? else {
            return Ok(Life::Gone);
        };
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let identity: Option<Identity> = serde_json::from_slice(line).ok();
        if OWN.lock().expect("nothing panics while it holds the list").contains(id) {
            return Ok(Life::Lives);
        }
        Ok(match identity.and_then(|identity| Some((identity.is_alive()?, identity.pid))) {
            // It was a run of this process, and is over.
            Some((true, pid)) if pid == Identity::own().pid => Life::Gone,
            Some((true, _)) => Life::Lives,
            Some((false, _)) => Life::Gone,
            None => self.watched.look(id, bytes.len() as u64, self.patience),
        })
    }

    /// Whether a run is at work, watching those of other hosts for as long as it takes to know; the
    /// name of its host.
    pub(super) fn at_work(&self) -> Result<Option<String>> {
        for id in crate::fs::list(&self.at("runners"))? {
            loop {
                match self.life(&id)? {
                    Life::Gone => break,
                    Life::Unsure => std::thread::sleep(Duration::from_millis(50)),
                    Life::Lives => {
                        let bytes = crate::fs::read_if_exists(&self.at("runners").join(&id))?
                            .unwrap_or_default();
                        let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
                        let identity: Option<Identity> = serde_json::from_slice(line).ok();
                        return Ok(Some(
                            identity
                                .map_or_else(|| "another host".into(), |identity| identity.name),
                        ));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Removes what dead runs of this host have left.
    fn clear_runners(&self) -> Result<()> {
        for id in crate::fs::list(&self.at("runners"))? {
            if self.life(&id)? == Life::Gone {
                crate::fs::remove_all(&self.at("runners").join(id))?;
            }
        }
        Ok(())
    }
}

/// Lets a run's file grow until the run is over. A disk that is full for a while costs beats, and
/// no more.
fn beat(path: &Path, over: &AtomicBool) {
    let mut last = Instant::now();
    while !over.load(Ordering::SeqCst) {
        std::thread::park_timeout(BEAT);
        if last.elapsed() >= BEAT {
            last = Instant::now();
            let _ = crate::fs::append_to(path, b".");
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(beats) = self.beats.take() {
            beats.thread().unpark();
            let _ = beats.join();
        }
        OWN.lock().expect("nothing panics while it holds the list").remove(&self.id);
        // Left there, it is that of a run which is over: its process does not know it any more, or
        // is gone.
        let _ = crate::fs::remove_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run on another host, which shows itself once and then no more.
    const FOREIGN: &str = "{\"host\":\"another boot\",\"name\":\"b\",\"pid\":1,\"started\":1}\n";

    #[test]
    fn a_run_of_another_host_lives_as_long_as_its_file_grows() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(folder.path())
            .expect("opening reads nothing")
            .with_patience(Duration::from_millis(400));
        let presence = store.begin().expect("writable");
        let path = folder.path().join("v1/runners/foreign");
        std::fs::write(&path, FOREIGN).expect("writable");
        assert_eq!(store.life("foreign").expect("readable"), Life::Unsure, "one look says nothing");
        crate::fs::append_to(&path, b".").expect("writable");
        assert_eq!(store.life("foreign").expect("readable"), Life::Lives, "it has grown");
        assert_eq!(store.life("foreign").expect("readable"), Life::Unsure);
        std::thread::sleep(Duration::from_millis(420));
        assert_eq!(
            store.life("foreign").expect("readable"),
            Life::Gone,
            "it has not grown for too long"
        );
        // A file that cannot be understood is that of a run all the same.
        std::fs::write(&path, "{").expect("writable");
        assert_eq!(store.life("foreign").expect("readable"), Life::Lives);
        std::fs::remove_file(&path).expect("there");
        assert_eq!(store.life("foreign").expect("readable"), Life::Gone);
        assert_eq!(store.life(&presence.id).expect("readable"), Life::Lives);
        let id = presence.id.clone();
        drop(presence);
        assert_eq!(store.life(&id).expect("readable"), Life::Gone);
        assert_eq!(crate::fs::list(&folder.path().join("v1/runners")).expect("readable"), [""; 0]);
    }

    #[test]
    fn a_dead_run_of_this_host_is_known_at_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(folder.path()).expect("opening reads nothing");
        drop(store.begin().expect("writable"));
        let dead = Identity { started: 1, ..Identity::own() };
        let text = serde_json::to_string(&dead).expect("plain data");
        std::fs::write(folder.path().join("v1/runners/dead"), text + "\n").expect("writable");
        assert_eq!(store.life("dead").expect("readable"), Life::Gone);
        let presence = store.begin().expect("writable");
        let left = crate::fs::list(&folder.path().join("v1/runners")).expect("readable");
        assert_eq!(left, [presence.id.as_str()], "what the dead have left is cleared away");
    }
}
