//! The LLaMA family (Touvron et al. 2023) in the Hugging Face layout: `LlamaForCausalLM`, and `LlamaForSequenceClassification` with one
//! label as a reward model.

use serde_json::{Map, Value, json};

use crate::error::Result;

use super::super::params::{Role, Slot, Top};
use super::super::spec::{Position, Rotary, Scaling, Spec};
use super::{Family, Fields, Form, SpecialTokens, Stored};

pub(super) static FAMILY: Family = Family { model_type: "llama", read, architecture, stored, ignored };

const LANGUAGE: &str = "LlamaForCausalLM";
const REWARD: &str = "LlamaForSequenceClassification";

/// Absent fields have the defaults of transformers' `LlamaConfig`, but for the sizes that no model shares.
fn read(fields: &Fields<'_>) -> Result<(Spec, Top)> {
    let width = fields.required("hidden_size")?;
    let query_heads = fields.required("num_attention_heads")?;
    match fields.text("hidden_act")?.unwrap_or("silu") {
        "silu" | "swish" => {}
        other => return fields.unsupported("hidden_act", format_args!("{other:?}"), "only \"silu\" is"),
    }
    if fields.flag("mlp_bias")?.unwrap_or(false) {
        return fields.unsupported("mlp_bias", true, "only a feed-forward without biases is");
    }
    let channels = match fields.size("head_dim")? {
        Some(channels) => channels,
        None if query_heads > 0 && !width.is_multiple_of(query_heads) => {
            let value = format!("{width}, not a multiple of `num_attention_heads`, {query_heads}");
            return fields.unsupported("hidden_size", value, "without `head_dim`, heads share the width evenly");
        }
        None => width / query_heads.max(1),
    };
    let bias = fields.flag("attention_bias")?.unwrap_or(false);
    let context = fields.size("max_position_embeddings")?.unwrap_or(2048);
    let spec = Spec {
        embedding_width: width,
        key_value_heads: fields.size("num_key_value_heads")?.unwrap_or(query_heads),
        channels,
        norm_epsilon: fields.real("rms_norm_eps")?.unwrap_or(1e-6),
        position: Position::Rotary(Rotary { theta: rotary_theta(fields)?, channels, scaling: Scaling::None }),
        tied: fields.flag("tie_word_embeddings")?.unwrap_or(false),
        query_key_value_bias: bias,
        output_bias: bias,
        ..Spec::decoder(
            fields.required("vocab_size")?,
            width,
            fields.required("num_hidden_layers")?,
            query_heads,
            fields.required("intermediate_size")?,
            context,
        )
    };
    spec.check(fields.place, key)?;
    Ok((spec, top(fields)?))
}

fn architecture(top: Top) -> &'static str {
    if top == Top::Reward { REWARD } else { LANGUAGE }
}

