//! No text of a held-out set may occur in training, by content. Uses splits of rows, not where
//! they come from.
//!
//! 1. Texts are compared as words ([`normal`]): in lower case, whatever the white space, without
//!    quotation marks and the punctuation that ends a word.
//! 2. A held-out row's content is its prompt; of a row without a prompt, its completion. It is
//!    compared as a whole, less the words that all prompts of its set begin and end with, and less
//!    the lines that many prompts of its set share ([`Identity`]): the template.
//! 3. A row leaks if its content, less the first template, is anywhere in a training row (prompt
//!    and completion together). A content of fewer than 8 words could be in a long text by chance:
//!    it leaks if it is the whole of a training row's content.
//! 4. A row leaks as well if one form of its content is one form of a training row's: the two may
//!    have different templates.

use std::collections::{BTreeSet, HashMap};

use super::rows::{Example, Rows};
use crate::error::{Result, user};

/// Shorter contents must be met as a whole.
pub const WINDOW: usize = 8;
/// A line is the template's if one text in this many has it.
const TEMPLATE: usize = 10;
/// Marks that may be around a word.
const QUOTES: &[char] = &['"', '\'', '`', '\u{201c}', '\u{201d}', '\u{2018}', '\u{2019}'];
/// These, and the punctuation that ends a word.
const QUOTES_AND_ENDS: &[char] =
    &['"', '\'', '`', '\u{201c}', '\u{201d}', '\u{2018}', '\u{2019}', '.', ',', ';', ':', '!', '?'];

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

/// Every pair of a row of `held_out` and a row of `training` that it occurs in, sorted. Each split
/// comes with its name.
pub fn leaks(
    held_out: &[(String, Vec<Example>)],
    training: &[(String, Vec<Example>)],
) -> Vec<Leak> {
    let identified: Vec<(&str, Vec<Identity>)> =
        held_out.iter().map(|(split, rows)| (split.as_str(), identities_of(rows))).collect();
    let contents: Vec<Content> =
        identified.iter().flat_map(|(split, identities)| contents_of(split, identities)).collect();
    let mut windows: HashMap<&[&str], Vec<usize>> = HashMap::new();
    let mut whole: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, content) in contents.iter().enumerate() {
        if let Some(start) = content.words.get(..WINDOW) {
            windows.entry(start).or_default().push(at);
        }
        content.identity.forms().for_each(|form| whole.entry(form).or_default().push(at));
    }
    let mut found = BTreeSet::new();
    for (split, rows) in training {
        let leak = |at: usize, training_row| {
            let (held_out, row) = (contents[at].split.to_string(), contents[at].row);
            Leak { split: held_out, row, training: split.clone(), training_row }
        };
        for (row, example) in rows.iter().enumerate() {
            let text = whole_text(example);
            let words: Vec<&str> = text.split(' ').collect();
            for (start, window) in words.windows(WINDOW).enumerate() {
                let begun = windows.get(window).into_iter().flatten();
                found.extend(
                    begun
                        .filter(|at| words[start..].starts_with(&contents[**at].words))
                        .map(|at| leak(*at, row)),
                );
            }
        }
        for (row, identity) in identities_of(rows).iter().enumerate() {
            let same = identity.forms().flat_map(|form| whole.get(form)).flatten();
            found.extend(same.map(|at| leak(*at, row)));
        }
    }
    found.into_iter().collect()
}

/// Takes the rows that leaks occur in out of training, and says how many they were. For real texts,
/// which are published twice.
pub fn remove(training: &mut [(String, Rows)], leaks: &[Leak]) -> usize {
    let mut removed = 0;
    for (split, rows) in training {
        let guilty: BTreeSet<usize> = leaks
            .iter()
            .filter(|leak| leak.training == *split)
            .map(|leak| leak.training_row)
            .collect();
        rows.retain(|row| !guilty.contains(&row));
        removed += guilty.len();
    }
    removed
}

/// The same as an error that names the first few.
///
/// # Errors
/// The user's, if there is a leak.
pub fn check(
    held_out: &[(String, Vec<Example>)],
    training: &[(String, Vec<Example>)],
) -> Result<()> {
    let leaks = leaks(held_out, training);
    if leaks.is_empty() {
        return Ok(());
    }
    let place = |leak: &Leak| {
        format!(
            "{} row {} is in {} row {}",
            leak.split,
            leak.row + 1,
            leak.training,
            leak.training_row + 1
        )
    };
    let rows = leaks.iter().map(|leak| (&leak.split, leak.row)).collect::<BTreeSet<_>>().len();
    let first: Vec<String> = leaks.iter().take(5).map(place).collect();
    let more = if leaks.len() > first.len() {
        format!(" and {} more", leaks.len() - first.len())
    } else {
        String::new()
    };
    Err(user(format!("{rows} held-out texts occur in training: {}{more}", first.join("; ")))
        .hint("remove those rows, or let the shares or filters of the splits not overlap")
        .into())
}

