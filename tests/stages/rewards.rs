//! Rewards: what each source gives a response, in the stages that take them, and what they refuse.

use serde_json::{Value, json};

use super::bench::{Made, make, problems, refusal};
use super::fixture::{example, fixture, jsonl, write};

/// A candidate with its scores.
fn candidates(made: &Made) -> Vec<(String, f64)> {
    let rows: Vec<Value> = made.rows("samples.jsonl");
    let all = rows.iter().flat_map(|row| row["candidates"].as_array().unwrap());
    all.map(|it| (it["text"].as_str().unwrap().to_owned(), it["reward"].as_f64().unwrap()))
        .collect()
}

fn best_of_n(dataset: Value, rewards: Value) -> Value {
    json!({"policy": fixture().at("policy"), "dataset": dataset, "splits": ["test/id"],
        "rewards": rewards, "n": 4, "sampling": {"max_new_tokens": 12}})
}

fn scores(rewards: Value) -> Vec<(String, f64)> {
    candidates(&make("best_of_n", best_of_n(fixture().at("dataset"), rewards)))
}

fn by(by: Value) -> Value {
    json!({"key": {"by": by}})
}

/// Rows like those of the fixture with these completions.
fn with_completions(completions: &[String]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let rows = completions.iter().enumerate().map(|(at, completion)| {
        let mut row = example(70 + at);
        row["completion"] = json!(completion);
        row
    });
    write(&folder.path().join("test/id.jsonl"), &jsonl(rows));
    folder
}

#[test]
fn parts_are_added_up_with_their_weights() {
    let one = scores(by(json!({"reward_model": fixture().at("reward")})));
    let other = scores(by(json!({"overlong": {"buffer": 6}})));
    let both = scores(json!({
        "a": {"by": {"reward_model": fixture().at("reward")}, "weight": 0.5},
        "b": {"by": {"overlong": {"buffer": 6}}, "weight": -2.0}}));
    assert!(other.iter().any(|(_, score)| *score < 0.0));
    for ((both, one), other) in both.iter().zip(&one).zip(&other) {
        assert_eq!(both.0, one.0, "rewards change no sample");
        assert_eq!(both.1, 0.5 * one.1 + -2.0 * other.1);
    }
}

/// A reward model gives the same number to the bit under either field, and so do stages.
#[test]
fn a_reward_model_alone_is_the_field_reward_model() {
    let mut config = best_of_n(fixture().at("dataset"), json!({}));
    config.as_object_mut().unwrap().remove("rewards");
    config["reward_model"] = fixture().at("reward");
    let rewards = by(json!({"reward_model": fixture().at("reward")}));
    assert_eq!(candidates(&make("best_of_n", config)), scores(rewards.clone()));
    let ppo = |more: Value| {
        let mut config = json!({"policy": fixture().at("policy"),
            "dataset": fixture().at("dataset"),
            "steps": 3, "batch_size": 4, "minibatches": 2, "epochs": 2, "max_new_tokens": 12,
            "frozen": 0.4, "kl": {"coef": 0.05}, "optimiser": {"learning_rate": 0.01}});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        make("ppo", config)
    };
    let alone = ppo(json!({"reward_model": fixture().at("reward")}));
    let part = ppo(json!({"rewards": rewards}));
    assert_eq!(part.bytes("model.safetensors"), alone.bytes("model.safetensors"));
    assert_eq!(part.metric("objective/scores"), alone.metric("objective/scores"));
    assert_eq!(part.metric("rewards/key/mean"), alone.metric("objective/raw_scores"));
}

