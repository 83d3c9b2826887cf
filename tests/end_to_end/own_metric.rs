//! `pipelines/own_metric.yaml`: the numbers of a program from the samples to the report, and what
//! is refused before anything runs.

use std::process::Command;

use serde_json::Value;

use crate::cli::place::Place;
use crate::tools::left_out;

const PIPELINE: &str = include_str!("../../pipelines/own_metric.yaml");
const PROGRAM: &str = include_str!("../../pipelines/own_metric.py");

fn place(pipeline: &str) -> Place {
    let place = Place::new(pipeline);
    place.write("own_metric.py", PROGRAM);
    place
}

fn rows(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The words of a text as Python's `split` has them: it counts four separators of ASCII among white
/// space.
fn words(text: &str) -> Vec<&str> {
    let is_space = |letter: char| letter.is_whitespace() || ('\x1c'..='\x1f').contains(&letter);
    text.split(is_space).filter(|word| !word.is_empty()).collect()
}

/// The mean over the rows of a split of what is measured of each row's samples.
fn mean(samples: &str, split: &str, measure: impl Fn(&[Vec<&str>]) -> f64) -> f64 {
    let rows = rows(samples);
    let values: Vec<f64> = rows
        .iter()
        .filter(|row| row["split"] == split)
        .map(|row| {
            let outputs = row["outputs"].as_array().unwrap().iter();
            let words = outputs.map(|output| words(output["text"].as_str().unwrap()));
            measure(&words.collect::<Vec<_>>())
        })
        .collect();
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn numbers_of_a_program_go_from_the_samples_to_the_report() {
    let there = Command::new("python3").arg("--version").output();
    if !there.is_ok_and(|output| output.status.success()) {
        return left_out("there is no python3 for the program of pipelines/own_metric.yaml");
    }
    let place = place(PIPELINE);
    place.good(&["run", "p.yaml", "--log", "json"]);
    let csv = place.good(&["report", "latest", "--format", "csv"]).out;
    let length = |samples: &[Vec<&str>]| {
        samples.iter().map(Vec::len).sum::<usize>() as f64 / samples.len() as f64
    };
    let openings = |samples: &[Vec<&str>]| {
        let mut first: Vec<&str> = samples.iter().filter_map(|own| own.first().copied()).collect();
        first.sort_unstable();
        first.dedup();
        first.len() as f64 / samples.len() as f64
    };
    for method in ["base", "sft"] {
        let samples = place.made(&format!("{method}_samples"), "samples.jsonl");
        for set in ["id", "ood_forum"] {
            let split = format!("test/{set}");
            for (metric, wanted, ending) in [
                ("words", mean(&samples, &split, length), ",words,"),
                ("share_openings", mean(&samples, &split, openings), ",share,higher is better"),
            ] {
                let start = format!("evaluation,{method},{set},{metric},");
                let is_result = |line: &&str| line.starts_with(&start) && line.contains(",result,");
                let line = csv.lines().find(is_result).unwrap_or_else(|| panic!("{start}: {csv}"));
                let cells: Vec<&str> = line.split(',').collect();
                let found: f64 = cells[4].parse().unwrap();
                assert!((found - wanted).abs() < 1e-12, "{line}: {wanted}");
                assert_eq!(cells[7], "12", "{line}");
                assert!(line.ends_with(ending), "{line}");
            }
        }
    }
    assert!(
        csv.lines().any(|line| line.starts_with("evaluation,sft,id,words,")
            && line.contains(",difference,base,"))
    );
    let shown = place.good(&["show", "p.yaml", "sft_numbers"]).out;
    assert!(shown.contains("test/id/words"), "{shown}");

    // The bytes of the script are in the key, and its last words in the error.
    let before = place.good(&["run", "p.yaml", "--log", "json"]).last();
    assert_eq!(before["ran"], 0, "{before}");
    place.write("own_metric.py", &format!("{PROGRAM}\nraise SystemExit('out of words')\n"));
    let said = place.say(&["run", "p.yaml"]);
    assert_eq!(said.code, 1, "{}", said.err);
    let all = format!("{}{}", said.out, said.err);
    assert!(all.contains("`python3` failed: exit status: 1"), "{all}");
    assert!(all.contains("out of words"), "{all}");
}

#[test]
fn what_does_not_belong_together_is_refused_before_anything_runs() {
    let both = "words: {methods: {base: base_numbers, sft: sft_numbers}}";
    let edited = |from: &str, to: &str| {
        assert!(PIPELINE.contains(from), "{from}");
        let said = place(&PIPELINE.replacen(from, to, 1)).say(&["plan", "p.yaml"]);
        (said.code, format!("{}{}", said.out, said.err))
    };
    for (from, to, wanted) in [
        (
            both,
            "words: {methods: {base: base_numbers, sft: base_numbers}}",
            "`metrics.words.methods.sft` of `evaluation`: `samples` of `base_numbers` is \
             `base_samples`, not `sft_samples`",
        ),
        (
            "share_openings: {methods:",
            "openings: {methods:",
            "`metrics.openings.methods.base` of `evaluation`: `base_numbers` has no \
             `values.openings`",
        ),
        (
            both,
            "words: {methods: {base: base_numbers, sft: sft}}",
            "expected a stage that makes a `metric`, but `sft` makes a `policy`",
        ),
        (
            "    samples: sft_samples\n    run: [python3, \"{script}\"]",
            "    samples: sft_samples\n    run: [python3, -O, \"{script}\"]",
            "`run` of `sft_numbers` is not that of `base_numbers`",
        ),
    ] {
        let (code, said) = edited(from, to);
        assert_eq!(code, 2, "{said}");
        assert!(said.replace("\n", " ").contains(wanted), "{wanted}: {said}");
    }
}

/// One entry makes a method of each point of a sweep, as one of a judge does.
#[test]
fn a_sweep_has_its_numbers_point_by_point() {
    let swept = PIPELINE
        .replacen("params:\n", "matrix: {rate: [0.001, 0.003]}\nparams:\n  rate: 0.003\n", 1)
        .replacen(
            "batch_size: 8, optimiser: {learning_rate: 3e-3}}",
            "batch_size: 8, optimiser: {learning_rate: \"${rate}\"}}",
            1,
        )
        .replacen(
            "{name: sft, samples: sft_samples, after: base}",
            "{name: sft, samples: {all: sft_samples, over: rate}}",
            1,
        )
        .replace("sft: sft_numbers}", "sft: {all: sft_numbers, over: rate}}");
    let said = place(&swept).good(&["plan", "p.yaml", "--resolved"]).out;
    for rate in ["0.001", "0.003"] {
        assert!(said.contains(&format!("sft[rate={rate}]: sft_numbers[rate={rate}]")), "{said}");
    }
}
