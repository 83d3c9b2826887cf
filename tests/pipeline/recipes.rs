//! `pipelines/recipes/`: what the pipelines resolve to, held against the tables of their papers;
//! which points their matrices have; and the memory that `docs/recipes.md` says.
//!
//! Numbers are typed from the papers and from what is known of their released code, row by row.

use std::path::{Path, PathBuf};

use posttrain::backend::Sizes;
use posttrain::pipeline::expand::{Pipeline, load};
use posttrain::pipeline::memory::estimate_in;
use posttrain::pipeline::overrides::Overrides;
use posttrain::pipeline::registry::Builtin;
use posttrain::rl::advantage::{
    Advantages, MissingEos, RewardWhitening, Scope, ScorePosition, Whitening,
};
use posttrain::rl::compat::Compat;
use posttrain::rl::kl::Estimator;
use posttrain::stages::models::ArtefactShapes;
use serde_json::{Value, json};

/// The paper's main experiment.
const LLAMA: [&str; 2] = ["model=huggyllama/llama-7b", "shift=cnn"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/recipes")
}

fn recipe(name: &str, sets: &[&str]) -> Pipeline {
    let sets = sets.iter().map(|set| set.to_string()).collect();
    let overrides = Overrides { profiles: Vec::new(), sets };
    load(&root().join(format!("{name}.yaml")), &overrides, &Builtin)
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn config<'a>(pipeline: &'a Pipeline, node: &str) -> &'a Value {
    let found = pipeline.graph.nodes.iter().find(|found| found.name == node);
    &found.unwrap_or_else(|| panic!("there is no {node}")).config
}

/// What a node's config has at the place of each row, beside what its paper has.
fn check(pipeline: &Pipeline, rows: &[(&str, &str, &str, Value)]) {
    for (row, node, place, expected) in rows {
        let pointer = format!("/{}", place.replace('.', "/"));
        let found = config(pipeline, node).pointer(&pointer).unwrap_or(&Value::Null);
        let same = match (found.as_f64(), expected.as_f64()) {
            (Some(found), Some(expected)) => found == expected,
            _ => found == expected,
        };
        assert!(same, "{row}: {node} has {place}: {found}, the paper {expected}");
    }
}

#[test]
fn the_papers_tables_2_to_4() {
    let pipeline = recipe("paper_summarisation", &LLAMA);
    check(
        &pipeline,
        &[
            ("Table 2, learning rate", "sft", "optimiser.learning_rate", json!(0.00003)),
            ("Table 2, batch", "sft", "batch_size", json!(128)),
            ("Table 2, epochs", "sft", "epochs", json!(1)),
            ("Table 2, frozen layers", "sft", "frozen", json!(0.8)),
            ("Table 3, learning rate", "reward_model", "optimiser.learning_rate", json!(0.00003)),
            ("Table 3, batch", "reward_model", "batch_size", json!(64)),
            ("Table 3, batch of pairs", "reward_model", "batch_of", json!("pairs")),
            ("Table 3, epochs", "reward_model", "epochs", json!(1)),
            ("Table 3, frozen layers", "reward_model", "frozen", json!(0.8)),
            ("Table 4, learning rate", "ppo", "optimiser.learning_rate", json!(0.000015)),
            ("Table 4, batch", "ppo", "batch_size", json!(256)),
            ("Table 4, minibatch of 256", "ppo", "minibatches", json!(1)),
            ("Table 4, PPO epochs", "ppo", "epochs", json!(4)),
            ("Table 4, steps", "ppo", "steps", json!(750)),
            ("Table 4, KL coefficient", "ppo", "kl.coef", json!(0.05)),
            ("Table 4, frozen layers", "ppo", "frozen", json!(0.8)),
            ("appendix F, one model", "ppo", "value.critic", json!("shared")),
        ],
    );
    // Table 4, advantage normalisation.
    assert_eq!(Compat::Paper.conventions().whitening, Whitening::Unbiased);
    assert_eq!(config(&pipeline, "ppo")["compat"], json!("paper"));
    assert_eq!(config(&pipeline, "ppo")["conventions"], json!({}));
}

