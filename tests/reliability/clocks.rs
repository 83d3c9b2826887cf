//! Clocks that jump: the real program with a clock that is set ahead and back between runs. What it
//! orders, it orders by numbers.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::cli::place::{Place, said};
use crate::tools;

const YEAR: i64 = 365 * 24 * 3600;

/// The library that moves the clock; `None` without a C compiler.
fn library(place: &Place) -> Option<PathBuf> {
    let library = place.path("clock.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reliability/clock.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source);
    compiler.output().is_ok_and(|output| output.status.success()).then_some(library)
}

struct Moved<'a> {
    place: &'a Place,
    library: PathBuf,
}

impl Moved<'_> {
    /// The program with its clock moved by some seconds; it must succeed.
    fn good(&self, seconds: i64, arguments: &[&str]) -> String {
        let mut command = self.place.command(arguments);
        command.env("LD_PRELOAD", &self.library);
        command.env("POSTTRAIN_TESTS_CLOCK", seconds.to_string());
        let said = said(command.output().unwrap());
        assert_eq!(said.code, 0, "{arguments:?}\n{}\n{}", said.out, said.err);
        said.out
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.good(0, arguments)).unwrap()
    }
}

fn pipeline(text: &str) -> String {
    format!(
        "stages:\n  a: {{uses: command, run: [sh, -c, \"echo {text} > a\"]}}\n  b: {{uses: \
         command, inputs: {{a: a}}, run: [cp, \"{{a}}/a\", b]}}\n"
    )
}

#[test]
fn runs_and_entries_are_ordered_by_number_whatever_the_clock_says() {
    let place = Place::new(&pipeline("0"));
    let Some(library) = library(&place) else { return tools::left_out("a clock, which needs cc") };
    let moved = Moved { place: &place, library };
    // Ten years ahead, forty back, now, a second back, before 1970.
    let jumps = [10 * YEAR, -40 * YEAR, 0, -1, -57 * YEAR];
    for (at, seconds) in jumps.into_iter().enumerate() {
        place.pipeline(&pipeline(&at.to_string()));
        moved.good(seconds, &["run", "p.yaml"]);
        // A run of which all is there finds all, whatever the clock says now.
        moved.good(-seconds, &["run", "p.yaml"]);
        let text = place.made("b", "b");
        assert_eq!(text.trim(), at.to_string(), "the latest is the one that was run last");
    }
    let runs = moved.json(&["runs", "--json"]);
    let numbers: Vec<u64> = runs
        .as_array()
        .unwrap()
        .iter()
        .map(|run| {
            let id = run["id"].as_str().unwrap();
            posttrain::dag::record::sequence(id)
        })
        .collect();
    assert!(numbers.is_sorted() && numbers.len() == 10, "{numbers:?}");
    let years: std::collections::BTreeSet<&str> =
        runs.as_array().unwrap().iter().map(|run| &run["id"].as_str().unwrap()[..4]).collect();
    assert!(years.len() >= 4, "the clock was moved: {years:?}");

    // `explain` compares with the latest of the nearest entries.
    place.pipeline(&pipeline("5"));
    let explained = moved.json(&["explain", "p.yaml", "a", "--json"]);
    let text = explained.to_string();
    assert!(text.contains("echo 4") && !text.contains("echo 0"), "{text}");

    // `latest` is the last run, and `gc` keeps what it has made.
    place.pipeline(&pipeline("4"));
    moved.good(0, &["tag", "mine", "latest"]);
    moved.good(YEAR, &["gc"]);
    assert_eq!(place.counts(&[]), (0, 2));
    place.pipeline(&pipeline("0"));
    assert_eq!(place.counts(&[]), (2, 0), "what was ten years ahead is not the latest");
}
