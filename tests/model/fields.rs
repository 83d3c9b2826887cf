//! Fields of a `config.json` that no family reads: which are harmless, which are named, and that no
//! published configuration is refused.

use serde_json::{Value, json};

use posttrain::error::{Kind, kind_of};

use super::configuration::{FAMILIES, described, read};

#[test]
fn a_field_is_read_known_or_named() {
    let unknown = |family: &str, changes: Value| described(family, changes).unknown;
    for family in FAMILIES {
        let nothing = json!({"scale": null, "a": false, "b": 0, "c": [], "d": {}, "e": ""});
        assert_eq!(unknown(family, nothing), ["a", "b", "c", "d", "e", "scale"], "{family}");
        for (key, value) in [
            ("scale", json!(0.5)),
            ("use_norm", json!(true)),
            ("norm_kind", json!("group")),
            ("layers", json!([1])),
            ("shape", json!({"a": 1})),
        ] {
            let error = read(family, json!({ key: value })).expect_err(key);
            let message = error.to_string();
            assert_eq!(kind_of(&error), Kind::User, "{message}");
            let words = ["some/config.json", "POSTTRAIN_HARMLESS_FIELDS", key];
            assert!(words.iter().all(|word| message.contains(word)), "{family}: {message}");
            assert!(message.contains(&format!("`{key}` is {value}")), "{family}: {message}");
        }
    }
    // All at once.
    let message = read("llama", json!({"b": 2, "a": 1})).unwrap_err().to_string();
    assert!(message.contains("`a` is 1, `b` is 2"), "{message}");
    assert!(message.contains("POSTTRAIN_HARMLESS_FIELDS=a,b"), "{message}");
}

#[test]
fn a_field_of_the_positions_that_their_type_does_not_read_is_refused() {
    let of = |object: Value| read("llama", json!({"rope_scaling": object}));
    for (object, key) in [
        (json!({"factor": 8.0}), "factor"),
        (json!({"rope_type": "default", "factor": 8.0}), "factor"),
        (json!({"type": "linear", "factor": 2.0, "low_freq_factor": 4.0}), "low_freq_factor"),
        (json!({"type": "linear", "factor": 2.0, "attention_factor": 0.5}), "attention_factor"),
        (json!({"type": "linear", "factor": 2.0, "beta": 7}), "beta"),
    ] {
        let message = of(object).expect_err(key).to_string();
        assert!(message.contains("rope_scaling") && message.contains(key), "{message}");
    }
    of(json!({"rope_type": "default", "factor": 1.0, "mscale": 1.0, "beta": null})).unwrap();
    of(json!({"rope_type": "linear", "type": "linear", "factor": 2.0})).unwrap();
}

#[test]
fn two_names_of_one_size_agree() {
    let two =
        |other: usize| read("gpt2", json!({"n_positions": 5, "max_position_embeddings": other}));
    assert_eq!(two(5).unwrap().spec.context, 5);
    let message = two(6).unwrap_err().to_string();
    assert!(
        message.contains("`max_position_embeddings` is 6, and `n_positions` is 5"),
        "{message}"
    );
}

