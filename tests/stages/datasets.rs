//! Datasets from files, selections by score, and conversations that are learned from.

use std::collections::BTreeSet;

use posttrain::backend::cpu::Cpu;
use posttrain::data::halves::Scored;
use posttrain::data::rows::Example;
use posttrain::model::checkpoint;
use posttrain::model::score::{last_scalars, response_logprobs};
use posttrain::model::weights::Model;
use serde_json::{Value, json};

use super::bench::{Made, make, refusal};
use super::fixture::{EOS, encode, fixture, jsonl, prompt, summary, write};

/// A folder with one file of rows, and the file as an input.
fn rows(text: &str) -> (tempfile::TempDir, Value) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    write(&path, text);
    (folder, json!({ "$path": path }))
}

fn files(splits: Value) -> Value {
    json!({"source": {"files": splits}})
}

#[test]
fn bad_rows_that_are_left_out_are_counted_in_a_warning_and_listed_in_the_artefact() {
    let (_folder, path) =
        rows("{\"prompt\": \"a\", \"completion\": \" b\"}\n{\"prompt\": \"c\"\n\n{\"text\": 3}\n");
    let made = make("dataset", files(json!({"sft": {"path": path, "on_bad_row": "skip"}})));
    let warning =
        "split `sft`: 2 bad rows were left out, 1 are kept; the first is row 2: broken JSON";
    assert!(made.warnings()[0].starts_with(warning), "{:?}", made.warnings());
    let listed: Value = serde_json::from_str(&made.text("skipped.json")).unwrap();
    assert_eq!(
        (&listed["sft"]["count"], &listed["sft"]["first"][1]["row"]),
        (&json!(2), &json!(4))
    );
    let refused = refusal("dataset", files(json!({ "sft": { "path": path } })));
    assert!(refused.contains("rows.jsonl, row 2: broken JSON"), "{refused}");
    // Where nothing was left out there is no list, and no other bytes than without the option.
    let (_folder, good) = rows("{\"prompt\": \"a\", \"completion\": \" b\"}\n");
    let made = make("dataset", files(json!({"sft": {"path": good, "on_bad_row": "skip"}})));
    assert!(!made.path("skipped.json").exists());
    assert_eq!(made.object(), make("dataset", files(json!({ "sft": { "path": good } }))).object());
}

#[test]
fn pairs_and_conversations_of_a_held_out_split_may_not_be_trained_on() {
    let post = "one two three four five six seven eight nine";
    let pair = |post: &str| {
        format!("{{\"prompt\": \"{post}\", \"chosen\": \" a\", \"rejected\": \" b\"}}\n")
    };
    let chat = format!(
        "{{\"messages\": [{{\"role\": \"user\", \"content\": \"{post}\"}}, {{\"role\": \"assistant\", \"content\": \"a\"}}]}}\n"
    );
    let (_a, pairs) = rows(&format!("{}{}", pair(post), pair("another")));
    let (_b, chats) = rows(&chat);
    let refused =
        refusal("dataset", files(json!({"sft": {"path": chats}, "test/id": {"path": pairs}})));
    assert!(refused.contains("test/id row 1 is in sft row 1"), "{refused}");
    let splits =
        json!({"sft": {"path": chats}, "preferences": {"path": pairs}, "test/id": {"path": chats}});
    let refused = refusal("dataset", json!({"source": {"files": splits}}));
    assert!(
        refused.contains("test/id row 1 is in preferences row 1; test/id row 1 is in sft row 1"),
        "{refused}"
    );
    let (_c, both) = rows(&format!("{}{}", pair(post), pair("another")));
    let made = make(
        "dataset",
        json!({"source": {"files": {"preferences": {"path": both}, "test/id": {"path": chats}}},
            "leaks": "remove"}),
    );
    assert_eq!(made.rows::<Value>("preferences.jsonl").len(), 1);
}

fn scored(splits: Value) -> Made {
    make(
        "score",
        json!({"dataset": fixture().at("dataset"), "splits": splits,
            "by": {"reward_model": {"model": fixture().at("reward")}}}),
    )
}

