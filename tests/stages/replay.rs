//! `record` and `replay` of `ppo` and `grpo`. The result of a replay is known without it: with the
//! settings of its run it is that run's step; with other settings, of step 1, it is the first step
//! of a run that has these, since the first responses are sampled before any update.

use std::path::Path;

use posttrain::backend::cpu::Cpu;
use posttrain::stages::{self, Stage, Visitor};
use serde_json::{Map, Value, json};

use super::bench::{Made, make, make_on, make_with_stops, problems, refusal};
use super::fixture::{fixture, write};

/// `more`, whose keys are dotted, laid over a config.
fn with(mut config: Value, more: &Value) -> Value {
    for (path, value) in more.as_object().unwrap() {
        let mut inner = &mut config;
        for part in path.split('.') {
            inner = &mut inner[part];
        }
        *inner = value.clone();
    }
    config
}

fn base(more: &Value) -> Value {
    let at = |name| fixture().at(name);
    let base = json!({"policy": at("policy"), "reward_model": at("reward"),
        "dataset": at("dataset"), "steps": 4, "batch_size": 4, "minibatches": 2, "epochs": 2,
        "max_new_tokens": 12, "kl": {"coef": 0.1},
        "optimiser": {"learning_rate": 0.01, "weight_decay": 0.1}});
    with(base, more)
}

fn grouped(more: Value) -> Value {
    with(base(&json!({"batch_size": 2, "samples_per_prompt": 3})), &more)
}

fn parts() -> Value {
    json!({"short": {"by": {"length": {"most": 8}}, "weight": 0.5},
        "model": {"by": {"reward_model": fixture().at("reward")}, "weight": 2.0}})
}

/// Runs of which steps are taken again, with what each keeps from step to step.
fn runs() -> Vec<(&'static str, &'static str, Value)> {
    let controlled = json!({"coef": 0.01, "target": {"entropy": 2.0, "step": 0.02}});
    let short = json!({"short": {"by": {"length": {"most": 8}}}});
    let annealed = json!({"kl.anneal": {"to": 0.0}, "samples_per_prompt": 2,
        "diversity": {"mara": {"good": {"quantile": 0.5}}}, "value.fit": "every_epoch"});
    let ppo = [
        (
            "shared",
            json!({"value.warmup": 1, "value.head_ratio": 5.0,
            "kl.adaptive": {"target": 0.1, "horizon": 20.0}}),
        ),
        ("separate", json!({"value.critic": "separate", "frozen": 0.6, "entropy": controlled})),
        ("frozen", json!({"frozen": 0.8, "conventions.missing_eos": {"subtract": 1.0}})),
        (
            "rewards",
            json!({"reward_model": null, "rewards": parts(),
            "reward_scaling": {"scale": "running_std", "clip": 1.0}}),
        ),
        ("annealed", annealed),
        ("replaced", json!({"reference.reset_every": 2, "compat": "paper"})),
        ("stops", json!({"epoch_stop_kl": 1e-3, "kl.in": "loss"})),
    ];
    let grpo = [
        ("plain", json!({"entropy": controlled, "kl.anneal": {"to": 0.0}})),
        (
            "each",
            json!({"reward_model": null, "rewards": parts(),
            "advantages.parts": "normalise_each", "frozen": 0.6}),
        ),
        (
            "dynamic",
            json!({"reward_model": null, "rewards": short,
            "dynamic_sampling.tries": 4, "missing_eos": {"subtract": 1.0}}),
        ),
        ("rloo", json!({"algorithm": "rloo", "diversity": {"mara": {"good": {"quantile": 0.5}}}})),
    ];
    let ppo = ppo.into_iter().map(|(name, more)| ("ppo", name, base(&more)));
    ppo.chain(grpo.into_iter().map(|(name, more)| ("grpo", name, grouped(more)))).collect()
}

/// The config of a replay of step `step` of `of`, which has this config: nothing else is changed.
fn replay(mut config: Value, of: &Made, step: usize) -> Value {
    let fields = config.as_object_mut().unwrap();
    for field in ["record", "dynamic_sampling"] {
        fields.remove(field);
    }
    fields.insert("replay".into(), json!({"of": of.reference(), "step": step}));
    config
}

fn recording(config: &Value, steps: &[usize]) -> Value {
    with(config.clone(), &json!({ "record": steps }))
}

