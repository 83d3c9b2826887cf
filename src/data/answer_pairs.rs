//! Two answers to one prompt, to be compared: of two samples artefacts, of one and the references,
//! or of a preference pair. Uses no judge.

use std::collections::BTreeMap;
use std::path::Path;

use super::dataset::{Dataset, test_split};
use super::rows::{Example, Origin, Preference};
use super::samples;
use super::study::{self, Item, Question};
use crate::error::{Context, Error, Result, user};
use crate::json::Json;

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Its text.
    pub text: String,
    /// Whether it ended by itself.
    pub ended: bool,
}

/// Two answers to one prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerPair {
    /// The split of its row.
    pub split: String,
    /// The row.
    pub id: String,
    /// Where the row was read, where its id does not say so.
    pub origin: Option<Origin>,
    /// What both answer.
    pub prompt: String,
    /// A chat template wrote the prompt: see [`Example::chat`].
    pub chat: bool,
    /// One answer: that of `a`, or the one that was chosen.
    pub a: Answer,
    /// The other: that of `b`, the reference, or the one that was rejected.
    pub b: Answer,
    /// See [`Example::facts`].
    pub facts: Option<Json>,
}

impl AnswerPair {
    /// What people are asked of it: which answer is better.
    pub fn item(&self) -> Item {
        Item {
            question: Question::Better,
            split: self.split.clone(),
            id: self.id.clone(),
            prompt: self.prompt.clone(),
            a: vec![self.a.text.clone()],
            b: vec![self.b.text.clone()],
        }
    }

    /// Whether `a` is shown first where only one order is: by chance, of the seed and the row
    /// alone.
    pub fn a_first(&self, seed: u64) -> bool {
        study::a_first(seed, &self.split, &self.id)
    }
}

/// Sets of the first `k` outputs of `a` and of `b` for the rows of `pairs`, which are of the same
/// two.
///
/// # Errors
/// The user's: a row has fewer outputs.
pub fn sets(pairs: &[AnswerPair], a: &Path, b: &Path, k: usize) -> Result<Vec<Item>> {
    let read = |folder: &Path| -> Result<BTreeMap<(String, String), Vec<String>>> {
        let texts = |row: samples::Sampled| {
            let texts = row.outputs.into_iter().map(|output| output.text);
            ((row.split, row.id), texts.collect())
        };
        Ok(samples::read(folder)?.into_iter().map(texts).collect())
    };
    let (a, b) = (read(a)?, read(b)?);
    let item = |pair: &AnswerPair| {
        let of = |name: &str, sets: &BTreeMap<(String, String), Vec<String>>| {
            let own = sets.get(&(pair.split.clone(), pair.id.clone()));
            let own = own.context("the row has a first output")?;
            let few = || {
                let (n, AnswerPair { id, split, .. }) = (own.len(), pair);
                user(format!("`{name}` has {n} outputs of row `{id}` of split `{split}`"))
                    .hint(format!("take smaller sets than {k}, or generate more outputs"))
            };
            Ok::<_, Error>(own.get(..k).ok_or_else(few)?.to_vec())
        };
        let (a, b) = (of("a", &a)?, of("b", &b)?);
        Ok(Item { question: Question::MoreVaried, a, b, ..pair.item() })
    };
    pairs.iter().map(item).collect()
}

/// The first outputs of `a` for the rows of some splits (of all test sets, where none are named),
/// beside those of `b`, or the references.
pub fn outputs(
    dataset: &Path,
    splits: &[String],
    limit: Option<usize>,
    a: &Path,
    b: Option<&Path>,
) -> Result<Vec<AnswerPair>> {
    let dataset = Dataset::open(dataset)?;
    let read = |folder: &Path| -> Result<BTreeMap<(String, String), (String, Answer)>> {
        let row = |row: samples::Sampled| {
            let output = row.outputs.into_iter().next().context("every row has an output")?;
            Ok((
                (row.split, row.id),
                (row.prompt, Answer { text: output.text, ended: output.ended }),
            ))
        };
        samples::read(folder)?.into_iter().map(row).collect()
    };
    let (a, b) = (read(a)?, b.map(read).transpose()?);
    let mut all = Vec::new();
    for split in splits_of(&dataset, splits) {
        for example in
            dataset.split::<Example>(&split)?.into_iter().take(limit.unwrap_or(usize::MAX))
        {
            let of = |name: &str, answers: &BTreeMap<(String, String), (String, Answer)>| {
                let found = answers
                    .get(&(split.clone(), example.id.clone()))
                    .filter(|(prompt, _)| *prompt == example.prompt);
                let missing = || {
                    user(format!(
                        "the outputs of `{name}` have no row `{}` of split `{split}`",
                        example.id
                    ))
                };
                found.map(|(_, answer)| answer.clone()).ok_or_else(|| {
                    missing().hint("generate them from the same dataset, or set a `limit`")
                })
            };
            let first = of("a", &a)?;
            let second = match &b {
                Some(b) => of("b", b)?,
                None => Answer { text: example.completion.clone(), ended: true },
            };
            let Example { id, prompt, facts, chat, origin, .. } = example;
            let (split, a, b) = (split.clone(), first, second);
            all.push(AnswerPair { split, id, origin, prompt, chat, a, b, facts });
        }
    }
    Ok(all)
}

/// Preference pairs of some splits (of all test sets, where none are named; of all there are, where
/// there is none): `a` was chosen.
pub fn pairs(dataset: &Path, splits: &[String], limit: Option<usize>) -> Result<Vec<AnswerPair>> {
    let dataset = Dataset::open(dataset)?;
    let splits = match splits_of(&dataset, splits) {
        none if none.is_empty() => dataset.splits().to_vec(),
        splits => splits,
    };
    let mut all = Vec::new();
    for split in splits {
        for pair in
            dataset.split::<Preference>(&split)?.into_iter().take(limit.unwrap_or(usize::MAX))
        {
            let Preference { id, prompt, chosen, rejected, chat, origin, .. } = pair;
            let answer = |text| Answer { text, ended: true };
            all.push(AnswerPair {
                split: split.clone(),
                id,
                origin,
                prompt,
                chat,
                a: answer(chosen),
                b: answer(rejected),
                facts: None,
            });
        }
    }
    Ok(all)
}

fn splits_of(dataset: &Dataset, splits: &[String]) -> Vec<String> {
    if splits.is_empty() {
        dataset.tests().into_iter().map(test_split).collect()
    } else {
        splits.to_vec()
    }
}
