//! What a whole run leaves and says, and that nothing about how it is run changes it.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use super::smoke::{SMOKE, endings, events, filled, run, undisturbed};
use crate::cli::place::{Place, finish};
use crate::tools::left_out;

#[test]
fn a_second_run_runs_nothing_and_takes_no_time() {
    let place = filled(SMOKE);
    run(&place, &[]);
    let mut quickest = f64::INFINITY;
    for _ in 0..3 {
        let said = run(&place, &[]);
        assert!(endings(&said).values().all(|ending| ending == "cached"));
        let last = said.last().unwrap();
        assert_eq!(
            (&last["ran"], last["cached"].as_u64()),
            (&0.into(), Some(undisturbed().objects.len() as u64))
        );
        quickest = quickest.min(last["seconds"].as_f64().unwrap());
    }
    assert!(quickest < 0.3, "{quickest} s");
    assert_eq!(place.objects(), undisturbed().objects);
}

#[test]
fn the_last_line_is_the_outcome_with_a_table() {
    let last: Value = serde_json::from_str(&undisturbed().last).unwrap();
    let nodes = undisturbed().objects.len();
    let begin = format!(
        "{{\"event\":\"finished\",\"ok\":true,\"ran\":{nodes},\"cached\":0,\"failed\":0,\"skipped\":0,\"seconds\":"
    );
    assert!(undisturbed().last.starts_with(&begin), "{}", undisturbed().last);
    let fields: BTreeSet<&str> = last.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        fields,
        ["event", "ok", "ran", "cached", "failed", "skipped", "seconds", "table", "report"].into()
    );
    assert_eq!(undisturbed().events.iter().filter(|event| event["event"] == "finished").count(), 1);
    assert_eq!(endings(&undisturbed().events).len(), nodes, "one line for each node that ended");
}

#[test]
fn the_table_has_every_figure_of_every_method_on_every_test_set() {
    let rows = undisturbed().table["rows"].as_array().unwrap();
    let fields: BTreeSet<&str> =
        ["method", "test_set", "metric", "mean", "low", "high", "n", "interval"].into();
    for row in rows {
        assert_eq!(
            row.as_object().unwrap().keys().map(String::as_str).collect::<BTreeSet<_>>(),
            fields
        );
        let number = |name: &str| row[name].as_f64();
        let none = row["interval"].as_str().is_some_and(|kind| kind.starts_with("none_"));
        let ends = number("low").zip(number("high"));
        assert!(ends.map_or(none, |(low, high)| low <= high && !none), "{row}");
        assert!(number("mean").is_some_and(f64::is_finite) && row["n"].as_u64() > Some(0), "{row}");
    }
    let has = |method: &str, test_set: &str, metric: &str| {
        rows.iter()
            .filter(|row| {
                row["method"] == method && row["test_set"] == test_set && row["metric"] == metric
            })
            .count()
            == 1
    };
    for test_set in ["id", "ood_forum", "ood_length", "ood_register"] {
        for method in ["base", "sft", "best_of_n", "ppo"] {
            for metric in
                ["gold", "rm", "win_rate", "kl", "length", "ead_per_input", "ead_across_inputs"]
            {
                assert!(has(method, test_set, metric), "{method}, {test_set}, {metric}");
            }
        }
        // A reference is no policy, and there is one an input.
        for metric in ["gold", "rm", "win_rate", "length", "ead_across_inputs"] {
            assert!(has("reference", test_set, metric), "reference, {test_set}, {metric}");
        }
        for part in ["who", "verb", "obj", "done", "when", "ask"] {
            assert!(has("sft", test_set, &format!("coverage_{part}")), "{part}");
        }
        for part in ["coverage", "invented", "repeated", "malformed"] {
            assert!(has("ppo", test_set, part), "{part}");
        }
        for metric in ["rm_accuracy", "noise_ceiling"] {
            assert!(has("reward_model", test_set, metric), "{test_set}, {metric}");
        }
    }
    let kl = |row: &&Value| row["method"] == "sft" && row["metric"] == "kl";
    assert!(
        rows.iter().filter(kl).all(|row| row["mean"] == 0.0),
        "the SFT model is what KL is measured from"
    );
}

