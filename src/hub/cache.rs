//! The cache that all tools of the hub share: its layout, and what is there. Uses no network.
//!
//! ```text
//! models--owner--name/ blobs/<checksum>             files by content; `<checksum>.incomplete`
//! while one is fetched refs/<revision>              the commit that a branch or tag meant when it
//! was last asked for snapshots/<commit>/<path>    links to blobs trees/<commit>.json          what
//! the repository holds at that commit, if another tool has noted it posttrain/<commit>.json
//! the same, as we have noted it posttrain/<commit>/<path>    links into the snapshot: exactly what
//! a model needs datasets--owner--name/         the same for a dataset; where several files are
//! asked for, the links to them are in posttrain/<commit>-<hash of the pattern>/
//! .locks/models--owner--name/    one lock for each blob that is being fetched, or folder of ours
//! ```
//!
//! All but `posttrain/` is the common layout. Other tools may put more into a snapshot at any time
//! (a readme, weights in other formats), and what a model is taken to be must not depend on that:
//! hence a folder of our own. Where `trees/` says what a commit holds, other tools take a snapshot
//! without all of it to be broken; ours hold a part, so we only read there.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hf_hub::{Cache, CacheRepo};
use serde::{Deserialize, Serialize};

use super::files::{Digest, File, Listing};
use super::name::{Name, is_commit};
use super::settings::Settings;
use crate::dag::lock::Lock;
use crate::error::Result;

/// Of the files that list what a commit holds.
const TREE_FORMAT: u32 = 1;
/// How deep a path of a repository that a model needs may be, and one that is asked for of a
/// dataset.
const DEPTHS: [usize; 2] = [2, 8];

/// A repository's part of the cache.
pub struct Shelf {
    layout: CacheRepo,
    /// `models--owner--name`.
    root: PathBuf,
    locks: PathBuf,
    depth: usize,
}

/// What a commit holds, as a file.
#[derive(Serialize, Deserialize)]
struct Tree<'a> {
    format_version: u32,
    files: Cow<'a, BTreeMap<String, Leaf>>,
}

/// A file that a commit holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaf {
    /// Bytes.
    pub size: u64,
    /// Git's checksum of the file, or of the pointer to a large one.
    pub blob_id: String,
    /// Checksum of a large file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lfs_sha256: Option<String>,
    /// Bytes of a large file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lfs_size: Option<u64>,
}

impl Leaf {
    /// As a file of a listing.
    pub fn file(&self, path: &str) -> File {
        let digest = Digest::of(self.lfs_sha256.as_deref().unwrap_or(&self.blob_id));
        File { path: path.to_owned(), size: Some(self.lfs_size.unwrap_or(self.size)), digest }
    }
}

impl Shelf {
    /// The place of a repository; nothing need be there.
    pub fn of(settings: &Settings, name: &Name) -> Self {
        let repository = name.at(&name.revision);
        let folder = repository.folder_name();
        let layout = Cache::new(settings.cache.clone()).repo(repository);
        Shelf {
            layout,
            root: settings.cache.join(&folder),
            locks: settings.cache.join(".locks").join(folder),
            depth: DEPTHS[usize::from(name.path.is_some())],
        }
    }

