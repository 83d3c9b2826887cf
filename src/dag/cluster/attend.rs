//! The job's side of an attempt that a queue runs: signs it, clears what an earlier process of the
//! same job has left, shows that it lives, and notes how much it has made. Uses nothing of queues.
//!
//! 1. A queue may run a job again, after a preemption or the loss of a host. It goes on in the same
//!    folder: checkpoints stay, the unfinished artefact is removed.
//! 2. A host that the queue has lost may still work. So a process watches the beats of the one
//!    before it, and refuses to begin beside it; and a process that finds the name of another one
//!    in the folder, or no folder, ends itself.
//! 3. What a host has written may reach another late. So the job notes how many files and bytes
//!    the artefact has, and nothing is published before as much is seen.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::{Context, Kind, Result, environment};
use crate::processes::{self, Identity};
use crate::work::{BEATS, PROCESS};

/// How often a job shows that it lives.
pub const BEAT: Duration = Duration::from_secs(2);

/// How long the beats of an earlier process are watched.
const WATCH: Duration = Duration::from_secs(7);

/// How often they are looked at meanwhile.
const LOOK: Duration = Duration::from_millis(100);

/// The file of an attempt that says how much a job has made.
const MADE: &str = "made";

/// Where an artefact is made.
const OUT: &str = "out";

/// How much is in a folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Amount {
    /// Files, in folders below it too.
    pub(super) files: u64,
    /// Their bytes.
    pub(super) bytes: u64,
}

impl Amount {
    /// What is in a folder now. Links and the like count as files without bytes.
    fn of(folder: &Path) -> Result<Self> {
        let mut amount = Amount::default();
        for name in crate::fs::list(folder)? {
            let path = folder.join(name);
            let metadata = path
                .symlink_metadata()
                .with_context(|| format!("cannot read {}", path.display()))?;
            let Amount { files, bytes } = match (metadata.is_dir(), metadata.is_file()) {
                (true, _) => Amount::of(&path)?,
                (_, is_file) => {
                    Amount { files: 1, bytes: if is_file { metadata.len() } else { 0 } }
                }
            };
            amount = Amount { files: amount.files + files, bytes: amount.bytes + bytes };
        }
        Ok(amount)
    }
}

/// What a job has noted of its artefact, and what of it is seen from here; `None` where it has
/// noted nothing, since its program is not this one.
pub(super) fn made(attempt: &Path) -> Result<Option<(Amount, Amount)>> {
    let Some(bytes) = crate::fs::read_if_exists(&attempt.join(MADE))? else { return Ok(None) };
    let noted = serde_json::from_slice(&bytes).context("the file `made` cannot be understood")?;
    Ok(Some((noted, Amount::of(&attempt.join(OUT))?)))
}

/// Begins the work of a job on an attempt.
///
/// # Errors
/// The machine's, if an earlier process of the job still works on it.
pub fn begin(attempt: &Path) -> Result<()> {
    if let Some(bytes) = crate::fs::read_if_exists(&attempt.join(PROCESS))? {
        let earlier: Option<Identity> = serde_json::from_slice(&bytes).ok();
        if let Some(earlier) = earlier
            && earlier.is_alive() != Some(false)
            && grows(&attempt.join(BEATS))?
        {
            let message = format!(
                "an earlier process of this job still works on it: {} on {}",
                earlier.pid, earlier.name
            );
            return Err(environment(message)
                .hint("end that process, or wait for its end; then run again")
                .into());
        }
        crate::fs::remove_all(&attempt.join(OUT))?;
        crate::fs::create_dir_all(&attempt.join(OUT))?;
        crate::fs::remove_all(&attempt.join(MADE))?;
    }
    crate::fs::write_hint(&attempt.join(PROCESS), &own())?;
    drop(crate::fs::append(&attempt.join(BEATS))?);
    Ok(())
}

fn own() -> Vec<u8> {
    serde_json::to_vec(&Identity::own()).expect("an identity is plain data")
}

/// Whether a file grows while it is watched.
fn grows(path: &Path) -> Result<bool> {
    let length =
        || -> Result<usize> { Ok(crate::fs::read_if_exists(path)?.map_or(0, |bytes| bytes.len())) };
    let (before, start) = (length()?, Instant::now());
    while start.elapsed() < WATCH {
        std::thread::sleep(LOOK);
        if length()? != before {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Shows that the job lives, for as long as the attempt is its own; then ends the process.
pub fn attend(attempt: &Path) {
    let own = own();
    loop {
        std::thread::sleep(BEAT);
        // A disk that is full for a while costs beats, and no more.
        let _ = crate::fs::append_to(&attempt.join(BEATS), b".");
        let is_own = match crate::fs::read_if_exists(&attempt.join(PROCESS)) {
            Ok(Some(process)) => process == own,
            Ok(None) => false,
            // It cannot be seen now.
            Err(_) => true,
        };
        if !is_own {
            processes::end_descendants();
            std::process::exit(Kind::Interrupted.exit_code().into());
        }
    }
}

/// Notes how much was made.
pub fn finish(attempt: &Path) -> Result<()> {
    let amount = Amount::of(&attempt.join(OUT))?;
    let bytes = serde_json::to_vec(&amount).expect("an amount is plain data");
    crate::fs::write_hint(&attempt.join(MADE), &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_begins_again_finds_no_part_of_an_artefact() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let attempt = folder.path();
        crate::fs::create_dir_all(&attempt.join("out/deep")).expect("writable");
        begin(attempt).expect("the first");
        crate::fs::write_new(&attempt.join("out/deep/half"), b"half").expect("writable");
        finish(attempt).expect("writable");
        let amount = Amount { files: 1, bytes: 4 };
        assert_eq!(made(attempt).expect("readable"), Some((amount, amount)));
        // As a process of this host that has ended.
        let dead = Identity { started: 1, ..Identity::own() };
        let dead = serde_json::to_vec(&dead).expect("plain data");
        crate::fs::write_atomic(&attempt.join(PROCESS), &dead).expect("writable");
        begin(attempt).expect("nothing works on it");
        assert_eq!(crate::fs::list(&attempt.join("out")).expect("there"), [""; 0]);
        assert_eq!(made(attempt).expect("readable"), None);
    }

    #[test]
    fn no_process_begins_beside_one_that_still_beats() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let attempt = folder.path();
        let lost = Identity { host: "lost".into(), name: "b".into(), ..Identity::own() };
        let lost = serde_json::to_vec(&lost).expect("plain data");
        crate::fs::write_new(&attempt.join(PROCESS), &lost).expect("writable");
        crate::fs::write_new(&attempt.join(BEATS), b"").expect("writable");
        std::thread::scope(|scope| {
            let begins = scope.spawn(|| begin(attempt));
            while !begins.is_finished() {
                std::thread::sleep(Duration::from_millis(50));
                crate::fs::append_to(&attempt.join(BEATS), b".").expect("writable");
            }
            let error = begins.join().expect("no panic").expect_err("it beats");
            assert!(error.to_string().contains(" on b"), "{error:#}");
        });
    }
}
