//! Model families, as they are on disk: the last place that names one. Turns a `config.json` into
//! a [`Spec`] and our slots into a family's tensor names, and back.
//!
//! A family is a file with a [`Family`] in it: what its configuration says, what its
//! tensors are called and how they are stored. Absent fields of a configuration have the defaults
//! that transformers' class for the family gives them.

mod bert;
mod fields;
mod gpt2;
mod gpt_neox;
mod known;
mod llama;
mod mistral;
mod opt;
mod qwen2;
mod qwen3;
mod roberta;
mod rope;

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::{Result, user};

pub use super::form::{Form, Rows};
use super::params::{HeadKind, Slot};
use super::spec::Spec;
use fields::Fields;

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

impl SpecialTokens {
    const NONE: SpecialTokens = SpecialTokens { bos: None, eos: None, pad: None };
}

/// Where a model comes from on disk: all that must be known to save it as what it was, beside its
/// [`Spec`].
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// Its special tokens.
    pub special: SpecialTokens,
    family: &'static Family,
    /// Its `config.json`, with unknown fields too.
    config: Map<String, Value>,
}

impl Origin {
    /// That of a model made here: of the LLaMA family.
    pub fn new(spec: &Spec, special: SpecialTokens) -> Self {
        Origin { special, family: &llama::FAMILY, config: llama::config(spec, special) }
    }

    /// The names of `count` classes; transformers' own where there are none.
    pub fn labels(&self, count: usize) -> Vec<String> {
        let name = |class: usize| {
            self.config.get("id2label")?.get(class.to_string())?.as_str().map(str::to_owned)
        };
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
    /// What is on the trunk.
    pub head: HeadKind,
    /// Fields that are unknown and have no meaning (`null`, `false`, 0, empty), by name.
    pub unknown: Vec<String>,
}

impl Description {
    /// A warning of [`Description::unknown`]; `None` where there is nothing to warn of. `folder` is
    /// the model's.
    pub fn remark(&self, folder: &Path) -> Option<String> {
        let named: Vec<String> = self.unknown.iter().map(|name| format!("`{name}`")).collect();
        (!named.is_empty()).then(|| {
            format!(
                "the config.json of {} has unknown fields without a meaning, which are ignored: {}",
                folder.display(),
                named.join(", ")
            )
        })
    }
}

/// How a checkpoint holds one of our tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The checkpoint's name of the tensor that holds it.
    pub name: String,
    /// What part of that tensor it is.
    pub form: Form,
}

/// A family of models.
#[derive(Debug)]
struct Family {
    /// The value of `model_type`.
    model_type: &'static str,
    /// What `architectures` may say, and what is on the trunk then. The first is what is meant
    /// where nothing is said, the first with a head what is written.
    architectures: &'static [(&'static str, HeadKind)],
    /// What names of the trunk's tensors begin with, in files that hold more than a trunk; in
    /// others it may be left out.
    trunk: &'static str,
    /// Endings of names, and what may be there instead in files of other versions.
    aliases: &'static [(&'static str, &'static str)],
    /// Whether layers may see a window of the text alone.
    windows: bool,
    /// Special tokens of a configuration that names none.
    special: SpecialTokens,
    /// What fields of [`Spec`] are called, where [`key`] does not say it.
    keys: &'static [(&'static str, &'static str)],
    /// Reads a configuration, except its labels.
    read: fn(&Fields<'_>) -> Result<Spec>,
    /// How checkpoints hold a slot, under its longest name.
    stored: fn(&Origin, &Spec, &Slot) -> Stored,
    /// Tensors (named without `trunk`) that checkpoints may hold beside ours, and that carry
    /// nothing.
    ignored: fn(&str) -> bool,
}

impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.model_type == other.model_type
    }
}

/// All families.
const FAMILIES: &[&Family] = &[
    &bert::FAMILY,
    &gpt2::FAMILY,
    &gpt_neox::FAMILY,
    &llama::FAMILY,
    &mistral::FAMILY,
    &opt::FAMILY,
    &qwen2::FAMILY,
    &qwen3::FAMILY,
    &roberta::FAMILY,
];

