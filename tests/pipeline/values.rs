//! What a pipeline means: values, params, options, and that spelling does not matter.

use std::path::Path;

use posttrain::dag::digest::ObjectId;
use posttrain::dag::key::Preimage;
use posttrain::dag::node::Numerics;
use posttrain::pipeline::expand::{Pipeline, parse};
use posttrain::pipeline::overrides::Overrides;
use posttrain::pipeline::resolved::to_yaml;
use serde_json::json;

use super::toys::{HEAD, Toys, config, expand, expand_with, names};

const NUMERICS: Numerics<'_> = Numerics { device: Some("f32"), host: "host" };

fn sft(fields: &str) -> String {
    let fields: String = fields.lines().map(|line| format!("    {line}\n")).collect();
    format!("{HEAD}  sft:\n    uses: train\n    data: posts\n{fields}")
}

/// The action keys, given that every artefact is told by its stage kind alone.
fn keys(pipeline: &Pipeline) -> Vec<String> {
    let object = |_: &str| Ok(ObjectId::from(blake3::hash(b"an artefact")));
    let content = |path: &Path| Ok(blake3::hash(path.as_os_str().as_encoded_bytes()).into());
    pipeline
        .graph
        .nodes
        .iter()
        .map(|node| Preimage::of(node, NUMERICS, object, content).unwrap().key().to_string())
        .collect()
}

#[test]
fn a_node_holds_its_config_with_defaults_filled_in() {
    let pipeline = expand(&sft("learning_rate: 1e-4"));
    assert_eq!(names(&pipeline), ["posts", "sft"]);
    assert_eq!(
        config(&pipeline, "posts"),
        &json!({"source": {"synthetic": {"seed": 0, "rows": 10}}, "columns": {}})
    );
    let expected = json!({
        "data": {"$stage": "posts", "kind": "dataset"}, "base": null, "learning_rate": 1e-4,
        "steps": 10, "shuffle": true, "note": "",
        "clip": null, "optimiser": null, "layers": [],
    });
    assert_eq!(config(&pipeline, "sft"), &expected);
    let node = &pipeline.graph.nodes[0];
    assert_eq!(
        (node.stage.as_str(), node.version, node.output.as_str(), node.resources.threads),
        ("corpus", 3, "dataset", Some(1))
    );
}

#[test]
fn every_spelling_of_a_number_gives_one_key() {
    let one = keys(&expand(&sft("learning_rate: 1e-4")));
    for spelling in ["0.0001", "1.0e-4", "1E-4", ".0001", "10e-5", "+0.00010"] {
        assert_eq!(keys(&expand(&sft(&format!("learning_rate: {spelling}")))), one, "{spelling}");
    }
    assert_ne!(keys(&expand(&sft("learning_rate: 2e-4"))), one);
    // A whole number where a real one is asked for is a real one.
    assert_eq!(keys(&expand(&sft("learning_rate: 1"))), keys(&expand(&sft("learning_rate: 1.0"))));
}

#[test]
fn comments_order_names_and_defaults_written_out_change_no_key() {
    let plain = expand(&sft("learning_rate: 1e-4\nsteps: 20"));
    let dressed = expand(
        "# remarks\nname: another\nstages:\n  tuned: # here too\n    steps: 20\n    learning_rate: \
         1e-4\n    shuffle: true\n    base:\n    resources: {threads: 1}\n    \"data\": \
         corpus\n    uses: train\n  corpus: {source: {synthetic: {seed: 0}}, uses: corpus}\n",
    );
    let (mut one, mut two) = (keys(&plain), keys(&dressed));
    one.sort();
    two.sort();
    assert_eq!(one, two);
}

#[test]
fn text_is_taken_as_it_is_written() {
    for (written, text) in [
        ("no", "no"),
        ("010", "010"),
        ("1.10", "1.10"),
        ("\"~\"", "~"),
        ("'it''s'", "it's"),
        ("a: b", "a: b"),
        ("\"\"", ""),
    ] {
        let written = if written == "a: b" { "'a: b'" } else { written };
        let pipeline = expand(&sft(&format!("learning_rate: 1\nnote: {written}")));
        assert_eq!(config(&pipeline, "sft")["note"], text);
    }
    let block = expand(&sft("learning_rate: 1\nnote: |\n  first\n  \tsecond\n"));
    assert_eq!(config(&block, "sft")["note"], "first\n\tsecond\n");
}