/// A text as it is compared: its words in lower case, one space apart, without quotation marks
/// around them and without the punctuation that ends them. Signs that are no punctuation (`+`, `-`,
/// brackets) are kept. A text of punctuation alone is kept as it is.
pub fn normal(text: &str) -> String {
    let lower = text.to_lowercase();
    let words = || lower.split_whitespace().map(bare).filter(|word| !word.is_empty());
    let joined = |words: &mut dyn Iterator<Item = &str>| {
        words.fold(String::with_capacity(lower.len()), |mut text, word| {
            text.extend((!text.is_empty()).then_some(' '));
            text + word
        })
    };
    match words().next() {
        Some(_) => joined(&mut words()),
        None => joined(&mut lower.split_whitespace()),
    }
}

/// A word without quotation marks around it and without the punctuation that ends it.
fn bare(word: &str) -> &str {
    word.trim_start_matches(QUOTES).trim_end_matches(QUOTES_AND_ENDS)
}

/// Prompt and completion of a row, one after the other, as they are compared.
pub fn whole_text(row: &Example) -> String {
    let (prompt, completion) = (normal(&row.prompt), normal(&row.completion));
    let apart = if prompt.is_empty() || completion.is_empty() { "" } else { " " };
    format!("{prompt}{apart}{completion}")
}

/// The forms of a text by which it is known again, all as [`normal`] gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// All of it.
    pub text: String,
    /// Less the words that all texts of its set begin and end with.
    pub inner: String,
    /// Less the lines that at least a tenth of the different texts of its set have, and two of
    /// them; then as `inner`.
    pub core: String,
}

impl Identity {
    /// The different forms.
    pub fn forms(&self) -> impl Iterator<Item = &str> {
        let all = [self.text.as_str(), &self.inner, &self.core];
        all.into_iter()
            .enumerate()
            .filter(move |(at, form)| !form.is_empty() && !all[..*at].contains(form))
            .map(|(_, form)| form)
    }
}

/// The identity of every text of a set.
pub fn identities(texts: &[&str]) -> Vec<Identity> {
    let lines: Vec<Vec<String>> = texts.iter().map(|text| lines_of(text)).collect();
    let different: BTreeSet<&Vec<String>> = lines.iter().collect();
    let mut having: HashMap<&str, usize> = HashMap::new();
    for lines in &different {
        let lines: BTreeSet<&str> = lines.iter().map(String::as_str).collect();
        lines.into_iter().for_each(|line| *having.entry(line).or_default() += 1);
    }
    let is_template = |line: &str| having[line] >= 2 && TEMPLATE * having[line] >= different.len();
    let core = |lines: &Vec<String>| {
        let own: Vec<&str> =
            lines.iter().map(String::as_str).filter(|line| !is_template(line)).collect();
        if own.is_empty() { lines.join(" ") } else { own.join(" ") }
    };
    let (all, cores): (Vec<String>, Vec<String>) =
        lines.iter().map(|lines| (lines.join(" "), core(lines))).unzip();
    let (inner, core) = (unframed(&all), unframed(&cores));
    all.into_iter()
        .zip(inner)
        .zip(core)
        .map(|((text, inner), core)| Identity { text, inner, core })
        .collect()
}

/// The lines of a text that have words; the only one, where none has.
fn lines_of(text: &str) -> Vec<String> {
    let worded = |line: &&str| line.split_whitespace().any(|word| !bare(word).is_empty());
    let lines: Vec<String> = text.lines().filter(worded).map(normal).collect();
    if lines.is_empty() { vec![normal(text)] } else { lines }
}

/// Texts less the words that all begin and end with.
fn unframed(texts: &[String]) -> Vec<String> {
    let all: Vec<Vec<&str>> = texts.iter().map(|text| text.split(' ').collect()).collect();
    let (head, tail) = frame(&all);
    let inner = |words: &Vec<&str>| {
        if words.len() > head + tail {
            words[head..words.len() - tail].join(" ")
        } else {
            words.join(" ")
        }
    };
    all.iter().map(inner).collect()
}

fn identities_of(rows: &[Example]) -> Vec<Identity> {
    let content = |row: &'_ Example| {
        if row.prompt.trim().is_empty() { row.completion.clone() } else { row.prompt.clone() }
    };
    let texts: Vec<String> = rows.iter().map(content).collect();
    identities(&texts.iter().map(String::as_str).collect::<Vec<_>>())
}

/// What identifies a held-out row by content.
struct Content<'a> {
    split: &'a str,
    row: usize,
    identity: &'a Identity,
    /// The words of its inner text.
    words: Vec<&'a str>,
}

fn contents_of<'a>(
    split: &'a str,
    identities: &'a [Identity],
) -> impl Iterator<Item = Content<'a>> {
    let content = move |(row, identity): (usize, &'a Identity)| Content {
        split,
        row,
        identity,
        words: identity.inner.split(' ').collect(),
    };
    identities.iter().enumerate().map(content)
}

