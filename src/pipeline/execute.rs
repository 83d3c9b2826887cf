//! The run of one stage: its config decoded, its memory checked, its device opened. The engine
//! calls it in the process of a node.

use serde_json::Value;

use super::memory::{HINT, shapes};
use super::registry::{Builtin, Registry};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::dag::dispatch::Dispatch;
use crate::device::{Device, Task, on_host};
use crate::error::{self, Result};
use crate::stages::{Stage, Visitor};

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
        if let Some(memory) = stage.memory(&shapes(&self.device)?) {
            memory.check(S::INFO.name, self.device.free_memory()?, HINT)?;
        }
        let on_device = stage.computes_on_device();
        let run = Run { stage, context: self.context };
        if on_device { self.device.run_stage(run) } else { on_host(run) }
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
