//! Artefacts that several stage kinds read or write: models with their tokenizers, reward models with their normalisation.
//! Knows files, not what a stage does with them.

use std::path::Path;

use super::device::Device;
use crate::data::tokens::Tokenizer;
use crate::error::{Context, Result};
use crate::fs;
use crate::model::arch::SpecialTokens;
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
    /// Its special tokens, as its configuration has them.
    pub special: SpecialTokens,
}

/// Reads a model in the Hugging Face layout, with its tokenizer.
pub fn load(b: &Device, folder: &Path) -> Result<Loaded> {
    let Checkpoint { spec, special, params } = checkpoint::load(folder)?;
    Ok(Loaded { model: Model::upload(b, spec, params), tokenizer: Tokenizer::open(folder)?, special })
}

/// Writes a model that came from the one in `from`: its tensors, its configuration, and the tokenizer files of `from` as they are.
pub fn save(b: &Device, folder: &Path, model: &Model<Device>, special: SpecialTokens, from: &Path) -> Result<()> {
    checkpoint::save(folder, &Checkpoint { spec: model.spec.clone(), special, params: model.download(b) })?;
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
