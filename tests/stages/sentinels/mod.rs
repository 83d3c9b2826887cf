//! Sentinels: planted faults that they find and healthy twins in which they are silent; their
//! settings, an interruption, their document.

mod documents;
mod faults;
mod settings;

use posttrain::rl::sentinels::settings::Sentinels;
use posttrain::rl::sentinels::watch::Watch;
use serde_json::{Value, json};

use super::bench::{Made, make};
use super::fixture::{fixture, jsonl, write};

/// The sentinels that warned, each with its step.
pub fn fired(made: &Made) -> Vec<(String, usize)> {
    let one = |message: &str| -> Option<(String, usize)> {
        let (name, rest) = message.strip_prefix("sentinel `")?.split_once("` at step ")?;
        Some((name.to_owned(), rest.split(':').next()?.parse().ok()?))
    };
    made.warnings().into_iter().filter_map(one).collect()
}

/// The names alone.
pub fn names(made: &Made) -> Vec<String> {
    fired(made).into_iter().map(|(name, _)| name).collect()
}

/// The sentinels of a kind that fire at the first step on these figures.
pub fn at_once(kind: &str, figures: &[(&str, f64)]) -> Vec<String> {
    let mut watch = Watch::new(kind, 1, &Sentinels::new());
    watch.step(1, figures).into_iter().map(|fired| fired.sentinel).collect()
}

/// The fault's run fires the sentinel, its healthy twin's does not.
pub fn found(name: &str, fault: &Made, twin: &Made) {
    let (of_fault, of_twin) = (fired(fault), fired(twin));
    assert!(of_fault.iter().any(|(own, _)| own == name), "{name}: fault fired {of_fault:?}");
    assert!(of_twin.iter().all(|(own, _)| own != name), "{name}: twin fired {of_twin:?}");
}

/// `more` laid over a config.
pub fn with(mut config: Value, more: Value) -> Value {
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

/// A dataset with a split `sft` of these prompts and completions, which are also the prompts of the
/// split `prompts`.
pub fn rows(folder: &tempfile::TempDir, rows: &[(String, String)]) -> Value {
    let row = |(at, (prompt, completion)): (usize, &(String, String))| json!({"id": format!("row-{at}"), "prompt": prompt, "completion": completion});
    let text = jsonl(rows.iter().enumerate().map(row));
    for split in ["sft", "prompts"] {
        write(&folder.path().join(format!("{split}.jsonl")), &text);
    }
    json!({"$path": folder.path()})
}

/// Rows of some letters, whose completions have from 2 to 13 characters and differ.
pub fn short_rows() -> Vec<(String, String)> {
    let row = |at: usize| {
        let completion: String =
            (0..2 + at % 12).map(|place| (b'a' + ((at + place * at) % 20) as u8) as char).collect();
        (format!("{at} :"), format!(" {completion}"))
    };
    (0..24).map(row).collect()
}

/// A policy that has learned these rows for this number of epochs.
pub fn tuned(dataset: &Value, epochs: usize) -> Made {
    let config = json!({"policy": fixture().at("policy"), "dataset": dataset, "batch_size": 8,
        "epochs": epochs, "optimiser": {"learning_rate": 0.01}});
    make("sft", config)
}

/// `grpo` of a policy on the prompts of a dataset.
pub fn grpo(policy: &Made, dataset: &Value, more: Value) -> Value {
    let config = json!({"policy": policy.reference(), "dataset": dataset,
        "rewards": {"short": {"by": {"length": {"most": 8}}}}, "steps": 6, "batch_size": 8,
        "samples_per_prompt": 4, "max_new_tokens": 30, "kl": {"coef": 0.1},
        "optimiser": {"learning_rate": 0.001}});
    with(config, more)
}
