//! Validation during training: what is measured, which step is kept, and that a run which was
//! stopped keeps the same one.

use posttrain::dag::tree::{Links, hash_files, hash_tree, walk};
use posttrain::data::rows::Example;
use posttrain::world::gold;
use serde_json::{Value, json};

use super::bench::{Made, make, make_with_stops, problems, refusal};
use super::fixture::fixture;

fn optimiser() -> Value {
    json!({"learning_rate": 0.05})
}

fn sft(validation: Value) -> Value {
    json!({"policy": fixture().at("policy"), "dataset": fixture().at("dataset"), "batch_size": 5,
        "epochs": 3, "optimiser": optimiser(), "validation": validation})
}

fn reward_model(validation: Value) -> Value {
    json!({"policy": fixture().at("policy"), "dataset": fixture().at("preferences"),
        "batch_size": 5, "epochs": 3, "optimiser": optimiser(), "validation": validation})
}

fn dpo(validation: Value) -> Value {
    json!({"policy": fixture().at("policy"), "reference": fixture().at("logprobs"),
        "dataset": fixture().at("preferences"), "batch_size": 5, "beta": 0.1,
        "optimiser": optimiser(), "validation": validation})
}

fn kto(validation: Value) -> Value {
    json!({"policy": fixture().at("policy"), "reference": fixture().at("kto_logprobs"),
        "dataset": fixture().at("preferences"), "batch_size": 10, "beta": 0.1,
        "optimiser": optimiser(), "validation": validation})
}

fn pretrain(validation: Value) -> Value {
    json!({"dataset": fixture().at("dataset"), "tokenizer": fixture().at("tokenizer"),
        "phases": ["notes", "pretrain"], "batch_size": 2, "validation": validation,
        "model": {"width": 16, "layers": 2, "heads": 2, "feed_forward": 24, "context": 128},
        "optimiser": {"learning_rate": 0.2}})
}

fn ppo(validation: Value) -> Value {
    json!({"policy": fixture().at("policy"), "reward_model": fixture().at("reward"),
        "dataset": fixture().at("dataset"), "steps": 4, "batch_size": 4, "minibatches": 2,
        "epochs": 2, "max_new_tokens": 12, "kl": {"coef": 0.05},
        "optimiser": {"learning_rate": 0.02}, "validation": validation})
}

/// Each measured step with its validation loss.
fn losses(made: &Made) -> Vec<(u64, f64)> {
    figures(made, "validation/loss")
}

/// Each step that has a figure, with it.
fn figures(made: &Made, name: &str) -> Vec<(u64, f64)> {
    let lines = made.text("metrics.jsonl");
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| Some((line["step"].as_u64()?, line[name].as_f64()?))).collect()
}

fn kept(made: &Made) -> Value {
    serde_json::from_str(&made.text("validation.json")).unwrap()
}

/// Rows of another kind than those of training, on which an early step can be the best.
const SPLIT: &str = "test/ood";

/// A config of a kind, from its validation.
type Config = fn(Value) -> Value;

const KINDS: [(&str, Config); 5] = [
    ("sft", sft),
    ("reward_model", reward_model),
    ("dpo", dpo),
    ("kto", kto),
    ("pretrain", pretrain),
];

#[test]
fn every_so_many_steps_and_the_last_one_are_measured_and_the_best_is_kept() {
    let mut earlier = 0;
    for (kind, config) in KINDS {
        let all = make(kind, config(json!({"split": SPLIT, "every": 1})));
        let measured = losses(&all);
        let steps = all.metric("step").len();
        assert_eq!(measured.len(), steps, "{kind}");
        let sparse = make(kind, config(json!({"split": SPLIT, "every": 2, "keep": "last"})));
        let expected: Vec<(u64, f64)> = measured
            .iter()
            .filter(|(step, _)| step % 2 == 0 || *step == steps as u64)
            .copied()
            .collect();
        assert_eq!(losses(&sparse), expected, "{kind}: measuring changes no step");
        let best = measured.iter().copied().reduce(|a, b| if b.1 < a.1 { b } else { a }).unwrap();
        assert_eq!(
            kept(&all),
            json!({"split": SPLIT, "keep": "best", "step": best.0, "by": "validation/loss",
                "value": best.1}),
            "{kind}"
        );
        let last = measured.last().unwrap();
        assert_eq!(
            kept(&sparse),
            json!({"split": SPLIT, "keep": "last", "step": last.0, "by": "validation/loss",
                "value": last.1}),
            "{kind}"
        );
        earlier += usize::from(best.0 < steps as u64);
        let same = all.checkpoint().params == sparse.checkpoint().params;
        assert_eq!(same, best.0 == steps as u64, "{kind}: step {} of {steps}", best.0);
    }
    assert!(earlier > 0, "no kind has its best step before the last one");
}

