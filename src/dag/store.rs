//! The store: where entries, objects, work and records lie under one root. Knows paths; what is in them is its neighbours' business.

use std::path::{Path, PathBuf};

use crate::error::Result;

/// A store on disk. Several may be open on one root, in one process or many.
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The root to use: the option given, else `$POSTTRAIN_CACHE`, else `cache` in the current folder.
    pub fn default_root(option: Option<&Path>) -> PathBuf {
        let _ = option;
        unimplemented!()
    }

    /// A store under `root`, which need not exist yet: reading writes nothing.
    pub fn open(root: &Path) -> Result<Self> {
        Ok(Store { root: root.to_owned() })
    }

    /// The root as an absolute path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of an object.
    pub fn object_path(&self, object: crate::dag::key::ObjectId) -> PathBuf {
        let _ = object;
        unimplemented!()
    }

    /// The work folder of a key: the log of a failed node is its file `log`.
    pub fn work_path(&self, key: crate::dag::key::ActionKey) -> PathBuf {
        let _ = key;
        unimplemented!()
    }
}
