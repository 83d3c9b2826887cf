//! The JSON Schema (draft 2020-12) of the language: for editors, which check and complete a
//! pipeline while it is written, and for programs that write one.
//!
//! It admits every pipeline that the language admits, and finds mistakes of form: unknown sections,
//! kinds and fields, values of another type, numbers out of range. What a name refers to, and what
//! holds between fields, only the language itself checks (`posttrain validate`).

use serde_json::{Map, Value, json};

use super::document::SECTIONS;
use super::matrix_section::{EXCLUDE, INCLUDE, NESTED, RESERVED, ZIP};
use super::registry::{Builtin, Registry};
use super::typed::{LONGEST, MOST_TRIES};
use crate::remote::settings::{MODES, SCHEMES};
use crate::stages::schema::{Definitions, Fields, PARAM, TEXT, fields, object, or_param, to};
use crate::stages::{Stage, Visitor};

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
/// What may name a param, a profile or a stage.
const NAME: &str = "^[A-Za-z_][A-Za-z0-9_-]*$";
/// The same with a point of a matrix, as in a resolved pipeline.
const STAGE_NAME: &str = r"^[A-Za-z_][A-Za-z0-9_-]*(\[.*\])?$";

/// The schema of a pipeline.
///
/// # Errors
/// A bug of a stage kind: a field that no value fits, or that has no doc comment.
pub fn of_pipelines() -> Result<Value, String> {
    let mut definitions = Definitions::new();
    let (mut uses, mut kinds, mut parts, mut known) =
        (Vec::new(), Vec::new(), Vec::new(), Map::new());
    for name in Builtin.names() {
        let kind = kind(name, &mut definitions).ok_or_else(|| format!("no kind `{name}`"))??;
        uses.push(json!({ "const": name, "description": kind.meaning }));
        known.extend(kind.properties.keys().map(|field| (field.clone(), json!(true))));
        let fields = definitions.refer(name, object(kind.properties, &[]));
        let is = json!({ "properties": { "uses": { "const": name } }, "required": ["uses"] });
        kinds.push(json!({
            "if": is,
            "then": { "allOf": [fields], "required": kind.required },
        }));
        parts.push(json!({ "if": is, "then": fields }));
    }
    let uses = json!({
        "anyOf": [{ "anyOf": uses }, to(PARAM)],
        "description": "What kind of stage it is",
    });
    let stage = definitions.refer(
        "stage",
        json!({
            "type": "object",
            "properties": { "uses": uses },
            "required": ["uses"],
            "allOf": kinds,
        }),
    );
    // A stage of a pipeline that extends another may change fields of the other's stage, whose kind
    // it need not repeat.
    let fields: Vec<&String> = known.keys().collect();
    let part = definitions.refer(
        "part_of_stage",
        json!({
            "type": "object",
            "properties": { "uses": uses },
            "if": { "required": ["uses"] },
            "then": { "allOf": parts },
            "else": { "propertyNames": { "enum": fields } },
        }),
    );
    let anything = json!({ "type": "object", "propertyNames": { "pattern": NAME } });
    let mut profiles = anything.clone();
    profiles["additionalProperties"] = json!({ "type": ["object", "null"] });
    let mut params = anything;
    let taken = [&["stages", "matrix"], &RESERVED[..]].concat();
    params["propertyNames"]["not"] = json!({ "enum": taken });
    let stages = |stage: &Value| {
        json!({
            "type": "object",
            "patternProperties": { STAGE_NAME: stage },
            "additionalProperties": false,
        })
    };
    let mut all = stages(&stage);
    all["minProperties"] = json!(1);
    let points = |description: &str| {
        let item = json!({ "type": ["object", "null"] });
        json!({ "type": "array", "items": item, "description": description })
    };
    let lists = json!({
        "type": "object",
        "minProperties": 1,
        "additionalProperties": { "type": "array", "minItems": 1 },
    });
    let or_nothing = |schema: Value| json!({ "anyOf": [schema, nothing()] });
    let sections = [
        ("name", json!({ "type": TEXT }), "The pipeline's name; that of its file by default"),
        ("description", json!({ "type": TEXT }), "What the pipeline is for"),
        (
            "extends",
            json!({ "type": TEXT }),
            "Another pipeline file, of which this one says only what is different",
        ),
        (
            "cache",
            or_nothing(object(cache_fields(), &["remote".to_owned()])),
            "The remote cache that artefacts are shared through; changes no result",
        ),
        ("params", or_nothing(params), "Values that stages use, with their defaults"),
        ("profiles", or_nothing(profiles), "Named sets of other values for params"),
        (
            "matrix",
            or_nothing(json!({
                "type": "object",
                "properties": {
                    EXCLUDE: points("Points that are left out, each by some of its values"),
                    INCLUDE: points("Points that are added, each by some of its values"),
                    ZIP: {
                        "anyOf": [lists, { "type": "array", "items": lists }],
                        "description": "Params whose values are taken side by side",
                    },
                    NESTED: {
                        "type": "array",
                        "minItems": 1,
                        "items": { "type": "object", "minProperties": 1 },
                        "description": "Params whose values depend on those of others",
                    },
                },
                "additionalProperties": { "type": "array", "minItems": 1 },
            })),
            "Params that take several values in turn",
        ),
        ("stages", json!({ "type": "object" }), "What is made"),
    ];
    let mut properties = Map::new();
    for (name, mut schema, description) in sections {
        schema["description"] = description.into();
        properties.insert(name.to_owned(), schema);
    }
    assert!(
        SECTIONS.iter().all(|name| properties.contains_key(*name))
            && properties.len() == SECTIONS.len(),
        "the schema has the sections of the language"
    );
    let mut schema = object(properties, &[]);
    schema["$schema"] = DIALECT.into();
    schema["title"] = "A pipeline of posttrain".into();
    schema["if"] = json!({ "required": ["extends"] });
    schema["then"] = json!({ "properties": { "stages": stages(&part) } });
    schema["else"] = json!({ "properties": { "stages": all }, "required": ["stages"] });
    schema["$defs"] = definitions.into_value();
    Ok(schema)
}

