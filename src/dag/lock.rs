//! Locks on files, held by open file descriptions, so that they end with their holder,
//! however it ends. Uses nothing of what they guard.
//!
//! A lock file is removed when it is let go. A process that was waiting then holds a lock on a file
//! that has no name any more, notices, and tries again with the file that has; so a lock counts
//! only once its file is found under its path.
//!
//! Letting go unlocks, and does not only close: while another thread starts a process, that process
//! has the file open too, for the moment between fork and exec, and a lock ends with the last who
//! has it open.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Context, Result};
use crate::fs::open_lock;

/// An exclusive lock. Dropping it lets go and removes the file.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Waits for the lock.
    pub fn acquire(path: &Path) -> Result<Self> {
        loop {
            let lock = Lock { file: open_lock(path)?, path: path.to_owned() };
            lock.file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
            if lock.is_held()? {
                return Ok(lock);
            }
            lock.abandon();
        }
    }

    /// The lock, or `None` if another holds it.
    pub fn try_acquire(path: &Path) -> Result<Option<Self>> {
        loop {
            let lock = Lock { file: open_lock(path)?, path: path.to_owned() };
            match lock.file.try_lock() {
                Ok(()) if lock.is_held()? => return Ok(Some(lock)),
                Ok(()) => lock.abandon(),
                Err(TryLockError::WouldBlock) => {
                    lock.abandon();
                    return Ok(None);
                }
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
        }
    }

    /// True as long as the file under the path is the one that is locked; false if another has
    /// removed it.
    pub fn is_held(&self) -> Result<bool> {
        let ours =
            self.file.metadata().with_context(|| format!("cannot read {}", self.path.display()))?;
        match self.path.symlink_metadata() {
            Ok(named) => Ok((named.dev(), named.ino()) == (ours.dev(), ours.ino())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => {
                Err(error).with_context(|| format!("cannot read {}", self.path.display()))
            }
        }
    }

    /// Closes the file without touching the path.
    fn abandon(mut self) {
        self.path = PathBuf::new();
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while still locked: no other process can hold this very file through its path.
        // A file that cannot be removed is harmless, being unlocked in a moment.
        if !self.path.as_os_str().is_empty() && self.is_held().unwrap_or(false) {
            let _ = crate::fs::remove_all(&self.path);
        }
        let _ = self.file.unlock();
    }
}

/// A lock that many may share: each run holds it, and only `gc`, beside which there is no run,
/// takes it alone. Its file stays.
#[derive(Debug)]
pub struct SharedLock {
    file: File,
}

impl SharedLock {
    /// Waits until no process holds it exclusively, and shares it.
    pub fn share(path: &Path) -> Result<Self> {
        let file = open_lock(path)?;
        file.lock_shared().with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(SharedLock { file })
    }

    /// Takes it alone, or `None` if anybody holds it.
    pub fn try_alone(path: &Path) -> Result<Option<Self>> {
        let file = open_lock(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(SharedLock { file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }
}

impl Drop for SharedLock {
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_lock_excludes_and_leaves_no_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("lock");
        let (inside, turns) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let lock = Lock::acquire(&path).expect("the folder is there");
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two hold one lock");
                        turns.fetch_add(1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
        assert_eq!(turns.load(Ordering::SeqCst), 800);
        assert!(!path.exists());
    }

    #[test]
    fn a_held_lock_is_refused_and_a_removed_one_is_noticed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("lock");
        let lock = Lock::acquire(&path).expect("the folder is there");
        assert!(Lock::try_acquire(&path).expect("no error").is_none());
        std::fs::remove_file(&path).expect("it is there");
        assert!(!lock.is_held().expect("no error"));
    }
    /// A process that has just been forked has the same files open; so has a clone.
    #[test]
    fn what_is_let_go_is_free_though_a_process_just_forked_has_it_open() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("lock");
        let shared = SharedLock::share(&path).expect("the folder is there");
        let forked = shared.file.try_clone().expect("a file more");
        assert!(SharedLock::try_alone(&path).expect("no error").is_none());
        drop(shared);
        assert!(SharedLock::try_alone(&path).expect("no error").is_some());
        drop(forked);

        let lock = Lock::try_acquire(&path).expect("no error").expect("it is free");
        let forked = lock.file.try_clone().expect("a file more");
        let waits = open_lock(&path).expect("the folder is there");
        drop(lock);
        waits.try_lock().expect("free");
        drop(forked);
    }
}
