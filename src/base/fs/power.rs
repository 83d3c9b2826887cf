//! What a power cut may take back: names that were made, moved or removed in a folder that was not
//! synced after that, and bytes of files that were not.
//!
//! 1. This is stricter than the usual file systems of Linux, which keep the order of changes to
//!    names: here any subset of them is lost, each alone. A change that a kept one builds on stays.
//! 2. A move is one change of two folders, kept once the folder of its new name is synced.
//! 3. A file that was not synced keeps all its new bytes, or loses an end of them, or has zeros
//!    instead of it.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::effect::Effect;
use crate::random::Stream;

/// A folder or a file, whatever its name is.
type Inode = (u64, u64);

/// One change of names, with the folder that has to be synced for it to last.
struct Change {
    folder: Inode,
    what: What,
}

enum What {
    Made(PathBuf),
    Moved { from: PathBuf, to: PathBuf, replaced: Option<PathBuf> },
    Removed { path: PathBuf, kept: PathBuf },
}

/// The effects below a root that a power cut may take back.
pub(super) struct Power {
    grave: PathBuf,
    buried: u64,
    changes: Vec<Change>,
    /// Files with bytes that were not synced, and how many are on the disk for sure.
    dirty: HashMap<Inode, u64>,
}

impl Power {
    /// Keeps what is replaced or removed in the folder `grave`.
    pub(super) fn new(grave: &Path) -> io::Result<Self> {
        fs::create_dir_all(grave)?;
        let grave = grave.to_owned();
        Ok(Power { grave, buried: 0, changes: Vec::new(), dirty: HashMap::new() })
    }

    /// Does what has an effect, and notes it.
    pub(super) fn log<T>(
        &mut self,
        effect: Effect<'_>,
        act: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        match effect {
            Effect::Temporary(_) | Effect::Change(_) => act(),
            Effect::Create(path) | Effect::Link(path) => {
                let is_new = path.symlink_metadata().is_err();
                let done = act()?;
                if is_new {
                    self.made(path);
                }
                Ok(done)
            }
            Effect::MakeFolder(path) => {
                let missing: Vec<&Path> =
                    path.ancestors().take_while(|path| path.symlink_metadata().is_err()).collect();
                let done = act()?;
                missing.into_iter().rev().for_each(|path| self.made(path));
                Ok(done)
            }
            Effect::Rename { from, to } => {
                let replaced = match to.symlink_metadata() {
                    Ok(metadata) if !metadata.is_dir() => {
                        let kept = self.bury();
                        fs::hard_link(to, &kept)?;
                        Some(kept)
                    }
                    _ => None,
                };
                let done = act()?;
                let (from, to) = (from.to_owned(), to.to_owned());
                self.note(&to.clone(), What::Moved { from, to, replaced });
                Ok(done)
            }
            Effect::Remove(path) => {
                // It is kept first: as a name more of a file; of a folder, as the folder itself.
                let kept = self.bury();
                let is_folder = path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
                if is_folder {
                    fs::rename(path, &kept)?;
                    fs::create_dir(path)?;
                } else if path.symlink_metadata().is_ok() {
                    fs::hard_link(path, &kept)?;
                }
                let done = act()?;
                if kept.symlink_metadata().is_ok() {
                    self.note(path, What::Removed { path: path.to_owned(), kept });
                }
                Ok(done)
            }
            Effect::Sync(path) => {
                let done = act()?;
                self.synced(inode(&path.metadata()?));
                Ok(done)
            }
            Effect::SyncFile(_, file) => {
                let done = act()?;
                self.synced(inode(&file.metadata()?));
                Ok(done)
            }
            Effect::RemoveEmpty(path) => {
                let done = act()?;
                let kept = self.bury();
                fs::create_dir(&kept)?;
                self.note(path, What::Removed { path: path.to_owned(), kept });
                Ok(done)
            }
        }
    }

    /// What is on the disk for sure.
    fn synced(&mut self, what: Inode) {
        self.dirty.remove(&what);
        self.changes.retain(|change| change.folder != what);
    }

    /// A file, folder or link was made.
    pub(super) fn made(&mut self, path: &Path) {
        if let Ok(metadata) = path.symlink_metadata()
            && metadata.is_file()
            && metadata.nlink() == 1
        {
            self.dirty.insert(inode(&metadata), 0);
        }
        self.note(path, What::Made(path.to_owned()));
    }

