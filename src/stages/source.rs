//! The place of an artefact that a stage reads: known before it is made, or a folder.

use std::path::PathBuf;

use crate::reference::{Artefact, Place, Ref};

/// The place of an artefact.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// What the stage of this name makes.
    Stage(String),
    /// A folder.
    Folder(PathBuf),
}

impl<A: Artefact> From<&Ref<A>> for Source {
    fn from(reference: &Ref<A>) -> Self {
        match reference.place() {
            Place::Stage(name) => Source::Stage(name.into()),
            Place::Path(folder) => Source::Folder(folder.into()),
        }
    }
}
