//! Whole trajectories of training beside those that PyTorch computes in float64 (make.py): every
//! metric of every step, every rollout, the final weights. Knows no arithmetic.
//!
//! Tolerances are relative to a number where that is above 1:
//! 1. In float32, which is what ships, `F32`.
//! 2. Stages on fixed rows in float64, `F64`. PPO cannot run so: rollouts keep their
//!    log-probabilities in float32.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use posttrain::backend::Backend;
use posttrain::backend::cpu::Cpu;
use posttrain::rl::compat::Compat;
use posttrain::rl::critic_free::Algorithm;
use posttrain::rl::direct::Objective;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::bench::{Made, make_on};
use crate::model::golden::{Named, tensors};

/// Float32 rounds to 6e-8. Adam makes more of it where a gradient is small, and the rollouts of a
/// step come from weights that have it: the worst of all is 1.6e-5, a variance of ratios in step 5.
const F32: f64 = 5e-5;
/// Weights in files, and the scores that the loss of pairs reads, are rounded to float32: 6e-8.
/// All other numbers agree within 5e-12.
const F64: f64 = 2e-7;

/// A file of `cases/`.
#[derive(Deserialize)]
pub struct Case {
    pub stage: String,
    pub config: Value,
    /// Of each step.
    metrics: Vec<BTreeMap<String, f64>>,
    /// Of each step of PPO, of each prompt.
    #[serde(default)]
    rollouts: Vec<Vec<Rollout>>,
    /// Of a reward model.
    normalisation: Option<BTreeMap<String, f64>>,
    /// The policy that the stage `reference_logprobs` reads.
    reference_policy: Option<String>,
    /// The log-probabilities of both answers of each row under it.
    #[serde(default)]
    reference: BTreeMap<String, [f64; 2]>,
    /// Of `kto`, by split and row, the log-probabilities of the answers under it, then those of
    /// their mismatched rows.
    #[serde(default)]
    references: BTreeMap<String, BTreeMap<String, Vec<f64>>>,
}

/// A line of `reference_logprobs`.
#[derive(Deserialize)]
struct ReferencePair {
    id: String,
    chosen: f64,
    rejected: f64,
}

/// One sampled response, and a line of what PPO writes of it.
#[derive(Deserialize)]
pub struct Rollout {
    id: String,
    response: String,
    ended: bool,
    score: Option<f64>,
    raw_score: Option<f64>,
    kl: f64,
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stages/trajectories")
}

pub fn case(name: &str) -> Case {
    let text = std::fs::read_to_string(root().join(format!("cases/{name}.json"))).unwrap();
    serde_json::from_str(&text).expect("cases are as make.py writes them")
}

/// The names of all cases.
fn cases() -> Vec<String> {
    let files =
        std::fs::read_dir(root().join("cases")).unwrap().map(|file| file.unwrap().file_name());
    let mut names: Vec<String> =
        files.filter_map(|file| Some(file.to_str()?.strip_suffix(".json")?.to_owned())).collect();
    names.sort();
    names
}

/// A case's config with its inputs.
pub fn config(mut config: Value) -> Value {
    for (key, value) in config.as_object_mut().unwrap() {
        let is_input = ["policy", "teacher", "dataset", "reward_model"].contains(&key.as_str());
        if let (true, Some(name)) = (is_input, value.as_str()) {
            *value = json!({ "$path": root().join("inputs").join(name) });
        }
    }
    config
}

/// What `reference_logprobs` makes for a case that has a reference policy.
pub fn reference<B: Backend>(b: &B, case: &Case) -> Option<Made> {
    let Case { config: of, reference_policy, .. } = case;
    let mut own = json!({"policy": reference_policy.as_ref()?, "dataset": of["dataset"],
        "max_prompt_tokens": of["max_prompt_tokens"]});
    if case.stage == "kto" {
        own["splits"] = case.references.keys().cloned().collect();
        own["mismatched"] = json!(of["z0"] != "none");
    }
    Some(make_on(b, "reference_logprobs", config(own)))
}

/// Holds what was made beside what is right, and remembers the worst difference.
struct Comparison<'a> {
    case: &'a str,
    tolerance: f64,
    worst: (f64, String),
    wrong: Vec<String>,
}

