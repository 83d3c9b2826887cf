//! Stages that are stopped and go on: the bytes are those of an undisturbed run.

use posttrain::error::{Kind, kind_of};
use serde_json::{Value, json};

use super::bench::{Work, make, make_with_stops};
use super::fixture::fixture;

fn optimiser() -> Value {
    json!({"learning_rate": 0.01, "schedule": {"shape": "cosine", "warmup": {"fraction": 0.2}},
        "weight_decay": 0.1})
}

/// Stops the stage after every single step, and compares with a run that was not stopped.
fn stops_change_nothing(kind: &str, config: Value) {
    let undisturbed = make(kind, config.clone());
    let steps = undisturbed.metric("step").len();
    assert!(steps >= 3, "{steps} steps are too few to be stopped between");
    let (stopped, stops) = make_with_stops(kind, config);
    assert_eq!(stops, steps - 1, "a stop after each step but the last, which ends the stage");
    assert_eq!(stopped.text("metrics.jsonl"), undisturbed.text("metrics.jsonl"));
    assert_eq!(stopped.object(), undisturbed.object());
}

#[test]
fn pretraining_goes_on_where_it_stopped() {
    let config = json!({"dataset": fixture().at("dataset"), "tokenizer": fixture().at("tokenizer"),
        "phases": ["notes", "pretrain"],
        "batch_size": 4, "model": {"width": 16, "layers": 2, "heads": 2, "feed_forward": 24,
            "context": 128}, "optimiser": optimiser()});
    stops_change_nothing("pretrain", config);
}

#[test]
fn sft_goes_on_where_it_stopped() {
    for frozen in [0.0, 0.8] {
        let config = json!({"policy": fixture().at("policy"), "dataset": fixture().at("dataset"),
            "batch_size": 5, "epochs": 2, "frozen": frozen,
            "optimiser": optimiser()});
        stops_change_nothing("sft", config);
    }
}

#[test]
fn a_reward_model_goes_on_where_it_stopped() {
    let config = json!({"policy": fixture().at("policy"), "dataset": fixture().at("preferences"),
        "batch_size": 5, "epochs": 2,
        "center_rewards_coefficient": 0.01, "optimiser": optimiser()});
    stops_change_nothing("reward_model", config);
}

#[test]
fn dpo_goes_on_where_it_stopped() {
    let config = json!({"policy": fixture().at("policy"), "dataset": fixture().at("preferences"),
        "reference": fixture().at("logprobs"), "batch_size": 5, "beta": 0.1, "frozen": 0.4,
        "validation": {"split": "test/id", "every": 2}, "optimiser": optimiser()});
    stops_change_nothing("dpo", config);
}

#[test]
fn kto_goes_on_where_it_stopped() {
    let config = json!({"policy": fixture().at("policy"), "dataset": fixture().at("preferences"),
        "reference": fixture().at("kto_logprobs"), "batch_size": 9, "beta": 0.1, "frozen": 0.4,
        "validation": {"split": "test/id", "every": 2}, "optimiser": optimiser()});
    stops_change_nothing("kto", config);
}

#[test]
fn an_average_of_weights_goes_on_where_it_stopped() {
    let more = json!({"batch_size": 4, "optimiser": optimiser(), "average": {"decay": 0.7},
        "policy": fixture().at("policy")});
    let with = |fields: Value| {
        let mut config = more.clone();
        config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        config
    };
    let measured = json!({"split": "test/ood", "every": 2});
    for validation in [json!(null), measured] {
        let rows = json!({"dataset": fixture().at("dataset"), "validation": validation});
        stops_change_nothing("sft", with(rows));
    }
    let pairs = json!({"dataset": fixture().at("preferences"), "batch_of": "pairs", "frozen": 0.8});
    stops_change_nothing("reward_model", with(pairs));
    let direct = json!({"dataset": fixture().at("preferences"),
        "reference": fixture().at("logprobs"), "beta": 0.1});
    stops_change_nothing("dpo", with(direct));
}

