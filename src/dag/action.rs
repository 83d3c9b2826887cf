//! Action entries in a store. An entry's presence means that its object
//! was whole when it was written.

use std::path::PathBuf;

use serde::Deserialize;

use crate::checked::{parsed, seal};
use crate::digest::{ActionKey, ObjectId};
use crate::entry::Entry;
use crate::error::Result;
use crate::key::Preimage;
use crate::object_store::Integrity;
use crate::store::Store;

/// The form of keys, in the file `keys` of a store: fields at their defaults are left out.
const KEYS: &[u8] = b"2\n";

/// The folder with an empty file for each entry that the user has accepted.
pub(super) const ACCEPTED: &str = "accepted";

/// What the store has for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// An artefact, found sound.
    Hit(ObjectId),
    /// Nothing.
    Absent,
    /// An entry whose object is gone.
    Gone(ObjectId),
    /// An entry whose object is no longer what it was; what is wrong with it.
    Corrupted(ObjectId, String),
}

/// The part of an entry that a lookup reads.
#[derive(Deserialize)]
struct Head {
    key: ActionKey,
    object: ObjectId,
}

impl Store {
    /// The entry of a key, if there is one; its object is not looked at. What cannot be understood
    /// counts as absent.
    pub fn entry(&self, key: ActionKey) -> Result<Option<Entry>> {
        let bytes = crate::fs::read_if_exists(&self.entry_path(key))?;
        let entry: Option<Entry> = bytes.and_then(|bytes| parsed(&bytes));
        Ok(entry.filter(|entry| entry.key == key && entry.preimage.key() == key))
    }

    /// All entries, in the order in which they were made, as far as runs took turns.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for name in crate::fs::list(&self.at("actions"))? {
            if let Some(key) = name.strip_suffix(".json").and_then(|key| key.parse().ok()) {
                entries.extend(self.entry(key)?);
            }
        }
        entries.sort_by_key(|entry| (entry.place, entry.key));
        Ok(entries)
    }

    /// What there is for a key, its object checked. A hit stays a hit as long as its object is not
    /// set aside by this process.
    pub fn lookup(&self, key: ActionKey) -> Result<Lookup> {
        let hits = || self.hits.lock().expect("nothing panics while it holds the list");
        let known = hits().get(&key).copied();
        let object = match known {
            Some(object) => object,
            None => match self.head(key)? {
                Some(head) => head.object,
                None => return Ok(Lookup::Absent),
            },
        };
        Ok(match self.check_object(object)? {
            Integrity::Sound => {
                tracing::debug!(%key, %object, "hit");
                hits().insert(key, object);
                Lookup::Hit(object)
            }
            Integrity::Absent => Lookup::Gone(object),
            Integrity::Corrupted(what) => Lookup::Corrupted(object, what),
        })
    }

    /// Renews the keys of a store of an earlier program, once: entries get the key of what `now`
    /// makes of what their key was made of, where it makes something of it.
    ///
    /// # Errors
    /// A store that cannot be read or written.
    pub fn renew_keys(&self, mut now: impl FnMut(&Preimage) -> Option<Preimage>) -> Result<()> {
        let marker = self.at("keys");
        let is_renewed = crate::fs::read_if_exists(&marker)?.as_deref() == Some(KEYS);
        if is_renewed || !self.at("actions").exists() {
            return Ok(());
        }
        for entry in self.entries()? {
            let Some(preimage) = now(&entry.preimage) else { continue };
            let key = preimage.key();
            if key != entry.key && self.head(key)?.is_none() {
                let renewed_from = Some(entry.key);
                self.put_entry(&Entry { key, preimage, renewed_from, ..entry })?;
            }
        }
        crate::fs::write_atomic(&marker, KEYS)
    }

    /// Says of a store without entries that its keys are of this program's form.
    pub(super) fn mark_keys(&self) -> Result<()> {
        if self.at("actions").exists() {
            return Ok(());
        }
        crate::fs::create_dir_all(&self.at("actions"))?;
        crate::fs::write_atomic(&self.at("keys"), KEYS)
    }

    fn head(&self, key: ActionKey) -> Result<Option<Head>> {
        let bytes = crate::fs::read_if_exists(&self.entry_path(key))?;
        let head: Option<Head> = bytes.and_then(|bytes| parsed(&bytes));
        Ok(head.filter(|head| head.key == key))
    }

    /// Writes an entry. Only a ticket does, once its object is in place, and an acceptance, which
    /// is listed first.
    pub(super) fn put_entry(&self, entry: &Entry) -> Result<()> {
        if entry.accepted.is_some() {
            crate::fs::create_dir_all(&self.at(ACCEPTED))?;
            crate::fs::sync(&self.at(""))?;
            crate::fs::write_atomic(&self.at(ACCEPTED).join(entry.key.to_string()), b"")?;
        }
        let bytes = seal(serde_json::to_vec_pretty(entry).expect("an entry is plain data"));
        crate::fs::write_atomic(&self.entry_path(entry.key), &bytes)
    }

    /// The entries that the user has accepted, without a look at all others.
    pub fn accepted(&self) -> Result<Vec<Entry>> {
        let mut accepted = Vec::new();
        for name in crate::fs::list(&self.at(ACCEPTED))? {
            let entry = name.parse().ok().map(|key| self.entry(key)).transpose()?.flatten();
            accepted.extend(entry.filter(|entry| entry.accepted.is_some()));
        }
        Ok(accepted)
    }

    pub(super) fn entry_path(&self, key: ActionKey) -> PathBuf {
        self.at("actions").join(format!("{key}.json"))
    }
}
