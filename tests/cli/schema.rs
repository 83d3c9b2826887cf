//! `schema`: what the language admits, the schema admits, by a validator of another project;
//! mistakes of form that the language refuses, it refuses.

use std::path::{Path, PathBuf};

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::{Value, json};

use super::documentation::blocks;
use super::place::Place;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// The copy that editors read.
const COPY: &str = "pipelines/schema.json";

/// A schema that values can be held against.
pub struct Schema(Schemas, SchemaIndex);

impl Schema {
    pub fn new(schema: Value) -> Self {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("http://localhost/schema.json", schema).unwrap();
        let index = compiler.compile("http://localhost/schema.json", &mut schemas).unwrap();
        Schema(schemas, index)
    }

    /// What is wrong with a value.
    pub fn mistake(&self, value: &Value) -> Option<String> {
        self.0.validate(value, self.1).err().map(|error| format!("{error:#}"))
    }

    fn mistake_of_yaml(&self, text: &str) -> Option<String> {
        self.mistake(&serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}")))
    }
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap()
}

fn copy() -> Schema {
    Schema::new(serde_json::from_str(&read(COPY)).unwrap())
}

/// The shipped pipelines.
fn shipped() -> Vec<PathBuf> {
    let in_folder = |folder: &str| {
        let entries = std::fs::read_dir(Path::new(ROOT).join(folder)).unwrap();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
        paths.sort();
        paths
    };
    let all = [in_folder("pipelines"), in_folder("pipelines/recipes")].concat();
    assert!(all.len() > 20);
    all
}

#[test]
fn the_copy_is_what_the_command_prints() {
    let printed = Place::new("").good(&["schema"]).out;
    if std::env::var_os("POSTTRAIN_RENEW_SCHEMA").is_some() {
        std::fs::write(Path::new(ROOT).join(COPY), &printed).unwrap();
    }
    assert!(
        printed == read(COPY),
        "{COPY} is not what `posttrain schema` prints; renew it by \
         POSTTRAIN_RENEW_SCHEMA=1 cargo test --test suite cli::schema"
    );
}

#[test]
fn every_shipped_pipeline_fits_and_names_the_schema() {
    let schema = copy();
    for path in shipped() {
        let text = read(&path);
        let mistake = schema.mistake_of_yaml(&text);
        assert_eq!(mistake, None, "{}", path.display());
        let line = text.lines().next().unwrap();
        let named = line.strip_prefix("# yaml-language-server: $schema=");
        let named = path.parent().unwrap().join(named.expect("the first line names the schema"));
        assert_eq!(
            named.canonicalize().unwrap(),
            Path::new(ROOT).join(COPY).canonicalize().unwrap(),
            "{}",
            path.display()
        );
    }
}

#[test]
fn what_the_documents_show_and_what_plan_resolves_fits() {
    let schema = copy();
    let examples = blocks(&read("docs/pipeline.md"), "yaml");
    assert!(examples.len() > 10);
    for (line, example) in examples {
        let mistake = schema.mistake_of_yaml(&example);
        assert_eq!(mistake, None, "docs/pipeline.md, line {line}");
    }
    let place = Place::new("");
    for name in ["smoke", "methods", "diversity_audit", "selection", "metric_validation"] {
        let path = format!("{ROOT}/pipelines/{name}.yaml");
        let resolved = place.good(&["plan", &path, "--resolved"]).out;
        assert_eq!(schema.mistake_of_yaml(&resolved), None, "{name}");
    }
}

const GOOD: &str = "\
params: {size: 300, seed: 0}
matrix: {seed: [0, 1]}
stages:
  world: {uses: dataset, source: {world: {sft: 4, test: 2, seed: '${seed}'}}}
  tokenizer: {uses: tokenizer, dataset: world, vocabulary: '${size}'}
";

#[test]
fn mistakes_of_form_are_refused_as_the_language_refuses_them() {
    let schema = copy();
    let place = Place::new(GOOD);
    place.good(&["plan", "p.yaml"]);
    assert_eq!(schema.mistake_of_yaml(GOOD), None);
    for (from, to) in [
        ("params:", "parms:"),
        ("stages:", "satges:"),
        ("uses: tokenizer", "uses: tokeniser"),
        ("uses: tokenizer, ", ""),
        ("dataset: world, ", ""),
        ("dataset: world", "dataset: world, size: 3"),
        ("dataset: world", "dataset: {all: world}"),
        ("'${size}'", "many, limit: '${size}'"),
        ("'${size}'", "10, limit: '${size}'"),
        ("'${size}'", "300.5, limit: '${size}'"),
        ("'${size}'", "null, limit: '${size}'"),
        ("{world: {", "{select: {}, world: {"),
        ("source: {world: {sft: 4, test: 2, seed: '${seed}'}}", "source: wrld"),
        ("sft: 4", "sft: -4"),
        ("sft: 4", "sft: [4]"),
        ("dataset: world", "dataset: world, resources: {threads: 0}"),
        ("dataset: world", "dataset: world, resources: {gpus: 2}"),
        ("dataset: world", "dataset: world, resources: {cpus: 2}"),
        ("dataset: world", "dataset: world, timeout: 0"),
        ("dataset: world", "dataset: world, timeout: 315360001"),
        ("dataset: world", "dataset: world, report_to: [tensorboard]"),
        ("[0, 1]", "[]"),
        ("[0, 1]", "2"),
        ("params: {", "params: {matrix: 3, "),
        ("  tokenizer:", "  1st:"),
    ] {
        let bad = GOOD.replacen(from, to, 1);
        assert_ne!(bad, GOOD);
        place.pipeline(&bad);
        assert_eq!(place.say(&["plan", "p.yaml"]).code, 2, "{bad}");
        assert!(schema.mistake_of_yaml(&bad).is_some(), "{bad}");
    }
}

#[test]
fn a_pipeline_that_extends_another_may_give_some_fields_alone() {
    let schema = copy();
    let with = |stage: &str| format!("extends: p.yaml\nstages:\n  tokenizer: {stage}\n");
    for good in ["{vocabulary: 300}", "{uses: tokenizer, vocabulary: 300}"] {
        assert_eq!(schema.mistake_of_yaml(&with(good)), None);
    }
    for bad in ["{vocabulry: 300}", "{uses: tokenizer, vocabulary: 3}", "{uses: t}", "3"] {
        assert!(schema.mistake_of_yaml(&with(bad)).is_some(), "{bad}");
    }
    assert_eq!(schema.mistake(&json!({ "extends": "p.yaml" })), None);
}

#[test]
fn the_schema_of_a_kind_is_of_its_stages() {
    let place = Place::new("");
    let printed = place.good(&["schema", "tokenizer"]).out;
    let schema = Schema::new(serde_json::from_str(&printed).unwrap());
    let mut stage = json!({ "uses": "tokenizer", "dataset": "world", "vocabulary": 300 });
    assert_eq!(schema.mistake(&stage), None);
    stage["vocabulary"] = json!("${size}");
    assert_eq!(schema.mistake(&stage), None);
    stage["vocabulary"] = json!(257);
    assert!(schema.mistake(&stage).is_some());
    assert!(schema.mistake(&json!({ "uses": "tokenizer", "vocabulary": 300 })).is_some());
    let said = place.say(&["schema", "tokeniser"]);
    assert_eq!(said.code, 2);
    assert!(said.err.contains("did you mean `tokenizer`?"), "{}", said.err);
}
