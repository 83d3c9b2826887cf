//! One file a stage kind: its config struct, the kind of artefact it makes, its run. Imported only by `pipeline`.

pub mod command;
pub mod reference;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::dag::context::Context;
use crate::error::Result;

/// A value that is well-typed but out of its range.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The field, dotted: `optimiser.learning_rate`.
    pub field: String,
    /// What was expected, and what was found.
    pub message: String,
}

/// A kind of stage. The implementing struct is its config (`deny_unknown_fields`, every default explicit).
pub trait Stage: Serialize + DeserializeOwned {
    /// The word after `uses:`.
    const NAME: &'static str;
    /// Raised whenever the same config and inputs come to give other bytes.
    const VERSION: u32;
    /// The kind of artefact it makes (see [`reference`]).
    const OUTPUT: &'static str;
    /// Threads it can make use of, when the pipeline does not say; `None` means all.
    const THREADS: Option<usize>;

    /// Values out of range, if any.
    fn problems(&self) -> Vec<Problem>;

    /// Makes the artefact in `context.out()`.
    fn run(&self, context: &Context) -> Result<()>;
}

/// Collects the values of a config that are out of range.
#[derive(Default)]
pub struct Checks(Vec<Problem>);

impl Checks {
    /// Notes a problem with `field` unless `ok`.
    pub fn require(&mut self, ok: bool, field: &str, message: impl Into<String>) -> &mut Self {
        if !ok {
            self.0.push(Problem { field: field.into(), message: message.into() });
        }
        self
    }

    /// The problems found.
    pub fn done(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.0)
    }
}

/// Visits every stage kind this program knows, by type.
pub trait Visitor {
    /// What a visit gives.
    type Output;
    /// Called with the stage kind that was asked for.
    fn visit<S: Stage>(self) -> Self::Output;
}

/// The one list of stage kinds: calls the visitor with the kind called `name`, or returns `None`.
pub fn visit<V: Visitor>(name: &str, visitor: V) -> Option<V::Output> {
    match name {
        command::Command::NAME => Some(visitor.visit::<command::Command>()),
        _ => None,
    }
}

/// The names of all stage kinds, in the order of a pipeline.
pub fn names() -> &'static [&'static str] {
    &[command::Command::NAME]
}