#[test]
fn what_the_papers_code_adds_to_its_tables() {
    let pipeline = recipe("paper_summarisation", &LLAMA);
    check(
        &pipeline,
        &[
            ("prompt, SFT", "sft", "max_prompt_tokens", json!(1024)),
            ("schedule, SFT", "sft", "optimiser.schedule.shape", json!("cosine")),
            ("warm-up, SFT", "sft", "optimiser.schedule.warmup", json!({"steps": 0})),
            ("beta1, SFT", "sft", "optimiser.beta1", json!(0.9)),
            ("beta2, SFT", "sft", "optimiser.beta2", json!(0.999)),
            ("epsilon, SFT", "sft", "optimiser.epsilon", json!(1e-8)),
            ("weight decay, SFT", "sft", "optimiser.weight_decay", json!(0.0)),
            ("gradient norm, SFT", "sft", "optimiser.clip_norm", json!(1.0)),
            ("measured every, SFT", "sft", "validation.every", json!(250)),
            ("schedule, RM", "reward_model", "optimiser.schedule.shape", json!("cosine")),
            ("normalisation, RM", "reward_model", "normalisation_prompts", json!(500)),
            ("prompt, PPO", "ppo", "max_prompt_tokens", json!(1024)),
            ("response, PPO", "ppo", "max_new_tokens", json!(48)),
            ("temperature, PPO", "ppo", "temperature", json!(1.0)),
            ("ratio clip, PPO", "ppo", "policy_clip.range", json!(0.2)),
            ("value clip, PPO", "ppo", "value.clip.range", json!(0.2)),
            ("value coefficient, PPO", "ppo", "value.clip.coef", json!(0.1)),
            ("schedule, PPO", "ppo", "optimiser.schedule.shape", json!("linear")),
            ("final rate, PPO", "ppo", "optimiser.schedule.final_ratio", json!(0.0)),
            ("beta1, PPO", "ppo", "optimiser.beta1", json!(0.9)),
            ("beta2, PPO", "ppo", "optimiser.beta2", json!(0.999)),
            ("epsilon, PPO", "ppo", "optimiser.epsilon", json!(1e-8)),
            ("weight decay, PPO", "ppo", "optimiser.weight_decay", json!(0.0)),
            ("gradient norm, PPO", "ppo", "optimiser.clip_norm", json!(null)),
            ("adaptive KL, PPO", "ppo", "kl.adaptive", json!(null)),
            ("N", "best_outputs", "n", json!(16)),
            ("temperature, best-of-N", "best_outputs", "sampling.temperature", json!(0.7)),
            ("response, best-of-N", "best_outputs", "sampling.max_new_tokens", json!(48)),
            ("inputs, diversity", "sft_samples", "limit", json!(500)),
            ("samples, diversity", "sft_samples", "samples", json!(16)),
            ("temperature, diversity", "sft_samples", "sampling.temperature", json!(1.0)),
            ("samples, diversity", "ppo_samples", "samples", json!(16)),
            ("temperature, diversity", "ppo_samples", "sampling.temperature", json!(1.0)),
            ("N, diversity", "best_samples", "n", json!(16)),
            ("samples, diversity", "best_samples", "outputs", json!(16)),
        ],
    );
    let splits = "source.files";
    for test_set in ["test~1id", "test~1ood"] {
        let place = format!("{splits}.{test_set}.limit");
        check(&pipeline, &[("inputs", "rows_cnn", &place, json!(500))]);
    }
    let metrics = &config(&pipeline, "evaluation")["diversity"]["metrics"];
    assert_eq!(*metrics, json!(["ead", "embedding", "nli"]), "EAD, Sentence-BERT, NLI");
    let conventions = Compat::Paper.conventions();
    assert_eq!(conventions.kl.estimator, Estimator::K2, "half the squared log-ratio");
    assert_eq!(conventions.advantages, Advantages::Gae { gamma: 0.999, lambda: 0.95 });
    assert_eq!(conventions.missing_eos, MissingEos::Keep);
    assert_eq!(conventions.score_position, ScorePosition::Eos);
}

