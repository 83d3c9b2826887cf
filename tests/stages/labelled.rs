//! `kto`, and what `reference_logprobs` makes for it: mismatched rows, answers that are no pairs,
//! what is refused, and the gradient over several forward passes.

use posttrain::backend::cpu::Cpu;
use posttrain::backend::{Backend, Buffers};
use posttrain::data::tokenised::{Limits, MODEL};
use posttrain::model::params::Trainable;
use posttrain::model::score::response_logprobs;
use posttrain::model::weights::Model;
use posttrain::random::Stream;
use posttrain::rl::Metrics;
use posttrain::rl::kto::KtoLoss;
use posttrain::stages::reading::{Part, Reading, Splits};
use posttrain::stages::source::Source;
use posttrain::train::answers::Answered;
use posttrain::train::kto::{LabelledRow, Referenced, accumulate, measure};
use posttrain::train::optimiser::TrainState;
use serde_json::{Value, json};

use super::bench::{make, problems, refusal};
use super::fixture::{EOS, encode, example, fixture, jsonl, preference, write};

fn with(mut config: Value, more: Value) -> Value {
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

fn kto(more: Value) -> Value {
    let base = json!({"policy": fixture().at("policy"), "reference": fixture().at("kto_logprobs"),
        "dataset": fixture().at("preferences"), "batch_size": 48, "beta": 0.1,
        "optimiser": {"learning_rate": 0.01}});
    with(base, more)
}

fn reference_logprobs(more: Value) -> Value {
    let base = json!({"policy": fixture().at("policy"), "dataset": fixture().at("preferences"),
        "mismatched": true});
    with(base, more)
}

/// A dataset with one split.
fn dataset(split: &str, rows: impl IntoIterator<Item = Value>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join(format!("{split}.jsonl")), &jsonl(rows));
    folder
}

fn model<B: Backend>(b: &B) -> Model<B> {
    let checkpoint = posttrain::model::checkpoint::load(&fixture().path("policy")).unwrap();
    Model::upload(b, checkpoint.spec, checkpoint.head, checkpoint.params)
}

/// The log-probability of an answer after a prompt, under the fixture's policy.
fn logprob(prompt: &str, answer: &str) -> f64 {
    let b = Cpu::<f32>::new();
    let (prompt, answer) = (encode(prompt), encode(answer));
    let (from, tokens) = ([prompt.len()], [prompt, answer, vec![EOS]].concat());
    let scored = response_logprobs(&b, &model(&b), &[&tokens], &from, 1.0);
    scored[0].iter().map(|logprob| f64::from(*logprob)).sum()
}

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap()
}

/// Rows 70 to 72 have three prompts: the row before each has another one.
#[test]
fn mismatched_rows_are_prompts_with_the_answer_of_the_row_before() {
    let made = make("reference_logprobs", reference_logprobs(json!({"splits": ["test/id"]})));
    let rows: Vec<Value> = made.rows("test/id.jsonl");
    for (at, before) in [(70, 72), (71, 70), (72, 71)] {
        let (row, own, other) = (&rows[at - 70], preference(at), preference(before));
        for (side, column) in ["chosen", "rejected"].into_iter().enumerate() {
            let expected = logprob(text(&own, "prompt"), text(&other, column));
            assert_eq!(row["mismatched"]["logprobs"][side].as_f64(), Some(expected), "{at}");
        }
    }
    let config = json!({"dataset": fixture().at("dataset"), "splits": ["compare"]});
    let made = make("reference_logprobs", reference_logprobs(config.clone()));
    let rows: Vec<Value> = made.rows("compare.jsonl");
    let (own, other) = (example(40), example(43));
    assert_eq!(
        rows[0]["completion"].as_f64(),
        Some(logprob(text(&own, "prompt"), text(&own, "completion")))
    );
    let expected = logprob(text(&own, "prompt"), text(&other, "completion"));
    assert_eq!(rows[0]["mismatched"]["logprobs"], json!([expected]));
    let without = with(reference_logprobs(config), json!({"mismatched": false}));
    let without: Vec<Value> = make("reference_logprobs", without).rows("compare.jsonl");
    assert_eq!(without[0]["completion"], rows[0]["completion"]);
    assert!(without[0].get("mismatched").is_none());
}

