//! Entries in a remote, with their signatures. Uses nothing of objects.
//!
//! An entry is signed as the bytes that are there, after a line that says what they are. So no
//! other form of it has to be agreed on.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::client::Client;
use crate::dag::digest::ActionKey;
use crate::dag::entry::Entry;
use crate::dag::remote_cache::Trouble;
use crate::keys::{PublicKey, SecretKey};
use crate::layout;

/// Bytes of an entry at most.
const LONGEST: u64 = 32 << 20;
/// What comes before the bytes of an entry that are signed.
const DOMAIN: &[u8] = b"posttrain cache entry, encoding 1\n";

#[derive(Serialize, Deserialize)]
struct Signature {
    key: PublicKey,
    signature: String,
}

/// The file of an entry.
#[derive(Serialize, Deserialize)]
struct Signed {
    entry: Box<RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signed: Option<Signature>,
}

/// An entry as it was found.
pub struct Found {
    /// What it says.
    pub entry: Entry,
    /// The key whose signature it has, checked.
    pub signer: Option<PublicKey>,
}

/// The entry of a key; `None` if there is none. With `trust`, one of these keys must have signed
/// it.
///
/// # Errors
/// [`Trouble::Refused`] for what is not the entry of the key, and for what may not be trusted.
pub(crate) fn get(
    client: &Client,
    key: ActionKey,
    trust: &[PublicKey],
) -> Result<Option<Found>, Trouble> {
    let Some(bytes) = client.get(&layout::entry(key), LONGEST)? else { return Ok(None) };
    read(&bytes, key, trust).map(Some).map_err(Trouble::Refused)
}

/// Reads an entry, which must be that of the key.
///
/// # Errors
/// What is wrong with it.
pub fn read(bytes: &[u8], key: ActionKey, trust: &[PublicKey]) -> Result<Found, String> {
    let not_one = |error: serde_json::Error| format!("it is no entry: {error}");
    let Signed { entry: text, signed } = serde_json::from_slice(bytes).map_err(not_one)?;
    let signer = match signed {
        Some(Signature { key, signature }) => match key.has_signed(&message(&text), &signature) {
            true => Some(key),
            false => return Err(format!("the signature of {key} is not of these bytes")),
        },
        None => None,
    };
    match signer {
        _ if trust.is_empty() => {}
        Some(signer) if trust.contains(&signer) => {}
        Some(signer) => return Err(format!("it is signed by {signer}, which is not trusted")),
        None => return Err("it is not signed, and only signed ones are trusted".into()),
    }
    let entry: Entry = serde_json::from_str(text.get()).map_err(not_one)?;
    match entry.key == key && entry.preimage.canonical_key() == Some(key) {
        true => Ok(Found { entry, signer }),
        false => Err("it is the entry of another key".into()),
    }
}

/// Writes an entry, signed if there is a key.
pub(crate) fn put(client: &Client, entry: &Entry, key: Option<&SecretKey>) -> Result<(), Trouble> {
    client.put(&layout::entry(entry.key), write(entry, key))
}

fn write(entry: &Entry, key: Option<&SecretKey>) -> Vec<u8> {
    let entry = serde_json::value::to_raw_value(entry).expect("an entry is plain data");
    let sign =
        |key: &SecretKey| Signature { key: key.public(), signature: key.sign(&message(&entry)) };
    let signed = key.map(sign);
    serde_json::to_vec(&Signed { entry, signed }).expect("an entry is plain data")
}

fn message(entry: &RawValue) -> Vec<u8> {
    [DOMAIN, entry.get().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dag::key::Preimage;

    fn entry() -> Entry {
        let preimage = Preimage {
            stage: "command".into(),
            version: 1,
            numerics: "host".into(),
            config: serde_json::json!({ "x": 0.5 }),
        };
        Entry {
            key: preimage.key(),
            object: blake3::hash(b"object").into(),
            node: "a".into(),
            output: "files".into(),
            finished_at: 1,
            place: (1, 2),
            seconds: 0.25,
            sources: Default::default(),
            preimage,
            renewed_from: None,
            accepted: None,
        }
    }

    fn keys() -> (SecretKey, SecretKey) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let make = |name: &str| SecretKey::make(&folder.path().join(name)).expect("made");
        (make("a"), make("b"))
    }

    #[test]
    fn only_what_a_trusted_key_has_signed_is_taken() {
        let ((own, other), entry) = (keys(), entry());
        let trust = [own.public()];
        let signed = write(&entry, Some(&own));
        let found = read(&signed, entry.key, &trust).expect("trusted");
        assert_eq!((found.entry, found.signer), (entry.clone(), Some(own.public())));
        assert!(read(&write(&entry, None), entry.key, &[]).is_ok());
        let mut said = Vec::new();
        for bytes in [write(&entry, None), write(&entry, Some(&other))] {
            said.extend(read(&bytes, entry.key, &trust).err());
        }
        let text = String::from_utf8(signed).expect("JSON is text");
        let object = entry.object.to_string();
        let poisoned = text.replace(&object, &object.chars().rev().collect::<String>());
        assert_ne!(text, poisoned);
        said.extend(read(poisoned.as_bytes(), entry.key, &trust).err());
        said.extend(read(poisoned.as_bytes(), entry.key, &[]).err());
        let parts = ["not signed", "not trusted", "not of these bytes", "not of these bytes"];
        assert_eq!(said.len(), parts.len());
        for (said, part) in said.iter().zip(parts) {
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn an_entry_of_another_key_is_refused() {
        let entry = entry();
        let other = Entry { key: blake3::hash(b"other").into(), ..entry.clone() };
        assert!(read(&write(&other, None), entry.key, &[]).is_err());
        assert!(read(&write(&other, None), other.key, &[]).is_err(), "not the key of its preimage");
        let mut odd = entry.clone();
        odd.preimage.config = serde_json::json!({ "x": -0.0 });
        assert!(read(&write(&odd, None), entry.key, &[]).is_err(), "no canonical form");
        assert!(read(b"{}", entry.key, &[]).is_err());
        assert!(read(b"\xff", entry.key, &[]).is_err());
    }
}
