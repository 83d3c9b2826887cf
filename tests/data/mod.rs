//! Rows of real data sets: what files of every format and layout become, what is refused and what
//! is left out.

#![expect(clippy::unwrap_used)]

mod bounds;
mod chats;
mod conversations;
mod parquet;
mod record_formats;
mod source;
mod tables;

use std::path::{Path, PathBuf};

use posttrain::data::load::{Loaded, Skipped, load};
use posttrain::data::rows::{Example, Preference, Rows};
use posttrain::data::source::Files;
use posttrain::error::{Kind, Result, kind_of};
use serde_json::{Value, json};

/// A folder with one file of JSONL rows, and its path.
fn file(rows: &[Value]) -> (tempfile::TempDir, PathBuf) {
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    bytes(text.as_bytes())
}

/// The same of any bytes.
fn bytes(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

/// What a file becomes with these options.
fn read(path: &Path, options: Value) -> Result<(Rows, Skipped)> {
    loaded(path, options).map(|loaded| (loaded.rows, loaded.skipped))
}

fn loaded(path: &Path, options: Value) -> Result<Loaded> {
    let mut all = json!({"path": {"$path": path}});
    all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let files: Files = serde_json::from_value(all)?;
    assert_eq!(files.problems(), []);
    load(&files)
}

fn examples(rows: &[Value], options: Value) -> Vec<Example> {
    let (_folder, path) = file(rows);
    match read(&path, options).unwrap().0 {
        Rows::Examples(rows) => rows,
        other => panic!("{other:?}"),
    }
}

fn pairs(rows: &[Value], options: Value) -> Vec<Preference> {
    let (_folder, path) = file(rows);
    match read(&path, options).unwrap().0 {
        Rows::Preferences(rows) => rows,
        other => panic!("{other:?}"),
    }
}

/// The user's mistake that rows are with these options.
fn complaint(rows: &[Value], options: Value) -> String {
    let (_folder, path) = file(rows);
    let error = read(&path, options).unwrap_err();
    assert_eq!(kind_of(&error), Kind::User, "{error:#}");
    format!("{error:#}")
}
