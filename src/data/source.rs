//! Rows of any JSONL file: by template, filter and share. The structs are the options of a pipeline. Knows no split's purpose.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::rows::{self, Example};
use super::template::{Template, column_text};
use crate::error::{Failure, Result, user};
use crate::random::Stream;
use crate::reference::Input;

/// Where the rows of a split come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// A JSONL file; its columns are what the options below name.
    pub path: Input,
    /// Template of the prompt.
    pub prompt: String,
    /// Template of the completion. A model continues the prompt with it as it is: it usually starts with a space.
    pub completion: String,
    /// The column that names a row; without one, the line number does.
    #[serde(default)]
    pub id: Option<String>,
    /// Rows to keep: those that pass every filter.
    #[serde(default)]
    pub keep: Vec<Filter>,
    /// The part of the rows to keep, by the hash of the prompt.
    #[serde(default)]
    pub share: Option<Share>,
    /// Puts the rows into a random order with this seed; without one they stay in the file's.
    #[serde(default)]
    pub shuffle: Option<u64>,
    /// Keeps the first so many rows, after all else.
    #[serde(default)]
    pub limit: Option<usize>,
    /// Cuts a column that is too long, before the templates are filled in.
    #[serde(default)]
    pub cut: Option<Cut>,
}

/// A condition on a column; exactly one of `equals` and `not` is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// The column.
    pub column: String,
    /// Keeps rows whose column is this text (numbers and truth values as JSON writes them).
    #[serde(default)]
    pub equals: Option<String>,
    /// Keeps rows whose column is anything else.
    #[serde(default)]
    pub not: Option<String>,
}

/// A part of the rows: those whose prompt hashes into `[from, to)`, so that parts that do not overlap share no prompt, and a row
/// stays where it is when others come or go.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// At least 0.
    pub from: f64,
    /// At most 1.
    pub to: f64,
}

/// Cuts a column to so many words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// The column.
    pub column: String,
    /// Words that stay.
    pub words: usize,
    /// Which.
    #[serde(default)]
    pub keep: End,
}

/// An end of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The first words.
    #[default]
    Start,
    /// The last words.
    End,
}

impl Files {
    /// Options out of range: the field, and what was expected.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        for (at, filter) in self.keep.iter().enumerate() {
            if filter.equals.is_some() == filter.not.is_some() {
                problems.push((format!("keep.{at}"), "expected one of `equals` and `not`".to_string()));
            }
        }
        if let Some(share) = &self.share
            && !(0.0 <= share.from && share.from < share.to && share.to <= 1.0)
        {
            problems.push(("share".to_string(), format!("expected 0 <= from < to <= 1, found {} and {}", share.from, share.to)));
        }
        if self.limit == Some(0) {
            problems.push(("limit".to_string(), "expected at least 1, or null".to_string()));
        }
        if self.cut.as_ref().is_some_and(|cut| cut.words == 0) {
            problems.push(("cut.words".to_string(), "expected at least 1".to_string()));
        }
        problems
    }
}

/// The rows that the options ask for.
///
/// # Errors
/// The user's: the file cannot be read as JSONL (see [`rows::read_jsonl`]); a template, filter or id names a column that a row lacks
/// (with file and row); two rows have one id; no row is left.
pub fn load(files: &Files) -> Result<Vec<Example>> {
    let path = files.path.path();
    let (prompt, completion) = (Template::parse(&files.prompt)?, Template::parse(&files.completion)?);
    let mut examples = Vec::new();
    let mut found = 0;
    for (number, line) in rows::lines(path)? {
        let row: Map<String, Value> = serde_json::from_str(&line).map_err(|error| rows::row_error(path, number, &error))?;
        found += 1;
        let example = one(files, row, number, &prompt, &completion).map_err(|error| at_row(path, number, error))?;
        examples.extend(example);
    }
    let kept = examples.len();
    if let Some(seed) = files.shuffle {
        Stream::new(seed, "source").sequence(0).shuffle(&mut examples);
    }
    examples.truncate(files.limit.unwrap_or(kept));
    if examples.is_empty() {
        return Err(user(format!("{}: none of its {found} rows is kept", path.display())).hint("look at keep, share and limit").into());
    }
    unique(path, &examples)?;
    Ok(examples)
}

