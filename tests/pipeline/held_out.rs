//! A reward model that measures a policy during training must have no part in what trains it: under
//! `reward_model`, or under any part of `rewards`.

use std::path::Path;

use posttrain::pipeline::expand::{Pipeline, parse};
use posttrain::pipeline::overrides::Overrides;
use posttrain::pipeline::registry::Builtin;

/// `METHOD` is put in, the fields of a method besides, and `REWARD`.
const PIPELINE: &str = "\
stages:
  world: {uses: dataset, source: {world: {notes: 0, pretrain: 9, sft: 9, compare: 4, prompts: 4, validation: 3, test: 2}}}
  words: {uses: tokenizer, dataset: world, vocabulary: 300}
  base: {uses: pretrain, dataset: world, tokenizer: words, phases: [pretrain], batch_size: 4, optimiser: {learning_rate: 0.01},
    model: {width: 16, layers: 1, heads: 2, feed_forward: 24, context: 128}}
  other: {uses: reward_model, policy: base, dataset: world, batch_size: 4, seed: 1, optimiser: {learning_rate: 0.1}}
  judge: {uses: reward_model, policy: base, dataset: world, batch_size: 4, optimiser: {learning_rate: 0.1}}
  tuned: {METHOD, policy: base, dataset: world, max_new_tokens: 4, optimiser: {learning_rate: 0.1},
    validation: {split: validation, every: 1, by: {reward_model: judge}}, REWARD}
";

fn read(method: &str, reward: &str) -> Result<Pipeline, String> {
    let text = PIPELINE.replace("METHOD", method).replace("REWARD", reward);
    let overrides = Overrides { profiles: Vec::new(), sets: Vec::new() };
    parse("p.yaml", text, Path::new("."), &overrides, &Builtin).map_err(|failure| failure.message)
}

#[test]
fn a_reward_model_that_is_a_part_of_the_reward_does_not_measure_the_policy() {
    for method in [
        "uses: ppo, steps: 1, batch_size: 2, kl: {coef: 0.1}",
        "uses: grpo, steps: 1, batch_size: 2, kl: {coef: 0.1}",
        "uses: online_dpo, steps: 1, batch_size: 2, beta: 0.1",
        "uses: expert_iteration, rounds: 1, prompts_per_round: 2, batch_size: 2",
    ] {
        for reward in [
            "reward_model: judge",
            "rewards: {quality: {by: {reward_model: judge}}, short: {by: {length: {most: 3}}}}",
            "rewards: {quality: {by: {ensemble: {models: [other, judge]}}}}",
        ] {
            let message = read(method, reward).err().unwrap_or_default();
            assert!(
                message.contains(
                    "`validation.by.reward_model` of `tuned`: `judge` was made with the help of \
                     `judge`, which is to judge it"
                ),
                "{method}, {reward}: {message}"
            );
        }
        let held_out = "rewards: {quality: {by: {reward_model: other}}}";
        assert!(read(method, held_out).is_ok(), "{method}");
    }
}
