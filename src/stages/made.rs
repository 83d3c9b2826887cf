//! Artefacts that no stage kind of this program made: their kind as the pipeline declares it, and
//! the check that their files are of this kind. Knows files, not where they come from.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data::dataset::Dataset as Rows;
use crate::data::samples;
use crate::error::{Context, Result, user};
use crate::model::checkpoint::{self, Checkpoint};
use crate::model::params::HeadKind;
use crate::reference::{Artefact, Dataset, Files, Policy, RewardModel, Samples};
use crate::tokenizer::tokens::Tokenizer;

/// The kind of an artefact that is made elsewhere, by a program or on another machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Makes {
    /// Any files: what is in them is up to the stages that read them.
    #[default]
    Files,
    /// A dataset: a file of rows for each split, `SPLIT.jsonl` or `test/NAME.jsonl`.
    Dataset,
    /// A language model in the Hugging Face layout, with its tokenizer.
    Policy,
    /// A model with a scalar head in the Hugging Face layout, with its tokenizer; its scores are
    /// taken as they are where there is no `normalisation.json`.
    RewardModel,
    /// Samples with their prompts: `samples.jsonl`, as `generate` writes it.
    Samples,
}

impl Makes {
    /// The kind of artefact, as references call it.
    pub fn kind(self) -> &'static str {
        match self {
            Makes::Files => Files::KIND,
            Makes::Dataset => Dataset::KIND,
            Makes::Policy => Policy::KIND,
            Makes::RewardModel => RewardModel::KIND,
            Makes::Samples => Samples::KIND,
        }
    }

    /// Reads all that is in `folder` as a later stage would.
    ///
    /// # Errors
    /// The user's: the files are not of this kind; which file, and what is wrong with it.
    pub fn check(self, folder: &Path) -> Result<()> {
        let checked = match self {
            Makes::Files => Ok(()),
            Makes::Dataset => dataset(folder),
            Makes::Policy => model(folder, HeadKind::Language).map(drop),
            Makes::RewardModel => model(folder, HeadKind::Reward).map(drop),
            Makes::Samples => sampled(folder),
        };
        checked.with_context(|| format!("this is no `{}`", self.kind()))
    }
}

fn dataset(folder: &Path) -> Result<()> {
    let dataset = Rows::open(folder)?;
    dataset.splits().iter().try_for_each(|split| dataset.rows(split).map(drop))
}

fn sampled(folder: &Path) -> Result<()> {
    match samples::read(folder)?.is_empty() {
        true => Err(user("there is no prompt in its samples").into()),
        false => Ok(()),
    }
}

/// The model in `folder`, which has this head, and a tokenizer that fits it.
///
/// # Errors
/// The user's: it has not.
pub(super) fn model(folder: &Path, head: HeadKind) -> Result<Checkpoint> {
    let checkpoint = checkpoint::load(folder)?;
    let place = folder.display();
    if checkpoint.head != head {
        let wanted = match head {
            HeadKind::Reward => "model with a scalar head",
            _ => "language model",
        };
        return Err(user(format!("{place} is not a {wanted}")).into());
    }
    let (tokens, vocabulary) = (Tokenizer::open(folder)?.size(), checkpoint.spec.vocabulary);
    if tokens > vocabulary {
        return Err(user(format!(
            "the tokenizer of {place} has {tokens} tokens, its model only {vocabulary}"
        ))
        .hint("give the folder the tokenizer that its model was trained with")
        .into());
    }
    Ok(checkpoint)
}
