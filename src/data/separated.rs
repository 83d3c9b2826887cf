//! Rows of CSV and TSV: a header, then a row a record. Uses no column by name.
//!
//! A field may be in double quotes, and then hold separators, line breaks and doubled quotes
//! (RFC 4180). Rows are counted from 1 after the header.

use std::cell::Cell;
use std::io::{self, Read};
use std::path::Path;
use std::rc::Rc;

use super::raw_rows::{Row, VisitNumbered, broken, not_utf8, too_long};
use crate::error::{Result, user};
use crate::json::Json;
use crate::limits::ROW_BYTES;

/// What parts the columns of a file whose first line this is, if that can be a header: several
/// columns, or the name of one.
pub(super) fn separator(line: &[u8]) -> Option<u8> {
    let line = std::str::from_utf8(line).ok()?.trim_end();
    let is_name = |text: &str| {
        text.starts_with(|letter: char| letter.is_alphabetic() || letter == '_')
            && text
                .chars()
                .all(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '.' | '-'))
            && !matches!(text, "true" | "false" | "null" | "NaN" | "Infinity")
    };
    match line {
        object if object.starts_with('{') => None,
        tabs if tabs.contains('\t') => Some(b'\t'),
        commas if commas.contains(',') => Some(b','),
        name => is_name(name).then_some(b','),
    }
}

/// Visits the rows of a text.
pub(super) fn separated_rows(
    file: &Path,
    separator: u8,
    text: impl Read,
    failed: &dyn Fn(io::Error) -> anyhow::Error,
    visit: VisitNumbered<'_>,
) -> Result<()> {
    let what = if separator == b'\t' { "TSV" } else { "CSV" };
    let most = ROW_BYTES.value()?;
    let record = Record { open: Rc::new(Cell::new(false)), length: Rc::new(Cell::new(0)) };
    let (open, length) = (record.open.clone(), record.length.clone());
    let text = Watched { inner: text, separator, most, state: State::Start, record };
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(separator)
        .has_headers(false)
        .flexible(true)
        .from_reader(text);
    let (mut header, mut number) = (None, 0);
    for record in reader.byte_records() {
        let record = match record.map_err(csv::Error::into_kind) {
            Ok(record) => record,
            Err(csv::ErrorKind::Io(_)) if length.get() > most => {
                return Err(too_long(file, number + 1, most));
            }
            Err(csv::ErrorKind::Io(error)) => return Err(failed(error)),
            Err(other) => return Err(broken(file, what, &format!("{other:?}"))),
        };
        let fields = record
            .iter()
            .map(|field| std::str::from_utf8(field).map(str::to_owned).map_err(|_| not_utf8()));
        let fields: Result<Vec<String>> = fields.collect();
        let Some(names) = &header else {
            header = Some(
                names_of(fields.map_err(|error| broken(file, what, &error))?)
                    .map_err(|why| broken(file, what, &why))?,
            );
            continue;
        };
        number += 1;
        let row = fields.and_then(|fields| row(names, fields));
        if visit(number, row)?.is_break() {
            return Ok(());
        }
    }
    match open.get() {
        true => {
            Err(broken(file, what, &format!("a quote that opens in row {number} is never closed")))
        }
        false => Ok(()),
    }
}

/// The names of the columns.
fn names_of(names: Vec<String>) -> std::result::Result<Vec<String>, String> {
    for (at, name) in names.iter().enumerate() {
        if name.is_empty() {
            return Err(format!("column {} has no name in the header", at + 1));
        }
        if names[..at].contains(name) {
            return Err(format!("the header has the column `{name}` twice"));
        }
    }
    Ok(names)
}

fn row(names: &[String], fields: Vec<String>) -> Result<Row> {
    match names.len() == fields.len() {
        true => Ok(names.iter().cloned().zip(fields.into_iter().map(Json::Text)).collect()),
        false => Err(user(format!(
            "it has {} values, the header has {} columns",
            fields.len(),
            names.len()
        ))
        .into()),
    }
}

/// What is known of the record that is being read.
struct Record {
    /// Whether a quote is open.
    open: Rc<Cell<bool>>,
    /// Its bytes.
    length: Rc<Cell<u64>>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// At the start of a field.
    Start,
    Plain,
    Quoted,
    /// After a quote in a quoted field: its end, or the first of two.
    Closing,
}

/// A reader with its place: a record whose quote is never closed would take all rows after
/// it in.
struct Watched<R> {
    inner: R,
    separator: u8,
    most: u64,
    state: State,
    record: Record,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let mut length = self.record.length.get();
        for byte in &buffer[..count] {
            length += 1;
            self.state = match (self.state, *byte) {
                (State::Start | State::Closing, b'"') => State::Quoted,
                (State::Quoted, b'"') => State::Closing,
                (State::Quoted, _) => State::Quoted,
                (_, b'\n') => {
                    length = 0;
                    State::Start
                }
                (_, b'\r') => State::Start,
                (_, byte) if byte == self.separator => State::Start,
                _ => State::Plain,
            };
            if length > self.most {
                self.record.length.set(length);
                return Err(io::Error::other("a record is too long"));
            }
        }
        self.record.length.set(length);
        self.record.open.set(self.state == State::Quoted);
        Ok(count)
    }
}
