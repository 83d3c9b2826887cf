//! What models learned from goes with them and with their samples, and rows that are measured on
//! are held against it; a reward model is a held-out judge by its bytes and pairs, whatever the
//! config says.

use std::path::{Path, PathBuf};

use posttrain::data::lineage::{FILE, Lineage};
use posttrain::data::rows::{Example, Preference, read_jsonl};
use serde_json::{Value, json};

use super::bench::{Made, make, refusal};
use super::fixture::{example, fixture, jsonl, preference, write};

fn optimiser() -> Value {
    json!({"learning_rate": 0.01})
}

fn with(mut config: Value, more: Value) -> Value {
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

/// A dataset of these files.
fn dataset(splits: &[(&str, Vec<Value>)]) -> (tempfile::TempDir, Value) {
    let folder = tempfile::tempdir().unwrap();
    splits.iter().for_each(|(split, rows)| {
        write(&folder.path().join(format!("{split}.jsonl")), &jsonl(rows.clone()))
    });
    let reference = json!({"$path": folder.path()});
    (folder, reference)
}

/// Examples of a row number each.
fn examples(rows: impl IntoIterator<Item = usize>) -> Vec<Value> {
    rows.into_iter().map(example).collect()
}

fn read(numbers: impl IntoIterator<Item = usize>) -> Vec<Example> {
    numbers.into_iter().map(|at| serde_json::from_value(example(at)).unwrap()).collect()
}

fn sft(policy: &Value, dataset: &Value) -> Made {
    make(
        "sft",
        json!({"policy": policy, "dataset": dataset, "batch_size": 4, "optimiser": optimiser()}),
    )
}

fn reward_model(policy: &Value, pairs: &Value, seed: u64) -> Made {
    make(
        "reward_model",
        json!({"policy": policy, "dataset": pairs, "batch_size": 4, "seed": seed,
            "optimiser": optimiser()}),
    )
}

fn generate(policy: &Value, dataset: &Value, more: Value) -> Value {
    with(json!({"policy": policy, "dataset": dataset, "sampling": {"max_new_tokens": 4}}), more)
}

fn of(made: &Made) -> Lineage {
    Lineage::read(&made.path("")).unwrap()
}

fn leaks(made: &Made) -> Value {
    serde_json::from_str(&made.text("leaks.json")).unwrap()
}

/// A folder in the fixture.
fn path(name: &str) -> PathBuf {
    fixture().path(name)
}

#[test]
fn a_model_knows_what_it_and_all_that_it_was_made_of_learned() {
    let (own, all) = (fixture(), |rows: Vec<bool>| rows.iter().all(|seen| *seen));
    let form = json!({"width": 16, "layers": 1, "heads": 2, "feed_forward": 16, "context": 128});
    let base = make(
        "pretrain",
        json!({"dataset": own.at("dataset"), "tokenizer": own.at("tokenizer"), "phases": ["notes"],
            "batch_size": 4, "model": form, "optimiser": optimiser()}),
    );
    let tuned = sft(&base.reference(), &own.at("dataset"));
    let rewards = reward_model(&tuned.reference(), &own.at("preferences"), 0);
    let ppo = make(
        "ppo",
        json!({"policy": tuned.reference(), "reward_model": rewards.reference(),
            "dataset": own.at("dataset"), "steps": 1, "batch_size": 4,
            "max_new_tokens": 4, "kl": {"coef": 0.05}, "optimiser": optimiser()}),
    );
    let plain = make("generate", generate(&tuned.reference(), &own.at("dataset"), json!({})));
    let best = make(
        "best_of_n",
        with(
            generate(&base.reference(), &own.at("dataset"), json!({"n": 2})),
            json!({"reward_model": rewards.reference()}),
        ),
    );
    let (notes, demonstrations, compared, prompts) =
        (read(0..6), read(20..32), read(20..32), read(50..59));
    let pairs: Vec<Preference> = read_jsonl(&path("preferences/preferences.jsonl")).unwrap();
    for (name, made) in [
        ("base", &base),
        ("sft", &tuned),
        ("rewards", &rewards),
        ("ppo", &ppo),
        ("plain", &plain),
        ("best", &best),
    ] {
        let lineage = of(made);
        assert!(!lineage.unknown, "{name}");
        assert!(all(lineage.saw(&notes)), "{name}");
        assert_eq!(all(lineage.saw(&demonstrations)), name != "base", "{name}");
        assert_eq!(
            all(lineage.saw_answers(&pairs)),
            ["rewards", "ppo", "best"].contains(&name),
            "{name}"
        );
        // One step of four prompts has seen four prompts.
        let seen = lineage.saw(&prompts).into_iter().filter(|seen| *seen).count();
        assert_eq!(seen, if name == "ppo" { 4 } else { 0 }, "{name}");
        assert!(
            !lineage.saw(&read((70..75).chain(80..85))).contains(&true),
            "{name}: no model learned from the tests"
        );
        let knows_it = lineage.reward_models.contains(of(&rewards).own.as_ref().unwrap());
        assert_eq!(knows_it, ["rewards", "ppo", "best"].contains(&name), "{name}");
    }
    // A pair's prompt is a training prompt, its completion is none that a policy learned.
    let alone = Lineage::of_rows(&posttrain::data::rows::Rows::Preferences(pairs));
    assert!(all(alone.saw(&compared)));
}

/// Of the pairs, of its policy, and of the reference, whose numbers it learned from.
#[test]
fn a_policy_of_dpo_knows_what_its_reference_learned() {
    let own = fixture();
    let (_folder, notes) = dataset(&[("sft", examples(0..6))]);
    let (policy, other) =
        (sft(&own.at("policy"), &own.at("dataset")), sft(&own.at("policy"), &notes));
    let pairs = own.at("preferences");
    let reference =
        make("reference_logprobs", json!({"policy": other.reference(), "dataset": pairs}));
    assert_eq!(of(&reference), of(&other));
    let made = |more: Value| {
        let base = json!({"policy": policy.reference(), "dataset": pairs, "batch_size": 24,
            "beta": 0.1, "optimiser": optimiser()});
        of(&make("dpo", with(base, more)))
    };
    let with_reference = made(json!({"reference": reference.reference()}));
    let without = made(json!({"loss": "orpo"}));
    let compared: Vec<Preference> = read_jsonl(&path("preferences/preferences.jsonl")).unwrap();
    for (lineage, knows) in [(&with_reference, true), (&without, false)] {
        assert_eq!(lineage.saw(&read(0..6)), [knows; 6]);
        assert_eq!(lineage.saw(&read(20..32)), [true; 12]);
        assert!(lineage.saw_answers(&compared).iter().all(|seen| *seen));
        assert!(!lineage.saw(&read(70..75)).contains(&true));
    }
}

/// Of the rows of both labels, of its policy, and of the reference.
#[test]
fn a_policy_of_kto_knows_its_rows_and_what_its_reference_learned() {
    let own = fixture();
    let (_folder, notes) = dataset(&[("sft", examples(0..6))]);
    let (policy, other) =
        (sft(&own.at("policy"), &own.at("dataset")), sft(&own.at("policy"), &notes));
    let made = |more: Value| {
        let reference = with(json!({"policy": other.reference(), "mismatched": true}), more);
        let reference = make("reference_logprobs", reference);
        assert_eq!(of(&reference), of(&other));
        (reference.reference(), reference)
    };
    let kto = |reference: &Value, more: Value| {
        let base = json!({"policy": policy.reference(), "reference": reference,
            "batch_size": 48, "beta": 0.1, "optimiser": optimiser()});
        of(&make("kto", with(base, more)))
    };
    let (reference, _kept) = made(json!({"dataset": own.at("preferences")}));
    let of_pairs = kto(&reference, json!({"dataset": own.at("preferences")}));
    let compared: Vec<Preference> = read_jsonl(&path("preferences/preferences.jsonl")).unwrap();
    assert!(of_pairs.saw_answers(&compared).iter().all(|seen| *seen));
    let splits = json!({"dataset": own.at("dataset"), "splits": ["prompts", "compare"]});
    let (reference, _kept) = made(splits);
    let of_single = kto(
        &reference,
        json!({"dataset": own.at("dataset"), "desirable": "prompts", "undesirable": "compare"}),
    );
    assert_eq!(of_single.saw(&read(50..59)), [true; 9]);
    assert_eq!(of_single.saw(&read(40..44)), [true; 4]);
    for lineage in [&of_pairs, &of_single] {
        assert_eq!(lineage.saw(&read(0..6)), [true; 6], "the reference's");
        assert_eq!(lineage.saw(&read(20..32)), [true; 12], "the policy's");
        assert!(!lineage.saw(&read(70..75)).contains(&true));
    }
}

#[test]
fn a_model_from_outside_is_unknown_unless_it_was_made_here() {
    let outside = make("model", json!({"path": fixture().at("policy")}));
    assert!(of(&outside).unknown);
    let tuned = sft(&outside.reference(), &fixture().at("dataset"));
    assert!(of(&tuned).unknown && of(&tuned).saw(&read(20..21))[0]);
    let again = make("model", json!({"path": tuned.reference()}));
    assert_eq!(of(&again), of(&tuned));
    let answers =
        make("generate", generate(&tuned.reference(), &fixture().at("dataset"), json!({})));
    let found = leaks(&answers);
    assert_eq!(
        [&found["on_leak"], &found["leaks"], &found["unknown"]],
        [&json!("refuse"), &json!([]), &json!(["policy"])]
    );
    // A file that was cut short is no clean lineage.
    let folder = tempfile::tempdir().unwrap();
    let bytes = again.bytes(FILE);
    std::fs::write(folder.path().join(FILE), &bytes[..bytes.len() - 3]).unwrap();
    let error = Lineage::read(folder.path()).unwrap_err();
    assert_eq!(posttrain::error::kind_of(&error), posttrain::error::Kind::User);
    assert!(error.to_string().contains("is not whole"), "{error}");
}

#[test]
fn a_test_prompt_that_the_policy_learned_is_refused_left_out_or_kept_before_anything_is_sampled() {
    // The second test row is a demonstration, in another case and spacing.
    let mut planted = example(21);
    planted["id"] = json!("planted");
    planted["prompt"] =
        json!(planted["prompt"].as_str().unwrap().to_uppercase().replace(' ', "  "));
    let (_folder, tests) =
        dataset(&[("test/id", vec![example(70), planted, example(71)]), ("sft", examples(20..22))]);
    let tuned = sft(&fixture().at("policy"), &fixture().at("dataset"));
    let refused = refusal("generate", generate(&tuned.reference(), &tests, json!({})));
    for part in [
        "1 of 3 rows of split `test/id` were trained on, by `policy` (1): `planted`",
        "`on_leak: remove`",
        "`on_leak: allow`",
    ] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    let removed =
        make("generate", generate(&tuned.reference(), &tests, json!({"on_leak": "remove"})));
    let ids = |made: &Made| {
        made.rows::<Value>("samples.jsonl")
            .iter()
            .map(|row| row["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&removed), ["row-70", "row-71"]);
    let found = json!([{"split": "test/id", "of": "rows", "all": 3, "seen": 1,
        "models": {"policy": 1}, "first": ["planted"]}]);
    assert_eq!(leaks(&removed)["leaks"], found);
    assert!(removed.warnings()[0].contains("they are left out"), "{:?}", removed.warnings());
    let kept = make("generate", generate(&tuned.reference(), &tests, json!({"on_leak": "allow"})));
    assert_eq!((ids(&kept).len(), &leaks(&kept)["leaks"]), (3, &found));
    // Who names a training split means it.
    let meant = make("generate", generate(&tuned.reference(), &tests, json!({"splits": ["sft"]})));
    assert_eq!((ids(&meant).len(), &leaks(&meant)["leaks"][0]["seen"]), (2, &json!(2)));
    // Where nothing would be left there is nothing to measure.
    let (_folder, all) = dataset(&[("test/id", examples(20..22))]);
    assert!(
        refusal("generate", generate(&tuned.reference(), &all, json!({"on_leak": "remove"})))
            .contains("none is left")
    );
}

/// Pairs of these rows, of a name each, as the split of training and as a test set.
fn pairs(training: &[usize], test: &[usize]) -> (tempfile::TempDir, Value) {
    let rows = |rows: &[usize]| rows.iter().map(|at| preference(*at)).collect();
    dataset(&[("preferences", rows(training)), ("test/id", rows(test))])
}

fn evaluation(rewards: &Value, preferences: &Value, more: Value) -> Value {
    let own = fixture();
    with(
        json!({"dataset": own.at("dataset"), "test_sets": ["id"], "reward_model": rewards,
            "reference_policy": own.at("policy"), "preferences": preferences,
            "judge": "gold", "methods": [{"name": "policy", "outputs": own.at("outputs"),
                "samples": own.at("samples")}]}),
        more,
    )
}

#[test]
fn an_evaluation_holds_its_test_sets_against_every_models_training() {
    // The reward model learned from pairs of two test prompts, and from one pair that it is
    // measured on.
    let (_folder, preferences) = pairs(&[20, 70, 72, 90], &[90, 91]);
    let made_rewards = reward_model(&fixture().at("policy"), &preferences, 0);
    let rewards = made_rewards.reference();
    let refused = refusal("evaluate", evaluation(&rewards, &preferences, json!({})));
    for part in [
        "2 of 5 rows of split `test/id` were trained on, by `reward_model` (2): `row-70`, `row-72`",
        "1 of 2 pairs of split `test/id` were trained on, by `reward_model` (1)",
        "leaks: remove",
    ] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    let removed =
        make("evaluate", evaluation(&rewards, &preferences, json!({"on_leak": "remove"})));
    let kept = make("evaluate", evaluation(&rewards, &preferences, json!({"on_leak": "allow"})));
    for (made, rows, pairs, fate) in [(&removed, 3, 1, "left out"), (&kept, 5, 2, "kept")] {
        let table: Value = serde_json::from_str(&made.text("table.json")).unwrap();
        let n = |metric: &str| {
            table["rows"].as_array().unwrap().iter().find(|row| row["metric"] == metric).unwrap()["n"].clone()
        };
        assert_eq!((n("gold"), n("rm_accuracy")), (json!(rows), json!(pairs)));
        for file in ["table.txt", "table.md"] {
            let note = format!(
                "Leaks: 2 of 5 rows of split `test/id` were trained on, by `reward_model` (2): \
                 `row-70`, `row-72`: they are {fate}."
            );
            let text = made.text(file).split_whitespace().collect::<Vec<&str>>().join(" ");
            assert!(text.contains(&note), "{note}: {text}");
            assert!(text.contains(
                "Leaks: `reward_model`, `reference_policy`, `methods.policy` came from outside"
            ));
        }
        assert_eq!(leaks(made)["leaks"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn held_out_pairs_of_training_prompts_are_no_leak() {
    let (mut new, old) = (preference(20), preference(20));
    new["chosen"] = json!(" quite another text .");
    new["rejected"] = json!(" and a third .");
    let (_folder, preferences) =
        dataset(&[("preferences", vec![old, preference(21)]), ("test/id", vec![new])]);
    let made_rewards = reward_model(&fixture().at("policy"), &preferences, 0);
    let rewards = made_rewards.reference();
    let made = make("evaluate", evaluation(&rewards, &preferences, json!({})));
    assert_eq!(leaks(&made)["leaks"], json!([]));
    let judged = make("judge", json!({"dataset": preferences, "judge": {"reward_model": rewards}}));
    assert_eq!(leaks(&judged)["leaks"], json!([]));
}

#[test]
fn a_judge_of_the_same_bytes_or_pairs_as_what_it_judges_is_not_held_out_whatever_its_config() {
    let own = fixture();
    // Two datasets of different configs have the same pairs; a third has one of them.
    let (_a, first) = pairs(&[20, 21, 22], &[90]);
    let (_b, second) = pairs(&[20, 21, 22], &[91]);
    let (_c, third) = pairs(&[22, 40], &[90]);
    let (_d, fourth) = pairs(&[40, 41], &[90]);
    let rewards = reward_model(&own.at("policy"), &first, 0);
    let best = make(
        "best_of_n",
        with(
            generate(&own.at("policy"), &own.at("dataset"), json!({"n": 2})),
            json!({"reward_model": rewards.reference()}),
        ),
    );
    let judge = |model: &Made, more: Value| {
        with(
            json!({"dataset": own.at("dataset"), "a": best.reference(),
                "judge": {"reward_model": model.reference()}}),
            more,
        )
    };
    let twin = reward_model(&own.at("policy"), &second, 0);
    assert_eq!(twin.bytes("model.safetensors"), rewards.bytes("model.safetensors"));
    let refused = refusal("judge", judge(&twin, json!({})));
    assert!(
        refused
            .contains("the judge is the reward model that `a` was optimised against or chosen by"),
        "{refused}"
    );
    assert!(refused.contains("another seed"), "{refused}");
    let sister = reward_model(&own.at("policy"), &third, 5);
    let refused = refusal("judge", judge(&sister, json!({})));
    assert!(
        refused
            .contains("1 of the 2 pairs that it was trained on trained a reward model of `a` too"),
        "{refused}"
    );
    // No row can be left out to mend that.
    assert_eq!(refusal("judge", judge(&sister, json!({"on_leak": "remove"}))), refused);
    let other = reward_model(&own.at("policy"), &fourth, 5);
    let stranger = make("judge", judge(&other, json!({})));
    let summary =
        |made: &Made| -> Value { serde_json::from_str(&made.text("summary.json")).unwrap() };
    assert_eq!(summary(&stranger)["held_out"], json!(true));
    let allowed = make("judge", judge(&sister, json!({"on_leak": "allow"})));
    assert_eq!(summary(&allowed)["held_out"], json!(false));

    // In an evaluation a judge must be held out from every method, not only from the one that it
    // judged.
    let plain = make("generate", generate(&own.at("policy"), &own.at("dataset"), json!({})));
    let of_plain = make("judge", with(judge(&sister, json!({})), json!({"a": plain.reference()})));
    assert_eq!(
        summary(&of_plain)["held_out"],
        json!(true),
        "plain had nothing to do with a reward model"
    );
    let method = |name: &str, outputs: &Made| json!({"name": name, "outputs": outputs.reference(), "samples": outputs.reference()});
    let evaluation = |more: Value| {
        with(
            json!({"dataset": own.at("dataset"), "reward_model": rewards.reference(),
                "reference_policy": own.at("policy"), "judge": "gold",
                "judges": {"other": {"plain": of_plain.reference()}},
                "methods": [method("plain", &plain), method("best", &best)]}),
            more,
        )
    };
    let refused = refusal("evaluate", evaluation(json!({})));
    assert!(refused.contains("`judges.other` is not held out: 1 of the 2 pairs"), "{refused}");
    assert!(refused.contains("`methods.best`"), "{refused}");
    let made = make("evaluate", evaluation(json!({"on_leak": "allow"})));
    let judges: Value = serde_json::from_str(&made.text("judges.json")).unwrap();
    assert_eq!(judges[0]["held_out"], json!(false));
    let text = made.text("table.txt").split_whitespace().collect::<Vec<&str>>().join(" ");
    assert!(
        text.contains("as judged by a reward model that is not held out (`judges.other` is"),
        "{text}"
    );
}

#[test]
fn verdicts_on_rows_that_are_left_out_are_left_out_too() {
    let own = fixture();
    let (_folder, preferences) = pairs(&[20, 70, 21], &[90]);
    let made_rewards = reward_model(&own.at("policy"), &preferences, 0);
    let rewards = made_rewards.reference();
    let judged = make(
        "judge",
        json!({"dataset": own.at("dataset"), "a": own.at("outputs"), "judge": "gold"}),
    );
    let removed = make(
        "evaluate",
        evaluation(
            &rewards,
            &preferences,
            json!({"on_leak": "remove", "judges": {"exact": {"policy": judged.reference()}}}),
        ),
    );
    let table: Value = serde_json::from_str(&removed.text("table.json")).unwrap();
    let row = table["rows"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["metric"] == "win_rate_exact")
        .unwrap()
        .clone();
    assert_eq!(row["n"], json!(4));
    // The judge's own stage refuses what its model learned.
    let refused = refusal(
        "judge",
        json!({"dataset": own.at("dataset"), "a": own.at("outputs"),
            "judge": {"reward_model": rewards}}),
    );
    assert!(
        refused.contains(
            "1 of 5 rows of split `test/id` were trained on, by `judge.reward_model` (1): `row-70`"
        ),
        "{refused}"
    );
}

#[test]
fn a_lineage_is_small_and_the_same_for_any_order_of_rows() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<Example> = read(100..1100);
    let size = |rows: &[Example], name: &str| {
        let folder = folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        Lineage::of_examples(rows).write(&folder).unwrap();
        std::fs::read(Path::new(&folder).join(FILE)).unwrap()
    };
    let bytes = size(&rows, "a");
    assert!(bytes.len() < 1000 * 4 * 8 + 200, "{} bytes of 1000 rows", bytes.len());
    let turned: Vec<Example> = rows.iter().rev().cloned().collect();
    assert_eq!(bytes, size(&turned, "b"));
    // Joined with itself it is itself.
    let (one, two) = (Lineage::of_examples(&rows), Lineage::of_examples(&turned));
    assert_eq!(one.clone().with(two), one);
}
