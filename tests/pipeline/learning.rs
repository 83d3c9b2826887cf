//! `kto` and `merge` in a pipeline: what they need of the stages that they refer to is asked for
//! before anything runs.

use std::path::Path;

use posttrain::pipeline::expand::{Pipeline, parse};
use posttrain::pipeline::overrides::Overrides;
use posttrain::pipeline::registry::Builtin;

/// `MISMATCHED`, `Z0` and `MODELS` are put in.
const PIPELINE: &str = "\
stages:
  world:
    uses: dataset
    source:
      world: {notes: 0, pretrain: 9, sft: 9, compare: 3, prompts: 3, validation: 0, test: 2}
  words: {uses: tokenizer, dataset: world, vocabulary: 300}
  base:
    uses: pretrain
    dataset: world
    tokenizer: words
    phases: [pretrain]
    batch_size: 4
    optimiser: {learning_rate: 0.01}
    model: {width: 16, layers: 1, heads: 2, feed_forward: 24, context: 128}
  scores:
    uses: reward_model
    policy: base
    dataset: world
    batch_size: 4
    optimiser: {learning_rate: 0.01}
  reference:
    {uses: reference_logprobs, policy: base, dataset: world, splits: [sft, prompts]MISMATCHED}
  kto:
    {uses: kto, policy: base, reference: reference, dataset: world, desirable: sft,
     undesirable: prompts, batch_size: 4, beta: 0.1, optimiser: {learning_rate: 0.01}Z0}
  merged: {uses: merge, models: [{model: kto, weight: 0.5}, {model: MODEL, weight: 0.5}]}
  more:
    {uses: sft, policy: merged, dataset: world, batch_size: 4, optimiser: {learning_rate: 0.1}}
";

fn read(mismatched: &str, z0: &str, model: &str) -> Result<Pipeline, String> {
    let text = PIPELINE.replace("MISMATCHED", mismatched).replace("Z0", z0);
    let text = text.replace("MODEL", model);
    let overrides = Overrides { profiles: Vec::new(), sets: Vec::new() };
    parse("p.yaml", text, Path::new("."), &overrides, &Builtin).map_err(|failure| failure.message)
}

#[test]
fn a_reference_point_needs_mismatched_rows_of_its_reference() {
    assert!(read(", mismatched: true", "", "base").is_ok());
    assert!(read("", ", z0: none", "base").is_ok());
    assert!(read(", mismatched: true", ", z0: none", "base").is_ok());
    for mismatched in ["", ", mismatched: false"] {
        let message = read(mismatched, "", "base").unwrap_err();
        let expected = "`reference` of `kto`: `reference` has no `mismatched`";
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_merged_policy_is_a_policy_on_the_host_and_a_reward_model_is_not_merged() {
    let pipeline = read(", mismatched: true", "", "base").unwrap();
    let merged = pipeline.graph.nodes.iter().find(|node| node.name == "merged").unwrap();
    assert_eq!((merged.output.as_str(), merged.on_device), ("policy", false));
    let message = read(", mismatched: true", "", "scores").unwrap_err();
    assert!(
        message.contains(
            "expected a stage that makes a `policy`, but `scores` makes a `reward_model`"
        ),
        "{message}"
    );
}
