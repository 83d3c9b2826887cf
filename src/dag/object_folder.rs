//! Objects in a local folder, each a folder of plain read-only files. Uses nothing of what made
//! them.
//!
//! How an artefact is stored, so that a crash or a power cut at any point leaves nothing
//! half-made under an id:
//! 1. its files are made read-only, hashed, and synced, then its folders;
//! 2. it is renamed into place (one volume, one step), and `objects/` is synced;
//! 3. the stats of its files are remembered, so that a later check need not read them;
//! 4. the caller writes the entry that refers to it, last.
//!
//! A file is read once, to be hashed. Nothing is copied: stages write into the volume of the store.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::checked::{parsed, seal};
use crate::digest::ObjectId;
use crate::error::{Context, Failure, Kind, Result, environment};
use crate::fs::Renamed;
use crate::lock::Lock;
use crate::object_store::{Integrity, ObjectStore};
use crate::tree::{HashedFile, Links, Stat, hash_files, hash_tree, walk};

/// Nanoseconds within which two changes may get the same time on a local disk: a few ticks of any
/// kernel's clock.
const TICK: i64 = 50_000_000;

/// What is remembered of an object, in a file: enough to see by stats alone that it was not
/// changed.
#[derive(Serialize, Deserialize)]
struct Manifest {
    files: Vec<HashedFile>,
}

/// The objects of a store in its folder.
pub struct ObjectFolder {
    /// The folder of the store's layout: objects are in `objects/`, and attempts in `work/`.
    root: PathBuf,
}

impl ObjectFolder {
    /// The objects below the folder of a store's layout, which need not exist yet.
    pub fn new(root: PathBuf) -> Self {
        ObjectFolder { root }
    }

    /// The folder of an object.
    pub fn object_path(&self, object: ObjectId) -> PathBuf {
        self.at("objects").join(object.to_string())
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn set_aside_locked(&self, object: ObjectId) -> Result<Option<PathBuf>> {
        if !matches!(self.has(object)?, Integrity::Corrupted(_)) {
            return Ok(None);
        }
        let bad = (0..)
            .map(|n| self.at("bad").join(format!("{object}-{n}")))
            .find(|path| path.symlink_metadata().is_err());
        let bad = bad.expect("numbers do not run out");
        crate::fs::rename(&self.object_path(object), &bad)?;
        crate::fs::remove_all(&self.manifest_path(object))?;
        Ok(Some(bad))
    }

    fn object_lock(&self, object: ObjectId) -> Result<Lock> {
        Lock::acquire(&self.at("locks").join(format!("object-{object}")))
    }

    fn manifest(&self, object: ObjectId) -> Option<Manifest> {
        let bytes = crate::fs::read_if_exists(&self.manifest_path(object)).ok()??;
        parsed(&bytes)
    }

    fn remember(&self, object: ObjectId, files: Vec<HashedFile>) -> Result<()> {
        let bytes = serde_json::to_vec(&Manifest { files }).expect("a manifest is plain data");
        crate::fs::write_hint(&self.manifest_path(object), &seal(bytes))
    }

    fn manifest_path(&self, object: ObjectId) -> PathBuf {
        self.at("stat/objects").join(format!("{object}.json"))
    }
}

impl ObjectStore for ObjectFolder {
    /// By the stats of its files if they are what is remembered, else by their bytes.
    fn has(&self, object: ObjectId) -> Result<Integrity> {
        let folder = self.object_path(object);
        match folder.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Ok(Integrity::Corrupted("it is no folder".into())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Integrity::Absent);
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", folder.display()));
            }
        }
        let found = match walk(&folder, Links::Refuse) {
            Ok(found) => found,
            // A machine that is short of something says nothing about the object.
            Err(error) if crate::fs::is_shortage(&error) => return Err(error),
            Err(error) => return Ok(Integrity::Corrupted(format!("{error:#}"))),
        };
        let remembered = self.manifest(object);
        if remembered.as_ref().is_some_and(|manifest| untouched(&found, manifest)) {
            return Ok(Integrity::Sound);
        }
        let paths: Vec<String> = found.into_iter().map(|file| file.0).collect();
        let files = match hash_files(&folder, &paths) {
            Ok(Ok(files)) => files,
            Ok(Err(path)) => return Ok(Integrity::Corrupted(format!("`{path}` is being changed"))),
            // Perhaps another run is setting it aside; the one that does looks again, under the
            // object's lock.
            Err(error) if vanished(&error) => {
                return Ok(Integrity::Corrupted(format!("{error:#}")));
            }
            Err(error) => return Err(error),
        };
        if ObjectId::from(hash_tree(&files)) != object {
            return Ok(Integrity::Corrupted(what_differs(&files, remembered.as_ref())));
        }
        // Only a saving of time, and perhaps the store may only be read.
        let _ = self.remember(object, files);
        Ok(Integrity::Sound)
    }

    fn get(&self, object: ObjectId) -> Result<PathBuf> {
        let path = self.object_path(object);
        match path.is_dir() {
            true => Ok(path),
            false => Err(environment(format!("there is no object {}", path.display())).into()),
        }
    }

    fn put(&self, attempt: &Path) -> Result<ObjectId> {
        let stage = |message: String| Failure::new(Kind::Stage, message);
        let out = &attempt.join("out");
        if !is_own_folder(&self.at("work"), attempt) || !is_own_folder(attempt, out) {
            let message =
                format!("the stage replaced its folder {} by something else", out.display());
            return Err(stage(message)
                .hint("write into that folder, and leave the folder itself where it is")
                .into());
        }
        let found = walk(out, Links::Refuse)
            .map_err(|error| stage(format!("the artefact cannot be kept: {error:#}")))?;
        if found.is_empty() {
            return Err(
                stage("the stage ended well but left no file in its artefact".into()).into()
            );
        }
        let paths: Vec<String> = found.into_iter().map(|file| file.0).collect();
        for path in &paths {
            // A file that has another name as well may be the user's own: that one stays as it is,
            // and as writable as it is.
            crate::fs::make_own(&out.join(path))?;
            crate::fs::make_read_only(&out.join(path))?;
        }
        let files = hash_files(out, &paths)?.map_err(|path| {
            stage(format!("`{path}` was still written to after the stage had ended"))
        })?;
        for path in &paths {
            crate::fs::sync(&out.join(path))?;
        }
        for folder in folders_of(&paths) {
            crate::fs::sync(&out.join(folder))?;
        }
        let object = ObjectId::from(hash_tree(&files));
        let _lock = self.object_lock(object)?;
        match self.has(object)? {
            Integrity::Sound => return Ok(object),
            Integrity::Absent => {}
            Integrity::Corrupted(_) => drop(self.set_aside_locked(object)?),
        }
        if crate::fs::rename_unless_taken(out, &self.object_path(object))? != Renamed::Done {
            // Where locks do not hold between hosts, another run may have been faster.
            return match self.has(object)? {
                Integrity::Sound => Ok(object),
                _ => Err(environment(format!(
                    "cannot move {} to {}",
                    out.display(),
                    self.object_path(object).display()
                ))
                .into()),
            };
        }
        crate::fs::sync(&self.at("objects"))?;
        self.remember(object, files)?;
        Ok(object)
    }

    fn set_aside(&self, object: ObjectId) -> Result<Option<PathBuf>> {
        let _lock = self.object_lock(object)?;
        self.set_aside_locked(object)
    }
}

