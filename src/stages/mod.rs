//! One file a stage kind: its config struct, the kind of artefact it makes, its run. Imported only
//! by `pipeline`.

mod answer_rows;
mod artefact;
mod best_of_n;
mod classifier;
mod command;
mod dataset;
pub mod description;
mod distill;
mod diversity;
mod dpo;
mod equivalence;
mod evaluate;
mod expert_iteration;
pub mod fields;
mod footprint;
mod generate;
mod generation;
mod group_diversity;
mod grpo;
mod grpo_checks;
mod import;
mod judge;
mod judge_client;
mod judgements;
mod kto;
mod lineage;
mod made;
mod meanings;
mod merge;
mod metric;
mod metric_validation;
mod model_files;
pub mod models;
mod on_policy;
mod online_dpo;
mod over_seeds;
mod pair_choice;
mod people;
mod policy_options;
mod policy_validation;
mod ppo;
mod ppo_checks;
mod ppo_config;
mod ppo_footprint;
mod pretrain;
mod program;
mod questions;
mod ranges;
pub mod reading;
mod recorded;
mod reference_logprobs;
mod replay;
mod reward_model;
mod reward_pairs;
mod rewards;
mod rollouts;
mod sandbox;
pub mod schema;
mod score;
mod select;
mod sentinels;
mod sft;
pub mod source;
mod supervised;
mod tokenizer;
mod validation;

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::models::{ArtefactShape, ArtefactShapes};
use self::reading::Reading;
use crate::backend::Backend;
pub use crate::check::{Checks, Problem};
use crate::dag::context::Context;
use crate::error::Result;
use crate::model::memory::Memory;

/// A stage kind: everything that no config changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindInfo {
    /// The word after `uses:`.
    pub name: &'static str,
    /// Raised whenever the same config and inputs give other bytes.
    pub version: u32,
    /// The kind of artefact it makes (see [`crate::reference`]).
    pub output: &'static str,
    /// Number of threads it can use, if the pipeline does not say; `None` means all.
    pub threads: Option<usize>,
    /// Whether it computes on the back end that it is run with, so that its bytes depend on which
    /// that is.
    pub on_device: bool,
    /// Fields of its config that are proven to change no byte of its artefact, and so are left out
    /// of keys.
    pub byte_neutral: &'static [&'static str],
    /// Whether it takes training steps, whose metrics `report_to` can send elsewhere as they come.
    pub trains: bool,
    /// Whether the nodes that it reads of a stage are repetitions of one thing, and so differ along
    /// one axis of a matrix.
    pub repetitions: bool,
    /// Fields, dotted, each with others: the artefact that the first refers to must have had no
    /// part in those that the others refer to.
    pub held_out: &'static [(&'static str, &'static [&'static str])],
}

impl KindInfo {
    /// A kind that computes on a device, with all threads of the host.
    pub const fn on_device(name: &'static str, version: u32, output: &'static str) -> Self {
        KindInfo { threads: None, on_device: true, ..KindInfo::on_host(name, version, output) }
    }

    /// A kind that uses one thread of the host.
    pub const fn on_host(name: &'static str, version: u32, output: &'static str) -> Self {
        KindInfo {
            name,
            version,
            output,
            threads: Some(1),
            on_device: false,
            byte_neutral: &[],
            trains: false,
            repetitions: false,
            held_out: &[],
        }
    }
}

/// The implementation of a stage kind. The implementing struct is its config
/// (`deny_unknown_fields`, every default explicit).
pub trait Stage: Serialize + DeserializeOwned {
    /// The kind.
    const INFO: KindInfo;

    /// Whether it computes on the back end with this config. Most kinds do always or never.
    fn computes_on_device(&self) -> bool {
        Self::INFO.on_device
    }

    /// The kind of artefact that it makes with this config. Most kinds make one always.
    fn output(&self) -> &'static str {
        Self::INFO.output
    }

    /// Whether its config admits what [`KindInfo::held_out`] rules out; its artefact then says so.
    fn allows_taints(&self) -> bool {
        false
    }

    /// What must hold of stages that it refers to, beyond their kinds.
    fn constraints(&self) -> Vec<Constraint> {
        Vec::new()
    }

    /// Values out of range, if any.
    fn problems(&self) -> Vec<Problem>;

    /// What it makes, from the shapes of what it refers to, where a later stage's sizes depend on
    /// it and where it is known.
    fn makes(&self, shapes: &ArtefactShapes) -> Option<ArtefactShape> {
        let _ = shapes;
        None
    }

    /// What its models take of the device, where there are any and they are known. Rows longer than
    /// a pass's tokens take more.
    fn memory(&self, shapes: &ArtefactShapes) -> Option<Memory> {
        let _ = shapes;
        None
    }

    /// What its models read of datasets, where the models' contexts are known: lengths that the run
    /// checks before anything trains.
    fn readings(&self, shapes: &ArtefactShapes) -> Vec<Reading> {
        let _ = shapes;
        Vec::new()
    }

    /// Makes the artefact in `context.out()`.
    fn run<B: Backend>(&self, b: &B, context: &Context) -> Result<()>;
}

/// What must hold of a stage that is referred to, by that stage's own config. Nodes are called by
/// their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraint {
    /// The field, dotted, that holds the reference.
    pub field: String,
    /// The node that it refers to.
    pub node: String,
    /// A field, dotted, of that node.
    pub inner: String,
    /// What must hold of the inner field.
    pub rule: Rule,
}

/// What must hold of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// It is not `null`.
    IsSet,
    /// It refers to this node, or one that makes the same.
    Is(String),
    /// It says what the field of the same name of this node says.
    AsIn(String),
    /// What it refers to had no part in these nodes.
    NoPartIn(Vec<String>),
}

/// Visits every stage kind this program knows, by type.
pub trait Visitor {
    /// What a visit gives.
    type Output;
    /// Called with the stage kind that was asked for.
    fn visit<S: Stage>(self) -> Self::Output;
}

macro_rules! stages {
    ($($kind:ty),* $(,)?) => {
        /// Calls the visitor with the kind called `name`, or returns `None`.
        pub fn visit<V: Visitor>(name: &str, visitor: V) -> Option<V::Output> {
            $(
                if name == <$kind as Stage>::INFO.name {
                    return Some(visitor.visit::<$kind>());
                }
            )*
            None
        }

        /// The names of all stage kinds, in the order of a pipeline.
        pub fn names() -> &'static [&'static str] {
            &[$(<$kind as Stage>::INFO.name),*]
        }
    };
}

// The one list of stage kinds.
stages![
    dataset::DatasetStage,
    tokenizer::TokenizerStage,
    pretrain::PretrainStage,
    import::ModelStage,
    artefact::ArtefactStage,
    sft::SftStage,
    reward_model::RewardModelStage,
    reference_logprobs::ReferenceLogprobsStage,
    dpo::DpoStage,
    kto::KtoStage,
    select::SelectStage,
    ppo::PpoStage,
    grpo::GrpoStage,
    online_dpo::OnlineDpoStage,
    expert_iteration::ExpertIterationStage,
    distill::DistillStage,
    merge::MergeStage,
    generate::GenerateStage,
    best_of_n::BestOfNStage,
    score::ScoreStage,
    metric::MetricStage,
    evaluate::EvaluateStage,
    over_seeds::OverSeedsStage,
    metric_validation::MetricValidationStage,
    classifier::ClassifierStage,
    judge::JudgeStage,
    command::CommandStage,
];
