//! Event files, as TensorBoard's own reader has them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use posttrain::dag::context::Context;
use posttrain::dag::events::Events;
use posttrain::error::{Kind, Result, kind_of};
use posttrain::train::archive::Archive;
use posttrain::train::steps::{self, State, StepReport};
use serde::Deserialize;
use serde_json::Value;

use super::skip;
use crate::cli::place::Place;

const SMOKE: &str = include_str!("../../pipelines/smoke.yaml");
/// Where `tests/report/fetch` puts the reader.
const READER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tensorboard");

#[derive(Deserialize)]
struct Read {
    scalars: BTreeMap<String, Vec<(u64, f32)>>,
    /// The first and the last moment.
    wall: Vec<f64>,
}

/// What the reader has of a folder; none where there is no reader.
fn read(folder: &Path) -> Option<Read> {
    if !Path::new(READER).exists() {
        skip("reader of TensorBoard");
        return None;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/report/read_events.py");
    let output =
        Command::new("python3").arg(script).arg(folder).env("PYTHONPATH", READER).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// The stages of the smoke pipeline that train, one of each kind.
const TRAINED: [&str; 4] = ["base", "ppo", "reward_model", "sft"];

/// The smoke pipeline, in which these stages report.
fn reporting(stages: &[&str]) -> String {
    stages.iter().fold(SMOKE.to_owned(), |text, stage| {
        let plain = format!("\n  {stage}:\n");
        assert!(text.contains(&plain));
        text.replace(&plain, &format!("{plain}    report_to: [tensorboard]\n"))
    })
}

/// The folders of event files, by node.
fn folders(place: &Place) -> BTreeMap<String, PathBuf> {
    let entries = std::fs::read_dir(place.path("cache/tensorboard"))
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap());
    let named = |entry: std::fs::DirEntry| {
        (
            entry.file_name().into_string().unwrap().rsplit_once('-').unwrap().0.to_owned(),
            entry.path(),
        )
    };
    entries.map(named).collect()
}

/// The lines of `metrics.jsonl` as curves in single precision.
fn expected(place: &Place, node: &str) -> BTreeMap<String, Vec<(u64, f32)>> {
    let mut curves: BTreeMap<String, Vec<(u64, f32)>> = BTreeMap::new();
    for line in place.made(node, "metrics.jsonl").lines() {
        let line: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
        for (name, value) in line.iter().filter(|(name, _)| *name != "step") {
            curves
                .entry(name.clone())
                .or_default()
                .push((line["step"].as_u64().unwrap(), value.as_f64().unwrap() as f32));
        }
    }
    curves
}

#[test]
fn every_figure_of_every_step_is_in_the_event_files_and_in_no_key() {
    let place = Place::new(SMOKE);
    place.good(&["run", "p.yaml", "ppo", "reward_model", "--log", "json"]);
    assert!(folders(&place).is_empty(), "no stage reports");
    // What is cached already is written from its metrics.
    place.pipeline(&reporting(&TRAINED));
    let last = place.run(&["ppo", "reward_model"]);
    assert_eq!(last["ran"], 0, "where figures go is in no key: {last}");
    // What runs writes as it goes: another key, another folder.
    place.run(&["ppo", "--set", "kl=0.2"]);
    assert_eq!(
        std::fs::read_dir(place.path("cache/tensorboard")).unwrap().count(),
        TRAINED.len() + 1
    );
    let before =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    std::fs::remove_dir_all(place.path("cache")).unwrap();
    place.run(&["ppo", "reward_model"]);
    let found = folders(&place);
    assert_eq!(found.keys().collect::<Vec<_>>(), TRAINED);
    for (node, folder) in &found {
        let Some(read) = read(folder) else { return };
        let expected = expected(&place, node);
        let what = if node == "ppo" { "objective/kl" } else { "loss" };
        assert!(expected[what].len() > 1, "{node}: {:?}", expected.keys());
        // The figure at which a sentinel fires is in no file of metrics.
        let (fired, figures): (BTreeMap<_, _>, BTreeMap<_, _>) =
            read.scalars.into_iter().partition(|(name, _)| name.starts_with("sentinels/"));
        assert_eq!(figures, expected, "{node}");
        let names: Vec<&str> = fired.keys().map(String::as_str).collect();
        let of_ppo = ["sentinels/constant_reward", "sentinels/eos_never", "sentinels/truncated"];
        assert_eq!(names, if node == "ppo" { &of_ppo[..] } else { &[] });
        assert!(read.wall[0] >= before - 1.0 && read.wall[1] < before + 600.0, "{:?}", read.wall);
    }
}

/// The one kind that trains and has no place in the study: its encoder is a folder, here of the
/// study's SFT model.
#[test]
fn a_classifier_writes_event_files_too() {
    let place = Place::new(SMOKE);
    place.good(&["run", "p.yaml", "sft", "--log", "json"]);
    let encoder = place.artefact("sft");
    let row = |at: usize| {
        let label = ["entailment", "neutral", "contradiction"][at % 3];
        format!(
            "{{\"premise\": \"a person is {at}\", \"hypothesis\": \"it is {label}\", \"label\": \"{label}\"}}\n"
        )
    };
    place.write("pairs.jsonl", &(0..12).map(row).collect::<String>());
    place.pipeline(&format!(
        "name: pairs\nstages:\n  nli:\n    uses: classifier\n    report_to: [tensorboard]\n    \
         encoder: {}\n    train: pairs.jsonl\n    test: pairs.jsonl\n    hidden: 8\n    epochs: \
         2\n    batch_size: 4\n    optimiser: {{learning_rate: 1e-3}}\n",
        encoder.display()
    ));
    place.good(&["run", "p.yaml", "--log", "json"]);
    let found = folders(&place);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["nli"]);
    let expected = expected(&place, "nli");
    assert_eq!(expected["loss"].len(), 6, "12 pairs, 4 a step, twice");
    let Some(read) = read(&found["nli"]) else { return };
    assert_eq!(read.scalars, expected);
}

