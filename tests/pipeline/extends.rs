//! A pipeline that says only what it changes of another.

use posttrain::pipeline::expand::{Pipeline, load};
use posttrain::pipeline::overrides::Overrides;
use tempfile::TempDir;

use super::toys::{Toys, config, names};

const BASE: &str = "\
name: base
description: what is extended
params: {rate: 1, steps: 5}
profiles: {fast: {steps: 1}}
matrix: {rate: [1, 2]}
stages:
  posts: {uses: corpus, source: {jsonl: {path: posts.jsonl}}}
  sft: {uses: train, data: posts, learning_rate: \"${rate}\", steps: \"${steps}\", note: base}
  compare: {uses: compare, policies: [sft]}
";

/// Loads `study.yaml` of a folder with these files.
fn loaded(files: &[(&str, &str)]) -> Result<Pipeline, String> {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let result = load(&folder.path().join("study.yaml"), &Overrides::default(), &Toys);
    let shown = format!("{}/", folder.path().display());
    let canonical = format!("{}/", folder.path().canonicalize().unwrap().display());
    result.map_err(|error| format!("{error:#}").replace(&canonical, "").replace(&shown, ""))
}

fn mistake(files: &[(&str, &str)]) -> String {
    match loaded(files) {
        Ok(pipeline) => panic!("no mistake was seen: {:?}", names(&pipeline)),
        Err(message) => message,
    }
}

fn value(pipeline: &Pipeline, node: &str, field: &str) -> String {
    config(pipeline, node)[field].to_string()
}

#[test]
fn what_is_given_replaces_what_is_extended() {
    let own = "\
extends: sub/base.yaml
params: {steps: 7, seed: 0}
matrix: {seed: [0, 1]}
stages:
  sft: {note: own}
  again: {uses: train, data: posts, base: sft, learning_rate: 1, note: \"${seed}\"}
  compare: {uses: compare, policies: [{all: again, over: seed}]}
";
    let files = [("sub/base.yaml", BASE), ("sub/posts.jsonl", "{}"), ("study.yaml", own)];
    let pipeline = loaded(&files).unwrap();
    assert_eq!((pipeline.name.as_str(), pipeline.description.as_deref()), ("study", None));
    assert_eq!(
        names(&pipeline),
        [
            "posts",
            "sft[rate=1]",
            "sft[rate=2]",
            "compare[rate=1]",
            "compare[rate=2]",
            "again[rate=1,seed=0]",
            "again[rate=1,seed=1]",
            "again[rate=2,seed=0]",
            "again[rate=2,seed=1]",
        ]
    );
    let of_sft = |field: &str| value(&pipeline, "sft[rate=2]", field);
    assert_eq!((of_sft("note"), of_sft("steps")), ("\"own\"".to_owned(), "7".to_owned()));
    let path = config(&pipeline, "posts")["source"]["jsonl"]["path"].to_string();
    assert!(path.contains("/sub/posts.jsonl"), "a path starts from the file it is in: {path}");
}

#[test]
fn another_kind_replaces_the_stage() {
    let own = "extends: base.yaml\nstages: {compare: {uses: train, data: posts, learning_rate: 1}}";
    let files = [("base.yaml", BASE), ("posts.jsonl", "{}"), ("study.yaml", own)];
    assert_eq!(value(&loaded(&files).unwrap(), "compare", "learning_rate"), "1.0");
}

#[test]
fn a_chain_of_files_is_read() {
    let middle = "extends: base.yaml\nparams: {steps: 6}\n";
    let own = "extends: middle.yaml\nstages: {sft: {note: own}}";
    let files =
        [("base.yaml", BASE), ("posts.jsonl", "{}"), ("middle.yaml", middle), ("study.yaml", own)];
    let pipeline = loaded(&files).unwrap();
    assert_eq!(value(&pipeline, "sft[rate=1]", "steps"), "6");
    assert_eq!(value(&pipeline, "sft[rate=1]", "note"), "\"own\"");
}

#[test]
fn mistakes_are_shown_in_the_file_that_they_are_in() {
    let study = |own: &str| mistake(&[("base.yaml", BASE), ("study.yaml", own)]);
    let text = study("extends: bas.yaml\n");
    assert!(text.contains("study.yaml:1:10: cannot read the pipeline bas.yaml"), "{text}");
    let text = study("extends: base.yaml\n");
    assert!(text.contains("base.yaml:7:48: there is no file or folder"), "{text}");
    let text = study("extends: base.yaml\nparams: {unused: 1}\n");
    assert!(text.contains("study.yaml:2:10: no stage uses the param `unused`"), "{text}");
    let text = study("extends: base.yaml\nparams: 3\n");
    assert!(text.contains("expected `params` to be a mapping, found `3`"), "{text}");
    let text = study("extends: [base.yaml]\n");
    assert!(text.contains("expected the path of a pipeline, found a list"), "{text}");
    let text = study("extends: study.yaml\n");
    assert!(text.contains("study.yaml:1:10: study.yaml is extended in a circle"), "{text}");
    let circle = [("base.yaml", "extends: study.yaml\n"), ("study.yaml", "extends: base.yaml\n")];
    let text = mistake(&circle);
    assert!(text.contains("base.yaml:1:10: study.yaml is extended in a circle"), "{text}");
    let empty = [("base.yaml", "\n"), ("study.yaml", "extends: base.yaml\n")];
    assert!(mistake(&empty).contains("base.yaml is not a pipeline"), "{}", mistake(&empty));
}
