//! Rows of data files as JSON objects, whatever the format. Knows no column by name.
//!
//! 1. The first bytes of a file say what it is, not its name: Parquet, gzip (of what follows), a JSON list of objects, else JSONL.
//! 2. A folder is the rows of its files, in the order of their names: data sets come in parts.
//! 3. A Parquet file gives what the same table written as JSONL gives: lists and structs nest, nulls are null, a single-precision number is
//!    the shortest that rounds to it, decimals and times are texts.

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use parquet::basic::ConvertedType;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::{Map, Number, Value};

use super::rows::{not_utf8, row_error, text_lines};
use crate::error::{Context, Failure, Result, user};
use crate::fs;

/// A row as its file has it.
pub type Row = Map<String, Value>;

/// Where a row is.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Its file.
    pub file: &'a Path,
    /// Its line in JSONL, its place among the rows in other formats, from 1.
    pub number: usize,
    /// The numbers of earlier files of the folder, added up: with it, numbers are unique. 0 in a file by itself.
    pub before: usize,
}

impl Place<'_> {
    /// The same failure with the place before its message.
    pub fn of(&self, error: anyhow::Error) -> anyhow::Error {
        match error.downcast::<Failure>() {
            Ok(failure) => {
                let message = format!("{}, row {}: {}", self.file.display(), self.number, failure.message);
                Failure { message, ..failure }.into()
            }
            Err(other) => other,
        }
    }
}

/// What hears of each row: the row, or what is wrong with it, without its place.
pub type Visit<'a> = &'a mut dyn FnMut(Place<'_>, Result<Row>) -> Result<()>;

/// Visits every row of a file, or of the files of a folder, in order. Blank lines are skipped.
///
/// # Errors
/// The user's: no such file, a folder without files, a file that cannot be understood as a whole. What `visit` returns.
pub fn each(path: &Path, visit: Visit<'_>) -> Result<()> {
    if !path.is_dir() {
        return each_of_file(path, 0, visit).map(|_| ());
    }
    let files: Vec<PathBuf> = fs::list(path)?.into_iter().filter(|name| !name.starts_with('.')).map(|name| path.join(name)).collect();
    let mut before = 0;
    if let Some(folder) = files.iter().find(|file| file.is_dir()) {
        let message = format!("{} is a folder within a folder of rows", folder.display());
        return Err(user(message).hint("name the folder that the files themselves are in").into());
    }
    for file in &files {
        before += each_of_file(file, before, visit)?;
    }
    match files.is_empty() {
        true => Err(user(format!("there is no file in {}", path.display())).into()),
        false => Ok(()),
    }
}

/// Visits the rows of one file, and gives the number of the last.
fn each_of_file(file: &Path, before: usize, visit: Visit<'_>) -> Result<usize> {
    let mut last = 0;
    let mut counted = |number: usize, row: Result<Row>| {
        last = number;
        visit(Place { file, number, before }, row)
    };
    match file.exists() {
        true if begins(file)?.starts_with(b"PAR1") => parquet_rows(file, &mut counted)?,
        true => text_rows(file, &mut counted)?,
        false => return Err(user(format!("there is no file {}", file.display())).into()),
    }
    Ok(last)
}

/// The first bytes of a file.
fn begins(file: &Path) -> Result<Vec<u8>> {
    fs::refuse_pointer(file)?;
    let mut bytes = Vec::new();
    fs::open(file)?.take(4).read_to_end(&mut bytes).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(bytes)
}

fn text_rows(file: &Path, visit: &mut dyn FnMut(usize, Result<Row>) -> Result<()>) -> Result<()> {
    let mut bytes = fs::read(file)?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut unpacked = Vec::new();
        MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut unpacked).map_err(|error| broken(file, "gzip", &error))?;
        bytes = unpacked;
    }
    let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
    if text.trim_ascii_start().starts_with(b"[") {
        let list: Vec<Value> = serde_json::from_slice(text).map_err(|error| broken(file, "a JSON list of rows", &error))?;
        return list.into_iter().enumerate().try_for_each(|(at, row)| visit(at + 1, object(row)));
    }
    for (number, line) in text_lines(text) {
        visit(number, line.ok_or_else(not_utf8).and_then(|line| serde_json::from_str(line).map_err(|error| row_error(&error))))?;
    }
    Ok(())
}