#[test]
fn a_reward_model_scores_rows_as_it_was_trained_to() {
    let made = scored(json!(["sft"]));
    let found: Vec<Scored> = made.rows("sft.jsonl");
    let loaded = checkpoint::load(&fixture().path("reward")).unwrap();
    let model = Model::upload(&Cpu::<f32>::new(), loaded.spec, loaded.head, loaded.params);
    let sequences: Vec<Vec<u32>> = (20..32)
        .map(|at| [encode(&prompt(at)), encode(&summary(at)), vec![EOS]].concat())
        .collect();
    let raw =
        last_scalars(&Cpu::new(), &model, &sequences.iter().map(Vec::as_slice).collect::<Vec<_>>());
    for ((found, raw), at) in found.iter().zip(raw).zip(20..) {
        assert_eq!(found.id, format!("row-{at}"));
        assert!((found.score - (f64::from(raw) - 0.25) / 0.5).abs() < 1e-6, "{found:?} for {raw}");
    }
    assert_eq!(found.len(), 12);
}

#[test]
fn a_classifier_scores_the_part_of_a_row_that_it_is_given() {
    let by = |text: &str| {
        let classifier = json!({"classifier": {"path": fixture().at("reward"), "text": text}});
        let made = make(
            "score",
            json!({"dataset": fixture().at("dataset"), "splits": ["sft"], "by": classifier}),
        );
        made.rows::<Scored>("sft.jsonl").into_iter().map(|row| row.score).collect::<Vec<_>>()
    };
    let loaded = checkpoint::load(&fixture().path("reward")).unwrap();
    let model = Model::upload(&Cpu::<f32>::new(), loaded.spec, loaded.head, loaded.params);
    let expected = |text: fn(usize) -> String| {
        let texts: Vec<Vec<u32>> = (20..32).map(|at| encode(&text(at))).collect();
        let raw =
            last_scalars(&Cpu::new(), &model, &texts.iter().map(Vec::as_slice).collect::<Vec<_>>());
        raw.into_iter().map(f64::from).collect::<Vec<_>>()
    };
    let near = |a: Vec<f64>, b: Vec<f64>| {
        assert!(
            a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-6) && a.len() == b.len(),
            "{a:?} {b:?}"
        )
    };
    near(by("prompt"), expected(prompt));
    near(by("completion"), expected(summary));
    near(by("whole"), expected(|at| format!("{}{}", prompt(at), summary(at))));
    let label = json!({"classifier": {"path": fixture().at("reward"), "label": "POSITIVE"}});
    let refused = refusal("score", json!({"dataset": fixture().at("dataset"), "by": label}));
    assert!(refused.contains("no label `POSITIVE`"), "{refused}");
    let refused = refusal(
        "score",
        json!({"dataset": fixture().at("dataset"),
            "by": {"classifier": {"path": fixture().at("policy")}}}),
    );
    assert!(refused.contains("has no head for classes"), "{refused}");
}

/// Ids of a split of a selection.
fn ids(made: &Made, split: &str) -> BTreeSet<String> {
    made.rows::<Example>(&format!("{split}.jsonl")).into_iter().map(|row| row.id).collect()
}

#[test]
fn halves_by_score_part_a_split_at_its_median_whatever_the_order_of_rows() {
    let scores = scored(json!(["sft", "test/id"]));
    let select = |dataset: Value, split: &str, more: Value| {
        let pick = |keep: &str| {
            let mut pick =
                json!({"from": split, "half": {"scores": scores.reference(), "keep": keep}});
            pick.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            pick
        };
        make(
            "dataset",
            json!({"source": {"select": {"dataset": dataset,
                "splits": {"test/low": pick("lower"), "test/high": pick("upper")}}}}),
        )
    };
    let made = select(fixture().at("dataset"), "sft", json!({}));
    let (low, high) = (ids(&made, "test/low"), ids(&made, "test/high"));
    assert_eq!((low.len(), high.len()), (6, 6));
    assert!(low.is_disjoint(&high));
    let of = |ids: &BTreeSet<String>| -> Vec<f64> {
        scores
            .rows::<Scored>("sft.jsonl")
            .into_iter()
            .filter(|row| ids.contains(&row.id))
            .map(|row| row.score)
            .collect()
    };
    let greatest = of(&low).into_iter().fold(f64::NEG_INFINITY, f64::max);
    assert!(of(&high).into_iter().all(|score| score > greatest));
    // Of an odd number, the median itself is in the lower half.
    let odd = select(fixture().at("dataset"), "test/id", json!({}));
    assert_eq!((ids(&odd, "test/low").len(), ids(&odd, "test/high").len()), (3, 2));
    // Rows in another order.
    let turned = tempfile::tempdir().unwrap();
    let mut rows: Vec<Value> = (20..32).map(super::fixture::example).collect();
    rows.rotate_left(5);
    write(&turned.path().join("sft.jsonl"), &jsonl(rows));
    let again = select(json!({ "$path": turned.path() }), "sft", json!({}));
    assert_eq!((ids(&again, "test/low"), ids(&again, "test/high")), (low.clone(), high));
    // A share of a half is of that half.
    let part = select(fixture().at("dataset"), "sft", json!({"limit": 2, "shuffle": 1}));
    assert!(ids(&part, "test/low").is_subset(&low) && ids(&part, "test/low").len() == 2);
}