impl Comparison<'_> {
    fn close(&mut self, what: String, found: f64, right: f64) {
        let error = (found - right).abs() / right.abs().max(1.0);
        if error.is_nan() || error > self.tolerance {
            self.wrong.push(format!("{what} is {found} for {right}: {error:.1e}"));
        }
        if error > self.worst.0 {
            self.worst = (error, what);
        }
    }

    fn metrics(&mut self, found: &[Map<String, Value>], right: &[BTreeMap<String, f64>]) {
        assert_eq!(found.len(), right.len(), "{}: steps", self.case);
        for (step, (found, right)) in found.iter().zip(right).enumerate() {
            let names: Vec<&String> = found.keys().filter(|name| *name != "step").collect();
            let expected: Vec<&String> = right.keys().collect();
            let sorted = |mut names: Vec<&String>| {
                names.sort();
                names.into_iter().cloned().collect::<Vec<_>>()
            };
            assert_eq!(
                sorted(names),
                sorted(expected),
                "{}: metrics of step {}",
                self.case,
                step + 1
            );
            for (name, right) in right {
                let found = found[name].as_f64().unwrap_or(f64::NAN);
                self.close(format!("{name} of step {}", step + 1), found, *right);
            }
        }
    }

    fn weights(&mut self, found: &Named, right: &Named) {
        let names = |of: &Named| of.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(found), names(right), "{}: tensors", self.case);
        for (name, (shape, right)) in right {
            assert_eq!(found[name].0, *shape, "{}: shape of {name}", self.case);
            for (at, (found, right)) in found[name].1.iter().zip(right).enumerate() {
                self.close(format!("{name}[{at}]"), *found, *right);
            }
        }
    }

    /// All numbers of a row, in the order of the file's columns.
    fn references(&mut self, made: &Made, right: &BTreeMap<String, BTreeMap<String, Vec<f64>>>) {
        for (split, right) in right {
            let found: Vec<Value> = made.rows(&format!("{split}.jsonl"));
            assert_eq!(found.len(), right.len(), "{}: rows with a reference", self.case);
            for row in found {
                let own = ["chosen", "rejected", "completion"].map(|column| &row[column]);
                let others = row["mismatched"]["logprobs"].as_array().into_iter().flatten();
                let found: Vec<f64> =
                    own.into_iter().chain(others).filter_map(Value::as_f64).collect();
                let id = row["id"].as_str().unwrap();
                assert_eq!(found.len(), right[id].len(), "{}: numbers of {id}", self.case);
                for (at, (found, right)) in found.iter().zip(&right[id]).enumerate() {
                    self.close(format!("reference {at} of {id}"), *found, *right);
                }
            }
        }
    }

    fn pair_references(&mut self, made: &Made, right: &BTreeMap<String, [f64; 2]>) {
        let found: Vec<ReferencePair> = made.rows("preferences.jsonl");
        assert_eq!(found.len(), right.len(), "{}: pairs with a reference", self.case);
        for ReferencePair { id, chosen, rejected } in found {
            let right = right[&id];
            self.close(format!("reference of the chosen answer of {id}"), chosen, right[0]);
            self.close(format!("reference of the rejected answer of {id}"), rejected, right[1]);
        }
    }

    fn rollouts(&mut self, made: &Made, right: &[Vec<Rollout>]) {
        for (step, right) in right.iter().enumerate() {
            let found: Vec<Rollout> = made.rows(&format!("rollouts/step-{:05}.jsonl", step + 1));
            assert_eq!(found.len(), right.len(), "{}: rollouts of step {}", self.case, step + 1);
            for (found, right) in found.iter().zip(right) {
                let what = format!("{} of step {}", right.id, step + 1);
                let told = |of: &Rollout| (of.id.clone(), of.response.clone(), of.ended);
                assert_eq!(told(found), told(right), "{}: response to {what}", self.case);
                for (name, found, right) in [
                    ("score", found.score, right.score),
                    ("raw score", found.raw_score, right.raw_score),
                ] {
                    assert_eq!(found.is_some(), right.is_some(), "{}: {name}", self.case);
                    if let Some((found, right)) = found.zip(right) {
                        self.close(format!("{name} of {what}"), found, right);
                    }
                }
                self.close(format!("KL of {what}"), found.kl, right.kl);
            }
        }
    }
}

/// Runs a case as it ships and holds all that it makes beside what is right.
fn check<B: Backend>(b: &B, name: &str, tolerance: f64) {
    let case = case(name);
    let mut comparison =
        Comparison { case: name, tolerance, worst: (0.0, "nothing".to_owned()), wrong: Vec::new() };
    let (reference, mut config) = (reference(b, &case), config(case.config));
    if let Some(made) = &reference {
        match case.references.is_empty() {
            true => comparison.pair_references(made, &case.reference),
            false => comparison.references(made, &case.references),
        }
        config["reference"] = made.reference();
    }
    let made = make_on(b, &case.stage, config);
    comparison.rollouts(&made, &case.rollouts);
    comparison.metrics(&made.rows("metrics.jsonl"), &case.metrics);
    let right = tensors(&root().join(format!("cases/{name}.safetensors")));
    comparison.weights(&tensors(&made.path("model.safetensors")), &right);
    if let Some(right) = &case.normalisation {
        let found: BTreeMap<String, f64> =
            serde_json::from_str(&made.text("normalisation.json")).unwrap();
        for (name, right) in right {
            comparison.close(format!("{name} of scores"), found[name], *right);
        }
    }
    let Comparison { worst: (error, what), wrong, .. } = comparison;
    let first: Vec<&String> = wrong.iter().take(12).collect();
    assert!(wrong.is_empty(), "{name}: {} numbers are wrong, first {first:#?}", wrong.len());
    println!("{name}: within {error:.1e} (allowed: {tolerance:.0e}), worst for {what}");
}