fn object(row: Value) -> Result<Row> {
    match row {
        Value::Object(row) => Ok(row),
        other => Err(user(format!("expected an object, found {other}")).into()),
    }
}

fn broken(file: &Path, what: &str, why: &dyn std::fmt::Display) -> anyhow::Error {
    user(format!("{} cannot be read as {what}: {why}", file.display())).into()
}

fn parquet_rows(file: &Path, visit: &mut dyn FnMut(usize, Result<Row>) -> Result<()>) -> Result<()> {
    let wrong = |error: ParquetError| {
        let hint = "snappy, gzip, zstd and lz4 are understood; another program can write it again";
        let error = error.to_string();
        anyhow::Error::from(user(format!("{} cannot be read as Parquet: {error}", file.display())).hint(hint))
    };
    let reader = SerializedFileReader::new(fs::open(file)?).map_err(wrong)?;
    let columns = reader.metadata().file_metadata().schema_descr_ptr();
    if let Some(column) = columns.columns().iter().find(|column| column.converted_type() == ConvertedType::INTERVAL) {
        let message = format!("{}: the column `{}` holds intervals of time, which are not understood", file.display(), column.path());
        return Err(user(message).into());
    }
    for (at, row) in reader.get_row_iter(None).map_err(wrong)?.enumerate() {
        let columns = row.map_err(wrong)?.into_columns();
        let value = |(name, field): (String, Field)| match json(&field) {
            Some(value) => Ok((name, value)),
            None => Err(user(format!("the column `{name}` holds bytes that are no text")).into()),
        };
        visit(at + 1, columns.into_iter().map(value).collect())?;
    }
    Ok(())
}

/// A Parquet value as JSON; `None` for bytes that are no text.
fn json(field: &Field) -> Option<Value> {
    Some(match field {
        Field::Null => Value::Null,
        Field::Bool(truth) => (*truth).into(),
        Field::Byte(number) => (*number).into(),
        Field::Short(number) => (*number).into(),
        Field::Int(number) => (*number).into(),
        Field::Long(number) => (*number).into(),
        Field::UByte(number) => (*number).into(),
        Field::UShort(number) => (*number).into(),
        Field::UInt(number) => (*number).into(),
        Field::ULong(number) => (*number).into(),
        Field::Float16(number) => shortest(number.to_f32()),
        Field::Float(number) => shortest(*number),
        Field::Double(number) => Number::from_f64(*number).map_or(Value::Null, Value::Number),
        Field::Str(text) => text.as_str().into(),
        // Texts of older writers are not marked as such.
        Field::Bytes(bytes) => std::str::from_utf8(bytes.data()).ok()?.into(),
        Field::Group(row) => {
            let fields = row.get_column_iter().map(|(name, field)| Some((name.clone(), json(field)?)));
            Value::Object(fields.collect::<Option<_>>()?)
        }
        Field::ListInternal(list) => Value::Array(list.elements().iter().map(json).collect::<Option<_>>()?),
        Field::MapInternal(map) => {
            let key = |field: &Field| json(field).map(|key| key.as_str().map_or_else(|| key.to_string(), str::to_owned));
            Value::Object(map.entries().iter().map(|(name, field)| Some((key(name)?, json(field)?))).collect::<Option<_>>()?)
        }
        Field::Decimal(_)
        | Field::Date(_)
        | Field::TimeMillis(_)
        | Field::TimeMicros(_)
        | Field::TimestampMillis(_)
        | Field::TimestampMicros(_) => field.to_string().into(),
    })
}

/// The shortest decimal number that rounds to this one; null for what is no number, as in JSON.
fn shortest(number: f32) -> Value {
    let double: f64 = number.to_string().parse().expect("a printed number is a number");
    Number::from_f64(double).map_or(Value::Null, Value::Number)
}
