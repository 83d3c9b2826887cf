//! Stages that train a model or sample from one.

use serde_json::{Value, json};

use super::measuring::{heard_of, of_one_label};
use super::{Case, Others, Pair, Refused, plain};
use crate::judges::fake::Fake;
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
        ("average.decay", json!(0.5), json!({"average": {"decay": 0.9}})),
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
        plain("loss_on", json!("all")),
        plain("too_long", json!("skip")),
        ("average.decay", json!(0.5), json!({"average": {"decay": 0.9}})),
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
    let references = || {
        let rows = json!({"dataset": at("dataset"), "split": "sft", "rows": 3});
        json!({"normalise": {"references": rows}})
    };
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
        plain("batch_of", json!("pairs")),
        plain("margin", json!("rows")),
        ("margin.constant", json!(0.5), json!({"margin": {"constant": 1.0}})),
        plain("label_smoothing", json!(0.1)),
        plain("normalise", json!("none")),
        ("normalise.references.dataset", others.at("dataset"), references()),
        ("normalise.references.split", json!("notes"), references()),
        ("normalise.references.rows", json!(2), references()),
        ("average.decay", json!(0.5), json!({"average": {"decay": 0.9}})),
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
        ("average.decay", json!(0.5), json!({"average": {"decay": 0.9}})),
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
        ("average.decay", json!(0.5), json!({"average": {"decay": 0.9}})),
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
    pairs.extend([
        ("kl.anneal.to", json!(0.5), json!({"kl.anneal": {"to": 0.0}})),
        ("kl.anneal.over", json!(4), json!({"kl.anneal": {"to": 0.0}, "steps": 3})),
        ("entropy.coef", json!(0.2), json!({"entropy": {"coef": 0.1}})),
    ]);
    entropy_target("ppo", &base, &mut pairs);
    let grouped = json!({"samples_per_prompt": 3, "batch_size": 3});
    group_diversity(others, &grouped, &mut pairs);
    pairs.retain(|(field, ..)| !field.contains("max_at_k") && !field.contains("ucpo"));
    pairs.extend(policy_validation());
    replays(others, "ppo", &base, &mut pairs);
    optimiser(&mut pairs, json!({"steps": 3}));
    // `ppo` refuses what makes advantages of groups.
    let test = "a_field_without_effect_beside_another_is_refused";
    let of_groups = |field| (field, "stages/effects/mod.rs", test);
    let elsewhere = [
        "diversity.max_at_k.k",
        "diversity.ucpo.tau",
        "diversity.ucpo.good.quantile",
        "diversity.ucpo.good.at_least",
    ];
    let elsewhere = elsewhere.map(of_groups).to_vec();
    rewarded(others, Case { elsewhere, ..Case::new(base, pairs) })
}

pub fn grpo(others: &Others) -> Case {
    let at = |name| fixture().at(name);
    let optimised = json!({"learning_rate": 0.01});
    let base = json!({"policy": at("policy"), "reward_model": at("reward"),
        "dataset": at("dataset"), "steps": 2, "batch_size": 3, "samples_per_prompt": 3,
        "minibatches": 2, "epochs": 2, "max_new_tokens": 20, "kl": {"coef": 0.5},
        "optimiser": optimised});
    let mut pairs = vec![
        plain("policy", at("other")),
        plain("reward_model", others.at("reward")),
        plain("dataset", others.at("dataset")),
        plain("split", json!("sft")),
        plain("seed", json!(1)),
        plain("steps", json!(3)),
        plain("batch_size", json!(2)),
        plain("samples_per_prompt", json!(2)),
        plain("minibatches", json!(1)),
        plain("epochs", json!(1)),
        plain("epoch_stop_kl", json!(1e-9)),
        ("stop_at_kl", json!(1e-9), json!({"steps": 3})),
        plain("temperature", json!(0.7)),
        plain("max_new_tokens", json!(10)),
        plain("max_prompt_tokens", json!(5)),
        plain("frozen", json!(0.6)),
        plain("algorithm", json!("rloo")),
        plain("kl.coef", json!(1.0)),
        plain("kl.in", json!("reward")),
        plain("kl.estimator", json!("k2")),
        plain("advantages.baseline", json!("leave_one_out")),
        plain("advantages.scale", json!("batch")),
        (
            "advantages.parts",
            json!("normalise_each"),
            json!({"reward_model": null,
                "rewards": {"key": {"by": {"reward_model": at("reward")}}}}),
        ),
        plain("loss.ratio", json!("sequence")),
        plain("loss.form", json!("cispo")),
        plain("loss.average", json!("token_mean")),
        plain("loss.clip.low", json!(0.001)),
        plain("loss.clip.high", json!(0.001)),
        plain("loss.clip.dual", json!(1.001)),
        plain("missing_eos", json!({"replace": -3.0})),
        ("missing_eos.replace", json!(-2.0), json!({"missing_eos": {"replace": -3.0}})),
        ("missing_eos.subtract", json!(2.0), json!({"missing_eos": {"subtract": 1.0}})),
        ("kl.anneal.to", json!(0.1), json!({"kl.anneal": {"to": 0.0}})),
        ("kl.anneal.over", json!(4), json!({"kl.anneal": {"to": 0.0}, "steps": 3})),
        ("entropy.coef", json!(0.2), json!({"entropy": {"coef": 0.1}})),
        // No response of the first batches is as short as that.
        (
            "dynamic_sampling.tries",
            json!(3),
            json!({"dynamic_sampling": {"tries": 2}, "reward_model": null,
                "rewards": {"short": {"by": {"length": {"most": 1}}}}}),
        ),
    ];
    entropy_target("grpo", &base, &mut pairs);
    group_diversity(others, &json!({}), &mut pairs);
    pairs.extend(policy_validation());
    replays(others, "grpo", &base, &mut pairs);
    optimiser(&mut pairs, json!({"steps": 3}));
    rewarded(others, Case::new(base, pairs))
}