/// After its last step it measures itself on the test pairs, where it listens too: only what comes
/// before is disturbed.
#[test]
fn a_classifier_goes_on_where_it_stopped() {
    for frozen in [1.0, 0.8, 0.0] {
        let config = json!({"encoder": fixture().at("policy"), "train": fixture().at("pairs.jsonl"),
            "test": fixture().at("pairs.jsonl"), "hidden": 8,
            "epochs": 2, "batch_size": 4, "frozen": frozen, "optimiser": optimiser()});
        let undisturbed = make("classifier", config.clone());
        let (steps, work) = (undisturbed.metric("step").len(), Work::new());
        assert!(steps >= 3, "{steps} steps are too few to be stopped between");
        for _ in 1..steps {
            assert_eq!(
                kind_of(&work.attempt("classifier", config.clone(), Some(1)).unwrap_err()),
                Kind::Interrupted
            );
        }
        work.attempt("classifier", config, None).unwrap();
        assert_eq!(work.object(), undisturbed.object(), "{frozen} frozen");
    }
}

fn ppo(value: Value, kl: Value) -> Value {
    json!({"policy": fixture().at("policy"), "reward_model": fixture().at("reward"),
        "dataset": fixture().at("dataset"), "steps": 5,
        "batch_size": 4, "minibatches": 2, "epochs": 2, "max_new_tokens": 12, "frozen": 0.4,
        "kl": kl, "value": value, "optimiser": optimiser()})
}

#[test]
fn ppo_goes_on_where_it_stopped() {
    stops_change_nothing(
        "ppo",
        ppo(json!({"critic": "shared", "head_ratio": 5.0, "warmup": 2}), json!({"coef": 0.05})),
    );
}

#[test]
fn ppo_with_a_critic_of_its_own_goes_on_where_it_stopped() {
    let adaptive = json!({"coef": 0.05, "adaptive": {"target": 0.2, "horizon": 20.0}});
    stops_change_nothing("ppo", ppo(json!({"critic": "separate", "warmup": 1}), adaptive));
}

/// The reference and the running deviation of scores are in checkpoints; training ends where it
/// does without a stop.
#[test]
fn ppo_with_all_options_goes_on_where_it_stopped() {
    for (critic, most) in [("shared", 1e6), ("separate", 2.0)] {
        let kl = json!({"coef": 0.05, "in": "loss", "adaptive": {"target": 0.2, "horizon": 20.0}});
        let mut config = ppo(json!({"critic": critic, "fit": "every_epoch"}), kl);
        let more = json!({"steps": 8, "samples_per_prompt": 2, "reference": {"reset_every": 2},
            "diversity": {"novelty": {}}, "entropy": {"target": {"entropy": 4.0}},
            "reward_scaling": {"scale": "running_std", "clip": 2.0}, "epoch_stop_kl": 0.001,
            "stop_at_kl": most, "policy_clip": {"high": 0.3}});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        stops_change_nothing("ppo", config);
    }
}

#[test]
fn grpo_goes_on_where_it_stopped() {
    let script = "while read -r row; do echo \"{\\\"score\\\": ${#row}}\"; done";
    let config = json!({"policy": fixture().at("policy"), "dataset": fixture().at("dataset"),
        "rewards": {"long": {"by": {"command": {"run": ["sh", "-c", script]}}},
            "model": {"by": {"reward_model": fixture().at("reward")}, "weight": 0.5}},
        "steps": 4, "batch_size": 3, "samples_per_prompt": 3, "minibatches": 2, "epochs": 2,
        "dynamic_sampling": {"tries": 2},
        "entropy": {"coef": 0.01, "target": {"entropy": 3.0, "step": 0.01}},
        "diversity": {"darling": {}},
        "max_new_tokens": 12, "frozen": 0.4, "kl": {"coef": 0.05, "anneal": {"to": 0.0}},
        "optimiser": optimiser()});
    stops_change_nothing("grpo", config);
}

