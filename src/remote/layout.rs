//! Names in a remote. Uses nothing of what is under them.
//!
//! ```text
//! v1/entries/<key>.json                   the entry of an action key, and its signature
//! v1/objects/<object id>/files.json       the files of an object and its parts; written last
//! v1/objects/<object id>/<hash>           a part, by the hash of its bytes as they are there
//! ```

use crate::dag::digest::{ActionKey, ContentHash, ObjectId};

/// The folder of entries.
pub const ENTRIES: &str = "v1/entries";
/// The folder of objects.
pub const OBJECTS: &str = "v1/objects";
/// The file that makes an object visible.
const FILES: &str = "files.json";

/// The name of an entry.
pub fn entry(key: ActionKey) -> String {
    format!("{ENTRIES}/{key}.json")
}

/// The name of the list of an object's files.
pub fn files(object: ObjectId) -> String {
    format!("{OBJECTS}/{object}/{FILES}")
}

/// The name of a part of an object.
pub fn part(object: ObjectId, hash: ContentHash) -> String {
    format!("{OBJECTS}/{object}/{hash}")
}

/// The key of an entry's name.
pub fn key_of(name: &str) -> Option<ActionKey> {
    name.strip_prefix(ENTRIES)?.strip_prefix('/')?.strip_suffix(".json")?.parse().ok()
}

/// The object of the name of a list of files.
pub fn object_of(name: &str) -> Option<ObjectId> {
    let rest = name.strip_prefix(OBJECTS)?.strip_prefix('/')?;
    rest.strip_suffix(FILES)?.strip_suffix('/')?.parse().ok()
}
