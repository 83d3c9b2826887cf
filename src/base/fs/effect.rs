//! Calls with an effect on a disk. Uses nothing of what becomes of them.

use std::fs::File;
use std::path::Path;

/// A call with an effect on a disk.
#[derive(Clone, Copy, Debug)]
pub(super) enum Effect<'a> {
    /// A file is made or opened to be written.
    Create(&'a Path),
    /// A file is made beside this one, to replace it.
    Temporary(&'a Path),
    /// A folder is made, with its parents.
    MakeFolder(&'a Path),
    /// A name for a file, or a symbolic link, is made.
    Link(&'a Path),
    /// A file or folder is moved.
    Rename { from: &'a Path, to: &'a Path },
    /// A file or folder is removed.
    Remove(&'a Path),
    /// A folder is removed if it is empty.
    RemoveEmpty(&'a Path),
    /// What is in a file, or the names in a folder, reach the disk.
    Sync(&'a Path),
    /// The same for a file that is to get this name.
    SyncFile(&'a Path, &'a File),
    /// Rights or room of a file are changed.
    Change(&'a Path),
}

impl Effect<'_> {
    /// Its kind, as schedules count it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Effect::Create(_) | Effect::Temporary(_) => "create",
            Effect::MakeFolder(_) => "make folder",
            Effect::Link(_) => "link",
            Effect::Rename { .. } => "rename",
            Effect::Remove(_) | Effect::RemoveEmpty(_) => "remove",
            Effect::Sync(_) | Effect::SyncFile(..) => "sync",
            Effect::Change(_) => "change",
        }
    }

    /// The path that it is on.
    pub(super) fn path(&self) -> &Path {
        match self {
            Effect::Create(path)
            | Effect::Temporary(path)
            | Effect::MakeFolder(path)
            | Effect::Link(path)
            | Effect::Rename { to: path, .. }
            | Effect::Remove(path)
            | Effect::RemoveEmpty(path)
            | Effect::Sync(path)
            | Effect::SyncFile(path, _)
            | Effect::Change(path) => path,
        }
    }
}
