//! The built-in worlds: prompts whose answers have an exact score. Uses no file, no token, no
//! model.
//!
//! | module | prompts | gold |
//! |---|---|---|
//! | [`posts`] | forum posts to summarise | which facts a summary states |
//! | [`instructions`] | what to do with a small record, in one or several steps | whether the answer is what the steps give |
//!
//! In both, row i of a split is a pure function of (seed, split, i): a longer split begins with the
//! rows of a shorter one. What training, validation and test are drawn from is disjoint, for every
//! seed (see [`Bucket`]).
//!
//! ```
//! use posttrain_world::posts::World;
//! let post = &World::new(0).sft(1)[0];
//! let grade = posttrain_world::gold(post, " please help .", true).expect("a post has facts");
//! assert_eq!(grade.score, -1.0);
//! ```

use posttrain_base::{error, json, random};
use posttrain_data as data;

pub mod answers;
pub mod instructions;
pub mod posts;
pub mod preferences;

use serde::{Deserialize, Serialize};

pub use preferences::{Candidate, Noise, noisy_preferences, writers_candidates};

use crate::data::rows::Example;
use crate::error::{Result, user};
use crate::json::Json;
use crate::random::{Sequence, Stream};

/// How much of everything, and the seed of it all. The same for both worlds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Seed of every draw.
    pub seed: u64,
    /// Short prompts with complete answers, the first phase of pre-training.
    pub notes: usize,
    /// Documents, the second phase of pre-training.
    pub pretrain: usize,
    /// Prompts with reference answers.
    pub sft: usize,
    /// Prompts whose candidate answers are compared.
    pub compare: usize,
    /// Prompts for reinforcement learning.
    pub prompts: usize,
    /// Prompts to measure on while training.
    pub validation: usize,
    /// Prompts of each test set.
    pub test: usize,
    /// Prompts with reference answers of each kind of test set, all in the split `every_kind`, by
    /// turns: what a model is trained on that shows what is within reach on every test set.
    #[serde(skip_serializing_if = "is_zero")]
    pub every_kind: usize,
    /// What the test sets are drawn from: their own contents, or those of validation. The latter
    /// are sets of the same kinds that choose settings, which no study measures on.
    #[serde(skip_serializing_if = "TestsFrom::is_test")]
    pub tests_from: TestsFrom,
}

fn is_zero(rows: &usize) -> bool {
    *rows == 0
}

/// What the test sets of a world are drawn from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TestsFrom {
    /// Contents of tests.
    #[default]
    Test,
    /// Contents of validation, by draws of their own.
    Validation,
}

impl TestsFrom {
    fn is_test(&self) -> bool {
        *self == TestsFrom::Test
    }

    /// The contents, and the name that the draws of the test set `name` go by.
    fn draws(self, name: &str) -> (Bucket, String) {
        match self {
            TestsFrom::Test => (Bucket::Test, data::dataset::test_split(name)),
            TestsFrom::Validation => (Bucket::Validation, format!("validation/{name}")),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            seed: 0,
            notes: 12_000,
            pretrain: 11_000,
            sft: 3_000,
            compare: 1_600,
            prompts: 4_800,
            validation: 250,
            test: 200,
            every_kind: 0,
            tests_from: TestsFrom::Test,
        }
    }
}

/// What a row of a built-in world is about, as it is in the column [`Example::facts`]. Which of the
/// two it is decides whose gold score counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Facts {
    /// What a post says.
    Post(posts::Facts),
    /// What an instruction asks for.
    Instruction(instructions::Task),
}

impl Facts {
    /// Reads the column of a row; `None` if it is of no built-in world: other data may use the
    /// column in another way.
    pub fn read(column: &Json) -> Option<Self> {
        json::decode(column).ok()
    }

    /// The column of a row.
    pub fn column(&self) -> Json {
        json::encode(self).expect("facts are plain data")
    }
}

/// Brings the columns of a split's rows into the one form that a dataset has them in, so that its
/// bytes do not depend on the order of fields in a file that was made elsewhere. If no column is of
/// a built-in world, all stay as they are.
///
/// # Errors
/// The user's, if some columns are of a built-in world and others are not: one row without gold
/// would leave the whole split without.
pub fn normalise(split: &str, rows: &mut [Example]) -> Result<()> {
    let columns = rows.iter().filter_map(|row| Some((&row.id, row.facts.as_ref()?)));
    let read: Vec<(&String, Option<Facts>)> =
        columns.map(|(id, column)| (id, Facts::read(column))).collect();
    let other = read.iter().find(|(_, facts)| facts.is_none());
    if read.iter().all(|(_, facts)| facts.is_none()) {
        return Ok(());
    }
    if let Some((id, _)) = other {
        let message = format!(
            "split `{split}`: the `facts` of row `{id}` are of no built-in world, those of others are"
        );
        return Err(user(message).hint("correct the row, or give its column another name").into());
    }
    let read: Vec<Json> = read.into_iter().filter_map(|(_, facts)| Some(facts?.column())).collect();
    let columns = rows.iter_mut().filter_map(|row| row.facts.as_mut());
    columns.zip(read).for_each(|(column, read)| *column = read);
    Ok(())
}

/// A gold score and what it is made of, by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Grade {
    /// The score, in [-1, 1].
    pub score: f64,
    /// Its parts, the same for every text of a world.
    pub parts: Vec<(String, f64)>,
}