#[test]
fn only_stages_that_train_report() {
    let place =
        Place::new(&SMOKE.replace("\n  world:\n", "\n  world:\n    report_to: [tensorboard]\n"));
    let said = place.say(&["plan", "p.yaml"]);
    assert_eq!(said.code, 2);
    assert!(
        said.err.contains("a stage of the kind `dataset` takes no steps to report"),
        "{}",
        said.err
    );
    place.pipeline(&reporting(&["ppo"]).replace("[tensorboard]", "[tensorbord]"));
    let said = place.say(&["plan", "p.yaml"]);
    assert!(
        said.code == 2 && said.err.contains("tensorbord") && said.err.contains("tensorboard"),
        "{}",
        said.err
    );
}

/// What lives from step to step: nothing but a stop at a step.
struct Nothing;

impl State for Nothing {
    fn save(&self, _: &mut Archive) {}
    fn load(&mut self, _: &Archive) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_resumed_stage_has_all_its_steps_in_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let part = |name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    let attempt = |stop_after: usize| {
        let stop = Arc::new(AtomicBool::new(false));
        let mut context =
            Context::new(part("out"), part("checkpoints"), Box::new(std::io::sink()), stop.clone());
        context.write_events(&folder.path().join("events"));
        steps::run(&context, &mut Nothing, 9, |_, step| {
            stop.store(step + 1 == stop_after, Ordering::SeqCst);
            Ok(StepReport {
                metrics: vec![("loss", -1.0), ("loss", step as f64 / 8.0)],
                ..StepReport::default()
            })
        })
    };
    assert_eq!(kind_of(&attempt(4).unwrap_err()), Kind::Interrupted);
    attempt(100).unwrap();
    assert_eq!(std::fs::read_dir(folder.path().join("events")).unwrap().count(), 1);
    let Some(read) = read(&folder.path().join("events")) else { return };
    let losses = &read.scalars["loss"];
    assert_eq!(
        losses.iter().map(|point| point.0).collect::<Vec<u64>>(),
        (1..=9).collect::<Vec<u64>>()
    );
    for (step, loss) in losses {
        assert_eq!(*loss, (step - 1) as f32 / 8.0);
    }
}

#[test]
fn long_names_and_large_steps_are_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut events = Events::begin(&folder.path().join("e")).unwrap();
    let name = "länger/".repeat(40);
    events.add(3_000_000, &[(&name, 1.5), ("b", -0.25)]).unwrap();
    let Some(read) = read(&folder.path().join("e")) else { return };
    assert_eq!(
        read.scalars,
        [(name, vec![(3_000_000, 1.5)]), ("b".into(), vec![(3_000_000, -0.25)])].into()
    );
}
