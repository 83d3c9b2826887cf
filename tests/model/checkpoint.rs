//! Checkpoints: bit-exact, byte-deterministic, and clear about what does not fit.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use posttrain::error::{Kind, kind_of};
use posttrain::model::arch::{Origin, SpecialTokens};
use posttrain::model::batch::Batch;
use posttrain::model::checkpoint::{self, Checkpoint, INDEX, PICKLED, PICKLED_INDEX, WEIGHTS};
use posttrain::model::heads;
use posttrain::model::init::{self, Init, ScalarInit};
use posttrain::model::params::{HeadKind, Params};
use posttrain::model::tensor_writer::{Named, write};
use posttrain::model::tensors::Tensors;
use posttrain::model::transformer;
use posttrain::model::weights::Model;

use super::{Single, bits, params, sequences, spec};

fn checkpoint(tied: bool, head: HeadKind) -> Checkpoint {
    let spec = spec(tied);
    let params = params(&spec, head, 3);
    Checkpoint {
        origin: Origin::new(&spec, SpecialTokens { bos: None, eos: Some(1), pad: Some(0) }),
        spec,
        head,
        params,
    }
}

/// Whether the models are the same; their origins may differ by the fields that writing adds
/// to a configuration.
fn same(a: &Checkpoint, b: &Checkpoint) -> bool {
    a.spec == b.spec && a.head == b.head && a.params == b.params
}

#[test]
fn a_model_is_read_back_bit_for_bit_and_written_with_the_same_bytes() {
    for (tied, head) in [
        (true, HeadKind::Language),
        (false, HeadKind::Language),
        (true, HeadKind::Reward),
        (false, HeadKind::Reward),
    ] {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let saved = checkpoint(tied, head);
        checkpoint::save(first.path(), &saved).unwrap();
        let loaded = checkpoint::load(first.path()).unwrap();
        assert_eq!(loaded.spec, saved.spec);
        assert_eq!((loaded.head, loaded.origin.special), (head, saved.origin.special));
        for (loaded, saved) in loaded.params.iter().zip(saved.params.iter()) {
            assert_eq!(bits(loaded), bits(saved));
        }
        checkpoint::save(second.path(), &loaded).unwrap();
        for file in ["config.json", WEIGHTS] {
            assert_eq!(
                std::fs::read(first.path().join(file)).unwrap(),
                std::fs::read(second.path().join(file)).unwrap()
            );
        }
    }
}

#[test]
fn a_loaded_model_has_the_logits_of_the_saved_one() {
    let folder = tempfile::tempdir().unwrap();
    let b = Single::new();
    let saved = checkpoint(false, HeadKind::Language);
    checkpoint::save(folder.path(), &saved).unwrap();
    let loaded = checkpoint::load(folder.path()).unwrap();
    let batch = Batch::new(&sequences(&saved.spec, &[13]));
    let logits = |checkpoint: Checkpoint| {
        let model = Model::upload(&b, checkpoint.spec, checkpoint.head, checkpoint.params);
        heads::logits(&b, &model, &transformer::hidden(&b, &model, &batch), 13)
    };
    assert_eq!(bits(&logits(saved)), bits(&logits(loaded)));
}

#[test]
fn a_value_head_is_not_saved_with_the_policy() {
    let folder = tempfile::tempdir().unwrap();
    let saved = checkpoint(true, HeadKind::LanguageAndValue);
    checkpoint::save(folder.path(), &saved).unwrap();
    let loaded = checkpoint::load(folder.path()).unwrap();
    assert_eq!(loaded.params, Params { scalar: None, ..saved.params });
}

