//! Sentinels as a user meets them: warnings of a run, what fired after it, cached stages too, and
//! an end by one.

use serde_json::{Value, json};

use super::place::Place;
use crate::stages::fixture::{fixture, jsonl, prompt, summary};

/// Supervised fine-tuning with this learning rate and these settings of sentinels.
fn tuned(rate: f64, sentinels: &str) -> String {
    let policy = fixture().path("policy");
    let policy = policy.display();
    format!(
        "stages:
  rows:
    uses: dataset
    source:
      files:
        sft: {{path: rows.jsonl, prompt: \"{{prompt}}\", completion: \"{{completion}}\"}}
  policy: {{uses: model, path: {policy}}}
  tuned:
    uses: sft
    policy: policy
    dataset: rows
    batch_size: 4
    epochs: 5
    sentinels: {sentinels}
    optimiser: {{learning_rate: {rate}}}
"
    )
}

fn place(rate: f64, sentinels: &str) -> Place {
    let place = Place::new(&tuned(rate, sentinels));
    let row = |at: usize| json!({"prompt": prompt(at), "completion": summary(at)});
    place.write("rows.jsonl", &jsonl((0..12).map(row)));
    place
}

#[test]
fn what_fires_is_shown_while_the_stage_runs_and_whenever_it_is_cached() {
    let place = place(3.0, "{}");
    let said = place.good(&["run", "p.yaml"]);
    assert!(said.err.contains("warning: tuned: sentinel `loss_rise` at step "), "{}", said.err);
    assert!(said.err.contains("training diverges. Lower the learning rate"), "{}", said.err);
    let after = "Sentinels that fired\ntuned: loss_rise at step ";
    assert!(said.out.contains(after), "{}", said.out);
    let cached = place.good(&["run", "p.yaml"]);
    assert!(cached.out.contains(after) && !cached.err.contains("warning"), "{}", cached.err);

    let shown = place.good(&["show", "p.yaml", "tuned"]).out;
    assert!(shown.contains("  sentinel  sentinel `loss_rise` at step "), "{shown}");
    let shown: Value =
        serde_json::from_str(&place.good(&["show", "p.yaml", "tuned", "--json"]).out).unwrap();
    assert_eq!(shown[0]["sentinels"]["fired"][0]["sentinel"], "loss_rise");
    let listed = place.good(&["sentinels"]).out;
    let counted = |name: &str, count: &str| {
        listed.lines().any(|line| line.starts_with(name) && line.ends_with(count))
    };
    assert!(counted("loss_rise", "1 of 1 stage"), "{listed}");
    assert!(counted("frozen_moved", "0 of 1 stage"), "{listed}");
    let listed: Value = serde_json::from_str(&place.good(&["sentinels", "--json"]).out).unwrap();
    assert_eq!(listed["stages"][0]["node"], "tuned");
    place.good(&["report", "--output", "page.html"]);
    assert!(place.read("page.html").contains("<td>loss_rise<td>"), "the page has it");
}

/// Settings are in no key, and the record of a run has them.
#[test]
fn another_setting_makes_nothing_again_and_silences_what_is_shown() {
    let place = place(3.0, "{}");
    place.good(&["run", "p.yaml"]);
    place.pipeline(&tuned(3.0, "{loss_rise: off, deterministic: off}"));
    assert_eq!(place.counts(&[]).0, 0, "nothing runs");
    let said = place.good(&["run", "p.yaml"]);
    assert!(!said.out.contains("Sentinels that fired"), "{}", said.out);
    let shown = place.good(&["show", "p.yaml", "tuned"]).out;
    assert!(shown.contains("  sentinel  none of "), "{shown}");
    assert!(place.good(&["sentinels"]).out.contains("frozen_moved"));
    assert!(!place.good(&["sentinels"]).out.contains("loss_rise"), "it is off in this run");
    place.good(&["report", "--output", "page.html"]);
    assert!(!place.read("page.html").contains("<td>loss_rise<td>"), "nor on its page");
}

#[test]
fn a_sentinel_that_stops_ends_its_stage_with_what_to_do() {
    let place = place(3.0, "{loss_rise: {stop_at: 1.25}}");
    let said = place.say(&["run", "p.yaml"]);
    assert_eq!(said.code, 1, "{}", said.err);
    for words in
        ["tuned", "sentinel `loss_rise` at step", "above 1.25", "goes on from the checkpoint"]
    {
        assert!(said.err.contains(words), "{words}: {}", said.err);
    }
    place.pipeline(&tuned(3.0, "{loss_rise: warn}"));
    let said = place.good(&["run", "p.yaml"]);
    assert!(said.err.contains("goes on from its checkpoint"), "{}", said.err);
}

#[test]
fn a_name_that_no_sentinel_has_is_an_error_at_its_place() {
    let said = place(0.01, "{los_rise: off}").say(&["plan", "p.yaml"]);
    assert_eq!(said.code, 2, "{}", said.err);
    for words in ["sentinels.los_rise", "expected a name of", "loss_rise", "found no sentinel"] {
        assert!(said.err.contains(words), "{words}: {}", said.err);
    }
}

/// A run of `grpo` whose reward is constant, which its rollouts say.
fn rewarded() -> Place {
    let place = Place::new(&of_constant_reward(""));
    let row = |at: usize| json!({"prompt": prompt(at), "completion": summary(at)});
    place.write("rows.jsonl", &jsonl((0..4).map(row)));
    place
}

/// Its pipeline, with more fields of that stage, or more stages.
fn of_constant_reward(more: &str) -> String {
    let policy = fixture().path("policy");
    let policy = policy.display();
    format!(
        "stages:
  rows:
    uses: dataset
    source:
      files:
        prompts: {{path: rows.jsonl, prompt: \"{{prompt}}\", completion: \"{{completion}}\"}}
  policy: {{uses: model, path: {policy}}}
  tuned:
    uses: grpo
    policy: policy
    dataset: rows
    rewards: {{any: {{by: {{length: {{most: 99}}}}}}}}
    steps: 3
    batch_size: 2
    samples_per_prompt: 2
    max_new_tokens: 6
    kl: {{coef: 0.1}}
    optimiser: {{learning_rate: 0.001}}
{more}"
    )
}

/// The figures of its rollouts are those of the step that is taken again.
#[test]
fn a_replay_is_shown_with_its_step() {
    let place = rewarded();
    place.pipeline(&of_constant_reward(
        "    record: [3]
  again:
    uses: grpo
    policy: policy
    dataset: rows
    rewards: {any: {by: {length: {most: 99}}}}
    steps: 3
    batch_size: 2
    samples_per_prompt: 2
    max_new_tokens: 6
    kl: {coef: 0.1}
    replay: {of: tuned, step: 3}
    optimiser: {learning_rate: 0.1}
",
    ));
    place.good(&["run", "p.yaml"]);
    let shown = place.good(&["show", "p.yaml", "again"]).out;
    assert!(shown.contains("from    replay.of: tuned"), "{shown}");
    assert!(shown.contains("sentinel  none of "), "{shown}");
    let step = shown.lines().find(|line| line.contains("metric  step"));
    assert!(step.is_some_and(|line| line.ends_with(" 3.000")), "{shown}");
    let folder = place.path("cache/v1/derived");
    let mut counts: Vec<usize> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
        .map(|text| text.matches("\"responses/score_std\":0.0").count())
        .collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 3], "of the one step, and of all");
}

/// Figures of rollouts are read from what was remembered, and from the rollouts where that is gone,
/// broken or of another form.
#[test]
fn figures_of_rollouts_are_remembered_and_made_anew_where_they_are_gone() {
    let place = rewarded();
    let first = place.good(&["run", "p.yaml"]).out;
    assert!(first.contains("tuned: constant_reward at step 2"), "{first}");
    // The runs have ids, and the same stages.
    let stages = || -> Value {
        let listed = place.good(&["sentinels", "--json"]).out;
        serde_json::from_str::<Value>(&listed).unwrap()["stages"].take()
    };
    let listed = stages();
    let folder = place.path("cache/v1/derived");
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|it| it.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let whole = std::fs::read_to_string(&files[0]).unwrap();
    let constant = "\"responses/score_std\":0.0";
    assert_eq!(whole.matches(constant).count(), 3, "{whole}");
    // Without its sum, as an earlier program wrote it, it is believed.
    let (bare, _) = whole.rsplit_once(",\"check\"").unwrap();
    for (text, fires) in [
        (format!("{bare}}}").replace(constant, "\"responses/score_std\":1.0"), false),
        (whole.replace(constant, "\"responses/score_std\":1.0"), true),
        (whole.replace("\"form\":\"", "\"form\":\"earlier "), true),
        (whole[..whole.len() / 2].to_owned(), true),
    ] {
        std::fs::write(&files[0], text).unwrap();
        let again = place.good(&["run", "p.yaml"]).out;
        assert_eq!(again.contains("constant_reward at step 2"), fires, "{again}");
        assert_eq!(stages() == listed, fires);
    }
    std::fs::remove_file(&files[0]).unwrap();
    assert_eq!(stages(), listed);
    assert_eq!(std::fs::read_to_string(&files[0]).unwrap(), whole, "it is remembered again");
}
