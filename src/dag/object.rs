//! Objects of a store: artefacts at rest, each named by the hash of its content. Uses nothing of
//! what made them, and nothing of where they are kept.

use std::path::{Path, PathBuf};

use crate::digest::ObjectId;
use crate::error::Result;
use crate::object_store::Integrity;
use crate::store::Store;
use crate::tree::{Links, walk};

impl Store {
    /// Checks an object. What this process has found sound it takes for sound from then on; see
    /// [`Store::recheck_object`].
    pub fn check_object(&self, object: ObjectId) -> Result<Integrity> {
        if self.sound().contains(&object) {
            return Ok(Integrity::Sound);
        }
        let integrity = self.recheck_object(object)?;
        if integrity == Integrity::Sound {
            self.sound().insert(object);
        }
        Ok(integrity)
    }

    /// Checks an object as if for the first time.
    pub fn recheck_object(&self, object: ObjectId) -> Result<Integrity> {
        self.objects.has(object)
    }

    /// The folder of an object's files on this host, brought here if they are elsewhere.
    ///
    /// # Errors
    /// There is no such object, or it cannot be brought here.
    pub fn get_object(&self, object: ObjectId) -> Result<PathBuf> {
        self.objects.get(object)
    }

    /// Takes an object that is not what its id says out of use, and returns where it is then;
    /// `None` if there is no such object by now.
    pub fn set_aside(&self, object: ObjectId) -> Result<Option<PathBuf>> {
        let bad = self.objects.set_aside(object)?;
        if bad.is_some() {
            self.sound().remove(&object);
        }
        Ok(bad)
    }

    /// Makes an object of the folder `out` of an attempt.
    pub(super) fn put_object(&self, attempt: &Path) -> Result<ObjectId> {
        self.objects.put(attempt)
    }

    /// The bytes of an object, whatever is in it: of a damaged one, those of its files.
    pub fn object_bytes(&self, object: ObjectId) -> Result<u64> {
        crate::fs::size(&self.object_path(object))
    }

    /// The files of an object with their sizes.
    ///
    /// # Errors
    /// The machine's, if there is something in it that no artefact may hold.
    pub fn object_files(&self, object: ObjectId) -> Result<Vec<(String, u64)>> {
        Ok(walk(&self.object_path(object), Links::Refuse)?
            .into_iter()
            .map(|(path, stat)| (path, stat.size))
            .collect())
    }

    fn sound(&self) -> std::sync::MutexGuard<'_, std::collections::HashSet<ObjectId>> {
        self.sound.lock().expect("nothing panics while it holds the list")
    }
}
