//! Every figure of the table beside what an independent script works out from the artefacts
//! (recompute.py), in every form in which it is told: table.json, table.txt, table.md,
//! metrics.jsonl, the page, CSV and JSON.

use std::path::Path;
use std::process::{Command, Output};

use super::smoke::{SMOKE, filled};
use crate::cli::place::Place;

fn recompute(place: &Place, nodes: &Path, csv: &str) -> Output {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/end_to_end/recompute.py");
    let files = [csv, "report.json", "page.html"].map(|file| place.path(file));
    Command::new("python3")
        .arg(script)
        .arg(place.path("cache"))
        .arg(nodes)
        .args(files)
        .output()
        .unwrap()
}

#[test]
fn every_figure_is_what_an_independent_script_works_out_and_the_same_in_every_form() {
    if !Command::new("python3")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        let required =
            std::env::var("POSTTRAIN_TESTS_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
        assert!(!required, "there is no python3, and POSTTRAIN_TESTS_REQUIRE_TOOLS=1 asks for it");
        eprintln!("skipped: there is no python3 to run tests/end_to_end/recompute.py with");
        return;
    }
    let place = filled(SMOKE);
    let mut runs =
        std::fs::read_dir(place.path("cache/v1/runs")).unwrap().map(|run| run.unwrap().path());
    let nodes = runs
        .find(|run| run.join("nodes.jsonl").exists())
        .expect("the run has a record")
        .join("nodes.jsonl");
    place.good(&["report", "--output", "page.html"]);
    for (format, file) in [("csv", "report.csv"), ("json", "report.json")] {
        place.write(file, &place.good(&["report", "--format", format]).out);
    }
    let output = recompute(&place, &nodes, "report.csv");
    let said = [output.stdout, output.stderr]
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .concat();
    assert!(output.status.success(), "{said}");

    // And a figure that is another is found.
    let figures = place.read("report.csv");
    let line = figures
        .lines()
        .find(|line| line.contains(",sft,id,length,"))
        .expect("there is such a figure");
    place
        .write("other.csv", &figures.replacen(line, &line.replacen(",length,", ",length,1", 1), 1));
    assert_eq!(recompute(&place, &nodes, "other.csv").status.code(), Some(1));
}