#[test]
fn an_ensemble_combines_the_scores_of_its_members() {
    let member = |name| scores(by(json!({"reward_model": fixture().at(name)})));
    let (one, other) = (member("reward"), member("judges/a"));
    for (combine, of) in [
        (json!("mean"), (|a, b| (a + b) / 2.0) as fn(f64, f64) -> f64),
        (json!("worst"), |a, b| a.min(b)),
        (json!({"less_variance": 0.5}), |a, b| (a + b) / 2.0 - 0.5 * (a - b) * (a - b) / 4.0),
        (json!({"less_deviation": 0.5}), |a, b| {
            (a + b) / 2.0 - 0.5 * (a - b).abs() / 2.0f64.sqrt()
        }),
    ] {
        let models = [fixture().at("reward"), fixture().at("judges/a")];
        let found = scores(by(json!({"ensemble": {"models": models, "combine": combine}})));
        for ((found, one), other) in found.iter().zip(&one).zip(&other) {
            let expected = of(one.1, other.1);
            assert!((found.1 - expected).abs() < 1e-12, "{combine}: {} for {expected}", found.1);
        }
    }
}

/// The texts of the samples of each row, which no completion changes.
fn sampled() -> Vec<Vec<String>> {
    let made = make("best_of_n", best_of_n(fixture().at("dataset"), by(json!({"regex": "."}))));
    let texts = |row: Value| {
        let all = row["candidates"].as_array().unwrap().clone();
        all.iter().map(|it| it["text"].as_str().unwrap().to_owned()).collect()
    };
    made.rows::<Value>("samples.jsonl").into_iter().map(texts).collect()
}

#[test]
fn an_exact_match_reads_the_rows_completion() {
    let lower = |text: &&String| text.contains(|c: char| c.is_ascii_lowercase());
    let texts: Vec<String> =
        sampled().iter().map(|row| row.iter().find(lower).expect("letters").clone()).collect();
    // In capitals, with more space within.
    let other = |text: &String| text.to_uppercase().replace(' ', "  ");
    let right = |rule: Value, completions: Vec<String>| -> usize {
        let folder = with_completions(&completions);
        let dataset = json!({"$path": folder.path()});
        let made = make("best_of_n", best_of_n(dataset, by(json!({"exact_match": rule}))));
        candidates(&made).iter().filter(|(_, score)| *score == 1.0).count()
    };
    let padded: Vec<String> = texts.iter().map(|text| format!(" {text} ")).collect();
    let all = right(json!({}), padded);
    assert!(all >= texts.len(), "{all}");
    let changed: Vec<String> = texts.iter().map(other).collect();
    assert_eq!(right(json!({}), changed.clone()), 0);
    assert_eq!(right(json!({"ignore_case": true, "ignore_space": true}), changed.clone()), all);
    let spaced = texts.iter().filter(|text| text.trim().contains(' ')).count();
    let found = right(json!({"ignore_case": true}), changed);
    assert!(spaced > 0 && found == all - spaced, "{spaced} spaced, {found} of {all}");
}

#[test]
fn a_number_is_compared_with_that_of_the_completion() {
    let rule = |completion: &str, rule: Value| {
        let folder = with_completions(&vec![completion.to_owned(); 5]);
        let dataset = json!({"$path": folder.path()});
        let made = make("best_of_n", best_of_n(dataset, by(json!({"number_match": rule}))));
        candidates(&made)
    };
    let texts: Vec<String> = sampled().concat();
    let runs = |text: &str| -> Vec<String> {
        let runs = text.split(|c: char| !c.is_ascii_digit()).filter(|run| !run.is_empty());
        runs.map(str::to_owned).collect()
    };
    let joined = |text: &str| text.contains(['-', ',', '.']);
    let plain = texts.iter().filter(|text| !joined(text));
    let number = plain.flat_map(|text| runs(text).pop()).next().expect("a text with a number");
    let found = rule(&format!(" #### {number}"), json!({}));
    let marked = rule(&format!(" #### {number}"), json!({"after": "####"}));
    let mut right = 0;
    for ((text, score), (_, marked)) in found.iter().zip(&marked).filter(|(it, _)| !joined(&it.0)) {
        let last = runs(text).pop().and_then(|run| run.parse::<f64>().ok());
        assert_eq!(*score == 1.0, last == number.parse().ok(), "{text}");
        assert_eq!(*marked, 0.0, "{text}");
        right += usize::from(*score == 1.0);
    }
    assert!(right > 0, "{number}");
    let folder = with_completions(&vec![" seven".to_owned(); 5]);
    let dataset = json!({"$path": folder.path()});
    let message = refusal("best_of_n", best_of_n(dataset, by(json!({"number_match": {}}))));
    assert!(
        message.contains("reward `key`")
            && message.contains("row `row-70`")
            && message.contains("has no number"),
        "{message}"
    );
}