#[test]
fn the_papers_models_and_shifts() {
    let pipeline = recipe("paper_summarisation", &[]);
    let points = |stage: &str| {
        let found = pipeline.stages.iter().find(|(name, _)| name == stage).unwrap();
        found.1.clone()
    };
    let mut expected = vec!["ppo[model=huggyllama/llama-7b,shift=cnn]".to_owned()];
    for size in ["125m", "350m", "1.3b", "2.7b", "6.7b"] {
        for shift in ["relationship", "length", "sentiment"] {
            expected.push(format!("ppo[model=facebook/opt-{size},shift={shift}]"));
        }
    }
    assert_eq!(points("ppo"), expected);
    let data = |shift: &str| {
        let texts = config(&pipeline, &format!("texts[shift={shift}]"));
        texts["source"]["select"]["dataset"]["$stage"].as_str().unwrap().to_owned()
    };
    for shift in ["cnn", "relationship", "length", "sentiment"] {
        assert_eq!(data(shift), format!("rows_{shift}"));
    }
    let rows = |stage: &str, split: &str| {
        config(&pipeline, stage)["source"]["files"][split]["keep"][0].clone()
    };
    for split in ["sft", "prompts", "validation", "test/id", "preferences", "test/pairs_id"] {
        assert_eq!(rows("rows_relationship", split)["equals"], json!("relationships"));
        assert_eq!(rows("rows_length", split)["max_words"], json!(245));
    }
    for split in ["test/ood", "test/pairs_ood"] {
        assert_eq!(rows("rows_relationship", split)["not"], json!("relationships"));
        assert_eq!(rows("rows_length", split)["more_words_than"], json!(245));
    }
    assert_eq!(rows("rows_cnn", "test/pairs_ood")["contains"], json!("cnndm"));
}

#[test]
fn the_papers_sweeps() {
    let values = |pipeline: &Pipeline, stage: &str, place: &str| -> Vec<f64> {
        let (_, nodes) = pipeline.stages.iter().find(|(name, _)| name == stage).unwrap();
        let value = |node: &String| config(pipeline, node).pointer(place).unwrap().as_f64();
        let mut values: Vec<f64> = nodes.iter().map(|node| value(node).unwrap()).collect();
        values.dedup();
        values
    };
    let search = recipe("paper_search", &[]);
    let rate = "/optimiser/learning_rate";
    // Tables 2 to 4 have these in the column of what was tried.
    assert_eq!(values(&search, "sft", rate), [3e-4, 1e-4, 3e-5]);
    assert_eq!(values(&search, "reward_model", rate), [3e-4, 1e-4, 3e-5, 1e-5, 3e-6]);
    assert_eq!(values(&search, "ppo", rate), [1.5e-6, 3e-6, 6e-6, 1.5e-5, 3e-5]);
    for stage in ["sft_selected", "reward_selected", "evaluation"] {
        let (_, nodes) = search.stages.iter().find(|(name, _)| name == stage).unwrap();
        assert_eq!(nodes.len(), 1, "{stage}");
    }
    let sweep = recipe("paper_kl", &[]);
    let coefficients = values(&sweep, "ppo", "/kl/coef");
    assert!(coefficients.len() > 2 && coefficients.contains(&0.05), "{coefficients:?}");
    let (_, nodes) = sweep.stages.iter().find(|(name, _)| name == "evaluation").unwrap();
    let methods = config(&sweep, &nodes[0])["methods"].as_array().unwrap();
    assert_eq!(methods.len(), 2 + coefficients.len());
}

#[test]
fn the_papers_judge() {
    let pipeline = recipe("paper_gpt4", &[]);
    let point = "[model=huggyllama/llama-7b,shift=cnn]";
    for (stage, b) in [("sft_judged", false), ("ppo_beside_sft", true), ("best_beside_sft", true)] {
        let judge = config(&pipeline, &format!("{stage}{point}"));
        let llm = &judge["judge"]["llm"];
        assert_eq!((&llm["model"], &llm["max_tokens"]), (&json!("gpt-4"), &json!(100)));
        assert_eq!(!judge["b"].is_null(), b, "{stage}");
    }
    assert_eq!(config(&pipeline, "judge_on_pairs[shift=cnn]")["limit"], json!(500));
}

