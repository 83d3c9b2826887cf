//! The record of what stages make: object ids of every stage kind on small inputs, with the kind's
//! VERSION. VERSION is in every action key, so a change of what a stage makes that does not
//! raise it would leave stale artefacts in caches; this test finds it.
//!
//! Training arithmetic is our own to the last bit. The C library's `cos`, `exp`, `ln` and `pow`
//! take part where weights and schedules begin, in rotary tables and in figures of tables; the
//! record is of the GNU C library on x86-64 with fused multiply-add.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::bench::{make, version};
use super::fixture::fixture;
use crate::tools::mention;

/// Set to renew the record.
const RENEW: &str = "POSTTRAIN_RENEW_DIGESTS";
const HEAD: &str = "\
# What each stage kind makes of the inputs in fixture.rs: case, VERSION of the kind, object id. Written by
# POSTTRAIN_RENEW_DIGESTS=1 cargo test --test suite stages::digests
";

fn optimiser() -> Value {
    json!({"learning_rate": 0.01,
        "schedule": {"shape": "linear", "warmup": {"steps": 1}, "final_ratio": 0.1},
        "weight_decay": 0.1})
}

/// Every kind, in every variant whose bytes come about in another way: `KIND` or `KIND/VARIANT`,
/// with its config.
pub fn cases() -> Vec<(&'static str, Value)> {
    let at = |name| fixture().at(name);
    let files = |first: f64, last: f64| {
        json!({"path": at("posts.jsonl"), "prompt": "{body} tl;dr:", "completion": " {gist}",
            "id": "name",
            "share": {"from": first, "to": last}, "shuffle": 3,
            "cut": {"column": "body", "words": 7}})
    };
    let form = json!({"width": 16, "layers": 2, "heads": 2, "feed_forward": 24, "context": 128});
    let normal = json!({"width": 16, "layers": 2, "heads": 2, "feed_forward": 24, "context": 128,
        "init": {"normal": {"std": 0.02}}});
    let pretrain = |form: &Value| {
        json!({"dataset": at("dataset"), "tokenizer": at("tokenizer"),
            "phases": ["notes", "pretrain"], "batch_size": 4, "seed": 1,
            "model": form, "optimiser": optimiser()})
    };
    let sft = |frozen: f64| {
        json!({"policy": at("policy"), "dataset": at("dataset"),
        "batch_size": 4, "epochs": 2, "frozen": frozen, "optimiser": optimiser()})
    };
    let reward_model = |frozen: f64| {
        json!({"policy": at("policy"), "dataset": at("preferences"), "batch_size": 4,
            "frozen": frozen,
            "center_rewards_coefficient": 0.01, "optimiser": optimiser()})
    };
    let measured = |mut config: Value| {
        config["validation"] = json!({"split": "test/ood", "every": 2});
        config
    };
    let ppo = |more: Value| {
        let mut config = json!({"policy": at("policy"), "reward_model": at("reward"),
            "dataset": at("dataset"), "steps": 3,
            "batch_size": 4, "minibatches": 2, "epochs": 2, "max_new_tokens": 12,
            "kl": {"coef": 0.05}, "optimiser": optimiser()});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    let generate = |sampling: Value| {
        json!({"policy": at("policy"), "dataset": at("dataset"),
        "samples": 2, "sampling": sampling})
    };
    let best_of_n = |more: Value| {
        let mut config = json!({"policy": at("policy"), "reward_model": at("reward"),
            "dataset": at("dataset"), "n": 3, "outputs": 2,
            "sampling": {"max_new_tokens": 12}});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    let evaluate = |judge: &str| {
        json!({"dataset": at("dataset"), "reward_model": at("reward"),
            "reference_policy": at("policy"), "preferences": at("preferences"),
            "judge": judge, "methods": [{"name": "policy", "outputs": at("outputs"),
                "samples": at("samples")}]})
    };
    let optimum = {
        let mut config = evaluate("gold");
        config["optimum"] = json!({"candidates": at("pool"), "min_ess": 1.5,
            "missing_eos": {"subtract": 0.5}});
        config
    };
    let judge = |who: Value| json!({"dataset": at("dataset"), "a": at("outputs"), "judge": who});
    let mut cases = vec![
        (
            "dataset/files",
            json!({"source": {"files": {"sft": files(0.0, 0.6), "test/id": files(0.6, 1.0)}}}),
        ),
        (
            "dataset/world",
            json!({"source": {"world": {"seed": 1, "notes": 4, "pretrain": 12, "sft": 4,
                "compare": 3, "prompts": 3, "validation": 3, "test": 3}}}),
        ),
        (
            "dataset/world_preferences",
            json!({"source": {"world_preferences": {"posts": at("dataset"),
                "candidates": at("candidates"), "writers": 2, "seed": 1}}}),
        ),
        (
            "dataset/contrast",
            json!({"source": {"contrast": {"dataset": at("dataset"),
                "splits": {"preferences": "sft", "test/id": "test/id"},
                "kinds": ["other", "cut"]}}}),
        ),
        (
            "dataset/pairs",
            json!({"source": {"files": {"preferences": {"path": at("comparisons.jsonl"),
                "format": "openai_comparisons", "on_bad_row": "skip"}}}}),
        ),
        (
            "dataset/conversations",
            json!({"source": {"files": {"sft": {"path": at("chats.jsonl")}}}}),
        ),
        (
            "dataset/select",
            json!({"source": {"select": {"dataset": at("dataset"), "splits": {
                "sft": {"from": "sft", "half": {"scores": at("scores"), "keep": "upper"},
                    "share": {"from": 0.0, "to": 0.8, "seed": 1}, "shuffle": 2}}}}}),
        ),
        ("tokenizer", json!({"dataset": at("dataset"), "vocabulary": 300})),
        ("pretrain/copying", pretrain(&form)),
        ("pretrain/normal", pretrain(&normal)),
        ("model", json!({"path": at("policy")})),
        ("sft/whole", sft(0.0)),
        ("sft/frozen", sft(0.8)),
        ("sft/validation", measured(sft(0.0))),
        ("reward_model/whole", reward_model(0.0)),
        ("reward_model/frozen", reward_model(0.8)),
        ("reward_model/validation", measured(reward_model(0.0))),
        ("select", json!({"of": [at("measured/a"), at("measured/b")]})),
        (
            "ppo/shared",
            ppo(json!({"value": {"critic": "shared", "head_ratio": 10.0, "warmup": 1}})),
        ),
        (
            "ppo/shared_frozen",
            ppo(json!({"frozen": 0.8, "conventions": {"missing_eos": {"replace": -1.0}}})),
        ),
        (
            "ppo/separate",
            ppo(json!({"value": {"critic": "separate"},
                    "kl": {"coef": 0.05, "adaptive": {"target": 0.1, "horizon": 20.0}}})),
        ),
        (
            "ppo/validation",
            ppo(json!({"validation": {"split": "test/ood", "every": 1,
                    "by": {"reward_model": at("judges/a")}}})),
        ),
        ("ppo/paper", ppo(json!({"compat": "paper", "temperature": 0.7}))),
        ("ppo/nplus", ppo(json!({"compat": "nplus"}))),
        ("generate/whole", generate(json!({"temperature": 0.7, "max_new_tokens": 12}))),
        ("generate/greedy", generate(json!({"temperature": 0.0, "max_new_tokens": 12}))),
        ("generate/cut", generate(json!({"top_k": 20, "top_p": 0.9, "max_new_tokens": 12}))),
        ("best_of_n/own", best_of_n(json!({}))),
        ("best_of_n/pool", best_of_n(json!({"pool": 7}))),
        (
            "score",
            json!({"dataset": at("dataset"), "splits": ["sft"],
                "by": {"reward_model": {"model": at("reward")}}}),
        ),
        ("evaluate/gold", evaluate("gold")),
        ("evaluate/reward_model", evaluate("reward_model")),
        ("evaluate/quality", {
            let mut config = evaluate("gold");
            config["quality"] = json!({"by": "gold", "good": -0.5, "classes": "gold", "k": 2});
            config
        }),
        ("evaluate/optimum", optimum),
        (
            "classifier",
            json!({"encoder": at("policy"), "train": at("pairs.jsonl"), "test": at("pairs.jsonl"),
                "hidden": 8, "epochs": 2, "batch_size": 4,
                "optimiser": optimiser()}),
        ),
        (
            "classifier/tuned",
            json!({"encoder": at("policy"), "train": at("pairs.jsonl"), "test": at("pairs.jsonl"),
                "hidden": 8, "epochs": 2, "batch_size": 4,
                "frozen": 0.4, "optimiser": optimiser()}),
        ),
        ("over_seeds", json!({"evaluations": [at("evaluations/a"), at("evaluations/b")]})),
        (
            "over_seeds/full",
            json!({"evaluations": [at("evaluations/c"), at("evaluations/d"), at("evaluations/e")],
                "statistics": "full", "equivalence": {"gold": 0.5}}),
        ),
        ("judge/gold", judge(json!("gold"))),
        ("judge/reward_model", judge(json!({"reward_model": at("reward")}))),
        (
            "command",
            json!({"run": ["sh", "-c", "cat {posts} > \
                copy"], "files": {"posts": at("posts.jsonl")}}),
        ),
    ];
    cases.extend(of_distributions(&evaluate("gold")));
    cases.extend(of_validated_metrics());
    cases.extend(of_programs().into_iter().chain(of_artefacts()));
    cases.extend(of_people(&evaluate("gold")));
    cases.extend(of_direct().into_iter().chain(of_labelled()));
    cases.extend(of_rewards(&best_of_n(json!({})), &ppo(json!({}))));
    cases.extend(of_supervised(&sft(0.0), &reward_model(0.0), &pretrain(&form)));
    cases.extend(of_merges().into_iter().chain(of_ppo(ppo(json!({})))));
    cases
}

/// Options of a run that is not plain.
fn of_ppo(mut config: Value) -> Vec<(&'static str, Value)> {
    let more = json!({"samples_per_prompt": 2, "kl": {"coef": 0.05, "in": "loss"},
        "policy_clip": {"high": 0.3}, "reference": {"reset_every": 2},
        "reward_scaling": {"scale": "running_std", "clip": 2.0}, "epoch_stop_kl": 0.01,
        "value": {"fit": "every_epoch"}});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut varied = config.clone();
    let more = json!({"samples_per_prompt": 2, "diversity": {"mara": {"good": {"quantile": 0.5}}},
        "entropy": {"coef": 0.01}});
    varied.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let replayed = |more: &Value| {
        let mut config = more.clone();
        config["replay"] = json!({"of": recorded("ppo", more), "step": 2});
        config
    };
    let again = replayed(&config);
    vec![("ppo/options", config), ("ppo/varied", varied), ("ppo/replay", again)]
}

/// The artefact of a stage of this config that records its second step, kept in the fixture.
fn recorded(kind: &str, config: &Value) -> Value {
    let name = format!("recorded/{kind}");
    let folder = fixture().path(&name);
    if !folder.exists() {
        let mut config = config.clone();
        config["record"] = json!([2]);
        std::fs::create_dir_all(&folder).unwrap();
        posttrain::fs::copy_all(&make(kind, config).path(""), &folder).unwrap();
    }
    fixture().at(&name)
}

/// Critic-free training, and the stages that take `rewards` with parts of every source.
fn of_rewards(best_of_n: &Value, ppo: &Value) -> Vec<(&'static str, Value)> {
    let at = |name| fixture().at(name);
    let script = "while read -r row; do echo \"{\\\"score\\\": ${#row}}\"; done";
    let rewards = json!({
        "command": {"by": {"command": {"run": ["sh", "-c", script]}}, "weight": 0.01},
        "ensemble": {"by": {"ensemble": {"models": [at("reward"), at("judges/a")],
            "combine": {"less_variance": 0.5}}}},
        "exact": {"by": {"exact_match": {}}},
        "format": {"by": {"format": "one_line"}},
        "gold": {"by": "gold", "weight": 0.5},
        "length": {"by": {"length": {"unit": "words", "most": 3}}},
        "model": {"by": {"reward_model": at("judges/b")}, "weight": -0.1},
        "overlong": {"by": {"overlong": {"buffer": 6}}},
        "regex": {"by": {"regex": "[aeiou]"}}});
    let rewarded = |of: &Value, more: Value| {
        let mut config = of.clone();
        config.as_object_mut().unwrap().remove("reward_model");
        config["rewards"] = rewards.clone();
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    let base = json!({"policy": at("policy"), "reward_model": at("reward"),
        "dataset": at("dataset"), "steps": 3, "batch_size": 3, "samples_per_prompt": 3,
        "minibatches": 2, "epochs": 2, "max_new_tokens": 12, "kl": {"coef": 0.05},
        "optimiser": optimiser()});
    let student = |more: Value| {
        let mut config = json!({"policy": at("policy"), "teacher": at("other"),
            "dataset": at("dataset"), "steps": 3, "batch_size": 4, "samples_per_prompt": 2,
            "max_new_tokens": 12, "optimiser": optimiser()});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    let of_own = |more: Value| {
        let mut config = json!({"policy": at("policy"), "reward_model": at("reward"),
            "dataset": at("dataset"), "max_new_tokens": 12, "optimiser": optimiser()});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    let grpo = |more: Value| {
        let mut config = base.clone();
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    vec![
        ("best_of_n/rewards", rewarded(best_of_n, json!({}))),
        ("ppo/rewards", rewarded(ppo, json!({}))),
        ("grpo/grpo", grpo(json!({}))),
        ("grpo/frozen", grpo(json!({"frozen": 0.8, "missing_eos": {"replace": -1.0}}))),
        ("grpo/record", grpo(json!({"record": [1, 3]}))),
        (
            "grpo/replay",
            grpo(json!({"replay": {"of": recorded("grpo", &base), "step": 2}, "epochs": 2,
                "minibatches": 2})),
        ),
        ("grpo/rloo", grpo(json!({"algorithm": "rloo"}))),
        ("grpo/gspo", grpo(json!({"algorithm": "gspo"}))),
        ("grpo/cispo", grpo(json!({"algorithm": "cispo"}))),
        ("grpo/reinforce_pp", grpo(json!({"algorithm": "reinforce_pp"}))),
        (
            "grpo/varied",
            grpo(json!({"diversity": {"novelty": {"weight": 0.5}},
                "entropy": {"coef": 0.01, "target": {"entropy": 3.0}},
                "kl": {"coef": 0.1, "anneal": {"to": 0.05}}})),
        ),
        (
            "grpo/rewards",
            rewarded(&base, json!({"algorithm": "dapo", "dynamic_sampling": {"tries": 2}})),
        ),
        ("grpo/parts", rewarded(&base, json!({"advantages": {"parts": "normalise_each"}}))),
        (
            "grpo/validation",
            grpo(json!({"validation": {"split": "test/id", "every": 2, "by": "gold"}})),
        ),
        (
            "grpo/kl_stops",
            grpo(json!({"steps": 6, "epochs": 2, "epoch_stop_kl": 0.001, "stop_at_kl": 0.5})),
        ),
        (
            "online_dpo/stop",
            of_own(json!({"steps": 6, "batch_size": 4, "beta": 0.1, "stop_at_kl": 0.5})),
        ),
        ("online_dpo/sigmoid", of_own(json!({"steps": 3, "batch_size": 4, "beta": 0.1}))),
        (
            "online_dpo/frozen",
            of_own(json!({"steps": 3, "batch_size": 3, "samples_per_prompt": 4, "beta": 0.1,
                "loss": "ipo", "frozen": 0.8})),
        ),
        (
            "expert_iteration/last",
            of_own(json!({"rounds": 3, "prompts_per_round": 4, "samples_per_prompt": 3,
                "batch_size": 2, "epochs": 2, "least_reward": 0.0})),
        ),
        (
            "expert_iteration/original",
            of_own(json!({"rounds": 3, "prompts_per_round": 4, "samples_per_prompt": 3,
                "batch_size": 2, "begin": "original", "frozen": 0.8})),
        ),
        ("distill/reverse", student(json!({}))),
        ("distill/mixed", student(json!({"forward": 0.5, "frozen": 0.8}))),
    ]
}

/// `merge` in every way.
fn of_merges() -> [(&'static str, Value); 3] {
    let at = |name| fixture().at(name);
    let merge = |weights: [f64; 2], more: Value| {
        let mut config = json!({"models": [{"model": at("policy"), "weight": weights[0]},
            {"model": at("other"), "weight": weights[1]}]});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    let base = at("measured/a");
    [
        ("merge/linear", merge([0.3, 0.7], json!({}))),
        ("merge/base", merge([0.8, -0.4], json!({"base": base}))),
        ("merge/slerp", merge([0.3, 0.7], json!({"base": base, "how": "slerp"}))),
    ]
}

/// `kto` on pairs and on answers that are none, and what it reads.
fn of_labelled() -> [(&'static str, Value); 5] {
    let at = |name| fixture().at(name);
    let kto = |more: Value| {
        let mut config = json!({"policy": at("policy"), "dataset": at("preferences"),
            "reference": at("kto_logprobs"), "batch_size": 6, "beta": 0.1,
            "optimiser": optimiser()});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    let validation = json!({"split": "test/ood", "every": 2});
    let single = json!({"dataset": at("dataset"), "desirable": "sft", "undesirable": "prompts",
        "desirable_weight": 0.75});
    [
        (
            "reference_logprobs/mismatched",
            json!({"policy": at("policy"), "dataset": at("preferences"), "mismatched": true}),
        ),
        (
            "reference_logprobs/completions",
            json!({"policy": at("policy"), "dataset": at("dataset"), "splits": ["sft", "prompts"],
                "mismatched": true}),
        ),
        ("kto/pairs", kto(json!({"validation": validation}))),
        ("kto/single", kto(single)),
        ("kto/frozen", kto(json!({"frozen": 0.8, "z0": "none"}))),
    ]
}

/// Options of supervised stages beyond the plain runs.
fn of_supervised(
    sft: &Value,
    reward_model: &Value,
    pretrain: &Value,
) -> [(&'static str, Value); 6] {
    let at = |name| fixture().at(name);
    let with = |config: &Value, more: Value| {
        let mut config = config.clone();
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    let average = json!({"decay": 0.9});
    let measured = json!({"average": average, "validation": {"split": "test/ood", "every": 2}});
    [
        ("sft/all", with(sft, json!({"loss_on": "all", "too_long": "cut"}))),
        ("sft/average", with(sft, measured)),
        (
            "reward_model/pairs",
            with(
                reward_model,
                json!({"batch_of": "pairs", "margin": "rows",
                "label_smoothing": 0.1}),
            ),
        ),
        (
            "reward_model/references",
            with(
                reward_model,
                json!({"margin": {"constant": 0.25}, "average": average,
                "normalise": {"references": {"dataset": at("dataset"), "rows": 5}}}),
            ),
        ),
        ("pretrain/average", with(pretrain, json!({"average": average}))),
        (
            "dataset/margin",
            json!({"source": {"files": {"preferences": {"path": at("preferences/preferences.jsonl"),
                "prompt": "{prompt}", "chosen": "{chosen}", "rejected": "{rejected}", "id": "id",
                "margin": "margin"}}}}),
        ),
    ]
}

/// `dpo` with a reference and without, and what it reads.
fn of_direct() -> [(&'static str, Value); 5] {
    let at = |name| fixture().at(name);
    let dpo = |more: Value| {
        let mut config = json!({"policy": at("policy"), "dataset": at("preferences"),
            "batch_size": 4, "beta": 0.1, "optimiser": optimiser()});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    let validation = json!({"split": "test/ood", "every": 2});
    [
        (
            "reference_logprobs",
            json!({"policy": at("policy"), "dataset": at("preferences"),
                "splits": ["preferences", "test/id"]}),
        ),
        ("dpo/whole", dpo(json!({"reference": at("logprobs")}))),
        ("dpo/frozen", dpo(json!({"reference": at("logprobs"), "frozen": 0.8, "loss": "ipo"}))),
        ("dpo/validation", dpo(json!({"reference": at("logprobs"), "validation": validation}))),
        ("dpo/orpo", dpo(json!({"loss": "orpo"}))),
    ]
}

/// Numbers of a program, of each input and of each sample, and `evaluate` with them.
fn of_artefacts() -> [(&'static str, Value); 4] {
    let case = |name, makes: &str| json!({"path": fixture().at(name), "makes": makes});
    [
        ("artefact/dataset", case("dataset", "dataset")),
        ("artefact/policy", case("policy", "policy")),
        ("artefact/reward_model", case("reward", "reward_model")),
        ("artefact/samples", case("samples", "samples")),
    ]
}

fn of_programs() -> [(&'static str, Value); 3] {
    let at = |name| fixture().at(name);
    let numbers = json!({"own": {"description": "bytes of a row", "better": "lower"},
        "share_odd": {"description": "rows of odd length"}});
    let row = r#"{odd = $8 == "row-72" ? "null" : length($0) % 2;
        values = sprintf("{\"own\":%d,\"share_odd\":%s}", length($0), odd);
        printf "{\"split\":\"%s\",\"id\":\"%s\",\"values\":%s}\n", $4, $8, values}"#;
    let each = r#"{printf "{\"split\":\"%s\",\"id\":\"%s\",\"values\":{\"own\":[%d,null,%d]}}\n",
        $4, $8, length($16), length($20)}"#;
    let methods = json!([{"name": "policy", "samples": at("samples")},
        {"name": "again", "samples": at("samples")}]);
    let measured = json!({"methods": {"policy": at("measured_by"), "again": at("measured_by")}});
    [
        (
            "metric/input",
            json!({"samples": at("samples"), "dataset": at("dataset"),
                "run": ["awk", "-F\"", row], "values": numbers}),
        ),
        (
            "metric/sample",
            json!({"samples": at("samples"), "per": "sample", "run": ["awk", "-F\"", each],
                "values": {"own": {"description": "bytes of a sample", "unit": "bytes"}}}),
        ),
        (
            "evaluate/metrics",
            json!({"dataset": at("dataset"), "methods": methods, "metrics": {"own": measured}}),
        ),
    ]
}

/// `judge` by people, of outputs and of sets, and measures beside people.
fn of_people(evaluate: &Value) -> [(&'static str, Value); 3] {
    let at = |name: &str| fixture().at(name);
    let sheets =
        |kind: &str| ["ann", "bob"].map(|name| at(&format!("sheets/{kind}-{name}.csv"))).to_vec();
    let judge = |more: Value| {
        let mut config = json!({"dataset": at("dataset"), "splits": ["test/id"]});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    let mut beside = evaluate.clone();
    beside["methods"] = json!([evaluate["methods"][0], {"name": "pool", "samples": at("pool")}]);
    beside["people"] = json!({"asked": {"a": "policy", "b": "pool", "judgements": at("people")}});
    [
        (
            "judge/people",
            judge(json!({"a": at("outputs"), "judge": {"people": {"sheets": sheets("pairs")}}})),
        ),
        (
            "judge/people_sets",
            judge(json!({"a": at("samples"), "b": at("pool"),
                "judge": {"people": {"sheets": sheets("sets"), "set": 2}}})),
        ),
        ("evaluate/people", beside),
    ]
}

/// `metric_validation`, by measures of words and by a sentence encoder.
fn of_validated_metrics() -> [(&'static str, Value); 2] {
    let at = |name| fixture().at(name);
    [
        (
            "metric_validation/words",
            json!({"dataset": at("dataset"), "test_sets": ["id"], "k": [2, 6],
                "classes": [1, 2, 4], "diversity": {"metrics": ["ead", "self_bleu"]}}),
        ),
        (
            "metric_validation/models",
            json!({"dataset": at("dataset"), "test_sets": ["ood"], "inputs": 2, "k": [2, 4],
                "classes": [1, 2, 3], "wordings": [1, 2], "wrong": [0.5],
                "diversity": {"metrics": ["embedding"], "encoder": at("policy")},
                "methods": [{"name": "policy", "samples": at("samples")}]}),
        ),
    ]
}

/// `evaluate` with measures of methods' models, and of the similarity of methods.
fn of_distributions(evaluate: &Value) -> [(&'static str, Value); 4] {
    let at = |name| fixture().at(name);
    let with = |distributions: Value| {
        let mut config = evaluate.clone();
        config["methods"][0]["model"] = at("other");
        config["distributions"] = distributions;
        config
    };
    let retention = json!([{"name": "notes", "dataset": at("dataset"), "split": "notes"}]);
    let mut similarity = evaluate.clone();
    similarity["methods"] = json!([evaluate["methods"][0], {"name": "again",
        "outputs": at("outputs"), "samples": at("samples")}]);
    similarity["similarity"] = json!({"threshold": 0.5});
    let mut wins = evaluate.clone();
    wins["quality"] = json!({"by": "gold", "good": -0.5, "wins": true});
    [
        ("evaluate/distributions", with(json!({"reference_samples": at("samples")}))),
        ("evaluate/retention", with(json!({"retention": retention}))),
        ("evaluate/similarity", similarity),
        ("evaluate/wins", wins),
    ]
}

pub fn kind(case: &str) -> &str {
    case.split('/').next().unwrap()
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/stages/digests.txt")
}

/// The record: VERSION and object id by case.
fn record() -> BTreeMap<String, (u32, String)> {
    let text = std::fs::read_to_string(path()).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let entry = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words[0].to_string(), (words[1].parse().unwrap(), words[2].to_string()))
    };
    lines.map(entry).collect()
}

/// What is wrong with one case, if anything: `found` is made now, `recorded` is in the file.
fn complaint(
    case: &str,
    found: &(u32, String),
    recorded: Option<&(u32, String)>,
) -> Option<String> {
    let how = format!("renew the record with {RENEW}=1 cargo test --test suite stages::digests");
    let kind = kind(case);
    match recorded {
        None => Some(format!("{case} is not in the record: {how}")),
        Some(recorded) if recorded == found => None,
        Some(recorded) if recorded.0 == found.0 => Some(format!(
            "{case} is made of other bytes than recorded ({} for {}), but VERSION of `{kind}` is \
             still {}: caches would go on serving the old bytes. If the change is intended, raise \
             VERSION in src/stages in the same commit, then {how}",
            &found.1[..12],
            &recorded.1[..12],
            found.0
        )),
        Some(recorded) => Some(format!(
            "VERSION of `{kind}` is {}, {case} is recorded for {}: {how}",
            found.0, recorded.0
        )),
    }
}

#[test]
fn an_artefact_of_other_bytes_needs_a_new_version() {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu")) {
        mention("recorded digests: they are of Linux on x86-64 with the GNU C library");
        return;
    }
    let recorded = record();
    let found: BTreeMap<String, (u32, String)> = cases()
        .into_iter()
        .map(|(case, config)| {
            (case.to_string(), (version(kind(case)), make(kind(case), config).object()))
        })
        .collect();
    if std::env::var_os(RENEW).is_some() {
        // A new line is a new case; an old one may change with its VERSION only.
        let same_version = |case: &&String| {
            recorded
                .get(*case)
                .is_some_and(|old| old.0 == found[*case].0 && old.1 != found[*case].1)
        };
        let kept: Vec<&String> = found.keys().filter(same_version).collect();
        assert!(kept.is_empty(), "raise VERSION in src/stages first: {kept:?} changed without it");
        let lines =
            found.iter().map(|(case, (version, object))| format!("{case} {version} {object}\n"));
        std::fs::write(path(), format!("{HEAD}{}", lines.collect::<String>())).unwrap();
        return;
    }
    let mut complaints: Vec<String> = found
        .iter()
        .filter_map(|(case, found)| complaint(case, found, recorded.get(case)))
        .collect();
    complaints.extend(
        recorded
            .keys()
            .filter(|case| !found.contains_key(*case))
            .map(|case| format!("{case} is recorded, but no longer a case")),
    );
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn every_stage_kind_has_a_recorded_case() {
    let cases = cases();
    for name in posttrain::stages::names() {
        assert!(
            cases.iter().any(|(case, _)| kind(case) == *name),
            "{name} has no case: add one to `cases` in tests/stages/digests.rs"
        );
    }
}

#[test]
fn a_forgotten_version_and_a_forgotten_record_are_told_apart() {
    let (old, new) = ((1, "a".repeat(64)), "b".repeat(64));
    assert_eq!(complaint("sft/whole", &old, Some(&old)), None);
    let forgotten = complaint("sft/whole", &(1, new.clone()), Some(&old)).unwrap();
    assert!(
        forgotten.contains("VERSION of `sft` is still 1") && forgotten.contains("raise VERSION"),
        "{forgotten}"
    );
    let stale = complaint("sft/whole", &(2, new), Some(&old)).unwrap();
    assert!(
        stale.contains("is 2") && stale.contains("recorded for 1") && stale.contains(RENEW),
        "{stale}"
    );
    // Raising it is never wrong, and then the record follows.
    assert!(complaint("sft/whole", &(2, old.1.clone()), Some(&old)).is_some());
}

#[test]
fn made_twice_is_made_the_same() {
    for (case, config) in cases() {
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let objects = [1, 3]
            .map(|threads| pool(threads).install(|| make(kind(case), config.clone()).object()));
        assert_eq!(objects[0], objects[1], "{case}: one thread and three");
    }
}
