//! The JSON Schema (draft 2020-12) of the fields of a stage kind, from what `posttrain stages`
//! prints: types, defaults, ranges, meanings.
//!
//! 1. A scalar of YAML has the type that its field requests, so text may be written as a number.
//! 2. A value of another type may be a text with `${param}`: its type is known when the param is.
//! 3. A field with variants takes a word, or a mapping with one key. A variant that holds something
//!    has a word if all its fields have defaults.
//! 4. Structs and enums are definitions, named after their types; two that differ in anything have
//!    different names.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Stage;
use super::description::{Absence, Described, examined, join, meaning};
use super::fields::{KEY, Shape, Trace};
use super::ranges::{Bound, bounds, needs_an_entry};

/// The definition of a text with a param.
pub const PARAM: &str = "param";
/// Types of a scalar that is read as text.
pub const TEXT: [&str; 3] = ["string", "number", "boolean"];

/// Schemas that others refer to, by name.
#[derive(Default)]
pub struct Definitions(BTreeMap<String, Value>);

impl Definitions {
    /// Those with a text with a param alone.
    pub fn new() -> Self {
        let mut definitions = Definitions::default();
        let param = json!({
            "type": "string",
            "pattern": r"(^|[^$])\$\{[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\}",
            "description": "A text with ${param}: the param's value",
        });
        definitions.0.insert(PARAM.into(), param);
        definitions
    }

    /// A schema that refers to `schema`, which is defined under this name or the first free one
    /// after it.
    pub fn refer(&mut self, name: &str, schema: Value) -> Value {
        let name = name.replace("::", ".");
        let mut candidates = std::iter::once(name.clone())
            .chain((2..).map(|number: usize| format!("{name}_{number}")));
        let free = candidates.find(|name| self.0.get(name).is_none_or(|known| *known == schema));
        let name = free.expect("numbers do not run out");
        let reference = to(&name);
        self.0.insert(name, schema);
        reference
    }

    /// Value of the key `$defs`.
    pub fn into_value(self) -> Value {
        Value::Object(self.0.into_iter().collect())
    }
}

/// A schema that refers to the definition of this name.
pub fn to(name: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{name}") })
}

/// `schema`, or a text with a param.
pub fn or_param(schema: Value) -> Value {
    json!({ "anyOf": [schema, to(PARAM)] })
}

/// The fields of a stage kind.
pub struct Fields {
    /// The doc comment of the kind.
    pub meaning: String,
    /// A schema for each field.
    pub properties: Map<String, Value>,
    /// Fields without which a config is refused.
    pub required: Vec<String>,
}

/// The fields of the stage kind `S`. What they refer to goes to `definitions`.
///
/// # Errors
/// A bug of the kind: a field that no value fits, or that has no doc comment.
pub fn fields<S: Stage>(definitions: &mut Definitions) -> Result<Fields, String> {
    examined::<S, _>(|described, trace| {
        let ranges = &|path: &str| -> Result<Ranges, String> {
            let node = described.node(path)?;
            Ok(Ranges {
                bounds: bounds::<S>(trace, node, described.expected(path)),
                has_entry: matches!(node.shape, Shape::List | Shape::Map)
                    && needs_an_entry::<S>(trace, node),
            })
        };
        let mut writer = Writer { described, trace, ranges, definitions };
        let (properties, required) = writer.members("", Position::Other)?;
        Ok(Fields { meaning: meaning::<S>()?, properties, required })
    })
}

/// What the checks of a kind say of a value.
struct Ranges {
    bounds: Vec<Bound>,
    has_entry: bool,
}

/// What is around a value, which decides whether it may name several points of a stage; as in the
/// decoder of pipelines.
#[derive(Clone, Copy, PartialEq)]
enum Position {
    Item,
    WithinItem,
    Other,
}

struct Writer<'a> {
    described: &'a Described<'a>,
    trace: &'a Trace,
    ranges: &'a dyn Fn(&str) -> Result<Ranges, String>,
    definitions: &'a mut Definitions,
}

