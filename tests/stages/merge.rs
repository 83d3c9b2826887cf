//! `merge`: the weights are those of the formulas, what cannot be merged is refused, and what was
//! made serves as a policy.

use posttrain::data::lineage::Lineage;
use posttrain::data::rows::Example;
use posttrain::model::arch::{Origin, SpecialTokens};
use posttrain::model::checkpoint::{self, Checkpoint};
use posttrain::model::params::{HeadKind, Params};
use posttrain::model::spec::Spec;
use serde_json::{Value, json};

use super::bench::{make, problems, refusal};
use super::fixture::{EOS, example, fixture, jsonl, spec, write};

fn with(mut config: Value, more: Value) -> Value {
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

fn part(model: Value, weight: f64) -> Value {
    json!({"model": model, "weight": weight})
}

/// A merge of two policies of the fixture with these weights.
fn merge(first: f64, second: f64, more: Value) -> Value {
    let at = |name| fixture().at(name);
    with(json!({"models": [part(at("policy"), first), part(at("other"), second)]}), more)
}

fn params(name: &str) -> Params<Vec<f32>> {
    checkpoint::load(&fixture().path(name)).unwrap().params
}

/// Each tensor of the three policies, in float64.
fn tensors() -> Vec<[Vec<f64>; 3]> {
    let wide = |tensor: &Vec<f32>| tensor.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
    let [one, two, base] = ["policy", "other", "measured/a"].map(params);
    let all = one.iter().zip(two.iter()).zip(base.iter());
    all.map(|((one, two), base)| [wide(one), wide(two), wide(base)]).collect()
}

/// Compares what was made with a formula of a tensor of three models; 0 asks for the same bits.
fn check(config: Value, within: f32, formula: impl Fn(&[Vec<f64>; 3]) -> Vec<f64>) {
    let made = make("merge", config).checkpoint();
    for (found, all) in made.params.iter().zip(tensors()) {
        for (found, right) in found.iter().zip(formula(&all)) {
            assert!((found - right as f32).abs() <= within, "{found} for {right}");
        }
    }
}

#[test]
fn weights_are_added_up() {
    check(merge(0.25, 0.75, json!({})), 0.0, |[one, two, _]| {
        one.iter().zip(two).map(|(a, b)| 0.25 * a + 0.75 * b).collect()
    });
}

#[test]
fn task_vectors_are_added_to_the_base() {
    let base = json!({"base": fixture().at("measured/a")});
    check(merge(1.5, -0.5, base), 0.0, |[one, two, base]| {
        let of = |at: usize| base[at] + 1.5 * (one[at] - base[at]) - 0.5 * (two[at] - base[at]);
        (0..base.len()).map(of).collect()
    });
    // One model, further from the base than it was trained.
    let at = |name| fixture().at(name);
    let config = json!({"models": [part(at("policy"), 2.0)], "base": at("measured/a")});
    check(config, 0.0, |[one, _, base]| {
        one.iter().zip(base).map(|(one, base)| base + 2.0 * (one - base)).collect()
    });
}

/// The angle by the arc cosine, as WARP has it; the stage takes another formula.
#[test]
fn task_vectors_are_interpolated_along_an_arc() {
    let more = json!({"base": fixture().at("measured/a"), "how": "slerp"});
    check(merge(0.7, 0.3, more), 1e-6, |[one, two, base]| {
        let delta = |of: &[f64]| of.iter().zip(base).map(|(x, base)| x - base).collect();
        let (one, two): (Vec<f64>, Vec<f64>) = (delta(one), delta(two));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let angle = (dot(&one, &two) / (dot(&one, &one) * dot(&two, &two)).sqrt()).acos();
        let factor = |weight: f64| (weight * angle).sin() / angle.sin();
        let of = |at: usize| base[at] + factor(0.7) * one[at] + factor(0.3) * two[at];
        (0..base.len()).map(of).collect()
    });
}

/// Also of a model whose head is not the embedding, which is one tensor more.
#[test]
fn models_that_are_one_give_its_file() {
    let untied = folder("untied", Spec { tied: false, ..spec() }, HeadKind::Language, 0.5);
    for model in [fixture().at("policy"), json!({"$path": untied.path()})] {
        let file = std::path::Path::new(model["$path"].as_str().unwrap()).join("model.safetensors");
        let file = std::fs::read(file).unwrap();
        let models = json!({"models": [part(model.clone(), 0.3), part(model.clone(), 0.7)]});
        let task = json!({"models": [part(model.clone(), 1.7)], "base": model});
        let slerp = with(models.clone(), json!({"base": model, "how": "slerp"}));
        for config in [models, task, slerp] {
            assert!(make("merge", config).bytes("model.safetensors") == file);
        }
    }
}

#[test]
fn a_merged_policy_serves_as_any_other() {
    let merged = make("merge", merge(0.5, 0.5, json!({})));
    let at = |name| fixture().at(name);
    let file = |name: &str| std::fs::read(fixture().path("policy").join(name)).unwrap();
    assert_eq!(merged.bytes("tokenizer.json"), file("tokenizer.json"));
    assert_eq!(merged.bytes("config.json"), file("config.json"));
    let policy = merged.reference();
    let sampling = json!({"max_new_tokens": 4});
    make("generate", json!({"policy": policy, "dataset": at("dataset"), "sampling": sampling}));
    let optimiser = json!({"learning_rate": 0.01});
    let ppo = json!({"policy": policy, "reward_model": at("reward"), "dataset": at("dataset"),
        "steps": 1, "batch_size": 4, "max_new_tokens": 4, "kl": {"coef": 0.05},
        "optimiser": optimiser});
    make("ppo", ppo);
    let again = json!({"models": [part(policy, 0.5), part(at("policy"), 0.5)]});
    make("merge", again);
}

#[test]
fn a_merged_policy_knows_what_all_its_models_learned() {
    let own = fixture();
    let optimiser = json!({"learning_rate": 0.01});
    let trained = |split: &str| {
        make(
            "sft",
            json!({"policy": own.at("policy"), "dataset": own.at("dataset"), "split": split,
                "batch_size": 4, "optimiser": optimiser}),
        )
    };
    let [sft, notes, prompts] = ["sft", "notes", "prompts"].map(trained);
    let models = json!([part(sft.reference(), 0.5), part(notes.reference(), 0.5)]);
    let without = make("merge", json!({"models": models}));
    let with_base = make("merge", json!({"models": models, "base": prompts.reference()}));
    let saw = |made: &super::bench::Made, rows: std::ops::Range<usize>| {
        let rows: Vec<Example> =
            rows.map(|at| serde_json::from_value(example(at)).unwrap()).collect();
        let saw = Lineage::read(&made.path("")).unwrap().saw(&rows);
        assert!(saw.iter().all(|seen| *seen == saw[0]), "{saw:?}");
        saw[0]
    };
    for (made, base) in [(&without, false), (&with_base, true)] {
        assert!(saw(made, 20..32) && saw(made, 0..6));
        assert_eq!(saw(made, 50..59), base);
        assert!(!saw(made, 70..75));
        let lineage = Lineage::read(&made.path("")).unwrap();
        assert!(lineage.unknown, "the fixture's policy came from outside");
    }
}

#[test]
fn values_out_of_range_are_refused() {
    let at = |name| fixture().at(name);
    let base = || json!({"base": at("measured/a")});
    let slerp = || json!({"base": at("measured/a"), "how": "slerp"});
    let one =
        |weight: f64, more: Value| with(json!({"models": [part(at("policy"), weight)]}), more);
    for (config, field, words) in [
        (merge(0.5, 0.6, json!({})), "models", "sum to 1 to within 1e-9, or a `base`"),
        (merge(0.333, 0.666, json!({})), "models", "found 0.999"),
        (one(1.0, json!({})), "models", "at least 2"),
        (json!({"models": [], "base": at("measured/a")}), "models", "at least 1"),
        (merge(0.0, 1.0, json!({})), "models.0.weight", "other than 0"),
        (one(1.0, slerp()), "models", "`how: slerp` expected two, found 1"),
        (merge(0.5, 0.6, slerp()), "models", "sum to 1 to within 1e-9, found"),
        (merge(0.5, 0.5, json!({"how": "slerp"})), "base", "`how: slerp` needs it"),
    ] {
        let found = problems("merge", config.clone());
        assert_eq!(found.len(), 1, "{config}: {found:?}");
        assert_eq!(found[0].field, field, "{config}");
        assert!(found[0].message.contains(words), "{config}: {}", found[0].message);
    }
    for config in [merge(1.5, -0.5, json!({})), merge(0.2, 0.1, base()), one(3.0, base())] {
        assert!(problems("merge", config.clone()).is_empty(), "{config}");
    }
}

/// A model of this form with the fixture's tokenizer, whose numbers are all `value`.
fn folder(name: &str, spec: Spec, head: HeadKind, value: f32) -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix(name).tempdir().unwrap();
    let special = SpecialTokens { bos: None, eos: Some(EOS), pad: Some(0) };
    let params = Params::slots(&spec, head).map(|slot| vec![value; slot.count()]);
    let model = Checkpoint { origin: Origin::new(&spec, special), spec, head, params };
    checkpoint::save(folder.path(), &model).unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(fixture().path("policy").join(file), folder.path().join(file)).unwrap();
    }
    folder
}

