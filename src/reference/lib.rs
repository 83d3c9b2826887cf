//! Typed references between stages, and files from outside: the two parts of a config that the
//! engine reads. Independent of stage kinds and formats.
//!
//! In YAML both are plain strings (a stage's name; a path, or a model's name in a hub). Serialised
//! they become the tagged objects of `dag::node`; in the order that a node's process reads they
//! have become paths.
//!
//! ```
//! use posttrain_reference::{Place, Policy, Ref};
//! let reference: Ref<Policy> = serde_json::from_str("\"sft\"").expect("a name");
//! assert_eq!(reference.place(), Place::Stage("sft"));
//! ```

use posttrain_dag as dag;

use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

use crate::dag::node::{FETCH_TAG, INPUT_TAG, PATH_TAG, STAGE_TAG};

/// The name of the newtype by which [`Ref`] requests a reference from its deserializer; a
/// deserializer of pipelines can then give the name itself.
pub const STAGE_NEWTYPE: &str = "$stage";
/// The name of the newtype by which [`Input`] requests a path from its deserializer; a deserializer
/// of pipelines can then give an absolute one.
pub const INPUT_NEWTYPE: &str = "$input";
/// The name of the newtype by which [`ModelFolder`] requests a path or a name in a hub from its
/// deserializer; one that distinguishes them gives the name as the tagged object [`FETCH_TAG`].
pub const MODEL_NEWTYPE: &str = "$model";

/// What a reference to every point of a stage is called until the points are known: `stage[*]`, or,
/// to the points that differ along these axes alone, `stage[*seed,fold]`.
pub fn every_point(stage: &str, over: &[&str]) -> String {
    format!("{stage}[*{}]", over.join(","))
}

/// The stage and the axes of a name as [`every_point`] makes it.
pub fn of_every_point(name: &str) -> Option<(&str, Vec<&str>)> {
    let (stage, over) = name.strip_suffix(']')?.split_once("[*")?;
    Some((stage, over.split(',').filter(|axis| !axis.is_empty()).collect()))
}

/// A kind of artefact: what a reference may point at.
pub trait Artefact {
    /// Its name in errors and in tagged objects.
    const KIND: &'static str;
}

