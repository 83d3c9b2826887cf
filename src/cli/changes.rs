//! What an edit changes: which results of the latest run of a pipeline are not found any more, and
//! why, the shortest reason first.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::number_format::{age, count, duration};
use crate::dag::plan::{Plan, State, Step};
use crate::dag::record::{Invocation, NodeRecord, Record};
use crate::dag::store::Store;
use crate::error::Result;
use crate::pipeline::names::listed;

/// Results of a run that an edit changes.
#[derive(Serialize)]
pub struct Changes {
    /// The id of the run.
    pub run: String,
    /// When it began, in seconds since 1970.
    pub started_at: u64,
    /// How many results it had.
    pub of: usize,
    /// Seconds that the changed ones took.
    pub seconds: f64,
    /// Where the changes begin.
    pub causes: Vec<Cause>,
}

/// A node that is made anew for reasons that are known.
#[derive(Serialize)]
pub struct Cause {
    /// Its name.
    pub node: String,
    /// Why.
    pub reasons: Vec<String>,
    /// The nodes that need it, directly or not, and no cause before this one.
    pub needed_by: Vec<String>,
}

impl Changes {
    /// What a plan, with its reasons, changes of the latest run of the same pipeline with the same
    /// options, or else with others; `None` where that is nothing.
    ///
    /// # Errors
    /// The cache cannot be read.
    pub fn of(store: &Store, plan: &Plan, invocation: &Invocation) -> Result<Option<Self>> {
        let is_open = |step: &&Step| step.state.object().is_none();
        if plan.steps.iter().filter(is_open).count() == 0 {
            return Ok(None);
        }
        let same = store.latest_record(invocation)?;
        let record = match same {
            Some(record) => Some(record),
            None => store.latest_record_where(|own| own.pipeline == invocation.pipeline)?,
        };
        let Some(Record { id, started_at, nodes, .. }) = record else { return Ok(None) };
        let made: HashMap<&str, &NodeRecord> = nodes
            .iter()
            .filter(|node| node.object.is_some())
            .map(|node| (node.name.as_str(), node))
            .collect();
        let changed: Vec<&Step> = plan
            .steps
            .iter()
            .filter(is_open)
            .filter(|step| made.contains_key(step.name.as_str()))
            .collect();
        if changed.is_empty() {
            return Ok(None);
        }
        let mut seconds = 0.0;
        for key in changed.iter().filter_map(|step| made[step.name.as_str()].key) {
            seconds += store.entry(key)?.map_or(0.0, |entry| entry.seconds);
        }
        let (started_at, of) = (started_at, made.len());
        Ok(Some(Changes { run: id, started_at, of, seconds, causes: causes(plan, &changed) }))
    }

    /// How many results change.
    pub fn count(&self) -> usize {
        self.causes.iter().map(|cause| 1 + cause.needed_by.len()).sum()
    }

    /// The sentences.
    pub fn words(&self) -> String {
        let mut words = format!(
            "changes {} of {} of the run {} ({}, {} of node time):\n",
            self.count(),
            count(self.of, "result"),
            self.run,
            age(self.started_at),
            duration(self.seconds)
        );
        for Cause { node, reasons, needed_by } in &self.causes {
            let names: Vec<&str> = needed_by.iter().map(String::as_str).collect();
            let rest = match names.len() {
                0 => String::new(),
                _ => format!("; with it {}", listed(&names)),
            };
            words.push_str(&format!("  {node}: {}{rest}\n", reasons.join("; ")));
        }
        words
    }
}

/// Each node with reasons, fewest first; each of the others belongs to the first of those that it
/// needs.
fn causes(plan: &Plan, changed: &[&Step]) -> Vec<Cause> {
    let mut roots: Vec<(&str, &Vec<String>)> = changed
        .iter()
        .filter_map(|step| match &step.state {
            State::Run { reasons, .. } => Some((step.name.as_str(), reasons)),
            State::Cached { .. } | State::Remote { .. } | State::Unknown { .. } => None,
        })
        .collect();
    roots.sort_by_key(|(_, reasons)| (reasons.len(), reasons.concat().len()));
    let mut feeds: HashMap<&str, Vec<&str>> = HashMap::new();
    for step in &plan.steps {
        step.needs.iter().for_each(|need| feeds.entry(need).or_default().push(&step.name));
    }
    let own: HashSet<&str> = roots.iter().map(|(name, _)| *name).collect();
    let mut taken = HashSet::new();
    let mut causes = Vec::new();
    for (name, reasons) in roots {
        let mut below = HashSet::new();
        let mut open = vec![name];
        while let Some(next) = open.pop() {
            for fed in feeds.get(next).into_iter().flatten() {
                if !own.contains(fed) && taken.insert(*fed) {
                    below.insert(*fed);
                    open.push(fed);
                }
            }
        }
        let below = changed.iter().filter(|step| below.contains(step.name.as_str()));
        causes.push(Cause {
            node: name.to_owned(),
            reasons: reasons.clone(),
            needed_by: below.map(|step| step.name.clone()).collect(),
        });
    }
    causes
}