/// A shell script that answers each line with `answer`.
fn command(script: &str) -> Value {
    by(json!({"command": {"run": ["sh", "-c", script]}}))
}

#[test]
fn a_program_is_asked_about_each_response_and_kept_running() {
    let script = r#"n=0; while read -r row; do n=$((n + 1)); echo "{\"score\": $n}"; done"#;
    let found = scores(command(script));
    let numbers: Vec<f64> = found.iter().map(|(_, score)| *score).collect();
    let expected: Vec<f64> = (1..=20).map(f64::from).collect();
    assert_eq!(numbers, expected, "one process counts all responses");
}

#[test]
fn a_program_reads_the_row_and_the_response() {
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    let script = format!(
        r#"while read -r row; do printf '%s\n' "$row" >> {}; echo '{{"score": 0}}'; done"#,
        seen.display()
    );
    let found = scores(command(&script));
    let text = std::fs::read_to_string(seen).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), found.len());
    for (at, (row, (text, _))) in rows.iter().zip(&found).enumerate() {
        let example = example(70 + at / 4);
        assert_eq!(row["response"].as_str().unwrap(), text);
        assert_eq!(row["split"], "test/id");
        for (field, of) in [("id", "id"), ("prompt", "prompt"), ("reference", "completion")] {
            assert_eq!(row[field], example[of], "{field}");
        }
        assert!(row["ended"].is_boolean());
    }
}

/// It ends after every third answer, in the middle of a prompt's responses.
#[test]
fn a_program_that_ends_is_started_again() {
    let script = r#"for n in 1 2 3; do read -r row || exit 0; echo "{\"score\": ${#row}}"; done"#;
    let whole = r#"while read -r row; do echo "{\"score\": ${#row}}"; done"#;
    let made = make("best_of_n", best_of_n(fixture().at("dataset"), command(script)));
    assert_eq!(candidates(&made), scores(command(whole)));
    let told = format!("{:?}", made.reports);
    assert!(told.contains("it is started again"), "{told}");
}

#[test]
fn what_a_program_answers_wrongly_is_said_with_its_line_and_row() {
    for (script, words) in [
        ("exit 3", "ended twice (exit status: 3) without scoring a response"),
        ("while read -r row; do echo 1; done", "line 1 that `sh` printed"),
        ("while read -r row; do echo 1; done", "row `row-70` of split `test/id`"),
        (
            r#"while read -r row; do echo '{"score": "1"}'; done"#,
            "expected a finite number or null",
        ),
        (
            r#"while read -r row; do echo '{"score": 1}'; echo '{"score": 1}'; done"#,
            "printed a line too many",
        ),
        (
            r#"while read -r row; do echo '{"score": null}'; done"#,
            "no reward applies to a response to row `row-70`",
        ),
    ] {
        let message = refusal("best_of_n", best_of_n(fixture().at("dataset"), command(script)));
        assert!(message.contains(words), "{script}: {message}");
    }
}

