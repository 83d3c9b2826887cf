//! `plan`: what a run would do, in which order, and why.

use clap::Args;
use serde::Serialize;

use super::common::{Cache, Source, columns, print, print_json, request};
use super::fetch::find;
use crate::dag::explain::add_reasons;
use crate::dag::plan::{Plan, State, Step, plan};
use crate::error::Result;
use crate::hub::Name;
use crate::pipeline::resolved::to_yaml;

/// Say what would run, in which order and why; nothing is run or written
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    source: Source,
    /// Stages or nodes, with all they need; all if none is given
    stages: Vec<String>,
    /// Print JSON
    #[arg(long, conflicts_with = "resolved")]
    json: bool,
    /// Print the pipeline as a pipeline in which every value is known
    #[arg(long)]
    resolved: bool,
    #[command(flatten)]
    cache: Cache,
}

/// How many nodes are in each state.
#[derive(Clone, Copy, Default, Serialize)]
pub struct Counts {
    /// Would run.
    pub run: usize,
    /// Are there.
    pub cached: usize,
    /// Depend on what others make, or on what must be fetched.
    pub unknown: usize,
}

impl Counts {
    /// Counts a plan.
    pub fn of(plan: &Plan) -> Self {
        let mut counts = Counts::default();
        for step in &plan.steps {
            match step.state {
                State::Run { .. } => counts.run += 1,
                State::Cached { .. } => counts.cached += 1,
                State::Unknown { .. } => counts.unknown += 1,
            }
        }
        counts
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to run, {} cached", self.run, self.cached)?;
        if self.unknown > 0 {
            write!(f, ", {} unknown until others finish", self.unknown)?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Json<'a> {
    pipeline: &'a str,
    #[serde(flatten)]
    counts: Counts,
    steps: &'a [Step],
}

/// Prints the plan.
pub fn main(arguments: &Arguments) -> Result<()> {
    let mut pipeline = arguments.source.load()?;
    let targets = pipeline.select(&arguments.stages)?;
    if arguments.resolved {
        return print(&to_yaml(&pipeline)?);
    }
    find(&mut pipeline, &targets)?;
    let store = arguments.cache.open()?;
    let request = request(&pipeline, &targets);
    let mut plan = plan(&store, request)?;
    add_reasons(&store, request, &mut plan)?;
    let counts = Counts::of(&plan);
    if arguments.json {
        return print_json(&Json { pipeline: &pipeline.name, counts, steps: &plan.steps });
    }
    let rows: Vec<Vec<String>> = plan.steps.iter().map(row).collect();
    print(&format!("{}{counts}\n", columns(&rows)))
}

fn row(step: &Step) -> Vec<String> {
    let (state, why) = in_words(&step.state);
    vec![state.to_owned(), step.name.clone(), why]
}

/// `a, b finish and hub:c/d is fetched`.
fn wait_in_words(until: &[String]) -> String {
    let (fetched, made): (Vec<&String>, Vec<&String>) = until.iter().partition(|name| Name::is_one(name));
    let part = |names: Vec<&String>, one: &str, many: &str| {
        let list: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        (!list.is_empty()).then(|| format!("{} {}", list.join(", "), if list.len() == 1 { one } else { many }))
    };
    let parts = [part(made, "finishes", "finish"), part(fetched, "is fetched", "are fetched")];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" and ")
}

/// The state and why it is so.
pub fn in_words(state: &State) -> (&'static str, String) {
    match state {
        State::Run { reasons, .. } => ("run", reasons.join("; ")),
        State::Cached { object, .. } => ("cached", object.short()),
        State::Unknown { until } => ("unknown", format!("until {}", wait_in_words(until))),
    }
}
