//! The LLaMA family (Touvron et al. 2023), which also covers Llama 3 and SmolLM2, in the Hugging
//! Face layout. What its relatives share with it is here too.

use serde_json::{Map, Value, json};

use super::super::params::{HeadKind, Role, Slot};
use super::super::spec::{Activation, LayerSpec, Mask, Spec};
use super::fields::Fields;
use super::{Family, Form, Origin, SpecialTokens, Stored, ending, rope};
use crate::error::Result;

pub(super) static FAMILY: Family = Family {
    model_type: "llama",
    architectures: &[
        ("LlamaForCausalLM", HeadKind::Language),
        ("LlamaForSequenceClassification", HeadKind::Reward),
        ("LlamaModel", HeadKind::Language),
    ],
    trunk: "model.",
    aliases: &[],
    windows: false,
    special: SpecialTokens { bos: Some(1), eos: Some(2), pad: None },
    keys: KEYS,
    read,
    stored,
    ignored,
};

/// What fields of [`Spec`] are called in this family and its relatives.
pub(super) const KEYS: &[(&str, &str)] = &[("norm_epsilon", "rms_norm_eps")];

fn read(fields: &Fields<'_>) -> Result<Spec> {
    let spec = decoder(
        fields,
        Defaults {
            vocabulary: 32_000,
            width: 4096,
            feed_forward: 11_008,
            key_value_heads: None,
            head_channels: None,
            context: 2048,
        },
    )?;
    let bias = fields.flag("attention_bias", false)?;
    let feed_forward_bias = fields.flag("mlp_bias", false)?;
    Ok(Spec { query_key_value_bias: bias, output_bias: bias, feed_forward_bias, ..spec })
}

/// Sizes of a configuration that does not give them, where the family's relatives differ.
pub(super) struct Defaults {
    pub(super) vocabulary: usize,
    pub(super) width: usize,
    pub(super) feed_forward: usize,
    /// As many as there are query heads, where it is absent.
    pub(super) key_value_heads: Option<usize>,
    /// Heads share the width, where it is absent.
    pub(super) head_channels: Option<usize>,
    pub(super) context: usize,
}

/// What all relatives read alike: a decoder without biases whose tokens attend to all before them.
pub(super) fn decoder(fields: &Fields<'_>, defaults: Defaults) -> Result<Spec> {
    let width = fields.size("hidden_size", defaults.width)?;
    let heads = fields.size("num_attention_heads", 32)?;
    let layers = fields.size("num_hidden_layers", 32)?;
    let feed_forward = fields.size("intermediate_size", defaults.feed_forward)?;
    let context = fields.size("max_position_embeddings", defaults.context)?;
    if fields.activation("hidden_act", "silu")? != Activation::Silu {
        let named = fields.text("hidden_act")?.unwrap_or_default();
        return fields.unsupported(
            "hidden_act",
            format_args!("{named:?}"),
            "where the feed-forward is gated, only \"silu\" is",
        );
    }
    let channels = match fields.nullable_size("head_dim", defaults.head_channels)? {
        Some(channels) => channels,
        None => fields.shared_width("hidden_size", width, "num_attention_heads", heads)?,
    };
    Ok(Spec {
        key_value_heads: fields
            .nullable_size("num_key_value_heads", defaults.key_value_heads)?
            .unwrap_or(heads),
        channels,
        norm_epsilon: fields.real("rms_norm_eps", 1e-6)?,
        pattern: vec![LayerSpec {
            mask: causal(None, context),
            rotary: Some(rope::rotary(fields, &rope::NAMES, channels, context)?),
        }],
        tied: fields.flag("tie_word_embeddings", false)?,
        ..Spec::decoder(
            fields.size("vocab_size", defaults.vocabulary)?,
            width,
            layers,
            heads,
            feed_forward,
            context,
        )
    })
}

/// A causal mask with a window, which is none where all of the context fits into it.
pub(super) fn causal(window: Option<usize>, context: usize) -> Mask {
    Mask::Causal { window: window.filter(|window| *window < context) }
}

/// Layers of a model that may have windows one by one, at most.
const MOST_LAYERS: usize = 1 << 16;

