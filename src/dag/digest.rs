//! Digests of 32 bytes, written as 64 hexadecimal digits: of keys, of artefacts, of files from
//! outside. Uses nothing of what is hashed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! digests {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name([u8; 32]);

        impl $name {
            /// The digest itself.
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The first twelve hexadecimal digits: enough to tell things apart by eye.
            pub fn short(&self) -> String {
                self.to_string()[..12].to_owned()
            }
        }

        impl From<blake3::Hash> for $name {
            fn from(hash: blake3::Hash) -> Self {
                $name(*hash.as_bytes())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = String;

            /// Reads 64 lower-case hexadecimal digits.
            fn from_str(text: &str) -> Result<Self, String> {
                let hash = blake3::Hash::from_hex(text).map_err(|error| format!("`{text}` is no \
                    hash: {error}"))?;
                match hash.to_hex().as_str() == text {
                    true => Ok(hash.into()),
                    false => Err(format!("`{text}` is no hash: its letters must be small")),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(digest: $name) -> String {
                digest.to_string()
            }
        }
    )*};
}

digests! {
    /// The hash of all that decides what a node makes.
    ActionKey;
    /// The hash of the content of an artefact.
    ObjectId;
    /// The hash of the content of a file or folder from outside.
    ContentHash;
}
