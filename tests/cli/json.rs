//! `--json`: what each command prints fits its schema in `docs/schemas/`, and `docs/json.md` has
//! the fields of each schema.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::place::Place;
use super::schema::Schema;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap()
}

fn schema_of(name: &str) -> Value {
    serde_json::from_str(&read(&format!("docs/schemas/{name}.json"))).unwrap()
}

/// The names of all schemas.
fn names() -> BTreeSet<String> {
    let entries = std::fs::read_dir(Path::new(ROOT).join("docs/schemas")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.map(|name| name.strip_suffix(".json").unwrap().to_owned()).collect()
}

const TWO: &str = "\
name: two
params: {word: one}
stages:
  world: {uses: dataset, source: {world: {sft: 2, test: 2}}}
  greet: {uses: command, run: [sh, -c, \"echo ${word} > x\"], files: {}}
  again: {uses: command, run: [sh, -c, \"cat {greet}/x > y\"], inputs: {greet: greet}}
";

/// Holds a document against the schema of this name.
pub fn check(name: &str, text: &str) {
    let value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let mistake = Schema::new(schema_of(name)).mistake(&value);
    assert_eq!(mistake, None, "docs/schemas/{name}.json\n{text}");
}

#[test]
fn what_commands_print_fits_their_schemas() {
    let place = Place::new(TWO);
    let mut checked = BTreeSet::new();
    let mut tried = |name: &str, arguments: &[&str]| {
        check(name, &place.good(arguments).out);
        checked.insert(name.to_owned());
    };
    tried("plan", &["plan", "p.yaml", "--json"]);
    tried("runs", &["runs", "--json"]);
    place.good(&["run", "p.yaml"]);
    place.good(&["run", "p.yaml", "--set", "word=two"]);
    tried("plan", &["plan", "p.yaml", "--set", "word=three", "--json"]);
    tried("explain", &["explain", "p.yaml", "greet", "--set", "word=three", "--json"]);
    tried("explain", &["explain", "p.yaml", "again", "--set", "word=three", "--json"]);
    tried("explain", &["explain", "p.yaml", "greet", "--json"]);
    tried("show", &["show", "p.yaml", "world", "--json"]);
    tried("show", &["show", "again", "--json"]);
    tried("ls", &["ls", "--json"]);
    tried("runs", &["runs", "--json"]);
    tried("diff", &["diff", "1", "2", "--json"]);
    tried("graph", &["graph", "p.yaml", "--json"]);
    tried("logs", &["logs", "greet", "--json"]);
    tried("tag", &["tag", "first", "1", "--json"]);
    tried("tag", &["tag", "best", "again", "--json"]);
    tried("tag", &["tag", "--json"]);
    let because = ["accept", "p.yaml", "greet", "--set", "word=four", "--because", "r", "--json"];
    tried("accept", &because);
    tried("ls", &["ls", "--json"]);
    tried("show", &["show", "p.yaml", "greet", "--set", "word=four", "--json"]);
    tried("gc", &["gc", "--dry-run", "--json"]);
    tried("sentinels", &["sentinels", "--json"]);
    tried("doctor", &["doctor", "--json"]);
    tried("validate", &["validate", "p.yaml", "--json"]);
    tried("stages", &["stages", "--json"]);
    tried("stages-kind", &["stages", "tokenizer", "--json"]);
    tried("stages-kind", &["stages", "sft", "--json"]);
    let remote = format!("file://{}", place.path("remote").display());
    let mut shared = |verb: &str, more: &[&str]| {
        let arguments = [&["cache", verb][..], more, &["--remote", &remote, "--json"]].concat();
        tried(&format!("cache-{verb}"), &arguments);
    };
    shared("push", &["p.yaml"]);
    shared("status", &["p.yaml", "--set", "word=three"]);
    shared("verify", &[]);
    std::fs::remove_dir_all(place.path("cache")).unwrap();
    shared("pull", &["p.yaml"]);
    tried("plan", &["plan", "p.yaml", "--remote", &remote, "--json"]);
    tried("cache-keygen", &["cache", "keygen", "key", "--json"]);
    place.pipeline("stages: {a: {uses: comand}}\n");
    check("validate", &place.say(&["validate", "p.yaml", "--json"]).out);
    // Revisions need a repository, and bundles are files: they are tried by their tests.
    checked.extend(["plan-diff", "export", "import", "verify", "bisect"].map(str::to_owned));
    // Evaluations and training are tried where there are some, by the next test.
    let rest: BTreeSet<String> = names().difference(&checked).cloned().collect();
    assert_eq!(rest, BTreeSet::from(["results".to_owned()]));
}

#[test]
fn what_commands_print_of_a_study_fits_their_schemas() {
    let place = Place::new("");
    place.good(&["init", "a"]);
    let pipeline = "a/pipeline.yaml";
    place.good(&["run", pipeline]);
    place.good(&["run", pipeline, "--set", "rate=2e-3"]);
    check("results", &place.good(&["results", "--format", "json"]).out);
    check("results", &place.good(&["results", "kind=*", "--format", "json"]).out);
    check("sentinels", &place.good(&["sentinels", "--json"]).out);
    check("show", &place.good(&["show", "sft", "--json"]).out);
    check("show", &place.good(&["show", "evaluation", "--json"]).out);
    check("plan", &place.good(&["plan", pipeline, "--json"]).out);
    let diff = place.good(&["diff", "1", "2", "--json"]).out;
    check("diff", &diff);
    let diff: Value = serde_json::from_str(&diff).unwrap();
    assert!(!diff["figures"].as_array().unwrap().is_empty(), "{diff}");
}

#[test]
fn a_field_that_no_schema_has_is_found() {
    let schema = Schema::new(schema_of("stages"));
    let mut kinds = json!([{ "kind": "sft", "makes": "policy", "meaning": "Trains." }]);
    assert_eq!(schema.mistake(&kinds), None);
    kinds[0]["more"] = json!(1);
    assert!(schema.mistake(&kinds).is_some());
}

/// The fields of a schema, dotted: `steps[].name`.
fn fields(schema: &Value, path: &str, found: &mut Vec<String>) {
    let join = |name: &str| match path {
        "" => name.to_owned(),
        _ => format!("{path}.{name}"),
    };
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        found.push(join(name));
        fields(inner, &join(name), found);
    }
    fields_of(&schema["items"], &format!("{path}[]"), found);
    fields_of(&schema["additionalProperties"], &join("NAME"), found);
}

fn fields_of(schema: &Value, path: &str, found: &mut Vec<String>) {
    if schema["properties"].is_object() {
        fields(schema, path, found);
    }
}

#[test]
fn the_document_has_the_fields_of_every_schema() {
    let text = read("docs/json.md");
    let mut sections = BTreeSet::new();
    for section in text.split("\n## ").skip(1) {
        let name = section.lines().next().unwrap().trim_matches('`').replace(' ', "-");
        let mut expected = Vec::new();
        fields(&schema_of(&name), "", &mut expected);
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
        let shown: Vec<&str> = rows.filter_map(|row| row.split('`').next()).collect();
        let shown: BTreeSet<&str> = shown
            .into_iter()
            .filter(|row| !row.ends_with("[]") && !row.ends_with("NAME"))
            .collect();
        assert_eq!(
            shown,
            expected.iter().map(String::as_str).collect::<BTreeSet<&str>>(),
            "docs/json.md, `{name}`"
        );
        sections.insert(name);
    }
    assert_eq!(sections, names());
}
