//! `smoke.yaml` is `summarisation.yaml`, tiny: the same stages of the same kinds that refer to the same stages, with the same params.

use std::path::Path;

use posttrain::dag::node::{OwnedReference, references};
use posttrain::pipeline::expand::load;
use posttrain::pipeline::overrides::Overrides;
use posttrain::pipeline::registry::Builtin;

type Stage = (String, String, Vec<(String, OwnedReference)>);

fn stages(pipeline: &str) -> Vec<Stage> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines").join(pipeline);
    let pipeline = load(&path, &Overrides::default(), &Builtin).unwrap();
    pipeline.graph.nodes.into_iter().map(|node| (node.name, node.stage, references(&node.config).unwrap())).collect()
}

fn params(pipeline: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines").join(pipeline);
    let text = std::fs::read_to_string(path).unwrap();
    let document: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
    document["params"].as_mapping().unwrap().keys().map(|key| key.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_tiny_pipeline_has_the_graph_of_the_real_one() {
    let (tiny, real) = (stages("smoke.yaml"), stages("summarisation.yaml"));
    assert_eq!(tiny.iter().map(|stage| &stage.0).collect::<Vec<_>>(), real.iter().map(|stage| &stage.0).collect::<Vec<_>>());
    for (tiny, real) in tiny.iter().zip(&real) {
        assert_eq!(tiny, real);
    }
    let kinds: std::collections::BTreeSet<&str> = real.iter().map(|stage| stage.1.as_str()).collect();
    for kind in ["dataset", "tokenizer", "pretrain", "sft", "reward_model", "ppo", "best_of_n", "generate", "evaluate"] {
        assert!(kinds.contains(kind), "{kind} does not occur");
    }
}

#[test]
fn the_tiny_pipeline_has_the_params_of_the_real_one() {
    assert_eq!(params("smoke.yaml"), params("summarisation.yaml"));
}
