//! Which tokens are special: names from the tokenizer's files, ids from the model's. Uses no text.
//!
//! The first that says something wins: `tokenizer_config.json`, `special_tokens_map.json`, what the
//! tokenizer's class is known for, then by id `generation_config.json` and `config.json`. So where
//! files contradict each other, it is the tokenizer's own word that counts. (transformers reads the
//! same files; it lets an older `special_tokens_map.json` win over a configuration without
//! `added_tokens_decoder`.)

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::classes;
use super::files::{ADDED_TOKENS, CONFIG, Files, SPECIAL_TOKENS};
use crate::error::{Result, user};

/// Roles that a special token may have; its name is at `ROLE_token`.
const ROLES: [&str; 7] = ["bos", "eos", "unk", "sep", "pad", "cls", "mask"];
/// Tokens that are special without a role.
const WITHOUT_ROLE: [&str; 2] = ["additional_special_tokens", "extra_special_tokens"];
/// SpecialNames that say of a token that it fills room.
const PADS: [&str; 5] = ["<pad>", "[PAD]", "<|pad|>", "<|padding|>", "<|finetune_right_pad_id|>"];
/// Words that say of a special token that it has no meaning yet.
const RESERVED: [&str; 2] = ["reserved", "unused"];

/// The special tokens that files name.
pub(super) struct SpecialNames {
    /// By role; `None`: the tokenizer says that it has none.
    by_role: BTreeMap<&'static str, Option<AddedToken>>,
    others: Vec<AddedToken>,
}

impl SpecialNames {
    /// Reads the names of all roles.
    ///
    /// # Errors
    /// The user's, if a file cannot be understood.
    pub fn read(files: &Files) -> Result<Self> {
        let sources = [files.object(CONFIG)?, files.object(SPECIAL_TOKENS)?];
        let mut names = SpecialNames { by_role: BTreeMap::new(), others: Vec::new() };
        for role in ROLES {
            let key = format!("{role}_token");
            let said = sources.iter().find_map(|source| source.get(&key));
            let said = said.map(added_token).or_else(|| classes::usual_name(files, role).map(Some));
            names.by_role.extend(said.map(|said| (role, said)));
        }
        for token in sources
            .iter()
            .flat_map(|source| WITHOUT_ROLE.iter().filter_map(|key| source.get(*key)?.as_array()))
            .flatten()
        {
            names.others.extend(
                added_token(token).filter(|token| {
                    !names.others.iter().any(|known| known.content == token.content)
                }),
            );
        }
        Ok(names)
    }

    /// The name of a role's token.
    pub fn get(&self, role: &str) -> Option<&str> {
        self.by_role.get(role)?.as_ref().map(|token| token.content.as_str())
    }