/// The schema of a stage of the kind `name`; `None` if there is no such kind.
///
/// # Errors
/// As of [`of_pipelines`].
pub fn of_kind(name: &str) -> Option<Result<Value, String>> {
    let mut definitions = Definitions::new();
    let kind = match kind(name, &mut definitions)? {
        Ok(kind) => kind,
        Err(bug) => return Some(Err(bug)),
    };
    let mut required = vec!["uses".to_owned()];
    required.extend(kind.required);
    let mut schema = object(kind.properties, &required);
    schema["properties"]["uses"] = json!({ "const": name });
    schema["$schema"] = DIALECT.into();
    schema["title"] = format!("A stage of the kind {name}").into();
    schema["description"] = kind.meaning.into();
    schema["$defs"] = definitions.into_value();
    Some(Ok(schema))
}

/// The fields of a kind, with those that every stage may have.
fn kind(name: &str, definitions: &mut Definitions) -> Option<Result<Fields, String>> {
    Builtin.visit(name, Kind { definitions })
}

struct Kind<'a> {
    definitions: &'a mut Definitions,
}

impl Visitor for Kind<'_> {
    type Output = Result<Fields, String>;

    fn visit<S: Stage>(self) -> Self::Output {
        let mut kind =
            fields::<S>(self.definitions).map_err(|bug| format!("{}: {bug}", S::INFO.name))?;
        kind.properties.insert("uses".into(), json!(true));
        for (name, schema) in common(S::INFO.trains, self.definitions) {
            kind.properties.insert(name.to_owned(), schema);
        }
        Ok(kind)
    }
}

/// The fields of the section `cache`.
fn cache_fields() -> Map<String, Value> {
    let address = format!("^({})://", SCHEMES.join("|"));
    let key = json!({ "type": "string", "pattern": "^ed25519:[0-9a-f]{64}$" });
    let modes: Vec<&str> = MODES.iter().map(|(name, _)| *name).collect();
    let or_nothing = |schema: Value, description: &str| json!({ "anyOf": [schema, nothing()], "description": description });
    let remote = json!({ "type": "string", "pattern": address, "description": "Its address" });
    let trust = json!({ "type": "array", "items": key });
    let fields = [
        ("remote", remote),
        ("mode", or_nothing(json!({ "enum": modes }), "What may be done with it")),
        ("trust", or_nothing(trust, "Public keys; only entries that one of them signed are taken")),
        ("key", or_nothing(json!({ "type": "string" }), "The file of the secret key that signs")),
    ];
    fields.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect()
}

/// The schema of what is left out.
fn nothing() -> Value {
    json!({ "type": "null" })
}

/// The field `retry`: a number of times, or with what for and how long to wait.
fn retry() -> Value {
    let times = json!({ "type": "integer", "minimum": 0, "maximum": MOST_TRIES });
    let on = json!({ "enum": ["environment", "timeout", "failure"] });
    let mut fields = Map::new();
    fields.insert("times".into(), or_param(times.clone()));
    fields.insert("on".into(), or_param(json!({ "type": "array", "items": or_param(on) })));
    let wait = json!({ "type": "number", "minimum": 0, "maximum": LONGEST });
    fields.insert("wait".into(), or_param(wait));
    json!({ "anyOf": [times, object(fields, &["times".to_owned()])] })
}

/// Fields that a stage has whatever its kind is.
fn common(trains: bool, definitions: &mut Definitions) -> Vec<(&'static str, Value)> {
    let count = |least: u64, most: Option<u64>, description: &str| {
        let mut count = json!({ "type": "integer", "minimum": least });
        if let Some(most) = most {
            count["maximum"] = most.into();
        }
        json!({ "anyOf": [count, nothing(), to(PARAM)], "description": description })
    };
    let mut resources = Map::new();
    resources.insert("threads".into(), count(1, None, "Threads that it uses while it runs"));
    resources.insert("gpus".into(), count(0, Some(1), "0 lets the stage share the GPU"));
    let memory = "Megabytes of main memory that its job asks the queue of a cluster for";
    resources.insert("memory_mb".into(), count(1, None, memory));
    let resources = definitions.refer("resources", object(resources, &[]));
    let timeout = json!({ "type": "number", "exclusiveMinimum": 0, "maximum": LONGEST });
    let retry = definitions.refer("retry", retry());
    let mut fields = vec![
        (
            "retry",
            json!({
                "anyOf": [retry, nothing(), to(PARAM)],
                "description": "How often the stage is tried again when it fails, and after what",
            }),
        ),
        (
            "resources",
            json!({
                "anyOf": [resources, nothing(), to(PARAM)],
                "description": "What it uses while it runs; changes no result",
            }),
        ),
        (
            "timeout",
            json!({
                "anyOf": [timeout, nothing(), to(PARAM)],
                "description": "Seconds after which the stage is ended, and fails",
            }),
        ),
    ];
    let mut reporters =
        json!({ "type": "array", "items": or_param(json!({ "const": "tensorboard" })) });
    if !trains {
        reporters["maxItems"] = json!(0);
    }
    fields.push((
        "report_to",
        json!({
            "anyOf": [reporters, nothing(), to(PARAM)],
            "description": "Where the figures of a stage that trains go as well",
        }),
    ));
    fields
}
