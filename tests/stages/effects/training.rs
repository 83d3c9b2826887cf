//! Stages that train a model or sample from one.

use serde_json::{Value, json};

use super::{Case, Others, Pair, Refused, plain};
use crate::stages::bench::{Made, make};
use crate::stages::fixture::fixture;

/// `three` makes a run of three steps or more: half way, a line and a cosine are at the same rate.
pub fn optimiser(pairs: &mut Vec<Pair>, three: Value) {
    pairs.extend([
        ("optimiser.learning_rate", json!(0.02), json!({})),
        ("optimiser.schedule.shape", json!("linear"), three),
        ("optimiser.schedule.warmup.steps", json!(2), json!({})),
        ("optimiser.schedule.warmup.fraction", json!(0.9), json!({})),
        ("optimiser.schedule.final_ratio", json!(0.5), json!({})),
        ("optimiser.beta1", json!(0.5), json!({})),
        ("optimiser.beta2", json!(0.5), json!({})),
        ("optimiser.epsilon", json!(0.1), json!({})),
        ("optimiser.weight_decay", json!(0.5), json!({})),
        ("optimiser.clip_norm", json!(0.01), json!({"optimiser.epsilon": 0.1})),
    ]);
}

/// A run of two steps or more.
fn validation(pairs: &mut Vec<Pair>) {
    let beside = json!({"validation": {"split": "test/ood", "every": 1}});
    pairs.extend([
        ("validation.split", json!("test/id"), beside.clone()),
        ("validation.every", json!(2), beside.clone()),
        ("validation.keep", json!("last"), beside),
    ]);
}

fn sampling(pairs: &mut Vec<Pair>) {
    pairs.extend([
        ("sampling.temperature", json!(0.5), json!({})),
        ("sampling.top_k", json!(3), json!({})),
        ("sampling.top_p", json!(0.3), json!({})),
        ("sampling.min_p", json!(0.9), json!({})),
        ("sampling.max_new_tokens", json!(5), json!({})),
    ]);
}

pub fn pretrain(others: &Others) -> Case {
    let at = |name| fixture().at(name);
    let optimised = json!({"learning_rate": 0.01});
    let base = json!({"dataset": at("dataset"), "tokenizer": at("tokenizer"), "phases": ["notes"],
        "batch_size": 2, "optimiser": optimised,
        "model": {"width": 16, "layers": 1, "heads": 2, "feed_forward": 24,
            "context": 128}});
    let mut pairs = vec![
        plain("dataset", others.at("dataset")),
        plain("tokenizer", others.tokenizer().reference()),
        plain("phases.0", json!("pretrain")),
        plain("model.width", json!(32)),
        plain("model.layers", json!(2)),
        plain("model.heads", json!(4)),
        plain("model.feed_forward", json!(16)),
        plain("model.context", json!(100)),
        plain("model.init", json!({"normal": {"std": 0.02}})),
        ("model.init.normal.std", json!(0.1), json!({"model.init": {"normal": {"std": 0.02}}})),
        plain("seed", json!(1)),
        plain("batch_size", json!(3)),
    ];
    validation(&mut pairs);
    optimiser(&mut pairs, json!({}));
    Case::new(base, pairs)
}

pub fn sft(others: &Others) -> Case {
    let at = |name| fixture().at(name);
    let optimised = json!({"learning_rate": 0.01});
    let base = json!({"policy": at("policy"), "dataset": at("dataset"), "batch_size": 4,
        "optimiser": optimised});
    let mut pairs = vec![
        plain("policy", at("other")),
        plain("dataset", others.at("dataset")),
        plain("split", json!("notes")),
        plain("seed", json!(1)),
        plain("batch_size", json!(5)),
        plain("epochs", json!(2)),
        plain("frozen", json!(0.6)),
        plain("max_prompt_tokens", json!(5)),
    ];
    validation(&mut pairs);
    optimiser(&mut pairs, json!({}));
    Case::new(base, pairs)
}

pub fn reward_model(others: &Others) -> Case {
    let at = |name| fixture().at(name);
    let optimised = json!({"learning_rate": 0.01});
    let base = json!({"policy": at("policy"), "dataset": at("preferences"), "batch_size": 4,
        "optimiser": optimised});
    let mut pairs = vec![
        plain("policy", at("other")),
        plain("dataset", others.at("preferences")),
        plain("split", json!("test/id")),
        plain("seed", json!(1)),
        plain("batch_size", json!(5)),
        plain("epochs", json!(2)),
        plain("frozen", json!(0.6)),
        plain("max_prompt_tokens", json!(5)),
        plain("center_rewards_coefficient", json!(0.1)),
        plain("normalisation_prompts", json!(3)),
    ];
    validation(&mut pairs);
    optimiser(&mut pairs, json!({}));
    Case::new(base, pairs)
}

