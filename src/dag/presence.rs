//! Who is at work in a store: a file for every run, on this host or on another. Locks on files do
//! not hold between hosts on every shared file system, so they decide nothing here.
//!
//! 1. `runners/<id>` says which process a run is, and grows by a byte every [`BEAT`] as long as the
//!    run lives.
//! 2. On the host of the run (the same boot, the same namespace of processes) the process says
//!    whether the run lives: its number and the moment of its start.
//! 3. From elsewhere, a run counts as dead once its file has not grown for the store's patience
//!    (by default [`crate::watch::PATIENCE`]). The time is the observer's own, from when it first
//!    looked: no clock of one host is compared with that of another. Where a system tells nothing
//!    of processes, this holds for runs of the same host as well.
//! 4. A run whose file is gone is over.
//! 5. `gc` has such a file too, of another name. It writes its file and then looks for runs; a run
//!    writes its file and then looks for `gc`, and waits for its end. So of two that begin at once
//!    at least one sees the other: nothing is deleted beside a run, on any host.
//!
//! What is at stake if a run is taken for dead and is not: its work is done twice. Each attempt at
//! a node has a folder (see [`crate::work`]), so two of them never write into one artefact.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::{Context, Result, no_thread};
use crate::lock::SharedLock;
use crate::processes::Identity;
use crate::store::Store;
use crate::watch::Life;

/// How the names of the files of `gc` begin.
const GC: &str = "gc-";

/// How often a run shows that it lives.
pub const BEAT: Duration = Duration::from_secs(5);

/// How often it is looked whether another has ended.
const LOOK: Duration = Duration::from_millis(50);

/// Runs of this process that are going on.
static OWN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
static COUNT: AtomicU64 = AtomicU64::new(0);

/// A run's presence in a store; it ends when this is dropped. While it lasts, `gc` deletes nothing.
pub struct Presence {
    path: PathBuf,
    id: String,
    over: Arc<AtomicBool>,
    beats: Option<JoinHandle<()>>,
    _in_use: Option<SharedLock>,
}

impl Store {
    /// Makes the folders, and begins the presence of a run. Every run does this first.
    pub fn begin(&self) -> Result<Presence> {
        crate::fs::create_dir_all_synced(self.root())?;
        self.mark_keys()?;
        for folder in [
            "actions",
            "objects",
            "work",
            "runs",
            "runners",
            "stat/inputs",
            "stat/objects",
            "derived",
            "bad",
            "locks",
        ] {
            crate::fs::create_dir_all(&self.at(folder))?;
        }
        // What they will hold lasts only if they do.
        for folder in [self.at(""), self.root().to_owned()] {
            crate::fs::sync(&folder)?;
        }
        let in_use = SharedLock::share(&self.at("in-use.lock"))?;
        self.clear_runners()?;
        let presence = self.announce("", Some(in_use))?;
        for id in crate::fs::list(&self.at("runners"))? {
            while id.starts_with(GC) && self.life(&id)? != Life::Gone {
                std::thread::sleep(LOOK);
            }
        }
        *self.runner.lock().expect("nothing panics while it holds it") = Some(presence.id.clone());
        Ok(presence)
    }

    /// Begins the presence of `gc`, for which runs that begin from now on wait.
    pub(super) fn begin_gc(&self) -> Result<Presence> {
        crate::fs::create_dir_all(&self.at("runners"))?;
        self.announce(GC, None)
    }

    /// Writes the file of a run, whose name begins in this way, and starts its beats.
    fn announce(&self, prefix: &str, in_use: Option<SharedLock>) -> Result<Presence> {
        let identity = Identity::own();
        let host = blake3::hash(identity.host.as_bytes()).to_hex();
        let (pid, started, count) =
            (identity.pid, identity.started, COUNT.fetch_add(1, Ordering::SeqCst));
        let id = format!("{prefix}{}-{pid}-{started}-{count}", &host[..8]);
        let path = self.at("runners").join(&id);
        let mut line = serde_json::to_vec(&identity).expect("an identity is plain data");
        line.push(b'\n');
        // Known to this process before its file is there: to be taken for one that is over, it
        // would have to be unknown.
        OWN.lock().expect("nothing panics while it holds the list").insert(id.clone());
        let over = Arc::new(AtomicBool::new(false));
        let mut presence =
            Presence { path: path.clone(), id, over: over.clone(), beats: None, _in_use: in_use };
        crate::fs::write_new(&path, &line)?;
        let beats =
            std::thread::Builder::new().name("presence".into()).spawn(move || beat(&path, &over));
        presence.beats = Some(beats.map_err(|error| no_thread("a thread", error))?);
        Ok(presence)
    }

