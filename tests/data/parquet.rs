//! Parquet files with what JSON has not: dates beyond the calendar, decimals, bytes, intervals; and
//! files that unpack to far more.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{
    ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType, Int32Type, Int64Type,
};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use posttrain::data::rows::Rows;
use posttrain::error::{Kind, kind_of};
use serde_json::{Value, json};

use super::read;

/// The values of a column that every row has.
pub enum Column {
    Bytes(Vec<Vec<u8>>),
    Fixed(Vec<Vec<u8>>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
}

fn texts<const N: usize>(texts: [&str; N]) -> Column {
    Column::Bytes(texts.iter().map(|text| text.as_bytes().to_vec()).collect())
}

/// Writes a file of one row group.
pub fn write(path: &Path, schema: &str, columns: Vec<Column>) {
    let schema = Arc::new(parse_message_type(&format!("message rows {{ {schema} }}")).unwrap());
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_dictionary_page_size_limit(1 << 24)
        .build();
    let mut writer = SerializedFileWriter::new(
        std::fs::File::create(path).unwrap(),
        schema,
        Arc::new(properties),
    )
    .unwrap();
    let mut group = writer.next_row_group().unwrap();
    for column in columns {
        let mut writer = group.next_column().unwrap().unwrap();
        match column {
            Column::Bytes(values) => {
                let values: Vec<ByteArray> = values.into_iter().map(ByteArray::from).collect();
                writer.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
            }
            Column::Fixed(values) => {
                let values: Vec<FixedLenByteArray> =
                    values.into_iter().map(|value| ByteArray::from(value).into()).collect();
                writer.typed::<FixedLenByteArrayType>().write_batch(&values, None, None).unwrap();
            }
            Column::Int32(values) => {
                writer.typed::<Int32Type>().write_batch(&values, None, None).unwrap();
            }
            Column::Int64(values) => {
                writer.typed::<Int64Type>().write_batch(&values, None, None).unwrap();
            }
        }
        writer.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

fn file(schema: &str, columns: Vec<Column>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.parquet");
    write(&path, schema, columns);
    (folder, path)
}

/// The prompts that a template makes of a file's rows.
fn prompts(path: &Path, prompt: &str, more: Value) -> Vec<String> {
    let mut options = json!({"prompt": prompt, "completion": "c"});
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    match read(path, options).unwrap().0 {
        Rows::Examples(rows) => rows.into_iter().map(|row| row.prompt).collect(),
        other => panic!("{other:?}"),
    }
}

fn complaint(path: &Path, prompt: &str) -> String {
    let error = read(path, json!({"prompt": prompt, "completion": "c"})).unwrap_err();
    assert_eq!(kind_of(&error), Kind::User, "{error:#}");
    format!("{error:#}")
}

#[test]
fn a_date_beyond_the_calendar_is_an_error_of_those_who_ask_for_it() {
    let schema = "required binary p (STRING); required int32 d (DATE); required int64 t \
        (TIMESTAMP(MILLIS,true)); required int64 u (TIMESTAMP(MICROS,true));";
    let dates = Column::Int32(vec![19_000, i32::MAX, -719_162, -719_163]);
    let (millis, micros) =
        (Column::Int64(vec![0, i64::MAX, -1, 0]), Column::Int64(vec![0, 0, i64::MIN, 0]));
    let (_folder, path) = file(schema, vec![texts(["a", "b", "c", "d"]), dates, millis, micros]);
    assert_eq!(prompts(&path, "{p}", json!({})), ["a", "b", "c", "d"]);
    assert_eq!(
        prompts(&path, "{p} {d}", json!({"on_bad_row": "skip"})),
        ["a 2022-01-08", "c 0001-01-01"]
    );
    assert_eq!(
        prompts(
            &path,
            "{p}",
            json!({"on_bad_row": "skip", "keep": [{"column": "t", "contains": "1970"}]})
        ),
        ["a", "d"]
    );
    let message = complaint(&path, "{d}");
    assert!(
        message.contains(
            "rows.parquet, row 2: the column `d` holds a date beyond the calendar's years 1 to 9999"
        ),
        "{message}"
    );
    assert!(
        message.contains("\n  rows.parquet, row 4: the same\n  2 of 4 rows are bad"),
        "{message}"
    );
    assert!(complaint(&path, "{u}").contains("row 3: the column `u` holds a date"));
}

#[test]
fn a_decimal_has_a_point_where_digits_follow_it() {
    let schema =
        "required fixed_len_byte_array(16) n (DECIMAL(38,0)); required int64 m (DECIMAL(10,2));";
    let numbers = [12_345_678_901_234_567_890_i128, -7, 0];
    let wide = Column::Fixed(numbers.iter().map(|number| number.to_be_bytes().to_vec()).collect());
    let (_folder, path) = file(schema, vec![wide, Column::Int64(vec![1230, -1, 0])]);
    assert_eq!(
        prompts(&path, "{n} and {m}", json!({})),
        ["12345678901234567890 and 12.30", "-7 and -0.01", "0 and 0.00"]
    );
}

#[test]
fn bytes_and_intervals_are_errors_of_those_who_ask_for_them() {
    let schema = "required binary p (STRING); required group image \
        { required binary bytes; required binary path (STRING); } required binary old; required \
        fixed_len_byte_array(12) span (INTERVAL);";
    let image = Column::Bytes(vec![vec![0x89, b'P', 0xff], b"ok".to_vec()]);
    let span = Column::Fixed(vec![vec![1; 12]; 2]);
    let (_folder, path) =
        file(schema, vec![texts(["a", "b"]), image, texts(["x", "y"]), texts(["é", "o"]), span]);
    assert_eq!(prompts(&path, "{p}{image.path}{old}", json!({})), ["axé", "byo"]);
    assert_eq!(prompts(&path, "{image.bytes}", json!({"on_bad_row": "skip"})), ["ok"]);
    assert!(
        complaint(&path, "{image.bytes}")
            .contains("row 1: the column `image.bytes` holds bytes that are no text")
    );
    let message = complaint(&path, "{span}");
    assert!(
        message
            .contains("row 1: the column `span` holds intervals of time, which are not understood"),
        "{message}"
    );
}

#[test]
fn a_file_that_unpacks_to_far_more_is_read_no_further_than_it_may_be() {
    let value = vec![b'a'; 1 << 20];
    let (_folder, path) = file("required binary p (STRING);", vec![Column::Bytes(vec![value; 90])]);
    assert!(std::fs::metadata(&path).unwrap().len() < 1 << 21);
    assert_eq!(prompts(&path, "{p}", json!({"limit": 1}))[0].len(), 1 << 20);
    let message = complaint(&path, "x");
    assert!(
        message.contains(
            "rows.parquet unpacks to more than 67108864 bytes, more than 30 times its size"
        ),
        "{message}"
    );
    assert!(message.contains("POSTTRAIN_MAX_UNPACKED_BYTES"), "{message}");
}