#[test]
fn a_param_alone_keeps_its_type_and_inside_text_is_text() {
    let head = "params:\n  rate: 1e-4\n  who: no\n  all: [1, 2]\n  set: \
        {beta: 0.5, schedule: cosine}\n  from: posts\n";
    let pipeline = expand(&format!(
        "{head}{HEAD}  sft:\n    uses: train\n    data: ${{from}}\n    learning_rate: \
         ${{rate}}\n    layers: ${{all}}\n    optimiser: ${{set}}\n    note: \"${{who}} at \
         ${{rate}}, $${{rate}}, ${{set.schedule}}\"\n    clip: \"${{set.beta}}\"\n"
    ));
    let sft = config(&pipeline, "sft");
    assert_eq!(sft["learning_rate"], 1e-4);
    assert_eq!(sft["layers"], json!([1, 2]));
    assert_eq!(sft["optimiser"], json!({"beta": 0.5, "schedule": "cosine"}));
    assert_eq!(sft["note"], "no at 1e-4, ${rate}, cosine");
    assert_eq!(sft["clip"], 0.5);
}

#[test]
fn params_may_use_params() {
    let text = format!(
        "params: {{a: 2, b: \"${{a}}\", c: \"${{b}}e-3\"}}\n{}",
        sft("learning_rate: ${c}")
    );
    // What is spliced into quoted text is text.
    assert!(super::toys::mistake(&text).contains("expected a number, found the text \"2e-3\""));
    let text =
        format!("params:\n  a: 2\n  b: ${{a}}\n  c: ${{b}}e-3\n{}", sft("learning_rate: ${c}"));
    assert_eq!(config(&expand(&text), "sft")["learning_rate"], 2e-3);
    assert_eq!(config(&expand_with(&text, &[], &["a=3"]), "sft")["learning_rate"], 3e-3);
}

#[test]
fn options_override_profiles_override_defaults() {
    let text = format!(
        "params: {{rate: 1, steps: 2, note: x}}\nprofiles:\n  quick: {{rate: 3, steps: 4}}\n  \
         quicker: {{steps: 5}}\n{}",
        sft("learning_rate: ${rate}\nsteps: ${steps}\nnote: ${note}")
    );
    let get = |profiles: &[&str], sets: &[&str]| {
        let pipeline = expand_with(&text, profiles, sets);
        let sft = config(&pipeline, "sft");
        (
            sft["learning_rate"].as_f64().unwrap(),
            sft["steps"].as_u64().unwrap(),
            sft["note"].as_str().unwrap().to_owned(),
        )
    };
    assert_eq!(get(&[], &[]), (1.0, 2, "x".into()));
    assert_eq!(get(&["quick"], &[]), (3.0, 4, "x".into()));
    assert_eq!(get(&["quick", "quicker"], &[]), (3.0, 5, "x".into()));
    assert_eq!(get(&["quick"], &["steps=6", "note=007"]), (3.0, 6, "007".into()));
    assert_eq!(get(&[], &["rate=1", "rate=2"]), (2.0, 2, "x".into()));
}

#[test]
fn options_reach_fields_of_params_and_of_stages() {
    let text = format!(
        "params: {{set: {{beta: 0.5, schedule: cosine}}}}\n{}",
        sft("learning_rate: 1\noptimiser: ${set}")
    );
    let pipeline = expand_with(
        &text,
        &[],
        &[
            "set.beta=0.25",
            "stages.sft.steps=7",
            "stages.sft.layers=[3]",
            "stages.posts.columns.a=b",
        ],
    );
    let set = config(&pipeline, "sft");
    assert_eq!(
        (&set["optimiser"]["beta"], &set["steps"], &set["layers"]),
        (&json!(0.25), &json!(7), &json!([3]))
    );
    assert_eq!(config(&pipeline, "posts")["columns"], json!({"a": "b"}));
    // A field that takes the place of the only use of a param is no reason to complain about the
    // param.
    let text = format!("params: {{rate: 1}}\n{}", sft("learning_rate: ${rate}"));
    assert_eq!(
        config(&expand_with(&text, &[], &["stages.sft.learning_rate=3"]), "sft")["learning_rate"],
        3.0
    );
}

