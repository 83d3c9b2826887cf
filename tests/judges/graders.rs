//! Grades of a language model as a reward: which answer is whose, what is asked twice, what an
//! endpoint may do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use posttrain::error::{Kind, kind_of};
use serde_json::{Value, json};

use super::fake::{Fake, Fault};
use crate::cli::place::Place;
use crate::stages::bench::{Made, Work, make, refusal};
use crate::stages::fixture::{fixture, jsonl, write};

/// A reward by this endpoint.
fn by(fake: &Fake, more: Value) -> Value {
    let mut model = json!({"endpoint": fake.endpoint(), "model": "m", "task": "instructions"});
    model.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    model.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    json!({"graded": {"by": {"llm": model}}})
}

/// Four responses to each of five prompts.
fn config(fake: &Fake, more: Value) -> Value {
    json!({"policy": fixture().at("policy"), "dataset": fixture().at("dataset"),
        "splits": ["test/id"], "n": 4, "sampling": {"max_new_tokens": 12},
        "rewards": by(fake, more)})
}

/// Each response with its prompt and its reward.
fn graded(made: &Made) -> Vec<(String, String, f64)> {
    let rows: Vec<Value> = made.rows("samples.jsonl");
    let of_row = |row: &Value| -> Vec<(String, String, f64)> {
        let prompt = row["prompt"].as_str().unwrap().trim();
        let text = |it: &Value| it["text"].as_str().unwrap().trim().to_owned();
        let all = row["candidates"].as_array().unwrap().iter();
        all.map(|it| (prompt.to_owned(), text(it), it["reward"].as_f64().unwrap())).collect()
    };
    rows.iter().flat_map(of_row).collect()
}

/// A grade from 1 to 10 that depends on every letter of both texts.
fn rule(prompt: &str, response: &str) -> usize {
    let sum = |text: &str| text.bytes().map(usize::from).sum::<usize>();
    1 + (3 * sum(prompt) + 7 * sum(response)) % 10
}

/// The text between two tags of the built-in question.
fn between<'a>(message: &'a str, tag: &str) -> &'a str {
    let (_, rest) = message.split_once(&format!("<{tag}>\n")).unwrap();
    rest.split_once(&format!("\n</{tag}>")).unwrap().0
}

fn grade(message: &str) -> String {
    let grade = rule(between(message, "instruction"), between(message, "response"));
    json!({"why": "so", "grade": grade}).to_string()
}

/// The questions that differ.
fn different(made: &Made) -> usize {
    let texts = graded(made).into_iter().map(|(prompt, text, _)| (prompt, text));
    texts.collect::<BTreeSet<(String, String)>>().len()
}

#[test]
fn each_response_gets_the_grade_of_its_own_question() {
    let fake = Fake::start(grade);
    let made = make("best_of_n", config(&fake, json!({"concurrency": 3})));
    let all = graded(&made);
    assert_eq!(all.len(), 20);
    for (prompt, text, reward) in &all {
        assert_eq!(*reward, (rule(prompt, text) as f64 - 1.0) / 9.0, "{text}");
    }
    assert!(all.iter().map(|(.., reward)| reward.to_string()).collect::<BTreeSet<_>>().len() > 4);
    // Equal responses to one prompt are one question.
    assert_eq!(fake.asked(), different(&made));
    let questions = fake.questions();
    let body = &questions[0].body;
    assert_eq!((&body["model"], &body["temperature"]), (&json!("m"), &json!(0)));
    assert_eq!(body["max_tokens"], 100);
    let alone = make("best_of_n", config(&fake, json!({"concurrency": 1})));
    assert_eq!(
        alone.bytes("samples.jsonl"),
        made.bytes("samples.jsonl"),
        "in any order of answers"
    );
}

#[test]
fn answers_are_kept_and_a_rerun_asks_nothing() {
    let fake = Fake::start(grade);
    let work = Work::new();
    work.attempt("best_of_n", config(&fake, json!({})), None).unwrap();
    let (asked, object) = (fake.asked(), work.object());
    work.attempt("best_of_n", config(&fake, json!({"max_retries": 2})), None).unwrap();
    assert_eq!((fake.asked(), work.object()), (asked, object));
    // Another stage has other responses, and asks about these alone.
    work.attempt("best_of_n", config(&fake, json!({"model": "n"})), None).unwrap();
    assert_eq!(fake.asked(), 2 * asked, "another model is asked anew");
}

