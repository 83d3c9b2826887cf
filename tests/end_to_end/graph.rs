//! `smoke.yaml` is `summarisation.yaml`, tiny: the same stages of the same kinds that refer to the
//! same stages, with the same params.

use std::path::Path;

use posttrain::dag::node::{OwnedReference, references};
use posttrain::pipeline::expand::load;
use posttrain::pipeline::overrides::Overrides;
use posttrain::pipeline::registry::Builtin;
use serde_json::{Value, json};

type Stage = (String, String, Vec<(String, OwnedReference)>);

fn stages(pipeline: &str) -> Vec<Stage> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines").join(pipeline);
    let pipeline = load(&path, &Overrides::default(), &Builtin).unwrap();
    pipeline
        .graph
        .nodes
        .into_iter()
        .map(|node| (node.name, node.stage, references(&node.config).unwrap()))
        .collect()
}

fn params(pipeline: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines").join(pipeline);
    let text = std::fs::read_to_string(path).unwrap();
    let document: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
    document["params"]
        .as_mapping()
        .unwrap()
        .keys()
        .map(|key| key.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_tiny_pipeline_has_the_graph_of_the_real_one() {
    let (tiny, real) = (stages("smoke.yaml"), stages("summarisation.yaml"));
    assert_eq!(
        tiny.iter().map(|stage| &stage.0).collect::<Vec<_>>(),
        real.iter().map(|stage| &stage.0).collect::<Vec<_>>()
    );
    for (tiny, real) in tiny.iter().zip(&real) {
        assert_eq!(tiny, real);
    }
    let kinds: std::collections::BTreeSet<&str> =
        real.iter().map(|stage| stage.1.as_str()).collect();
    for kind in [
        "dataset",
        "tokenizer",
        "pretrain",
        "sft",
        "reward_model",
        "ppo",
        "best_of_n",
        "generate",
        "evaluate",
    ] {
        assert!(kinds.contains(kind), "{kind} does not occur");
    }
}

/// The seeds of the world and of the judge's world.
fn seeds(pipeline: &str, seed: u64) -> [Value; 2] {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines").join(pipeline);
    let overrides = Overrides { sets: vec![format!("seed={seed}")], ..Overrides::default() };
    let graph = load(&path, &overrides, &Builtin).unwrap().graph;
    ["world", "judge_world"].map(|name| {
        let node = graph.nodes.iter().find(|node| node.name == name).unwrap();
        let source = node.config["source"].as_object().unwrap().values().next().unwrap();
        source["seed"].clone()
    })
}

#[test]
fn no_seed_of_a_study_is_that_of_its_judge() {
    for pipeline in ["smoke.yaml", "summarisation.yaml", "instruction_following.yaml"] {
        assert_eq!(seeds(pipeline, 0), [json!(0), json!(1000)], "{pipeline}");
        for seed in [1, 2, 100, 999, 1000, 1001, 10_000] {
            let [own, judges] = seeds(pipeline, seed);
            assert_eq!(own, json!(seed), "{pipeline}");
            assert_ne!(own, judges, "{pipeline}");
        }
    }
}

#[test]
fn the_tiny_pipeline_has_the_params_of_the_real_one() {
    assert_eq!(params("smoke.yaml"), params("summarisation.yaml"));
}
