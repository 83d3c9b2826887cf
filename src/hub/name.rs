//! The text that names a model of the hub, `hub:owner/name@revision`, or files of a dataset,
//! `hub:datasets/owner/name@revision:path`. Uses no network.

use std::fmt;

use hf_hub::{Repo, RepoType};

use crate::error::{Failure, user};

/// What such a text begins with.
const SCHEME: &str = "hub:";
/// The revision, if none is given.
const MAIN: &str = "main";
/// Characters of a repository's name at most, as the hub has it.
const LONGEST: usize = 96;
/// What the name of a dataset begins with after that, as on the hub's own pages.
const DATASETS: &str = "datasets/";
/// What is right for a model.
const MODEL: &str =
    "write hub:owner/name, or hub:owner/name@revision with a branch, a tag or a commit";
/// What is right for a dataset.
const DATASET: &str = "write hub:datasets/owner/name:path, or \
    hub:datasets/owner/name@revision:path, where the path's last part may have `*` in it";

/// A model of the hub, or files of a dataset, at a revision.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// `owner/name`.
    pub repository: String,
    /// A branch, a tag or a commit.
    pub revision: String,
    /// Of a dataset, which file: its path in the repository, or that of several, with `*` for any
    /// text in the last part. `None`: a model.
    pub path: Option<String>,
}

impl Name {
    /// Whether a text means to name something of the hub, rightly or wrongly.
    pub fn is_one(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// Reads a name.
    ///
    /// # Errors
    /// What is wrong with it, and as the hint what is right.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let dataset = Self::is_dataset(text);
        let (noun, right) =
            if dataset { ("files of a dataset", DATASET) } else { ("a model", MODEL) };
        let wrong =
            |what: String| Err(user(format!("`{text}` does not name {noun}: {what}")).hint(right));
        let Some(rest) = text.strip_prefix(SCHEME) else {
            return wrong(format!("it does not begin with `{SCHEME}`"));
        };
        let (rest, path) = match rest
            .strip_prefix(DATASETS)
            .filter(|_| dataset)
            .map(|rest| rest.split_once(':'))
        {
            None => (rest, None),
            Some(Some((rest, path))) => (rest, Some(path)),
            Some(None) => {
                return wrong("it has no `:` between the dataset and the path of the file".into());
            }
        };
        let (repository, revision) = rest.split_once('@').unwrap_or((rest, MAIN));
        let Some((owner, name)) = repository.split_once('/') else {
            return wrong("it has no `/` between owner and name".into());
        };
        for (part, what) in [(owner, "owner"), (name, "name")] {
            if let Some(why) = part_problem(part) {
                return wrong(format!("its {what} {why}"));
            }
        }
        if repository.len() > LONGEST {
            return wrong(format!("it is longer than {LONGEST} characters"));
        }
        match revision_problem(revision) {
            Some(why) => wrong(format!("its revision {why}")),
            None => match path.and_then(path_problem) {
                Some(why) => wrong(format!("its path {why}")),
                None => Ok(Name {
                    repository: repository.to_owned(),
                    revision: revision.to_owned(),
                    path: path.map(str::to_owned),
                }),
            },
        }
    }

    /// Whether a text means to name files of a dataset. `hub:datasets/name` would be the model
    /// `name` of an owner called `datasets`.
    pub fn is_dataset(text: &str) -> bool {
        let rest = text.strip_prefix(SCHEME).and_then(|rest| rest.strip_prefix(DATASETS));
        rest.is_some_and(|rest| rest.contains([':', '/']))
    }

    /// Which of the hub's two kinds of repository it is.
    pub fn kind(&self) -> RepoType {
        if self.path.is_some() { RepoType::Dataset } else { RepoType::Model }
    }

    /// The repository at a revision.
    pub fn at(&self, revision: &str) -> Repo {
        Repo::with_revision(self.repository.clone(), self.kind(), revision.to_owned())
    }

    /// What the hub calls such a repository.
    pub fn noun(&self) -> &'static str {
        if self.path.is_some() { "dataset" } else { "model" }
    }

    /// The path of the file, where it is a single one.
    pub fn single(&self) -> Option<&str> {
        self.path.as_deref().filter(|path| !path.contains('*'))
    }

    /// Whether a path of the repository is that of a file it names.
    pub fn has(&self, path: &str) -> bool {
        let Some(pattern) = &self.path else { return false };
        let folder = |path: &str| path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        let file = |path: &str| path.rsplit_once('/').map_or(path, |(_, file)| file).to_owned();
        let (wanted, found) = (file(pattern), file(path));
        let mut parts = wanted.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = found.strip_prefix(first).filter(|_| folder(pattern) == folder(path))
        else {
            return false;
        };
        let parts: Vec<&str> = parts.collect();
        let Some((last, inner)) = parts.split_last() else { return rest.is_empty() };
        for part in inner {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }

    /// Whether the revision is a commit, spelt out: then it means the same for ever.
    pub fn is_pinned(&self) -> bool {
        is_commit(&self.revision)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dataset = if self.path.is_some() { DATASETS } else { "" };
        write!(f, "{SCHEME}{dataset}{}", self.repository)?;
        if self.revision != MAIN {
            write!(f, "@{}", self.revision)?;
        }
        self.path.as_ref().map_or(Ok(()), |path| write!(f, ":{path}"))
    }
}

/// Whether a text is a commit's whole hash.
pub fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The hub's own rules for the two parts of a repository's name.
fn part_problem(part: &str) -> Option<String> {
    let odd = |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    match part.chars().find(odd) {
        _ if part.is_empty() => Some("is empty".into()),
        Some(odd) => Some(format!("holds `{odd}`")),
        None if part.starts_with(['-', '.']) || part.ends_with(['-', '.']) => {
            Some("begins or ends with `-` or `.`".into())
        }
        None if part.contains("--") || part.contains("..") => Some("holds `--` or `..`".into()),
        None if part.ends_with(".git") => Some("ends with `.git`".into()),
        None => None,
    }
}

