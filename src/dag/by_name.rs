//! Links to artefacts by name, for people: `by-name/<pipeline>/<node>` in the cache's folder. They
//! are no part of the store: nothing is found by them, and they may be deleted at any time.

use std::path::{Path, PathBuf};

use crate::digest::ObjectId;
use crate::error::Result;
use crate::store::{OBJECTS, Store, VERSION};

/// The folder of links, beside that of the store's layout.
const FOLDER: &str = "by-name";

impl Store {
    /// Where the link to an artefact of a pipeline is.
    pub fn link_path(&self, pipeline: &str, node: &str) -> PathBuf {
        self.root().join(FOLDER).join(file_name(pipeline)).join(file_name(node))
    }

    /// Makes the links to artefacts of a pipeline say what these are now. The links of other nodes
    /// stay.
    ///
    /// # Errors
    /// The cache cannot be written, or its file system has no symbolic links.
    pub fn link_by_name<'a>(
        &self,
        pipeline: &str,
        made: impl Iterator<Item = (&'a str, ObjectId)>,
    ) -> Result<()> {
        for (node, object) in made {
            let path = self.link_path(pipeline, node);
            let target = Path::new("../..").join(VERSION).join(OBJECTS).join(object.to_string());
            if std::fs::read_link(&path).ok().as_deref() == Some(&target) {
                continue;
            }
            path.parent().map_or(Ok(()), crate::fs::create_dir_all)?;
            crate::fs::link(&path, &target)?;
        }
        Ok(())
    }

    /// Removes links to objects that are gone, and the folders that are empty then.
    pub(super) fn clear_links(&self) -> Result<()> {
        let root = self.root().join(FOLDER);
        for pipeline in crate::fs::list(&root)? {
            let folder = root.join(pipeline);
            if !folder.is_dir() {
                continue;
            }
            for node in crate::fs::list(&folder)? {
                let link = folder.join(node);
                if link.is_symlink() && !link.exists() {
                    crate::fs::remove_all(&link)?;
                }
            }
            // Only an empty one is removed.
            crate::fs::remove_if_empty(&folder);
        }
        Ok(())
    }
}

/// The name of a file that reads like `name`; of another name another.
fn file_name(name: &str) -> String {
    let like = crate::fs::name_like(name);
    match like == name {
        true => like,
        false => format!("{like}-{}", &blake3::hash(name.as_bytes()).to_hex()[..8]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_file_can_have_is_told_from_others() {
        assert_eq!(file_name("ppo[kl=0.1,seed=0]"), "ppo[kl=0.1,seed=0]");
        let (slash, space) = (file_name("a/b"), file_name("a\nb"));
        assert!(slash.starts_with("a_b-") && space.starts_with("a_b-") && slash != space);
    }
}
