//! After an edit: the plan names what it touches and nothing else, and the run does what the plan
//! said.

use std::collections::BTreeSet;

use super::smoke::{Plan, SMOKE, edited, endings, filled, param, run, undisturbed, with_param};
use crate::cli::place::Place;

fn set<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

/// Plans and runs: `roots` run, what needs them is unknown before, all else is cached. Then nothing
/// is left to do.
fn touches(place: &Place, more: &[&str], roots: &[&str]) {
    let plan = Plan::of(place, more);
    assert_eq!(plan.run, set(roots.iter().copied()), "to run");
    assert_eq!(plan.unknown, plan.after(&plan.run), "unknown until they finish");
    let said = run(place, more);
    for (node, ending) in endings(&said) {
        let expected: &[&str] = match (plan.run.contains(&node), plan.unknown.contains(&node)) {
            (true, _) => &["ran"],
            (_, true) => &["ran", "cached"],
            _ => &["cached"],
        };
        assert!(expected.contains(&ending.as_str()), "{node} {ending}, expected {expected:?}");
    }
    let after = Plan::of(place, more);
    assert!(
        after.run.is_empty() && after.unknown.is_empty(),
        "{:?} {:?}",
        after.run,
        after.unknown
    );
    assert_eq!(after.cached.len(), plan.needs.len());
}

#[test]
fn a_kl_coefficient_reruns_ppo_and_what_reads_it() {
    let place = filled(&with_param(SMOKE, "kl", "0.123"));
    let plan = Plan::of(&place, &[]);
    assert_eq!(plan.run, set(["ppo"]));
    assert_eq!(plan.unknown, set(["ppo_outputs", "ppo_samples", "ppo_judged", "evaluation"]));
    touches(&place, &[], &["ppo"]);
    // The same by an option, and back again without a run.
    touches(&filled(SMOKE), &["--set", "kl=0.123"], &["ppo"]);
    place.pipeline(SMOKE);
    touches(&place, &[], &[]);
    // Another spelling of the same number is no edit.
    let kl: f64 = param(SMOKE, "kl").parse().unwrap();
    for number in [format!("{kl:e}"), format!("{kl:.6}"), format!("{}e-3", 1e3 * kl)] {
        assert_ne!(number, param(SMOKE, "kl"));
        place.pipeline(&with_param(SMOKE, "kl", &number));
        touches(&place, &[], &[]);
    }
}

#[test]
fn an_sft_learning_rate_reruns_sft_and_all_that_follows() {
    let place = filled(&with_param(SMOKE, "sft_learning_rate", "0.00123"));
    let plan = Plan::of(&place, &[]);
    assert_eq!(
        plan.cached,
        set(["world", "tokenizer", "base", "base_outputs", "base_samples", "judge_world"])
    );
    touches(&place, &[], &["sft"]);
}

#[test]
fn a_count_of_samples_for_evaluation_reruns_these_samples_and_the_evaluation() {
    let more = param(SMOKE, "diversity_samples").parse::<u32>().unwrap() + 1;
    let place = filled(&with_param(SMOKE, "diversity_samples", &more.to_string()));
    assert_eq!(Plan::of(&place, &[]).unknown, set(["evaluation"]));
    touches(&place, &[], &["base_samples", "sft_samples", "ppo_samples", "best_samples"]);
}

#[test]
fn a_param_that_only_the_reward_model_reads_reruns_it_and_what_reads_it() {
    let place = filled(&with_param(SMOKE, "reward_learning_rate", "0.00123"));
    let plan = Plan::of(&place, &[]);
    let judged = ["judge_validity", "sft_judged", "best_judged", "ppo_judged"];
    let read = ["ppo", "ppo_outputs", "ppo_samples", "best_outputs", "best_samples", "evaluation"];
    assert_eq!(plan.unknown, set(read.into_iter().chain(judged)));
    touches(&place, &[], &["reward_model", "judge_model"]);
}

#[test]
fn a_comment_a_name_and_an_order_rerun_nothing() {
    let place =
        filled(&format!("# A remark.\n{}", SMOKE.replace("\n  ppo:", "\n  # Another.\n  ppo:")));
    touches(&place, &[], &[]);
    // A stage by another name, wherever it is named.
    let renamed = SMOKE
        .replace("reward_model: reward_model", "reward_model: chooser")
        .replace("\n  reward_model:\n", "\n  chooser:\n");
    assert_eq!(
        renamed.matches("chooser").count(),
        SMOKE.matches("reward_model: reward_model").count() + 1
    );
    place.pipeline(&renamed);
    touches(&place, &[], &[]);
    place.pipeline(&edited(SMOKE, "name: smoke", "name: other"));
    touches(&place, &[], &[]);
    place.pipeline(&reordered());
    touches(&place, &[], &[]);
    assert_eq!(place.objects(), undisturbed().objects);
}

/// The pipeline with the keys of every mapping in the opposite order.
fn reordered() -> String {
    fn reverse(value: serde_yaml::Value) -> serde_yaml::Value {
        match value {
            serde_yaml::Value::Mapping(map) => serde_yaml::Value::Mapping(
                map.into_iter()
                    .map(|(key, value)| (key, reverse(value)))
                    .collect::<Vec<_>>()
                    .into_iter()
                    .rev()
                    .collect(),
            ),
            serde_yaml::Value::Sequence(items) => {
                serde_yaml::Value::Sequence(items.into_iter().map(reverse).collect())
            }
            plain => plain,
        }
    }
    let text = serde_yaml::to_string(&reverse(serde_yaml::from_str(SMOKE).unwrap())).unwrap();
    assert!(text.find("evaluation:") < text.find("world:"), "{text}");
    text
}

#[test]
fn a_matrix_value_more_runs_its_nodes_and_one_less_runs_nothing() {
    let matrix =
        |values: &str| edited(SMOKE, "\nstages:", &format!("\nmatrix:\n  kl: {values}\n\nstages:"));
    let kl = param(SMOKE, "kl");
    let place = filled(&matrix(&format!("[{kl}]")));
    // A node has another name in a matrix, and is the same.
    touches(&place, &[], &[]);
    place.pipeline(&matrix(&format!("[{kl}, 0.125]")));
    let plan = Plan::of(&place, &[]);
    assert_eq!(plan.run, set(["ppo[kl=0.125]"]));
    assert_eq!(
        plan.unknown,
        set([
            "ppo_outputs[kl=0.125]",
            "ppo_samples[kl=0.125]",
            "ppo_judged[kl=0.125]",
            "evaluation[kl=0.125]"
        ])
    );
    touches(&place, &[], &["ppo[kl=0.125]"]);
    place.pipeline(&matrix("[0.125]"));
    touches(&place, &[], &[]);
    place.pipeline(&matrix(&format!("[0.125, {kl}, 0.25]")));
    touches(&place, &[], &["ppo[kl=0.25]"]);
}

#[test]
fn targets_run_with_what_they_need_only() {
    let place = Place::new(SMOKE);
    let plan = Plan::of(&place, &["sft_samples"]);
    assert_eq!(
        plan.needs.keys().cloned().collect::<BTreeSet<_>>(),
        set(["world", "tokenizer", "base", "sft", "sft_samples"])
    );
    // The first can run for sure; what they make decides about the rest, and nothing was made yet.
    assert_eq!(plan.run, set(["world"]));
    touches(&place, &["sft_samples"], &["world"]);
    assert!(place.objects().iter().all(|pair| undisturbed().objects.contains(pair)));
}
