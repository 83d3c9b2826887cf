//! Artefacts that several stage kinds read or write: models with their tokenizers, reward models with their normalisation.
//! Knows files, not what a stage does with them.

use std::path::Path;

use crate::data::tokens::Tokenizer;
use crate::device::Device;
use crate::error::{Context, Result, user};
use crate::fs;
use crate::model::arch::Origin;
use crate::model::checkpoint::{self, Checkpoint};
use crate::model::weights::Model;
use crate::rl::preference::Normalisation;

/// The file beside a reward model that makes its raw scores comparable.
const NORMALISATION: &str = "normalisation.json";

/// A model on the device with its tokenizer.
pub struct Loaded {
    /// The model.
    pub model: Model<Device>,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Where it comes from on disk.
    pub origin: Origin,
}

impl Loaded {
    /// Refuses sequences, one a row, that the model cannot read: longer than its context, or with tokens that it does not have. `name`
    /// is what errors call the model.
    pub fn check(&self, name: &str, sequences: &[&[u32]]) -> Result<()> {
        let (context, vocabulary) = (self.model.spec.context, self.model.spec.vocabulary);
        for (at, tokens) in sequences.iter().enumerate() {
            if tokens.len() > context {
                let message =
                    format!("row {}: {} tokens of prompt and text do not fit {name}'s context of {context}", at + 1, tokens.len());
                return Err(user(message).hint("set `max_prompt_tokens`, or leave the row out").into());
            }
            if let Some(token) = tokens.iter().find(|token| **token as usize >= vocabulary) {
                let message = format!("row {}: {name} has {vocabulary} tokens, there is no token {token}", at + 1);
                return Err(user(message).hint("whoever wrote this text has another tokenizer").into());
            }
        }
        Ok(())
    }
}

/// Refuses two models that do not read the same tokens.
pub fn check_same_tokenizer(policy: &Path, reward_model: &Path) -> Result<()> {
    let file = |folder: &Path| fs::read(&folder.join("tokenizer.json"));
    match file(policy)? == file(reward_model)? {
        true => Ok(()),
        false => Err(user("policy and reward model have different tokenizers").hint("train the reward model from the same base").into()),
    }
}

/// Reads a model in the Hugging Face layout, with its tokenizer.
pub fn load(b: &Device, folder: &Path) -> Result<Loaded> {
    let Checkpoint { origin, spec, params } = checkpoint::load(folder)?;
    Ok(Loaded { model: Model::upload(b, spec, params), tokenizer: Tokenizer::open(folder)?, origin })
}

/// Writes a model that came from the one in `from`: its tensors, its configuration, and the tokenizer files of `from` as they are.
pub fn save(b: &Device, folder: &Path, model: &Model<Device>, origin: &Origin, from: &Path) -> Result<()> {
    checkpoint::save(folder, &Checkpoint { origin: origin.clone(), spec: model.spec.clone(), params: model.download(b) })?;
    copy_tokenizer(folder, from)
}

/// Copies the tokenizer files of a folder.
pub fn copy_tokenizer(folder: &Path, from: &Path) -> Result<()> {
    let names = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "chat_template.jinja"];
    for name in names.iter().filter(|name| from.join(name).exists()) {
        let (from, to) = (from.join(name), folder.join(name));
        // Bytes rather than a copy of the file: the source is read-only in the store.
        fs::write_atomic(&to, &fs::read(&from)?)?;
    }
    Ok(())
}

/// Reads the normalisation of a reward model.
pub fn normalisation(folder: &Path) -> Result<Normalisation> {
    let path = folder.join(NORMALISATION);
    serde_json::from_str(&fs::read_to_string(&path)?).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes the normalisation of a reward model.
pub fn save_normalisation(folder: &Path, normalisation: &Normalisation) -> Result<()> {
    fs::write_atomic(&folder.join(NORMALISATION), &serde_json::to_vec_pretty(normalisation)?)
}