#[test]
fn alpaca_farms_settings() {
    let pipeline = recipe("paper_instructions", &[]);
    check(
        &pipeline,
        &[
            ("SFT, epochs", "sft", "epochs", json!(3)),
            ("SFT, learning rate", "sft", "optimiser.learning_rate", json!(0.00002)),
            ("SFT, batch", "sft", "batch_size", json!(128)),
            ("SFT, schedule", "sft", "optimiser.schedule.shape", json!("cosine")),
            ("SFT, warm-up", "sft", "optimiser.schedule.warmup", json!({"fraction": 0.03})),
            ("SFT, weight decay", "sft", "optimiser.weight_decay", json!(0.0)),
            ("RM, epochs", "reward_model", "epochs", json!(1)),
            ("RM, learning rate", "reward_model", "optimiser.learning_rate", json!(0.000003)),
            ("RM, batch", "reward_model", "batch_size", json!(16)),
            ("RM, batch of pairs", "reward_model", "batch_of", json!("pairs")),
            ("RM, schedule", "reward_model", "optimiser.schedule.shape", json!("cosine")),
            ("RM, warm-up", "reward_model", "optimiser.schedule.warmup.fraction", json!(0.03)),
            ("PPO, rollouts", "ppo", "batch_size", json!(512)),
            ("PPO, step batch of 256", "ppo", "minibatches", json!(2)),
            ("PPO, learning rate", "ppo", "optimiser.learning_rate", json!(0.00001)),
            ("PPO, warm-up", "ppo", "optimiser.schedule.warmup", json!({"steps": 5})),
            ("PPO, KL of people's preferences", "ppo", "kl.coef", json!(0.02)),
            ("PPO, optimisation epochs", "ppo", "epochs", json!(2)),
            ("PPO, value coefficient", "ppo", "value.clip.coef", json!(0.1)),
            ("PPO, ratio clip", "ppo", "policy_clip.range", json!(0.2)),
            ("PPO, value clip", "ppo", "value.clip.range", json!(0.2)),
            ("PPO, epsilon", "ppo", "optimiser.epsilon", json!(0.00001)),
            ("PPO, temperature", "ppo", "temperature", json!(1.0)),
            ("PPO, query", "ppo", "max_prompt_tokens", json!(192)),
            ("PPO, response", "ppo", "max_new_tokens", json!(300)),
            ("PPO, critic from the RM", "ppo", "value.critic", json!("separate")),
            ("PPO, conventions", "ppo", "compat", json!("alpaca_farm")),
            ("best-of-N, N", "best_outputs", "n", json!(16)),
            ("best-of-N, temperature", "best_outputs", "sampling.temperature", json!(0.7)),
            ("best-of-N, response", "best_outputs", "sampling.max_new_tokens", json!(300)),
        ],
    );
    for stage in ["sft", "reward_model", "ppo"] {
        check(&pipeline, &[("nothing is frozen", stage, "frozen", json!(0.0))]);
    }
    let steps = config(&pipeline, "ppo")["steps"].as_u64().unwrap();
    assert!((20..=80).contains(&steps), "the best of AlpacaFarm's steps are 20 to 80");
    let simulated = recipe("paper_instructions", &["kl=0.0067"]);
    check(&simulated, &[("PPO, KL of simulated preferences", "ppo", "kl.coef", json!(0.0067))]);
    let conventions = Compat::AlpacaFarm.conventions();
    assert_eq!(conventions.kl.clamp.low, Some(0.0), "KL of a token is at least 0");
    assert_eq!(conventions.reward_whitening, RewardWhitening::Biased);
    assert_eq!(conventions.scope, Scope::Padded);
    assert_eq!(conventions.advantages, Advantages::Gae { gamma: 1.0, lambda: 1.0 });
}