/// Whether `path` is a real folder inside `root`, no link leading out of it.
fn is_own_folder(root: &Path, path: &Path) -> bool {
    let is_folder = path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    let inside = path.strip_prefix(root).is_ok_and(|rest| {
        let (root, path) = (root.canonicalize(), path.canonicalize());
        root.is_ok_and(|root| path.is_ok_and(|path| path == root.join(rest)))
    });
    is_folder && inside
}

fn vanished(error: &anyhow::Error) -> bool {
    error
        .root_cause()
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// The folders that hold these files, the root (`""`) included, deeper ones first.
fn folders_of(paths: &[String]) -> Vec<&str> {
    let mut folders = vec![""];
    for path in paths {
        folders.extend(path.match_indices('/').map(|(at, _)| &path[..at]));
    }
    folders.sort_unstable_by(|a, b| b.cmp(a));
    folders.dedup();
    folders
}

fn untouched(found: &[(String, Stat)], manifest: &Manifest) -> bool {
    found.len() == manifest.files.len()
        && found.iter().zip(&manifest.files).all(|((path, stat), file)| {
            *path == file.path && *stat == file.stat && stat.settled(file.hashed_at, TICK)
        })
}

fn what_differs(files: &[HashedFile], remembered: Option<&Manifest>) -> String {
    let Some(manifest) = remembered else { return "its bytes do not match its id".into() };
    let changed = files.iter().find(|file| {
        !manifest.files.iter().any(|old| old.path == file.path && old.hash == file.hash)
    });
    let gone = manifest.files.iter().find(|old| !files.iter().any(|file| file.path == old.path));
    match (changed, gone) {
        (Some(file), _) => format!("`{}` is not what it was", file.path),
        (None, Some(file)) => format!("`{}` is missing", file.path),
        (None, None) => "its bytes do not match its id".into(),
    }
}
