//! What a running stage sees of the world: where to write, where to keep checkpoints, whom to tell
//! about progress, whether to stop.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::{Failure, Kind};
use crate::events::Events;

/// What a running node reports: a line of JSON in the file of [`crate::reports`].
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Report {
    /// Step `step` of `total` is done; `values` are shown (`loss`, `reward`, `tokens_per_second`).
    Progress {
        /// Steps done.
        step: u64,
        /// Steps in all.
        total: u64,
        /// Named figures. One that is no number is `null` on its way.
        #[serde(deserialize_with = "figures")]
        values: Vec<(String, f64)>,
    },
    /// The job of a cluster's queue begins, for the first time or again: what an earlier process
    /// of it has said of its end counts no more.
    Began,
    /// Something the user should know; the stage goes on.
    Warning {
        /// The sentence.
        message: String,
    },
    /// The stage failed.
    Failed {
        /// 1 to 3, or 101.
        exit_code: u8,
        /// The whole chain of the error.
        message: String,
    },
}

fn figures<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<(String, f64)>, D::Error> {
    let figures = Vec::<(String, Option<f64>)>::deserialize(deserializer)?;
    Ok(figures.into_iter().map(|(name, value)| (name, value.unwrap_or(f64::NAN))).collect())
}

/// The world of one running stage.
pub struct Context {
    out: PathBuf,
    checkpoints: PathBuf,
    kept: PathBuf,
    log: Option<PathBuf>,
    reports: Mutex<Box<dyn Write + Send>>,
    stop: Arc<AtomicBool>,
    started: Instant,
    pace: Mutex<Pace>,
    events: Mutex<Option<Events>>,
}

/// When something was last done, and how long it took.
struct Pace {
    progress: Option<Instant>,
    checkpoint: Instant,
    checkpoint_cost: Duration,
}

/// Progress is reported no more often than this in the first minute. The time between two reports
/// then grows with the time that the stage has run, up to a second: reports are kept in a file
/// until the stage has ended.
const PROGRESS: Duration = Duration::from_millis(100);
const SLOWEST_PROGRESS: Duration = Duration::from_secs(1);
/// Checkpoints are due no more often than this.
const CHECKPOINT: Duration = Duration::from_secs(10);
/// Writing checkpoints takes at most about one part in this many of the time.
const CHECKPOINT_SHARE: u32 = 20;

impl Context {
    /// A context that writes the artefact into `out`, checkpoints into `checkpoints` (both exist),
    /// and reports as JSON lines.
    pub fn new(
        out: PathBuf,
        checkpoints: PathBuf,
        reports: Box<dyn Write + Send>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        let started = Instant::now();
        let pace = Pace { progress: None, checkpoint: started, checkpoint_cost: Duration::ZERO };
        Context {
            out,
            kept: checkpoints.clone(),
            checkpoints,
            log: None,
            reports: Mutex::new(reports),
            stop,
            started,
            pace: Mutex::new(pace),
            events: Mutex::new(None),
        }
    }

    /// From now on, what is given to [`Context::figures`] is written to event files in `folder` as
    /// well.
    pub fn write_events(&mut self, folder: &Path) {
        match Events::begin(folder) {
            Ok(events) => self.events = Mutex::new(Some(events)),
            Err(error) => self.warn(format!("its figures go to no event file: {error:#}")),
        }
    }

    /// Notes the figures of a step, from 1, where the pipeline asks for that (`report_to`). A
    /// resumed stage notes those of the steps before once more. No byte of an artefact depends on
    /// it, and what cannot be written is no reason to fail.
    pub fn figures(&self, step: usize, figures: &[(&str, f64)]) {
        let mut events = self.events.lock().expect("no one panics while it is held");
        if let Some(Err(error)) = events.as_mut().map(|events| events.add(step, figures)) {
            *events = None;
            self.warn(format!("its figures no longer go to its event file: {error:#}"));
        }
    }

    /// The folder that becomes the artefact. What an interrupted attempt left in it has been
    /// removed.
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// A folder that survives interruption: named by the action key, so its content belongs to the
    /// same inputs.
    pub fn checkpoints(&self) -> &Path {
        &self.checkpoints
    }

    /// The same, where what belongs to no inputs in particular is kept in `kept`.
    pub fn keeping(self, kept: PathBuf) -> Self {
        Context { kept, ..self }
    }

    /// A folder that outlives the node and that all nodes share, for what was got from elsewhere
    /// and should not be asked for twice. Need not exist; what is in it must be addressed by
    /// content. The folder of checkpoints, where nothing else was said.
    pub fn kept(&self) -> &Path {
        &self.kept
    }

