//! `dpo` and `reference_logprobs`: what they read of pairs, what they refuse, and the gradient over
//! several forward passes.

use posttrain::backend::Buffers;
use posttrain::backend::cpu::Cpu;
use posttrain::model::params::{HeadKind, Trainable};
use posttrain::model::score::response_logprobs;
use posttrain::model::weights::Model;
use posttrain::random::Stream;
use posttrain::rl::direct::{DirectLoss, Objective};
use posttrain::train::answers::Answered;
use posttrain::train::direct::{Pair, accumulate, logprobs, measure};
use posttrain::train::optimiser::TrainState;
use serde_json::{Map, Value, json};

use super::bench::{make, problems, refusal};
use super::fixture::{EOS, encode, fixture, jsonl, preference, spec, write};

fn with(mut config: Value, more: Value) -> Value {
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

fn dpo(more: Value) -> Value {
    let base = json!({"policy": fixture().at("policy"), "reference": fixture().at("logprobs"),
        "dataset": fixture().at("preferences"), "batch_size": 24, "beta": 0.1,
        "optimiser": {"learning_rate": 0.01}});
    with(base, more)
}

fn reference_logprobs(more: Value) -> Value {
    with(json!({"policy": fixture().at("policy"), "dataset": fixture().at("preferences")}), more)
}

/// A dataset with these preferences.
fn preferences(rows: impl IntoIterator<Item = Value>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("preferences.jsonl"), &jsonl(rows));
    folder
}

#[test]
fn reference_log_probabilities_are_sums_over_the_answer_and_eos() {
    let made = make("reference_logprobs", reference_logprobs(json!({"splits": ["test/id"]})));
    let rows: Vec<Value> = made.rows("test/id.jsonl");
    let checkpoint = posttrain::model::checkpoint::load(&fixture().path("policy")).unwrap();
    let model: Model<Cpu<f32>> =
        Model::upload(&Cpu::new(), checkpoint.spec, checkpoint.head, checkpoint.params);
    assert_eq!(rows.len(), 3);
    for (row, at) in rows.iter().zip(70..) {
        let pair = preference(at);
        assert_eq!(row["id"], pair["id"]);
        for side in ["chosen", "rejected"] {
            let text = |field: &str| encode(pair[field].as_str().unwrap());
            let tokens = [text("prompt"), text(side), vec![EOS]].concat();
            let from = [text("prompt").len()];
            let scored = response_logprobs(&Cpu::new(), &model, &[&tokens], &from, 1.0);
            let sum: f64 = scored[0].iter().map(|logprob| f64::from(*logprob)).sum();
            assert_eq!(row[side].as_f64().unwrap(), sum, "{side} of {}", row["id"]);
        }
    }
}

/// The policy is its own reference: every log-ratio is 0, to the bit.
#[test]
fn a_policy_begins_at_its_own_reference() {
    let reference = make("reference_logprobs", reference_logprobs(json!({})));
    for (loss, value) in
        [("sigmoid", std::f64::consts::LN_2), ("hinge", 1.0), ("ipo", 25.0), ("apo_zero", 1.0)]
    {
        let made = make("dpo", dpo(json!({"loss": loss, "reference": reference.reference()})));
        assert!((made.metric("loss")[0] - value).abs() < 1e-12, "{loss}");
        assert_eq!(made.metric("rewards/chosen"), [0.0]);
        assert_eq!(made.metric("rewards/rejected"), [0.0]);
        assert_eq!(made.metric("rewards/accuracies"), [0.5]);
        assert_eq!(made.metric("num_pairs"), [24.0]);
    }
}

#[test]
fn a_policy_learns_to_prefer_what_was_chosen() {
    let reference = make("reference_logprobs", reference_logprobs(json!({})));
    let more = json!({"reference": reference.reference(), "epochs": 20,
        "optimiser": {"learning_rate": 0.003}});
    let made = make("dpo", dpo(more));
    let (loss, accuracy) = (made.metric("loss"), made.metric("rewards/accuracies"));
    assert!(loss[19] < 0.7 * loss[0], "{loss:?}");
    assert!(accuracy[19] > 0.9, "{accuracy:?}");
}

/// A pair of texts of arbitrary tokens.
fn pair(at: u64) -> Pair {
    let mut draws = Stream::new(at, "pairs").sequence(0);
    let mut text =
        |length: usize| -> Vec<u32> { (0..length).map(|_| draws.below(90) as u32 + 2).collect() };
    let prompt = text(20 + at as usize % 7);
    let mut side = |length: usize| Answered {
        tokens: [prompt.clone(), text(length), vec![EOS]].concat(),
        prompt: prompt.len(),
    };
    Pair { id: format!("{at}"), sides: [side(9 + at as usize % 50), side(58 - at as usize % 50)] }
}