/// The model that is kept is that of its step: without a learning rate it does not move from there,
/// and its first measurement is the loss that the file names.
#[test]
fn the_model_that_is_kept_has_the_loss_of_its_step() {
    let validation = json!({"split": "test/ood", "every": 1});
    let made = make("sft", sft(validation.clone()));
    let mut again = sft(validation);
    again["policy"] = made.reference();
    again["optimiser"] = json!({"learning_rate": 0.0});
    assert_eq!(losses(&make("sft", again))[0].1, kept(&made)["value"].as_f64().unwrap());
}

/// A model at rest has on one split, as the split that is trained on, the loss that validation
/// gives for it.
#[test]
fn validation_loss_is_the_loss_of_training_without_its_gradient() {
    for (kind, config) in
        [("sft", sft as Config), ("reward_model", reward_model), ("dpo", dpo), ("kto", kto)]
    {
        let mut still = config(json!({"split": "test/id", "every": 1}));
        still["optimiser"] = json!({"learning_rate": 0.0});
        still["batch_size"] = json!(100);
        let measured = losses(&make(kind, still.clone()))[0].1;
        let trained_on: &[&str] =
            if kind == "kto" { &["desirable", "undesirable"] } else { &["split"] };
        trained_on.iter().for_each(|field| still[field] = json!("test/id"));
        still["validation"] = Value::Null;
        let trained = make(kind, still).metric("loss")[0];
        assert!((measured - trained).abs() < 1e-6, "{kind}: {measured} {trained}");
    }
}

/// The score is that of the greedy responses of the policy that is kept, as `generate` and
/// `best_of_n` make and score them.
#[test]
fn a_policy_is_kept_by_the_score_of_its_greedy_responses() {
    let judge = || fixture().at("judges/a");
    let by = |keep: &str| {
        ppo(json!({"split": "test/ood", "every": 1, "keep": keep, "rows": 4,
            "by": {"reward_model": judge()}}))
    };
    let made = make("ppo", by("best"));
    let scores = figures(&made, "validation/score");
    assert_eq!(scores.len(), 4);
    let best = scores.iter().copied().reduce(|a, b| if b.1 > a.1 { b } else { a }).unwrap();
    let expected = json!({"split": "test/ood", "keep": "best", "step": best.0,
        "by": "validation/score", "value": best.1});
    assert_eq!(kept(&made), expected);
    let last = make("ppo", by("last"));
    assert_eq!(figures(&last, "validation/score"), scores, "what is kept changes no step");
    assert_eq!(made.checkpoint().params == last.checkpoint().params, best.0 == 4, "{scores:?}");

    let greedy = json!({"policy": made.reference(), "reward_model": judge(),
        "dataset": fixture().at("dataset"), "splits": ["test/ood"], "limit": 4, "n": 1,
        "on_leak": "allow", "sampling": {"temperature": 0.0, "max_new_tokens": 12}});
    let answers: Vec<Value> = make("best_of_n", greedy).rows("samples.jsonl");
    let rewards: Vec<f64> =
        answers.iter().map(|row| row["outputs"][0]["reward"].as_f64().unwrap()).collect();
    let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
    assert!((mean - best.1).abs() < 1e-9, "{mean} {best:?}");
}

#[test]
fn a_policy_is_scored_by_gold_where_there_is_gold() {
    let world = make(
        "dataset",
        json!({"source": {"world": {"seed": 3, "notes": 0, "pretrain": 2, "sft": 2, "compare": 0,
            "prompts": 4, "validation": 5, "test": 1}}}),
    );
    let mut config = ppo(json!({"split": "validation", "every": 2, "by": "gold"}));
    config["dataset"] = world.reference();
    config["max_prompt_tokens"] = json!(60);
    let made = make("ppo", config);
    let scores = figures(&made, "validation/score");
    assert_eq!(scores.iter().map(|score| score.0).collect::<Vec<_>>(), [2, 4]);
    let greedy = json!({"policy": made.reference(), "dataset": world.reference(),
        "splits": ["validation"], "on_leak": "allow", "max_prompt_tokens": 60,
        "sampling": {"temperature": 0.0, "max_new_tokens": 12}});
    let answers: Vec<Value> = make("generate", greedy).rows("samples.jsonl");
    let examples: Vec<Example> = world.rows("validation.jsonl");
    let gold = |(row, example): (&Value, &Example)| {
        let output = &row["outputs"][0];
        let text = output["text"].as_str().unwrap();
        gold(example, text, output["ended"].as_bool().unwrap()).unwrap().score
    };
    let golds: Vec<f64> = answers.iter().zip(&examples).map(gold).collect();
    let mean = golds.iter().sum::<f64>() / golds.len() as f64;
    assert!((mean - kept(&made)["value"].as_f64().unwrap()).abs() < 1e-9, "{golds:?}");
}