/// `dpo` reads an artefact with mismatched rows as one without.
#[test]
fn dpo_reads_the_same_numbers_with_and_without_mismatched_rows() {
    let policies = [true, false].map(|mismatched| {
        let reference =
            make("reference_logprobs", reference_logprobs(json!({"mismatched": mismatched})));
        let config = json!({"policy": fixture().at("policy"), "reference": reference.reference(),
            "dataset": fixture().at("preferences"), "batch_size": 8, "beta": 0.1,
            "optimiser": {"learning_rate": 0.01}});
        make("dpo", config).bytes("model.safetensors")
    });
    assert!(policies[0] == policies[1]);
}

/// The policy is its own reference: every log-ratio is 0, to the bit.
#[test]
fn a_policy_begins_at_its_own_reference() {
    let pairs = make("reference_logprobs", reference_logprobs(json!({})));
    let splits = json!({"dataset": fixture().at("dataset"), "splits": ["sft", "prompts"]});
    let single = make("reference_logprobs", reference_logprobs(splits));
    let of_single = json!({"reference": single.reference(), "dataset": fixture().at("dataset"),
        "desirable": "sft", "undesirable": "prompts", "desirable_weight": 2.0});
    for (config, loss, counts) in [
        (json!({"reference": pairs.reference()}), 0.5, [24.0, 24.0]),
        (json!({"reference": pairs.reference(), "z0": "none"}), 0.5, [24.0, 24.0]),
        // 12 desirable rows of loss 1, 9 undesirable ones of loss 0.5.
        (of_single, 16.5 / 21.0, [12.0, 9.0]),
    ] {
        let made = make("kto", kto(config));
        assert!((made.metric("loss")[0] - loss).abs() < 1e-12, "{}", made.metric("loss")[0]);
        for name in ["rewards/chosen", "rewards/rejected", "rewards/margins", "kl"] {
            assert_eq!(made.metric(name), [0.0], "{name}");
        }
        let found = ["num_desirable", "num_undesirable"].map(|name| made.metric(name)[0]);
        assert_eq!(found, counts);
    }
}

#[test]
fn a_policy_learns_what_is_desirable() {
    let reference = make("reference_logprobs", reference_logprobs(json!({})));
    let more = json!({"reference": reference.reference(), "epochs": 20,
        "optimiser": {"learning_rate": 0.003}});
    let made = make("kto", kto(more));
    let (loss, margins) = (made.metric("loss"), made.metric("rewards/margins"));
    assert!(loss[19] < 0.8 * loss[0], "{loss:?}");
    assert!(margins[19] > 0.5, "{margins:?}");
}

/// A prompt of arbitrary tokens with an answer, and what a reference may say of it.
fn referenced(at: u64, purpose: &str) -> Referenced {
    let mut draws = Stream::new(at, purpose).sequence(0);
    let mut text =
        |length: usize| -> Vec<u32> { (0..length).map(|_| draws.below(90) as u32 + 2).collect() };
    let (prompt, answer) = (text(20 + at as usize % 7), text(9 + at as usize % 50));
    let reference = -5.0 * answer.len() as f64 - (at % 11) as f64;
    let from = prompt.len();
    let answer = Answered { tokens: [prompt, answer, vec![EOS]].concat(), prompt: from };
    Referenced { answer, reference }
}

fn row(at: u64) -> LabelledRow {
    let mismatched = Some(referenced(at, "mismatched"));
    LabelledRow { own: referenced(at, "own"), mismatched, desirable: !at.is_multiple_of(3) }
}

fn value(metrics: &Metrics, name: &str) -> f64 {
    metrics.iter().find(|(of, _)| *of == name).unwrap().1
}

const LOSS: KtoLoss = KtoLoss { beta: 0.02, desirable_weight: 1.5, undesirable_weight: 0.7 };

