//! The KL that ends training, or the epochs of a step, in `grpo` and `online_dpo`. That of `ppo` is
//! in `ppo_options`.

use posttrain::dag::context::Report;
use serde_json::{Value, json};

use super::bench::{Made, make, problems};
use super::fixture::fixture;

fn with(mut config: Value, more: &Value) -> Value {
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

fn of_own(more: Value) -> Value {
    let base = json!({"policy": fixture().at("policy"), "dataset": fixture().at("dataset"),
        "reward_model": fixture().at("reward"), "steps": 8, "batch_size": 4,
        "samples_per_prompt": 4, "max_new_tokens": 12,
        "optimiser": {"learning_rate": 0.01, "schedule": {"shape": "constant"}}});
    with(base, &more)
}

fn grpo(more: Value) -> Value {
    let base = of_own(json!({"kl": {"coef": 0.1}, "minibatches": 2, "epochs": 2}));
    with(base, &more)
}

fn online_dpo(more: Value) -> Value {
    with(of_own(json!({"beta": 0.1})), &more)
}

type Config = fn(Value) -> Value;
const KINDS: [(&str, Config); 2] = [("grpo", grpo), ("online_dpo", online_dpo)];

/// The values of a figure in the steps that have it.
fn lines(made: &Made, name: &str) -> Vec<f64> {
    let rows: Vec<Value> = made.rows("metrics.jsonl");
    rows.iter().filter_map(|row| row[name].as_f64()).collect()
}

fn told(made: &Made) -> Vec<&String> {
    let mut told = Vec::new();
    for report in &made.reports {
        match report {
            Report::Warning { message } if !message.starts_with("sentinel") => told.push(message),
            _ => {}
        }
    }
    told
}

#[test]
fn bounds_that_are_never_reached_change_no_byte() {
    for (kind, config) in KINDS {
        let more = json!({"steps": 3});
        let (plain, bound) =
            (config(more.clone()), with(config(more), &json!({"stop_at_kl": 1e6})));
        assert_eq!(make(kind, bound).object(), make(kind, plain).object(), "{kind}");
    }
    let plain = make("grpo", grpo(json!({"steps": 3})));
    let bound = make("grpo", grpo(json!({"steps": 3, "epoch_stop_kl": 1e6})));
    assert!(bound.bytes("model.safetensors") == plain.bytes("model.safetensors"));
    assert_eq!(bound.metric("policy/epochs"), [2.0; 3]);
}

/// The artefact of a run that ends in step k is that of a run of k - 1 steps: the policy whose KL
/// was measured.
#[test]
fn training_ends_with_the_policy_that_has_reached_the_kl() {
    let validation = json!({"split": "test/id", "every": 100, "by": "gold", "keep": "last"});
    for (kind, config) in KINDS {
        let run = |more: Value| make(kind, with(config(json!({"validation": validation})), &more));
        let kl = run(json!({})).metric("objective/kl");
        let most = 0.5 * kl.iter().copied().fold(0.0, f64::max);
        let last = kl.iter().position(|kl| *kl >= most).unwrap();
        assert!((1..7).contains(&last), "{kind}: {kl:?}");
        let made = run(json!({"stop_at_kl": most}));
        assert_eq!(made.metric("objective/kl"), kl[..=last]);
        for name in ["grad_norm", "learning_rate"] {
            assert_eq!(lines(&made, name).len(), last, "{kind}: its last step has no update");
        }
        assert_eq!(lines(&made, "episode").len(), last + 1);
        let rollouts = std::fs::read_dir(made.path("rollouts")).unwrap().count();
        assert_eq!(rollouts, last + 1);
        let shorter = run(json!({"steps": last}));
        assert!(made.bytes("model.safetensors") == shorter.bytes("model.safetensors"), "{kind}");
        let scores = lines(&made, "validation/score");
        assert_eq!((scores.len(), &scores), (1, &lines(&shorter, "validation/score")));
        let begin = format!("training ended in step {} of 8: `objective/kl` is ", last + 1);
        let told = told(&made);
        assert!(told.len() == 1 && told[0].starts_with(&begin), "{kind}: {told:?}");
    }
}

#[test]
fn a_small_bound_leaves_the_first_epoch_alone() {
    let made = make("grpo", grpo(json!({"steps": 3, "epochs": 3, "epoch_stop_kl": 1e-9})));
    assert_eq!(made.metric("policy/epochs"), [1.0; 3]);
    // The order of minibatches is that of epoch 3 * step of both.
    let first = |more: Value| make("grpo", with(grpo(json!({"steps": 1})), &more));
    let cut = first(json!({"epochs": 3, "epoch_stop_kl": 1e-9}));
    let one = first(json!({"epochs": 1}));
    assert!(cut.bytes("model.safetensors") == one.bytes("model.safetensors"));
    // Means are over the updates that there were.
    for name in ["loss/policy_avg", "policy/approxkl_avg", "grad_norm", "policy/entropy_avg"] {
        assert_eq!(cut.metric(name), one.metric(name), "{name}");
    }
}

/// The figure of all tokens of a run of one epoch with two equal minibatches is the mean over both.
/// Before the first update the policy is that which sampled, so twice the figure is that of the
/// last minibatch: a bound a little below it ends the epochs, one a little above it does not.
#[test]
fn the_kl_of_the_last_minibatch_is_compared() {
    // Responses of one token each: both minibatches have as many tokens.
    let config = |more: Value| with(grpo(json!({"steps": 1, "max_new_tokens": 1})), &more);
    let one = make("grpo", config(json!({"epochs": 1})));
    assert_eq!(one.metric("response_length/mean"), [1.0]);
    let last = 2.0 * one.metric("policy/approxkl_avg")[0];
    assert!(last > 0.0);
    for (bound, epochs) in [(0.999 * last, 1.0), (1.001 * last, 2.0)] {
        let made = make("grpo", config(json!({"epochs": 2, "epoch_stop_kl": bound})));
        assert_eq!(made.metric("policy/epochs"), [epochs], "{bound}");
    }
}

#[test]
fn bounds_out_of_range_are_refused() {
    let fields = |kind: &str, config: Value| -> Vec<String> {
        problems(kind, config).into_iter().map(|problem| problem.field).collect()
    };
    for (kind, config) in KINDS {
        assert_eq!(fields(kind, config(json!({"stop_at_kl": 0.0}))), ["stop_at_kl"]);
        assert_eq!(fields(kind, config(json!({"stop_at_kl": 0.1}))), [""; 0]);
    }
    assert_eq!(fields("grpo", grpo(json!({"epoch_stop_kl": -1.0}))), ["epoch_stop_kl"]);
    let one = json!({"epoch_stop_kl": 0.1, "epochs": 1});
    assert_eq!(fields("grpo", grpo(one)), ["epoch_stop_kl"]);
}
