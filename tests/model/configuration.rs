//! What a `config.json` says: defaults, the spellings of transformers 4 and 5, and every value that
//! is refused by name.

use serde_json::{Map, Value, json};

use posttrain::backend::{Activation, Mask};
use posttrain::error::{Kind, kind_of};
use posttrain::model::arch::{self, Description, Origin, SpecialTokens};
use posttrain::model::params::HeadKind;
use posttrain::model::spec::{FeedForward, Norm, Rotary, Scaling, Spec, Wiring};

pub(super) const FAMILIES: [&str; 9] =
    ["bert", "gpt2", "gpt_neox", "llama", "mistral", "opt", "qwen2", "qwen3", "roberta"];

pub(super) fn read(model_type: &str, changes: Value) -> posttrain::error::Result<Description> {
    let mut config = json!({"model_type": model_type});
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    arch::read(&config.to_string(), "some/config.json")
}

#[track_caller]
pub(super) fn described(model_type: &str, changes: Value) -> Description {
    read(model_type, changes).unwrap()
}

#[track_caller]
fn spec(model_type: &str, changes: Value) -> Spec {
    described(model_type, changes).spec
}

fn rotary(spec: &Spec) -> Rotary {
    spec.layer(0).rotary.expect("positions are rotary")
}

fn written(origin: &Origin, head: HeadKind) -> Map<String, Value> {
    serde_json::from_str(&arch::write(origin, head)).unwrap()
}

#[test]
fn absent_fields_have_the_defaults_of_the_familys_class() {
    let plain = |context, theta, channels| {
        let rotary = Rotary { theta, channels, scaling: Scaling::None };
        Spec {
            channels,
            norm_epsilon: 1e-6,
            tied: false,
            ..Spec::decoder(32_000, 4096, 32, 32, 11_008, context)
                .with_each_layer(|layer| layer.rotary = Some(rotary))
        }
    };
    assert_eq!(spec("llama", json!({})), plain(2048, 1e4, 128));
    let mistral =
        Spec { feed_forward_width: 14_336, key_value_heads: 8, ..plain(131_072, 1e4, 128) };
    assert_eq!(
        spec("mistral", json!({})),
        mistral.with_each_layer(|layer| layer.mask = Mask::Causal { window: Some(4096) })
    );
    let qwen = Spec { vocabulary: 151_936, feed_forward_width: 22_016, ..plain(32_768, 1e4, 128) };
    assert_eq!(spec("qwen2", json!({})), Spec { query_key_value_bias: true, ..qwen.clone() });
    assert_eq!(spec("qwen3", json!({})), Spec { query_key_norm: true, ..qwen });

    let layered = Spec {
        norm: Norm::Layer,
        norm_epsilon: 1e-5,
        query_key_value_bias: true,
        output_bias: true,
        feed_forward_bias: true,
        ..Spec::decoder(50_257, 768, 12, 12, 3072, 1024).with_learned_positions()
    };
    assert_eq!(
        spec("gpt2", json!({})),
        Spec { feed_forward: FeedForward::Plain(Activation::GeluTanh), ..layered.clone() }
    );
    let opt = Spec {
        feed_forward: FeedForward::Plain(Activation::Relu),
        vocabulary: 50_272,
        context: 2048,
        ..layered.clone()
    };
    assert_eq!(spec("opt", json!({})), opt);
    let rotary = Rotary { theta: 1e4, channels: 24, scaling: Scaling::None };
    let neox = Spec {
        vocabulary: 50_432,
        width: 6144,
        embedding_width: 6144,
        layers: 44,
        query_heads: 64,
        key_value_heads: 64,
        channels: 96,
        feed_forward_width: 24_576,
        context: 2048,
        learned_positions: false,
        wiring: Wiring::Parallel,
        feed_forward: FeedForward::Plain(Activation::Gelu),
        tied: false,
        ..layered.clone().with_each_layer(|layer| layer.rotary = Some(rotary))
    };
    assert_eq!(spec("gpt_neox", json!({})), neox);
    let bert = Spec {
        vocabulary: 30_522,
        context: 512,
        wiring: Wiring::Post,
        norm_epsilon: 1e-12,
        feed_forward: FeedForward::Plain(Activation::Gelu),
        token_types: 2,
        embedding_norm: true,
        final_norm: false,
        tied: false,
        ..layered.with_each_layer(|layer| layer.mask = Mask::Bidirectional)
    };
    assert_eq!(spec("bert", json!({})), bert);
    assert_eq!(spec("roberta", json!({})), Spec { vocabulary: 50_265, context: 510, ..bert });
}

