//! `instruction_following.yaml`: the graph of `summarisation.yaml` on the other world; its profile
//! `smoke` runs to its table.

use std::path::{Path, PathBuf};

use posttrain::dag::node::references;
use posttrain::pipeline::expand::load;
use posttrain::pipeline::overrides::Overrides;
use posttrain::pipeline::registry::Builtin;
use serde_json::Value;

use crate::cli::place::Place;

fn stages(pipeline: &str) -> Vec<(String, String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines").join(pipeline);
    let nodes = load(&path, &Overrides::default(), &Builtin).unwrap().graph.nodes;
    nodes
        .into_iter()
        .map(|node| (node.name, node.stage, format!("{:?}", references(&node.config).unwrap())))
        .collect()
}

#[test]
fn both_studies_have_the_same_graph() {
    assert_eq!(stages("instruction_following.yaml"), stages("summarisation.yaml"));
}

#[test]
fn the_study_of_instructions_runs_to_its_table() {
    let place = Place::new(include_str!("../../pipelines/instruction_following.yaml"));
    let said = place.good(&["run", "p.yaml", "--profile", "smoke", "--log", "json"]);
    let table = PathBuf::from(said.last()["table"].as_str().unwrap());
    let table: Value = serde_json::from_str(&std::fs::read_to_string(table).unwrap()).unwrap();
    let rows: Vec<&Value> = table["rows"].as_array().unwrap().iter().collect();
    let of = |metric: &str| rows.iter().filter(|row| row["metric"] == metric).count();
    // Four methods and the references on three test sets; diversity per input of the methods alone.
    for (metric, expected) in [
        ("gold", 15),
        ("win_rate", 15),
        ("exact", 15),
        ("coverage_order", 15),
        ("ead_per_input", 12),
        ("rm_accuracy", 3),
    ] {
        assert_eq!(of(metric), expected, "{metric}");
    }
    for test_set in ["id", "ood_easy", "ood_hard"] {
        assert!(rows.iter().any(|row| row["test_set"] == test_set), "{test_set}");
    }
    let again = place.good(&["run", "p.yaml", "--profile", "smoke", "--log", "json"]);
    assert_eq!(again.last()["table"], said.last()["table"]);
}
