//! What a folder of plain files holds: paths, stats and hashes. Uses nothing of stores or keys.
//!
//! The hash of a tree (encoding 1) is BLAKE3 in its key-derivation mode over the count of files
//! and, for each file in the order of its path's bytes: the path's length, the path (relative, `/`
//! between names), the file's length, the BLAKE3 hash of its bytes. Numbers are 8 bytes, least
//! significant first. Folders without files, times and permissions do not count.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::clock::now;
use crate::digest::ContentHash;
use crate::error::{Context, Result, environment, no_thread, user};

const DOMAIN: &str = "posttrain file tree, encoding 1";
/// Bytes read at once; large enough for the parallel hash to pay.
const CHUNK: usize = 1 << 20;

/// What tells, without reading a file, that it may have changed. Times in nanoseconds since 1970. A
/// set-back modification time still moves `changed`, which no call can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    /// Bytes.
    pub size: u64,
    /// Time of the last modification of its bytes, as the file claims.
    pub modified: i64,
    /// Time of the last change of anything about it.
    pub changed: i64,
    /// The file's number on its volume.
    pub inode: u64,
    /// The volume's number.
    pub device: u64,
}

impl Stat {
    /// The stat in a file's metadata.
    pub fn of(metadata: &Metadata) -> Self {
        let nanoseconds =
            |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Stat {
            size: metadata.len(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
            device: metadata.dev(),
        }
    }

    /// True if a change after the moment `hashed_at` is sure to show: the file's own times are more
    /// than `tick` nanoseconds before it, so a later change cannot fall into the same tick of the
    /// file system's clock.
    pub fn settled(&self, hashed_at: i64, tick: i64) -> bool {
        hashed_at.saturating_sub(self.modified.max(self.changed)) > tick
    }
}

/// What to do about symbolic links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// They are an error: an artefact must not lead out of itself.
    Refuse,
    /// They count as what they point at.
    Follow,
}

/// All files below a folder, sorted by the bytes of their relative paths. Whatever is neither file
/// nor folder is an error.
pub fn walk(root: &Path, links: Links) -> Result<Vec<(String, Stat)>> {
    let mut files = Vec::new();
    walk_into(root, "", links, &mut Vec::new(), &mut files)?;
    files.sort_unstable_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
    Ok(files)
}

/// `above` are the folders being walked, by volume and number, to notice a link that leads back
/// into one of them.
fn walk_into(
    folder: &Path,
    prefix: &str,
    links: Links,
    above: &mut Vec<(u64, u64)>,
    files: &mut Vec<(String, Stat)>,
) -> Result<()> {
    if links == Links::Follow {
        let metadata =
            folder.metadata().with_context(|| format!("cannot read {}", folder.display()))?;
        let here = (metadata.dev(), metadata.ino());
        if above.contains(&here) {
            return Err(user(format!("{} leads back to a folder that it is in", folder.display()))
                .hint("remove that link")
                .into());
        }
        above.push(here);
    }
    for name in crate::fs::list(folder)? {
        let path = folder.join(&name);
        let metadata = match links {
            Links::Refuse => path.symlink_metadata(),
            Links::Follow => path.metadata(),
        }
        .with_context(|| format!("cannot read {}", path.display()))?;
        let relative = format!("{prefix}{name}");
        if metadata.is_dir() {
            walk_into(&path, &format!("{relative}/"), links, above, files)?;
        } else if metadata.is_file() {
            files.push((relative, Stat::of(&metadata)));
        } else {
            return Err(
                environment(format!("{} is neither a file nor a folder", path.display())).into()
            );
        }
    }
    above.pop();
    Ok(())
}

/// A file with the hash of its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashedFile {
    /// Relative path, `/` between names.
    pub path: String,
    /// BLAKE3 of its bytes.
    pub hash: ContentHash,
    /// As it was when it was hashed.
    pub stat: Stat,
    /// Nanoseconds since 1970 when it had been read to its end.
    pub hashed_at: i64,
}

