//! Every field of a config has an effect: for each, a pair of values whose artefacts differ, or a
//! value
//! that is refused. The fields are those that `posttrain stages KIND` knows, at every depth, so a
//! new one without a pair fails here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use posttrain::stages::{self, Stage, Visitor, fields};
use serde_json::{Value, json};

use super::bench::{Made, make, neutral, problems};
use super::fixture::{fixture, jsonl, write};

/// A field with the value that it is given instead, and what else both configs have.
type Pair = (&'static str, Value, Value);

/// Inputs that the fixture has one of: another of each.
struct Others {
    folder: tempfile::TempDir,
    tokenizer: Made,
}

impl Others {
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer =
            make("tokenizer", json!({"dataset": fixture().at("dataset"), "vocabulary": 280}));
        let others = Others { folder, tokenizer };
        for split in ["notes", "sft", "prompts", "pretrain", "test/id", "test/ood"] {
            others.rows(&format!("dataset/{split}.jsonl"), &format!("dataset/{split}.jsonl"));
        }
        others.rows("preferences/preferences.jsonl", "preferences/preferences.jsonl");
        for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
        {
            let path = others.folder.path().join("reward").join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::copy(fixture().path("reward").join(file), path).unwrap();
        }
        write(&others.path("reward/normalisation.json"), "{\"mean\": -1.0, \"std\": 2.0}");
        others
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn at(&self, name: &str) -> Value {
        json!({"$path": self.path(name)})
    }

    /// The fixture's rows in the opposite order.
    fn rows(&self, to: &str, from: &str) {
        let text = std::fs::read_to_string(fixture().path(from)).unwrap();
        write(
            &self.path(to),
            &jsonl(text.lines().rev().map(|line| serde_json::from_str::<Value>(line).unwrap())),
        );
    }
}

/// `value` at the dotted `path` of a config.
fn put(config: &mut Value, path: &str, value: Value) {
    match path.split_once('.') {
        None => drop(config.as_object_mut().unwrap().insert(path.into(), value)),
        Some((first, rest)) => {
            let inner = config.as_object_mut().unwrap().entry(first).or_insert_with(|| json!({}));
            if !inner.is_object() {
                *inner = json!({});
            }
            put(inner, rest, value);
        }
    }
}

/// `more`, whose keys are dotted, laid over a config.
fn with(base: &Value, more: &Value) -> Value {
    let mut config = base.clone();
    more.as_object()
        .unwrap()
        .iter()
        .for_each(|(path, value)| put(&mut config, path, value.clone()));
    config
}

/// `three` makes a run of three steps or more: half way, a line and a cosine are at the same rate.
fn optimiser(pairs: &mut Vec<Pair>, three: Value) {
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

fn sampling(pairs: &mut Vec<Pair>) {
    pairs.extend([
        ("sampling.temperature", json!(0.5), json!({})),
        ("sampling.top_k", json!(3), json!({})),
        ("sampling.top_p", json!(0.3), json!({})),
        ("sampling.min_p", json!(0.9), json!({})),
        ("sampling.max_new_tokens", json!(5), json!({})),
    ]);
}

/// A config of a kind, and a pair for each of its fields.
fn configs(kind: &str, others: &Others) -> (Value, Vec<Pair>) {
    let at = |name| fixture().at(name);
    let optimised = json!({"learning_rate": 0.01});
    let plain = |field, value| (field, value, json!({}));
    let (base, mut pairs) = match kind {
        "pretrain" => (
            json!({"dataset": at("dataset"), "tokenizer": at("tokenizer"), "phases": ["notes"],
                "batch_size": 2, "optimiser": optimised,
                "model": {"width": 16, "layers": 1, "heads": 2, "feed_forward": 24,
                    "context": 128}}),
            vec![
                plain("dataset", others.at("dataset")),
                plain("tokenizer", others.tokenizer.reference()),
                plain("phases.0", Value::Null),
                plain("model.width", json!(32)),
                plain("model.layers", json!(2)),
                plain("model.heads", json!(4)),
                plain("model.feed_forward", json!(16)),
                plain("model.context", json!(100)),
                plain("model.init", json!({"normal": {"std": 0.02}})),
                (
                    "model.init.normal.std",
                    json!(0.1),
                    json!({"model.init": {"normal": {"std": 0.02}}}),
                ),
                plain("seed", json!(1)),
                plain("batch_size", json!(3)),
            ],
        ),
        "sft" => (
            json!({"policy": at("policy"), "dataset": at("dataset"), "batch_size": 4,
                "optimiser": optimised}),
            vec![
                plain("policy", at("other")),
                plain("dataset", others.at("dataset")),
                plain("split", json!("notes")),
                plain("seed", json!(1)),
                plain("batch_size", json!(5)),
                plain("epochs", json!(2)),
                plain("frozen", json!(0.6)),
                plain("max_prompt_tokens", json!(5)),
            ],
        ),
        "reward_model" => (
            json!({"policy": at("policy"), "dataset": at("preferences"), "batch_size": 4,
                "optimiser": optimised}),
            vec![
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
            ],
        ),
        "ppo" => (
            json!({"policy": at("policy"), "reward_model": at("reward"), "dataset": at("dataset"),
                "steps": 2, "batch_size": 8,
                "minibatches": 2, "epochs": 2, "max_new_tokens": 20, "kl": {"coef": 0.05},
                "optimiser": optimised}),
            ppo(others),
        ),
        "generate" => (
            json!({"policy": at("policy"), "dataset": at("dataset"),
                "sampling": {"max_new_tokens": 6}}),
            vec![
                plain("policy", at("other")),
                plain("dataset", others.at("dataset")),
                plain("splits.0", Value::Null),
                plain("limit", json!(2)),
                plain("samples", json!(2)),
                plain("max_prompt_tokens", json!(5)),
                plain("seed", json!(1)),
            ],
        ),
        "best_of_n" => (
            json!({"policy": at("policy"), "reward_model": at("reward"), "dataset": at("dataset"),
                "n": 2, "sampling": {"max_new_tokens": 6}}),
            vec![
                plain("policy", at("other")),
                plain("reward_model", others.at("reward")),
                plain("dataset", others.at("dataset")),
                plain("splits.0", Value::Null),
                plain("limit", json!(2)),
                plain("n", json!(3)),
                plain("pool", json!(4)),
                plain("outputs", json!(2)),
                plain("missing_eos", json!({"replace": -3.0})),
                ("missing_eos.replace", json!(-2.0), json!({"missing_eos": {"replace": -3.0}})),
                ("missing_eos.subtract", json!(2.0), json!({"missing_eos": {"subtract": 1.0}})),
                plain("max_prompt_tokens", json!(5)),
                plain("seed", json!(1)),
            ],
        ),
        other => panic!("no cases of {other}"),
    };
    match kind {
        "generate" | "best_of_n" => sampling(&mut pairs),
        "ppo" => optimiser(&mut pairs, json!({"steps": 3})),
        _ => optimiser(&mut pairs, json!({})),
    }
    (base, pairs)
}

fn ppo(others: &Others) -> Vec<Pair> {
    let plain = |field, value| (field, value, json!({}));
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

/// What a kind's config may have.
struct Leaves;

impl Visitor for Leaves {
    type Output = BTreeSet<String>;
    fn visit<S: Stage>(self) -> Self::Output {
        let (fields, complete) = fields::of::<S>();
        complete.unwrap_or_else(|error| panic!("{}: {error}", S::NAME));
        fields.leaves.into_iter().collect()
    }
}

/// Acts on rows that a model was trained on, of which there are none here: tests/stages/lineage.rs
/// has what each value does.
const LEAKS: &str = "on_leak";

/// The object of a config, made once.
struct Objects {
    kind: &'static str,
    made: BTreeMap<String, String>,
}

impl Objects {
    fn of(&mut self, config: &Value) -> String {
        let made = || make(self.kind, config.clone()).object();
        self.made.entry(config.to_string()).or_insert_with(made).clone()
    }
}

fn check(kind: &'static str) {
    let others = Others::make();
    let (base, pairs) = configs(kind, &others);
    let fields = stages::visit(kind, Leaves).expect("the kind exists");
    let neutral: BTreeSet<String> = neutral(kind).iter().map(|field| field.to_string()).collect();
    let paired: BTreeSet<String> = pairs.iter().map(|(field, ..)| field.to_string()).collect();
    let wanted: BTreeSet<String> =
        fields.difference(&neutral).filter(|field| *field != LEAKS).cloned().collect();
    assert_eq!(
        wanted, paired,
        "{kind}: each field has a pair of values, and each pair is of a field"
    );
    let mut objects = Objects { kind, made: BTreeMap::new() };
    for (field, value, more) in pairs {
        let before = with(&base, &more);
        let mut after = before.clone();
        match field.strip_suffix(".0") {
            Some("phases") => put(&mut after, "phases", json!(["pretrain"])),
            Some(list) => put(&mut after, list, json!(["test/ood"])),
            None => put(&mut after, field, value),
        }
        assert_ne!(objects.of(&before), objects.of(&after), "{kind}: {field} has no effect");
    }
}

#[test]
fn every_field_of_generate_has_an_effect() {
    check("generate");
}

#[test]
fn every_field_of_best_of_n_has_an_effect() {
    check("best_of_n");
}

#[test]
fn every_field_of_pretrain_has_an_effect() {
    check("pretrain");
}

#[test]
fn every_field_of_sft_has_an_effect() {
    check("sft");
}

#[test]
fn every_field_of_reward_model_has_an_effect() {
    check("reward_model");
}

#[test]
fn every_field_of_ppo_has_an_effect() {
    check("ppo");
}

/// What would have none beside another value is refused.
#[test]
fn a_field_without_effect_beside_another_is_refused() {
    let others = Others::make();
    let greedy = |field: &str, value: Value| {
        (json!({"sampling.temperature": 0.0, field: value}), "generate")
    };
    let constant = json!({"optimiser.schedule": {"shape": "constant", "final_ratio": 0.5}});
    let cases = [
        (greedy("sampling.top_k", json!(3)), "sampling.top_k"),
        (greedy("sampling.top_p", json!(0.5)), "sampling.top_p"),
        (greedy("sampling.min_p", json!(0.5)), "sampling.min_p"),
        ((constant, "sft"), "optimiser.schedule.final_ratio"),
        (
            (json!({"kl": {"coef": 0.0, "adaptive": {"target": 1.0, "horizon": 10.0}}}), "ppo"),
            "kl.adaptive",
        ),
    ];
    for ((more, kind), field) in cases {
        let (base, _) = configs(kind, &others);
        let found = problems(kind, with(&base, &more));
        assert_eq!(found.iter().map(|problem| problem.field.as_str()).collect::<Vec<_>>(), [field]);
    }
}