/// Reads the text of a `config.json`; `place` is its path, for errors.
pub fn read(text: &str, place: &str) -> Result<Description> {
    let map: Map<String, Value> = serde_json::from_str(text)
        .map_err(|error| user(format!("{place} is not a JSON object: {error}")))?;
    let fields = Fields::new(place, &map);
    let model_type =
        fields.text("model_type")?.ok_or_else(|| user(format!("{place} has no `model_type`")))?;
    let Some(family) = FAMILIES.iter().find(|family| family.model_type == model_type) else {
        let known: Vec<&str> = FAMILIES.iter().map(|family| family.model_type).collect();
        return Err(user(format!("{place}: `model_type` {model_type:?} is not known"))
            .hint(format!("known: {}", known.join(", ")))
            .into());
    };
    known::refuse(&fields)?;
    let head = head(&fields, family)?;
    let mut spec = (family.read)(&fields)?;
    if !family.windows {
        only_full(&fields, spec.context)?;
    }
    spec.labels = if head == HeadKind::Classifier { labels(&fields)? } else { 0 };
    spec.check(place, |field| key(family, field))?;
    let special = special(&fields, family)?;
    let unknown = known::unknown(&fields)?;
    Ok(Description { origin: Origin { special, family, config: map }, spec, head, unknown })
}

/// Refuses a window in a family whose layers all see the whole text.
fn only_full(fields: &Fields<'_>, context: usize) -> Result<()> {
    if let Some(other) = fields
        .texts("layer_types")?
        .unwrap_or_default()
        .iter()
        .find(|kind| **kind != "full_attention")
    {
        return fields.unsupported(
            "layer_types",
            format_args!("a list with {other:?}"),
            "only \"full_attention\" is in this family",
        );
    }
    match fields.nullable_size("sliding_window", None)? {
        Some(window) if window < context && fields.flag("use_sliding_window", true)? => {
            fields.unsupported("sliding_window", window, "layers of this family see the whole text")
        }
        _ => Ok(()),
    }
}

/// What is on the trunk, by the first of `architectures`. Early files spell names in other
/// cases.
fn head(fields: &Fields<'_>, family: &Family) -> Result<HeadKind> {
    let named = fields.texts("architectures")?.unwrap_or_default();
    let architecture = named.first().copied().unwrap_or(family.architectures[0].0);
    let Some((_, head)) =
        family.architectures.iter().find(|(name, _)| name.eq_ignore_ascii_case(architecture))
    else {
        let known: Vec<&str> = family.architectures.iter().map(|(name, _)| *name).collect();
        return fields.unsupported(
            "architectures",
            format_args!("{architecture:?}"),
            &format!("known: {}", known.join(", ")),
        );
    };
    match head {
        HeadKind::Reward => match labels(fields)? {
            1 => Ok(*head),
            labels => fields.unsupported("num_labels", labels, "a reward model has one label"),
        },
        _ => Ok(*head),
    }
}

/// Labels of a model that classifies: those that have names, else their number.
fn labels(fields: &Fields<'_>) -> Result<usize> {
    let labels = match fields.object("id2label")? {
        Some(labels) => labels.map.len(),
        None => fields.size("num_labels", 2)?,
    };
    match labels {
        0 => fields.unsupported("num_labels", 0, "a head has at least one"),
        labels => Ok(labels),
    }
}

fn special(fields: &Fields<'_>, family: &Family) -> Result<SpecialTokens> {
    let SpecialTokens { bos, eos, pad } = family.special;
    Ok(SpecialTokens {
        bos: fields.token("bos_token_id", bos)?,
        eos: fields.token("eos_token_id", eos)?,
        pad: fields.token("pad_token_id", pad)?,
    })
}

