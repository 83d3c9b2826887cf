//! What models read of datasets: rows whose lengths are known as soon as the dataset and the
//! tokenizer are there. The run checks all of them before anything trains; each stage checks its
//! rows again when it starts, with the same functions. Uses no model.

use std::path::Path;

use super::answer_rows::no_answers;
use super::generation::{self, Room};
use super::source::Source;
use super::supervised;
use crate::data::dataset::{Dataset, test_split};
use crate::data::rows::{Preference, Rows};
use crate::data::tokenised::{Limits, MODEL, tokenise};
use crate::error::Result;
use crate::reference::{Dataset as DatasetArtefact, Ref};
use crate::tokenizer::tokens::Tokenizer;
use crate::train::answers;
use crate::train::preference::{self, BatchOf, Margin};

/// Rows of a dataset that a model is given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reading {
    /// The dataset.
    pub dataset: Source,
    /// Its splits.
    pub splits: Splits,
    /// Rows of each split that are read, from the first; `None` reads all.
    pub rows: Option<usize>,
    /// The folder of the tokenizer, and of the chat template.
    pub tokenizer: Source,
    /// How long a sequence may be.
    pub limits: Limits,
    /// What errors call the model.
    pub reader: &'static str,
    /// What of a row is read.
    pub part: Part,
}

/// Splits of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Splits {
    /// These.
    Named(Vec<String>),
    /// These, except those that the dataset lacks.
    Present(Vec<String>),
    /// All test sets.
    Tests,
    /// All test sets, or all splits of a dataset without one.
    TestsOrAll,
    /// All.
    All,
}

impl Splits {
    /// These, or all test sets where none is named.
    pub fn named_or_tests(names: &[String]) -> Self {
        if names.is_empty() { Splits::Tests } else { Splits::Named(names.to_vec()) }
    }

    fn of(&self, dataset: &Dataset) -> Vec<String> {
        let tests = || dataset.tests().into_iter().map(test_split).collect::<Vec<String>>();
        match self {
            Splits::Named(names) => names.clone(),
            Splits::Present(names) => {
                names.iter().filter(|name| dataset.splits().contains(name)).cloned().collect()
            }
            Splits::Tests => tests(),
            Splits::TestsOrAll if !tests().is_empty() => tests(),
            Splits::TestsOrAll | Splits::All => dataset.splits().to_vec(),
        }
    }
}

/// What of a row a model reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Prompt and completion, or a conversation: what a language model learns.
    Completion,
    /// Prompt and completion; of a pair, the chosen text; of a conversation, its first turn.
    Text,
    /// Prompt and both texts of a pair.
    Pair,
    /// Prompt and both texts of a pair; of other rows, prompt and completion.
    Answers,
    /// The prompt, with room for this many more tokens.
    Prompt(usize),
}

impl Reading {
    /// What a model with this tokenizer and context is given of named splits, all of their rows;
    /// `prompt` is the stage's `max_prompt_tokens`.
    pub fn of_model(
        (tokenizer, context): (Source, usize),
        dataset: &Ref<DatasetArtefact>,
        splits: Vec<String>,
        prompt: Option<usize>,
        part: Part,
    ) -> Self {
        Reading {
            dataset: Source::from(dataset),
            splits: Splits::Named(splits),
            rows: None,
            tokenizer,
            limits: Limits::of_stage(context, prompt),
            reader: MODEL,
            part,
        }
    }

    /// The errors of splits with rows that are too long, or that cannot be read, in the order of
    /// the splits. `dataset` and `tokenizer` are the folders.
    pub fn problems(&self, dataset: &Path, tokenizer: &Path) -> Vec<anyhow::Error> {
        let opened = || Ok((Dataset::open(dataset)?, Tokenizer::open(tokenizer)?));
        let (data, tokens) = match opened() {
            Ok(both) => both,
            Err(error) => return vec![error],
        };
        let splits = self.splits.of(&data).into_iter();
        splits
            .filter_map(|split| self.check(&data, &split, &tokens, (dataset, tokenizer)).err())
            .collect()
    }

    fn check(
        &self,
        data: &Dataset,
        split: &str,
        tokens: &Tokenizer,
        (dataset, tokenizer): (&Path, &Path),
    ) -> Result<()> {
        let Reading { limits, reader, rows, .. } = *self;
        match self.part {
            Part::Completion => {
                // The stage says what the template ignores.
                let mut silent = |_: String| ();
                supervised::rows_of(&mut silent, data, split, tokens, limits, tokenizer)?;
            }
            Part::Text => {
                let mut texts = data.rows(split)?.texts();
                texts.truncate(rows.unwrap_or(usize::MAX));
                tokenise(&texts, tokens, limits, split)?;
            }
            Part::Pair => {
                let mut pairs: Vec<Preference> = data.split(split)?;
                pairs.truncate(rows.unwrap_or(usize::MAX));
                let plain = (BatchOf::default(), Margin::default());
                preference::groups(&pairs, tokens, limits, (reader, split), plain)?;
            }
            Part::Answers => match data.rows(split)? {
                Rows::Preferences(pairs) => {
                    let plain = (BatchOf::default(), Margin::default());
                    preference::groups(&pairs, tokens, limits, (reader, split), plain)?;
                }
                Rows::Examples(rows) => {
                    answers::completions(&rows, tokens, limits, reader, split)?;
                }
                rows @ Rows::Conversations(_) => {
                    return Err(no_answers(&rows, split));
                }
            },
            Part::Prompt(response) => {
                let split = [split.to_owned()];
                let prompts = generation::prompts(dataset, &split, rows, limits.prompt, tokens)?;
                Room { context: limits.context, response, reader }.check(&prompts)?;
            }
        }
        Ok(())
    }
}
