//! Work: claims of keys, the folders in which artefacts are made, and their publication. The claim
//! of a key that no run has made or is making gives a ticket. Only a ticket can publish, so no
//! artefact is made twice.
//!
//! 1. Each attempt at a key has a folder `work/<key>/<number>/`, numbers ascending: `lease` (which
//!    run it belongs to), `order.json`, `out/`, `checkpoints/`, `reports`, `log`, and `process`
//!    (the node's process). No two attempts ever write into one folder.
//! 2. A folder is made whole under another name and then renamed to the next free number. Of
//!    several runs one succeeds, on any file system; locks take no part.
//! 3. The attempt of the highest number holds the key as long as its run lives (see
//!    [`crate::presence`]), and after that as long as the process does that the run has left
//!    behind. That process is no parent's to wait for: it ends by itself within seconds.
//! 4. The next attempt takes over the checkpoints of the one before: a rename, so an attempt that
//!    was wrongly taken for dead fails, and publishes nothing. Programs that still work in the old
//!    folder are ended, where they are on this host.
//! 5. Publishing asks once more whether the attempt still is the highest and still holds its lease.
//! 6. The job of a cluster's queue (see [`crate::cluster`]) outlives its run. A run whose executor
//!    knows the queue adopts the attempt: it moves the dead run's lease away, which one of several
//!    can do, and writes a new one. For other runs the key is busy as long as the job shows beats.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::action::Lookup;
use crate::digest::{ActionKey, ObjectId};
use crate::entry::Entry;
use crate::error::{Context, Result, environment};
use crate::fs::Renamed;
use crate::order::{ORDER, Order};
use crate::processes::{self, Identity};
use crate::store::Store;
use crate::watch::Life;

/// The file of an attempt that says which run it belongs to; there as long as the attempt goes on.
const LEASE: &str = "lease";
/// The file of an attempt that says which process it is.
pub(super) const PROCESS: &str = "process";
/// The file of an attempt that grows as long as the job of a cluster's queue works on it.
pub(super) const BEATS: &str = "beats";
/// The file of an attempt in which such a job leaves its exit code.
pub(super) const ENDED: &str = "ended";
const CHECKPOINTS: &str = "checkpoints";
/// The file that a node's process and the programs it starts print into.
pub(super) const LOG: &str = "log";

/// How often the folder of a key is made before something is wrong with it.
const TRIES: usize = 100;

static COUNT: AtomicU64 = AtomicU64::new(0);

/// What comes of claiming a key.
pub enum Claim<'a> {
    /// It is made already.
    Hit(ObjectId),
    /// It is to be made by the holder of the ticket.
    Miss(Ticket<'a>),
    /// Another run is making it.
    Busy,
}

/// The right to make what a key names. Dropping it gives the right up; the folder stays.
pub struct Ticket<'a> {
    store: &'a Store,
    key: ActionKey,
    number: u64,
    folder: PathBuf,
    run: String,
    log: File,
    resumed: bool,
    notes: Vec<String>,
}

