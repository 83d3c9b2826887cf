//! What nothing refers to any more.

use std::path::PathBuf;

use serde::Serialize;

use crate::dag::store::Store;
use crate::error::Result;

/// One thing that is, or would be, deleted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Garbage {
    /// Where it lies, relative to the store's root.
    pub path: PathBuf,
    /// What it is: `object`, `entry`, `work`, `record`, `bad`, `stat`.
    pub kind: &'static str,
    /// The name of the node that it was made for, where known.
    pub node: Option<String>,
    /// Its size.
    pub bytes: u64,
}

/// Finds everything that no pipeline's latest run refers to, and deletes it unless `dry_run`. Refuses while a run is using the store.
pub fn gc(store: &Store, dry_run: bool) -> Result<Vec<Garbage>> {
    let _ = (store, dry_run);
    unimplemented!()
}
