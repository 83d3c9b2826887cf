//! The loop of training steps: resume, metrics, progress, checkpoints, a clean stop. Knows no
//! model: what a step does, and what has to be kept between steps, the caller says.
//!
//! 1. A checkpoint is one file, replaced atomically, written between steps: it holds the state
//!    after a whole number of steps and the metrics so far, so a resumed run ends with the bytes of
//!    an undisturbed one.
//! 2. A step whose figures are not all finite ends the run with an error, before a checkpoint or an
//!    artefact could hold what it made.
//! 3. When a checkpoint is due is a matter of time, and no byte depends on it.

use serde_json::{Map, Value};

use super::archive::Archive;
use crate::artefacts::names::METRICS;
use crate::dag::context::Context;
use crate::error::{Context as _, Failure, Kind, Result, kind_of, user};
use crate::{fs, rl::Metrics};

/// The name of the checkpoint in `context.checkpoints()`.
const CHECKPOINT: &str = "state.safetensors";

/// What lives from step to step.
pub trait State {
    /// Puts all of it into an archive.
    fn save(&self, archive: &mut Archive);
    /// Takes all of it back.
    fn load(&mut self, archive: &Archive) -> Result<()>;
}

/// What one step tells.
#[derive(Default)]
pub struct StepReport {
    /// Figures for `metrics.jsonl`.
    pub metrics: Metrics,
    /// Names of the figures that a live line shows.
    pub shown: &'static [&'static str],
    /// Tokens that went through the model, for tokens a second.
    pub tokens: usize,
    /// Whether it is the last step, however many are left.
    pub is_last: bool,
}

/// What training came to that has no numbers any more: what was found, and what may be done about
/// it.
pub fn diverged(found: impl Into<String>) -> Failure {
    user(found).hint(
        "the training diverged: lower the learning rate or lengthen its warm-up, lower \
         `clip_norm`, compute with `--dtype f32`, or look for unusual rows",
    )
}

/// Refuses figures of a step that are not finite.
fn check(metrics: &Metrics) -> Result<()> {
    match metrics.iter().find(|(_, value)| !value.is_finite()) {
        Some((name, value)) => Err(diverged(format!("`{name}` is {value}")).into()),
        None => Ok(()),
    }
}

/// Runs steps `0..total`, or up to one that is the last, from the last checkpoint if there is one,
/// and writes `metrics.jsonl` into the artefact. Returns the number of steps.
pub fn run<S: State>(
    context: &Context,
    state: &mut S,
    mut total: usize,
    mut step: impl FnMut(&mut S, usize) -> Result<StepReport>,
) -> Result<usize> {
    let path = context.checkpoints().join(CHECKPOINT);
    let (mut next, mut metrics) = (0, String::new());
    if path.exists() {
        let archive = Archive::read(&path)?;
        state.load(&archive)?;
        next = archive.text("step")?.parse().context("the checkpoint's step is a number")?;
        metrics = archive.text("metrics")?.to_string();
        for (at, line) in metrics.lines().enumerate() {
            let figures: Map<String, Value> =
                serde_json::from_str(line).context("the checkpoint's metrics are JSON")?;
            let figures = figures.iter().filter(|(name, _)| *name != "step");
            let figures: Vec<(&str, f64)> = figures
                .map(|(name, value)| (name.as_str(), value.as_f64().unwrap_or(f64::NAN)))
                .collect();
            context.figures(at + 1, &figures);
        }
    }
    let mut tokens = 0;
    let started = context.seconds();
    while next < total {
        let place = |error: crate::error::Error| match kind_of(&error) {
            Kind::User => error.context(format!("step {} of {total}", next + 1)),
            _ => error,
        };
        let report = step(state, next)
            .and_then(|report| check(&report.metrics).map(|()| report))
            .map_err(place)?;
        next += 1;
        if report.is_last {
            total = next;
        }
        metrics += &line(next, &report.metrics);
        context.figures(next, &report.metrics);
        tokens += report.tokens;
        let mut shown: Vec<(&str, f64)> = report
            .metrics
            .iter()
            .copied()
            .filter(|(name, _)| report.shown.contains(name))
            .collect();
        shown.push(("tokens_per_second", tokens as f64 / (context.seconds() - started).max(1e-9)));
        context.progress(next as u64, total as u64, &shown);
        // After the last step there is little left to do, and the steps since the last checkpoint
        // would be lost.
        let stop = next < total && context.stop_requested();
        if stop || next < total && context.checkpoint_due() {
            context.checkpoint(|| {
                let mut archive = Archive::default();
                state.save(&mut archive);
                archive.put_text("step", next.to_string());
                archive.put_text("metrics", metrics.clone());
                archive.write(&path)
            })?;
        }
        if stop {
            return context.interrupted();
        }
    }
    fs::write_atomic(&context.out().join(METRICS), metrics.as_bytes())?;
    Ok(total)
}

/// One line of `metrics.jsonl`: the step, from 1, and the figures.
pub fn line(step: usize, metrics: &Metrics) -> String {
    let figures = metrics.iter().map(|(name, value)| (name.to_string(), Value::from(*value)));
    let row: Map<String, Value> =
        [("step".to_string(), Value::from(step))].into_iter().chain(figures).collect();
    format!("{}\n", Value::Object(row))
}
