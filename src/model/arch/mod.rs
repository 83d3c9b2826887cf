//! Model families, as they stand on disk: the last place that knows one. Turns a `config.json` into a [`Spec`] and our slots into a
//! family's tensor names, and back.

mod llama;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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

/// What a `config.json` says.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// What the model is.
    pub spec: Spec,
    /// Its head: language or reward.
    pub top: Top,
    /// Its special tokens.
    pub special: SpecialTokens,
}

/// A family of models.
struct Family {
    /// The value of `model_type`.
    model_type: &'static str,
    /// Reads a configuration.
    read: fn(&Fields<'_>) -> Result<Description>,
    /// Writes a configuration that `read` understands.
    write: fn(&Description) -> String,
    /// The family's name of a tensor.
    tensor: fn(&Slot) -> String,
    /// Tensors that checkpoints of this family may hold beside ours, and that carry nothing.
    ignored: fn(&str) -> bool,
}

/// All families.
const FAMILIES: &[Family] = &[llama::FAMILY];

/// Reads the text of a `config.json`; `place` is its path, for errors.
pub fn read(text: &str, place: &str) -> Result<Description> {
    let map: Map<String, Value> = serde_json::from_str(text).map_err(|error| user(format!("{place} is not a JSON object: {error}")))?;
    let fields = Fields { place, map: &map };
    let model_type = fields.text("model_type")?.ok_or_else(|| user(format!("{place} has no `model_type`")))?;
    match FAMILIES.iter().find(|family| family.model_type == model_type) {
        Some(family) => (family.read)(&fields),
        None => {
            let known: Vec<&str> = FAMILIES.iter().map(|family| family.model_type).collect();
            Err(user(format!("{place}: `model_type` {model_type:?} is not known")).hint(format!("known: {}", known.join(", "))).into())
        }
    }
}

/// The family that models of this spec are saved as.
fn family_of(_spec: &Spec) -> &'static Family {
    &FAMILIES[0]
}

/// The text of the `config.json` of a model.
pub fn write(description: &Description) -> String {
    (family_of(&description.spec).write)(description)
}

/// The name of a slot's tensor in checkpoints of models of this spec.
pub fn tensor_name(spec: &Spec, slot: &Slot) -> String {
    (family_of(spec).tensor)(slot)
}

/// Whether a tensor beside ours carries nothing.
pub fn ignored(spec: &Spec, tensor: &str) -> bool {
    (family_of(spec).ignored)(tensor)
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
