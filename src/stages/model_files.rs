//! Artefacts that several stage kinds read or write: models with their tokenizers, reward models
//! with their normalisation. Knows files, not what a stage does with them.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use crate::backend::Backend;
use crate::data::rows::{self, called};
use crate::data::tokenised::TooLong;
use crate::error::{Context, Result, user};
use crate::fs;
use crate::inference;
use crate::model::arch::{Description, Origin};
use crate::model::checkpoint::{self, Opened};
use crate::model::params::Weights;
use crate::model::weights::{Model, Weight};
use crate::rl::preference::Normalisation;
use crate::tokenizer::tokens::Tokenizer;
use crate::train::steps::diverged;

/// The file beside a reward model that makes its raw scores comparable.
const NORMALISATION: &str = "normalisation.json";
/// The file with a model's way to generate: the tokens that end a text, among others.
const GENERATION: &str = "generation_config.json";

/// A model on the device with its tokenizer.
pub struct Loaded<B: Backend> {
    /// The model.
    pub model: Model<B>,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Where it comes from on disk.
    pub origin: Origin,
}

impl<B: Backend> Loaded<B> {
    /// Refuses texts of rows of a split that the model cannot read: those that are longer than its
    /// context, all at once, and tokens that it does not have. `name` is what errors call the
    /// model.
    ///
    /// # Errors
    /// The user's, with the rows as the user finds them.
    pub fn check(&self, name: &str, split: &str, texts: &[Read<'_>]) -> Result<()> {
        let (context, vocabulary) = (self.model.spec.context, self.model.spec.vocabulary);
        let mut long = TooLong::new(context, split, name, Some("max_prompt_tokens"));
        for Read { id, origin, prompt, tokens } in texts {
            long.pair(id, *origin, *prompt, tokens.len() - prompt, "text");
        }
        long.check()?;
        for Read { id, origin, tokens, .. } in texts {
            if let Some(token) = tokens.iter().find(|token| **token as usize >= vocabulary) {
                let row = called(id, *origin);
                let message = format!(
                    "split `{split}`, {row}: {name} has {vocabulary} tokens, there is no token \
                     {token}"
                );
                return Err(user(message)
                    .hint("this text was written with another tokenizer")
                    .into());
            }
        }
        Ok(())
    }
}

/// A text that a model is about to read, and the row that it is of.
pub struct Read<'a> {
    /// The row's name.
    pub id: &'a str,
    /// Where the row was read, where its id does not say so.
    pub origin: Option<&'a rows::Origin>,
    /// How many of the tokens are the prompt.
    pub prompt: usize,
    /// Prompt and text.
    pub tokens: &'a [u32],
}

/// Whether two models read the same tokens.
pub fn have_one_tokenizer(one: &Path, other: &Path) -> Result<bool> {
    let file = |folder: &Path| fs::read(&folder.join("tokenizer.json"));
    Ok(file(one)? == file(other)?)
}

/// Refuses two models that do not read the same tokens.
pub fn check_same_tokenizer(policy: &Path, reward_model: &Path) -> Result<()> {
    match have_one_tokenizer(policy, reward_model)? {
        true => Ok(()),
        false => Err(user("policy and reward model have different tokenizers")
            .hint("train the reward model from the same base")
            .into()),
    }
}

/// Reads a model in the Hugging Face layout, with its tokenizer. A pad token that ends texts as
/// well, or that is not named, gives way to the tokenizer's choice: rows that are padded with the
/// end of a text, and masked, have no end, and a score one token too early.
pub fn load<B: Backend>(b: &B, folder: &Path) -> Result<Loaded<B>> {
    let opened = Opened::new(folder)?;
    let weights = opened.read(|_, numbers| Ok(Arc::new(b.upload_owned(numbers))))?;
    loaded(b, folder, opened.description, weights)
}