#[test]
fn models_that_are_not_alike_are_refused() {
    let says = |second: &tempfile::TempDir, words: &[&str]| {
        let second = part(json!({"$path": second.path()}), 0.5);
        let models = json!([part(fixture().at("policy"), 0.5), second]);
        let message = refusal("merge", json!({"models": models}));
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
        assert!(message.contains("hint: "), "{message}");
    };
    let model = |spec: Spec| folder("model", spec, HeadKind::Language, 0.5);
    says(
        &model(Spec { feed_forward_width: 20, ..spec() }),
        &["policy", "`layers.0.feed_forward.gate` is [24, 16] in the one, [20, 16] in the other"],
    );
    says(
        &model(Spec { layers: 6, ..spec() }),
        &["`layers.5.", "is not there in the one, [16] in the other"],
    );
    says(&model(Spec { tied: false, ..spec() }), &["`lm_head", "is not there in the one"]);
    says(&model(Spec { context: 64, ..spec() }), &["config.json describe other computations"]);
    says(&folder("scores", spec(), HeadKind::Reward, 0.5), &["scores", "reward models are not"]);
    let stranger = model(spec());
    let path = stranger.path().join("tokenizer.json");
    let tokens = std::fs::read_to_string(&path).unwrap();
    let swapped = tokens
        .replace("\"a\":", "\"<a>\":")
        .replace("\"e\":", "\"a\":")
        .replace("\"<a>\":", "\"e\":");
    write(&path, &swapped);
    says(&stranger, &["have different tokenizers"]);
}

#[test]
fn numbers_that_are_not_finite_are_refused_by_the_name_of_their_tensor() {
    let huge = folder("huge", spec(), HeadKind::Language, 3e38);
    let config = json!({"models": [part(json!({"$path": huge.path()}), 2.0)],
        "base": fixture().at("policy")});
    let message = refusal("merge", config);
    assert!(message.contains("`embedding") && message.contains("smaller weights"), "{message}");
}

/// `generation_config.json` goes with the tokenizer, from the base where there is one.
#[test]
fn the_way_to_generate_is_the_bases() {
    let [one, base] = [0.5, 0.25].map(|value| folder("m", spec(), HeadKind::Language, value));
    write(&base.path().join("generation_config.json"), "{\"eos_token_id\": [1]}");
    write(&one.path().join("rows.jsonl"), &jsonl([json!({})]));
    let at = |folder: &tempfile::TempDir| json!({"$path": folder.path()});
    let config = json!({"models": [part(at(&one), 2.0)], "base": at(&base)});
    let made = make("merge", config);
    assert_eq!(made.text("generation_config.json"), "{\"eos_token_id\": [1]}");
    assert!(!made.path("rows.jsonl").exists());
}