/// The line of a step without what a replay does not have.
fn line(made: &Made, at: usize) -> Map<String, Value> {
    let mut line: Map<String, Value> = made.rows("metrics.jsonl").swap_remove(at);
    line.remove("dynamic_sampling/batches");
    line
}

fn weights(made: &Made) -> Vec<u8> {
    made.bytes("model.safetensors")
}

#[test]
fn recording_changes_no_other_file_and_survives_stops() {
    for (kind, name, config) in runs() {
        let plain = make(kind, config.clone());
        let (recorded, stops) = make_with_stops(kind, recording(&config, &[1, 3]));
        assert_eq!(stops, 3, "{kind} {name}");
        let undisturbed = make(kind, recording(&config, &[1, 3]));
        assert_eq!(recorded.object(), undisturbed.object(), "{kind} {name}");
        let names: Vec<String> = posttrain::fs::list(&recorded.path("recorded")).unwrap();
        assert_eq!(names, ["step-00001", "step-00003"]);
        std::fs::remove_dir_all(recorded.path("recorded")).unwrap();
        assert_eq!(recorded.object(), plain.object(), "{kind} {name}");
    }
}

#[test]
fn the_same_settings_take_the_same_step() {
    for (kind, name, config) in runs() {
        let run = make(kind, recording(&config, &[1, 3, 4]));
        for step in [1, 3, 4] {
            let again = make(kind, replay(config.clone(), &run, step));
            let place = format!("{kind} {name}, step {step}");
            assert_eq!(again.rows::<Value>("metrics.jsonl").len(), 1);
            assert_eq!(again.metric("step"), [step as f64]);
            assert_eq!(line(&again, 0), line(&run, step - 1), "{place}");
            let file = format!("rollouts/step-{step:05}.jsonl");
            assert_eq!(again.text(&file), run.text(&file), "{place}");
            assert_eq!(std::fs::read_dir(again.path("rollouts")).unwrap().count(), 1);
            assert_eq!(again.bytes("trained_on.bin"), run.bytes("trained_on.bin"), "{place}");
            let told = again.warnings();
            assert!(told.iter().all(|told| told.starts_with("sentinel")), "{place}: {told:?}");
            let is_last = weights(&again) == weights(&run);
            assert_eq!(is_last, step == 4, "{place}");
        }
    }
}

/// The record of the next step says what the policy was after a step in the middle.
#[test]
fn a_step_in_the_middle_leads_to_the_state_of_the_next() {
    for (kind, name, config) in runs() {
        let run = make(kind, recording(&config, &[2, 3]));
        let after = make(kind, replay(config.clone(), &run, 2));
        // A step with a learning rate of 0 and without decay leaves the weights as they are.
        let still = json!({"optimiser.learning_rate": 0.0, "optimiser.weight_decay": 0.0});
        let next = make(kind, with(replay(config.clone(), &run, 3), &still));
        assert!(weights(&after) == weights(&next), "{kind} {name}");
    }
}

/// Settings of an update, each beside a run of one step that has them from the start.
#[test]
fn other_settings_take_the_step_of_a_run_that_has_them() {
    let entropy = json!({"coef": 0.2, "target": {"entropy": 9.0, "most": 0.3}});
    let shared = [
        json!({"optimiser.learning_rate": 0.03}),
        json!({"optimiser.beta1": 0.5}),
        json!({"epochs": 1}),
        json!({"minibatches": 1}),
        json!({"kl.coef": 5.0}),
        json!({"kl.coef": 0.0, "kl.anneal": {"to": 1.0}}),
        json!({"entropy": {"coef": 0.2}}),
        json!({"entropy": entropy}),
        json!({"epoch_stop_kl": 1e-9}),
        json!({"steps": 2, "optimiser.schedule": {"shape": "linear", "warmup": {"steps": 2}}}),
    ];
    let ppo = [
        json!({"policy_clip.range": 0.001}),
        json!({"kl.coef": 2.0, "kl.adaptive": {"target": 0.1, "horizon": 20.0}}),
        json!({"kl.in": "loss"}),
        json!({"value.clip.coef": 3.0}),
        json!({"value.head_ratio": 7.0}),
        json!({"value.warmup": 1}),
        json!({"conventions.lambda": 0.5}),
        json!({"conventions.missing_eos": {"replace": -3.0}}),
        json!({"conventions.scope": "padded"}),
        json!({"reward_scaling": {"clip": 0.2}}),
    ];
    let grpo = [
        json!({"algorithm": "rloo"}),
        json!({"loss.clip.low": 0.001, "loss.clip.high": 0.001}),
        json!({"advantages.scale": "batch"}),
        json!({"missing_eos": {"replace": -3.0}}),
        json!({"diversity": {"max_at_k": {"k": 2}}}),
        json!({"diversity": {"mara": {"good": {"quantile": 0.5}}}}),
    ];
    for (kind, config, own) in
        [("ppo", base(&json!({})), &ppo[..]), ("grpo", grouped(json!({})), &grpo[..])]
    {
        let run = make(kind, recording(&config, &[1]));
        let plain = make(kind, replay(config.clone(), &run, 1));
        for more in shared.iter().chain(own) {
            let varied = with(config.clone(), more);
            let again = make(kind, replay(varied.clone(), &run, 1));
            let (metrics, file) = first_step(kind, &varied);
            assert_eq!(line(&again, 0), metrics, "{kind} {more}");
            assert!(weights(&again) == file, "{kind} {more}");
            // The policy of the first responses is the reference: their KL is 0.
            let is_of_kl = more.to_string().contains("kl.");
            assert!(is_of_kl || weights(&again) != weights(&plain), "{kind} {more}");
        }
    }
}

