//! Names of figures: every metric that is written is defined once, its section of
//! docs/evaluation.md names it, and every format says what it is.

use std::collections::BTreeSet;
use std::path::Path;

use posttrain::inference::diversity::Metric;
use posttrain::report::formats::{csv, json, markdown};
use posttrain::report::latex::latex;
use posttrain::report::metrics::{define, define_step, names};
use posttrain::report::page::page;
use serde_json::Value;

use super::fixture::run;

/// The sections of a document under the anchors that GitHub gives their headings.
fn sections(text: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("##") {
            Some(heading) => {
                let heading = heading.trim_start_matches('#').trim().to_lowercase();
                let letters = heading
                    .chars()
                    .filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
                found.push((letters.collect::<String>().replace(' ', "-"), String::new()));
            }
            None => found
                .iter_mut()
                .rev()
                .take(1)
                .for_each(|(_, text)| text.push_str(&format!("{line}\n"))),
        }
    }
    found
}

#[test]
fn every_name_is_in_the_section_that_defines_it() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/evaluation.md");
    let sections = sections(&std::fs::read_to_string(path).unwrap());
    let text =
        |anchor: &str| sections.iter().find(|(name, _)| name == anchor).map(|(_, text)| text);
    let missing: Vec<String> = names()
        .into_iter()
        .filter(|(name, anchor)| {
            !text(anchor).is_some_and(|text| text.contains(&format!("`{name}`")))
        })
        .map(|(name, anchor)| format!("{name} in #{anchor}"))
        .collect();
    assert!(missing.is_empty(), "docs/evaluation.md does not have {}", missing.join(", "));
    // What is made of parts, and comparisons, are in sections that there are.
    for metric in
        ["coverage_who", "win_rate_held_out", "gold_gap", "vendi_across_inputs_first_matched"]
    {
        let section = define(metric).unwrap().section;
        assert!(text(section).is_some(), "{metric}: #{section}");
    }
}

/// A name that nothing writes is no figure's. Stages write names as they are listed.
#[test]
fn every_name_of_training_is_written_by_some_stage() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut sources = String::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true if path.ends_with("src/report") => {}
                true => folders.push(path),
                false if path.extension().is_some_and(|ending| ending == "rs") => {
                    sources.push_str(&std::fs::read_to_string(path).unwrap());
                }
                false => {}
            }
        }
    }
    let unknown: Vec<&str> = names()
        .into_iter()
        .filter(|(name, section)| {
            *section == "training" && !sources.contains(&format!("\"{name}\""))
        })
        .map(|(name, _)| name)
        .collect();
    assert!(unknown.is_empty(), "no stage writes {}", unknown.join(", "));
}

#[test]
fn every_measure_of_diversity_is_defined_in_every_way() {
    let ways = ["per_input", "across_inputs", "across_inputs_first"];
    let mut headings = BTreeSet::new();
    for metric in Metric::ALL {
        for (way, suffix) in ways.iter().flat_map(|way| [(way, ""), (way, "_matched")]) {
            let name = format!("{}_{way}{suffix}", metric.name());
            let definition = define(&name).unwrap_or_else(|| panic!("{name} is not defined"));
            assert!(headings.insert(definition.heading.clone()), "{name}: {}", definition.heading);
        }
    }
}

#[test]
fn every_figure_that_a_format_shows_is_defined_there() {
    let run = run();
    let rows = run.evaluations.iter().flat_map(|evaluation| &evaluation.table.rows);
    let metrics: BTreeSet<&str> = rows.map(|row| row.metric.as_str()).collect();
    let steps: BTreeSet<&str> =
        run.nodes.iter().flat_map(|node| &node.curves).map(|curve| curve.metric.as_str()).collect();
    let (page, markdown, latex, csv) = (page(&run, None), markdown(&run), latex(&run), csv(&run));
    let json: Value = serde_json::from_str(&json(&run)).unwrap();
    for metric in &metrics {
        let definition = define(metric).unwrap_or_else(|| panic!("{metric} is not defined"));
        let sentence = definition.sentence();
        let escaped = sentence.replace('\'', "&#39;");
        assert!(
            page.contains(&escaped) && page.contains(&definition.link()),
            "{metric}: {sentence}"
        );
        assert!(markdown.contains(&format!("| `{metric}` | {sentence} | ")), "{metric}");
        assert_eq!(json["definitions"][metric]["heading"], definition.heading);
        // LaTeX leaves out what names are between.
        let words = sentence.split('`').next().unwrap().replace('_', "\\_\\allowbreak{}");
        assert!(metric.starts_with("coverage_") || latex.contains(&words), "{metric}: {words}");
        let ends =
            format!(",{},{}", definition.unit, definition.direction.words().unwrap_or_default());
        let of = |line: &&str| {
            line.split(',').nth(3) == Some(metric) && line.split(',').nth(8) == Some("result")
        };
        assert!(csv.lines().filter(of).all(|line| line.ends_with(&ends)), "{metric}: {ends}");
    }
    for step in steps {
        let definition = define_step(step).unwrap_or_else(|| panic!("{step} is not defined"));
        assert!(
            page.contains(&definition.heading)
                && json["definitions"][step]["unit"] == definition.unit,
            "{step}"
        );
    }
}
