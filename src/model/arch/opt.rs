//! The OPT family (Zhang et al. 2022) in the Hugging Face layout. The 350M model alone has its
//! norms behind the residual sums and embeddings that are narrower than the rest.

use super::super::form::Rows;
use super::super::params::{HeadKind, Role, Slot};
use super::super::spec::{FeedForward, LayerSpec, Mask, Norm, Spec, Wiring};
use super::fields::Fields;
use super::{Family, Form, Origin, SpecialTokens, Stored, ending};
use crate::error::Result;

pub(super) static FAMILY: Family = Family {
    model_type: "opt",
    architectures: &[
        ("OPTForCausalLM", HeadKind::Language),
        ("OPTForSequenceClassification", HeadKind::Reward),
        ("OPTModel", HeadKind::Language),
    ],
    trunk: "model.",
    aliases: &[],
    windows: false,
    special: SpecialTokens { bos: Some(2), eos: Some(2), pad: Some(1) },
    keys: &[("embedding_width", "word_embed_proj_dim"), ("feed_forward_width", "ffn_dim")],
    read,
    stored,
    ignored,
};

/// Rows of the table of positions in front of the first position's.
const UNREAD_POSITIONS: usize = 2;

fn read(fields: &Fields<'_>) -> Result<Spec> {
    fields.only("layer_norm_elementwise_affine", true)?;
    let width = fields.size("hidden_size", 768)?;
    let heads = fields.size("num_attention_heads", 12)?;
    let bias = fields.flag("enable_bias", true)?;
    let pre = fields.flag("do_layer_norm_before", true)?;
    Ok(Spec {
        vocabulary: fields.size("vocab_size", 50_272)?,
        width,
        embedding_width: fields.nullable_size("word_embed_proj_dim", None)?.unwrap_or(width),
        layers: fields.size("num_hidden_layers", 12)?,
        query_heads: heads,
        key_value_heads: heads,
        channels: fields.shared_width("hidden_size", width, "num_attention_heads", heads)?,
        feed_forward_width: fields.size("ffn_dim", 3072)?,
        context: fields.size("max_position_embeddings", 2048)?,
        pattern: vec![LayerSpec { mask: Mask::Causal { window: None }, rotary: None }],
        learned_positions: true,
        wiring: if pre { Wiring::Pre } else { Wiring::Post },
        norm: Norm::Layer,
        norm_epsilon: 1e-5,
        query_key_norm: false,
        feed_forward: FeedForward::Plain(fields.activation("activation_function", "relu")?),
        query_key_value_bias: bias,
        output_bias: bias,
        feed_forward_bias: bias,
        token_types: 0,
        embedding_norm: false,
        final_norm: pre && !fields.flag("_remove_final_layer_norm", false)?,
        tied: fields.flag("tie_word_embeddings", true)?,
        labels: 0,
    })
}

fn stored(_: &Origin, _: &Spec, slot: &Slot) -> Stored {
    let name = match slot.role {
        Role::Embedding => "model.decoder.embed_tokens",
        Role::Positions => "model.decoder.embed_positions",
        Role::ProjectIn => "model.decoder.project_in",
        Role::ProjectOut => "model.decoder.project_out",
        Role::FinalNorm => "model.decoder.final_layer_norm",
        Role::LanguageHead => "lm_head",
        Role::Scalar => "score",
        Role::AttentionNorm => "self_attn_layer_norm",
        Role::Query => "self_attn.q_proj",
        Role::Key => "self_attn.k_proj",
        Role::Value => "self_attn.v_proj",
        Role::Output => "self_attn.out_proj",
        Role::FeedForwardNorm => "final_layer_norm",
        Role::Up => "fc1",
        Role::Down => "fc2",
        role => unreachable!("a model of this family has no {role:?}"),
    };
    let form = match slot.role {
        Role::Positions => Form { rows: Rows::After(UNREAD_POSITIONS), transposed: false },
        _ => Form::WHOLE,
    };
    let layer =
        slot.layer.map_or_else(String::new, |layer| format!("model.decoder.layers.{layer}."));
    Stored { name: format!("{layer}{name}.{}", ending(slot)), form }
}

/// A mark of the program that the first checkpoints were trained with.
fn ignored(tensor: &str) -> bool {
    tensor == "decoder.version"
}
