//! What nodes print: a file of the attempt while it is being made, beside the record of the run
//! once it is made. Uses nothing of what is printed.

use std::path::{Path, PathBuf};

use crate::digest::ActionKey;
use crate::error::Result;
use crate::store::Store;
use crate::work::LOG;

/// What the latest attempt at a node prints into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Printed {
    /// The file; it may have gone meanwhile, to where [`kept_log`] says or with all of the attempt.
    pub path: PathBuf,
    /// Whether anything works on the attempt, as far as is known.
    pub goes_on: bool,
}

/// Where a run whose record is in the folder `record` keeps what a node printed that it made. There
/// is no file if it printed nothing.
pub fn kept_log(record: &Path, node: &str, key: ActionKey) -> PathBuf {
    record.join("logs").join(format!("{}-{}.log", crate::fs::name_like(node), key.short()))
}

impl Store {
    /// What the latest attempt at a key has printed; `None` if there is no attempt: the key was
    /// never begun, or is made.
    pub fn printed(&self, key: ActionKey) -> Result<Option<Printed>> {
        let Some(latest) = self.attempts(key)?.pop() else { return Ok(None) };
        let folder = self.attempt_path(key, latest);
        Ok(Some(Printed { path: folder.join(LOG), goes_on: self.goes_on(&folder)? }))
    }
}
