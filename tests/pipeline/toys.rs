//! Stage kinds that make nothing: enough fields to try the language on.

use std::collections::BTreeMap;
use std::path::Path;

use posttrain::backend::Backend;
use posttrain::dag::context::Context;
use posttrain::error::{Failure, Result};
use posttrain::pipeline::expand::{Pipeline, parse};
use posttrain::pipeline::overrides::Overrides;
use posttrain::pipeline::registry::Registry;
use posttrain::reference::{Dataset, Input, Policy, Ref};
use posttrain::stages::{Checks, KindInfo, Problem, Stage, Visitor};
use serde::{Deserialize, Serialize};

/// Where rows come from.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    Synthetic {
        #[serde(default)]
        seed: u64,
        #[serde(default = "ten")]
        rows: u32,
    },
    Jsonl {
        path: Input,
    },
    Empty,
}

fn ten() -> u32 {
    10
}

fn yes() -> bool {
    true
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Corpus {
    source: Source,
    #[serde(default)]
    columns: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    Constant,
    Cosine,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimiser {
    beta: f64,
    #[serde(default = "constant")]
    schedule: Schedule,
}

fn constant() -> Schedule {
    Schedule::Constant
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Train {
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
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compare {
    #[serde(default)]
    policies: Vec<Ref<Policy>>,
    #[serde(default)]
    metric: String,
    #[serde(default)]
    methods: Vec<Method>,
    #[serde(default)]
    judged: BTreeMap<String, Ref<Policy>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Method {
    name: String,
    policy: Ref<Policy>,
    beside: Option<Ref<Policy>>,
}

macro_rules! stage {
    ($type:ty, $name:literal, $output:literal, $threads:expr, $problems:expr) => {
        impl Stage for $type {
            const INFO: KindInfo =
                KindInfo { threads: $threads, ..KindInfo::on_device($name, 3, $output) };

            fn problems(&self) -> Vec<Problem> {
                let problems: fn(&Self) -> Vec<Problem> = $problems;
                problems(self)
            }

            fn run<B: Backend>(&self, _: &B, _: &Context) -> Result<()> {
                Ok(())
            }
        }
    };
}

stage!(Corpus, "corpus", "dataset", Some(1), |_| Vec::new());
stage!(Train, "train", "policy", None, |train| Checks::default()
    .require(train.learning_rate > 0.0, "learning_rate", "must be above 0")
    .require(
        train.optimiser.as_ref().is_none_or(|o| o.beta < 1.0),
        "optimiser.beta",
        "must be below 1"
    )
    .require(train.steps > 0, "steps", "must be at least 1")
    .done());
stage!(Compare, "compare", "evaluation", None, |compare| {
    let taken = compare.methods.iter().any(|method| method.name == "tuned[seed=3]");
    let mut checks = Checks::default();
    checks.require(!taken, "methods", "`tuned[seed=3]` is taken").done()
});

/// The toys.
pub struct Toys;

impl Registry for Toys {
    fn names(&self) -> Vec<&'static str> {
        vec!["corpus", "train", "compare"]
    }

    fn visit<V: Visitor>(&self, name: &str, visitor: V) -> Option<V::Output> {
        match name {
            "corpus" => Some(visitor.visit::<Corpus>()),
            "train" => Some(visitor.visit::<Train>()),
            "compare" => Some(visitor.visit::<Compare>()),
            _ => None,
        }
    }
}

/// Two stages that are right.
pub const HEAD: &str = "\
stages:
  posts:
    uses: corpus
    source: synthetic
";

/// Expands a text, with options.
pub fn try_with(text: &str, profiles: &[&str], sets: &[&str]) -> Result<Pipeline, Failure> {
    let owned = |list: &[&str]| list.iter().map(|text| text.to_string()).collect();
    parse(
        "p.yaml",
        text.to_owned(),
        Path::new("/nowhere"),
        &Overrides { profiles: owned(profiles), sets: owned(sets) },
        &Toys,
    )
}

/// Expands a text that is right.
pub fn expand(text: &str) -> Pipeline {
    expand_with(text, &[], &[])
}

/// Expands a text that is right, with options.
pub fn expand_with(text: &str, profiles: &[&str], sets: &[&str]) -> Pipeline {
    try_with(text, profiles, sets).unwrap_or_else(|failure| panic!("{}", failure.message))
}

/// What is said about a text that is wrong.
pub fn mistake(text: &str) -> String {
    mistake_with(text, &[], &[])
}

/// What is said about a text or options that are wrong.
pub fn mistake_with(text: &str, profiles: &[&str], sets: &[&str]) -> String {
    match try_with(text, profiles, sets) {
        Ok(pipeline) => panic!("no mistake was seen in\n{text}\n{:?}", names(&pipeline)),
        Err(failure) => failure.message,
    }
}

/// The names of all nodes.
pub fn names(pipeline: &Pipeline) -> Vec<&str> {
    pipeline.graph.nodes.iter().map(|node| node.name.as_str()).collect()
}

/// The config of a node.
pub fn config<'a>(pipeline: &'a Pipeline, name: &str) -> &'a serde_json::Value {
    let node = pipeline.graph.nodes.iter().find(|node| node.name == name);
    &node.unwrap_or_else(|| panic!("no {name} in {:?}", names(pipeline))).config
}