impl Store {
    /// Claims a key, for the run that has begun on this store. Never waits for another process.
    /// `adopts` says whether the caller can go on with the attempt of this folder, should its run
    /// be gone.
    pub fn claim(&self, key: ActionKey, adopts: &dyn Fn(&Path) -> bool) -> Result<Claim<'_>> {
        if let Lookup::Hit(object) = self.lookup(key)? {
            return Ok(Claim::Hit(object));
        }
        let folder = self.work_path(key);
        if folder.symlink_metadata().is_ok_and(|metadata| !metadata.is_dir()) {
            // A stage has put something else in its place. What that leads to is not ours.
            crate::fs::remove_all(&folder)?;
        }
        let earlier = self.attempts(key)?;
        if let Some(latest) = earlier.last()
            && adopts(&self.attempt_path(key, *latest))
        {
            return Ok(self.adopt(key, *latest)?.map_or(Claim::Busy, Claim::Miss));
        }
        if let Some(latest) = earlier.last()
            && self.goes_on(&self.attempt_path(key, *latest))?
        {
            tracing::debug!(%key, latest, "busy: another run makes it");
            return Ok(Claim::Busy);
        }
        let number = earlier.last().map_or(1, |latest| latest + 1);
        let Some(mut ticket) = self.occupy(key, number)? else { return Ok(Claim::Busy) };
        // Another may have made it between the look and the claim.
        loop {
            match self.lookup(key)? {
                Lookup::Hit(object) => {
                    crate::fs::remove_all(&ticket.folder)?;
                    // Where others are at work, it stays.
                    crate::fs::remove_if_empty(&folder);
                    return Ok(Claim::Hit(object));
                }
                Lookup::Absent | Lookup::Gone(_) => break,
                Lookup::Corrupted(object, what) => {
                    // If there was nothing to set aside, another run has done so meanwhile, and may
                    // have made it again.
                    if let Some(bad) = self.set_aside(object)? {
                        let (object, bad) = (object.short(), bad.display());
                        let note = format!(
                            "the object {object} is corrupted ({what}); it was set aside as {bad} \
                             and is made again"
                        );
                        ticket.notes.push(note);
                        break;
                    }
                }
            }
        }
        ticket.take_over(&earlier)?;
        tracing::debug!(%key, number, ticket.resumed, "claimed");
        Ok(Claim::Miss(ticket))
    }

    /// The numbers of the attempts at a key, ascending.
    pub(super) fn attempts(&self, key: ActionKey) -> Result<Vec<u64>> {
        let names = crate::fs::list(&self.work_path(key))?;
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The folder of an attempt.
    pub(super) fn attempt_path(&self, key: ActionKey, number: u64) -> PathBuf {
        self.work_path(key).join(number.to_string())
    }

    /// Whether anything works on an attempt: its run, or the process that a dead run has left
    /// behind.
    pub(super) fn goes_on(&self, attempt: &Path) -> Result<bool> {
        match self.holder(attempt)? {
            None => return Ok(false),
            Some((_, Life::Lives | Life::Unsure)) => return Ok(true),
            Some((_, Life::Gone)) => {}
        }
        let process = crate::fs::read_if_exists(&attempt.join(PROCESS))?;
        let process: Option<Identity> =
            process.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let Some(process) = process else { return Ok(false) };
        if let Some(is_alive) = process.is_alive() {
            return Ok(is_alive);
        }
        match crate::fs::read_if_exists(&attempt.join(BEATS))? {
            Some(beats) if !attempt.join(ENDED).exists() => {
                let id = attempt.display().to_string();
                Ok(self.watched.look(&id, beats.len() as u64, self.patience) != Life::Gone)
            }
            _ => Ok(false),
        }
    }

    /// The run that holds the lease of an attempt, and what is known of its life; none if no run
    /// does. A lease without content is being written, for a moment.
    fn holder(&self, attempt: &Path) -> Result<Option<(String, Life)>> {
        let path = attempt.join(LEASE);
        let Some(bytes) = crate::fs::read_if_exists(&path)? else { return Ok(None) };
        let run = String::from_utf8_lossy(&bytes).into_owned();
        let life = match run.is_empty() {
            true => self.watched.look(&path.display().to_string(), 0, self.patience),
            false => self.life(&run)?,
        };
        Ok(Some((run, life)))
    }

    /// Takes over an attempt whose run is gone, with all that is in its folder; `None` if its run
    /// lives, or another run was faster.
    fn adopt(&self, key: ActionKey, number: u64) -> Result<Option<Ticket<'_>>> {
        let (run, folder) = (self.runner_id()?, self.attempt_path(key, number));
        let lease = folder.join(LEASE);
        if let Some((holder, life)) = self.holder(&folder)? {
            if life != Life::Gone {
                return Ok(None);
            }
            // One run moves it. Should it be the lease of a run that has adopted the attempt
            // meanwhile, that run gets it back.
            let aside = folder.join(format!(".lease-{run}"));
            if crate::fs::rename_unless_taken(&lease, &aside)? == Renamed::Nowhere {
                return Ok(None);
            }
            if crate::fs::read(&aside)? != holder.as_bytes() {
                crate::fs::rename(&aside, &lease)?;
                return Ok(None);
            }
            crate::fs::remove_all(&aside)?;
        }
        if !crate::fs::write_new_if_free(&lease, run.as_bytes())? {
            return Ok(None);
        }
        let path = folder.join(LOG);
        let resumed = !crate::fs::list(&folder.join(CHECKPOINTS))?.is_empty();
        tracing::debug!(%key, number, "adopted");
        Ok(Some(Ticket {
            store: self,
            key,
            number,
            log: crate::fs::append(&path)?,
            folder,
            run,
            resumed,
            notes: Vec::new(),
        }))
    }

    /// Makes the folder of an attempt; `None` if another run has taken the number.
    fn occupy(&self, key: ActionKey, number: u64) -> Result<Option<Ticket<'_>>> {
        let run = self.runner_id()?;
        let new =
            self.at("work").join(format!(".new-{run}-{}", COUNT.fetch_add(1, Ordering::SeqCst)));
        let folder = self.attempt_path(key, number);
        let make = || -> Result<bool> {
            for part in ["out", CHECKPOINTS] {
                crate::fs::create_dir_all(&new.join(part))?;
            }
            crate::fs::write_new(&new.join(LEASE), run.as_bytes())?;
            for _ in 0..TRIES {
                crate::fs::create_dir_all(&self.work_path(key))?;
                match crate::fs::rename_unless_taken(&new, &folder)? {
                    Renamed::Done => return Ok(true),
                    Renamed::Taken => return Ok(false),
                    // A run that was done with the key has removed its folder just then.
                    Renamed::Nowhere => {}
                }
            }
            Err(environment(format!(
                "{} is removed again and again",
                self.work_path(key).display()
            ))
            .into())
        };
        let made = make();
        if !matches!(made, Ok(true)) {
            // No attempt has this name; `gc` would remove it as well.
            let _ = crate::fs::remove_all(&new);
        }
        if !made? {
            return Ok(None);
        }
        let path = folder.join(LOG);
        let log = crate::fs::append(&path);
        if log.is_err() {
            let _ = crate::fs::remove_all(&folder);
        }
        Ok(Some(Ticket {
            store: self,
            key,
            number,
            folder,
            run,
            log: log?,
            resumed: false,
            notes: Vec::new(),
        }))
    }
}

