//! How each family lays its tensors out in a file: there and back, under every name that files use,
//! and the place of each number.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use posttrain::model::checkpoint::{self, CONFIG, Checkpoint, WEIGHTS};
use posttrain::model::params::{HeadKind, Params};
use posttrain::model::tensor_writer::{Named, write};
use posttrain::model::tensors::Tensors;

use super::{bits, params};

/// Sizes under the names that most families share.
fn sizes(model_type: &str, architecture: &str, more: Value) -> Value {
    let mut config = json!({
        "model_type": model_type, "architectures": [architecture], "vocab_size": 11,
        "hidden_size": 8, "intermediate_size": 10,
        "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 16,
    });
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

/// Configurations of every family, with every option that changes the list of tensors or their
/// layout, and every head.
fn configurations() -> Vec<Value> {
    let opt = |architecture: &str, more: Value| {
        let mut config =
            sizes("opt", architecture, json!({"ffn_dim": 10, "word_embed_proj_dim": 8}));
        let fields = config.as_object_mut().unwrap();
        // OPT has no such field: `ffn_dim` is its name.
        fields.remove("intermediate_size");
        fields.extend(more.as_object().unwrap().clone());
        config
    };
    let gpt2 = |architecture: &str, inner: Value| {
        json!({
            "model_type": "gpt2", "architectures": [architecture], "vocab_size": 11, "n_embd": 8,
            "n_layer": 2, "n_head": 4,
            "n_positions": 16, "n_inner": inner, "num_labels": 1,
        })
    };
    let one = json!({"num_labels": 1, "tie_word_embeddings": true});
    let grouped = json!({"num_key_value_heads": 2, "head_dim": 6});
    vec![
        opt("OPTForCausalLM", json!({"enable_bias": false})),
        opt(
            "OPTForCausalLM",
            json!({"do_layer_norm_before": false, "word_embed_proj_dim": 6,
                "tie_word_embeddings": false}),
        ),
        opt(
            "OPTForSequenceClassification",
            json!({"word_embed_proj_dim": 6, "num_labels": 1, "_remove_final_layer_norm": true}),
        ),
        gpt2("GPT2LMHeadModel", json!(12)),
        gpt2("GPT2ForSequenceClassification", Value::Null),
        sizes("gpt_neox", "GPTNeoXForCausalLM", json!({"rotary_pct": 1.0})),
        sizes(
            "gpt_neox",
            "GPTNeoXForCausalLM",
            json!({"rotary_pct": 1.0, "attention_bias": false, "tie_word_embeddings": true}),
        ),
        sizes(
            "gpt_neox",
            "GPTNeoXForSequenceClassification",
            json!({"rotary_pct": 1.0, "num_labels": 1}),
        ),
        sizes("llama", "LlamaForCausalLM", grouped.clone()),
        sizes(
            "llama",
            "LlamaForCausalLM",
            json!({"attention_bias": true, "mlp_bias": true, "tie_word_embeddings": true}),
        ),
        sizes("llama", "LlamaForSequenceClassification", one.clone()),
        sizes(
            "mistral",
            "MistralForCausalLM",
            json!({"num_key_value_heads": 1, "sliding_window": 3}),
        ),
        sizes(
            "mistral",
            "MistralForSequenceClassification",
            json!({"num_key_value_heads": 1, "num_labels": 1}),
        ),
        sizes("qwen2", "Qwen2ForCausalLM", json!({"num_key_value_heads": 2})),
        sizes(
            "qwen2",
            "Qwen2ForSequenceClassification",
            json!({"num_key_value_heads": 2, "num_labels": 1}),
        ),
        sizes(
            "qwen3",
            "Qwen3ForCausalLM",
            json!({"num_key_value_heads": 2, "head_dim": 6, "attention_bias": true}),
        ),
        sizes(
            "qwen3",
            "Qwen3ForSequenceClassification",
            json!({"num_key_value_heads": 2, "head_dim": 6, "num_labels": 1}),
        ),
        sizes("bert", "BertModel", json!({})),
        sizes(
            "bert",
            "BertForSequenceClassification",
            json!({"id2label": {"0": "a", "1": "b", "2": "c"}}),
        ),
        sizes("roberta", "RobertaModel", json!({"pad_token_id": 3})),
        sizes("roberta", "RobertaForSequenceClassification", json!({"type_vocab_size": 1})),
    ]
}

/// A model of such a configuration with nontrivial weights.
fn model(config: &Value) -> Checkpoint {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(CONFIG), config.to_string()).unwrap();
    let description = checkpoint::describe(folder.path()).unwrap();
    let params = params(&description.spec, description.head, 3);
    Checkpoint {
        origin: description.origin,
        spec: description.spec,
        head: description.head,
        params,
    }
}