#[test]
fn fields_are_read_under_the_familys_names() {
    let opt = spec(
        "opt",
        json!({"do_layer_norm_before": false, "word_embed_proj_dim": 512, "enable_bias": false,
            "ffn_dim": 7}),
    );
    assert_eq!(
        (opt.wiring, opt.final_norm, opt.embedding_width, opt.feed_forward_width),
        (Wiring::Post, false, 512, 7)
    );
    assert!(!opt.query_key_value_bias && !opt.output_bias && !opt.feed_forward_bias);
    let opt = spec(
        "opt",
        json!({"_remove_final_layer_norm": true, "word_embed_proj_dim": null,
            "activation_function": "gelu"}),
    );
    assert_eq!(
        (opt.wiring, opt.final_norm, opt.embedding_width, opt.feed_forward),
        (Wiring::Pre, false, 768, FeedForward::Plain(Activation::Gelu))
    );

    let gpt2 = spec(
        "gpt2",
        json!({"n_embd": 8, "n_head": 2, "n_layer": 3, "n_positions": 5, "n_inner": null,
            "n_ctx": 9}),
    );
    assert_eq!(
        (gpt2.width, gpt2.channels, gpt2.layers, gpt2.context, gpt2.feed_forward_width),
        (8, 4, 3, 5, 32)
    );
    let gpt2 = spec(
        "gpt2",
        json!({"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 3,
            "max_position_embeddings": 5}),
    );
    assert_eq!((gpt2.width, gpt2.query_heads, gpt2.layers, gpt2.context), (8, 2, 3, 5));

    let neox = spec(
        "gpt_neox",
        json!({"use_parallel_residual": false, "attention_bias": false, "rotary_pct": 0.5,
            "rotary_emb_base": 7}),
    );
    assert_eq!((neox.wiring, rotary(&neox).channels, rotary(&neox).theta), (Wiring::Pre, 48, 7.0));
    assert!(!neox.query_key_value_bias && !neox.output_bias && neox.feed_forward_bias);

    let llama = spec(
        "llama",
        json!({"attention_bias": true, "mlp_bias": true, "head_dim": 6, "num_key_value_heads": 4,
            "pretraining_tp": 2}),
    );
    assert!(llama.query_key_value_bias && llama.output_bias && llama.feed_forward_bias);
    assert_eq!((llama.channels, llama.key_value_heads, rotary(&llama).channels), (6, 4, 6));
    // Null is not what a family's class has where nothing is said.
    let mistral = spec(
        "mistral",
        json!({"num_key_value_heads": null, "sliding_window": null, "head_dim": null}),
    );
    assert_eq!(
        (mistral.key_value_heads, mistral.layer(0).mask),
        (32, Mask::Causal { window: None })
    );
    let qwen3 = spec("qwen3", json!({"attention_bias": true, "hidden_size": 1000}));
    assert_eq!((qwen3.query_key_value_bias, qwen3.output_bias, qwen3.channels), (true, true, 128));

    let roberta = spec(
        "roberta",
        json!({"pad_token_id": 5, "max_position_embeddings": 20, "type_vocab_size": 1}),
    );
    assert_eq!((roberta.context, roberta.token_types), (14, 1));
}