#[test]
fn scores_of_another_dataset_are_refused() {
    let scores = scored(json!(["sft"]));
    let select = |from: &str, dataset: Value| {
        let pick = json!({"from": from, "half": {"scores": scores.reference(), "keep": "lower"}});
        refusal(
            "dataset",
            json!({"source": {"select": {"dataset": dataset, "splits": {"sft": pick}}}}),
        )
    };
    assert!(select("prompts", fixture().at("dataset")).contains("has no split `prompts`"));
    let other = tempfile::tempdir().unwrap();
    write(&other.path().join("sft.jsonl"), &jsonl((20..25).map(super::fixture::example)));
    assert!(
        select("sft", json!({ "$path": other.path() }))
            .contains("split `sft` has 5 rows, and 12 scores")
    );
    write(&other.path().join("sft.jsonl"), &jsonl([super::fixture::example(3)]));
    assert!(select("sft", json!({ "$path": other.path() })).contains("none is of the row `row-3`"));
}

const TEMPLATE: &str = "{% for m in messages %}{{ m.role }}:\n\
    {{ m.content }}{% if m.role == 'assistant' %}<eos>{% endif %}{{ '\\n' }}{% endfor %}{% if add_generation_prompt %}assistant:\n{% endif %}";

#[test]
fn sft_on_conversations_learns_the_assistants_turns_alone() {
    let policy = tempfile::tempdir().unwrap();
    for file in
        std::fs::read_dir(fixture().path("policy")).unwrap().map(|entry| entry.unwrap().path())
    {
        std::fs::copy(&file, policy.path().join(file.file_name().unwrap())).unwrap();
    }
    let (_folder, chats) = rows(&jsonl([json!({"messages": [
        {"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes ?"},
        {"role": "user", "content": "why"}, {"role": "assistant", "content": "so"}]})]));
    let dataset = make("dataset", files(json!({ "sft": { "path": chats } })));
    let optimiser = json!({"learning_rate": 0.01, "schedule": {"shape": "constant"}});
    let config = |more: Value| {
        let mut config = json!({"policy": {"$path": policy.path()}, "dataset": dataset.reference(),
            "batch_size": 1, "optimiser": optimiser});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    assert!(refusal("sft", config(json!({}))).contains("the model has no chat template"));
    write(&policy.path().join("chat_template.jinja"), TEMPLATE);
    assert!(
        refusal("sft", config(json!({"max_prompt_tokens": 5})))
            .contains("`max_prompt_tokens` cannot cut")
    );
    let made = make("sft", config(json!({})));
    let pieces = [
        ("user:\nhi\nassistant:\n", false),
        ("yes ?", true),
        ("\nuser:\nwhy\nassistant:\n", false),
        ("so", true),
    ];
    let (mut tokens, mut learned) = (Vec::new(), Vec::new());
    for (text, own) in pieces {
        let piece = [encode(text), if own { vec![EOS] } else { Vec::new() }].concat();
        learned.extend(vec![own; piece.len()]);
        tokens.extend(piece);
    }
    let loaded = checkpoint::load(&fixture().path("policy")).unwrap();
    let model = Model::upload(&Cpu::<f32>::new(), loaded.spec, loaded.head, loaded.params);
    let scored = response_logprobs(&Cpu::new(), &model, &[&tokens], &[1], 1.0);
    let own: Vec<f64> = scored[0]
        .iter()
        .zip(&learned[1..])
        .filter(|(_, own)| **own)
        .map(|(logprob, _)| f64::from(*logprob))
        .collect();
    assert_eq!(made.metric("num_tokens"), [9.0]);
    assert_eq!(own.len(), 9);
    let loss = -own.iter().sum::<f64>() / 9.0;
    assert!((made.metric("loss")[0] - loss).abs() < 1e-6, "{} for {loss}", made.metric("loss")[0]);
}