#[test]
fn a_template_a_scale_and_the_place_of_the_grade_are_the_configs() {
    let fake = Fake::start(|message| {
        let (from, to, prompt, response) = {
            let parts: Vec<&str> = message.splitn(4, '|').collect();
            (parts[0], parts[1], parts[2], parts[3])
        };
        assert_eq!((from, to), ("-2", "2.5"), "{message}");
        let grade = rule(prompt, response) as f64 / 4.0 - 1.0;
        format!("Some words first.\nGrade: {grade}.")
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("q");
    write(&file, "{from}|{to}|{prompt}|{response}");
    let more = json!({"task": null, "prompt": {"$path": file}, "grade": "last_word",
        "scale": {"from": -2.0, "to": 2.5}});
    for (prompt, text, reward) in graded(&make("best_of_n", config(&fake, more.clone()))) {
        let grade = rule(&prompt, &text) as f64 / 4.0 - 1.0;
        assert_eq!(reward, (grade + 2.0) / 4.5, "{text}");
    }
    write(&file, "{from}|{to}|{prompt}");
    let message = refusal("best_of_n", config(&fake, more));
    assert!(message.contains("reward `graded`") && message.contains("{response}"), "{message}");
}

#[test]
fn an_answer_without_a_grade_is_asked_for_again_and_is_never_a_reward() {
    for (answer, more) in [
        ("I cannot say.", json!({})),
        ("{\"grade\": 11}", json!({})),
        ("{\"grade\": 7}", json!({"grade": {"field": "score"}})),
        ("{\"grade\": 7}", json!({"grade": "last_word"})),
    ] {
        let fake = Fake::start(move |_| answer.to_owned());
        let mut all = json!({"max_retries": 2, "concurrency": 1});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let message = refusal("best_of_n", config(&fake, all));
        let said = format!("{answer:?}");
        for words in ["reward `graded`", "row `row-70` of split `test/id`", "3 times", &said] {
            assert!(message.contains(words), "{words}: {message}");
        }
        assert_eq!(fake.asked(), 3, "{answer}");
    }
    // An answer that can be used comes in time; the other is not kept.
    let count = Arc::new(AtomicUsize::new(0));
    let own = count.clone();
    let fake = Fake::start(move |message| match own.fetch_add(1, Ordering::SeqCst) {
        0 => "hm".to_owned(),
        _ => grade(message),
    });
    let made = make("best_of_n", config(&fake, json!({"max_retries": 1})));
    assert_eq!(fake.asked(), different(&made) + 1);
    let quiet = Fake::start(grade);
    let expected = make("best_of_n", config(&quiet, json!({})));
    assert_eq!(made.bytes("samples.jsonl"), expected.bytes("samples.jsonl"));
    // What is shown of a long answer has an end.
    let fake = Fake::start(|_| "é".repeat(5000));
    let message = refusal("best_of_n", config(&fake, json!({"max_retries": 0})));
    assert!(message.contains('…') && message.matches('é').count() == 200, "{message}");
}

/// A kept answer that another scale does not have is no answer.
#[test]
fn a_kept_answer_is_read_by_the_scale_of_now() {
    let high = Arc::new(AtomicBool::new(true));
    let own = high.clone();
    let fake = Fake::start(move |_| match own.load(Ordering::SeqCst) {
        true => "9".to_owned(),
        false => "2".to_owned(),
    });
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("q"), "{prompt}{response}");
    let of = |to: f64| {
        let file = folder.path().join("q");
        config(
            &fake,
            json!({"task": null, "prompt": {"$path": file}, "grade": "last_word",
            "scale": {"from": 1.0, "to": to}}),
        )
    };
    let work = Work::new();
    work.attempt("best_of_n", of(9.0), None).unwrap();
    let asked = fake.asked();
    high.store(false, Ordering::SeqCst);
    work.attempt("best_of_n", of(3.0), None).unwrap();
    assert_eq!(fake.asked(), 2 * asked);
}

#[test]
fn an_endpoint_that_comes_back_changes_nothing() {
    let quiet = Fake::start(grade);
    let expected = make("best_of_n", config(&quiet, json!({})));
    let fake = Fake::start(grade);
    fake.fail(&[Fault::Cut, Fault::Status(500), Fault::Silence(1500), Fault::Status(429)]);
    let made = make("best_of_n", config(&fake, json!({"timeout": 1.0, "concurrency": 2})));
    assert_eq!(made.bytes("samples.jsonl"), expected.bytes("samples.jsonl"));
    assert_eq!(fake.asked(), different(&made) + 4);
    // One that stays away is an error of the machine, with the reward that asked.
    fake.fail(&[Fault::Status(500); 2]);
    let config = config(&fake, json!({"model": "n", "max_retries": 1, "concurrency": 1}));
    let error = Work::new().attempt("best_of_n", config, None).expect_err("it has failed twice");
    let message = format!("{error:#}");
    assert_eq!(kind_of(&error), Kind::Environment);
    assert!(message.contains("reward `graded`") && message.contains("failed 2 times"), "{message}");
}

#[test]
fn a_request_to_stop_ends_the_questions_and_loses_no_answer() {
    let stop = Arc::new(AtomicBool::new(false));
    let (own, count) = (stop.clone(), AtomicUsize::new(0));
    let fake = Fake::start(move |message| {
        if count.fetch_add(1, Ordering::SeqCst) == 5 {
            own.store(true, Ordering::SeqCst);
        }
        grade(message)
    });
    let work = Work::new();
    let config = || config(&fake, json!({"concurrency": 1}));
    let error = work.attempt_with("best_of_n", config(), None, stop).expect_err("it was stopped");
    assert_eq!((kind_of(&error), fake.asked()), (Kind::Interrupted, 6));
    work.attempt("best_of_n", config(), None).unwrap();
    let made = make("best_of_n", config());
    assert_eq!(fake.asked(), 2 * different(&made), "the answers before the stop were kept");
}

#[test]
fn grades_keep_to_the_pace() {
    let fake = Fake::start(grade);
    make("best_of_n", config(&fake, json!({"rpm": 1200})));
    let asked = fake.questions();
    let took = asked[asked.len() - 1].at.duration_since(asked[0].at);
    // The first may come late; the others cannot come early.
    let least = Duration::from_millis(50) * (asked.len() as u32 - 2);
    assert!(took >= least, "{} questions at twenty a second took {took:?}", asked.len());
}

/// A stage that trains on grades, among other rewards.
#[test]
fn a_policy_is_trained_on_grades() {
    let fake = Fake::start(grade);
    let mut rewards = by(&fake, json!({}));
    rewards["short"] = json!({"by": {"overlong": {"buffer": 6}}, "weight": 0.5});
    let config = json!({"policy": fixture().at("policy"), "dataset": fixture().at("dataset"),
        "rewards": rewards, "steps": 2, "batch_size": 2, "samples_per_prompt": 3,
        "max_new_tokens": 12, "kl": {"coef": 0.1}, "optimiser": {"learning_rate": 0.01}});
    let made = make("grpo", config);
    for step in [1, 2] {
        let rows: Vec<Value> = made.rows(&format!("rollouts/step-0000{step}.jsonl"));
        let of = |row: &Value| {
            let text = |name: &str| row[name].as_str().unwrap().trim().to_owned();
            (rule(&text("prompt"), &text("response")) as f64 - 1.0) / 9.0
        };
        let rewards: Vec<f64> = rows.iter().map(of).collect();
        for (row, reward) in rows.iter().zip(&rewards) {
            assert_eq!(row["rewards"]["graded"].as_f64(), Some(*reward));
        }
        let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
        assert!((made.metric("rewards/graded/mean")[step - 1] - mean).abs() < 1e-12);
    }
}

/// What a run reads is in its key: the model and the bytes of the template.
#[test]
fn the_model_and_the_template_are_in_the_key() {
    let fake = Fake::start(|_| json!({"grade": 3}).to_string());
    let place = Place::new("");
    let row = |at: usize| json!({"i": at.to_string(), "p": format!("post {at}"), "c": "one"});
    place.write("rows.jsonl", &jsonl((0..2).map(row)));
    place.write("question.txt", "{prompt} {response}");
    let pipeline = |llm: &str| {
        let text = format!(
            "stages:
  posts: {{uses: dataset, source: {{files: {{test/x: {{path: rows.jsonl, prompt: \"{{p}}\", completion: \" {{c}}\", id: i}}}}}}}}
  base: {{uses: model, path: {}}}
  best: {{uses: best_of_n, policy: base, dataset: posts, n: 2, sampling: {{max_new_tokens: 4}}, rewards: {{graded: {{by: {{llm: {{endpoint: \"{}\", {llm}}}}}}}}}}}
",
            fixture().path("policy").display(),
            fake.endpoint()
        );
        place.pipeline(&text);
    };
    pipeline("model: m, prompt: question.txt");
    assert_eq!(place.counts(&[]).0, 3);
    let asked = fake.asked();
    assert_eq!((place.counts(&[]).0, fake.asked()), (0, asked));
    pipeline("model: n, prompt: question.txt");
    assert_eq!((place.counts(&[]).0, fake.asked()), (1, 2 * asked));
    place.write("question.txt", "{prompt} {response} and more");
    assert_eq!((place.counts(&[]).0, fake.asked()), (1, 3 * asked));
    // The place of the grade is in the key, and asks nothing anew.
    pipeline("model: n, prompt: question.txt, scale: {from: 0}");
    assert_eq!((place.counts(&[]).0, fake.asked()), (1, 3 * asked));
}