/// The fields `record` and `replay`: of two runs that differ in their seed.
fn replays(others: &Others, kind: &'static str, base: &Value, pairs: &mut Vec<Pair>) {
    let of = |seed: u64| {
        let mut config = base.clone();
        config["record"] = json!([1, 2]);
        config["seed"] = json!(seed);
        others.keep(make(kind, config))
    };
    let (one, other) = (of(0), of(1));
    let beside = || json!({"replay": {"of": one.clone(), "step": 1}});
    pairs.extend([
        plain("record.0", json!(2)),
        ("replay.of", other, beside()),
        ("replay.step", json!(2), beside()),
    ]);
}

/// The fields of `entropy.target`.
fn entropy_target(kind: &str, base: &Value, pairs: &mut Vec<Pair>) {
    let entropies = |seed: u64| {
        let mut plain = base.clone();
        plain["entropy"] = json!({"coef": 0.01});
        plain["seed"] = json!(seed);
        make(kind, plain).metric("policy/entropy_avg")
    };
    let falls = (0..9).map(|seed| (seed, entropies(seed))).find(|(_, seen)| seen[0] > seen[1]);
    let (seed, seen) = falls.expect("a run in which entropy falls");
    let between = (seen[0] + seen[1]) / 2.0;
    let target = |more: Value| {
        let mut target = json!({"entropy": 10.0, "step": 0.02, "most": 0.05});
        target.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"entropy": {"coef": 0.01, "target": target}, "steps": 3, "seed": seed})
    };
    pairs.extend([
        ("entropy.target.entropy", json!(0.1), target(json!({}))),
        ("entropy.target.step", json!(0.01), target(json!({}))),
        ("entropy.target.most", json!(0.02), target(json!({}))),
        // The coefficient falls to the least after the first step, and rises after the second.
        ("entropy.target.least", json!(0.01), target(json!({"entropy": between}))),
    ]);
}

