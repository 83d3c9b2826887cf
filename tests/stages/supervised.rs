//! Options of supervised stages: what is learned of a row, rows that are too long, what a pair's
//! loss is made of, what scores are normalised by, averages of weights.

use posttrain::data::dataset::Dataset;
use posttrain::data::lineage::Lineage;
use posttrain::data::rows::Example;
use posttrain::model::checkpoint::{self, Checkpoint};
use serde_json::{Value, json};

use super::bench::{Made, make, problems, refusal};
use super::fixture::{
    CONTEXT, LAYERS, encode, example, fixture, jsonl, preference, prompt, summary, write,
};

fn with(mut config: Value, more: Value) -> Value {
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

fn optimiser() -> Value {
    json!({"learning_rate": 0.01, "schedule": {"shape": "constant"}})
}

fn sft(more: Value) -> Value {
    let base = json!({"policy": fixture().at("policy"), "dataset": fixture().at("dataset"),
        "batch_size": 12, "optimiser": optimiser()});
    with(base, more)
}

fn reward_model(more: Value) -> Value {
    let base = json!({"policy": fixture().at("policy"), "dataset": fixture().at("preferences"),
        "batch_size": 1, "optimiser": optimiser()});
    with(base, more)
}

/// A dataset with these rows in one split.
fn dataset(split: &str, rows: Vec<Value>) -> (tempfile::TempDir, Value) {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join(format!("{split}.jsonl")), &jsonl(rows));
    let reference = json!({"$path": folder.path()});
    (folder, reference)
}

fn tensors(checkpoint: &Checkpoint) -> Vec<f32> {
    checkpoint.params.iter().flatten().copied().collect()
}

#[test]
fn a_loss_on_all_tokens_learns_prompts_too() {
    let made = make("sft", sft(json!({"loss_on": "all"})));
    let tokens = |at: usize| encode(&prompt(at)).len() + encode(&summary(at)).len() + 1;
    // Nothing comes before the first token of each row.
    let learned: usize = (20..32).map(|at| tokens(at) - 1).sum();
    assert_eq!(made.metric("num_tokens"), [learned as f64]);
    let document = |at: usize| {
        let text = prompt(at) + &summary(at);
        json!({"id": at.to_string(), "prompt": "", "completion": text})
    };
    let split: Vec<Value> = (20..32).map(document).collect();
    // A document of the same tokens is learned the same.
    let (_folder, whole) = dataset("sft", split);
    let documents = make("sft", sft(json!({"dataset": whole})));
    assert_eq!(made.text("metrics.jsonl"), documents.text("metrics.jsonl"));
}

/// The fixture's rows, and two of more tokens than the context: one with a long completion, one
/// with a long prompt.
fn with_long_rows() -> (tempfile::TempDir, Value) {
    let long = |id: &str, prompt: &str, text: &str| {
        json!({"id": id, "prompt": prompt,
            "completion": text})
    };
    let (words, half) = ("ab ".repeat(CONTEXT), "c ".repeat(CONTEXT / 4));
    let mut rows: Vec<Value> = (20..32).map(example).collect();
    rows.insert(3, long("completion", &half, &words));
    rows.insert(7, long("prompt", &words, " c"));
    dataset("sft", rows)
}

#[test]
fn rows_that_are_too_long_are_refused_left_out_or_cut() {
    let (_folder, rows) = with_long_rows();
    let config = |more: Value| sft(with(json!({"dataset": rows}), more));
    let message = refusal("sft", config(json!({})));
    assert!(message.contains("2 rows of split `sft` do not fit the model's context"), "{message}");

    let skip = make("sft", config(json!({"too_long": "skip"})));
    let plain = make("sft", sft(json!({})));
    assert_eq!(skip.metric("rows_skipped"), [2.0]);
    assert_eq!(skip.metric("rows_cut"), [0.0]);
    assert_eq!(tensors(&skip.checkpoint()), tensors(&plain.checkpoint()));
    let warning = skip.warnings().join("\n");
    assert!(
        warning.contains("0 were cut and 2 left out; 12 rows are left")
            && warning.contains(&format!("context of {CONTEXT}")),
        "{warning}"
    );

    // Of the long prompt nothing to learn is left.
    let cut = make("sft", config(json!({"too_long": "cut", "batch_size": 13})));
    assert_eq!((cut.metric("rows_cut"), cut.metric("rows_skipped")), (vec![1.0], vec![1.0]));
    let half = encode(&"c ".repeat(CONTEXT / 4)).len();
    let learned: usize = (20..32).map(|at| encode(&summary(at)).len() + 1).sum();
    assert_eq!(cut.metric("num_tokens"), [(learned + CONTEXT - half) as f64]);

    // With a loss on the prompt there is.
    let all = make("sft", config(json!({"too_long": "cut", "loss_on": "all", "batch_size": 14})));
    assert_eq!((all.metric("rows_cut"), all.metric("rows_skipped")), (vec![2.0], vec![0.0]));
    let tokens = |at: usize| encode(&prompt(at)).len() + encode(&summary(at)).len();
    let learned: usize = (20..32).map(tokens).sum();
    assert_eq!(all.metric("num_tokens"), [(learned + 2 * (CONTEXT - 1)) as f64]);

    // Rows that fit have their end.
    let none = make("sft", sft(json!({"too_long": "cut"})));
    assert_eq!(tensors(&none.checkpoint()), tensors(&plain.checkpoint()));
    assert_eq!((none.metric("rows_cut"), none.metric("rows_skipped")), (vec![0.0], vec![0.0]));
    assert!(!plain.text("metrics.jsonl").contains("rows_"), "earlier bytes are as they were");

    let (_folder, long) = dataset(
        "sft",
        vec![json!({"id": "a", "prompt": "ab ".repeat(CONTEXT),
        "completion": " c"})],
    );
    let message = refusal("sft", sft(json!({"dataset": long, "too_long": "skip"})));
    assert!(message.contains("no row of split `sft` fits the model's context"), "{message}");
}