/// Notes, in the folder of an attempt, that this process works on it.
pub(super) fn sign(attempt: &Path) -> Result<()> {
    let identity = serde_json::to_vec(&Identity::own()).expect("an identity is plain data");
    crate::fs::write_new(&attempt.join(PROCESS), &identity)
}

impl Ticket<'_> {
    /// Takes the checkpoints of earlier attempts, all of them over, and clears the rest of them
    /// away.
    fn take_over(&mut self, earlier: &[u64]) -> Result<()> {
        let own = self.folder.join(CHECKPOINTS);
        for number in earlier.iter().rev() {
            let attempt = self.store.attempt_path(self.key, *number);
            let is_folder =
                |path: &Path| path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
            if !is_folder(&attempt) {
                crate::fs::remove_all(&attempt)?;
                continue;
            }
            // A run that was killed together with its node may have left programs that write here.
            let ended = match crate::fs::read_if_exists(&attempt.join(LEASE))? {
                Some(_) => processes::end_all_in(
                    &attempt.canonicalize().unwrap_or_else(|_| attempt.clone()),
                ),
                None => Vec::new(),
            };
            if !ended.is_empty() {
                self.notes.push(format!(
                    "a run that was killed had left {} running; it was ended",
                    ended.join(", ")
                ));
            }
            let theirs = attempt.join(CHECKPOINTS);
            if !self.resumed && is_folder(&theirs) && !crate::fs::list(&theirs)?.is_empty() {
                crate::fs::remove_all(&own)?;
                crate::fs::rename(&theirs, &own)?;
                self.resumed = true;
            }
            crate::fs::remove_all(&attempt)?;
        }
        Ok(())
    }

    /// The key to be made.
    pub fn key(&self) -> ActionKey {
        self.key
    }

    /// The folder of this attempt.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder that becomes the artefact.
    pub(super) fn out(&self) -> PathBuf {
        self.folder.join("out")
    }

    /// The log, open for appending, for a process to inherit. It carries no lock: a process that
    /// holds it open blocks no other.
    pub fn log(&self) -> Result<File> {
        self.log
            .try_clone()
            .with_context(|| format!("cannot open {}", self.folder.join(LOG).display()))
    }

    /// True if an earlier attempt left checkpoints.
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// What to tell the user: a corrupted object was set aside, a program was ended.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Writes the order for a job that runs in another process.
    pub fn give(&self, order: &Order) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(order).expect("an order is plain data");
        // After a power cut the next attempt takes the checkpoints of this one and nothing else.
        crate::fs::write_hint(&self.folder.join(ORDER), &bytes)
    }

    /// Publishes what was pulled into `out/`, under the entry of the remote.
    ///
    /// # Errors
    /// As of [`Ticket::publish`]; also if what is in `out/` is not the object of the entry.
    pub(super) fn publish_pulled(self, entry: Entry) -> Result<ObjectId> {
        self.check_held()?;
        let object = self.store.put_object(&self.folder)?;
        if object != entry.object {
            let (expected, found) = (entry.object.short(), object.short());
            let message = format!("{found} was written where {expected} was pulled");
            return Err(environment(message).hint("check the disk, then run again").into());
        }
        self.check_held()?;
        let place = self.store.next_place();
        self.store.put_entry(&Entry { place, renewed_from: None, ..entry })?;
        let _ = crate::fs::remove_all(&self.folder);
        crate::fs::remove_if_empty(&self.store.work_path(self.key));
        Ok(object)
    }

    /// Sees to it that the attempt still is the latest, and still this run's.
    fn check_held(&self) -> Result<()> {
        let lease = crate::fs::read_if_exists(&self.folder.join(LEASE))?;
        if lease.as_deref() == Some(self.run.as_bytes())
            && self.store.attempts(self.key)?.last() == Some(&self.number)
        {
            return Ok(());
        }
        let message = format!(
            "the work on {} was taken over or removed while it was being made",
            self.key.short()
        );
        let hint = "leave the folders `work` and `runners` of the cache alone while a run is going \
            on; then run again";
        Err(environment(message).hint(hint).into())
    }

    /// Publishes what is in `out/`, and clears the work away; what was printed goes to `log`, if
    /// anything was. `entry` is asked for the entry of the object that it became.
    ///
    /// # Errors
    /// Nothing is published if anything goes wrong, or if the work was taken over by another run
    /// meanwhile.
    pub fn publish(
        self,
        log: &Path,
        entry: impl FnOnce(ActionKey, ObjectId) -> Entry,
    ) -> Result<ObjectId> {
        self.check_held()?;
        let object = self.store.put_object(&self.folder)?;
        let entry = entry(self.key, object);
        assert!(
            entry.key == self.key && entry.object == object,
            "an entry speaks of what was made"
        );
        self.check_held()?;
        self.store.put_entry(&entry)?;
        tracing::debug!(key = %self.key, %object, "published");
        // From here on it is made; what cannot be kept or cleared away now is no reason to fail,
        // and `gc` clears it away.
        let printed = self.folder.join(LOG);
        if printed.metadata().is_ok_and(|metadata| metadata.len() > 0) {
            let _ = log
                .parent()
                .map_or(Ok(()), crate::fs::create_dir_all)
                .and_then(|()| crate::fs::rename(&printed, log));
        }
        let _ = crate::fs::remove_all(&self.folder);
        crate::fs::remove_if_empty(&self.store.work_path(self.key));
        Ok(object)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        // An attempt without a lease is over. Should it stay, it is over with the run. What is not
        // this attempt's is left alone.
        let lease = self.folder.join(LEASE);
        if crate::fs::read_if_exists(&lease).ok().flatten().as_deref() == Some(self.run.as_bytes())
        {
            let _ = crate::fs::remove_all(&lease);
        }
    }
}
