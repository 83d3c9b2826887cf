//! A dataset artefact: a folder with one JSONL file a split. Uses where splits are, not what is in
//! them.
//!
//! A split's name is its file's stem; a test set is `test/NAME`. The usual names are the constants
//! here, and a stage may ask for any other.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::lineage::{self, Lineage};
use super::rows::{self, Rows};
use crate::check::unfit_as_name;
use crate::error::{Result, user};
use crate::fs;

/// Short documents for the first phase of pre-training.
pub const NOTES: &str = "notes";
/// Documents for pre-training.
pub const PRETRAIN: &str = "pretrain";
/// Prompts with reference completions.
pub const SFT: &str = "sft";
/// Prompts for reinforcement learning.
pub const PROMPTS: &str = "prompts";
/// Prompts to draw candidate completions for, which are then compared.
pub const COMPARE: &str = "compare";
/// Preference pairs.
pub const PREFERENCES: &str = "preferences";
/// Prompts with reference completions of the kinds of all test sets.
pub const EVERY_KIND: &str = "every_kind";
/// Examples to measure on while training; never trained on.
pub const VALIDATION: &str = "validation";
/// The folder of the test sets.
pub const TEST: &str = "test";

/// The split of the test set called `name`.
pub fn test_split(name: &str) -> String {
    format!("{TEST}/{name}")
}

/// Whether a split may not share a text with training.
pub fn is_held_out(split: &str) -> bool {
    split == VALIDATION || split.strip_prefix(TEST).is_some_and(|rest| rest.starts_with('/'))
}

/// What is wrong with the name of a split, if anything is: it is `NAME` or `test/NAME`, and each
/// NAME the stem of one file.
pub fn split_problem(split: &str) -> Option<String> {
    let test = split.strip_prefix(TEST).and_then(|rest| rest.strip_prefix('/'));
    let why = unfit_as_name(test.unwrap_or(split))?;
    Some(format!("`{split}` cannot name a split: {why}; expected NAME or {TEST}/NAME"))
}

/// A dataset that was opened: the names of its splits are known.
#[derive(Clone, Debug)]
pub struct Dataset {
    folder: PathBuf,
    splits: Vec<String>,
}

impl Dataset {
    /// The dataset in `folder`.
    pub fn open(folder: &Path) -> Result<Self> {
        let mut splits = stems(folder, "")?;
        if folder.join(TEST).is_dir() {
            splits.extend(stems(&folder.join(TEST), "test/")?);
        }
        if splits.is_empty() {
            return Err(user(format!(
                "{} holds no dataset: there is no .jsonl file in it",
                folder.display()
            ))
            .into());
        }
        Ok(Dataset { folder: folder.to_path_buf(), splits })
    }

    /// The names of all splits, sorted, test sets last.
    pub fn splits(&self) -> &[String] {
        &self.splits
    }

    /// The names of the test sets, without `test/`, sorted.
    pub fn tests(&self) -> Vec<&str> {
        self.splits.iter().filter_map(|split| split.strip_prefix("test/")).collect()
    }

    /// The file of a split.
    ///
    /// # Errors
    /// The user's, with the splits there are, if there is no such split.
    pub fn file(&self, split: &str) -> Result<PathBuf> {
        match self.splits.iter().any(|name| name == split) {
            true => Ok(split_file(&self.folder, split)),
            false => Err(user(format!("the dataset has no split `{split}`"))
                .hint(format!("it has: {}", self.splits.join(", ")))
                .into()),
        }
    }

    /// The rows of a split, of whichever kind they are: their columns say so.
    pub fn rows(&self, name: &str) -> Result<Rows> {
        let file = self.file(name)?;
        let first: Option<Map<String, Value>> = rows::first(&file)?;
        let has = |column: &str| first.as_ref().is_some_and(|row| row.contains_key(column));
        Ok(match (has("messages"), has("chosen")) {
            (true, _) => Rows::Conversations(rows::read_jsonl(&file)?),
            (_, true) => Rows::Preferences(rows::read_jsonl(&file)?),
            _ => Rows::Examples(rows::read_jsonl(&file)?),
        })
    }

