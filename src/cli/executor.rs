//! What runs the nodes of a run: processes of this host, or jobs of a queue; and what each job asks
//! that queue for.

use clap::Args;

use super::common::{DeviceAndDtype, NumericsOption};
use super::price::Places;
use crate::dag::cluster::Queue;
use crate::dag::node::Node;
use crate::dag::options::Options;
use crate::dag::store::Store;
use crate::device::{Classes, Device};
use crate::error::{Result, user};
use crate::pipeline::queue_file;

/// The name of the executor of this host.
const LOCAL: &str = "local";

/// What runs nodes.
#[derive(Args)]
pub struct ExecutorOption {
    /// What runs nodes: local (processes of this host), slurm (jobs of Slurm's queue), or the path
    /// of a file about a queue (docs/cluster.md)
    #[arg(long, value_name = "EXECUTOR", default_value = LOCAL)]
    executor: String,
}

/// The device of a run and its numerics classes.
pub struct Target {
    pub device: Device,
    pub classes: Classes,
}

impl ExecutorOption {
    /// The queue; `None` for this host.
    ///
    /// # Errors
    /// The user's: there is no such queue, or its file has a mistake.
    pub fn queue(&self) -> Result<Option<Queue>> {
        match self.executor == LOCAL {
            true => Ok(None),
            false => queue_file::load(&self.executor).map(Some),
        }
    }
}

/// The device of a run: the declared one, or that of this host.
///
/// # Errors
/// The user's, if a run on this host declares another class than its device has; the machine's, if
/// there is no such device here.
pub fn target(
    numerics: &NumericsOption,
    device: &DeviceAndDtype,
    queue: Option<&Queue>,
    store: &Store,
) -> Result<Target> {
    let of_file = queue.and_then(|queue| queue.numerics.as_deref());
    match (numerics.class().or(of_file), queue) {
        (Some(class), Some(_)) => {
            let (classes, device) = device.declared(class, store)?;
            Ok(Target { device, classes })
        }
        (declared, _) => {
            let device = device.device(store)?;
            let classes = Classes::here(Some(device.numerics()));
            if declared.is_some_and(|class| class != device.numerics()) {
                let message = format!("the numerics class here is `{}`", device.numerics());
                return Err(user(message)
                    .hint("leave --numerics out, or run on a cluster with --executor")
                    .into());
            }
            Ok(Target { device, classes })
        }
    }
}

/// What a run in a queue has instead of the places of this host: the queue gives nodes theirs.
pub fn in_queue(options: &mut Options, queue: &Queue, places: Places) {
    options.queued = true;
    options.gpu = false;
    options.memory = None;
    options.jobs = places.given_jobs().unwrap_or(queue.jobs);
    options.threads = threads(places);
}

/// Threads of a job whose stage does not say it.
fn threads(places: Places) -> usize {
    places.given_threads().unwrap_or(1)
}

/// What the job of a node asks a queue for, where the node itself does not say it.
///
/// # Errors
/// The user's, if a number in the queue's file is none.
pub fn ask(node: &mut Node, queue: &Queue, places: Places, is_gpu: bool) -> Result<()> {
    let option = |name: &str| -> Result<Option<u64>> {
        let Some(text) = queue.option(&node.stage, name) else { return Ok(None) };
        let number = text.parse::<u64>().ok().filter(|number| name == "gpus" || *number > 0);
        number.map(Some).ok_or_else(|| {
            let message = format!("the option `{name}` of the queue is no count: `{text}`");
            user(message).hint("write a whole number").into()
        })
    };
    let (of_queue, gpus) = (option("threads")?, option("gpus")?);
    let memory = option("memory_mb")?;
    // The queue gets the value as it is.
    option("time_min")?;
    let resources = &mut node.resources;
    let own = resources.threads.or(of_queue.map(|threads| threads as usize));
    resources.threads = Some(own.unwrap_or_else(|| threads(places)));
    let on_device = usize::from(node.on_device && is_gpu);
    resources.gpus = Some(resources.gpus.or(gpus.map(|gpus| gpus as usize)).unwrap_or(on_device));
    resources.memory_mb = resources.memory_mb.or(memory);
    Ok(())
}
