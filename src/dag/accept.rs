//! Acceptance: the user's declaration that an earlier result is what a node would make now, under
//! its new key. The entry of the new key says so, with the reason and with what differs; nothing is
//! run.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::action::{ACCEPTED, Lookup};
use crate::clock::now;
use crate::digest::{ActionKey, ObjectId};
use crate::entry::{Accepted, Entry};
use crate::error::{Context, Result, user};
use crate::explain::{Difference, compare_with};
use crate::node::references;
use crate::plan::{Plan, State};
use crate::prepared::Prepared;
use crate::request::Request;
use crate::store::Store;

/// An earlier result that counts as what a node makes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Acceptance {
    /// The node's name.
    pub node: String,
    /// Its key.
    pub key: ActionKey,
    /// The key that the result was made under.
    pub from: ActionKey,
    /// The result.
    pub object: ObjectId,
    /// What differs between the two keys.
    pub differences: Vec<Difference>,
}

/// The acceptance of `from` as what the node `name` of a plan makes. Nothing is written.
///
/// # Errors
/// The user's: the node is there already, its key is not known yet, or `from` is of another stage
/// kind or its object is gone.
pub fn acceptance(
    store: &Store,
    request: Request<'_>,
    plan: &Plan,
    name: &str,
    from: &Entry,
) -> Result<Acceptance> {
    let step = plan.steps.iter().find(|step| step.name == name);
    let step = step.with_context(|| format!("`{name}` is not in the plan"))?;
    let key = match &step.state {
        State::Run { key, .. } => *key,
        State::Cached { object, .. } | State::Remote { object, .. } => {
            let message = format!("`{name}` is there already: {}", object.short());
            return Err(user(message).hint("there is nothing to accept").into());
        }
        State::Unknown { until, .. } => {
            let message = format!("the key of `{name}` is not known before {}", until.join(", "));
            return Err(user(message).hint("accept or make those first").into());
        }
    };
    if from.preimage.stage != step.stage {
        return Err(user(format!(
            "{} was made by `{}`, and `{name}` is a `{}`",
            from.object.short(),
            from.preimage.stage,
            step.stage
        ))
        .into());
    }
    if !matches!(store.lookup(from.key)?, Lookup::Hit(_)) {
        return Err(user(format!("the artefact {} is not there any more", from.object.short()))
            .hint("see `posttrain ls`")
            .into());
    }
    let differences = compare_with(store, request, plan, name, from)?;
    Ok(Acceptance { node: name.to_owned(), key, from: from.key, object: from.object, differences })
}

/// Writes the entry of an acceptance.
///
/// # Errors
/// The cache cannot be written, or what the node reads has changed since the plan.
pub fn accept(
    store: &Store,
    request: Request<'_>,
    plan: &Plan,
    acceptance: &Acceptance,
    because: &str,
) -> Result<Entry> {
    let _presence = store.begin()?;
    let node = request.graph.nodes.iter().find(|node| node.name == acceptance.node);
    let node = node.with_context(|| format!("`{}` is not in the graph", acceptance.node))?;
    let made = plan.steps.iter().filter_map(|step| match step.state {
        State::Cached { object, .. } | State::Remote { object, .. } => {
            Some((step.name.as_str(), object))
        }
        State::Run { .. } | State::Unknown { .. } => None,
    });
    let made: BTreeMap<&str, ObjectId> = made.collect();
    let prepared = Prepared::of(store, request.numerics, node, &made)?;
    if prepared.key != acceptance.key {
        let message = format!("what `{}` reads has changed meanwhile", acceptance.node);
        return Err(user(message).hint("try again").into());
    }
    let from = store.entry(acceptance.from)?;
    let from = from.with_context(|| format!("the entry {} is gone", acceptance.from.short()))?;
    let sources = references(&node.config)?;
    let entry = Entry {
        key: acceptance.key,
        object: acceptance.object,
        node: node.name.clone(),
        sources: sources.into_iter().map(|(path, source)| (path, source.to_string())).collect(),
        preimage: prepared.preimage,
        renewed_from: None,
        accepted: Some(Accepted {
            from: acceptance.from,
            because: because.to_owned(),
            differences: acceptance.differences.iter().map(Difference::to_string).collect(),
            at: (now() / 1_000_000_000) as u64,
        }),
        ..from
    };
    store.put_entry(&entry)?;
    Ok(entry)
}

/// Takes an acceptance back: the key has no entry any more.
///
/// # Errors
/// The cache cannot be written.
pub fn withdraw(store: &Store, entry: &Entry) -> Result<()> {
    assert!(entry.accepted.is_some(), "only an acceptance can be taken back");
    let _presence = store.begin()?;
    crate::fs::remove_all(&store.entry_path(entry.key))?;
    crate::fs::remove_all(&store.at(ACCEPTED).join(entry.key.to_string()))
}