/// The first step of a run: its metrics, and the weights after it, which a replay of the second
/// step without an update has.
fn first_step(kind: &str, config: &Value) -> (Map<String, Value>, Vec<u8>) {
    let run = make(kind, recording(config, &[2]));
    let still = json!({"optimiser.learning_rate": 0.0, "optimiser.weight_decay": 0.0});
    let after = make(kind, with(replay(config.clone(), &run, 2), &still));
    (line(&run, 0), weights(&after))
}

/// Weights of the parts of a reward act on the recorded parts, so no program is asked again.
#[test]
fn other_weights_of_rewards_act_on_the_recorded_parts() {
    for kind in ["ppo", "grpo"] {
        let folder = tempfile::tempdir().unwrap();
        let asked = folder.path().join("asked");
        let script = format!(
            r#"while read -r row; do echo "$row" >> {}; echo "{{\"score\": ${{#row}}}}"; done"#,
            asked.display()
        );
        let config = |weight: f64| {
            let rewards = json!({"length": {"by": {"command": {"run": ["sh", "-c", script]}},
                "weight": weight}, "model": {"by": {"reward_model": fixture().at("reward")}}});
            grouped(json!({"reward_model": null, "rewards": rewards}))
        };
        let run = make(kind, recording(&config(0.01), &[1]));
        let (metrics, file) = first_step(kind, &config(-0.3));
        std::fs::remove_file(&asked).unwrap();
        let again = make(kind, replay(config(-0.3), &run, 1));
        assert!(!asked.exists(), "{kind}: nothing is asked again");
        assert_eq!((line(&again, 0), weights(&again)), (metrics, file), "{kind}");
        assert_ne!(line(&again, 0), line(&run, 0), "{kind}");
    }
}

/// Coefficients that a run has changed go on; a replay that has another first value, or does not
/// change it, begins with its own.
#[test]
fn a_coefficient_goes_on_or_is_that_of_the_replay() {
    let adaptive = json!({"target": 0.01, "horizon": 2.0});
    let target = json!({"coef": 0.01, "target": {"entropy": 99.0, "step": 0.02}});
    let own = json!({"kl.adaptive": adaptive, "entropy": target});
    let config = base(&own);
    let run = make("ppo", recording(&config, &[4]));
    let kl_of = |more: Value| {
        let made = make("ppo", with(replay(config.clone(), &run, 4), &more));
        let (penalty, kl) =
            (made.metric("objective/non_score_reward")[0], made.metric("objective/kl")[0]);
        (-penalty / kl, made.metric("policy/entropy_coef")[0], weights(&made))
    };
    let near = |found: f64, wanted: f64| (found - wanted).abs() < 1e-6 * wanted;
    let went = {
        let rows: Vec<Value> = run.rows("metrics.jsonl");
        let row = rows.last().unwrap();
        let number = |name: &str| row[name].as_f64().unwrap();
        -number("objective/non_score_reward") / number("objective/kl")
    };
    assert!((went - 0.1).abs() > 1e-3, "the coefficient has moved: {went}");
    let (kl, entropy, as_before) = kl_of(json!({}));
    assert!(near(kl, went) && near(entropy, 0.07), "{kl} {entropy}");
    assert!(as_before == weights(&run));
    let (kl, entropy, file) = kl_of(json!({"kl.adaptive": null, "entropy.coef": 0.02}));
    assert!(near(kl, 0.1) && near(entropy, 0.02), "{kl} {entropy}");
    assert!(file != as_before);
    let (kl, entropy, file) = kl_of(json!({"kl.coef": 0.3, "entropy.target": null}));
    assert!(near(kl, 0.3) && near(entropy, 0.01), "{kl} {entropy}");
    assert!(file != as_before);
}

