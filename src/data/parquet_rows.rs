//! Rows of Parquet files. Uses no column by name.
//!
//! The library's own mistakes on a file (a panic, a value that it cannot show) are the file's
//! errors, with its row.

use std::collections::BTreeSet;
use std::path::Path;

use parquet::basic::ConvertedType;
use parquet::data_type::Decimal;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::Type;
use serde_json::Number;

use super::json::Json;
use super::tables::{Row, VisitNumbered, room, too_much};
use crate::error::{Result, contained, user};
use crate::fs;

/// Days, milliseconds and microseconds from 1970 on to the first day of the year 1, and to the end
/// of the year 9999.
const DAYS: (i64, i64) = (-719_162, 2_932_897);
const MILLISECONDS: i64 = 86_400_000;

/// Visits the rows of a file.
pub(super) fn parquet_rows(file: &Path, visit: VisitNumbered<'_>) -> Result<()> {
    let wrong = |what: &str| {
        let hint = "snappy, gzip, zstd and lz4 are understood; another program can write it again";
        anyhow::Error::from(
            user(format!("{} cannot be read as Parquet: {what}", file.display())).hint(hint),
        )
    };
    let failed = |error: ParquetError| wrong(&error.to_string());
    let room = room(file)?;
    let opened = fs::open(file)?;
    let reader = guarded(|| SerializedFileReader::new(opened))
        .map_err(|why| wrong(&why))?
        .map_err(failed)?;
    let unpacked: i64 = reader
        .metadata()
        .row_groups()
        .iter()
        .flat_map(|group| group.columns())
        .map(|column| column.uncompressed_size())
        .sum();
    if u64::try_from(unpacked).is_ok_and(|unpacked| unpacked > room) {
        return Err(too_much(file, room));
    }
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let intervals =
        schema.columns().iter().filter(|column| column.converted_type() == ConvertedType::INTERVAL);
    let intervals: BTreeSet<String> =
        intervals.filter_map(|column| column.path().parts().first().cloned()).collect();
    let kept = schema
        .root_schema()
        .get_fields()
        .iter()
        .filter(|field| !intervals.contains(field.name()))
        .cloned()
        .collect();
    let kept = Type::group_type_builder(schema.root_schema().name())
        .with_fields(kept)
        .build()
        .map_err(failed)?;
    let mut rows =
        guarded(|| reader.get_row_iter(Some(kept))).map_err(|why| wrong(&why))?.map_err(failed)?;
    let (mut number, mut size) = (0, 0);
    loop {
        number += 1;
        let next = guarded(|| rows.next()).map_err(|why| wrong(&format!("row {number}: {why}")))?;
        let Some(row) = next else { return Ok(()) };
        let columns = row.map_err(|error| wrong(&format!("row {number}: {error}")))?.into_columns();
        let mut row: Row =
            columns.into_iter().map(|(name, field)| (name, json(&field, &mut size))).collect();
        row.extend(intervals.iter().map(|name| {
            (name.clone(), Json::Unreadable("intervals of time, which are not understood".into()))
        }));
        if size > room {
            return Err(too_much(file, room));
        }
        if visit(number, Ok(row))?.is_break() {
            return Ok(());
        }
    }
}

/// What `f` returns, or what it panicked with.
fn guarded<T>(f: impl FnOnce() -> T) -> std::result::Result<T, String> {
    contained(f).map_err(|why| format!("the reader breaks on it: {why}"))
}

/// A Parquet value as JSON. Adds the bytes of its texts to `size`.
fn json(field: &Field, size: &mut u64) -> Json {
    let text = |text: String, size: &mut u64| {
        *size += text.len() as u64;
        Json::Text(text)
    };
    match field {
        Field::Null => Json::Null,
        Field::Bool(truth) => Json::Bool(*truth),
        Field::Byte(number) => Json::Number(number.to_string()),
        Field::Short(number) => Json::Number(number.to_string()),
        Field::Int(number) => Json::Number(number.to_string()),
        Field::Long(number) => Json::Number(number.to_string()),
        Field::UByte(number) => Json::Number(number.to_string()),
        Field::UShort(number) => Json::Number(number.to_string()),
        Field::UInt(number) => Json::Number(number.to_string()),
        Field::ULong(number) => Json::Number(number.to_string()),
        Field::Float16(number) => shortest(number.to_f32()),
        Field::Float(number) => shortest(*number),
        Field::Double(number) => real(*number),
        Field::Str(string) => text(string.clone(), size),
        // Texts of older writers are not marked as such.
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(string) => text(string.to_owned(), size),
            Err(_) => Json::Unreadable("bytes that are no text".into()),
        },
        Field::Group(row) => Json::Object(
            row.get_column_iter().map(|(name, field)| (name.clone(), json(field, size))).collect(),
        ),
        Field::ListInternal(list) => {
            Json::List(list.elements().iter().map(|field| json(field, size)).collect())
        }
        Field::MapInternal(map) => {
            let key = |key: Json| match key {
                Json::Text(text) | Json::Number(text) => text,
                other => other.what().to_owned(),
            };
            let mut unused = 0;
            Json::Object(
                map.entries()
                    .iter()
                    .map(|(name, field)| (key(json(name, &mut unused)), json(field, size)))
                    .collect(),
            )
        }
        Field::Decimal(number) => decimal(number).map_or_else(
            || Json::Unreadable("a decimal whose scale is not that of its type".into()),
            |digits| text(digits, size),
        ),
        Field::Date(days) => time(field, i64::from(*days), 1, size),
        Field::TimestampMillis(time_) => time(field, *time_, MILLISECONDS, size),
        Field::TimestampMicros(time_) => time(field, *time_, 1000 * MILLISECONDS, size),
        Field::TimeMillis(_) | Field::TimeMicros(_) => match guarded(|| field.to_string()) {
            Ok(string) => text(string, size),
            Err(_) => Json::Unreadable("a time beyond a day".into()),
        },
    }
}

/// A date or a moment as text, where the calendar has it; `day` is how many of its units make a
/// day.
fn time(field: &Field, value: i64, day: i64, size: &mut u64) -> Json {
    let (first, end) = DAYS;
    match (first * day..end * day).contains(&value) {
        true => {
            let text = field.to_string();
            *size += text.len() as u64;
            Json::Text(text)
        }
        false => Json::Unreadable("a date beyond the calendar's years 1 to 9999".into()),
    }
}

/// The digits of a decimal number, with a point where digits follow it.
fn decimal(number: &Decimal) -> Option<String> {
    if number.scale() < 0 || number.precision() < number.scale() {
        return None;
    }
    let digits = Field::Decimal(number.clone()).to_string();
    Some(digits.strip_suffix('.').map_or(digits.clone(), str::to_owned))
}

/// The shortest decimal number that rounds to this one; null for what is no number, as in JSON.
fn shortest(number: f32) -> Json {
    real(number.to_string().parse().expect("a printed number is a number"))
}

fn real(number: f64) -> Json {
    Number::from_f64(number).map_or(Json::Null, |number| Json::Number(number.to_string()))
}
