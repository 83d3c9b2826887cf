//! Keys of the shipped pipelines, recorded; and fields at their defaults, which are in no key.

use std::path::{Path, PathBuf};

use posttrain::backend::Backend;
use posttrain::dag::context::Context;
use posttrain::dag::digest::ActionKey;
use posttrain::dag::key::Preimage;
use posttrain::dag::node::{Graph, Node, Numerics};
use posttrain::error::Result;
use posttrain::pipeline::defaults::{Defaults, whole_config, without_defaults};
use posttrain::pipeline::expand::{load, parse};
use posttrain::pipeline::fetch::place;
use posttrain::pipeline::overrides::Overrides;
use posttrain::pipeline::registry::{Builtin, Registry};
use posttrain::reference::{Dataset, Input, Policy, Ref};
use posttrain::stages::{KindInfo, Problem, Stage, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::toys::{HEAD, Toys, expand};

/// Set to renew the record.
const RENEW: &str = "POSTTRAIN_RENEW_KEYS";
const HEADER: &str = "\
# Keys of the nodes of the shipped pipelines, each by what it reads: pipeline, node, VERSION, key.
# Written by POSTTRAIN_RENEW_KEYS=1 cargo test --test suite pipeline::keys
";

/// What a node's key is made of; artefacts that it reads are told apart by the names of their
/// nodes, files by the ends of their paths.
fn preimage(node: &Node) -> Preimage {
    let hash = |text: &str| blake3::hash(text.as_bytes());
    let file = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    Preimage::of(
        node,
        Numerics { device: Some("device"), host: "host" },
        |name| Ok(hash(name).into()),
        |path| Ok(hash(&file(path)).into()),
    )
    .unwrap()
}

fn key(graph: &Graph, name: &str) -> ActionKey {
    preimage(graph.nodes.iter().find(|node| node.name == name).unwrap()).key()
}

#[test]
fn keys_of_the_shipped_pipelines_are_as_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, "").unwrap();
        path.display().to_string()
    };
    std::fs::create_dir(folder.path().join("base_model")).unwrap();
    let base_model = format!("base_model={}", folder.path().join("base_model").display());
    let files = |names: &[&str]| -> Vec<String> {
        let named = names.iter().map(|name| format!("{name}={}", at(name)));
        named.chain([base_model.clone()]).collect()
    };
    let sets = |sets: &[&str]| sets.iter().map(|set| set.to_string()).collect();
    let pipelines = [
        ("first", Vec::new()),
        ("sweep", Vec::new()),
        ("own_metric", Vec::new()),
        ("smoke", Vec::new()),
        ("summarisation", Vec::new()),
        ("selection", Vec::new()),
        ("selection_instructions", Vec::new()),
        ("metric_validation", Vec::new()),
        ("diversity_audit", Vec::new()),
        ("evidence", vec!["matrix.seed=[10, 11]".to_owned()]),
        ("dpo", Vec::new()),
        ("methods", Vec::new()),
        ("diversity", Vec::new()),
        ("instruction_following", Vec::new()),
        ("diversity_instructions", Vec::new()),
        ("headlines", files(&["posts", "articles"])),
        ("alpaca", files(&["demonstrations", "pairs", "easy", "hard"])),
        ("alpaca_methods", files(&["demonstrations", "pairs", "easy", "hard"])),
        ("gsm8k", files(&["problems"])),
        ("recipes/paper_summarisation", sets(&["model=facebook/opt-125m", "shift=sentiment"])),
        ("recipes/paper_kl", Vec::new()),
        ("recipes/paper_search", sets(&["ppo_learning_rate=1.5e-5"])),
        ("recipes/paper_gpt4", Vec::new()),
        ("recipes/paper_instructions", Vec::new()),
        ("recipes/nplus", sets(&["size=1b", "seed=44413"])),
    ];
    let mut lines = HEADER.to_owned();
    for (name, sets) in pipelines {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("pipelines/{name}.yaml"));
        let overrides = Overrides { profiles: Vec::new(), sets };
        let mut pipeline = load(&path, &overrides, &Builtin).unwrap();
        // What is named in a hub is told apart by its name.
        place(&mut pipeline, &[], &mut |name| Ok(Some(PathBuf::from(name)))).unwrap();
        for node in pipeline.graph.nodes {
            let key = preimage(&node).key();
            lines += &format!("{name} {} {} {}\n", node.name, node.version, key.short());
        }
    }
    let record = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pipeline/keys.txt");
    if std::env::var_os(RENEW).is_some() {
        return std::fs::write(record, lines).unwrap();
    }
    let recorded = std::fs::read_to_string(record).unwrap();
    assert!(
        recorded == lines,
        "keys of shipped pipelines have changed. A new option must have a default, under which a \
         stage makes what it made; its key is then the old one. Where a pipeline file or a VERSION \
         was changed, renew tests/pipeline/keys.txt with {RENEW}=1.\nrecorded:\n{recorded}\n\
         now:\n{lines}"
    );
}

/// `train` of the toys as a later version has it: with more options, in its own config and in one
/// inside of it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Train {
    data: Ref<Dataset>,
    base: Option<Ref<Policy>>,
    learning_rate: f64,
    #[serde(default = "ten")]
    steps: u32,
    #[serde(default = "yes")]
    shuffle: bool,
    #[serde(default)]
    note: String,
    clip: Option<f32>,
    optimiser: Option<Optimiser>,
    #[serde(default)]
    layers: Vec<i8>,
    #[serde(default = "half")]
    dropout: f64,
    vocabulary: Option<Input>,
    #[serde(default)]
    schedule: Schedule,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Optimiser {
    beta: f64,
    #[serde(default)]
    schedule: Schedule,
    #[serde(default = "half")]
    decay: f64,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Schedule {
    #[default]
    Constant,
    Cosine,
}

fn ten() -> u32 {
    10
}

fn yes() -> bool {
    true
}

fn half() -> f64 {
    0.5
}

impl Stage for Train {
    const INFO: KindInfo = KindInfo::on_device("train", 3, "policy");

    fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }

    fn run<B: Backend>(&self, _: &B, _: &Context) -> Result<()> {
        Ok(())
    }
}

