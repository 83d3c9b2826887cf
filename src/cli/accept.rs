//! `accept`: declares an earlier result to be what a node would make now, under its new key.

use clap::Args;

use super::common::{Cache, DeviceAndDtype, NumericsOption, Source, print, print_json, request};
use super::fetch::find;
use super::names;
use crate::dag::accept::{Acceptance, accept, acceptance, withdraw};
use crate::dag::entry::Entry;
use crate::dag::plan::{State, plan};
use crate::dag::request::Request;
use crate::dag::store::Store;
use crate::error::{Result, user};

/// Declare an earlier result to be what a stage would make now; reports say so
#[derive(Args)]
#[command(after_help = "\
An edit that changes no result (a comment in a script under `files`, a path inside of a file) gives
a stage a new key. This gives the new key the result of the latest run, without making it again.
The entry keeps the reason and what differs; `show`, `ls`, the end of a run and its page say it.")]
pub struct Arguments {
    #[command(flatten)]
    source: Source,
    /// A stage or a node
    stage: String,
    /// Why the result is the same
    #[arg(long, value_name = "REASON", required_unless_present_any = ["withdraw", "dry_run"])]
    because: Option<String>,
    /// The result, by its id, its tag or its key [default: that of the node's latest run]
    #[arg(long, value_name = "ARTEFACT", conflicts_with = "withdraw")]
    from: Option<String>,
    /// Say what differs, and accept nothing
    #[arg(long)]
    dry_run: bool,
    /// Take an acceptance back
    #[arg(long, conflicts_with = "because")]
    withdraw: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cache: Cache,
    #[command(flatten)]
    device: DeviceAndDtype,
    #[command(flatten)]
    numerics: NumericsOption,
}

/// Accepts, or takes back, and prints what differs.
pub fn main(arguments: &Arguments) -> Result<()> {
    let mut pipeline = arguments.source.load()?;
    let store = arguments.cache.open()?;
    let names = pipeline.select(std::slice::from_ref(&arguments.stage))?;
    find(&mut pipeline, &names)?;
    let (_, classes) = arguments.device.outlook(&arguments.numerics, &store)?;
    let request = request(&pipeline, &names, &classes);
    let accepted = match arguments.withdraw {
        true => withdrawn(&store, request, &names, arguments.dry_run)?,
        false => accept_all(&store, request, &names, arguments)?,
    };
    if arguments.json {
        return print_json(&accepted);
    }
    let verb = match (arguments.withdraw, arguments.dry_run) {
        (false, false) => "is accepted as",
        (false, true) => "would be accepted as",
        (true, false) => "is no longer accepted as",
        (true, true) => "would no longer be accepted as",
    };
    let line = |one: &Acceptance| {
        let mut text = format!("{} {verb} {}", one.node, one.object.short());
        one.differences.iter().for_each(|it| text.push_str(&format!("\n  {it}")));
        text + "\n"
    };
    print(&accepted.iter().map(line).collect::<String>())
}

/// Accepts the results of some nodes, each after those that it needs.
fn accept_all(
    store: &Store,
    request: Request<'_>,
    names: &[String],
    arguments: &Arguments,
) -> Result<Vec<Acceptance>> {
    let mut all = Vec::new();
    for name in names {
        let plan = plan(store, request)?;
        let is_there = plan.steps.iter().any(|step| {
            step.name == *name && matches!(step.state, State::Cached { .. }) && names.len() > 1
        });
        if is_there {
            continue;
        }
        let from = match &arguments.from {
            Some(word) => one(names::entries(store, word)?, word)?,
            None => latest(store, name)?,
        };
        let found = acceptance(store, request, &plan, name, &from)?;
        if let (false, Some(because)) = (arguments.dry_run, &arguments.because) {
            accept(store, request, &plan, &found, because)?;
        }
        all.push(found);
    }
    match all.is_empty() {
        true => Err(user(format!("`{}` is there already", arguments.stage))
            .hint("there is nothing to accept")
            .into()),
        false => Ok(all),
    }
}

fn one(found: Vec<(Entry, Option<crate::dag::record::Record>)>, word: &str) -> Result<Entry> {
    let count = found.len();
    let mut found = found.into_iter();
    match (found.next(), count) {
        (Some((entry, _)), 1) => Ok(entry),
        _ => Err(user(format!("`{word}` has {count} artefacts")).hint("give the id of one").into()),
    }
}

/// The entry that the latest run with a node of this name has for it.
fn latest(store: &Store, name: &str) -> Result<Entry> {
    for record in store.records()?.into_iter().rev() {
        let made = record.nodes.iter().find(|node| node.name == name);
        let key = made.and_then(|node| node.object.and(node.key));
        if let Some(entry) = key.map(|key| store.entry(key)).transpose()?.flatten() {
            return Ok(entry);
        }
    }
    Err(user(format!("no run has made `{name}`"))
        .hint("give the result with `--from`; see `posttrain ls`")
        .into())
}

/// Takes the acceptances of some nodes back.
fn withdrawn(
    store: &Store,
    request: Request<'_>,
    names: &[String],
    dry_run: bool,
) -> Result<Vec<Acceptance>> {
    let mut all = Vec::new();
    for step in plan(store, request)?.steps.iter().filter(|step| names.contains(&step.name)) {
        let State::Cached { key, object } = step.state else { continue };
        let entry = store.entry(key)?.filter(|entry| entry.accepted.is_some());
        let Some(entry) = entry else { continue };
        if !dry_run {
            withdraw(store, &entry)?;
        }
        let from = entry.accepted.map_or(key, |accepted| accepted.from);
        let node = step.name.clone();
        all.push(Acceptance { node, key, from, object, differences: Vec::new() });
    }
    match all.is_empty() {
        true => Err(user(format!("nothing of {} was accepted", names.join(", "))).into()),
        false => Ok(all),
    }
}
