//! Rows of data files before their columns are read: the row, its place, and the errors and bounds
//! that the readers of all formats share.

use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;

use crate::error::{Context, Failure, Result, user};
use crate::fs;
use crate::json::Object;
use crate::limits::{ROW_BYTES, UNPACKED_BYTES, UNPACKED_RATIO};

/// A row as its file has it.
pub type Row = Object;

/// Where a row is.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Its file.
    pub file: &'a Path,
    /// Its line in JSONL, its place among the rows in other formats, from 1.
    pub number: usize,
    /// The numbers of earlier files of the folder, added up: with it, numbers are unique. 0 in a
    /// file by itself.
    pub before: usize,
}

impl Place<'_> {
    /// The same failure with the place before its message.
    pub fn of(&self, error: anyhow::Error) -> anyhow::Error {
        match error.downcast::<Failure>() {
            Ok(failure) => {
                let message =
                    format!("{}, row {}: {}", self.file.display(), self.number, failure.message);
                Failure { message, ..failure }.into()
            }
            Err(other) => other,
        }
    }
}

/// What receives the rows of one file: number, and row or what is wrong with it.
pub(super) type VisitNumbered<'a> =
    &'a mut dyn FnMut(usize, Result<Row>) -> Result<ControlFlow<()>>;

/// The error of a line that is not UTF-8.
pub(super) fn not_utf8() -> anyhow::Error {
    user("the text is not UTF-8").into()
}

/// What `serde_json` says about one row, without its own place (which is always line 1).
pub(super) fn row_error(error: &serde_json::Error) -> anyhow::Error {
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
    let message = message.replace("missing field", "missing column");
    match error.classify() {
        serde_json::error::Category::Data => user(message).into(),
        _ => user(format!("broken JSON: {message} (character {})", error.column()))
            .hint("one JSON object a line is expected")
            .into(),
    }
}

/// The error of a row that is longer than one may be.
pub(super) fn too_long(file: &Path, number: usize, most: u64) -> anyhow::Error {
    user(format!("{}, row {number}: the row has more than {most} bytes", file.display()))
        .hint(ROW_BYTES.hint())
        .into()
}

/// The error of a file that cannot be understood as a whole; `what` is its format.
pub(super) fn broken(file: &Path, what: &str, why: &dyn fmt::Display) -> anyhow::Error {
    user(format!("{} cannot be read as {what}: {why}", file.display())).into()
}

/// Bytes that a packed file may become.
pub(super) fn room(file: &Path) -> Result<u64> {
    let size = fs::open(file)?
        .metadata()
        .with_context(|| format!("cannot read {}", file.display()))?
        .len();
    Ok(UNPACKED_BYTES.value()?.max(size.saturating_mul(UNPACKED_RATIO)))
}

/// The error of a packed file that becomes more than `room`.
pub(super) fn too_much(file: &Path, room: u64) -> anyhow::Error {
    let message = format!(
        "{} unpacks to more than {room} bytes, more than {UNPACKED_RATIO} times its size",
        file.display()
    );
    user(message).hint(UNPACKED_BYTES.hint()).into()
}
