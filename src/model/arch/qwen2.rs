//! The Qwen2 family (Yang et al. 2024), which also covers Qwen2.5, in the Hugging Face layout:
//! LLaMA's, with biases on queries, keys and values, and a window that is mostly switched off.

use super::super::params::HeadKind;
use super::super::spec::{LayerSpec, Spec};
use super::fields::Fields;
use super::{Family, SpecialTokens, llama};
use crate::error::Result;

pub(super) static FAMILY: Family = Family {
    model_type: "qwen2",
    architectures: &[
        ("Qwen2ForCausalLM", HeadKind::Language),
        ("Qwen2ForSequenceClassification", HeadKind::Reward),
        ("Qwen2Model", HeadKind::Language),
    ],
    trunk: "model.",
    aliases: &[],
    windows: true,
    special: SpecialTokens::NONE,
    keys: llama::KEYS,
    read,
    stored: llama::stored,
    ignored: llama::ignored,
};

/// Sizes of a configuration that does not give them.
pub(super) const DEFAULTS: llama::Defaults = llama::Defaults {
    vocabulary: 151_936,
    width: 4096,
    feed_forward: 22_016,
    key_value_heads: Some(32),
    head_channels: None,
    context: 32_768,
};

fn read(fields: &Fields<'_>) -> Result<Spec> {
    let spec = llama::decoder(fields, DEFAULTS)?;
    Ok(Spec { query_key_value_bias: true, pattern: pattern(fields, &spec)?, ..spec })
}

/// The attention of layers: with a window if `use_sliding_window` says so, in those layers that
/// `layer_types` names or, without it, in those from `max_window_layers` on.
pub(super) fn pattern(fields: &Fields<'_>, spec: &Spec) -> Result<Vec<LayerSpec>> {
    let is_used = fields.flag("use_sliding_window", false)?;
    let window = fields.nullable_size("sliding_window", Some(4096))?.filter(|_| is_used);
    llama::windows(fields, spec, window, fields.size("max_window_layers", 28)?)
}
