//! A replay of a recorded step in a pipeline: a plan knows its memory, and finds a recorded run of
//! other things before anything runs.

use std::path::Path;

use posttrain::backend::Sizes;
use posttrain::pipeline::expand::{Pipeline, parse};
use posttrain::pipeline::memory::estimate_in;
use posttrain::pipeline::overrides::Overrides;
use posttrain::pipeline::registry::Builtin;
use posttrain::stages::models::ArtefactShapes;

/// `KIND`, `RECORD`, `POLICY` and `MORE` are put in.
const PIPELINE: &str = "\
stages:
  world:
    uses: dataset
    source: {world: {notes: 0, pretrain: 9, sft: 9, compare: 4, prompts: 9, validation: 3, test: 2}}
  words: {uses: tokenizer, dataset: world, vocabulary: 300}
  base:
    {uses: pretrain, dataset: world, tokenizer: words, phases: [pretrain], batch_size: 4,
    model: {width: 16, layers: 1, heads: 2, feed_forward: 24, context: 512},
    optimiser: {learning_rate: 0.01}}
  sft: {uses: sft, policy: base, dataset: world, batch_size: 4, optimiser: {learning_rate: 0.01}}
  judge:
    {uses: reward_model, policy: base, dataset: world, batch_size: 4,
    optimiser: {learning_rate: 0.01}}
  run:
    {uses: KIND, policy: sft, dataset: world, reward_model: judge, steps: 4, batch_size: 4,
    max_new_tokens: 48, kl: {coef: 0.1}RECORD, optimiser: {learning_rate: 0.01}MORE}
  again:
    {uses: KIND, policy: POLICY, dataset: world, reward_model: judge, steps: 4, batch_size: 4,
    max_new_tokens: 48, replay: {of: run, step: 2}, kl: {coef: 0.1},
    optimiser: {learning_rate: 0.1}MORE}
";

fn read(kind: &str, record: &str, policy: &str, more: &str) -> Result<Pipeline, String> {
    let text = PIPELINE.replace("KIND", kind).replace("RECORD", record);
    let text = text.replace("POLICY", policy).replace("MORE", more);
    let overrides = Overrides { profiles: Vec::new(), sets: Vec::new() };
    parse("p.yaml", text, Path::new("."), &overrides, &Builtin).map_err(|failure| failure.message)
}

const RECORD: &str = ", record: [2]";

#[test]
fn a_recorded_run_of_other_things_is_refused_before_anything_runs() {
    for kind in ["ppo", "grpo"] {
        let message = read(kind, "", "sft", "").unwrap_err();
        assert!(message.contains("`replay.of` of `again`: `run` has no `record`"), "{message}");
        let message = read(kind, RECORD, "base", "").unwrap_err();
        assert!(message.contains("`policy` of `run` is `sft`, not `base`"), "{message}");
        assert!(read(kind, RECORD, "sft", "").is_ok());
    }
}

/// A replay has no reward model on the device, and samples nothing.
#[test]
fn a_plan_knows_the_memory_of_a_replay() {
    const BF16: Sizes = Sizes { stored: 2, wide: 4, host: 0, channels: 256 };
    for (kind, more, loads) in
        [("ppo", "", false), ("grpo", "", false), ("ppo", ", value: {critic: separate}", true)]
    {
        let pipeline = read(kind, RECORD, "sft", more).unwrap();
        let all = estimate_in(ArtefactShapes::new(Some(1 << 30), BF16), &pipeline.graph, &Builtin);
        let (run, again) = (all["run"], all["again"]);
        assert_eq!(again.weights < run.weights, !loads, "{kind}{more}: {again:?} {run:?}");
        assert!(again.bytes() <= run.bytes());
        assert_eq!((again.moments, again.gradients), (run.moments, run.gradients));
    }
}
