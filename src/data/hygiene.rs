//! No text of a held-out set may occur in training, by content. Knows splits of rows, not where they come from.
//!
//! 1. Texts are compared as words: any white space is as good as any other.
//! 2. A held-out row's content is its prompt, less the words that all prompts of its set begin with and those that all end with (the
//!    template), so a bare post in a training text is found too. A row without a prompt has its completion as content.
//! 3. A row leaks if its content stands anywhere in a training row (prompt and completion together). A content of fewer than 8 words
//!    could stand in a long text by chance: it leaks if it is the whole of a training row's content, or their prompts are the same.

use std::collections::{BTreeSet, HashMap};

use super::rows::{Example, Rows};
use crate::error::{Result, user};

/// Shorter contents must be met as a whole.
const WINDOW: usize = 8;

/// A held-out row that occurs in training.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leak {
    /// The held-out split.
    pub split: String,
    /// Its row, from 0.
    pub row: usize,
    /// The training split.
    pub training: String,
    /// The row it occurs in, from 0.
    pub training_row: usize,
}

/// Every pair of a row of `held_out` and a row of `training` that it occurs in, sorted. Each split comes with its name.
pub fn leaks(held_out: &[(String, Vec<Example>)], training: &[(String, Vec<Example>)]) -> Vec<Leak> {
    let contents: Vec<Content> = held_out.iter().flat_map(|(split, rows)| contents_of(split, rows)).collect();
    let mut windows: HashMap<&[&str], Vec<usize>> = HashMap::new();
    let mut whole: HashMap<&[&str], Vec<usize>> = HashMap::new();
    for (at, content) in contents.iter().enumerate() {
        match content.words.get(..WINDOW) {
            Some(start) => windows.entry(start).or_default().push(at),
            None => [&content.words, &content.text].into_iter().for_each(|words| whole.entry(words).or_default().push(at)),
        }
    }
    let mut found = BTreeSet::new();
    for (split, rows) in training {
        let leak = |at: usize, training_row| {
            let (held_out, row) = (contents[at].split.to_string(), contents[at].row);
            Leak { split: held_out, row, training: split.clone(), training_row }
        };
        for (row, example) in rows.iter().enumerate() {
            let words: Vec<&str> = example.prompt.split_whitespace().chain(example.completion.split_whitespace()).collect();
            for (start, window) in words.windows(WINDOW).enumerate() {
                let begun = windows.get(window).into_iter().flatten();
                found.extend(begun.filter(|at| words[start..].starts_with(&contents[**at].words)).map(|at| leak(*at, row)));
            }
        }
        for content in contents_of(split, rows) {
            let same = [&content.words, &content.text].into_iter().flat_map(|words| whole.get(words.as_slice())).flatten();
            found.extend(same.map(|at| leak(*at, content.row)));
        }
    }
    found.into_iter().collect()
}

/// Takes the rows that leaks occur in out of training, and says how many they were. For real texts, which are published twice.
pub fn remove(training: &mut [(String, Rows)], leaks: &[Leak]) -> usize {
    let mut removed = 0;
    for (split, rows) in training {
        let guilty: BTreeSet<usize> = leaks.iter().filter(|leak| leak.training == *split).map(|leak| leak.training_row).collect();
        rows.retain(|row| !guilty.contains(&row));
        removed += guilty.len();
    }
    removed
}

/// The same as an error that names the first few.
///
/// # Errors
/// The user's, if there is a leak.
pub fn check(held_out: &[(String, Vec<Example>)], training: &[(String, Vec<Example>)]) -> Result<()> {
    let leaks = leaks(held_out, training);
    if leaks.is_empty() {
        return Ok(());
    }
    let place = |leak: &Leak| format!("{} row {} is in {} row {}", leak.split, leak.row + 1, leak.training, leak.training_row + 1);
    let rows = leaks.iter().map(|leak| (&leak.split, leak.row)).collect::<BTreeSet<_>>().len();
    let first: Vec<String> = leaks.iter().take(5).map(place).collect();
    let more = if leaks.len() > first.len() { format!(" and {} more", leaks.len() - first.len()) } else { String::new() };
    Err(user(format!("{rows} held-out texts occur in training: {}{more}", first.join("; ")))
        .hint("remove those rows, or let the shares or filters of the splits not overlap")
        .into())
}

/// What identifies a row by content.
struct Content<'a> {
    split: &'a str,
    row: usize,
    /// All its words.
    text: Vec<&'a str>,
    /// Those between the words that its whole set begins and ends with.
    words: Vec<&'a str>,
}

fn contents_of<'a>(split: &'a str, rows: &'a [Example]) -> Vec<Content<'a>> {
    let words = |row: &'a Example| -> Vec<&'a str> {
        let text = if row.prompt.trim().is_empty() { &row.completion } else { &row.prompt };
        text.split_whitespace().collect()
    };
    let all: Vec<Vec<&str>> = rows.iter().map(words).collect();
    let (head, tail) = frame(&all);
    let content = |(row, words): (usize, Vec<&'a str>)| {
        let inner = if words.len() > head + tail { words[head..words.len() - tail].to_vec() } else { words.clone() };
        Content { split, row, text: words, words: inner }
    };
    all.into_iter().enumerate().map(content).collect()
}

