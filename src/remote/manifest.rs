//! The list of an object's files and parts, `files.json`. Uses nothing of where it is kept.
//!
//! The bytes of an object are those of its files, one after the other in the order of their paths.
//! They are cut into parts of [`PART`] bytes, the last one shorter; each part is compressed.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::dag::digest::{ContentHash, ObjectId};
use crate::dag::tree::hash_list;

/// Bytes of a part before it is compressed.
pub const PART: u64 = 32 << 20;
/// The form of this file.
const ENCODING: u32 = 1;

/// A file of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Relative path, `/` between names.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// BLAKE3 of its bytes.
    pub hash: ContentHash,
}

/// A part of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// BLAKE3 of its bytes as they are in the remote.
    pub hash: ContentHash,
    /// Bytes in the remote.
    pub size: u64,
}

/// The files and parts of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    encoding: u32,
    /// Sorted by the bytes of their paths.
    pub files: Vec<File>,
    /// In order.
    pub parts: Vec<Part>,
}

/// A piece of a file that a part has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The file.
    pub file: &'a File,
    /// Where it begins in the file, in bytes.
    pub at: u64,
    /// Bytes.
    pub length: u64,
}

impl Manifest {
    /// The list of these files and parts.
    pub fn new(files: Vec<File>, parts: Vec<Part>) -> Self {
        Manifest { encoding: ENCODING, files, parts }
    }

    /// Reads a list, which must be that of the object: the object's id is the hash of it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(bytes: &[u8], object: ObjectId) -> Result<Self, String> {
        let manifest: Manifest = serde_json::from_slice(bytes)
            .map_err(|error| format!("its list of files cannot be understood: {error}"))?;
        if manifest.encoding != ENCODING {
            return Err(format!("its list of files has the encoding {}", manifest.encoding));
        }
        if manifest.id() != object {
            return Err("its list of files is not that of the object".into());
        }
        check_paths(&manifest.files)?;
        let bytes = manifest.files.iter().try_fold(0u64, |sum, file| sum.checked_add(file.size));
        let parts = bytes.ok_or("its files are too large")?.div_ceil(PART);
        if manifest.parts.len() as u64 != parts {
            return Err(format!("it has {} parts, expected {parts}", manifest.parts.len()));
        }
        match manifest.parts.iter().find(|part| part.size > most_bytes(PART)) {
            Some(part) => Err(format!("a part has {} bytes", part.size)),
            None => Ok(manifest),
        }
    }

    /// The id of the object that has these files.
    pub fn id(&self) -> ObjectId {
        let list = self.files.iter().map(|file| (file.path.as_str(), file.size, &file.hash));
        hash_list(self.files.len(), list).into()
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// The pieces of files that the part `at` has, in order.
    pub fn pieces(&self, at: usize) -> Vec<Piece<'_>> {
        pieces(&self.files, at)
    }
}

/// The pieces of files that the part `at` of an object of these files has, in order.
pub fn pieces(files: &[File], at: usize) -> Vec<Piece<'_>> {
    let (from, to) = (at as u64 * PART, (at as u64 + 1) * PART);
    let (mut pieces, mut start) = (Vec::new(), 0);
    for file in files {
        let end = start + file.size;
        let (first, last) = (from.max(start), to.min(end));
        if first < last {
            pieces.push(Piece { file, at: first - start, length: last - first });
        }
        start = end;
    }
    pieces
}

/// An upper bound of what zstd makes of this many bytes.
pub fn most_bytes(bytes: u64) -> u64 {
    bytes + bytes / 128 + 1024
}

/// Paths that lead nowhere else, each once, none below another.
fn check_paths(files: &[File]) -> Result<(), String> {
    let mut before: Option<&str> = None;
    let mut folders: HashSet<&str> = HashSet::new();
    for File { path, .. } in files {
        let is_name = |name: &str| !matches!(name, "" | "." | "..") && !name.contains('\0');
        if !path.split('/').all(is_name) {
            return Err(format!("`{}` is no path of a file in it", path.escape_debug()));
        }
        if before.is_some_and(|before| before.as_bytes() >= path.as_bytes()) {
            return Err(format!("the file `{path}` is not in order"));
        }
        before = Some(path);
        folders.extend(path.match_indices('/').map(|(at, _)| &path[..at]));
    }
    match files.iter().find(|file| folders.contains(file.path.as_str())) {
        Some(file) => Err(format!("`{}` is a file and a folder", file.path)),
        None if files.is_empty() => Err("it has no files".into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, size: u64) -> File {
        File { path: path.into(), size, hash: blake3::hash(path.as_bytes()).into() }
    }

    fn part(size: u64) -> Part {
        Part { hash: blake3::hash(b"part").into(), size }
    }

    fn read(manifest: &Manifest) -> Result<Manifest, String> {
        Manifest::read(&serde_json::to_vec(manifest).expect("plain data"), manifest.id())
    }

    #[test]
    fn parts_cover_every_byte_once() {
        let files = vec![file("a", 0), file("b", PART - 1), file("c", 2 * PART), file("d", 3)];
        let total: u64 = files.iter().map(|file| file.size).sum();
        let mut covered = vec![0; files.len()];
        for at in 0..total.div_ceil(PART) as usize {
            let mut length = 0;
            for piece in pieces(&files, at) {
                let index = files.iter().position(|file| file == piece.file).expect("one of them");
                assert_eq!(piece.at, covered[index], "in order");
                covered[index] += piece.length;
                length += piece.length;
            }
            assert_eq!(length, PART.min(total - at as u64 * PART));
        }
        assert_eq!(covered, files.iter().map(|file| file.size).collect::<Vec<_>>());
    }

    #[test]
    fn a_list_that_leads_out_of_the_folder_is_refused() {
        let good = Manifest::new(vec![file("a", 1), file("b/c", 2)], vec![part(10)]);
        assert_eq!(read(&good), Ok(good.clone()));
        for bad in ["../x", "/x", "a/../b", "a//b", "", "a/.", "x\0y", ".."] {
            let manifest = Manifest::new(vec![file(bad, 1)], vec![part(10)]);
            assert!(read(&manifest).is_err(), "{bad:?}");
        }
        for (files, parts) in [
            (vec![], vec![]),
            (vec![file("b", 1), file("a", 1)], vec![part(1)]),
            (vec![file("a", 1), file("a", 1)], vec![part(1)]),
            (vec![file("a", 1), file("a/b", 1)], vec![part(1)]),
            (vec![file("a", 1), file("a-", 1), file("a/b", 1)], vec![part(1)]),
            (vec![file("a", 1)], vec![]),
            (vec![file("a", 1)], vec![part(1), part(1)]),
            (vec![file("a", u64::MAX), file("b", 2)], vec![part(1)]),
            (vec![file("a", 1)], vec![part(PART * 2)]),
        ] {
            let manifest = Manifest::new(files, parts);
            assert!(read(&manifest).is_err(), "{manifest:?}");
        }
    }

    #[test]
    fn a_list_of_another_object_is_refused() {
        let own = Manifest::new(vec![file("a", 1)], vec![part(10)]);
        let other = Manifest::new(vec![file("a", 2)], vec![part(10)]);
        let bytes = serde_json::to_vec(&other).expect("plain data");
        assert!(Manifest::read(&bytes, own.id()).is_err());
        assert!(Manifest::read(b"{}", own.id()).is_err());
        assert!(Manifest::read(b"<html>", own.id()).is_err());
    }
}