/// The gradient of a batch that takes several forward passes is the mean of the gradients of its
/// rows, each computed alone with the reference point of the batch as part of its reference; in
/// another order it is the same, and so are the figures.
#[test]
fn a_batch_of_several_passes_has_the_mean_gradient_of_its_rows_in_any_order() {
    const ROWS: usize = 90;
    let b = Cpu::<f64>::new();
    let model = model(&b);
    let rows: Vec<LabelledRow> = (0..ROWS as u64).map(row).collect();
    let tokens: usize = rows.iter().map(|row| row.own.answer.tokens.len()).sum();
    assert!(tokens > 2 * posttrain::model::batch::MICRO_BATCH_TOKENS, "{tokens} tokens");
    let gradient = |batch: &[&LabelledRow]| {
        let mut state = TrainState::new(&b, &model, Trainable::ALL).unwrap();
        let metrics = accumulate(&b, &mut state, batch, &LOSS);
        let tensors = state.gradients.total(&b).iter().flatten();
        let numbers: Vec<Vec<f64>> = tensors.map(|tensor| b.download_f64(tensor)).collect();
        (numbers.concat(), metrics)
    };
    let (whole, metrics) = gradient(&rows.iter().collect::<Vec<_>>());
    let z0 = value(&metrics, "kl");
    assert!(z0 > 1.0, "{z0}");
    let (mut sum, mut losses) = (vec![0.0f64; whole.len()], 0.0f64);
    for row in &rows {
        let mut alone = LabelledRow { mismatched: None, ..row.clone() };
        alone.own.reference += z0;
        let (own, metrics) = gradient(&[&alone]);
        sum.iter_mut().zip(own).for_each(|(sum, own)| *sum += own / ROWS as f64);
        losses += value(&metrics, "loss") / ROWS as f64;
    }
    let (reversed, of_reversed) = gradient(&rows.iter().rev().collect::<Vec<_>>());
    let most = sum.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    assert!(most > 1e-3, "{most}");
    for ((whole, sum), reversed) in whole.iter().zip(&sum).zip(&reversed) {
        assert!((whole - sum).abs() < 1e-12 * most.max(1.0), "{whole}, {sum}");
        assert!((whole - reversed).abs() < 1e-12 * most.max(1.0), "{whole}, {reversed}");
    }
    assert!((value(&metrics, "loss") - losses).abs() < 1e-12);
    for ((name, one), (_, other)) in metrics.iter().zip(of_reversed) {
        assert!((one - other).abs() < 1e-11 * one.abs().max(1.0), "{name}: {one} {other}");
    }
}

/// Pairs, desirable and undesirable in turn: the loss is that of training, to the bit; the accuracy
/// is counted here.
#[test]
fn validation_has_the_loss_of_training_and_the_share_of_pairs_in_order() {
    let b = Cpu::<f64>::new();
    let model = model(&b);
    let rows: Vec<LabelledRow> =
        (0..12).map(|at| LabelledRow { desirable: at % 2 == 0, ..row(at) }).collect();
    let mut state = TrainState::new(&b, &model, Trainable::ALL).unwrap();
    let trained = accumulate(&b, &mut state, &rows.iter().collect::<Vec<_>>(), &LOSS);
    let measured = measure(&b, &model, &rows, &LOSS);
    assert_eq!(value(&measured, "validation/loss"), value(&trained, "loss"));
    let ratios: Vec<f64> = rows
        .iter()
        .map(|row| {
            let Answered { tokens, prompt } = &row.own.answer;
            let scored = response_logprobs(&b, &model, &[tokens], &[*prompt], 1.0);
            scored[0].iter().map(|x| f64::from(*x)).sum::<f64>() - row.own.reference
        })
        .collect();
    let correct = ratios.chunks(2).filter(|pair| pair[0] > pair[1]).count();
    assert!(correct > 0 && correct < 6, "{ratios:?}");
    assert_eq!(value(&measured, "validation/accuracy"), correct as f64 / 6.0);
}

#[test]
fn values_out_of_range_are_refused() {
    for (more, field, words) in [
        (json!({"beta": 0.0}), "beta", "above 0"),
        (json!({"desirable_weight": 0.0}), "desirable_weight", "above 0"),
        (json!({"undesirable_weight": -1.0}), "undesirable_weight", "above 0"),
        (json!({"batch_size": 0}), "batch_size", "expected"),
        (json!({"epochs": 0}), "epochs", "expected"),
        (json!({"frozen": 1.5}), "frozen", "expected"),
        (json!({"max_prompt_tokens": 0}), "max_prompt_tokens", "expected"),
        (
            json!({"desirable": "good", "undesirable": "bad",
                "validation": {"split": "bad", "every": 1}}),
            "validation.split",
            "bad",
        ),
        (json!({"optimiser": {"learning_rate": -1.0}}), "optimiser.learning_rate", "expected"),
    ] {
        let found = problems("kto", kto(more.clone()));
        assert_eq!(found.len(), 1, "{more}: {found:?}");
        assert_eq!(found[0].field, field, "{more}");
        assert!(found[0].message.contains(words), "{more}: {}", found[0].message);
    }
}