/// Problems with the options that show without the file: (field, what is wrong).
pub fn problems(files: &Files) -> Vec<(&'static str, String)> {
    let mut problems = Vec::new();
    for (field, text) in [("prompt", &files.prompt), ("completion", &files.completion)] {
        if let Err(error) = Template::parse(text) {
            problems.push((field, error.to_string()));
        }
    }
    if let Some(filter) = files.keep.iter().find(|filter| filter.equals.is_some() == filter.not.is_some()) {
        problems.push(("keep", format!("the filter of `{}` needs either `equals` or `not`", filter.column)));
    }
    if let Some(share) = files.share.filter(|share| !(0.0 <= share.from && share.from < share.to && share.to <= 1.0)) {
        problems.push(("share", format!("0 <= from < to <= 1 is expected, not {} and {}", share.from, share.to)));
    }
    if files.limit == Some(0) {
        problems.push(("limit", "at least 1 is expected".into()));
    }
    if files.cut.as_ref().is_some_and(|cut| cut.words == 0) {
        problems.push(("cut.words", "at least 1 is expected".into()));
    }
    problems
}

/// The example of one row, if it is kept.
fn one(files: &Files, mut row: Map<String, Value>, number: usize, prompt: &Template, completion: &Template) -> Result<Option<Example>> {
    for filter in &files.keep {
        let text = column_text(&row, &filter.column)?;
        if filter.equals.as_ref().is_some_and(|wanted| *wanted != text) || filter.not.as_ref().is_some_and(|unwanted| *unwanted == text) {
            return Ok(None);
        }
    }
    let id = files.id.as_ref().map_or(Ok(number.to_string()), |column| column_text(&row, column))?;
    if let Some(cut) = &files.cut {
        let text = column_text(&row, &cut.column)?;
        row.insert(cut.column.clone(), Value::String(cut_words(&text, cut.words, cut.keep).to_string()));
    }
    let example = Example { id, prompt: prompt.render(&row)?, completion: completion.render(&row)?, facts: None };
    let kept = files.share.is_none_or(|share| (share.from..share.to).contains(&place(&example.prompt)));
    Ok(kept.then_some(example))
}

