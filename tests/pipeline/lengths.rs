//! Which rows a run checks before anything trains.

use std::path::Path;

use posttrain::backend::Sizes;
use posttrain::pipeline::expand::parse;
use posttrain::pipeline::lengths::readings;
use posttrain::pipeline::memory::all_shapes;
use posttrain::pipeline::overrides::Overrides;
use posttrain::pipeline::registry::Builtin;
use posttrain::stages::models::ArtefactShapes;
use posttrain::stages::reading::{Reading, Splits};
use posttrain::stages::source::Source;

/// What each node reads, one line each: splits, part, context, limit of prompts.
fn read(text: &str, folder: &Path) -> Vec<String> {
    let pipeline = parse("p.yaml", text.to_owned(), folder, &Overrides::default(), &Builtin)
        .unwrap_or_else(|failure| panic!("{}", failure.message));
    let sizes = Sizes { stored: 4, wide: 4, host: 0, channels: 256 };
    let shapes = all_shapes(ArtefactShapes::new(None, sizes), &pipeline.graph, &Builtin);
    let line = |node: &str, reading: Reading| {
        let Reading { splits, rows, tokenizer, limits, reader, part, .. } = reading;
        let Source::Stage(tokenizer) = tokenizer else { panic!("{tokenizer:?}") };
        let prompt = limits.prompt.map(|prompt| format!(", prompt {prompt}")).unwrap_or_default();
        let rows = rows.map(|rows| format!("{rows} rows of ")).unwrap_or_default();
        let splits = match splits {
            Splits::Named(names) => names.join(" "),
            Splits::Present(names) => format!("what there is of {}", names.join(" ")),
            other => format!("{other:?}"),
        };
        assert_eq!(tokenizer, "tokenizer");
        format!("{node}: {part:?} of {rows}{splits}, {reader}'s {}{prompt}", limits.context)
    };
    let nodes = pipeline.graph.nodes.iter();
    nodes
        .flat_map(|node| {
            readings(node, &Builtin, &shapes).into_iter().map(|own| line(&node.name, own))
        })
        .collect()
}

#[test]
fn the_default_study_checks_every_split_that_a_model_reads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    let text = std::fs::read_to_string(folder.join("summarisation.yaml")).unwrap();
    let lines = read(&text, &folder);
    let tests = "test/id test/ood_forum test/ood_length test/ood_register";
    let expected = [
        "base: Completion of notes pretrain, the model's 256",
        "sft: Completion of sft, the model's 256",
        &format!("candidates: Prompt(32) of compare {tests}, the policy's 256"),
        "reward_model: Pair of preferences, the model's 256",
        "ppo: Prompt(33) of prompts, the reward model's 256",
        "base_outputs: Prompt(32) of Tests, the policy's 256",
        "sft_outputs: Prompt(32) of Tests, the policy's 256",
        "ppo_outputs: Prompt(32) of Tests, the policy's 256",
        "best_outputs: Prompt(33) of Tests, the reward model's 256",
        "base_samples: Prompt(32) of 30 rows of Tests, the policy's 256",
        "sft_samples: Prompt(32) of 30 rows of Tests, the policy's 256",
        "ppo_samples: Prompt(32) of 30 rows of Tests, the policy's 256",
        "best_samples: Prompt(33) of 30 rows of Tests, the reward model's 256",
        &format!("judge_candidates: Prompt(32) of compare {tests}, the policy's 256"),
        "judge_model: Pair of preferences, the model's 256",
        "judge_validity: Pair of TestsOrAll, the reward model's 256, prompt 216",
        &format!("evaluation: Text of what there is of {tests}, the reward model's 256"),
        &format!("evaluation: Pair of what there is of {tests}, the reward model's 256"),
    ];
    assert_eq!(lines, expected, "{lines:#?}");
}

/// One node of every other kind.
const OTHERS: &str = "\
stages:
  data: {uses: dataset, source: {files: {sft: {path: a.jsonl, prompt: a, completion: b}}}}
  tokenizer: {uses: tokenizer, dataset: data, vocabulary: 300}
  base:
    uses: pretrain
    dataset: data
    tokenizer: tokenizer
    phases: [sft]
    batch_size: 2
    model: {width: 16, layers: 1, heads: 2, feed_forward: 16, context: 64}
    optimiser: {learning_rate: 0.01}
  rewards:
    {uses: reward_model, policy: base, dataset: data, batch_size: 2, optimiser: {learning_rate: 1}}
  scores:
    uses: score
    dataset: data
    splits: [sft]
    by: {reward_model: {model: rewards, max_prompt_tokens: 9}}
  labels:
    {uses: judge, dataset: data, limit: 3, judge: {reward_model: rewards}, max_prompt_tokens: 8}
  samples: {uses: generate, policy: base, dataset: data, limit: 2, sampling: {max_new_tokens: 8}}
  verdicts: {uses: judge, dataset: data, a: samples, judge: {reward_model: rewards}}
";

#[test]
fn scores_and_labels_are_checked_and_samples_fit_already() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.jsonl"), "").unwrap();
    let lines = read(OTHERS, folder.path());
    let expected = [
        "base: Completion of sft, the model's 64",
        "rewards: Pair of preferences, the model's 64",
        "scores: Text of sft, the model's 64, prompt 9",
        "labels: Pair of 3 rows of TestsOrAll, the reward model's 64, prompt 8",
        "samples: Prompt(8) of 2 rows of Tests, the policy's 64",
    ];
    assert_eq!(lines, expected, "{lines:#?}");
}