/// Training ends where it does without a stop, after some steps or, by another bound, never.
#[test]
fn methods_that_kl_ends_go_on_where_they_stopped() {
    let of = |more: Value| {
        let mut config = json!({"policy": fixture().at("policy"),
            "dataset": fixture().at("dataset"), "reward_model": fixture().at("reward"),
            "steps": 6, "batch_size": 3, "samples_per_prompt": 3, "max_new_tokens": 12,
            "optimiser": {"learning_rate": 0.001}});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    let grpo = of(json!({"epoch_stop_kl": 0.001, "epochs": 2, "minibatches": 2,
        "kl": {"coef": 0.05}}));
    for (kind, config) in [("grpo", grpo), ("online_dpo", of(json!({"beta": 0.1})))] {
        let kl = make(kind, config.clone()).metric("objective/kl");
        let greatest = kl.iter().copied().fold(0.0, f64::max);
        let last = kl.iter().position(|kl| *kl >= greatest).unwrap();
        assert!(last >= 2, "{kind}: {kl:?}");
        for most in [1e6, greatest] {
            let mut config = config.clone();
            config["stop_at_kl"] = json!(most);
            stops_change_nothing(kind, config);
        }
    }
}

#[test]
fn methods_on_own_responses_go_on_where_they_stopped() {
    let of = |more: Value| {
        let mut config = json!({"policy": fixture().at("policy"),
            "dataset": fixture().at("dataset"), "reward_model": fixture().at("reward"),
            "samples_per_prompt": 3, "max_new_tokens": 12, "frozen": 0.4,
            "validation": {"split": "test/id", "every": 2, "by": "gold"},
            "optimiser": optimiser()});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    stops_change_nothing("online_dpo", of(json!({"steps": 4, "batch_size": 3, "beta": 0.1})));
    for begin in ["last", "original"] {
        let rounds = json!({"rounds": 4, "prompts_per_round": 4, "batch_size": 2, "epochs": 2,
            "begin": begin});
        stops_change_nothing("expert_iteration", of(rounds));
    }
    let mut student = of(json!({"teacher": fixture().at("other"), "steps": 4, "batch_size": 3,
        "forward": 0.4}));
    student.as_object_mut().unwrap().remove("reward_model");
    stops_change_nothing("distill", student);
}

#[test]
fn stages_without_checkpoints_begin_again() {
    let generate = json!({"policy": fixture().at("policy"), "dataset": fixture().at("dataset"),
        "samples": 8, "sampling": {"max_new_tokens": 12}});
    let best_of_n = json!({"policy": fixture().at("policy"), "dataset": fixture().at("dataset"),
        "reward_model": fixture().at("reward"), "n": 8,
        "sampling": {"max_new_tokens": 12}});
    let evaluate = json!({"dataset": fixture().at("dataset"),
        "reward_model": fixture().at("reward"), "reference_policy": fixture().at("policy"),
        "judge": "gold", "methods": [{"name": "policy", "outputs": fixture().at("outputs"),
            "samples": fixture().at("samples")}]});
    let reference_logprobs = json!({"policy": fixture().at("policy"),
        "dataset": fixture().at("preferences")});
    let merge = json!({"models": [{"model": fixture().at("policy"), "weight": 0.5},
        {"model": fixture().at("other"), "weight": 0.5}]});
    let mut mismatched = reference_logprobs.clone();
    mismatched["mismatched"] = json!(true);
    for (kind, config) in [
        ("generate", generate),
        ("best_of_n", best_of_n),
        ("evaluate", evaluate),
        ("reference_logprobs", reference_logprobs),
        ("reference_logprobs", mismatched),
        ("merge", merge),
    ] {
        let work = Work::new();
        let stopped = work.attempt(kind, config.clone(), Some(1));
        assert!(stopped.is_err(), "{kind} hears that it is to stop");
        work.attempt(kind, config.clone(), None).unwrap();
        assert_eq!(work.object(), make(kind, config).object(), "{kind}");
    }
}