impl Writer<'_> {
    /// The fields of the struct at `path`, and the names of those that are required.
    fn members(
        &mut self,
        path: &str,
        position: Position,
    ) -> Result<(Map<String, Value>, Vec<String>), String> {
        let Shape::Struct(name, fields) = &self.described.node(path)?.shape else {
            return Err(format!("`{path}` is no struct"));
        };
        let inside = match position {
            Position::Item => Position::WithinItem,
            _ => Position::Other,
        };
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for field in *fields {
            let inner = join(path, field);
            let mut schema = self.value(&inner, inside)?;
            schema["description"] =
                self.description(&inner, &self.described.meaning(name, fields, field)?)?.into();
            match self.described.default(path, &inner, field)? {
                Absence::Required => required.push((*field).to_owned()),
                Absence::Value(default) => schema["default"] = default,
                Absence::Unset => {}
            }
            properties.insert((*field).to_owned(), schema);
        }
        Ok((properties, required))
    }

    /// The meaning of a value, with what is expected of it, of the items of a list too.
    fn description(&self, path: &str, meaning: &str) -> Result<String, String> {
        let (mut text, mut path, mut each) = (meaning.to_owned(), path.to_owned(), "");
        loop {
            for message in self.described.expected(&path) {
                text += &format!(" ({each}{message})");
            }
            path = match self.described.node(&path)?.shape {
                Shape::List => join(&path, "0"),
                Shape::Map => join(&path, KEY),
                _ => return Ok(text),
            };
            each = "each: ";
        }
    }

    /// The schema of the value at `path`.
    fn value(&mut self, path: &str, position: Position) -> Result<Value, String> {
        let node = self.described.node(path)?;
        let (shape, nullable) = (node.shape.clone(), node.nullable);
        let mut choices = match &shape {
            Shape::Boolean => vec![json!({ "type": "boolean" })],
            Shape::Integer { least } => {
                let mut schema = json!({ "type": "integer" });
                if *least == 0 {
                    schema["minimum"] = json!(0);
                }
                vec![within(schema, &(self.ranges)(path)?.bounds)]
            }
            Shape::Number => {
                vec![within(json!({ "type": "number" }), &(self.ranges)(path)?.bounds)]
            }
            Shape::Text | Shape::Path | Shape::Model => vec![json!({ "type": TEXT })],
            Shape::Stage => self.reference(path, position)?,
            Shape::List => {
                let items = self.value(&join(path, "0"), Position::Item)?;
                let mut list = json!({ "type": "array", "items": items });
                if (self.ranges)(path)?.has_entry {
                    list["minItems"] = json!(1);
                }
                let is_of_stages = self.described.node(&join(path, "0"))?.shape == Shape::Stage;
                std::iter::once(list).chain(is_of_stages.then(|| points(true))).collect()
            }
            Shape::Map => {
                let values = self.value(&join(path, KEY), Position::WithinItem)?;
                let mut map = json!({ "type": "object", "additionalProperties": values });
                if (self.ranges)(path)?.has_entry {
                    map["minProperties"] = json!(1);
                }
                vec![map]
            }
            Shape::Struct(name, _) => {
                let (properties, required) = self.members(path, position)?;
                vec![self.definitions.refer(name, object(properties, &required))]
            }
            Shape::Choice(name, variants) => self.choices(path, name, variants)?,
        };
        if nullable {
            choices.push(json!({ "type": "null" }));
        }
        if !matches!(shape, Shape::Text | Shape::Path | Shape::Model | Shape::Stage) {
            choices.push(to(PARAM));
        }
        Ok(match choices.len() {
            1 => choices.remove(0),
            _ => json!({ "anyOf": choices }),
        })
    }

    /// A reference to a stage, or to points of one.
    fn reference(&self, path: &str, position: Position) -> Result<Vec<Value>, String> {
        let kind = self.described.artefact(path)?;
        let name = json!({
            "type": "string",
            "minLength": 1,
            "title": format!("a stage that makes: {kind}"),
        });
        Ok(match position {
            Position::Item => vec![name, points(true)],
            Position::WithinItem => vec![name, points(false)],
            Position::Other => vec![name],
        })
    }

    /// The words and the mapping that an enum may be written as.
    fn choices(&mut self, path: &str, name: &str, variants: &[&str]) -> Result<Vec<Value>, String> {
        let (mut words, mut keys) = (Vec::new(), Map::new());
        for variant in variants {
            let inner = join(path, variant);
            let meaning = self.described.meaning(name, variants, variant)?;
            if self.described.is_word(&inner) {
                words.push(json!({ "const": variant, "description": meaning }));
            }
            let holds = self.trace.nodes.iter().any(|node| node.path == inner);
            let mut content = match holds {
                true => self.value(&inner, Position::Other)?,
                false => json!({ "type": ["null", "object"], "maxProperties": 0 }),
            };
            content["description"] = match holds {
                true => self.description(&inner, &meaning)?.into(),
                false => meaning.into(),
            };
            keys.insert((*variant).to_owned(), content);
        }
        let mut mapping = object(keys, &[]);
        (mapping["minProperties"], mapping["maxProperties"]) = (json!(1), json!(1));
        let choice = json!({ "anyOf": words.into_iter().chain([mapping]).collect::<Vec<_>>() });
        Ok(vec![self.definitions.refer(name, choice)])
    }
}

/// An object with these keys and no others.
pub fn object(properties: Map<String, Value>, required: &[String]) -> Value {
    let mut schema =
        json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// `{all: STAGE, over: AXIS}`.
fn points(all_of_them: bool) -> Value {
    let required: &[&str] = if all_of_them { &["all"] } else { &["all", "over"] };
    json!({
        "type": "object",
        "description": "Points of a stage: all, or those that differ along these axes alone",
        "properties": {
            "all": { "type": "string", "description": "The stage" },
            "over": {
                "anyOf": [
                    { "type": "string" },
                    { "type": "array", "items": { "type": "string" }, "minItems": 1 },
                ],
                "description": "An axis of the matrix, or a list of them",
            },
        },
        "required": required,
        "additionalProperties": false,
    })
}

/// The schema of a number with bounds, the tightest of them.
fn within(mut schema: Value, bounds: &[Bound]) -> Value {
    for Bound { value, is_lower, is_inclusive } in bounds {
        let key = match (is_lower, is_inclusive) {
            (true, true) => "minimum",
            (true, false) => "exclusiveMinimum",
            (false, true) => "maximum",
            (false, false) => "exclusiveMaximum",
        };
        let known = schema[key].as_f64();
        let is_tighter = |known: f64| if *is_lower { *value > known } else { *value < known };
        if known.is_none_or(is_tighter) {
            schema[key] = number(*value);
        }
    }
    schema
}

/// A number as JSON, without a fraction where it is whole.
fn number(value: f64) -> Value {
    match value.fract() == 0.0 {
        true => json!(value as i64),
        false => json!(value),
    }
}
