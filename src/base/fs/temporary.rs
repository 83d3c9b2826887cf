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

    /// A new one in a folder.
    pub fn in_folder(folder: &Path) -> Result<Self> {
        let made = tempfile::tempdir_in(folder);
        let made = made.with_context(|| format!("cannot make a folder in {}", folder.display()))?;
        Ok(TemporaryFolder(made))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}
