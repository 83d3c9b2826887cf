//! The run of one stage: its config decoded, its memory checked, its device opened. The engine
//! calls it in the process of a node.

use serde_json::Value;

use super::memory::{HINT, shapes};
use super::registry::{Builtin, Registry};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::dag::dispatch::Dispatch;
use crate::dag::order::Order;
use crate::device::{Device, HOST, Task, host_class, on_host};
use crate::error::{self, Result, environment};
use crate::stages::{Stage, Visitor};

impl Dispatch for Builtin {
    fn execute(&self, stage: &str, device: &Value, config: Value, context: &Context) -> Result<()> {
        let device = serde_json::from_value(device.clone())?;
        match self.visit(stage, Execute { device, config, context }) {
            Some(result) => result,
            None => Err(error::user(format!("this program has no stage kind `{stage}`")).into()),
        }
    }

    fn verify(&self, order: &Order) -> Result<()> {
        let version = self.visit(&order.stage, Version);
        if version != Some(order.stage_version) {
            let has = version.map_or("has none".to_owned(), |version| format!("has {version}"));
            let message = format!(
                "the stage kind `{}` is to be of VERSION {}, and the program on this host {has}",
                order.stage, order.stage_version
            );
            return Err(environment(message).hint("install one program on all hosts").into());
        }
        let class = match order.numerics.starts_with(HOST) {
            true => host_class().to_owned(),
            false => {
                let device: Device = serde_json::from_value(order.device.clone())?;
                device.found_here()?.numerics().to_owned()
            }
        };
        if class != order.numerics {
            let message = format!(
                "the numerics class of this host is `{class}`, and the key of the node is for `{}`",
                order.numerics
            );
            let hint = "give the class of the hosts of the cluster with --numerics (`posttrain \
                doctor` prints it there), and send all jobs to hosts of one class";
            return Err(environment(message).hint(hint).into());
        }
        Ok(())
    }
}

/// The VERSION of a stage kind.
struct Version;

impl Visitor for Version {
    type Output = u32;

    fn visit<S: Stage>(self) -> u32 {
        S::INFO.version
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
