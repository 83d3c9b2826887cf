//! What errors of a disk say: whether a place may not be written to, whether the machine is short
//! of something, what to do about it.

use std::io;
use std::path::Path;

use crate::error::{Failure, environment};

/// Whether an error, of this module or with an I/O error in it, says that a place may not be
/// written to at all.
pub fn is_denied(error: &anyhow::Error) -> bool {
    let denied = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
    };
    error.downcast_ref::<Failure>().is_some_and(|failure| failure.hint.as_deref() == Some(DENIED))
        || error.chain().any(|cause| cause.downcast_ref().is_some_and(denied))
}

/// Whether an error with an I/O error in it says that the machine is short of memory, of open files
/// or of space.
pub fn is_shortage(error: &anyhow::Error) -> bool {
    // ENOMEM, ENFILE, EMFILE, ENOSPC.
    let short = |error: &io::Error| matches!(error.raw_os_error(), Some(12 | 23 | 24 | 28));
    error.chain().any(|cause| cause.downcast_ref().is_some_and(short))
}

/// Whether the disk of a path has no room left. Where that cannot be told, it is taken to have
/// some.
pub fn is_full(path: &Path) -> bool {
    // Less than a block or two is what a file system cannot give away.
    rustix::fs::statvfs(path)
        .is_ok_and(|disk| disk.f_blocks > 0 && disk.f_bavail.saturating_mul(disk.f_frsize) < 8192)
}

/// What to do about a place that may not be written to.
pub const DENIED: &str = "give yourself the right to write there, or use another folder";

/// The error of a call that could not write, and what to do about it.
pub(super) fn wrote(what: &str, path: &Path, error: io::Error) -> anyhow::Error {
    let failure: Failure = environment(format!("cannot {what} {}: {error}", path.display()));
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            failure.hint("free some space there, or use a cache on another disk").into()
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            failure.hint(DENIED).into()
        }
        _ => failure.into(),
    }
}
