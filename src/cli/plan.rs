//! `plan`: what a run would do, in which order, and why.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use super::changes::Changes;
use super::common::{
    Cache, DeviceAndDtype, NumericsOption, Source, Targets, columns, print, print_json, request,
};
use super::counts::Counts;
use super::fetch::find;
use super::number_format::duration;
use super::price::{Places, Prices};
use super::remote::{RemoteOptions, tell_warnings};
use super::revisions;
use crate::dag::explain::add_reasons;
use crate::dag::plan::{Plan, State, Step, plan};
use crate::device::Outlook;
use crate::error::Result;
use crate::hub::{Address, Name};
use crate::model::memory::{Bytes, Memory};
use crate::pipeline::expand::Pipeline;
use crate::pipeline::held_out::refuse_taints_of_objects;
use crate::pipeline::memory::{HINT, estimate_in};
use crate::pipeline::names::listed;
use crate::pipeline::registry::Builtin;
use crate::pipeline::resolved::to_yaml;
use crate::stages::models::ArtefactShapes;

/// Say what would run, in which order and why; nothing is run or written
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    targets: Targets,
    /// Print JSON
    #[arg(long, conflicts_with = "resolved")]
    json: bool,
    /// Print the pipeline as a pipeline in which every value is known
    #[arg(long)]
    resolved: bool,
    /// Say what differs from a git revision of the pipeline and its files, or between two of them
    /// (`main`, `HEAD~3..HEAD`): the nodes whose keys differ, and why
    #[arg(long, value_name = "REV", conflicts_with_all = ["resolved", "stages", "only", "sample"])]
    diff: Option<String>,
    #[command(flatten)]
    cache: Cache,
    #[command(flatten)]
    device: DeviceAndDtype,
    #[command(flatten)]
    numerics: NumericsOption,
    #[command(flatten)]
    places: Places,
    #[command(flatten)]
    remote: RemoteOptions,
}

#[derive(Serialize)]
struct Json<'a> {
    pipeline: &'a str,
    #[serde(flatten)]
    counts: Counts,
    steps: &'a [Step],
    /// Bytes of the device that a node will take, where its models are known.
    memory: BTreeMap<&'a str, u64>,
    /// Seconds that a node will take, by the nearest that was made before.
    seconds: BTreeMap<&'a str, f64>,
    /// Seconds of the whole.
    total_seconds: f64,
    /// What is changed of the latest run.
    changes: Option<Changes>,
}

/// Prints the plan.
pub fn main(arguments: &Arguments) -> Result<()> {
    if let Some(revisions) = &arguments.diff {
        let store = arguments.cache.open()?;
        return revisions::main(&store, &arguments.source, revisions, arguments.json);
    }
    let mut pipeline = arguments.source.load()?;
    let targets = arguments.targets.of(&pipeline)?;
    if arguments.resolved {
        return print(&to_yaml(&pipeline)?);
    }
    find(&mut pipeline, &targets)?;
    let store = arguments.remote.attach(arguments.cache.open()?, &pipeline.cache)?;
    let (device, classes) = arguments.device.outlook(&arguments.numerics, &store)?;
    let request = request(&pipeline, &targets, &classes);
    let mut plan = plan(&store, request)?;
    tell_warnings(&store);
    refuse_taints(&pipeline, &plan)?;
    add_reasons(&store, request, &mut plan)?;
    let prices = Prices::of(&store, request, &plan, &pipeline, arguments.places)?;
    let Outlook { sizes, free, .. } = device;
    let memory = estimate_in(ArtefactShapes::new(free, sizes), &pipeline.graph, &Builtin);
    let changes = Changes::of(&store, &plan, &arguments.source.invocation()?)?;
    if arguments.json {
        let bytes = |step: &Step| Some(memory.get(&step.name)?.bytes());
        let seconds = |step: &Step| Some(prices.get(&step.name)?.seconds);
        let open = |step: &Step| step.state.object().is_none();
        print_json(&Json {
            pipeline: &pipeline.name,
            counts: Counts::of(&plan),
            steps: &plan.steps,
            memory: by_name(&plan, bytes),
            seconds: by_name(&plan, seconds),
            total_seconds: prices.left(&plan.steps, open),
            changes,
        })?;
    } else {
        print(&text(&plan, &memory, &prices, changes.as_ref()))?;
    }
    check(&plan, &memory, free)
}