#[test]
fn large_models_are_written_in_shards_with_an_index() {
    let (folder, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let saved = checkpoint(false, HeadKind::Language);
    checkpoint::save(whole.path(), &saved).unwrap();
    let Checkpoint { origin, spec, head, params } = &saved;
    // Smaller than the largest tensor, which then has a separate file.
    let limit = 4 * 150;
    checkpoint::save_with(folder.path(), origin, (spec, *head), params, limit, |numbers| {
        numbers.into()
    })
    .unwrap();
    assert!(same(&checkpoint::load(folder.path()).unwrap(), &saved));

    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.path().join(INDEX)).unwrap()).unwrap();
    let map: BTreeMap<String, String> =
        serde_json::from_value(index["weight_map"].clone()).unwrap();
    let files: BTreeSet<&String> = map.values().collect();
    let total: usize = params.iter().map(|tensor| 4 * tensor.len()).sum();
    assert_eq!(index["metadata"]["total_size"], total);
    assert_eq!(**files.first().unwrap(), format!("model-00001-of-{:05}.safetensors", files.len()));
    let one = Tensors::open(&[whole.path().join(WEIGHTS)]).unwrap();
    assert_eq!(one.names().collect::<Vec<_>>(), map.keys().collect::<Vec<_>>());
    for file in &files {
        let shard = Tensors::open(&[folder.path().join(file)]).unwrap();
        let names: Vec<&str> = shard.names().collect();
        let bytes: usize =
            names.iter().map(|name| 4 * shard.shape(name).unwrap().iter().product::<usize>()).sum();
        assert!(bytes <= limit || names.len() == 1, "{file}: {bytes}");
        for name in names {
            assert_eq!(map[name], **file);
            assert_eq!(bits(&shard.read(name).unwrap()), bits(&one.read(name).unwrap()));
        }
    }
    // The same bytes each time.
    let again = tempfile::tempdir().unwrap();
    checkpoint::save_with(again.path(), origin, (spec, *head), params, limit, |numbers| {
        numbers.into()
    })
    .unwrap();
    for file in files.into_iter().map(String::as_str).chain([INDEX, "config.json"]) {
        assert_eq!(
            std::fs::read(folder.path().join(file)).unwrap(),
            std::fs::read(again.path().join(file)).unwrap()
        );
    }
    let exactly = tempfile::tempdir().unwrap();
    checkpoint::save_with(exactly.path(), origin, (spec, *head), params, total, |numbers| {
        numbers.into()
    })
    .unwrap();
    assert_eq!(
        std::fs::read(exactly.path().join(WEIGHTS)).unwrap(),
        std::fs::read(whole.path().join(WEIGHTS)).unwrap()
    );
}

#[test]
fn an_index_names_files_of_its_folder_that_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let Checkpoint { origin, spec, head, params } = checkpoint(false, HeadKind::Language);
    checkpoint::save_with(folder.path(), &origin, (&spec, head), &params, 1000, |numbers| {
        numbers.into()
    })
    .unwrap();
    let text = std::fs::read_to_string(folder.path().join(INDEX)).unwrap();
    for name in ["../model.safetensors", "/model.safetensors", "..", "absent.safetensors"] {
        let mut index: serde_json::Value = serde_json::from_str(&text).unwrap();
        index["weight_map"]["x"] = name.into();
        std::fs::write(folder.path().join(INDEX), index.to_string()).unwrap();
        user_error(folder.path(), &[INDEX, name]);
    }
    std::fs::write(folder.path().join(INDEX), "{}").unwrap();
    user_error(folder.path(), &[INDEX, "weight_map"]);
}

#[track_caller]
fn user_error(folder: &Path, words: &[&str]) {
    let error = checkpoint::load(folder).expect_err("it cannot be loaded");
    assert_eq!(kind_of(&error), Kind::User);
    let message = error.to_string();
    assert!(words.iter().all(|word| message.contains(word)), "{message}");
}

/// Rewrites a folder's tensors.
fn rewrite(folder: &Path, change: impl Fn(&mut Vec<(String, Vec<usize>, Vec<f32>)>)) {
    let path = folder.join(WEIGHTS);
    let tensors = Tensors::open(std::slice::from_ref(&path)).unwrap();
    let read = |name: &str| {
        (name.to_string(), tensors.shape(name).unwrap().to_vec(), tensors.read(name).unwrap())
    };
    let mut all: Vec<_> = tensors.names().map(read).collect();
    change(&mut all);
    let named =
        all.iter().map(|(name, shape, numbers)| Named::whole(name.clone(), shape.clone(), numbers));
    write(&path, named.collect(), None).unwrap();
}

#[test]
fn everything_that_does_not_fit_is_listed_at_once() {
    let folder = tempfile::tempdir().unwrap();
    checkpoint::save(folder.path(), &checkpoint(true, HeadKind::Language)).unwrap();
    rewrite(folder.path(), |all| {
        all.retain(|(name, ..)| name != "model.norm.weight");
        all.push(("model.layers.3.mlp.up_proj.weight".into(), vec![2], vec![0.0; 2]));
        all[0].1.reverse();
    });
    let words = [
        "missing: `model.norm.weight` [8]",
        "not expected: `model.layers.3.mlp.up_proj.weight`",
        "[8, 11], expected [11, 8]",
    ];
    user_error(folder.path(), &words);
}

#[test]
fn a_value_head_beside_a_policy_is_left_out_and_beside_a_reward_model_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let saved = checkpoint(true, HeadKind::Language);
    checkpoint::save(folder.path(), &saved).unwrap();
    let with_heads = |folder: &Path| {
        rewrite(folder, |all| {
            all.push(("v_head.summary.weight".into(), vec![1, 8], vec![0.5; 8]));
            all.push(("v_head.summary.bias".into(), vec![1], vec![0.5]));
        });
    };
    with_heads(folder.path());
    assert!(same(&checkpoint::load(folder.path()).unwrap(), &saved));
    let reward = tempfile::tempdir().unwrap();
    checkpoint::save(reward.path(), &checkpoint(true, HeadKind::Reward)).unwrap();
    with_heads(reward.path());
    user_error(reward.path(), &["not expected: `v_head.summary.weight`"]);
}