/// A revision becomes part of an address and of a path.
fn revision_problem(revision: &str) -> Option<String> {
    let odd = |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '+'));
    match revision.chars().find(odd) {
        _ if revision.is_empty() => Some("is empty".into()),
        Some(odd) => Some(format!("holds `{odd}`")),
        None if revision.split('/').any(|part| part.is_empty() || part.starts_with('.')) => {
            Some("is no branch, tag or commit".into())
        }
        None => None,
    }
}

/// A path becomes part of an address and of a local path.
fn path_problem(path: &str) -> Option<String> {
    let odd =
        |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '+' | '*'));
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    match path.chars().find(odd) {
        _ if path.is_empty() => Some("is empty".into()),
        Some(odd) => Some(format!("holds `{odd}`")),
        None if path.split('/').any(|part| part.is_empty() || part.starts_with('.')) => {
            Some("is no path of a file".into())
        }
        None if folder.contains('*') => Some("has a `*` before its last part".into()),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_and_written_back() {
        for (text, repository, revision) in [
            ("hub:a/b", "a/b", "main"),
            ("hub:facebook/opt-125m@refs/pr/1", "facebook/opt-125m", "refs/pr/1"),
            ("hub:A_1/b.2-c@v1.0+x", "A_1/b.2-c", "v1.0+x"),
        ] {
            let name = Name::parse(text).expect("a good name");
            assert_eq!((name.repository.as_str(), name.revision.as_str()), (repository, revision));
            assert_eq!(name.to_string(), text);
        }
        assert_eq!(Name::parse("hub:a/b@main").expect("a good name").to_string(), "hub:a/b");
        assert!(
            Name::parse(&format!("hub:a/b@{}", "0a".repeat(20))).expect("a good name").is_pinned()
        );
        assert!(!Name::parse("hub:a/b@0a0a0a0").expect("a good name").is_pinned());
    }

    #[test]
    fn a_wrong_name_is_told_what_is_right() {
        for (text, why) in [
            ("hub:gpt", "no `/`"),
            ("hub:a/b/c", "its name holds `/`"),
            ("hub:/b", "its owner is empty"),
            ("hub:a/", "its name is empty"),
            ("hub:a/b c", "holds ` `"),
            ("hub:a/..", "begins or ends"),
            ("hub:a/b--c", "holds `--`"),
            ("hub:a/b.git", "ends with `.git`"),
            ("hub:a/b@", "its revision is empty"),
            ("hub:a/b@../x", "its revision is no branch"),
            ("hub:a/b@x//y", "its revision is no branch"),
            ("hub:a/b@x?y", "its revision holds `?`"),
            (&format!("hub:a/{}", "b".repeat(99)), "longer than 96"),
        ] {
            let failure = Name::parse(text).expect_err(text);
            assert!(failure.message.contains(why), "{}", failure.message);
            assert!(failure.hint.is_some_and(|hint| hint.contains("hub:owner/name@revision")));
        }
    }

    #[test]
    fn files_of_a_dataset_are_named_by_their_path() {
        for (text, repository, revision, path) in [
            ("hub:datasets/a/b:train.jsonl", "a/b", "main", "train.jsonl"),
            (
                "hub:datasets/a/b@refs/convert/parquet:3.0.0/train/*.parquet",
                "a/b",
                "refs/convert/parquet",
                "3.0.0/train/*.parquet",
            ),
        ] {
            let name = Name::parse(text).expect("a good name");
            assert_eq!(
                (name.repository.as_str(), name.revision.as_str(), name.path.as_deref()),
                (repository, revision, Some(path))
            );
            assert_eq!(name.to_string(), text);
        }
        assert_eq!(Name::parse("hub:datasets/b").expect("a model").path, None);
        for (text, why) in [
            ("hub:datasets/a/b", "no `:`"),
            ("hub:datasets/b:x", "no `/`"),
            ("hub:datasets/a/b:", "its path is empty"),
            ("hub:datasets/a/b:../x", "no path of a file"),
            ("hub:datasets/a/b:x y", "its path holds ` `"),
            ("hub:datasets/a/b:*/x", "`*` before its last part"),
            ("hub:datasets/a/b@:x", "its revision is empty"),
        ] {
            let failure = Name::parse(text).expect_err(text);
            assert!(
                failure.message.contains("does not name files of a dataset")
                    && failure.message.contains(why),
                "{failure}"
            );
            assert!(failure.hint.expect("a hint").contains("hub:datasets/owner/name"));
        }
    }

    #[test]
    fn a_star_stands_for_any_text_in_the_last_part_of_a_path() {
        let has = |pattern: &str, path: &str| {
            Name::parse(&format!("hub:datasets/a/b:{pattern}")).expect("a good name").has(path)
        };
        assert!(
            has("d/x.jsonl", "d/x.jsonl")
                && !has("d/x.jsonl", "x.jsonl")
                && !has("x.jsonl", "d/x.jsonl")
        );
        assert!(
            has("d/train-*.parquet", "d/train-0-of-2.parquet")
                && has("d/*", "d/x")
                && has("*a*b*", "xaxbx")
                && has("a*a", "aa")
        );
        assert!(
            !has("d/train-*.parquet", "d/test-0.parquet")
                && !has("d/*", "d/e/x")
                && !has("*a*b*", "xbxa")
                && !has("a*a", "a")
        );
    }
}
