//! The rows of datasets and their JSONL files: one JSON object a line, UTF-8. Uses nothing of
//! where rows come from or what trains on them.

use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde::de::{self, DeserializeOwned, Deserializer};
use serde::{Deserialize, Serialize};

use super::raw_rows::{Place, not_utf8, row_error};
use crate::error::{Context, Result, user};
use crate::fs;
use crate::json::{self, Json, Object};
use crate::random::Stream;
use crate::tokenizer::messages::{ASSISTANT, Chat, Message};

/// Where a row was read, where its id does not say so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its number in its file, as errors of the file's reader count.
    pub row: usize,
    /// The file's name, of several in a folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// What a row is called in errors: its id, and where the user finds it.
pub fn called(id: &str, origin: Option<&Origin>) -> String {
    match origin {
        None => format!("row {id}"),
        Some(Origin { row, file: None }) => format!("row {row} of its file (`{id}`)"),
        Some(Origin { row, file: Some(file) }) => format!("row {row} of {file} (`{id}`)"),
    }
}

/// A prompt with its completion. A document without a prompt (pre-training) has an empty one.
///
/// The two texts are tokenised apart, so a completion brings its own leading space (`" my boss lost
/// my laptop ."`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// Names the row; unique within a split.
    pub id: String,
    /// What the model is given.
    pub prompt: String,
    /// What it should answer; the end-of-text token is added when it is tokenised.
    pub completion: String,
    /// What a checker of answers knows of the prompt, as that checker wrote it (a synthetic world:
    /// what a post says). Nothing here reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Json>,
    /// A chat template wrote the prompt, with every special token that belongs there: the tokenizer
    /// puts none before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub chat: bool,
    /// Where it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// Two completions of a prompt, one of which was preferred.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    /// The author of the two, or their part of a collection: accuracy is reported for each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// A chat template wrote the prompt: see [`Example::chat`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub chat: bool,
    /// Where it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// Messages that a model learns to write its part of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    /// Names the row; unique within a split.
    pub id: String,
    /// In order; the assistant wrote at least one.
    pub messages: Vec<Message>,
    /// What the model may call: a list of JSON schemas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Json>,
    /// Further variables of the chat template.
    #[serde(
        default,
        skip_serializing_if = "Object::is_empty",
        serialize_with = "json::object",
        deserialize_with = "object"
    )]
    pub chat_template_kwargs: Object,
    /// Where it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

fn object<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Object, D::Error> {
    match Json::deserialize(deserializer)? {
        Json::Object(fields) => Ok(fields),
        other => Err(de::Error::custom(format!("expected an object, found {}", other.what()))),
    }
}

impl Conversation {
    /// What a template is given.
    pub fn chat(&self) -> Chat<'_> {
        let variables = Some(&self.chat_template_kwargs).filter(|variables| !variables.is_empty());
        Chat { messages: &self.messages, tools: self.tools.as_ref(), variables }
    }
}

/// The rows of a split, which are all of one kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Rows {
    /// Prompts with completions.
    Examples(Vec<Example>),
    /// Preference pairs.
    Preferences(Vec<Preference>),
    /// Conversations.
    Conversations(Vec<Conversation>),
}

impl Example {
    /// Its prompt; of a document, which has none, its text.
    pub fn content(&self) -> &str {
        if self.prompt.is_empty() { &self.completion } else { &self.prompt }
    }
}