#[test]
fn a_number_that_is_not_finite_is_named_by_its_place_in_the_file() {
    for number in [f32::NAN, f32::INFINITY] {
        let folder = tempfile::tempdir().unwrap();
        checkpoint::save(folder.path(), &checkpoint(true, HeadKind::Language)).unwrap();
        rewrite(folder.path(), |all| {
            let (.., shape, numbers) = all
                .iter_mut()
                .find(|(name, ..)| name == "model.layers.1.mlp.down_proj.weight")
                .unwrap();
            assert_eq!(shape[..], [8, 10]);
            numbers[3 * 10 + 7] = number;
            numbers[5 * 10] = number;
        });
        user_error(
            folder.path(),
            &["`model.layers.1.mlp.down_proj.weight`", &format!("{number} at [3, 7]"), "hint"],
        );
    }
}

#[test]
fn tensors_too_many_to_list_are_counted_and_a_million_sizes_refused() {
    let folder = tempfile::tempdir().unwrap();
    checkpoint::save(folder.path(), &checkpoint(true, HeadKind::Language)).unwrap();
    let path = folder.path().join(WEIGHTS);
    let whole = std::fs::read(&path).unwrap();
    let header = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let own = std::str::from_utf8(&whole[8..][..header])
        .unwrap()
        .trim_end()
        .trim_end_matches('}')
        .to_owned()
        + "}";
    let (data, end) = (&whole[8 + header..], whole.len() - 8 - header);
    let with = |more: &str| {
        let header = format!("{own}{more}}}");
        std::fs::write(
            &path,
            [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat(),
        )
        .unwrap();
    };
    // Far less than what work in the square of the count would take.
    let since = std::time::Instant::now();
    let empty = |name: usize| {
        format!(",\"z{name}\":{{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[{end},{end}]}}")
    };
    with(&(0..200_000).map(empty).collect::<String>());
    let message = checkpoint::load(folder.path()).unwrap_err().to_string();
    assert!(
        message.contains("and 199990 more, 200000 in all") && message.lines().count() < 15,
        "{}",
        &message[..message.len().min(2000)]
    );
    let sizes = vec!["1"; 1_000_000].join(",").replacen('1', "0", 1);
    with(&format!(
        ",\"z\":{{\"dtype\":\"F32\",\"shape\":[{sizes}],\"data_offsets\":[{end},{end}]}}"
    ));
    user_error(folder.path(), &["`z` has 1000000 sizes", "at most"]);
    assert!(since.elapsed() < std::time::Duration::from_secs(60), "{:?}", since.elapsed());
}

#[test]
fn a_tied_checkpoint_may_hold_its_embedding_twice_but_not_another_head() {
    let folder = tempfile::tempdir().unwrap();
    let saved = checkpoint(true, HeadKind::Language);
    checkpoint::save(folder.path(), &saved).unwrap();
    rewrite(folder.path(), |all| {
        all.push(("lm_head.weight".into(), vec![11, 8], saved.params.embedding.clone()))
    });
    assert!(same(&checkpoint::load(folder.path()).unwrap(), &saved));
    rewrite(folder.path(), |all| {
        all.iter_mut().filter(|(name, ..)| name == "lm_head.weight").for_each(|(.., x)| x[5] += 1.0)
    });
    user_error(folder.path(), &["lm_head.weight", "tie_word_embeddings"]);
}

#[test]
fn a_folder_that_holds_no_model_is_a_user_error() {
    let folder = tempfile::tempdir().unwrap();
    user_error(&folder.path().join("absent"), &["absent"]);
    user_error(folder.path(), &["config.json"]);
    checkpoint::save(folder.path(), &checkpoint(true, HeadKind::Language)).unwrap();
    std::fs::remove_file(folder.path().join(WEIGHTS)).unwrap();
    user_error(folder.path(), &[WEIGHTS, INDEX, PICKLED, PICKLED_INDEX]);
    std::fs::write(folder.path().join("config.json"), "{").unwrap();
    user_error(folder.path(), &["config.json", "JSON"]);
}

#[test]
fn new_weights_depend_on_the_seed_alone_and_have_the_spread_asked_for() {
    let spec = posttrain::model::spec::Spec {
        width: 64,
        embedding_width: 64,
        feed_forward_width: 96,
        query_heads: 8,
        channels: 8,
        ..spec(false)
    };
    let draw = |init, seed| init::language_model(&spec, init, seed);
    assert_eq!(draw(Init::Copying, 1), draw(Init::Copying, 1));
    let normal = draw(Init::Normal { std: 0.3 }, 1);
    assert_ne!(normal, draw(Init::Normal { std: 0.3 }, 2));
    let spread =
        |x: &[f32]| (x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / x.len() as f64).sqrt();
    let layer = &normal.layers[1];
    for tensor in [
        &normal.embedding,
        &layer.query.weight,
        &layer.down.weight,
        normal.lm_head.as_ref().unwrap(),
    ] {
        assert!((spread(tensor) - 0.3).abs() < 0.03);
    }
    assert!(
        layer.attention_norm.weight.iter().all(|&x| x == 1.0)
            && layer.query.bias.as_ref().unwrap().iter().all(|&x| x == 0.0)
    );
    let scalar =
        init::scalar_head(&spec, HeadKind::LanguageAndValue, ScalarInit::Normal, 1).unwrap();
    assert!(
        (spread(&scalar.weight) - 1.0 / 65f64.sqrt()).abs() < 0.03
            && scalar.bias == Some(vec![0.0])
    );
}

#[test]
fn a_copying_start_has_keys_near_queries_and_outputs_that_return_values() {
    let spec = posttrain::model::spec::Spec {
        width: 64,
        embedding_width: 64,
        feed_forward_width: 96,
        query_heads: 4,
        key_value_heads: 2,
        channels: 16,
        ..spec(true)
    };
    let params = init::language_model(&spec, Init::Copying, 4);
    let layer = &params.layers[0];
    assert!(layer.down.weight.iter().all(|&x| x == 0.0));
    let product =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    let cosine = |a: &[f32], b: &[f32]| product(a, b) / (product(a, a) * product(b, b)).sqrt();
    // Two query heads share a key head: each has 0.9 / sqrt(2) of it.
    let (rows, d) = (16 * 64, 64);
    for head in 0..4 {
        let (query, key) = (
            &layer.query.weight[head * rows..][..rows],
            &layer.key.weight[head / 2 * rows..][..rows],
        );
        assert!((cosine(query, key) - 0.9 / 2f64.sqrt()).abs() < 0.05);
        assert!(cosine(query, &layer.key.weight[(1 - head / 2) * rows..][..rows]).abs() < 0.1);
        for channel in 0..16 {
            let value = &layer.value.weight[(head / 2 * 16 + channel) * d..][..d];
            let output: Vec<f32> =
                (0..d).map(|row| layer.output.weight[row * 64 + head * 16 + channel]).collect();
            assert!(value.iter().zip(&output).all(|(v, o)| (o - 0.4 * v).abs() < 1e-6));
        }
    }
    let single = posttrain::model::spec::Spec { key_value_heads: 4, ..spec };
    let layer = init::language_model(&single, Init::Copying, 4).layers.remove(0);
    assert!((cosine(&layer.query.weight, &layer.key.weight) - 0.9).abs() < 0.02);
    assert!(
        (product(&layer.key.weight, &layer.key.weight)
            / product(&layer.query.weight, &layer.query.weight)
            - 1.0)
            .abs()
            < 0.06
    );
}

#[test]
fn a_configuration_of_more_layers_than_tensors_is_refused_before_anything_is_made_for_them() {
    let folder = tempfile::tempdir().unwrap();
    checkpoint::save(folder.path(), &checkpoint(true, HeadKind::Language)).unwrap();
    let path = folder.path().join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        text.replace("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 200000000"),
    )
    .unwrap();
    user_error(folder.path(), &["200000000"]);
}

#[test]
fn tensors_are_handed_over_one_by_one_and_asked_for_one_by_one() {
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let saved = checkpoint(false, HeadKind::Language);
    checkpoint::save(folder.path(), &saved).unwrap();
    let mut sizes = Vec::new();
    let (description, params) = checkpoint::load_with(folder.path(), |numbers| {
        sizes.push(numbers.len());
        numbers
    })
    .unwrap();
    assert_eq!(
        sizes,
        Params::slots(&saved.spec, HeadKind::Language)
            .iter()
            .map(|slot| slot.count())
            .collect::<Vec<_>>()
    );
    let counts = std::cell::RefCell::new(Vec::new());
    checkpoint::save_with(
        copy.path(),
        &description.origin,
        (&saved.spec, saved.head),
        &params,
        usize::MAX,
        |numbers| {
            counts.borrow_mut().push(numbers.len());
            numbers.into()
        },
    )
    .unwrap();
    let mut counts = counts.into_inner();
    counts.sort_unstable();
    sizes.sort_unstable();
    assert_eq!(counts, sizes);
}
