//! Files of rows: Parquet as pyarrow writes it (tables/make.py) beside the same rows as JSONL,
//! packed files, lists, folders, damage.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use posttrain::data::tables::each;
use posttrain::error::{Kind, Result, kind_of};
use posttrain::json::Json;
use serde_json::{Value, json};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tables").join(name)
}

/// Every row with its file's name and its number.
fn rows(path: &Path) -> Result<Vec<(String, usize, Value)>> {
    let mut rows = Vec::new();
    each(path, &mut |place, row| {
        rows.push((
            place.file.file_name().unwrap().to_str().unwrap().to_owned(),
            place.number,
            serde_json::to_value(Json::Object(row?)).unwrap(),
        ));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(rows)
}

fn values(path: &Path) -> Vec<Value> {
    rows(path).unwrap().into_iter().map(|(_, _, row)| row).collect()
}

fn complaint(path: &Path) -> String {
    let error = rows(path).unwrap_err();
    assert_eq!(kind_of(&error), Kind::User, "{error:#}");
    format!("{error:#}")
}

#[test]
fn parquet_gives_the_values_of_the_same_rows_as_jsonl() {
    let expected = values(&fixture("rows.jsonl"));
    assert_eq!(expected.len(), 5);
    assert_eq!(expected[0]["messages"][1]["content"], " they were eaten 🎉");
    assert_eq!(expected[2]["id"], 9007199254740993_i64);
    for codec in ["plain", "snappy", "gzip", "zstd", "lz4"] {
        assert_eq!(values(&fixture(&format!("{codec}.parquet"))), expected, "{codec}");
    }
}

#[test]
fn what_a_file_is_shows_from_its_first_bytes_not_from_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "\n{\"a\": 1}\n\n{\"a\": 2}\n";
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(lines.as_bytes()).unwrap();
    let files: [(&str, Vec<u8>, [usize; 2]); 4] = [
        ("a.txt", lines.into(), [2, 4]),
        ("b", packed.finish().unwrap(), [2, 4]),
        ("c.jsonl", b" [{\"a\": 1},\n {\"a\": 2}]".to_vec(), [1, 2]),
        ("d.csv", [b"\xef\xbb\xbf", lines.as_bytes()].concat(), [2, 4]),
    ];
    for (name, bytes, numbers) in files {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let expected: Vec<_> = numbers
            .into_iter()
            .zip([1, 2])
            .map(|(number, a)| (name.to_owned(), number, json!({ "a": a })))
            .collect();
        assert_eq!(rows(&path).unwrap(), expected);
    }
}

#[test]
fn a_folder_is_the_rows_of_its_files_by_name_and_numbers_begin_anew() {
    let folder = tempfile::tempdir().unwrap();
    for (name, row) in [("train-2.jsonl", 3), ("train-1.jsonl", 1), (".hidden", 9)] {
        std::fs::write(
            folder.path().join(name),
            format!("{{\"a\": {row}}}\n{{\"a\": {}}}\n", row + 1),
        )
        .unwrap();
    }
    let found: Vec<_> = rows(folder.path())
        .unwrap()
        .into_iter()
        .map(|(name, number, row)| (name, number, row["a"].clone()))
        .collect();
    let expected = [
        ("train-1.jsonl", 1, 1),
        ("train-1.jsonl", 2, 2),
        ("train-2.jsonl", 1, 3),
        ("train-2.jsonl", 2, 4),
    ];
    assert_eq!(found, expected.map(|(name, number, a)| (name.to_owned(), number, json!(a))));
}

#[test]
fn what_cannot_be_read_as_a_whole_is_the_users_to_know() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let whole = std::fs::read(fixture("snappy.parquet")).unwrap();
    assert!(
        complaint(&write("a", &whole[..whole.len() - 9])).contains("cannot be read as Parquet")
    );
    assert!(complaint(&write("b", &[0x1f, 0x8b, 8, 0, 1])).contains("cannot be read as gzip"));
    assert!(complaint(&write("c", b"[{}, ")).contains("cannot be read as a JSON list of rows"));
    assert!(complaint(&write("d", b"[{}, 3]")).contains("expected an object, found a number"));
    assert!(complaint(&folder.path().join("nowhere")).contains("there is no file"));
    let outer = tempfile::tempdir().unwrap();
    assert!(complaint(outer.path()).contains("there is no file in"));
    std::fs::create_dir(outer.path().join("inner")).unwrap();
    assert!(complaint(outer.path()).contains("inner is a folder within a folder of rows"));
}
