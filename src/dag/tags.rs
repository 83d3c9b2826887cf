//! Tags: names that users give to runs and artefacts, which `gc` then keeps.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::checked::{parsed, seal};
use crate::clock::now;
use crate::digest::{ActionKey, ObjectId};
use crate::error::Result;
use crate::store::Store;

/// The folder of tags in a store.
const TAGS: &str = "tags";

/// A name with what it is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// The name; a name of a file.
    pub name: String,
    /// What it is of.
    pub of: Tagged,
    /// The user's words on it.
    #[serde(default)]
    pub note: Option<String>,
    /// When it was given, in seconds since 1970, by the clock of its host: for people.
    pub at: u64,
}

/// What a tag is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tagged {
    /// The run of this id.
    Run(String),
    /// An artefact.
    Artefact {
        /// The key of its entry.
        key: ActionKey,
        /// Its object.
        object: ObjectId,
    },
}

impl Tag {
    /// Whether it is of the run of this id.
    pub fn is_of(&self, run: &str) -> bool {
        matches!(&self.of, Tagged::Run(id) if id == run)
    }

    /// The key and the object of the artefact that it is of.
    pub fn artefact(&self) -> Option<(ActionKey, ObjectId)> {
        match self.of {
            Tagged::Artefact { key, object } => Some((key, object)),
            Tagged::Run(_) => None,
        }
    }
}

impl Store {
    /// All tags, by name. What cannot be understood is passed over.
    pub fn tags(&self) -> Result<Vec<Tag>> {
        let mut tags = Vec::new();
        for file in crate::fs::list(&self.at(TAGS))? {
            tags.extend(
                file.strip_suffix(".json").map(|name| self.tag(name)).transpose()?.flatten(),
            );
        }
        tags.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tags)
    }

    /// The file of a tag that says other things than were written.
    pub(super) fn damaged_tag(&self) -> Result<Option<PathBuf>> {
        for file in crate::fs::list(&self.at(TAGS))? {
            if let Some(name) = file.strip_suffix(".json")
                && self.tag(name)?.is_none()
            {
                return Ok(Some(self.at(TAGS).join(file)));
            }
        }
        Ok(None)
    }

    /// The tag of this name.
    pub fn tag(&self, name: &str) -> Result<Option<Tag>> {
        if name.contains('/') {
            return Ok(None);
        }
        let bytes = crate::fs::read_if_exists(&self.at(TAGS).join(format!("{name}.json")))?;
        let tag: Option<Tag> = bytes.and_then(|bytes| parsed(&bytes));
        Ok(tag.filter(|tag| tag.name == name))
    }

    /// Gives a tag; one of this name before is replaced.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub fn put_tag(&self, name: &str, of: Tagged, note: Option<&str>) -> Result<Tag> {
        let _presence = self.begin()?;
        crate::fs::create_dir_all(&self.at(TAGS))?;
        crate::fs::sync(&self.at(""))?;
        let (at, note) = ((now() / 1_000_000_000) as u64, note.map(str::to_owned));
        let tag = Tag { name: name.to_owned(), of, note, at };
        let bytes = seal(serde_json::to_vec_pretty(&tag).expect("a tag is plain data"));
        crate::fs::write_atomic(&self.at(TAGS).join(format!("{name}.json")), &bytes)?;
        Ok(tag)
    }

    /// Removes a tag. What it was of stays until `gc`.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub fn remove_tag(&self, tag: &Tag) -> Result<()> {
        let _presence = self.begin()?;
        crate::fs::remove_all(&self.at(TAGS).join(format!("{}.json", tag.name)))
    }
}
