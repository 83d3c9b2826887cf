//! Which tokens are special: names from the tokenizer's files, ids from the model's. Knows no text.
//!
//! The first that says something wins: `tokenizer_config.json`, `special_tokens_map.json`, what the tokenizer's class is known for (older
//! repositories only), then by id `generation_config.json` and `config.json`. So where files contradict each other, it is the
//! tokenizer's own word that counts. (transformers reads the same files; it lets an older `special_tokens_map.json` win over a
//! configuration without `added_tokens_decoder`.)

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::older_tokenizers;
use super::token_files::{CONFIG, Files, SPECIAL_TOKENS};
use crate::error::Result;

/// Roles that a special token may have; its name stands at `ROLE_token`.
const ROLES: [&str; 7] = ["bos", "eos", "unk", "sep", "pad", "cls", "mask"];
/// Tokens that are special without a role.
const WITHOUT_ROLE: [&str; 2] = ["additional_special_tokens", "extra_special_tokens"];
/// Names that say of a token that it fills room.
const PADS: [&str; 5] = ["<pad>", "[PAD]", "<|pad|>", "<|padding|>", "<|finetune_right_pad_id|>"];
/// Words that say of a special token that it has no meaning yet.
const RESERVED: [&str; 2] = ["reserved", "unused"];

/// The special tokens that files name.
pub(super) struct Names {
    /// By role; `None`: the tokenizer says that it has none.
    by_role: BTreeMap<&'static str, Option<AddedToken>>,
    others: Vec<AddedToken>,
}

impl Names {
    /// Reads the names of all roles.
    ///
    /// # Errors
    /// The user's, if a file cannot be understood.
    pub fn read(files: &Files) -> Result<Self> {
        let sources = [files.object(CONFIG)?, files.object(SPECIAL_TOKENS)?];
        let mut names = Names { by_role: BTreeMap::new(), others: Vec::new() };
        for role in ROLES {
            let key = format!("{role}_token");
            let said = sources.iter().find_map(|source| source.get(&key));
            let said = said.map(added_token).or_else(|| older_tokenizers::usual_name(files, role).map(Some));
            names.by_role.extend(said.map(|said| (role, said)));
        }
        for token in sources.iter().flat_map(|source| WITHOUT_ROLE.iter().filter_map(|key| source.get(*key)?.as_array())).flatten() {
            names.others.extend(added_token(token).filter(|token| !names.others.iter().any(|known| known.content == token.content)));
        }
        Ok(names)
    }

    /// The name of a role's token.
    pub fn get(&self, role: &str) -> Option<&str> {
        self.by_role.get(role)?.as_ref().map(|token| token.content.as_str())
    }

    /// Names by role, as templates know them: `bos_token` and so on.
    pub fn texts(&self) -> BTreeMap<String, String> {
        ROLES.iter().filter_map(|role| Some((format!("{role}_token"), self.get(role)?.to_owned()))).collect()
    }

    /// All that are named.
    pub fn tokens(&self) -> impl Iterator<Item = &AddedToken> {
        self.by_role.values().flatten().chain(&self.others)
    }

    fn denies(&self, role: &str) -> bool {
        self.by_role.get(role).is_some_and(Option::is_none)
    }
}

/// A special token: its name, or an object with it.
pub(super) fn added_token(value: &Value) -> Option<AddedToken> {
    let name = value.as_str().or_else(|| value["content"].as_str())?;
    let flag = |key: &str| value[key].as_bool().unwrap_or(false);
    let token = AddedToken::from(name, true).lstrip(flag("lstrip")).rstrip(flag("rstrip")).single_word(flag("single_word"));
    Some(token.normalized(flag("normalized")))
}

/// The tokens with a role, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Special {
    pub bos: Option<u32>,
    /// Ends a text; for an encoder, which is never asked to, what it closes a text with.
    pub eos: Option<u32>,
    /// All that end what the model writes: `eos` and those that its generation configuration names.
    pub ends: Vec<u32>,
    /// Fills room; never `eos`.
    pub pad: Option<u32>,
    /// Whether a file says that it does.
    pub pad_is_stated: bool,
}

impl Special {
    /// Finds them in the vocabulary and among the ids that the model's files state.
    pub fn find(tokenizer: &tokenizers::Tokenizer, names: &Names, of_the_model: &[Map<String, Value>]) -> Self {
        let named = |role: &str| names.get(role).and_then(|name| tokenizer.token_to_id(name));
        let stated = |role: &str| of_the_model.iter().map(|source| ids(source, role)).find(|ids| !ids.is_empty()).unwrap_or_default();
        let any = |role: &str| named(role).or_else(|| stated(role).first().copied().filter(|_| !names.denies(role)));
        let eos = named("eos").or_else(|| stated("eos").first().copied()).or_else(|| named("sep"));
        let mut ends: Vec<u32> = eos.into_iter().collect();
        for end in stated("eos") {
            if !ends.contains(&end) {
                ends.push(end);
            }
        }
        let bos = any("bos");
        let pad = any("pad").filter(|pad| Some(*pad) != eos);
        let chosen = || choose_pad(tokenizer, named("unk")).find(|pad| Some(*pad) != eos && Some(*pad) != bos);
        Special { bos, eos, ends, pad: pad.or_else(chosen), pad_is_stated: pad.is_some() }
    }
}

/// Tokens that may fill room where no file names one, the best first: one whose name says so, one that is reserved, that for unknown text.
fn choose_pad(tokenizer: &tokenizers::Tokenizer, unknown: Option<u32>) -> impl Iterator<Item = u32> {
    let added: BTreeMap<u32, AddedToken> = tokenizer.get_added_tokens_decoder().into_iter().collect();
    let reserved = |token: &AddedToken| token.special && RESERVED.iter().any(|word| token.content.contains(word));
    let reserved: Vec<u32> = added.iter().filter(|(_, token)| reserved(token)).map(|(id, _)| *id).collect();
    PADS.iter().filter_map(|name| tokenizer.token_to_id(name)).chain(reserved).chain(unknown)
}

/// The ids at `ROLE_token_id`: one, or a list.
fn ids(source: &Map<String, Value>, role: &str) -> Vec<u32> {
    let value = source.get(&format!("{role}_token_id")).unwrap_or(&Value::Null);
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Value::Array(values) => values.iter().filter_map(id).collect(),
        value => id(value).into_iter().collect(),
    }
}