/// The toys, with `train` as a later version has it.
struct Later;

impl Registry for Later {
    fn names(&self) -> Vec<&'static str> {
        Toys.names()
    }

    fn visit<V: Visitor>(&self, name: &str, visitor: V) -> Option<V::Output> {
        match name {
            "train" => Some(visitor.visit::<Train>()),
            other => Toys.visit(other, visitor),
        }
    }
}

fn later(text: &str) -> Graph {
    let text = text.to_owned();
    let pipeline = parse("p.yaml", text, Path::new("/nowhere"), &Overrides::default(), &Later);
    pipeline.unwrap_or_else(|failure| panic!("{}", failure.message)).graph
}

fn with(fields: &str) -> String {
    format!("{HEAD}  sft: {{uses: train, data: posts, learning_rate: 0.1{fields}}}\n")
}

const WRITTEN: [&str; 4] = [
    "",
    ", steps: 5",
    ", optimiser: {beta: 0.9}",
    ", optimiser: {beta: 0.9, schedule: cosine}, layers: [1, 2]",
];

#[test]
fn a_new_option_changes_no_key_until_it_is_set() {
    for written in WRITTEN {
        let (text, before) = (with(written), key(&expand(&with(written)).graph, "sft"));
        assert_eq!(key(&later(&text), "sft"), before, "{written}");
        for set in [", dropout: 0.1", ", schedule: cosine"] {
            assert_ne!(key(&later(&with(&format!("{written}{set}"))), "sft"), before, "{set}");
        }
    }
    let inner = |text| key(&later(&with(text)), "sft");
    let before = inner(", optimiser: {beta: 0.9}");
    assert_eq!(inner(", optimiser: {beta: 0.9, decay: 0.5}"), before);
    assert_ne!(inner(", optimiser: {beta: 0.9, decay: 0.4}"), before);
}

#[test]
fn a_default_that_is_written_out_is_the_default() {
    let key = |fields: &str| key(&expand(&with(fields)).graph, "sft");
    assert_eq!(key(""), key(", steps: 10, shuffle: true, note: \"\", clip: null, layers: []"));
    assert_eq!(
        key(", optimiser: {beta: 0.9}"),
        key(", optimiser: {schedule: constant, beta: 0.9}")
    );
    let others = [
        "",
        ", steps: 11",
        ", shuffle: false",
        ", note: x",
        ", clip: 0",
        ", layers: [0]",
        ", optimiser: {beta: 0}",
        ", optimiser: {beta: 0.5}",
        ", optimiser: {beta: 0, schedule: cosine}",
    ];
    for (at, one) in others.iter().enumerate() {
        for other in &others[at + 1..] {
            assert_ne!(key(one), key(other), "{one} and {other}");
        }
    }
}

#[test]
fn what_is_left_out_decodes_to_the_same_config() {
    let pipeline = expand(&with(", steps: 5, optimiser: {beta: 0.9}"));
    let node = pipeline.graph.nodes.iter().find(|node| node.name == "sft").unwrap();
    let reference = json!({"$object": preimage(node).config["data"]["$object"]});
    assert_eq!(
        preimage(node).config,
        json!({"data": reference, "learning_rate": 0.1, "steps": 5, "optimiser": {"beta": 0.9}})
    );
    assert_eq!(node.defaults["/steps"], json!(10));
    assert_eq!(node.defaults["/optimiser"], json!(null));
    assert_eq!(node.defaults["/optimiser/schedule"], json!("constant"));
    assert!(!node.defaults.contains_key("/learning_rate"));
}

#[test]
fn the_config_of_a_key_is_whole_again() {
    let graph = expand(&with(", steps: 5, optimiser: {beta: 0.9}")).graph;
    let node = graph.nodes.iter().find(|node| node.name == "sft").unwrap();
    let all = preimage(&Node { defaults: Default::default(), ..node.clone() });
    assert_eq!(whole_config(&preimage(node), &Toys), all.config);
    assert_eq!(all.config["shuffle"], json!(true));
    // Of another VERSION nothing is known but what the key has.
    let other = Preimage { version: 2, ..preimage(node) };
    assert_eq!(whole_config(&other, &Toys), other.config);
}

#[test]
fn a_key_with_its_defaults_becomes_one_without() {
    for written in WRITTEN {
        let graph = expand(&with(written)).graph;
        for node in graph.nodes {
            let (now, earlier) = (preimage(&node), Node { defaults: Default::default(), ..node });
            let (earlier, mut defaults) = (preimage(&earlier), Defaults::default());
            assert_eq!(without_defaults(&earlier, &mut defaults, &Toys), Some(now.clone()));
            // It is of this form already, of another VERSION, or of a kind with other options.
            assert_eq!(without_defaults(&now, &mut defaults, &Toys), None);
            let other = Preimage { version: 2, ..earlier.clone() };
            assert_eq!(without_defaults(&other, &mut defaults, &Toys), None);
            if node_is_later(&earlier) {
                let mut defaults = Defaults::default();
                assert_eq!(without_defaults(&earlier, &mut defaults, &Later), None);
            }
        }
    }
}

/// Whether [`Later`] has more options of a node's kind.
fn node_is_later(preimage: &Preimage) -> bool {
    preimage.stage == "train"
}
