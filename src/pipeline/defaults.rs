//! Defaults of configs. A field at its default is left out of keys, so that an option which is
//! added to a stage kind re-keys no result. What a default means is fixed by the kind's VERSION.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Value, json};

use super::registry::Registry;
use crate::dag::key::{CONTENT_TAG, OBJECT_TAG, Preimage};
use crate::dag::node::{self, PATH_TAG, is_reference};
use crate::stages::{Stage, Visitor};

/// The defaults of stage kinds, learned from their configs: a field has a default if the config
/// without it decodes to the same config, except for this field.
#[derive(Debug, Default)]
pub struct Defaults {
    /// By stage kind and path, with `-` for every index of a list; `None` for a required field.
    known: HashMap<(String, String), Option<Value>>,
    /// By stage kind: paths of fields that were left out together, and gave the same config.
    proved: HashSet<(String, Vec<String>)>,
}

impl Defaults {
    /// The fields of `config` that have a default, each with that default, by JSON pointer. A field
    /// inside of one that is at its default is not listed.
    ///
    /// # Errors
    /// The kind's name where the config without its defaults is another config: a bug of the kind.
    pub fn of(
        &mut self,
        kind: &str,
        config: &Value,
        registry: &impl Registry,
    ) -> Result<BTreeMap<String, Value>, String> {
        let mut found = BTreeMap::new();
        let mut decode = |config: &Value| registry.visit(kind, Again(config)).flatten();
        let root = Place { pointer: String::new(), general: String::new() };
        self.walk(kind, config, config, root, &mut decode, &mut found);
        let proof = (kind.to_owned(), node::at_default(config, &found));
        if !self.proved.contains(&proof) {
            let mut without = config.clone();
            node::leave_out(&mut without, &proof.1);
            if decode(&without).as_ref() != Some(config) {
                return Err(format!(
                    "the defaults of the stage kind `{kind}` depend on each other"
                ));
            }
            self.proved.insert(proof);
        }
        Ok(found)
    }

    fn walk(
        &mut self,
        kind: &str,
        config: &Value,
        value: &Value,
        place: Place,
        decode: &mut dyn FnMut(&Value) -> Option<Value>,
        found: &mut BTreeMap<String, Value>,
    ) {
        match value {
            Value::Object(fields) if !is_reference(fields) => {
                for (name, value) in fields {
                    let inner = place.field(name);
                    let known = self.known.entry((kind.to_owned(), inner.general.clone()));
                    let default = known
                        .or_insert_with(|| default(config, &place.pointer, name, decode))
                        .clone();
                    let is_default = default.as_ref() == Some(value);
                    found.extend(default.map(|default| (inner.pointer.clone(), default)));
                    if !is_default {
                        self.walk(kind, config, value, inner, decode, found);
                    }
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.walk(kind, config, item, place.item(index), decode, found);
                }
            }
            _ => {}
        }
    }
}

/// The default of the field `name` of the object at `pointer`; `None` if it is required.
fn default(
    config: &Value,
    pointer: &str,
    name: &str,
    decode: &mut dyn FnMut(&Value) -> Option<Value>,
) -> Option<Value> {
    let mut without = config.clone();
    let own = without.pointer_mut(pointer)?.as_object_mut()?.remove(name)?;
    let mut decoded = decode(&without)?;
    let object = decoded.pointer_mut(pointer)?.as_object_mut()?;
    let default = object.insert(name.to_owned(), own)?;
    (decoded == *config).then_some(default)
}

/// A place in a config.
struct Place {
    /// As a JSON pointer.
    pointer: String,
    /// The same with `-` for every index of a list.
    general: String,
}

impl Place {
    fn field(&self, name: &str) -> Place {
        let escaped = name.replace('~', "~0").replace('/', "~1");
        self.inner(&escaped, &escaped)
    }

    fn item(&self, index: usize) -> Place {
        self.inner(&index.to_string(), "-")
    }

    fn inner(&self, pointer: &str, general: &str) -> Place {
        Place {
            pointer: format!("{}/{pointer}", self.pointer),
            general: format!("{}/{general}", self.general),
        }
    }
}

/// What a key is made of, without the fields that are at their defaults, as keys were before these
/// were left out. `None` for a stage kind of another VERSION or with other options.
pub fn without_defaults(
    preimage: &Preimage,
    defaults: &mut Defaults,
    registry: &impl Registry,
) -> Option<Preimage> {
    let config = resolved(&preimage.config);
    let (version, neutral, full) = registry.visit(&preimage.stage, Full(&config)).flatten()?;
    let mut hashed = full.clone();
    hashed.as_object_mut()?.retain(|field, _| !neutral.contains(&field.as_str()));
    if version != preimage.version || hashed != config {
        return None;
    }
    let found = defaults.of(&preimage.stage, &full, registry).ok()?;
    let mut without = preimage.clone();
    node::leave_out(&mut without.config, &node::at_default(&full, &found));
    Some(without)
}

/// The config of a key with every field that may change bytes: those at their defaults, which a key
/// does not have, are filled in. Of a stage kind of another VERSION it is the config as the key has
/// it.
pub fn whole_config(preimage: &Preimage, registry: &impl Registry) -> Value {
    match registry.visit(&preimage.stage, Full(&resolved(&preimage.config))).flatten() {
        Some((version, neutral, mut full)) if version == preimage.version => {
            if let Some(fields) = full.as_object_mut() {
                fields.retain(|field, _| !neutral.contains(&field.as_str()));
            }
            with_contents(full, &preimage.config)
        }
        _ => preimage.config.clone(),
    }
}

/// A config whose references and inputs are those of the same places of `keyed`.
fn with_contents(config: Value, keyed: &Value) -> Value {
    match (config, keyed) {
        (Value::Object(_), Value::Object(of_key)) if is_reference(of_key) => keyed.clone(),
        (Value::Object(fields), _) => {
            let contents = |(name, value)| {
                let of_key = keyed.get(&name).unwrap_or(&Value::Null);
                (name, with_contents(value, of_key))
            };
            fields.into_iter().map(contents).collect()
        }
        (Value::Array(items), _) => {
            let contents =
                |(index, value)| with_contents(value, keyed.get(index).unwrap_or(&Value::Null));
            (0..items.len()).zip(items).map(contents).collect()
        }
        (leaf, _) => leaf,
    }
}

/// The config of a key with paths instead of contents, which a stage kind can decode.
fn resolved(config: &Value) -> Value {
    match config {
        Value::Object(fields) => {
            let content = fields.get(OBJECT_TAG).or_else(|| fields.get(CONTENT_TAG));
            match content {
                Some(hash) => json!({ PATH_TAG: hash }),
                None => {
                    fields.iter().map(|(name, value)| (name.clone(), resolved(value))).collect()
                }
            }
        }
        Value::Array(items) => items.iter().map(resolved).collect(),
        leaf => leaf.clone(),
    }
}

/// A config with every field, the VERSION of its kind and the fields that change no byte.
struct Full<'a>(&'a Value);

impl Visitor for Full<'_> {
    type Output = Option<(u32, &'static [&'static str], Value)>;

    fn visit<S: Stage>(self) -> Self::Output {
        Some((S::INFO.version, S::INFO.byte_neutral, Again(self.0).visit::<S>()?))
    }
}

/// A config, decoded and written again.
struct Again<'a>(&'a Value);

impl Visitor for Again<'_> {
    type Output = Option<Value>;

    fn visit<S: Stage>(self) -> Option<Value> {
        let stage = S::deserialize(self.0).ok()?;
        serde_json::to_value(stage).ok()
    }
}