/// log(1 + e^x).
fn softplus(x: f64) -> f64 {
    x.exp().ln_1p()
}

#[test]
fn the_loss_of_a_pair_has_its_margin_and_its_smoothing() {
    for (option, margin) in
        [(json!(null), 0.0), (json!({"constant": 0.75}), 0.75), (json!("rows"), 0.5)]
    {
        for smoothing in [0.0, 0.2] {
            let mut more =
                json!({"batch_of": "pairs", "label_smoothing": smoothing, "split": "test/id"});
            if !option.is_null() {
                more["margin"] = option.clone();
            }
            let made = make("reward_model", reward_model(more));
            // Each step has one pair: its loss follows from the difference of its scores.
            assert_eq!(made.metric("num_pairs"), [1.0; 3]);
            for (loss, apart) in made.metric("loss").iter().zip(made.metric("margin")) {
                let expected = (1.0 - smoothing) * softplus(-(apart - margin))
                    + smoothing * softplus(-(-apart - margin));
                assert!(
                    (loss - expected).abs() < 1e-9,
                    "{option}, {smoothing}: {loss} for {expected}"
                );
            }
        }
    }
}

#[test]
fn a_row_without_a_margin_is_named_where_margins_are_of_rows() {
    let mut rows: Vec<Value> = (20..24).map(preference).collect();
    rows[2].as_object_mut().unwrap().remove("margin");
    let (_folder, pairs) = dataset("preferences", rows);
    let message =
        refusal("reward_model", reward_model(json!({"dataset": pairs, "margin": "rows"})));
    assert!(
        message.contains("split `preferences`, row 22/1-0 has no margin, and `margin: rows` takes"),
        "{message}"
    );
}

#[test]
fn batches_of_pairs_count_pairs_and_batches_of_prompts_prompts() {
    // 12 prompts of two pairs each.
    let made =
        |of: &str| make("reward_model", reward_model(json!({"batch_of": of, "batch_size": 5})));
    let prompts = made("prompts");
    let mut sizes = prompts.metric("num_prompts");
    sizes.sort_by(f64::total_cmp);
    assert_eq!(sizes, [2.0, 5.0, 5.0]);
    let mut sizes = made("pairs").metric("num_pairs");
    sizes.sort_by(f64::total_cmp);
    assert_eq!(sizes, [4.0, 5.0, 5.0, 5.0, 5.0]);
    let pairs: Vec<f64> = prompts.metric("num_pairs");
    assert_eq!(pairs.iter().sum::<f64>(), 24.0);
    assert!(prompts.metric("num_prompts").iter().zip(pairs).all(|(a, b)| 2.0 * a == b));
    assert!(!made("pairs").text("metrics.jsonl").contains("num_prompts"));
}

/// The mean score of the rows of the fixture's split `sft` under a reward model.
fn mean_score(model: &Made) -> f64 {
    let config = json!({"dataset": fixture().at("dataset"), "splits": ["sft"],
        "by": {"reward_model": {"model": model.reference()}}});
    let rows: Vec<Value> = make("score", config).rows("sft.jsonl");
    assert_eq!(rows.len(), 12);
    rows.iter().map(|row| row["score"].as_f64().unwrap()).sum::<f64>() / 12.0
}

