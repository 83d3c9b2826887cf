//! Fields of a `config.json` that no family reads: which change nothing, which are refused. Uses
//! no family.
//!
//! Every field of a file is one of these:
//! 1. The family reads it ([`Fields`] notes which).
//! 2. It is in [`HARMLESS`]: it changes no number that a model computes here.
//! 3. It is in [`FIXED`], [`REFUSED`] or [`FACTORS`]: the families here have one of its values, and
//!    any other is refused.
//! 4. It is unknown. Without a meaning (`null`, `false`, 0, empty) it is named in a warning; with
//!    one it is refused, unless [`limits::harmless_fields`] names it.

use serde_json::Value;

use super::fields::{Fields, says_nothing};
use crate::error::{Result, user};
use crate::limits;

/// Fields that change no number that is computed here.
const HARMLESS: &[&str] = &[
    // Where a file comes from, and what else reads it.
    "_auto_class",
    "_commit_hash",
    "_name_or_path",
    "auto_map",
    "custom_pipelines",
    "dtype",
    "finetuning_task",
    "is_llama_config",
    "language",
    "license",
    "model_name",
    "name_or_path",
    "sbert_ce_default_activation_function",
    "sentence_transformers",
    "task_specific_params",
    "tokenizer_class",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    "unsloth_fixed",
    "unsloth_version",
    // Which of several equal ways computes it, and what is kept of it.
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_attn_implementation_internal",
    "_experts_implementation",
    "_flash_attn_2_enabled",
    "_gradient_checkpointing",
    "attn_implementation",
    "cache_implementation",
    "chunk_size_feed_forward",
    "flash_attention",
    "gradient_checkpointing",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "output_scores",
    "pretraining_tp",
    "return_dict",
    "return_dict_in_generate",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "torchscript",
    "use_bfloat16",
    "use_cache",
    "use_flash_attention",
    "use_flash_attention_2",
    "use_flash_attn",
    // Where training begins, and dropout: training has none here.
    "activation_dropout",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_pdrop",
    "classifier_dropout",
    "dropout",
    "embd_pdrop",
    "hidden_dropout",
    "hidden_dropout_prob",
    "init_std",
    "initializer_factor",
    "initializer_range",
    "layerdrop",
    "resid_pdrop",
    "summary_first_dropout",
    // Heads: what they are called, and parts of heads that no model here has.
    "_num_labels",
    "id2label",
    "label2id",
    "num_labels",
    "pooler_fc_size",
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_size_per_head",
    "pooler_type",
    "predict_special_tokens",
    "problem_type",
    "summary_activation",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    // Which tensors there are: a checkpoint with others than the model's is refused by them.
    "attention_bias",
    "mlp_bias",
    "output_projection",
    "tie_word_embeddings",
    // What is said once more: of an encoder, a decoder, the context, or a window that is none
    // without `sliding_window`.
    "directionality",
    "is_decoder",
    "max_sequence_length",
    "max_window_layers",
    "model_max_length",
    "n_ctx",
    "use_sliding_window",
    // How texts are generated: in early files, beside what is computed.
    "bad_words_ids",
    "begin_suppress_tokens",
    "cls_token_id",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "length_penalty",
    "mask_token_id",
    "max_length",
    "max_new_tokens",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "prefix",
    "remove_invalid_values",
    "repetition_penalty",
    "sep_token_id",
    "suppress_tokens",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
    "unk_token_id",
];

/// Fields of which every model here has one value.
const FIXED: &[(&str, bool)] = &[
    ("learned_embeddings", true),
    ("scale_embeddings", false),
    ("rope_interleaved", false),
    ("use_mrope", false),
];

