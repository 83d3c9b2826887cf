//! The fields of a `config.json`, with errors that name place, key and value. Uses no family.
//!
//! A field that is absent has a default, which the caller gives. `null` is a value like others:
//! some fields may have it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;

use serde_json::{Map, Value};

use super::super::spec::Activation;
use crate::error::{Result, user};

/// An object of a configuration.
pub(super) struct Fields<'a> {
    /// Where it is, for errors: a path, and what the object is called there.
    pub(super) place: String,
    /// Its fields.
    pub(super) map: &'a Map<String, Value>,
    /// The names that were looked up.
    read: RefCell<BTreeSet<String>>,
}

impl<'a> Fields<'a> {
    /// The object `map`, which errors call `place`.
    pub(super) fn new(place: impl Into<String>, map: &'a Map<String, Value>) -> Self {
        Fields { place: place.into(), map, read: RefCell::default() }
    }

    /// A field, which counts as read from then on.
    pub(super) fn value(&self, key: &str) -> Option<&'a Value> {
        self.read.borrow_mut().insert(key.to_owned());
        self.map.get(key)
    }

    /// The fields that nothing has looked up, in order.
    pub(super) fn unread(&self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let read = self.read.borrow();
        let unread = self.map.iter().filter(|(key, _)| !read.contains(*key));
        unread.map(|(key, value)| (key.as_str(), value)).collect::<Vec<_>>().into_iter()
    }

    fn get<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match read(value) {
            Some(value) => Ok(Some(value)),
            None => {
                Err(user(format!("{}: `{key}` must be {expected}, it is {value}", self.place))
                    .into())
            }
        }
    }

    /// [`Fields::get`] of a field whose `null` means that it is absent.
    fn get_or_null<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.value(key) {
            Some(Value::Null) => Ok(None),
            _ => self.get(key, expected, read),
        }
    }

    /// Text, or `None` where there is none.
    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>> {
        self.get_or_null(key, "text", Value::as_str)
    }

    /// True or false.
    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool> {
        Ok(self.get(key, "true or false", Value::as_bool)?.unwrap_or(default))
    }

    /// A number.
    pub(super) fn real(&self, key: &str, default: f64) -> Result<f64> {
        Ok(self.get(key, "a number", Value::as_f64)?.unwrap_or(default))
    }

    /// A number, or `None` where there is none.
    pub(super) fn optional_real(&self, key: &str) -> Result<Option<f64>> {
        self.get_or_null(key, "a number", Value::as_f64)
    }

    /// A size.
    pub(super) fn size(&self, key: &str, default: usize) -> Result<usize> {
        Ok(self.get(key, "a whole number", whole)?.unwrap_or(default))
    }

    /// A size with two names; `default` where neither is there.
    ///
    /// # Errors
    /// The user's: it is no size, or the names have different ones.
    pub(super) fn size_of_two(&self, key: &str, other: &str, default: usize) -> Result<usize> {
        let size = |key| self.get(key, "a whole number", whole);
        match (size(key)?, size(other)?) {
            (Some(one), Some(two)) if one != two => self.unsupported(
                other,
                format_args!("{two}, and `{key}` is {one}"),
                "both name one size: remove the wrong one",
            ),
            (one, two) => Ok(one.or(two).unwrap_or(default)),
        }
    }

    /// A size that may be `null`, which is not what it is where it is absent.
    pub(super) fn nullable_size(&self, key: &str, default: Option<usize>) -> Result<Option<usize>> {
        match self.value(key) {
            None => Ok(default),
            Some(_) => self.get_or_null(key, "a whole number or null", whole),
        }
    }

    /// An object, or `None` where there is none.
    pub(super) fn object(&self, key: &str) -> Result<Option<Fields<'a>>> {
        let map = self.get_or_null(key, "an object", Value::as_object)?;
        Ok(map.map(|map| Fields::new(format!("{}, `{key}`", self.place), map)))
    }

    /// Texts, or `None` where there are none.
    pub(super) fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>> {
        self.get_or_null(key, "a list of texts", |value| {
            value.as_array()?.iter().map(Value::as_str).collect()
        })
    }

    /// A token id, or the first of a list of them; `default` where it is absent. Early files have
    /// -1 for "none".
    pub(super) fn token(&self, key: &str, default: Option<u32>) -> Result<Option<u32>> {
        let id = |value: &Value| match value.as_i64() {
            Some(-1) => Some(None),
            _ => value.as_u64().and_then(|id| u32::try_from(id).ok()).map(Some),
        };
        let read = |value: &Value| match value {
            Value::Null => Some(None),
            Value::Array(ids) => ids.first().map_or(Some(None), id),
            value => id(value),
        };
        Ok(self.get(key, "a token id or a list of them", read)?.unwrap_or(default))
    }

    /// A function, by transformers' name for it.
    pub(super) fn activation(&self, key: &str, default: &str) -> Result<Activation> {
        match self.text(key)?.unwrap_or(default) {
            "relu" => Ok(Activation::Relu),
            "gelu" | "gelu_python" => Ok(Activation::Gelu),
            // One formula, written in five ways.
            "gelu_new" | "gelu_fast" | "gelu_accurate" | "gelu_pytorch_tanh"
            | "gelu_python_tanh" => Ok(Activation::GeluTanh),
            "silu" | "swish" => Ok(Activation::Silu),
            "tanh" => Ok(Activation::Tanh),
            other => self.unsupported(
                key,
                format_args!("{other:?}"),
                "relu, gelu, gelu_new, silu and tanh are, by their several names",
            ),
        }
    }

    /// Channels of a head where heads share the width.
    pub(super) fn shared_width(
        &self,
        width_key: &str,
        width: usize,
        heads_key: &str,
        heads: usize,
    ) -> Result<usize> {
        // No heads at all is another error, found later.
        if heads > 0 && !width.is_multiple_of(heads) {
            let value = format!("{width}, not a multiple of `{heads_key}`, {heads}");
            return self.unsupported(width_key, value, "heads share the width evenly");
        }
        Ok(width / heads.max(1))
    }

    /// Refuses a flag that is not `value`.
    pub(super) fn only(&self, key: &str, value: bool) -> Result<()> {
        match self.flag(key, value)? == value {
            true => Ok(()),
            false => self.unsupported(key, !value, &format!("only {value} is")),
        }
    }

    /// Refuses a field that says anything: `null`, `false`, 0 and what is empty say nothing.
    pub(super) fn nothing(&self, key: &str, hint: &str) -> Result<()> {
        match self.value(key).filter(|value| !says_nothing(value)) {
            None => Ok(()),
            Some(value) => self.unsupported(key, value, hint),
        }
    }

    /// The error of a value that is understood but that a [`Spec`](super::super::spec::Spec) has no
    /// word for.
    pub(super) fn unsupported<T>(&self, key: &str, value: impl Display, hint: &str) -> Result<T> {
        Err(user(format!("{}: `{key}` is {value}, which is not supported", self.place))
            .hint(hint)
            .into())
    }
}

/// Whether a value says nothing: `null`, `false`, 0, or empty.
pub(super) fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

fn whole(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|value| usize::try_from(value).ok())
}