/// Hashes one file. `None` if it changed while it was read.
pub fn hash_file(path: &Path) -> Result<Option<(blake3::Hash, Stat, i64)>> {
    let read = || -> std::io::Result<Option<(blake3::Hash, Stat, i64)>> {
        let mut file = File::open(path)?;
        let before = Stat::of(&file.metadata()?);
        let mut hasher = blake3::Hasher::new();
        let mut chunk = vec![0; CHUNK.min(before.size as usize + 1)];
        loop {
            match file.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) if count < CHUNK / 4 => drop(hasher.update(&chunk[..count])),
                Ok(count) => drop(hasher.update_rayon(&chunk[..count])),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let hashed_at = now();
        let after = Stat::of(&file.metadata()?);
        Ok((before == after).then(|| (hasher.finalize(), after, hashed_at)))
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

/// Starts the threads that files are hashed with. Called first: code that needs them later cannot
/// return an error.
pub fn start_threads() -> Result<()> {
    match rayon::ThreadPoolBuilder::new().build_global() {
        Err(error) if std::error::Error::source(&error).is_some() => {
            Err(no_thread("threads", error).into())
        }
        // Any other error says that they have been started already.
        _ => Ok(()),
    }
}

/// Hashes the files of these relative paths below a folder, in parallel. `Err` of a path in the
/// result: it changed meanwhile.
pub fn hash_files(
    root: &Path,
    paths: &[String],
) -> Result<std::result::Result<Vec<HashedFile>, String>> {
    let hashed: Vec<Option<HashedFile>> = paths
        .par_iter()
        .map(|path| {
            let hashed = hash_file(&root.join(path))?;
            Ok(hashed.map(|(hash, stat, hashed_at)| HashedFile {
                path: path.clone(),
                hash: hash.into(),
                stat,
                hashed_at,
            }))
        })
        .collect::<Result<_>>()?;
    Ok(hashed.into_iter().zip(paths).map(|(file, path)| file.ok_or_else(|| path.clone())).collect())
}

/// The hash of a tree, given its files sorted as [`walk`] sorts them.
pub fn hash_tree(files: &[HashedFile]) -> blake3::Hash {
    let list = files.iter().map(|file| (file.path.as_str(), file.stat.size, &file.hash));
    hash_list(files.len(), list)
}

/// The hash of a tree of `count` files, given the path, the size and the hash of each, sorted as
/// [`walk`] sorts them.
pub fn hash_list<'a>(
    count: usize,
    files: impl Iterator<Item = (&'a str, u64, &'a ContentHash)>,
) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_derive_key(DOMAIN);
    hasher.update(&(count as u64).to_le_bytes());
    for (path, size, hash) in files {
        hasher.update(&(path.len() as u64).to_le_bytes());
        hasher.update(path.as_bytes());
        hasher.update(&size.to_le_bytes());
        hasher.update(hash.as_bytes());
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> blake3::Hash {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("it is in the folder")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        let paths: Vec<String> = walk(folder.path(), Links::Refuse)
            .expect("plain files")
            .into_iter()
            .map(|file| file.0)
            .collect();
        hash_tree(&hash_files(folder.path(), &paths).expect("readable").expect("at rest"))
    }

    #[test]
    fn a_tree_is_its_paths_and_bytes_and_nothing_else() {
        let base = tree(&[("a", "1"), ("b/c", "2")]);
        assert_eq!(base, tree(&[("b/c", "2"), ("a", "1")]), "the order of creation does not count");
        for other in [
            &[("a", "1"), ("b/c", "3")][..],
            &[("a", "1"), ("b/d", "2")],
            &[("a", "1"), ("bc", "2")],
            &[("a", "2"), ("b/c", "1")],
            &[("a", "1")],
            &[("a", "1"), ("b/c", "2"), ("d", "")],
        ] {
            assert_ne!(base, tree(other), "{other:?}");
        }
    }

    #[test]
    fn the_hash_of_a_tree_is_pinned() {
        // Computed by a second implementation in another language. Objects on disk are named by it.
        let expected = "df3a5251b08d78f361c0d9690eaf312e677dc50db4523ee97c56262b0bbb3c3c";
        assert_eq!(tree(&[("a", "1"), ("b/c", "2")]).to_hex().as_str(), expected);
    }

    #[test]
    fn a_large_file_hashes_as_in_one_piece() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let bytes: Vec<u8> = (0..3 * CHUNK + 17).map(|i| (i % 251) as u8).collect();
        std::fs::write(folder.path().join("large"), &bytes).expect("a file");
        let (hash, stat, _) =
            hash_file(&folder.path().join("large")).expect("readable").expect("at rest");
        assert_eq!((hash, stat.size), (blake3::hash(&bytes), bytes.len() as u64));
    }

    #[test]
    fn links_and_odd_files_are_refused_in_an_artefact_and_loops_in_an_input() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::os::unix::fs::symlink(folder.path(), folder.path().join("loop")).expect("a link");
        assert!(walk(folder.path(), Links::Refuse).is_err());
        assert!(walk(folder.path(), Links::Follow).is_err());
    }
}