type File = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn read(folder: &Path) -> File {
    let tensors = Tensors::open(&[folder.join(WEIGHTS)]).unwrap();
    tensors
        .names()
        .map(|name| {
            (name.to_string(), (tensors.shape(name).unwrap().to_vec(), tensors.read(name).unwrap()))
        })
        .collect()
}

fn rewrite(folder: &Path, file: &File) {
    let named = file
        .iter()
        .map(|(name, (shape, numbers))| Named::whole(name.clone(), shape.clone(), numbers));
    write(&folder.join(WEIGHTS), named.collect(), None).unwrap();
}

fn name(config: &Value) -> &str {
    config["architectures"][0].as_str().unwrap()
}

fn trunk(config: &Value) -> &'static str {
    match config["model_type"].as_str().unwrap() {
        "gpt2" => "transformer.",
        "gpt_neox" => "gpt_neox.",
        "bert" => "bert.",
        "roberta" => "roberta.",
        _ => "model.",
    }
}

#[test]
fn every_family_comes_back_bit_for_bit_and_is_written_with_the_same_bytes() {
    for config in configurations() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let saved = model(&config);
        checkpoint::save(first.path(), &saved).unwrap();
        let loaded = checkpoint::load(first.path()).unwrap();
        assert!(loaded.spec == saved.spec, "{config}");
        let numbers = |params: &Params<Vec<f32>>| {
            params.iter().map(|tensor| bits(tensor)).collect::<Vec<_>>()
        };
        assert!(numbers(&loaded.params) == numbers(&saved.params), "{config}");
        checkpoint::save(second.path(), &loaded).unwrap();
        for file in [CONFIG, WEIGHTS] {
            let bytes = |folder: &Path| std::fs::read(folder.join(file)).unwrap();
            assert!(bytes(first.path()) == bytes(second.path()), "{file} of {config}");
        }
        let written: Value =
            serde_json::from_slice(&std::fs::read(first.path().join(CONFIG)).unwrap()).unwrap();
        for (key, value) in config.as_object().unwrap() {
            assert_eq!(&written[key], value, "{key} of {config}");
        }
    }
}

#[test]
fn every_family_is_written_in_shards_and_read_from_them() {
    for config in configurations() {
        let folder = tempfile::tempdir().unwrap();
        let Checkpoint { origin, spec, head, params } = model(&config);
        checkpoint::save_with(folder.path(), &origin, (&spec, head), &params, 500, |numbers| {
            numbers.into()
        })
        .unwrap();
        assert!(!folder.path().join(WEIGHTS).exists());
        let loaded = checkpoint::load(folder.path()).unwrap();
        assert!(loaded.spec == spec && loaded.params == params, "{config}");
    }
}

#[test]
fn names_with_and_without_the_trunks_prefix_are_read() {
    for config in configurations() {
        let folder = tempfile::tempdir().unwrap();
        let saved = model(&config);
        checkpoint::save(folder.path(), &saved).unwrap();
        let file = read(folder.path());
        let encoder = saved.head == HeadKind::Encoder;
        let (mut changed, mut count) = (File::new(), 0);
        for (name, tensor) in &file {
            let other = match name.strip_prefix(trunk(&config)) {
                Some(short) => short.to_string(),
                None if encoder => format!("{}{name}", trunk(&config)),
                None => name.clone(),
            };
            count += usize::from(other != *name);
            changed.insert(other, tensor.clone());
        }
        assert!(count >= file.len() - 4, "{count} of {} are the trunk's: {config}", file.len());
        rewrite(folder.path(), &changed);
        let loaded = checkpoint::load(folder.path()).unwrap();
        assert!(loaded.params == saved.params, "{config}");
        // Read from such a file or another, it is written with the same names.
        checkpoint::save(folder.path(), &loaded).unwrap();
        assert!(read(folder.path()) == file, "{config}");
    }
}