#[test]
fn what_a_replay_cannot_have_otherwise_is_refused_by_field() {
    let at = |name| fixture().at(name);
    let shared = [
        (json!({"temperature": 0.7}), "`temperature` is 0.7 here, and was 1.0 in the run"),
        (json!({"policy": at("other")}), "`policy` is "),
        (json!({"split": "sft"}), "`split` is \"sft\" here, and was \"prompts\""),
        (json!({"batch_size": 3, "minibatches": 1}), "`batch_size` is 3 here, and was "),
        (json!({"samples_per_prompt": 2}), "`samples_per_prompt` is 2 here, and was 3"),
        (json!({"max_new_tokens": 11}), "`max_new_tokens` is 11 here, and was 12"),
        (json!({"max_prompt_tokens": 30}), "`max_prompt_tokens` is 30 here, and was null"),
        (json!({"frozen": 0.6}), "`frozen` is 0.6 here, and was 0.0"),
        (json!({"reward_model": at("judges/a")}), "`reward_model` is "),
        (json!({"reward_model": null, "rewards": parts()}), "`reward_model` is null here"),
        (json!({"replay.step": 3}), "has no record of step 3: it has those of steps 2"),
    ];
    let ppo = [
        (json!({"value.critic": "separate"}), "`value.critic` is \"separate\" here"),
        (json!({"reference.reset_every": 1}), "`reference.reset_every` is 1 here, and was null"),
    ];
    for (kind, own) in [("ppo", &ppo[..]), ("grpo", &[])] {
        let config = grouped(json!({}));
        let run = make(kind, recording(&config, &[2]));
        for (more, words) in shared.iter().chain(own) {
            let message = refusal(kind, with(replay(config.clone(), &run, 2), more));
            assert!(message.contains(words), "{kind} {more}: {message}");
        }
        let other = if kind == "ppo" { "grpo" } else { "ppo" };
        let message = refusal(other, replay(config.clone(), &run, 2));
        assert!(message.contains(&format!("an artefact of `{kind}`")), "{message}");
        let plain = make(kind, config.clone());
        let message = refusal(kind, replay(config.clone(), &plain, 2));
        assert!(message.contains("has no record of step 2: it has none"), "{message}");
        assert!(message.contains("`record: [2]`"), "{message}");
        let weighed = with(config, &json!({"reward_model": null, "rewards": parts()}));
        let run = make(kind, recording(&weighed, &[2]));
        let others = with(weighed, &json!({"rewards.short.by": "gold"}));
        let message = refusal(kind, replay(others, &run, 2));
        assert!(message.contains("`rewards` is "), "{message}");
    }
}

/// The rows of the split are other ones.
#[test]
fn prompts_that_are_not_the_recorded_ones_are_refused() {
    let config = grouped(json!({}));
    let run = make("grpo", recording(&config, &[1]));
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(fixture().path("dataset/prompts.jsonl")).unwrap();
    for (rows, words) in [
        (text.replace("\"id\":\"row-5", "\"id\":\"other-5"), "the recorded prompt of row `row-5"),
        (text.replace("\"prompt\":\"", "\"prompt\":\"x"), "has other tokens there"),
    ] {
        assert_ne!(rows, text);
        write(&folder.path().join("prompts.jsonl"), &rows);
        let more = json!({"dataset": {"$path": folder.path()}});
        let message = refusal("grpo", with(replay(config.clone(), &run, 1), &more));
        assert!(message.contains(words), "{message}");
    }
}

/// A run's artefact with a record that `damage` has changed.
fn damaged(run: &Made, damage: impl Fn(&Path)) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    posttrain::fs::copy_all(&run.path(""), copy.path()).unwrap();
    damage(&copy.path().join("recorded/step-00002"));
    copy
}