pub fn reference_logprobs(others: &Others) -> Case {
    let at = |name| fixture().at(name);
    let base = json!({"policy": at("policy"), "dataset": at("preferences")});
    let pairs = vec![
        plain("policy", at("other")),
        plain("dataset", others.at("preferences")),
        plain("splits.0", json!("test/id")),
        plain("max_prompt_tokens", json!(5)),
        plain("mismatched", json!(true)),
    ];
    Case::new(base, pairs)
}

pub fn dpo(others: &Others) -> Case {
    let at = |name| fixture().at(name);
    let optimised = json!({"learning_rate": 0.01});
    let base = json!({"policy": at("policy"), "reference": at("logprobs"),
        "dataset": at("preferences"), "batch_size": 4, "beta": 0.1, "optimiser": optimised});
    let smoothed = json!({"loss": "cdpo", "label_smoothing": 0.1});
    let simple = json!({"loss": "simpo", "reference": null, "gamma_over_beta": 0.3});
    let soft = json!({"loss": "decoupled", "entropy_weight": 0.2});
    let mut pairs = vec![
        plain("policy", at("other")),
        plain("reference", at("other_logprobs")),
        plain("dataset", others.at("preferences")),
        plain("split", json!("test/id")),
        plain("seed", json!(1)),
        plain("batch_size", json!(5)),
        plain("epochs", json!(2)),
        plain("frozen", json!(0.6)),
        plain("loss", json!("ipo")),
        plain("beta", json!(0.2)),
        ("label_smoothing", json!(0.2), smoothed),
        ("gamma_over_beta", json!(0.6), simple),
        ("entropy_weight", json!(0.3), soft),
        plain("sft_weight", json!(0.5)),
    ];
    validation(&mut pairs);
    optimiser(&mut pairs, json!({}));
    // The reference has to have read the same tokens.
    let cut = ("max_prompt_tokens", json!(5), json!({}), "are of other tokens");
    Case { refused: vec![cut], ..Case::new(base, pairs) }
}

pub fn kto(others: &Others) -> Case {
    let at = |name| fixture().at(name);
    let optimised = json!({"learning_rate": 0.01});
    let base = json!({"policy": at("policy"), "reference": at("kto_logprobs"),
        "dataset": at("preferences"), "batch_size": 8, "beta": 0.1, "optimiser": optimised});
    let mut pairs = vec![
        plain("policy", at("other")),
        plain("reference", at("other_kto_logprobs")),
        // In another order, rows have other mismatched ones.
        ("dataset", others.at("preferences"), json!({"z0": "none"})),
        plain("desirable", json!("test/id")),
        plain("undesirable", json!("test/id")),
        plain("seed", json!(1)),
        plain("batch_size", json!(9)),
        plain("epochs", json!(2)),
        plain("frozen", json!(0.6)),
        plain("beta", json!(0.2)),
        plain("desirable_weight", json!(1.5)),
        plain("undesirable_weight", json!(1.5)),
        plain("z0", json!("none")),
    ];
    validation(&mut pairs);
    optimiser(&mut pairs, json!({}));
    // The reference has to have read the same tokens; 15 of them tell prompts apart.
    let cut = ("max_prompt_tokens", json!(15), json!({}), "are of other tokens");
    Case { refused: vec![cut], ..Case::new(base, pairs) }
}

pub fn merge(_: &Others) -> Case {
    let at = |name| fixture().at(name);
    let base = json!({"models": [{"model": at("policy"), "weight": 0.25},
        {"model": at("other"), "weight": 0.75}]});
    let from = || json!({"base": at("measured/a")});
    let pairs = vec![
        plain("models.0.model", at("measured/c")),
        ("models.0.weight", json!(0.5), from()),
        // Where weights sum to 1, a base cancels in a linear merge.
        ("base", at("measured/b"), json!({"base": at("measured/a"), "models.0.weight": 0.5})),
        ("how", json!("slerp"), from()),
    ];
    Case::new(base, pairs)
}

pub fn select(_: &Others) -> Case {
    let at = |name| fixture().at(name);
    let base = json!({"of": [at("measured/a"), at("measured/b")]});
    Case::new(base, vec![plain("of.0", at("measured/c"))])
}

pub fn ppo(others: &Others) -> Case {
    let at = |name| fixture().at(name);
    let optimised = json!({"learning_rate": 0.01});
    let base = json!({"policy": at("policy"), "reward_model": at("reward"),
        "dataset": at("dataset"),
        "steps": 2, "batch_size": 8,
        "minibatches": 2, "epochs": 2, "max_new_tokens": 20, "kl": {"coef": 0.05},
        "optimiser": optimised});
    let mut pairs = ppo_pairs(others);
    let beside = || {
        let by = json!({"reward_model": at("judges/a")});
        json!({"validation": {"split": "test/id", "every": 1, "by": by}})
    };
    pairs.extend([
        ("validation.split", json!("test/ood"), beside()),
        ("validation.rows", json!(2), beside()),
        ("validation.every", json!(2), beside()),
        ("validation.keep", json!("last"), beside()),
        ("validation.by", json!("gold"), beside()),
        ("validation.by.reward_model", at("judges/b"), beside()),
    ]);
    optimiser(&mut pairs, json!({"steps": 3}));
    Case::new(base, pairs)
}