    /// The same, where what the stage and the programs it starts print is in the file `log`.
    pub fn printing_to(self, log: PathBuf) -> Self {
        Context { log: Some(log), ..self }
    }

    /// The last lines of what was printed so far, by the stage and by the programs it has started:
    /// see [`last_lines`].
    pub fn last_printed(&self) -> Vec<String> {
        self.log.as_deref().map(last_lines).unwrap_or_default()
    }

    /// Seconds since the stage began: for display only, no byte may depend on it.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// True when it is time to write a checkpoint.
    pub fn checkpoint_due(&self) -> bool {
        let pace = self.pace.lock().expect("no one panics while it is held");
        pace.checkpoint.elapsed() >= CHECKPOINT.max(pace.checkpoint_cost * CHECKPOINT_SHARE)
    }

    /// Writes a checkpoint, and notes when that was and how long it took.
    pub fn checkpoint(
        &self,
        write: impl FnOnce() -> crate::error::Result<()>,
    ) -> crate::error::Result<()> {
        let begun = Instant::now();
        write()?;
        let mut pace = self.pace.lock().expect("no one panics while it is held");
        (pace.checkpoint, pace.checkpoint_cost) = (Instant::now(), begun.elapsed());
        Ok(())
    }

    /// Tells the run that `step` of `total` is done. Told too often, all but the last step is left
    /// out.
    pub fn progress(&self, step: u64, total: u64, values: &[(&str, f64)]) {
        let mut pace = self.pace.lock().expect("no one panics while it is held");
        let pause = (self.started.elapsed() / 600).clamp(PROGRESS, SLOWEST_PROGRESS);
        if step < total && pace.progress.is_some_and(|last| last.elapsed() < pause) {
            return;
        }
        pace.progress = Some(Instant::now());
        drop(pace);
        let values = values.iter().map(|(name, value)| (name.to_string(), *value)).collect();
        self.send(&Report::Progress { step, total, values });
    }

    /// Tells the user something; the stage goes on.
    pub fn warn(&self, message: impl Into<String>) {
        self.send(&Report::Warning { message: message.into() });
    }

    /// True once the run was asked to stop: write a checkpoint, then return
    /// [`Context::interrupted`].
    pub fn stop_requested(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The error of a stage that stopped because it was asked to.
    pub fn interrupted<T>(&self) -> crate::error::Result<T> {
        Err(Failure::new(
            Kind::Interrupted,
            "stopped on request; finished steps are kept in a checkpoint",
        )
        .into())
    }

    fn send(&self, report: &Report) {
        let mut line = serde_json::to_vec(report).expect("a report is plain data");
        line.push(b'\n');
        let mut reports = self.reports.lock().expect("no one panics while reporting");
        // The runner may be gone; the work goes on and is found by the next run.
        let _ = reports.write_all(&line).and_then(|()| reports.flush());
    }
}

/// Lines of a log that go into an error at most, and bytes that are read for them.
const LAST_LINES: usize = 10;
const LAST_BYTES: u64 = 8 << 10;

/// The last lines of a log that are not blank, at most ten, each cut to 300 characters; none if it
/// cannot be read.
pub fn last_lines(log: &Path) -> Vec<String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LAST_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LAST_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> =
        text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LAST_LINES)..]
        .iter()
        .map(|line| line.chars().take(300).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_read_whatever_is_in_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = folder.path().join("log");
        assert!(last_lines(&log).is_empty(), "there is none");
        let text: String = (0..5000).map(|line| format!("line {line}\n\n")).collect();
        std::fs::write(
            &log,
            text.as_bytes().iter().copied().chain(*b"\xff end\n").collect::<Vec<u8>>(),
        )
        .expect("writable");
        let lines = last_lines(&log);
        assert_eq!(
            (lines.len(), lines[0].as_str(), lines[9].as_str()),
            (10, "line 4991", "\u{fffd} end")
        );
        std::fs::write(&log, "x".repeat(100_000)).expect("writable");
        assert_eq!(last_lines(&log), ["x".repeat(300)]);
    }

    #[test]
    fn a_loss_that_is_no_number_is_reported_all_the_same() {
        let report = Report::Progress {
            step: 1,
            total: 2,
            values: vec![("loss".into(), f64::NAN), ("reward".into(), 0.5)],
        };
        let line = serde_json::to_string(&report).expect("plain data");
        let Ok(Report::Progress { values, .. }) = serde_json::from_str(&line) else {
            panic!("{line}")
        };
        assert!(values[0].1.is_nan() && values[1] == ("reward".into(), 0.5));
    }
}
