//! The remote of a run: it looks entries up, pulls objects, and sends what was made. Uses nothing
//! of runs.

use std::path::Path;

use crate::client::Client;
use crate::dag::digest::{ActionKey, ObjectId};
use crate::dag::entry::Entry;
use crate::dag::remote_cache::{Remote, Stopped, Trouble};
use crate::entries::{self, Found};
use crate::error::Result;
use crate::keys::{PublicKey, SecretKey};
use crate::objects;
use crate::settings::{Mode, Settings};

/// A remote that is open.
pub struct Shared {
    pub(crate) client: Client,
    address: String,
    mode: Mode,
    pub(crate) trust: Vec<PublicKey>,
    key: Option<SecretKey>,
}

/// What a remote has for a key.
pub struct Known {
    /// The entry.
    pub entry: Entry,
    /// The key whose signature it has, checked.
    pub signer: Option<PublicKey>,
    /// Bytes of the object's files, if the object is there.
    pub bytes: Option<u64>,
}

impl Shared {
    /// Opens a remote; asks it nothing yet.
    ///
    /// # Errors
    /// The user's, for settings that make no sense and a secret key that cannot be used.
    pub fn open(settings: &Settings) -> Result<Self> {
        let key = settings.key.as_deref().map(SecretKey::read).transpose()?;
        Ok(Shared {
            client: Client::new(settings)?,
            address: settings.url.to_string(),
            mode: settings.mode,
            trust: settings.trust.clone(),
            key,
        })
    }

    /// Why nothing may be sent to it; `None` if something may.
    pub fn closed(&self) -> Option<&'static str> {
        let own = self.key.as_ref().map(SecretKey::public);
        match self.mode {
            Mode::ReadWrite if self.trust.is_empty() => None,
            Mode::ReadWrite if own.is_some_and(|own| self.trust.contains(&own)) => None,
            Mode::ReadWrite => Some("its entries must be signed by a key of `trust`"),
            Mode::ReadOnly => Some("it is used read-only"),
            Mode::Offline => Some("it is used offline"),
        }
    }

    /// What there is for a key; `None` if there is no entry.
    ///
    /// # Errors
    /// As of [`Remote::entry`].
    pub fn known(&self, key: ActionKey) -> Result<Option<Known>, Trouble> {
        let Some(Found { entry, signer }) = entries::get(&self.client, key, &self.trust)? else {
            return Ok(None);
        };
        let list = objects::manifest(&self.client, entry.object)?;
        Ok(Some(Known { entry, signer, bytes: list.map(|list| list.bytes()) }))
    }
}

impl Remote for Shared {
    fn address(&self) -> &str {
        &self.address
    }

    fn is_writable(&self) -> bool {
        self.closed().is_none()
    }

    fn entry(&self, key: ActionKey) -> Result<Option<Entry>, Trouble> {
        Ok(entries::get(&self.client, key, &self.trust)?.map(|found| found.entry))
    }

    fn pull(&self, object: ObjectId, out: &Path, stopped: &Stopped) -> Result<u64, Trouble> {
        objects::pull(&self.client, object, out, stopped)
    }

    fn push(&self, entry: &Entry, files: &Path, stopped: &Stopped) -> Result<Option<u64>, Trouble> {
        let own = self.key.as_ref().map(SecretKey::public);
        // An entry without a trusted signature is replaced, as one that cannot be read is.
        let there = match entries::get(&self.client, entry.key, &self.trust) {
            Err(Trouble::Refused(_)) => None,
            there => there?,
        };
        if let Some(Found { entry: there, signer }) = there {
            if there.object != entry.object {
                let (here, there) = (entry.object.short(), there.object.short());
                return Err(Trouble::Refused(format!(
                    "the remote has the object {there} of the same key, made here is {here}: the \
                     stage is not deterministic, or one of the two is wrong"
                )));
            }
            let is_whole = matches!(objects::manifest(&self.client, entry.object), Ok(Some(_)));
            if is_whole && (signer.is_some() || own.is_none()) {
                return Ok(None);
            }
        }
        let sent = objects::push(&self.client, entry.object, files, stopped)?;
        if stopped() {
            return Err(Trouble::Stopped);
        }
        entries::put(&self.client, entry, self.key.as_ref())?;
        Ok(Some(sent))
    }
}
