//! The Qwen2 family (Yang et al. 2024), which also covers Qwen2.5, in the Hugging Face layout:
//! LLaMA's, with biases on queries, keys and values, and a window that is mostly switched off.

use super::super::params::HeadKind;
use super::super::spec::{Mask, Spec};
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
    Ok(Spec { query_key_value_bias: true, mask: mask(fields, &spec)?, ..spec })
}

/// The mask: a window where `use_sliding_window` says so and `layer_types` or, without it,
/// `max_window_layers` does not take it from any layer. One that only some layers have is refused.
pub(super) fn mask(fields: &Fields<'_>, spec: &Spec) -> Result<Mask> {
    let is_used = fields.flag("use_sliding_window", false)?;
    let window = fields.nullable_size("sliding_window", Some(4096))?.filter(|_| is_used);
    let full = fields.size("max_window_layers", 28)?;
    llama::mask(
        fields,
        spec,
        window,
        ("max_window_layers", window.map_or(0, |_| spec.layers.saturating_sub(full))),
    )
}
