//! Rows of data files, whatever the format, one at a time. Uses no column by name.
//!
//! 1. The first bytes of a file say what it is, not its name: Parquet, gzip (of what follows), a
//!    JSON list of objects, JSONL where a `{` comes first, else CSV or TSV where the first line can
//!    be a header (tabs part the columns of a line that has any).
//! 2. A folder is the rows of its files, in the order of their names: data sets come in parts.
//! 3. A Parquet file gives what the same table written as JSONL gives: lists and structs nest,
//!    nulls are null, a single-precision number is the shortest that rounds to it, decimals and
//!    times are texts. What JSON has no value for is an error of those who ask for it.
//! 4. All values of CSV and TSV are texts; every row has as many as the header.
//! 5. A file is read as a stream, no further than rows are asked for. One row, and what a packed
//!    file becomes, are bounded ([`crate::limits`]).

use std::fmt;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use serde::de::{DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};

use super::parquet_rows::parquet_rows;
pub use super::raw_rows::{Place, Row};
use super::raw_rows::{VisitNumbered, broken, not_utf8, room, row_error, too_long, too_much};
use super::separated::{separated_rows, separator};
use crate::error::{Context, Result, user};
use crate::fs;
use crate::json::{self, Json};
use crate::limits::ROW_BYTES;

/// What receives each row: the row, or what is wrong with it, without its place. It says whether to
/// go on.
pub type Visit<'a> = &'a mut dyn FnMut(Place<'_>, Result<Row>) -> Result<ControlFlow<()>>;

/// Visits every row of a file, or of the files of a folder, in order, until `visit` has had enough.
/// Blank lines are skipped.
///
/// # Errors
/// The user's: no such file, a folder without files, a file that cannot be understood as a whole or
/// exceeds a limit. What `visit` returns.
pub fn each(path: &Path, visit: Visit<'_>) -> Result<()> {
    if !path.is_dir() {
        return each_of_file(path, 0, visit).map(|_| ());
    }
    let files: Vec<PathBuf> = fs::list(path)?
        .into_iter()
        .filter(|name| !name.starts_with('.'))
        .map(|name| path.join(name))
        .collect();
    let mut before = 0;
    if let Some(folder) = files.iter().find(|file| file.is_dir()) {
        let message = format!("{} is a folder within a folder of rows", folder.display());
        return Err(user(message).hint("name the folder that the files themselves are in").into());
    }
    for file in &files {
        match each_of_file(file, before, visit)? {
            ControlFlow::Continue(last) => before += last,
            ControlFlow::Break(()) => return Ok(()),
        }
    }
    match files.is_empty() {
        true => Err(user(format!("there is no file in {}", path.display())).into()),
        false => Ok(()),
    }
}

/// Visits the rows of one file, and gives the number of the last, if all were visited.
fn each_of_file(file: &Path, before: usize, visit: Visit<'_>) -> Result<ControlFlow<(), usize>> {
    let (mut last, mut flow) = (0, ControlFlow::Continue(()));
    let mut counted = |number: usize, row: Result<Row>| {
        last = number;
        flow = visit(Place { file, number, before }, row)?;
        Ok(flow)
    };
    if !file.exists() {
        return Err(user(format!("there is no file {}", file.display())).into());
    }
    let begins = begins(file)?;
    match begins.starts_with(b"PAR1") {
        true => parquet_rows(file, &mut counted)?,
        false => text_rows(file, begins.starts_with(&[0x1f, 0x8b]), &mut counted)?,
    }
    Ok(flow.map_continue(|()| last))
}

/// The first bytes of a file.
fn begins(file: &Path) -> Result<Vec<u8>> {
    fs::refuse_pointer(file)?;
    let mut bytes = Vec::new();
    fs::open(file)?
        .take(4)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {}", file.display()))?;
    Ok(bytes)
}

/// A reader of what is unpacked, up to a number of bytes.
struct Bounded<R> {
    inner: R,
    left: u64,
}

/// What is unpacked is more than it may be.
#[derive(Debug)]
struct TooMuch;

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it unpacks to more than it may")
    }
}

impl std::error::Error for TooMuch {}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| io::Error::other(TooMuch))?;
        Ok(count)
    }
}

/// A file of text, unpacked if it is packed.
struct Text<'a> {
    file: &'a Path,
    packed: bool,
    room: u64,
    /// Bytes that a row may have.
    most: u64,
    reader: Box<dyn BufRead>,
}

