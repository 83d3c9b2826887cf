//! The Mistral family (Jiang et al. 2023) in the Hugging Face layout: LLaMA's, with a window.

use super::super::params::HeadKind;
use super::super::spec::Spec;
use super::fields::Fields;
use super::{Family, SpecialTokens, llama};
use crate::error::Result;

pub(super) static FAMILY: Family = Family {
    model_type: "mistral",
    architectures: &[
        ("MistralForCausalLM", HeadKind::Language),
        ("MistralForSequenceClassification", HeadKind::Reward),
        ("MistralModel", HeadKind::Language),
    ],
    trunk: "model.",
    aliases: &[],
    windows: true,
    special: SpecialTokens { bos: Some(1), eos: Some(2), pad: None },
    keys: llama::KEYS,
    read,
    stored: llama::stored,
    ignored: llama::ignored,
};

fn read(fields: &Fields<'_>) -> Result<Spec> {
    let spec = llama::decoder(
        fields,
        llama::Defaults {
            vocabulary: 32_000,
            width: 4096,
            feed_forward: 14_336,
            key_value_heads: Some(8),
            head_channels: None,
            context: 131_072,
        },
    )?;
    let window = fields.nullable_size("sliding_window", Some(4096))?;
    let pattern = llama::windows(fields, &spec, window, 0)?;
    Ok(Spec { pattern, ..spec })
}