#[test]
fn nplus_by_the_numbers_of_its_details() {
    let pipeline = recipe("nplus", &["size=6.9b", "seed=44413"]);
    check(
        &pipeline,
        &[
            ("[2] query", "ppo", "max_prompt_tokens", json!(512)),
            ("[9] SFT, epochs", "sft", "epochs", json!(1)),
            ("[9] SFT, learning rate", "sft", "optimiser.learning_rate", json!(0.000003)),
            ("[9] SFT, epsilon", "sft", "optimiser.epsilon", json!(0.00001)),
            ("[9] SFT, schedule", "sft", "optimiser.schedule.shape", json!("cosine")),
            ("[9] SFT, batch", "sft", "batch_size", json!(128)),
            ("[10] RM, epochs", "reward_model", "epochs", json!(1)),
            ("[10] RM, learning rate", "reward_model", "optimiser.learning_rate", json!(0.000003)),
            ("[10] RM, epsilon", "reward_model", "optimiser.epsilon", json!(0.00001)),
            ("[10] RM, schedule", "reward_model", "optimiser.schedule.shape", json!("cosine")),
            ("[9] SFT, loss on queries too", "sft", "loss_on", json!("all")),
            ("[10] RM, batch", "reward_model", "batch_size", json!(64)),
            ("[10] RM, batch of pairs", "reward_model", "batch_of", json!("pairs")),
            ("[15] references", "reward_model", "normalise.references.split", json!("sft")),
            ("[20] learning rate", "ppo", "optimiser.learning_rate", json!(0.000003)),
            ("[20] schedule", "ppo", "optimiser.schedule.shape", json!("linear")),
            ("[20] final rate", "ppo", "optimiser.schedule.final_ratio", json!(0.0)),
            ("[20] epsilon", "ppo", "optimiser.epsilon", json!(0.00001)),
            ("[20] batch", "ppo", "batch_size", json!(512)),
            ("[20] minibatches", "ppo", "minibatches", json!(1)),
            ("[20] epochs", "ppo", "epochs", json!(4)),
            ("[20] KL coefficient", "ppo", "kl.coef", json!(0.05)),
            ("[20] ratio clip", "ppo", "policy_clip.range", json!(0.2)),
            ("[20] value clip", "ppo", "value.clip.range", json!(0.2)),
            ("[20] value coefficient", "ppo", "value.clip.coef", json!(0.1)),
            ("[20] temperature", "ppo", "temperature", json!(0.7)),
            ("[20] response", "ppo", "max_new_tokens", json!(53)),
            ("[21] updates", "ppo", "steps", json!(1953)),
            ("[22] critic", "ppo", "value.critic", json!("separate")),
            ("conventions", "ppo", "compat", json!("nplus")),
            ("comparisons", "ppo_outputs", "sampling.temperature", json!(0.01)),
        ],
    );
    let episodes = 1953 * 512;
    assert!((999_000..=1_000_000).contains(&episodes), "[21] 1,000,000 episodes: {episodes}");
    let conventions = Compat::Nplus.conventions();
    assert_eq!(conventions.kl.estimator, Estimator::K1);
    assert_eq!(conventions.score_position, ScorePosition::AfterEos);
    assert_eq!(conventions.missing_eos, MissingEos::Replace(-1.0), "[23]");
    assert_eq!(conventions.reward_whitening, RewardWhitening::None, "[24]");
    assert_eq!(conventions.whitening, Whitening::Unbiased, "[25]");
    assert_eq!(conventions.advantages, Advantages::Gae { gamma: 1.0, lambda: 0.95 });
    let files = &config(&pipeline, "rows")["source"]["files"];
    let template = "SUBREDDIT: r/{subreddit}\n\nTITLE: {title}\n\nPOST: {post}\n\nTL;DR:";
    for split in ["sft", "prompts", "test/tldr", "preferences", "test/pairs"] {
        assert_eq!(files[split]["prompt"], json!(template), "[2] {split}");
    }
    let news = &config(&pipeline, "news")["source"]["files"]["test/cnndm"];
    assert_eq!(news["prompt"], json!("Article:\n{article}\n\nTL;DR:"));
    assert_eq!(news["keep"][0]["any_of"], json!(["batch0_cnndm", "cnndm0", "cnndm2"]));

    let all = recipe("nplus", &[]);
    let (_, nodes) = all.stages.iter().find(|(name, _)| name == "ppo").unwrap();
    let mut expected = Vec::new();
    for size in ["1b", "2.8b", "6.9b"] {
        for seed in [44413, 55513, 66613, 77713] {
            expected.push(format!("ppo[size={size},seed={seed}]"));
        }
    }
    assert_eq!(*nodes, expected);
}

/// A model of which nothing but the configuration is there, with the sizes that its authors
/// publish.
fn model(name: &str) -> Value {
    let opt = |width: usize, layers: usize, heads: usize| {
        json!({"architectures": ["OPTForCausalLM"], "model_type": "opt", "hidden_size": width,
            "ffn_dim": 4 * width, "num_hidden_layers": layers, "num_attention_heads": heads,
            "vocab_size": 50272, "max_position_embeddings": 2048, "word_embed_proj_dim": width})
    };
    let pythia = |width: usize, layers: usize, heads: usize, vocabulary: usize| {
        json!({"architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox",
            "hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers,
            "num_attention_heads": heads, "vocab_size": vocabulary,
            "max_position_embeddings": 2048, "rotary_pct": 0.25, "rotary_emb_base": 10000,
            "use_parallel_residual": true, "hidden_act": "gelu", "tie_word_embeddings": false})
    };
    match name {
        "llama-7b" => json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
            "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000,
            "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "hidden_act": "silu",
            "tie_word_embeddings": false}),
        "opt-125m" => opt(768, 12, 12),
        "opt-1.3b" => opt(2048, 24, 32),
        "opt-6.7b" => opt(4096, 32, 32),
        "pythia-1b" => pythia(2048, 16, 8, 50304),
        "pythia-6.9b" => pythia(4096, 32, 32, 50432),
        other => panic!("the sizes of {other} are not here"),
    }
}