/// The fields of `diversity` of methods on groups, with these edits of the base besides.
fn group_diversity(others: &Others, grouped: &Value, pairs: &mut Vec<Pair>) {
    let by = |method: &str, own: Value| {
        let mut edits = grouped.clone();
        edits["diversity"] = json!({method: own});
        edits
    };
    let novelty = || by("novelty", json!({"weight": 0.5}));
    let good = || json!({"quantile": 0.5});
    let darling = |own: Value| by("darling", own);
    let (alike_all, unlike_all) = (of_one_label(others, "same"), of_one_label(others, "different"));
    let of_words = others.keep(make(
        "sft",
        json!({"policy": fixture().at("policy"), "dataset": fixture().at("dataset"),
            "batch_size": 4, "epochs": 20, "optimiser": {"learning_rate": 0.02}}),
    ));
    let answers = |threshold: f64| {
        let own = json!({"classifier": alike_all, "threshold": threshold});
        let mut edits = darling(json!({"classes": {"same_answer": own}}));
        // The classifier reads texts of more than five words. A deviation would take out the factor
        // that all responses of one class have.
        edits["policy"] = of_words.clone();
        edits["max_new_tokens"] = json!(60);
        if grouped.as_object().unwrap().is_empty() {
            edits["algorithm"] = json!("dr_grpo");
        }
        edits
    };
    pairs.extend([
        ("diversity.novelty.encoder", fixture().at("policy"), novelty()),
        ("diversity.novelty.combine", json!("multiply"), by("novelty", json!({}))),
        ("diversity.novelty.weight", json!(5.0), novelty()),
        ("diversity.darling.classes", json!("gold"), darling(json!({}))),
        ("diversity.darling.classes.same_answer.classifier", unlike_all, answers(0.5)),
        ("diversity.darling.classes.same_answer.threshold", json!(0.999_999), answers(1e-6)),
        ("diversity.mara.beta", json!(2.0), by("mara", json!({"good": good()}))),
        ("diversity.ucpo.tau", json!(0.9), by("ucpo", json!({"good": good()}))),
        ("diversity.max_at_k.k", json!(3), by("max_at_k", json!({"k": 2}))),
        ("diversity.unlikeliness.beta", json!(0.9), by("unlikeliness", json!({"good": good()}))),
    ]);
    let shares = [
        ("diversity.darling.good.quantile", "darling"),
        ("diversity.mara.good.quantile", "mara"),
        ("diversity.ucpo.good.quantile", "ucpo"),
        ("diversity.unlikeliness.good.quantile", "unlikeliness"),
    ];
    pairs.extend(
        shares.map(|(field, method)| (field, json!(0.9), by(method, json!({"good": good()})))),
    );
    let rewards = [
        ("diversity.darling.good.at_least", "darling"),
        ("diversity.mara.good.at_least", "mara"),
        ("diversity.ucpo.good.at_least", "ucpo"),
        ("diversity.unlikeliness.good.at_least", "unlikeliness"),
    ];
    let all = || json!({"good": {"at_least": -1e6}});
    pairs.extend(rewards.map(|(field, method)| (field, json!(1e6), by(method, all()))));
}

pub fn distill(others: &Others) -> Case {
    let at = |name| fixture().at(name);
    let optimised = json!({"learning_rate": 0.01});
    let base = json!({"policy": at("policy"), "teacher": at("other"), "dataset": at("dataset"),
        "steps": 2, "batch_size": 3, "max_new_tokens": 20, "optimiser": optimised});
    let mut pairs = on_policy(others, "steps", "batch_size");
    let of_rewards = |field: &str| field.starts_with("missing_eos");
    pairs.retain(|(field, ..)| !of_rewards(field));
    pairs.extend([plain("teacher", at("policy")), plain("forward", json!(0.5))]);
    Case::new(base, pairs)
}

/// What methods on a policy's own responses share; `size` is the field with the prompts of a step.
fn on_policy(others: &Others, steps: &'static str, size: &'static str) -> Vec<Pair> {
    let mut pairs = vec![
        plain("policy", fixture().at("other")),
        plain("dataset", others.at("dataset")),
        plain("split", json!("sft")),
        plain("seed", json!(1)),
        plain(steps, json!(3)),
        plain(size, json!(2)),
        plain("samples_per_prompt", json!(4)),
        plain("temperature", json!(0.7)),
        plain("max_new_tokens", json!(10)),
        plain("max_prompt_tokens", json!(5)),
        plain("frozen", json!(0.6)),
        plain("missing_eos", json!({"replace": -3.0})),
        ("missing_eos.replace", json!(-2.0), json!({"missing_eos": {"replace": -3.0}})),
        ("missing_eos.subtract", json!(2.0), json!({"missing_eos": {"subtract": 1.0}})),
    ];
    pairs.extend(policy_validation());
    optimiser(&mut pairs, json!({steps: 3}));
    pairs
}

pub fn online_dpo(others: &Others) -> Case {
    let at = |name| fixture().at(name);
    let optimised = json!({"learning_rate": 0.01});
    let base = json!({"policy": at("policy"), "reward_model": at("reward"),
        "dataset": at("dataset"), "steps": 2, "batch_size": 3, "max_new_tokens": 20, "beta": 0.1,
        "optimiser": optimised});
    let mut pairs = on_policy(others, "steps", "batch_size");
    pairs.push(plain("reward_model", others.at("reward")));
    pairs.extend([plain("loss", json!("ipo")), plain("beta", json!(0.3))]);
    pairs.push(("stop_at_kl", json!(1e-9), json!({"steps": 3})));
    let varied = || json!({"pairs": {"diverse": {"pool": 0.5}}, "samples_per_prompt": 4});
    pairs.extend([
        ("pairs", json!({"diverse": {"pool": 1.0}}), json!({"samples_per_prompt": 4})),
        ("pairs.diverse.pool", json!(0.9), varied()),
        ("pairs.diverse.by", json!("novelty"), varied()),
    ]);
    rewarded(others, Case::new(base, pairs))
}

