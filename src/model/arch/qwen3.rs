//! The Qwen3 family (Yang et al. 2025) in the Hugging Face layout: LLaMA's, with norms of queries
//! and keys.

use super::super::params::HeadKind;
use super::super::spec::Spec;
use super::fields::Fields;
use super::{Family, SpecialTokens, llama, qwen2};
use crate::error::Result;

pub(super) static FAMILY: Family = Family {
    model_type: "qwen3",
    architectures: &[
        ("Qwen3ForCausalLM", HeadKind::Language),
        ("Qwen3ForSequenceClassification", HeadKind::Reward),
        ("Qwen3Model", HeadKind::Language),
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

fn read(fields: &Fields<'_>) -> Result<Spec> {
    let spec =
        llama::decoder(fields, llama::Defaults { head_channels: Some(128), ..qwen2::DEFAULTS })?;
    let bias = fields.flag("attention_bias", false)?;
    let pattern = qwen2::pattern(fields, &spec)?;
    Ok(Spec {
        query_key_norm: true,
        query_key_value_bias: bias,
        output_bias: bias,
        pattern,
        ..spec
    })
}
