//! Rows of a split as answers in tokens, and their log-probabilities under a reference policy, as
//! `reference_logprobs` writes them. Shared by the stages that write them and that learn from them.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::artefacts::reference_logprobs::{Mismatched, ReferenceCompletion, ReferencePair, file};
use crate::data::rows::{self, Rows};
use crate::data::tokenised::{Limits, MODEL};
use crate::error::{Result, user};
use crate::tokenizer::tokens::Tokenizer;
use crate::train::answers::{Answered, completions, mismatched};
use crate::train::direct::{Pair, pairs};

/// A row of a split as tokens.
#[derive(Clone, Debug)]
pub(super) struct Answers {
    /// Its name.
    pub(super) id: String,
    /// Both answers of a pair, the chosen one first, or the one completion.
    pub(super) own: Vec<Answered>,
    /// The mismatched row of each answer; empty where none is asked for.
    pub(super) mismatched: Vec<Answered>,
}

impl From<&Pair> for Answers {
    fn from(Pair { id, sides }: &Pair) -> Self {
        Answers { id: id.clone(), own: sides.to_vec(), mismatched: Vec::new() }
    }
}

/// The rows of a split as tokens.
///
/// # Errors
/// The user's: conversations; rows that are too long or have no token; with `with_mismatched`, a
/// row that has no mismatched one.
pub(super) fn answers(
    rows: &Rows,
    tokenizer: &Tokenizer,
    limits: Limits,
    split: &str,
    with_mismatched: bool,
) -> Result<Vec<Answers>> {
    let mut found: Vec<Answers> = match rows {
        Rows::Preferences(rows) => {
            pairs(rows, tokenizer, limits, MODEL, split)?.iter().map(Answers::from).collect()
        }
        Rows::Examples(rows) => {
            let completions = completions(rows, tokenizer, limits, MODEL, split)?.into_iter();
            let of = |(row, completion): (&rows::Example, Answered)| Answers {
                id: row.id.clone(),
                own: vec![completion],
                mismatched: Vec::new(),
            };
            rows.iter().zip(completions).map(of).collect()
        }
        Rows::Conversations(_) => return Err(no_answers(rows, split)),
    };
    let sides = if with_mismatched { found.first().map_or(0, |row| row.own.len()) } else { 0 };
    for side in 0..sides {
        let own: Vec<&Answered> = found.iter().map(|row| &row.own[side]).collect();
        let others = mismatched(&own, limits.context).map_err(|at| {
            user(format!(
                "split `{split}`, row {}: no row of the split has another prompt and an answer \
                 that fits the context of {} after this prompt",
                found[at].id, limits.context
            ))
            .hint("add rows with other prompts, or set `z0: none` of `kto`, which needs none")
        })?;
        found.iter_mut().zip(others).for_each(|(row, other)| row.mismatched.push(other));
    }
    Ok(found)
}

/// The error of a split whose rows are neither pairs nor prompts with completions.
pub(super) fn no_answers(rows: &Rows, split: &str) -> anyhow::Error {
    user(format!("the split `{split}` has {}", rows.kind()))
        .hint(
            "preference pairs, or prompts with completions, are expected: `chat` of a stage \
             `dataset` writes messages out as texts",
        )
        .into()
}

/// 64 bits of a hash of the tokens of the answers of a row.
pub(super) fn digest(answers: &[Answered]) -> String {
    let mut hasher = blake3::Hasher::new();
    for answer in answers {
        hasher.update(&(answer.prompt as u64).to_le_bytes());
        hasher.update(&(answer.tokens.len() as u64).to_le_bytes());
        answer.tokens.iter().for_each(|token| {
            hasher.update(&token.to_le_bytes());
        });
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// What a file says of a row.
struct Known {
    id: String,
    digest: String,
    own: Vec<f64>,
    mismatched: Option<Mismatched>,
}

impl From<ReferencePair> for Known {
    fn from(row: ReferencePair) -> Self {
        let ReferencePair { id, digest, chosen, rejected, mismatched } = row;
        Known { id, digest, own: vec![chosen, rejected], mismatched }
    }
}

impl From<ReferenceCompletion> for Known {
    fn from(row: ReferenceCompletion) -> Self {
        let ReferenceCompletion { id, digest, completion, mismatched } = row;
        Known { id, digest, own: vec![completion], mismatched }
    }
}

/// The log-probabilities of the answers of a row, and those of its mismatched rows, which are none
/// where the row has none.
pub(super) type RowLogprobs = (Vec<f64>, Vec<f64>);

/// The reference log-probabilities of `rows` of a split, in their order, from the artefact in
/// `folder`.
///
/// # Errors
/// The user's: no such split, rows of another kind, a row that is not there, one of other tokens,
/// or no mismatched rows where `rows` have some.
pub(super) fn read(folder: &Path, split: &str, rows: &[Answers]) -> Result<Vec<RowLogprobs>> {
    let are_pairs = rows.first().is_none_or(|row| row.own.len() == 2);
    let known = match are_pairs {
        true => read_file::<ReferencePair>(folder, split)?,
        false => read_file::<ReferenceCompletion>(folder, split)?,
    };
    let by_tokens: BTreeMap<(&str, &str), &Known> =
        known.iter().map(|row| ((row.id.as_str(), row.digest.as_str()), row)).collect();
    let failure = |row: &Answers, what: &str, hint: &str| {
        user(format!(
            "the reference log-probabilities of row `{}` of split `{split}` {what}",
            row.id
        ))
        .hint(hint)
    };
    let same = "give `reference_logprobs` the same dataset, tokenizer and `max_prompt_tokens`";
    let of = |row: &Answers| -> Result<RowLogprobs> {
        let own = digest(&row.own);
        let Some(found) = by_tokens.get(&(row.id.as_str(), own.as_str())) else {
            let is_there = known.iter().any(|known| known.id == row.id);
            let what = if is_there { "are of other tokens" } else { "are not there" };
            return Err(failure(row, what, same).into());
        };
        if row.mismatched.is_empty() {
            return Ok((found.own.clone(), Vec::new()));
        }
        match &found.mismatched {
            None => {
                let hint = "set `mismatched: true` of the stage `reference_logprobs`, or \
                    `z0: none` here";
                Err(failure(row, "have no mismatched rows", hint).into())
            }
            Some(others) if others.digest != digest(&row.mismatched) => {
                Err(failure(row, "have mismatched rows of other tokens", same).into())
            }
            Some(others) => Ok((found.own.clone(), others.logprobs.clone())),
        }
    };
    rows.iter().map(of).collect()
}

fn read_file<T: DeserializeOwned + Into<Known>>(folder: &Path, split: &str) -> Result<Vec<Known>> {
    let path = folder.join(file(split));
    if !path.exists() {
        return Err(user(format!("the reference log-probabilities have no split `{split}`"))
            .hint("name it under `splits` of the stage `reference_logprobs`")
            .into());
    }
    Ok(rows::read_jsonl::<T>(&path)?.into_iter().map(T::into).collect())
}

/// [`read`] of pairs: the log-probabilities of both answers of each.
pub(super) fn read_pairs(folder: &Path, split: &str, pairs: &[Pair]) -> Result<Vec<[f64; 2]>> {
    let rows: Vec<Answers> = pairs.iter().map(Answers::from).collect();
    let both = |(own, _): RowLogprobs| [own[0], own[1]];
    Ok(read(folder, split, &rows)?.into_iter().map(both).collect())
}
