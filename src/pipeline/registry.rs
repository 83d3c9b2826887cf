//! The kinds of stage, by name: the one list of `stages`, as `pipeline` and the engine see it.

use serde_json::Value;

use crate::dag::context::Context;
use crate::dag::node::Dispatch;
use crate::device::{Precision, available_memory};
use crate::error::{self, Result};
use crate::pipeline::memory::HINT;
use crate::stages::models::Forms;
use crate::stages::{self, Stage, Visitor};

/// A list of stage kinds.
pub trait Registry {
    /// Their names, in the order of a pipeline.
    fn names(&self) -> Vec<&'static str>;

    /// Calls the visitor with the kind called `name`, or returns `None`.
    fn visit<V: Visitor>(&self, name: &str, visitor: V) -> Option<V::Output>;
}

/// The stage kinds that this program knows.
#[derive(Clone, Copy, Debug)]
pub struct Builtin;

impl Registry for Builtin {
    fn names(&self) -> Vec<&'static str> {
        stages::names().to_vec()
    }

    fn visit<V: Visitor>(&self, name: &str, visitor: V) -> Option<V::Output> {
        stages::visit(name, visitor)
    }
}

impl Dispatch for Builtin {
    fn execute(&self, stage: &str, config: Value, context: &Context) -> Result<()> {
        match self.visit(stage, Execute { config, context }) {
            Some(result) => result,
            None => Err(error::user(format!("this program knows no stage kind `{stage}`")).into()),
        }
    }
}

struct Execute<'a> {
    config: Value,
    context: &'a Context,
}

impl Visitor for Execute<'_> {
    type Output = Result<()>;

    fn visit<S: Stage>(self) -> Result<()> {
        let stage = S::deserialize(self.config)?;
        if let Some(memory) = stage.memory(&Forms::default()) {
            memory.check(S::NAME, Precision::Single.bytes(), available_memory()?, HINT)?;
        }
        stage.run(self.context)
    }
}