#[test]
fn paths_start_from_the_folder_of_the_text_they_are_written_in() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("posts.jsonl"), "{}").unwrap();
    let text = "params: {dir: .}\nstages:\n  posts:\n    uses: corpus\n    source: \
        {jsonl: {path: \"${dir}/posts.jsonl\"}}\n";
    let pipeline =
        parse("p.yaml", text.to_owned(), folder.path(), &Overrides::default(), &Toys).unwrap();
    let path = config(&pipeline, "posts")["source"]["jsonl"]["path"]["$input"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        Path::new(&path).canonicalize().unwrap(),
        folder.path().join("posts.jsonl").canonicalize().unwrap()
    );
    // An option's path starts from the current folder, which holds no such file.
    let sets = vec!["dir=./".to_owned()];
    let failure =
        parse("p.yaml", text.into(), folder.path(), &Overrides { profiles: vec![], sets }, &Toys)
            .unwrap_err();
    let current = std::env::current_dir().unwrap();
    assert!(
        failure.message.contains(&format!("there is no file or folder {}", current.display())),
        "{}",
        failure.message
    );
}

#[test]
fn a_resolved_pipeline_is_a_pipeline_with_the_same_keys() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("posts.jsonl"), "{}").unwrap();
    let text = "name: sweep\ndescription: 'a: b'\nparams: {rate: 1e-7, seed: 0}\nmatrix: \
        {rate: [1e-7, 0.5], seed: [0, 18446744073709551615]}\nstages:\n  posts:\n    uses: \
        corpus\n    source: {synthetic: {seed: \"${seed}\"}}\n    columns: \
        {\"a.b\": no, c: '010', d: \"null\", e: \"$${x}\", f: \" x\\n#y: \"}\n  file: \
        {uses: corpus, source: {jsonl: {path: posts.jsonl}}}\n  empty: \
        {uses: corpus, source: empty}\n  sft:\n    uses: train\n    data: posts\n    \
        learning_rate: ${rate}\n    layers: [-1, 0]\n    clip: 1\n    optimiser: {beta: -0.0}\n    \
        resources: {threads: 2, gpus: 0}\n    timeout: 2.5\n  all:\n    uses: compare\n    \
        policies: {all: sft}\n    metric: \"1e5\"\n";
    let pipeline =
        parse("p.yaml", text.to_owned(), folder.path(), &Overrides::default(), &Toys).unwrap();
    let yaml = to_yaml(&pipeline).unwrap();
    let again =
        parse("resolved.yaml", yaml.clone(), Path::new("/nowhere"), &Overrides::default(), &Toys)
            .unwrap_or_else(|f| panic!("{}\n{yaml}", f.message));
    assert_eq!(names(&again), names(&pipeline));
    assert_eq!(keys(&again), keys(&pipeline));
    let settings = |pipeline: &Pipeline| {
        pipeline.graph.nodes.iter().map(|node| node.resources).collect::<Vec<_>>()
    };
    assert_eq!(settings(&again), settings(&pipeline));
    assert!(
        settings(&again)
            .iter()
            .any(|resources| resources.gpus == Some(0) && resources.time == Some(2.5))
    );
    let without = text.replace(", gpus: 0", "").replace("    timeout: 2.5\n", "");
    let without = parse("p.yaml", without, folder.path(), &Overrides::default(), &Toys).unwrap();
    assert_eq!(keys(&without), keys(&pipeline), "neither is in a key");
    for (one, two) in pipeline.graph.nodes.iter().zip(&again.graph.nodes) {
        assert_eq!(one.config, two.config);
    }
    assert_eq!((again.name, again.description), (pipeline.name, pipeline.description));
    assert_eq!(to_yaml(&expand(&sft("learning_rate: 1"))).unwrap().matches("sft:").count(), 1);
}

#[test]
fn a_tab_may_part_a_key_from_its_value_and_stays_in_texts() {
    let spaced = sft("learning_rate: 1e-4\nnote: \"a:\tb\"");
    let tabbed = spaced
        .replace("rate: 1", "rate:\t \t1")
        .replace("uses: train", "uses:\ttrain")
        .replace("data: posts", "data:\t\tposts # x:\ty");
    assert_ne!(tabbed, spaced);
    assert_eq!(keys(&expand(&tabbed)), keys(&expand(&spaced)));
    assert_eq!(config(&expand(&tabbed), "sft")["note"], "a:\tb");
    let block = sft("learning_rate:\t1e-4\nnote: |\n  k:\tv");
    assert_eq!(config(&expand(&block), "sft")["note"], "k:\tv\n");
}
