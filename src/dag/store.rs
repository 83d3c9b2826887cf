//! The store: where entries, objects, work and records are under one root. Uses paths; what is in
//! them is its neighbours' business.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::digest::{ActionKey, ObjectId};
use crate::error::{Context, Result};
use crate::object_folder::ObjectFolder;
use crate::object_store::ObjectStore;
use crate::remote_cache::{Link, Remote};
use crate::watch::{PATIENCE, Watched};

/// The layout's version, and its folder: another layout is another folder, so neither is
/// taken for the other.
pub(super) const VERSION: &str = "v1";
/// The folder of objects in it.
pub(super) const OBJECTS: &str = "objects";

/// A store on disk. Several may be open on one root, in one process or many.
pub struct Store {
    root: PathBuf,
    /// Where its objects are kept.
    pub(super) objects: Box<dyn ObjectStore>,
    /// The cache that it shares with other hosts.
    remote: Option<Link>,
    /// Objects found sound by this process.
    pub(super) sound: Mutex<HashSet<ObjectId>>,
    /// Entries read by this process, whose objects it found sound.
    pub(super) hits: Mutex<HashMap<ActionKey, ObjectId>>,
    /// The run that has begun on it.
    pub(super) runner: Mutex<Option<String>>,
    /// What was seen of runs on other hosts.
    pub(super) watched: Watched,
    /// How long those may show nothing before they count as dead.
    pub(super) patience: Duration,
    /// The number of the run that has begun, and how many artefacts it has made.
    pub(super) sequence: AtomicU64,
    pub(super) made: AtomicU64,
}

impl Store {
    /// The root to use: the option given, else `$POSTTRAIN_CACHE`, else `cache` in the current
    /// folder.
    pub fn default_root(option: Option<&Path>) -> PathBuf {
        let variable = || {
            std::env::var_os("POSTTRAIN_CACHE").filter(|value| !value.is_empty()).map(PathBuf::from)
        };
        option.map(Path::to_owned).or_else(variable).unwrap_or_else(|| PathBuf::from("cache"))
    }

    /// A store under `root`, which need not exist yet: reading writes nothing.
    pub fn open(root: &Path) -> Result<Self> {
        let root =
            std::path::absolute(root).with_context(|| format!("cannot find {}", root.display()))?;
        Ok(Store {
            objects: Box::new(ObjectFolder::new(root.join(VERSION))),
            root,
            remote: None,
            sound: Mutex::default(),
            hits: Mutex::default(),
            runner: Mutex::default(),
            watched: Watched::default(),
            patience: PATIENCE,
            sequence: AtomicU64::new(0),
            made: AtomicU64::new(0),
        })
    }

    /// The same, with another time that a run on another host may show nothing before it counts as
    /// dead.
    pub fn with_patience(self, patience: Duration) -> Self {
        Store { patience, ..self }
    }

    /// The same, with another place for its objects.
    pub fn with_objects(self, objects: Box<dyn ObjectStore>) -> Self {
        Store { objects, ..self }
    }

    /// The same, with a cache that it shares with other hosts.
    pub fn with_remote(self, remote: Box<dyn Remote>) -> Self {
        Store { remote: Some(Link::new(remote)), ..self }
    }

    /// The cache that it shares with other hosts, if there is one.
    pub fn remote(&self) -> Option<&Link> {
        self.remote.as_ref()
    }

    /// The root as an absolute path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of an object that is on this host.
    pub fn object_path(&self, object: ObjectId) -> PathBuf {
        self.at(OBJECTS).join(object.to_string())
    }

    /// The work folder of a key, with a folder for each attempt at it.
    pub fn work_path(&self, key: ActionKey) -> PathBuf {
        self.at("work").join(key.to_string())
    }

    /// The folder of the event files of a node, by its name for people and by its key, so that no
    /// two curves share one. It is beside the artefacts, because events say when they were
    /// written.
    pub fn events_path(&self, node: &str, key: ActionKey) -> PathBuf {
        self.root.join("tensorboard").join(format!(
            "{}-{}",
            crate::fs::name_like(node),
            key.short()
        ))
    }

    /// The place of the next entry in the order of all.
    pub(super) fn next_place(&self) -> (u64, u64) {
        (self.sequence.load(Ordering::SeqCst), self.made.fetch_add(1, Ordering::SeqCst))
    }

    /// A path below the layout's folder.
    pub(super) fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(VERSION).join(path)
    }
}