/// A part that does not apply is left out of the sum.
#[test]
fn a_reward_that_does_not_apply_is_not_0() {
    let none = json!({"by": {"command": {"run": ["sh", "-c",
        r#"while read -r row; do echo '{"score": null}'; done"#]}}, "weight": 5.0});
    let model = json!({"by": {"reward_model": fixture().at("reward")}});
    let both = scores(json!({"a": none, "b": model}));
    assert_eq!(both, scores(json!({"b": model})));
}

/// The fixture's reward model with a tokenizer whose letters have other ids reads the same text.
#[test]
fn a_reward_model_with_another_tokenizer_reads_text() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer_config.json", "normalisation.json"]
    {
        std::fs::copy(fixture().path(&format!("reward/{file}")), folder.path().join(file)).unwrap();
    }
    let text = std::fs::read_to_string(fixture().path("reward/tokenizer.json")).unwrap();
    // Another file with the same meaning: the same tokens come of text.
    write(&folder.path().join("tokenizer.json"), &format!("{text}\n "));
    let same = scores(by(json!({"reward_model": fixture().at("reward")})));
    let other = scores(by(json!({"reward_model": {"$path": folder.path()}})));
    let read: Vec<_> = same.iter().zip(&other).filter(|(one, other)| one == other).collect();
    // Special tokens within a response are not text; what has none has the same score.
    assert!(read.len() * 2 > same.len(), "{} of {}", read.len(), same.len());
    // Tokens in another order: other ids, so other scores.
    let mut tokenizer: Value = serde_json::from_str(&text).unwrap();
    let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    let (a, b) = (vocabulary["a"].clone(), vocabulary["e"].clone());
    vocabulary.insert("a".into(), b);
    vocabulary.insert("e".into(), a);
    write(&folder.path().join("tokenizer.json"), &tokenizer.to_string());
    let swapped = scores(by(json!({"reward_model": {"$path": folder.path()}})));
    assert_ne!(swapped, other);
    std::fs::remove_file(folder.path().join("normalisation.json")).unwrap();
    let raw = scores(by(json!({"reward_model": {"$path": folder.path()}})));
    assert_ne!(raw, swapped, "a model from outside has no normalisation");
}

/// A policy whose tokenizer has one token for two letters that it also writes apart; the reward
/// model has a token for each letter.
#[test]
fn the_share_of_responses_that_are_encoded_otherwise_is_measured() {
    let policy = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer_config.json"] {
        std::fs::copy(fixture().path(&format!("policy/{file}")), policy.path().join(file)).unwrap();
    }
    let config = |policy: Value, rewards: Value| {
        json!({"policy": policy, "dataset": fixture().at("dataset"), "splits": ["test/id"],
            "rewards": rewards, "n": 32, "sampling": {"max_new_tokens": 40}})
    };
    let model = by(json!({"reward_model": fixture().at("reward")}));
    let plain = make("best_of_n", config(fixture().at("policy"), model.clone()));
    assert!(!plain.text("metrics.jsonl").contains("reencoded"), "one tokenizer");
    let tokens = |made: &Made| -> Vec<Vec<u64>> {
        let rows: Vec<Value> = made.rows("samples.jsonl");
        let all = rows.iter().flat_map(|row| row["candidates"].as_array().unwrap().clone());
        // Special tokens are no text.
        let own = |it: Value| -> Vec<u64> {
            let tokens = it["tokens"].as_array().unwrap().iter();
            tokens.map(|token| token.as_u64().unwrap()).filter(|token| *token > 1).collect()
        };
        all.map(own).collect()
    };
    // The two letters that are beside each other most often.
    let text = std::fs::read_to_string(fixture().path("policy/tokenizer.json")).unwrap();
    let mut tokenizer: Value = serde_json::from_str(&text).unwrap();
    let vocabulary = tokenizer["model"]["vocab"].as_object().unwrap().clone();
    let letter = |id: u64| {
        let found = vocabulary.iter().find(|(_, own)| own.as_u64() == Some(id));
        found.unwrap().0.clone()
    };
    let is_letter = |id: u64| letter(id).chars().all(|c| c.is_ascii_uppercase());
    let is_pair = |pair: &[u64]| pair[0] != pair[1] && pair.iter().all(|id| is_letter(*id));
    let mut counts = std::collections::BTreeMap::new();
    for row in tokens(&plain) {
        for pair in row.windows(2).filter(|pair| is_pair(pair)) {
            *counts.entry((pair[0], pair[1])).or_insert(0) += 1;
        }
    }
    let (one, other) = *counts.iter().max_by_key(|(_, count)| **count).unwrap().0;
    let merged = format!("{}{}", letter(one), letter(other));
    let edited = tokenizer["model"].as_object_mut().unwrap();
    let own = edited["vocab"].as_object_mut().unwrap();
    // It takes the place of a character that no row has.
    let id = own.remove("~").unwrap();
    own.insert(merged, id);
    edited["merges"] = json!([format!("{} {}", letter(one), letter(other))]);
    write(&policy.path().join("tokenizer.json"), &tokenizer.to_string());
    let made = make("best_of_n", config(json!({"$path": policy.path()}), model));
    let rows = tokens(&made);
    let apart = |row: &&Vec<u64>| row.windows(2).any(|pair| pair == [one, other]);
    let expected = rows.iter().filter(apart).count() as f64 / rows.len() as f64;
    assert!(expected > 0.0 && expected < 1.0, "{expected}");
    assert_eq!(made.metric("rewards/key/reencoded"), [expected]);
    // A stage that trains has it of every step, and of an ensemble too.
    let models = json!([fixture().at("reward"), fixture().at("judges/a")]);
    let rewards = json!({"key": {"by": {"ensemble": {"models": models}}}, "rule": {"by": "gold"}});
    let config = json!({"policy": {"$path": policy.path()}, "dataset": fixture().at("dataset"),
        "rewards": rewards, "steps": 2, "batch_size": 4, "samples_per_prompt": 2,
        "max_new_tokens": 12, "kl": {"coef": 0.1}, "optimiser": {"learning_rate": 0.01}});
    let made = make("grpo", config);
    assert_eq!(made.metric("rewards/key/reencoded").len(), 2);
    assert!(!made.text("metrics.jsonl").contains("rewards/rule/reencoded"));
}

#[test]
fn rewards_out_of_range_are_refused_by_field() {
    let fields = |more: Value| -> Vec<String> {
        let mut config = best_of_n(fixture().at("dataset"), json!({}));
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        problems("best_of_n", config).into_iter().map(|problem| problem.field).collect()
    };
    let part = |by: Value| json!({"rewards": {"a": {"by": by}}});
    let llm = |more: Value| {
        let mut model = json!({"endpoint": "http://127.0.0.1:1/v1", "model": "m"});
        model.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"llm": model})
    };
    assert_eq!(fields(json!({})), ["reward_model"]);
    for (by, field) in [
        (json!({"length": {}}), "length"),
        (json!({"length": {"least": 3, "most": 2}}), "length.most"),
        (json!({"overlong": {"buffer": 0}}), "overlong.buffer"),
        (json!({"overlong": {"limit": 3, "buffer": 4}}), "overlong.limit"),
        (json!({"regex": "("}), "regex"),
        (json!({"command": {"run": []}}), "command.run"),
        (llm(json!({"endpoint": "127.0.0.1/v1"})), "llm.endpoint"),
        (llm(json!({"endpoint": "http://key@127.0.0.1/v1"})), "llm.endpoint"),
        (llm(json!({"model": ""})), "llm.model"),
        (llm(json!({"max_tokens": 0})), "llm.max_tokens"),
        (llm(json!({"rpm": 0.0})), "llm.rpm"),
        (llm(json!({"concurrency": 65})), "llm.concurrency"),
        (llm(json!({"timeout": 0.0})), "llm.timeout"),
        (llm(json!({"scale": {"from": 3.0, "to": 3.0}})), "llm.scale"),
        (llm(json!({"grade": {"field": ""}})), "llm.grade.field"),
        (llm(json!({"task": "instructions", "prompt": fixture().at("posts.jsonl")})), "llm.task"),
        (json!({"ensemble": {"models": [fixture().at("reward")]}}), "ensemble.models"),
    ] {
        assert_eq!(fields(part(by)), [format!("rewards.a.by.{field}")]);
    }
    assert_eq!(
        fields(json!({"rewards": {"a": {"by": "gold", "weight": 0}}})),
        ["rewards.a.weight"]
    );
    assert_eq!(fields(json!({"rewards": {"a/b": {"by": "gold"}}})), ["rewards.a/b"]);
}