    /// The lineage of what its texts were made with, where it has one: of pairs that a reward
    /// chose, that of the candidates.
    ///
    /// # Errors
    /// The user's, if the file is not whole.
    pub fn made_with(&self) -> Result<Option<Lineage>> {
        match self.folder.join(lineage::FILE).is_file() {
            true => Lineage::read(&self.folder).map(Some),
            false => Ok(None),
        }
    }

    /// The rows of a split, which must be of this kind.
    pub fn split<T: DeserializeOwned>(&self, name: &str) -> Result<Vec<T>> {
        rows::read_jsonl(&self.file(name)?)
    }
}

/// Writes a split into the dataset in `folder`.
///
/// # Errors
/// The user's, if the split is empty, or its name leads out of the folder.
pub fn write_split<T: Serialize>(folder: &Path, split: &str, rows: &[T]) -> Result<()> {
    if let Some(problem) = split_problem(split) {
        return Err(user(problem).into());
    }
    if rows.is_empty() {
        return Err(user(format!("the split `{split}` is empty"))
            .hint("widen its filter or its share, or remove it")
            .into());
    }
    rows::write_jsonl(&split_file(folder, split), rows)
}

/// Writes a split of whichever kind.
///
/// # Errors
/// The user's, if the split is empty.
pub fn write_rows(folder: &Path, split: &str, rows: &Rows) -> Result<()> {
    match rows {
        Rows::Examples(rows) => write_split(folder, split, rows),
        Rows::Preferences(rows) => write_split(folder, split, rows),
        Rows::Conversations(rows) => write_split(folder, split, rows),
    }
}

fn split_file(folder: &Path, split: &str) -> PathBuf {
    folder.join(format!("{split}.jsonl"))
}

fn stems(folder: &Path, prefix: &str) -> Result<Vec<String>> {
    let names = fs::list(folder)?;
    Ok(names
        .iter()
        .filter_map(|name| name.strip_suffix(".jsonl"))
        .map(|stem| format!("{prefix}{stem}"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Example;

    fn row(id: &str) -> Example {
        Example { id: id.into(), prompt: "p".into(), completion: " c".into(), ..Example::default() }
    }

    #[test]
    fn splits_are_found_by_name_and_a_wrong_name_lists_them() {
        let folder = tempfile::tempdir().unwrap();
        write_split(folder.path(), SFT, &[row("1")]).unwrap();
        write_split(folder.path(), &test_split("id"), &[row("2"), row("3")]).unwrap();
        let dataset = Dataset::open(folder.path()).unwrap();
        assert_eq!(dataset.splits(), ["sft", "test/id"]);
        assert_eq!(dataset.tests(), ["id"]);
        assert_eq!(dataset.split::<Example>("test/id").unwrap(), [row("2"), row("3")]);
        let error = dataset.split::<Example>("stf").unwrap_err().to_string();
        assert!(error.contains("no split `stf`") && error.contains("sft, test/id"), "{error}");
    }

    #[test]
    fn an_empty_split_is_refused_when_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let error = write_split::<Example>(folder.path(), SFT, &[]).unwrap_err();
        assert_eq!(crate::error::kind_of(&error), crate::error::Kind::User);
        assert!(Dataset::open(folder.path()).is_err());
    }

    #[test]
    fn a_split_cannot_lead_out_of_its_dataset() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let absolute = folder.path().join("abs").display().to_string();
        for name in
            ["../up", "test/../../up", "test/", "test/a/b", "train/a", "", "..", absolute.as_str()]
        {
            let error = write_split(&inner, name, &[row("1")]).unwrap_err();
            assert_eq!(crate::error::kind_of(&error), crate::error::Kind::User, "{name}");
            assert!(error.to_string().contains("test/NAME"), "{error}");
        }
        assert_eq!(fs::list(folder.path()).unwrap(), ["inner"]);
        assert_eq!(fs::list(&inner).unwrap(), [""; 0]);
    }

    #[test]
    fn only_validation_and_test_sets_are_held_out() {
        assert!(is_held_out("validation") && is_held_out("test/id"));
        assert!(!is_held_out("sft") && !is_held_out("tests") && !is_held_out("test"));
    }
}