#[test]
fn references_have_a_mean_score_of_0_and_the_scale_stays() {
    let normalised = |normalise: Value| {
        make("reward_model", reward_model(json!({"batch_size": 4, "normalise": normalise})))
    };
    let none = normalised(json!("none"));
    let read =
        |made: &Made| -> Value { serde_json::from_str(&made.text("normalisation.json")).unwrap() };
    assert_eq!(read(&none), json!({"mean": 0.0, "std": 1.0}));
    let references = json!({"references": {"dataset": fixture().at("dataset")}});
    let shifted = normalised(references.clone());
    let raw = mean_score(&none);
    let found = read(&shifted);
    assert!(raw.abs() > 1e-3, "the raw mean is not 0 by itself: {raw}");
    assert!((found["mean"].as_f64().unwrap() - raw).abs() < 1e-6, "{found} for {raw}");
    assert_eq!(found["std"], json!(1.0));
    assert!(mean_score(&shifted).abs() < 1e-6);
    assert_eq!(tensors(&none.checkpoint()), tensors(&shifted.checkpoint()));

    // The rows that decided it are among what the model was fitted to.
    let dataset = Dataset::open(&fixture().path("dataset")).unwrap();
    let rows: Vec<Example> = dataset.split("test/id").unwrap();
    let saw = |made: &Made| Lineage::read(&made.path("")).unwrap().saw(&rows);
    let mut others = references.clone();
    others["references"]["split"] = json!("test/id");
    assert_eq!((saw(&shifted), saw(&normalised(others))), (vec![false; 5], vec![true; 5]));
    let mut one = references;
    one["references"]["rows"] = json!(1);
    assert_ne!(read(&normalised(one)), found);
}

#[test]
fn the_average_of_weights_is_that_of_all_steps() {
    const DECAY: f64 = 0.6;
    let after = |epochs: usize, more: Value| {
        let config = sft(with(json!({"epochs": epochs}), more));
        make("sft", config)
    };
    // Twelve rows are one step an epoch, and the rate is constant: a shorter run has the weights
    // of the first steps.
    let start = checkpoint::load(&fixture().path("policy")).unwrap();
    let mut average: Vec<f64> = tensors(&start).into_iter().map(f64::from).collect();
    for epochs in 1..=3 {
        let weights = tensors(&after(epochs, json!({})).checkpoint());
        for (average, weight) in average.iter_mut().zip(weights) {
            *average = DECAY * *average + (1.0 - DECAY) * f64::from(weight);
        }
    }
    let averaged = after(3, json!({"average": {"decay": DECAY}}));
    let found = tensors(&averaged.checkpoint());
    let apart = found.iter().zip(&average).map(|(a, b)| (f64::from(*a) - b).abs());
    let apart = apart.fold(0.0, f64::max);
    assert!(apart < 1e-6, "{apart}");
    let last = after(3, json!({}));
    assert_ne!(tensors(&last.checkpoint()), found);
    assert_eq!(last.text("metrics.jsonl"), averaged.text("metrics.jsonl"), "training is the same");

    // What is validated is the average: the same as of the artefact, before any step.
    let validation = json!({"split": "test/ood", "every": 3, "keep": "last"});
    let measured = after(3, json!({"average": {"decay": DECAY}, "validation": validation.clone()}));
    assert_eq!(tensors(&measured.checkpoint()), found);
    let still = json!({"learning_rate": 0.0, "schedule": {"shape": "constant"}});
    let again = make(
        "sft",
        sft(json!({"policy": measured.reference(), "optimiser": still, "validation": validation})),
    );
    let of = |made: &Made| {
        let rows: Vec<Value> = made.rows("metrics.jsonl");
        rows.last().unwrap()["validation/loss"].clone()
    };
    assert_eq!(of(&measured), of(&again));
}

#[test]
fn frozen_tensors_are_no_part_of_an_average() {
    let made = make("sft", sft(json!({"frozen": 0.8, "epochs": 2, "average": {"decay": 0.5}})));
    let (from, to) = (checkpoint::load(&fixture().path("policy")).unwrap(), made.checkpoint());
    let (from, to) = (from.params, to.params);
    assert_eq!(from.embedding, to.embedding);
    assert!(from.layers[LAYERS - 2] == to.layers[LAYERS - 2], "four of five blocks are frozen");
    assert!(from.layers[LAYERS - 1] != to.layers[LAYERS - 1]);
}

#[test]
fn options_out_of_range_are_named() {
    let found = |kind: &str, config: Value| -> Vec<String> {
        problems(kind, config).into_iter().map(|problem| problem.field).collect()
    };
    for (more, field) in [
        (json!({"margin": {"constant": 0.0}}), "margin.constant"),
        (json!({"label_smoothing": 0.5}), "label_smoothing"),
        (json!({"label_smoothing": -0.1}), "label_smoothing"),
        (json!({"average": {"decay": 1.0}}), "average.decay"),
        (
            json!({"normalise": {"references": {"dataset": fixture().at("dataset"), "rows": 0}}}),
            "normalise.references.rows",
        ),
    ] {
        assert_eq!(found("reward_model", reward_model(more)), [field]);
    }
    assert_eq!(found("sft", sft(json!({"average": {"decay": 0.0}}))), ["average.decay"]);
}
