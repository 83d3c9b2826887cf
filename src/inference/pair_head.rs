//! A classifier over embeddings, as the stage `classifier` writes it: a network beside an encoder.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::embed::Options;
use crate::error::{Context, Result, user};
use crate::fs;
use crate::model::pairs::PairHead;

/// What is beside an encoder that a network over its embeddings was trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The classes, in the order of logits.
    pub labels: Vec<String>,
    /// How a text becomes a vector.
    pub embedding: Options,
}

impl Description {
    const FILE: &str = "classifier.json";
    const HEAD: &str = "classifier.safetensors";

    /// Writes it, with the network, beside the encoder in `folder`.
    pub fn save(&self, folder: &Path, head: &PairHead) -> Result<()> {
        fs::write_atomic(&folder.join(Self::FILE), &serde_json::to_vec_pretty(self)?)?;
        head.save(&folder.join(Self::HEAD))
    }

    /// Reads both, where they are there.
    pub(super) fn open(folder: &Path) -> Result<Option<(Self, PairHead)>> {
        let path = folder.join(Self::FILE);
        let Some(bytes) = fs::read_if_exists(&path)? else { return Ok(None) };
        let description: Description = serde_json::from_slice(&bytes)
            .map_err(|error| user(format!("cannot read {}: {error}", path.display())))?;
        let head = PairHead::load(&folder.join(Self::HEAD))
            .with_context(|| format!("{} says that it is there", path.display()))?;
        match description.labels.len() == head.labels {
            true => Ok(Some((description, head))),
            false => Err(user(format!(
                "{} names {} labels, its network has {}",
                path.display(),
                description.labels.len(),
                head.labels
            ))
            .into()),
        }
    }
}