#[test]
fn what_cannot_score_a_policy_is_refused() {
    let own = json!({"reward_model": fixture().at("reward")});
    let message = refusal("ppo", ppo(json!({"split": "test/id", "every": 1, "by": own})));
    assert!(message.contains("they have the same weights"), "{message}");
    let trained = problems("ppo", ppo(json!({"split": "prompts", "every": 1, "by": "gold"})));
    assert_eq!(trained.len(), 1);

    let rows = json!({"path": fixture().at("posts.jsonl"), "prompt": "{body} tl;dr:",
        "completion": " {gist}", "id": "name"});
    let folder = tempfile::tempdir().unwrap();
    let long = folder.path().join("long.jsonl");
    std::fs::write(&long, json!({"body": "a post ".repeat(200), "gist": "g"}).to_string()).unwrap();
    let long = json!({"path": {"$path": long}, "prompt": "{body}", "completion": " {gist}"});
    let files = json!({"source": {"files": {"prompts": rows, "others": rows, "long": long}}});
    let mut strange = ppo(json!({"split": "others", "every": 1, "by": "gold"}));
    let dataset = make("dataset", files);
    strange["dataset"] = dataset.reference();
    let message = refusal("ppo", strange.clone());
    assert!(message.contains("is of no synthetic world"), "{message}");
    strange["validation"] =
        json!({"split": "long", "every": 1, "by": {"reward_model": fixture().at("judges/a")}});
    let message = refusal("ppo", strange);
    assert!(message.contains("split `long`, row 1: 1400 tokens of prompt"), "{message}");
}

#[test]
fn a_run_that_was_stopped_keeps_the_same_step() {
    for (kind, config) in KINDS {
        let config = config(json!({"split": SPLIT, "every": 2}));
        let undisturbed = make(kind, config.clone());
        let (stopped, stops) = make_with_stops(kind, config);
        assert!(stops > 1, "{kind}");
        assert_eq!(stopped.text("metrics.jsonl"), undisturbed.text("metrics.jsonl"), "{kind}");
        assert_eq!(stopped.object(), undisturbed.object(), "{kind}");
    }
    let judge = json!({"reward_model": fixture().at("judges/a")});
    let config = ppo(json!({"split": "test/ood", "every": 1, "by": judge}));
    let undisturbed = make("ppo", config.clone());
    let (stopped, stops) = make_with_stops("ppo", config);
    assert_eq!(stops, 3);
    assert_eq!(stopped.object(), undisturbed.object(), "ppo");
}

#[test]
fn the_model_with_the_lowest_loss_is_selected_as_it_is_and_the_first_of_equals() {
    let at = |name: &str| fixture().at(&format!("measured/{name}"));
    let object = |folder: &str| {
        let root = fixture().path(&format!("measured/{folder}"));
        let files: Vec<String> =
            walk(&root, Links::Refuse).unwrap().into_iter().map(|file| file.0).collect();
        hash_tree(&hash_files(&root, &files).unwrap().unwrap()).to_hex().to_string()
    };
    for (of, best) in [(["a", "b", "c"], "c"), (["a", "b", "a"], "b"), (["c", "a", "c"], "c")] {
        let made = make("select", json!({"of": of.map(at)}));
        assert_eq!(made.object(), object(best), "{of:?}");
    }
    let missing = refusal("select", json!({"of": [at("a"), fixture().at("policy")]}));
    assert!(missing.contains("validation.json"), "{missing}");
    assert_eq!(problems("select", json!({"of": [at("a")]})).len(), 1);
}

#[test]
fn a_split_that_is_trained_on_measures_nothing() {
    let found = problems("sft", sft(json!({"split": "sft", "every": 0})));
    let found: Vec<String> =
        found.iter().map(|problem| format!("{}: {}", problem.field, problem.message)).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found.contains(
            &"validation.split: expected a split that is not trained on, found `sft`".to_owned()
        ),
        "{found:?}"
    );
    let phases = problems("pretrain", pretrain(json!({"split": "notes", "every": 1})));
    assert_eq!(phases.len(), 1);
    let missing = refusal("sft", sft(json!({"split": "nowhere", "every": 1})));
    assert!(missing.contains("nowhere"), "{missing}");
}