    /// The id of the run that has begun on this store.
    pub(super) fn runner_id(&self) -> Result<String> {
        let runner = self.runner.lock().expect("nothing panics while it holds it").clone();
        runner.context("no run has begun on this store")
    }

    /// What is known of whether a run lives.
    pub(super) fn life(&self, id: &str) -> Result<Life> {
        // A lease may be empty or noise after a power cut; no run has such a name.
        if Path::new(id).file_name() != Some(id.as_ref()) || id.contains('\0') {
            return Ok(Life::Gone);
        }
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

    /// Whether a run is at work beside `own`, watching those of other hosts for as long as it takes
    /// to know, and looking again for those that have begun meanwhile; the name of its host.
    pub(super) fn at_work(&self, own: &Presence) -> Result<Option<String>> {
        let mut over = BTreeSet::from([own.id.clone()]);
        loop {
            let mut all = crate::fs::list(&self.at("runners"))?;
            all.retain(|id| !over.contains(id));
            if all.is_empty() {
                return Ok(None);
            }
            for id in all {
                match self.life(&id)? {
                    Life::Gone => drop(over.insert(id)),
                    Life::Unsure => {}
                    Life::Lives => {
                        let bytes = crate::fs::read_if_exists(&self.at("runners").join(&id))?;
                        let bytes = bytes.unwrap_or_default();
                        let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
                        let identity: Option<Identity> = serde_json::from_slice(line).ok();
                        let name = identity.map(|identity| identity.name);
                        return Ok(Some(name.unwrap_or_else(|| "another host".into())));
                    }
                }
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Removes what dead runs have left.
    pub(super) fn clear_runners(&self) -> Result<()> {
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
        // Left there, it is that of a run which is over: its process has forgotten it, or
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

    /// What the two sides of rule 5 see of each other, whichever is first.
    #[test]
    fn a_run_waits_for_gc_and_gc_gives_way_to_a_run() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let open = || {
            Store::open(folder.path())
                .expect("opening reads nothing")
                .with_patience(Duration::from_millis(300))
        };
        drop(open().begin().expect("writable"));
        let runners = folder.path().join("v1/runners");
        let foreign = runners.join("gc-foreign");
        std::fs::write(&foreign, FOREIGN).expect("writable");
        std::thread::scope(|scope| {
            let run = scope.spawn(|| open().begin().expect("writable"));
            for _ in 0..6 {
                std::thread::sleep(Duration::from_millis(60));
                crate::fs::append_to(&foreign, b".").expect("writable");
                assert!(!run.is_finished(), "gc is at work on another host");
            }
            std::fs::remove_file(&foreign).expect("there");
            let presence = run.join().expect("no panic");
            let gc = open().begin_gc().expect("writable");
            let host = open().at_work(&gc).expect("readable").expect("the run is at work");
            assert_eq!(host, Identity::own().name);
            drop(presence);
            assert_eq!(open().at_work(&gc).expect("readable"), None);
        });
        // One that has shown nothing for too long has ended.
        std::fs::write(&foreign, FOREIGN).expect("writable");
        drop(open().begin().expect("it goes on"));
    }

    /// A run that begins after gc has looked, and before it is done, keeps its file.
    #[test]
    fn a_run_that_begins_while_others_are_watched_is_seen() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(folder.path())
            .expect("opening reads nothing")
            .with_patience(Duration::from_millis(300));
        drop(store.begin().expect("writable"));
        let runners = folder.path().join("v1/runners");
        std::fs::write(runners.join("silent"), FOREIGN).expect("writable");
        let gc = store.begin_gc().expect("writable");
        std::thread::scope(|scope| {
            let looks = scope.spawn(|| store.at_work(&gc).expect("readable"));
            std::thread::sleep(Duration::from_millis(100));
            let late = runners.join("late");
            std::fs::write(&late, FOREIGN).expect("writable");
            while !looks.is_finished() {
                std::thread::sleep(Duration::from_millis(60));
                crate::fs::append_to(&late, b".").expect("writable");
            }
            assert_eq!(looks.join().expect("no panic").as_deref(), Some("b"));
        });
        crate::fs::append_to(&runners.join("late"), b".").expect("writable");
        std::thread::sleep(Duration::from_millis(320));
        store.clear_runners().expect("writable");
        let left = crate::fs::list(&runners).expect("readable");
        assert_eq!(left, [gc.id.as_str(), "late"], "the silent one alone is cleared away");
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