/// The gold score of `text` as an answer to the example's prompt; `ended` says whether it came to
/// an end by itself. None where the example is of no built-in world.
pub fn gold(example: &Example, text: &str, ended: bool) -> Option<Grade> {
    grade(example.facts.as_ref()?, &example.prompt, text, ended)
}

/// The same of a prompt and the column of its facts.
pub fn grade(facts: &Json, prompt: &str, text: &str, ended: bool) -> Option<Grade> {
    match Facts::read(facts)? {
        Facts::Post(facts) => {
            let gold = posts::gold(&facts, text, ended);
            Some(Grade { score: gold.score, parts: gold.parts() })
        }
        // The checker reads the prompt, as a model does, not what its writer meant.
        Facts::Instruction(_) => {
            let gold = instructions::gold(&instructions::read(prompt)?, text, ended);
            Some(Grade { score: gold.score, parts: gold.parts() })
        }
    }
}

/// What `text` states as an answer to the example's prompt, whatever its wording, in one line: two
/// texts with one line state the same. Of a post the different values that are named, each with its
/// slot; of an instruction the different elements, in the order of the text where the task asks for
/// one. None where the example is of no built-in world.
pub fn statement(example: &Example, text: &str) -> Option<String> {
    match Facts::read(example.facts.as_ref()?)? {
        Facts::Post(_) => {
            let stated = posts::gold::stated(text);
            let value =
                |(slot, value): &(posts::words::Slot, &str)| format!("{}: {value}", slot.name());
            Some(stated.iter().map(value).collect::<Vec<String>>().join("; "))
        }
        Facts::Instruction(_) => {
            let task = instructions::read(&example.prompt)?;
            Some(instructions::gold::stated(&task, text).join("; "))
        }
    }
}

/// What a prompt may be drawn from. The three are disjoint, for every seed, so no test prompt can
/// occur in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bucket {
    /// 14 of 16 contents.
    Train,
    /// 1 of 16.
    Validation,
    /// 1 of 16.
    Test,
}

impl Bucket {
    /// The bucket of a content, by the hash of its texts.
    fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Bucket {
        let mut hasher = blake3::Hasher::new();
        for text in texts {
            hasher.update(text.as_bytes()).update(&[0]);
        }
        match hasher.finalize().as_bytes()[0] % 16 {
            0 => Bucket::Test,
            1 => Bucket::Validation,
            _ => Bucket::Train,
        }
    }
}

/// Rows of several kinds as one split, by turns.
fn by_turns(kinds: Vec<Vec<Example>>) -> Vec<Example> {
    let rows = kinds.iter().map(Vec::len).max().unwrap_or(0);
    (0..rows).flat_map(|row| kinds.iter().filter_map(move |kind| kind.get(row).cloned())).collect()
}

/// `n` rows of a split, each drawn with the random numbers of its place.
fn rows(
    stream: &Stream,
    split: &str,
    n: usize,
    draw: impl Fn(&mut Sequence) -> Example,
) -> Vec<Example> {
    let name = split.rsplit('/').next().expect("a split has a name");
    (0..n)
        .map(|row| Example {
            id: format!("{name}-{row}"),
            ..draw(&mut stream.sequence(row as u64))
        })
        .collect()
}

/// One of the texts.
fn pick(texts: &[&'static str], random: &mut Sequence) -> &'static str {
    texts[random.below(texts.len())]
}

/// `n` different items, in random order.
fn sample_without_replacement<T: Copy>(items: &[T], n: usize, random: &mut Sequence) -> Vec<T> {
    let mut items = items.to_vec();
    random.shuffle(&mut items);
    items.truncate(n);
    items
}

/// Parts with a separator after each but a question; the last is closed by a full stop. Starts with
/// a space.
fn join(parts: &[String], separators: &[&'static str], random: &mut Sequence) -> String {
    let mut text = String::new();
    for (at, part) in parts.iter().enumerate() {
        text.push(' ');
        text.push_str(part);
        if part.ends_with('?') {
            continue;
        }
        text.push(' ');
        text.push_str(if at + 1 == parts.len() { "." } else { pick(separators, random) });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posts::World;

    #[test]
    fn facts_are_a_column_in_the_order_of_their_fields_and_other_columns_are_of_no_world() {
        let row = &World::new(0).sft(1)[0];
        let column = row.facts.as_ref().unwrap();
        let facts = Facts::read(column).unwrap();
        assert_eq!(
            serde_json::to_string(column).unwrap(),
            serde_json::to_string(&facts).unwrap(),
            "the column is what the type writes"
        );
        assert_eq!(facts.column(), *column);
        let other = Example { facts: Some(Json::Text("42".into())), ..row.clone() };
        assert_eq!(gold(&other, " 42", true), None);
        assert!(gold(row, " 42", true).is_some());
        let Json::Object(fields) = column else { panic!("facts are an object") };
        let turned = Json::Object(fields.clone().into_iter().rev().collect());
        let plain = Example { facts: None, ..row.clone() };
        let mut rows = [Example { facts: Some(turned), ..row.clone() }, plain.clone()];
        normalise("sft", &mut rows).unwrap();
        let written = |rows: &[Example]| serde_json::to_string(rows).unwrap();
        assert_eq!(written(&rows), written(&[row.clone(), plain]));
        let mut elsewhere = [other.clone()];
        normalise("sft", &mut elsewhere).unwrap();
        assert_eq!(written(&elsewhere), written(std::slice::from_ref(&other)));
        let error = normalise("sft", &mut [row.clone(), other.clone()]).unwrap_err().to_string();
        assert!(error.contains(&format!("`sft`: the `facts` of row `{}`", other.id)), "{error}");
    }
}
