//! Every figure of the table, of comparisons, of judges and of curves beside what an independent
//! script works out from the artefacts (recompute.py), in every form in which it is told: the files
//! of the evaluation, the page, CSV and JSON.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::smoke::{SMOKE, filled, with_param};
use crate::cli::place::Place;
use crate::tools::left_out;

/// Where `tests/report/fetch` puts packages of Python, numpy among them.
const PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tensorboard");
/// What the script ends with where there is no numpy.
const NO_NUMPY: i32 = 77;

fn recompute(place: &Place, nodes: &Path, csv: &str) -> std::io::Result<Output> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/end_to_end/recompute.py");
    let files = [csv, "report.json", "page.html"].map(|file| place.path(file));
    let mut command = Command::new("python3");
    if Path::new(PACKAGES).exists() {
        command.env("PYTHONPATH", PACKAGES);
    }
    let place = place.path("cache");
    command.args(["-B", script]).arg(place).arg(nodes).args(files).output()
}

/// The record of the run's nodes, after the forms of its report are written.
fn reported(place: &Place) -> PathBuf {
    place.good(&["report", "--output", "page.html"]);
    for (format, file) in [("csv", "report.csv"), ("json", "report.json")] {
        place.write(file, &place.good(&["report", "--format", format]).out);
    }
    let runs = std::fs::read_dir(place.path("cache/v1/runs")).unwrap();
    let runs = runs.map(|run| run.unwrap().path()).filter(|run| run.join("nodes.jsonl").exists());
    // The latest, whose report is written.
    let run = runs.max().expect("the run has a record");
    run.join("nodes.jsonl")
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

/// The pipeline without what other scripts work out: quality beside diversity
/// (`tests/stages/quality/make.py`), the optimum (`tests/stages/optimum.rs`), what each stage
/// changed, which repeats differences.
fn plain(pipeline: &str) -> String {
    let kept = |line: &&str| !line.starts_with("    quality: ");
    let lines: Vec<&str> = pipeline.lines().filter(kept).collect();
    let from = lines.iter().position(|line| *line == "    optimum:").expect("it has an optimum");
    let rest = lines[from + 1..].iter().position(|line| !line.starts_with("      "));
    let to = from + 1 + rest.expect("a field follows");
    let text = [&lines[..from], &lines[to..]].concat().join("\n");
    text.replace(", after: base}", "}").replace(", after: sft}", "}") + "\n"
}

#[test]
fn every_figure_is_what_an_independent_script_works_out_and_the_same_in_every_form() {
    let place = filled(&plain(SMOKE));
    place.counts(&[]);
    let nodes = reported(&place);
    let output = recompute(&place, &nodes, "report.csv");
    let Some(output) = output.ok().filter(|output| output.status.code() != Some(NO_NUMPY)) else {
        let why = "there is no python3 with numpy for recompute.py; tests/report/fetch installs it";
        return left_out(why);
    };
    assert!(output.status.success(), "{}", said(&output));

    // A figure that is another is found, and so is one that nothing works out.
    let figures = place.read("report.csv");
    let line = figures
        .lines()
        .find(|line| line.contains(",sft,id,length,"))
        .expect("there is such a figure");
    let other = figures.replacen(line, &line.replacen(",length,", ",length,1", 1), 1);
    let more = format!("{figures}{}\n", line.replacen(",length,", ",loudness,", 1));
    for (csv, told) in [(other, "csv"), (more, "not worked out")] {
        place.write("other.csv", &csv);
        let output = recompute(&place, &nodes, "other.csv").unwrap();
        assert!(
            output.status.code() == Some(1) && said(&output).contains(told),
            "{}",
            said(&output)
        );
    }

    // Of as many inputs as every kind of interval needs.
    let more = with_param(&with_param(SMOKE, "test_rows", "20"), "diversity_inputs", "20");
    let place = Place::new(&plain(&more));
    place.good(&["run", "p.yaml", "--quiet"]);
    let output = recompute(&place, &reported(&place), "report.csv").unwrap();
    assert!(output.status.success(), "{}", said(&output));
}