#[test]
fn names_of_other_versions_are_read() {
    let renamings = [
        ("BertModel", "LayerNorm.weight", "LayerNorm.gamma"),
        ("BertModel", "LayerNorm.bias", "LayerNorm.beta"),
        ("RobertaForSequenceClassification", "LayerNorm.weight", "LayerNorm.gamma"),
        ("GPTNeoXForCausalLM", "embed_out.weight", "lm_head.weight"),
    ];
    for (architecture, ours, theirs) in renamings {
        let config =
            configurations().into_iter().find(|config| name(config) == architecture).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let saved = model(&config);
        checkpoint::save(folder.path(), &saved).unwrap();
        let before = read(folder.path());
        let after: File = before
            .iter()
            .map(|(name, tensor)| (name.replace(ours, theirs), tensor.clone()))
            .collect();
        assert_ne!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
        rewrite(folder.path(), &after);
        assert!(checkpoint::load(folder.path()).unwrap().params == saved.params, "{theirs}");
    }
}

#[test]
fn tensors_that_carry_nothing_may_be_there_and_others_may_not() {
    let nothing: &[(&str, &[&str])] = &[
        ("OPTForCausalLM", &["decoder.version"]),
        ("GPT2LMHeadModel", &["transformer.h.0.attn.bias", "h.1.attn.masked_bias"]),
        (
            "GPTNeoXForCausalLM",
            &[
                "gpt_neox.layers.0.attention.bias",
                "gpt_neox.layers.1.attention.masked_bias",
                "layers.0.attention.rotary_emb.inv_freq",
            ],
        ),
        ("LlamaForCausalLM", &["model.layers.1.self_attn.rotary_emb.inv_freq"]),
        (
            "BertModel",
            &[
                "embeddings.position_ids",
                "pooler.dense.weight",
                "cls.predictions.bias",
                "bert.pooler.dense.bias",
            ],
        ),
        ("BertForSequenceClassification", &["bert.embeddings.position_ids"]),
        (
            "RobertaModel",
            &["roberta.embeddings.position_ids", "lm_head.dense.weight", "pooler.dense.weight"],
        ),
        ("RobertaForSequenceClassification", &["roberta.pooler.dense.weight"]),
    ];
    for (architecture, names) in nothing {
        let config =
            configurations().into_iter().find(|config| name(config) == *architecture).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let saved = model(&config);
        checkpoint::save(folder.path(), &saved).unwrap();
        let mut file = read(folder.path());
        file.extend(names.iter().map(|name| (name.to_string(), (vec![1], vec![7.0]))));
        rewrite(folder.path(), &file);
        assert!(checkpoint::load(folder.path()).unwrap().params == saved.params, "{architecture}");
        let stray =
            ["transformer.h.0.attn.c_attn.other", "classifier.other", "layers.0.attention.other"];
        file.extend(stray.iter().map(|name| (name.to_string(), (vec![1], vec![7.0]))));
        rewrite(folder.path(), &file);
        let message = checkpoint::load(folder.path()).unwrap_err().to_string();
        let listed: BTreeSet<&str> =
            message.lines().filter_map(|line| line.trim().strip_prefix("not expected: ")).collect();
        assert_eq!(
            listed,
            stray.map(|name| format!("`{name}`")).iter().map(String::as_str).collect(),
            "{architecture}"
        );
    }
}

#[test]
fn a_classifiers_pooler_is_not_nothing() {
    let config = configurations()
        .into_iter()
        .find(|config| name(config) == "BertForSequenceClassification")
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    checkpoint::save(folder.path(), &model(&config)).unwrap();
    let mut file = read(folder.path());
    file.remove("bert.pooler.dense.weight").unwrap();
    rewrite(folder.path(), &file);
    let message = checkpoint::load(folder.path()).unwrap_err().to_string();
    assert!(message.contains("missing: `bert.pooler.dense.weight` [8, 8]"), "{message}");
}

#[test]
fn a_fused_tensor_that_is_missing_or_misshapen_is_listed_once() {
    let config =
        configurations().into_iter().find(|config| name(config) == "GPT2LMHeadModel").unwrap();
    let folder = tempfile::tempdir().unwrap();
    checkpoint::save(folder.path(), &model(&config)).unwrap();
    let mut file = read(folder.path());
    file.remove("transformer.h.0.attn.c_attn.weight").unwrap();
    // Not transposed.
    file.get_mut("transformer.h.1.attn.c_attn.weight").unwrap().0.reverse();
    rewrite(folder.path(), &file);
    let message = checkpoint::load(folder.path()).unwrap_err().to_string();
    let problems: Vec<&str> = message.lines().skip(1).map(str::trim).collect();
    let expected = [
        "missing: `transformer.h.0.attn.c_attn.weight` [8, 24]",
        "misshapen: `transformer.h.1.attn.c_attn.weight` is [24, 8], expected [8, 24]",
    ];
    assert_eq!(problems, expected);
}

