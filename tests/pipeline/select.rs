//! `select` in a pipeline: what it makes is what its models are, and models that cannot be compared
//! are refused before anything runs.

use std::path::Path;

use posttrain::pipeline::expand::{Pipeline, parse};
use posttrain::pipeline::overrides::Overrides;
use posttrain::pipeline::registry::Builtin;

/// `VALIDATION` and `OTHER` are put in.
const PIPELINE: &str = "\
params: {rate: 0.1}
matrix: {rate: [0.1, 0.2]}
stages:
  world: {uses: dataset, source: {world: {notes: 0, pretrain: 9, sft: 9, compare: 0, prompts: 0, validation: 3, test: 2}}}
  words: {uses: tokenizer, dataset: world, vocabulary: 300}
  base: {uses: pretrain, dataset: world, tokenizer: words, phases: [pretrain], batch_size: 4, optimiser: {learning_rate: 0.01},
    model: {width: 16, layers: 1, heads: 2, feed_forward: 24, context: 128}}
  sft: {uses: sft, policy: base, dataset: world, batch_size: 4, optimiser: {learning_rate: \"${rate}\"}VALIDATION}
  best: {uses: select, of: OF}
  more: {uses: sft, policy: best, dataset: world, batch_size: 4, optimiser: {learning_rate: 0.1}}
OTHER
";

fn read(validation: &str, of: &str, other: &str) -> Result<Pipeline, String> {
    let text = PIPELINE.replace("VALIDATION", validation).replace("OF", of).replace("OTHER", other);
    let overrides = Overrides { profiles: Vec::new(), sets: Vec::new() };
    parse("p.yaml", text, Path::new("."), &overrides, &Builtin).map_err(|failure| failure.message)
}

const MEASURED: &str = ", validation: {split: validation, every: 1}";

#[test]
fn a_selected_policy_is_a_policy_and_a_selected_reward_model_is_not() {
    let pipeline = read(MEASURED, "{all: sft}", "").unwrap();
    let best = pipeline.graph.nodes.iter().find(|node| node.name == "best").unwrap();
    assert_eq!((best.output.as_str(), best.on_device), ("policy", false));

    let judges = "  judge: {uses: reward_model, policy: base, dataset: world, batch_size: 4, \
        optimiser: {learning_rate: \"${rate}\"}, validation: {split: validation, every: 1}}\n  \
        judges: {uses: select, of: {all: judge}}\n  last: {uses: generate, policy: judges, \
        dataset: world, sampling: {max_new_tokens: 4}}";
    let message = read(MEASURED, "{all: sft}", judges).unwrap_err();
    assert!(
        message.contains(
            "expected a stage that makes a `policy`, but `judges` makes a `reward_model`"
        ),
        "{message}"
    );
    let mixed = "  judge: {uses: reward_model, policy: base, dataset: world, batch_size: 4, \
        optimiser: {learning_rate: 0.1}, validation: {split: validation, every: 1}}";
    let message = read(MEASURED, "[{all: sft}, judge]", mixed).unwrap_err();
    assert!(
        message.contains("but `sft` makes a `policy` and `judge` a `reward_model`"),
        "{message}"
    );
}

#[test]
fn models_that_cannot_be_compared_are_refused_before_anything_runs() {
    let message = read("", "{all: sft}", "").unwrap_err();
    assert!(message.contains("`of` of `best`: `sft[rate=0.1]` has no `validation`"), "{message}");
    let other = "  tuned: {uses: sft, policy: base, dataset: world, batch_size: 4, \
        optimiser: {learning_rate: 0.1}, validation: {split: test/id, every: 1}}";
    let message = read(MEASURED, "[{all: sft}, tuned]", other).unwrap_err();
    assert!(
        message.contains("`validation.split` of `tuned` is not that of `sft[rate=0.1]`"),
        "{message}"
    );
}

#[test]
fn a_circle_of_selections_is_a_mistake() {
    let other = "  one: {uses: select, of: [two, sft]}\n  two: {uses: select, of: [one, sft]}";
    let message = read(MEASURED, "{all: sft}", other).unwrap_err();
    assert!(message.contains("stages in a circle: "), "{message}");
}
