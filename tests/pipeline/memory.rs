//! What a plan says of the device's memory, of a model of 7 billion parameters of which nothing but
//! the configuration is there.

use std::path::Path;

use posttrain::backend::Sizes;
use posttrain::dag::key::Preimage;
use posttrain::dag::node::Numerics;
use posttrain::model::memory::Memory;
use posttrain::pipeline::expand::{Pipeline, parse};
use posttrain::pipeline::memory::estimate_in;
use posttrain::pipeline::overrides::Overrides;
use posttrain::pipeline::registry::Builtin;
use posttrain::stages::models::ArtefactShapes;

/// Bytes of 80 GB of memory, and of numbers in bf16 with sums in single precision.
const DEVICE: u64 = 80_000_000_000;
const BF16: Sizes = Sizes { stored: 2, wide: 4, host: 0, channels: 256 };

const LLAMA_7B: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000, "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": false, "bos_token_id": 1, "eos_token_id": 2}"#;

/// The summarisation study's models, of the paper's set-up: 512 tokens of a prompt, 48 of a
/// response.
const PIPELINE: &str = "\
params: {frozen: 0.8, recompute: none, critic: shared}
stages:
  posts: {uses: dataset, source: {world: {seed: 1, notes: 4, pretrain: 12, sft: 4, compare: 3, prompts: 3, validation: 3, test: 3}}}
  base: {uses: model, path: base}
  sft:
    {uses: sft, policy: base, dataset: posts, batch_size: 8, frozen: \"${frozen}\", recompute: \"${recompute}\", optimiser: {learning_rate: 1e-5}}
  judge:
    {uses: reward_model, policy: sft, dataset: posts, batch_size: 8, frozen: \"${frozen}\", recompute: \"${recompute}\", optimiser: {learning_rate: 1e-5}}
  ppo:
    uses: ppo
    policy: sft
    reward_model: judge
    dataset: posts
    steps: 10
    batch_size: 64
    max_prompt_tokens: 512
    max_new_tokens: 48
    frozen: ${frozen}
    recompute: ${recompute}
    kl: {coef: 0.05}
    value: {critic: \"${critic}\"}
    optimiser: {learning_rate: 1e-6}
  group:
    {uses: grpo, policy: sft, reward_model: judge, dataset: posts, steps: 10, batch_size: 8, samples_per_prompt: 8, max_prompt_tokens: 512, max_new_tokens: 48, frozen: \"${frozen}\", kl: {coef: 0.05}, optimiser: {learning_rate: 1e-6}}
  pairs:
    {uses: online_dpo, policy: sft, reward_model: judge, dataset: posts, steps: 10, batch_size: 32, max_prompt_tokens: 512, max_new_tokens: 48, frozen: \"${frozen}\", beta: 0.1, optimiser: {learning_rate: 1e-6}}
  experts:
    {uses: expert_iteration, policy: sft, reward_model: judge, dataset: posts, rounds: 2, prompts_per_round: 8, samples_per_prompt: 8, batch_size: 8, max_prompt_tokens: 512, max_new_tokens: 48, frozen: \"${frozen}\", optimiser: {learning_rate: 1e-6}}
  student:
    {uses: distill, policy: sft, teacher: base, dataset: posts, steps: 10, batch_size: 64, max_prompt_tokens: 512, max_new_tokens: 48, frozen: \"${frozen}\", optimiser: {learning_rate: 1e-6}}
  merged:
    {uses: merge, base: sft, models: [{model: ppo, weight: 0.5}, {model: sft, weight: 1.5}]}
  best:
    {uses: best_of_n, policy: sft, reward_model: judge, dataset: posts, n: 16, max_prompt_tokens: 512, sampling: {max_new_tokens: 48}}
";

fn plan(sets: &[&str]) -> Pipeline {
    plan_of(PIPELINE.to_owned(), sets)
}

fn plan_of(text: String, sets: &[&str]) -> Pipeline {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("base")).unwrap();
    std::fs::write(folder.path().join("base/config.json"), LLAMA_7B).unwrap();
    let overrides =
        Overrides { profiles: Vec::new(), sets: sets.iter().map(|set| set.to_string()).collect() };
    let pipeline = parse("p.yaml", text, &folder.keep(), &overrides, &Builtin);
    pipeline.unwrap_or_else(|failure| panic!("{}", failure.message))
}

fn memory(sets: &[&str], node: &str) -> Memory {
    estimate_in(ArtefactShapes::new(Some(DEVICE), BF16), &plan(sets).graph, &Builtin)[node]
}

fn gigabytes(sets: &[&str], node: &str) -> f64 {
    memory(sets, node).bytes() as f64 / 1e9
}

#[test]
fn ppo_of_seven_billion_parameters_fits_80_gb_with_four_fifths_frozen() {
    let most = DEVICE as f64 / 1e9;
    for (sets, from, to) in [
        (&[][..], 50.0, 55.0),
        (&["recompute=block"][..], 50.0, 55.0),
        (&["critic=separate"][..], 68.0, most),
        (&["critic=separate", "recompute=block"][..], 68.0, most),
    ] {
        let taken = gigabytes(sets, "ppo");
        assert!(
            (from..to).contains(&taken),
            "{sets:?}: {taken} GB, {}",
            memory(sets, "ppo").words()
        );
    }
    // The model's 6.74 billion numbers; the seven blocks that train once more under the policy and
    // the reward model, with the heads.
    let block = 4 * 4096 * 4096 + 3 * 4096 * 11008 + 2 * 4096;
    let whole = 2 * 32000 * 4096 + 32 * block + 4096;
    let trained = 7 * block + 4096;
    let ppo = memory(&[], "ppo");
    assert_eq!((ppo.channels, memory(&[], "base").channels), (128, 128));
    // Policy, its copy that trains with a value head, reward model: numbers of two bytes. The
    // angles of both loaded models, 2,048 positions and 64 pairs of channels: of four.
    let angles = 2 * 2 * 2048 * 64;
    let weights = whole + 2 * trained + (4096 + 1) + 4096;
    assert_eq!(ppo.weights, 2 * weights + 4 * angles);
    let trained = 4 * (trained + 4097);
    assert_eq!((ppo.masters, ppo.gradients, ppo.moments), (trained, trained, 2 * trained));
}

/// A policy that trains on its responses, without a value head, beside the policy it began as and
/// the reward model; the teacher of `distill` shares the embedding and the lowest blocks.
#[test]
fn methods_on_own_responses_hold_the_policy_its_copy_and_what_scores() {
    let block = 4 * 4096 * 4096 + 3 * 4096 * 11008 + 2 * 4096;
    let whole = 2 * 32000 * 4096 + 32 * block + 4096;
    let trained = 7 * block + 4096;
    let angles = 2 * 2048 * 64;
    for (node, scores) in [
        ("group", trained + 4096),
        ("pairs", trained + 4096),
        ("experts", trained + 4096),
        ("student", trained + 32000 * 4096),
    ] {
        let found = memory(&[], node);
        let weights = whole + trained + scores;
        assert_eq!(found.weights, 2 * weights + 4 * 2 * angles, "{node}");
        let trained = 4 * trained;
        assert_eq!(
            (found.masters, found.gradients, found.moments),
            (trained, trained, 2 * trained),
            "{node}"
        );
        let taken = found.bytes() as f64 / 1e9;
        assert!((35.0..80.0).contains(&taken), "{node}: {taken} GB, {}", found.words());
    }
}

/// A reference that is replaced is one more copy of what trains, value head included, on the device
/// and in a checkpoint; with more responses to a prompt, more of them are sampled at a time.
#[test]
fn options_of_ppo_are_counted() {
    let block = 4 * 4096 * 4096 + 3 * 4096 * 11008 + 2 * 4096;
    let trained = 7 * block + 4096 + 4097;
    let with = |from: &str, to: &str| {
        let text = PIPELINE.replacen(from, to, 1);
        assert!(text.contains(to), "{to}");
        let shapes = ArtefactShapes::new(Some(DEVICE), Sizes { host: 4, ..BF16 });
        estimate_in(shapes, &plan_of(text, &[]).graph, &Builtin)["ppo"]
    };
    let plain = with("", "");
    let replaced = with("    steps: 10\n", "    steps: 10\n    reference: {reset_every: 3}\n");
    assert_eq!(replaced.weights, plain.weights + 2 * trained);
    assert_eq!((plain.checkpoint, replaced.checkpoint), (3 * 4 * trained, 4 * 4 * trained));
    let few = |samples: usize| {
        with("batch_size: 64", &format!("batch_size: 4\n    samples_per_prompt: {samples}"))
    };
    let [one, eight] = [1, 8].map(few);
    assert_eq!(one.weights, eight.weights);
    assert!(eight.cache > one.cache, "{} and {}", eight.cache, one.cache);
}

/// One tensor of each of three models and the merged one, in float32: the embedding, of 32,000
/// tokens, is the largest beside a head of the same size.
#[test]
fn a_merge_holds_one_tensor_of_each_model() {
    let merged = memory(&[], "merged");
    assert_eq!(merged.bytes(), 4 * 4 * 32000 * 4096);
    assert!(merged.words().contains("weights"), "{}", merged.words());
}

#[test]
fn a_reward_model_that_was_trained_whole_shares_nothing_and_everything_trained_does_not_fit() {
    assert!(gigabytes(&["frozen=0"], "ppo") > 100.0);
    let judges = |sets: &[&str]| memory(sets, "best").weights;
    let block = 4 * 4096 * 4096 + 3 * 4096 * 11008 + 2 * 4096;
    assert_eq!(judges(&["frozen=0"]) - judges(&[]), 2 * (25 * block + 32000 * 4096));
}

#[test]
fn blocks_that_are_run_again_take_less_and_leave_keys_alone() {
    assert!(
        gigabytes(&["recompute=block", "frozen=0"], "sft") + 6.0 < gigabytes(&["frozen=0"], "sft")
    );
    let content = |bytes: &[u8]| blake3::hash(bytes);
    let keys = |sets: &[&str]| -> Vec<String> {
        let key = |node| {
            Preimage::of(
                node,
                Numerics { device: Some("cuda bf16"), host: "host" },
                |name| Ok(content(name.as_bytes()).into()),
                |_: &Path| Ok(content(b"input").into()),
            )
        };
        plan(sets).graph.nodes.iter().map(|node| key(node).unwrap().key().to_string()).collect()
    };
    assert_eq!(keys(&["recompute=block"]), keys(&[]));
    assert_ne!(keys(&["frozen=0.5"]), keys(&[]));
}