/// One field of the first recorded response with another value.
fn edited(field: &'static str, value: Value) -> impl Fn(&Path) {
    move |folder: &Path| {
        let path = folder.join("responses.jsonl");
        let text = std::fs::read_to_string(&path).unwrap();
        let mut rows: Vec<Value> =
            text.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
        rows[0][field] = value.clone();
        write(&path, &super::fixture::jsonl(rows));
    }
}

#[test]
fn damaged_records_are_refused() {
    let config = grouped(json!({}));
    let cut = |file: &'static str| {
        move |folder: &Path| {
            let bytes = std::fs::read(folder.join(file)).unwrap();
            std::fs::write(folder.join(file), &bytes[..bytes.len() / 2]).unwrap();
        }
    };
    for kind in ["ppo", "grpo"] {
        let run = make(kind, recording(&config, &[2]));
        let refused = |damage: &dyn Fn(&Path), words: &str| {
            let copy = damaged(&run, damage);
            let more = json!({"replay.of": {"$path": copy.path()}});
            let message = refusal(kind, with(replay(config.clone(), &run, 2), &more));
            assert!(message.contains("no whole record of a step"), "{kind}: {message}");
            assert!(message.contains(words), "{kind}, {words}: {message}");
        };
        refused(&cut("state.safetensors"), "state.safetensors");
        refused(&cut("responses.jsonl"), "");
        refused(&cut("settings.json"), "EOF");
        for file in ["state.safetensors", "responses.jsonl"] {
            refused(&|folder| std::fs::remove_file(folder.join(file)).unwrap(), file);
        }
        // The state of another model: its tensors have other sizes.
        refused(
            &|folder| {
                let file = folder.join("state.safetensors");
                std::fs::copy(run.path("model.safetensors"), file).unwrap();
            },
            "has no tensor",
        );
        for (field, value, words) in [
            ("logprobs", json!([-1.0]), "response 1 has not one log-probability a token"),
            ("response", json!([]), "response 1 has no tokens"),
            ("prompt", json!([100_000]), "a token that the policy does not have"),
            ("prompt", json!([5]), "response 2 is to another prompt than those of its group"),
            ("response", json!(vec![5; 13]), "response 1 is longer than `max_new_tokens`"),
            ("rewards", json!({"b": 1.0}), "has other parts of the reward than the first"),
            ("ended", json!(3), "responses.jsonl"),
            ("unknown", json!(3), "unknown"),
        ] {
            refused(&edited(field, value), words);
        }
        let fewer = |folder: &Path| {
            let path = folder.join("responses.jsonl");
            let text = std::fs::read_to_string(&path).unwrap();
            write(&path, text.split_inclusive('\n').next().unwrap());
        };
        refused(&fewer, "it has 1 responses, not 6");
    }
}

/// In float64 the policy scores other numbers than those that float32 sampled: the replay says so,
/// and no sentinel takes it for a fault of the program.
#[test]
fn log_probabilities_of_another_type_are_reported() {
    let config = grouped(json!({}));
    for kind in ["ppo", "grpo"] {
        let run = make(kind, recording(&config, &[2]));
        let again = make_on(&Cpu::<f64>::new(), kind, replay(config.clone(), &run, 2));
        let changed = again.metric("replay/changed_logprobs")[0];
        let most = again.metric("replay/max_logprob_difference")[0];
        assert!(changed > 0.1 && changed <= 1.0, "{changed}");
        assert!(most > 0.0 && most < 1e-4, "{most}");
        let row: Map<String, Value> = again.rows("metrics.jsonl").swap_remove(0);
        assert!(row.keys().all(|name| !name.starts_with("sampling/")), "{row:?}");
        assert!((again.metric("grad_norm")[0] / run.metric("grad_norm")[1] - 1.0).abs() < 1e-3);
        // One token of a record of the same type.
        let copy = damaged(&run, |folder| {
            let path = folder.join("responses.jsonl");
            let text = std::fs::read_to_string(&path).unwrap();
            let mut row: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
            let first = row["logprobs"][0].as_f64().unwrap();
            let all = row["logprobs"].as_array_mut().unwrap();
            all[0] = json!(first - 0.25);
            edited("logprobs", row["logprobs"].clone())(folder);
        });
        let more = json!({"replay.of": {"$path": copy.path()}});
        let again = make(kind, with(replay(config.clone(), &run, 2), &more));
        let most = again.metric("replay/max_logprob_difference")[0];
        assert!((most - 0.25).abs() < 1e-6, "{most}");
        let rows: Vec<Value> = run.rows("recorded/step-00002/responses.jsonl");
        let tokens: usize = rows.iter().map(|row| row["response"].as_array().unwrap().len()).sum();
        assert_eq!(again.metric("replay/changed_logprobs"), [1.0 / tokens as f64]);
        let told = again.warnings();
        let words = format!("1 of {tokens} tokens have another log-probability than at sampling");
        assert!(told.iter().any(|told| told.starts_with(&words)), "{told:?}");
    }
}