#[test]
fn rows_without_what_the_loss_needs_are_refused() {
    let says = |kind: &str, config: Value, words: &[&str]| {
        let message = refusal(kind, config);
        assert!(words.iter().all(|word| message.contains(word)), "{kind}: {message}");
        assert!(message.contains("hint: "), "{message}");
    };
    let at = |folder: &tempfile::TempDir| json!({"$path": folder.path()});
    // A reference without mismatched rows serves a fixed reference point alone.
    let plain = json!({"reference": fixture().at("logprobs")});
    says("kto", kto(plain.clone()), &["row `20/1-0`", "no mismatched rows", "mismatched: true"]);
    make("kto", kto(with(plain, json!({"z0": "none"}))));
    // The same rows in another order have other mismatched rows.
    let other = dataset("preferences", [21, 20, 22].map(preference));
    says("kto", kto(json!({"dataset": at(&other)})), &["mismatched rows of other tokens"]);
    make("kto", kto(json!({"dataset": at(&other), "z0": "none"})));
    let both = json!({"dataset": fixture().at("dataset"), "desirable": "sft",
        "undesirable": "sft"});
    says("kto", kto(both), &["`sft` has prompts with completions", "cannot both be it"]);
    let splits =
        json!({"dataset": fixture().at("dataset"), "splits": ["prompts", "compare", "sft"]});
    let reference = make("reference_logprobs", reference_logprobs(splits));
    let unpaired = json!({"validation": {"split": "sft", "every": 1},
        "dataset": fixture().at("dataset"), "desirable": "prompts", "undesirable": "compare",
        "reference": reference.reference()});
    let message = refusal("kto", kto(unpaired));
    assert!(message.contains("sft.jsonl") && message.contains("chosen"), "{message}");
    let messages = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]);
    let chats = dataset("preferences", [json!({"id": "1", "messages": messages})]);
    for (kind, config) in
        [("kto", kto(json!({}))), ("reference_logprobs", reference_logprobs(json!({})))]
    {
        let config = with(config, json!({"dataset": at(&chats)}));
        says(kind, config, &["`preferences` has conversations", "`chat`"]);
    }
    let one_prompt = dataset("preferences", [preference(20), preference(20)]);
    for (kind, config) in
        [("kto", kto(json!({}))), ("reference_logprobs", reference_logprobs(json!({})))]
    {
        let config = with(config, json!({"dataset": at(&one_prompt)}));
        says(kind, config, &["row 20/1-0", "has another prompt", "z0: none"]);
    }
    let long = dataset(
        "sft",
        [json!({"id": "long", "prompt": "p".repeat(120), "completion": " completion"})],
    );
    let config = json!({"dataset": at(&long), "splits": ["sft"]});
    says("reference_logprobs", reference_logprobs(config), &["long", "128"]);
    let void = dataset("sft", [json!({"id": "void", "prompt": "", "completion": ""})]);
    let config = json!({"dataset": at(&void), "splits": ["sft"]});
    says(
        "reference_logprobs",
        reference_logprobs(config),
        &["void", "prompt and `completion` are empty"],
    );
}

/// What the run checks before anything trains says what the stages say.
#[test]
fn rows_that_cannot_be_read_are_found_before_anything_trains() {
    let tokenizer = fixture().path("tokenizer");
    let found = |folder: &tempfile::TempDir, split: &str| -> Vec<String> {
        let dataset = Source::Folder(folder.path().to_owned());
        let reading = Reading {
            dataset,
            splits: Splits::Named(vec![split.to_owned()]),
            rows: None,
            tokenizer: Source::Folder(tokenizer.clone()),
            limits: Limits::of_stage(128, None),
            reader: MODEL,
            part: Part::Answers,
        };
        let problems = reading.problems(folder.path(), &tokenizer);
        problems.iter().map(|error| format!("{error:#}")).collect()
    };
    let pairs = dataset("preferences", [preference(20), preference(21)]);
    assert!(found(&pairs, "preferences").is_empty());
    let completions = dataset("sft", [example(20), example(21)]);
    assert!(found(&completions, "sft").is_empty());
    let mut long = preference(20);
    long["rejected"] = json!("r".repeat(100));
    let long = found(&dataset("preferences", [long]), "preferences");
    assert!(long.len() == 1 && long[0].contains("context of 128"), "{long:?}");
    let mut long = example(20);
    long["completion"] = json!("r".repeat(100));
    let long = found(&dataset("sft", [long]), "sft");
    assert!(long.len() == 1 && long[0].contains("context of 128"), "{long:?}");
    let messages = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]);
    let chats = dataset("sft", [json!({"id": "1", "messages": messages})]);
    let chats = found(&chats, "sft");
    assert!(chats.len() == 1 && chats[0].contains("`sft` has conversations"), "{chats:?}");
}
