//! Every field of every kind has an effect: for each, a pair of values whose artefacts differ, or
//! of which one is refused. The fields are those that `posttrain stages KIND` knows, at every
//! depth, so a new one without a pair fails here.

mod data;
mod measuring;
mod training;

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use posttrain::stages::{self, Stage, Visitor, fields};
use serde_json::{Value, json};

use super::bench::{Made, make, neutral, problems, refusal};
use super::fixture::{example, fixture, jsonl, write};
use crate::evaluation::model_with_words;

/// A field with the value that it is given instead, and what else both configs have.
type Pair = (&'static str, Value, Value);
/// The same with words of the error: the config with that value is refused when it runs.
type Refused = (&'static str, Value, Value, &'static str);
/// A field, and the file and the name of the test of its effect, which is in no byte.
type Elsewhere = (&'static str, &'static str, &'static str);

/// A config of a kind, and an entry for each of its fields.
struct Case {
    base: Value,
    pairs: Vec<Pair>,
    refused: Vec<Refused>,
    elsewhere: Vec<Elsewhere>,
    /// What the run did to the world outside of its artefact, since this was last called.
    heard: Option<Box<dyn Fn() -> String>>,
}

impl Case {
    fn new(base: Value, pairs: Vec<Pair>) -> Self {
        Case { base, pairs, refused: Vec::new(), elsewhere: Vec::new(), heard: None }
    }
}

/// A field with another value, nothing else changed.
fn plain(field: &'static str, value: Value) -> Pair {
    (field, value, json!({}))
}

/// Inputs that the fixture has one of: another of each.
struct Others {
    folder: tempfile::TempDir,
    tokenizer: OnceCell<Made>,
    tuned: OnceCell<Made>,
    kept: RefCell<Vec<Made>>,
}

impl Others {
    fn make() -> Self {
        let others = Others {
            folder: tempfile::tempdir().unwrap(),
            tokenizer: OnceCell::new(),
            tuned: OnceCell::new(),
            kept: RefCell::default(),
        };
        for split in ["notes", "sft", "prompts", "pretrain", "test/id", "test/ood"] {
            others.reversed(&format!("dataset/{split}.jsonl"));
        }
        for file in [
            "preferences/preferences.jsonl",
            "posts.jsonl",
            "candidates/samples.jsonl",
            "pool/samples.jsonl",
        ] {
            others.reversed(file);
        }
        for (folder, files) in
            [("reward", &["config.json", "model.safetensors"][..]), ("chat", &["config.json"])]
        {
            for file in ["tokenizer.json", "tokenizer_config.json"].iter().chain(files) {
                others.copy(&format!("reward/{file}"), &format!("{folder}/{file}"));
            }
        }
        write(&others.path("reward/normalisation.json"), "{\"mean\": -1.0, \"std\": 2.0}");
        let template = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n\
            {% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";
        write(
            &others.path("chat/tokenizer_config.json"),
            &json!({"eos_token": "<eos>", "pad_token": "<pad>", "chat_template": template})
                .to_string(),
        );
        others.write_rows();
        measuring::sheets(&others);
        measuring::inference(&others);
        measuring::rolled(&others);
        others
    }

    fn write_rows(&self) {
        let mut posts = self.read(&fixture().path("posts.jsonl"));
        posts.push(json!({"name": "r8", "body": "no gist"}));
        write(&self.path("bad.jsonl"), &jsonl(posts));
        let row = |at: usize| {
            let words: Vec<String> = (0..=at).map(|word| format!("w{word}")).collect();
            let gist = format!("g{at} h i j");
            json!({"name": format!("r{at}"), "body": words.join(" "), "gist": gist})
        };
        write(&self.path("lengths.jsonl"), &jsonl((0..6).map(row)));
        let laid = json!({"prompt": "p", "completion": " c", "instruction": "i", "input": "",
            "output": "o"});
        write(&self.path("laid.jsonl"), &jsonl([laid]));
        let pair = |at: usize| {
            json!({"prompt": format!("p{at}"), "chosen": " c", "rejected": " r", "gap": at,
                "by": "0.5"})
        };
        write(&self.path("margins.jsonl"), &jsonl((0..3).map(pair)));
        // The facts of other rows.
        let rows = (40..44).map(|at| {
            let mut row = example(at);
            row["facts"] = example(at + 1)["facts"].clone();
            row
        });
        write(&self.path("facts/compare.jsonl"), &jsonl(rows));
        let score = |at: usize| json!({"id": format!("row-{at}"), "score": -((at * 7 % 5) as f64)});
        write(&self.path("scores/sft.jsonl"), &jsonl((20..32).map(score)));
        self.copy("dataset/test/id.jsonl", "tests/sft.jsonl");
        let answers =
            self.read(&fixture().path("outputs/samples.jsonl")).into_iter().map(|mut row| {
                row["outputs"][0]["text"] = " what ?".into();
                row
            });
        write(&self.path("answers/samples.jsonl"), &jsonl(answers));
        let pairs = self.read(&fixture().path("pairs.jsonl"));
        write(&self.path("pairs.jsonl"), &jsonl(pairs.into_iter().take(6)));
        let row = |method: &str| {
            json!({"method": method, "test_set": "id", "metric": "gold", "mean": 0.5, "low": 0.5,
                "high": 0.5, "n": 5})
        };
        write(
            &self.path("evaluation/table.json"),
            &json!({"rows": [row("sft"), row("ppo")]}).to_string(),
        );
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn at(&self, name: &str) -> Value {
        json!({"$path": self.path(name)})
    }

    fn read(&self, path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The fixture's rows in the opposite order.
    fn reversed(&self, name: &str) {
        write(&self.path(name), &jsonl(self.read(&fixture().path(name)).into_iter().rev()));
    }

    fn copy(&self, from: &str, to: &str) {
        let path = self.path(to);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::copy(fixture().path(from), path).unwrap();
    }

    fn tokenizer(&self) -> &Made {
        let config = json!({"dataset": fixture().at("dataset"), "vocabulary": 280});
        self.tokenizer.get_or_init(|| make("tokenizer", config))
    }

    fn tuned(&self) -> &Made {
        self.tuned.get_or_init(|| training::tuned(self))
    }

    /// A classifier of words with labels of these names.
    fn words(&self, folder: &str, labels: [&str; 3]) {
        let folder = self.path(folder);
        std::fs::create_dir(&folder).unwrap();
        model_with_words(&folder, "bert_classifier");
        let path = folder.join("bert_classifier/config.json");
        let mut config = self.read_one(&path);
        config["id2label"] = json!({"0": labels[0], "1": labels[1], "2": labels[2]});
        write(&path, &config.to_string());
    }

    fn read_one(&self, path: &Path) -> Value {
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }
}

/// `value` at the dotted `path` of a config; numbers are places in lists.
fn put(config: &mut Value, path: &str, value: Value) {
    let (first, rest) = match path.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    };
    let inner = match first.parse::<usize>() {
        Ok(at) => {
            if !config.is_array() {
                *config = json!([]);
            }
            let items = config.as_array_mut().unwrap();
            items.resize(items.len().max(at + 1), Value::Null);
            &mut items[at]
        }
        Err(_) => {
            if !config.is_object() {
                *config = json!({});
            }
            config.as_object_mut().unwrap().entry(first).or_insert(Value::Null)
        }
    };
    match rest {
        Some(rest) => put(inner, rest, value),
        None => *inner = value,
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

/// What a kind's config may have.
struct Leaves;

impl Visitor for Leaves {
    type Output = BTreeSet<String>;
    fn visit<S: Stage>(self) -> Self::Output {
        let (fields, complete) = fields::of::<S>();
        complete.unwrap_or_else(|error| panic!("{}: {error}", S::INFO.name));
        fields.leaves.into_iter().collect()
    }
}

/// What comes of a config: the object, and what was heard of the run. Made once.
struct Outcomes {
    kind: &'static str,
    heard: Box<dyn Fn() -> String>,
    made: BTreeMap<String, (String, String)>,
}

impl Outcomes {
    fn of(&mut self, config: &Value) -> (String, String) {
        let made = || (make(self.kind, config.clone()).object(), (self.heard)());
        self.made.entry(config.to_string()).or_insert_with(made).clone()
    }
}

fn check(kind: &'static str, case: fn(&Others) -> Case) {
    let others = Others::make();
    let Case { base, pairs, refused, elsewhere, heard } = case(&others);
    let fields = stages::visit(kind, Leaves).expect("the kind exists");
    let neutral: BTreeSet<String> = neutral(kind).iter().map(|field| field.to_string()).collect();
    let entries: Vec<&str> = pairs
        .iter()
        .map(|(field, ..)| *field)
        .chain(refused.iter().map(|(field, ..)| *field))
        .chain(elsewhere.iter().map(|(field, ..)| *field))
        .collect();
    let entered: BTreeSet<String> = entries.iter().map(|field| field.to_string()).collect();
    // All of a field that changes no byte changes none.
    let is_neutral = |field: &String| neutral.contains(field.split('.').next().unwrap());
    let wanted: BTreeSet<String> = fields.into_iter().filter(|field| !is_neutral(field)).collect();
    assert_eq!(wanted, entered, "{kind}: each field has an entry, and each entry is of a field");
    let heard = heard.unwrap_or_else(|| Box::new(String::new));
    let mut outcomes = Outcomes { kind, heard, made: BTreeMap::new() };
    let both = |field: &str, value: Value, more: &Value| {
        let before = with(&base, more);
        let after = with(&before, &json!({field: value}));
        (before, after)
    };
    for (field, value, more) in pairs {
        let (before, after) = both(field, value, &more);
        assert_ne!(outcomes.of(&before), outcomes.of(&after), "{kind}: {field} has no effect");
    }
    for (field, value, more, words) in refused {
        let (before, after) = both(field, value, &more);
        make(kind, before);
        let message = refusal(kind, after);
        assert!(message.contains(words), "{kind}: {field}: {message}");
    }
    for (field, file, test) in elsewhere {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(file);
        let text = std::fs::read_to_string(path).unwrap();
        let (_, rest) = text
            .split_once(&format!("#[test]\nfn {test}() {{"))
            .unwrap_or_else(|| panic!("{kind}: {field}: {file} has no test {test}"));
        let body = rest.split("\n}\n").next().unwrap();
        let name = field.rsplit('.').next().unwrap();
        assert!(body.contains(name), "{kind}: {test} does not set {field}");
    }
}

macro_rules! kinds {
    ($($kind:literal: $test:ident => $case:path;)*) => {
        /// The kinds that are checked.
        const KINDS: &[&str] = &[$($kind),*];
        $(
            #[test]
            fn $test() {
                check($kind, $case);
            }
        )*
    };
}

kinds! {
    "dataset": every_field_of_dataset_has_an_effect => data::dataset;
    "tokenizer": every_field_of_tokenizer_has_an_effect => data::tokenizer;
    "pretrain": every_field_of_pretrain_has_an_effect => training::pretrain;
    "model": every_field_of_model_has_an_effect => data::model;
    "artefact": every_field_of_artefact_has_an_effect => data::artefact;
    "sft": every_field_of_sft_has_an_effect => training::sft;
    "reward_model": every_field_of_reward_model_has_an_effect => training::reward_model;
    "reference_logprobs": every_field_of_reference_logprobs_has_an_effect
        => training::reference_logprobs;
    "dpo": every_field_of_dpo_has_an_effect => training::dpo;
    "kto": every_field_of_kto_has_an_effect => training::kto;
    "select": every_field_of_select_has_an_effect => training::select;
    "ppo": every_field_of_ppo_has_an_effect => training::ppo;
    "grpo": every_field_of_grpo_has_an_effect => training::grpo;
    "online_dpo": every_field_of_online_dpo_has_an_effect => training::online_dpo;
    "expert_iteration": every_field_of_expert_iteration_has_an_effect
        => training::expert_iteration;
    "distill": every_field_of_distill_has_an_effect => training::distill;
    "merge": every_field_of_merge_has_an_effect => training::merge;
    "generate": every_field_of_generate_has_an_effect => training::generate;
    "best_of_n": every_field_of_best_of_n_has_an_effect => training::best_of_n;
    "score": every_field_of_score_has_an_effect => measuring::score;
    "metric": every_field_of_metric_has_an_effect => measuring::metric;
    "evaluate": every_field_of_evaluate_has_an_effect => measuring::evaluate;
    "over_seeds": every_field_of_over_seeds_has_an_effect => measuring::over_seeds;
    "metric_validation": every_field_of_metric_validation_has_an_effect
        => measuring::metric_validation;
    "classifier": every_field_of_classifier_has_an_effect => measuring::classifier;
    "judge": every_field_of_judge_has_an_effect => measuring::judge;
    "command": every_field_of_command_has_an_effect => data::command;
}

#[test]
fn every_kind_is_checked() {
    assert_eq!(
        KINDS,
        stages::names(),
        "give the kind a case, and a line in `kinds!` of tests/stages/effects/mod.rs, in the order \
         of `stages!`"
    );
}

/// What would have none beside another value is refused.
#[test]
fn a_field_without_effect_beside_another_is_refused() {
    let others = Others::make();
    let at = |name| fixture().at(name);
    let greedy = |field: &str, value: Value| json!({"sampling.temperature": 0.0, field: value});
    let model = json!({"endpoint": "http://127.0.0.1:1/v1", "model": "m", "task": "instructions",
        "prompt": others.at("question.txt")});
    let pairs =
        json!({"world_preferences": {"posts": at("dataset"), "candidates": at("candidates")}});
    let contrast = json!({"contrast": {"dataset": at("dataset"), "splits": {"key": "sft"},
        "kinds": ["cut"]}});
    let lone = |more: Value| {
        let mut edits = json!({"reward_model": null, "reference_policy": null, "judge": null});
        edits.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        edits
    };
    let cases: Vec<(&str, Value, &str)> = vec![
        ("generate", greedy("sampling.top_k", json!(3)), "sampling.top_k"),
        ("generate", greedy("sampling.top_p", json!(0.5)), "sampling.top_p"),
        ("generate", greedy("sampling.min_p", json!(0.5)), "sampling.min_p"),
        (
            "sft",
            json!({"optimiser.schedule": {"shape": "constant", "final_ratio": 0.5}}),
            "optimiser.schedule.final_ratio",
        ),
        (
            "ppo",
            json!({"kl": {"coef": 0.0, "adaptive": {"target": 1.0, "horizon": 10.0}}}),
            "kl.adaptive",
        ),
        ("ppo", json!({"rewards": {"a": {"by": "gold"}}}), "rewards"),
        (
            "ppo",
            json!({"kl": {"coef": 0.1, "adaptive": {"target": 1.0, "horizon": 10.0},
                "anneal": {"to": 0.0}}}),
            "kl.anneal",
        ),
        ("ppo", json!({"diversity": {"max_at_k": {"k": 2}}, "samples_per_prompt": 2}), "diversity"),
        (
            "ppo",
            json!({"diversity": {"ucpo": {"good": {"quantile": 0.5}, "tau": 0.3}},
                "samples_per_prompt": 2}),
            "diversity",
        ),
        (
            "ppo",
            json!({"diversity": {"ucpo": {"good": {"at_least": 0.5}}}, "samples_per_prompt": 2}),
            "diversity",
        ),
        ("ppo", json!({"diversity": {"novelty": {}}}), "samples_per_prompt"),
        ("ppo", json!({"kl.estimator": "k2"}), "kl.estimator"),
        ("ppo", json!({"kl.in": "loss", "kl.estimator": "k1"}), "kl.estimator"),
        ("ppo", json!({"kl.in": "loss", "conventions.kl.estimator": "k2"}), "conventions.kl"),
        ("ppo", json!({"epochs": 1, "epoch_stop_kl": 0.1}), "epoch_stop_kl"),
        ("ppo", json!({"epochs": 1, "value.fit": "every_epoch"}), "value.fit"),
        ("ppo", json!({"reference.reset_every": 2}), "reference.reset_every"),
        ("ppo", json!({"reference.reset_every": 1, "kl.coef": 0.0}), "reference"),
        ("grpo", json!({"rewards": {"a": {"by": "gold"}}}), "rewards"),
        ("grpo", json!({"epochs": 1, "epoch_stop_kl": 0.1}), "epoch_stop_kl"),
        ("grpo", json!({"kl.estimator": "k1"}), "kl.estimator"),
        ("grpo", json!({"kl.estimator": "k3_plus", "kl.in": "reward"}), "kl.estimator"),
        ("grpo", json!({"loss.form": "cispo", "loss.clip.low": 0.1}), "loss.clip.low"),
        ("grpo", json!({"loss.form": "cispo", "loss.clip.dual": 2.0}), "loss.clip.dual"),
        (
            "grpo",
            json!({"diversity": {"novelty": {"combine": "multiply", "weight": 2.0}}}),
            "diversity.novelty.weight",
        ),
        (
            "grpo",
            json!({"diversity": {"max_at_k": {"k": 2}}, "advantages.baseline": "group"}),
            "advantages.baseline",
        ),
        ("grpo", json!({"diversity": {"max_at_k": {"k": 4}}}), "diversity.max_at_k.k"),
        (
            "grpo",
            json!({"diversity": {"mara": {"good": {"quantile": 0.5}}}, "kl.coef": 0.0}),
            "diversity.mara.beta",
        ),
        (
            "grpo",
            json!({"diversity": {"novelty": {}}, "samples_per_prompt": 1, "algorithm": "reinforce"}),
            "samples_per_prompt",
        ),
        ("grpo", json!({"entropy": {"coef": 2.0, "target": {"entropy": 0.5}}}), "entropy.coef"),
        ("online_dpo", json!({"loss": "simpo"}), "loss"),
        ("dpo", json!({"label_smoothing": 0.1}), "label_smoothing"),
        ("dpo", json!({"gamma_over_beta": 0.1}), "gamma_over_beta"),
        ("dpo", json!({"entropy_weight": 0.1}), "entropy_weight"),
        ("dpo", json!({"loss": "simpo"}), "reference"),
        ("dataset", json!({"source": pairs, "leaks": "remove"}), "leaks"),
        ("dataset", json!({"source": contrast, "leaks": "remove"}), "leaks"),
        ("judge", json!({"judge": "gold", "max_prompt_tokens": 5}), "max_prompt_tokens"),
        ("judge", json!({"judge": {"llm": model}}), "judge.llm.task"),
        ("evaluate", json!({"diversity": {"encoder": at("policy")}}), "diversity.encoder"),
        ("evaluate", json!({"diversity": {"nli": at("policy")}}), "diversity.nli"),
        ("evaluate", json!({"diversity": {"classifier": at("policy")}}), "diversity.classifier"),
        ("metric_validation", json!({"diversity.encoder": at("policy")}), "diversity.encoder"),
        ("evaluate", lone(json!({"max_prompt_tokens": 5})), "max_prompt_tokens"),
        ("evaluate", lone(json!({"preferences": at("preferences")})), "preferences"),
        ("evaluate", lone(json!({"judge": "reward_model"})), "judge"),
        ("evaluate", lone(json!({"judge": "gold", "methods.0.outputs": null})), "judge"),
        (
            "evaluate",
            lone(json!({"reward_model": at("reward"), "methods.0.outputs": null})),
            "reward_model",
        ),
        (
            "evaluate",
            lone(json!({"reference_policy": at("policy"), "methods.0.samples": null})),
            "reference_policy",
        ),
        (
            "evaluate",
            lone(json!({"diversity": {"metrics": ["vendi"]}, "methods.0.samples": null})),
            "diversity",
        ),
        (
            "evaluate",
            lone(json!({"diversity": {"metrics": ["ead_tokenizer"]}})),
            "diversity.metrics",
        ),
        ("evaluate", lone(json!({"quality": {"by": "reward_model", "good": 0.0}})), "quality.by"),
        (
            "evaluate",
            lone(json!({"quality": {"by": "gold", "good": 0.0}, "methods.0.samples": null})),
            "quality",
        ),
    ];
    let bases: BTreeMap<&str, Value> = [
        ("generate", training::generate(&others).base),
        ("sft", training::sft(&others).base),
        ("ppo", training::ppo(&others).base),
        ("grpo", training::grpo(&others).base),
        ("online_dpo", training::online_dpo(&others).base),
        ("dpo", training::dpo(&others).base),
        ("dataset", data::dataset(&others).base),
        ("judge", measuring::judge(&others).base),
        ("evaluate", measuring::evaluate(&others).base),
        ("metric_validation", measuring::metric_validation(&others).base),
    ]
    .into();
    for (kind, more, field) in cases {
        let found = problems(kind, with(&bases[kind], &more));
        let fields: Vec<&str> = found.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(fields, [field], "{kind}: {more}");
    }
}
