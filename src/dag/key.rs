//! Action keys: the hash of all that decides the bytes a node makes. Uses nothing of stores, names
//! or times.
//!
//! | what | in the key | why |
//! |---|---|---|
//! | stage kind | yes | another program |
//! | stage VERSION | yes | another program |
//! | config value | yes | every typed value that is not its field's default |
//! | config field at its default, written or not | no | VERSION says what defaults mean; so a new option re-keys nothing |
//! | content of an upstream artefact | yes | by object id, which gives early cut-off |
//! | content of an input file | yes | by its bytes |
//! | names inside an input folder | yes | they are part of its content |
//! | numerics class | yes | whatever changes bits: the machine and its C library; for stages on a device also back end, precision, kernels, generation |
//! | node name | no | a rename is free |
//! | upstream node name | no | a rename is free |
//! | input path | no | so is a move |
//! | artefact kind | no | follows from the stage kind |
//! | order of config fields | no | a config is a set of fields |
//! | spelling of a number | no | only typed values are hashed |
//! | byte-neutral config field | no | the stage kind says which are proven not to change bytes: what training computes again to save memory |
//! | threads | no | proven not to change bytes |
//!
//! The encoding (version 1) is prefix-free, so that it is injective: every value starts with a
//! one-byte tag, and everything of variable length is preceded by its count as 8 bytes, least
//! significant first.
//!
//! | value | bytes |
//! |---|---|
//! | null, false, true | `n`, `f`, `t` |
//! | integer up to 2^63 - 1 | `i`, 8 bytes, two's complement |
//! | larger integer | `u`, 8 bytes |
//! | real number | `d`, the 8 bytes of its IEEE 754 form; never a NaN or negative zero |
//! | text | `s`, count of bytes, UTF-8 |
//! | list | `l`, count of items, items |
//! | map | `m`, count of fields, then key (as text) and value of each, sorted by the bytes of the key |
//!
//! A key is BLAKE3 in its key-derivation mode (which separates domains) over the map {`config`,
//! `numerics`, `stage`, `version`}; in `config` a reference is `{"$object": id}` and an input is
//! `{"$content": hash}`. A config cannot hold such maps itself: keys that start with `$` are
//! refused.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::digest::{ActionKey, ContentHash, ObjectId};
use crate::error::{Result, environment};
use crate::node::{Node, Numerics, Reference, not_here};

/// In a preimage, the object `{"$object": ID}` is the artefact of an upstream node.
pub const OBJECT_TAG: &str = "$object";
/// In a preimage, the object `{"$content": HASH}` is a file or folder from outside.
pub const CONTENT_TAG: &str = "$content";

/// Separates action keys from every other use of the hash; its number is that of the encoding.
const DOMAIN: &str = "posttrain action key, encoding 1";

/// All that a key is made of. It is kept beside the key, so that `explain` can say what differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preimage {
    /// The stage kind.
    pub stage: String,
    /// The stage kind's VERSION.
    pub version: u32,
    /// The numerics class.
    pub numerics: String,
    /// The config, references and inputs by content.
    pub config: Value,
}

impl Preimage {
    /// The preimage of a node, given what its references and inputs hold.
    ///
    /// # Errors
    /// Its numerics class is unknown, or something that it refers to.
    pub fn of(
        node: &Node,
        numerics: Numerics<'_>,
        object: impl Fn(&str) -> Result<ObjectId>,
        content: impl Fn(&Path) -> Result<ContentHash>,
    ) -> Result<Self> {
        let config = node.config_in_key(&mut |_, reference| {
            Ok(match reference {
                Reference::Stage(name) => json!({ OBJECT_TAG: object(name)? }),
                Reference::Input(path) => json!({ CONTENT_TAG: content(path)? }),
                Reference::Fetch(name) => return Err(not_here(name)),
            })
        })?;
        let unknown = || environment(format!("the device of `{}` is not open", node.name));
        let class = node.numerics(numerics).ok_or_else(unknown)?;
        Ok(Preimage {
            stage: node.stage.clone(),
            version: node.version,
            numerics: class.to_owned(),
            config,
        })
    }

    /// The action key; `None` where the config has a number without a canonical form, which only a
    /// preimage from elsewhere can have.
    pub fn canonical_key(&self) -> Option<ActionKey> {
        fn is_canonical(value: &Value) -> bool {
            match value {
                Value::Number(number) => {
                    number.as_f64().is_none_or(|value| value != 0.0 || value.is_sign_positive())
                }
                Value::Array(items) => items.iter().all(is_canonical),
                Value::Object(fields) => fields.values().all(is_canonical),
                Value::Null | Value::Bool(_) | Value::String(_) => true,
            }
        }
        is_canonical(&self.config).then(|| self.key())
    }

    /// The action key.
    pub fn key(&self) -> ActionKey {
        let mut bytes = vec![b'm'];
        count(&mut bytes, 4);
        text(&mut bytes, "config");
        encode(&mut bytes, &self.config);
        text(&mut bytes, "numerics");
        text(&mut bytes, &self.numerics);
        text(&mut bytes, "stage");
        text(&mut bytes, &self.stage);
        text(&mut bytes, "version");
        integer(&mut bytes, self.version.into());
        blake3::Hash::from_bytes(blake3::derive_key(DOMAIN, &bytes)).into()
    }
}

/// Appends the canonical encoding of a value.
///
/// # Panics
/// At a negative zero: `replace_references` leaves none. JSON has no NaN.
pub fn encode(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(b'n'),
        Value::Bool(false) => out.push(b'f'),
        Value::Bool(true) => out.push(b't'),
        Value::String(value) => text(out, value),
        Value::Array(items) => {
            out.push(b'l');
            count(out, items.len());
            items.iter().for_each(|item| encode(out, item));
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|field| field.0.as_bytes());
            out.push(b'm');
            count(out, fields.len());
            for (key, value) in fields {
                text(out, key);
                encode(out, value);
            }
        }
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(value), _, _) => integer(out, value),
            (None, Some(value), _) => {
                out.push(b'u');
                out.extend(value.to_le_bytes());
            }
            (None, None, Some(value)) => {
                assert!(
                    value.is_finite() && !(value == 0.0 && value.is_sign_negative()),
                    "{value} has no canonical form"
                );
                out.push(b'd');
                out.extend(value.to_bits().to_le_bytes());
            }
            (None, None, None) => unreachable!("a JSON number is one of the three"),
        },
    }
}

fn text(out: &mut Vec<u8>, value: &str) {
    out.push(b's');
    count(out, value.len());
    out.extend(value.as_bytes());
}

fn integer(out: &mut Vec<u8>, value: i64) {
    out.push(b'i');
    out.extend(value.to_le_bytes());
}

fn count(out: &mut Vec<u8>, value: usize) {
    out.extend((value as u64).to_le_bytes());
}