    /// Bytes are about to be written to a file.
    pub(super) fn dirty(&mut self, file: &File) -> io::Result<()> {
        let metadata = file.metadata()?;
        self.dirty.entry(inode(&metadata)).or_insert(metadata.len());
        Ok(())
    }

    fn bury(&mut self) -> PathBuf {
        self.buried += 1;
        self.grave.join(self.buried.to_string())
    }

    fn note(&mut self, path: &Path, what: What) {
        let folder = path.parent().and_then(|folder| folder.metadata().ok());
        if let Some(folder) = folder {
            self.changes.push(Change { folder: inode(&folder), what });
        }
    }

    /// Takes back a part of what is not on the disk for sure. Counts what was taken back.
    pub(super) fn cut(self, root: &Path, draws: Stream) -> io::Result<BTreeMap<&'static str, u64>> {
        let mut lost = BTreeMap::new();
        let mut count = |what| *lost.entry(what).or_default() += 1;
        let mut draws = draws.sequence(0);
        // All, none, or half of it.
        let chance = *draws.choose(&[0.0, 0.5, 0.5, 1.0]);
        let mut kept: Vec<(PathBuf, PathBuf)> = Vec::new();
        for change in self.changes.into_iter().rev() {
            let is_lost = draws.chance(chance);
            match change.what {
                What::Made(path) => {
                    if is_lost
                        && let Some(path) = now(&path, &kept)
                        && exists(&path)
                    {
                        remove(&path)?;
                        count("a name made");
                    }
                }
                What::Moved { from, to, replaced } => {
                    let paths = now(&to, &kept).zip(now(&from, &kept));
                    match paths.filter(|(to, from)| is_lost && exists(to) && is_free(from)) {
                        Some((to, from)) => {
                            fs::rename(&to, from)?;
                            replaced.map_or(Ok(()), |replaced| fs::rename(replaced, to))?;
                            count("a name moved");
                        }
                        None => kept.push((from, to)),
                    }
                }
                What::Removed { path, kept: buried } => {
                    if is_lost
                        && let Some(path) = now(&path, &kept)
                        && is_free(&path)
                        && exists(&buried)
                    {
                        fs::rename(buried, path)?;
                        count("a name removed");
                    }
                }
            }
        }
        for path in files(root)? {
            let metadata = path.symlink_metadata()?;
            let Some(sure) = self.dirty.get(&inode(&metadata)) else { continue };
            let unsure = metadata.len().saturating_sub(*sure);
            let left = sure + draws.below(unsure as usize + 1) as u64;
            match draws.below(3) {
                _ if left == metadata.len() => {}
                0 => {}
                1 => {
                    writable(&path)?.set_len(left)?;
                    count("an end of a file");
                }
                _ => {
                    let zeros = vec![0; (metadata.len() - left) as usize];
                    writable(&path)?.write_all_at(&zeros, left)?;
                    count("bytes of a file");
                }
            }
        }
        fs::remove_dir_all(&self.grave)?;
        Ok(lost)
    }
}

fn inode(metadata: &fs::Metadata) -> Inode {
    (metadata.dev(), metadata.ino())
}

/// Where what was at `path` is after the later moves that are kept, the latest first; `None` if one
/// of them moved this very name away.
fn now(path: &Path, kept: &[(PathBuf, PathBuf)]) -> Option<PathBuf> {
    let mut path = path.to_owned();
    for (from, to) in kept.iter().rev() {
        if path == *from {
            return None;
        }
        if let Ok(rest) = path.strip_prefix(from) {
            path = to.join(rest);
        }
    }
    Some(path)
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Whether something can be put there.
fn is_free(path: &Path) -> bool {
    !exists(path) && path.parent().is_some_and(Path::is_dir)
}

fn remove(path: &Path) -> io::Result<()> {
    match path.symlink_metadata()?.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    }
}

/// A file that may be read-only, to be changed.
fn writable(path: &Path) -> io::Result<File> {
    let rights = path.metadata()?.permissions();
    let mut more = rights.clone();
    std::os::unix::fs::PermissionsExt::set_mode(&mut more, 0o600);
    fs::set_permissions(path, more)?;
    let mut file = File::options().write(true).open(path)?;
    file.flush()?;
    fs::set_permissions(path, rights)?;
    Ok(file)
}

/// All files below a folder, sorted.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        if !next.is_dir() {
            continue;
        }
        for entry in fs::read_dir(next)? {
            let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file() {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
