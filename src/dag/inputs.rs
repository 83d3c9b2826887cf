//! Files and folders from outside: the hash of their content, remembered by their stats, and
//! whether they changed while they were in use. Uses nothing of what they are for.
//!
//! A remembered hash counts only if size, both times, inode and volume are the same, and if the
//! file had been at rest for two seconds when it was hashed: otherwise a later change could carry
//! the very same times (the rule of git's index). A change that is undone, bytes and all, while a
//! stage runs is not seen.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::checked::{parsed, seal};
use crate::digest::ContentHash;
use crate::error::{Context, Result, user};
use crate::node::{Node, OwnedReference, references};
use crate::store::Store;
use crate::tree::{HashedFile, Links, Stat, hash_file, hash_tree, walk};

const DOMAIN: &str = "posttrain input, encoding 1";
/// Nanoseconds: no file system in use keeps coarser times than two seconds.
const TICK: i64 = 2_000_000_000;
/// How often a file that changes while it is read is read again.
const ATTEMPTS: usize = 3;

/// What an input held at one moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// The input, absolute.
    pub path: PathBuf,
    /// The hash of its content.
    pub content: ContentHash,
    /// Its files; a single file has the empty relative path.
    files: Vec<HashedFile>,
}

/// Takes a snapshot. Hashes are remembered in the store, if it may be written.
///
/// # Errors
/// An input that is not there is the user's mistake.
pub fn snapshot(store: &Store, path: &Path) -> Result<Snapshot> {
    let path =
        std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()))?;
    let memory = memory_path(store, &path);
    let remembered = crate::fs::read_if_exists(&memory).ok().flatten();
    let remembered: Option<Snapshot> = remembered.and_then(|bytes| parsed(&bytes));
    let known = remembered.map(|snapshot| snapshot.files).unwrap_or_default();
    let known: HashMap<&str, &HashedFile> =
        known.iter().map(|file| (file.path.as_str(), file)).collect();
    let mut fresh = false;
    let mut files = Vec::new();
    let (folder, stats) = stats(&path)?;
    for (relative, stat) in stats {
        let trusted = known
            .get(relative.as_str())
            .filter(|file| file.stat == stat && stat.settled(file.hashed_at, TICK));
        files.push(match trusted {
            Some(file) => (*file).clone(),
            None => {
                fresh = true;
                hash(&path, relative)?
            }
        });
    }
    let snapshot = Snapshot { content: content(folder, &files), path, files };
    if fresh {
        // Only a saving of time; a plan writes nothing where no run has made the folders.
        let bytes = serde_json::to_vec(&snapshot).expect("a snapshot is plain data");
        let _ = crate::fs::write_hint(&memory, &seal(bytes));
    }
    Ok(snapshot)
}

impl Snapshot {
    /// True if the input still holds what it held: by its stats if they say so beyond doubt, else
    /// by its bytes.
    pub fn still_holds(&self) -> Result<bool> {
        let (folder, stats) = stats(&self.path)?;
        let same = stats.len() == self.files.len()
            && stats.iter().zip(&self.files).all(|((path, stat), file)| {
                *path == file.path && *stat == file.stat && stat.settled(file.hashed_at, TICK)
            });
        if same {
            return Ok(true);
        }
        let files = stats
            .into_iter()
            .map(|(path, _)| hash(&self.path, path))
            .collect::<Result<Vec<_>>>()?;
        Ok(content(folder, &files) == self.content)
    }
}

/// What the inputs of some nodes held when each was first asked for.
#[derive(Default)]
pub struct Snapshots(BTreeMap<PathBuf, Snapshot>);

impl Snapshots {
    /// Takes a snapshot of every input of a node that has none yet.
    pub fn take_all(&mut self, store: &Store, node: &Node) -> Result<()> {
        for (field, reference) in references(&node.config)? {
            if let OwnedReference::Input(path) = reference
                && !self.0.contains_key(&path)
            {
                let taken = snapshot(store, &path)
                    .with_context(|| format!("`{}` of `{}`", field, node.name))?;
                self.0.insert(path, taken);
            }
        }
        Ok(())
    }

    /// The content of an input.
    ///
    /// # Panics
    /// If no snapshot of it was taken.
    pub fn content(&self, path: &Path) -> ContentHash {
        self.0[path].content
    }

    /// All snapshots, by path.
    pub fn iter(&self) -> impl Iterator<Item = &Snapshot> {
        self.0.values()
    }
}

/// Whether it is a folder, and its files.
fn stats(path: &Path) -> Result<(bool, Vec<(String, Stat)>)> {
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(user(format!("there is no file or folder {}", path.display())).into());
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    match (metadata.is_dir(), metadata.is_file()) {
        (true, _) => Ok((true, walk(path, Links::Follow)?)),
        (_, true) => Ok((false, vec![(String::new(), Stat::of(&metadata))])),
        _ => Err(user(format!("{} is neither a file nor a folder", path.display())).into()),
    }
}

fn hash(input: &Path, relative: String) -> Result<HashedFile> {
    let path = if relative.is_empty() { input.to_owned() } else { input.join(&relative) };
    for _ in 0..ATTEMPTS {
        if let Some((hash, stat, hashed_at)) = hash_file(&path)? {
            return Ok(HashedFile { path: relative, hash: hash.into(), stat, hashed_at });
        }
    }
    Err(user(format!("{} changes while it is read", path.display()))
        .hint("wait until it has been written, then run again")
        .into())
}

fn content(folder: bool, files: &[HashedFile]) -> ContentHash {
    let mut hasher = blake3::Hasher::new_derive_key(DOMAIN);
    match folder {
        true => hasher.update(b"d").update(hash_tree(files).as_bytes()),
        false => hasher.update(b"f").update(files[0].hash.as_bytes()),
    };
    hasher.finalize().into()
}

fn memory_path(store: &Store, path: &Path) -> PathBuf {
    let name = blake3::hash(path.as_os_str().as_encoded_bytes());
    store.at("stat/inputs").join(format!("{}.json", name.to_hex()))
}