/// The attention of layers, some of which have the window: those that `layer_types` names or,
/// without it, those from `first` on.
pub(super) fn windows(
    fields: &Fields<'_>,
    spec: &Spec,
    window: Option<usize>,
    first: usize,
) -> Result<Vec<LayerSpec>> {
    let windowed = match fields.texts("layer_types")? {
        Some(types) => layer_types(fields, &types, spec.layers)?,
        None if window.is_none() || first >= spec.layers => vec![false],
        None if first == 0 => vec![true],
        None if spec.layers > MOST_LAYERS => {
            return fields.unsupported("num_hidden_layers", spec.layers, "no model has that many");
        }
        None => (0..spec.layers).map(|layer| layer >= first).collect(),
    };
    if window.is_none() && windowed.contains(&true) {
        return fields.unsupported(
            "layer_types",
            "a list with \"sliding_attention\"",
            "without `sliding_window` there is no window",
        );
    }
    let layer = |is_windowed| LayerSpec {
        mask: causal(window.filter(|_| is_windowed), spec.context),
        ..spec.layer(0)
    };
    let mut pattern: Vec<LayerSpec> = windowed.into_iter().map(layer).collect();
    if pattern.iter().all(|layer| *layer == pattern[0]) {
        pattern.truncate(1);
    }
    Ok(pattern)
}

/// Which of the layers that `layer_types` lists have the window.
fn layer_types(fields: &Fields<'_>, types: &[&str], layers: usize) -> Result<Vec<bool>> {
    let known = ["full_attention", "sliding_attention"];
    if let Some(other) = types.iter().find(|kind| !known.contains(kind)) {
        return fields.unsupported(
            "layer_types",
            format_args!("a list with {other:?}"),
            "attention is, in full or sliding",
        );
    }
    if types.len() != layers {
        let value = format!("a list of {}, not of `num_hidden_layers`, {layers}", types.len());
        return fields.unsupported("layer_types", value, "each layer has one type");
    }
    Ok(types.iter().map(|kind| *kind == "sliding_attention").collect())
}

/// The configuration of a model made here.
pub(super) fn config(spec: &Spec, special: SpecialTokens) -> Map<String, Value> {
    let theta = spec.layer(0).rotary.map(|rotary| rotary.theta);
    let config = json!({
        "model_type": FAMILY.model_type,
        "vocab_size": spec.vocabulary,
        "hidden_size": spec.width,
        "intermediate_size": spec.feed_forward_width,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.query_heads,
        "num_key_value_heads": spec.key_value_heads,
        "head_dim": spec.channels,
        "hidden_act": "silu",
        "max_position_embeddings": spec.context,
        "rms_norm_eps": spec.norm_epsilon,
        "rope_theta": theta,
        "tie_word_embeddings": spec.tied,
        "attention_bias": spec.query_key_value_bias,
        "mlp_bias": spec.feed_forward_bias,
        "attention_dropout": 0.0,
        "bos_token_id": special.bos,
        "eos_token_id": special.eos,
        "pad_token_id": special.pad,
    });
    match config {
        Value::Object(map) => map,
        _ => unreachable!("it is an object"),
    }
}

/// The names that relatives share; heads of theirs may have norms.
pub(super) fn stored(_: &Origin, _: &Spec, slot: &Slot) -> Stored {
    let name = match slot.role {
        Role::Embedding => "model.embed_tokens",
        Role::FinalNorm => "model.norm",
        Role::LanguageHead => "lm_head",
        Role::Scalar => "score",
        Role::AttentionNorm => "input_layernorm",
        Role::Query => "self_attn.q_proj",
        Role::Key => "self_attn.k_proj",
        Role::Value => "self_attn.v_proj",
        Role::QueryNorm => "self_attn.q_norm",
        Role::KeyNorm => "self_attn.k_norm",
        Role::Output => "self_attn.o_proj",
        Role::FeedForwardNorm => "post_attention_layernorm",
        Role::Gate => "mlp.gate_proj",
        Role::Up => "mlp.up_proj",
        Role::Down => "mlp.down_proj",
        role => unreachable!("a model of this family has no {role:?}"),
    };
    let layer = slot.layer.map_or_else(String::new, |layer| format!("model.layers.{layer}."));
    Stored { name: format!("{layer}{name}.{}", ending(slot)), form: Form::WHOLE }
}

/// Early checkpoints carry the rotary frequencies, which follow from `rope_theta`.
pub(super) fn ignored(tensor: &str) -> bool {
    tensor.ends_with(".rotary_emb.inv_freq")
}
