//! The loop of training steps: resume, metrics, progress, checkpoints, a clean stop. Knows no
//! model: what a step does, and what has to be kept between steps, the caller says.
//!
//! 1. A checkpoint is one file, replaced atomically, written between steps: it holds the state
//!    after a whole number of steps and the metrics so far, so a resumed run ends with the bytes of
//!    an undisturbed one.
//! 2. A step whose figures are not all finite ends the run with an error, before a checkpoint or an
//!    artefact could hold what it made.
//! 3. When a checkpoint is due is a matter of time, and no byte depends on it.
//! 4. Sentinels see the figures of every step. A resumed run shows them those of the steps before
//!    first, so they fire at the same steps. One that stops the run leaves a checkpoint of the step
//!    at which it fired.

use std::ops::Range;

use serde_json::{Map, Value};

use super::archive::Archive;
use crate::artefacts::names::METRICS;
use crate::dag::context::Context;
use crate::error::{Context as _, Failure, Kind, Result, kind_of, user};
use crate::fs;
use crate::rl::Metrics;
use crate::rl::sentinels::table::Action;
use crate::rl::sentinels::watch::{Fired, Watch};

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
    /// Figures that sentinels read beside the metrics, and that no file has.
    pub observed: Metrics,
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
/// and writes `metrics.jsonl` into the artefact. Returns the number of steps. No sentinel sees
/// them.
///
/// # Errors
/// As of [`watched`].
pub fn run<S: State>(
    context: &Context,
    state: &mut S,
    total: usize,
    step: impl FnMut(&mut S, usize) -> Result<StepReport>,
) -> Result<usize> {
    watched(context, Watch::none(), state, 0..total, step)
}

/// The same of the steps `steps`, before sentinels. Returns the number of the last step, from 1.
///
/// # Errors
/// Those of `step`; the user's, if figures are not finite or a sentinel stops the run; a bug, if
/// the sentinel's condition never holds in a sound program; the request to stop.
pub fn watched<S: State>(
    context: &Context,
    mut watch: Watch,
    state: &mut S,
    steps: Range<usize>,
    mut step: impl FnMut(&mut S, usize) -> Result<StepReport>,
) -> Result<usize> {
    let path = context.checkpoints().join(CHECKPOINT);
    let Range { start: first, end: mut total } = steps;
    let (mut next, mut metrics, mut observed) = (first, String::new(), String::new());
    if path.exists() {
        let archive = Archive::read(&path)?;
        state.load(&archive)?;
        next = archive.text("step")?.parse().context("the checkpoint's step is a number")?;
        metrics = archive.text("metrics")?.to_string();
        // A checkpoint of a version without sentinels has none.
        observed = archive.text("observed").unwrap_or_default().to_string();
        let mut others = observed.lines();
        for (at, line) in metrics.lines().enumerate() {
            let own = parsed(line)?;
            let others = others.next().map(parsed).transpose()?.unwrap_or_default();
            let figures = borrowed(&own);
            let number = first + at + 1;
            context.figures(number, &figures);
            let fired = watch.step(number, &[figures, borrowed(&others)].concat());
            tell(context, &fired)?;
        }
    }
    let save = |state: &S, (next, metrics, observed): (usize, &str, &str)| {
        context.checkpoint(|| {
            let mut archive = Archive::default();
            state.save(&mut archive);
            archive.put_text("step", next.to_string());
            archive.put_text("metrics", metrics.to_owned());
            archive.put_text("observed", observed.to_owned());
            archive.write(&path)
        })
    };
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
        observed += &line(next, &report.observed);
        let fired = watch.step(next, &[&report.metrics[..], &report.observed].concat());
        let names: Vec<(String, f64)> =
            fired.iter().map(|it| (format!("sentinels/{}", it.sentinel), it.value)).collect();
        context.figures(next, &[&report.metrics[..], &borrowed(&names)].concat());
        tokens += report.tokens;
        let mut shown: Vec<(&str, f64)> = report
            .metrics
            .iter()
            .copied()
            .filter(|(name, _)| report.shown.contains(name))
            .collect();
        shown.push(("tokens_per_second", tokens as f64 / (context.seconds() - started).max(1e-9)));
        context.progress(next as u64, total as u64, &shown);
        if fired.iter().any(|fired| fired.action == Action::Stop) {
            save(state, (next, &metrics, &observed))?;
        }
        tell(context, &fired)?;
        // After the last step there is little left to do, and the steps since the last checkpoint
        // would be lost.
        let stop = next < total && context.stop_requested();
        if stop || next < total && context.checkpoint_due() {
            save(state, (next, &metrics, &observed))?;
        }
        if stop {
            return context.interrupted();
        }
    }
    fs::write_atomic(&context.out().join(METRICS), metrics.as_bytes())?;
    Ok(total)
}

/// Warns of what has fired.
///
/// # Errors
/// The first of those that stop the run: the user's, or a bug.
fn tell(context: &Context, fired: &[Fired]) -> Result<()> {
    for own in fired.iter().filter(|own| own.action == Action::Warn) {
        context.warn(own.message());
    }
    let Some(own) = fired.iter().find(|own| own.action == Action::Stop) else { return Ok(()) };
    let kind = if own.is_bug() { Kind::Bug } else { Kind::User };
    let hint = format!(
        "`sentinels: {{{0}: warn}}` goes on from the checkpoint of this step, and \
         `{0}: off` does so without a warning",
        own.sentinel
    );
    Err(Failure::new(kind, own.message()).hint(hint).into())
}

/// The figures of a line, without the step.
fn parsed(line: &str) -> Result<Vec<(String, f64)>> {
    let figures: Map<String, Value> =
        serde_json::from_str(line).context("the checkpoint's metrics are JSON")?;
    let figures = figures.into_iter().filter(|(name, _)| name != "step");
    Ok(figures.map(|(name, value)| (name, value.as_f64().unwrap_or(f64::NAN))).collect())
}

fn borrowed(figures: &[(String, f64)]) -> Vec<(&str, f64)> {
    figures.iter().map(|(name, value)| (name.as_str(), *value)).collect()
}

/// One line of `metrics.jsonl`: the step, from 1, and the figures.
pub fn line(step: usize, metrics: &Metrics) -> String {
    let figures = metrics.iter().map(|(name, value)| (name.to_string(), Value::from(*value)));
    let row: Map<String, Value> =
        [("step".to_string(), Value::from(step))].into_iter().chain(figures).collect();
    format!("{}\n", Value::Object(row))
}