impl<'a> Text<'a> {
    fn open(file: &'a Path, packed: bool) -> Result<Self> {
        let plain = BufReader::with_capacity(1 << 16, fs::open(file)?);
        let room = room(file)?;
        let reader: Box<dyn BufRead> = match packed {
            true => Box::new(BufReader::with_capacity(
                1 << 16,
                Bounded { inner: MultiGzDecoder::new(plain), left: room },
            )),
            false => Box::new(plain),
        };
        Ok(Text { file, packed, room, most: ROW_BYTES.value()?, reader })
    }

    /// The error of a failed read.
    fn failed(&self, error: io::Error) -> anyhow::Error {
        failed(self.file, self.packed, self.room, error)
    }

    /// The next line with its end; empty after the last.
    fn line(&mut self, line: &mut Vec<u8>, number: usize) -> Result<()> {
        line.clear();
        let read = (&mut self.reader).take(self.most + 1).read_until(b'\n', line);
        read.map_err(|error| self.failed(error))?;
        match line.len() as u64 > self.most {
            true => Err(too_long(self.file, number, self.most)),
            false => Ok(()),
        }
    }
}

/// The error of a failed read of a file that may become `room` bytes where it is packed.
fn failed(file: &Path, packed: bool, room: u64, error: io::Error) -> anyhow::Error {
    match error.get_ref() {
        Some(cause) if cause.is::<TooMuch>() => too_much(file, room),
        _ if packed => broken(file, "gzip", &error),
        _ => anyhow::Error::from(error).context(format!("cannot read {}", file.display())),
    }
}

fn text_rows(file: &Path, packed: bool, visit: VisitNumbered<'_>) -> Result<()> {
    let (mut text, mut line, mut number) = (Text::open(file, packed)?, Vec::new(), 1);
    text.line(&mut line, number)?;
    if line.starts_with("\u{feff}".as_bytes()) {
        line.drain(.."\u{feff}".len());
    }
    while line.trim_ascii().is_empty() {
        number += 1;
        text.line(&mut line, number)?;
        if line.is_empty() {
            return Ok(());
        }
    }
    let start = line.trim_ascii_start();
    if start.starts_with(b"[") {
        return list_rows(text, line, visit);
    }
    if let Some(separator) = separator(start) {
        let Text { file, packed, room, reader, .. } = text;
        let wrong = |error| failed(file, packed, room, error);
        return separated_rows(file, separator, Cursor::new(line).chain(reader), &wrong, visit);
    }
    while !line.is_empty() {
        if !line.trim_ascii().is_empty() {
            let row = std::str::from_utf8(&line).map_err(|_| not_utf8());
            let row = row.and_then(|line| {
                json::parse(line.trim_end_matches(['\n', '\r'])).map_err(|error| row_error(&error))
            });
            if visit(number, row.and_then(object))?.is_break() {
                return Ok(());
            }
        }
        number += 1;
        text.line(&mut line, number)?;
    }
    Ok(())
}

fn object(row: Json) -> Result<Row> {
    match row {
        Json::Object(row) => Ok(row),
        other => Err(user(format!("expected an object, found {}", other.what())).into()),
    }
}

/// The items of a JSON list that begins with `start`, one after the other.
fn list_rows(text: Text<'_>, start: Vec<u8>, visit: VisitNumbered<'_>) -> Result<()> {
    let Text { file, packed, room, reader, .. } = text;
    let mut deserializer = serde_json::Deserializer::from_reader(Cursor::new(start).chain(reader));
    let mut outcome = Ok(ControlFlow::Continue(()));
    let read = Items { visit, outcome: &mut outcome }
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end());
    match (outcome, read) {
        (Err(error), _) => Err(error),
        (Ok(ControlFlow::Break(())), _) | (_, Ok(())) => Ok(()),
        (_, Err(error)) if error.is_io() => Err(failed(file, packed, room, error.into())),
        (_, Err(error)) => Err(broken(file, "a JSON list of rows", &error)),
    }
}

/// Visits items as they are read.
struct Items<'a, 'b> {
    visit: VisitNumbered<'a>,
    /// What the last visit returned.
    outcome: &'b mut Result<ControlFlow<()>>,
}

impl<'de> DeserializeSeed<'de> for Items<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<(), A::Error> {
        let mut number = 0;
        while let Some(item) = list.next_element::<Json>()? {
            number += 1;
            *self.outcome = (self.visit)(number, object(item));
            if !matches!(self.outcome, Ok(ControlFlow::Continue(()))) {
                return Err(A::Error::custom("no more is asked for"));
            }
        }
        Ok(())
    }
}
