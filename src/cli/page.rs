//! The page at the end of a run: written, or shared with an earlier run whose page says the same.

use std::path::PathBuf;

use super::events;
use super::load_run::{load_run, page_path};
use super::report;
use crate::dag::outcome::Outcome;
use crate::dag::record::Ending;
use crate::dag::store::Store;
use crate::error::{Context, Result};
use crate::report::run::Run;

/// The page of a run.
pub struct Page {
    /// Its file.
    pub path: PathBuf,
    /// What is known of the run; none where the page of an earlier run says the same.
    pub known: Option<Run>,
}

/// The page of the run, which is written unless that of the run before it says the same. A run is
/// no worse for the lack of it. Where the cache may not be written there is no record to make one
/// of.
pub fn page(store: &Store, outcome: &Outcome) -> Option<Page> {
    let folder = outcome.record.as_ref()?;
    let write = || -> Result<Page> {
        let id = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let record = store.record(&id)?.context("the record of this run cannot be read")?;
        let path = page_path(store, &record);
        if outcome.count(Ending::Cached) == outcome.nodes.len()
            && let Some(before) = store.record_before(&record)?
            && record.is_like(&before)
            // Where files cannot share their bytes, it is written.
            && crate::fs::share(&path, &page_path(store, &before)).is_ok()
        {
            return Ok(Page { path, known: None });
        }
        let known = load_run(store, &record)?;
        let path = report::write(store, &record, &known, None, None)?;
        Ok(Page { path, known: Some(known) })
    };
    write()
        .inspect_err(|error| {
            eprintln!(
                "{}",
                events::warning(None, &format!("the report was not written: {error:#}"))
            )
        })
        .ok()
}