    /// SpecialNames by role, as templates have them: `bos_token` and so on.
    pub fn texts(&self) -> BTreeMap<String, String> {
        ROLES
            .iter()
            .filter_map(|role| Some((format!("{role}_token"), self.get(role)?.to_owned())))
            .collect()
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
fn added_token(value: &Value) -> Option<AddedToken> {
    let name = value.as_str().or_else(|| value["content"].as_str())?;
    let flag = |key: &str| value[key].as_bool().unwrap_or(false);
    let token = AddedToken::from(name, true)
        .lstrip(flag("lstrip"))
        .rstrip(flag("rstrip"))
        .single_word(flag("single_word"));
    Some(token.normalized(flag("normalized")))
}

/// The tokens with a role, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SpecialTokens {
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

impl SpecialTokens {
    /// Finds them in the vocabulary and among the ids that the model's files state.
    pub fn find(
        tokenizer: &tokenizers::Tokenizer,
        names: &SpecialNames,
        of_the_model: &[Map<String, Value>],
    ) -> Self {
        let named = |role: &str| names.get(role).and_then(|name| tokenizer.token_to_id(name));
        let stated = |role: &str| {
            of_the_model
                .iter()
                .map(|source| ids(source, role))
                .find(|ids| !ids.is_empty())
                .unwrap_or_default()
        };
        let any = |role: &str| {
            named(role).or_else(|| stated(role).first().copied().filter(|_| !names.denies(role)))
        };
        let eos = named("eos").or_else(|| stated("eos").first().copied()).or_else(|| named("sep"));
        let mut ends: Vec<u32> = eos.into_iter().collect();
        for end in stated("eos") {
            if !ends.contains(&end) {
                ends.push(end);
            }
        }
        let bos = any("bos");
        let pad = any("pad").filter(|pad| Some(*pad) != eos);
        let chosen = || {
            choose_pad(tokenizer, named("unk")).find(|pad| Some(*pad) != eos && Some(*pad) != bos)
        };
        SpecialTokens { bos, eos, ends, pad: pad.or_else(chosen), pad_is_stated: pad.is_some() }
    }
}

/// The tokens that end what a model writes, as its own files state them; the first file that names
/// one decides.
pub(super) fn stated_ends(of_the_model: &[Map<String, Value>]) -> Vec<u32> {
    of_the_model
        .iter()
        .map(|source| ids(source, "eos"))
        .find(|ends| !ends.is_empty())
        .unwrap_or_default()
}

/// Tokens that may fill room where no file names one, the best first: one whose name says so, one
/// that is reserved, that for unknown text. All are special already: to write one of them down as
/// the pad token makes no text's tokens different.
fn choose_pad(
    tokenizer: &tokenizers::Tokenizer,
    unknown: Option<u32>,
) -> impl Iterator<Item = u32> {
    let added: BTreeMap<u32, AddedToken> =
        tokenizer.get_added_tokens_decoder().into_iter().collect();
    let special: Vec<(u32, AddedToken)> =
        added.into_iter().filter(|(_, token)| token.special).collect();
    let all = |wanted: &dyn Fn(&str) -> bool| -> Vec<u32> {
        special.iter().filter(|(_, token)| wanted(&token.content)).map(|(id, _)| *id).collect()
    };
    let pads = PADS.iter().flat_map(|pad| all(&|name| name == *pad)).collect::<Vec<_>>();
    let reserved = all(&|name| RESERVED.iter().any(|word| name.contains(word)));
    pads.into_iter().chain(reserved).chain(unknown)
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

/// Adds what `added_tokens.json` and the configuration's `added_tokens_decoder` list, by id, and
/// makes named tokens of the vocabulary special, so that a text's `</s>` is that token. A name that
/// is in no vocabulary names nothing.
///
/// # Errors
/// The user's: a list is not one, or a token cannot have the id that it is listed with.
pub(super) fn add_tokens(
    inner: &mut tokenizers::Tokenizer,
    files: &Files,
    names: &SpecialNames,
) -> Result<()> {
    let mut listed: BTreeMap<u32, AddedToken> = BTreeMap::new();
    for (name, id) in files.object(ADDED_TOKENS)? {
        let special = names.tokens().any(|token| token.content == name);
        let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
        let id = id.ok_or_else(|| files.broken(ADDED_TOKENS, &format!("{name} has no id")))?;
        listed.insert(id, AddedToken::from(name, special));
    }
    if let Some(decoder) =
        files.object(CONFIG)?.get("added_tokens_decoder").and_then(Value::as_object)
    {
        for (id, token) in decoder {
            let broken = || {
                files
                    .broken(CONFIG, &format!("added_tokens_decoder: {id} is not the id of a token"))
            };
            let id: u32 = id.parse().map_err(|_| broken())?;
            let parsed = added_token(token).ok_or_else(broken)?;
            let normalized = token["normalized"].as_bool().unwrap_or(true);
            listed.insert(
                id,
                parsed.normalized(normalized).special(token["special"].as_bool().unwrap_or(false)),
            );
        }
    }
    let known: BTreeMap<u32, AddedToken> = inner.get_added_tokens_decoder().into_iter().collect();
    for (id, token) in listed {
        if known.get(&id) == Some(&token) {
            continue;
        }
        let name = token.content.clone();
        inner.add_tokens(&[token]);
        if inner.token_to_id(&name) != Some(id) {
            let message = format!(
                "{}: {name} is listed with the id {id}, which is not the next one free",
                files.place()
            );
            return Err(user(message)
                .hint("take the tokenizer's files from one and the same revision")
                .into());
        }
    }
    let known: BTreeSet<String> =
        inner.get_added_tokens_decoder().into_values().map(|token| token.content).collect();
    let missing: Vec<AddedToken> = names
        .tokens()
        .filter(|token| {
            !known.contains(&token.content) && inner.token_to_id(&token.content).is_some()
        })
        .cloned()
        .collect();
    inner.add_special_tokens(&missing);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::error::{Kind, kind_of};
    use crate::files::pretty;
    use crate::tokens::Tokenizer;
    use serde_json::{Value, json};

    /// A tokenizer of single letters and these tokens after them, with these files beside it.
    fn open(
        tokens: &[&str],
        files: &[(&str, Value)],
    ) -> crate::error::Result<(Tokenizer, tempfile::TempDir)> {
        let folder = tempfile::tempdir().unwrap();
        let names: Vec<String> = ('a'..='e')
            .map(String::from)
            .chain(tokens.iter().map(|token| token.to_string()))
            .collect();
        let vocabulary: serde_json::Map<String, Value> =
            names.iter().enumerate().map(|(id, name)| (name.clone(), json!(id))).collect();
        let added: Vec<Value> = (5..names.len())
            .map(|id| {
                json!({"id": id, "content": names[id], "special": true, "single_word": false,
                "lstrip": false, "rstrip": false, "normalized": false})
            })
            .collect();
        let tokenizer = json!({"version": "1.0", "added_tokens": added,
            "model": {"type": "BPE", "vocab": vocabulary, "merges": []}});
        for (name, content) in files.iter().chain(&[("tokenizer.json", tokenizer)]) {
            std::fs::write(folder.path().join(name), pretty(content)).unwrap();
        }
        Ok((Tokenizer::open(folder.path())?, folder))
    }

    #[test]
    fn where_files_contradict_each_other_the_tokenizers_own_configuration_counts() {
        let tokens = ["<1>", "<2>", "<3>", "<4>", "<pad>"];
        let config = ("tokenizer_config.json", json!({"eos_token": "<1>", "bos_token": null}));
        let map = (
            "special_tokens_map.json",
            json!({"eos_token": {"content": "<2>"}, "bos_token": "<2>"}),
        );
        let generation = ("generation_config.json", json!({"eos_token_id": [7, 5]}));
        let model = ("config.json", json!({"eos_token_id": 8, "bos_token_id": 8}));
        let mut files = vec![model, generation, map, config];
        let (tokenizer, _folder) = open(&tokens, &files).unwrap();
        assert_eq!((tokenizer.eos(), tokenizer.ends(), tokenizer.bos()), (5, &[5, 7][..], None));
        files.pop();
        let (tokenizer, _folder) = open(&tokens, &files).unwrap();
        assert_eq!(
            (tokenizer.eos(), tokenizer.ends(), tokenizer.bos()),
            (6, &[6, 7, 5][..], Some(6))
        );
        files.pop();
        let (tokenizer, _folder) = open(&tokens, &files).unwrap();
        assert_eq!((tokenizer.eos(), tokenizer.ends(), tokenizer.bos()), (7, &[7, 5][..], Some(8)));
        files.pop();
        assert_eq!(open(&tokens, &files).unwrap().0.ends(), [8]);
        files.pop();
        assert_eq!(kind_of(&open(&tokens, &files).unwrap_err()), Kind::User);
    }

    #[test]
    fn the_pad_token_is_never_the_one_that_ends_a_text() {
        let pad = |tokens: &[&str], config: Value| {
            open(tokens, &[("tokenizer_config.json", config)]).unwrap().0.pad()
        };
        let all = ["<s>", "</s>", "<unk>", "<reserved_7>", "<pad>", "<fill>"];
        let named = |pad: &str| {
            json!({"bos_token": "<s>", "eos_token": "</s>",
            "unk_token": "<unk>", "pad_token": pad})
        };
        assert_eq!(pad(&all, named("<fill>")), Some(10));
        assert_eq!(pad(&all, named("</s>")), Some(9), "one whose name says so");
        assert_eq!(pad(&all[..4], named("</s>")), Some(8), "one that is reserved");
        assert_eq!(pad(&all[..3], named("</s>")), Some(7), "that for unknown text");
        assert_eq!(pad(&all[..2], named("</s>")), None);
        assert_eq!(
            pad(&all[..2], json!({"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>"})),
            None
        );
    }

    #[test]
    fn a_pad_token_that_was_chosen_is_written_and_all_else_stays_as_it_was() {
        let config = json!({"eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>",
            "model_max_length": 9, "x": {"y": [1]}});
        let map = json!({"eos_token": "</s>", "pad_token": {"content": "</s>"}});
        let (tokenizer, from) = open(
            &["</s>", "<unk>"],
            &[("tokenizer_config.json", config.clone()), ("special_tokens_map.json", map)],
        )
        .unwrap();
        let to = tempfile::tempdir().unwrap();
        tokenizer.save(to.path()).unwrap();
        let saved = |name: &str| {
            serde_json::from_slice::<Value>(&std::fs::read(to.path().join(name)).unwrap()).unwrap()
        };
        let mut expected = config;
        expected["pad_token"] = json!("<unk>");
        assert_eq!(saved("tokenizer_config.json"), expected);
        assert_eq!(
            saved("special_tokens_map.json"),
            json!({"eos_token": "</s>", "pad_token": "<unk>"})
        );
        let bytes = |folder: &tempfile::TempDir| {
            std::fs::read(folder.path().join("tokenizer.json")).unwrap()
        };
        assert_eq!(bytes(&to), bytes(&from));
        let again = Tokenizer::open(to.path()).unwrap();
        assert_eq!((again.eos(), again.pad()), (tokenizer.eos(), tokenizer.pad()));
    }

    #[test]
    fn a_listed_token_has_the_id_that_it_is_listed_with_or_the_files_are_refused() {
        let listed = |id: &str| {
            json!({"eos_token": "</s>",
            "added_tokens_decoder": {id: {"content": "<new>", "special": true}}})
        };
        let (tokenizer, _folder) =
            open(&["</s>"], &[("tokenizer_config.json", listed("6"))]).unwrap();
        assert_eq!((tokenizer.encode("a<new>b").unwrap(), tokenizer.size()), (vec![0, 6, 1], 7));
        for (file, content) in
            [("tokenizer_config.json", listed("9")), ("added_tokens.json", json!({"<new>": 2}))]
        {
            let error =
                open(&["</s>"], &[("config.json", json!({"eos_token_id": 5})), (file, content)])
                    .unwrap_err();
            assert_eq!(kind_of(&error), Kind::User);
            assert!(error.to_string().contains("<new> is listed with the id"), "{error}");
        }
    }
}
