//! The GPT-NeoX family (Black et al. 2022), which covers Pythia (Biderman et al. 2023), in the
//! Hugging Face layout: each head's queries, keys and values are together, attention and
//! feed-forward mostly side by side.

use super::super::form::Rows;
use super::super::params::{HeadKind, Role, Slot};
use super::super::spec::{FeedForward, LayerSpec, Mask, Norm, Spec, Wiring};
use super::fields::Fields;
use super::{Family, Form, Origin, SpecialTokens, Stored, ending, rope};
use crate::error::Result;

pub(super) static FAMILY: Family = Family {
    model_type: "gpt_neox",
    architectures: &[
        ("GPTNeoXForCausalLM", HeadKind::Language),
        ("GPTNeoXForSequenceClassification", HeadKind::Reward),
        ("GPTNeoXModel", HeadKind::Language),
    ],
    trunk: "gpt_neox.",
    aliases: &[("embed_out.weight", "lm_head.weight")],
    windows: false,
    special: SpecialTokens { bos: Some(0), eos: Some(2), pad: None },
    keys: &[
        ("norm_epsilon", "layer_norm_eps"),
        ("channels", "rotary_pct"),
        ("rotary_theta", "rotary_emb_base"),
    ],
    read,
    stored,
    ignored,
};

const ROTARY: rope::Names = rope::Names { theta: "rotary_emb_base", share: ("rotary_pct", 0.25) };

fn read(fields: &Fields<'_>) -> Result<Spec> {
    let width = fields.size("hidden_size", 6144)?;
    let heads = fields.size("num_attention_heads", 64)?;
    let channels = fields.shared_width("hidden_size", width, "num_attention_heads", heads)?;
    let context = fields.size("max_position_embeddings", 2048)?;
    let bias = fields.flag("attention_bias", true)?;
    let parallel = fields.flag("use_parallel_residual", true)?;
    Ok(Spec {
        vocabulary: fields.size("vocab_size", 50_432)?,
        width,
        embedding_width: width,
        layers: fields.size("num_hidden_layers", 44)?,
        query_heads: heads,
        key_value_heads: heads,
        channels,
        feed_forward_width: fields.size("intermediate_size", 24_576)?,
        context,
        pattern: vec![LayerSpec {
            mask: Mask::Causal { window: None },
            rotary: Some(rope::rotary(fields, &ROTARY, channels, context)?),
        }],
        learned_positions: false,
        wiring: if parallel { Wiring::Parallel } else { Wiring::Pre },
        norm: Norm::Layer,
        norm_epsilon: fields.real("layer_norm_eps", 1e-5)?,
        query_key_norm: false,
        feed_forward: FeedForward::Plain(fields.activation("hidden_act", "gelu")?),
        query_key_value_bias: bias,
        output_bias: bias,
        feed_forward_bias: true,
        token_types: 0,
        embedding_norm: false,
        final_norm: true,
        tied: fields.flag("tie_word_embeddings", false)?,
        labels: 0,
    })
}

fn stored(_: &Origin, spec: &Spec, slot: &Slot) -> Stored {
    let fused = |index| Rows::Alternating { index, of: 3, group: spec.channels };
    let (name, rows) = match slot.role {
        Role::Embedding => ("gpt_neox.embed_in", Rows::All),
        Role::FinalNorm => ("gpt_neox.final_layer_norm", Rows::All),
        Role::LanguageHead => ("embed_out", Rows::All),
        Role::Scalar => ("score", Rows::All),
        Role::AttentionNorm => ("input_layernorm", Rows::All),
        Role::Query => ("attention.query_key_value", fused(0)),
        Role::Key => ("attention.query_key_value", fused(1)),
        Role::Value => ("attention.query_key_value", fused(2)),
        Role::Output => ("attention.dense", Rows::All),
        Role::FeedForwardNorm => ("post_attention_layernorm", Rows::All),
        Role::Up => ("mlp.dense_h_to_4h", Rows::All),
        Role::Down => ("mlp.dense_4h_to_h", Rows::All),
        role => unreachable!("a model of this family has no {role:?}"),
    };
    let layer = slot.layer.map_or_else(String::new, |layer| format!("gpt_neox.layers.{layer}."));
    Stored {
        name: format!("{layer}{name}.{}", ending(slot)),
        form: Form { rows, transposed: false },
    }
}

/// Causal masks and rotary frequencies, which early checkpoints carry.
fn ignored(tensor: &str) -> bool {
    [".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq"]
        .iter()
        .any(|ending| tensor.ends_with(ending))
}