/// [`load`], where `other`, the model in `others_folder`, is on the device already. From the
/// embeddings upwards, the two share the tensors that hold the same numbers, bit for bit, up to the
/// first that does not: blocks that were frozen in both since they were one model.
pub fn load_beside<B: Backend>(
    b: &B,
    folder: &Path,
    other: &Loaded<B>,
    others_folder: &Path,
) -> Result<Loaded<B>> {
    let (opened, others) = (Opened::new(folder)?, Opened::new(others_folder)?);
    let model = &other.model;
    let mut theirs = model.slots().zip(model.weights.as_ref()).into_vec().into_iter();
    let mut are_one = true;
    let weights = opened.read(|slot, numbers| {
        if let Some((_, shared)) =
            theirs.next().filter(|(their_slot, _)| are_one && their_slot == slot)
            && others.tensor(slot)?.is_some_and(|others| same_bits(&numbers, &others))
        {
            return Ok(Arc::clone(shared));
        }
        are_one = false;
        Ok(Arc::new(b.upload_owned(numbers)))
    })?;
    loaded(b, folder, opened.description, weights)
}

fn same_bits(ours: &[f32], theirs: &[f32]) -> bool {
    ours.len() == theirs.len()
        && ours.iter().zip(theirs).all(|(ours, theirs)| ours.to_bits() == theirs.to_bits())
}

fn loaded<B: Backend>(
    b: &B,
    folder: &Path,
    description: Description,
    weights: Weights<B>,
) -> Result<Loaded<B>> {
    let Description { mut origin, spec, head, .. } = description;
    let tokenizer = Tokenizer::open(folder)?;
    origin.special.pad =
        origin.special.pad.filter(|pad| *pad != tokenizer.eos()).or(tokenizer.pad());
    Ok(Loaded { model: Model::from_weights(b, spec, head, weights), tokenizer, origin })
}

/// Writes a model that came from the one in `from`: its tensors, its configuration, and the
/// tokenizer of `from`. A tensor with a number
/// that is none is an error: what training came to is of no use.
pub fn save<B: Backend>(
    b: &B,
    folder: &Path,
    model: &Model<B>,
    origin: &Origin,
    from: &Path,
) -> Result<()> {
    let broken: Cell<Option<&Weight<B>>> = Cell::new(None);
    checkpoint::save_with(
        folder,
        origin,
        (&model.spec, model.head),
        &model.weights,
        checkpoint::SHARD,
        |tensor| {
            let numbers = b.download(tensor);
            if numbers.iter().any(|x| !x.is_finite()) {
                broken.set(Some(tensor));
            }
            numbers.into()
        },
    )?;
    if let Some(broken) = broken.get() {
        let slots = model.slots().into_vec().into_iter().zip(model.weights.iter());
        let names: Vec<String> = slots
            .filter(|(_, tensor)| Arc::ptr_eq(tensor, broken))
            .map(|(slot, _)| slot.name)
            .collect();
        return Err(diverged(format!(
            "after the last step the tensor `{}` has numbers that are not finite",
            names.concat()
        ))
        .into());
    }
    copy_tokenizer(folder, from)
}

/// Copies the tokenizer of a folder as [`Tokenizer::save`] writes it, and how its model generates.
pub fn copy_tokenizer(folder: &Path, from: &Path) -> Result<()> {
    Tokenizer::open(from)?.save(folder)?;
    match fs::read_if_exists(&from.join(GENERATION))? {
        // Bytes rather than a copy of the file: the source is read-only in the store.
        Some(bytes) => fs::write_atomic(&folder.join(GENERATION), &bytes),
        None => Ok(()),
    }
}

/// Refuses results that are not finite; `what` is what a model made of rows, and `row` names the
/// row of an index.
pub fn check_finite(numbers: &[f64], what: &str, row: impl Fn(usize) -> String) -> Result<()> {
    inference::check_finite(numbers, |at| format!("{what} of {}", row(at)))
}

/// Reads the normalisation of a reward model; one from outside has none, and its scores are taken
/// as they are.
pub fn normalisation(folder: &Path) -> Result<Normalisation> {
    let path = folder.join(NORMALISATION);
    match fs::read_if_exists(&path)? {
        None => Ok(Normalisation::IDENTITY),
        Some(bytes) => serde_json::from_slice(&bytes)
            .with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes the normalisation of a reward model.
pub fn save_normalisation(folder: &Path, normalisation: &Normalisation) -> Result<()> {
    fs::write_atomic(&folder.join(NORMALISATION), &serde_json::to_vec_pretty(normalisation)?)
}