/// A figure of each node that has one.
fn by_name<T>(plan: &Plan, figure: impl Fn(&Step) -> Option<T>) -> BTreeMap<&str, T> {
    plan.steps.iter().filter_map(|step| Some((step.name.as_str(), figure(step)?))).collect()
}

/// The plan as a table, and below it what it costs and what it changes.
pub fn text(
    plan: &Plan,
    memory: &BTreeMap<String, Memory>,
    prices: &Prices,
    changes: Option<&Changes>,
) -> String {
    let has_memory = plan.steps.iter().any(|step| memory.contains_key(&step.name));
    let is_priced = plan.steps.iter().any(|step| prices.get(&step.name).is_some());
    let row = |step: &Step| -> Vec<String> {
        let (state, why) = in_words(&step.state);
        let memory = memory.get(&step.name);
        let memory = memory.map_or_else(String::new, |memory| Bytes(memory.bytes()).to_string());
        let time = prices.get(&step.name).map(|price| duration(price.seconds));
        let cells = [
            Some(state.to_owned()),
            Some(step.name.clone()),
            has_memory.then_some(memory),
            is_priced.then_some(time.unwrap_or_default()),
            Some(why),
        ];
        cells.into_iter().flatten().collect()
    };
    let rows: Vec<_> = plan.steps.iter().map(row).collect();
    let total = prices.words(plan).map_or_else(String::new, |words| format!("; {words}"));
    let changes = changes.map_or_else(String::new, Changes::words);
    format!("{}{}{total}\n{changes}", columns(&rows), Counts::of(plan))
}

/// Refuses a plan in which something judges what it had a part in, by what is made already.
pub fn refuse_taints(pipeline: &Pipeline, plan: &Plan) -> Result<()> {
    let object = |step: &Step| Some((step.name.clone(), step.state.object()?.to_string()));
    refuse_taints_of_objects(
        &pipeline.graph,
        &Builtin,
        &plan.steps.iter().filter_map(object).collect(),
    )
}

/// Refuses a plan of which some node that is not there yet would not fit into the `free` bytes of
/// the device, if that is known.
pub fn check(plan: &Plan, memory: &BTreeMap<String, Memory>, free: Option<u64>) -> Result<()> {
    for step in plan.steps.iter().filter(|step| step.state.object().is_none()) {
        if let Some(memory) = memory.get(&step.name) {
            memory.check(&step.name, free, HINT)?;
        }
    }
    Ok(())
}

/// `a, b finish and hub:c/d is fetched and the device is open`.
fn wait_in_words(until: &[String], needs_device: bool) -> String {
    let (fetched, made): (Vec<&String>, Vec<&String>) =
        until.iter().partition(|name| Name::is_one(name) || Address::is_one(name));
    let part = |names: Vec<&String>, one: &str, many: &str| {
        let verb = if names.len() == 1 { one } else { many };
        let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
        (!names.is_empty()).then(|| format!("{} {verb}", listed(&names)))
    };
    let device = needs_device.then(|| "the device is open".to_owned());
    let parts =
        [part(made, "finishes", "finish"), part(fetched, "is fetched", "are fetched"), device];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" and ")
}

/// The state and why it is so.
pub fn in_words(state: &State) -> (&'static str, String) {
    match state {
        State::Run { reasons, .. } => ("run", reasons.join("; ")),
        State::Cached { object, .. } => ("cached", object.short()),
        State::Remote { object, .. } => ("remote", object.short()),
        State::Unknown { until, needs_device } => {
            ("unknown", format!("until {}", wait_in_words(until, *needs_device)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_of_what_is_waited_for_is_cut() {
        let names: Vec<String> = (0..14).map(|at| format!("stage_{at}")).collect();
        let whole = wait_in_words(&names[..12], false);
        assert!(whole.ends_with("stage_10, stage_11 finish"), "{whole}");
        let cut = wait_in_words(&names, true);
        assert!(cut.ends_with("stage_11 and 2 more finish and the device is open"), "{cut}");
        assert_eq!(wait_in_words(&names[..1], false), "stage_0 finishes");
    }
}