/// The index of a number of ours in the file's tensor, computed number by number.
#[test]
fn numbers_stand_where_the_family_has_them() {
    let (d, c) = (8, 2);
    let file = |architecture: &str| {
        let config =
            configurations().into_iter().find(|config| name(config) == architecture).unwrap();
        let (folder, saved) = (tempfile::tempdir().unwrap(), model(&config));
        checkpoint::save(folder.path(), &saved).unwrap();
        (saved, read(folder.path()))
    };

    // Linear layers are transposed; queries, keys and values are next to one another.
    let (saved, tensors) = file("GPT2LMHeadModel");
    let layer = &saved.params.layers[1];
    let (fused, fused_bias) = (
        &tensors["transformer.h.1.attn.c_attn.weight"],
        &tensors["transformer.h.1.attn.c_attn.bias"],
    );
    assert_eq!((fused.0.as_slice(), fused_bias.0.as_slice()), (&[8, 24][..], &[24][..]));
    for (part, ours) in [&layer.query, &layer.key, &layer.value].into_iter().enumerate() {
        for row in 0..d {
            assert_eq!(fused_bias.1[part * d + row], ours.bias.as_ref().unwrap()[row]);
            for column in 0..d {
                assert_eq!(fused.1[column * 3 * d + part * d + row], ours.weight[row * d + column]);
            }
        }
    }
    let up = &tensors["transformer.h.1.mlp.c_fc.weight"];
    assert_eq!(up.0, [8, 12]);
    assert_eq!(up.1[3 * 12 + 7], layer.up.weight[7 * d + 3]);
    // Tables and heads have our layout.
    assert_eq!(tensors["transformer.wte.weight"].1, saved.params.embedding);

    // Each head's queries, keys and values together.
    let (saved, tensors) = file("GPTNeoXForCausalLM");
    let layer = &saved.params.layers[0];
    let fused = &tensors["gpt_neox.layers.0.attention.query_key_value.weight"].1;
    let fused_bias = &tensors["gpt_neox.layers.0.attention.query_key_value.bias"].1;
    for (part, ours) in [&layer.query, &layer.key, &layer.value].into_iter().enumerate() {
        for head in 0..4 {
            for channel in 0..c {
                let (row, theirs) = (head * c + channel, (head * 3 + part) * c + channel);
                assert_eq!(fused_bias[theirs], ours.bias.as_ref().unwrap()[row]);
                assert_eq!(fused[theirs * d..][..d], ours.weight[row * d..][..d]);
            }
        }
    }

    // Rows in front of the first position, written as zeros.
    let (saved, tensors) = file("OPTForCausalLM");
    let table = &tensors["model.decoder.embed_positions.weight"];
    assert_eq!(table.0, [18, 8]);
    assert!(table.1[..2 * d].iter().all(|&number| number == 0.0));
    assert_eq!(table.1[2 * d..], *saved.params.positions.unwrap());
    let (saved, tensors) = file("RobertaModel");
    let table = &tensors["embeddings.position_embeddings.weight"];
    assert_eq!((table.0.as_slice(), saved.spec.context), (&[16, 8][..], 12));
    assert!(table.1[..4 * d].iter().all(|&number| number == 0.0));
    assert_eq!(table.1[4 * d..], *saved.params.positions.unwrap());
}

#[test]
fn every_decoder_becomes_a_reward_model_of_its_family() {
    for config in configurations() {
        let saved = model(&config);
        if saved.head != HeadKind::Language {
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let params = params(&saved.spec, HeadKind::Reward, 4);
        checkpoint::save(
            folder.path(),
            &Checkpoint { head: HeadKind::Reward, params: params.clone(), ..saved.clone() },
        )
        .unwrap();
        let written: Value =
            serde_json::from_slice(&std::fs::read(folder.path().join(CONFIG)).unwrap()).unwrap();
        let family = name(&config)
            .trim_end_matches("ForCausalLM")
            .trim_end_matches("LMHeadModel")
            .to_string();
        assert_eq!(name(&written), format!("{family}ForSequenceClassification"));
        let labels = written["id2label"]
            .as_object()
            .map(|labels| labels.len())
            .or(written["num_labels"].as_u64().map(|n| n as usize));
        assert_eq!(labels, Some(1), "{written}");
        assert_eq!(read(folder.path())["score.weight"].0, [1, saved.spec.embedding_width]);
        let loaded = checkpoint::load(folder.path()).unwrap();
        assert!(loaded.params == params && loaded.spec == saved.spec, "{config}");
    }
}