#[test]
fn steps_behind_the_end_of_training_have_no_record() {
    for kind in ["ppo", "grpo"] {
        let kl = make(kind, grouped(json!({}))).metric("objective/kl");
        let most = kl[1..].iter().copied().fold(0.0, f64::max);
        let last = kl.iter().position(|kl| *kl >= most).unwrap() + 1;
        let config = grouped(json!({"stop_at_kl": most}));
        let made = make(kind, recording(&config, &[1, 2, 3, 4]));
        let names = posttrain::fs::list(&made.path("recorded")).unwrap();
        assert_eq!(names.len(), last);
        let told = made.warnings();
        let told: Vec<&&str> = told.iter().filter(|told| told.contains("`record`")).collect();
        assert_eq!(told.len(), usize::from(last < 4), "{kind}: {told:?}");
        // The step that ended training had no update; without the bound it has one.
        let again = make(kind, replay(config, &made, last));
        assert!(weights(&again) == weights(&made), "{kind}");
        assert_eq!(line(&again, 0), line(&made, last - 1));
        let free = make(kind, replay(grouped(json!({})), &made, last));
        assert!(weights(&free) != weights(&made), "{kind}");
    }
}

#[test]
fn steps_out_of_range_and_idle_options_are_refused() {
    let fields = |kind: &str, more: Value| -> Vec<String> {
        let found = problems(kind, grouped(more));
        found.into_iter().map(|problem| problem.field).collect()
    };
    let at = || fixture().at("policy");
    let validation = json!({"split": "test/id", "every": 1, "by": "gold"});
    for kind in ["ppo", "grpo"] {
        for record in [json!([0]), json!([2, 1]), json!([1, 1]), json!([5])] {
            assert_eq!(fields(kind, json!({ "record": record })), ["record"]);
        }
        assert_eq!(fields(kind, json!({"record": [1, 4]})), [""; 0]);
        for step in [0, 5] {
            let more = json!({"replay": {"of": at(), "step": step}});
            assert_eq!(fields(kind, more), ["replay.step"]);
        }
        let replay = json!({"of": at(), "step": 4});
        for (field, value) in [("record", json!([1])), ("validation", validation.clone())] {
            assert_eq!(fields(kind, json!({"replay": replay, field: value})), [field]);
        }
        assert_eq!(fields(kind, json!({ "replay": replay })), [""; 0]);
    }
    let more = json!({"replay": {"of": at(), "step": 4}, "dynamic_sampling": {"tries": 2}});
    assert_eq!(fields("grpo", more), ["dynamic_sampling"]);
}

struct Bonds(Value);

impl Visitor for Bonds {
    type Output = Vec<stages::Constraint>;
    fn visit<S: Stage>(self) -> Self::Output {
        S::deserialize(self.0).unwrap().constraints()
    }
}

/// A plan already finds that the recorded run is of other things.
#[test]
fn a_plan_compares_what_the_two_stages_refer_to() {
    for kind in ["ppo", "grpo"] {
        let names = json!({"policy": "sft", "dataset": "world", "reward_model": "judge"});
        let config = grouped(with(names, &json!({"replay": {"of": "run", "step": 2}})));
        let bonds = stages::visit(kind, Bonds(config)).unwrap();
        let found: Vec<String> = bonds
            .iter()
            .map(|bond| {
                assert_eq!((bond.field.as_str(), bond.node.as_str()), ("replay.of", "run"));
                format!("{}: {:?}", bond.inner, bond.rule)
            })
            .collect();
        let wanted = [
            "record: IsSet",
            "policy: Is(\"sft\")",
            "dataset: Is(\"world\")",
            "reward_model: Is(\"judge\")",
        ];
        assert_eq!(found, wanted);
        assert_eq!(stages::visit(kind, Bonds(grouped(json!({})))).unwrap(), []);
    }
}
