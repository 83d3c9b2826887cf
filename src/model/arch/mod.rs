//! Model families, as they stand on disk: the last place that knows one. Turns a `config.json` into a [`Spec`] and our slots into a
//! family's tensor names, and back.

mod llama;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::{Result, user};

use super::params::{Slot, Top};
use super::spec::Spec;

/// Token ids that a model's configuration names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecialTokens {
    /// Begins a text.
    pub bos: Option<u32>,
    /// Ends a text; the first one where several do.
    pub eos: Option<u32>,
    /// Fills rows.
    pub pad: Option<u32>,
}

/// Where a model comes from on disk: all that must be known to save it as what it was, beside its [`Spec`].
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// Its special tokens.
    pub special: SpecialTokens,
    family: &'static Family,
    /// Its `config.json`, with what we do not know too.
    config: Map<String, Value>,
}

impl Origin {
    /// That of a model made here: of the LLaMA family.
    pub fn new(spec: &Spec, special: SpecialTokens) -> Self {
        Origin { special, family: &llama::FAMILY, config: llama::config(spec, special) }
    }

    /// The names of `count` classes; transformers' own where there are none.
    pub fn labels(&self, count: usize) -> Vec<String> {
        let name = |class: usize| self.config.get("id2label")?.get(class.to_string())?.as_str().map(str::to_owned);
        (0..count).map(|class| name(class).unwrap_or_else(|| format!("LABEL_{class}"))).collect()
    }
}

/// What a `config.json` says.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// Where the model comes from.
    pub origin: Origin,
    /// What the model is.
    pub spec: Spec,
    /// What stands on the trunk.
    pub top: Top,
}

/// How a checkpoint holds one of our tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The checkpoint's name of the tensor that holds it.
    pub name: String,
    /// What part of that tensor it is.
    pub form: Form,
}

/// What part of a checkpoint's tensor one of ours is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// All of it.
    Whole,
}

/// A family of models.
#[derive(Debug)]
struct Family {
    /// The value of `model_type`.
    model_type: &'static str,
    /// Reads a configuration.
    read: fn(&Fields<'_>) -> Result<(Spec, Top)>,
    /// What `architectures` says of a model with such a top.
    architecture: fn(Top) -> &'static str,
    /// How checkpoints hold a slot.
    stored: fn(&Spec, &Slot) -> Stored,
    /// Tensors that checkpoints of this family may hold beside ours, and that carry nothing.
    ignored: fn(&str) -> bool,
}

impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.model_type == other.model_type
    }
}

/// All families.
const FAMILIES: &[&Family] = &[&llama::FAMILY];

/// Reads the text of a `config.json`; `place` is its path, for errors.
pub fn read(text: &str, place: &str) -> Result<Description> {
    let map: Map<String, Value> = serde_json::from_str(text).map_err(|error| user(format!("{place} is not a JSON object: {error}")))?;
    let fields = Fields { place, map: &map };
    let model_type = fields.text("model_type")?.ok_or_else(|| user(format!("{place} has no `model_type`")))?;
    let Some(family) = FAMILIES.iter().find(|family| family.model_type == model_type) else {
        let known: Vec<&str> = FAMILIES.iter().map(|family| family.model_type).collect();
        return Err(user(format!("{place}: `model_type` {model_type:?} is not known")).hint(format!("known: {}", known.join(", "))).into());
    };
    let (spec, top) = (family.read)(&fields)?;
    let special = SpecialTokens {
        bos: fields.token("bos_token_id")?,
        eos: fields.token("eos_token_id")?,
        // Early checkpoints have -1 for "none".
        pad: fields.token("pad_token_id").ok().flatten(),
    };
    Ok(Description { origin: Origin { special, family, config: map }, spec, top })
}

/// The text of the `config.json` of a model.
pub fn write(origin: &Origin, top: Top) -> String {
    let mut config = origin.config.clone();
    config.insert("architectures".into(), json!([(origin.family.architecture)(top)]));
    config.insert("torch_dtype".into(), json!("float32"));
    config.remove("dtype");
    for (key, id) in [("bos_token_id", origin.special.bos), ("eos_token_id", origin.special.eos), ("pad_token_id", origin.special.pad)] {
        config.insert(key.into(), json!(id));
    }
    if top == Top::Reward {
        // One label: transformers counts them here, not in `num_labels`.
        config.insert("id2label".into(), json!({"0": "LABEL_0"}));
        config.insert("label2id".into(), json!({"LABEL_0": 0}));
    }
    serde_json::to_string_pretty(&config).expect("a configuration is plain data") + "\n"
}

/// How checkpoints of a model hold a slot.
pub fn stored(origin: &Origin, spec: &Spec, slot: &Slot) -> Stored {
    (origin.family.stored)(spec, slot)
}

/// Whether a tensor beside ours carries nothing.
pub fn ignored(origin: &Origin, tensor: &str) -> bool {
    (origin.family.ignored)(tensor)
}

/// The fields of a configuration. `null` counts as absent; a wrong type is an error that names place, key and value.
struct Fields<'a> {
    place: &'a str,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    fn get<T>(&self, key: &str, expected: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match read(value) {
                Some(value) => Ok(Some(value)),
                None => Err(user(format!("{}: `{key}` must be {expected}, it is {value}", self.place)).into()),
            },
        }
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>> {
        self.get(key, "text", Value::as_str)
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.get(key, "true or false", Value::as_bool)
    }

    fn real(&self, key: &str) -> Result<Option<f64>> {
        self.get(key, "a number", Value::as_f64)
    }

    fn size(&self, key: &str) -> Result<Option<usize>> {
        self.get(key, "a whole number", |value| value.as_u64().and_then(|value| usize::try_from(value).ok()))
    }

    fn required(&self, key: &str) -> Result<usize> {
        self.size(key)?.ok_or_else(|| user(format!("{} has no `{key}`", self.place)).into())
    }

    fn object(&self, key: &str) -> Result<Option<Fields<'a>>> {
        let place = self.place;
        self.get(key, "an object", |value| value.as_object().map(|map| Fields { place, map }))
    }

    /// A token id, or the first of a list of them.
    fn token(&self, key: &str) -> Result<Option<u32>> {
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        self.get(key, "a token id or a list of them", |value| match value {
            Value::Array(ids) => ids.first().and_then(id),
            value => id(value),
        })
    }

    /// The error of a value that is understood but not supported.
    fn unsupported<T>(&self, key: &str, value: impl std::fmt::Display, hint: &str) -> Result<T> {
        Err(user(format!("{}: `{key}` is {value}, which is not supported", self.place)).hint(hint).into())
    }
}
