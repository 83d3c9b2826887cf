//! `bisect`: the edits between two runs that moved a figure.

use serde_json::Value;

use super::json::check;
use super::place::Place;

/// The first pipeline, with more test inputs, over three seeds of SFT if wanted.
fn study(place: &Place, seeds: bool) {
    place.good(&["init", "a"]);
    let text = place.read("a/pipeline.yaml").replace("        test: 4\n", "        test: 12\n");
    let text = match seeds {
        true => text
            .replace("  rate: 1e-3\n", "  rate: 1e-3\n  seed: 0\nmatrix: {seed: [0, 1, 2]}\n")
            .replace(
                "    policy: base\n    dataset: world\n    batch_size: 8\n",
                "    policy: base\n    dataset: world\n    batch_size: 8\n    seed: ${seed}\n",
            ),
        false => text,
    };
    place.write("a/pipeline.yaml", &text);
}

fn bisect(place: &Place, more: &[&str]) -> Value {
    let arguments = [&["bisect", "1", "2", "--metric", "length", "--json"], more].concat();
    let text = place.good(&arguments).out;
    check("bisect", &text);
    serde_json::from_str(&text).unwrap()
}

/// The edits of the steps that move a figure.
fn moving(found: &Value) -> Vec<String> {
    let steps = found["steps"].as_array().unwrap().iter().filter(|step| step["moves"] == true);
    steps
        .map(|step| {
            assert_eq!(step["count"], 1, "{found}");
            let edit = &found["edits"][step["first"].as_u64().unwrap() as usize];
            format!("{}.{}", edit["stage"].as_str().unwrap(), edit["field"].as_str().unwrap())
        })
        .collect()
}

const SHORTER: &str = "stages.after.sampling.max_new_tokens=4";

#[test]
fn the_edit_that_moved_a_figure_is_found_among_others() {
    let place = Place::new("");
    study(&place, false);
    let pipeline = "a/pipeline.yaml";
    place.good(&["run", pipeline]);
    let edits = ["--set", "rate=1.0000001e-3", "--set", "stages.sft.optimiser.weight_decay=1e-9"];
    place.good(&[&["run", pipeline, "--set", SHORTER], &edits[..]].concat());
    let dry = place.good(&["bisect", "1", "2", "--metric", "length", "--dry-run"]).out;
    assert_eq!(dry.lines().count(), 3, "{dry}");
    assert!(dry.contains("  after: `sampling.max_new_tokens` was 12, is 4\n"), "{dry}");

    let found = bisect(&place, &["--method", "sft"]);
    assert_eq!(moving(&found), ["after.sampling.max_new_tokens"], "{found}");
    let whole = &found["whole"][0];
    assert!(whole["difference"]["high"].as_f64().unwrap() < 0.0, "{found}");
    // The two ends are the two runs, and were not made again.
    let runs: Value = serde_json::from_str(&place.good(&["runs", "--json"]).out).unwrap();
    let ran: Vec<u64> =
        runs.as_array().unwrap()[2..].iter().map(|run| run["ran"].as_u64().unwrap()).collect();
    assert_eq!((ran[0], ran[1]), (0, 0), "{runs}");
    assert_eq!(found["runs"], 4, "one for each end and each half");

    let said =
        place.good(&["bisect", "1", "2", "--metric", "length", "--each", "--method", "sft"]).out;
    assert!(said.contains("\nafter: `sampling.max_new_tokens` was 12, is 4\n"), "{said}");
    assert_eq!(said.matches("  does not move\n").count(), 4, "{said}");
}

#[test]
fn over_seeds_the_interval_is_of_the_seeds() {
    let place = Place::new("");
    study(&place, true);
    place.good(&["run", "a/pipeline.yaml"]);
    place.good(&["run", "a/pipeline.yaml", "--set", SHORTER]);
    let found = bisect(&place, &["--method", "sft", "--test-set", "id"]);
    assert_eq!(moving(&found), ["after.sampling.max_new_tokens"], "{found}");
    let nodes = found["edits"][0]["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 3, "one edit of three nodes: {found}");
    assert_eq!(found["whole"][0]["difference"]["n"], 3, "{found}");
}

#[test]
fn what_cannot_be_searched_is_said() {
    let place = Place::new("");
    study(&place, false);
    place.good(&["run", "a/pipeline.yaml"]);
    place.good(&["run", "a/pipeline.yaml", "--set", SHORTER]);
    for (arguments, words) in [
        (&["1", "1", "--metric", "length"][..], "nothing differs"),
        (&["1", "2", "--metric", "none"], "no evaluation of both has `none`"),
        (&["1", "9", "--metric", "length"], "there is no run `9`"),
    ] {
        let said = place.say(&[&["bisect"], arguments].concat());
        assert_eq!(said.code, 2, "{arguments:?}: {}", said.err);
        assert!(said.err.contains(words), "{arguments:?}: {}", said.err);
    }
}
