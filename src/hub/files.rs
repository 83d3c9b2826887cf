//! Which files of a repository a model needs. Uses their names, not what is in them, except
//! the index of a sharded model.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::{Result, user};

/// Needed where they are there, by their whole path.
const NAMES: &[&str] = &[
    CONFIG,
    "generation_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "chat_template.jinja",
    "modules.json",
    "1_Pooling/config.json",
];
/// Needed where they are there, at the top, by how they begin. What a sentence encoder says of
/// itself is in `sentence_…_config.json`.
const BEGINNINGS: &[&str] = &["tokenizer", "vocab", "sentence_"];
/// What makes a repository a model.
const CONFIG: &str = "config.json";
/// Weights: a file, or the index of several. The first that is there is taken.
const WEIGHTS: &[&str] = &[
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path in the repository.
    pub path: String,
    /// Bytes, where the hub says so.
    pub size: Option<u64>,
    /// Its checksum, where the hub says so.
    pub digest: Option<Digest>,
}

/// A checksum, as 40 or 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Digest {
    /// Of a large file.
    Sha256(String),
    /// Of a small file: git's, the SHA-1 of `blob`, its length and its bytes.
    Git(String),
}

impl Digest {
    /// Reads an ETag or an id.
    pub fn of(text: &str) -> Option<Self> {
        let text = text.trim_start_matches("W/").trim_matches('"');
        let hexadecimal = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match (hexadecimal, text.len()) {
            (true, 64) => Some(Digest::Sha256(text.to_owned())),
            (true, 40) => Some(Digest::Git(text.to_owned())),
            _ => None,
        }
    }

    /// The digits. They are the file's name among the blobs of the cache.
    pub fn digits(&self) -> &str {
        match self {
            Digest::Sha256(digits) | Digest::Git(digits) => digits,
        }
    }
}

/// What a repository holds at one commit, by path.
pub type Listing = BTreeMap<String, File>;

/// What a model needs, except shards, which only an index names.
pub struct Needed<'a> {
    /// Everything but the weights, sorted.
    pub small: Vec<&'a File>,
    /// The weights, or their index.
    pub weights: &'a File,
}

impl Needed<'_> {
    /// Whether the weights are those of an index.
    pub fn is_sharded(&self) -> bool {
        self.weights.path.ends_with(".index.json")
    }
}

/// What a model needs of a repository.
///
/// # Errors
/// A repository without a config, or without weights that can be read, is not what the user meant.
pub fn needed<'a>(listing: &'a Listing, model: &str) -> Result<Needed<'a>> {
    let holds = || {
        let files: Vec<&str> = listing
            .keys()
            .map(String::as_str)
            .filter(|path| !path.starts_with('.'))
            .take(20)
            .collect();
        format!(
            "it holds {}",
            if files.is_empty() { "nothing".to_owned() } else { files.join(", ") }
        )
    };
    if !listing.contains_key(CONFIG) {
        return Err(user(format!("{model} has no {CONFIG}, so it is not a model of transformers"))
            .hint(holds())
            .into());
    }
    let Some(weights) = WEIGHTS.iter().find_map(|name| listing.get(*name)) else {
        let message =
            format!("{model} has no weights that can be read: none of {}", WEIGHTS.join(", "));
        return Err(user(message).hint(holds()).into());
    };
    let small = |path: &str| {
        NAMES.contains(&path)
            || (!path.contains('/')
                && is_plain(path)
                && BEGINNINGS.iter().any(|start| path.starts_with(start)))
    };
    Ok(Needed { small: listing.values().filter(|file| small(&file.path)).collect(), weights })
}

