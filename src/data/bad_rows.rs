//! Rows that cannot be understood: left out and listed, or an error that names the first of them.
//! Uses no file.

use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::raw_rows::Place;
use crate::error::{Failure, Result};

/// Bad rows that are listed, of those that are skipped.
const LISTED: usize = 100;
/// Bad rows that an error names.
const NAMED: usize = 10;

/// Rows that were left out because they cannot be understood.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Skipped {
    /// How many.
    pub count: usize,
    /// The first of them: `row`, `why`, and `file` where there are several.
    pub first: Vec<Value>,
}

impl Skipped {
    pub(super) fn add(&mut self, path: &Path, place: Place<'_>, failure: &Failure) {
        self.count += 1;
        if self.first.len() < LISTED {
            let mut row = json!({"row": place.number, "why": failure.message});
            // What a file by itself is called is in no key, so it must not be in the artefact
            // either.
            if path != place.file {
                row["file"] = place
                    .file
                    .file_name()
                    .map_or(Value::Null, |name| name.to_string_lossy().into());
            }
            self.first.push(row);
        }
    }
}

/// Rows that cannot be understood, on their way to an error.
#[derive(Default)]
pub(super) struct Bad {
    count: usize,
    /// The first, with its place.
    first: Option<Failure>,
    /// The next ones: number and message.
    next: Vec<String>,
}

impl Bad {
    pub fn add(&mut self, place: Place<'_>, failure: Failure) {
        self.count += 1;
        let Some(first) = &self.first else {
            let message =
                format!("{}, row {}: {}", place.file.display(), place.number, failure.message);
            return self.first = Some(Failure { message, ..failure });
        };
        if self.next.len() + 1 < NAMED {
            let same = first.message.ends_with(&format!(": {}", failure.message));
            let message = if same { "the same" } else { &failure.message };
            let name = place.file.file_name().unwrap_or_default().to_string_lossy();
            self.next.push(format!("\n  {name}, row {}: {message}", place.number));
        }
    }

    /// The error of all of them, of `found` rows, if there is one.
    pub fn check(self, found: usize) -> Result<()> {
        let Some(first) = self.first else { return Ok(()) };
        if self.count == 1 {
            return Err(first.into());
        }
        let listed = self.next.len() + 1;
        let more = if self.count > listed {
            format!(", of which the first {listed} are named")
        } else {
            String::new()
        };
        let message = format!(
            "{}{}\n  {} of {found} rows are bad{more}",
            first.message,
            self.next.concat(),
            self.count
        );
        let hint = first.hint.map_or_else(String::new, |hint| format!("{hint}; "));
        Err(Failure {
            message,
            hint: Some(format!("{hint}`on_bad_row: skip` leaves bad rows out")),
            ..first
        }
        .into())
    }
}
