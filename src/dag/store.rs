//! The store: where entries, objects, work and records lie under one root. Knows paths; what is in them is its neighbours' business.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::dag::key::{ActionKey, ObjectId};
use crate::dag::lock::SharedLock;
use crate::error::{Context, Result};

/// The layout's version, and the folder it lies in: another layout is another folder, so neither is taken for the other.
const VERSION: &str = "v1";

/// A store on disk. Several may be open on one root, in one process or many.
pub struct Store {
    root: PathBuf,
    /// Objects found sound by this process.
    pub(super) sound: Mutex<HashSet<ObjectId>>,
    /// Entries read by this process, whose objects it found sound.
    pub(super) hits: Mutex<HashMap<ActionKey, ObjectId>>,
}

impl Store {
    /// The root to use: the option given, else `$POSTTRAIN_CACHE`, else `cache` in the current folder.
    pub fn default_root(option: Option<&Path>) -> PathBuf {
        let variable = || std::env::var_os("POSTTRAIN_CACHE").filter(|value| !value.is_empty()).map(PathBuf::from);
        option.map(Path::to_owned).or_else(variable).unwrap_or_else(|| PathBuf::from("cache"))
    }

    /// A store under `root`, which need not exist yet: reading writes nothing.
    pub fn open(root: &Path) -> Result<Self> {
        let root = std::path::absolute(root).with_context(|| format!("cannot find {}", root.display()))?;
        Ok(Store { root, sound: Mutex::default(), hits: Mutex::default() })
    }

    /// Makes the folders, and holds `gc` off until the lock is dropped. Every run does this first.
    pub fn begin(&self) -> Result<SharedLock> {
        for folder in ["actions", "objects", "work", "runs", "stat/inputs", "stat/objects", "bad", "locks"] {
            crate::fs::create_dir_all(&self.at(folder))?;
        }
        SharedLock::share(&self.at("in-use.lock"))
    }

    /// The root as an absolute path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of an object.
    pub fn object_path(&self, object: ObjectId) -> PathBuf {
        self.at("objects").join(object.to_string())
    }

    /// The work folder of a key: the log of a failed node is its file `log`.
    pub fn work_path(&self, key: ActionKey) -> PathBuf {
        self.at("work").join(key.to_string())
    }

    /// The folder of the event files of a node, by its name for people and by its key, so that no two curves share one. It lies beside
    /// the artefacts, because events say when they were written.
    pub fn events_path(&self, node: &str, key: ActionKey) -> PathBuf {
        self.root.join("tensorboard").join(format!("{}-{}", node.replace('/', "_"), key.short()))
    }

    /// A path below the layout's folder.
    pub(super) fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(VERSION).join(path)
    }
}