/// How many words all texts begin with in common, and end with; none if there is but one text.
fn frame(texts: &[Vec<&str>]) -> (usize, usize) {
    let Some((first, rest)) = texts.split_first().filter(|(_, rest)| !rest.is_empty()) else {
        return (0, 0);
    };
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
        let training = [
            ("POST: something else that is quite long and harmless\nTL;DR:", " x"),
            (&A.replace(' ', "  ") as &str, " y"),
        ];
        assert_eq!(found(&[(B, " b"), (A, " a")], &training), [(1, 1)]);
        assert_eq!(found(&[(B, " b"), (A, " a")], &training[..1]), []);
    }

    #[test]
    fn a_bare_post_inside_a_training_document_is_found() {
        let document = "an archive : one two three four five six seven eight nine . and more";
        assert_eq!(found(&[(B, " b"), (A, " a")], &[("", "nothing"), ("", document)]), [(1, 1)]);
        // Split between prompt and completion it is still the same text.
        assert_eq!(
            found(
                &[(A, " a"), (B, " b")],
                &[("one two three four five", " six seven eight nine ten")]
            ),
            [(0, 0)]
        );
        // All but the last word is another text.
        assert_eq!(
            found(
                &[(A, " a"), (B, " b")],
                &[("", "one two three four five six seven eight then nine")]
            ),
            []
        );
    }

    #[test]
    fn a_short_prompt_leaks_as_a_whole_only() {
        let test = [("Q: why ?\nA:", " so"), ("Q: how ?\nA:", " thus")];
        assert_eq!(
            found(&test, &[("Q: well why ? says he\nA:", " so"), ("Q: what ?\nA:", " x")]),
            []
        );
        assert_eq!(found(&test, &[("Q: why  ?\nA:", " other"), ("Q: what ?\nA:", " x")]), [(0, 0)]);
    }

    #[test]
    fn documents_without_a_prompt_are_compared_by_their_text() {
        let text = "nine words are more than eight words , see";
        assert_eq!(found(&[("", text)], &[("", text)]), [(0, 0)]);
        assert_eq!(found(&[("", text)], &[("", "something else altogether")]), []);
    }

    #[test]
    fn case_white_space_quotation_marks_and_final_punctuation_make_no_other_text() {
        assert_eq!(normal(" What  is\u{a0}\u{201c}Rust\u{201d}, please?\n"), "what is rust please");
        // Signs that carry meaning are kept.
        let different = ["3 + 2", "3 - 2", "f(x)", "f x", "-1", "1", ".5", "5"].map(normal);
        assert_eq!(different.iter().collect::<BTreeSet<_>>().len(), different.len());
        assert_eq!((normal("?!"), normal(" ")), ("?!".to_string(), String::new()));
    }

    #[test]
    fn a_text_is_found_under_another_template() {
        let alpaca = |text: &str, input: &str| match input {
            "" => format!("Below is a task.\n\n### Instruction:\n{text}\n\n### Response:"),
            input => format!(
                "Below are a task and an input.\n\n### Instruction:\n{text}\n\n### \
                 Input:\n{input}\n\n### Response:"
            ),
        };
        let chat = |text: &str| format!("User: {text}\nAssistant:");
        let inputs = [
            ("Name a river.", ""),
            ("Shorten this.", "A very long text"),
            ("Name a colour.", ""),
            ("Translate this.", "Good day"),
        ];
        let test = inputs.map(|(text, input)| alpaca(text, input));
        let training = [
            chat("Shorten this. A very long text"),
            chat("Say hello."),
            chat("name a River"),
            chat("Name a mountain."),
        ];
        let set = |name: &str, prompts: &[String]| -> (String, Vec<Example>) {
            let example = |prompt: &String| Example {
                prompt: prompt.clone(),
                completion: " x".into(),
                ..Example::default()
            };
            (name.into(), prompts.iter().map(example).collect())
        };
        let found: Vec<(usize, usize)> = leaks(&[set("test/id", &test)], &[set("sft", &training)])
            .into_iter()
            .map(|leak| (leak.row, leak.training_row))
            .collect();
        assert_eq!(found, [(0, 2), (1, 0)]);
    }

    #[test]
    fn the_error_names_the_rows() {
        let error = check(
            &[set("test/id", &[(B, " b"), (A, " a")])],
            &[set("sft", &[("x", " y"), (A, " z")])],
        )
        .unwrap_err();
        assert_eq!(crate::error::kind_of(&error), crate::error::Kind::User);
        assert!(
            error
                .to_string()
                .contains("1 held-out texts occur in training: test/id row 2 is in sft row 2"),
            "{error}"
        );
        assert!(check(&[set("test/id", &[(B, " b")])], &[set("sft", &[(A, " z")])]).is_ok());
    }

    #[test]
    fn leaking_rows_can_be_taken_out_of_training() {
        let held_out = [set("test/id", &[(B, " b"), (A, " a")])];
        let training = [
            set("sft", &[(A, " z"), ("x", " y"), (A, " w")]),
            set("prompts", &[("x", " y"), (B, " v")]),
        ];
        let found = leaks(&held_out, &training);
        let mut training = training.map(|(name, rows)| (name, Rows::Examples(rows)));
        assert_eq!(remove(&mut training, &found), 3);
        let training = training.map(|(name, rows)| (name, rows.texts()));
        assert_eq!(training, [set("sft", &[("x", " y")]), set("prompts", &[("x", " y")])]);
        assert!(check(&held_out, &training).is_ok());
    }
}