fn loss(objective: Objective) -> DirectLoss {
    DirectLoss {
        objective,
        beta: 0.1,
        smoothing: 0.0,
        gamma_over_beta: 0.5,
        entropy: 0.0,
        likelihood: 0.3,
    }
}

/// The gradient of a batch that takes several forward passes is the mean of the gradients of its
/// pairs, each computed alone, and so are the figures.
#[test]
fn a_batch_of_several_passes_has_the_mean_gradient_of_its_pairs() {
    const PAIRS: usize = 40;
    let b = Cpu::<f64>::new();
    let checkpoint = posttrain::model::checkpoint::load(&fixture().path("policy")).unwrap();
    let model = Model::upload(&b, checkpoint.spec, checkpoint.head, checkpoint.params);
    let pairs: Vec<Pair> = (0..PAIRS as u64).map(pair).collect();
    let tokens: usize = pairs.iter().map(Pair::tokens).sum();
    assert!(tokens > 2 * posttrain::model::batch::MICRO_BATCH_TOKENS, "{tokens} tokens");
    let reference: Vec<[f64; 2]> =
        (0..PAIRS).map(|at| [-90.0 - at as f64, -100.0 + at as f64]).collect();
    let gradient = |batch: &[&Pair], reference: &[[f64; 2]], loss: &DirectLoss| {
        let mut state = TrainState::new(&b, &model, Trainable::ALL).unwrap();
        let metrics = accumulate(&b, &mut state, batch, reference, loss);
        let tensors = state.gradients.total(&b).iter().flatten();
        let numbers: Vec<Vec<f64>> = tensors.map(|tensor| b.download_f64(tensor)).collect();
        (numbers.concat(), metrics)
    };
    for objective in [Objective::Sigmoid, Objective::Ipo, Objective::Orpo] {
        let loss = loss(objective);
        let all: Vec<&Pair> = pairs.iter().collect();
        let (whole, metrics) = gradient(&all, &reference, &loss);
        let (mut sum, mut loss_sum) = (vec![0.0f64; whole.len()], 0.0f64);
        for (pair, reference) in pairs.iter().zip(&reference) {
            let (own, metrics) = gradient(&[pair], &[*reference], &loss);
            sum.iter_mut().zip(own).for_each(|(sum, own)| *sum += own / PAIRS as f64);
            loss_sum += metrics[0].1 / PAIRS as f64;
        }
        let most = sum.iter().fold(0.0f64, |most, x| most.max(x.abs()));
        assert!(most > 1e-3, "{objective:?}: {most}");
        for (whole, sum) in whole.iter().zip(&sum) {
            assert!((whole - sum).abs() < 1e-12 * most.max(1.0), "{objective:?}: {whole}, {sum}");
        }
        assert!((metrics[0].1 - loss_sum).abs() < 1e-12 * loss_sum.abs(), "{objective:?}");
        let figures = measure(&b, &model, &pairs, &reference, &loss);
        let found: Map<String, Value> =
            metrics.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        assert_eq!(json!(figures[0].1), found["loss"], "{objective:?}");
        assert_eq!(json!(figures[1].1), found["rewards/accuracies"], "{objective:?}");
    }
}

/// The log-probabilities of a pair are those that it has alone, bit for bit.
#[test]
fn a_pair_has_the_log_probabilities_that_it_has_alone() {
    let b = Cpu::<f32>::new();
    let params = posttrain::model::checkpoint::load(&fixture().path("policy")).unwrap().params;
    let model = Model::upload(&b, spec(), HeadKind::Language, params);
    let pairs: Vec<Pair> = (0..40).map(pair).collect();
    let together = logprobs(&b, &model, &pairs);
    for (pair, together) in pairs.iter().zip(together) {
        assert_eq!(logprobs(&b, &model, std::slice::from_ref(pair)), [together], "{}", pair.id);
    }
}