/// What a field of [`Spec`] is called in a configuration.
fn key(family: &Family, field: &'static str) -> &'static str {
    if let Some((_, key)) = family.keys.iter().find(|(name, _)| *name == field) {
        return key;
    }
    match field {
        "vocabulary" => "vocab_size",
        "width" => "hidden_size",
        "layers" => "num_hidden_layers",
        "query_heads" => "num_attention_heads",
        "key_value_heads" => "num_key_value_heads",
        "channels" => "head_dim",
        "feed_forward_width" => "intermediate_size",
        "context" => "max_position_embeddings",
        "rotary_theta" => "rope_theta",
        "rotary_scaling" => "rope_scaling",
        "mask" => "sliding_window",
        other => other,
    }
}

/// The text of the `config.json` of a model: what it was, with the numbers' type, the architecture
/// and its labels as they are now.
pub fn write(origin: &Origin, head: HeadKind) -> String {
    let Origin { family, special: tokens, config } = origin;
    let mut changed = config.clone();
    changed.insert("architectures".into(), json!([architecture(family, head)]));
    if !config.contains_key("dtype") || config.contains_key("torch_dtype") {
        changed.insert("torch_dtype".into(), json!("float32"));
    }
    if config.contains_key("dtype") {
        changed.insert("dtype".into(), json!("float32"));
    }
    let fields = Fields::new("", config);
    // A list of ids stays one, unless the first was changed.
    let before = special(&fields, family).unwrap_or_default();
    for (key, id, before) in [
        ("bos_token_id", tokens.bos, before.bos),
        ("eos_token_id", tokens.eos, before.eos),
        ("pad_token_id", tokens.pad, before.pad),
    ] {
        if id != before {
            changed.insert(key.into(), json!(id));
        }
    }
    if head == HeadKind::Reward && labels(&fields).ok() != Some(1) {
        // One label: transformers counts them here, not in `num_labels`.
        changed.remove("num_labels");
        changed.insert("id2label".into(), json!({"0": "LABEL_0"}));
        changed.insert("label2id".into(), json!({"LABEL_0": 0}));
    }
    serde_json::to_string_pretty(&changed).expect("a configuration is plain data") + "\n"
}

fn architecture(family: &Family, head: HeadKind) -> &'static str {
    let named = family.architectures.iter().find(|(_, of)| *of == head);
    named.expect("a model has a head of its family").0
}

/// How checkpoints of a model hold a slot: as transformers writes it.
pub fn stored(origin: &Origin, spec: &Spec, head: HeadKind, slot: &Slot) -> Stored {
    let stored = (origin.family.stored)(origin, spec, slot);
    match stored.name.strip_prefix(origin.family.trunk) {
        // An encoder is nothing but its trunk.
        Some(name) if head == HeadKind::Encoder => Stored { name: name.into(), ..stored },
        _ => stored,
    }
}

/// What a tensor that [`stored`] names may be called in files: that, then what else.
pub fn spellings(origin: &Origin, name: &str) -> Vec<String> {
    let Family { trunk, aliases, .. } = origin.family;
    let mut names = vec![name.to_string()];
    match name.strip_prefix(trunk) {
        Some(short) => names.push(short.into()),
        None => names.push(format!("{trunk}{name}")),
    }
    for (ending, other) in *aliases {
        let renamed = names
            .iter()
            .filter_map(|name| name.strip_suffix(ending))
            .map(|name| format!("{name}{other}"));
        names.extend(renamed.collect::<Vec<_>>());
    }
    names
}

/// Whether a tensor beside ours carries nothing. The value head that TRL saves beside a policy
/// belongs to a training run.
pub fn ignored(origin: &Origin, head: HeadKind, tensor: &str) -> bool {
    let family = origin.family;
    head == HeadKind::Language && tensor.starts_with("v_head.")
        || (family.ignored)(tensor.strip_prefix(family.trunk).unwrap_or(tensor))
}

/// The ending of a tensor's name.
fn ending(slot: &Slot) -> &'static str {
    if slot.bias { "bias" } else { "weight" }
}