/// Checks all cases whose names begin with one of `families`; every one is tried before it fails.
fn check_all(families: &[&str], check: impl Fn(&str)) {
    let of = |name: &String| families.iter().any(|family| name.starts_with(family));
    let names: Vec<String> = cases().into_iter().filter(of).collect();
    assert!(names.len() >= families.len(), "{families:?} have cases");
    let failed = |name: &&String| {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(name))).is_err()
    };
    let failed: Vec<&String> = names.iter().filter(failed).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn supervised_fine_tuning_is_pytorchs() {
    check_all(&["sft"], |name| check(&Cpu::<f32>::new(), name, F32));
    check_all(&["sft"], |name| check(&Cpu::<f64>::new(), name, F64));
}

#[test]
fn reward_models_are_pytorchs() {
    check_all(&["reward_model"], |name| check(&Cpu::<f32>::new(), name, F32));
    check_all(&["reward_model"], |name| check(&Cpu::<f64>::new(), name, F64));
}

#[test]
fn direct_preference_optimisation_is_pytorchs_under_every_loss() {
    check_all(&["dpo"], |name| check(&Cpu::<f32>::new(), name, F32));
    check_all(&["dpo"], |name| check(&Cpu::<f64>::new(), name, F64));
}

#[test]
fn kahneman_tversky_optimisation_is_pytorchs() {
    check_all(&["kto"], |name| check(&Cpu::<f32>::new(), name, F32));
    check_all(&["kto"], |name| check(&Cpu::<f64>::new(), name, F64));
}

#[test]
fn ppo_is_pytorchs_under_every_convention() {
    check_all(&["ppo"], |name| check(&Cpu::<f32>::new(), name, F32));
}

#[test]
fn critic_free_methods_are_pytorchs_under_every_algorithm() {
    check_all(&["grpo"], |name| check(&Cpu::<f32>::new(), name, F32));
}

#[test]
fn other_methods_on_own_responses_are_pytorchs() {
    check_all(&["online_dpo", "expert", "distill"], |name| check(&Cpu::<f32>::new(), name, F32));
}

#[test]
fn every_algorithm_has_a_trajectory() {
    let unknown =
        serde_json::from_value::<Algorithm>(json!("?")).expect_err("it is none").to_string();
    let algorithms: Vec<&str> = unknown.split('`').skip(3).step_by(2).collect();
    let covered: Vec<Value> =
        cases().iter().map(|name| case(name).config["algorithm"].clone()).collect();
    assert!(algorithms.len() > 9, "{unknown}");
    for algorithm in algorithms {
        assert!(
            covered.contains(&json!(algorithm)),
            "{algorithm} has no trajectory: add a case to make.py"
        );
    }
}

/// The names are those that an unknown one is answered with.
#[test]
fn every_preset_has_a_trajectory() {
    let unknown =
        serde_json::from_value::<Compat>(json!("?")).expect_err("it is no preset").to_string();
    let presets: Vec<&str> = unknown.split('`').skip(3).step_by(2).collect();
    let covered: Vec<Value> =
        cases().iter().map(|name| case(name).config["compat"].clone()).collect();
    assert!(presets.len() > 7, "{unknown}");
    for preset in presets {
        assert!(
            covered.contains(&json!(preset)),
            "{preset} has no trajectory: add a case to make.py"
        );
    }
}

#[test]
fn every_loss_of_pairs_has_a_trajectory() {
    let unknown =
        serde_json::from_value::<Objective>(json!("?")).expect_err("it is no loss").to_string();
    let losses: Vec<&str> = unknown.split('`').skip(3).step_by(2).collect();
    let covered: Vec<Value> =
        cases().iter().map(|name| case(name).config["loss"].clone()).collect();
    assert!(losses.len() > 12, "{unknown}");
    for loss in losses {
        assert!(covered.contains(&json!(loss)), "{loss} has no trajectory: add a case to make.py");
    }
}
