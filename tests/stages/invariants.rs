//! What holds of every training stage, whatever it learns: a rate of 0 moves no weight, and a seed
//! changes what its doc says and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use posttrain::backend::cpu::Cpu;
use posttrain::dag::tree::{Links, walk};
use serde_json::{Map, Value, json};

use super::bench::{Made, make};
use super::trajectories::{case, config, reference, root};
use crate::model::golden::{Named, tensors};

/// Makes a case with some of its config otherwise.
fn changed(name: &str, change: impl FnOnce(&mut Value)) -> Made {
    let case = case(name);
    let (reference, mut config) = (reference(&Cpu::<f32>::new(), &case), config(case.config));
    if let Some(made) = &reference {
        config["reference"] = made.reference();
    }
    change(&mut config);
    make(&case.stage, config)
}

fn weights(made: &Made) -> Named {
    tensors(&made.path("model.safetensors"))
}

#[test]
fn a_learning_rate_of_zero_leaves_the_bytes_of_every_weight() {
    for name in [
        "sft",
        "sft_frozen",
        "reward_model_centred",
        "dpo_hinge",
        "dpo_batches",
        "dpo_orpo",
        "kto",
        "kto_batches",
        "kto_single",
        "ppo",
        "ppo_separate",
        "ppo_warmup",
    ] {
        let run = |steps: usize| {
            let made = changed(name, |config| {
                config["optimiser"]["learning_rate"] = json!(0.0);
                let length = if config["steps"].is_null() { "epochs" } else { "steps" };
                config[length] = json!(steps);
            });
            assert!(
                made.metric("grad_norm").iter().any(|norm| *norm > 0.0),
                "{name}: there is a gradient"
            );
            weights(&made)
        };
        let (once, twice) = (run(1), run(2));
        let policy = case(name).config["policy"].as_str().unwrap().to_owned();
        let began = tensors(&root().join("inputs").join(policy).join("model.safetensors"));
        for (tensor, (_, numbers)) in &once {
            let bits = |of: &[f64]| of.iter().map(|x| x.to_bits()).collect::<Vec<u64>>();
            assert_eq!(bits(numbers), bits(&twice[tensor].1), "{name}: {tensor}");
            match began.get(tensor) {
                Some((_, began)) => assert_eq!(bits(numbers), bits(began), "{name}: {tensor}"),
                None => assert_eq!(tensor, "score.weight", "{name}: only a head is new"),
            }
        }
        assert!(began.keys().all(|tensor| once.contains_key(tensor)), "{name}: no tensor is lost");
    }
}

/// All files of an artefact.
fn files(made: &Made) -> BTreeMap<String, Vec<u8>> {
    let names = walk(&made.path(""), Links::Refuse).unwrap().into_iter().map(|file| file.0);
    names.map(|name| (name.clone(), made.bytes(&name))).collect()
}

/// Runs a case under two seeds: the files, and the metrics, that the seed changes.
fn of_the_seed(name: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let made = |seed: u64| changed(name, |config| config["seed"] = json!(seed));
    let (one, other) = (made(11), made(12));
    let (own, others) = (files(&one), files(&other));
    assert!(own.keys().eq(others.keys()), "{name}: a seed changes no file's name");
    let differ = own.iter().filter(|(file, bytes)| others[*file] != **bytes);
    let changed_files = differ.map(|(file, _)| file.clone()).collect();
    let rows = |made: &Made| made.rows::<Map<String, Value>>("metrics.jsonl");
    assert_eq!(rows(&one).len(), rows(&other).len(), "{name}: a seed changes no count of steps");
    let pairs = rows(&one).into_iter().zip(rows(&other));
    let differ = pairs.flat_map(|(own, others)| {
        let differs = move |(name, value): &(String, Value)| others.get(name) != Some(value);
        own.into_iter().filter(differs).map(|(name, _)| name)
    });
    (changed_files, differ.collect())
}

#[test]
fn a_seed_changes_what_is_trained_and_sampled_and_nothing_else() {
    let set = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<BTreeSet<_>>();
    let model = ["metrics.jsonl", "model.safetensors"];
    for (name, more, kept) in [
        ("sft", vec![], vec!["step", "learning_rate"]),
        // A reward model is known by its weights where it is a judge.
        (
            "reward_model",
            ["normalisation.json", "trained_on.bin"].map(str::to_owned).to_vec(),
            vec!["step", "learning_rate"],
        ),
        ("dpo_batches", vec![], vec!["step", "learning_rate"]),
        ("kto_batches", vec![], vec!["step", "learning_rate"]),
        (
            "ppo",
            (1..=6).map(|step| format!("rollouts/step-{step:05}.jsonl")).collect(),
            vec!["step", "learning_rate", "episode", "objective/kl_coef"],
        ),
    ] {
        let (changed_files, changed_metrics) = of_the_seed(name);
        let declared: BTreeSet<String> = set(&model).into_iter().chain(more).collect();
        assert_eq!(changed_files, declared, "{name}");
        assert!(changed_metrics.is_disjoint(&set(&kept)), "{name}: {changed_metrics:?}");
        assert!(changed_metrics.contains("grad_norm"), "{name}: {changed_metrics:?}");
    }
}
