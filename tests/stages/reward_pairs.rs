//! Preference pairs of candidates, by reward and by diversity.

use posttrain::data::lineage::Lineage;
use posttrain::data::rows::{Preference, read_jsonl};
use serde_json::{Value, json};

use super::bench::{Made, make, refusal};
use super::fixture::{fixture, jsonl, write};

/// A candidate: reward, log-probability, text.
type Scored = (Option<f64>, f64, &'static str);

/// A samples artefact with one row for each list of candidates.
fn candidates(rows: &[Vec<Scored>]) -> (tempfile::TempDir, Value) {
    let output = |(reward, logprob, text): &Scored| {
        let mut output = json!({"text": text, "tokens": [1], "logprob": logprob, "ended": true});
        if let Some(reward) = reward {
            output["reward"] = json!(reward);
        }
        output
    };
    let row = |(at, outputs): (usize, &Vec<Scored>)| {
        let outputs: Vec<Value> = outputs.iter().map(output).collect();
        json!({"split": "prompts", "id": format!("r{at}"), "prompt": format!("p{at}"),
            "outputs": [outputs[0]], "best_of": outputs.len(), "candidates": outputs})
    };
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("samples.jsonl"), &jsonl(rows.iter().enumerate().map(row)));
    let path = json!({"$path": folder.path()});
    (folder, path)
}

fn config(candidates: &Value, more: Value) -> Value {
    let mut options = json!({"candidates": candidates, "splits": {"preferences": "prompts"}});
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"source": {"reward_pairs": options}})
}

fn pairs(made: &Made) -> Vec<Preference> {
    read_jsonl(&made.path("preferences.jsonl")).unwrap()
}

/// The example of DivPO's rule with eight responses whose result an independent script gives:
/// response 2 is chosen, response 7 rejected.
#[test]
fn the_most_diverse_of_the_best_is_chosen_and_the_least_diverse_of_the_worst_rejected() {
    let rewards = [0.9, 0.1, 0.8, 0.5, -0.3, 0.7, 0.2, -0.6];
    let diversity = [0.2, 0.9, 0.6, 0.3, 0.5, 0.7, 0.1, 0.4];
    let texts = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let row = (0..8).map(|at| (Some(rewards[at]), -diversity[at], texts[at])).collect();
    let (_folder, path) = candidates(&[row]);
    let found = pairs(&make("dataset", config(&path, json!({"pairs": {"diverse": {}}}))));
    assert_eq!([found[0].chosen.as_str(), &found[0].rejected], ["c", "h"]);
    assert!((found[0].margin.unwrap() - 1.4).abs() < 1e-12);
    assert_eq!((found[0].id.as_str(), found[0].prompt.as_str()), ("r0", "p0"));
    let found = pairs(&make("dataset", config(&path, json!({}))));
    assert_eq!([found[0].chosen.as_str(), &found[0].rejected], ["a", "h"]);
    // A pool of all: the most and the least diverse, and the reward has to agree.
    let all = json!({"pairs": {"diverse": {"pool": 1.0}}});
    let refused = refusal("dataset", config(&path, all));
    assert!(refused.contains("no prompt of split `prompts` gives a preference pair"), "{refused}");
}

#[test]
fn diversity_by_novelty_reads_the_words() {
    let of = |reward, text| (Some(reward), -1.0, text);
    let row =
        vec![of(1.0, "a b c"), of(0.9, "x y z"), of(0.8, "a b c"), of(0.1, "a b c"), of(0.0, "q")];
    let (_folder, path) = candidates(&[row]);
    let by = json!({"pairs": {"diverse": {"pool": 0.4, "by": "novelty"}}});
    let found = pairs(&make("dataset", config(&path, by)));
    assert_eq!([found[0].chosen.as_str(), &found[0].rejected], ["x y z", "a b c"]);
}

#[test]
fn a_prompt_whose_candidates_say_nothing_gives_no_pair_and_is_counted() {
    let of = |reward, text| (reward, -1.0, text);
    let rows = [
        vec![of(Some(1.0), "a"), of(None, "b"), of(Some(0.25), "c")],
        vec![of(Some(1.0), "a"), of(None, "b")],
        vec![of(Some(1.0), "a"), of(Some(1.0), "b")],
        vec![of(Some(1.0), "a"), of(Some(0.5), "a")],
        vec![of(Some(1.0), "a"), of(Some(0.5), "b")],
    ];
    let (_folder, path) = candidates(&rows);
    let ids = |made: &Made| pairs(made).iter().map(|pair| pair.id.clone()).collect::<Vec<_>>();
    let made = make("dataset", config(&path, json!({})));
    assert_eq!(ids(&made), ["r0", "r4"]);
    assert!(made.warnings()[0].contains("3 of 5 prompts give no pair"), "{:?}", made.warnings());
    assert_eq!(ids(&make("dataset", config(&path, json!({"min_gap": 0.5})))), ["r0"]);
}

#[test]
fn candidates_that_have_no_rewards_and_splits_that_are_not_there_are_refused() {
    let own = fixture();
    let source = |candidates: Value, split: &str| {
        json!({"source": {"reward_pairs": {"candidates": candidates,
            "splits": {"preferences": split}}}})
    };
    let refused = refusal("dataset", source(own.at("outputs"), "test/id"));
    assert!(refused.contains("row `row-70` of split `test/id` has no candidates"), "{refused}");
    let refused = refusal("dataset", source(own.at("pool"), "prompts"));
    assert!(refused.contains("no split `prompts`; they have `test/id`, `test/ood`"), "{refused}");
}

/// The reward model that chose had a part in what is trained on the pairs, so it is no judge of it.
#[test]
fn what_is_trained_on_the_pairs_has_learned_from_the_reward_model() {
    let own = fixture();
    let reward = make(
        "reward_model",
        json!({"policy": own.at("policy"), "dataset": own.at("preferences"), "batch_size": 4,
            "optimiser": {"learning_rate": 0.01}}),
    );
    let best = make(
        "best_of_n",
        json!({"policy": own.at("policy"), "reward_model": reward.reference(),
            "dataset": own.at("dataset"), "splits": ["prompts"], "n": 4,
            "sampling": {"max_new_tokens": 8}}),
    );
    let made = make("dataset", config(&best.reference(), json!({})));
    assert_eq!(pairs(&made).len(), 9);
    let picked = make(
        "dataset",
        json!({"source": {"select": {"dataset": made.reference(),
            "splits": {"preferences": {"from": "preferences"}}}}}),
    );
    for dataset in [&made, &picked] {
        let tuned = make(
            "dpo",
            json!({"policy": own.at("policy"), "loss": "orpo", "beta": 0.1,
                "dataset": dataset.reference(), "batch_size": 4,
                "optimiser": {"learning_rate": 0.01}}),
        );
        let lineage = Lineage::read(&tuned.path("")).unwrap();
        let identity = Lineage::read(&reward.path("")).unwrap().own.unwrap();
        assert!(lineage.reward_models.contains(&identity));
    }
}