/// Where a prompt falls in [0, 1): a function of its words alone.
fn place(prompt: &str) -> f64 {
    let words = prompt.split_whitespace().collect::<Vec<_>>().join(" ");
    let bytes = blake3::hash(words.as_bytes());
    let bits = u64::from_le_bytes(bytes.as_bytes()[..8].try_into().expect("a hash has 32 bytes"));
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// The first or last words of a text, white space between them kept. A text with no more words stays as it is.
fn cut_words(text: &str, words: usize, keep: End) -> &str {
    // Words are slices of the text, so the distance of the starts is the byte at which a word begins.
    let start = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
    let count = text.split_whitespace().count();
    let edge = match keep {
        _ if count <= words => None,
        End::Start => text.split_whitespace().nth(words - 1),
        End::End => text.split_whitespace().nth(count - words),
    };
    match (edge, keep) {
        (None, _) => text,
        (Some(last), End::Start) => &text[..start(last) + last.len()],
        (Some(first), End::End) => &text[start(first)..],
    }
}

/// The same failure with the place before its message.
fn at_row(path: &Path, number: usize, error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<Failure>() {
        Ok(failure) => Failure { message: format!("{}, row {number}: {}", path.display(), failure.message), ..failure }.into(),
        Err(other) => other,
    }
}

fn unique(path: &Path, examples: &[Example]) -> Result<()> {
    let mut ids = BTreeSet::new();
    match examples.iter().find(|example| !ids.insert(&example.id)) {
        Some(example) => {
            let hint = "name another column as id, or none: the line number is used then";
            Err(user(format!("{}: two rows have the id `{}`", path.display(), example.id)).hint(hint).into())
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Kind, kind_of};
    use serde_json::json;

    /// Six rows; the third is of another category.
    fn load_with(options: Value) -> Result<Vec<Example>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("posts.jsonl");
        let row = |at: usize| {
            let category = if at == 3 { "sport" } else { "tech" };
            json!({"id": format!("r{at}"), "category": category, "year": 2000 + at, "post": format!("post {at} is  a long one"), "title": format!("title {at}")})
        };
        let text: String = (1..=6).map(|at| format!("{}\n", row(at))).collect();
        std::fs::write(&path, text).unwrap();
        let mut files = json!({"path": {"$path": path}, "prompt": "POST: {post}\nTL;DR:", "completion": " {title}"});
        files.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let files: Files = serde_json::from_value(files)?;
        assert!(problems(&files).is_empty());
        load(&files)
    }

    fn ids(options: Value) -> Vec<String> {
        load_with(options).unwrap().into_iter().map(|example| example.id).collect()
    }

    fn complaint(options: Value) -> String {
        let error = load_with(options).unwrap_err();
        assert_eq!(kind_of(&error), Kind::User, "{error:#}");
        error.to_string()
    }

    #[test]
    fn rows_are_put_into_the_templates() {
        let examples = load_with(json!({})).unwrap();
        assert_eq!(examples.len(), 6);
        let first =
            Example { id: "1".into(), prompt: "POST: post 1 is  a long one\nTL;DR:".into(), completion: " title 1".into(), facts: None };
        assert_eq!(examples[0], first);
    }

    #[test]
    fn filters_keep_and_drop_by_value() {
        assert_eq!(ids(json!({"id": "id", "keep": [{"column": "category", "equals": "sport"}]})), ["r3"]);
        assert_eq!(
            ids(json!({"id": "id", "keep": [{"column": "category", "not": "sport"}, {"column": "year", "not": "2001"}]})),
            ["r2", "r4", "r5", "r6"]
        );
    }

    #[test]
    fn shares_part_the_rows() {
        let (a, b) = (ids(json!({"share": {"from": 0.0, "to": 0.4}})), ids(json!({"share": {"from": 0.4, "to": 1.0}})));
        let mut all = [a, b].concat();
        all.sort();
        assert_eq!(all, ["1", "2", "3", "4", "5", "6"]);
    }

    #[test]
    fn a_share_of_many_texts_is_about_as_large_as_it_says() {
        let inside = (0..10_000).filter(|at| place(&format!("text {at}")) < 0.3).count();
        assert!((2850..3150).contains(&inside), "{inside}");
        assert_eq!(place(" a  b\n"), place("a b"));
    }

    #[test]
    fn a_limit_takes_the_first_rows_of_the_order() {
        assert_eq!(ids(json!({"limit": 2})), ["1", "2"]);
        let shuffled = ids(json!({"shuffle": 1}));
        assert_ne!(shuffled, ids(json!({})));
        assert_eq!(ids(json!({"shuffle": 1, "limit": 3})), shuffled[..3]);
    }

    #[test]
    fn a_column_is_cut_at_either_end_and_white_space_stays() {
        assert_eq!(cut_words(" a  b c", 2, End::Start), " a  b");
        assert_eq!(cut_words(" a  b c ", 2, End::End), "b c ");
        assert_eq!(cut_words(" a  b c ", 3, End::End), " a  b c ");
        let examples = load_with(json!({"cut": {"column": "post", "words": 3}})).unwrap();
        assert_eq!(examples[0].prompt, "POST: post 1 is\nTL;DR:");
        let examples = load_with(json!({"cut": {"column": "post", "words": 2, "keep": "end"}})).unwrap();
        assert_eq!(examples[0].prompt, "POST: long one\nTL;DR:");
    }

    #[test]
    fn mistakes_are_named_with_file_and_row() {
        let message = complaint(json!({"prompt": "{pots}"}));
        assert!(message.contains("posts.jsonl, row 1: there is no column `pots`") && message.contains("did you mean `post`"), "{message}");
        assert!(complaint(json!({"id": "category"})).contains("two rows have the id `tech`"));
        assert!(complaint(json!({"keep": [{"column": "category", "equals": "art"}]})).contains("none of its 6 rows is kept"));
        assert!(complaint(json!({"keep": [{"column": "kind", "equals": "art"}]})).contains("row 1: there is no column `kind`"));
        assert!(complaint(json!({"path": {"$path": "/nowhere.jsonl"}})).contains("there is no file"));
    }

    #[test]
    fn unknown_options_and_values_out_of_range_are_refused() {
        assert!(load_with(json!({"limt": 3})).unwrap_err().to_string().contains("unknown field `limt`"));
        let files = json!({"path": {"$path": "x"}, "prompt": "{", "completion": "", "limit": 0, "share": {"from": 0.5, "to": 0.5},
            "keep": [{"column": "a"}], "cut": {"column": "a", "words": 0}});
        let fields: Vec<&str> = problems(&serde_json::from_value(files).unwrap()).into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["prompt", "keep", "share", "limit", "cut.words"]);
    }
}
