//! A folder for temporary files.

use std::path::Path;

use crate::error::{Context, Result};

/// A folder for temporary files, which is removed when this is dropped.
pub struct TemporaryFolder(tempfile::TempDir);

impl TemporaryFolder {
    /// A new one, where the system keeps such folders.
    pub fn new() -> Result<Self> {
        let made = tempfile::tempdir().context("cannot make a temporary folder")?;
        Ok(TemporaryFolder(made))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}
