//! `results`: figures of several runs of a sweep, by the real program, against the `table.json` of
//! every evaluation.

use serde_json::{Value, json};

use crate::cli::place::Place;
use crate::evaluation::model_with_words;
use crate::stages::fixture::jsonl;

/// Responses of two lengths by a small model of words, two seeds each.
const SWEEP: &str = "\
name: words, small
params: {seed: 0, length: 2}
matrix: {seed: [0, 1], length: [2, 4]}
stages:
  posts: {uses: dataset, source: {files: {test/x: {path: posts.jsonl, prompt: \"{p}\", completion: \" {c}\", id: i}}}}
  base: {uses: model, path: llama}
  short: {uses: generate, policy: base, dataset: posts, samples: 2, sampling: {max_new_tokens: 3}}
  samples:
    uses: generate
    policy: base
    dataset: posts
    samples: 2
    seed: ${seed}
    sampling: {max_new_tokens: \"${length}\"}
  evaluation:
    uses: evaluate
    dataset: posts
    diversity: {metrics: [ead]}
    methods:
      - {name: short, outputs: short, samples: short}
      - {name: base, outputs: {all: samples, over: length}, samples: {all: samples, over: length}}
";

fn sweep() -> Place {
    let place = Place::new(SWEEP);
    model_with_words(&place.path(""), "llama");
    let row =
        |at| json!({"i": format!("{at}"), "p": format!("the {at} cat runs"), "c": "a cat sleeps"});
    place.write("posts.jsonl", &jsonl((0..3).map(row)));
    place
}

/// The lines of a CSV without quotes in its fields, by the names of columns.
fn lines(csv: &str) -> Vec<std::collections::BTreeMap<String, String>> {
    let mut all = csv.lines().map(|line| {
        // The name of the pipeline has a comma, and is quoted.
        line.replace("\"words, small\"", "words").split(',').map(str::to_owned).collect::<Vec<_>>()
    });
    let names = all.next().unwrap();
    all.map(|line| {
        assert_eq!(line.len(), names.len(), "{line:?}");
        names.iter().cloned().zip(line).collect()
    })
    .collect()
}

#[test]
fn figures_of_all_runs_are_listed_with_a_column_an_axis() {
    let place = sweep();
    let none = place.say(&["results"]);
    assert!(
        none.code == 2 && none.err.contains("no run in") && none.err.contains("has an evaluation"),
        "{}",
        none.err
    );
    // A run, the same from the cache, and one whose `length` is given, so that it is no axis.
    place.good(&["run", "p.yaml"]);
    place.good(&["run", "p.yaml"]);
    place.good(&["run", "p.yaml", "--set", "length=4"]);
    let results = |query: &[&str]| place.good(&[&["results", "--format", "csv"], query].concat());
    let all = lines(&results(&[]).out);
    every_row_is_there(&place, &all);
    what_is_asked_for_is_shown(&results);
    what_is_not_there_is_said(&place);
    values_of_an_axis_are_columns(&place, &all);
    two_figures_for_one_cell_are_refused(&place);
    // A deleted artefact is said to be left out.
    let folder = place.artefact("evaluation[seed=0]");
    std::fs::rename(&folder, folder.with_extension("gone")).unwrap();
    let left = place.good(&["results", "--latest"]);
    assert!(
        left.err.contains("2 evaluations of runs left out: no longer in the cache"),
        "{}",
        left.err
    );
}

/// Every figure of every table is a line, once for each run that has it, with its axes.
fn every_row_is_there(place: &Place, all: &[std::collections::BTreeMap<String, String>]) {
    let mut expected = 0;
    for (seed, options, times) in [
        ("0", [].as_slice(), 2),
        ("1", &[], 2),
        ("0", &["--set", "length=4"], 1),
        ("1", &["--set", "length=4"], 1),
    ] {
        let node = format!("evaluation[seed={seed}]");
        let shown = place.good(&[&["show", "p.yaml", &node, "--json"], options].concat()).out;
        let shown: Value = serde_json::from_str(&shown).unwrap();
        let path = std::path::Path::new(shown[0]["path"].as_str().unwrap()).join("table.json");
        let table: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for row in table["rows"].as_array().unwrap() {
            let method = row["method"].as_str().unwrap();
            let (family, length) = match method {
                "base[length=2]" => ("base", "2"),
                "base[length=4]" => ("base", "4"),
                // Of the run whose length is given; without it the method has none.
                other => (other, if options.is_empty() { "" } else { "4" }),
            };
            let own = |line: &&std::collections::BTreeMap<String, String>| {
                let has = |name: &str, value: &str| line[name] == value;
                has("options", &options.join(" "))
                    && has("evaluation", &node)
                    && has("method", method)
                    && has("metric", row["metric"].as_str().unwrap())
                    && has("test_set", "x")
            };
            let found: Vec<_> = all.iter().filter(own).collect();
            assert_eq!(found.len(), times, "{row} of {node} {options:?}");
            for line in found {
                assert_eq!(
                    [&line["family"], &line["axis_seed"], &line["axis_length"], &line["kind"]],
                    [family, seed, length, "result"]
                );
                assert_eq!(line["mean"].parse::<f64>().ok(), row["mean"].as_f64());
                assert_eq!(line["low"].parse::<f64>().ok(), row["low"].as_f64());
                assert_eq!(line["n"], row["n"].to_string());
                assert_eq!((&line["pipeline"][..], &line["object"]), ("words", &line["object"]));
            }
            expected += times;
        }
    }
    assert_eq!(all.len(), expected);
}

fn what_is_asked_for_is_shown(results: &impl Fn(&[&str]) -> crate::cli::place::Said) {
    let count = |query: &[&str]| lines(&results(query).out).len();
    let one = ["metric=ead_per_input", "method=base"];
    let with = |more: &[&str]| count(&[one.as_slice(), more].concat());
    // Two runs of two lengths and two seeds, and one of one length and two seeds.
    assert_eq!(with(&[]), 2 * 4 + 2);
    assert_eq!(with(&["length=2"]), 4);
    assert_eq!(with(&["length>2"]), 4 + 2);
    assert_eq!(with(&["length!=4", "seed=1"]), 2);
    assert_eq!(with(&["length=2", "length=4.0"]), 10);
    assert_eq!(with(&["axis_length=3..9", "seed=0..0"]), 3);
    assert_eq!(with(&["method=short"]), 10 + 4 + 2, "terms of one name are alternatives");
    assert_eq!(with(&["run=latest"]), 2);
    assert_eq!(with(&["pipeline=words*", "set=?", "evaluation=evaluation[seed=0]"]), 5);
    assert_eq!(with(&["pipeline=p"]), 10, "the name of the file will do");
    assert_eq!(count(&["method=base[length=2]", "metric=ead_per_input"]), 4);
    // Both runs of the whole sweep have the same two evaluations.
    assert_eq!(with(&["--latest"]), 4 + 2);
    let said = results(&one).err;
    assert!(said.contains("2 evaluations are of several runs; --latest shows each once"), "{said}");
    assert!(results(&["--latest"]).err.is_empty());
    let compared = results(&["kind=difference", "metric=ead_per_input", "--latest", "length=4"]);
    let compared = lines(&compared.out);
    assert!(!compared.is_empty());
    assert!(compared.iter().all(|line| line["kind"] == "difference" && !line["with"].is_empty()));
}

fn what_is_not_there_is_said(place: &Place) {
    for (query, words) in [
        (["lenth=2"].as_slice(), "there is no name `lenth`"),
        (&["lenth=2"], "axes are seed, length"),
        (&["metric=golf"], "no figure has metric=golf"),
        (&["metric=golf"], "ead_per_input"),
        (&["method=base", "method=ppo"], "no figure has method=ppo"),
        (&["length>4"], "there are: 2, 4"),
        (&["length<many"], "expected a number after `<`, found `length<many`"),
        (&["gold"], "expected NAME=VALUE, found `gold`"),
        (&["with=short"], "comparisons have it: add `kind=difference`"),
        (&["method=short", "length=2"], "no figure has all of method=short, length=2"),
        (&["--pivot", "kl"], "there is no name `kl`"),
        (&["--pivot", "length", "--format", "json"], "--pivot is for tables and CSV"),
    ] {
        let said = place.say(&[&["results"], query].concat());
        assert!(said.code == 2 && said.err.contains(words), "{query:?}: {}", said.err);
        assert!(said.out.is_empty());
    }
}

/// Two runs of the same names whose figures differ, by a field that is no param.
fn two_figures_for_one_cell_are_refused(place: &Place) {
    let pivot = ["results", "metric=ead_per_input", "method=base", "--pivot", "length"];
    let table = place.good(&pivot).out;
    assert_eq!(table.lines().count(), 2 + 2, "equal figures of several runs are one: {table}");
    place.pipeline(&SWEEP.replace("samples: 2\n    seed", "samples: 3\n    seed"));
    place.good(&["run", "p.yaml"]);
    let twice = place.say(&pivot);
    for words in ["have different figures for one cell", "method base", "run=ID"] {
        assert!(twice.code == 2 && twice.err.contains(words), "{}", twice.err);
    }
    let latest = place.good(&[pivot.as_slice(), &["run=latest"]].concat()).out;
    assert_eq!(latest.lines().count(), 2 + 2, "{latest}");
    place.pipeline(SWEEP);
}

fn values_of_an_axis_are_columns(
    place: &Place,
    all: &[std::collections::BTreeMap<String, String>],
) {
    let first = all[0]["run"].clone();
    let pivot = place.good(&[
        "results",
        "metric=ead_per_input",
        "method=base",
        &format!("run={first}"),
        "--pivot",
        "length",
        "--format",
        "csv",
    ]);
    let found = lines(&pivot.out);
    assert_eq!(found.len(), 2, "a line a seed: {}", pivot.out);
    for (line, seed) in found.iter().zip(["0", "1"]) {
        assert_eq!(line["axis_seed"], seed);
        for length in ["2", "4"] {
            let own = all.iter().find(|one| {
                one["run"] == first
                    && one["axis_seed"] == seed
                    && one["method"] == format!("base[length={length}]")
                    && one["metric"] == "ead_per_input"
            });
            assert_eq!(line[&format!("length={length}")], own.unwrap()["mean"]);
        }
    }
    let table = place
        .good(&["results", "metric=ead_per_input", "method=base", "run=latest", "--pivot", "seed"])
        .out;
    let mut shown = table.lines();
    assert_eq!(
        shown.next(),
        Some(
            "pipeline words, small, evaluation evaluation, length 4, method base, set x, metric \
             ead_per_input, kind result"
        )
    );
    assert!(shown.next().unwrap().starts_with("seed=0"), "{table}");
    assert_eq!(shown.count(), 1);
    let json =
        place.good(&["results", "metric=ead_per_input", "run=latest", "--format", "json"]).out;
    let json: Vec<Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["axes"], json!({"seed": "0", "length": "4"}));
    assert_eq!(json[0]["options"], json!(["--set length=4"]));
}
