//! The sentinels that fire on what an artefact has recorded: its metrics and its rollouts. Figures
//! of rollouts are remembered in the store, because rollouts are large.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use crate::artefacts::names::METRICS;
use crate::artefacts::rollouts::{self, ROLLOUTS, Rollout};
use crate::dag::digest::ObjectId;
use crate::dag::store::Store;
use crate::data::rows::parse_jsonl;
use crate::error::{Context, Result};
use crate::rl::Metrics;
use crate::rl::sentinels::responses;
use crate::rl::sentinels::settings::Sentinels;
use crate::rl::sentinels::watch::{Verdict, Watch};

/// The settings in a config, or in the part of one that is in no key. None are none.
///
/// # Errors
/// Settings that cannot be understood.
pub fn settings(config: Option<&Value>) -> Result<Sentinels> {
    match config.and_then(|config| config.get("sentinels")) {
        None => Ok(Sentinels::new()),
        Some(own) => serde_json::from_value(own.clone()).context("settings of sentinels"),
    }
}

/// What is remembered of the rollouts of an artefact.
fn form() -> String {
    format!("figures of rollouts by step, {}", responses::VERSION)
}

/// What the sentinels say of the steps that an object of this stage kind has recorded; `None` where
/// the kind has no sentinels or the object no metrics.
///
/// # Errors
/// Files that cannot be read or understood.
pub fn verdict(
    store: &Store,
    kind: &str,
    object: ObjectId,
    settings: &Sentinels,
) -> Result<Option<Verdict>> {
    if Watch::new(kind, 0, settings).is_empty() {
        return Ok(None);
    }
    let folder = store.object_path(object);
    let path = folder.join(METRICS);
    let Some(bytes) = crate::fs::read_if_exists(&path)? else { return Ok(None) };
    let rows: Vec<(usize, Map<String, Value>)> = parse_jsonl(&bytes, &path)?;
    // The replay of a step has a line alone, of that step.
    let step = |(at, row): (usize, &Map<String, Value>)| {
        row.get("step").and_then(Value::as_u64).map_or(at + 1, |step| step as usize)
    };
    let last = rows.len().checked_sub(1).map_or(0, |at| step((at, &rows[at].1)));
    let mut watch = Watch::new(kind, last, settings);
    let of_rollouts = of_rollouts(store, object, last)?;
    let mut fired = Vec::new();
    for (at, (_, row)) in rows.iter().enumerate() {
        let number = step((at, row));
        let own = row.iter().filter(|(name, _)| *name != "step");
        let own = own.filter_map(|(name, value)| Some((name.as_str(), value.as_f64()?)));
        let others = number.checked_sub(1).and_then(|at| of_rollouts.get(at)).into_iter().flatten();
        let others = others.map(|(name, value)| (name.as_str(), *value));
        let figures: Vec<(&str, f64)> = own.chain(others).collect();
        fired.extend(watch.step(number, &figures));
    }
    Ok(Some(Verdict { fired, judged: watch.judged() }))
}

/// The figures of the rollouts of each of `steps`; none of an artefact without rollouts.
fn of_rollouts(
    store: &Store,
    object: ObjectId,
    steps: usize,
) -> Result<Vec<BTreeMap<String, f64>>> {
    let folder = store.object_path(object);
    if !folder.join(ROLLOUTS).exists() {
        return Ok(Vec::new());
    }
    let named = |figures: Metrics| figures.into_iter().map(|(name, value)| (name.into(), value));
    let of_step = |step: usize| Ok(named(of_file(&folder, step)?).collect());
    store.derived(object, &form(), || (0..steps).map(of_step).collect())
}

/// The figures of the rollouts of step `step`, from 0; none where it has no file.
fn of_file(folder: &Path, step: usize) -> Result<Metrics> {
    let path = folder.join(ROLLOUTS).join(rollouts::name(step));
    let Some(bytes) = crate::fs::read_if_exists(&path)? else { return Ok(Vec::new()) };
    let rows: Vec<(usize, Rollout)> = parse_jsonl(&bytes, &path)?;
    let rows: Vec<Rollout> = rows.into_iter().map(|(_, row)| row).collect();
    Ok(rollouts::figures(&rows))
}