macro_rules! artefacts {
    ($($(#[$doc:meta])* $name:ident = $kind:literal;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            pub struct $name;
            impl Artefact for $name { const KIND: &'static str = $kind; }
        )*
    };
}

artefacts! {
    /// Splits of rows, as JSONL.
    Dataset = "dataset";
    /// A `tokenizer.json` with its special tokens.
    Tokenizer = "tokenizer";
    /// A language model in the Hugging Face layout, tokenizer included.
    Policy = "policy";
    /// A scalar-head model in the Hugging Face layout, with its normalisation.
    RewardModel = "reward_model";
    /// Generated texts with their prompts and log-probabilities, per test set.
    Samples = "samples";
    /// A classifier of text pairs, with its encoder.
    Classifier = "classifier";
    /// A number for each row of a dataset, per split.
    Scores = "scores";
    /// Numbers of a program of the user's for rows of samples, per split.
    Metric = "metric";
    /// Log-probabilities of preference pairs under a reference policy, per split.
    ReferenceLogprobs = "reference_logprobs";
    /// Verdicts on pairs of answers, with their win rates.
    Judgements = "judgements";
    /// The table of an evaluation.
    Evaluation = "evaluation";
    /// A folder of files whose meaning is defined by the stage that reads it.
    Files = "files";
    /// Any of the above: for a reference that takes an artefact of any kind.
    Any = "any";
}

/// A reference to an artefact of any kind.
pub type AnyRef = Ref<Any>;

#[derive(Clone, Debug, PartialEq)]
enum Target {
    Stage(String),
    Fetch(String),
    Path(PathBuf),
}

/// A reference to the artefact of another stage.
#[derive(Clone, Debug)]
pub struct Ref<A>(Target, PhantomData<A>);

/// A file or folder from outside, named in the pipeline by its path, in the key by its bytes.
#[derive(Clone, Debug)]
pub struct Input(Target);

/// A model's folder in the Hugging Face layout: from outside by its path, or by its name in a hub.
/// In the key by its bytes either way.
#[derive(Clone, Debug)]
pub struct ModelFolder(Target);

impl<A> Ref<A> {
    /// The folder of the artefact.
    ///
    /// # Panics
    /// Before the engine has resolved it: only a running stage may call this.
    pub fn path(&self) -> &Path {
        resolved(&self.0)
    }
}

impl Input {
    /// The absolute path of the file or folder.
    ///
    /// # Panics
    /// Before the engine has resolved it: only a running stage may call this.
    pub fn path(&self) -> &Path {
        resolved(&self.0)
    }
}

impl ModelFolder {
    /// The absolute path of the folder.
    ///
    /// # Panics
    /// Before the engine has resolved it: only a running stage may call this.
    pub fn path(&self) -> &Path {
        resolved(&self.0)
    }
}

/// Where what is referred to is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// The artefact of the stage of this name.
    Stage(&'a str),
    /// A folder.
    Path(&'a Path),
}

impl<A> Ref<A> {
    /// Where the artefact is, before and after the engine has resolved it.
    pub fn place(&self) -> Place<'_> {
        match &self.0 {
            Target::Stage(name) | Target::Fetch(name) => Place::Stage(name),
            Target::Path(path) => Place::Path(path),
        }
    }
}

impl<A> Ref<A> {
    /// Whether it means every point of a stage, before the points are known.
    pub fn stands_for_all(&self) -> bool {
        matches!(&self.0, Target::Stage(name) if of_every_point(name).is_some())
    }
}

impl ModelFolder {
    /// The folder; `None` where it is a model of a hub that has not been fetched.
    pub fn here(&self) -> Option<&Path> {
        match &self.0 {
            Target::Stage(path) => Some(Path::new(path)),
            Target::Path(path) => Some(path),
            Target::Fetch(_) => None,
        }
    }
}

fn resolved(target: &Target) -> &Path {
    match target {
        Target::Path(path) => path,
        Target::Stage(name) | Target::Fetch(name) => {
            panic!("`{name}` has no path before it is resolved")
        }
    }
}

impl<A: Artefact> Serialize for Ref<A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.0 {
            Target::Stage(name) => {
                map.serialize_entry(STAGE_TAG, name)?;
                map.serialize_entry("kind", A::KIND)?;
            }
            other => outside(other, &mut map)?,
        }
        map.end()
    }
}

/// What is no stage: a path before and after it is resolved, or a name.
fn outside<M: SerializeMap>(target: &Target, map: &mut M) -> Result<(), M::Error> {
    match target {
        Target::Stage(path) => map.serialize_entry(INPUT_TAG, path),
        Target::Fetch(name) => map.serialize_entry(FETCH_TAG, name),
        Target::Path(path) => map.serialize_entry(PATH_TAG, path),
    }
}

impl Serialize for Input {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        outside(&self.0, &mut map)?;
        map.end()
    }
}

impl Serialize for ModelFolder {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        outside(&self.0, &mut map)?;
        map.end()
    }
}

impl<'de, A: Artefact> Deserialize<'de> for Ref<A> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_newtype_struct(STAGE_NEWTYPE, TargetVisitor("the name of a stage"))
            .map(|target| Ref(target, PhantomData))
    }
}

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(INPUT_NEWTYPE, TargetVisitor("a path")).map(Input)
    }
}

impl<'de> Deserialize<'de> for ModelFolder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_newtype_struct(
                MODEL_NEWTYPE,
                TargetVisitor("a path, or a model of the hub"),
            )
            .map(ModelFolder)
    }
}

struct TargetVisitor(&'static str);

impl<'de> Visitor<'de> for TargetVisitor {
    type Value = Target;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Target, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Target, E> {
        match name.is_empty() {
            true => Err(E::invalid_value(de::Unexpected::Str(name), &self)),
            false => Ok(Target::Stage(name.into())),
        }
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Target, M::Error> {
        let mut target = None;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                PATH_TAG => target = Some(Target::Path(map.next_value()?)),
                FETCH_TAG => target = Some(Target::Fetch(map.next_value()?)),
                STAGE_TAG | INPUT_TAG => target = Some(Target::Stage(map.next_value()?)),
                "kind" => drop(map.next_value::<String>()?),
                _ => return Err(de::Error::invalid_value(de::Unexpected::Map, &self)),
            }
        }
        target.ok_or_else(|| de::Error::invalid_value(de::Unexpected::Map, &self))
    }
}
