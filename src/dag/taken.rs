//! Artefacts that were made in another store, taken over with their entries.

use std::path::Path;

use crate::entry::Entry;
use crate::error::Result;
use crate::store::Store;
use crate::work::Claim;

impl Store {
    /// Takes the artefact of an entry over, whose files are in `from`. False if it is here already,
    /// or another run is making it. The store has to have begun.
    ///
    /// # Errors
    /// The machine's; also if the files are not the object of the entry.
    pub fn take(&self, entry: &Entry, from: &Path) -> Result<bool> {
        let Claim::Miss(ticket) = self.claim(entry.key, &|_| false)? else { return Ok(false) };
        crate::fs::copy_all(from, &ticket.out())?;
        ticket.publish_pulled(entry.clone())?;
        Ok(true)
    }

    /// Takes the record of a run over: the files of its folder are in `from`. False if it is here
    /// already.
    ///
    /// # Errors
    /// The machine's.
    pub fn take_record(&self, id: &str, from: &Path) -> Result<bool> {
        let folder = self.run_path(id);
        if folder.exists() {
            return Ok(false);
        }
        let new = self.at("runs").join(format!(".new-{id}"));
        crate::fs::remove_all(&new)?;
        crate::fs::create_dir_all(&new)?;
        crate::fs::copy_all(from, &new)?;
        for name in crate::fs::list(&new)? {
            crate::fs::sync(&new.join(name))?;
        }
        crate::fs::sync(&new)?;
        crate::fs::rename(&new, &folder)?;
        crate::fs::sync(&self.at("runs"))?;
        Ok(true)
    }
}
