//! The interface to the place where objects are kept: the seam at which artefacts come from another
//! host, or go to it. Uses nothing of keys and entries.
//!
//! The store of a run has one implementation, the local folder of [`crate::object_folder`]. A cache
//! that several hosts share without a common file system is another implementation around it: `has`
//! asks both, `get` copies what is missing here, `put` also sends.

use std::path::{Path, PathBuf};

use crate::digest::ObjectId;
use crate::error::Result;

/// Whether an object is what its id says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// It is.
    Sound,
    /// There is none.
    Absent,
    /// It is not; what is wrong.
    Corrupted(String),
}

/// A place where objects are kept by the hash of their content.
pub trait ObjectStore: Send + Sync {
    /// Whether there is an object and whether its content agrees with its id.
    ///
    /// # Errors
    /// Nothing can be said about it, for example since the disk cannot be read.
    fn has(&self, object: ObjectId) -> Result<Integrity>;

    /// The folder of an object's files on this host. They are read-only.
    ///
    /// # Errors
    /// There is no such object, or it cannot be copied to this host.
    fn get(&self, object: ObjectId) -> Result<PathBuf>;

    /// Makes an object of the folder `out` of an attempt. If there is this object already, `out`
    /// may be left where it is.
    ///
    /// # Errors
    /// An artefact without files, with links, sockets and the like in it, or that replaced its
    /// folder is the stage's failure. Nothing outside of the attempt's folder is changed.
    fn put(&self, attempt: &Path) -> Result<ObjectId>;

    /// Takes an object whose content does not agree with its id out of use, and returns where it is
    /// then; `None` if there is no such object, or a sound one by now.
    ///
    /// # Errors
    /// It cannot be moved.
    fn set_aside(&self, object: ObjectId) -> Result<Option<PathBuf>>;
}