pub fn generate(others: &Others) -> Case {
    let at = |name| fixture().at(name);
    let base = json!({"policy": at("policy"), "dataset": at("dataset"),
        "sampling": {"max_new_tokens": 6}});
    let mut pairs = vec![
        plain("policy", at("other")),
        plain("dataset", others.at("dataset")),
        plain("splits.0", json!("test/ood")),
        plain("limit", json!(2)),
        plain("samples", json!(2)),
        plain("max_prompt_tokens", json!(5)),
        plain("seed", json!(1)),
    ];
    sampling(&mut pairs);
    Case { refused: vec![leak(others)], ..Case::new(base, pairs) }
}

pub fn best_of_n(others: &Others) -> Case {
    let at = |name| fixture().at(name);
    let base = json!({"policy": at("policy"), "reward_model": at("reward"),
        "dataset": at("dataset"),
        "n": 2, "sampling": {"max_new_tokens": 6}});
    let mut pairs = vec![
        plain("policy", at("other")),
        plain("reward_model", others.at("reward")),
        plain("dataset", others.at("dataset")),
        plain("splits.0", json!("test/ood")),
        plain("limit", json!(2)),
        plain("n", json!(3)),
        plain("pool", json!(4)),
        plain("outputs", json!(2)),
        plain("missing_eos", json!({"replace": -3.0})),
        ("missing_eos.replace", json!(-2.0), json!({"missing_eos": {"replace": -3.0}})),
        ("missing_eos.subtract", json!(2.0), json!({"missing_eos": {"subtract": 1.0}})),
        plain("max_prompt_tokens", json!(5)),
        plain("seed", json!(1)),
    ];
    sampling(&mut pairs);
    Case { refused: vec![leak(others)], ..Case::new(base, pairs) }
}

fn ppo_pairs(others: &Others) -> Vec<Pair> {
    // The KL of the first step is 0, and the last step's is of no further use.
    let adaptive = || json!({"steps": 3, "kl.adaptive": {"target": 0.1, "horizon": 20.0}});
    vec![
        plain("policy", fixture().at("other")),
        plain("reward_model", others.at("reward")),
        plain("dataset", others.at("dataset")),
        plain("split", json!("sft")),
        plain("seed", json!(1)),
        plain("steps", json!(3)),
        plain("batch_size", json!(7)),
        plain("minibatches", json!(1)),
        plain("epochs", json!(1)),
        plain("temperature", json!(0.7)),
        plain("max_new_tokens", json!(10)),
        plain("max_prompt_tokens", json!(5)),
        plain("frozen", json!(0.6)),
        plain("kl.coef", json!(1.0)),
        ("kl.adaptive.target", json!(9.0), adaptive()),
        ("kl.adaptive.horizon", json!(2000.0), adaptive()),
        plain("compat", json!("paper")),
        plain("conventions.kl.estimator", json!("k3")),
        plain("conventions.kl.clamp.log_ratio", json!(0.001)),
        plain("conventions.kl.clamp.low", json!(0.0)),
        plain("conventions.kl.clamp.high", json!(0.001)),
        plain("conventions.gamma", json!(0.5)),
        plain("conventions.lambda", json!(0.5)),
        plain("conventions.score_position", json!("after_eos")),
        plain("conventions.scope", json!("padded")),
        plain("conventions.reward_whitening", json!("biased")),
        plain("conventions.whitening", json!("biased")),
        plain("conventions.missing_eos", json!({"replace": -3.0})),
        (
            "conventions.missing_eos.replace",
            json!(-2.0),
            json!({"conventions.missing_eos": {"replace": -3.0}}),
        ),
        (
            "conventions.missing_eos.subtract",
            json!(2.0),
            json!({"conventions.missing_eos": {"subtract": 1.0}}),
        ),
        plain("policy_clip.range", json!(0.001)),
        plain("policy_clip.dual", json!(1.001)),
        plain("value.critic", json!("separate")),
        plain("value.clip.range", json!(0.001)),
        ("value.clip.coef", json!(7.0), json!({"value.critic": "separate"})),
        plain("value.head_ratio", json!(5.0)),
        plain("value.warmup", json!(1)),
    ]
}

/// Test rows that the policy was trained on are kept, or refused.
fn leak(others: &Others) -> Refused {
    let policy = others.tuned().reference();
    let more = json!({"policy": policy, "on_leak": "allow"});
    ("on_leak", json!("refuse"), more, "were trained on, by `policy`")
}

/// A policy that was trained on the test rows.
pub fn tuned(others: &Others) -> Made {
    let config = json!({"policy": fixture().at("policy"), "dataset": others.at("tests"),
        "batch_size": 5, "optimiser": {"learning_rate": 0.01}});
    make("sft", config)
}