#[test]
fn the_table_is_printed_at_the_end() {
    let place = filled(SMOKE);
    let said = place.good(&["run", "p.yaml"]);
    for word in ["gold", "win_rate", "ead_per_input", "best_of_n", "reference", "ood_register"] {
        assert!(said.out.contains(word), "{word}\n{}", said.out);
    }
    // First what was found, in 16 lines at most, which end in where the rest is.
    let lines: Vec<&str> = said.out.trim_start().lines().collect();
    let found: Vec<&str> = lines.iter().copied().take_while(|line| !line.is_empty()).collect();
    assert!(found.len() <= 16 && found[0].starts_with("Found (A > B: significant"));
    assert!(found[1].starts_with("gold, id: "), "{found:?}");
    let [figures, report] = found[found.len() - 2..] else { panic!("{found:?}") };
    let place_of = |line: &str, name: &str| {
        let path = line.strip_prefix(name).unwrap_or_else(|| panic!("{line}")).to_owned();
        place.path(&path)
    };
    assert!(place_of(figures, "figures: ").join("table.txt").exists(), "{figures}");
    assert!(place_of(report, "report: ").exists(), "{report}");
    // Nothing else is wider than 80 columns, and what has a direction has an arrow.
    for line in lines.iter().filter(|line| ![figures, report].contains(line)) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    for title in ["gold \u{2191}: exact score", "win_rate \u{2191}: ", "length: words"] {
        assert!(lines.iter().any(|line| line.starts_with(title)), "{title}\n{}", said.out);
    }
    assert!(lines.iter().any(|line| line.contains("malformed \u{2193}")), "{}", said.out);
    assert!(lines.iter().any(|line| line.trim() == "vendi \u{2191}"), "{}", said.out);
    assert!(
        said.err.contains(&format!("0 ran, {} cached", undisturbed().objects.len())),
        "{}",
        said.err
    );
}

/// On a terminal of 130 columns four test sets are beside each other; without one, below.
#[test]
fn tables_are_as_wide_as_the_terminal() {
    let place = filled(SMOKE);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/end_to_end/terminal.py");
    let mut command = Command::new("python3");
    command.args(["-B", script, "130", env!("CARGO_BIN_EXE_posttrain"), "run", "p.yaml"]);
    command.arg("--cache").arg(place.path("cache")).current_dir(place.path("."));
    let Ok(output) = command.output() else {
        return left_out("there is no python3 to open a terminal with");
    };
    let shown = String::from_utf8(output.stdout).unwrap();
    let widest = |text: &str| {
        let tables = text.lines().filter(|line| !line.contains(": /"));
        tables.map(|line| line.chars().count()).max().unwrap()
    };
    assert!((81..=130).contains(&widest(&shown)), "{shown}");
    assert!(widest(&place.good(&["run", "p.yaml"]).out) <= 80);
}

#[test]
fn neither_jobs_nor_threads_change_an_object() {
    for options in [
        ["--jobs", "1", "--threads", "1"],
        ["--jobs", "2", "--threads", "1"],
        ["--jobs", "2", "--threads", "2"],
        ["--jobs", "1", "--threads", "3"],
    ] {
        let place = Place::new(SMOKE);
        run(&place, &options);
        assert_eq!(place.objects(), undisturbed().objects, "{options:?}");
    }
}

#[test]
fn two_runs_on_one_cache_make_each_node_once() {
    let place = Place::new(SMOKE);
    let (one, two) = (place.start(&[]), place.start(&["--jobs", "1"]));
    let (one, two) = (finish(one), finish(two));
    assert_eq!((one.code, two.code), (0, 0), "{}\n{}", one.err, two.err);
    let ran = |events: &[Value]| {
        endings(events)
            .into_iter()
            .filter(|(_, ending)| ending == "ran")
            .map(|(node, _)| node)
            .collect::<Vec<_>>()
    };
    let mut all = [ran(&events(&one)), ran(&events(&two))].concat();
    all.sort();
    assert_eq!(all, undisturbed().objects.iter().map(|(node, _)| node.clone()).collect::<Vec<_>>());
    assert_eq!(place.objects(), undisturbed().objects);
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn no_text_of_a_test_set_occurs_in_training() {
    let world = &undisturbed().world;
    let text = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
    let (tests, training): (Vec<_>, Vec<_>) =
        world.iter().partition(|(split, _)| split.starts_with("test/"));
    assert_eq!(tests.len(), 4);
    let learnt: Vec<String> = training
        .iter()
        .flat_map(|(_, rows)| *rows)
        .map(|row| words(&(text(row, "prompt") + &text(row, "completion"))))
        .collect();
    for row in tests.iter().flat_map(|(_, rows)| *rows) {
        let prompt = words(&text(row, "prompt"));
        let post = prompt.strip_suffix(" tl;dr:").unwrap();
        // The body alone as well: it could be told under another heading.
        let body = post
            .split_once(" : ")
            .map_or(post, |(_, body)| body.split_once(" post : ").map_or(body, |(_, body)| body));
        assert!(body.split(' ').count() > 15, "{body}");
        assert!(!learnt.iter().any(|learnt| learnt.contains(body)), "{body}");
    }
    // Nor does a combination of facts, in whatever words.
    let facts = |row: &Value| {
        let fact = |name: &str| row["facts"][name].as_str().unwrap().to_owned();
        ["forum", "who", "verb", "obj", "done", "when", "ask"].map(fact)
    };
    let of = |splits: &[(&String, &Vec<Value>)]| -> BTreeSet<[String; 7]> {
        splits
            .iter()
            .flat_map(|(_, rows)| *rows)
            .filter(|row| row["facts"].is_object())
            .map(facts)
            .collect()
    };
    let (held_out, seen) = (of(&tests), of(&training));
    assert!(!held_out.is_empty() && !seen.is_empty() && held_out.is_disjoint(&seen));
}