    /// The folder of all of it.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of a commit.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.layout.pointer_path(commit)
    }

    /// Where the file of this content is.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.layout.blob_path(digest.digits())
    }

    /// The commit that a revision meant when it was last asked for.
    pub fn commit(&self, name: &Name) -> Option<String> {
        if name.is_pinned() {
            return Some(name.revision.clone());
        }
        let text = crate::fs::read_to_string(&self.root.join("refs").join(&name.revision)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Notes what a revision means. The snapshot must be there.
    pub fn note_commit(&self, name: &Name, commit: &str) -> Result<()> {
        let path = self.root.join("refs").join(&name.revision);
        if name.is_pinned() || self.commit(name).as_deref() == Some(commit) {
            return Ok(());
        }
        crate::fs::create_dir_all(path.parent().expect("it is in `refs`"))?;
        crate::fs::write_atomic(&path, commit.as_bytes())
    }

    /// What the repository holds at a commit, if that has been noted.
    pub fn tree(&self, commit: &str) -> Option<Listing> {
        ["posttrain", "trees"].into_iter().find_map(|folder| {
            let bytes = crate::fs::read(&self.tree_path(folder, commit)).ok()?;
            let tree: Tree<'_> = serde_json::from_slice(&bytes).ok()?;
            let listing =
                || tree.files.iter().map(|(path, leaf)| (path.clone(), leaf.file(path))).collect();
            (tree.format_version == TREE_FORMAT).then(listing)
        })
    }

    /// Notes what the repository holds at a commit.
    pub fn note_tree(&self, commit: &str, files: &BTreeMap<String, Leaf>) -> Result<()> {
        let path = self.tree_path("posttrain", commit);
        crate::fs::create_dir_all(path.parent().expect("it is in a folder"))?;
        let tree = Tree { format_version: TREE_FORMAT, files: Cow::Borrowed(files) };
        crate::fs::write_atomic(&path, &serde_json::to_vec(&tree).expect("a tree is plain data"))
    }

    fn tree_path(&self, folder: &str, commit: &str) -> PathBuf {
        self.root.join(folder).join(format!("{commit}.json"))
    }

    /// What is in the snapshot of a commit, as far as a model may need it: all that can be known
    /// where no tree was noted.
    pub fn found(&self, commit: &str) -> Result<Listing> {
        let mut found = Vec::new();
        walk(&self.snapshot(commit), "", self.depth, &mut found)?;
        Ok(found
            .into_iter()
            .map(|path| (path.clone(), File { path, size: None, digest: None }))
            .collect())
    }

    /// Whether a file is in the snapshot, as long as it should be.
    pub fn has(&self, commit: &str, file: &File) -> bool {
        is_whole(&self.snapshot(commit).join(&file.path), file.size)
    }

    /// Puts a link to a blob into the snapshot.
    pub fn place(&self, commit: &str, file: &File, blob: &Digest) -> Result<()> {
        let path = self.snapshot(commit).join(&file.path);
        crate::fs::create_dir_all(path.parent().expect("it is in the snapshot"))?;
        let target = format!("../../{}blobs/{}", up(&file.path), blob.digits());
        crate::fs::link(&path, Path::new(&target))
    }

    /// The folder `name` with exactly these files of a snapshot. Nothing is written if it is there
    /// already.
    pub fn view(&self, name: &str, commit: &str, files: &[&File]) -> Result<PathBuf> {
        let view = self.root.join("posttrain").join(name);
        let target = |file: &File| {
            PathBuf::from(format!("../../{}snapshots/{commit}/{}", up(&file.path), file.path))
        };
        let is_right =
            |file: &File| view.join(&file.path).read_link().is_ok_and(|link| link == target(file));
        let strays = || -> Result<Vec<String>> {
            let mut there = Vec::new();
            walk(&view, "", self.depth, &mut there)?;
            there.retain(|path| files.iter().all(|file| file.path != *path));
            Ok(there)
        };
        if files.iter().all(|file| is_right(file)) && strays()?.is_empty() {
            return Ok(view);
        }
        // What another process is about to put there would be a stray.
        let _lock = self.lock_named(&format!("posttrain-{name}"), || ())?;
        for stray in strays()? {
            crate::fs::remove_all(&view.join(stray))?;
        }
        for file in files.iter().filter(|file| !is_right(file)) {
            let path = view.join(&file.path);
            crate::fs::create_dir_all(path.parent().expect("it is in the view"))?;
            crate::fs::link(&path, &target(file))?;
        }
        Ok(view)
    }

    /// The right to fetch what belongs under this checksum. `waits` is called before it is waited
    /// for.
    pub fn lock(&self, digest: &Digest, waits: impl FnOnce()) -> Result<Lock> {
        self.lock_named(digest.digits(), waits)
    }

    fn lock_named(&self, name: &str, waits: impl FnOnce()) -> Result<Lock> {
        crate::fs::create_dir_all(&self.locks)?;
        let path = self.locks.join(format!("{name}.lock"));
        match Lock::try_acquire(&path)? {
            Some(lock) => Ok(lock),
            None => {
                waits();
                Lock::acquire(&path)
            }
        }
    }
}

/// Whether there is a file of this size, links followed.
pub fn is_whole(path: &Path, size: Option<u64>) -> bool {
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && size.is_none_or(|size| size == metadata.len()))
}

/// `../` for each folder that a path leads through.
fn up(path: &str) -> String {
    "../".repeat(path.matches('/').count())
}

/// The paths of all that is no folder, `depth` names deep at most.
fn walk(folder: &Path, prefix: &str, depth: usize, found: &mut Vec<String>) -> Result<()> {
    for name in crate::fs::list(folder)? {
        let (path, relative) = (folder.join(&name), format!("{prefix}{name}"));
        match path.is_dir() {
            true if depth > 1 => walk(&path, &format!("{relative}/"), depth - 1, found)?,
            true => {}
            false => found.push(relative),
        }
    }
    Ok(())
}