#[test]
fn what_a_loss_needs_is_asked_for_and_what_it_does_not_use_is_refused() {
    let none = json!(null);
    for (more, field, words) in [
        (json!({"reference": none}), "reference", "name a stage `reference_logprobs`"),
        (json!({"loss": "orpo"}), "reference", "`loss` has no reference"),
        (json!({"loss": "cdpo"}), "label_smoothing", "give a value"),
        (json!({"label_smoothing": 0.1}), "label_smoothing", "remove it"),
        (json!({"loss": "robust", "label_smoothing": 0.5}), "label_smoothing", "below 0.5"),
        (json!({"loss": "cdpo", "label_smoothing": 0.0}), "label_smoothing", "above 0"),
        (json!({"loss": "decoupled"}), "entropy_weight", "give a value"),
        (json!({"entropy_weight": 0.1}), "entropy_weight", "remove it"),
        (json!({"loss": "decoupled", "entropy_weight": -1.0}), "entropy_weight", "above 0"),
        (json!({"gamma_over_beta": 0.1}), "gamma_over_beta", "remove it"),
        (
            json!({"loss": "simpo", "reference": none, "gamma_over_beta": -0.1}),
            "gamma_over_beta",
            "0 or more",
        ),
        (json!({"beta": 0.0}), "beta", "above 0"),
        (json!({"sft_weight": -0.1}), "sft_weight", "0 or more"),
        (json!({"batch_size": 0}), "batch_size", "expected"),
        (json!({"epochs": 0}), "epochs", "expected"),
        (json!({"frozen": 1.5}), "frozen", "expected"),
        (json!({"max_prompt_tokens": 0}), "max_prompt_tokens", "expected"),
        (
            json!({"validation": {"split": "preferences", "every": 1}}),
            "validation.split",
            "preferences",
        ),
        (json!({"optimiser": {"learning_rate": -1.0}}), "optimiser.learning_rate", "expected"),
    ] {
        let found = problems("dpo", dpo(more.clone()));
        assert_eq!(found.len(), 1, "{more}: {found:?}");
        assert_eq!(found[0].field, field, "{more}");
        assert!(found[0].message.contains(words), "{more}: {}", found[0].message);
    }
    for (more, field) in [
        (json!({"splits": []}), "splits"),
        (json!({"splits": ["preferences", "preferences"]}), "splits"),
        (json!({"max_prompt_tokens": 0}), "max_prompt_tokens"),
    ] {
        let found = problems("reference_logprobs", reference_logprobs(more.clone()));
        assert_eq!(found.len(), 1, "{more}: {found:?}");
        assert_eq!(found[0].field, field, "{more}");
    }
}

#[test]
fn a_reference_of_other_pairs_is_refused() {
    let says = |more: Value, words: &[&str]| {
        let message = refusal("dpo", dpo(more));
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    };
    let other = preferences((20..24).map(|at| {
        let mut row = preference(at);
        row["id"] = json!(format!("other {at}"));
        row
    }));
    says(
        json!({"dataset": {"$path": other.path()}}),
        &["row `other 20` of split `preferences`", "are not there", "same dataset"],
    );
    let edited = preferences((20..24).map(|at| {
        let mut row = preference(at);
        row["rejected"] = json!(" no .");
        row
    }));
    says(json!({"dataset": {"$path": edited.path()}}), &["row `20/1-0`", "are of other tokens"]);
    says(json!({"max_prompt_tokens": 5}), &["are of other tokens", "`max_prompt_tokens`"]);
    let one = make("reference_logprobs", reference_logprobs(json!({"splits": ["test/id"]})));
    says(
        json!({"reference": one.reference()}),
        &["no split `preferences`", "under `splits` of the stage `reference_logprobs`"],
    );
    says(json!({"reference": fixture().at("logprobs"), "split": "pairs"}), &["pairs", "split"]);
    let message = refusal("reference_logprobs", reference_logprobs(json!({"splits": ["pairs"]})));
    assert!(message.contains("pairs"), "{message}");
}

/// A policy whose tokenizer gives the same texts other tokens.
#[test]
fn a_reference_by_another_tokenizer_is_refused() {
    let stranger = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer_config.json"] {
        std::fs::copy(fixture().path("policy").join(name), stranger.path().join(name)).unwrap();
    }
    let tokens = std::fs::read_to_string(fixture().path("policy/tokenizer.json")).unwrap();
    let swapped = tokens
        .replace("\"a\":", "\"<a>\":")
        .replace("\"e\":", "\"a\":")
        .replace("\"<a>\":", "\"e\":");
    assert_ne!(tokens, swapped);
    write(&stranger.path().join("tokenizer.json"), &swapped);
    let message = refusal("dpo", dpo(json!({"policy": {"$path": stranger.path()}})));
    assert!(message.contains("are of other tokens") && message.contains("tokenizer"), "{message}");
}

#[test]
fn rows_that_no_loss_can_read_are_refused() {
    let long = preferences([json!({"id": "long", "prompt": "p".repeat(120), "chosen": " c",
        "rejected": " rejected"})]);
    let nothing =
        preferences([json!({"id": "void", "prompt": "", "chosen": "", "rejected": " r"})]);
    for (kind, base) in
        [("dpo", dpo(json!({}))), ("reference_logprobs", reference_logprobs(json!({})))]
    {
        let at = |folder: &tempfile::TempDir| json!({"dataset": {"$path": folder.path()}});
        let message = refusal(kind, with(base.clone(), at(&long)));
        assert!(message.contains("long") && message.contains("128"), "{kind}: {message}");
        let message = refusal(kind, with(base, at(&nothing)));
        let words = ["void", "`preferences`", "prompt and `chosen` are empty"];
        assert!(words.iter().all(|word| message.contains(word)), "{kind}: {message}");
    }
}