/// What a field of [`Spec`] is called here.
fn key(field: &'static str) -> &'static str {
    match field {
        "vocabulary" => "vocab_size",
        "width" => "hidden_size",
        "layers" => "num_hidden_layers",
        "query_heads" => "num_attention_heads",
        "key_value_heads" => "num_key_value_heads",
        "channels" => "head_dim",
        "feed_forward" => "intermediate_size",
        "context" => "max_position_embeddings",
        "norm_epsilon" => "rms_norm_eps",
        "rotary_theta" => "rope_theta",
        other => other,
    }
}

/// Up to transformers 4 `rope_theta` and `rope_scaling`; from 5 on both in `rope_parameters`.
fn rotary_theta(fields: &Fields<'_>) -> Result<f64> {
    let mut theta = fields.real("rope_theta")?;
    for name in ["rope_scaling", "rope_parameters"] {
        if let Some(rope) = fields.object(name)? {
            let kind = rope.text("rope_type")?.or(rope.text("type")?).unwrap_or("default");
            if kind != "default" {
                return fields.unsupported(name, format_args!("of type {kind:?}"), "only plain rotary positions are");
            }
            theta = rope.real("rope_theta")?.or(theta);
        }
    }
    Ok(theta.unwrap_or(10_000.0))
}

/// The head, by the first of `architectures`.
fn top(fields: &Fields<'_>) -> Result<Top> {
    let architecture = fields.get("architectures", "a list of names", |value| match value {
        Value::Array(names) => names.first().map_or(Some(LANGUAGE), Value::as_str),
        _ => None,
    })?;
    match architecture.unwrap_or(LANGUAGE) {
        LANGUAGE => Ok(Top::Language),
        REWARD => {
            let named = fields.object("id2label")?.map(|labels| labels.map.len());
            match fields.size("num_labels")?.or(named).unwrap_or(2) {
                1 => Ok(Top::Reward),
                labels => fields.unsupported("num_labels", labels, "a reward model has one"),
            }
        }
        other => fields.unsupported("architectures", format_args!("{other:?}"), &format!("{LANGUAGE} and {REWARD} are")),
    }
}

/// The configuration of a model made here.
pub(super) fn config(spec: &Spec, special: SpecialTokens) -> Map<String, Value> {
    let theta = spec.rotary().map(|rotary| rotary.theta);
    let config = json!({
        "model_type": FAMILY.model_type,
        "vocab_size": spec.vocabulary,
        "hidden_size": spec.width,
        "intermediate_size": spec.feed_forward,
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

fn stored(_: &Spec, slot: &Slot) -> Stored {
    let name = match slot.role {
        Role::Embedding => "model.embed_tokens",
        Role::FinalNorm => "model.norm",
        Role::LanguageHead => "lm_head",
        Role::Scalar => "score",
        Role::AttentionNorm => "input_layernorm",
        Role::Query => "self_attn.q_proj",
        Role::Key => "self_attn.k_proj",
        Role::Value => "self_attn.v_proj",
        Role::Output => "self_attn.o_proj",
        Role::FeedForwardNorm => "post_attention_layernorm",
        Role::Gate => "mlp.gate_proj",
        Role::Up => "mlp.up_proj",
        Role::Down => "mlp.down_proj",
        role => unreachable!("a model of this family has no {role:?}"),
    };
    let layer = slot.layer.map_or_else(String::new, |layer| format!("model.layers.{layer}."));
    Stored { name: format!("{layer}{name}.{}", if slot.bias { "bias" } else { "weight" }), form: Form::Whole }
}

/// Early checkpoints of the family carry the rotary frequencies, which follow from `rope_theta`.
fn ignored(tensor: &str) -> bool {
    tensor.ends_with(".rotary_emb.inv_freq")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::error::{Kind, kind_of};

    fn config(changes: &[(&str, Value)]) -> String {
        let mut config = json!({
            "model_type": "llama", "vocab_size": 10, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1,
            "num_attention_heads": 2, "unknown_to_us": 1,
        });
        for (key, value) in changes {
            config[key] = value.clone();
        }
        config.to_string()
    }

    #[test]
    fn absent_fields_have_the_familys_defaults() {
        let found = super::super::read(&config(&[]), "config.json").unwrap();
        assert_eq!((found.spec.key_value_heads, found.spec.channels, found.spec.context), (2, 4, 2048));
        assert_eq!((found.spec.norm_epsilon, found.spec.rotary_theta, found.spec.tied), (1e-6, 1e4, false));
        assert_eq!((found.top, found.special), (Top::Language, SpecialTokens::default()));
    }

    #[test]
    fn both_spellings_of_the_rotary_base_are_read() {
        let theta = |changes: &[(&str, Value)]| super::super::read(&config(changes), "config.json").unwrap().spec.rotary_theta;
        assert_eq!(theta(&[("rope_theta", json!(5e5)), ("rope_scaling", Value::Null)]), 5e5);
        assert_eq!(theta(&[("rope_parameters", json!({"rope_type": "default", "rope_theta": 1e5}))]), 1e5);
    }

    #[test]
    fn what_cannot_be_run_is_refused_by_key_and_value() {
        let cases: &[(&str, Value, &str)] = &[
            ("model_type", json!("mamba"), "mamba"),
            ("hidden_act", json!("gelu"), "gelu"),
            ("rope_scaling", json!({"type": "linear", "factor": 2.0}), "linear"),
            ("rope_parameters", json!({"rope_type": "llama3", "rope_theta": 1.0}), "llama3"),
            ("mlp_bias", json!(true), "true"),
            ("architectures", json!(["LlamaForTokenClassification"]), "LlamaForTokenClassification"),
            ("hidden_size", json!("8"), "\"8\""),
            ("hidden_size", json!(9), "9"),
            ("num_key_value_heads", json!(3), "3"),
            ("num_hidden_layers", json!(0), "0"),
        ];
        for (name, value, shown) in cases {
            let error = super::super::read(&config(&[(name, value.clone())]), "some/config.json").unwrap_err();
            let message = error.to_string();
            assert_eq!(kind_of(&error), Kind::User);
            assert!(["some/config.json", *name, *shown].iter().all(|word| message.contains(word)), "{message}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut found = super::super::read(&config(&[("head_dim", json!(6)), ("eos_token_id", json!([7, 9]))]), "config.json").unwrap();
        found.top = Top::Reward;
        found.special.pad = Some(3);
        assert_eq!(super::super::read(&write(&found), "config.json").unwrap(), found);
        assert_eq!(found.special.eos, Some(7));
    }
}