/// The part of an index that names shards.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The shards that an index names, sorted.
///
/// # Errors
/// An index that cannot be read, or that names what the repository does not hold.
pub fn shards<'a>(
    listing: &'a Listing,
    index: &str,
    bytes: &[u8],
    model: &str,
) -> Result<Vec<&'a File>> {
    let read: Result<Index, _> = serde_json::from_slice(bytes);
    let read =
        read.map_err(|error| user(format!("{index} of {model} is no index of shards: {error}")))?;
    let names: BTreeSet<String> = read.weight_map.into_values().collect();
    if names.is_empty() {
        return Err(user(format!("{index} of {model} names no shards")).into());
    }
    let find = |name: &String| {
        let file = listing.get(name).filter(|file| is_plain(&file.path));
        file.ok_or_else(|| {
            user(format!("{index} of {model} names the shard `{name}`, which is not there")).into()
        })
    };
    names.iter().map(find).collect()
}

/// Whether a path can be part of an address and of a local path as it is.
pub(super) fn is_plain(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '+');
    path.chars().all(plain)
        && path.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(paths: &[&str]) -> Listing {
        paths
            .iter()
            .map(|path| {
                (path.to_string(), File { path: path.to_string(), size: None, digest: None })
            })
            .collect()
    }

    fn taken(paths: &[&str]) -> Vec<String> {
        let listing = listing(paths);
        let needed = needed(&listing, "hub:a/b").expect("a model");
        needed.small.iter().chain([&needed.weights]).map(|file| file.path.clone()).collect()
    }

    #[test]
    fn only_what_a_model_needs_is_taken() {
        let all = [
            ".gitattributes",
            "README.md",
            "config.json",
            "generation_config.json",
            "merges.txt",
            "model.safetensors",
            "onnx/config.json",
            "onnx/tokenizer.json",
            "pytorch_model.bin",
            "sentence_bert_config.json",
            "tf_model.h5",
            "tokenizer.json",
            "tokenizer_config.json",
            "training_args.bin",
            "vocab.json",
            "1_Pooling/config.json",
            "2_Dense/config.json",
        ];
        let expected = [
            "1_Pooling/config.json",
            "config.json",
            "generation_config.json",
            "merges.txt",
            "sentence_bert_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.json",
            "model.safetensors",
        ];
        assert_eq!(taken(&all), expected);
    }

    #[test]
    fn pickles_are_taken_only_where_there_is_nothing_better() {
        assert_eq!(
            taken(&["config.json", "pytorch_model.bin"]),
            ["config.json", "pytorch_model.bin"]
        );
        let sharded = ["config.json", "model.safetensors.index.json", "pytorch_model.bin"];
        assert_eq!(taken(&sharded), ["config.json", "model.safetensors.index.json"]);
    }

    #[test]
    fn a_repository_that_is_no_model_says_what_it_holds() {
        for paths in [&["README.md", "model.gguf"][..], &["config.json", "model.gguf"]] {
            let error =
                needed(&listing(paths), "hub:a/b").err().expect("it is no model").to_string();
            assert!(error.contains("hub:a/b has no") && error.contains("model.gguf"), "{error}");
        }
    }

    #[test]
    fn an_index_names_shards_that_must_be_there() {
        let listing = listing(&["a.safetensors", "b.safetensors", "../c"]);
        let of = |index: &str| shards(&listing, "i", index.as_bytes(), "hub:a/b");
        let found = of(
            r#"{"metadata": {}, "weight_map": {"x": "b.safetensors", "y": "a.safetensors", "z": "b.safetensors"}}"#,
        );
        let paths: Vec<&str> =
            found.expect("a good index").iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["a.safetensors", "b.safetensors"]);
        for wrong in [
            r#"{"weight_map": {"x": "d.safetensors"}}"#,
            r#"{"weight_map": {"x": "../c"}}"#,
            r#"{"weight_map": {}}"#,
            "{",
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_checksum_is_known_by_its_length() {
        let (sha, git) = ("0f".repeat(32), "0f".repeat(20));
        assert_eq!(Digest::of(&format!("\"{sha}\"")), Some(Digest::Sha256(sha)));
        assert_eq!(Digest::of(&format!("W/\"{git}\"")), Some(Digest::Git(git)));
        assert_eq!(Digest::of("\"1-abc\""), None);
    }
}