#[test]
fn functions_have_several_names() {
    let named = |name: &str| spec("bert", json!({"hidden_act": name})).feed_forward;
    for (function, names) in [
        (Activation::Relu, &["relu"][..]),
        (Activation::Gelu, &["gelu", "gelu_python"]),
        (Activation::GeluTanh, &["gelu_new", "gelu_fast", "gelu_accurate", "gelu_pytorch_tanh"]),
        (Activation::Silu, &["silu", "swish"]),
        (Activation::Tanh, &["tanh"]),
    ] {
        assert!(names.iter().all(|name| named(name) == FeedForward::Plain(function)), "{names:?}");
    }
}

#[test]
fn both_spellings_of_rotary_positions_are_read() {
    let of = |changes: Value| rotary(&spec("llama", changes));
    let plain = |theta| Rotary { theta, channels: 128, scaling: Scaling::None };
    assert_eq!(of(json!({"rope_theta": 5e5, "rope_scaling": null})), plain(5e5));
    assert_eq!(of(json!({"rope_theta": 5e5, "rope_scaling": {}})), plain(5e5));
    assert_eq!(
        of(json!({"rope_parameters": {"rope_type": "default", "rope_theta": 1e5}})),
        plain(1e5)
    );
    assert_eq!(of(json!({"rope_parameters": {"rope_theta": 1e5}, "rope_theta": 2e5})), plain(1e5));
    // Up to the context it was trained for, which is all that is allowed here, a dynamically
    // stretched model is a plain one.
    assert_eq!(
        of(json!({"rope_theta": 5e5, "rope_scaling": {"type": "dynamic", "factor": 2.0}})),
        plain(5e5)
    );
    let linear = Rotary { scaling: Scaling::Linear { factor: 4.0 }, ..plain(5e5) };
    assert_eq!(
        of(json!({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4}})),
        linear
    );
    assert_eq!(
        of(json!({"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5}})),
        linear
    );
    let numbers = json!({
        "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    });
    let ramp = |context| Rotary {
        scaling: Scaling::Ramp { factor: 32.0, low: 1.0, high: 4.0, context },
        ..plain(1e4)
    };
    assert_eq!(of(json!({"rope_scaling": numbers.clone()})), ramp(8192.0));
    assert_eq!(of(json!({"rope_parameters": numbers.clone()})), ramp(8192.0));
    let mut without = numbers;
    without.as_object_mut().unwrap().remove("original_max_position_embeddings");
    assert_eq!(
        of(json!({"rope_scaling": without.clone(), "max_position_embeddings": 100})),
        ramp(100.0)
    );
    assert_eq!(
        of(json!({"rope_scaling": without, "original_max_position_embeddings": 50})),
        ramp(50.0)
    );

    let share = |changes: Value| rotary(&spec("gpt_neox", changes));
    assert_eq!(
        share(json!({"rotary_pct": 1.0, "rotary_emb_base": 1e4, "rope_theta": 1e4})),
        Rotary { theta: 1e4, channels: 96, scaling: Scaling::None }
    );
    let new = share(json!({"rope_parameters": {"rope_theta": 9.0, "partial_rotary_factor": 0.5,
            "rope_type": "linear", "factor": 2.0}}));
    assert_eq!(new, Rotary { theta: 9.0, channels: 48, scaling: Scaling::Linear { factor: 2.0 } });
}

/// The mask that all blocks have.
fn one_mask(spec: &Spec) -> Mask {
    assert_eq!(spec.pattern.len(), 1, "blocks are alike");
    spec.layer(0).mask
}

/// Which blocks have a window of 9 tokens.
fn windowed(spec: &Spec) -> Vec<bool> {
    let has = |layer| match spec.layer(layer).mask {
        Mask::Causal { window: Some(window) } => window == 9,
        _ => false,
    };
    (0..spec.layers).map(has).collect()
}

#[test]
fn some_layers_may_have_a_window() {
    let types = ["full_attention", "sliding_attention", "full_attention"];
    let listed = json!({"sliding_window": 9, "use_sliding_window": true, "num_hidden_layers": 3,
        "layer_types": types});
    for family in ["mistral", "qwen2", "qwen3"] {
        assert_eq!(windowed(&spec(family, listed.clone())), [false, true, false], "{family}");
    }
    let upper = json!({"sliding_window": 9, "use_sliding_window": true, "num_hidden_layers": 4,
        "max_window_layers": 3});
    assert_eq!(windowed(&spec("qwen2", upper)), [false, false, false, true]);
}

#[test]
fn a_window_counts_where_it_is_switched_on_for_all_layers() {
    for family in ["qwen2", "qwen3"] {
        let mask = |changes: Value| one_mask(&spec(family, changes));
        let window = |window| Mask::Causal { window };
        assert_eq!(
            mask(
                json!({"sliding_window": 100, "use_sliding_window": false, "max_window_layers": 0})
            ),
            window(None)
        );
        assert_eq!(
            mask(
                json!({"sliding_window": 100, "use_sliding_window": true, "max_window_layers": 0})
            ),
            window(Some(100))
        );
        assert_eq!(
            mask(
                json!({"sliding_window": 100, "use_sliding_window": true, "max_window_layers": 32})
            ),
            window(None)
        );
        assert_eq!(
            mask(json!({"use_sliding_window": true, "max_window_layers": 0})),
            window(Some(4096))
        );
        assert_eq!(
            mask(
                json!({"use_sliding_window": true, "sliding_window": null, "max_window_layers": 0})
            ),
            window(None)
        );
        let types = |kind: &str| {
            json!({"layer_types": [kind, kind], "num_hidden_layers": 2,
            "use_sliding_window": true, "sliding_window": 9})
        };
        assert_eq!(mask(types("full_attention")), window(None));
        assert_eq!(mask(types("sliding_attention")), window(Some(9)));
        // One that is as long as the context is none, whichever layers have it.
        let long =
            json!({"use_sliding_window": true, "sliding_window": 32_768, "max_window_layers": 16});
        assert_eq!(mask(long), window(None));
    }
    let types = |kind: &str| {
        json!({"layer_types": [kind, kind], "num_hidden_layers": 2,
        "sliding_window": 9})
    };
    assert_eq!(
        one_mask(&spec("mistral", types("sliding_attention"))),
        Mask::Causal { window: Some(9) }
    );
    assert_eq!(one_mask(&spec("mistral", types("full_attention"))), Mask::Causal { window: None });
    // No family whose layers see all of the text is told otherwise by a window that is switched
    // off, or as long as the text.
    for family in ["bert", "gpt2", "gpt_neox", "llama", "opt", "roberta"] {
        let plain = spec(family, json!({}));
        for said in [
            json!({"sliding_window": null}),
            json!({"sliding_window": 9, "use_sliding_window": false}),
            json!({"sliding_window": 1 << 20}),
        ] {
            assert_eq!(spec(family, said), plain, "{family}");
        }
        assert_eq!(spec(family, json!({"layer_types": ["full_attention"]})), plain, "{family}");
    }
    let mistral = |changes: Value| one_mask(&spec("mistral", changes));
    assert_eq!(mistral(json!({"sliding_window": 7})), Mask::Causal { window: Some(7) });
    assert_eq!(
        mistral(json!({"sliding_window": 7, "max_position_embeddings": 7})),
        Mask::Causal { window: None }
    );
}

#[test]
fn architectures_are_known_by_the_spellings_of_early_files() {
    assert_eq!(
        described("llama", json!({"architectures": ["LLaMAForCausalLM"]})).head,
        HeadKind::Language
    );
    let reward = json!({"architectures": ["LLaMAForSequenceClassification"], "num_labels": 1});
    assert_eq!(described("llama", reward).head, HeadKind::Reward);
    assert_eq!(
        written(
            &described("llama", json!({"architectures": ["LLaMAForCausalLM"]})).origin,
            HeadKind::Language
        )["architectures"],
        json!(["LlamaForCausalLM"])
    );
}

#[test]
fn heads_follow_from_the_architecture_and_the_labels() {
    let head = |family: &str, changes: Value| {
        let described = described(family, changes);
        (described.head, described.spec.labels)
    };
    for (family, prefix, language) in [
        ("llama", "Llama", "LlamaForCausalLM"),
        ("mistral", "Mistral", "MistralForCausalLM"),
        ("qwen2", "Qwen2", "Qwen2ForCausalLM"),
        ("qwen3", "Qwen3", "Qwen3ForCausalLM"),
        ("opt", "OPT", "OPTForCausalLM"),
        ("gpt2", "GPT2", "GPT2LMHeadModel"),
        ("gpt_neox", "GPTNeoX", "GPTNeoXForCausalLM"),
    ] {
        let classifier = format!("{prefix}ForSequenceClassification");
        assert_eq!(head(family, json!({})), (HeadKind::Language, 0));
        assert_eq!(head(family, json!({"architectures": null})), (HeadKind::Language, 0));
        assert_eq!(head(family, json!({"architectures": [language]})), (HeadKind::Language, 0));
        assert_eq!(
            head(family, json!({"architectures": [format!("{prefix}Model")]})),
            (HeadKind::Language, 0)
        );
        assert_eq!(
            head(family, json!({"architectures": [classifier], "num_labels": 1})),
            (HeadKind::Reward, 0)
        );
        // What has names is counted, whatever the number says.
        let named = json!({"architectures": [classifier], "id2label": {"0": "x"}, "num_labels": 3});
        assert_eq!(head(family, named), (HeadKind::Reward, 0));
    }
    for (family, prefix) in [("bert", "Bert"), ("roberta", "Roberta")] {
        let classifier = format!("{prefix}ForSequenceClassification");
        assert_eq!(head(family, json!({})), (HeadKind::Encoder, 0));
        assert_eq!(
            head(family, json!({"architectures": [format!("{prefix}ForMaskedLM")]})),
            (HeadKind::Encoder, 0)
        );
        assert_eq!(head(family, json!({"architectures": [classifier]})), (HeadKind::Classifier, 2));
        let named =
            json!({"architectures": [classifier], "id2label": {"0": "x", "1": "y", "2": "z"}});
        assert_eq!(head(family, named), (HeadKind::Classifier, 3));
    }
}

#[test]
fn special_tokens_are_what_is_said_or_what_the_familys_class_has() {
    let special = |family: &str, changes: Value| {
        let SpecialTokens { bos, eos, pad } = described(family, changes).origin.special;
        [bos, eos, pad]
    };
    assert_eq!(special("llama", json!({})), [Some(1), Some(2), None]);
    assert_eq!(special("opt", json!({})), [Some(2), Some(2), Some(1)]);
    assert_eq!(special("gpt2", json!({})), [Some(50_256), Some(50_256), None]);
    assert_eq!(special("qwen2", json!({})), [None; 3]);
    let none = json!({"bos_token_id": null, "eos_token_id": null, "pad_token_id": -1});
    assert_eq!(special("opt", none), [None; 3]);
    assert_eq!(
        special("llama", json!({"eos_token_id": [7, 9], "pad_token_id": 0})),
        [Some(1), Some(7), Some(0)]
    );
}

/// Family, key, value, and what else the error names.
fn refused() -> Vec<(&'static str, &'static str, Value, &'static str)> {
    let rope = |kind: &str| json!({"rope_type": kind, "factor": 2.0});
    vec![
        ("llama", "model_type", json!("mamba"), "\"mamba\""),
        ("llama", "model_type", Value::Null, "no `model_type`"),
        (
            "llama",
            "architectures",
            json!(["LlamaForTokenClassification"]),
            "LlamaForTokenClassification",
        ),
        ("llama", "architectures", json!("LlamaForCausalLM"), "a list"),
        ("bert", "architectures", json!(["BertLMHeadModel"]), "BertLMHeadModel"),
        ("roberta", "architectures", json!(["XLMRobertaModel"]), "XLMRobertaModel"),
        ("opt", "architectures", json!(["OPTForQuestionAnswering"]), "OPTForQuestionAnswering"),
        ("gpt2", "architectures", json!(["GPT2DoubleHeadsModel"]), "GPT2DoubleHeadsModel"),
        (
            "bert",
            "architectures",
            json!(["BertForTokenClassification"]),
            "BertForTokenClassification",
        ),
        ("llama", "hidden_act", json!("gelu"), "\"gelu\""),
        ("qwen3", "hidden_act", json!("relu"), "\"relu\""),
        ("bert", "hidden_act", json!("quick_gelu"), "quick_gelu"),
        ("gpt_neox", "hidden_act", json!("relu2"), "relu2"),
        ("gpt2", "activation_function", json!("gelu_10"), "gelu_10"),
        ("opt", "activation_function", json!("mish"), "mish"),
        ("llama", "rope_scaling", rope("yarn"), "\"yarn\""),
        ("llama", "rope_parameters", rope("longrope"), "\"longrope\""),
        ("qwen2", "rope_scaling", json!({"type": "mrope", "mrope_section": [1]}), "\"mrope\""),
        ("gpt_neox", "rope_parameters", rope("ntk"), "\"ntk\""),
        (
            "qwen3",
            "rope_parameters",
            json!({"full_attention": {"rope_theta": 1.0}}),
            "full_attention",
        ),
        ("llama", "rope_scaling", json!({"type": "linear"}), "no `factor`"),
        ("llama", "rope_scaling", json!({"type": "linear", "factor": 0}), "0.0"),
        (
            "llama",
            "rope_scaling",
            json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0}),
            "high_freq_factor",
        ),
        ("llama", "rope_scaling", json!("linear"), "an object"),
        ("llama", "rope_theta", json!(0.5), "0.5"),
        ("llama", "partial_rotary_factor", json!(0.5), "0.5"),
        ("gpt_neox", "rotary_pct", json!(0.0), "0"),
        ("gpt_neox", "rotary_pct", json!(0.055), "not 5"),
        ("qwen2", "layer_types", json!(["chunked_attention"]), "chunked_attention"),
        ("qwen2", "layer_types", json!(["full_attention"]), "32"),
        ("llama", "layer_types", json!(["sliding_attention"]), "sliding_attention"),
        ("mistral", "layer_types", json!(["full_attention"]), "32"),
        ("gpt_neox", "layer_types", json!(["chunked_attention"]), "chunked_attention"),
        ("llama", "sliding_window", json!(9), "9"),
        ("opt", "sliding_window", json!(9), "9"),
        ("llama", "attn_logit_softcapping", json!(50.0), "50"),
        ("qwen3", "final_logit_softcapping", json!(30.0), "30"),
        ("llama", "attention_multiplier", json!(0.1), "0.1"),
        ("llama", "embedding_multiplier", json!(12.0), "12"),
        ("mistral", "residual_multiplier", json!(0.22), "0.22"),
        ("qwen2", "logits_scaling", json!(8.0), "8"),
        ("llama", "no_rope_layers", json!([1, 1, 1, 0]), "[1,1,1,0]"),
        ("llama", "qk_layernorm", json!(true), "true"),
        ("llama", "kv_lora_rank", json!(512), "512"),
        ("gpt2", "multi_query", json!(true), "true"),
        ("llama", "quantization_config", json!({"quant_method": "gptq"}), "gptq"),
        ("mistral", "num_local_experts", json!(8), "8"),
        ("qwen3", "num_experts", json!(128), "128"),
        ("gpt2", "add_cross_attention", json!(true), "true"),
        ("bert", "is_encoder_decoder", json!(true), "true"),
        ("bert", "pruned_heads", json!({"0": [1]}), "[1]"),
        ("bert", "is_decoder", json!(true), "true"),
        ("roberta", "position_embedding_type", json!("relative_key"), "relative_key"),
        ("roberta", "pad_token_id", Value::Null, "null"),
        ("roberta", "max_position_embeddings", json!(2), "2"),
        ("opt", "layer_norm_elementwise_affine", json!(false), "false"),
        ("gpt2", "scale_attn_weights", json!(false), "false"),
        ("gpt2", "scale_attn_by_inverse_layer_idx", json!(true), "true"),
        ("gpt2", "reorder_and_upcast_attn", json!(true), "true"),
        ("llama", "hidden_size", json!("8"), "\"8\""),
        ("llama", "hidden_size", json!(9), "9"),
        ("llama", "hidden_size", Value::Null, "null"),
        ("llama", "hidden_size", json!(-8), "-8"),
        ("gpt2", "n_embd", json!(770), "n_head"),
        ("llama", "num_key_value_heads", json!(3), "3"),
        ("llama", "num_hidden_layers", json!(0), "0"),
        ("gpt_neox", "layer_norm_eps", json!(0.0), "0"),
        ("mistral", "sliding_window", json!(0), "window"),
        ("llama", "tie_word_embeddings", json!(1), "true or false"),
        ("llama", "eos_token_id", json!("</s>"), "</s>"),
        ("opt", "word_embed_proj_dim", json!(0), "0"),
        ("opt", "learned_embeddings", json!(false), "false"),
        ("llama", "rope_interleaved", json!(true), "true"),
        ("gpt_neox", "rope_theta", json!(5.0), "`rotary_emb_base` is 10000"),
        ("gpt2", "n_positions", json!(5.0), "5.0"),
    ]
}

#[test]
fn what_cannot_be_run_is_refused_by_place_key_and_value() {
    for (family, key, value, shown) in refused() {
        let error =
            read(family, json!({ key: value })).expect_err(&format!("{family}: {key} is {value}"));
        let message = error.to_string();
        assert_eq!(kind_of(&error), Kind::User, "{message}");
        assert!(
            ["some/config.json", key, shown].iter().all(|word| message.contains(word)),
            "{family}, {key}, {shown}: {message}"
        );
    }
}

#[test]
fn values_that_only_together_mean_something_else_are_refused() {
    let without = json!({"num_hidden_layers": 1, "layer_types": ["sliding_attention"]});
    let labels = |count: usize| {
        json!({"architectures": ["LlamaForSequenceClassification"],
        "num_labels": count})
    };
    let unsaid = json!({"architectures": ["OPTForSequenceClassification"]});
    let none = json!({"architectures": ["BertForSequenceClassification"], "id2label": {}});
    for (family, changes, words) in [
        ("qwen2", without, ["layer_types", "sliding_attention"]),
        (
            "mistral",
            json!({"sliding_window": null, "num_hidden_layers": 1,
                "layer_types": ["sliding_attention"]}),
            ["layer_types", "sliding_window"],
        ),
        ("llama", labels(3), ["num_labels", "3"]),
        ("opt", unsaid, ["num_labels", "2"]),
        ("bert", none, ["num_labels", "0"]),
    ] {
        let message = read(family, changes).unwrap_err().to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    }
}

#[test]
fn fields_that_say_nothing_are_no_reason_to_refuse() {
    let nothing = json!({
        "quantization_config": null, "num_experts": 0, "num_local_experts": null,
        "is_encoder_decoder": false, "pruned_heads": {},
        "attn_logit_softcapping": null, "embedding_multiplier": 1.0, "no_rope_layers": [],
        "use_qk_norm": false, "logit_scale": null,
        "add_cross_attention": false, "unknown_to_us": {}, "chunk_size_feed_forward": 0,
        "use_cache": true,
    });
    for family in FAMILIES {
        assert_eq!(spec(family, nothing.clone()), spec(family, json!({})), "{family}");
    }
}

#[test]
fn a_configuration_is_written_as_it_was_but_for_what_changed() {
    for family in FAMILIES {
        let original = json!({
            "model_type": family, "task_specific_params": [1, {"x": null}], "dtype": "bfloat16",
            "unknown_to_us": false,
            "eos_token_id": [7, 9],
            "pad_token_id": 1, "transformers_version": "5.0.0",
        });
        let described = arch::read(&original.to_string(), "config.json").unwrap();
        let mut expected = original.as_object().unwrap().clone();
        expected.insert("dtype".into(), json!("float32"));
        expected.insert(
            "architectures".into(),
            written(&described.origin, described.head)["architectures"].clone(),
        );
        assert_eq!(written(&described.origin, described.head), expected);
        let again =
            arch::read(&arch::write(&described.origin, described.head), "config.json").unwrap();
        assert_eq!(
            (again.spec, again.head, again.origin.special),
            (described.spec, described.head, described.origin.special)
        );
    }
}

#[test]
fn number_types_are_spelt_as_they_were() {
    let spelt = |config: Value| {
        let described = described("llama", config);
        let written = written(&described.origin, HeadKind::Language);
        (written.get("dtype").cloned(), written.get("torch_dtype").cloned())
    };
    let float = || Some(json!("float32"));
    assert_eq!(spelt(json!({"dtype": "float16"})), (float(), None));
    assert_eq!(spelt(json!({"torch_dtype": "float16"})), (None, float()));
    assert_eq!(spelt(json!({})), (None, float()));
}

#[test]
fn changed_special_tokens_are_written_and_the_others_stay() {
    let described = described("llama", json!({"eos_token_id": [7, 9]}));
    let mut origin = described.origin;
    origin.special.pad = Some(3);
    let config = written(&origin, HeadKind::Language);
    assert_eq!((&config["pad_token_id"], &config["eos_token_id"]), (&json!(3), &json!([7, 9])));
    assert!(!config.contains_key("bos_token_id"));
    origin.special.eos = None;
    assert_eq!(written(&origin, HeadKind::Language)["eos_token_id"], Value::Null);
}

#[test]
fn a_reward_models_configuration_has_one_label() {
    let described = described("llama", json!({"num_labels": 5}));
    let config = written(&described.origin, HeadKind::Reward);
    assert_eq!(
        (&config["architectures"], &config["id2label"]),
        (&json!(["LlamaForSequenceClassification"]), &json!({"0": "LABEL_0"}))
    );
    assert!(!config.contains_key("num_labels"));
    // One that had a label keeps its name.
    let named = json!({"architectures": ["LlamaForSequenceClassification"],
        "id2label": {"0": "better"}, "label2id": {"better": 0}});
    let origin = self::described("llama", named.clone()).origin;
    assert_eq!(written(&origin, HeadKind::Reward)["id2label"], named["id2label"]);
}

#[test]
fn a_model_made_here_is_described_by_its_configuration() {
    let spec = Spec {
        tied: false,
        query_key_value_bias: true,
        output_bias: true,
        ..Spec::decoder(11, 8, 3, 4, 10, 96)
    };
    let special = SpecialTokens { bos: None, eos: Some(1), pad: Some(0) };
    let origin = Origin::new(&spec, special);
    for head in [HeadKind::Language, HeadKind::Reward] {
        let found = arch::read(&arch::write(&origin, head), "config.json").unwrap();
        assert_eq!((found.spec, found.head, found.origin.special), (spec.clone(), head, special));
    }
}