/// Gigabytes that stages take on a device with 141 GB, in bf16 with sums in single precision.
fn gigabytes(name: &str, of: &str, sets: &[&str], stages: &[&str]) -> Vec<String> {
    const DEVICE: u64 = 141_000_000_000;
    const BF16: Sizes = Sizes { stored: 2, wide: 4, host: 0, channels: 256 };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), model(of).to_string()).unwrap();
    let base = format!("stages.base.path={}", folder.path().display());
    let pipeline = recipe(name, &[sets, &[base.as_str()]].concat());
    let shapes = ArtefactShapes::new(Some(DEVICE), BF16);
    let memory = estimate_in(shapes, &pipeline.graph, &Builtin);
    let taken = |stage: &&str| format!("{:.1}", memory[*stage].bytes() as f64 / 1e9);
    stages.iter().map(taken).collect()
}

#[test]
fn the_memory_of_the_document_is_what_the_plan_says() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recipes.md");
    let document = std::fs::read_to_string(document).unwrap();
    let stages = ["sft", "reward_model", "ppo", "best_outputs"];
    let mut expected = Vec::new();
    for (model, sets) in [
        ("llama-7b", LLAMA),
        ("opt-125m", ["model=facebook/opt-125m", "shift=length"]),
        ("opt-1.3b", ["model=facebook/opt-1.3b", "shift=length"]),
        ("opt-6.7b", ["model=facebook/opt-6.7b", "shift=length"]),
    ] {
        let taken = gigabytes("paper_summarisation", model, &sets, &stages);
        expected.push(format!("| `paper_summarisation` | {model} | {} |", taken.join(" | ")));
    }
    let taken = gigabytes("paper_instructions", "llama-7b", &[], &stages);
    expected.push(format!("| `paper_instructions` | llama-7b | {} |", taken.join(" | ")));
    for (model, size) in [("pythia-1b", "size=1b"), ("pythia-6.9b", "size=6.9b")] {
        let taken = gigabytes("nplus", model, &[size, "seed=44413"], &stages[..3]);
        expected.push(format!("| `nplus` | {model} | {} | |", taken.join(" | ")));
    }
    let absent: Vec<&String> = expected.iter().filter(|row| !document.contains(*row)).collect();
    assert!(absent.is_empty(), "docs/recipes.md: put these rows in\n{absent:#?}");
}

#[test]
fn the_commands_of_the_document_are_of_the_program_and_name_points() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("docs/recipes.md")).unwrap();
    let mut commands = 0;
    for line in document.lines().filter(|line| line.starts_with("posttrain ")) {
        let words: Vec<&str> = line.split(' ').collect();
        let parsed = posttrain::cli::command().try_get_matches_from(&words);
        assert!(parsed.is_ok(), "{line}: {:?}", parsed.err());
        let name = words[2].strip_prefix("pipelines/recipes/").unwrap();
        let sets: Vec<&str> =
            words.windows(2).filter(|pair| pair[0] == "--set").map(|pair| pair[1]).collect();
        let pipeline = recipe(name.strip_suffix(".yaml").unwrap(), &sets);
        let stages = words[3..].first().filter(|word| !word.starts_with("--"));
        let stages: Vec<String> = stages.iter().map(|stage| stage.to_string()).collect();
        assert_eq!(pipeline.select(&stages).unwrap().len(), stages.len(), "{line}");
        commands += 1;
    }
    assert!(commands >= 4);
}

#[test]
fn every_recipe_is_held_against_its_paper() {
    let names = std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    let expected = [
        "nplus",
        "paper_gpt4",
        "paper_instructions",
        "paper_kl",
        "paper_search",
        "paper_summarisation",
    ];
    assert_eq!(names, expected.map(|name| format!("{name}.yaml")));
}
