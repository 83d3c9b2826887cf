//! The GPT-2 family (Radford et al. 2019) in the Hugging Face layout: linear layers are on their
//! side, queries, keys and values beside one another.

use super::super::form::Rows;
use super::super::params::{HeadKind, Role, Slot};
use super::super::spec::{FeedForward, LayerSpec, Mask, Norm, Spec, Wiring};
use super::fields::Fields;
use super::{Family, Form, Origin, SpecialTokens, Stored, ending};
use crate::error::Result;

pub(super) static FAMILY: Family = Family {
    model_type: "gpt2",
    architectures: &[
        ("GPT2LMHeadModel", HeadKind::Language),
        ("GPT2ForSequenceClassification", HeadKind::Reward),
        ("GPT2Model", HeadKind::Language),
    ],
    trunk: "transformer.",
    aliases: &[],
    windows: false,
    special: SpecialTokens { bos: Some(50_256), eos: Some(50_256), pad: None },
    keys: &[
        ("width", "n_embd"),
        ("layers", "n_layer"),
        ("query_heads", "n_head"),
        ("feed_forward_width", "n_inner"),
        ("context", "n_positions"),
        ("norm_epsilon", "layer_norm_epsilon"),
    ],
    read,
    stored,
    ignored,
};

fn read(fields: &Fields<'_>) -> Result<Spec> {
    fields.only("scale_attn_weights", true)?;
    fields.only("scale_attn_by_inverse_layer_idx", false)?;
    fields.only("reorder_and_upcast_attn", false)?;
    // Each size has a second name, which all families share.
    let size = |key: &str, shared: &str, default| fields.size_of_two(key, shared, default);
    let width = size("n_embd", "hidden_size", 768)?;
    let heads = size("n_head", "num_attention_heads", 12)?;
    Ok(Spec {
        vocabulary: fields.size("vocab_size", 50_257)?,
        width,
        embedding_width: width,
        layers: size("n_layer", "num_hidden_layers", 12)?,
        query_heads: heads,
        key_value_heads: heads,
        channels: fields.shared_width("n_embd", width, "n_head", heads)?,
        feed_forward_width: fields
            .nullable_size("n_inner", None)?
            .unwrap_or(width.saturating_mul(4)),
        context: size("n_positions", "max_position_embeddings", 1024)?,
        pattern: vec![LayerSpec { mask: Mask::Causal { window: None }, rotary: None }],
        learned_positions: true,
        wiring: Wiring::Pre,
        norm: Norm::Layer,
        norm_epsilon: fields.real("layer_norm_epsilon", 1e-5)?,
        query_key_norm: false,
        feed_forward: FeedForward::Plain(fields.activation("activation_function", "gelu_new")?),
        query_key_value_bias: true,
        output_bias: true,
        feed_forward_bias: true,
        token_types: 0,
        embedding_norm: false,
        final_norm: true,
        tied: fields.flag("tie_word_embeddings", true)?,
        labels: 0,
    })
}

fn stored(_: &Origin, _: &Spec, slot: &Slot) -> Stored {
    let fused = |index| Rows::Part { index, of: 3 };
    let (name, rows) = match slot.role {
        Role::Embedding => ("transformer.wte", Rows::All),
        Role::Positions => ("transformer.wpe", Rows::All),
        Role::FinalNorm => ("transformer.ln_f", Rows::All),
        Role::LanguageHead => ("lm_head", Rows::All),
        Role::Scalar => ("score", Rows::All),
        Role::AttentionNorm => ("ln_1", Rows::All),
        Role::Query => ("attn.c_attn", fused(0)),
        Role::Key => ("attn.c_attn", fused(1)),
        Role::Value => ("attn.c_attn", fused(2)),
        Role::Output => ("attn.c_proj", Rows::All),
        Role::FeedForwardNorm => ("ln_2", Rows::All),
        Role::Up => ("mlp.c_fc", Rows::All),
        Role::Down => ("mlp.c_proj", Rows::All),
        role => unreachable!("a model of this family has no {role:?}"),
    };
    let transposed = slot.layer.is_some() && slot.shape.len() == 2;
    let layer = slot.layer.map_or_else(String::new, |layer| format!("transformer.h.{layer}."));
    Stored { name: format!("{layer}{name}.{}", ending(slot)), form: Form { rows, transposed } }
}

/// Causal masks, which early checkpoints carry.
fn ignored(tensor: &str) -> bool {
    tensor.ends_with(".attn.bias") || tensor.ends_with(".attn.masked_bias")
}
