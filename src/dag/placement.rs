//! What a node holds of the resources of a run while it runs, and whether there is room for it.
//! Uses nothing of keys and of how nodes run.

use crate::node::Node;
use crate::options::Options;
use crate::states::{Held, Phase, States};

/// Whether any node could start: a node takes a job and at least one thread.
pub(super) fn has_room(states: &States, options: &Options) -> bool {
    let used: usize = states.running().map(|(_, running)| running.held.threads).sum();
    states.count(Phase::Running) < options.jobs.max(1)
        && (options.queued || used < options.threads.max(1))
}

/// What a node would hold if it started now; `None` if it has to wait for a place.
pub(super) fn place(node: &Node, states: &States, options: &Options) -> Option<Held> {
    let held: Vec<&Held> = states.running().map(|(_, running)| &running.held).collect();
    let (all, resources) = (options.threads.max(1), node.resources);
    if options.queued {
        let threads = resources.threads.unwrap_or(all);
        let has_place = held.len() < options.jobs.max(1);
        return has_place.then_some(Held { threads, gpus: Vec::new(), memory: 0 });
    }
    let threads = resources.threads.unwrap_or(all).clamp(1, all);
    let memory = resources.memory.unwrap_or(0);
    let wanted = gpus(node, options);
    let is_free = |gpu: &usize| !held.iter().any(|held| held.gpus.contains(gpu));
    let gpus: Vec<usize> = (0..options.devices.len()).filter(is_free).take(wanted).collect();
    let used: usize = held.iter().map(|held| held.threads).sum();
    let taken: u64 = held.iter().map(|held| held.memory).sum();
    let has_memory = held.is_empty() || options.memory.is_none_or(|most| taken + memory <= most);
    let fits = held.len() < options.jobs.max(1)
        && used + threads <= all
        && gpus.len() == wanted
        && has_memory;
    fits.then_some(Held { threads, gpus, memory })
}

/// How many GPUs a node has alone.
fn gpus(node: &Node, options: &Options) -> usize {
    let gpus = match (node.on_device, node.resources.gpus) {
        (true, _) if !options.gpu => 0,
        (on_device, gpus) => gpus.unwrap_or(usize::from(on_device)),
    };
    gpus.min(options.devices.len())
}
