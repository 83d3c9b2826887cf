//! A judge that is the optimised reward model, under another config: found by bytes when it is to
//! judge, and the study's pairs of other posts are no such judge.

use serde_json::Value;

use super::smoke::{SMOKE, endings, events, filled, run, with_param};
#[test]
fn a_judge_with_the_seed_of_the_study_is_refused() {
    // Everything is in the cache except what the judge's seed decides.
    let place = filled(&with_param(SMOKE, "judge_seed", "0"));
    let said = place.say(&["run", "p.yaml", "--keep-going", "--log", "json"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert_eq!(
        place.artefact("reward_model"),
        place.artefact("judge_model"),
        "two configs, one object"
    );
    let ended = endings(&events(&said));
    for (node, ending) in [
        ("judge_world", "ran"),
        ("best_judged", "failed"),
        ("ppo_judged", "failed"),
        ("evaluation", "skipped"),
    ] {
        assert_eq!(ended[node], ending, "{node}");
    }
    // Now that both are made, it is seen before anything runs.
    for command in ["plan", "run"] {
        let said = place.say(&[command, "p.yaml"]);
        let what = "what `judge_model` made had a part in `best_outputs`, which it is to judge";
        assert!(
            said.code == 2 && said.err.contains(what) && said.err.contains("another seed"),
            "{}",
            said.err
        );
    }
    // What no reward model had a part in, it may judge; the evaluation, which compares it with what
    // one had, is not reached.
    assert_eq!(ended["sft_judged"], "ran");
    assert!(
        said.out
            .contains("the judge is the reward model that `a` was optimised against or chosen by"),
        "{}",
        said.out
    );
}

#[test]
fn the_study_finds_no_leak_and_its_judge_held_out() {
    let place = filled(SMOKE);
    run(&place, &[]);
    let read = |node: &str, file: &str| -> Value {
        serde_json::from_str(&place.made(node, file)).unwrap()
    };
    for node in [
        "base_outputs",
        "best_samples",
        "judge_candidates",
        "judge_validity",
        "ppo_judged",
        "evaluation",
    ] {
        let found = read(node, "leaks.json");
        assert_eq!(
            (&found["leaks"], &found["unknown"]),
            (&Value::Array(Vec::new()), &Value::Array(Vec::new())),
            "{node}"
        );
    }
    assert_eq!(
        (
            &read("ppo_judged", "summary.json")["held_out"],
            &read("evaluation", "judges.json")[0]["held_out"]
        ),
        (&true.into(), &true.into())
    );
}
