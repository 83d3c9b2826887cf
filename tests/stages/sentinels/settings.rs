//! What a config says of sentinels: silence, warnings, an end with a checkpoint; no byte.

use posttrain::dag::context::Report;
use posttrain::error::{Kind, kind_of};
use posttrain::rl::sentinels::table::SENTINELS;
use posttrain::stages;
use serde_json::{Value, json};

use super::super::bench::{Work, make, make_with_stops, neutral, problems};
use super::super::fixture::fixture;
use super::{fired, grpo, names, rows, short_rows, tuned, with};

/// A run of `grpo` of which every response is cut.
fn cut(more: Value) -> Value {
    let config = json!({"policy": fixture().at("policy"), "dataset": fixture().at("dataset"),
        "rewards": {"short": {"by": {"length": {"most": 8}}}}, "steps": 5, "batch_size": 3,
        "samples_per_prompt": 2, "max_new_tokens": 2, "kl": {"coef": 0.1},
        "optimiser": {"learning_rate": 0.001}});
    with(config, more)
}

#[test]
fn every_kind_of_the_table_has_the_field_and_no_byte_depends_on_it() {
    for kind in stages::names() {
        let has = SENTINELS.iter().any(|sentinel| sentinel.kinds.contains(kind));
        assert_eq!(neutral(kind).contains(&"sentinels"), has, "{kind}");
    }
    let usual = make("grpo", cut(json!({})));
    assert!(names(&usual).contains(&"constant_reward".to_owned()), "{:?}", fired(&usual));
    let others = json!({"constant_reward": "off", "truncated": {"warn_at": 0.99}});
    let other = make("grpo", cut(json!({"sentinels": others})));
    assert!(!names(&other).contains(&"constant_reward".to_owned()), "{:?}", fired(&other));
    assert_eq!(usual.object(), other.object());
}

#[test]
fn names_and_thresholds_are_checked() {
    let of = |sentinels: Value| problems("grpo", cut(json!({"sentinels": sentinels})));
    assert_eq!(of(json!({"kl_runaway": {"stop_at": 0.5}, "duplicates": "stop"})), []);
    let found = of(json!({"kl_run_away": "off"}));
    assert_eq!(found[0].field, "sentinels.kl_run_away");
    assert!(found[0].message.contains("kl_runaway, update_kl"), "{}", found[0].message);
    let found = of(json!({"unexplained_value": "off"}));
    assert!(found[0].message.contains("of other stage kinds"), "{}", found[0].message);
}

/// A sentinel that stops leaves a checkpoint: the same run ends at once with the same words, and
/// one in which it warns goes on.
#[test]
fn a_stopped_stage_goes_on_when_its_sentinel_is_silent() {
    let stopping = cut(json!({"sentinels": {"constant_reward": "stop"}}));
    let work = Work::new();
    let stop = || {
        let error = work.attempt("grpo", stopping.clone(), None).expect_err("it stops");
        assert_eq!(kind_of(&error), Kind::User, "{error:#}");
        format!("{error:#}")
    };
    let first = stop();
    for words in ["`constant_reward` at step 2", "at most 0.000001", "no variance", "hint: "] {
        assert!(first.contains(words), "{words}: {first}");
    }
    assert_eq!(stop(), first);
    let on = cut(json!({"sentinels": {"constant_reward": "off"}}));
    let reports = work.attempt("grpo", on.clone(), None).unwrap();
    let again = reports.iter().any(|it| matches!(it, Report::Progress { step: 1..=2, .. }));
    assert!(!again, "steps 1 and 2 are not made again");
    assert_eq!(work.object(), make("grpo", on).object());
}

#[test]
fn an_interrupted_stage_fires_at_the_same_steps() {
    let undisturbed = make("grpo", cut(json!({})));
    let (stopped, stops) = make_with_stops("grpo", cut(json!({})));
    assert_eq!(stops, 4);
    assert!(fired(&undisturbed).len() >= 3, "{:?}", fired(&undisturbed));
    assert_eq!(fired(&stopped), fired(&undisturbed));
}

/// What a healthy run of every kind of figure fires: nothing.
#[test]
fn a_healthy_run_is_silent() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = rows(&folder, &short_rows());
    let policy = tuned(&dataset, 10);
    assert_eq!(fired(&policy), []);
    assert_eq!(fired(&make("grpo", grpo(&policy, &dataset, json!({})))), []);
}