/// Fields of some model of the field that change what is computed and that no family here reads,
/// unless they say nothing.
const REFUSED: &[(&str, &str)] = &[
    ("quantization_config", "weights in F32, F16 or BF16 are"),
    ("compression_config", "weights in F32, F16 or BF16 are"),
    ("attn_logit_softcapping", "logits without a soft cap are"),
    ("final_logit_softcapping", "logits without a soft cap are"),
    ("logits_soft_cap", "logits without a soft cap are"),
    ("query_pre_attn_scalar", "attention scaled by the root of a head's channels is"),
    ("attention_multiplier", "attention scaled by the root of a head's channels is"),
    ("attn_temperature_tuning", "attention scaled by the root of a head's channels is"),
    ("use_mup", "activations that are not scaled are"),
    ("scale_depth", "activations that are not scaled are"),
    ("dim_model_base", "activations that are not scaled are"),
    ("clip_qkv", "queries, keys and values that are not clipped are"),
    ("qkv_clip", "queries, keys and values that are not clipped are"),
    ("qk_norm", "queries and keys are normed in the qwen3 family alone"),
    ("use_qk_norm", "queries and keys are normed in the qwen3 family alone"),
    ("qk_layernorm", "queries and keys are normed in the qwen3 family alone"),
    ("alibi", "positions as the family's first models have them are"),
    ("use_alibi", "positions as the family's first models have them are"),
    ("no_rope_layers", "only models whose layers all have the same positions are"),
    ("no_rope_layer_interval", "only models whose layers all have the same positions are"),
    ("rope_local_base_freq", "only models whose layers all have the same positions are"),
    ("attention_chunk_size", "attention to all of the text before, or to a window, is"),
    ("sliding_window_pattern", "only models whose layers are all alike are"),
    ("block_configs", "only models whose layers are all alike are"),
    ("num_kv_shared_layers", "only models whose layers each have keys and values are"),
    ("kv_lora_rank", "only models whose layers each have keys and values are"),
    ("multi_query", "set num_key_value_heads in a family that has it"),
    ("hidden_activation", "the function's name is read from the family's own field"),
    ("num_experts", "only models without experts are"),
    ("num_local_experts", "only models without experts are"),
    ("n_routed_experts", "only models without experts are"),
    ("is_encoder_decoder", "decoders and encoders are, each by itself"),
    ("add_cross_attention", "decoders and encoders are, each by itself"),
    ("cross_attention_hidden_size", "decoders and encoders are, each by itself"),
    ("quantization", "weights in F32, F16 or BF16 are"),
    ("pruned_heads", "only models whose layers are all alike are"),
];

/// Factors of some model of the field that no family here reads, unless they are 1.
const FACTORS: &[&str] = &[
    "embedding_multiplier",
    "residual_multiplier",
    "lm_head_multiplier",
    "mup_width_multiplier",
    "logits_scaling",
    "logit_scale",
    "scale_emb",
];

/// Refuses values of [`FIXED`], [`REFUSED`] and [`FACTORS`] that no family here computes.
///
/// # Errors
/// The user's: there is such a value.
pub(super) fn refuse(fields: &Fields<'_>) -> Result<()> {
    for (key, value) in FIXED {
        if fields.value(key).is_some_and(|said| !said.is_null()) {
            fields.only(key, *value)?;
        }
    }
    for (key, hint) in REFUSED {
        fields.nothing(key, hint)?;
    }
    for key in FACTORS {
        match fields.optional_real(key)? {
            None | Some(1.0) => {}
            Some(factor) => {
                return fields.unsupported(
                    key,
                    factor,
                    "activations and logits that are not scaled are",
                );
            }
        }
    }
    Ok(())
}

/// The names of unknown fields without a meaning, in order. Called once a family has read all of
/// its fields.
///
/// # Errors
/// The user's: unknown fields that have a meaning, each with its value.
pub(super) fn unknown(fields: &Fields<'_>) -> Result<Vec<String>> {
    let accepted = limits::harmless_fields();
    let is_unknown =
        |key: &str| !HARMLESS.contains(&key) && !accepted.iter().any(|name| name == key);
    let (without, with): (Vec<_>, Vec<_>) = fields
        .unread()
        .filter(|(key, _)| is_unknown(key))
        .partition(|(_, value)| says_nothing(value));
    if with.is_empty() {
        return Ok(without.into_iter().map(|(key, _)| key.to_owned()).collect());
    }
    let shown = |value: &Value| {
        let text = value.to_string();
        match text.char_indices().nth(60) {
            Some((end, _)) => format!("{} ...", &text[..end]),
            None => text,
        }
    };
    let all: Vec<String> =
        with.iter().map(|(key, value)| format!("`{key}` is {}", shown(value))).collect();
    let names: Vec<&str> = with.iter().map(|(key, _)| *key).collect();
    Err(user(format!(
        "{}: unknown fields may change what the model computes: {}",
        fields.place,
        all.join(", ")
    ))
    .hint(format!(
        "where they do not, set the environment variable {}={}",
        limits::HARMLESS_FIELDS,
        names.join(",")
    ))
    .into())
}
