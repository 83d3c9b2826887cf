//! The rows of datasets and their JSONL files: one JSON object a line, UTF-8. Knows nothing of where rows come from or what trains on them.

use std::io;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::world::Facts;
use crate::error::{Result, user};
use crate::fs;

/// A prompt with its completion. A document without a prompt (pre-training) has an empty one.
///
/// The two texts are tokenised apart, so a completion brings its own leading space (`" my boss lost my laptop ."`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// Names the row; unique within a split.
    pub id: String,
    /// What the model is given.
    pub prompt: String,
    /// What it should answer; the end-of-text token is added when it is tokenised.
    pub completion: String,
    /// What a post of the synthetic world says; real text has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Facts>,
}

/// Two completions of a prompt, one of which was preferred.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preference {
    /// Names the row; unique within a split.
    pub id: String,
    /// What both answer.
    pub prompt: String,
    /// The completion that was preferred.
    pub chosen: String,
    /// The other one.
    pub rejected: String,
    /// Gold score of `chosen` minus that of `rejected`; negative where the label is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// Whether the label agrees with the gold score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clean: Option<bool>,
    /// Who wrote the two, or which part of a collection they are of: what accuracy is told apart by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// All rows of a JSONL file, in order. Blank lines are skipped.
///
/// # Errors
/// The user's, with file and row (the line, from 1): no such file, no rows, not UTF-8, broken JSON, a missing column, a wrong type.
pub fn read_jsonl<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let rows: Vec<T> = lines(path)?
        .into_iter()
        .map(|(row, line)| serde_json::from_str(&line).map_err(|error| row_error(path, row, &error)))
        .collect::<Result<_>>()?;
    if rows.is_empty() {
        return Err(user(format!("{} has no rows", path.display())).hint("one JSON object a line is expected").into());
    }
    Ok(rows)
}

/// All rows of a JSONL text that was read from `path`, with their numbers.
///
/// # Errors
/// As [`read_jsonl`]'s; that there are no rows is none.
pub fn parse_jsonl<T: DeserializeOwned>(bytes: &[u8], path: &Path) -> Result<Vec<(usize, T)>> {
    let row = |(row, line): (usize, String)| Ok((row, serde_json::from_str(&line).map_err(|error| row_error(path, row, &error))?));
    lines_of(bytes, path)?.into_iter().map(row).collect()
}

/// The non-blank lines of a file with their numbers, from 1.
pub(super) fn lines(path: &Path) -> Result<Vec<(usize, String)>> {
    let bytes = match fs::read(path) {
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|cause| cause.kind() == io::ErrorKind::NotFound) => {
            return Err(user(format!("there is no file {}", path.display())).into());
        }
        other => other?,
    };
    lines_of(&bytes, path)
}

/// The non-blank lines of a text with their numbers, from 1; `path` is for errors.
fn lines_of(bytes: &[u8], path: &Path) -> Result<Vec<(usize, String)>> {
    let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let mut rows = Vec::new();
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = std::str::from_utf8(line).map_err(|_| user(format!("{}, row {}: the text is not UTF-8", path.display(), at + 1)))?;
        if !line.trim().is_empty() {
            rows.push((at + 1, line.to_string()));
        }
    }
    Ok(rows)
}

/// What `serde_json` says about one row, with the place in the file and without its own (which is always line 1).
pub(super) fn row_error(path: &Path, row: usize, error: &serde_json::Error) -> anyhow::Error {
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
    let message = message.replace("missing field", "missing column");
    let place = format!("{}, row {row}", path.display());
    match error.classify() {
        serde_json::error::Category::Data => user(format!("{place}: {message}")).into(),
        _ => user(format!("{place}: broken JSON: {message} (character {})", error.column()))
            .hint("one JSON object a line is expected")
            .into(),
    }
}

/// Writes rows as JSONL: the same rows give the same bytes. The folder is created.
pub fn write_jsonl<T: Serialize>(path: &Path, rows: &[T]) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write_atomic_with(path, |file| {
        for row in rows {
            serde_json::to_writer(&mut *file, row)?;
            file.write_all(b"\n")?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Kind, kind_of};

    fn file(bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    fn complaint(bytes: &[u8]) -> String {
        let (_folder, path) = file(bytes);
        let error = read_jsonl::<Example>(&path).unwrap_err();
        assert_eq!(kind_of(&error), Kind::User, "{error:#}");
        let message = format!("{error:#}");
        assert!(message.contains("rows.jsonl"), "{message}");
        message
    }

    const GOOD: &str = r#"{"id":"1","prompt":"p","completion":" c"}"#;

    #[test]
    fn every_kind_of_bad_row_is_named_with_its_row() {
        let second = |row: &str| complaint(format!("{GOOD}\n{row}\n").as_bytes());
        let broken = second(r#"{"id":"2","prompt":"p""#);
        assert!(broken.contains("row 2: broken JSON") && broken.contains("EOF"), "{broken}");
        let missing = second(r#"{"id":"2","prompt":"p"}"#);
        assert!(missing.contains("row 2: missing column `completion`"), "{missing}");
        let wrong = second(r#"{"id":"2","prompt":7,"completion":" c"}"#);
        assert!(wrong.contains("row 2: invalid type: integer `7`, expected a string"), "{wrong}");
        let list = second("3");
        assert!(list.contains("row 2: invalid type"), "{list}");
        let twice = second(r#"{"id":"2","prompt":"p","prompt":"p","completion":" c"}"#);
        assert!(twice.contains("row 2: duplicate field `prompt`"), "{twice}");
        let mut bytes = format!("{GOOD}\n").into_bytes();
        bytes.extend(b"{\"id\":\"\xff\"}\n");
        assert!(complaint(&bytes).contains("row 2: the text is not UTF-8"));
    }

    #[test]
    fn empty_and_missing_files_are_the_users_mistake() {
        assert!(complaint(b"").contains("has no rows"));
        assert!(complaint(b"\n  \n").contains("has no rows"));
        let error = read_jsonl::<Example>(Path::new("/nowhere/rows.jsonl")).unwrap_err();
        assert_eq!(kind_of(&error), Kind::User);
        assert!(error.to_string().contains("there is no file /nowhere/rows.jsonl"));
    }

    #[test]
    fn blank_lines_returns_and_a_byte_order_mark_do_not_shift_row_numbers() {
        let (_folder, path) = file(format!("\u{feff}{GOOD}\r\n\n{GOOD}").as_bytes());
        assert_eq!(read_jsonl::<Example>(&path).unwrap().len(), 2);
        let message = complaint(format!("{GOOD}\n\n{{}}").as_bytes());
        assert!(message.contains("row 3"), "{message}");
    }

    #[test]
    fn rows_written_and_read_are_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/rows.jsonl");
        let rows = vec![Preference {
            id: "é\n\"".into(),
            prompt: "p".into(),
            chosen: " a".into(),
            rejected: " b".into(),
            margin: Some(0.1 + 0.2),
            clean: Some(false),
            source: Some("a, b".into()),
        }];
        write_jsonl(&path, &rows).unwrap();
        assert_eq!(read_jsonl::<Preference>(&path).unwrap(), rows);
        let bytes = std::fs::read(&path).unwrap();
        write_jsonl(&path, &rows).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}