pub fn expert_iteration(others: &Others) -> Case {
    let at = |name| fixture().at(name);
    let optimised = json!({"learning_rate": 0.01});
    let base = json!({"policy": at("policy"), "reward_model": at("reward"),
        "dataset": at("dataset"), "rounds": 2, "prompts_per_round": 3, "samples_per_prompt": 3,
        "batch_size": 2, "max_new_tokens": 20, "optimiser": optimised});
    let mut pairs = on_policy(others, "rounds", "prompts_per_round");
    pairs.extend([
        plain("reward_model", others.at("reward")),
        plain("begin", json!("original")),
        plain("least_reward", json!(90.0)),
        plain("batch_size", json!(3)),
        plain("epochs", json!(2)),
    ]);
    rewarded(others, Case::new(base, pairs))
}

fn policy_validation() -> Vec<Pair> {
    let at = |name| fixture().at(name);
    let beside = || {
        let by = json!({"reward_model": at("judges/a")});
        json!({"validation": {"split": "test/id", "every": 1, "by": by}})
    };
    vec![
        ("validation.split", json!("test/ood"), beside()),
        ("validation.rows", json!(2), beside()),
        ("validation.every", json!(2), beside()),
        ("validation.keep", json!("last"), beside()),
        ("validation.by", json!("gold"), beside()),
        ("validation.by.reward_model", at("judges/b"), beside()),
    ]
}

