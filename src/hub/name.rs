//! The text that names a model of the hub: `hub:owner/name`, `hub:owner/name@revision`. Knows no network.

use std::fmt;

use crate::error::{Failure, user};

/// What such a text begins with.
const SCHEME: &str = "hub:";
/// The revision, if none is given.
const MAIN: &str = "main";
/// Characters of a repository's name at most, as the hub has it.
const LONGEST: usize = 96;
/// What is right.
const EXPECTED: &str = "write hub:owner/name, or hub:owner/name@revision with a branch, a tag or a commit";

/// A model of the hub, at a revision.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// `owner/name`.
    pub repository: String,
    /// A branch, a tag or a commit.
    pub revision: String,
}

impl Name {
    /// Whether a text means to name a model of the hub, rightly or wrongly.
    pub fn is_one(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// Reads a name.
    ///
    /// # Errors
    /// What is wrong with it, and as the hint what is right.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = |what: String| Err(user(format!("`{text}` does not name a model: {what}")).hint(EXPECTED));
        let Some(rest) = text.strip_prefix(SCHEME) else { return wrong(format!("it does not begin with `{SCHEME}`")) };
        let (repository, revision) = rest.split_once('@').unwrap_or((rest, MAIN));
        let Some((owner, name)) = repository.split_once('/') else { return wrong("it has no `/` between owner and name".into()) };
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
            None => Ok(Name { repository: repository.to_owned(), revision: revision.to_owned() }),
        }
    }

    /// Whether the revision is a commit, spelt out: then it means the same for ever.
    pub fn is_pinned(&self) -> bool {
        is_commit(&self.revision)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.repository)?;
        if self.revision == MAIN { Ok(()) } else { write!(f, "@{}", self.revision) }
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
        None if part.starts_with(['-', '.']) || part.ends_with(['-', '.']) => Some("begins or ends with `-` or `.`".into()),
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
        None if revision.split('/').any(|part| part.is_empty() || part.starts_with('.')) => Some("is no branch, tag or commit".into()),
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
        assert!(Name::parse(&format!("hub:a/b@{}", "0a".repeat(20))).expect("a good name").is_pinned());
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
}
