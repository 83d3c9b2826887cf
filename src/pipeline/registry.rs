//! The kinds of stage, by name: the one list of `stages`, as `pipeline` and the engine see it.

use serde_json::Value;

use crate::backend::Backend;
use crate::dag::context::Context;
use crate::dag::dispatch::Dispatch;
use crate::device::{Device, Precision, Task, on_host};
use crate::error::{self, Result};
use crate::pipeline::memory::{HINT, forms};
use crate::stages::{self, Stage, Visitor};

/// A list of stage kinds.
pub trait Registry {
    /// Their names, in the order of a pipeline.
    fn names(&self) -> Vec<&'static str>;

    /// Calls the visitor with the kind called `name`, or returns `None`.
    fn visit<V: Visitor>(&self, name: &str, visitor: V) -> Option<V::Output>;
}

/// The stage kinds of this program.
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
    fn execute(&self, stage: &str, device: &Value, config: Value, context: &Context) -> Result<()> {
        let device = serde_json::from_value(device.clone())?;
        match self.visit(stage, Execute { device, config, context }) {
            Some(result) => result,
            None => Err(error::user(format!("this program has no stage kind `{stage}`")).into()),
        }
    }
}

struct Execute<'a> {
    device: Device,
    config: Value,
    context: &'a Context,
}

impl Visitor for Execute<'_> {
    type Output = Result<()>;

    fn visit<S: Stage>(self) -> Result<()> {
        let stage = S::deserialize(self.config)?;
        if let Some(memory) = stage.memory(&forms(&self.device)?) {
            memory.check(
                S::NAME,
                self.device.sizes(Precision::Single),
                self.device.free_memory()?,
                HINT,
            )?;
        }
        let run = Run { stage, context: self.context };
        if S::ON_DEVICE { self.device.run_stage(run) } else { on_host(run) }
    }
}

struct Run<'a, S> {
    stage: S,
    context: &'a Context,
}

impl<S: Stage> Task for Run<'_, S> {
    type Output = Result<()>;

    fn run<B: Backend>(self, b: B) -> Result<()> {
        self.stage.run(&b, self.context)
    }
}