/// A case with the fields of `rewards`.
fn rewarded(others: &Others, case: Case) -> Case {
    let at = |name| fixture().at(name);
    let by = |by: Value| json!({"reward_model": null, "rewards": {"key": {"by": by}}});
    let ensemble = |combine: Value| {
        let models = json!([at("reward"), at("judges/a")]);
        by(json!({"ensemble": {"models": models, "combine": combine}}))
    };
    let length = |least: Value| by(json!({"length": {"least": least, "most": 90}}));
    let overlong = || by(json!({"overlong": {"limit": 4, "buffer": 2}}));
    let command = |score: &str| {
        let script = format!("while read -r row; do echo \"{{\\\"score\\\": {score}}}\"; done");
        let (inputs, files) = (json!({"key": at("dataset")}), json!({"own": at("posts.jsonl")}));
        by(json!({"command": {"run": ["sh", "-c", script], "inputs": inputs, "files": files,
            "env": {"own_env": "1"}}}))
    };
    let with = |command: Value, name: &str, value: Value| {
        let mut command = command;
        command["rewards"]["key"]["by"]["command"][name] = value;
        command
    };
    let own = |name: &'static str, value: Value| with(command("$key"), name, value);
    let files = own("inputs", json!({}));
    let files = with(files, "files", json!({"key": at("posts.jsonl")}));
    let sized = json!([
        "sh",
        "-c",
        "n=$(head -c 40 $key | cksum | cut -c1-5); while read -r row; do \
        echo \"{\\\"score\\\": $n}\"; done"
    ]);
    let listed = json!([
        "sh",
        "-c",
        "n=$(ls $key | wc -l); while read -r row; do \
        echo \"{\\\"score\\\": $n}\"; done"
    ]);
    let env = with(own("inputs", json!({})), "env", json!({"key": "1"}));
    let mut pairs = case.pairs;
    pairs.extend([
        ("rewards.key.weight", json!(2.0), overlong()),
        ("rewards.key.by", json!("gold"), overlong()),
        (
            "rewards.key.by.reward_model",
            others.at("reward"),
            by(json!({"reward_model": at("reward")})),
        ),
        ("rewards.key.by.ensemble.models.0", others.at("reward"), ensemble(json!("mean"))),
        ("rewards.key.by.ensemble.combine", json!("worst"), ensemble(json!("mean"))),
        (
            "rewards.key.by.ensemble.combine.less_variance",
            json!(2.0),
            ensemble(json!({"less_variance": 1.0})),
        ),
        (
            "rewards.key.by.ensemble.combine.less_deviation",
            json!(2.0),
            ensemble(json!({"less_deviation": 1.0})),
        ),
        ("rewards.key.by.length.unit", json!("words"), length(json!(5))),
        ("rewards.key.by.length.least", json!(80), length(json!(1))),
        ("rewards.key.by.length.most", json!(1), length(json!(1))),
        ("rewards.key.by.overlong.limit", json!(3), overlong()),
        ("rewards.key.by.overlong.buffer", json!(1), overlong()),
        ("rewards.key.by.format", json!("json"), by(json!({"format": "one_line"}))),
        ("rewards.key.by.regex", json!("^$"), by(json!({"regex": "."}))),
        (
            "rewards.key.by.command.inputs.key",
            others.at("reward"),
            with(command("1"), "run", listed),
        ),
        ("rewards.key.by.command.files.key", others.at("posts.jsonl"), with(files, "run", sized)),
        ("rewards.key.by.command.env.key", json!("2"), env),
    ]);
    let (fake, opposite) = (grades(0), grades(1));
    let llm = |more: Value| {
        let mut model = json!({"endpoint": fake.endpoint(), "model": "m"});
        model.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        by(json!({"llm": model}))
    };
    let asked = || llm(json!({}));
    pairs.extend([
        ("rewards.key.by.llm.endpoint", json!(opposite.endpoint()), asked()),
        ("rewards.key.by.llm.model", json!("n"), asked()),
        ("rewards.key.by.llm.task", json!("instructions"), asked()),
        ("rewards.key.by.llm.prompt", others.at("grading.txt"), asked()),
        ("rewards.key.by.llm.scale.from", json!(-1), asked()),
        ("rewards.key.by.llm.scale.to", json!(20), asked()),
        ("rewards.key.by.llm.grade", json!({"field": "other"}), asked()),
        (
            "rewards.key.by.llm.grade.field",
            json!("grade"),
            llm(json!({"grade": {"field": "other"}})),
        ),
        ("rewards.key.by.llm.max_tokens", json!(7), asked()),
        ("rewards.key.by.llm.api_key_env", json!("PATH"), asked()),
    ]);
    let heard = move || heard_of(&fake, &opposite);
    let mut refused = case.refused;
    refused.push((
        "rewards.key.by.command.run.0",
        json!("no-such-program"),
        command("1"),
        "there is no program `no-such-program`",
    ));
    let mut elsewhere = case.elsewhere;
    let file = "stages/rewards.rs";
    elsewhere.extend([
        (
            "rewards.key.by.exact_match.ignore_case",
            file,
            "an_exact_match_reads_the_rows_completion",
        ),
        (
            "rewards.key.by.exact_match.ignore_space",
            file,
            "an_exact_match_reads_the_rows_completion",
        ),
        (
            "rewards.key.by.number_match.after",
            file,
            "a_number_is_compared_with_that_of_the_completion",
        ),
    ]);
    let graders = "judges/graders.rs";
    let coming_back = "an_endpoint_that_comes_back_changes_nothing";
    elsewhere.extend([
        ("rewards.key.by.llm.rpm", graders, "grades_keep_to_the_pace"),
        (
            "rewards.key.by.llm.concurrency",
            graders,
            "each_response_gets_the_grade_of_its_own_question",
        ),
        ("rewards.key.by.llm.max_retries", graders, coming_back),
        ("rewards.key.by.llm.timeout", graders, coming_back),
    ]);
    Case { pairs, refused, elsewhere, heard: Some(Box::new(heard)), ..case }
}

/// An endpoint whose grades depend on the length of what it is asked.
fn grades(odd: usize) -> Fake {
    Fake::start(move |message| {
        let grade = 1 + (message.len() + odd) % 10;
        json!({"grade": grade, "other": 11 - grade}).to_string()
    })
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
    rewarded(others, Case { refused: vec![leak(others)], ..Case::new(base, pairs) })
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
        plain("policy_clip.high", json!(0.001)),
        plain("policy_clip.dual", json!(1.001)),
        plain("samples_per_prompt", json!(2)),
        plain("kl.in", json!("loss")),
        ("kl.estimator", json!("k2"), json!({"kl.in": "loss"})),
        plain("reward_scaling.scale", json!("running_std")),
        plain("reward_scaling.clip", json!(0.5)),
        plain("epoch_stop_kl", json!(1e-9)),
        ("stop_at_kl", json!(1e-9), json!({"steps": 3})),
        ("reference.reset_every", json!(2), json!({"steps": 3, "reference": {"reset_every": 1}})),
        plain("value.fit", json!("every_epoch")),
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
