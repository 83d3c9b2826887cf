//! Keys of Ed25519 (RFC 8032): secret ones sign entries, public ones say whose entries are
//! trusted. Uses nothing of what is signed.
//!
//! A secret key is a file of one line, `ed25519-secret:` and the 64 hexadecimal digits of its seed.
//! A public key is `ed25519:` and 64 hexadecimal digits.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::str::FromStr;

use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::error::{Result, environment, user};

const SECRET: &str = "ed25519-secret:";
const PUBLIC: &str = "ed25519:";

/// A key that checks signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Whether a signature, in hexadecimal digits, is this key's, of these bytes.
    pub fn has_signed(&self, bytes: &[u8], signature: &str) -> bool {
        let Some(signature) = unhex(signature) else { return false };
        UnparsedPublicKey::new(&ED25519, &self.0).verify(bytes, &signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC}{}", hex(&self.0))
    }
}

impl FromStr for PublicKey {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let digits = text.strip_prefix(PUBLIC).and_then(unhex);
        let key = digits.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        key.map(PublicKey).ok_or_else(|| {
            format!("`{text}` is no public key: `{PUBLIC}` and 64 hexadecimal digits are")
        })
    }
}

impl TryFrom<String> for PublicKey {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> String {
        key.to_string()
    }
}

/// A key that signs.
pub struct SecretKey(Ed25519KeyPair);

impl SecretKey {
    /// Makes a new key and writes it to a file that is not there yet, for its owner alone.
    ///
    /// # Errors
    /// The user's, if there is such a file; the machine's, if it cannot be written.
    pub fn make(path: &Path) -> Result<Self> {
        if path.symlink_metadata().is_ok() {
            return Err(user(format!("{} is there already", path.display()))
                .hint("give the path of a new file, so that no key is lost")
                .into());
        }
        let mut seed = [0; 32];
        SystemRandom::new()
            .fill(&mut seed)
            .map_err(|_| environment("the system gives no random numbers"))?;
        crate::fs::write_private(path, format!("{SECRET}{}\n", hex(&seed)).as_bytes())?;
        SecretKey::read(path)
    }

    /// Reads a key from its file.
    ///
    /// # Errors
    /// The user's, if it is no key, or if others can read it.
    pub fn read(path: &Path) -> Result<Self> {
        let metadata = crate::fs::open(path)?.metadata()?;
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(user(format!("the secret key {} can be read by others", path.display()))
                .hint(format!("run `chmod 600 {}`", path.display()))
                .into());
        }
        let text = crate::fs::read_to_string(path)?;
        let seed = text.trim_end().strip_prefix(SECRET).and_then(unhex);
        let pair = seed.and_then(|seed| Ed25519KeyPair::from_seed_unchecked(&seed).ok());
        let wrong = || {
            user(format!("{} is no secret key", path.display()))
                .hint("`posttrain cache keygen` makes one")
        };
        Ok(pair.map(SecretKey).ok_or_else(wrong)?)
    }

    /// The key that checks its signatures.
    pub fn public(&self) -> PublicKey {
        let bytes = self.0.public_key().as_ref();
        PublicKey(bytes.try_into().expect("a public key of Ed25519 has 32 bytes"))
    }

    /// The signature of some bytes, in hexadecimal digits.
    pub fn sign(&self, bytes: &[u8]) -> String {
        hex(self.0.sign(bytes).as_ref())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> =
        text.chars().map(|c| c.to_digit(16).filter(|_| !c.is_ascii_uppercase())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_the_standard() {
        // RFC 8032, section 7.1, test 3.
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("key");
        let seed = "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7";
        crate::fs::write_private(&path, format!("{SECRET}{seed}\n").as_bytes()).expect("written");
        let key = SecretKey::read(&path).expect("a key");
        assert_eq!(
            key.public().to_string(),
            "ed25519:fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"
        );
        let signature = key.sign(&[0xaf, 0x82]);
        assert_eq!(
            signature,
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac\
             18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
        );
        assert!(key.public().has_signed(&[0xaf, 0x82], &signature));
        assert!(!key.public().has_signed(&[0xaf, 0x83], &signature));
        assert!(!key.public().has_signed(&[0xaf, 0x82], &signature[2..]));
        assert!(!key.public().has_signed(&[0xaf, 0x82], "no digits"));
    }

    #[test]
    fn a_key_is_made_once_and_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("key");
        let key = SecretKey::make(&path).expect("made");
        assert_eq!(SecretKey::read(&path).expect("a key").public(), key.public());
        assert_eq!(key.public().to_string().parse(), Ok(key.public()));
        assert!(SecretKey::make(&path).is_err(), "it is there already");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("ours");
        let error = SecretKey::read(&path).err().expect("others can read it");
        assert!(error.to_string().contains("can be read by others"), "{error}");
        for text in ["ed25519:12", "rsa:00", "ed25519:FC51CD8E"] {
            assert!(text.parse::<PublicKey>().is_err(), "{text}");
        }
    }
}