impl Rows {
    /// How many they are.
    pub fn len(&self) -> usize {
        match self {
            Rows::Examples(rows) => rows.len(),
            Rows::Preferences(rows) => rows.len(),
            Rows::Conversations(rows) => rows.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is in each row, as a prompt with a completion: of a pair the chosen one; of a
    /// conversation what came before the assistant first spoke, and the rest.
    pub fn texts(&self) -> Vec<Example> {
        match self {
            Rows::Examples(rows) => rows.clone(),
            Rows::Preferences(rows) => {
                let example = |row: &Preference| Example {
                    id: row.id.clone(),
                    prompt: row.prompt.clone(),
                    completion: row.chosen.clone(),
                    facts: None,
                    chat: row.chat,
                    origin: row.origin.clone(),
                };
                rows.iter().map(example).collect()
            }
            Rows::Conversations(rows) => {
                let text = |messages: &[Message]| {
                    messages.iter().map(Message::content).collect::<Vec<_>>().join("\n")
                };
                let split = |row: &Conversation| {
                    let first = row
                        .messages
                        .iter()
                        .position(|message| message.role() == ASSISTANT)
                        .unwrap_or(row.messages.len());
                    let (prompt, completion) =
                        (text(&row.messages[..first]), text(&row.messages[first..]));
                    Example {
                        id: row.id.clone(),
                        prompt,
                        completion,
                        origin: row.origin.clone(),
                        ..Example::default()
                    }
                };
                rows.iter().map(split).collect()
            }
        }
    }

    /// What they are, in errors.
    pub fn kind(&self) -> &'static str {
        match self {
            Rows::Examples(_) => "prompts with completions",
            Rows::Preferences(_) => "preference pairs",
            Rows::Conversations(_) => "conversations",
        }
    }

    /// Their names.
    pub fn ids(&self) -> Vec<&str> {
        match self {
            Rows::Examples(rows) => rows.iter().map(|row| row.id.as_str()).collect(),
            Rows::Preferences(rows) => rows.iter().map(|row| row.id.as_str()).collect(),
            Rows::Conversations(rows) => rows.iter().map(|row| row.id.as_str()).collect(),
        }
    }

    /// Puts them into a random order with the seed, if there is one; then keeps the first `limit`.
    pub fn order(&mut self, seed: Option<u64>, limit: Option<usize>) {
        fn of<T>(rows: &mut Vec<T>, seed: Option<u64>, limit: Option<usize>) {
            if let Some(seed) = seed {
                Stream::new(seed, "source").sequence(0).shuffle(rows);
            }
            rows.truncate(limit.unwrap_or(usize::MAX));
        }
        match self {
            Rows::Examples(rows) => of(rows, seed, limit),
            Rows::Preferences(rows) => of(rows, seed, limit),
            Rows::Conversations(rows) => of(rows, seed, limit),
        }
    }

    /// Keeps the rows whose index passes, in order.
    pub fn retain(&mut self, keep: impl Fn(usize) -> bool) {
        fn of<T>(rows: &mut Vec<T>, keep: impl Fn(usize) -> bool) {
            let mut row = 0;
            rows.retain(|_| {
                row += 1;
                keep(row - 1)
            });
        }
        match self {
            Rows::Examples(rows) => of(rows, keep),
            Rows::Preferences(rows) => of(rows, keep),
            Rows::Conversations(rows) => of(rows, keep),
        }
    }
}

/// All rows of a JSONL file, in order. Blank lines are skipped.
///
/// # Errors
/// The user's, with file and row (the line, from 1): no such file, no rows, not UTF-8, broken JSON,
/// a missing column, a wrong type.
pub fn read_jsonl<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let bytes = match fs::read(path) {
        Err(error)
            if error
                .downcast_ref::<io::Error>()
                .is_some_and(|cause| cause.kind() == io::ErrorKind::NotFound) =>
        {
            return Err(user(format!("there is no file {}", path.display())).into());
        }
        other => other?,
    };
    let rows: Vec<T> = parse_jsonl(&bytes, path)?.into_iter().map(|(_, row)| row).collect();
    if rows.is_empty() {
        return Err(user(format!("{} has no rows", path.display()))
            .hint("one JSON object a line is expected")
            .into());
    }
    Ok(rows)
}

/// The first row of a JSONL file, if there is one.
///
/// # Errors
/// As [`read_jsonl`]'s.
pub fn first<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let mut line = Vec::new();
    BufReader::new(fs::open(path)?)
        .read_until(b'\n', &mut line)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(parse_jsonl(&line, path)?.into_iter().next().map(|(_, row)| row))
}

/// All rows of a JSONL text that was read from `path`, with their numbers.
///
/// # Errors
/// As [`read_jsonl`]'s; that there are no rows is none.
pub fn parse_jsonl<T: DeserializeOwned>(bytes: &[u8], path: &Path) -> Result<Vec<(usize, T)>> {
    let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let row = |(number, line): (usize, Option<&str>)| {
        let row = line
            .ok_or_else(not_utf8)
            .and_then(|line| serde_json::from_str(line).map_err(|error| row_error(&error)));
        row.map(|row| (number, row))
            .map_err(|error| Place { file: path, number, before: 0 }.of(error))
    };
    text_lines(text).map(row).collect()
}

/// The non-blank lines of a text with their numbers, from 1; `None` is a line that is not UTF-8.
fn text_lines(text: &[u8]) -> impl Iterator<Item = (usize, Option<&str>)> {
    let lines = text
        .split(|byte| *byte == b'\n')
        .enumerate()
        .map(|(at, line)| (at + 1, std::str::from_utf8(line).ok()));
    lines.filter(|(_, line)| line.is_none_or(|line| !line.trim().is_empty()))
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
            chat: true,
            origin: Some(Origin { row: 7, file: Some("b.jsonl".into()) }),
        }];
        write_jsonl(&path, &rows).unwrap();
        assert_eq!(read_jsonl::<Preference>(&path).unwrap(), rows);
        let bytes = std::fs::read(&path).unwrap();
        write_jsonl(&path, &rows).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}