/// How many words all texts begin with in common, and end with; none if there is but one text.
fn frame(texts: &[Vec<&str>]) -> (usize, usize) {
    let Some((first, rest)) = texts.split_first().filter(|(_, rest)| !rest.is_empty()) else { return (0, 0) };
    let common = |text: &Vec<&str>, end: bool| {
        let same = |(a, b): &(&&str, &&str)| a == b;
        match end {
            false => first.iter().zip(text).take_while(same).count(),
            true => first.iter().rev().zip(text.iter().rev()).take_while(same).count(),
        }
    };
    let shortest = |end| rest.iter().map(|text| common(text, end)).min().unwrap_or(0);
    (shortest(false), shortest(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, rows: &[(&str, &str)]) -> (String, Vec<Example>) {
        let example = |(prompt, completion): &(&str, &str)| Example {
            id: String::new(),
            prompt: prompt.to_string(),
            completion: completion.to_string(),
            ..Example::default()
        };
        (name.into(), rows.iter().map(example).collect())
    }

    const A: &str = "POST: one two three four five six seven eight nine\nTL;DR:";
    const B: &str = "POST: nine eight seven six five four three two one\nTL;DR:";

    fn found(test: &[(&str, &str)], training: &[(&str, &str)]) -> Vec<(usize, usize)> {
        let leaks = leaks(&[set("test/id", test)], &[set("sft", training)]);
        leaks.into_iter().map(|leak| (leak.row, leak.training_row)).collect()
    }

    #[test]
    fn a_planted_prompt_is_found_whatever_its_white_space() {
        let training = [("POST: something else that is quite long and harmless\nTL;DR:", " x"), (&A.replace(' ', "  ") as &str, " y")];
        assert_eq!(found(&[(B, " b"), (A, " a")], &training), [(1, 1)]);
        assert_eq!(found(&[(B, " b"), (A, " a")], &training[..1]), []);
    }

    #[test]
    fn a_bare_post_inside_a_training_document_is_found() {
        let document = "an archive : one two three four five six seven eight nine . and more";
        assert_eq!(found(&[(B, " b"), (A, " a")], &[("", "nothing"), ("", document)]), [(1, 1)]);
        // Split between prompt and completion it is still the same text.
        assert_eq!(found(&[(A, " a"), (B, " b")], &[("one two three four five", " six seven eight nine ten")]), [(0, 0)]);
        // All but the last word is another text.
        assert_eq!(found(&[(A, " a"), (B, " b")], &[("", "one two three four five six seven eight . nine")]), []);
    }

    #[test]
    fn a_short_prompt_leaks_as_a_whole_only() {
        let test = [("Q: why ?\nA:", " so"), ("Q: how ?\nA:", " thus")];
        assert_eq!(found(&test, &[("Q: well why ? says he\nA:", " so"), ("Q: what ?\nA:", " x")]), []);
        assert_eq!(found(&test, &[("Q: why  ?\nA:", " other"), ("Q: what ?\nA:", " x")]), [(0, 0)]);
    }

    #[test]
    fn documents_without_a_prompt_are_compared_by_their_text() {
        let text = "nine words are more than eight words , see";
        assert_eq!(found(&[("", text)], &[("", text)]), [(0, 0)]);
        assert_eq!(found(&[("", text)], &[("", "something else altogether")]), []);
    }

    #[test]
    fn the_error_names_the_rows() {
        let error = check(&[set("test/id", &[(B, " b"), (A, " a")])], &[set("sft", &[("x", " y"), (A, " z")])]).unwrap_err();
        assert_eq!(crate::error::kind_of(&error), crate::error::Kind::User);
        assert!(error.to_string().contains("1 held-out texts occur in training: test/id row 2 is in sft row 2"), "{error}");
        assert!(check(&[set("test/id", &[(B, " b")])], &[set("sft", &[(A, " z")])]).is_ok());
    }

    #[test]
    fn leaking_rows_can_be_taken_out_of_training() {
        let held_out = [set("test/id", &[(B, " b"), (A, " a")])];
        let training = [set("sft", &[(A, " z"), ("x", " y"), (A, " w")]), set("prompts", &[("x", " y"), (B, " v")])];
        let found = leaks(&held_out, &training);
        let mut training = training.map(|(name, rows)| (name, Rows::Examples(rows)));
        assert_eq!(remove(&mut training, &found), 3);
        let training = training.map(|(name, rows)| (name, rows.texts()));
        assert_eq!(training, [set("sft", &[("x", " y")]), set("prompts", &[("x", " y")])]);
        assert!(check(&held_out, &training).is_ok());
    }
}