/// Fields and values of files that are published for each family, and what transformers 5.24 writes
/// for it, beside sizes.
fn published() -> Vec<(&'static str, Value)> {
    let generation: Value = serde_json::from_str(
        r#"{
        "_name_or_path": "x", "bad_words_ids": null, "begin_suppress_tokens": null,
        "chunk_size_feed_forward": 0, "cross_attention_hidden_size": null,
        "decoder_start_token_id": null, "diversity_penalty": 0.0, "do_sample": true,
        "early_stopping": false, "encoder_no_repeat_ngram_size": 0,
        "exponential_decay_length_penalty": null, "finetuning_task": null,
        "forced_bos_token_id": null, "forced_eos_token_id": null, "length_penalty": 1.0,
        "max_length": 50, "min_length": 0, "no_repeat_ngram_size": 0, "num_beam_groups": 1,
        "num_beams": 1, "num_return_sequences": 1, "output_attentions": false,
        "output_hidden_states": false, "output_scores": false, "prefix": null,
        "problem_type": null, "pruned_heads": {}, "remove_invalid_values": false,
        "repetition_penalty": 1.0, "return_dict": true, "return_dict_in_generate": false,
        "sep_token_id": null, "suppress_tokens": null, "temperature": 0.6,
        "tf_legacy_loss": false, "tie_encoder_decoder": false, "tokenizer_class": null,
        "top_k": 50, "top_p": 0.9, "torchscript": false, "transformers_version": "4.40.0",
        "typical_p": 1.0, "use_bfloat16": false, "add_cross_attention": false,
        "is_encoder_decoder": false, "is_decoder": false, "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
        "label2id": {"LABEL_0": 0, "LABEL_1": 1}, "dtype": "float32"
    }"#,
    )
    .unwrap();
    let mut all: Vec<(&str, Value)> =
        FAMILIES.iter().map(|family| (*family, generation.clone())).collect();
    all.extend([
        (
            "llama",
            json!({"_name_or_path": "x", "attention_bias": false, "attention_dropout": 0.0,
            "initializer_range": 0.02, "is_llama_config": true, "mlp_bias": false,
            "pretraining_tp": 1, "rope_interleaved": false, "rope_scaling": null,
            "rope_theta": 100_000, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
            "transformers.js_config": {"kv_cache_dtype": {"fp16": "float16"}},
            "use_cache": true}),
        ),
        (
            "llama",
            json!({"rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0,
            "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
            "rope_type": "llama3"}, "head_dim": 64, "eos_token_id": [1, 2, 3],
            "max_position_embeddings": 131_072, "unsloth_fixed": true,
            "unsloth_version": "2025.1"}),
        ),
        (
            "llama",
            json!({"max_sequence_length": 2048, "pad_token_id": 0,
            "rope_scaling": {"type": "linear", "factor": 4.0}, "sliding_window": 4096,
            "use_sliding_window": false, "max_window_layers": 21}),
        ),
        (
            "llama",
            json!({"rope_parameters": {"rope_theta": 1e4, "rope_type": "default"},
            "pretraining_tp": 1, "initializer_range": 0.02, "use_cache": true}),
        ),
        (
            "mistral",
            json!({"sliding_window": null, "attention_dropout": 0.0, "head_dim": 128,
            "rope_theta": 1e6, "initializer_range": 0.02, "attention_bias": false,
            "quantization_config": null, "layer_types": null}),
        ),
        (
            "qwen2",
            json!({"max_window_layers": 21, "use_sliding_window": false,
            "sliding_window": 32_768, "use_mrope": false, "rope_theta": 1e6,
            "attention_dropout": 0.0, "layer_types": null}),
        ),
        (
            "qwen3",
            json!({"attention_bias": false, "head_dim": 128, "max_window_layers": 36,
            "rope_scaling": null, "sliding_window": null, "use_sliding_window": false}),
        ),
        (
            "opt",
            json!({"_remove_final_layer_norm": false, "activation_dropout": 0.0,
            "attention_dropout": 0.0, "dropout": 0.1, "init_std": 0.02, "layerdrop": 0.0,
            "output_projection": true, "prefix": "</s>", "enable_bias": true,
            "layer_norm_elementwise_affine": true, "use_cache": true}),
        ),
        (
            "opt",
            json!({"learned_embeddings": true, "scale_embeddings": false,
            "activation_function": "gelu"}),
        ),
        (
            "gpt2",
            json!({"_num_labels": 1, "attn_pdrop": 0.1, "embd_pdrop": 0.1, "n_ctx": 1024,
            "resid_pdrop": 0.1, "summary_activation": null, "summary_first_dropout": 0.1,
            "summary_proj_to_labels": true, "summary_type": "cls_index",
            "summary_use_proj": true, "predict_special_tokens": true, "output_past": true,
            "gradient_checkpointing": false, "n_positions": 1024, "n_inner": null,
            "scale_attn_weights": true, "task_specific_params": {"text-generation":
            {"do_sample": true, "max_length": 50}}, "initializer_range": 0.02}),
        ),
        (
            "gpt_neox",
            json!({"attention_probs_dropout_prob": 0, "hidden_dropout_prob": 0,
            "attention_dropout": 0.0, "hidden_dropout": 0.0, "classifier_dropout": 0.1,
            "rotary_emb_base": 10_000, "rotary_pct": 0.25, "rope_theta": 10_000,
            "partial_rotary_factor": 0.25, "custom_pipelines": {"text-generation": {}},
            "use_parallel_residual": true, "rope_scaling": null}),
        ),
        (
            "bert",
            json!({"attention_probs_dropout_prob": 0.1, "classifier_dropout": null,
            "directionality": "bidi", "gradient_checkpointing": false,
            "hidden_dropout_prob": 0.1, "initializer_range": 0.02, "output_past": true,
            "pooler_fc_size": 768, "pooler_num_attention_heads": 12, "pooler_num_fc_layers": 3,
            "pooler_size_per_head": 128, "pooler_type": "first_token_transform",
            "position_embedding_type": "absolute", "tie_word_embeddings": true,
            "use_cache": true}),
        ),
        (
            "bert",
            json!({"sentence_transformers": {"activation_fn": "Sigmoid",
            "version": "4.1.0"}, "sbert_ce_default_activation_function": "Identity",
            "num_labels": 1}),
        ),
        (
            "roberta",
            json!({"attention_probs_dropout_prob": 0.1, "output_past": true,
            "type_vocab_size": 1, "max_position_embeddings": 514, "use_cache": true,
            "tie_word_embeddings": true}),
        ),
    ]);
    all
}

#[test]
fn no_published_configuration_is_refused() {
    for (family, changes) in published() {
        let found = read(family, changes.clone());
        let found = found.unwrap_or_else(|error| panic!("{family}: {changes}: {error:#}"));
        assert_eq!(found.unknown, [""; 0], "{family}: {changes}");
    }
}
